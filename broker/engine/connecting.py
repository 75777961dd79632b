"""CONNECT to CONNACK: checks, authentication, take-over, the session, and what was agreed (sections
3.1, 3.2, 4.12).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.connection.aliases import InboundAliases, OutboundAliases
from broker.connection.states import State
from broker.engine.notices import ClientConnected, ConnectRefused
from broker.engine.ports import Attempt, Verdict
from broker.engine.publishing import is_text
from broker.engine.router import is_reserved
from broker.packets.codes import (
    CONNACK_RETURN_CODE,
    MQTT_3_1,
    MQTT_5,
    REASONS,
    PacketType,
    ReasonCode,
)
from broker.packets.decode import connect_version, decode
from broker.packets.errors import ProtocolViolation
from broker.packets.properties import Properties, Property
from broker.packets.reader import LARGEST_PACKET
from broker.packets.types import Connack, Connect
from broker.topics.filters import check_topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.connection.connection import Connection
    from broker.engine.admission import Admission
    from broker.engine.authenticating import Authenticating
    from broker.engine.journal import Journal
    from broker.engine.notices import Observer
    from broker.engine.policy import Policy
    from broker.engine.ports import Authenticator
    from broker.engine.sessions import Sessions
    from broker.engine.wills import Wills
    from broker.packets.types import Will
    from broker.session.session import Session

RECEIVE_MAXIMUM = 65_535  # what an absent Receive Maximum means


class Connecting:
    """Decides about every CONNECT and sets the connection up."""

    __slots__ = (
        "_admission",
        "_authenticating",
        "_authenticator",
        "_ids",
        "_journal",
        "_observe",
        "_policy",
        "_reject",
        "_sessions",
        "_take_over",
        "_wills",
    )

    def __init__(
        self,
        policy: Policy,
        sessions: Sessions,
        wills: Wills,
        admission: Admission,
        authenticator: Authenticator,
        authenticating: Authenticating,
        new_id: Callable[[], str],
        take_over: Callable[[str], None],
        reject: Callable[[Connection, ProtocolViolation], None],
        observe: Observer,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal
        self._policy = policy
        self._sessions = sessions
        self._wills = wills
        self._admission = admission
        self._authenticator = authenticator
        self._authenticating = authenticating
        self._ids = new_id
        self._take_over = take_over
        self._reject = reject
        self._observe = observe

    # -- the packet -------------------------------------------------------------------------------

    def on_connect(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """The first packet of a client."""
        connection.version = connect_version(data, start, end) or connection.version
        try:
            packet = decode(first, data, start, end, connection.version)
        except ProtocolViolation as violation:
            self._refuse_malformed(connection, violation)
            return
        assert isinstance(packet, Connect)
        self._note(connection, packet)
        fault = self._fault(connection, packet)
        if fault is not None:
            self.refuse(connection, fault)
        else:
            self._authenticate(connection, packet)

    def refuse(self, connection: Connection, verdict: Verdict) -> None:
        """Say no and close [MQTT-3.2.2-7]; a broker that knows another one sends clients there when
        it is full (section 4.11).
        """
        reason = verdict.reason
        if connection.version == MQTT_5:
            properties: Properties = {}
            reference = self._policy.server_reference
            if reference and reason in _FULL:
                reason = ReasonCode.USE_ANOTHER_SERVER
            if reference and reason in _REDIRECTIONS:
                properties[Property.SERVER_REFERENCE] = reference
            connection.send_packet(Connack(False, _told(reason), properties))  # [MQTT-3.2.2-6]
        elif reason in CONNACK_RETURN_CODE:  # [3.1.1:MQTT-3.2.2-6]
            connection.send_packet(Connack(False, CONNACK_RETURN_CODE[reason]))
        connection.close()
        self._observe(
            ConnectRefused(
                connection.client_id, connection.username, connection.origin, reason, verdict.why
            )
        )

    # -- the steps --------------------------------------------------------------------------------

    def _refuse_malformed(self, connection: Connection, violation: ProtocolViolation) -> None:
        """MQTT 5 and an unknown version get a CONNACK; MQTT 3.1.1 is closed without one, as it
        asks.
        """
        verdict = Verdict(violation.reason, why=str(violation))
        known = violation.reason is not ReasonCode.UNSUPPORTED_PROTOCOL_VERSION
        if known and connection.version != MQTT_5:
            connection.close()
            origin = connection.origin
            self._observe(ConnectRefused("", None, origin, violation.reason, verdict.why))
            return
        self.refuse(connection, verdict)

    def _note(self, connection: Connection, packet: Connect) -> None:
        """Keep what the packet says about the connection itself."""
        properties = packet.properties
        connection.client_id = packet.client_id
        connection.username = packet.username
        connection.keep_alive = packet.keep_alive
        connection.will = packet.will
        connection.maximum_packet_size = properties.get(
            Property.MAXIMUM_PACKET_SIZE, LARGEST_PACKET
        )
        connection.problem_information = bool(
            properties.get(Property.REQUEST_PROBLEM_INFORMATION, 1)
        )

    def _fault(self, connection: Connection, packet: Connect) -> Verdict | None:
        """What is wrong with a well-formed CONNECT, apart from who sends it."""
        if not packet.client_id and not _may_be_nameless(packet):
            return Verdict(
                ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
                why="an empty client id needs clean session 1, and MQTT 3.1.1",
            )
        if self._journal is not None and not self._journal.fits(packet.client_id):
            why = f"a client id of more than {self._journal.longest_name} bytes cannot be stored"
            return Verdict(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, why=why)
        if packet.will is not None:
            fault = self._will_fault(packet.will)
            if fault is not None:
                return fault
        return self._no_room(connection) or self._admission.too_fast(connection)

    def _will_fault(self, will: Will) -> Verdict | None:
        """What is wrong with a Will: it must be good now, for later there is nobody to be told."""
        policy = self._policy
        if will.qos > policy.maximum_qos:  # [MQTT-3.2.2-12]
            return Verdict(ReasonCode.QOS_NOT_SUPPORTED, why=f"Will QoS {will.qos}")
        if will.retain and not policy.retain_available:
            return Verdict(ReasonCode.RETAIN_NOT_SUPPORTED, why="Will Retain")  # [MQTT-3.2.2-13]
        if is_reserved(will.topic):
            return Verdict(ReasonCode.NOT_AUTHORIZED, why="a Will on a topic of the broker itself")
        try:
            check_topic(will.topic, policy.max_topic_levels)
        except ProtocolViolation as violation:
            return Verdict(violation.reason, why=f"Will Topic: {violation}")
        if will.properties.get(Property.PAYLOAD_FORMAT_INDICATOR) and not is_text(will.payload):
            return Verdict(ReasonCode.PAYLOAD_FORMAT_INVALID, why="the Will is not UTF-8")
        return None

    def _no_room(self, connection: Connection) -> Verdict | None:
        """Whether one more session or connection would be too many."""
        is_known = self._sessions.get(connection.client_id) is not None
        if self._sessions.is_full and not is_known:
            return Verdict(
                ReasonCode.QUOTA_EXCEEDED, why="as many sessions as limits.max_sessions allows"
            )
        return self._admission.no_room(connection)

    def _authenticate(self, connection: Connection, packet: Connect) -> None:
        attempt = Attempt(
            packet.client_id,
            packet.username,
            packet.password,
            connection.origin,
            packet.version,
        )

        def decide(verdict: Verdict, properties: Properties | None = None) -> None:
            if connection.state is not State.CLOSED:
                connection.attempt(
                    lambda: self._decide(connection, packet, verdict, properties or {})
                )

        connection.enter(State.DECIDING)
        if Property.AUTHENTICATION_METHOD in packet.properties:
            self._authenticating.begin(connection, attempt, packet.properties, decide)
        else:
            self._authenticator.authenticate(attempt, decide)

    def _decide(
        self, connection: Connection, packet: Connect, verdict: Verdict, extra: Properties
    ) -> None:
        if verdict.reason is ReasonCode.SUCCESS:
            if verdict.username is not None:
                connection.username = verdict.username
            # others may have come in meanwhile
            verdict = self._no_room(connection) or self._claimed(connection) or verdict
        if verdict.reason is not ReasonCode.SUCCESS:
            self.refuse(connection, verdict)
        elif not self._warms_up(connection, packet, verdict, extra):
            self._accept(connection, packet, extra)

    def _warms_up(
        self, connection: Connection, packet: Connect, verdict: Verdict, extra: Properties
    ) -> bool:
        """Whether the session was in flight before a restart: then that is read first, and decided
        anew, as others may have come in meanwhile.
        """
        session = self._sessions.get(connection.client_id)
        if session is None or session.record is None or not session.record.is_cold:
            return False
        if packet.clean_start:
            return False
        assert self._journal is not None

        def decide() -> None:
            if connection.state is not State.CLOSED:
                connection.attempt(lambda: self._decide(connection, packet, verdict, extra))

        self._journal.questions.resume(session, decide)
        return True

    def _claimed(self, connection: Connection) -> Verdict | None:
        """Whether the client id is another user's: nobody comes by somebody else's messages, or
        ends his session, by knowing its name.
        """
        session = self._sessions.get(connection.client_id)
        if session is None or session.username == connection.username:
            return None
        why = f"the client id has a session of user {session.username!r}; use another client id"
        return Verdict(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, why=why)

    def _accept(self, connection: Connection, packet: Connect, extra: Properties) -> None:
        if not connection.client_id:  # [MQTT-3.1.3-6]
            connection.client_id = self._ids()
        session, present = self._session(connection, packet)
        self._agree(connection, packet, session)
        self._sessions.make_durable(session)
        if session.record is not None and self._journal is not None:
            connection.hold_back = self._journal.hold_back
            session.record.touch(session)
        self._wills.remember(connection.client_id, connection.will, connection.username)
        connection.session = session
        session.carrier = connection
        self._admission.admit(connection)
        connack = self._connack(connection, packet, session, present, extra)
        is_sent = connection.send_packet(connack)
        self._observe(_connected(connection, present))
        if not is_sent:  # nothing may come before the CONNACK [MQTT-3.2.0-1]
            self._reject_small(connection)
            return
        session.resume()
        connection.enter(State.CONNECTED)  # what the client sent meanwhile is handled now

    def _reject_small(self, connection: Connection) -> None:
        connection.will = None
        fact = f"a client that takes {connection.maximum_packet_size} bytes cannot take the CONNACK"
        violation = ProtocolViolation(ReasonCode.PACKET_TOO_LARGE, "MQTT-3.1.2-24", fact)
        self._reject(connection, violation)

    # -- the session ------------------------------------------------------------------------------

    def _session(self, connection: Connection, packet: Connect) -> tuple[Session, bool]:
        """Take over, resume, begin: what Clean Start asks for [MQTT-3.1.4-3] [MQTT-3.1.4-4]."""
        client_id = connection.client_id
        present = self._sessions.get(client_id) is not None
        if present:
            if packet.clean_start:  # [MQTT-3.1.2-4]
                self._end_earlier(client_id)
                present = False
            else:
                self._take_over(client_id)
        session = self._sessions.get(client_id)
        if session is None:  # new, or it ended with the connection that was taken over
            return self._sessions.begin(client_id, connection.username), False
        self._sessions.wake(session)
        self._wills.cancel(client_id)  # [MQTT-3.1.3-9]
        return session, present

    def _end_earlier(self, client_id: str) -> None:
        self._take_over(client_id)
        session = self._sessions.get(client_id)
        if session is not None:
            self._sessions.end(session)

    def _agree(self, connection: Connection, packet: Connect, session: Session) -> None:
        """Settle the numbers that both sides go by."""
        policy = self._policy
        properties = packet.properties
        client_receives = properties.get(Property.RECEIVE_MAXIMUM, RECEIVE_MAXIMUM)
        session.window = min(client_receives, policy.max_inflight)  # [MQTT-4.9.0-1]
        session.expiry_interval = self._expiry_interval(packet)
        most = policy.maximum_keep_alive if packet.version == MQTT_5 else 0  # others cannot be told
        if most and not 0 < packet.keep_alive <= most:
            connection.keep_alive = most
        if packet.version == MQTT_5 and policy.topic_alias_maximum:
            connection.aliases_in = InboundAliases(policy.topic_alias_maximum)
        wanted = properties.get(Property.TOPIC_ALIAS_MAXIMUM, 0)
        if wanted and policy.topic_aliases_out:  # [MQTT-3.1.2-27]
            connection.aliases_out = OutboundAliases(min(wanted, policy.topic_alias_maximum or 64))

    def _expiry_interval(self, packet: Connect) -> int:
        policy = self._policy
        if packet.version == MQTT_5:
            wanted: int = packet.properties.get(Property.SESSION_EXPIRY_INTERVAL, 0)
            return min(wanted, policy.max_session_expiry)
        return 0 if packet.clean_start else policy.session_expiry_3_1_1

    # -- the answer -------------------------------------------------------------------------------

    def _connack(
        self,
        connection: Connection,
        packet: Connect,
        session: Session,
        present: bool,
        extra: Properties,
    ) -> Connack:
        if packet.version != MQTT_5:
            return Connack(present and packet.version != MQTT_3_1, 0)  # MQTT 3.1 has no such flag
        properties = self._announcements()
        properties.update(extra)
        if not packet.client_id:  # [MQTT-3.1.3-7] [MQTT-3.2.2-16]
            properties[Property.ASSIGNED_CLIENT_IDENTIFIER] = connection.client_id
        if connection.keep_alive != packet.keep_alive:  # [MQTT-3.1.2-21]
            properties[Property.SERVER_KEEP_ALIVE] = connection.keep_alive
        if session.expiry_interval != packet.properties.get(Property.SESSION_EXPIRY_INTERVAL, 0):
            properties[Property.SESSION_EXPIRY_INTERVAL] = session.expiry_interval
        if packet.properties.get(Property.REQUEST_RESPONSE_INFORMATION):  # [MQTT-3.1.2-28]
            self._add_response_information(connection, properties)
        return Connack(present, ReasonCode.SUCCESS, properties)

    def _announcements(self) -> Properties:
        """What this broker offers, where it differs from what an absent property means (section
        3.2.2.3).
        """
        policy = self._policy
        properties: Properties = {
            Property.RECEIVE_MAXIMUM: policy.receive_maximum,
            Property.MAXIMUM_PACKET_SIZE: policy.maximum_packet_size,
        }
        if policy.topic_alias_maximum:
            properties[Property.TOPIC_ALIAS_MAXIMUM] = policy.topic_alias_maximum
        if policy.maximum_qos < 2:  # [MQTT-3.2.2-9]
            properties[Property.MAXIMUM_QOS] = policy.maximum_qos
        if not policy.retain_available:
            properties[Property.RETAIN_AVAILABLE] = 0
        return properties

    def _add_response_information(self, connection: Connection, properties: Properties) -> None:
        template = self._policy.response_information
        if template:
            filled = template.replace("{client_id}", connection.client_id)
            properties[Property.RESPONSE_INFORMATION] = filled


_FULL = (ReasonCode.QUOTA_EXCEEDED, ReasonCode.SERVER_BUSY)
_REDIRECTIONS = (ReasonCode.USE_ANOTHER_SERVER, ReasonCode.SERVER_MOVED)


def _told(reason: ReasonCode) -> ReasonCode:
    """The reason, if a CONNACK may carry it [MQTT-3.2.2-8], else the general one."""
    return reason if reason in REASONS[PacketType.CONNACK] else ReasonCode.UNSPECIFIED_ERROR


def _may_be_nameless(packet: Connect) -> bool:
    """MQTT 3.1 always wants a client id, 3.1.1 unless the session is clean [3.1.1:MQTT-3.1.3-8]."""
    return packet.version == MQTT_5 or (packet.clean_start and packet.version != MQTT_3_1)


def _connected(connection: Connection, present: bool) -> ClientConnected:
    return ClientConnected(
        connection.client_id,
        connection.username,
        connection.origin,
        connection.version,
        present,
        connection.keep_alive,
    )
