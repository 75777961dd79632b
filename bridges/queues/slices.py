"""What takes long is done a slice at a time, each a batch or transaction of its own: between two of
them goes the work of others. Who gives up in the middle has done the slices that were answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Where the next slice begins, as the last one has said it; None: at the beginning, or at the end.
Place: TypeAlias = "tuple[Any, ...] | None"


async def all_slices(do: Callable[[Place], Awaitable[tuple[int, Place]]]) -> int:
    """Do one slice after the other; to how many messages it was done."""
    count, place = await do(None)
    while place is not None:
        more, place = await do(place)
        count += more
    return count
