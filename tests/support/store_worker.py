"""The store process and a client that speaks frames with it, for tests and measurements.

`StoreWorker` starts `python -m broker.storage` on one end of a socket pair, as the broker does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

from broker.storage.wire import Frames, encode
from tests.support.process import LONGEST_WAIT, clean_environment

if TYPE_CHECKING:
    from pathlib import Path

EMPTY_META = (1, 1, 1, 0.0, 0.0)  # next_number, next_session, next_audience, store and wall time


class Ended(Exception):  # noqa: N818 - it is what a test waits for
    """The store process has closed its end."""


class StoreWorker:
    """One store process. Positions and question numbers are counted here."""

    def __init__(self, path: Path | str = "", url: str = "", **config: Any) -> None:
        self.config = {"url": url, "path": str(path), "max_size": 0, "retained_window": 1000}
        self.config |= config
        self.seen: list[tuple[Any, ...]] = []  # frames that nobody has asked for, in order
        self.position = 0
        self.results: list[tuple[int, Any]] = []  # of the last batch
        self.counts: list[tuple[str, int, int]] = []
        self.opened: dict[str, Any] = {}
        self._questions = 0

    def __enter__(self) -> Self:
        self.launch()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def launch(self, **options: Any) -> None:
        """The process, without a word to it."""
        self._socket, theirs = socket.socketpair()
        self._frames = Frames()
        self.seen = []
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "broker.storage", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=clean_environment(),
                **options,
            )
        self._socket.settimeout(6 * LONGEST_WAIT)

    def open(self) -> dict[str, Any]:
        self.send("open", self.config)
        (self.opened,) = self.wait_for("opened")
        self.position = self.opened["meta"][0]
        return self.opened

    def apply(self, *operations: tuple[str, list[Any]], synced: bool = True) -> int:
        """One batch, committed; how many rows."""
        return self.wait_committed(self.submit(*operations, synced=synced))

    def submit(self, *operations: tuple[str, list[Any]], synced: bool = True) -> int:
        """One batch, on its way; its position."""
        self.position += 1
        meta = ("meta", [(self.position, *EMPTY_META)])
        self.send("batch", self.position, synced, [*operations, meta])
        return self.position

    def wait_committed(self, position: int) -> int:
        reached, _, rows, self.results, self.counts = self.wait_for("committed")
        assert reached == position
        return rows

    def ask(self, name: str, *arguments: Any) -> Any:
        self._questions += 1
        self.send("ask", self._questions, name, arguments)
        question, value = self.wait_for("answer")
        assert question == self._questions
        return value

    def send(self, *message: Any) -> None:
        self._socket.sendall(encode(message))

    def wait_for(self, name: str) -> tuple[Any, ...]:
        """What comes after the name in the next such frame; frames before it stay in `seen`."""
        while True:
            for index, frame in enumerate(self.seen):
                if frame[0] == name:
                    return self.seen.pop(index)[1:]
            try:
                data = self._socket.recv(1 << 20)
            except ConnectionError:
                data = b""
            if not data:
                raise Ended(f"waiting for {name}, seen {self.seen}")
            self.seen += self._frames.feed(data)

    def close(self) -> int:
        """As a broker that stops; the exit code."""
        self.send("close")
        code = self.process.wait(LONGEST_WAIT)
        self._socket.close()
        return code

    def hang_up(self) -> int:
        """As a broker that is killed; the exit code."""
        self._socket.close()
        return self.process.wait(LONGEST_WAIT)

    def kill(self) -> None:
        """The store process dies by SIGKILL. Harmless when it is gone."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._socket.close()


def message_row(number: int, audience: int | None = 1, **changes: Any) -> tuple[Any, ...]:
    """A `message_put` row."""
    row = {
        "topic": f"sensors/{number % 100}/temperature",
        "payload": b"x" * 64,
        "properties": b"",
        "first": 48,
        "publisher": "publisher",
        "expires_at": None,
        "size": 128,
    }
    assert not set(changes) - set(row)
    return (number, audience, *(row | changes).values())


def session_row(session: int, client_id: str = "", cursor: int = 0) -> tuple[Any, ...]:
    """A `session_put` row."""
    return (session, client_id or f"client-{session}", None, 3600, None, cursor)


def member_row(audience: int, session: int) -> tuple[Any, ...]:
    """A `member_put` row."""
    return (audience, session, 1, 0, "", "sensors/#", "")
