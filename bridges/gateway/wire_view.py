"""What goes over a wire, in lines for people and in packets for Wireshark.

A machine without I/O. Rule kept here: what came from a wire is shown escaped, never as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from bridges.mqttsn.codes import MessageType
from bridges.mqttsn.decode import decode
from bridges.mqttsn.errors import UnreadableError
from bridges.mqttsn.packets import Encapsulated
from bridges.serial.detection import HELD, Detector
from bridges.serial.events import LogLine, Reading, Received
from bridges.serial.frames import HEADER_SIZE, RELIABLE, Channel, Control
from bridges.serial.link import Link, LinkSettings
from bridges.serial.modes import Mode, PacketStream, Plain, Slip, TextLines, Unframed, slip
from bridges.serial.overhearing import Check, Heard, Overhearing, Way
from bridges.serial.pcapng import PacketKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.serial.events import Event
    from bridges.serial.frames import Hello

LONGEST_SHOWN: Final = 48  # bytes of hex, or of text
_MQTT_NAMES: Final = (
    *("reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP"),
    *("SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT"),
    "AUTH",
)
_CHANNEL_NAMES: Final = {int(channel): channel.name for channel in Channel}
_CONTROL_NAMES: Final = {int(control): control.name for control in Control}
LONGEST_MQTT: Final = 65_536  # bytes that are held of one packet
_FILE_KINDS: Final = {1: "offer", 2: "want", 3: "chunk", 4: "end"}


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that went over the wire; `kind` and `packet` are for Wireshark."""

    way: Way
    text: str
    wire: bytes = b""
    is_damaged: bool = False
    kind: PacketKind | None = None
    packet: bytes = b""


class View(Protocol):
    """One way to read a wire."""

    def see(self, way: Way, data: bytes, now: float) -> list[Seen]: ...
    def tick(self, now: float) -> list[Seen]: ...


def view_of(mode: str) -> View:
    """Return the view for `auto` or one of the modes."""
    return _VIEWS[mode]()


# -- frames ---------------------------------------------------------------------------------------


class Framed:
    """Frames of docs/serial-protocol.md."""

    def __init__(self) -> None:
        self._ear = Overhearing()

    def see(self, way: Way, data: bytes, now: float) -> list[Seen]:  # noqa: ARG002 - as all views
        """Return what is complete now."""
        return [_frame(way, heard) for heard in self._ear.receive(way, data)]

    def tick(self, now: float) -> list[Seen]:  # noqa: ARG002 - as all views
        """Nothing waits for the time."""
        return []


def _frame(way: Way, heard: Heard) -> Seen:
    wire = heard.wire + b"\0"
    if heard.hello is not None:
        return Seen(way, _hello(heard.hello), wire)
    if not heard.body:
        return Seen(way, f"DAMAGED {_hex(heard.wire)}", wire, heard.check is Check.DAMAGED)
    mark = "" if heard.check is Check.SOUND else f" ({heard.check.value})"
    first, second = heard.body[0], heard.body[1]
    channel, payload = first >> 5, heard.body[HEADER_SIZE:]
    about = f"[expects {second & 15}, takes {first & 15}]{mark}"
    if channel == Channel.LINK:
        return Seen(way, f"{_control(second >> 4, payload)} {about}", wire)
    number = f"#{second >> 4}" if first & RELIABLE else "once"
    describe = _CHANNELS.get(channel, _hex)
    name = _CHANNEL_NAMES.get(channel, f"channel {channel}")
    text = f"{name} {number} {describe(payload)} {about}"
    kind = PacketKind.MQTT_SN if channel == Channel.MQTT_SN else None
    return Seen(way, text, wire, kind=kind, packet=payload)


def _hello(hello: Hello) -> str:
    return (
        f"HELLO {'open ' if hello.is_open else ''}mine={hello.mine:04X} yours={hello.yours:04X} "
        f"uid={hello.uid.hex() or '-'} firmware={_quoted(hello.firmware)} window={hello.window} "
        f"limit={hello.payload_limit} buffer={hello.buffer} baud={hello.baud or '-'} "
        f"can={_capabilities(hello)}"
    )


def _capabilities(hello: Hello) -> str:
    names = [each.name or "" for each in type(hello.capabilities) if each in hello.capabilities]
    return "+".join(name.lower() for name in names if name != "NONE") or "-"


def _control(kind: int, payload: bytes) -> str:
    name = _CONTROL_NAMES.get(kind, f"control {kind}")
    held = [str(bit + 1) for bit in range(7) if payload and payload[0] >> bit & 1]
    return f"{name} holds +{' +'.join(held)}" if held else name


# -- payloads -------------------------------------------------------------------------------------


def mqtt_sn(packet: bytes) -> str:
    """Return an MQTT-SN packet as its name and fields."""
    try:
        message = decode(packet)
    except UnreadableError as error:
        return f"unreadable ({error}): {_hex(packet)}"
    if isinstance(message, Encapsulated):
        inner = mqtt_sn(message.message)
        return f"ENCAPSULATED node={message.node_id.hex()} radius={message.radius}: {inner}"
    kind = packet[3] if packet[0] == 1 else packet[1]
    parts = [f"{each.name}={_value(getattr(message, each.name))}" for each in fields(message)]
    return " ".join((MessageType(kind).name, *parts))


def _value(value: object) -> str:
    if isinstance(value, bytes):
        return _bytes(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, tuple):  # flags: those that are set
        facts = zip(value._fields, value, strict=True)  # type: ignore[attr-defined]
        return ",".join(f"{name}:{int(fact)}" for name, fact in facts if fact) or "-"
    return str(value)


def _time(payload: bytes) -> str:
    if len(payload) == 2:
        return f"ask token={payload[1]}"
    if len(payload) == 10:
        return f"tell token={payload[1]} ms={int.from_bytes(payload[2:], 'big')}"
    return _hex(payload)


def _files(payload: bytes) -> str:
    kind = _FILE_KINDS.get(payload[0]) if len(payload) > 2 else None
    return f"{kind} id={payload[1]} {_hex(payload[2:])}" if kind else _hex(payload)


def _bytes(data: bytes) -> str:
    """Text if it is text, else hex."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _hex(data)
    return _quoted(text) if text.isprintable() else _hex(data)


def _quoted(text: str) -> str:
    shown = text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."
    return (
        '"' + "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in shown) + '"'
    )


def _hex(data: bytes) -> str:
    more = f" ... ({len(data)} bytes)" if len(data) > LONGEST_SHOWN else ""
    return data[:LONGEST_SHOWN].hex(" ") + more


def _log(payload: bytes) -> str:
    return _quoted(payload.decode(errors="replace"))


_CHANNELS: Final[dict[int, Callable[[bytes], str]]] = {
    Channel.MQTT_SN: mqtt_sn,
    Channel.LOG: _log,
    Channel.TIME: _time,
    Channel.FILES: _files,
    Channel.RAW: _bytes,
}


# -- plainer modes --------------------------------------------------------------------------------


class Unwrapped:
    """One of the plainer modes, with a machine for each direction."""

    def __init__(
        self, codec: type[PacketStream | Slip | TextLines | Plain], show: Callable[[Event], Shown]
    ) -> None:
        self._machines = {way: Unframed(codec()) for way in Way}
        self._show = show

    def see(self, way: Way, data: bytes, now: float) -> list[Seen]:
        """Return what is complete now."""
        return [self._seen(way, event) for event in self._machines[way].receive(data, now)]

    def tick(self, now: float) -> list[Seen]:
        """Patience may have ended."""
        return [
            self._seen(way, event)
            for way, machine in self._machines.items()
            for event in machine.tick(now)
        ]

    def _seen(self, way: Way, event: Event) -> Seen:
        text, wire, kind, packet = self._show(event)
        return Seen(way, text, wire, kind=kind, packet=packet)


class MqttPackets(Plain):
    """MQTT, cut into its packets; what has no length that can be is passed on as it is."""

    def __init__(self) -> None:
        self._held = b""

    def receive(self, data: bytes) -> list[Event]:
        """Return the packets that are complete now."""
        found: list[Event] = []
        held, pos = self._held + data, 0
        while 0 < (end := mqtt_packet_end(held, pos)) <= len(held):
            found.append(Received(Channel.RAW, held[pos:end]))
            pos = end
        self._held = held[pos:]
        if end < 0 or len(self._held) > LONGEST_MQTT:
            found.append(Received(Channel.RAW, self._held))
            self._held = b""
        return found

    def clear(self) -> None:
        """Forget what has begun."""
        self._held = b""


def mqtt_packet_end(data: bytes, pos: int) -> int:
    """Return where the MQTT packet at `pos` ends; 0: not known yet, negative: never."""
    size = 0
    for place in range(4):
        if pos + 1 + place >= len(data):
            return 0
        byte = data[pos + 1 + place]
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return pos + 2 + place + size
    return -1


Shown = tuple[str, bytes, PacketKind | None, bytes]  # text, on the wire, kind, packet


def _show_packet(event: Event) -> Shown:
    assert isinstance(event, Received)
    return mqtt_sn(event.payload), event.payload, PacketKind.MQTT_SN, event.payload


def _show_slip(event: Event) -> Shown:
    assert isinstance(event, Received)
    return mqtt_sn(event.payload), slip(event.payload), PacketKind.MQTT_SN, event.payload


def _show_line(event: Event) -> Shown:
    if isinstance(event, Reading):
        line = b"%s %s" % (event.topic.encode(), event.value)
        return f"reading {_quoted(event.topic)} {_bytes(event.value)}", line, None, b""
    assert isinstance(event, LogLine)
    return f"log {_quoted(event.text)}", event.text.encode(), None, b""


def _show_mqtt(event: Event) -> Shown:
    assert isinstance(event, Received)
    data = event.payload
    return f"{_MQTT_NAMES[data[0] >> 4]} {_hex(data)}", data, PacketKind.MQTT, data


def _show_raw(event: Event) -> Shown:
    assert isinstance(event, Received)
    return f"bytes {_hex(event.payload)}", event.payload, None, b""


# -- auto -----------------------------------------------------------------------------------------


class Auto:
    """Shows bytes until it is clear how they are meant; what came first is shown again then."""

    def __init__(self) -> None:
        self._view: View = Unwrapped(Plain, _show_raw)
        self._guess: Guess | None = Guess()

    def see(self, way: Way, data: bytes, now: float) -> list[Seen]:
        """Return what is complete now."""
        if self._guess is None:
            return self._view.see(way, data, now)
        mode = self._guess.receive(way, data, now)
        return self._view.see(way, data, now) if mode is None else self._settle(mode, way, now)

    def tick(self, now: float) -> list[Seen]:
        """Patience may have ended."""
        mode = self._guess.tick(now) if self._guess is not None else None
        if mode is None:
            return self._view.tick(now)
        return self._settle(mode, Way.FROM_DEVICE, now)

    def _settle(self, mode: str, way: Way, now: float) -> list[Seen]:
        assert self._guess is not None
        held, self._guess = self._guess.held, None
        self._view = view_of(mode)
        said = Seen(way, f"-- this is {mode} --")
        return [said, *(seen for way in Way for seen in self._view.see(way, held[way], now))]


class Guess:
    """How the device speaks: the gateway's own detector, and frames whose checks agree."""

    def __init__(self) -> None:
        self.held = dict.fromkeys(Way, b"")
        self._ear = Overhearing()
        link = Link(LinkSettings(), Random(0))  # noqa: S311 - it sends nothing
        self._detector = Detector(link)
        self._is_listening = False

    def receive(self, way: Way, data: bytes, now: float) -> str | None:
        """Return the mode as soon as it is known."""
        self._listen(now)
        self.held[way] = (self.held[way] + data)[-HELD:]
        if any(heard.check is Check.SOUND for heard in self._ear.receive(way, data)):
            return Mode.FRAMED
        if way is Way.FROM_DEVICE:
            self._detector.receive(data, now)
        return self._detector.mode

    def tick(self, now: float) -> str | None:
        """Return the mode if time has made it clear."""
        self._listen(now)
        self._detector.tick(now)
        return self._detector.mode

    def _listen(self, now: float) -> None:
        if not self._is_listening:
            self._is_listening = True
            self._detector.plugged(now)


_VIEWS: Final[dict[str, Callable[[], View]]] = {
    "auto": Auto,
    Mode.FRAMED: Framed,
    Mode.MQTT_SN: partial(Unwrapped, PacketStream, _show_packet),
    Mode.SLIP: partial(Unwrapped, Slip, _show_slip),
    Mode.MQTT: partial(Unwrapped, MqttPackets, _show_mqtt),
    Mode.TEXT: partial(Unwrapped, TextLines, _show_line),
}
MODES: Final = tuple(_VIEWS)
