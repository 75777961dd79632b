"""A gateway among scripted neighbours: datagrams as bytes, and a broker that answers when the test
says so.
"""

from collections.abc import Callable
from typing import Any

from bridges.mqttsn.admission import Rules
from bridges.mqttsn.codes import Flags
from bridges.mqttsn.decode import decode
from bridges.mqttsn.device import Device
from bridges.mqttsn.encode import encode
from bridges.mqttsn.gateway import Gateway
from bridges.mqttsn.notebook import MemoryNotebook
from bridges.mqttsn.packets import Connack, Connect, Packet
from bridges.mqttsn.policy import Policy
from bridges.mqttsn.ports import Address, Identity, Message, Opening, Receiver, Will


class ScriptedSession:
    """Keeps what it was asked, in words; `receiver` is for the test to answer through."""

    def __init__(self, opening: Opening, receiver: Receiver) -> None:
        self.opening = opening
        self.receiver = receiver
        self.asked: list[tuple[Any, ...]] = []
        self.is_held = False
        self.closed: bool | None = None  # with its will?
        self.may_change_will = True

    def publish(self, message: Message) -> None:
        self.asked.append(("publish", message))

    def pubrel(self, msg_id: int) -> None:
        self.asked.append(("pubrel", msg_id))

    def puback(self, msg_id: int) -> None:
        self.asked.append(("puback", msg_id))

    def pubrec(self, msg_id: int) -> None:
        self.asked.append(("pubrec", msg_id))

    def pubcomp(self, msg_id: int) -> None:
        self.asked.append(("pubcomp", msg_id))

    def subscribe(self, msg_id: int, topic_filter: str, qos: int) -> None:
        self.asked.append(("subscribe", msg_id, topic_filter, qos))

    def unsubscribe(self, msg_id: int, topic_filter: str) -> None:
        self.asked.append(("unsubscribe", msg_id, topic_filter))

    def change_will(self, will: Will | None) -> bool:
        self.asked.append(("will", will))
        return self.may_change_will

    def fence(self, done: Callable[[bool], None]) -> None:
        self.asked.append(("fence", done))

    def hold(self, held: bool) -> None:
        self.is_held = held

    def close(self, publish_will: bool) -> None:
        assert self.closed is None
        self.closed = publish_will

    def take(self) -> list[tuple[Any, ...]]:
        """What was asked since the last time."""
        asked, self.asked = self.asked, []
        return asked


class ScriptedBroker:
    """Every session that was opened, in order."""

    def __init__(self) -> None:
        self.sessions: list[ScriptedSession] = []
        self.ended: list[Identity] = []

    def open(self, opening: Opening, receiver: Receiver) -> ScriptedSession:
        self.sessions.append(ScriptedSession(opening, receiver))
        return self.sessions[-1]

    def end_session(self, identity: Identity) -> None:
        self.ended.append(identity)


class World:
    """A gateway with a clock that the test turns. Extra arguments are the Policy's fields."""

    def __init__(
        self,
        admission: Rules | None = None,
        notebook: MemoryNotebook | None = None,
        **policy: Any,
    ) -> None:
        self.now = 1000.0
        self.broker = ScriptedBroker()
        self.notebook = notebook or MemoryNotebook()
        self.admission = admission or Rules(unconnected=Identity("gateway"))
        settings = Policy(**{"t_adv": 0, **policy})
        self.gateway = Gateway(self.broker, self.notebook, self.admission, settings)

    @property
    def session(self) -> ScriptedSession:
        """The one opened last."""
        return self.broker.sessions[-1]

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.gateway.counts)

    def device(self, peer: str = "1") -> Device | None:
        return next((d for d in self.gateway.devices if d.address == Address(peer)), None)

    def say(self, *packets: Packet, peer: str = "1") -> list[Packet]:
        """Say something from `peer`; what comes back to it."""
        for packet in packets:
            self.gateway.receive(encode(packet), self.now, peer)
        return self.hear(peer)

    def hear(self, peer: str = "1", room: int | None = None) -> list[Packet]:
        """What comes to `peer` now; nothing may come to others."""
        sent = self.gateway.data_to_send(self.now, room)
        assert {datagram.peer for datagram in sent} <= {peer}
        return [decode(datagram.data) for datagram in sent]

    def pass_time(self, seconds: float) -> None:
        """Let the clock run, with every deadline on the way."""
        end = self.now + seconds
        while (when := self.gateway.next_deadline()) is not None and when <= end:
            self.now = max(self.now, when)
            self.gateway.tick(self.now)
        self.now = end

    def join(
        self, client_id: str = "dev", peer: str = "1", clean: bool = True, keep_alive: int = 60
    ) -> ScriptedSession:
        """Connect a device without a will."""
        self.say(Connect(Flags(clean_session=clean), keep_alive, client_id), peer=peer)
        self.session.receiver.on_opened(False)
        assert self.hear(peer) == [Connack(0)]
        return self.session
