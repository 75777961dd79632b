"""The receiving end of one stream of numbered messages: each must come once, whole and in order.

A whole read is compared with the tape at once; only when that fails is it looked at one by one.
"""

import socket

from tests.performance import wire
from tests.performance.load.clients import pull, push
from tests.performance.measure import Tally


class Inbox:
    __slots__ = ("_id_at", "_name", "_tally", "expected", "received", "socket", "tail")

    def __init__(
        self, client: socket.socket, tally: Tally, expected: wire.Tape, topic: str, name: str = ""
    ) -> None:
        """`expected` has its packet ids set to zero; the tally knows the stream by its name."""
        self.expected, self.socket, self.tail = expected, client, b""
        self.received = 0
        self._name, self._tally, self._id_at = name or topic, tally, wire.publish_id_at(topic)

    def read_qos1(self) -> None:
        """Take what has come, check it, and acknowledge it with one send."""
        data, count = self.pull()
        if count:
            block = bytearray(data)
            acks = self.acknowledge(wire.PUBACK, block, count)
            self.arrived(block, count)
            push(self.socket, acks)

    def pull(self) -> tuple[bytes, int]:
        """All complete messages that have come, and how many; the rest waits for the next read."""
        data = pull(self.socket)
        if self.tail:
            data = self.tail + data
        count, rest = divmod(len(data), self.expected.stride)
        self.tail = data[-rest:] if rest else b""
        return (data[:-rest] if rest else data), count

    def acknowledge(self, kind: int, block: bytearray, count: int) -> bytearray:
        """The acks of a run of messages; the ids in `block` are moved out, leaving zeros."""
        at, stride = self._id_at, self.expected.stride
        acks = bytearray(bytes([kind, 2, 0, 0]) * count)
        acks[2::4], acks[3::4] = block[at::stride], block[at + 1 :: stride]
        block[at::stride] = block[at + 1 :: stride] = bytes(count)
        return acks

    def arrived(self, block: bytes | bytearray, count: int) -> None:
        """`count` messages have come, their packet ids zeroed."""
        if block == self.expected.cut(self.received, count):
            self.received += count
        else:
            self._examine(block)

    def close(self, due: int) -> None:
        """Whatever has not come by now of the first `due` messages is lost."""
        self._tally.skipped(self._name, range(self.received, due))
        self.socket.close()

    def _examine(self, block: bytes | bytearray) -> None:
        """The slow way, when a comparison has failed: name each message's fault."""
        stride = self.expected.stride
        for at in range(0, len(block), stride):
            self._examine_one(bytes(block[at : at + stride]))

    def _examine_one(self, message: bytes) -> None:
        if message[-8:] not in wire.NUMBERS:
            self._tally.spoilt += 1
            self.received += 1
            return
        ahead = (wire.number_of(message) - self.received) % wire.CYCLE
        if ahead >= wire.CYCLE // 2:
            self._tally.late(self._name, self.received + ahead - wire.CYCLE)
            return
        self._tally.skipped(self._name, range(self.received, self.received + ahead))
        self.received += ahead
        self._tally.spoilt += message != self.expected.cut(self.received, 1)
        self.received += 1
