"""The broker without its shells: puts the parts together and says which of them handles which
packet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker.clock import Clock
from broker.connection.connection import Connection
from broker.connection.ports import Traffic
from broker.connection.states import PERMITTED, State
from broker.engine.admission import Admission
from broker.engine.authenticating import Authenticating
from broker.engine.bindings import Bindings
from broker.engine.connecting import Connecting
from broker.engine.deadlines import Deadlines
from broker.engine.durability import Level
from broker.engine.ending import Ending
from broker.engine.forwarding import Forwarder
from broker.engine.journal import Journal
from broker.engine.notices import BindingRefused
from broker.engine.publishing import Publishing
from broker.engine.queue_clients import QueueClients
from broker.engine.queue_doors import QueueDoors
from broker.engine.queueing import Queueing
from broker.engine.recovery import Recovery
from broker.engine.retention import Retention
from broker.engine.router import Router
from broker.engine.runs import Runs
from broker.engine.sessions import Sessions
from broker.engine.subscribing import Subscribing
from broker.engine.wills import Wills
from broker.packets.codes import PacketType
from broker.packets.decode import decode
from broker.packets.errors import misuse
from broker.session.session import Bounds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from broker.connection.ports import Handler, Origin, Sink
    from broker.engine.notices import Notice, Observer
    from broker.engine.policy import Policy
    from broker.engine.ports import (
        AuthenticationMethods,
        Authenticator,
        Authorizer,
        Durability,
        Rules,
    )
    from broker.packets.errors import ProtocolViolation
    from broker.queues.queue import Queue
    from broker.session.session import Session

PINGRESP = b"\xd0\x00"
PACKET_TYPES = 16


def ignore(_notice: Notice) -> None:
    """Observe nothing."""


class Engine:
    """Everything the broker knows and decides. The Host of its connections."""

    def __init__(
        self,
        policy: Policy,
        authenticator: Authenticator,
        rng: Random,
        observe: Observer = ignore,
        authorizer: Authorizer | None = None,
        authentication_methods: AuthenticationMethods | None = None,
        durability: Durability | None = None,
        rules: Rules | None = None,
    ) -> None:
        self.policy = policy
        self.clock = Clock()
        self.traffic = Traffic()
        self.deadlines = Deadlines()
        # None: all is in memory only, and there are no queues
        journal = None if durability is None else Journal(durability, self.clock, self.deadlines)
        self.journal = journal
        self._rules = rules
        self.queue_clients = clients = self._queue_clients(rules, rng)
        self.router = Router(policy.max_topic_levels, policy.shared_strategy, rng, journal)
        self.retention = Retention(
            self.clock,
            policy.max_retained_messages,
            policy.max_retained_size,
            journal,
            policy.retained_window,
        )
        bounds = Bounds(
            policy.backlog_messages,
            policy.backlog_size,
            policy.backlog_policy,
            policy.backlog_window,
        )
        self.sessions = Sessions(
            self.clock,
            self.deadlines,
            self.router,
            self.traffic,
            bounds,
            policy.max_sessions,
            journal,
        )
        self.admission = Admission(self.clock, policy)
        self.publishing = Publishing(
            self.clock,
            policy,
            self.router,
            self.retention,
            self.traffic,
            authorizer,
            observe,
            journal,
            clients,
        )
        self.wills = Wills(self.clock, self.deadlines, self.publishing.publish_will, journal)
        self.sessions.on_end = self.wills.session_ended
        self._ending = Ending(policy, self.admission, self.sessions, self.wills, observe)
        self.deadlines.on_fault = self._ending.on_stray_fault
        self._rng = rng
        self._observe = observe
        self._subscribing = Subscribing(
            policy, self.router, self.retention, authorizer, observe, journal, clients
        )
        self._authenticating = Authenticating(
            authentication_methods or {},
            self._ending.on_violation,
            self._ending.on_failed_authentication,
        )
        self._connecting = Connecting(
            policy,
            self.sessions,
            self.wills,
            self.admission,
            authenticator,
            self._authenticating,
            self._new_client_id,
            self._ending.take_over,
            self._ending.on_violation,
            observe,
            journal,
        )
        if journal is not None:
            journal.questions.on_resumed = self._restart_replays
        self.tables = self._tables()
        runs = Runs(self.publishing, self.router, self.traffic, policy.maximum_qos)
        # an authorizer looks at every message: no run may pass it by
        self.runs = runs.table if authorizer is None else {}

    @property
    def queueing(self) -> Queueing | None:
        """The queues; None: there is no store, so there are none."""
        return None if self.queue_clients is None else self.queue_clients.queueing

    @property
    def queues(self) -> QueueDoors | None:
        """What doors to the queues ask; None: there are none."""
        if self.queueing is None or self.journal is None:
            return None
        level = max(Level.COMMIT, self.journal.highest)
        configured = self.policy.configured_queues
        return QueueDoors(self.queueing, self.journal, level, self.traffic, configured)

    # -- for the shells ---------------------------------------------------------------------------

    def open(self, origin: Origin, sink: Sink, now: float) -> Connection:
        """A link was made: begin a conversation."""
        self.clock.now = now
        policy = self.policy
        connection = Connection(
            origin,
            sink,
            self,
            self.clock,
            self.traffic,
            policy.maximum_packet_size,
            now + policy.connect_timeout,
            policy.outbox_limit,
            policy.stall_timeout,
        )
        self.deadlines.arm(connection)
        return connection

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.clock.now = now
        self.deadlines.tick(now)

    def next_deadline(self) -> float | None:
        """When `tick` should be called next."""
        return self.deadlines.next_deadline()

    def restore(self, opened: Mapping[str, Any], now: float) -> None:
        """Take over what the store has kept, before the first client comes."""
        assert self.journal is not None
        self.clock.now = now
        recovery = Recovery(
            self.clock,
            self.journal,
            self.sessions,
            self.router,
            self.retention,
            self.wills,
            self.queue_clients,
        )
        recovery.restore(opened)
        self._begin_forwarding()
        self._tell_of_bindings()

    def shut_down(self) -> None:
        """Say goodbye to every client."""
        self._ending.shut_down()
        if self.journal is not None:
            self.journal.flush()

    # -- for connections (Host) -------------------------------------------------------------------

    def on_violation(self, connection: Connection, violation: ProtocolViolation) -> None:
        """See Host."""
        self._ending.on_violation(connection, violation)

    def on_fault(self, connection: Connection, fault: Exception) -> None:
        """See Host."""
        self._ending.on_fault(connection, fault)

    def on_lost(self, connection: Connection) -> None:
        """See Host."""
        self._ending.on_lost(connection)

    def on_timeout(self, connection: Connection) -> None:
        """See Host."""
        self._ending.on_timeout(connection)

    def arm(self, connection: Connection) -> None:
        """See Host."""
        self.deadlines.arm(connection)

    # -- who handles what -------------------------------------------------------------------------

    def _queue_clients(self, rules: Rules | None, rng: Random) -> QueueClients | None:
        journal, policy = self.journal, self.policy
        if journal is None:
            return None
        journal.queues = Queueing(
            self.clock,
            journal,
            self.deadlines,
            rng,
            self.traffic,
            Bindings(rules),
            policy.max_queues,
            policy.broker_name,
        )
        return QueueClients(journal.queues, self.clock, self.traffic, policy.create_queues)

    def _tables(self) -> dict[State, tuple[Handler, ...]]:
        """The handler for every packet type in every state; what is not permitted is misplaced
        [MQTT-3.1.0-2].
        """
        connected: dict[int, Handler] = {
            PacketType.PUBLISH: self.publishing.on_publish,
            PacketType.PUBACK: self.publishing.on_puback,
            PacketType.PUBREC: self.publishing.on_pubrec,
            PacketType.PUBREL: self.publishing.on_pubrel,
            PacketType.PUBCOMP: self.publishing.on_pubcomp,
            PacketType.SUBSCRIBE: self._subscribing.on_subscribe,
            PacketType.UNSUBSCRIBE: self._subscribing.on_unsubscribe,
            PacketType.PINGREQ: _on_pingreq,
            PacketType.DISCONNECT: self._ending.on_disconnect,
            PacketType.AUTH: self._authenticating.on_auth,
        }
        handlers: dict[State, dict[int, Handler]] = {
            State.AWAITING_CONNECT: {PacketType.CONNECT: self._connecting.on_connect},
            State.DECIDING: dict.fromkeys(range(PACKET_TYPES), _on_packet_while_deciding),
            State.AUTHENTICATING: connected,
            State.CONNECTED: connected,
            State.CLOSED: dict.fromkeys(range(PACKET_TYPES), _on_packet_when_closed),
        }
        return {
            state: tuple(
                handlers[state][kind] if kind in permitted else _misplaced
                for kind in range(PACKET_TYPES)
            )
            for state, permitted in PERMITTED.items()
        }

    def _begin_forwarding(self) -> None:
        """Let the rules that move messages on out of a queue do so, as soon as it is there."""
        queueing, rules = self.queueing, self._rules
        if queueing is None or rules is None:
            return
        for name in rules.forwards:
            queue = queueing.get(name)
            if queue is not None:
                self._forward(queue)
        queueing.on_new = self._forward

    def _forward(self, queue: Queue) -> None:
        queueing, rules = self.queueing, self._rules
        forwards = None if rules is None else rules.for_queue(queue.name)
        if queueing is None or forwards is None:
            return
        publish, clock = self.publishing.publish, self.clock
        forwarder = Forwarder(queue, forwards, queueing, publish, clock, self.deadlines)
        queueing.join(queue, forwarder)

    def _tell_of_bindings(self) -> None:
        """Which ones the rules of today do not allow."""
        if self.queueing is not None:
            for queue, topic_filter, circle in self.queueing.cut:
                self._observe(BindingRefused(None, queue, topic_filter, circle))

    def _restart_replays(self, session: Session) -> None:
        """Retained messages that a new subscription had not got before a restart."""
        for subscription in (session.subscriptions or {}).values():
            if subscription.replaying:
                session.replay(self.retention.replay(subscription))

    def _new_client_id(self) -> str:
        while True:
            client_id = f"auto-{self._rng.getrandbits(64):016x}"
            if self.sessions.get(client_id) is None:
                return client_id


def _on_pingreq(connection: Connection, first: int, data: bytes, start: int, end: int) -> None:
    decode(first, data, start, end, connection.version)
    connection.send(PINGRESP)  # [MQTT-3.12.4-1]


def _on_packet_while_deciding(
    connection: Connection, first: int, data: bytes, start: int, end: int
) -> None:
    connection.hold(first, data, start, end)


def _on_packet_when_closed(
    _connection: Connection, _first: int, _data: bytes, _start: int, _end: int
) -> None:
    """Nothing is read after the end."""


def _misplaced(connection: Connection, first: int, data: bytes, start: int, end: int) -> None:
    """A packet in the wrong state; if it is malformed, too, that is what is said."""
    decode(first, data, start, end, connection.version)
    raise misuse("MQTT-3.1.0-2", f"packet type {first >> 4} while {connection.state.value}")
