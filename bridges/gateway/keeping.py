"""What the gateway remembers, in one SQLite file: devices and their topics, who may come in, bauds;
and through it the command line gives its orders.

Rule kept here: what is confirmed is committed and synced. All is read into memory when the file is
opened and read from there; one thread writes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridges.gateway import keeping_tables as tables
from bridges.gateway.keeping_notebook import KeptNotebook
from bridges.gateway.keeping_writer import Writer
from bridges.gateway.orders import LONGEST_TEXT, Outcome, Stage

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from bridges.gateway.keeping_file import Content
    from bridges.gateway.keeping_pending import KeptTopic, Pending
    from bridges.gateway.orders import Order

FILE_NAME: Final = "gateway.db"  # in data_dir
MOST_GATEWAYS: Final = 1000
MOST_DECISIONS: Final = 10_000
MOST_BAUDS: Final = 1000
MOST_TOLD: Final = 50_000
ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"

_log: Final = logging.getLogger("heliograph")


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person has said about a device. `address` is a pattern, None: from anywhere."""

    client_id: str
    verdict: str  # ACCEPTED or REJECTED
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A device that nobody has decided about; `last_seen` in seconds since 1970."""

    client_id: str
    gateway: str
    address: str
    attempts: int
    last_seen: float


class Keeping:
    """The file at `path`, for one gateway process. Raises KeepingError when it cannot be used.

    Orders are taken once `on_order` is set; each is answered by `finish`.
    """

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._number = 0
        self._notebooks: dict[str, KeptNotebook] = {}
        self._on_order: Callable[[Order], None] | None = None
        self._writer = Writer(path, loop, self._on_kept, self._on_orders)
        content = self._writer.open()
        self.decisions: dict[str, Decision] = {}
        self.quarantine: dict[str, Waiting] = {}
        self.bauds = KeptBauds(self._writer, self._next_number)
        self.told = KeptTold(self._writer, content.told)
        self._load(content)

    @property
    def trouble(self) -> str:
        """Why nothing can be written at the moment; "": all is well."""
        return self._writer.trouble

    @property
    def commits(self) -> int:
        """Transactions so far."""
        return self._writer.commits

    def notebook(self, gateway: str) -> KeptNotebook:
        """The notebook of the gateway of a port or socket, always the same one."""
        found = self._notebooks.get(gateway)
        if found is None:
            found = KeptNotebook(gateway, self._writer, self._next_number)
            self._notebooks[gateway] = found
        return found

    # -- decisions --------------------------------------------------------------------------------

    def accept(self, client_id: str, address: str | None = None) -> bool:
        """Remember it; False: there are too many decisions already."""
        return self._decide(Decision(client_id, ACCEPTED, address))

    def reject(self, client_id: str) -> bool:
        """Remember it; False: there are too many decisions already."""
        return self._decide(Decision(client_id, REJECTED))

    def undecide(self, client_id: str) -> bool:
        """Forget what was decided; False: nothing was."""
        if self.decisions.pop(client_id, None) is None:
            return False
        self._put(tables.approval, client_id, None)
        return True

    def wait(self, waiting: Waiting) -> None:
        """Let the command line see a device in quarantine."""
        self.quarantine[waiting.client_id] = waiting
        row = {name: getattr(waiting, name) for name in tables.quarantine.columns.keys()}  # noqa: SIM118
        self._put(tables.quarantine, waiting.client_id, row)

    def release(self, client_id: str) -> None:
        """It waits no more."""
        if self.quarantine.pop(client_id, None) is not None:
            self._put(tables.quarantine, client_id, None)

    # -- orders -----------------------------------------------------------------------------------

    @property
    def on_order(self) -> Callable[[Order], None] | None:
        """Called on the loop with each order, once."""
        return self._on_order

    @on_order.setter
    def on_order(self, callback: Callable[[Order], None]) -> None:
        self._on_order = callback
        self._writer.take_orders()

    def progress(self, order: Order, text: str) -> None:
        """Say how far it is."""
        self._tell(order, Stage.TAKEN, text)

    def finish(self, order: Order, outcome: Outcome) -> None:
        """Say how it ended."""
        self._tell(order, Stage.DONE if outcome.is_done else Stage.FAILED, outcome.text)

    async def close(self) -> None:
        """Write what waits and close the file."""
        await self._writer.close()

    # -- helpers ----------------------------------------------------------------------------------

    def _tell(self, order: Order, stage: Stage, text: str) -> None:
        def change(pending: Pending) -> None:
            pending.outcomes[order.number] = (stage, text[:LONGEST_TEXT])

        self._writer.change(change)

    def _decide(self, decision: Decision) -> bool:
        client_id = decision.client_id
        if client_id not in self.decisions and len(self.decisions) >= MOST_DECISIONS:
            return False
        self.decisions[client_id] = decision
        self.release(client_id)
        row = {"client_id": client_id, "verdict": decision.verdict, "address": decision.address}
        self._put(tables.approval, client_id, row)
        return True

    def _put(self, table: Any, key: str, row: Mapping[str, Any] | None) -> None:
        kept = None if row is None else dict(row)
        self._writer.change(lambda pending: pending.put(table, key, kept))

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _on_kept(self, kept: list[KeptTopic]) -> None:
        for each in kept:
            self._notebooks[each.gateway].on_kept(each)

    def _on_orders(self, orders: list[Order]) -> None:
        assert self._on_order is not None
        for order in orders:
            try:
                self._on_order(order)
            except Exception:  # noqa: BLE001  told to both: the one who ordered, and the log
                _log.exception("an order could not be done: %s %s", order.kind.value, order.target)
                self.finish(order, Outcome(False, "an error of the gateway, see its log"))

    def _load(self, content: Content) -> None:
        numbers = [number for _, _, number in (*content.notes, *content.bauds)]
        self._number = max(numbers, default=0)
        for gateway, note, _ in content.notes:
            self.notebook(gateway).load_note(note)
        for gateway, client_id, topic_id, name in content.topics:
            self.notebook(gateway).load_topic(client_id, topic_id, name)
        self._forget_old_gateways([gateway for gateway, _, _ in reversed(content.notes)])
        for notebook in self._notebooks.values():
            notebook.trim()
        self.decisions = {each[0]: Decision(*each) for each in content.approvals}
        self.quarantine = {each[0]: Waiting(*each) for each in content.quarantine}
        for key, baud, _ in content.bauds:
            self.bauds.load(key, baud)

    def _forget_old_gateways(self, latest_first: list[str]) -> None:
        """Ports come and go with what is plugged in; the ones used last are remembered."""
        latest = set(list(dict.fromkeys(latest_first))[:MOST_GATEWAYS])
        if len(self._notebooks) <= MOST_GATEWAYS:
            return
        for gateway in [each for each in self._notebooks if each not in latest]:
            self._notebooks.pop(gateway).clear()


class KeptBauds:
    """A BaudMemory: what speed a device has last been met at."""

    def __init__(self, writer: Writer, number: Callable[[], int]) -> None:
        self._writer = writer
        self._number = number
        self._bauds: dict[str, int] = {}  # the longest unused first

    def load(self, key: str, baud: int) -> None:
        """In the order in which they were written."""
        self._bauds[key] = baud

    def recall(self, key: str) -> int | None:
        """The baud to try first; None: not known."""
        return self._bauds.get(key)

    def remember(self, key: str, baud: int) -> None:
        """Try this first the next time."""
        if self._bauds.get(key) == baud:
            return
        self._bauds.pop(key, None)
        self._bauds[key] = baud
        row = {"key": key, "baud": baud, "number": self._number()}
        self._writer.change(lambda pending: pending.put(tables.baud, key, row))
        if len(self._bauds) > MOST_BAUDS:
            oldest = next(iter(self._bauds))
            del self._bauds[oldest]
            self._writer.change(lambda pending: pending.put(tables.baud, oldest, None))


class KeptTold:
    """A Told."""

    def __init__(self, writer: Writer, topics: Iterable[str]) -> None:
        self._writer = writer
        self._topics = set(topics)

    def topics(self) -> Iterable[str]:
        """See Told."""
        return list(self._topics)

    def add(self, topic: str) -> None:
        """See Told."""
        if topic not in self._topics and len(self._topics) < MOST_TOLD:
            self._topics.add(topic)
            self._writer.change(lambda pending: pending.put(tables.told, topic, {"topic": topic}))

    def discard(self, topic: str) -> None:
        """See Told."""
        if topic in self._topics:
            self._topics.discard(topic)
            self._writer.change(lambda pending: pending.put(tables.told, topic, None))
