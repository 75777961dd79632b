"""The consumers of the chaos, one kind for each door. Each works until it is cancelled, and does to
every message what `decide` says; a consumer that crashes comes back at once.

Through MQTT and the Python door a crash gives everything back. Over HTTP and SQL nobody misses a
client that has gone until its leases end; before it goes, it makes them end soon.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import struct
from typing import TYPE_CHECKING, Any, cast

from bridges.queues import Queue
from tests.crash import wire
from tests.crash.clients import Client
from tests.crash.http import Connection
from tests.crash.workers import read_address
from tests.support.queue_chaos import (
    ACK,
    CRASH,
    LAST_WORD,
    LEASE,
    MOST_FAILURES,
    NACK,
    REJECT,
    RELEASE,
    STALL,
    STALLED_LEASE,
    Book,
    decide,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import psycopg

    from bridges.queues.received import Received
    from tests.crash.ledger import Ledger
    from tests.support.queue_chaos import Message

UNSPECIFIED, PAYLOAD_FORMAT_INVALID = 0x80, 0x99
REASON_STRING = 0x1F
WHY = "wrong"
RENEWED_LEASE = 3.0  # seconds
NOTHING_NEW = 0.5  # seconds after which SQL is asked again: of leases that end nobody is told

# What is said is written into the book first: from then on the message may be another's.
TELL: dict[str, Callable[[Book, Message], None]] = {
    ACK: Book.acknowledge,
    NACK: Book.fail,
    REJECT: Book.reject,
    RELEASE: Book.give_back,
}


class MqttConsumer(Client):
    """QoS 1 or 2. Before MQTT 5, nack and reject are told on topics. With QoS 2 a crash gives
    nothing back: the session still has it.
    """

    def __init__(
        self, name: str, book: Book, queues: Iterable[str], *, version: int, qos: int = 1
    ) -> None:
        super().__init__(name, cast("Ledger", book), version=version, receive_maximum=8)
        self._book = book
        self._chance = random.Random(name)
        self._filters = {f"$queue/{queue}": qos for queue in queues}
        self._held: dict[int, tuple[str, Message]] = {}  # by packet id, with the queue
        self._taken: set[int] = set()  # QoS 2 packet ids that are answered
        self._late: set[asyncio.Task[None]] = set()
        self._is_exact = qos == 2
        self._has_crashed = False

    async def work(self, port: int) -> None:
        while True:
            await self.connect(port)
            await self.is_gone.wait()

    def on_connack(self, connack: wire.Connack) -> None:
        self.send(wire.subscribe(self.version, 1, self._filters))

    def on_publish(self, message: wire.Publish) -> None:
        packet_id = message.packet_id
        if packet_id in self._taken:
            self.send(wire.ack(wire.PUBREC, packet_id))
            return
        if packet_id not in self._held:
            self._arrive(message)
        asyncio.get_running_loop().call_soon(self._treat, self.link, packet_id)

    def on_ack(self, ack: wire.Ack) -> None:
        if ack.packet_type == wire.PUBREL:
            self._taken.discard(ack.packet_id)
            self.send(wire.ack(wire.PUBCOMP, ack.packet_id))
        elif ack.packet_type == wire.SUBACK:
            self.is_ready.set()

    def _arrive(self, message: wire.Publish) -> None:
        queue, number, _ = read_address(message)
        told = dict(message.user).get("lease-until")
        until = math.inf if self._is_exact else float(told) if told else None
        got = self._book.arrive(self.client_id, number, message.payload, until)
        if got is not None:
            self._held[message.packet_id] = (queue, got)

    def _treat(self, link: object, packet_id: int) -> None:
        if link is not self.link or self._has_crashed or packet_id not in self._held:
            return
        queue, message = self._held[packet_id]
        verdict = decide(self._chance, message)
        verdict = self._possible(verdict, message)
        self._book.counts[f"{verdict} by {self.client_id}"] += 1
        if verdict == CRASH:
            self._crash()
            return
        del self._held[packet_id]
        if verdict == STALL:
            self._stall(queue, message, packet_id)
        else:
            TELL[verdict](self._book, message)
            self._answer(verdict, queue, message, packet_id)
        self.flush()

    def _possible(self, verdict: str, message: Message) -> str:
        """A crash would give back what it has just let go: then it holds on. The same is true of a
        last stall, which nobody would tell it the end of.
        """
        if verdict == RELEASE or (verdict == STALL and self._is_exact):
            verdict = CRASH
        if verdict == CRASH and self._late:
            return LAST_WORD[message.destiny]
        if verdict == STALL and message.failures + 1 == MOST_FAILURES:
            return NACK
        return verdict

    def _crash(self) -> None:
        """Without a word; but what was said before is heard, for it only stops to send. It comes
        back when the broker has seen that.
        """
        link = self.link
        assert link is not None
        assert link.transport is not None
        if not self._is_exact:
            for _, message in self._held.values():
                self._book.give_back(message)
            self._held.clear()
        self.flush()
        link.transport.write_eof()
        self._has_crashed = True

    def take(self, first: int, body: bytes) -> None:
        if not self._has_crashed:
            super().take(first, body)

    def on_leave(self) -> None:
        self._has_crashed = False

    def _answer(self, verdict: str, queue: str, message: Message, packet_id: int) -> None:
        answer = wire.PUBREC if self._is_exact else wire.PUBACK
        if self.version == wire.V5 and verdict != ACK:
            self.send(refuse(answer, packet_id, *REFUSALS[verdict]))
            return
        if verdict == NACK:
            self._say(queue, "$nack", message, b"0")
        elif verdict == REJECT:
            self._say(queue, "$reject", message, WHY.encode())
        if self._is_exact:
            self._taken.add(packet_id)
        self.send(wire.ack(answer, packet_id))

    def _stall(self, queue: str, message: Message, packet_id: int) -> None:
        """It answers when somebody else has got the message, which must change nothing."""
        self._book.fail(message)
        self._say(queue, "$renew", message, str(STALLED_LEASE).encode())
        is_delivered = self._book.delivered[message.number]
        task = asyncio.create_task(self._answer_late(self.link, is_delivered, packet_id))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _answer_late(self, link: object, is_delivered: asyncio.Event, packet_id: int) -> None:
        await is_delivered.wait()
        if link is self.link and not self._has_crashed:
            self.send(wire.ack(wire.PUBACK, packet_id))
            self.flush()

    def _say(self, queue: str, verb: str, message: Message, payload: bytes) -> None:
        topic = f"$queue/{queue}/{verb}/{message.number}"
        self.send(wire.publish(self.version, wire.Publish(topic, payload, 0, False, False, 0)))


def refuse(packet_type: int, packet_id: int, reason: int, properties: bytes) -> bytes:
    """A PUBACK or PUBREC of MQTT 5 that is a failure."""
    body = struct.pack(">HB", packet_id, reason) + wire.number(len(properties)) + properties
    return wire.packet(packet_type << 4, body)


REFUSALS = {
    NACK: (UNSPECIFIED, bytes((wire.PAIR,)) + wire.text("delay") + wire.text("0")),
    REJECT: (PAYLOAD_FORMAT_INVALID, bytes((REASON_STRING,)) + wire.text(WHY)),
}


class HttpConsumer:
    """Over bare HTTP."""

    def __init__(self, name: str, book: Book, queue: str) -> None:
        self._name = name
        self._book = book
        self._queue = queue
        self._chance = random.Random(name)

    async def work(self, port: int, token: str) -> None:
        path = f"/{self._queue}/receive?max=4&wait=5&consumer={self._name}"
        while True:
            connection = await Connection.open(port, token)
            try:
                is_well = True
                while is_well:
                    _, answer = await connection.ask("POST", path)
                    is_well = await self._treat_all(connection, answer["messages"])
            finally:
                connection.close()

    async def _treat_all(self, connection: Connection, messages: list[Any]) -> bool:
        """False: it has crashed."""
        got = [(each["receipt"], self._arrive(each)) for each in messages]
        left = [(receipt, message) for receipt, message in got if message is not None]
        stalled = []
        while left:
            receipt, message = left[0]
            verdict = decide(self._chance, message)
            self._book.counts[f"{verdict} by {self._name}"] += 1
            if verdict == CRASH:
                for each in left:
                    await self._give_up(connection, *each)
                return False
            del left[0]
            if verdict == STALL:
                stalled.append((receipt, message, self._book.delivered[message.number]))
                await self._give_up(connection, receipt, message)
            else:
                await self._settle(connection, receipt, message, verdict)
        for receipt, message, is_delivered in stalled:
            await self._ack_late(connection, receipt, message, is_delivered)
        return True

    def _arrive(self, each: dict[str, Any]) -> Message | None:
        payload = each["payload"].encode()
        return self._book.arrive(self._name, each["id"], payload, each["lease_until"])

    async def _give_up(self, connection: Connection, receipt: str, message: Message) -> None:
        """Its lease shall run out, if it may."""
        if message.can_fail:
            self._book.fail(message)
            await self._ask(connection, "renew", receipt, {"lease": STALLED_LEASE})
        else:
            await self._settle(connection, receipt, message, RELEASE)

    async def _settle(
        self, connection: Connection, receipt: str, message: Message, verdict: str
    ) -> None:
        TELL[verdict](self._book, message)
        verb, more = SAID_BY_HTTP[verdict]
        result = await self._ask(connection, verb, receipt, more)
        if result not in ("ok", "dead"):
            self._book.fault(f"{verdict} of {message} by {self._name}: {result}")

    async def _ack_late(
        self, connection: Connection, receipt: str, message: Message, is_delivered: asyncio.Event
    ) -> None:
        if message.is_done and not is_delivered.is_set():  # that was one failure too many
            return
        await is_delivered.wait()
        result = await self._ask(connection, "ack", receipt, {})
        if result not in ("lost", "gone"):
            self._book.fault(f"a late ack of {message} by {self._name}: {result}")

    async def _ask(
        self, connection: Connection, verb: str, receipt: str, more: dict[str, Any]
    ) -> str:
        asked = json.dumps({"receipts": [receipt], **more}).encode()
        _, answer = await connection.ask("POST", f"/{self._queue}/{verb}", asked)
        return str(answer["results"][0]["result"])


SAID_BY_HTTP: dict[str, tuple[str, dict[str, Any]]] = {
    ACK: ("ack", {}),
    NACK: ("nack", {"delay": 0}),
    REJECT: ("nack", {"dead": True, "reason": WHY}),
    RELEASE: ("release", {}),
}


class PythonConsumer:
    """The Python door; when it crashes, its queue is closed with what it has."""

    def __init__(self, name: str, book: Book, queue: str) -> None:
        self._name = name
        self._book = book
        self._queue = queue
        self._chance = random.Random(name)

    async def work(self, url: str, token: str | None = None) -> None:
        while True:
            async with Queue(self._queue, url, token=token) as queue:
                await self._consume(queue)

    async def _consume(self, queue: Queue) -> None:
        """Until it crashes."""
        async for each in queue.consume(prefetch=3, lease=RENEWED_LEASE):
            message = self._book.arrive(self._name, each.id, each.payload, each.lease_until)
            if message is None:
                continue
            verdict = decide(self._chance, message)
            if verdict == STALL:  # the door would renew its lease
                verdict = NACK
            self._book.counts[f"{verdict} by {self._name}"] += 1
            if verdict == CRASH:  # and what it is just being given it may never see
                self._book.give_back(message)
                self._book.unseen += 1
                return
            TELL[verdict](self._book, message)
            await SAID_BY_PYTHON[verdict](each)


SAID_BY_PYTHON: dict[str, Callable[[Received], Awaitable[Any]]] = {
    ACK: lambda each: each.ack(),
    NACK: lambda each: each.nack("why not", delay=0),
    REJECT: lambda each: each.nack(WHY, dead=True),
    RELEASE: lambda each: each.release(),
}


class SqlConsumer:
    """A backend that knows nothing but SQL."""

    def __init__(self, name: str, book: Book, queue: str) -> None:
        self._name = name
        self._book = book
        self._queue = queue
        self._chance = random.Random(name)

    async def work(self, url: str) -> None:
        import psycopg

        while True:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute("LISTEN heliograph_queue")
                while await self._work_on(connection):
                    pass

    async def _work_on(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """False: it has crashed."""
        given = (self._queue, self._name, LEASE)
        rows = await (await connection.execute(TAKE, given)).fetchall()
        if not rows:
            async for _ in connection.notifies(timeout=NOTHING_NEW, stop_after=1):
                pass
        got = [
            (number, token, self._book.arrive(self._name, number, payload, until))
            for number, token, payload, until in rows
        ]
        left = [each for each in got if each[2] is not None]
        while left:
            number, token, message = left.pop(0)
            verdict = decide(self._chance, message)
            self._book.counts[f"{verdict} by {self._name}"] += 1
            if verdict in (CRASH, STALL):
                for each in ((number, token, message), *left):
                    await self._give_up(connection, *each)
                return False
            await self._say(connection, number, token, message, verdict)
        return True

    async def _give_up(
        self, connection: psycopg.AsyncConnection[Any], number: int, token: int, message: Message
    ) -> None:
        if message.can_fail:
            self._book.fail(message)
            await connection.execute(RENEW, (number, token, STALLED_LEASE))
        else:
            await self._say(connection, number, token, message, RELEASE)

    async def _say(
        self,
        connection: psycopg.AsyncConnection[Any],
        number: int,
        token: int,
        message: Message,
        verdict: str,
    ) -> None:
        TELL[verdict](self._book, message)
        async with connection.transaction():
            cursor = await connection.execute(SAID_BY_SQL[verdict], (number, token))
            ((result,),) = await cursor.fetchall()
        if result not in ("ok", "dead"):
            self._book.fault(f"{verdict} of {message} by {self._name}: {result}")


TAKE = """
    SELECT id, token, payload, extract(epoch FROM lease_until)::float8
    FROM heliograph.lease(%s, 3, %s, %s)
"""
RENEW = "SELECT heliograph.renew(%s, %s, %s)"
SAID_BY_SQL = {
    ACK: "SELECT heliograph.ack(%s, %s)",
    NACK: "SELECT heliograph.nack(%s, %s, 0)",
    REJECT: f"SELECT heliograph.nack(%s, %s, dead => true, reason => '{WHY}')",
    RELEASE: "SELECT heliograph.release(%s, %s)",
}
