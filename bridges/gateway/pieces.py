"""Long work in pieces: a generator that yields when something else may be done."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

T = TypeVar("T")

PIECE: Final = 100  # of whatever is looked at, in one turn of the loop


def in_pieces(items: Iterable[T]) -> Iterator[list[T]]:
    """The items, `PIECE` at a time."""
    left = iter(items)
    while piece := list(islice(left, PIECE)):
        yield piece


def at_once(work: Generator[None, None, T]) -> T:
    """Do all of it now; what it returns."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
