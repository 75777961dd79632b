"""What waits for a session: messages that could not be sent yet, oldest first, bounded by count and
by bytes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.session.outgoing import Outgoing

# What one waiting message costs beside its payload; a flood of empty messages must meet the byte
# limit, too.
OVERHEAD = 100
QOS_1 = 0x32  # the first byte of a PUBLISH from QoS 1 on


class Backlog:
    """A FIFO of waiting messages that knows how many bytes it holds on to, and how many are of QoS
    0.
    """

    __slots__ = ("_waiting", "qos_0", "size")

    def __init__(self) -> None:
        self._waiting: deque[Outgoing] = deque()
        self.size = 0
        self.qos_0 = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, outgoing: Outgoing) -> None:
        """Add a message behind all others."""
        self._waiting.append(outgoing)
        self.qos_0 += outgoing[2] < QOS_1
        self.size += outgoing[0].size + OVERHEAD

    def pop(self) -> Outgoing:
        """Take the oldest message."""
        outgoing = self._waiting.popleft()
        self.qos_0 -= outgoing[2] < QOS_1
        self.size -= outgoing[0].size + OVERHEAD
        return outgoing

    def take_all(self) -> Iterator[Outgoing]:
        """Empty the backlog, oldest first."""
        while self._waiting:
            yield self.pop()

    def forget_qos_0(self) -> int:
        """Drop the QoS 0 messages and return how many there were."""
        forgotten = self.qos_0
        if forgotten:
            kept = [each for each in self.take_all() if each[2] >= QOS_1]
            for outgoing in kept:
                self.push(outgoing)
        return forgotten
