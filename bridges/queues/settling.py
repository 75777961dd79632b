"""What becomes of messages, told to the backend in as few calls as it takes.

Rule kept here: nothing is delayed. What comes while a call is under way goes with the next one;
when none is under way, it goes at once. A backend that is gone is tried again, for ever.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridges.queues.backend import GONE, MOST_AT_ONCE, OK, QueueError
from bridges.queues.timing import Patience

if TYPE_CHECKING:
    from bridges.queues.backend import Backend
    from bridges.queues.timing import Timing


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of one delivery. `kind`: "ack", "nack" or "release"; the rest belongs to "nack"."""

    kind: str
    delay: float | None = None
    dead: bool = False
    reason: str = ""


ACK = Settlement("ack")
RELEASE = Settlement("release")


class _Waiting:
    """A receipt that is to be settled, and who waits for the outcome."""

    __slots__ = ("future", "receipt", "was_tried")

    def __init__(self, receipt: str) -> None:
        self.receipt = receipt
        self.future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.was_tried = False  # a call with it has failed: nobody knows whether it was done


class Settler:
    """Settles receipts with one backend. Its task lives only while there is something to do."""

    __slots__ = ("_backend", "_groups", "_patience", "_task")

    def __init__(self, backend: Backend, timing: Timing) -> None:
        self._backend = backend
        self._patience = Patience(timing)
        self._groups: dict[Settlement, list[_Waiting]] = {}
        self._task: asyncio.Task[None] | None = None

    def settle(self, receipt: str, settlement: Settlement) -> asyncio.Future[str]:
        """OK, DEAD, GONE or LOST, as soon as that is committed; or QueueError."""
        waiting = _Waiting(receipt)
        waiting.future.add_done_callback(_look_at)
        self._groups.setdefault(settlement, []).append(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return waiting.future

    async def flush(self) -> None:
        """Everything is settled afterwards."""
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """What is not settled yet will not be: its leases end by themselves."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        for waiting in self._take_all():
            waiting.future.cancel()

    async def _run(self) -> None:
        while self._groups:
            settlement = next(iter(self._groups))
            group = self._groups.pop(settlement)
            some, rest = group[:MOST_AT_ONCE], group[MOST_AT_ONCE:]
            if rest:
                self._groups[settlement] = rest
            await self._settle(settlement, some)

    async def _settle(self, settlement: Settlement, some: list[_Waiting]) -> None:
        try:
            results = await self._call(settlement, [each.receipt for each in some])
        except asyncio.CancelledError:
            self._put_back(settlement, some)
            raise
        except QueueError as error:
            await self._on_failure(settlement, some, error)
        else:
            self._patience.succeeded()
            for each, result in zip(some, results, strict=True):
                _answer(each, result)

    async def _call(self, settlement: Settlement, receipts: list[str]) -> list[str]:
        if settlement.kind == "ack":
            return await self._backend.ack(receipts)
        if settlement.kind == "release":
            return await self._backend.release(receipts)
        return await self._backend.nack(
            receipts, delay=settlement.delay, dead=settlement.dead, reason=settlement.reason
        )

    async def _on_failure(
        self, settlement: Settlement, some: list[_Waiting], error: QueueError
    ) -> None:
        if error.code == "unavailable":
            for each in some:
                each.was_tried = True
            self._put_back(settlement, some)
            await self._patience.pause()
            return
        for each in some:
            if not each.future.done():
                each.future.set_exception(error)

    def _put_back(self, settlement: Settlement, some: list[_Waiting]) -> None:
        self._groups[settlement] = some + self._groups.get(settlement, [])

    def _take_all(self) -> list[_Waiting]:
        groups, self._groups = self._groups, {}
        return [each for group in groups.values() for each in group]


def _answer(waiting: _Waiting, result: str) -> None:
    """A message that is gone at the second try went with the first, whose answer was lost."""
    if not waiting.future.done():
        waiting.future.set_result(OK if result == GONE and waiting.was_tried else result)


def _look_at(future: asyncio.Future[str]) -> None:
    """Nobody has to wait for the outcome: an error that nobody reads is no complaint of asyncio."""
    if not future.cancelled():
        future.exception()
