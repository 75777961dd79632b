"""The HTTP interface of a broker as a Backend.

Rule kept here: every failure is a QueueError. "unavailable" means that trying again may help; what
was asked for may have happened all the same. The token goes to no other address than it is for.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

from bridges.queues.backend import Message, QueueError, QueueStats
from bridges.queues.http_messages import payload_json
from broker.queues.policy import MODES_BY_VERB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

BASE = "/api/v1"
CONNECT_TIME = 5.0  # seconds
ANSWER_TIME = 35.0  # seconds from a request to its answer: more than the broker waits for its store
LONGEST_WORK = 3600.0  # seconds for what is done to a whole queue, a slice at a time
FIRST_STATUS_NOT_GOOD, FIRST_STATUS_OF_FAILURE = 300, 500
MOST_REMEMBERED = 10_000  # receipts that were neither acknowledged nor given back
IS_JSON = {"Content-Type": "application/json"}
MODES = {mode: verb for verb, mode in MODES_BY_VERB.items()}
MESSAGE_FIELDS = tuple(each.name for each in fields(Message) if each.name != "payload")
STATS_FIELDS = tuple(each.name for each in fields(QueueStats))


class HTTPBackend:
    """`url`: of the broker's [http] listen, `http://host:8180` or `https://...`."""

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.username or parts.query or parts.fragment:
            raise QueueError(
                "bad_request", "the url is not http://host:port: the token has a place of its own"
            )
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None
        self._queues: dict[str, str] = {}  # of each receipt its queue, the oldest first

    # -- the verbs --------------------------------------------------------------------------------

    async def receive(
        self,
        queue: str,
        consumer: str,
        *,
        most: int = 1,
        wait: float = 0.0,
        lease: float | None = None,
    ) -> list[Message]:
        query = {"max": most, "wait": wait, "consumer": consumer}
        if lease is not None:
            query["lease"] = lease
        answer = await self._call("POST", f"/queues/{queue}/receive", query, time=wait)
        found = self._messages(answer)
        self._remember(queue, [each.receipt for each in found])
        return found

    async def ack(self, receipts: Sequence[str]) -> list[str]:
        return await self._settle("ack", receipts)

    async def nack(
        self,
        receipts: Sequence[str],
        *,
        delay: float | None = None,
        dead: bool = False,
        reason: str = "",
    ) -> list[str]:
        told = {} if delay is None else {"delay": delay}
        return await self._settle("nack", receipts, **told, dead=dead, reason=reason)

    async def renew(self, receipts: Sequence[str], lease: float) -> list[str]:
        return await self._settle("renew", receipts, lease=lease)

    async def release(self, receipts: Sequence[str]) -> list[str]:
        return await self._settle("release", receipts)

    async def publish(
        self,
        queue: str,
        payload: bytes,
        *,
        topic: str = "",
        key: str | None = None,
        priority: int = 4,
        delay: float = 0.0,
        ttl: float | None = None,
        dedup_id: str | None = None,
        content_type: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> int | None:
        given = {
            "topic": topic or None,
            "key": key,
            "priority": priority,
            "delay": delay,
            "ttl": ttl,
            "dedup_id": dedup_id,
            "content_type": content_type,
            "properties": dict(properties) if properties else None,
        }
        body = {name: value for name, value in given.items() if value is not None}
        answer = await self._call(
            "POST", f"/queues/{queue}/messages", body={**body, **payload_json(payload)}
        )
        number = self._part(answer, "id")
        return None if number is None else int(number)

    async def peek(self, queue: str, *, after: int = 0, most: int = 10) -> list[Message]:
        query = {"after": after, "max": most}
        return self._messages(await self._call("GET", f"/queues/{queue}/messages", query))

    async def stats(self, queue: str | None = None) -> list[QueueStats]:
        path = "/queues" if queue is None else f"/queues/{queue}"
        answer = await self._call("GET", path)
        rows = [answer] if queue is not None else self._part(answer, "queues")
        return self._read(lambda: [QueueStats(**{n: row[n] for n in STATS_FIELDS}) for row in rows])

    async def purge(self, queue: str) -> int:
        return await self._count("DELETE", f"/queues/{queue}/messages", "deleted")

    async def delete(self, queue: str, message_id: int) -> int:
        return await self._count("DELETE", f"/queues/{queue}/messages/{message_id}", "deleted")

    async def redrive(
        self,
        queue: str,
        *,
        ids: Sequence[int] | None = None,
        to: str | None = None,
        payload: bytes | None = None,
    ) -> int:
        body: dict[str, Any] = {} if payload is None else dict(payload_json(payload))
        if ids is not None:
            body["ids"] = list(ids)
        if to is not None:
            body["to"] = to
        return await self._count("POST", f"/queues/{queue}/redrive", "moved", body)

    async def drop(self, queue: str) -> int:
        return await self._count("DELETE", f"/queues/{queue}", "deleted")

    async def unbind(self, queue: str, topic_filter: str) -> None:
        await self._call("DELETE", f"/queues/{queue}/bindings", {"filter": topic_filter})

    async def set_mode(self, queue: str, mode: str) -> None:
        verb = MODES.get(mode)
        if verb is None:
            raise QueueError("bad_request", f"{mode!r} is no mode: write {', '.join(MODES)}")
        await self._call("POST", f"/queues/{queue}/{verb}")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- one call ---------------------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        time: float = 0.0,
    ) -> Any:
        """The answer's JSON. `time`: seconds that it may take longer than usual."""
        try:
            async with self._open().request(
                method,
                self.url + BASE + path,
                params=query,
                data=None if body is None else io.BytesIO(json.dumps(body).encode()),
                headers=IS_JSON,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(ANSWER_TIME + time, sock_connect=CONNECT_TIME),
            ) as response:
                data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._away(error) from error
        except ValueError as error:  # a header or address that cannot be written
            raise QueueError("bad_request", f"{self.url} cannot be asked: {error}") from error
        return self._read_answer(response.status, data)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers)
        return self._session

    def _read_answer(self, status: int, data: bytes) -> Any:
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if status < FIRST_STATUS_NOT_GOOD and answer is not None:
            return answer
        if isinstance(answer, dict) and "error" in answer:
            raise QueueError(str(answer["error"]), str(answer.get("message", "")))
        if status >= FIRST_STATUS_OF_FAILURE:
            raise QueueError("unavailable", f"{self.url} answers with status {status}")
        raise self._strange(f"status {status}")

    def _away(self, error: Exception) -> QueueError:
        why = str(error) or type(error).__name__
        return QueueError(
            "unavailable",
            f"no broker answers at {self.url} ({why}): start it, or check the url and the "
            "[http] listen of its settings",
        )

    def _strange(self, what: str) -> QueueError:
        return QueueError(
            "bad_answer",
            f"what answers at {self.url} is no Heliograph broker ({what}): check the url",
        )

    # -- answers ----------------------------------------------------------------------------------

    def _remember(self, queue: str, receipts: Sequence[str]) -> None:
        """The interface asks for the queue of a receipt, of which a Backend is not told."""
        for receipt in receipts:
            self._queues[receipt] = queue
        while len(self._queues) > MOST_REMEMBERED:
            del self._queues[next(iter(self._queues))]

    async def _settle(self, verb: str, receipts: Sequence[str], **told: Any) -> list[str]:
        """One call for each queue, which is one in all but name."""
        groups: dict[str, list[str]] = {}
        for receipt in receipts:
            groups.setdefault(self._queue_of(receipt), []).append(receipt)
        results: dict[str, str] = {}
        for queue, some in groups.items():
            results.update(await self._settle_some(verb, queue, some, told))
        if verb != "renew":
            for receipt in receipts:
                self._queues.pop(receipt, None)
        return [results[receipt] for receipt in receipts]

    def _queue_of(self, receipt: str) -> str:
        queue = self._queues.get(receipt)
        if queue is None:
            raise QueueError("bad_request", f"{receipt[:60]!r} is no receipt that came this way")
        return queue

    async def _settle_some(
        self, verb: str, queue: str, receipts: list[str], told: Mapping[str, Any]
    ) -> dict[str, str]:
        body = {"receipts": receipts, **told}
        answer = await self._call("POST", f"/queues/{queue}/{verb}", body=body)
        rows = self._part(answer, "results")
        results: list[str] = self._read(lambda: [str(row["result"]) for row in rows])
        if len(results) != len(receipts):
            raise self._strange(f"{len(results)} results for {len(receipts)} receipts")
        return dict(zip(receipts, results, strict=True))

    async def _count(
        self, method: str, path: str, name: str, body: Mapping[str, Any] | None = None
    ) -> int:
        answer = await self._call(method, path, body=body, time=LONGEST_WORK)
        return self._read(lambda: int(answer[name]))

    def _messages(self, answer: Any) -> list[Message]:
        rows = self._part(answer, "messages")
        return self._read(lambda: [message_of(row) for row in rows])

    def _part(self, answer: Any, name: str) -> Any:
        return self._read(lambda: answer[name])

    def _read(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except (KeyError, TypeError, ValueError) as error:
            raise self._strange(f"{type(error).__name__}: {error}") from error


def message_of(row: Mapping[str, Any]) -> Message:
    """Raises KeyError, TypeError, ValueError for what is no message."""
    payload = row.get("payload")
    data = base64.b64decode(row["payload_base64"]) if payload is None else payload.encode()
    return Message(payload=data, **{name: row[name] for name in MESSAGE_FIELDS})
