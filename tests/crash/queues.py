"""The queues' part in the torture: which queues and rules there are, who puts in, who takes out."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

from tests.crash import wire
from tests.crash.clients import Publisher
from tests.crash.http import Connection
from tests.crash.queue_ledger import BY_KEY, FREE, SINGLE, QueueLedger
from tests.crash.workers import GONE, PAUSE, HttpPublisher, HttpWorker, Worker
from tests.support.process import free_port

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.crash.ledger import Ledger, Message

TOKEN = "of the torture"
KEYS = 8
LARGE, LARGE_SHARE = 20_000, 0.02  # bytes that are kept beside their message
SMALL = 1024

# Nothing becomes a dead letter because the broker died while it was leased.
POLICY = {"lease": "2 s", "max_failures": 0, "max_acquisitions": 0}
ORDERS = {"plain": FREE, "keyed": BY_KEY, "single": SINGLE, "direct": FREE}
QUEUES = [
    {"name": "plain", **POLICY},
    {"name": "keyed", "order": "key", **POLICY},
    {"name": "single", "order": "single_active", **POLICY},
    {"name": "direct", **POLICY},
]
# The last level of a topic q/<publisher>/<key>/<where> -> the queues it is for.
WHERE = {"plain": ("plain",), "keyed": ("keyed",), "all": ("plain", "keyed", "single")}
DIRECT = "$queue/direct"
ROUTES = [
    {
        "name": f"{where} to {queue}",
        "topic": f"q/+/+/{where}",
        "queue": queue,
        **({"key": "topic:3"} if ORDERS[queue] == BY_KEY else {}),
    }
    for where, queues in WHERE.items()
    for queue in queues
]

# name: QoS, window, version, durable
PUBLISHERS = {
    "q1": (1, 16, wire.V5, True),
    "q2": (2, 16, wire.V5, True),
    "q3": (2, 3, wire.V3_1_1, True),
    "q4": (1, 8, wire.V5, False),
    "q5": (2, 8, wire.V5, True),
}
DIRECTLY = {"q5"}

# name: queues, behaviour (see rounds.py), and the rest
WORKERS: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "w1": (("plain",), "stays", {"qos": 1}),
    "w2": (("plain", "keyed"), "wanders", {"qos": 1, "version": wire.V3_1_1}),
    "w3": (("plain", "direct"), "stays", {"qos": 2}),
    "w4": (("keyed",), "wanders", {"qos": 2, "receive_maximum": 5}),
    "w5": (("keyed",), "stays", {"qos": 2, "version": wire.V3_1_1}),
    "w6": (("single",), "wanders", {"qos": 1}),
    "w7": (("single",), "wanders", {"qos": 1, "version": wire.V3_1_1}),
    "w8": (("plain", "keyed"), "absent", {"qos": 2}),
}
# None for `single`: what an HTTP answer has leased that a crash cuts off comes again when the lease
# ends, behind what its consumer is given meanwhile (docs/queues.md, "Order").
HTTP_WORKERS = {"h1": "plain", "h2": "keyed", "h4": "direct"}


class Queues:
    """Owns the ledger of queues, and who uses them over HTTP."""

    def __init__(self, ledger: Ledger, chance: random.Random) -> None:
        self.port = free_port()
        self._ledger = ledger
        self._chance = chance
        self._queue_ledger = QueueLedger(ledger, ORDERS)
        self._http_workers = [
            HttpWorker(name, self._queue_ledger, queue, chance)
            for name, queue in HTTP_WORKERS.items()
        ]
        source = self._direct_source("http", 2, "posted")
        self._http_publisher = HttpPublisher(ledger, source, "direct")

    @property
    def settings(self) -> dict[str, Any]:
        """What the broker must know."""
        token = {"name": "torture", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
        return {
            "http": {"listen": f"127.0.0.1:{self.port}"},
            "http.token": [{**token, "allow": ["receive", "publish", "look", "manage"]}],
            "queue": QUEUES,
            "route": ROUTES,
        }

    def publishers(self) -> dict[str, Publisher]:
        return {name: self._publisher(name) for name in PUBLISHERS}

    def workers(self) -> dict[str, Worker]:
        return {
            name: Worker(name, self._ledger, self._queue_ledger, queues, self._chance, **rest)
            for name, (queues, _, rest) in WORKERS.items()
        }

    async def work(self) -> None:
        """Takes messages out over HTTP, until it is cancelled."""
        await asyncio.gather(*(each.work(self.port, TOKEN) for each in self._http_workers))

    async def publish(self) -> None:
        """Puts some in over HTTP, until it is cancelled."""
        await self._http_publisher.publish(self.port, TOKEN)

    async def until_empty(self) -> None:
        while any((await self.left()).values()):  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(PAUSE)

    async def left(self) -> dict[str, int]:
        """How many messages each queue has, those of dead letters included."""
        try:
            connection = await Connection.open(self.port, TOKEN)
        except OSError:
            return {"the broker does not answer": 1}
        try:
            status, answer = await connection.ask("GET", "")
        except GONE:
            return {"the broker does not answer": 1}
        finally:
            connection.close()
        if status != 200:
            return {f"the broker says {answer}": 1}
        return {each["name"]: int(each["messages"]) for each in answer["queues"]}

    def judge(self, left: dict[str, int]) -> None:
        for queue, messages in left.items():
            if messages:
                self._ledger.stick(queue, f"{messages} messages stay in it")
        self._queue_ledger.judge()

    # ---- who publishes what ----

    def _publisher(self, name: str) -> Publisher:
        qos, window, version, is_durable = PUBLISHERS[name]
        source = self._source(name, qos)
        if name in DIRECTLY:
            source = self._direct_source(name, qos, DIRECT)
        return Publisher(
            name, self._ledger, source, window=window, version=version, is_durable=is_durable
        )

    def _source(self, name: str, qos: int) -> Callable[[], Message]:
        def make() -> Message:
            where = self._chance.choice(tuple(WHERE))
            topic = f"q/{name}/{self._chance.randrange(KEYS)}/{where}"
            message = self._ledger.new_message(name, topic, qos, self._size())
            return self._queue_ledger.expect(message, WHERE[where])

        return make

    def _direct_source(self, name: str, qos: int, topic: str) -> Callable[[], Message]:
        def make() -> Message:
            message = self._ledger.new_message(name, topic, qos, self._size())
            return self._queue_ledger.expect(message, ("direct",))

        return make

    def _size(self) -> int:
        if self._chance.random() < LARGE_SHARE:
            return LARGE
        return self._chance.randrange(SMALL)
