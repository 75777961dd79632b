"""A store in memory that does what the store process does, when the test says so.

It takes batches and questions in the order of the stream and gets on with them only in
`commit_next` (or at once, if `instant`). `opened` is what a store process would say after a crash:
nothing but what was committed counts.
"""

from __future__ import annotations

from collections import Counter, deque
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from broker.topics.filters import matches
from tests.support.memory_queues import MemoryQueues

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from broker.engine.journal import Journal
    from broker.engine.ports import Operations, Row

KEYS = {  # how many of a row's first columns are its key
    "session": 1,
    "subscription": 2,
    "member": 2,
    "message": 1,
    "inflight": 2,
    "received": 2,
    "retained": 1,
    "will": 1,
}
NUMBER, AUDIENCE, TOPIC = 0, 1, 2  # columns of a message
EXPIRES_AT, SIZE = 7, 8
SCANNED = 20  # retained topics looked at for one answer: few, so that tests see many pages
FIRST_META = (0, 1, 1, 1, 0.0, 0.0)


def is_for_queues(name: str) -> bool:
    """Whether an operation or question is about queues."""
    return name.startswith("queue_")


class MemoryStore:
    """The Store port over dictionaries: `tables[name][key]` is a row. `queues` are definitions:
    (name, policy as JSON, bindings as JSON).
    """

    def __init__(self, instant: bool = False, queues: Iterable[Row] = ()) -> None:
        self.instant = instant
        self.queues = MemoryQueues(queues) if queues else None
        self.tables: dict[str, dict[Any, Row]] = {name: {} for name in KEYS}
        self.meta: Row = FIRST_META
        self.waiting: deque[tuple[Callable[..., None], Row]] = deque()
        self.journal: Journal | None = None  # told what is committed
        self.written: Counter[str] = Counter()  # rows by operation
        self.batches: list[tuple[bool, Operations]] = []  # that were submitted: (synced, what)

    # -- the Store port ---------------------------------------------------------------------------

    def submit(self, position: int, synced: bool, operations: Operations) -> None:
        """See Store. Nothing of it may change after it was handed over."""
        operations = deepcopy(operations)
        self.batches.append((synced, operations))
        self.waiting.append((self._commit, (position, operations)))

    def ask(self, name: str, arguments: Row, answer: Callable[[Any], None]) -> None:
        """See Store."""
        self.waiting.append((self._answer, (name, arguments, answer)))

    # -- for tests --------------------------------------------------------------------------------

    def commit_next(self) -> bool:
        """Do what is next in the stream: commit a batch or answer a question; False if nothing."""
        if not self.waiting:
            return False
        step, arguments = self.waiting.popleft()
        step(*arguments)
        return True

    def count(self, name: str) -> int:
        """How many rows a table has."""
        return len(self.tables[name])

    def crash(self) -> MemoryStore:
        """The store as it is found after the end of both processes."""
        found = MemoryStore(self.instant)
        found.tables = deepcopy(self.tables)
        found.meta = self.meta
        found.queues = None if self.queues is None else self.queues.crash()
        return found

    @property
    def queued(self) -> MemoryQueues:
        """The queues; made when they are first needed."""
        if self.queues is None:
            self.queues = MemoryQueues()
            self.queues.opened()
        return self.queues

    def opened(self, retained_window: int = 20_000) -> dict[str, Any]:
        """What a store process says when it is opened."""
        retained = list(self.tables["retained"].values())
        audiences: dict[int, list[int]] = {}
        for row in self.tables["message"].values():
            if row[AUDIENCE] is not None:
                audiences.setdefault(row[AUDIENCE], []).append(row[NUMBER])
        return {
            "meta": self.meta,
            "sessions": [self._opened_session(row) for row in self.tables["session"].values()],
            "subscriptions": list(self.tables["subscription"].values()),
            "members": list(self.tables["member"].values()),
            "audiences": [(each, min(found), max(found)) for each, found in audiences.items()],
            "retained": retained if len(retained) <= retained_window else None,
            "retained_count": len(retained),
            "retained_bytes": sum(row[-1] for row in retained),
            "wills": list(self.tables["will"].values()),
            "alarms": [],
            "database": "memory",
            **({} if self.queues is None else self.queues.opened()),
        }

    # -- batches ----------------------------------------------------------------------------------

    def _commit(self, position: int, operations: Operations) -> None:
        assert position > self.meta[0], "a position that was used before"
        count = 0
        for name, rows in operations:
            self.written[name] += len(rows)
            count += len(rows)
            for row in () if is_for_queues(name) else rows:
                self._apply(name, row)
        for_queues = [each for each in operations if is_for_queues(each[0])]
        results: list[Any] = []
        counts: list[Any] = []
        if for_queues:
            in_flight = self.tables["inflight"].values()
            results, counts = self.queued.apply(for_queues, in_flight)
        self._check()
        if self.journal is not None:
            self.journal.on_committed(position, 0.001, count, results, counts)

    def _apply(self, name: str, row: Row) -> None:
        special = getattr(self, f"_{name}", None)
        if special is not None:
            special(*row)
            return
        table, _, verb = name.rpartition("_")
        key = row[0] if KEYS[table] == 1 else row[: KEYS[table]]
        if verb == "put":
            if name == "session_put":
                self._check_name(row)
            self.tables[table][key] = row
        else:
            assert verb == "drop"
            self.tables[table].pop(key, None)

    def _check_name(self, row: Row) -> None:
        """A client id is unique, as the table says, after every single row."""
        for other in self.tables["session"].values():
            assert other[0] == row[0] or row[1] is None or other[1] != row[1], "a name held by two"

    def _check(self) -> None:
        """What must hold after every batch."""
        sessions = self.tables["session"]
        for name in ("subscription", "inflight", "received"):
            for row in self.tables[name].values():
                assert row[0] in sessions, f"{name} {row} of no session"
        audiences = {row[0] for row in self.tables["member"].values()}
        for row in self.tables["message"].values():
            assert row[AUDIENCE] is None or row[AUDIENCE] in audiences, f"{row} is for nobody"
            assert row[NUMBER] < self.meta[1], "a number that will be given again"

    def _meta(self, *row: Any) -> None:
        self.meta = row

    def _session_cursor(self, cursor: int, number: int) -> None:
        self.tables["session"][number] = (*self.tables["session"][number][:5], cursor)

    def _session_drop(self, number: int) -> None:
        self.tables["session"].pop(number, None)
        for name, column in (("subscription", 0), ("member", 1), ("inflight", 0), ("received", 0)):
            self._delete(name, lambda row, at=column: row[at] == number)

    def _audience_drop(self, audience: int) -> None:
        self._delete("member", lambda row: row[0] == audience)
        self._delete("message", lambda row: row[AUDIENCE] == audience)

    def _message_sweep(self, audience: int, up_to: int) -> None:
        self._delete("message", lambda row: row[AUDIENCE] == audience and row[NUMBER] <= up_to)

    def _delete(self, name: str, is_wanted: Callable[[Row], bool]) -> int:
        table = self.tables[name]
        keys = [key for key, row in table.items() if is_wanted(row)]
        for key in keys:
            del table[key]
        return len(keys)

    # -- questions --------------------------------------------------------------------------------

    def _answer(self, name: str, arguments: Row, answer: Callable[[Any], None]) -> None:
        if is_for_queues(name):
            answer(self.queued.answer(name, arguments))
        else:
            answer(getattr(self, f"ask_{name}")(*arguments))

    def ask_backlog(self, session: int, after: int, most: int, most_bytes: int) -> list[Row]:
        page: list[Row] = []
        size = 0
        for row in self._waits(session, after):
            size += row[SIZE]
            if len(page) == most or (page and size > most_bytes):
                break
            page.append(row[:SIZE])
        return page

    def ask_resume(self, session: int) -> dict[str, list[Any]]:
        rows = [row for row in self.tables["inflight"].values() if row[0] == session]
        inflight = []
        lent: list[Row] = []
        for _, packet_id, number, first, state, _ in sorted(rows, key=lambda row: row[5]):
            message = self.tables["message"].get(number) if state == 0 else None
            fields = (None,) * 7 if message is None else message[1:SIZE]
            inflight.append((packet_id, first, state, number, *fields))
            if state == 2:
                lent += self.queued.lent(-number)
        received = sorted(key[1] for key in self.tables["received"] if key[0] == session)
        return {"inflight": inflight, "lent": lent, "received": received}

    def ask_retained(
        self, wanted: str, after: str, most: int, most_bytes: int, now: float
    ) -> tuple[list[Row], str | None]:
        topics = sorted((each for each in self.tables["retained"]), key=str.encode)
        topics = [each for each in topics if each.encode() > after.encode()]
        rows: list[Row] = []
        size = 0
        for count, topic in enumerate(topics):
            row = self.tables["retained"][topic]
            if count == SCANNED or len(rows) == most:
                return rows, topics[count - 1]
            if not matches(wanted, topic) or (row[5] is not None and row[5] <= now):
                continue
            size += row[6]
            if rows and size > most_bytes:
                return rows, rows[-1][0]
            rows.append(row[:6])
        return rows, None

    def ask_retained_totals(self, now: float) -> tuple[int, int]:
        self._delete("retained", lambda row: row[5] is not None and row[5] <= now)
        rows = self.tables["retained"].values()
        return len(rows), sum(row[6] for row in rows)

    def ask_trim(self, session: int, mode: str, most: int, most_bytes: int, now: float) -> Row:
        cursor = self.tables["session"][session][5] if session in self.tables["session"] else 0
        waits = self._waits(session, cursor)
        expired = self._drop(
            [row for row in waits if row[EXPIRES_AT] is not None and row[EXPIRES_AT] <= now]
        )
        waits = self._waits(session, cursor)
        before = list(waits)
        if mode == "last_value":
            newest = {(row[AUDIENCE], row[TOPIC]): row[NUMBER] for row in waits}
            self._drop([row for row in waits if row[NUMBER] not in newest.values()])
            waits = self._waits(session, cursor)
        while waits and (len(waits) > most or sum(row[SIZE] for row in waits) > most_bytes):
            cursor = waits.pop(0)[NUMBER]
        size = sum(row[SIZE] for row in waits)
        gone = sum(row[SIZE] for row in before) - size
        return cursor, len(before) - len(waits), gone, expired, len(waits), size

    def _waits(self, session: int, after: int) -> list[Row]:
        """The messages of a session's audiences behind a number, in order."""
        audiences = {audience for audience, each in self.tables["member"] if each == session}
        rows = self.tables["message"].values()
        waits = [row for row in rows if row[AUDIENCE] in audiences and row[NUMBER] > after]
        return sorted(waits, key=lambda row: row[NUMBER])

    def _drop(self, rows: list[Row]) -> int:
        """Delete messages that are in flight to nobody."""
        inflight = {row[2] for row in self.tables["inflight"].values()}
        gone = [row[NUMBER] for row in rows if row[NUMBER] not in inflight]
        for number in gone:
            del self.tables["message"][number]
        return len(gone)

    def _opened_session(self, row: Row) -> Row:
        messages = self.tables["message"]
        numbers = [
            number
            for (session, _), (_, _, number, *_) in self.tables["inflight"].items()
            if session == row[0] and number in messages and messages[number][AUDIENCE] is not None
        ]
        waits = self._waits(row[0], row[5])
        size = sum(each[SIZE] for each in waits)
        return (*row, min(numbers, default=None), len(waits), size)
