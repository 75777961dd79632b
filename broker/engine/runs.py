"""The hot path: runs of plain PUBLISH and PUBACK packets in one read, handled together.

A busy client's read brings dozens of packets of one kind. What is the same for all of them is
looked up once, and what must be done for each is done with few calls. What is in any way special
(DUP, RETAIN, properties, a topic met for the first time) goes to Publishing, which knows all there
is to know. Nothing here is needed to be correct: without this file every packet takes the long way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.packets.codes import MQTT_5, ReasonCode
from broker.packets.encode import encode
from broker.packets.errors import misuse
from broker.packets.publication import Publication
from broker.packets.reader import LONG, packet_start
from broker.packets.types import Puback, Pubrec
from broker.session.inflight import Step

if TYPE_CHECKING:
    from broker.connection.connection import Connection
    from broker.connection.ports import Packets, RunHandler, Traffic
    from broker.engine.publishing import Publishing
    from broker.engine.router import Router

QOS_0, QOS_1, QOS_2 = 0x30, 0x32, 0x34  # the first byte of a PUBLISH without DUP and RETAIN
PUBACK = 0x40
SUCCESS = {QOS_1: b"\x40\x02", QOS_2: b"\x50\x02"}  # the answer's header; the packet id follows
SHORT = 2  # the length of an acknowledgement that has a packet id and no reason
NO_ID = b"\0\0"
LONGEST_RUN = 64  # packets; a slice of all that are left, for each of them, would be quadratic
SHORTEST = 3  # a topic of one character

from_frame = Publication.from_frame


class Runs:
    """Handlers for runs, by the first byte that their packets share: `table`."""

    __slots__ = ("_publishing", "_router", "_traffic", "table")

    def __init__(
        self, publishing: Publishing, router: Router, traffic: Traffic, highest_qos: int
    ) -> None:
        self._publishing = publishing
        self._router = router
        self._traffic = traffic
        plain = (QOS_0, QOS_1, QOS_2)[: highest_qos + 1]
        self.table: dict[int, RunHandler] = dict.fromkeys(plain, self.on_publishes)
        self.table[PUBACK] = self.on_pubacks

    def on_publishes(  # noqa: C901, PLR0915  one loop: a call for every message is 3 % of the load
        self, connection: Connection, data: bytes, packets: Packets, at: int
    ) -> int:
        """Handle `packets[at]` and the plain ones like it that follow; return where they end."""
        first = packets[at][0]
        header = SUCCESS.get(first)  # None for QoS 0, which is not acknowledged
        is_5 = connection.version == MQTT_5
        session, client_id = connection.session, connection.client_id
        known, spread = self._router.known, self._router.spread
        is_new = self._publishing.is_new
        count = size = 0
        replies: list[bytes] = []
        try:
            for kind, start, end in packets[at : at + LONGEST_RUN]:
                if kind != first or end - start < SHORTEST:
                    break
                body = start + 2 + (data[start] << 8 | data[start + 1])
                route = known.get(data[start + 2 : body])
                if header is not None:
                    body += 2
                if route is None or body >= end or (is_5 and data[body]):
                    break
                begin = start - 2 if end - start < LONG else packet_start(start, end)
                message = from_frame(route.topic, client_id, data[begin:end], body - begin, is_5)
                count += 1
                size += end - begin
                if header is None:
                    spread(message, route, session)
                    continue
                packet_id = data[body - 2 : body]
                if packet_id == NO_ID:
                    raise misuse("MQTT-2.2.1-3", "packet identifier 0")
                is_again = first == QOS_2 and not is_new(connection, _number(packet_id))
                if is_again or spread(message, route, session) or not is_5:
                    replies.append(header + packet_id)
                else:
                    replies.append(_nobody(message.qos, packet_id))
        finally:  # what was taken over is acknowledged, whatever came after it
            self._traffic.publish_received += count
            self._traffic.publish_bytes_received += size
            if replies:
                connection.send_all(replies)
        return at + count if count else self._one_by_itself(connection, data, packets, at)

    def on_pubacks(self, connection: Connection, data: bytes, packets: Packets, at: int) -> int:
        """Handle `packets[at]` and the short PUBACKs that follow; return where they end."""
        packet_ids = []
        for first, start, end in packets[at : at + LONGEST_RUN]:
            if first != PUBACK or end - start != SHORT:
                break
            packet_ids.append(data[start] << 8 | data[start + 1])
        if not packet_ids:
            first, start, end = packets[at]
            self._publishing.on_puback(connection, first, data, start, end)
            return at + 1
        if 0 in packet_ids:
            raise misuse("MQTT-2.2.1-3", "packet identifier 0")
        session = connection.session
        assert session is not None
        if session.on_pubacks(packet_ids) is Step.MISMATCH:
            raise misuse("4.3.3", "PUBACK for a QoS 2 message")
        return at + len(packet_ids)

    # -- helpers ----------------------------------------------------------------------------------

    def _one_by_itself(self, connection: Connection, data: bytes, packets: Packets, at: int) -> int:
        """Handle a message that is not plain; return where the next one is."""
        first, start, end = packets[at]
        self._publishing.on_publish(connection, first, data, start, end)
        return at + 1


def _nobody(qos: int, packet_id: bytes) -> bytes:
    """The answer that says: taken, but nobody is subscribed."""
    kind = Puback if qos == 1 else Pubrec
    return encode(kind(_number(packet_id), ReasonCode.NO_MATCHING_SUBSCRIBERS), MQTT_5)


def _number(packet_id: bytes) -> int:
    return packet_id[0] << 8 | packet_id[1]
