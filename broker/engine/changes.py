"""What has changed since the last batch, and the rows that say so: only what differs from what the
store has. The operations and their rows are those of the Store port.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

from broker.packets.properties import encode_properties
from broker.packets.publication import Publication
from broker.session.backlog import OVERHEAD
from broker.session.inflight import QOS_2
from broker.session.outgoing import granted
from broker.session.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.engine.audiences import Audience
    from broker.engine.journal import Journal
    from broker.engine.ports import Operations, Row
    from broker.packets.types import Will
    from broker.session.inflight import Inflight
    from broker.session.outgoing import Outgoing
    from broker.session.ports import Lender
    from broker.session.record import Record
    from broker.session.session import Session

Rows: TypeAlias = "defaultdict[str, list[Row]]"

# What is deleted goes before what is put, so that a name is free for its next owner.
ORDER = (
    "session_drop",
    "audience_drop",
    "session_put",
    "subscription_drop",
    "subscription_put",
    "message_sweep",
    "message_drop",
    "member_put",
    "message_put",
    "inflight_drop",
    "inflight_put",
    "received_drop",
    "received_put",
    "session_cursor",
    "retained_drop",
    "retained_put",
    "will_drop",
    "will_put",
)
PUBLISHED, RELEASED, LENT = 0, 1, 2  # LENT: published, out of a queue that has the message
QUEUED = 1 << 62  # set in the number of a message that a queue has, where others are, too
PLACES = 24  # bits for the packets that are sent in one life of the broker, and more
MOST_READ_SIZE = 4_194_304  # bytes
MOST_READ = 2048  # messages out of the store that are remembered for other sessions


class Changes:
    """What the journal gathers. `take` turns it into operations and begins anew."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._holding: defaultdict[int, dict[Audience, None]] = defaultdict(dict)
        self._swept: set[int] = set()  # sessions whose last stored messages are being deleted
        self._place = 0  # of the last packet in flight, in the order of sending
        self._read: dict[int, Publication] = {}  # messages by number, for the next session
        self._read_size = 0
        self.written_wills: set[str] = set()  # the clients whose will the store has
        self.sessions: list[Session] = []  # that have changed at all
        self._clear()

    def _clear(self) -> None:
        self.messages: list[tuple[Publication, Audience]] = []
        self.urgent: dict[Session, None] = {}  # sessions with a step that somebody waits for
        self.ended: list[Record] = []
        self.retained: dict[str, Publication | None] = {}
        self.subscriptions: dict[tuple[int, str], Subscription | None] = {}
        self.wills: dict[str, tuple[Will, str | None, float | None] | None] = {}

    @property
    def any(self) -> bool:
        """Whether there is anything that may have to be written."""
        return bool(
            self.messages
            or self.sessions
            or self.urgent
            or self.retained
            or self.subscriptions
            or self.wills
            or self.ended
        )

    def take(self, everything: bool) -> Operations:
        """The operations that bring the store up to date; none if nothing is left to be written.

        How far a session is with its QoS 1 messages may wait until `everything` is written: after a
        crash it would get some of them again, and never one less.
        """
        rows: Rows = defaultdict(list)
        touched: dict[Audience, None] = {}
        sessions = dict.fromkeys(self.sessions) if everything else {}
        sessions.update(self.urgent)
        for session in sessions:
            if session.record is not None:
                touched.update(self._holding.get(session.record.id, NOTHING))
        for record in self.ended:
            self._write_end(rows, record, touched)
        self._write_messages(rows, touched)
        for session in sessions:
            self._write_session(rows, session)
        if everything:
            self.sessions = []
        self._write_subscriptions(rows)
        self._write_retained(rows)
        self._write_wills(rows)
        for audience_id in self._journal.audiences.take_idle():
            rows["audience_drop"].append((audience_id,))
        rows["session_put"].sort(key=_has_name)  # who gives a name up goes before who takes it
        self._clear()
        return [(name, rows[name]) for name in ORDER if rows[name]]

    def begin_again(self, position: int) -> None:
        """After a restart: what is sent from now on comes after all that was sent before."""
        self._place = position << PLACES

    def page(self, session: Session, rows: list[Row]) -> list[Outgoing]:
        """Messages that the store has read for a session. Those of several sessions are shared."""
        known = self._read
        if len(known) > MOST_READ or self._read_size > MOST_READ_SIZE:
            known.clear()
            self._read_size = 0
        page: list[Outgoing] = []
        ways: dict[tuple[int | None, int], tuple[Subscription, int]] = {}  # most go the same
        for number, audience, *fields in rows:
            publication = known.get(number)
            if publication is None:
                publication = known[number] = self.publication(*fields)
                publication.number = number
                self._read_size += publication.size
            way = ways.get((audience, publication.first))
            if way is None:
                subscription = self._matched(session, audience, publication)
                way = subscription, granted(publication, subscription)
                ways[audience, publication.first] = way
            page.append((publication, *way))
        return page

    def _matched(
        self, session: Session, audience_id: int | None, publication: Publication
    ) -> Subscription:
        """The subscription by which a message is for a session."""
        record = session.record
        assert record is not None
        audience = None if audience_id is None else self._journal.audiences.by_id.get(audience_id)
        subscription = None if audience is None else audience.members.get(record.id)
        # it was matched once: better with too much than not at all
        return subscription or Subscription(session, publication.topic, 2)

    def restore(
        self,
        session: Session,
        inflight: list[Row],
        received: list[int],
        lent: Mapping[int, Row],
    ) -> None:
        """Give a session back what was in flight before a restart; `lent`, by number, is what it
        had out of queues.
        """
        record = session.record
        assert record is not None
        published: list[tuple[int, Outgoing]] = []
        released: list[int] = []
        for packet_id, first, state, number, audience, *message in inflight:
            if state == RELEASED:
                released.append(packet_id)
                record.inflight[packet_id] = 0
                continue
            if state == LENT:
                record.inflight[packet_id] = -number | QUEUED
                if session.lending is not None and -number in lent:
                    outgoing = session.lending.restore(packet_id, first, lent[-number])
                    published.append((packet_id, outgoing))
                continue
            if message[0] is None:  # the client had it, or it could not be salvaged
                record.inflight[packet_id] = number
                continue
            publication = self.publication(*message)
            publication.number = number if audience is not None else -number
            subscription = self._matched(session, audience, publication)
            published.append((packet_id, (publication, subscription, first)))
            record.inflight[packet_id] = publication.number
        record.received = set(received)
        record.is_cold = False
        session.restore(published, released, received)

    def publication(
        self,
        topic: str,
        payload: bytes,
        properties: bytes,
        first: int,
        publisher: str,
        expires_at: float | None,
    ) -> Publication:
        """A message as it was before it was stored."""
        if expires_at is not None:
            expires_at = self._journal.timeline.engine(expires_at)
        return Publication(
            topic, payload, first >> 1 & 3, bool(first & 1), properties, expires_at, publisher
        )

    def hold(self, audience: Audience) -> None:
        """The store has messages for this audience."""
        for session_id in audience.members:
            self._holding[session_id][audience] = None

    # -- sessions ---------------------------------------------------------------------------------

    def _write_session(self, rows: Rows, session: Session) -> None:
        record = session.record
        if record is None or record.is_over:
            return
        record.is_dirty = False
        row = (
            session.client_id or None,  # none: it has ended, and has something to leave
            session.username,
            session.expiry_interval,
            self._instant(record.expires_at),
        )
        if not record.is_cold:
            self._write_inflight(rows, session, record)
            self._write_received(rows, session, record)
        if row != record.row:
            rows["session_put"].append((record.id, *row, record.cursor))
            record.row = row
            record.written_cursor = record.cursor
        elif record.cursor != record.written_cursor and (
            # else no stored message is beyond it
            record.inflight or self._holding.get(record.id) or record.id in self._swept
        ):
            rows["session_cursor"].append((record.cursor, record.id))
            record.written_cursor = record.cursor
            self._swept.discard(record.id)

    def _write_inflight(self, rows: Rows, session: Session, record: Record) -> None:
        inflight, before = session.inflight, record.inflight
        now: dict[int, int] = {}
        if inflight is None:
            self._drop_inflight(rows, record, now)
            return
        for packet_id, outgoing in inflight.published.items():
            number = outgoing[0].number
            if number:
                now[packet_id] = number
                if before.get(packet_id) != number:
                    self._put_inflight(rows, record, packet_id, outgoing)
        if session.lending is not None:
            self._write_lent(rows, inflight, session.lending, record, now)
        for packet_id in inflight.released:
            now[packet_id] = 0
            if before.get(packet_id) != 0:
                self._place += 1
                rows["inflight_put"].append((record.id, packet_id, 0, 0, RELEASED, self._place))
        self._drop_inflight(rows, record, now)

    def _put_inflight(self, rows: Rows, record: Record, packet_id: int, outgoing: Outgoing) -> None:
        publication, _, first = outgoing
        number = publication.number
        if number < 0:
            rows["message_put"].append(self._message(-number, None, publication))
        self._place += 1
        rows["inflight_put"].append(
            (record.id, packet_id, abs(number), first, PUBLISHED, self._place)
        )

    def _write_lent(
        self,
        rows: Rows,
        inflight: Inflight,
        lending: Lender,
        record: Record,
        now: dict[int, int],
    ) -> None:
        """QoS 2 messages out of queues; their numbers are below 0, for queues have their own."""
        for packet_id, (_, delivery) in lending.leases.items():
            outgoing = inflight.published.get(packet_id)
            if outgoing is None or not outgoing[2] & QOS_2:
                continue
            now[packet_id] = number = delivery.number | QUEUED
            if record.inflight.get(packet_id) != number:
                self._place += 1
                first = outgoing[2] | lending.version_bit
                row = (record.id, packet_id, -delivery.number, first, LENT, self._place)
                rows["inflight_put"].append(row)

    def _drop_inflight(self, rows: Rows, record: Record, now: dict[int, int]) -> None:
        for packet_id, number in record.inflight.items():
            if number < 0 and now.get(packet_id) != number:
                rows["message_drop"].append((-number,))
            if packet_id not in now:
                rows["inflight_drop"].append((record.id, packet_id))
        record.inflight = now

    def _write_received(self, rows: Rows, session: Session, record: Record) -> None:
        received = session.received
        if received == record.received:
            return
        for packet_id in record.received - received:
            rows["received_drop"].append((record.id, packet_id))
        for packet_id in received - record.received:
            rows["received_put"].append((record.id, packet_id))
        record.received = set(received)

    def _write_end(self, rows: Rows, record: Record, touched: dict[Audience, None]) -> None:
        rows["session_drop"].append((record.id,))
        rows["message_drop"] += [(-number,) for number in record.inflight.values() if number < 0]
        self._swept.discard(record.id)
        for audience in self._holding.pop(record.id, NOTHING):
            audience.members.pop(record.id, None)
            if audience.members:
                touched[audience] = None
            elif audience.is_stored:
                rows["audience_drop"].append((audience.id,))
                self._journal.audiences.forget(audience)
                touched.pop(audience, None)

    # -- messages ---------------------------------------------------------------------------------

    def _write_messages(self, rows: Rows, touched: dict[Audience, None]) -> None:
        """Put the new messages that somebody still needs; sweep the old ones that nobody does."""
        for _, audience in self.messages:
            touched[audience] = None
        latest = self._journal.next_number - 1
        done = {audience: self._sweep(rows, audience, latest) for audience in touched}
        for publication, audience in self.messages:
            number = publication.number
            if number <= done[audience]:
                continue
            rows["message_put"].append(self._message(number, audience.id, publication))
            if audience.lowest is None:
                self._introduce(rows, audience)
                audience.lowest = number
            audience.highest = number

    def _sweep(self, rows: Rows, audience: Audience, latest: int) -> int:
        done = audience.finished(latest)
        lowest = audience.lowest
        if lowest is not None and done >= lowest:
            rows["message_sweep"].append((audience.id, done))
            if done >= audience.highest:
                audience.lowest = None
                for session_id in audience.members:
                    self._holding[session_id].pop(audience, None)
                # the store may take its time, and a crash would bring some of them back
                self._swept.update(audience.members)
            else:
                audience.lowest = done + 1
        return done

    def _introduce(self, rows: Rows, audience: Audience) -> None:
        """The store gets the first message for an audience: say who is in it."""
        self.hold(audience)
        if audience.is_stored:
            return
        audience.is_stored = True
        self._journal.audiences.by_id[audience.id] = audience
        for session_id, each in audience.members.items():
            record = each.session.record
            if record is None or record.is_over:
                continue
            rows["member_put"].append(
                (
                    audience.id,
                    session_id,
                    each.qos,
                    int(each.retain_as_published),
                    _joined(each.identifiers),
                    each.filter,
                    each.share_name,
                )
            )

    def _message(self, number: int, audience: int | None, publication: Publication) -> Row:
        expires_at = publication.expires_at
        return (
            number,
            audience,
            publication.topic,
            publication.payload,
            publication.properties,
            publication.first,
            publication.publisher,
            None if expires_at is None else self._instant(expires_at),
            publication.size + OVERHEAD,
        )

    # -- the rest ---------------------------------------------------------------------------------

    def _write_subscriptions(self, rows: Rows) -> None:
        for (session_id, wanted), each in self.subscriptions.items():
            if each is None:
                rows["subscription_drop"].append((session_id, wanted))
                continue
            record = each.session.record
            if record is not None and not record.is_over:
                rows["subscription_put"].append(
                    (
                        session_id,
                        wanted,
                        each.qos,
                        int(each.no_local),
                        int(each.retain_as_published),
                        _joined(each.identifiers),
                        int(each.replaying),
                    )
                )

    def _write_retained(self, rows: Rows) -> None:
        for topic, publication in self.retained.items():
            if publication is None or not publication.payload:
                rows["retained_drop"].append((topic,))
            else:
                row = self._message(0, None, publication)[2:]
                rows["retained_put"].append(row)

    def _write_wills(self, rows: Rows) -> None:
        for client_id, entry in self.wills.items():
            if entry is None:
                rows["will_drop"].append((client_id,))
                self.written_wills.discard(client_id)
                continue
            self.written_wills.add(client_id)
            will, username, due_at = entry
            rows["will_put"].append(
                (
                    client_id,
                    username,
                    will.topic,
                    will.payload,
                    will.qos,
                    int(will.retain),
                    encode_properties(will.properties),
                    0,
                    self._instant(due_at),
                )
            )

    def _instant(self, instant: float | None) -> float | None:
        return None if instant is None else self._journal.timeline.stored(instant)


NOTHING: dict[Any, None] = {}


def _has_name(row: Row) -> bool:
    return row[1] is not None


def _joined(identifiers: tuple[int, ...]) -> str:
    return ",".join(map(str, identifiers))
