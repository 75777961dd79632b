"""Words that complaints are made of."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def show(value: object) -> str:
    """A value as a person wrote it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    return "a table" if isinstance(value, dict) else str(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a complaint about an unknown word."""
    near = get_close_matches(word, list(known), 1, 0.6)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
