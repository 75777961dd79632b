"""The plainer ways in which a device may speak: no frames, no acknowledgement, the same verbs.

    mode      on the wire                                  carries
    mqtt-sn   MQTT-SN packets, one after the other         MQTT_SN, packet by packet
    slip      the same, each in SLIP (RFC 1055)            MQTT_SN, packet by packet
    mqtt      MQTT 3.1.1 or 5 as over TCP                  RAW, bytes as they come
    text      lines: `topic value`, all else is a log      `Reading`, `LogLine`; out: RAW, a line

What is lost on such a wire is lost. Nothing is held without a bound.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, Protocol

from bridges.serial.events import Event, LogLine, Reading, Received
from bridges.serial.frames import Channel

LONGEST_PACKET: Final = 1024  # bytes of an MQTT-SN packet
LONGEST_LINE: Final = 512
LARGEST_OUTBOX: Final = 2048  # bytes that wait to go out
PATIENCE: Final = 0.25  # seconds that the rest of a packet may take
SLIP_END, SLIP_ESCAPE = b"\xc0", b"\xdb"
_FORWARDED: Final = 0xFE  # a header; the packet of a node follows
# The types of MQTT-SN 1.2, section 5.2.2
PACKET_TYPES: Final = frozenset(
    (0x00, 0x01, 0x02, *range(0x04, 0x11), *range(0x12, 0x19), *range(0x1A, 0x1E), _FORWARDED)
)
_NUMBER_LIKE: Final = re.compile(
    rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|true|false|on|off|null|[\[{\"].*[\]}\"]",
    re.IGNORECASE,
)
_TOPIC: Final = re.compile(rb"[^\s#+$:][^\s#+:]*")


class Mode(StrEnum):
    """How a device speaks."""

    FRAMED = "framed"
    MQTT_SN = "mqtt-sn"
    SLIP = "slip"
    MQTT = "mqtt"
    TEXT = "text"


class SerialMachine(Protocol):
    """What all of them, and the link, can do."""

    def plugged(self, now: float) -> None: ...
    def receive(self, data: bytes, now: float) -> list[Event]: ...
    def tick(self, now: float) -> list[Event]: ...
    def next_deadline(self) -> float | None: ...
    def data_to_send(self) -> bytes: ...
    def writable(self, channel: Channel) -> int: ...
    def send(self, channel: Channel, payload: bytes, now: float) -> bool: ...


class Codec(Protocol):
    """What the modes differ in."""

    channel: Channel  # the one that is carried

    @property
    def is_waiting(self) -> bool:
        """Whether the rest of something must come soon."""

    def receive(self, data: bytes) -> list[Event]: ...
    def encode(self, payload: bytes) -> bytes | None: ...
    def give_up(self) -> list[Event]: ...
    def clear(self) -> None: ...


class Unframed:
    """The machine around a codec: bytes that wait, as many as may, and patience."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._outbox = bytearray()
        self._give_up_at: float | None = None

    def plugged(self, now: float) -> None:  # noqa: ARG002 - a verb of all machines
        """The port is open; nothing from before belongs to it."""
        self.codec.clear()
        self._outbox.clear()
        self._give_up_at = None

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Bytes have arrived; b"" means that the port is gone."""
        if not data:
            self.plugged(now)
            return []
        events = self.codec.receive(data)
        self._give_up_at = now + PATIENCE if self.codec.is_waiting else None
        return events

    def tick(self, now: float) -> list[Event]:
        """The rest did not come."""
        events: list[Event] = []
        if self._give_up_at is not None and now >= self._give_up_at:
            events = self.codec.give_up()
            self._give_up_at = now + PATIENCE if self.codec.is_waiting else None
        return events

    def next_deadline(self) -> float | None:
        """When patience ends."""
        return self._give_up_at

    def data_to_send(self) -> bytes:
        """Take what goes out."""
        data = bytes(self._outbox)
        self._outbox.clear()
        return data

    @property
    def waiting(self) -> int:
        """Bytes that wait to go out."""
        return len(self._outbox)

    def writable(self, channel: Channel) -> int:
        """Return how many messages may be sent now."""
        return int(channel is self.codec.channel and len(self._outbox) < LARGEST_OUTBOX)

    def send(self, channel: Channel, payload: bytes, now: float) -> bool:  # noqa: ARG002
        """Send; False: no room, or nothing that this mode carries."""
        data = self.codec.encode(payload) if self.writable(channel) else None
        if data is None:
            return False
        self._outbox += data
        return True


# -- MQTT-SN --------------------------------------------------------------------------------------


def packet_end(data: bytes, pos: int) -> int:
    """Return where the MQTT-SN packet at `pos` ends; 0: not known yet, negative: it is none.

    A forwarder's header and the packet it brings are one.
    """
    end, kind = _one_end(data, pos)
    if end > 0 and kind == _FORWARDED and end <= len(data):
        inner, inner_kind = _one_end(data, end)
        return -1 if inner_kind == _FORWARDED else inner
    return end


def _one_end(data: bytes, pos: int) -> tuple[int, int]:
    """Return (end of packet, its type)."""
    if len(data) < pos + 2:
        return 0, -1
    length, start = data[pos], pos + 1
    if length == 1:  # [MQTT-SN 5.2.1] the length follows in two bytes
        if len(data) < pos + 4:
            return 0, -1
        length, start = int.from_bytes(data[pos + 1 : pos + 3], "big"), pos + 3
    kind = data[start]
    if kind not in PACKET_TYPES or not start - pos < length <= LONGEST_PACKET:
        return -1, kind
    return pos + length, kind


class PacketStream:
    """Raw MQTT-SN: only the length says where a packet ends, so what is damaged is guessed at.

    A byte with which no packet begins is passed over; a packet that stops in its middle is given up
    after a moment's silence.
    """

    channel = Channel.MQTT_SN

    def __init__(self) -> None:
        self.skipped = 0  # bytes that belonged to no packet
        self._held = b""

    @property
    def is_waiting(self) -> bool:
        """Whether a packet has begun."""
        return bool(self._held)

    def receive(self, data: bytes) -> list[Event]:
        """Return the packets that are complete now."""
        self._held += data
        return self._cut()

    def give_up(self) -> list[Event]:
        """Perhaps a packet begins later in what is there."""
        found: list[Event] = []
        while self._held and not found:
            self.skipped += 1
            self._held = self._held[1:]
            found = self._cut()
        return found

    def encode(self, payload: bytes) -> bytes | None:
        """A packet says itself how long it is."""
        return payload

    def clear(self) -> None:
        """Forget what has begun."""
        self._held = b""

    def _cut(self) -> list[Event]:
        found: list[Event] = []
        held, pos = self._held, 0
        while pos < len(held):
            end = packet_end(held, pos)
            if end < 0:
                self.skipped += 1
                pos += 1
            elif end == 0 or end > len(held):
                break
            else:
                found.append(Received(Channel.MQTT_SN, held[pos:end]))
                pos = end
        self._held = held[pos:]
        return found


class Slip:
    """MQTT-SN packets in SLIP: an END before and after each, two bytes escaped."""

    channel = Channel.MQTT_SN
    is_waiting = False

    def __init__(self) -> None:
        self.skipped = 0  # frames that were no packet
        self._held = b""

    def receive(self, data: bytes) -> list[Event]:
        """Return the packets that are complete now."""
        *frames, self._held = (self._held + data).split(SLIP_END)
        if len(self._held) > 2 * LONGEST_PACKET:
            self._held = SLIP_ESCAPE  # never valid: what follows up to the next END is passed over
        return [event for frame in frames if frame for event in self._packet(frame)]

    def give_up(self) -> list[Event]:
        """Nothing waits for the time."""
        return []

    def encode(self, payload: bytes) -> bytes | None:
        """Return the packet as a frame."""
        return slip(payload)

    def clear(self) -> None:
        """Forget what has begun."""
        self._held = b""

    def _packet(self, frame: bytes) -> list[Event]:
        packet = unslip(frame)
        if packet is None or packet_end(packet, 0) != len(packet):
            self.skipped += 1
            return []
        return [Received(Channel.MQTT_SN, packet)]


def slip(packet: bytes) -> bytes:
    """Return the packet as a SLIP frame."""
    escaped = packet.replace(SLIP_ESCAPE, b"\xdb\xdd").replace(SLIP_END, b"\xdb\xdc")
    return SLIP_END + escaped + SLIP_END


def unslip(frame: bytes) -> bytes | None:
    """Return what stood between two ENDs, or None: an escape that is none."""
    escapes = frame.count(b"\xdb\xdc") + frame.count(b"\xdb\xdd")
    if frame.count(SLIP_ESCAPE) != escapes:
        return None
    return frame.replace(b"\xdb\xdc", SLIP_END).replace(b"\xdb\xdd", SLIP_ESCAPE)


# -- MQTT and text --------------------------------------------------------------------------------


class Plain:
    """MQTT as over TCP: bytes go through as they are, for the ordinary connection machine."""

    channel = Channel.RAW
    is_waiting = False

    def receive(self, data: bytes) -> list[Event]:
        """Pass them on."""
        return [Received(Channel.RAW, data)]

    def give_up(self) -> list[Event]:
        """Nothing waits for the time."""
        return []

    def encode(self, payload: bytes) -> bytes | None:
        """Pass them on."""
        return payload

    def clear(self) -> None:
        """Nothing is held."""


class TextLines:
    """Lines, as `Serial.println("temp/1 21.5")` makes them."""

    channel = Channel.RAW
    is_waiting = False

    def __init__(self) -> None:
        self.too_long = 0  # lines that were dropped for it
        self._held = b""
        self._is_skipping = False

    def receive(self, data: bytes) -> list[Event]:
        """Return what the lines say that are complete now."""
        *lines, rest = (self._held + data).split(b"\n")
        if lines and self._is_skipping:
            self._is_skipping = False
            del lines[0]
        self._hold(rest)
        events = (self._event(line) for line in lines)
        return [event for event in events if event is not None]

    def give_up(self) -> list[Event]:
        """Nothing waits for the time."""
        return []

    def encode(self, payload: bytes) -> bytes | None:
        """Return the line with its end; None: it is not one line."""
        return None if b"\n" in payload or b"\r" in payload else payload + b"\n"

    def clear(self) -> None:
        """A line may have begun before."""
        self._held = b""
        self._is_skipping = False

    def _hold(self, rest: bytes) -> None:
        self._held = b"" if self._is_skipping else rest
        if len(self._held) > LONGEST_LINE:
            self._held = b""
            self._is_skipping = True
            self.too_long += 1

    def _event(self, line: bytes) -> Event | None:
        line = line.rstrip(b"\r")
        if len(line) > LONGEST_LINE:
            self.too_long += 1
            return None
        return reading(line) or (LogLine(line.decode(errors="replace")) if line else None)


def reading(line: bytes) -> Reading | None:
    """Return the line as `topic value`, or None.

    A first word with a slash in it is a topic. One without is, if a number or JSON follows: a
    device that says "Hello world" has not measured anything.
    """
    topic, space, value = line.partition(b" ")
    value = value.strip()
    if not space or not value or not _TOPIC.fullmatch(topic):
        return None
    if b"/" not in topic and not _NUMBER_LIKE.fullmatch(value):
        return None
    try:
        name, text = topic.decode(), value.decode()
    except UnicodeDecodeError:
        return None
    return Reading(name, value) if name.isprintable() and text.isprintable() else None
