"""Numbers as people read them."""

from __future__ import annotations


def count(number: float) -> str:
    """A whole number, in groups of three."""
    return f"{number:,.0f}"


def short(number: float) -> str:
    """A number on an axis: 1.2k, 3M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"


def wait(seconds: float) -> str:
    """A latency."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 120 else span(seconds)


def span(seconds: float) -> str:
    """A time since the start, or how long something lasts."""
    for length, unit, below, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= length:
            rest = int(seconds % length // below)
            return f"{int(seconds // length)} {unit}" + (f" {rest} {part}" if rest else "")
    if seconds >= 60:
        rest = int(seconds % 60)
        return f"{int(seconds // 60)} min" + (f" {rest} s" if rest else "")
    return f"{seconds:.3g} s"


def percent(part: float) -> str:
    """A part of a whole."""
    return f"{part * 100:.3g} %"


def plural(number: int, one: str) -> str:
    """1 device, 2 devices."""
    return f"{count(number)} {one}" + ("" if number == 1 else "s")
