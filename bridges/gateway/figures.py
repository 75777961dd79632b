"""What the gateway says about its ports and devices: snapshots, and retained topics made of them.

Mosquitto's manner: one value, one topic, said again only when it has changed. What is gone is
removed. Times in seconds unless a name says otherwise, sizes in bytes, counts since the start.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from bridges.gateway.pieces import at_once, in_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    Publish = Callable[[str, bytes, bool], None]  # topic, payload, retain

SYS: Final = "$SYS/broker/"
MOST_DEVICES: Final = 1000  # that are told of, one by one; all are counted
INHERITED_FOR: Final = 86_400.0  # what a gateway before us has said of devices that do not come
AWAY, QUARANTINED = "away", "quarantined"
STATES: Final = ("active", "asleep", "awake", AWAY, QUARANTINED)
ONLINE, OFFLINE = "online", "offline"
_SURPLUS: Final = 1000  # devices that are sorted out together
_TOPIC_MARKS: Final = {ord(mark): f"%{ord(mark):02X}" for mark in "%/+#\0"}


@dataclass(frozen=True, slots=True)
class PortFigures:
    """One serial port. `name` is that of the settings."""

    name: str
    path: str = ""  # of the device file, or the URL; "" while there is none
    is_open: bool = False
    mode: str = ""  # how the device speaks: framed, text, ...; "": not known yet
    baud: int = 0
    state: str = ""  # of the link
    uid: str = ""  # the peer's, as it is printed
    firmware: str = ""
    round_trip: float | None = None
    frames_sent: int = 0
    frames_received: int = 0
    resent: int = 0
    duplicates: int = 0
    damaged: int = 0  # frames with a wrong CRC, and what was none
    restarts: int = 0  # of the peer
    bytes_received: int = 0
    bytes_sent: int = 0
    overruns: int = 0  # these four are the kernel's
    framing: int = 0
    parity: int = 0
    breaks: int = 0
    reconnects: int = 0
    devices: int = 0
    log_lines: int = 0
    dropped: int = 0  # messages for which there was no room
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """One MQTT-SN device; `gateway` is the port or socket it is behind."""

    client_id: str
    gateway: str
    address: str = ""
    state: str = AWAY  # one of STATES
    last_seen: float | None = None  # since 1970; None: not known
    round_trip: float | None = None
    repeats: int = 0
    held: int = 0  # bytes of messages that wait here
    sleep: int = 0  # that it has announced


class Told(Protocol):
    """Topics that a broker may keep for longer than we live, so that they can be removed later."""

    def topics(self) -> Iterable[str]:
        """Those that have been said and not removed."""

    def add(self, topic: str) -> None:
        """It has been said."""

    def discard(self, topic: str) -> None:
        """It has been removed."""


class Discovery(Protocol):
    """Says more about the same: which topics make what in another program."""

    def messages(
        self, ports: Sequence[PortFigures], devices: Iterable[DeviceFigures]
    ) -> Iterator[tuple[str, str]]:
        """Topics and their payloads."""


class Teller:
    """Publishes what is new; `prefix` ends with a slash.

    Beside a broker of another make, which keeps $SYS for itself, the prefix is `own_prefix(name)`
    and `told` survives a restart.
    """

    def __init__(
        self,
        publish: Publish,
        prefix: str = SYS,
        told: Told | None = None,
        discoveries: Sequence[Discovery] = (),
        most_devices: int = MOST_DEVICES,
    ) -> None:
        self._publish = publish
        self._prefix = prefix
        self._told = told
        self._discoveries = discoveries
        self._most_devices = most_devices
        self._said: dict[str, str] = {}
        self._last_seen: dict[tuple[str, str], float] = {}
        # what an earlier gateway said, until it is said anew or removed
        self._inherited = set(told.topics()) if told is not None else set()
        self._inherited_until: float | None = None

    def tell(
        self, ports: Sequence[PortFigures], devices: Iterable[DeviceFigures], now: float
    ) -> None:
        """Say what has changed since the last time, and remove what is gone."""
        at_once(self.telling(ports, devices, now))

    def telling(
        self, ports: Sequence[PortFigures], devices: Iterable[DeviceFigures], now: float
    ) -> Generator[None, None, None]:
        """The same in pieces."""
        counts: Counter[str] = Counter()
        chosen = yield from self._choose(devices, counts)
        self._last_seen = {
            (each.gateway, each.client_id): each.last_seen
            for each in chosen
            if each.last_seen is not None
        }
        topics: dict[str, str] = {}
        for piece in in_pieces(self._topics(ports, counts, chosen)):
            topics.update(piece)
            yield
        yield from self._saying(topics)
        if self._inherited_until is None:
            self._inherited_until = now + INHERITED_FOR
        if now >= self._inherited_until:
            yield from self._dropping(list(self._inherited))

    def forget(self, devices: Sequence[DeviceFigures]) -> None:
        """Remove what was said of devices, by this gateway or one before it."""
        bases = tuple(self._prefix + device_base(device) for device in devices)
        made = {topic for each in self._discoveries for topic, _ in each.messages((), devices)}
        every = self._said.keys() | self._inherited
        self._drop({topic for topic in every if topic in made or topic.startswith(bases)})

    def leave(self) -> None:
        """The gateway ends: all that is said of it stays, but it says that it is not there."""
        self._say(self._prefix + STATE_TOPIC, OFFLINE)

    def say_again(self) -> None:
        """The broker may have forgotten everything: the next `tell` says all of it."""
        self._inherited |= self._said.keys()
        self._said.clear()

    def _choose(
        self, devices: Iterable[DeviceFigures], counts: Counter[str]
    ) -> Generator[None, None, list[DeviceFigures]]:
        """Those that are told of, one by one; all are counted."""
        chosen: list[DeviceFigures] = []
        for piece in in_pieces(devices):
            counts.update(device.state for device in piece)
            chosen += map(self._remembered, piece)
            if len(chosen) >= self._most_devices + _SURPLUS:
                chosen = sorted(chosen, key=_importance)[: self._most_devices]
            yield
        return sorted(chosen, key=_importance)[: self._most_devices]

    def _topics(
        self,
        ports: Sequence[PortFigures],
        counts: Counter[str],
        chosen: Sequence[DeviceFigures],
    ) -> Iterator[tuple[str, str]]:
        for name, value in (
            *((STATE_TOPIC, ONLINE),),
            *_port_topics(ports),
            *_count_topics(counts),
            *_device_topics(chosen),
        ):
            yield self._prefix + name, text_of(value)
        for discovery in self._discoveries:
            yield from discovery.messages(ports, chosen)

    def _saying(self, topics: dict[str, str]) -> Generator[None, None, None]:
        yield from self._dropping(self._said.keys() - topics.keys())
        for piece in in_pieces(topics.items()):
            for topic, text in piece:
                self._say(topic, text)
            yield

    def _dropping(self, topics: Iterable[str]) -> Generator[None, None, None]:
        for piece in in_pieces(topics):
            self._drop(set(piece))
            yield

    def _drop(self, topics: AbstractSet[str]) -> None:
        for topic in sorted(topics):
            self._publish(topic, b"", True)
            self._said.pop(topic, None)
            self._inherited.discard(topic)
            if self._told is not None:
                self._told.discard(topic)

    def _say(self, topic: str, text: str) -> None:
        if self._said.get(topic) == text:
            return
        if self._told is not None and topic not in self._said:
            self._told.add(topic)
        self._inherited.discard(topic)
        self._said[topic] = text
        self._publish(topic, text.encode(), True)

    def _remembered(self, device: DeviceFigures) -> DeviceFigures:
        """With the time it was last seen, which is not known of those that are away."""
        if device.last_seen is not None:
            return device
        last_seen = self._last_seen.get((device.gateway, device.client_id))
        return device if last_seen is None else replace(device, last_seen=last_seen)


def own_prefix(name: str) -> str:
    """The prefix of a gateway that stands beside a broker."""
    return f"heliograph/gateway/{level(name)}/"


def level(name: str) -> str:
    """A name as one level of a topic; two names never make the same."""
    return name.translate(_TOPIC_MARKS)


def text_of(value: object) -> str:
    """A value as its topic says it."""
    return str(value)


def iso(when: float) -> str:
    """Seconds since 1970 as people and programs read them."""
    return datetime.fromtimestamp(round(when), UTC).isoformat()


# ---- the tables: topic below `serial/<port>/` or `mqttsn/<gateway>/<client id>/`, and its value;
# ---- None: it is not said


def _milliseconds(seconds: float | None) -> object:
    return None if seconds is None else round(1000 * seconds, 1)


STATE_TOPIC: Final = "gateway/state"  # online, offline; what Home Assistant calls availability

PORT_TOPICS: Final[dict[str, Callable[[PortFigures], object]]] = {
    "state": lambda port: "open" if port.is_open else "closed",
    "path": lambda port: port.path or None,
    "mode": lambda port: port.mode or None,
    "baud": lambda port: port.baud or None,
    "link": lambda port: port.state or None,
    "peer/uid": lambda port: port.uid or None,
    "peer/firmware": lambda port: port.firmware or None,
    "peer/restarts": lambda port: port.restarts,
    "round_trip/milliseconds": lambda port: _milliseconds(port.round_trip),
    "frames/received": lambda port: port.frames_received,
    "frames/sent": lambda port: port.frames_sent,
    "frames/resent": lambda port: port.resent,
    "frames/duplicate": lambda port: port.duplicates,
    "frames/damaged": lambda port: port.damaged,
    "bytes/received": lambda port: port.bytes_received,
    "bytes/sent": lambda port: port.bytes_sent,
    "errors/overrun": lambda port: port.overruns,
    "errors/framing": lambda port: port.framing,
    "errors/parity": lambda port: port.parity,
    "errors/break": lambda port: port.breaks,
    "reconnects": lambda port: port.reconnects,
    "devices/count": lambda port: port.devices,
    "log/lines": lambda port: port.log_lines,
    "messages/dropped": lambda port: port.dropped,
    "error": lambda port: port.last_error or None,
}

DEVICE_TOPICS: Final[dict[str, Callable[[DeviceFigures], object]]] = {
    "state": lambda device: device.state,
    "address": lambda device: device.address or None,
    "last_seen": lambda device: None if device.last_seen is None else iso(device.last_seen),
    "sleep/seconds": lambda device: device.sleep or None,
    "round_trip/milliseconds": lambda device: _milliseconds(device.round_trip or None),
    "messages/repeated": lambda device: device.repeats,
    "messages/held/bytes": lambda device: device.held,
}


def port_base(port: PortFigures) -> str:
    """Where a port's topics begin."""
    return f"serial/{level(port.name)}/"


def device_base(device: DeviceFigures) -> str:
    """Where a device's topics begin."""
    return f"mqttsn/{level(device.gateway)}/{level(device.client_id)}/"


def _port_topics(ports: Iterable[PortFigures]) -> Iterator[tuple[str, object]]:
    for port in ports:
        base = port_base(port)
        for name, get in PORT_TOPICS.items():
            value = get(port)
            if value is not None:
                yield base + name, value


def _count_topics(counts: Counter[str]) -> Iterator[tuple[str, object]]:
    for state in STATES:
        yield f"mqttsn/devices/{state}", counts[state]


def _device_topics(devices: Iterable[DeviceFigures]) -> Iterator[tuple[str, object]]:
    for device in devices:
        base = device_base(device)
        for name, get in DEVICE_TOPICS.items():
            value = get(device)
            if value is not None:
                yield base + name, value


def _importance(device: DeviceFigures) -> tuple[bool, str, str]:
    """Who is here comes first, then by name, so that it is always the same ones."""
    return device.state == AWAY, device.gateway, device.client_id
