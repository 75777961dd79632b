"""A session with a broker, over pipes that a test answers and breaks."""

from collections.abc import Callable
from typing import Any

from bridges.mqttsn.mqtt import MqttBroker, MqttSession
from bridges.mqttsn.ports import Identity, Opening
from bridges.mqttsn.versions import Versions
from broker.packets.codes import MQTT_5
from broker.packets.decode import decode
from broker.packets.encode import encode
from broker.packets.properties import Property
from broker.packets.reader import Reader
from broker.packets.types import Connack, Packet

DURABLE = Opening(Identity("dev", "user", b"secret"), clean_session=False, receive_maximum=3)
CLEAN = Opening(Identity("dev"))


class ScriptedPipe:
    """Keeps what was sent."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_held = False
        self.is_closed = False
        self.owes = False
        self.is_cut = False  # by somebody else than the broker

    def send(self, data: bytes) -> None:
        assert not self.is_closed
        self.sent += data

    def hold(self, held: bool) -> None:
        self.is_held = held

    def has_more(self) -> bool:
        return self.owes

    def was_closed(self) -> bool:
        return not self.is_cut

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


class Heard:
    """A Receiver that notes every call as (name, arguments)."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        assert name.startswith("on_")
        return lambda *arguments: self.calls.append((name.removeprefix("on_"), *arguments))

    def take(self) -> list[tuple[Any, ...]]:
        calls, self.calls = self.calls, []
        return calls


class Wire:
    """A session, its receiver, and the broker's end as packets."""

    def __init__(
        self,
        opening: Opening = DURABLE,
        stamp: Callable[[], str] | None = None,
        versions: Versions | None = None,
    ) -> None:
        self.pipes: list[ScriptedPipe] = []
        self.dialled: list[MqttSession] = []  # whose pipes they are
        self.heard = Heard()
        self.versions = versions or Versions(MQTT_5)
        self.broker = MqttBroker(self._dial, expiry=1000, stamp=stamp, versions=self.versions)
        self.session = self.broker.open(opening, self.heard)

    def _dial(self, session: MqttSession) -> ScriptedPipe:
        self.pipes.append(ScriptedPipe())
        self.dialled.append(session)
        return self.pipes[-1]

    @property
    def pipe(self) -> ScriptedPipe:
        return self.pipes[-1]

    def sent(self) -> list[Packet]:
        """What has been sent since the last time."""
        data, self.pipe.sent = self.pipe.sent, b""
        return read(data, self.versions.current)

    def answer(self, *packets: Packet) -> list[Packet]:
        version = self.versions.current
        self.session.receive(b"".join(encode(packet, version) for packet in packets))
        return self.sent()

    def open(self, session_present: bool = False, **properties: int) -> list[Packet]:
        """Connect and be accepted; what comes after the CONNECT."""
        self.session.connected()
        self.sent()
        named = {Property[name.upper()]: value for name, value in properties.items()}
        return self.answer(Connack(session_present, 0, named))

    def reopen(self) -> list[Packet]:
        """The pipe breaks, and another one is there."""
        self.session.lost()
        return self.open(session_present=True)


def opened(opening: Opening = DURABLE, **properties: int) -> Wire:
    wire = Wire(opening)
    wire.open(**properties)
    assert wire.heard.take() == [("opened", False)]
    return wire


def read(data: bytes, version: int = MQTT_5) -> list[Packet]:
    buffer, packets = Reader().cut(data)
    return [decode(first, buffer, start, end, version) for first, start, end in packets]
