"""What must be stored, gathered while the last commit runs, and the answers that wait for it.

Nothing is written change by change. The parts of the engine say what has changed; when a batch is
sealed, what is gets compared with what the store has, and only the difference is written. So what
began and ended while the last commit ran never reaches the disk. One batch is with the store at a
time: an idle broker commits at once, a busy one thousands together. An answer leaves when the batch
that was open when it was given has been committed; the answers to one client keep their order.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

from broker.engine.audiences import Audiences
from broker.engine.changes import Changes
from broker.engine.durability import Level
from broker.engine.questions import Questions
from broker.engine.timeline import Timeline
from broker.packets.codes import MQTT_5
from broker.packets.publication import QOS_BITS
from broker.session.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker.clock import Clock
    from broker.connection.connection import Connection
    from broker.engine.audiences import Audience
    from broker.engine.deadlines import Deadlines
    from broker.engine.ports import Durability, Operations
    from broker.engine.queueing import Queueing
    from broker.engine.router import Route
    from broker.packets.publication import Publication
    from broker.packets.types import Will
    from broker.session.session import Session
    from broker.session.subscription import Subscription

Answer: TypeAlias = "tuple[Connection | Waiting, list[bytes]]"

WEIGHT = 500  # bytes that a message costs beside its payload until it is written
MOST_OPEN = 4_194_304  # bytes of messages for which no answer waits that are gathered at most
HIGH_WATER = 16_777_216  # bytes that are not committed at which publishers are slowed down
LOW_WATER = 4_194_304  # ... and let go on
REFUSING = ("full", "read_only")  # troubles that do not end by waiting


class Waiting:
    """What stands in the line of answers for something else that waits for a commit."""

    __slots__ = ("_go_on",)

    def __init__(self, go_on: Callable[[], None]) -> None:
        self._go_on = go_on

    def send_held_back(self, _frames: list[bytes]) -> None:
        """It is committed."""
        self._go_on()


class Sent:
    """A batch that is with the store, and who waits for it."""

    __slots__ = ("answers", "calls", "position", "size", "synced")

    def __init__(
        self, position: int, synced: bool, answers: list[Answer], size: int, calls: tuple[int, int]
    ) -> None:
        self.position = position
        self.synced = synced
        self.answers = answers
        self.size = size
        self.calls = calls  # the queues' calls that it has: from, up to


class Figures:
    """What is told about the store."""

    __slots__ = ("alarms", "batches", "rows", "seconds", "slowest", "total_seconds", "trouble")

    def __init__(self) -> None:
        self.alarms: list[str] = []  # what was lost or moved aside
        self.batches = 0
        self.rows = 0
        self.seconds = 0.0  # that the last commit took
        self.slowest = 0.0
        self.total_seconds = 0.0
        self.trouble = ""

    def note(self, seconds: float, rows: int) -> None:
        """A batch has been committed."""
        self.batches += 1
        self.rows += rows
        self.seconds = seconds
        self.total_seconds += seconds
        self.slowest = max(self.slowest, seconds)


class Journal:
    """The Shelf of every durable session, and the gate that answers pass."""

    def __init__(self, durability: Durability, clock: Clock, deadlines: Deadlines) -> None:
        self.levels = durability.levels
        self.timeline = Timeline(durability.wall)
        self.audiences = Audiences()
        self.figures = Figures()
        self.store = durability.store
        self.highest = self.levels.highest  # of sessions and subscriptions, which carry every topic
        self.longest_name = 0  # bytes; 0: of any length
        # of the next message and session, and of the batch that is being gathered
        self.next_number = self.next_session = self.position = 1
        self.committed = 0
        self.demanded = 0  # the highest level that something since the last answer asks for
        self.on_work: Callable[[], None] | None = None  # call `turn` at the end of the loop turn
        self.armed_for: int | None = None
        self._clock = clock
        self._deadlines = deadlines
        self._relaxed_interval = durability.relaxed_interval
        self.queues: Queueing | None = None
        self._next_call = 1  # of the queues, that no batch has yet
        self._changes = Changes(self)
        self.questions = Questions(
            self.store, self._changes, clock, self.timeline, self._seal, self.schedule
        )
        self._full: set[int] = set()  # sessions that new messages are not for
        self._answers: list[Answer] = []
        self._synced = False
        self._size = self._sent_size = 0  # bytes gathered, and with the store
        self._sent: deque[Sent] = deque()
        self._slowed: dict[Connection, None] = {}
        self._is_scheduled = False
        self._due: float | None = None
        self._look_at_clock = clock.now + CLOCK_PAUSE
        self._is_due = False  # everything is to be written with the next batch

    def begin_again(self, meta: tuple[Any, ...], now: float) -> None:
        """Go on where the store ends: (position, next number, session and audience, its time and
        the wall clock's) of its last batch.
        """
        self.committed, self.next_number, self.next_session, self.audiences.next_id, *times = meta
        self.position = self.committed + 1
        self._changes.begin_again(self.position)
        store_time, wall_time = times
        self.timeline.begin(store_time, wall_time, now)
        self._look_at_clock = now + CLOCK_PAUSE
        self._deadlines.arm(self)

    def fits(self, name: str) -> bool:
        """Whether the store can find something by this client id, filter or topic."""
        return not self.longest_name or len(name.encode()) <= self.longest_name

    def hold(self, audience: Audience) -> None:
        """The store has messages for this audience."""
        self._changes.hold(audience)

    # -- answers ----------------------------------------------------------------------------------

    def demand(self, level: int) -> None:
        """The next answer waits for what has been said until now."""
        if level > self.demanded:
            self.demanded = level

    def demand_received(self, session: Session) -> None:
        """The next answer waits until the packet ids of incoming QoS 2 messages are stored: or the
        repetition of one would be another one. That counts for the answer to a repetition, too:
        what it repeats may be on its way to the disk still.
        """
        if session.record is not None:
            self._changes.urgent[session] = None
            self.demand(self.highest)

    def answer(self, connection: Connection, frames: list[bytes]) -> None:
        """Send an answer as soon as what it promises is true."""
        level, self.demanded = self.demanded, 0
        if level >= Level.COMMIT:
            self._wait(connection, frames, level)
        elif connection.awaiting > self.committed:
            self._wait(connection, frames, Level.RELAXED)  # not before those given earlier
        else:
            connection.send_all(frames)
        if self.is_behind or (self.refuses and connection.version != MQTT_5):
            connection.slow_down(True)
            self._slowed[connection] = None

    def hold_back(self, connection: Connection, frames: list[bytes]) -> None:
        """Send a step of a QoS 2 exchange when the one it answers cannot be forgotten any more."""
        if self.highest >= Level.COMMIT:
            if connection.session is not None:
                self._changes.urgent[connection.session] = None
            self._wait(connection, frames, self.highest)
        else:
            connection.send_all(frames)

    @property
    def pending(self) -> int:
        """Bytes of messages that are not committed yet."""
        return self._size + self._sent_size

    @property
    def is_behind(self) -> bool:
        """Whether too much waits for its commit."""
        return self.pending > HIGH_WATER

    @property
    def refuses(self) -> bool:
        """Whether the store takes nothing new, and waiting will not help."""
        return self.figures.trouble in REFUSING

    # -- queues -----------------------------------------------------------------------------------

    def gather(self, size: int, level: int) -> None:
        """A message of so many bytes goes into a queue; the next answer waits for it."""
        self._size += size + WEIGHT
        self.demand(level)
        if not self._is_scheduled:
            self.schedule()

    @property
    def queues_are_choosy(self) -> bool:
        """Whether messages must be looked at one by one, as a queue may refuse some."""
        return self.queues is not None and bool(self.queues.refusing)

    def promise(self, level: int) -> None:
        """What is gathered now is promised to somebody who waits for the results of its batch."""
        if level == Level.STRICT:
            self._synced = True

    def await_commit(self, go_on: Callable[[], None], level: int) -> None:
        """Call `go_on` when what has been gathered until now is committed."""
        self._answers.append((Waiting(go_on), []))
        self.promise(level)
        self.schedule()

    # -- messages ---------------------------------------------------------------------------------

    def address(self, publication: Publication, route: Route) -> None:
        """Store a QoS 1 or 2 message for the durable receivers of its route."""
        audience = route.audience
        if audience is None:
            return
        if self._full or route.has_no_local:
            audience = self.audiences.of(self._exact(publication, route))
            if audience is None:
                return
        self._enlist(publication, audience, route.level)

    def address_one(self, publication: Publication, subscription: Subscription) -> Publication:
        """Store a message for one subscriber, as the choice among shared ones; return the one to
        offer.
        """
        level = self.levels.of(publication.topic)
        record = subscription.session.record
        if not level or record is None or not subscription.qos or record.is_full:
            return publication
        audience = self.audiences.of([subscription])
        assert audience is not None
        if publication.number:
            publication = publication.copy(0)
        self._enlist(publication, audience, level)
        return publication

    def single(self, publication: Publication) -> Publication:
        """See Shelf."""
        if not self.levels.of(publication.topic):
            return publication.copy(0)
        number, self.next_number = self.next_number, self.next_number + 1
        return publication.copy(-number)

    def retain(self, publication: Publication, level: int) -> None:
        """Store (or, with an empty payload, erase) a topic's retained message."""
        replaced = self._changes.retained.get(publication.topic)
        self._changes.retained[publication.topic] = publication
        if replaced is not None:
            self._size -= replaced.size + WEIGHT
        self._size += publication.size + WEIGHT
        if publication.first & QOS_BITS:  # nobody waits for an answer to QoS 0
            self.demand(level)
        self.schedule()

    def forget_retained(self, topic: str) -> None:
        """A retained message is gone: expired, or there was no room for its successor."""
        self._changes.retained[topic] = None
        self.schedule()

    def leave_will(
        self, client_id: str, will: Will, username: str | None, due_at: float | None
    ) -> None:
        """Store a will; `due_at` is None while its client is connected."""
        self._changes.wills[client_id] = (will, username, due_at)
        self.schedule()

    def has_will(self, client_id: str) -> None:
        """The store has a will of this client."""
        self._changes.written_wills.add(client_id)

    def forget_will(self, client_id: str) -> None:
        """A will has been published, or is not to be."""
        if client_id in self._changes.written_wills:
            self._changes.wills[client_id] = None
            self.schedule()
        else:
            self._changes.wills.pop(client_id, None)

    def publication(
        self,
        topic: str,
        payload: bytes,
        properties: bytes,
        first: int,
        publisher: str,
        expires_at: float | None,
    ) -> Publication:
        """A message that the store has read; `expires_at` is on its timeline."""
        return self._changes.publication(topic, payload, properties, first, publisher, expires_at)

    # -- sessions ---------------------------------------------------------------------------------

    def begin(self, session: Session) -> None:
        """From now on this session is durable."""
        session.record = Record(self.next_session, self, self.next_number - 1)
        self.next_session += 1
        session.record.touch(session)
        self._changes.urgent[session] = None

    def write_soon(self, session: Session) -> None:
        """Write the session with the next batch, whatever it is for."""
        self._changes.urgent[session] = None
        self.schedule()

    def end(self, session: Session) -> None:
        """The session is over: nothing of it is kept."""
        record = session.record
        assert record is not None
        self._full.discard(record.id)
        self._changes.urgent.pop(session, None)
        for wanted in session.subscriptions or ():
            self._changes.subscriptions.pop((record.id, wanted), None)
        if record.row is not None:  # else the store has never heard of it
            self._changes.ended.append(record)
        record.is_dirty = True  # nobody writes it any more
        record.is_over = True
        self.schedule()

    def subscribed(
        self, wanted: str, subscription: Subscription, before: Subscription | None
    ) -> None:
        """Store a durable session's subscription, `wanted` as the client wrote it. One like it
        `before` is stored, or is about to be.
        """
        record = subscription.session.record
        if record is None:
            return
        if not subscription.is_like(before):
            self._changes.subscriptions[record.id, wanted] = subscription
        self.demand(self.highest)
        self.schedule()

    def unsubscribed(self, session: Session, wanted: str) -> None:
        """Forget one."""
        if session.record is not None:
            self._changes.subscriptions[session.record.id, wanted] = None
            self.demand(self.highest)
            self.schedule()

    # -- for sessions (Shelf) ---------------------------------------------------------------------

    def touch(self, session: Session) -> None:
        """See Shelf."""
        self._changes.sessions.append(session)
        if not self._is_scheduled:
            self.schedule()

    def is_settled(self, session: Session, go_on: Callable[[], None]) -> bool:
        """See Shelf."""
        if not self._sent and session not in self._changes.urgent:
            return True
        self._answers.append((Waiting(go_on), []))
        self._synced = self._synced or self.highest == Level.STRICT
        self.schedule()
        return False

    def load(self, session: Session) -> object:
        """See Shelf."""
        token = object()
        self.questions.backlog(session, lambda page: session.arrived(token, page))
        return token

    def trim(self, session: Session) -> object:
        """See Shelf."""
        return self.questions.trim(session)

    def full(self, session: Session) -> None:
        """See Shelf."""
        record = session.record
        assert record is not None
        if record.is_full:
            record.full_since = self.next_number
            self._full.add(record.id)
        else:
            self._full.discard(record.id)

    def replayed(self, subscription: Subscription) -> None:
        """All retained messages for a new subscription have been sent."""
        subscription.replaying = False
        record = subscription.session.record
        held = subscription.session.subscriptions or {}
        is_held = held.get(subscription.filter) is subscription  # and not replaced or removed
        if record is not None and is_held:
            self._changes.subscriptions[record.id, subscription.filter] = subscription
            self.schedule()

    # -- what the store and the shell report ------------------------------------------------------

    def turn(self) -> None:
        """The loop turn ends: commit, if the store is free and somebody waits."""
        self._is_scheduled = False
        self.questions.ask()
        if not self._has_content:
            return
        if self._due is None:
            self._due = self._clock.now + self._relaxed_interval
            self._deadlines.arm(self)
        if not self._sent and self._is_time:
            self._seal(self._is_due)

    @property
    def _is_time(self) -> bool:
        """Whether something in the open batch should not wait for more."""
        is_urgent = self.queues is not None and self.queues.is_urgent
        return is_urgent or bool(self._answers) or self._size > MOST_OPEN or self._is_due

    def on_committed(
        self,
        position: int,
        seconds: float,
        rows: int,
        results: Sequence[tuple[int, Any]] = (),
        counts: Sequence[tuple[str, int, int]] = (),
    ) -> None:
        """A batch is safe: let its answers go, and commit what has gathered meanwhile. `results`
        and `counts` are the queues'.
        """
        if rows:  # else it had been committed before the store process was started again
            self.figures.note(seconds, rows)
        calls = self._next_call, 0
        while self._sent and self._sent[0].position <= position:
            sent = self._sent.popleft()
            self.committed = sent.position
            self._sent_size -= sent.size
            calls = min(calls[0], sent.calls[0]), sent.calls[1]
            _release(sent.answers)
        if self.queues is not None:
            self.queues.on_results(position, results, counts)
            self.queues.on_lost(*calls)
            if not rows:
                self.queues.count_anew()
        self._let_go_on()
        self.turn()

    def on_trouble(self, kind: str, _text: str) -> None:
        """The store cannot commit: "full", "read_only", "away" or "locked"."""
        self.figures.trouble = kind

    def on_well(self) -> None:
        """It can again."""
        self.figures.trouble = ""
        self._let_go_on()

    def next_deadline(self) -> float | None:
        """When what nobody waits for is written at the latest, or the clock is looked at."""
        return self._look_at_clock if self._due is None else min(self._due, self._look_at_clock)

    def tick(self, now: float) -> None:
        """Write what nobody waits for; while a commit runs, the next one takes it along."""
        if self._due is not None and now >= self._due:
            self._due = None
            self._is_due = True
            self.turn()
        if now >= self._look_at_clock:
            self._look_at_clock = now + CLOCK_PAUSE
            if not (self._sent or self._answers) and self.timeline.has_jumped(now):
                self._submit([])

    def flush(self) -> None:
        """Give everything to the store: the broker stops."""
        self._seal(everything=True)

    # -- helpers ----------------------------------------------------------------------------------

    @property
    def _has_content(self) -> bool:
        has_queued = self.queues is not None and self.queues.any
        return bool(self._answers) or has_queued or self._changes.any

    def _enlist(self, publication: Publication, audience: Audience, level: int) -> None:
        """Number a message and store it for its audience."""
        publication.number = self.next_number
        self.next_number += 1
        self._changes.messages.append((publication, audience))
        self._size += publication.size + WEIGHT
        self.demand(level)
        if not self._is_scheduled:
            self.schedule()

    def _exact(self, publication: Publication, route: Route) -> list[Subscription]:
        """The receivers without those that are full or sent it themselves."""
        receivers = []
        for each in route.subscriptions:
            record, subscription = each.session.record, each
            if each.no_local and each.session.client_id == publication.publisher:
                if each.own is None:
                    continue
                subscription = each.own
            if record is None:
                continue
            if not record.is_full:
                receivers.append(subscription)
            elif self._clock.now >= record.purge_at:  # what has expired makes room
                record.purge_at = self._clock.now + PURGE_PAUSE
                subscription.session.purge()
        return receivers

    def _wait(self, connection: Connection, frames: list[bytes], level: int) -> None:
        self._answers.append((connection, frames))
        connection.awaiting = self.position
        if level == Level.STRICT:
            self._synced = True
        self.schedule()

    def schedule(self) -> None:
        """Have `turn` called at the end of this turn of the loop."""
        if not self._is_scheduled:
            self._is_scheduled = True
            if self.on_work is not None:
                self.on_work()

    def _seal(self, everything: bool = False) -> None:
        """Give what has gathered to the store, or let the answers go when nothing is left of it."""
        answers, self._answers = self._answers, []
        size, self._size = self._size, 0
        synced, self._synced = self._synced, False
        self._is_due = self._is_due and not everything
        operations = self._changes.take(everything)
        if self.queues is not None:
            operations += self.queues.take(self.position)
        if operations or (synced and self._sent and not self._sent[-1].synced):
            self._submit(operations, synced, answers, size)
        elif self._sent:
            self._sent[-1].answers += answers
        else:
            _release(answers)
            self.committed = self.position
            self.position += 1

    def _submit(
        self,
        operations: Operations,
        synced: bool = True,
        answers: list[Answer] | None = None,
        size: int = 0,
    ) -> None:
        operations.append(("meta", [self._meta()]))
        calls = self._next_call, self._next_call
        if self.queues is not None:
            calls = self._next_call, self.queues.batch.next_call
            self._next_call = calls[1]
        self._sent.append(Sent(self.position, synced, answers or [], size, calls))
        self._sent_size += size
        self.store.submit(self.position, synced, operations)
        self.position += 1

    def _meta(self) -> tuple[Any, ...]:
        return (
            self.position,
            self.next_number,
            self.next_session,
            self.audiences.next_id,
            *self.timeline.pair(self._clock.now),
        )

    def _let_go_on(self) -> None:
        if not self._slowed or self.pending >= LOW_WATER or self.refuses:
            return
        slowed, self._slowed = self._slowed, {}
        for connection in slowed:
            connection.slow_down(False)


CLOCK_PAUSE = 5.0  # seconds between two looks whether the clock on the wall has jumped
PURGE_PAUSE = 10.0  # seconds between two looks for expired messages of a full session


def _release(answers: list[Answer]) -> None:
    for connection, frames in answers:
        connection.send_held_back(frames)
