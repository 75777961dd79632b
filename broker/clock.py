"""The instant being handled: one object shared by the parts of the core, set by every verb that
takes `now`; a leaf.

The core reads no clock. Whoever calls it says what time it is, so a test can pass through a day in
a millisecond.
"""


class Clock:
    """`now` is in seconds of a monotonic clock whose zero means nothing."""

    __slots__ = ("now",)

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
