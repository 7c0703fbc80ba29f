"""Names that registrations say, from the supervisor, which hears them, to the workers, which show them in their logs.

Promises: `whole` and then each `changes` in order give a worker the names that the supervisor has, in lists that fit one message;
where nothing was said anew there is nothing to send. Refuses to know how the words travel, and the names of the operator's file,
which every worker reads itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from registry.names import HeardNames

NAMES_A_MESSAGE: Final = 1_000

Named = list[tuple[str, str]]


class NamesFeed:
    """The supervisor's side: what to send of the names it hears."""

    def __init__(self, heard: HeardNames) -> None:
        self._heard = heard
        heard.news = {}

    def whole(self) -> Iterator[Named]:
        """Every name, for a worker that begins; it gets the changes since the last `changes` once more."""
        return _lists(self._heard.items())

    def changes(self) -> Iterator[Named]:
        """The names since the last time, for every worker."""
        news, self._heard.news = self._heard.news or {}, {}
        return _lists(news.items())


def learn(heard: HeardNames, named: Iterable[tuple[str, str]]) -> None:
    """A worker's side: take one list."""
    for guid, name in named:
        heard.put(guid, name)


def _lists(named: Iterable[tuple[str, str]]) -> Iterator[Named]:
    every = list(named)
    return (every[start : start + NAMES_A_MESSAGE] for start in range(0, len(every), NAMES_A_MESSAGE))
