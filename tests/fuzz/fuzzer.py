"""Throws spoilt conversations of several clients at one engine, and looks at it after each round.

What must hold: no fault of the broker is seen and no exception escapes; everything it keeps stays
within the policy's limits; what it sends can be read; a new client is served as ever. Small limits
make the bounds easy to reach.
"""

from collections.abc import Callable
from random import Random

from broker.connection.ports import Origin
from broker.engine.notices import FaultSeen
from broker.engine.ports import Attempt, Step, Verdict
from broker.packets.codes import ReasonCode
from broker.packets.decode import decode
from broker.packets.encode import encode
from broker.packets.types import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.fuzz.conversations import conversation, split, spoil
from tests.support.broker import MemoryBroker, MemoryClient

POLICY = {
    "maximum_packet_size": 4096,
    "receive_maximum": 4,
    "topic_alias_maximum": 5,
    "outbox_limit": 8192,
    "stall_timeout": 20.0,
    "max_connections": 20,
    "max_connections_per_address": 10,
    "connections_per_second_per_address": 50,
    "max_sessions": 12,
    "max_inflight": 5,
    "backlog_messages": 20,
    "backlog_size": 20_000,
    "max_session_expiry": 300,
    "session_expiry_3_1_1": 100,
    "max_subscriptions_per_client": 6,
    "max_subscriptions": 20,
    "max_topic_levels": 10,
    "max_retained_messages": 8,
    "max_retained_size": 20_000,
    "response_information": "answers/{client_id}",
}
CLIENTS = 4  # at a time
ROUNDS_PER_BROKER = 100  # then a new one, so that a failure's history stays short
# What one read of the largest size can make a client be owed beyond the outbox's limit.
OUTBOX_SLACK = 200_000


class FoundError(AssertionError):
    """The broker did what it must not; says how to see it again."""


class Fuzzer:
    """Rounds of conversations; `seed` and the number of the round repeat each of them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rounds = 0
        self.packets = 0
        self.begin()

    def round(self) -> None:
        """Several clients talk at once; raises FoundError."""
        if self.rounds % ROUNDS_PER_BROKER == 0:
            self.begin()
        self.rounds += 1
        try:
            self._talk()
            self._check()
        except Exception as fault:
            raise FoundError(f"seed {self.seed}, round {self.rounds}: {fault!r}") from fault

    def begin(self) -> None:
        """A new broker."""
        # The history of a broker depends on the seed and its first round, and on nothing before.
        self.rng = Random(f"{self.seed}/{self.rounds}")
        self.doorkeeper = Doorkeeper()
        methods = {"TALK": Talk(self.doorkeeper)}
        self.broker = MemoryBroker(self.doorkeeper, methods=methods, **POLICY)
        self.clients: list[FuzzClient] = []

    def _talk(self) -> None:
        rng, broker = self.rng, self.broker
        talks = []
        for _ in range(rng.randint(1, CLIENTS)):
            client = FuzzClient(broker, rng)
            self.clients.append(client)
            frames = spoil(rng, conversation(rng))
            self.packets += len(frames)
            talks.append((client, split(rng, frames)))
        while talks:
            client, reads = rng.choice(talks)
            if reads and not client.is_closed and not client.held:
                client.send_raw(reads.pop(0))
            else:
                talks.remove((client, reads))
            if rng.random() < 0.05:
                self._happen()
        self.clients = [each for each in self.clients if not each.is_closed]
        for client in self.clients[: rng.randrange(8)]:
            client.lose()

    def _happen(self) -> None:
        """Something else goes on meanwhile."""
        rng = self.rng
        client = rng.choice(self.clients)
        match rng.randrange(6):
            case 0:
                self.broker.pass_time(rng.choice((0.1, 1, 2, 15, 200)))
            case 1:
                self.doorkeeper.answer()
            case 2 if not client.is_closed:
                client.stop_reading()
            case 3 if not client.is_closed:
                client.resume_reading()
            case 4 if not client.is_closed and not client.held:
                client.acknowledge_all()
            case 5 if not client.is_closed and rng.random() < 0.3:
                client.lose()

    # -- what must hold -------------------------------------------------------------------------

    def _check(self) -> None:
        self._check_notices()
        self._check_sizes()
        if self.rounds % 10 == 0:
            self._check_a_newcomer_is_served()
            self._check_everything_ends()

    def _check_notices(self) -> None:
        for notice in self.broker.notices:
            if isinstance(notice, FaultSeen):
                raise notice.fault
        self.broker.notices.clear()

    def _check_sizes(self) -> None:
        engine, policy = self.broker.engine, self.broker.engine.policy
        assert len(engine.admission) <= policy.max_connections
        assert len(engine.sessions) <= policy.max_sessions
        assert len(engine.retention) <= policy.max_retained_messages
        assert 0 <= engine.retention.size <= policy.max_retained_size
        assert len(engine.wills) <= len(engine.sessions)
        held = [len(each.subscriptions or ()) for each in engine.sessions]
        assert max(held, default=0) <= policy.max_subscriptions_per_client
        assert sum(held) == len(engine.router) <= policy.max_subscriptions
        for session in engine.sessions:
            assert session.waiting <= policy.backlog_messages
            assert session.in_flight <= policy.max_inflight
            assert session.unreleased <= policy.receive_maximum
        for client in self.clients:
            waiting = len(client.connection.data_to_send()) if client.is_closed else 0
            assert waiting <= policy.outbox_limit + OUTBOX_SLACK

    def _check_a_newcomer_is_served(self) -> None:
        """With time for all crowds to have gone."""
        self._everyone_leaves()
        newcomer = self.broker.client()
        connack = newcomer.connect("newcomer")
        assert connack is not None
        assert connack.reason == 0, connack
        suback = newcomer.subscribe("newcomer/topic", qos=1)
        assert suback.reasons == [1], suback
        newcomer.publish("newcomer/topic", b"hello", qos=1)
        received = [type(each) for each in newcomer.received]
        assert received == [Publish, Puback], received
        newcomer.disconnect()

    def _check_everything_ends(self) -> None:
        engine = self.broker.engine
        assert len(engine.admission) == len(engine.sessions) == len(engine.wills) == 0
        assert len(engine.router) == 0
        assert engine.next_deadline() is None, "a deadline of nobody"

    def _everyone_leaves(self) -> None:
        while self.doorkeeper.answer():
            pass
        for client in self.clients:
            if not client.is_closed:
                client.lose()
        self.clients.clear()
        self.broker.pass_time(1000)


class FuzzClient(MemoryClient):
    """Reads everything the broker says, keeps only what it may acknowledge."""

    def __init__(self, broker: MemoryBroker, rng: Random) -> None:
        self.owed: list[Publish | Pubrec | Pubrel] = []
        address = rng.choice(("", "127.0.0.1", "::1"))
        super().__init__(broker, 5, Origin("fuzz", address, 1))

    def acknowledge_all(self) -> None:
        owed, self.owed = self.owed, []
        version = self.connection.version
        data = b"".join(encode(answer, version) for each in owed if (answer := _answer(each)))
        if data:
            self.send_raw(data)

    def _arrive(self, data: bytes) -> None:
        buffer, packets = self._reader.cut(data)
        assert self._reader.violation is None
        for first, start, stop in packets:
            packet = decode(first, buffer, start, stop, self.connection.version)
            if isinstance(packet, Publish | Pubrec | Pubrel) and len(self.owed) < 100:
                self.owed.append(packet)


def _answer(packet: Packet) -> Packet | None:
    match packet:
        case Publish(qos=1):
            return Puback(packet.packet_id)
        case Publish(qos=2):
            return Pubrec(packet.packet_id)
        case Pubrec():
            return Pubrel(packet.packet_id)
        case Pubrel():
            return Pubcomp(packet.packet_id)
    return None


class Doorkeeper:
    """An Authenticator: the user name says whether it answers at once, later, never or badly."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def authenticate(self, attempt: Attempt, answer: Callable[[Verdict], None]) -> None:
        if attempt.username == "slow":
            self._waiting.append(lambda: answer(Verdict(username="known")))
        elif attempt.username == "late":
            self._waiting.append(lambda: answer(Verdict(ReasonCode.NOT_AUTHORIZED, why="no")))
        elif attempt.username == "broken":
            answer(Verdict(ReasonCode.SERVER_BUSY, why="not today"))
        else:
            answer(Verdict())

    def later(self, call: Callable[[], None]) -> None:
        self._waiting.append(call)

    def answer(self) -> bool:
        """Give the oldest answer that is due; False when there is none."""
        if not self._waiting:
            return False
        self._waiting.pop(0)()
        return True


class Talk:
    """An AuthenticationMethod that goes by the client's data."""

    def __init__(self, doorkeeper: Doorkeeper) -> None:
        self._doorkeeper = doorkeeper

    def begin(self, attempt: Attempt) -> "Talk":
        return self

    def step(self, data: bytes | None, answer: Callable[[Step], None]) -> None:
        if data == b"late":
            self._doorkeeper.later(lambda: answer(Step(verdict=Verdict())))
        elif data == b"yes" or data is None:
            answer(Step(verdict=Verdict()))
        elif data == b"no":
            answer(Step(verdict=Verdict(ReasonCode.NOT_AUTHORIZED, why="no")))
        else:
            answer(Step(data=b"and?"))
