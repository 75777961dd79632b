"""PUBLISH and its acknowledgements, in both directions (sections 3.3 to 3.7, 4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.engine.notices import AccessDenied
from broker.engine.ports import Client
from broker.packets.codes import MQTT_5, ReasonCode
from broker.packets.decode import decode, decode_publish
from broker.packets.errors import ProtocolViolation, misuse
from broker.packets.properties import Property
from broker.packets.publication import Publication, travelling_properties
from broker.packets.types import Puback, Pubcomp, Publish, Pubrec, Pubrel
from broker.session.inflight import Step

if TYPE_CHECKING:
    from broker.clock import Clock
    from broker.connection.connection import Connection
    from broker.connection.ports import Traffic
    from broker.engine.notices import Observer
    from broker.engine.policy import Policy
    from broker.engine.ports import Authorizer
    from broker.engine.retention import Retention
    from broker.engine.router import Router
    from broker.packets.types import Will
    from broker.session.session import Session

REFUSED = 0x80  # reason codes from here on are failures


class Publishing:
    """What the broker does with messages: takes them in, retains them, passes them on."""

    __slots__ = (
        "_authorizer",
        "_clock",
        "_observe",
        "_policy",
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
    ) -> None:
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
        """A client's PUBLISH."""
        packet = decode_publish(first, data, start, end, connection.version)
        self._traffic.publish_received += 1
        self._traffic.publish_bytes_received += len(packet.payload)
        if packet.properties:
            self._resolve_alias(connection, packet)
        self._check_offered(connection, packet)
        session = connection.session
        assert session is not None
        if packet.qos == 2 and not self._is_new(connection, packet.packet_id, session):
            self._acknowledge(connection, packet, ReasonCode.SUCCESS)
            return
        reason = self._take(connection, packet, session)
        if reason >= REFUSED and packet.qos == 2 and connection.version == MQTT_5:
            session.release(packet.packet_id)  # [MQTT-4.3.3-9]
        if packet.qos:
            self._acknowledge(connection, packet, reason)

    def on_puback(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """The client owns a QoS 1 message, or refuses it."""
        if end - start == 2 and first == 0x40:
            packet_id = data[start] << 8 | data[start + 1]
        else:
            packet_id = _decoded(connection, first, data, start, end).packet_id
        session = connection.session
        assert session is not None
        if session.on_puback(packet_id) is Step.MISMATCH:
            raise misuse("4.3.3", "PUBACK for a QoS 2 message")

    def on_pubrec(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """The client owns a QoS 2 message, or refuses it."""
        packet = _decoded(connection, first, data, start, end)
        session = connection.session
        assert session is not None
        step = session.on_pubrec(packet.packet_id, packet.reason >= REFUSED)
        if step is Step.MISMATCH:
            raise misuse("4.3.2", "PUBREC for a QoS 1 message")
        if step is Step.RELEASE:
            connection.send_pubrel(packet.packet_id)
        elif step is Step.UNKNOWN and packet.reason < REFUSED:
            not_found = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
            connection.send_packet(Pubrel(packet.packet_id, not_found))

    def on_pubrel(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """The client releases the packet id of a QoS 2 message it sent [MQTT-4.3.3-11]."""
        packet = _decoded(connection, first, data, start, end)
        session = connection.session
        assert session is not None
        if session.release(packet.packet_id):
            connection.send(b"\x70\x02" + packet.packet_id.to_bytes(2, "big"))
        else:
            not_found = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
            connection.send_packet(Pubcomp(packet.packet_id, not_found))

    def on_pubcomp(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """A QoS 2 message is done."""
        packet = _decoded(connection, first, data, start, end)
        session = connection.session
        assert session is not None
        if session.on_pubcomp(packet.packet_id) is Step.MISMATCH:
            raise misuse("4.3.3", "PUBCOMP for a message that was not released")

    # -- messages from elsewhere ------------------------------------------------------------------

    def publish(self, publication: Publication, publisher: Session | None = None) -> ReasonCode:
        """Retain a message if it says so, and pass it on to everyone who wants it.

        Returns SUCCESS, NO_MATCHING_SUBSCRIBERS, or QUOTA_EXCEEDED when there is no room to retain
        it.
        """
        if publication.retain and not self._retention.store(publication):
            self._traffic.lose("retained_full")
            return ReasonCode.QUOTA_EXCEEDED
        if self._router.deliver(publication, publisher):
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

    def _resolve_alias(self, connection: Connection, packet: Publish) -> None:
        alias = packet.properties.get(Property.TOPIC_ALIAS)
        if alias is None:
            return
        if connection.aliases_in is None:
            raise ProtocolViolation(
                ReasonCode.TOPIC_ALIAS_INVALID, "MQTT-3.3.2-9", f"topic alias {alias}, none allowed"
            )
        packet.topic = connection.aliases_in.resolve(alias, packet.topic)

    def _check_offered(self, connection: Connection, packet: Publish) -> None:
        policy = self._policy
        if packet.qos > policy.maximum_qos:  # [MQTT-3.2.2-11]
            raise ProtocolViolation(ReasonCode.QOS_NOT_SUPPORTED, "MQTT-3.2.2-11", packet.qos)
        if packet.retain and not policy.retain_available:  # [MQTT-3.2.2-14]
            raise ProtocolViolation(ReasonCode.RETAIN_NOT_SUPPORTED, "MQTT-3.2.2-14")

    def _is_new(self, connection: Connection, packet_id: int, session: Session) -> bool:
        """Whether a QoS 2 message comes for the first time [MQTT-4.3.3-10]."""
        is_new = session.receive_once(packet_id)
        if connection.version == MQTT_5 and session.unreleased > self._policy.receive_maximum:
            raise ProtocolViolation(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, "MQTT-3.3.4-7")
        return is_new

    def _take(self, connection: Connection, packet: Publish, session: Session) -> ReasonCode:
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
        return self.publish(publication, session)

    def _refusal(self, connection: Connection, packet: Publish) -> ReasonCode | None:
        topic = packet.topic
        if topic[0] == "$" and topic.startswith("$SYS/"):  # section 4.7.2: the broker's own
            return ReasonCode.NOT_AUTHORIZED
        if self._authorizer is not None:
            client = Client(connection.client_id, connection.username, connection.origin.address)
            if not self._authorizer.may_publish(client, topic):
                self._observe(
                    AccessDenied(connection.client_id, connection.username, "publish to", topic)
                )
                return ReasonCode.NOT_AUTHORIZED
        if packet.properties.get(Property.PAYLOAD_FORMAT_INDICATOR) and not _is_text(
            packet.payload
        ):
            return ReasonCode.PAYLOAD_FORMAT_INVALID
        return None

    def _expiry(self, interval: int | None) -> float | None:
        return None if interval is None else self._clock.now + interval

    def _acknowledge(self, connection: Connection, packet: Publish, reason: ReasonCode) -> None:
        """Answer as the QoS demands [MQTT-3.3.4-1]. MQTT 3.1.1 has no way to say no, so it is told
        yes.
        """
        packet_id = packet.packet_id
        if reason is ReasonCode.SUCCESS or connection.version != MQTT_5:
            kind = b"\x40\x02" if packet.qos == 1 else b"\x50\x02"
            connection.send(kind + packet_id.to_bytes(2, "big"))
        elif packet.qos == 1:
            connection.send_packet(Puback(packet_id, reason))
        else:
            connection.send_packet(Pubrec(packet_id, reason))


def _decoded(
    connection: Connection, first: int, data: bytes, start: int, end: int
) -> Puback | Pubrec | Pubrel | Pubcomp:
    packet = decode(first, data, start, end, connection.version)
    assert isinstance(packet, Puback | Pubrec | Pubrel | Pubcomp)
    return packet


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
