"""The loop of the store process: one frame after the other, in the order of the stream.

What cannot be done now is tried again, for ever, and nothing behind it is done before it: the
broker relies on that order. Only the end of the stream ends the waiting.
"""

from __future__ import annotations

import importlib
import os
import select
import socket
import sys
import time
import traceback
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from broker.storage.database import AWAY, LOCKED, CannotOpen, Damaged, Database, Trouble
from broker.storage.sqlite import SQLiteDatabase
from broker.storage.store import Store
from broker.storage.wire import Frames, Message, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.storage.database import Salvage

RECEIVED_AT_ONCE = 1 << 18
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0  # seconds
UNANSWERED = (
    "a question to the store ({}) failed: {}. Whoever waits for it gets nothing until the client "
    "connects again. This is a defect of Heliograph: please report it"
)
REPAIRS = 2  # of one piece of work

T = TypeVar("T")


class StreamEnded(Exception):  # noqa: N818 - how the broker says good-bye when it has no time
    """The broker is gone."""


class Pipe:
    """The broker's end of the world: messages in and out, blocking."""

    __slots__ = ("_frames", "_poll", "_queue", "_socket", "_watched")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
        self._watched: int | None = None
        self._frames = Frames()
        self._queue: deque[Message] = deque()

    def send(self, *message: Any) -> None:
        try:
            self._socket.sendall(encode(message))
        except OSError as error:
            raise StreamEnded from error

    def next(self) -> Message:
        while not self._queue:
            self._receive()
        return self._queue.popleft()

    def wait(self, seconds: float | None, other: int | None = None) -> bool:
        """Until there is a message, or something to be read from the other file descriptor, at most
        so long (None: for ever); whether there is a message.
        """
        if not self._queue:
            self._watch(other)
            ready = self._poll.poll(None if seconds is None else seconds * 1000)
            if any(descriptor == self._socket.fileno() for descriptor, _ in ready):
                self._receive()
        return bool(self._queue)

    def _watch(self, other: int | None) -> None:
        if other == self._watched:
            return
        if self._watched is not None:
            self._poll.unregister(self._watched)
        if other is not None:
            self._poll.register(other, select.POLLIN)
        self._watched = other

    def rest(self, seconds: float) -> None:
        """All that time, taking in what comes. Raises StreamEnded as soon as it does."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._receive_within(left)

    def _receive_within(self, seconds: float) -> None:
        self._socket.settimeout(seconds)
        try:
            self._receive()
        except (TimeoutError, BlockingIOError):
            pass
        finally:
            self._socket.settimeout(None)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVED_AT_ONCE)
        except ConnectionError as error:
            raise StreamEnded from error
        if not data:
            raise StreamEnded
        self._queue += self._frames.feed(data)


class Worker:
    """Opens the store that the first frame names and does what the frames after it say."""

    __slots__ = ("_handlers", "_pipe", "_said", "_salvage", "_store")

    _store: Store

    def __init__(self, pipe: Pipe, salvage: Salvage | None = None) -> None:
        self._pipe = pipe
        self._salvage = salvage or salvage_when_needed
        self._said: str | None = None  # the kind of trouble that the broker knows of
        self._handlers: dict[str, Callable[..., None]] = {
            "batch": self._on_batch,
            "ask": self._on_ask,
        }

    def run(self) -> int:
        """The process's exit code. Raises StreamEnded."""
        try:
            self._open()
        except CannotOpen as reason:
            self._pipe.send("failed", str(reason))
            return 1
        while (message := self._next())[0] != "close":
            self._handlers[message[0]](*message[1:])
        self._store.close()
        return 0

    def _open(self) -> None:
        name, config = self._pipe.next()
        assert name == "open", name
        window = config["retained_window"]
        first, queues = config.get("first", True), config.get("queues", ())
        self._store = Store(make_database(config), window, self._salvage)
        opened = self._insist(lambda: self._store.open(first, queues))
        self._pipe.send("opened", opened)
        self._say_state()

    def _next(self) -> Message:
        """The next message. While there is none, the store is looked after, and listened to."""
        worked = True
        while True:
            self._pass_on_notices()
            idle = self._said is None and self._store.is_tidy
            busy = worked and not self._store.is_tidy
            pause = None if idle else 0 if busy else LONGEST_PAUSE
            if self._pipe.wait(pause, self._store.notices):
                return self._pipe.next()
            if not idle:
                worked = self._has_done(self._store.tidy if busy else self._store.probe)

    def _pass_on_notices(self) -> None:
        if names := self._store.take_notices():
            self._pipe.send("wake", names)

    def _has_done(self, work: Callable[[], None]) -> bool:
        """Work that nobody waits for: when it fails, the next batch will tell why."""
        try:
            work()
        except Trouble:
            return False
        except Damaged as damage:
            self._repair(damage)
        self._say_state()
        return True

    def _on_batch(self, position: int, synced: bool, operations: Any) -> None:
        done = self._insist(lambda: self._store.apply(position, synced, operations))
        self._pipe.send("committed", position, *done)
        for text in self._store.take_alarms():
            self._pipe.send("alarm", text)
        self._say_state()

    def _on_ask(self, question_id: int, name: str, arguments: tuple[Any, ...]) -> None:
        try:
            value = self._insist(lambda: self._store.answer(name, arguments))
        except (StreamEnded, Damaged):
            raise
        except Exception as fault:  # noqa: BLE001 - ours; it must not stop all others for ever
            traceback.print_exc()
            self._pipe.send("alarm", UNANSWERED.format(name, fault))
            return
        if self._said in (AWAY, LOCKED):
            self._say_state()
        self._pipe.send("answer", question_id, value)

    def _insist(self, work: Callable[[], T]) -> T:
        pause, repairs = FIRST_PAUSE, 0
        while True:
            try:
                return work()
            except Trouble as trouble:
                self._say_trouble(trouble)
                self._pipe.rest(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            except Damaged as damage:
                repairs += 1
                if repairs > REPAIRS:
                    raise
                self._repair(damage)

    def _repair(self, damage: Damaged) -> None:
        self._store.repair(damage)
        for text in self._store.take_alarms():
            self._pipe.send("alarm", text)

    def _say_state(self) -> None:
        if self._store.trouble is not None:
            self._say_trouble(self._store.trouble)
        elif self._said is not None:
            self._said = None
            self._pipe.send("well")

    def _say_trouble(self, trouble: Trouble) -> None:
        if trouble.kind != self._said:
            self._said = trouble.kind
            self._pipe.send("trouble", trouble.kind, trouble.text)


def make_database(config: dict[str, Any]) -> Database:
    url, path = config["url"], config["path"]
    if url:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise CannotOpen(f"[store] url cannot be read: {error}") from error
        if parsed.get_backend_name() != "sqlite":
            from broker.storage.postgresql import PostgreSQLDatabase  # noqa: PLC0415 - rarely used

            return PostgreSQLDatabase(url, config.get("schema", ""))
        path = parsed.database or path
    return SQLiteDatabase(Path(path), config["max_size"])


def salvage_when_needed(path: Path, stamp: str) -> Any:
    return importlib.import_module("broker.storage.salvage").salvage(path, stamp)


def serve(descriptor: int) -> int:
    """The whole life of the process; its exit code."""
    with socket.socket(fileno=descriptor) as connected:
        try:
            return Worker(Pipe(connected)).run()
        except StreamEnded:
            # Without closing anything: that would move the log into the main file and delete it,
            # as if the store had been closed properly, and keep the next broker waiting.
            os._exit(0)
        except Exception:  # noqa: BLE001 - the same, for a fault of ours
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
