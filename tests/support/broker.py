"""A whole broker in memory for tests: the real engine, clients that are plain objects, and a clock
that the test turns.

    broker = MemoryBroker()
    alice = broker.connect("alice")        # MQTT 5: CONNECT; the CONNACK is checked and kept
    alice.subscribe("a/#", qos=1)
    bob = broker.connect("bob", version=4) # MQTT 3.1.1
    bob.publish("a/b", b"x", qos=1)
    assert alice.take(Publish).payload == b"x"
    broker.pass_time(30)

With `store=MemoryStore()` it has a store, which commits when the test says so; `crash()` is what is
found after the end of both. `--store instant` gives every broker of a test run one that commits at
once: then nothing that a client can see may be different.
"""

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from broker.auth.anonymous import AnonymousPolicy
from broker.connection.ports import Origin
from broker.engine.durability import Levels
from broker.engine.engine import Engine
from broker.engine.policy import Policy
from broker.engine.ports import Authenticator, Authorizer, Durability, Rules
from broker.packets.decode import decode
from broker.packets.encode import encode
from broker.packets.properties import Properties
from broker.packets.reader import Reader
from broker.packets.types import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)
from tests.support.store import MemoryStore

if TYPE_CHECKING:
    from broker.engine.notices import Notice

P = TypeVar("P")


class Defaults:
    """What a broker gets that says nothing about it: see tests/conftest.py."""

    instant_store = False


class MemoryBroker:
    """An Engine with a virtual clock. Extra arguments are the Policy's fields."""

    def __init__(
        self,
        authenticator: Authenticator | None = None,
        authorizer: Authorizer | None = None,
        methods: Mapping[str, Any] | None = None,
        seed: int = 1,
        store: MemoryStore | None = None,
        levels: Levels | None = None,
        relaxed_interval: float = 1.0,
        now: float = 1000.0,
        wall_time: float = 1_800_000_000.0,
        rules: Rules | None = None,
        **policy: Any,
    ) -> None:
        self.now = now
        self.wall_ahead = wall_time - now  # of the computer's clock, before the broker's
        if store is None and Defaults.instant_store:
            store = MemoryStore(instant=True)
        self.store = store
        self._made_with = {
            "authenticator": authenticator,
            "authorizer": authorizer,
            "methods": methods,
            "levels": levels,
            "relaxed_interval": relaxed_interval,
            "rules": rules,
            **policy,
        }
        self.notices: list[Notice] = []
        self.engine = Engine(
            Policy(**policy),
            authenticator or AnonymousPolicy(),
            Random(seed),
            self.notices.append,
            authorizer,
            methods,
            self._durability(store, levels or Levels(), relaxed_interval),
            rules,
        )
        self.engine.clock.now = self.now
        self.touched: list[MemoryClient] = []
        if store is not None:
            store.journal = self.engine.journal
            self.engine.restore(store.opened(self.engine.policy.retained_window), now)
            self.flush()

    def _durability(
        self, store: MemoryStore | None, levels: Levels, relaxed_interval: float
    ) -> Durability | None:
        if store is None:
            return None
        return Durability(store, levels, self.wall_time, relaxed_interval)

    def wall_time(self) -> float:
        """What the computer's clock says."""
        return self.engine.clock.now + self.wall_ahead

    def crash(self, away: float = 0.0, jump: float = 0.0, **changed: Any) -> "MemoryBroker":
        """The broker that is started `away` seconds after the end of this one and of its store,
        which comes without warning; the computer's clock has jumped meanwhile. Some of what a
        MemoryBroker is made with may be `changed`. This one is of no use any more.
        """
        assert self.store is not None
        fields = {**self._made_with, **changed}
        wall_time = self.wall_time() + away + jump
        return MemoryBroker(store=self.store.crash(), now=20.0, wall_time=wall_time, **fields)

    def commit(self) -> None:
        """Let the store do everything that it was given, and what comes of that."""
        assert self.store is not None
        self.flush()
        while self.store.commit_next():
            self.flush()

    def client(self, version: int = 5, origin: Origin | None = None) -> "MemoryClient":
        """A client whose link is open and which has sent nothing."""
        return MemoryClient(self, version, origin or Origin())

    def connect(self, client_id: str = "", version: int = 5, **fields: Any) -> "MemoryClient":
        """A client that has been accepted; `fields` are those of Connect, `will` among them."""
        client = self.client(version)
        client.connect(client_id, **fields)
        assert client.connack is not None
        assert client.connack.reason == 0, client.connack
        return client

    def pass_time(self, seconds: float) -> None:
        """Let time go by, tick by tick, as the shell's timer would."""
        target = self.now + seconds
        while True:
            deadline = self.engine.next_deadline()
            if deadline is None or deadline > target:
                break
            self.now = max(self.now, deadline)
            self.engine.tick(self.now)
            self.flush()
        self.now = target
        self.engine.clock.now = target

    def flush(self) -> None:
        """End the loop turn: every client gets what waits for it, the store what is to be kept."""
        while self._turn():
            pass

    def _turn(self) -> bool:
        touched, self.touched = self.touched, []
        for client in touched:
            client.flush()
        store = self.store
        if store is None or self.engine.journal is None:
            return bool(touched)
        self.engine.journal.turn()
        return (store.instant and store.commit_next()) or bool(touched or self.touched)


class MemoryClient:
    """A client's end of a connection, and the Sink of the broker's end.

    `received` holds the packets that have come and were not taken; `raw` the bytes of everything
    that came.
    """

    def __init__(self, broker: MemoryBroker, version: int, origin: Origin) -> None:
        self.broker = broker
        self.version = version
        self.received: list[Packet] = []
        self.raw = b""
        self.connack: Connack | None = None
        self.is_closed = False  # by the broker
        self.aborted = False
        self.reading = True  # False: this client takes no bytes (a slow reader)
        self.held = False  # the broker does not read at the moment
        self._reader = Reader()
        self._packet_id = 0
        self.connection = broker.engine.open(origin, self, broker.now)

    # -- sending --------------------------------------------------------------------------------

    def send(self, *packets: Packet) -> None:
        """Send packets in one write and let the broker answer."""
        self.send_raw(b"".join(encode(packet, self.version) for packet in packets))

    def send_raw(self, data: bytes) -> None:
        """Send bytes and let the broker answer."""
        assert data, "no bytes would mean that the link is lost: use lose()"
        self.connection.receive(data, self.broker.now)
        self.broker.flush()

    def lose(self) -> None:
        """Break the link without a DISCONNECT."""
        self.connection.receive(b"", self.broker.now)
        self.broker.flush()

    def connect(self, client_id: str = "", **fields: Any) -> Connack | None:
        """Send CONNECT (v5 fields: properties=..., will=...); return the CONNACK if one came."""
        self.send(Connect(client_id, version=self.version, **fields))
        if self.received and isinstance(self.received[0], Connack):
            self.connack = self.take(Connack)
        return self.connack

    def publish(self, topic: str, payload: bytes = b"", qos: int = 0, **fields: Any) -> int:
        """Send a PUBLISH and return its packet id; the answer, if any, waits in `received`."""
        packet_id = fields.pop("packet_id", None) or (self.next_id() if qos else 0)
        self.send(Publish(topic, payload, qos, packet_id=packet_id, **fields))
        return packet_id

    def subscribe(
        self,
        topic_filter: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        properties: Properties | None = None,
    ) -> Suback:
        """Subscribe to one filter and return the SUBACK."""
        request = SubscriptionRequest(
            topic_filter, qos, no_local, retain_as_published, retain_handling
        )
        self.send(Subscribe(self.next_id(), [request], properties or {}))
        if self.broker.store is not None:  # retained messages need not wait for a commit: 3.8.4
            self.received.sort(key=lambda packet: not isinstance(packet, Suback))
        return self.take(Suback)

    def unsubscribe(self, *filters: str) -> Unsuback:
        """Unsubscribe and return the UNSUBACK."""
        self.send(Unsubscribe(self.next_id(), list(filters)))
        return self.take(Unsuback)

    def disconnect(self, reason: int = 0, properties: Properties | None = None) -> None:
        """Say DISCONNECT."""
        self.send(Disconnect(reason, properties or {}))

    def acknowledge(self, publish: Publish, reason: int = 0) -> None:
        """Answer a received PUBLISH through to its end (QoS 1: PUBACK; QoS 2: PUBREC, then
        PUBCOMP).
        """
        if publish.qos == 1:
            self.send(Puback(publish.packet_id, reason))
        elif publish.qos == 2:
            self.send(Pubrec(publish.packet_id, reason))
            if reason < 0x80:
                assert self.take(Pubrel).packet_id == publish.packet_id
                self.send(Pubcomp(publish.packet_id))

    def drain(self) -> list[Publish]:
        """Answer everything that comes, one packet at a time, until nothing more does; return the
        messages, repetitions included.
        """
        messages = []
        while self.received:
            packet = self.received.pop(0)
            if isinstance(packet, Pubrel):
                self.send(Pubcomp(packet.packet_id))
            elif isinstance(packet, Publish):
                messages.append(packet)
                if packet.qos:
                    answer = Puback if packet.qos == 1 else Pubrec
                    self.send(answer(packet.packet_id))
        return messages

    def next_id(self) -> int:
        """A packet id this client has not used yet."""
        self._packet_id += 1
        return self._packet_id

    # -- receiving ------------------------------------------------------------------------------

    def take(self, kind: type[P]) -> P:
        """Take the oldest received packet, which must be of this type."""
        assert self.received, f"no {kind.__name__} came"
        packet = self.received.pop(0)
        assert isinstance(packet, kind), f"expected {kind.__name__}, got {packet}"
        return packet

    def take_all(self, kind: type[P]) -> list[P]:
        """Take everything received, which must be of this type."""
        taken = []
        while self.received:
            taken.append(self.take(kind))
        return taken

    def messages(self) -> list[tuple[str, bytes]]:
        """Take everything received, which must be PUBLISH packets, as (topic, payload)."""
        return [(each.topic, each.payload) for each in self.take_all(Publish)]

    # -- the Sink of the broker's end -----------------------------------------------------------

    def wake(self) -> None:
        self.broker.touched.append(self)

    def flush(self) -> None:
        if self.connection.paused or self.is_closed:
            return
        data = self.connection.data_to_send()
        if data:
            self._arrive(data)
        if data and not self.reading:
            self.connection.pause(self.broker.now)
        self.connection.drained()

    def stop_reading(self) -> None:
        """From now on this client takes nothing: the broker's writes pile up."""
        self.reading = False
        self.connection.pause(self.broker.now)

    def resume_reading(self) -> None:
        self.reading = True
        self.connection.go_on(self.broker.now)
        self.flush()
        self.broker.flush()

    def unsent(self) -> int:
        return 0 if self.reading else 1

    def hold_reading(self, held: bool) -> None:
        self.held = held

    def close(self) -> None:
        if not self.is_closed:
            data = self.connection.data_to_send()
            self._arrive(data)
            self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.aborted = True

    def _arrive(self, data: bytes) -> None:
        self.raw += data
        buffer, packets = self._reader.cut(data)
        assert self._reader.violation is None
        for first, start, stop in packets:
            self.received.append(decode(first, buffer, start, stop, self.version))


def will(topic: str, payload: bytes = b"gone", qos: int = 0, **fields: Any) -> Will:
    """A Will for `connect(..., will=will(...))`."""
    return Will(topic, payload, qos, fields.get("retain", False), fields.get("properties", {}))
