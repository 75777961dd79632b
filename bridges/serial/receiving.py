"""What one end has heard: the frame it expects, and those that came before their turn.

Each reliable frame is delivered once and in order. What was announced as held is kept until its
turn has come, so the sender never needs to send it again.
"""

from __future__ import annotations

from bridges.serial.frames import SEQUENCES

Arrived = tuple[int, bytes]  # channel, payload


class Receiving:
    """The receiver's half of a session."""

    __slots__ = ("_early", "_window", "credit", "duplicates", "expected")

    def __init__(self, window: int) -> None:
        self.expected = 0
        self.credit = window  # how many frames from the expected one on may come
        self.duplicates = 0
        self._window = window
        self._early: dict[int, Arrived] = {}  # by sequence, after a gap

    def allow(self, room: int) -> bool:
        """The owner wants so many; return whether that is more than before."""
        credit = max(0, min(room, self._window))
        grows = credit > self.credit
        self.credit = credit
        return grows

    @property
    def held(self) -> int:
        """Which frames came early: bit n for the one n + 1 after the expected one."""
        if not self._early:
            return 0
        bits = 0
        for sequence in self._early:
            bits |= 1 << ((sequence - self.expected - 1) % SEQUENCES)
        return bits

    def accept(self, sequence: int, channel: int, payload: bytes) -> list[Arrived]:
        """Return what can be delivered now that this frame is here."""
        ahead = (sequence - self.expected) % SEQUENCES
        if ahead >= self.credit:
            self.duplicates += ahead >= self._window
            return []
        if ahead:
            self.duplicates += sequence in self._early
            self._early.setdefault(sequence, (channel, payload))
            return []
        self.expected = (self.expected + 1) % SEQUENCES
        if not self._early:
            return [(channel, payload)]
        return [(channel, payload), *self._in_turn()]

    def begin(self) -> None:
        """A new session."""
        self.expected = 0
        self._early.clear()

    def _in_turn(self) -> list[Arrived]:
        found = []
        while self.expected in self._early:
            found.append(self._early.pop(self.expected))
            self.expected = (self.expected + 1) % SEQUENCES
        return found
