"""A store process for the tests of the broker's side: it speaks the frames and commits to a file.

It does what a test tells it: by the "config" it is opened with (see `Fake.open`), and by questions
that make it misbehave (`QUESTIONS`). Every life of it adds to the same book, one line for an event.
"""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from broker.storage.wire import Frames, encode

COMMAND = (sys.executable, "-P", str(Path(__file__)))  # -P: beside it lies a module named broker
Event = tuple[Any, ...]


def read_book(path: Path) -> list[Event]:
    """All that happened: ("life", number), ("batch", position, synced, operations),
    ("ask", name, args), ("close",), ("end",) in order.
    """
    return [ast.literal_eval(line) for line in path.read_text().splitlines()]


class Fake:
    """One life of the worker."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.config: dict[str, Any] = {}
        self.life = 0
        self.position = 0
        self.holds = False  # batches are not committed until the question "release"
        self.held: list[Event] = []

    def run(self) -> None:
        frames = Frames()
        # A broker that is killed with reports unread leaves no end of the stream, but an error.
        with contextlib.suppress(ConnectionError):
            while data := self.stream.recv(1 << 20):
                for name, *args in frames.feed(data):
                    getattr(self, name)(*args)
        self.write("end")

    def open(self, config: dict[str, Any]) -> None:
        """`book`: path; `die_opening`: exit code in the first life; `die_reopening`: in the second;
        `refuse`: text; `die_before`, `die_after`: position at whose commit it dies in its first
        life; `holds`; `alarms`; `witness`: path of a socket that it keeps connected.
        """
        self.config = config
        book = read_book(self.book) if self.book.exists() else []
        self.life = 1 + sum(event[0] == "life" for event in book)
        self.position = max((event[1] for event in book if event[0] == "batch"), default=0)
        self.holds = config.get("holds", False)
        self.write("life", self.life)
        self.fail_to_open()
        if "witness" in config:
            self.witness = socket.socket(socket.AF_UNIX)
            self.witness.connect(config["witness"])
        meta = (self.position, 1, 1, 1, 0.0, 0.0)
        self.say("opened", {"meta": meta, "life": self.life, "alarms": config.get("alarms", [])})

    def fail_to_open(self) -> None:
        if "refuse" in self.config:
            self.say("failed", self.config["refuse"])
            sys.exit(1)
        code = self.config.get({1: "die_opening", 2: "die_reopening"}.get(self.life, ""))
        if code is not None:
            self.print("cannot go on: no such thing\n")
            os._exit(code)

    def batch(self, position: int, synced: bool, operations: list[Any]) -> None:
        if self.holds:
            self.held.append((position, synced, operations))
            return
        self.die_at("die_before", position)
        self.write("batch", position, synced, operations)
        self.die_at("die_after", position)
        self.say("committed", position, 0.25, len(operations))

    def die_at(self, key: str, position: int) -> None:
        if self.life == 1 and self.config.get(key) == position:
            os.kill(os.getpid(), signal.SIGKILL)

    def ask(self, question: int, name: str, args: Event) -> None:
        self.write("ask", name, args if len(repr(args)) < 100 else ())
        self.say("answer", question, QUESTIONS[name](self, *args))

    def close(self) -> None:
        self.write("close")
        sys.exit(0)

    # -- questions --------------------------------------------------------------------------------

    def echo(self, value: Any) -> Any:
        return value

    def pid(self) -> int:
        return os.getpid()

    def tell(self, *frames: Event) -> None:
        self.stream.sendall(b"".join(encode(frame) for frame in frames))

    def babble(self, data: bytes) -> None:
        if self.life == 1:
            self.stream.sendall(data)

    def print(self, text: str) -> None:
        os.write(sys.stderr.fileno(), text.encode())

    def exit_once(self, code: int) -> None:
        if self.life == 1:
            os._exit(code)

    def hang(self) -> None:
        while True:
            signal.pause()

    def close_stream_and_hang(self) -> None:
        self.stream.close()
        self.hang()

    def release(self) -> None:
        self.holds = False
        for batch in self.held:
            self.batch(*batch)

    # -- helpers ----------------------------------------------------------------------------------

    @property
    def book(self) -> Path:
        return Path(self.config["book"])

    def say(self, *frame: Any) -> None:
        self.stream.sendall(encode(frame))

    def write(self, *event: Any) -> None:
        if self.config:
            with self.book.open("a") as book:
                book.write(f"{event!r}\n")


QUESTIONS = {
    "echo": Fake.echo,
    "pid": Fake.pid,
    "tell": Fake.tell,
    "babble": Fake.babble,
    "print": Fake.print,
    "exit_once": Fake.exit_once,
    "hang": Fake.hang,
    "close_stream_and_hang": Fake.close_stream_and_hang,
    "release": Fake.release,
}


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[-1])) as stream:
        Fake(stream).run()


if __name__ == "__main__":
    main()
