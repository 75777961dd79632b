"""Who takes messages out of queues in the torture: MQTT clients and HTTP clients; and who puts some
in by HTTP. They tell the ledger what they get and what the broker has confirmed as done.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from tests.crash import wire
from tests.crash.clients import Client
from tests.crash.http import Connection

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection

    from tests.crash.ledger import Ledger, Message
    from tests.crash.queue_ledger import QueueLedger

SLOW = 0.005  # seconds that a worker works at most
PAUSE = 0.05  # seconds until it tries to reach the broker again
GONE = (OSError, EOFError, TimeoutError)  # the broker, as an HTTP client sees it
DONE = ("ok", "gone")


class Worker(Client):
    """An MQTT client that consumes queues, with QoS 1 or 2, and acknowledges all it gets."""

    def __init__(
        self,
        client_id: str,
        ledger: Ledger,
        queue_ledger: QueueLedger,
        queues: Collection[str],
        chance: random.Random,
        *,
        qos: int,
        version: int = wire.V5,
        receive_maximum: int = 0,
    ) -> None:
        super().__init__(client_id, ledger, version=version, receive_maximum=receive_maximum)
        self.filters = {f"$queue/{queue}": qos for queue in queues}
        self.chance = chance
        self._queue_ledger = queue_ledger
        self._taken: dict[int, tuple[str, int]] = {}  # QoS 2 packet ids: queue and number

    def on_connack(self, connack: wire.Connack) -> None:
        if not connack.session_present:
            self._taken.clear()
        self.send(wire.subscribe(self.version, 1, self.filters))

    def on_publish(self, message: wire.Publish) -> None:
        if message.packet_id in self._taken:
            self.send(wire.ack(wire.PUBREC, message.packet_id))
            return
        queue, number, topic = read_address(message)
        only_for = self.client_id if message.qos == 2 else ""
        self._queue_ledger.arrive(queue, number, topic, message.payload, only_for=only_for)
        if message.qos == 2:
            self._taken[message.packet_id] = (queue, number)
        answer = wire.ack(wire.PUBREC if message.qos == 2 else wire.PUBACK, message.packet_id)
        wait = self.chance.random() * SLOW
        asyncio.get_running_loop().call_later(wait, self._answer, self.link, answer)

    def on_ack(self, ack: wire.Ack) -> None:
        if ack.packet_type == wire.PUBREL:
            done = self._taken.pop(ack.packet_id, None)
            if done is not None:
                self._queue_ledger.confirm(*done)
            self.send(wire.ack(wire.PUBCOMP, ack.packet_id))
        elif ack.packet_type == wire.SUBACK:
            if ack.reason >= wire.FAILURE:
                self.ledger.stick(self.client_id, f"may not consume: {ack.reason:#04x}")
            self.is_promised = True
            self.is_ready.set()

    def _answer(self, link: object, packet: bytes) -> None:
        if link is self.link:
            self.send(packet)
            self.flush()


def read_address(message: wire.Publish) -> tuple[str, int, str]:
    """Queue, number and the topic that it was published to; 0 and nothing if it does not say."""
    _, queue, *rest = message.topic.split("/", 3)
    if rest:
        return queue, int(rest[0]), rest[1]
    told = dict(message.user)
    return queue, int(told.get("msg-id", 0)), told.get("original-topic", "")


class HttpWorker:
    """Receives and acknowledges; now and then it is gone before it does."""

    def __init__(
        self, name: str, queue_ledger: QueueLedger, queue: str, chance: random.Random
    ) -> None:
        self.name = name
        self._ledger = queue_ledger
        self._queue = queue
        self._chance = chance

    async def work(self, port: int, token: str) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self._work_on(await Connection.open(port, token))
            except GONE:
                await asyncio.sleep(PAUSE)

    async def _work_on(self, connection: Connection) -> None:
        path = f"/{self._queue}/receive?max={self._chance.choice((1, 5, 20))}&wait=1"
        try:
            while True:
                status, answer = await connection.ask("POST", f"{path}&consumer={self.name}")
                if status != 200:
                    await asyncio.sleep(PAUSE)
                    continue
                receipts = [self._take(message) for message in answer["messages"]]
                await asyncio.sleep(self._chance.random() * SLOW)
                if self._chance.random() < 0.03:
                    return
                await self._ack(connection, receipts)
        finally:
            connection.close()

    def _take(self, message: dict[str, Any]) -> str:
        payload = message["payload"].encode()
        self._ledger.arrive(self._queue, message["id"], message["topic"], payload)
        return str(message["receipt"])

    async def _ack(self, connection: Connection, receipts: list[str]) -> None:
        if not receipts:
            return
        body = json.dumps({"receipts": receipts}).encode()
        status, answer = await connection.ask("POST", f"/{self._queue}/ack", body)
        if status == 200:
            for each in answer["results"]:
                if each["result"] in DONE:
                    self._ledger.confirm(self._queue, int(each["receipt"].partition("-")[0]))


class HttpPublisher:
    """Puts messages in, one after the other; what is not answered is never sent again."""

    def __init__(self, ledger: Ledger, next_message: Callable[[], Message], queue: str) -> None:
        self._ledger = ledger
        self._next_message = next_message
        self._queue = queue

    async def publish(self, port: int, token: str) -> None:
        """Until it is cancelled."""
        while True:
            try:
                connection = await Connection.open(port, token)
            except OSError:
                await asyncio.sleep(PAUSE)
                continue
            try:
                while await self._put(connection):
                    pass
            finally:
                connection.close()

    async def _put(self, connection: Connection) -> bool:
        message = self._next_message()
        entry = {"payload": message.payload.decode(), "topic": message.topic}
        try:
            status, _ = await connection.ask(
                "POST", f"/{self._queue}/messages", json.dumps(entry).encode()
            )
        except GONE:
            self._ledger.give_up(message)
            return False
        if status == 201:
            self._ledger.acknowledge(message)
        else:
            self._ledger.refuse(message)
        return status == 201
