"""A wire that can be cut: it carries bytes between a client and the broker until `cut` ends both.

This is how a client vanishes without a DISCONNECT, for every library and transport alike.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.process import Endpoint

CHUNK = 65_536


class Wire:
    """`endpoint` is where the client shall connect."""

    def __init__(self, far: Endpoint) -> None:
        self._far = far
        self.endpoint = far
        self._server: asyncio.Server | None = None
        self._ends: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()

    async def lay(self, directory: Path) -> None:
        if self._far.transport == "unix":
            path = str(directory / "wire.sock")
            self._server = await asyncio.start_unix_server(self._join, path)
            self.endpoint = replace(self._far, path=path)
        else:
            self._server = await asyncio.start_server(self._join, self._far.host, 0)
            port: int = self._server.sockets[0].getsockname()[1]
            self.endpoint = replace(self._far, port=port)

    def cut(self) -> None:
        """Both ends see the connection gone; who dials again is refused."""
        if self._server is not None:
            self._server.close()
        for end in self._ends:
            end.transport.abort()
        for pump in self._pumps:
            pump.cancel()

    async def _join(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await self._dial()
        self._ends += [to_near, to_far]
        for source, target in ((near, to_far), (far, to_near)):
            pump = asyncio.create_task(carry(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._far.transport == "unix":
            return await asyncio.open_unix_connection(self._far.path)
        return await asyncio.open_connection(self._far.host, self._far.port)


async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(CHUNK):
            target.write(chunk)
            await target.drain()
    target.close()


@asynccontextmanager
async def laid_wire(far: Endpoint) -> AsyncIterator[Wire]:
    wire = Wire(far)
    with TemporaryDirectory(prefix="wire-") as directory:
        await wire.lay(Path(directory))
        try:
            yield wire
        finally:
            wire.cut()
