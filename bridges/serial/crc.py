"""The seal of a frame: a check that only the two ends of this session, in this direction, make.

CRC-16/GENIBUS (polynomial 0x1021, start 0xFFFF, nothing reversed, the result inverted) up to 256
bytes, CRC-32 (the one of Ethernet and zip) beyond, or always where both peers can. Without the
inversion a zero after the check would go unnoticed, and in COBS one doubled byte can make it. The
check begins with the two nonces, of the sender and of the receiver: what an earlier session left in
some buffer does not fit.
"""

from binascii import crc_hqx
from typing import Final
from zlib import crc32

LONGEST_WITH_CRC_16: Final = 256  # bytes of header and payload
_START_16: Final = 0xFFFF
_INVERTED: Final = 0xFFFF
_RESIDUE: Final = 0x1D0F  # what every sound frame leaves, its check included


class Seal:
    """Checks for the frames of one direction of one session; `prefix` is b"" for HELLO."""

    __slots__ = ("_is_strong", "_start_16", "_start_32")

    def __init__(self, prefix: bytes = b"", is_strong: bool = False) -> None:
        self._start_16 = crc_hqx(prefix, _START_16)
        self._start_32 = crc32(prefix)
        self._is_strong = is_strong

    def close(self, body: bytes) -> bytes:
        """Return the body with its check, the most significant byte first."""
        if self._is_strong or len(body) > LONGEST_WITH_CRC_16:
            return body + crc32(body, self._start_32).to_bytes(4, "big")
        return body + (crc_hqx(body, self._start_16) ^ _INVERTED).to_bytes(2, "big")

    def open(self, data: bytes) -> bytes | None:
        """Return the body without its check, or None: damaged, or not of this session."""
        if self._is_strong or len(data) > LONGEST_WITH_CRC_16 + 2:
            body = data[:-4]
            if not self._is_strong and len(body) <= LONGEST_WITH_CRC_16:
                return None
            return body if crc32(body, self._start_32) == int.from_bytes(data[-4:], "big") else None
        return data[:-2] if crc_hqx(data, self._start_16) == _RESIDUE else None


def seal_between(sender: int, receiver: int, is_strong: bool) -> Seal:
    """Return the seal of what `sender` sends: both are nonces, 1 to 65535."""
    return Seal(sender.to_bytes(2, "big") + receiver.to_bytes(2, "big"), is_strong)
