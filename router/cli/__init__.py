"""The command line. One command a file; none is imported before it is chosen."""

from router.cli.main import main

__all__ = ["main"]
