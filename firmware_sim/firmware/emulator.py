"""A microcontroller in QEMU (or simavr, which understands the same), with its UART in our hand:
`Emulator` runs it, `EmulatedEnd` puts it at the end of a virtual wire.

Rule kept here: no emulator outlives us. It runs under a shell that waits on a pipe of ours; when
the pipe closes, because we are done or dead, the shell kills it. QEMU does not pace its UART: a
wire (`firmware_sim.wire.uart`) must stand between it and whatever expects a baud rate.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from firmware_sim.firmware.images import Part, check_image

if TYPE_CHECKING:
    from collections.abc import Callable

_SUPERVISE: Final = (
    'exec 9<&0; "$@" </dev/null 9<&- & qemu=$!; '
    "(read -r line <&9; kill -9 $qemu) & wait $qemu; kill $!"
)
_ABOVE_THE_SHELL: Final = 10  # file descriptors that a shell does not use itself
_PATIENCE: Final = 20.0  # seconds for QEMU to start or to answer
_MOST: Final = 65_536  # bytes of one read


class EmulatorError(RuntimeError):
    """The emulator is missing, does not start, or has ended; says what to do."""


class Emulator:
    """A controller that stands still until `run`. Ends with `close`, or as a context manager."""

    def __init__(self, image: Path, part: Part) -> None:
        check_image(image, part)
        self._image = image
        self._part = part
        self._process = _Process(image, part, ())

    def run(self) -> None:
        """Let it run, from where it stands."""
        self._process.ask("cont")

    def stop(self) -> None:
        """Let it stand still."""
        self._process.ask("stop")

    def reset(self) -> None:
        """Press its button: it begins anew, and RAM is as it was. `fileno` may be another then."""
        if self._part.can_reset:
            self._process.ask("system_reset")
        else:
            self._begin_again()

    def quit(self) -> None:
        """Take its power away; `close` is still needed."""
        self._process.ask("quit")

    @property
    def pid(self) -> int:
        """Of the process that ends when the emulator is gone."""
        return self._process.pid

    def memory(self, address: int, size: int) -> bytes:
        """What is in its memory, by the emulator's physical address."""
        with tempfile.NamedTemporaryFile() as file:
            self._process.ask("pmemsave", val=address, size=size, filename=file.name)
            return file.read()

    def fileno(self) -> int:
        """The UART, to wait on."""
        return self._process.uart.fileno()

    def read(self) -> bytes | None:
        """Take what its UART has sent; None: the emulator has ended."""
        try:
            return self._process.uart.recv(_MOST) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None

    def write(self, data: bytes) -> None:
        """Let its UART receive; what it cannot take is lost."""
        try:
            self._process.uart.send(data)
        except OSError:
            return

    def last_words(self) -> str:
        """What the emulator has written to its standard error."""
        return self._process.last_words()

    def close(self) -> None:
        """End it; returns when it is gone."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_again(self) -> None:
        """A new emulator with the RAM of the one before."""
        self.stop()
        part = self._part
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.memory(part.ram_at, part.ram))
            file.flush()
            self._process.close()
            device = f"loader,file={file.name},addr={part.ram_at:#x},force-raw=on"
            self._process = _Process(self._image, part, ("-device", device))
        self.run()


class _Process:
    """QEMU, with its UART and its control channel (QMP)."""

    def __init__(self, image: Path, part: Part, arguments: tuple[str, ...]) -> None:
        command = shutil.which(part.emulator)
        if command is None:
            raise EmulatorError(_missing(part))
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self.uart, uart = socket.socketpair()
        self._control, control = socket.socketpair()
        qemu = [command, *part.arguments, str(image), *arguments]
        with uart, control:
            self._supervisor = self._start(qemu, _moved(uart), _moved(control))
        self.uart.setblocking(False)
        self._control.settimeout(_PATIENCE)
        self._answers = self._control.makefile("rb")
        self._is_closed = False
        try:
            self._next_answer()  # the greeting
            self.ask("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """See Emulator."""
        return self._supervisor.pid

    def ask(self, what: str, **arguments: Any) -> None:
        """Have a command of QMP done."""
        question = {"execute": what, "arguments": arguments}
        try:
            self._control.sendall(json.dumps(question).encode() + b"\n")
        except OSError as error:
            raise self._ended() from error
        while "return" not in (answer := self._next_answer()):  # events come in between
            if "error" in answer:
                raise EmulatorError(f"{what}: {answer['error'].get('desc')}")

    def last_words(self) -> str:
        """See Emulator."""
        if self._said.closed:
            return ""
        self._said.seek(0)
        return self._said.read().decode(errors="replace").strip()

    def close(self) -> None:
        """See Emulator."""
        if self._is_closed:
            return
        self._is_closed = True
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.close()
        self._supervisor.wait()
        for open_one in (self._answers, self._control, self.uart, self._said):
            open_one.close()

    def _start(self, qemu: list[str], uart: int, control: int) -> subprocess.Popen[bytes]:
        """Its ends of the sockets are closed here."""
        qemu += ["-S", "-display", "none", "-monitor", "none"]
        for name, number in (("uart", uart), ("control", control)):
            qemu += ["-chardev", f"socket,id={name},fd={number}"]
        qemu += ["-serial", "chardev:uart", "-mon", "chardev=control,mode=control"]
        try:
            return subprocess.Popen(  # noqa: S603 - no shell reads the arguments
                ["/bin/sh", "-c", _SUPERVISE, "sh", *qemu],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=(uart, control),
                start_new_session=True,  # Ctrl-C is for us
            )
        finally:
            os.close(uart)
            os.close(control)

    def _next_answer(self) -> dict[str, Any]:
        try:
            line = self._answers.readline()
        except TimeoutError as error:
            raise EmulatorError("the emulator does not answer") from error
        except OSError as error:
            raise self._ended() from error
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self) -> EmulatorError:
        return EmulatorError(f"the emulator has ended: {self.last_words() or 'it said nothing'}")


def _missing(part: Part) -> str:
    install = f"sudo apt-get install --no-install-recommends {part.package}"
    if Path(part.emulator).is_absolute():  # ours, to be built
        folder = Path(part.emulator).parents[1]
        return f"{part.emulator} is missing; {install} && make -C {folder} simavr"
    return f"{part.emulator} is missing; install it with: {install}"


def _moved(end: socket.socket) -> int:
    return fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, _ABOVE_THE_SHELL)


class EmulatedEnd:
    """An emulated controller at the device's end of a `Line`. It starts when it is `plugged`, and
    is reset when it is plugged again. `wake` is called when it has said something, `gone` when it
    has ended by itself, and why.
    """

    def __init__(self, emulator: Emulator, loop: asyncio.AbstractEventLoop) -> None:
        self.emulator = emulator
        self.wake: Callable[[], None] = lambda: None
        self.gone: Callable[[str], None] = lambda _: None
        self.failure: str | None = None  # why there is no emulator any more
        self.is_gone = asyncio.Event()
        self._loop = loop
        self._said: list[bytes] = []
        self._is_started = False
        self._watched: int | None = None
        self._watch()

    def plugged(self, _now: float) -> None:
        """See End."""
        if self.failure is not None:
            return
        try:
            self._start()
        except EmulatorError as error:
            self._fail(str(error))

    def halt(self) -> None:
        """Let it stand still, until it is plugged again."""
        if self.failure is not None:
            return
        try:
            self.emulator.stop()
        except EmulatorError as error:
            self._fail(str(error))

    def receive(self, data: bytes, _now: float) -> None:
        """See End."""
        self.emulator.write(data)

    def tick(self, _now: float) -> None:
        """See End; it has a clock of its own."""

    def next_deadline(self) -> float | None:
        """See End."""
        return None

    def data_to_send(self) -> bytes:
        """See End."""
        data = b"".join(self._said)
        self._said.clear()
        return data

    def close(self) -> None:
        """End the emulator."""
        self.failure = self.failure or "closed"
        self._unwatch()
        self.emulator.close()

    def _start(self) -> None:
        if not self._is_started:
            self._is_started = True
            self.emulator.run()
            return
        self._unwatch()
        self.emulator.reset()
        self._watch()
        self.emulator.run()
        self._said.clear()

    def _watch(self) -> None:
        self._watched = self.emulator.fileno()
        self._loop.add_reader(self._watched, self._on_readable)

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            self._watched = None

    def _on_readable(self) -> None:
        data = self.emulator.read()
        if data is None:
            self._fail(f"the emulator has ended: {self.emulator.last_words() or 'it was quit'}")
            return
        self._said.append(data)
        self.wake()

    def _fail(self, why: str) -> None:
        self._unwatch()
        self.failure = why
        self.is_gone.set()
        self.gone(why)
