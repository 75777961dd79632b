"""The thread that writes: what gathered while the last commit ran goes next, in one transaction.

There is no timer: an idle gateway commits at once, a busy one commits much together. When the disk
is full, nothing is confirmed, nothing is forgotten, and it is tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bridges.gateway.keeping_file import Content, File
from bridges.gateway.keeping_pending import Pending
from broker.storage.database import Damaged, Trouble

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from bridges.gateway.keeping_pending import KeptTopic
    from bridges.gateway.orders import Order

LOOK_EVERY: Final = 1.0  # seconds between two looks for orders
FIRST_PAUSE: Final = 0.5  # seconds before a failed commit is tried again
LONGEST_PAUSE: Final = 30.0

_log: Final = logging.getLogger("heliograph")


class Writer:
    """Change what is `pending` by `change`; it comes back through `on_kept` on the loop."""

    def __init__(
        self,
        path: Path,
        loop: asyncio.AbstractEventLoop,
        on_kept: Callable[[list[KeptTopic]], None],
        on_orders: Callable[[list[Order]], None],
    ) -> None:
        self.trouble = ""  # why nothing can be written; "": all is well
        self.commits = 0
        self._path = path
        self._loop = loop
        self._on_kept = on_kept
        self._on_orders = on_orders
        self._condition = threading.Condition()
        self._pending = Pending()
        self._takes_orders = False
        self._is_closing = False
        self._look_at = 0.0
        self._pause = FIRST_PAUSE
        self._opened: Future[Content] = Future()
        self._ended = loop.create_future()
        self._thread = threading.Thread(target=self._run, name="gateway-keeping", daemon=True)

    # -- on the loop ------------------------------------------------------------------------------

    def open(self) -> Content:
        """Open the file; waits for it. Raises KeepingError."""
        self._thread.start()
        try:
            return self._opened.result()
        except BaseException:
            self._thread.join()
            raise

    def change(self, change: Callable[[Pending], None]) -> None:
        """Let `change` note something that is to be written."""
        with self._condition:
            change(self._pending)
            self._condition.notify()

    def take_orders(self) -> None:
        """Look for orders from now on."""
        with self._condition:
            self._takes_orders = True
            self._condition.notify()

    async def close(self) -> None:
        """Write what waits, if it can be written, and end."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        await self._ended
        self._thread.join()

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        file = File(self._path)
        try:
            content = file.open()
        except BaseException as error:  # noqa: BLE001  it is raised by `open`
            self._opened.set_exception(error)
            return
        for sentence in file.told:
            _log.error("%s", sentence)
        self._opened.set_result(content)
        try:
            while self._turn(file):
                pass
        except Exception:  # noqa: BLE001  a fault of ours: told, and nothing is confirmed any more
            self.trouble = "an error of ours, see the log"
            _log.exception("nothing is written to %s any more; restart the gateway", self._path)
        finally:
            file.close()
            self._call(self._end)

    def _turn(self, file: File) -> bool:
        """Write what waits and look for orders; False: it was the last time."""
        batch, is_last = self._next_batch()
        try:
            if batch:
                self._commit(file, batch)
            elif not is_last:
                self._look(file)
        except (Trouble, Damaged) as error:
            file.forget()
            self._on_trouble(error, batch)
        return not (is_last and (self.trouble or not batch))

    def _next_batch(self) -> tuple[Pending, bool]:
        """Wait for something to write, for the time to look, or for the end."""
        with self._condition:
            if not self._is_closing and (self.trouble or not self._pending):
                self._condition.wait_for(self._has_to_work, self._patience())
            batch, self._pending = self._pending, Pending()
            return batch, self._is_closing

    def _has_to_work(self) -> bool:
        if self._is_closing:
            return True
        if self.trouble:
            return False
        return bool(self._pending) or (self._takes_orders and self._look_at == 0.0)

    def _patience(self) -> float | None:
        if self.trouble:
            return self._pause
        return LOOK_EVERY if self._takes_orders else None

    def _commit(self, file: File, batch: Pending) -> None:
        if batch.has_changes:
            file.write(batch)
            self.commits += 1
            self._recover()
        kept = batch.kept_topics()
        if kept:
            self._call(self._on_kept, kept)
        if batch.waiting:
            self._call(_call_all, batch.waiting)
        if time.monotonic() >= self._look_at:
            self._look(file)

    def _look(self, file: File) -> None:
        if not self._takes_orders:
            return
        self._look_at = time.monotonic() + LOOK_EVERY
        orders = file.take_orders()
        self._recover()
        if orders:
            self._call(self._on_orders, orders)

    def _recover(self) -> None:
        if self.trouble:
            _log.warning("%s can be written again", self._path)
        self.trouble = ""
        self._pause = FIRST_PAUSE

    def _on_trouble(self, error: Trouble | Damaged, batch: Pending) -> None:
        what = error.text if isinstance(error, Trouble) else f"it is damaged ({error})"
        with self._condition:
            self._pending.put_back(batch)
        if not self.trouble:
            _log.error(
                "%s cannot be written: %s. Nothing that devices register is confirmed meanwhile",
                self._path,
                what,
            )
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self.trouble = what

    def _call(self, what: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            self._loop.call_soon_threadsafe(what, *arguments)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


def _call_all(callbacks: list[Callable[[], None]]) -> None:
    for each in callbacks:
        each()
