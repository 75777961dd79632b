"""Finds out how a device speaks, and then speaks like it; a machine around the others.

    is recognised by                                                    as
    a HELLO, at any time until something else but text is certain       framed
    CONNECT of MQTT with its protocol name                              mqtt
    a whole MQTT-SN packet between two ENDs that opens a talk, or two   slip
    nothing but whole MQTT-SN packets, one of which opens a talk        mqtt-sn
    a line `topic value`; or five seconds of nothing but lines          text
    behind noise: three lines, two of them `topic value`, or as above   text

It listens first: a sketch is not disturbed. If nothing is recognised for a while, HELLO is said,
for a device that had a session before the gateway was restarted does not say it by itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from bridges.serial.events import Event, Recognised
from bridges.serial.modes import (
    SLIP_END,
    SLIP_ESCAPE,
    Codec,
    Mode,
    PacketStream,
    Plain,
    SerialMachine,
    Slip,
    TextLines,
    Unframed,
    packet_end,
    reading,
    unslip,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.serial.frames import Channel
    from bridges.serial.link import Link

HELD: Final = 2048  # bytes of which a mode is recognised
LISTEN: Final = 2.0  # seconds before HELLO is said
LINES_ONLY: Final = 5.0  # seconds of text that make it text
LINES_BEHIND_NOISE: Final = 3  # that make it text in spite of the noise
_MQTT_CONNECT: Final = re.compile(
    rb"\x10[\x0c-\x7f\x80-\xff][\x00-\x7f]{0,3}?\x00(\x04MQTT[\x04\x05]|\x06MQIsdp\x03)", re.DOTALL
)
_SLIP_FRAME: Final = re.compile(rb"\xc0([^\xc0]{2,})(?=\xc0)")
_SEARCHGW, _CONNECT, _PUBLISH = 0x01, 0x04, 0x0C
_QOS_BITS: Final = 0x60  # both set: a PUBLISH without a connection


class Detector:
    """Delegates to `link` or to one of the modes as soon as it is known which."""

    def __init__(self, link: Link) -> None:
        self.mode: Mode | None = None
        self.link = link
        self._machine: SerialMachine | None = None
        self._held = b""
        self._since = 0.0
        self._is_talking = False  # it has listened long enough

    def plugged(self, now: float) -> None:
        """The port is open; it may be another device than before."""
        self.mode = None
        self._machine = None
        self._held = b""
        self._since = now
        self._is_talking = False
        self.link.plugged(now)

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Bytes have arrived; b"" means that the port is gone."""
        if not data:
            return self._unplugged(now)
        if self._machine is not None and self.mode is not Mode.TEXT:
            return self._machine.receive(data, now)
        events = self.link.receive(data, now)
        if self.link.is_met:
            return [*self._settle(Mode.FRAMED, self.link), *events]
        if self._machine is not None:
            return self._machine.receive(data, now)
        self._held = (self._held + data)[-HELD:]
        return self._recognise(data, now)

    def tick(self, now: float) -> list[Event]:
        """The deadline has come."""
        if self._machine is not None:
            return self._machine.tick(now)
        events = self.link.tick(now)
        self._is_talking = now - self._since >= LISTEN
        start, lines = _lines(self._held)
        if lines and now - self._since >= LINES_ONLY:
            return [*events, *self._become(Mode.TEXT, self._held[start:], now)]
        return events

    def next_deadline(self) -> float | None:
        """When to tick, if ever."""
        if self._machine is not None:
            return self._machine.next_deadline()
        return self.link.next_deadline()

    def data_to_send(self) -> bytes:
        """Take what goes out; while it listens, nothing does."""
        if self._machine is not None:
            return self._machine.data_to_send()
        data = self.link.data_to_send()
        return data if self._is_talking else b""

    @property
    def waiting(self) -> int:
        """Bytes that wait to go out of a mode without frames."""
        return self._machine.waiting if isinstance(self._machine, Unframed) else 0

    def writable(self, channel: Channel) -> int:
        """Return how many messages may be sent now."""
        return self._machine.writable(channel) if self._machine else 0

    def send(self, channel: Channel, payload: bytes, now: float) -> bool:
        """Send as the mode does; False: no room, or it is not known yet how."""
        return self._machine.send(channel, payload, now) if self._machine else False

    def _unplugged(self, now: float) -> list[Event]:
        machine = self._machine or self.link
        events = machine.receive(b"", now)
        self._machine = None
        self._held = b""
        return events

    def _recognise(self, data: bytes, now: float) -> list[Event]:
        """Look at all that is held, but only for what `data` may have completed."""
        for mode, end, find in _SIGNS:
            start = find(self._held) if end in data else -1
            if start >= 0:
                return self._become(mode, self._held[start:], now)
        return []

    def _become(self, mode: Mode, data: bytes, now: float) -> list[Event]:
        machine = Unframed(_CODECS[mode]())
        machine.plugged(now)
        return [*self._settle(mode, machine), *machine.receive(data, now)]

    def _settle(self, mode: Mode, machine: SerialMachine) -> list[Event]:
        self.mode = mode
        self._machine = machine
        self._held = b""
        return [Recognised(mode)]


_CODECS: Final[dict[Mode, Callable[[], Codec]]] = {
    Mode.MQTT_SN: PacketStream,
    Mode.SLIP: Slip,
    Mode.MQTT: Plain,
    Mode.TEXT: TextLines,
}


# -- signs: each returns where in the bytes the mode begins, or -1 --------------------------------


def _mqtt(held: bytes) -> int:
    found = _MQTT_CONNECT.search(held)
    return found.start() if found else -1


def _slip(held: bytes) -> int:
    """One that opens a talk, or two others: one alone is also found in minutes of noise."""
    first = -1
    for found in _SLIP_FRAME.finditer(held):
        if not _may_be_packet(found[1]):
            continue
        packet = unslip(found[1])
        if packet is None or packet_end(packet, 0) != len(packet):
            continue
        if first >= 0 or _opens_a_talk(packet):
            return first if first >= 0 else found.start()
        first = found.start()
    return -1


def _may_be_packet(frame: bytes) -> bool:
    """A quick look: garbage may be full of ENDs."""
    return frame[0] in {1, len(frame)} or SLIP_ESCAPE in frame


def _mqtt_sn(held: bytes) -> int:
    pos, opens = 0, False
    while pos < len(held):
        end = packet_end(held, pos)
        if not pos < end <= len(held):
            return -1
        opens = opens or _opens_a_talk(held[pos:end])
        pos = end
    return 0 if opens else -1


def _opens_a_talk(packet: bytes) -> bool:
    kind = packet[1]
    if kind == _CONNECT:
        return len(packet) > 6 and packet[3] == 1  # its protocol id
    return (kind == _SEARCHGW and len(packet) == 3) or (
        kind == _PUBLISH and len(packet) > 6 and packet[2] & _QOS_BITS == _QOS_BITS
    )


def _text(held: bytes) -> int:
    start, lines = _lines(held)
    needed = 2 if start else 1  # behind noise one line may be chance
    count = sum(1 for line in lines if reading(line.rstrip(b"\r")))
    return start if count >= needed else -1


def _lines(held: bytes) -> tuple[int, list[bytes]]:
    """Where the text begins that goes on to the end, and its whole lines.

    Many boards begin with noise: a loader that speaks at another speed, a line half heard.
    """
    *lines, _ = held.split(b"\n")
    count = 0
    while count < len(lines) and _is_text(lines[-1 - count]):
        count += 1
    noise, text = lines[: len(lines) - count], lines[len(lines) - count :]
    if noise and count < LINES_BEHIND_NOISE:
        return 0, []
    return sum(len(line) + 1 for line in noise), text


def _is_text(line: bytes) -> bool:
    try:
        text = line.replace(b"\r", b"").replace(b"\t", b"").decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable()


# mode, what it is complete with, where it begins
_SIGNS: Final[tuple[tuple[Mode, bytes, Callable[[bytes], int]], ...]] = (
    (Mode.MQTT, b"", _mqtt),
    (Mode.SLIP, SLIP_END, _slip),
    (Mode.MQTT_SN, b"", _mqtt_sn),
    (Mode.TEXT, b"\n", _text),
)
