"""One life of the store process: its stream, its standard error and its end, without blocking.

The rule it keeps: nothing here waits, neither for room in the socket nor for the end of a process,
and no frame, however long, keeps the loop for more than one turn's share.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING, Protocol, TypeAlias

from broker.storage.wire import Frames, Message

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

COMMAND = (sys.executable, "-m", "broker.storage")
LINGER = 10.0  # seconds it may go on living after it has closed its stream
LOOK_AGAIN = 0.02  # seconds between two looks whether it has ended
READ_SIZE = 262_144  # bytes
TURN = 1_048_576  # bytes written before others have their turn; the socket holds a fifth of that
TAIL = 4_096  # bytes of what it last said on its standard error
LONGEST_LINE = 65_536  # bytes


Spawned: TypeAlias = tuple["subprocess.Popen[bytes]", socket.socket]


class Owner(Protocol):
    """Who is told what happens to a child."""

    def receive(self, frame: Message) -> None:
        """It has sent a frame."""

    def log(self, line: str) -> None:
        """It has written a line to its standard error."""

    def lost(self) -> None:
        """Its stream has ended; it may still live. Once, before `ended`."""

    def ended(self, ending: str) -> None:
        """It does not live any more. `ending`: "exit code 1", "signal SIGKILL"."""


class Child:
    """One store process, its stream and its standard error, all without blocking.

    A lost child is one whose stream has ended; `kill` loses it, too.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        command: Sequence[str],
        owner: Owner,
        spawned: Spawned | None = None,
    ) -> None:
        self._loop = loop
        self._owner = owner
        self._frames = Frames()
        self._unsent: deque[memoryview] = deque()
        self._is_writing = False  # the loop watches for room
        self._is_lost = False
        self._process, self._socket = spawned or spawn(command)
        self._speech = Speech(loop, self._process, owner.log)
        loop.add_reader(self._socket.fileno(), self._read)

    @property
    def tail(self) -> str:
        """The last it said on its standard error."""
        return self._speech.tail

    def send(self, frame: bytes) -> None:
        """Write it as soon as there is room; a lost child is told nothing."""
        if self._is_lost:
            return
        self._unsent.append(memoryview(frame))
        if not self._is_writing:
            self._write()

    def kill(self) -> None:
        """End it by force."""
        self._process.kill()
        self._lose()

    def _write(self) -> None:
        left = TURN
        while self._unsent and left > 0:
            try:
                sent = self._socket.send(self._unsent[0])
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # it is gone; its last reports may still wait to be read
                self._unsent.clear()
                break
            left -= sent
            self._advance(sent)
        self._watch_for_room(bool(self._unsent))

    def _advance(self, sent: int) -> None:
        if sent == len(self._unsent[0]):
            self._unsent.popleft()
        else:
            self._unsent[0] = self._unsent[0][sent:]

    def _watch_for_room(self, wanted: bool) -> None:
        if wanted == self._is_writing:
            return
        self._is_writing = wanted
        if wanted:
            self._loop.add_writer(self._socket.fileno(), self._write)
        else:
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        try:
            frames = self._frames.feed(data)
        except (ValueError, EOFError, TypeError):
            self._owner.log("the store process speaks nonsense: killing it")
            self._process.kill()
            self._lose()
            return
        for frame in frames:
            self._owner.receive(frame)

    def _lose(self) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        self._unsent.clear()
        self._watch_for_room(False)
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._owner.lost()
        self._wait(self._loop.time() + LINGER)

    def _wait(self, deadline: float) -> None:
        # Asked again and again: a blocking wait could last as long as the disk of a dying process.
        if self._process.poll() is None:
            if self._loop.time() >= deadline:
                self._process.kill()
            self._loop.call_later(LOOK_AGAIN, self._wait, deadline)
            return
        self._speech.finish()
        self._owner.ended(self._ending())

    def _ending(self) -> str:
        code = self._process.returncode
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
        return f"signal {-code}"


class Speech:
    """The standard output and error of a child: each line is handed on, the last bytes are kept."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        process: subprocess.Popen[bytes],
        say: Callable[[str], None],
    ) -> None:
        assert process.stdout is not None
        self._loop = loop
        self._pipe = process.stdout
        self._say = say
        self._line = b""  # the start of a line that has not ended
        self._tail = b""
        self._is_over = False
        os.set_blocking(self._pipe.fileno(), False)
        loop.add_reader(self._pipe.fileno(), self._read)

    @property
    def tail(self) -> str:
        """The last bytes, as text."""
        return self._tail.decode(errors="replace")

    def finish(self) -> None:
        """Take what is left in the pipe of a process that has ended, and close it."""
        for _ in range(64):  # a pipe holds less; a grandchild may go on writing for ever
            if self._is_over:
                break
            self._read()
        self._end()
        self._pipe.close()

    def _read(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        self._tail = (self._tail + data)[-TAIL:]
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > LONGEST_LINE:
            lines.append(self._line)
            self._line = b""
        for line in lines:
            self._say(line.decode(errors="replace"))

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._loop.remove_reader(self._pipe.fileno())
        if self._line:
            self._say(self._line.decode(errors="replace"))


def spawn(command: Sequence[str] = COMMAND) -> Spawned:
    """Start a store process; return it and the broker's end of its stream.

    The broker's end is closed on exec and exists once: when the broker is killed, its store process
    sees the end of the stream.
    """
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(  # noqa: S603  a command of our own
            [*command, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(),),
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    return process, ours
