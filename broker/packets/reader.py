"""Cuts a byte stream into whole packets: the fixed header of MQTT 5 section 2.1.

Rule kept here: work and memory follow the bytes that have arrived, never the length announced, and
a length over the limit is refused before its body comes. Lengths must be in their shortest form
[MQTT-1.5.5-1]; MQTT 3.1.1 leaves that open, no client is known to make use of it.
"""

from typing import Final

from broker.packets.codes import ReasonCode
from broker.packets.errors import ProtocolViolation, malformed

LARGEST_PACKET: Final = 268_435_460  # 268,435,455 bytes after a fixed header of 5
LONG: Final = 128  # a Remaining Length from here on takes more than one byte

_INCOMPLETE: Final = -1
_BROKEN: Final = -2


def packet_start(start: int, end: int) -> int:
    """Return where the packet begins whose body is `start` to `end`, as `Reader.cut` gives them."""
    length = end - start
    if length < LONG:
        return start - 2
    return start - (3 if length < 16_384 else 4 if length < 2_097_152 else 5)


class Reader:
    """Holds the unfinished packet of one stream between two calls of `cut`.

    `violation` is set when the stream breaks the framing; handle the packets returned first, then
    look at it. Nothing is cut after it.
    """

    __slots__ = ("_held", "_needed", "maximum_packet_size", "violation")

    def __init__(self, maximum_packet_size: int = LARGEST_PACKET) -> None:
        self.maximum_packet_size = maximum_packet_size  # bytes, the fixed header included
        self.violation: ProtocolViolation | None = None
        self._held = bytearray()
        self._needed = 0  # bytes the held packet must have before it is worth another look

    @property
    def pending(self) -> int:
        """Bytes held of a packet that is not complete."""
        return len(self._held)

    def cut(self, data: bytes) -> tuple[bytes, list[tuple[int, int, int]]]:
        """Return a buffer and, for every packet complete in it, (first byte, body start, body end).

        The buffer is `data` itself unless an earlier call left something over.
        """
        if self._held or self.violation is not None:
            data = self._resume(data)
        packets = []
        pos = 0
        size = len(data)
        maximum = self.maximum_packet_size
        while pos + 1 < size:
            start = pos + 2
            length = data[pos + 1]
            if length > 127:
                length, start = self._long_length(data, pos, size)
                if length < 0:
                    break
            stop = start + length
            if stop - pos > maximum:
                self._refuse(stop - pos)
                break
            if stop > size:
                self._needed = stop - pos
                break
            packets.append((data[pos], start, stop))
            pos = stop
        if pos < size and self.violation is None:
            self._held += data[pos:]
        return data, packets

    def _resume(self, data: bytes) -> bytes:
        """Return what is held and `data` as one, or nothing while the packet is incomplete."""
        if self.violation is not None:
            return b""
        held = self._held
        held += data
        if len(held) < self._needed:
            return b""
        self._held = bytearray()
        self._needed = 0
        return bytes(held)

    def _long_length(self, data: bytes, pos: int, size: int) -> tuple[int, int]:
        """Read a Remaining Length of two to four bytes: (length or why there is none, its end)."""
        length = data[pos + 1] & 127
        for at, shift in ((pos + 2, 7), (pos + 3, 14), (pos + 4, 21)):
            if at >= size:
                return _INCOMPLETE, at
            byte = data[at]
            length |= (byte & 127) << shift
            if byte == 0:
                self.violation = malformed("MQTT-1.5.5-1", "remaining length longer than needed")
                return _BROKEN, at
            if byte < 128:
                return length, at + 1
        self.violation = malformed("2.1.4", "remaining length of more than four bytes")
        return _BROKEN, pos

    def _refuse(self, size: int) -> None:
        self.violation = ProtocolViolation(
            ReasonCode.PACKET_TOO_LARGE,
            "MQTT-3.2.2-15",
            f"{size} bytes announced, {self.maximum_packet_size} are allowed",
        )
