"""The broker's side of the store process: gives it batches and questions, and keeps it running.

The rule it keeps: a batch is kept, encoded, until the store has reported it as committed, and is
given again to the next store process when one dies. So no death of the store process loses or
reorders anything; it only delays the report, and with it the acknowledgements.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from broker.storage.child import COMMAND, Child
from broker.storage.wire import Message, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker.storage.child import Spawned

PATIENCE = 10.0  # seconds a stop waits for the last commits, and again for the end of the process
REFUSED_PATIENCE = 1.0  # ... for commits, while there is trouble that waiting does not end
LASTING = ("full", "read_only")
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds before a store process is started again
CLOSE = encode(("close",))
GOOD_ENDINGS = ("exit code 0", "signal SIGKILL")  # the latter is what `stop` does after all


class StoreError(Exception):
    """The store cannot be opened; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that have not been reported as committed. `turn`: its place among all frames."""

    turn: int
    position: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Question:
    """What has not been answered yet. `turn` is its id, too."""

    turn: int
    frame: bytes
    answer: Callable[[Any], None]


def ignore(*_: object) -> None:
    """What a hook does that nobody has set."""


class StoreProcess:
    """A store process that is started again when it dies. It belongs to the loop's thread.

    The owner sets the hooks; one that raises is reported to the loop and does no other harm.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: dict[str, Any],
        command: Sequence[str] | None = None,
        spawned: Spawned | None = None,
    ) -> None:
        self._spawned = spawned  # its first life, begun before there was a loop
        # position, seconds, rows, what queues answer, (queue, messages, bytes) of those touched
        self.on_committed: Callable[[int, float, int, list[Any], list[Any]], None] = ignore
        self.on_wake: Callable[[list[str]], None] = ignore  # queues with something for consumers
        self.on_trouble: Callable[[str, str], None] = ignore  # kind, text
        self.on_well: Callable[[], None] = ignore
        self.on_alarm: Callable[[str], None] = ignore
        self.on_log: Callable[[str], None] = ignore  # a line from its standard error
        self.pending_bytes = 0  # submitted and not reported as committed
        self._loop = loop
        self._command = command or COMMAND
        self._config = config
        self._turns = itertools.count(1)
        self._batches: deque[Batch] = deque()
        self._questions: dict[int, Question] = {}
        self._child: Child | None = None
        self._is_open = False  # the child has opened the store and takes frames
        self._opening: asyncio.Future[dict[str, Any]] | None = None  # what `start` waits for
        self._opened_at = 0.0
        self._refusal = ""  # what the child said when it could not open the store
        self._trouble = ""  # its kind, while there is one
        self._last_alarm = ""
        self._is_stopping = False
        self._pause = FIRST_PAUSE
        self._restart: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()  # nothing waits for its commit
        self._settled.set()
        self._gone = asyncio.Event()  # no child lives

    async def start(self) -> dict[str, Any]:
        """Start the process; return what it has loaded.

        Raises:
            StoreError: it cannot open the store, or ended before it had.
        """
        self._opening = self._loop.create_future()
        try:
            self._spawn()
            return await self._opening
        except OSError as error:
            raise StoreError(f"the store process cannot be started: {error}") from error
        except asyncio.CancelledError:
            self._kill()
            raise

    def submit(self, position: int, synced: bool, operations: list[Any]) -> None:
        """Have these changes committed; positions rise. `operations` may be changed afterwards.

        A position that a process committed without living to report it is reported with 0 rows.
        """
        frame = encode(("batch", position, synced, operations))
        self._batches.append(Batch(next(self._turns), position, frame))
        self.pending_bytes += len(frame)
        self._settled.clear()
        self._send(frame)

    def ask(self, name: str, args: tuple[Any, ...], answer: Callable[[Any], None]) -> None:
        """Have `answer` called with the answer, which sees everything submitted before."""
        turn = next(self._turns)
        question = Question(turn, encode(("ask", turn, name, args)), answer)
        self._questions[turn] = question
        self._send(question.frame)

    async def stop(self, patience: float = PATIENCE) -> None:
        """Wait for the last commits, have the store closed, and wait for the end of the process.

        A process that needs more than `patience` seconds for one of these is killed: what it has
        not committed was not acknowledged.
        """
        wait = min(patience, REFUSED_PATIENCE) if self._trouble in LASTING else patience
        settled = await happens(self._settled, wait)
        self._is_stopping = True
        if self._restart is not None:
            self._restart.cancel()
        if not (settled and await self._close(patience)):
            left = f"{self.pending_bytes} bytes of changes are not committed"
            self._alarm(f"the store process does not finish and is killed; {left}")
            self._kill()
        if self._child is not None:
            await self._gone.wait()

    async def _close(self, patience: float) -> bool:
        if self._child is None:
            return True
        self._child.send(CLOSE)
        return await happens(self._gone, patience)

    def _kill(self) -> None:
        self._is_stopping = True
        if self._child is not None:
            self._child.kill()

    def _send(self, frame: bytes) -> None:
        if self._is_open and self._child is not None:
            self._child.send(frame)

    # -- its life ---------------------------------------------------------------------------------

    def _spawn(self) -> None:
        self._refusal = ""
        spawned, self._spawned = self._spawned, None
        child = Child(self._loop, self._command, self, spawned)
        self._child = child
        self._gone.clear()
        child.send(encode(("open", {**self._config, "first": self._opening is not None})))

    def lost(self) -> None:
        """The child's stream has ended: nothing more comes from it, though it may still live."""
        was_open, self._is_open = self._is_open, False
        if was_open and self._loop.time() - self._opened_at > LONGEST_PAUSE:
            self._pause = FIRST_PAUSE  # it has worked for a while
        if was_open and not self._is_stopping and self._trouble != "away":
            self._say_trouble("away", "the store process has gone: nothing is committed now")

    def ended(self, ending: str) -> None:
        """The child does not live any more."""
        child, self._child = self._child, None
        self._gone.set()
        reason = self._refusal or f"the store process ended with {ending}"
        if self._opening is not None:
            tail = "" if self._refusal or child is None else f" before opening\n{child.tail}"
            self._refuse(f"{reason}{tail}".rstrip())
        elif not self._is_stopping:
            self._plan_restart(f"{reason}: starting it again")
        elif ending not in GOOD_ENDINGS:
            self._alarm(reason)

    def _refuse(self, text: str) -> None:
        if self._opening is not None and not self._opening.done():
            self._opening.set_exception(StoreError(text))

    def _plan_restart(self, text: str) -> None:
        if text != self._last_alarm:  # said once, however often it is tried
            self._last_alarm = text
            self._alarm(text)
        self._restart = self._loop.call_later(self._pause, self._start_again)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _start_again(self) -> None:
        self._restart = None
        try:
            self._spawn()
        except OSError as error:
            self._plan_restart(f"the store process cannot be started: {error}: trying again")

    # -- what it says -----------------------------------------------------------------------------

    def receive(self, frame: Message) -> None:
        """A frame from the child."""
        self._tell(self._handle, frame)

    def log(self, line: str) -> None:
        """A line from its standard error."""
        self._tell(self.on_log, line)

    def _handle(self, frame: Message) -> None:
        HANDLERS[frame[0]](self, *frame[1:])

    def _opened(self, loaded: dict[str, Any]) -> None:
        self._is_open = True
        self._opened_at = self._loop.time()
        opening, self._opening = self._opening, None
        if opening is None:
            self._go_on(loaded)
        elif not opening.done():
            opening.set_result(loaded)
            self._send_all()

    def _go_on(self, loaded: dict[str, Any]) -> None:
        # The last one may have died between a commit and its report.
        position = loaded["meta"][0]
        is_news = self._forget(position)
        self._send_all()  # before anybody is told something and submits more
        for text in loaded.get("alarms", ()):
            self._alarm(text)
        if is_news:
            self._tell(self.on_committed, position, 0.0, 0, [], [])
        if is_news or not self._batches:
            self._end_trouble()

    def _send_all(self) -> None:
        waiting: list[Batch | Question] = [*self._batches, *self._questions.values()]
        for each in sorted(waiting, key=lambda each: each.turn):
            self._send(each.frame)

    def _failed(self, text: str) -> None:
        self._refusal = text

    def _committed(
        self,
        position: int,
        seconds: float,
        rows: int,
        results: Sequence[Any] = (),
        counts: Sequence[Any] = (),
    ) -> None:
        self._forget(position)
        self._tell(self.on_committed, position, seconds, rows, list(results), list(counts))
        if self._trouble == "away":
            self._end_trouble()

    def _forget(self, position: int) -> bool:
        """Whether there was something to forget up to this position."""
        before = len(self._batches)
        while self._batches and self._batches[0].position <= position:
            self.pending_bytes -= len(self._batches.popleft().frame)
        if not self._batches:
            self._settled.set()
        return len(self._batches) < before

    def _answer(self, turn: int, value: Any) -> None:
        self._questions.pop(turn).answer(value)

    def _wake(self, names: list[str]) -> None:
        self._tell(self.on_wake, names)

    def _say_trouble(self, kind: str, text: str) -> None:
        self._trouble = kind
        self._tell(self.on_trouble, kind, text)

    def _end_trouble(self) -> None:
        if self._trouble:
            self._trouble = self._last_alarm = ""
            self._tell(self.on_well)

    def _alarm(self, text: str) -> None:
        self._tell(self.on_alarm, text)

    def _tell(self, hook: Callable[..., None], *args: Any) -> None:
        try:
            hook(*args)
        except Exception as error:  # noqa: BLE001  the owner's fault must not deafen this one
            message = "what the store process said could not be taken in"
            self._loop.call_exception_handler({"message": message, "exception": error})


HANDLERS: dict[str, Callable[..., None]] = {
    "opened": StoreProcess._opened,
    "failed": StoreProcess._failed,
    "committed": StoreProcess._committed,
    "answer": StoreProcess._answer,
    "wake": StoreProcess._wake,
    "trouble": StoreProcess._say_trouble,
    "well": StoreProcess._end_trouble,
    "alarm": StoreProcess._alarm,
}


async def happens(event: asyncio.Event, patience: float) -> bool:
    """Whether it happens within so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await event.wait()
    return event.is_set()
