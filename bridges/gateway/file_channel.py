"""The files channel of one port: what is sent to the device, and what it sends."""

from __future__ import annotations

import json
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from bridges.gateway.files import Folder, Progress, Sending
from bridges.serial.files import FileReceiver
from bridges.serial.frames import Capability

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from bridges.serial.link import Link
    from broker.settings import SerialSettings

CHECK: Final = 10.0  # seconds between two looks at a file that is under way
LONGEST_NAME: Final = 64  # bytes
LAST_NUMBER: Final = 255

log = logging.getLogger("heliograph")


class FileChannel:
    """`say(topic, payload)` publishes how far a file has come."""

    def __init__(
        self,
        port: SerialSettings,
        folder: Path,
        loop: asyncio.AbstractEventLoop,
        say: Callable[[str, bytes], None],
    ) -> None:
        self._port = port
        self._loop = loop
        self._say = say
        self._folder = Folder(folder, port.files_bytes)
        self._receiver = FileReceiver(self._folder, port.largest_file)
        self._answers: deque[bytes] = deque()
        self._sending: Sending | None = None
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    def send(self, name: str, data: bytes, report: Callable[[Progress], None]) -> str:
        """Send a file to the device; why not, or "". `report` hears of its progress."""
        if self._sending is not None and not self._sending.is_over:
            return "another file is on its way: try again when it is there"
        if len(name.encode()) > LONGEST_NAME:
            return f"the name is too long: {LONGEST_NAME} bytes at most"
        self._number = self._number % LAST_NUMBER + 1

        def told(progress: Progress) -> None:
            self._tell(progress)
            report(progress)

        self._sending = Sending(self._number, name, data, told, self._loop.time())
        self._watch()
        return ""

    def receive(self, payload: bytes, now: float) -> None:
        """The device says something about a file, its own or ours."""
        if self._sending is not None:
            self._sending.receive(payload, now)
        if not self._port.take_files:
            return
        try:
            told = self._receiver.receive(payload)
        except OSError as error:  # the device hears at its next message that nobody knows the file
            log.error("%s: a file of the device: %s", self._port.shown_name, error)  # noqa: TRY400
            self._receiver = FileReceiver(self._folder, self._port.largest_file)
            return
        if told is not None:
            self._answers.append(told)

    def payload(self, limit: int, now: float) -> bytes | None:
        """The next message for the device, of at most `limit` bytes."""
        if self._answers:
            return self._answers.popleft()
        return self._sending.payload(limit, now) if self._sending is not None else None

    def restart(self) -> None:
        """The device has forgotten what was said."""
        self._answers.clear()
        if self._sending is not None:
            self._sending.restart()

    def close(self) -> None:
        """What is under way goes on where it was when it is sent again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            self._sending.end("the gateway has stopped: send it again, it goes on where it was")
        self._folder.close()

    def _watch(self) -> None:
        self._timer = None
        if self._sending is not None and not self._sending.is_over:
            self._sending.check(self._loop.time())
            self._timer = self._loop.call_later(CHECK, self._watch)

    def _tell(self, progress: Progress) -> None:
        facts = {"name": progress.name, "sent": progress.sent, "size": progress.size}
        told = json.dumps({**facts, "state": progress.text}).encode()
        self._say(f"serial/{self._port.shown_name}/file", told)


def objection(link: Link | None) -> str:
    """Why the device at the other end takes no files; "" if it may."""
    if link is None:
        return "the device takes no files: it does not speak in frames"
    if link.peer is not None and Capability.FILES not in link.peer.capabilities:
        return "the device takes no files: its HELLO says so"
    return ""
