"""Writes what went over a wire as pcapng, which Wireshark and tshark read.

Two interfaces: "wire" has every frame as it was (LINKTYPE_USER0), with what it means as a comment;
"packets" has what was in it, behind invented headers of IPv4 and UDP port 1884 or TCP port 1883.
MQTT is decoded at once. MQTT-SN has no port of its own in Wireshark, so it has to be told:
`tshark -d udp.port==1884,mqttsn`, or Analyze > Decode As. Source: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

from enum import Enum
from struct import pack, unpack
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

HINT: Final = "tshark -r {file} -d udp.port==1884,mqttsn   (Wireshark: Analyze > Decode As)"
LONGEST_COMMENT: Final = 1000

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 0x00000001, 0x00000006
_MAGIC: Final = 0x1A2B3C4D
_LINKTYPE_USER0, _LINKTYPE_IPV4 = 147, 228
_INTERFACES: Final = ((_LINKTYPE_USER0, b"wire"), (_LINKTYPE_IPV4, b"packets"))
_WIRE, _PACKETS = 0, 1  # in this order
_END_OF_OPTIONS, _COMMENT, _IF_NAME, _APPLICATION, _FLAGS = 0, 1, 2, 4, 2
_INBOUND, _OUTBOUND, _CRC_ERROR = 0x1, 0x2, 0x0100_0000
_TCP, _UDP = 6, 17
_PSH_ACK: Final = 0x5018  # of a header of five words
_DEVICE, _GATEWAY = bytes((192, 0, 2, 2)), bytes((192, 0, 2, 1))  # addresses for documents
_LONGEST_PACKET: Final = 65_535 - 40

Option = tuple[int, bytes]


class PacketKind(Enum):
    """What Wireshark can decode; the port that it goes by."""

    MQTT_SN = 1884
    MQTT = 1883


class PcapngWriter:
    """Writes into a file, which is its owner's. Each packet is flushed, so it can be watched.

    `time` is in seconds since 1970; `is_outbound`: to the device.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sent = {False: 1, True: 1}  # sequence numbers of TCP
        section = pack("<IHHq", _MAGIC, 1, 0, -1)
        parts = [_block(_SECTION, section, ((_APPLICATION, b"heliograph serial monitor"),))]
        for linktype, name in _INTERFACES:
            parts.append(_block(_INTERFACE, pack("<HHI", linktype, 0, 0), ((_IF_NAME, name),)))
        file.write(b"".join(parts))
        file.flush()

    def wire(
        self,
        time: float,
        data: bytes,
        *,
        is_outbound: bool,
        is_damaged: bool = False,
        comment: str = "",
    ) -> None:
        """A frame as it was."""
        flags = _direction(is_outbound) | (_CRC_ERROR if is_damaged else 0)
        self._write(_WIRE, time, data, flags, comment)

    def packet(self, time: float, kind: PacketKind, data: bytes, *, is_outbound: bool) -> None:
        """What was in it; a packet that IPv4 has no room for is left out."""
        if len(data) > _LONGEST_PACKET:
            return
        head = self._tcp(data, is_outbound) if kind is PacketKind.MQTT else _udp(data)
        protocol = _TCP if kind is PacketKind.MQTT else _UDP
        datagram = ip_header(protocol, len(head) + len(data), is_outbound) + head + data
        self._write(_PACKETS, time, datagram, _direction(is_outbound), "")

    def _tcp(self, data: bytes, is_outbound: bool) -> bytes:
        mine, other = self._sent[is_outbound], self._sent[not is_outbound]
        self._sent[is_outbound] = (mine + len(data)) & 0xFFFF_FFFF
        device, gateway = 50_000, PacketKind.MQTT.value
        source, target = (gateway, device) if is_outbound else (device, gateway)
        return pack(">HHIIHHHH", source, target, mine, other, _PSH_ACK, 0xFFFF, 0, 0)

    def _write(self, interface: int, time: float, data: bytes, flags: int, comment: str) -> None:
        micros = int(time * 1_000_000)
        size = len(data)
        head = pack("<IIIII", interface, micros >> 32, micros & 0xFFFF_FFFF, size, size)
        options: list[Option] = [(_FLAGS, pack("<I", flags))]
        if comment:
            options.append((_COMMENT, comment[:LONGEST_COMMENT].encode(errors="replace")))
        self._file.write(_block(_PACKET, head + _padded(data), options))
        self._file.flush()


def ip_header(protocol: int, size: int, is_outbound: bool) -> bytes:
    """Return an invented header of IPv4 for `size` bytes behind it."""
    ends = _GATEWAY + _DEVICE if is_outbound else _DEVICE + _GATEWAY
    start = pack(">BBHHHBB", 0x45, 0, 20 + size, 0, 0, 64, protocol)
    total = sum(unpack(">9H", start + ends))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return start + pack(">H", total ^ 0xFFFF) + ends


def _udp(data: bytes) -> bytes:
    port = PacketKind.MQTT_SN.value
    return pack(">HHHH", port, port, 8 + len(data), 0)  # a checksum of 0: there is none


def _direction(is_outbound: bool) -> int:
    return _OUTBOUND if is_outbound else _INBOUND


def _block(kind: int, body: bytes, options: Iterable[Option]) -> bytes:
    parts = [body]
    for code, value in options:
        parts += [pack("<HH", code, len(value)), _padded(value)]
    parts.append(pack("<HH", _END_OF_OPTIONS, 0))
    content = b"".join(parts)
    size = len(content) + 12
    return pack("<II", kind, size) + content + pack("<I", size)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
