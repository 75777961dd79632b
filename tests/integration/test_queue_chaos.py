"""Many consumers through all doors at once, on each database, none of which can be relied upon.

At the end each message was acknowledged by one of them, or is a dead letter that had to be one; no
message was with two at a time, and those of a key came in order.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.crash import wire
from tests.crash.clients import Client
from tests.crash.http import Connection
from tests.support.process import BrokerProcess, free_port
from tests.support.queue_chaos import GOOD, LEASE, MOST_FAILURES, POISON, WRONG, Book
from tests.support.queue_chaos_doors import (
    HttpConsumer,
    MqttConsumer,
    PythonConsumer,
    SqlConsumer,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from tests.support.postgresql import PostgreSQL
    from tests.support.queue_chaos import Message

SEED = 7
MESSAGES = 300
KEYS = 8
LONGEST = 60.0  # seconds: far more than needed
FAREWELL = 10.0  # seconds that they may take to go
TOKEN = "of the chaos"
POLICY = {
    "lease": f"{LEASE} s",
    "max_failures": MOST_FAILURES,
    "max_acquisitions": 0,
    "retry_first": "0 s",
    "dead_letter_queue": "morgue",
}
DESTINIES = (GOOD,) * 16 + (POISON, WRONG)


def settings(http_port: int, database: str) -> dict[str, Any]:
    token = {"name": "chaos", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
    return {
        **({"store": {"url": database}} if database else {}),
        "http": {"listen": f"127.0.0.1:{http_port}"},
        "http.token": [{**token, "allow": ["receive", "publish", "look", "manage"]}],
        "queue": [
            {"name": "keyed", "order": "key", **POLICY},
            {"name": "plain", **POLICY},
            {"name": "morgue"},
        ],
        "route": [{"name": "by rule", "topic": "in/plain", "queue": "plain"}],
    }


class Feeder(Client):
    """Publishes everything, and knows when it is acknowledged."""

    def __init__(self, book: Book, messages: list[Message]) -> None:
        super().__init__("feeder", book)  # type: ignore[arg-type]
        self.messages = messages
        self.left = len(messages)
        self.is_done = asyncio.Event()

    def on_connack(self, connack: wire.Connack) -> None:
        for packet_id, each in enumerate(self.messages, 1):
            topic = f"$queue/{each.queue}" if each.key else f"in/{each.queue}"
            key = (("key", each.key),) if each.key else ()
            publish = wire.Publish(topic, each.payload, 1, False, False, packet_id, key)
            self.send(wire.publish(self.version, publish))
        self.is_ready.set()

    def on_ack(self, ack: wire.Ack) -> None:
        if ack.reason >= wire.FAILURE:
            self.ledger.stick("feeder", f"refused with {ack.reason:#04x}")
        self.left -= 1
        if not self.left:
            self.is_done.set()


class Mourner:
    """Takes the dead letters."""

    def __init__(self, book: Book) -> None:
        self.consumer = HttpConsumer("mourner", book, "morgue")
        self.book = book

    async def work(self, port: int) -> None:
        connection = await Connection.open(port, TOKEN)
        try:
            while True:
                _, answer = await connection.ask("POST", "/morgue/receive?max=20&wait=10")
                for letter in answer["messages"]:
                    self.book.bury(letter)
                    await self.consumer._ask(connection, "ack", letter["receipt"], {})
        finally:
            connection.close()


def write_messages(book: Book) -> list[Message]:
    chance = random.Random(SEED)
    made = []
    for _ in range(MESSAGES):
        key = f"key {chance.randrange(KEYS)}" if chance.random() < 0.6 else ""
        queue = "keyed" if key else "plain"
        made.append(book.write(queue, key, chance.choice(DESTINIES)))
    return made


def consumers(
    book: Book, port: int, http_port: int, database: str
) -> list[Coroutine[Any, Any, None]]:
    both = ("keyed", "plain")
    url = f"http://127.0.0.1:{http_port}"
    work = [
        MqttConsumer("five", book, both, version=wire.V5).work(port),
        MqttConsumer("old", book, both, version=wire.V3_1_1).work(port),
        MqttConsumer("exact", book, both, version=wire.V5, qos=2).work(port),
        *(HttpConsumer(f"http-{queue}", book, queue).work(http_port, TOKEN) for queue in both),
        *(PythonConsumer(f"python-{queue}", book, queue).work(url, TOKEN) for queue in both),
        Mourner(book).work(http_port),
    ]
    if database:
        work += [SqlConsumer(f"sql-{queue}", book, queue).work(database) for queue in both]
        work.append(PythonConsumer("python-sql", book, "keyed").work(database))
    return work


async def run(book: Book, port: int, http_port: int, database: str) -> None:
    """Until all is over; whoever of them falls over ends it."""
    feeder = Feeder(book, write_messages(book))
    tasks = [asyncio.create_task(each) for each in consumers(book, port, http_port, database)]
    over = asyncio.create_task(book.is_over.wait())
    try:
        assert await feeder.connect(port)
        await feeder.is_done.wait()
        feeder.leave(politely=True)
        done, _ = await asyncio.wait(
            [*tasks, over], timeout=LONGEST, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done - {over}:
            task.result()
    finally:
        for task in (*tasks, over):
            task.cancel()
        await asyncio.wait([*tasks, over], timeout=FAREWELL)


async def until_http_answers(http_port: int) -> None:
    while True:
        try:
            (await Connection.open(http_port, TOKEN)).close()
        except OSError:
            await asyncio.sleep(0.02)  # a process that starts tells nobody when it listens
        else:
            return


async def left_in_queues(http_port: int) -> dict[str, int]:
    connection = await Connection.open(http_port, TOKEN)
    _, answer = await connection.ask("GET", "")
    connection.close()
    return {each["name"]: each["messages"] for each in answer["queues"]}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_no_message_is_lost_doubled_or_out_of_order_in_the_chaos(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = ""
    if database == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        url = server.new_database()
    book, http_port = Book(), free_port()
    broker = BrokerProcess(tmp_path, settings=settings(http_port, url))
    await asyncio.to_thread(broker.start)
    try:
        await until_http_answers(http_port)
        await run(book, broker.port, http_port, url)
        assert book.faults == []
        assert book.left == [], book.counts
        assert await left_in_queues(http_port) == dict.fromkeys(("keyed", "plain", "morgue"), 0)
    finally:
        await asyncio.to_thread(broker.stop)
