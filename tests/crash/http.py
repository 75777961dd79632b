"""The little of HTTP/1.1 that a worker needs, written from the standard alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

HOST = "127.0.0.1"
LONGEST_ANSWER = 15.0  # seconds: far more than needed


class Connection:
    """One connection, one request after the other. An error of the system or an answer that ends
    too early is an OSError or EOFError: the broker has gone.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._token = token

    @classmethod
    async def open(cls, port: int, token: str) -> Self:
        return cls(*await asyncio.open_connection(HOST, port), token)

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """The status, and the JSON of the answer."""
        head = f"{method} /api/v1/queues{path} HTTP/1.1\r\nHost: {HOST}\r\n"
        head += f"Authorization: Bearer {self._token}\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\n\r\n"
        self._writer.write(head.encode() + body)
        async with asyncio.timeout(LONGEST_ANSWER):
            return await self._read_answer()

    def close(self) -> None:
        self._writer.transport.abort()

    async def _read_answer(self) -> tuple[int, Any]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        status, *fields = head.split("\r\n")
        sizes = [line for line in fields if line.startswith("content-length:")]
        body = await self._reader.readexactly(int(sizes[0].partition(":")[2]) if sizes else 0)
        return int(status.split()[1]), json.loads(body) if body else None
