"""What the tests of this folder share: a frame through the reader and the decoder."""

from broker.packets.decode import decode
from broker.packets.reader import Reader
from broker.packets.types import Packet


def read(frame: bytes, version: int) -> Packet:
    """Return the one packet that `frame` holds."""
    reader = Reader()
    data, packets = reader.cut(frame)
    if reader.violation is not None:
        raise reader.violation
    assert len(packets) == 1
    assert reader.pending == 0
    first, pos, end = packets[0]
    return decode(first, data, pos, end, version)
