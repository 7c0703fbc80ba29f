"""Many processes that are one router: a supervisor that knows, workers that serve."""
