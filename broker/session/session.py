"""What survives a connection: subscriptions, what is in flight in both directions, what waits
(section 4.1).

A session sends at once when it can and keeps when it must; the order for one client is replays of
retained messages, then the backlog, then new messages, so nothing ever overtakes. A durable session
has a `record`: then what is kept lies in the store, and only a window of it in memory, while the
client is there to take it.
"""

from __future__ import annotations

from collections import deque
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from broker.packets.publication import DUP, PUBLISH, RETAIN
from broker.session.backlog import OVERHEAD, QOS_1, Backlog
from broker.session.inflight import LAST_PACKET_ID, Inflight, Step
from broker.session.outgoing import granted, qos_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.clock import Clock
    from broker.packets.publication import Publication
    from broker.session.outgoing import Outgoing
    from broker.session.ports import Carrier, Ledger, Lender
    from broker.session.record import Record
    from broker.session.subscription import Subscription

MOST_REPLAYS = 1000  # subscriptions of one session whose retained messages wait for the client
NONE: set[int] = set()
OVER: Any = object()  # no more retained messages
NEVER = 0xFFFFFFFF  # a session expiry interval of 0xFFFFFFFF does not expire (section 3.1.2.11.2)


LONGEST_RUN = 64  # waiting messages that are sent at once
WINDOW_SIZE = 262_144  # bytes of a stored backlog that are in memory for one connected client


class Bounds:
    """How much one session may hold; shared by all sessions. `messages` and `size` (bytes) bound
    the backlog, `policy` says what happens to a message for which there is no room; `window`
    messages of a stored backlog are in memory for a connected client.
    """

    __slots__ = ("last_values", "makes_room", "messages", "policy", "size", "slack", "window")

    def __init__(
        self, messages: int, size: int, policy: str = "drop_newest", window: int = 256
    ) -> None:
        self.messages = messages
        self.size = size
        self.policy = policy
        self.window = window
        self.last_values = policy == "last_value"
        self.makes_room = policy in ("drop_oldest", "last_value")  # else the new one has to go
        self.slack = max(16, messages // 64)  # so many too many may wait in the store for a while


class Session:
    """The state the broker keeps for one client identifier."""

    __slots__ = (
        "_backlog",
        "_bounds",
        "_clock",
        "_inflight",
        "_ledger",
        "_pumping",
        "_received",
        "_replays",
        "carrier",
        "client_id",
        "expiry_interval",
        "holding",
        "lending",
        "queueing",
        "record",
        "subscriptions",
        "username",
        "window",
    )

    def __init__(
        self, client_id: str, username: str | None, bounds: Bounds, ledger: Ledger, clock: Clock
    ) -> None:
        self.client_id = client_id
        self.username = username
        self.subscriptions: dict[str, Subscription] | None = None
        self.carrier: Carrier | None = None
        self.record: Record | None = None  # of a durable session
        self.lending: Lender | None = None  # what it has out of queues
        self.expiry_interval = 0  # seconds after the connection closed; NEVER = for ever
        self.window = 1  # how many QoS 1 and 2 messages may be unacknowledged [MQTT-3.3.4-9]
        self.queueing = False  # something waits: new QoS 1 and 2 messages queue behind it
        self.holding = False  # replays or QoS 0 messages wait: new QoS 0 messages queue behind them
        self._bounds = bounds
        self._ledger = ledger
        self._clock = clock
        self._inflight: Inflight | None = None
        self._backlog: Backlog | None = None
        self._replays: deque[Iterator[Outgoing | None]] | None = None
        self._pumping = False
        self._received: set[int] | None = None

    # -- messages towards the client --------------------------------------------------------------

    def offer(  # noqa: C901  the hot path: what is in here is a call less for every message
        self, publication: Publication, subscription: Subscription
    ) -> None:
        """Deliver a message now, or keep it, or count it as lost."""
        carrier = self.carrier
        if carrier is None:
            self._offer_to_the_absent(publication, subscription)
            return
        if carrier.blocked or self.queueing:
            self._offer_to_the_busy(carrier, publication, subscription)
            return
        first = publication.first
        if first & RETAIN or first >> 1 & 3 > subscription.qos:
            first = granted(publication, subscription)
        if first < QOS_1:
            carrier.send_publication(publication, first, 0, subscription.identifiers)
            return
        inflight = self._inflight
        if inflight is None:
            inflight = self._inflight = Inflight()
        outgoing = (publication, subscription, first)
        packet_id = inflight.start(outgoing, self.window)
        if not packet_id:
            self._keep(outgoing)
            return
        if not carrier.send_publication(publication, first, packet_id, subscription.identifiers):
            inflight.abandon(packet_id)  # [MQTT-3.1.2-25]
        if self.record is not None:
            self.record.take(self, publication.number)

    def offer_run(self, messages: list[Publication], subscription: Subscription, size: int) -> None:
        """Deliver several messages with the same first byte, without RETAIN, which hold `size`
        bytes together; see `offer`.
        """
        if self.carrier is None and self._count_run(messages, subscription, size):
            return
        if not self._send_run(messages, subscription):
            for message in messages:
                self.offer(message, subscription)
        elif self.record is not None and messages[-1].number > 0:
            self.record.take(self, messages[-1].number)

    def lend(self, publication: Publication, subscription: Subscription, first: int) -> int:
        """Send a QoS 1 or 2 message that is kept elsewhere; its packet id, 0 when there is no room
        for it in the client's window, -1 when the client cannot take it at all.
        """
        carrier = self.carrier
        if carrier is None:
            return 0
        if self._inflight is None:
            self._inflight = Inflight()
        packet_id = self._inflight.start((publication, subscription, first), self.window)
        if not packet_id:
            return 0
        if carrier.send_publication(publication, first, packet_id, subscription.identifiers):
            return packet_id
        self._inflight.abandon(packet_id)  # [MQTT-3.1.2-25]
        return -1

    def take_back(self, packet_ids: list[int]) -> None:
        """Forget messages that were lent and are not to be sent again."""
        if self._inflight is not None:
            for packet_id in packet_ids:
                self._inflight.withdraw(packet_id)

    def replay(self, retained: Iterator[Outgoing | None]) -> None:
        """Send retained messages as fast as the client takes them, before anything newer. None says
        that the next ones are still being read.

        Looking for them may take a while, so that is done once in a turn of the loop.
        """
        if self._replays is None:
            self._replays = deque()
        if len(self._replays) >= MOST_REPLAYS:
            self._ledger.lose("replays_full")
            return
        self._replays.append(retained)
        self.holding = self.queueing = True
        if self.carrier is not None:
            self.carrier.next_turn()

    def pump(self) -> None:
        """Send what waits, until the client's window or its outbox is full."""
        carrier = self.carrier
        if carrier is None or self._pumping:
            return
        self._pumping = True  # a full outbox is flushed at once, and that comes back to here
        try:
            if self._send_again(carrier):
                self._send_waiting(carrier)
        finally:
            self._pumping = False

    def resume(self) -> None:
        """Re-send everything unacknowledged on a new connection, as fast as it takes it, then go on
        with what waits [MQTT-4.4.0-1].
        """
        carrier = self.carrier
        if self._replays:
            self.holding = self.queueing = True
        if self._must_settle(carrier):
            self.queueing = self._pumping = True
        else:
            self._send_unanswered(carrier)
        if self.lending is not None:
            self.lending.connected()

    def _must_settle(self, carrier: Carrier | None) -> bool:
        """Whether nothing may be sent yet: the state of a QoS 2 message must be stored before it is
        sent again, and others must not overtake it [3.1.1:MQTT-4.6.0-1].
        """
        record, inflight = self.record, self._inflight
        if record is None or inflight is None or not inflight.has_qos_2:
            return False
        return not record.shelf.is_settled(self, lambda: self._go_on(carrier))

    def _go_on(self, carrier: Carrier | None) -> None:
        """All that was in flight is stored; the connection may be another one by now."""
        if self.carrier is carrier and carrier is not None:
            self._pumping = False
            self._send_unanswered(carrier)

    def _send_unanswered(self, carrier: Carrier | None) -> None:
        if self._inflight is not None and carrier is not None:
            self._inflight.begin_again()
            self.queueing = True
            for packet_id in self._inflight.released:
                carrier.send_pubrel(packet_id)
        self.pump()

    # -- acknowledgements from the client ---------------------------------------------------------

    def on_puback(self, packet_id: int) -> Step:
        """A QoS 1 message is done; the next one may go."""
        if self._inflight is None:
            return Step.UNKNOWN
        step = self._inflight.on_puback(packet_id)
        self._touch()
        if self.queueing:
            self.pump()
        return step

    def on_pubacks(self, packet_ids: list[int]) -> Step:
        """Several QoS 1 messages are done; MISMATCH when one of them was no QoS 1 message."""
        if self._inflight is None:
            return Step.UNKNOWN
        step = self._inflight.on_pubacks(packet_ids)
        self._touch()
        if self.queueing:
            self.pump()
        return step

    def on_pubrec(self, packet_id: int, refused: bool) -> Step:
        """A QoS 2 message is owned by the client (or refused)."""
        if self._inflight is None:
            return Step.UNKNOWN
        step = self._inflight.on_pubrec(packet_id, refused)
        self._touch()
        if step is Step.DONE and self.queueing:
            self.pump()
        return step

    def on_pubcomp(self, packet_id: int) -> Step:
        """A QoS 2 message is done; the next one may go."""
        if self._inflight is None:
            return Step.UNKNOWN
        step = self._inflight.on_pubcomp(packet_id)
        self._touch()
        if self.queueing:
            self.pump()
        return step

    # -- QoS 2 from the client --------------------------------------------------------------------

    def receive_once(self, packet_id: int) -> bool:
        """Note the packet id of an incoming QoS 2 message; False when it is a repetition
        [MQTT-4.3.3-10].
        """
        received = self._received
        if received is None:
            received = self._received = set()
        if packet_id in received:
            return False
        received.add(packet_id)
        self._touch()
        return True

    def release(self, packet_id: int) -> bool:
        """Forget the packet id of an incoming QoS 2 message [MQTT-4.3.3-12]; False when it was not
        known.
        """
        if self._received is None or packet_id not in self._received:
            return False
        self._received.remove(packet_id)
        self._touch()
        return True

    @property
    def unreleased(self) -> int:
        """How many incoming QoS 2 messages await their PUBREL."""
        return 0 if self._received is None else len(self._received)

    # -- what it holds ----------------------------------------------------------------------------

    def readiness(self) -> int:
        """2 = connected with room in flight, 1 = connected without, 0 = away: for choosing among
        shared subscribers.
        """
        carrier = self.carrier
        if carrier is None:
            return 0
        full = self.queueing or carrier.blocked or self.in_flight >= self.window
        return 1 if full else 2

    @property
    def in_flight(self) -> int:
        """How many QoS 1 and 2 messages are sent and not finished."""
        return 0 if self._inflight is None else len(self._inflight)

    @property
    def is_full(self) -> bool:
        """Whether the backlog takes no more, even without what has expired in it [MQTT-3.3.2-5]."""
        if self._bounds.makes_room:
            return False
        if self.record is not None and self.record.is_full:
            return True
        backlog = self._backlog
        if backlog is None or not self._exceeds(backlog):
            return False
        self._ledger.lose("expired", backlog.forget_expired(self._clock.now))
        return self._exceeds(backlog)

    @property
    def waiting(self) -> int:
        """How many messages wait in the backlog, in memory and in the store."""
        count = 0 if self._backlog is None else len(self._backlog)
        return count if self.record is None else count + self.record.behind

    @property
    def owes(self) -> bool:
        """Whether a message for the client waits, here or in the store, or is not answered. What
        lies in a queue waits for nobody in particular.
        """
        return self.queueing or self.in_flight > 0

    @property
    def bounds(self) -> Bounds:
        """How much it may hold."""
        return self._bounds

    @property
    def inflight(self) -> Inflight | None:
        """What is sent and not finished."""
        return self._inflight

    @property
    def received(self) -> set[int]:
        """The packet ids of incoming QoS 2 messages that await their PUBREL."""
        return self._received or NONE

    def numbers_in_flight(self) -> Iterator[int]:
        """The numbers of the stored messages that are sent and not answered, in rising order."""
        if self._inflight is not None:
            for _, (publication, _, _) in self._inflight.unreleased():
                if publication.number > 0:
                    yield publication.number

    def disconnected(self) -> None:
        """The connection is gone: QoS 1 and 2 messages wait for the next, QoS 0 ones do not."""
        self.carrier = None
        if self.lending is not None:
            self.lending.disconnected()
        self._pumping = False
        if self.record is not None:
            self.record.loading = None  # what comes now finds nobody
        elif self._replays and self.expiry_interval:
            self._keep_replays(self._replays)
        if self.record is None or not self.expiry_interval:
            self._replays = None
        self.holding = False
        if self._backlog is not None:
            self._ledger.lose("offline_qos_0", self._backlog.forget_qos_0())
        if self.record is not None:
            self._leave_to_the_store(self.record)
        self.queueing = self.waiting > 0

    # -- what the store brings --------------------------------------------------------------------

    def restore(
        self, published: list[tuple[int, Outgoing]], released: list[int], received: list[int]
    ) -> None:
        """What was in flight before the broker was started again."""
        if published or released:
            self._inflight = Inflight()
            self._inflight.restore(published, released)
        self._received = set(received) or None

    def arrived(self, token: object, page: list[Outgoing]) -> None:
        """A page of what waits has been read; an empty one says that there is no more."""
        record, carrier = self.record, self.carrier
        if record is None or record.loading is not token or carrier is None:
            return
        record.loading = None
        backlog = self._window()
        if page:
            self._ledger.lose("superseded", backlog.push_page(page))
            record.loaded = page[-1][0].number
        if not page:
            record.behind, record.behind_size = record.since, record.since_size
        else:
            record.behind = max(1, record.behind - len(page))
            size = sum(each[0].size + OVERHEAD for each in page)
            record.behind_size = max(0, record.behind_size - size)
        self._note_room(record)
        carrier.next_turn()

    def trimmed(
        self, token: object, cursor: int, dropped: int, expired: int, left: int, left_size: int
    ) -> None:
        """The store has dropped what there is no room for; `left` messages of `left_size` bytes
        wait there after `cursor`.
        """
        record = self.record
        if record is None or record.is_over or record.trimming is not token:
            return
        record.trimming = None
        self._ledger.lose("superseded" if self._bounds.last_values else "backlog_oldest", dropped)
        self._ledger.lose("expired", expired)
        self._leave_to_the_store(record)
        record.in_order = self.carrier is not None  # more may come while the client is away
        if cursor > record.cursor:
            record.take(self, cursor)
        record.loaded = record.cursor
        record.behind = left + record.since
        record.behind_size = left_size + record.since_size
        self._note_room(record)
        if self.carrier is not None:
            self.carrier.next_turn()

    def inherit(self, page: list[Outgoing]) -> None:
        """Take back, after the end, what the store had: it is surrendered next."""
        backlog = self._window()
        for outgoing in page:
            backlog.push(outgoing)

    def purge(self) -> None:
        """Have the store drop what has expired."""
        if self.record is not None:
            self._trim(self.record)

    def count_behind(self, messages: int, size: int) -> None:
        """So much waits in the store, as it says after a start."""
        record = self.record
        assert record is not None
        record.behind, record.behind_size = messages, size
        self.queueing = messages > 0
        self._check_bounds(record)

    def surrender(self) -> Iterator[Outgoing]:
        """The session ends: give up what nobody has begun to receive, in order, then QoS 1 messages
        in flight.

        QoS 2 messages in flight are not given to anybody else [MQTT-4.8.2-5].
        """
        if self._inflight is not None:
            for _, outgoing in self._inflight.unreleased():
                if qos_of(outgoing[2]) == 1:
                    yield outgoing
                else:
                    self._ledger.lose("session_ended")
            self._inflight = None
        if self._backlog is not None:
            yield from self._backlog.take_all()

    # -- helpers ----------------------------------------------------------------------------------

    def _touch(self) -> None:
        if self.record is not None:
            self.record.touch(self)

    def _exceeds(self, backlog: Backlog) -> bool:
        bounds = self._bounds
        record = self.record
        if record is None:
            return len(backlog) >= bounds.messages or backlog.size >= bounds.size
        return (
            len(backlog) + record.behind >= bounds.messages
            or backlog.size + record.behind_size >= bounds.size
        )

    def _window(self) -> Backlog:
        backlog = self._backlog
        if backlog is None:
            backlog = self._backlog = Backlog(self._bounds.last_values)
        return backlog

    def _offer_to_the_absent(self, publication: Publication, subscription: Subscription) -> None:
        """Keep a message for a client that is away; if the store has it, it is just counted."""
        record = self.record
        if record is None or publication.number <= 0 or not subscription.qos:
            first = granted(publication, subscription)
            if first >= QOS_1:
                self._keep((publication, subscription, first))
            else:
                self._ledger.lose("offline_qos_0")
            return
        if record.is_full or record.trimming is not None:
            self._keep_behind(record, publication)
            return
        record.behind += 1
        record.behind_size += publication.size + OVERHEAD
        self.queueing = True
        bounds = self._bounds
        if record.behind >= bounds.messages or record.behind_size >= bounds.size:
            self._check_bounds(record)

    def _count_run(
        self, messages: list[Publication], subscription: Subscription, size: int
    ) -> bool:
        """Count several messages for an absent client, if the store has them and there is room for
        all.
        """
        record, count = self.record, len(messages)
        if record is None or record.is_full or record.trimming is not None:
            return False
        bounds = self._bounds
        size += count * OVERHEAD
        has_room = record.behind + count < bounds.messages and (
            record.behind_size + size < bounds.size
        )
        if not has_room or not subscription.qos or messages[-1].number <= 0:
            return False
        record.behind += count
        record.behind_size += size
        self.queueing = True
        return True

    def _offer_to_the_busy(
        self, carrier: Carrier, publication: Publication, subscription: Subscription
    ) -> None:
        """Keep a message for a client that reads too slowly, or has others waiting."""
        first = granted(publication, subscription)
        if first >= QOS_1:
            self._keep((publication, subscription, first))
        elif carrier.blocked:
            self._ledger.lose("slow_reader_qos_0")
        elif self.holding:
            self._keep((publication, subscription, first))
        else:
            carrier.send_publication(publication, first, 0, subscription.identifiers)

    def _send(self, carrier: Carrier, outgoing: Outgoing) -> None:
        publication, subscription, first = outgoing
        identifiers = subscription.identifiers
        if first < QOS_1:
            carrier.send_publication(publication, first, 0, identifiers)
            return
        if self._inflight is None:
            self._inflight = Inflight()
        packet_id = self._inflight.start(outgoing, LAST_PACKET_ID)
        if self.record is not None:
            self.record.take(self, publication.number)
        if not carrier.send_publication(publication, first, packet_id, identifiers):
            self._inflight.abandon(packet_id)  # [MQTT-3.1.2-25]

    def _send_waiting(self, carrier: Carrier) -> None:
        while self.queueing and not (carrier.blocked or carrier.sated):
            if not self._replays and self._send_waiting_run(carrier):
                continue
            outgoing = self._next_waiting()
            if outgoing is None:
                return
            self._send(carrier, outgoing)

    def _send_waiting_run(self, carrier: Carrier) -> bool:
        """Send several waiting QoS 1 messages of one subscription at once, if nothing is special
        about any; False when the next one must be sent by itself.
        """
        backlog, record = self._backlog, self.record
        room = min(self.window - self.in_flight, LONGEST_RUN)
        if backlog is None or room < 2 or len(backlog) < 2 or not carrier.takes_runs:
            return False
        messages, subscription = backlog.run(room)
        if len(messages) < 2 or subscription.identifiers:
            return False
        if not self._start_run(carrier, messages, subscription, QOS_1):
            return False
        backlog.drop_run(messages)
        self.holding = backlog.qos_0 > 0
        if record is not None:
            record.take(self, messages[-1].number)
            self._note_taken(record, backlog)
        return True

    def _send_again(self, carrier: Carrier) -> bool:
        """Repeat what an earlier connection left unanswered; False while some of it must wait for
        the client's window, which is counted anew on each connection [MQTT-4.9.0-2].
        """
        inflight = self._inflight
        while inflight is not None and inflight.unsent:
            if (
                carrier.blocked
                or carrier.sated
                or len(inflight) - len(inflight.unsent) >= self.window
            ):
                return False
            packet_id, (publication, subscription, first) = inflight.next_unsent()
            first |= DUP  # [MQTT-3.3.1-1]
            if not carrier.send_publication(
                publication, first, packet_id, subscription.identifiers
            ):
                inflight.abandon(packet_id)  # [MQTT-3.1.2-25]
        return True

    def _send_run(self, messages: list[Publication], subscription: Subscription) -> bool:
        """Send all at once, if there is room for all and nothing is special about any."""
        carrier = self.carrier
        if carrier is None or carrier.blocked or self.queueing or subscription.identifiers:
            return False
        first = messages[0].first
        if first >> 1 & 3 > subscription.qos:  # [MQTT-3.8.4-8]
            first = PUBLISH | subscription.qos << 1
        if first < QOS_1:
            return carrier.send_run(messages, first, None)
        return self._start_run(carrier, messages, subscription, first)

    def _start_run(
        self,
        carrier: Carrier,
        messages: list[Publication],
        subscription: Subscription,
        first: int,
    ) -> bool:
        """Send QoS 1 or 2 messages with packet ids of their own, all or none."""
        inflight = self._inflight
        if inflight is None:
            inflight = self._inflight = Inflight()
        packet_ids = inflight.start_run(messages, subscription, first, self.window)
        if not packet_ids:
            return False
        is_sent = carrier.send_run(messages, first, packet_ids)
        if not is_sent:
            for packet_id in packet_ids:
                inflight.abandon(packet_id)
        return is_sent

    def _keep(self, outgoing: Outgoing) -> None:
        if self.record is not None and outgoing[0].number > 0 and outgoing[2] >= QOS_1:
            self._keep_stored(self.record, outgoing)
            return
        backlog = self._window()
        if self.is_full or not self._make_room(backlog, outgoing[0].topic):
            self._ledger.lose("backlog_full")
            return
        self._push(backlog, outgoing)
        self.queueing = True
        if outgoing[2] < QOS_1:
            self.holding = True

    def _push(self, backlog: Backlog, outgoing: Outgoing) -> None:
        if backlog.holds_topic(outgoing[0].topic):
            self._ledger.lose("superseded")
        backlog.push(outgoing)

    def _make_room(self, backlog: Backlog, topic: str) -> bool:
        """Drop what must go for a new message, where that is the policy."""
        if not self._bounds.makes_room or not self._exceeds(backlog):
            return True
        if backlog.holds_topic(topic):
            return True
        while len(backlog) and self._exceeds(backlog):
            self._drop_oldest(backlog)
        return not self._exceeds(backlog)

    def _drop_oldest(self, backlog: Backlog) -> None:
        publication = backlog.pop()[0]
        self._ledger.lose("backlog_oldest")
        if self.record is not None:
            self.record.take(self, publication.number)

    # -- a stored backlog -------------------------------------------------------------------------

    def _keep_behind(self, record: Record, publication: Publication) -> None:
        """Count a message that waits in the store alone."""
        if record.is_full and publication.number >= record.full_since:
            self._ledger.lose("backlog_full")
            return
        self.queueing = True
        record.add_behind(publication.size + OVERHEAD)
        self._check_bounds(record)

    def _keep_stored(self, record: Record, outgoing: Outgoing) -> None:
        """Keep a message for a client that is there: in memory as long as the window has room."""
        backlog = self._window()
        if (
            record.is_full
            or record.behind
            or self.carrier is None
            or len(backlog) >= self._bounds.window
            or backlog.size >= WINDOW_SIZE
        ):
            self._keep_behind(record, outgoing[0])
            return
        if self._bounds.makes_room and not self._make_room(backlog, outgoing[0].topic):
            self._ledger.lose("backlog_oldest")
            record.take(self, outgoing[0].number)
            return
        self._push(backlog, outgoing)
        record.loaded = outgoing[0].number
        self.queueing = True
        self._check_bounds(record)

    def _check_bounds(self, record: Record) -> None:
        """See to what must go, or that nothing more comes, when the backlog is full."""
        backlog = self._window()
        bounds = self._bounds
        if not self._exceeds(backlog):
            return
        if not bounds.makes_room:
            record.is_full = True
            record.shelf.full(self)
        elif (
            len(backlog) + record.behind > bounds.messages + bounds.slack
            or backlog.size + record.behind_size > bounds.size
        ):
            self._trim(record)

    def _trim(self, record: Record) -> None:
        if record.trimming is None:
            self._leave_to_the_store(record)  # what is sent meanwhile would be dropped as well
            record.loading = None
            record.trimming = record.shelf.trim(self)

    def _note_room(self, record: Record) -> None:
        if record.is_full and not self._exceeds(self._window()):
            record.is_full = False
            record.shelf.full(self)

    def _load(self, record: Record) -> None:
        """Ask the store for the next page of what waits."""
        if record.loading is not None or record.trimming is not None:
            return
        if self._bounds.makes_room and self._needs_trimming(record):
            self._trim(record)
            return
        record.loading = record.shelf.load(self)

    def _needs_trimming(self, record: Record) -> bool:
        """Whether what lies in the store is not what the bounds allow: looked at once for each time
        the client comes.
        """
        if record.loaded > record.cursor or record.in_order:
            return False
        record.in_order = True
        return self._bounds.last_values or record.behind > self._bounds.messages

    def _leave_to_the_store(self, record: Record) -> None:
        """Forget the window: the store has what is in it."""
        backlog = self._backlog
        record.in_order = False
        record.loaded = record.cursor
        if backlog is None:
            return
        for outgoing in list(backlog.take_all()):
            if outgoing[0].number > 0 and outgoing[2] >= QOS_1:
                record.behind += 1
                record.behind_size += outgoing[0].size + OVERHEAD
            else:
                backlog.push(outgoing)

    def _keep_replays(self, replays: deque[Iterator[Outgoing | None]]) -> None:
        """Queue the retained messages that were not sent yet in front of those that are newer; the
        client was told that its subscription stands, so it will not ask again.
        """
        newer, self._backlog = self._backlog, None
        for outgoing in islice(chain.from_iterable(replays), self._bounds.messages):
            if outgoing is not None and outgoing[2] >= QOS_1:
                self._keep(outgoing)
        if newer is not None:
            for outgoing in newer.take_all():
                self._keep(outgoing)

    def _next_waiting(self) -> Outgoing | None:
        """Take the next message that may be sent now; None when there is none."""
        if self.in_flight >= self.window:
            return None
        if self._replays:
            outgoing = next(self._replays[0], OVER)
            if outgoing is not OVER:
                return self._alone(outgoing)
            self._replays.popleft()
            if self._replays and self.carrier is not None:
                self.carrier.next_turn()
                return None
        return self._next_in_backlog()

    def _next_in_backlog(self) -> Outgoing | None:
        backlog, record = self._backlog, self.record
        while backlog:
            outgoing = backlog.pop()
            self.holding = backlog.qos_0 > 0
            if record is not None:
                self._note_taken(record, backlog)
            if not outgoing[0].expired(self._clock.now):
                return outgoing
            self._ledger.lose("expired")  # [MQTT-3.3.2-5]
            if record is not None and outgoing[2] >= QOS_1:
                record.take(self, outgoing[0].number)
        if record is not None and record.behind:
            self._load(record)
            return None
        self._backlog = self._replays = None
        self.queueing = self.holding = False
        return None

    def _note_taken(self, record: Record, backlog: Backlog) -> None:
        """Read on before the window is empty; say so when there is room again."""
        if record.behind and len(backlog) <= self._bounds.window // 2:
            self._load(record)
        if record.is_full:
            self._note_room(record)

    def _alone(self, outgoing: Outgoing | None) -> Outgoing | None:
        """A retained message on its way to a durable session is kept for it alone."""
        if outgoing is None or self.record is None or outgoing[2] < QOS_1:
            return outgoing
        return (self.record.shelf.single(outgoing[0]), outgoing[1], outgoing[2])
