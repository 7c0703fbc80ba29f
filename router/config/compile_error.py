"""What keeps a valid configuration from being built; apart from the compilers, so that whoever reports it needs none of them."""


class CompileError(Exception):
    """What could not be built, as (path of the key, why)."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why
