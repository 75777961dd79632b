"""The files channel of one port: what is sent to the device, and what it sends.

Rule kept here: the loop does not wait until a file is synced; the device does, and what it says
meanwhile is looked at afterwards.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from bridges.gateway.files import Folder, Progress, Sending
from bridges.serial.files import FileReceiver, Outcome
from bridges.serial.frames import Capability

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from bridges.serial.link import Link
    from broker.settings import SerialSettings

CHECK: Final = 10.0  # seconds between two looks at a file that is under way
LONGEST_NAME: Final = 64  # bytes
OFFER_HEADER: Final = 38  # bytes of the message that brings it
LAST_NUMBER: Final = 255
MOST_EARLY: Final = 32  # messages of the device that wait for the disk; of others it is asked again

log = logging.getLogger("heliograph")


class FileChannel:
    """`say(topic, payload)` publishes how far a file has come; `on_work` is called when there is
    something to say to the device.
    """

    def __init__(
        self,
        port: SerialSettings,
        folder: Path,
        loop: asyncio.AbstractEventLoop,
        say: Callable[[str, bytes], None],
        on_work: Callable[[], None],
    ) -> None:
        self._port = port
        self._loop = loop
        self._say = say
        self._on_work = on_work
        self._folder = Folder(folder, port.files_bytes, self._run)
        self._receiver = FileReceiver(self._folder, port.largest_file)
        self._answers: deque[bytes] = deque()
        self._settling: asyncio.Future[None] | None = None  # a file is being synced ...
        self._outcome: bytes | None = None  # ... to be told then
        self._early: deque[bytes] = deque()
        self._sending: Sending | None = None
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    def send(self, name: str, data: bytes, report: Callable[[Progress], None]) -> str:
        """Send a file to the device; why not, or "". `report` hears of its progress."""
        if self._sending is not None and not self._sending.is_over:
            return "another file is on its way: try again when it is there"
        self._number = self._number % LAST_NUMBER + 1

        def told(progress: Progress) -> None:
            self._tell(progress)
            report(progress)

        self._sending = Sending(self._number, name, data, told, self._loop.time())
        self._prepare(self._sending)
        self._watch()
        return ""

    def receive(self, payload: bytes, now: float) -> None:
        """The device says something about a file, its own or ours."""
        if self._sending is not None:
            self._sending.receive(payload, now)
        if not self._port.take_files:
            return
        if self._settling is None:
            self._take(payload)
        elif len(self._early) < MOST_EARLY:
            self._early.append(payload)

    def payload(self, limit: int, now: float) -> bytes | None:
        """The next message for the device, of at most `limit` bytes."""
        if self._answers:
            return self._answers.popleft()
        return self._sending.payload(limit, now) if self._sending is not None else None

    def restart(self) -> None:
        """The device has forgotten what was said."""
        self._answers.clear()
        self._early.clear()
        self._outcome = None
        if self._sending is not None:
            self._sending.restart()

    def close(self) -> None:
        """What is under way goes on where it was when it is sent again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            self._sending.end("the gateway has stopped: send it again, it goes on where it was")
        self._early.clear()
        self._outcome = None
        self._folder.close()

    # -- from the device --------------------------------------------------------------------------

    def _take(self, payload: bytes) -> None:
        try:
            told = self._receiver.receive(payload)
        except OSError as error:  # the device hears at its next message that nobody knows the file
            self._complain(error)
            self._receiver = FileReceiver(self._folder, self._port.largest_file)
            return
        if self._settling is not None:
            self._outcome = told
        elif told is not None:
            self._answers.append(told)

    def _run(self, work: Callable[[], None]) -> None:
        self._settling = self._loop.run_in_executor(None, work)
        self._settling.add_done_callback(self._settled)

    def _settled(self, settling: asyncio.Future[None]) -> None:
        """The file is safe, or is not: now the device hears of it."""
        self._settling = None
        outcome, self._outcome = self._outcome, None
        if settling.cancelled():
            return
        error = settling.exception()
        if error is not None:
            self._complain(error)
        if outcome is not None:
            refused = outcome[:-1] + bytes((Outcome.REFUSED,))
            self._answers.append(outcome if error is None else refused)
        while self._early and self._settling is None:
            self._take(self._early.popleft())
        self._on_work()

    def _complain(self, error: BaseException) -> None:
        log.error("%s: a file of the device: %s", self._port.shown_name, error)

    # -- to the device ----------------------------------------------------------------------------

    def _prepare(self, sending: Sending) -> None:
        """A piece in each turn of the loop."""
        if sending.is_over:
            return
        if sending.prepare():
            self._on_work()
        else:
            self._loop.call_soon(self._prepare, sending)

    def _watch(self) -> None:
        self._timer = None
        if self._sending is not None and not self._sending.is_over:
            self._sending.check(self._loop.time())
            self._timer = self._loop.call_later(CHECK, self._watch)

    def _tell(self, progress: Progress) -> None:
        facts = {"name": progress.name, "sent": progress.sent, "size": progress.size}
        told = json.dumps({**facts, "state": progress.text}).encode()
        self._say(f"serial/{self._port.shown_name}/file", told)


def objection(link: Link | None, name: str) -> str:
    """Why the device at the other end takes no file of that name; "" if it may."""
    if link is None:
        return "the device takes no files: it does not speak in frames"
    if link.peer is not None and Capability.FILES not in link.peer.capabilities:
        return "the device takes no files: its HELLO says so"
    room = LONGEST_NAME if link.peer is None else link.peer.payload_limit - OFFER_HEADER
    longest = min(LONGEST_NAME, room)
    if len(name.encode()) > longest:
        return f"the name is too long for this device: choose one of {longest} bytes (--name)"
    return ""
