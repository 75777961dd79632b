"""A message in the hands of this program: its content, and the verbs that end its lease.

Rule kept here: one delivery is settled once. What the program has said first holds; leaving the
`async with` block of a message says something only if nothing has been said.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self

from bridges.queues.backend import GONE, LOST
from bridges.queues.settling import ACK, RELEASE, Settlement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from bridges.queues.backend import Message

LONGEST_REASON = 200  # characters of an exception that go with the message
GIVEN_UP = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)  # nobody's fault


class LeaseLost(Exception):  # noqa: N818 - it says what has happened; the program may go on
    """An acknowledgement came too late: the lease had ended, and the message is or was another's.

    What was done with it will be, or has been, done twice.
    """

    def __init__(self, message_id: int, queue: str) -> None:
        super().__init__(message_id, queue)
        self.message_id = message_id
        self.queue = queue

    def __str__(self) -> str:
        return (
            f"the lease of message {self.message_id} of {self.queue} had ended before it was "
            "acknowledged: another consumer gets it or has had it. If the work takes long, give "
            "it a longer lease, or renew it from time to time"
        )


class Reject(Exception):  # noqa: N818 - a word to the queue, not a failure of the program
    """Raised over a message: it will never work, off to the dead letters. The text goes with it."""


class Retry(Exception):  # noqa: N818 - as above
    """Raised over a message: not now. `delay` in seconds; None: as the queue's policy says."""

    def __init__(self, reason: str = "", delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class Received:
    """A leased message. All fields of `backend.Message` are its own, too.

    `lost` becomes True when the lease has ended without the program's doing.
    """

    __slots__ = ("_is_provisional", "_renew", "_settle", "_settled", "lost", "message")

    id: int
    queue: str
    payload: bytes
    topic: str
    key: str | None
    priority: int
    publisher: str
    content_type: str | None
    properties: Mapping[str, str]
    enqueued_at: float
    expires_at: float | None
    lease_until: float | None
    delivery_count: int
    failures: int
    dead_from: str | None
    dead_reason: str | None
    dead_at: float | None
    receipt: str

    def __init__(
        self,
        message: Message,
        settle: Callable[[Received, Settlement], asyncio.Future[str]],
        renew: Callable[[Received, float | None], Awaitable[None]],
    ) -> None:
        self.message = message
        self.lost = False
        self._settle = settle
        self._renew = renew
        self._settled: asyncio.Future[str] | None = None
        self._is_provisional = False  # acknowledged in a transaction that may still be rolled back

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "message"), name)

    def __repr__(self) -> str:
        return f"<message {self.id} of {self.queue}, {len(self.payload)} bytes>"

    # -- what it says -----------------------------------------------------------------------------

    @property
    def token(self) -> int:
        """The second half of the receipt, as `heliograph.ack(id, token)` in PostgreSQL wants it."""
        return int(self.receipt.rpartition("-")[2], 16)

    def text(self) -> str:
        """The payload as UTF-8. Raises UnicodeDecodeError."""
        return self.payload.decode()

    def json(self) -> Any:
        """The payload as a JSON value. Raises ValueError."""
        return json.loads(self.payload)

    # -- what becomes of it -----------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether anything has been said of it."""
        return self._settled is not None

    async def ack(self) -> None:
        """It is done. Returns when that is committed and on the disk. Raises LeaseLost."""
        result = await asyncio.shield(self.settle(ACK))
        if result in {GONE, LOST}:
            self.lost = True
            raise LeaseLost(self.id, self.queue)

    async def nack(
        self, reason: str = "", *, delay: float | None = None, dead: bool = False
    ) -> str:
        """It failed. Comes again after `delay` seconds (None: the policy's pause), or, `dead`, goes
        straight to the dead letters. "ok", "dead", or "gone" and "lost": it was no longer ours.
        """
        return await asyncio.shield(self.settle(Settlement("nack", delay, dead, reason)))

    async def release(self) -> str:
        """Give it back unworked: no failure is counted, and it keeps its place. Returns as nack."""
        return await asyncio.shield(self.settle(RELEASE))

    async def renew(self, lease: float | None = None) -> None:
        """The lease ends `lease` seconds from now (None: as long as it was leased for). That is
        done by itself; a program does it to go beyond `max_lease_time`. Raises LeaseLost.
        """
        await self._renew(self, lease)

    def settle(self, settlement: Settlement) -> asyncio.Future[str]:
        """The same without waiting. What is said of it a second time is not heard."""
        if self._settled is None or (self._is_provisional and settlement is not ACK):
            self._settled = self._settle(self, settlement)
            self._is_provisional = False
        return self._settled

    def acknowledged(self, outcome: asyncio.Future[str]) -> None:
        """It was acknowledged in a transaction of the program's own. Should that be rolled back, a
        nack, a release or an exception in its `async with` block is heard all the same.
        """
        self._settled = outcome
        self._is_provisional = True

    def settle_by(self, error: BaseException | None) -> asyncio.Future[str]:
        """By how the work has ended: done, failed, or given up."""
        return self.settle(settlement_of(error))

    # -- async with -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is not None:
            self.settle_by(error)
        elif not self.is_settled:
            await self.ack()
        return isinstance(error, Reject | Retry)


def settlement_of(error: BaseException | None) -> Settlement:
    """What an outcome says of the message."""
    if error is None:
        return ACK
    if isinstance(error, GIVEN_UP):
        return RELEASE
    if isinstance(error, Retry):
        return Settlement("nack", delay=error.delay, reason=str(error)[:LONGEST_REASON])
    if isinstance(error, Reject):
        return Settlement("nack", dead=True, reason=str(error)[:LONGEST_REASON])
    return Settlement("nack", reason=f"{type(error).__name__}: {error}"[:LONGEST_REASON])
