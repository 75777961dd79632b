"""PUBLISH and its acknowledgements, in both directions (sections 3.3 to 3.7, 4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.engine.notices import AccessDenied
from broker.engine.ports import Client
from broker.engine.queue_clients import is_control_topic, is_queue_topic
from broker.engine.router import is_reserved
from broker.packets.codes import MQTT_5, ReasonCode
from broker.packets.decode import decode, decode_publish
from broker.packets.errors import ProtocolViolation, misuse
from broker.packets.properties import Properties, Property
from broker.packets.publication import Publication, travelling_properties
from broker.packets.reader import packet_start
from broker.packets.types import Puback, Pubcomp, Publish, Pubrec, Pubrel
from broker.session.inflight import LAST_PACKET_ID, Step

if TYPE_CHECKING:
    from broker.clock import Clock
    from broker.connection.connection import Connection
    from broker.connection.ports import Traffic
    from broker.engine.journal import Journal
    from broker.engine.notices import Observer
    from broker.engine.policy import Policy
    from broker.engine.ports import Authorizer
    from broker.engine.queue_clients import QueueClients
    from broker.engine.retention import Retention
    from broker.engine.router import Router
    from broker.packets.types import Will

REFUSED = 0x80  # reason codes from here on are failures
PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70  # the first byte of the acknowledgements
PUBACK_2, PUBREC_2 = b"\x40\x02", b"\x50\x02"  # their fixed header when nothing but an id follows
PUBCOMP_2 = b"\x70\x02"
SHORT = 2  # the length of an acknowledgement that has a packet id and no reason: success
NO_PROPERTIES: Properties = {}


class Publishing:
    """What the broker does with messages: takes them in, retains them, passes them on."""

    __slots__ = (
        "_authorizer",
        "_clock",
        "_journal",
        "_observe",
        "_policy",
        "_queues",
        "_retention",
        "_router",
        "_traffic",
    )

    def __init__(
        self,
        clock: Clock,
        policy: Policy,
        router: Router,
        retention: Retention,
        traffic: Traffic,
        authorizer: Authorizer | None,
        observe: Observer,
        journal: Journal | None = None,
        queues: QueueClients | None = None,
    ) -> None:
        self._journal = journal
        self._queues = queues
        self._clock = clock
        self._policy = policy
        self._router = router
        self._retention = retention
        self._traffic = traffic
        self._authorizer = authorizer
        self._observe = observe

    # -- messages from clients --------------------------------------------------------------------

    def on_publish(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """A client's PUBLISH, whatever it brings. (Runs of plain ones are handled in `runs`.)"""
        packet = decode_publish(first, data, start, end, connection.version)
        self._traffic.publish_received += 1
        self._traffic.publish_bytes_received += end - packet_start(start, end)
        if packet.properties:
            self._check_properties(connection, packet)
        self._check_offered(packet)
        session = connection.session
        assert session is not None
        qos, packet_id = packet.qos, packet.packet_id
        if qos == 2 and not self.is_new(connection, packet_id):
            self.acknowledge(connection, qos, packet_id, ReasonCode.SUCCESS)
            return
        reason = self._take(connection, packet)
        if reason >= REFUSED and qos == 2 and connection.version == MQTT_5:
            session.release(packet_id)  # [MQTT-4.3.3-9]
            if self._journal is not None:
                self._journal.demanded = 0  # nothing was taken, so there is nothing to wait for
        if qos:
            self.acknowledge(connection, qos, packet_id, reason)

    def on_puback(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """The client owns a QoS 1 message, or refuses it."""
        session = connection.session
        assert session is not None
        reason, properties = 0, NO_PROPERTIES
        if end - start == SHORT and first == PUBACK and data[start] | data[start + 1]:
            packet_id = data[start] << 8 | data[start + 1]
        else:
            packet = _decoded(connection, first, data, start, end)
            packet_id, reason, properties = packet.packet_id, packet.reason, packet.properties
        if session.on_puback(packet_id) is Step.MISMATCH:
            raise misuse("4.3.3", "PUBACK for a QoS 2 message")
        if session.lending is not None:
            session.lending.on_answer(packet_id, reason, properties)

    def on_pubrec(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """The client owns a QoS 2 message, or refuses it."""
        session = connection.session
        assert session is not None
        reason, properties = 0, NO_PROPERTIES
        if end - start == SHORT and first == PUBREC and data[start] | data[start + 1]:
            packet_id = data[start] << 8 | data[start + 1]
        else:
            packet = _decoded(connection, first, data, start, end)
            packet_id, reason, properties = packet.packet_id, packet.reason, packet.properties
        step = session.on_pubrec(packet_id, reason >= REFUSED)
        if session.lending is not None:  # what the queue is told is committed with the PUBREL
            session.lending.on_answer(packet_id, reason, properties)
        if step is Step.RELEASE:
            connection.send_pubrel(packet_id)
        elif step is Step.MISMATCH:
            raise misuse("4.3.2", "PUBREC for a QoS 1 message")
        elif step is Step.UNKNOWN and reason < REFUSED:
            connection.send_packet(Pubrel(packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND))

    def on_pubrel(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """The client releases the packet id of a QoS 2 message it sent [MQTT-4.3.3-11]."""
        session = connection.session
        assert session is not None
        if end - start == SHORT and first == PUBREL and data[start] | data[start + 1]:
            packet_id = data[start] << 8 | data[start + 1]
        else:
            packet_id = _decoded(connection, first, data, start, end).packet_id
        if session.release(packet_id):
            connection.send_when_stored([PUBCOMP_2 + packet_id.to_bytes(2, "big")])
        else:
            # the release before this one may not be committed yet
            unknown = Pubcomp(packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
            connection.send_when_stored([connection.encoded(unknown)])

    def on_pubcomp(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """A QoS 2 message is done."""
        session = connection.session
        assert session is not None
        if end - start == SHORT and first == PUBCOMP and data[start] | data[start + 1]:
            packet_id = data[start] << 8 | data[start + 1]
        else:
            packet_id = _decoded(connection, first, data, start, end).packet_id
        if session.on_pubcomp(packet_id) is Step.MISMATCH:
            raise misuse("4.3.3", "PUBCOMP for a message that was not released")
        if session.lending is not None:
            session.lending.pump()

    def is_new(self, connection: Connection, packet_id: int) -> bool:
        """Whether a QoS 2 message comes for the first time [MQTT-4.3.3-10]."""
        session = connection.session
        assert session is not None
        is_new = session.receive_once(packet_id)
        over = session.unreleased > self._policy.receive_maximum
        if is_new and over and connection.version == MQTT_5:
            session.release(packet_id)  # it was not taken, so its repetition is no repetition
            raise ProtocolViolation(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, "MQTT-3.3.4-7")
        if self._journal is not None:
            self._journal.demand_received(session)
        return is_new

    @property
    def is_choosy(self) -> bool:
        """Whether each QoS 1 and 2 message must be looked at by itself: some cannot be kept."""
        journal = self._journal
        if journal is not None and (journal.refuses or journal.queues_are_choosy):
            return True
        return self._policy.backlog_policy == "reject"

    def quota(self, connection: Connection) -> int:
        """How many new QoS 2 messages the client may send now [MQTT-3.3.4-7]."""
        session = connection.session
        assert session is not None
        if connection.version != MQTT_5:
            return LAST_PACKET_ID
        return max(0, self._policy.receive_maximum - session.unreleased)

    def acknowledge(
        self, connection: Connection, qos: int, packet_id: int, reason: ReasonCode
    ) -> None:
        """Answer as the QoS demands [MQTT-3.3.4-1]. MQTT 3.1.1 has no way to say no: it is told
        yes.
        """
        if reason is ReasonCode.SUCCESS or connection.version != MQTT_5:
            kind = PUBACK_2 if qos == 1 else PUBREC_2
            frame = kind + packet_id.to_bytes(2, "big")
        else:
            packet = Puback(packet_id, reason) if qos == 1 else Pubrec(packet_id, reason)
            frame = connection.encoded(packet)
        self.answer(connection, [frame])

    def answer(self, connection: Connection, frames: list[bytes]) -> None:
        """Send acknowledgements, as soon as what they say is true."""
        if self._journal is None:
            connection.send_all(frames)
        else:
            self._journal.answer(connection, frames)

    # -- messages from elsewhere ------------------------------------------------------------------

    def publish(self, publication: Publication) -> ReasonCode:
        """Retain a message if it says so and there is room, and pass it on to everyone who wants
        it; return SUCCESS or NO_MATCHING_SUBSCRIBERS.
        """
        if is_queue_topic(publication.topic):
            return self._publish_to_queue(publication)
        route = self._router.route(publication.topic)  # a bad name must not be retained either
        if publication.retain and not self._retention.store(publication):
            self._traffic.lose("retained_full")
        if self._router.spread(publication, route):
            return ReasonCode.SUCCESS
        return ReasonCode.NO_MATCHING_SUBSCRIBERS

    def publish_will(self, will: Will, client_id: str, username: str | None) -> None:
        """A client's last message; the client must be allowed to publish it."""
        client = Client(client_id, username, "")
        if self._authorizer is not None and not self._authorizer.may_publish(client, will.topic):
            self._observe(AccessDenied(client_id, username, "leave a will on", will.topic))
            self._traffic.lose("not_authorized")
            return
        self.publish(
            Publication(
                will.topic,
                will.payload,
                will.qos,
                will.retain,  # [MQTT-3.1.2-14] [MQTT-3.1.2-15]
                travelling_properties(will.properties),
                self._expiry(will.properties.get(Property.MESSAGE_EXPIRY_INTERVAL)),
                client_id,
            )
        )

    # -- helpers ----------------------------------------------------------------------------------

    def _publish_to_queue(self, publication: Publication) -> ReasonCode:
        if self._queues is None:
            return ReasonCode.TOPIC_NAME_INVALID
        return self._queues.publish(publication)

    def _check_properties(self, connection: Connection, packet: Publish) -> None:
        if Property.SUBSCRIPTION_IDENTIFIER in packet.properties:  # [MQTT-3.3.4-6]
            raise misuse("MQTT-3.3.4-6", "a subscription identifier from a client")
        alias = packet.properties.get(Property.TOPIC_ALIAS)
        if alias is None:
            return
        if connection.aliases_in is None:
            raise ProtocolViolation(
                ReasonCode.TOPIC_ALIAS_INVALID, "MQTT-3.3.2-9", f"topic alias {alias}, none allowed"
            )
        packet.topic = connection.aliases_in.resolve(alias, packet.topic)

    def _check_offered(self, packet: Publish) -> None:
        policy = self._policy
        if packet.qos > policy.maximum_qos:  # [MQTT-3.2.2-11]
            raise ProtocolViolation(ReasonCode.QOS_NOT_SUPPORTED, "MQTT-3.2.2-11", packet.qos)
        if packet.retain and not policy.retain_available:  # [MQTT-3.2.2-14]
            raise ProtocolViolation(ReasonCode.RETAIN_NOT_SUPPORTED, "MQTT-3.2.2-14")

    def _take(self, connection: Connection, packet: Publish) -> ReasonCode:
        refusal = self._refusal(connection, packet)
        if refusal is not None:
            self._traffic.lose(refusal.name.lower())
            return refusal
        properties = packet.properties
        publication = Publication(
            packet.topic,
            packet.payload,
            packet.qos,
            packet.retain,
            travelling_properties(properties) if properties else b"",
            self._expiry(properties.get(Property.MESSAGE_EXPIRY_INTERVAL)) if properties else None,
            connection.client_id,
        )
        if is_queue_topic(packet.topic):
            return self._take_for_queue(connection, publication)
        refusal = self._unstorable(connection, publication)
        if refusal is not None:
            self._traffic.lose(refusal.name.lower())
            return refusal
        is_told = packet.qos and connection.version == MQTT_5
        if packet.retain and is_told and not self._retention.has_room(publication):
            self._traffic.lose("retained_full")
            return ReasonCode.QUOTA_EXCEEDED
        return self.publish(publication)

    def _take_for_queue(self, connection: Connection, publication: Publication) -> ReasonCode:
        session = connection.session
        if self._queues is None or session is None:
            self._traffic.lose("queue_unknown")
            return ReasonCode.TOPIC_NAME_INVALID
        if self._journal is not None and self._journal.refuses:
            self._traffic.lose("quota_exceeded")
            return ReasonCode.QUOTA_EXCEEDED
        return self._queues.on_publish(session, publication)

    def _refusal(self, connection: Connection, packet: Publish) -> ReasonCode | None:
        topic = packet.topic
        if is_reserved(topic):
            return ReasonCode.NOT_AUTHORIZED
        if self._authorizer is not None and not is_control_topic(topic):
            client = Client(connection.client_id, connection.username, connection.origin.address)
            if not self._authorizer.may_publish(client, topic):
                self._observe(
                    AccessDenied(connection.client_id, connection.username, "publish to", topic)
                )
                return ReasonCode.NOT_AUTHORIZED
        if packet.properties.get(Property.PAYLOAD_FORMAT_INDICATOR) and not is_text(packet.payload):
            return ReasonCode.PAYLOAD_FORMAT_INVALID
        return None

    def _unstorable(self, connection: Connection, publication: Publication) -> ReasonCode | None:
        """Why a message that would have to be kept cannot be, for a publisher that can be told."""
        if not publication.qos or connection.version != MQTT_5:
            return None
        route = self._router.route(publication.topic)
        if self._journal is not None and self._journal.refuses:
            is_kept = route.audience is not None or route.rules is not None
            if is_kept or route.groups or publication.retain:
                return ReasonCode.QUOTA_EXCEEDED
        if self._policy.backlog_policy == "reject" and self._router.is_anyone_full(route):
            return ReasonCode.QUOTA_EXCEEDED
        if route.rules is not None and self._queues is not None:
            return self._queues.queueing.intake.refusal(publication, route.rules)
        return None

    def _expiry(self, interval: int | None) -> float | None:
        return None if interval is None else self._clock.now + interval


def _decoded(
    connection: Connection, first: int, data: bytes, start: int, end: int
) -> Puback | Pubrec | Pubrel | Pubcomp:
    packet = decode(first, data, start, end, connection.version)
    assert isinstance(packet, Puback | Pubrec | Pubrel | Pubcomp)
    return packet


def is_text(payload: bytes) -> bool:
    """Whether a payload is the UTF-8 text that Payload Format Indicator 1 promises."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
