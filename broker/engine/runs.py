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
    from collections.abc import Callable

    from broker.connection.connection import Connection
    from broker.connection.ports import Packets, RunHandler, Traffic
    from broker.engine.publishing import Publishing
    from broker.engine.router import Route, Router
    from broker.session.session import Session

QOS_0, QOS_1, QOS_2 = 0x30, 0x32, 0x34  # the first byte of a PUBLISH without DUP and RETAIN
PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70
SUCCESS = {QOS_1: b"\x40\x02", QOS_2: b"\x50\x02"}  # the answer's header; the packet id follows
SHORT = 2  # the length of an acknowledgement that has a packet id and no reason
NO_ID = b"\0\0"
LONGEST_RUN = 64  # packets; a slice of all that are left, for each of them, would be quadratic
SHORTEST = 3  # a topic of one character

from_frame = Publication.from_frame


def _owned(session: Session, packet_id: int) -> bool:
    is_owned = session.on_pubrec(packet_id, False) is Step.RELEASE
    if is_owned and session.lending is not None:
        session.lending.on_answer(packet_id, 0, {})
    return is_owned


def _released(session: Session, packet_id: int) -> bool:
    return session.release(packet_id)


def _done(session: Session, packet_id: int) -> bool:
    is_done = session.on_pubcomp(packet_id) is Step.DONE
    if is_done and session.lending is not None:
        session.lending.pump()
    return is_done


# The later steps of a QoS 2 exchange that goes as it should: what a packet does to the session
# (False: it does not fit), and the header of the answer.
STEPS: dict[int, tuple[Callable[[Session, int], bool], bytes]] = {
    PUBREC: (_owned, b"\x62\x02"),
    PUBREL: (_released, b"\x70\x02"),
    PUBCOMP: (_done, b""),
}


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
        self.table.update(dict.fromkeys(STEPS, self.on_steps))

    def on_publishes(self, connection: Connection, data: bytes, packets: Packets, at: int) -> int:
        """Handle `packets[at]` and the plain ones of its topic after it; return where they end."""
        messages, route = self._read(connection, data, packets, at)
        if packets[at][0] != QOS_0:
            messages = messages[: self._acceptable(connection, messages)]
        if route is None or not messages:
            first, start, end = packets[at]
            self._publishing.on_publish(connection, first, data, start, end)
            return at + 1
        last = at + len(messages) - 1
        traffic = self._traffic
        traffic.publish_received += len(messages)
        traffic.publish_bytes_received += sum([each.size for each in messages])
        if packets[at][0] == QOS_0:
            if last == at:
                self._router.spread(messages[0], route)
            else:
                self._router.spread_run(messages, route)
        else:
            self._deliver_and_reply(connection, messages, route)
        return last + 1

    def on_pubacks(self, connection: Connection, data: bytes, packets: Packets, at: int) -> int:
        """Handle `packets[at]` and the short PUBACKs that follow; return where they end."""
        packet_ids = []
        for first, start, end in packets[at : at + LONGEST_RUN]:
            if first != PUBACK or end - start != SHORT:
                break
            packet_ids.append(data[start] << 8 | data[start + 1])
        if 0 in packet_ids:  # what came before it counts
            del packet_ids[packet_ids.index(0) :]
        if not packet_ids:
            first, start, end = packets[at]
            self._publishing.on_puback(connection, first, data, start, end)
            return at + 1
        session = connection.session
        assert session is not None
        if session.on_pubacks(packet_ids) is Step.MISMATCH:
            raise misuse("4.3.3", "PUBACK for a QoS 2 message")
        if session.lending is not None:
            session.lending.on_pubacks(packet_ids)
        return at + len(packet_ids)

    def on_steps(self, connection: Connection, data: bytes, packets: Packets, at: int) -> int:
        """Handle `packets[at]`, a later step of a QoS 2 exchange, and those like it that follow;
        return where they end.
        """
        first = packets[at][0]
        take, header = STEPS[first]
        session = connection.session
        assert session is not None
        count = 0
        replies: list[bytes] = []
        for kind, start, end in packets[at : at + LONGEST_RUN]:
            if kind != first or end - start != SHORT:
                break
            if not take(session, data[start] << 8 | data[start + 1]):
                break
            count += 1
            if header:
                replies.append(header + data[start:end])
        if replies:
            connection.send_when_stored(replies)
        if count:
            return at + count
        _, start, end = packets[at]
        connection.handlers[first >> 4](connection, first, data, start, end)
        return at + 1

    # -- helpers ----------------------------------------------------------------------------------

    def _read(
        self, connection: Connection, data: bytes, packets: Packets, at: int
    ) -> tuple[list[Publication], Route | None]:
        """Read plain messages of one topic until something else comes; no route: there is none."""
        messages: list[Publication] = []
        first, start, end = packets[at]
        if end - start < SHORTEST:
            return messages, None
        topic = data[start : start + 2 + (data[start] << 8 | data[start + 1])]
        route = self._router.known.get(topic)
        if route is None:
            return messages, None
        is_5 = connection.version == MQTT_5
        client_id = connection.client_id
        skip = len(topic) if first == QOS_0 else len(topic) + 2  # a packet id follows
        for kind, start, end in packets[at : at + LONGEST_RUN]:
            body = start + skip
            if kind != first or body >= end or not data.startswith(topic, start):
                break
            if is_5 and data[body]:
                break
            begin = start - 2 if end - start < LONG else packet_start(start, end)
            frame = data[begin:end]
            messages.append(from_frame(route.topic, client_id, frame, body - begin, is_5))
        return messages, route

    def _acceptable(self, connection: Connection, messages: list[Publication]) -> int:
        """How many of these QoS 1 or 2 messages nothing can be wrong with: they come before one
        without a packet id, and before the client's quota is used up [MQTT-3.3.4-7].
        """
        if self._publishing.is_choosy:
            return 0
        packet_ids = [each.received_id for each in messages]
        count = packet_ids.index(NO_ID) if NO_ID in packet_ids else len(messages)
        if count and messages[0].first == QOS_2:
            return min(count, self._publishing.quota(connection))
        return count

    def _deliver_and_reply(
        self, connection: Connection, messages: list[Publication], route: Route
    ) -> None:
        """Pass on QoS 1 or 2 messages and acknowledge each, in order [MQTT-4.6.0-2]."""
        packet_ids = [each.received_id for each in messages]
        first = messages[0].first
        if first == QOS_2:
            messages = self._new_ones(connection, messages, packet_ids)
        reached = self._router.spread_run(messages, route) if messages else 1
        if reached or connection.version != MQTT_5:
            header = SUCCESS[first]
            frames = [header + each for each in packet_ids]
        else:
            frames = [_nobody(first, each) for each in packet_ids]
        self._publishing.answer(connection, frames)

    def _new_ones(
        self, connection: Connection, messages: list[Publication], packet_ids: list[bytes]
    ) -> list[Publication]:
        """The QoS 2 messages that come for the first time [MQTT-4.3.3-10]."""
        is_new = self._publishing.is_new
        pairs = zip(messages, packet_ids, strict=True)
        return [each for each, number in pairs if is_new(connection, _number(number))]


def _nobody(first: int, packet_id: bytes) -> bytes:
    """The answer that says: taken, but nobody is subscribed."""
    kind = Puback if first == QOS_1 else Pubrec
    return encode(kind(_number(packet_id), ReasonCode.NO_MATCHING_SUBSCRIBERS), MQTT_5)


def _number(packet_id: bytes) -> int:
    return packet_id[0] << 8 | packet_id[1]
