"""A serial cable made of a pty: our end is a file descriptor, the other a device under a name."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 20.0  # seconds until a test gives up


class PtyCable:
    """Plugged in, the device has the name `link`; each time it may be another number.

    What comes gathers in `heard`; `until` waits for it.
    """

    def __init__(self, link: Path) -> None:
        self.link = link
        self.end: int | None = None
        self.path = ""
        self.heard = b""
        self._news = asyncio.Event()

    def plug(self) -> None:
        """The device is there."""
        assert self.end is None
        self.end, device = os.openpty()
        tty.setraw(self.end)
        self.path = os.ttyname(device)
        os.close(device)
        os.set_blocking(self.end, False)
        self.point(self.path)

    def point(self, path: str) -> None:
        """The name leads there from now on."""
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(path)

    def unplug(self) -> None:
        """The device is gone, whoever has it open."""
        if self.end is None:
            return
        self.deaf()
        self.link.unlink(missing_ok=True)
        os.close(self.end)
        self.end = None

    def write(self, data: bytes) -> None:
        """Say something as the device does."""
        assert self.end is not None
        assert os.write(self.end, data) == len(data)

    def listen(self) -> None:
        """Read what comes, once somebody has the device open."""
        assert self.end is not None
        asyncio.get_running_loop().add_reader(self.end, self._on_readable)

    def deaf(self) -> None:
        """Read no more."""
        assert self.end is not None
        asyncio.get_running_loop().remove_reader(self.end)

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for what comes to make that true."""
        async with asyncio.timeout(PATIENCE):
            while not is_true():
                self._news.clear()
                await self._news.wait()

    @property
    def baud(self) -> int:
        """What the other end has been set to, a constant of termios."""
        assert self.end is not None
        speed: int = termios.tcgetattr(self.end)[4]
        return speed

    def _on_readable(self) -> None:
        assert self.end is not None
        try:
            self.heard += os.read(self.end, 65_536)
        except BlockingIOError:
            return
        except OSError:  # nobody has it open any more
            self.deaf()
        self._news.set()
