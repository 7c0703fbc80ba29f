"""`python -m router` is `vestibule`."""

from router.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
