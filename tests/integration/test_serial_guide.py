"""The first five minutes of docs/serial.md, as they stand there, with a pty for the board."""

from __future__ import annotations

import re
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.process import HELIOGRAPH, clean_environment, free_port
from tests.support.serial_devices import Pty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serial.md").read_text()
PATIENCE = 20.0  # seconds: only a hang reaches it


def blocks(title: str) -> list[str]:
    """What stands in fences in the section of that title."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\w*\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


SKETCH, RUN, SUBSCRIBE, SHOWN, LOGGED, *_ = blocks("From a sketch to a value")


def said_by(sketch: str) -> bytes:
    """What the sketch prints, once."""
    (line,) = re.findall(r'Serial\.println\("(.*)"\)', sketch)
    return line.encode() + b"\r\n"


def until(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextmanager
def broker(folder: Path, board: Pty, port: int, **settings: str) -> Iterator[Path]:
    """The page's command, with the pty in the place of "auto"; the log."""
    assert RUN.split() == [".venv/bin/heliograph", "run", "-c", "configs/serial.toml"]
    text = (ROOT / "configs" / "serial.toml").read_text()
    more = "".join(f'{key} = "{value}"\n' for key, value in settings.items())
    (folder / "serial.toml").write_text(
        text.replace('port = "auto"', f'{more}port = "{board.path}"')
    )
    log = folder / "log"
    command = [*HELIOGRAPH, "run", "-c", "serial.toml", "--listen", f"tcp://127.0.0.1:{port}"]
    with (
        log.open("wb") as file,
        subprocess.Popen(command, cwd=folder, stderr=file, env=clean_environment()) as process,
    ):
        try:
            until(lambda: "serial port" in log.read_text(), "the broker does not start")
            yield log
        finally:
            process.terminate()
            code = process.wait(PATIENCE)
    assert code == 0
    assert "Traceback" not in log.read_text()


@contextmanager
def mosquitto_sub(port: int, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The page's second terminal; it has subscribed."""
    command = ["mosquitto_sub", "-p", str(port), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        until(lambda: "connected from 127.0.0.1" in log.read_text(), "mosquitto_sub is late")
        yield process
        process.kill()


def test_the_sketch_of_the_page_shows_what_the_page_says(tmp_path: Path) -> None:
    port = free_port()
    assert SUBSCRIBE == "mosquitto_sub -t '#' -v\n"
    with (
        Pty(tmp_path / "ttyACM0") as board,
        broker(tmp_path, board, port, name="auto") as log,
        mosquitto_sub(port, log, "-t", "#", "-v", "-C", "2") as subscriber,
    ):
        assert subscriber.stdout is not None
        for _ in range(2):
            board.write(said_by(SKETCH))
        assert subscriber.stdout.read() == 2 * SHOWN.encode()
    logged = LOGGED.replace("serial port auto", f"serial port {board.path}")
    for line in logged.replace("/dev/ttyACM0", str(board.path)).splitlines():
        assert line in log.read_text()


def test_the_page_s_command_comes_to_the_board_as_a_line(tmp_path: Path) -> None:
    port = free_port()
    publish = next(each for each in blocks("Lines: readings, log and commands") if "_pub" in each)
    _, _, topic, _, payload = publish.split()
    with (
        Pty(tmp_path / "ttyACM0") as board,
        broker(tmp_path, board, port, commands=topic) as log,
    ):
        board.write(b"Hello world\r\ntemp/1 21.50\r\n")
        until(lambda: "the device speaks text" in log.read_text(), "it is not recognised")
        subprocess.run([*publish.split(), "-p", str(port)], check=True)
        assert board.read_until(b"\n") == payload.encode() + b"\n"
        assert "says: 'Hello world'" in log.read_text()
