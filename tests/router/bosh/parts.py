"""Short ways to documents, for the tests of this package."""

from registry.source import read_source
from router.bosh.document import Node, annotate


def node(text: str, file: str = "deployment.yml") -> Node:
    """A document from its text."""
    source = read_source(text.encode())
    assert source.flaws == []
    return annotate(source, file)
