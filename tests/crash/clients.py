"""Clients that behave as the standard says, over any number of connections, and tell the ledger.

A publisher sends again what was not finished, with the same packet id, in the old order, DUP set;
a subscriber remembers the QoS 2 ids that it took. Both check that their session is there again:
a session the broker has once acknowledged work for must never be missing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from tests.crash import wire

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterable

    from tests.crash.ledger import Ledger, Message

HOST = "127.0.0.1"
EXPIRY = 86_400  # seconds that a session outlives its connection
ANSWER_TIME = 15.0  # seconds to a CONNACK or SUBACK: far more than needed
LATE_ACK = 0.005  # seconds that a slow subscriber may wait with its acks


class Link(asyncio.Protocol):
    """One connection; tells its client only as long as it is the client's current one."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.splitter = wire.Splitter()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for first, body in self.splitter.feed(data):
            if self.client.link is self:
                self.client.take(first, body)
        if self.client.link is self:
            self.client.flush()

    def connection_lost(self, error: Exception | None) -> None:
        if self.client.link is self:
            self.client.leave()


class Client:
    """One client id. `is_durable`: its session outlives the connection."""

    def __init__(
        self,
        client_id: str,
        ledger: Ledger,
        *,
        version: int = wire.V5,
        is_durable: bool = True,
        receive_maximum: int = 0,
    ) -> None:
        self.client_id = client_id
        self.ledger = ledger
        self.version = version
        self.is_durable = is_durable
        self.receive_maximum = receive_maximum
        self.link: Link | None = None
        self.is_ready = asyncio.Event()  # it has its session and subscriptions
        self.is_gone = asyncio.Event()
        self.is_gone.set()
        self.is_promised = False  # the broker has acknowledged work for this session
        self._out: list[bytes] = []

    async def connect(self, port: int) -> bool:
        """Whether it worked; False when nobody listens or the broker died meanwhile."""
        link = Link(self)
        self.link = link
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: link, HOST, port)
        except OSError:
            self.leave()
            return False
        self.is_gone.clear()
        expiry = EXPIRY if self.is_durable else 0
        hello = wire.connect(
            self.version, self.client_id, not self.is_durable, expiry, self.receive_maximum
        )
        self.send(hello)
        self.flush()
        await first_of(ANSWER_TIME, self.is_ready.wait(), self.is_gone.wait())
        return self.is_ready.is_set()

    def leave(self, *, politely: bool = False) -> None:
        """The connection is over, by us or by the broker."""
        link, self.link = self.link, None
        self.is_ready.clear()
        self.is_gone.set()
        self._out.clear()
        if link is not None and link.transport is not None:
            if politely:
                link.transport.write(wire.GOODBYE)
                link.transport.close()
            else:
                link.transport.abort()
        self.on_leave()

    def take(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == wire.CONNACK:
            self._take_connack(wire.read_connack(self.version, body))
        elif kind == wire.PUBLISH:
            self.on_publish(wire.read_publish(self.version, first, body))
        elif kind == wire.DISCONNECT:
            self.leave()
        elif kind != wire.PINGRESP:
            self.on_ack(wire.read_ack(self.version, first, body))

    def send(self, packet: bytes) -> None:
        self._out.append(packet)

    def flush(self) -> None:
        if self._out and self.link is not None and self.link.transport is not None:
            self.link.transport.write(b"".join(self._out))
            self._out.clear()

    def _take_connack(self, connack: wire.Connack) -> None:
        if connack.reason:
            self.ledger.stick(self.client_id, f"refused with {connack.reason:#04x}")
            self.leave()
            return
        if self.is_promised and self.is_durable and not connack.session_present:
            self.is_promised = False
            self.ledger.lose_session(self.client_id)
        self.on_connack(connack)

    # ---- what a kind of client does ----

    def on_connack(self, connack: wire.Connack) -> None:
        raise NotImplementedError

    def on_publish(self, message: wire.Publish) -> None:
        raise NotImplementedError

    def on_ack(self, ack: wire.Ack) -> None:
        raise NotImplementedError

    def on_leave(self) -> None:
        """The connection is over."""


class Publisher(Client):
    """Keeps `window` messages under way while its allowance lasts. `next_message` makes them."""

    def __init__(
        self,
        client_id: str,
        ledger: Ledger,
        next_message: Callable[[], Message],
        *,
        window: int = 1,
        version: int = wire.V5,
        is_durable: bool = True,
        taken_over_by: int = wire.PUBREC,
    ) -> None:
        super().__init__(client_id, ledger, version=version, is_durable=is_durable)
        self.next_message = next_message
        self.window = window
        self.taken_over_by = taken_over_by  # the packet that promises a QoS 2 message
        self.allowance = 0  # messages that it may still begin
        self.is_finished = asyncio.Event()
        self.is_finished.set()
        self._room = window
        self._unfinished: dict[int, Message] = {}  # by packet id, in the order of sending
        self._released: set[int] = set()  # those of QoS 2 that PUBREC has answered
        self._last_id = 0

    def allow(self, messages: int) -> None:
        """Up to so many new messages, what was allowed before and not begun included."""
        self.allowance = max(self.allowance, messages)
        self._look()
        if self.is_ready.is_set():
            self._pump()
            self.flush()

    def stop(self) -> int:
        """No new messages; how many are unfinished."""
        self.allowance = 0
        self._look()
        return len(self._unfinished)

    def on_connack(self, connack: wire.Connack) -> None:
        if not connack.session_present:
            self._give_up()
        self._room = min(self.window, connack.receive_maximum)
        for packet_id, message in self._unfinished.items():
            if packet_id in self._released:
                self.send(wire.ack(wire.PUBREL, packet_id))
            else:
                self._send_publish(packet_id, message, is_again=True)
        self.is_ready.set()
        self._pump()

    def on_ack(self, ack: wire.Ack) -> None:
        message = self._unfinished.get(ack.packet_id)
        if message is None:
            return
        self.is_promised = True
        if ack.packet_type == wire.PUBREC and ack.reason < wire.FAILURE:
            self._released.add(ack.packet_id)
            self._acknowledge(message, wire.PUBREC)
            self.send(wire.ack(wire.PUBREL, ack.packet_id))
            return
        if ack.packet_type != wire.PUBCOMP and ack.reason >= wire.FAILURE:
            self.ledger.refuse(message)
        else:
            self._acknowledge(message, ack.packet_type)
        self._finish(ack.packet_id)
        self._pump()

    def on_publish(self, message: wire.Publish) -> None:
        self.ledger.stick(self.client_id, f"got a message on {message.topic}")

    def on_leave(self) -> None:
        if not self.is_durable:
            self._give_up()

    def _acknowledge(self, message: Message, packet_type: int) -> None:
        if message.qos == 1 or packet_type in (self.taken_over_by, wire.PUBCOMP):
            self.ledger.acknowledge(message)

    def _finish(self, packet_id: int) -> None:
        del self._unfinished[packet_id]
        self._released.discard(packet_id)
        self._look()

    def _give_up(self) -> None:
        """The session is not there (any more): sending again could mean sending twice."""
        for message in self._unfinished.values():
            if not message.acknowledged:
                self.ledger.give_up(message)
        self._unfinished.clear()
        self._released.clear()
        self._look()

    def _pump(self) -> None:
        while self.allowance > 0 and len(self._unfinished) < self._room:
            self.allowance -= 1
            message, packet_id = self.next_message(), self._next_id()
            self._unfinished[packet_id] = message
            self._send_publish(packet_id, message, is_again=False)
        self._look()

    def _next_id(self) -> int:
        """Few ids, soon used again: one that the broker has not let go of shows at once."""
        while True:
            self._last_id = self._last_id % (2 * self.window) + 1
            if self._last_id not in self._unfinished:
                return self._last_id

    def _send_publish(self, packet_id: int, message: Message, *, is_again: bool) -> None:
        publish = wire.Publish(
            message.topic, message.payload, message.qos, is_again, message.retain, packet_id
        )
        self.send(wire.publish(self.version, publish))

    def _look(self) -> None:
        if self._unfinished or self.allowance > 0:
            self.is_finished.clear()
        else:
            self.is_finished.set()


class Subscriber(Client):
    """Subscribes once per session and takes what comes. A slow one lets its acks wait a little."""

    def __init__(
        self,
        client_id: str,
        ledger: Ledger,
        filters: dict[str, int],
        chance: random.Random,
        *,
        group: str = "",
        version: int = wire.V5,
        receive_maximum: int = 0,
        is_slow: bool = False,
    ) -> None:
        super().__init__(client_id, ledger, version=version, receive_maximum=receive_maximum)
        prefix = f"$share/{group}/" if group else ""
        self.filters = {prefix + name: qos for name, qos in filters.items()}
        self.chance = chance
        self.is_slow = is_slow
        self._taken: set[int] = set()  # QoS 2 packet ids between PUBREC and PUBREL
        self._late: deque[bytes] = deque()
        ledger.add_receiver(client_id, filters, group)

    def on_connack(self, connack: wire.Connack) -> None:
        if not connack.session_present:
            self._taken.clear()
        if connack.session_present and self.is_promised:
            self.is_ready.set()
        else:
            self.send(wire.subscribe(self.version, 1, self.filters))

    def on_publish(self, message: wire.Publish) -> None:
        if message.qos != 2 or message.packet_id not in self._taken:
            self.ledger.arrive(self.client_id, message.topic, message.payload, message.retain)
        if message.qos == 2:
            self._taken.add(message.packet_id)
            self._answer(wire.ack(wire.PUBREC, message.packet_id))
        elif message.qos == 1:
            self._answer(wire.ack(wire.PUBACK, message.packet_id))

    def on_ack(self, ack: wire.Ack) -> None:
        if ack.packet_type == wire.PUBREL:
            self._taken.discard(ack.packet_id)
            self._answer(wire.ack(wire.PUBCOMP, ack.packet_id))
        elif ack.packet_type == wire.SUBACK:
            self.is_promised = True
            self.is_ready.set()

    def on_leave(self) -> None:
        self._late.clear()

    def _answer(self, packet: bytes) -> None:
        if not self.is_slow:
            self.send(packet)
            return
        if not self._late:
            wait = self.chance.random() * LATE_ACK
            asyncio.get_running_loop().call_later(wait, self._answer_late)
        self._late.append(packet)

    def _answer_late(self) -> None:
        while self._late:
            self.send(self._late.popleft())
        self.flush()


class Reader(Client):
    """A fresh subscriber that gathers what is retained below a filter, up to a fence topic."""

    def __init__(self, client_id: str, ledger: Ledger, name: str) -> None:
        super().__init__(client_id, ledger, is_durable=False)
        self.name = name
        self.found: dict[str, bytes] = {}
        self.wanted: set[str] = set()
        self.has_all = asyncio.Event()

    async def read(self, port: int, wanted: Iterable[str], patience: float) -> dict[str, bytes]:
        """What it found when all of `wanted` was there, or nothing more came for a while."""
        self.wanted = set(wanted)
        await self.connect(port)
        await first_of(patience, self.has_all.wait(), self.is_gone.wait())
        self.leave(politely=True)
        return self.found

    def on_connack(self, connack: wire.Connack) -> None:
        self.send(wire.subscribe(self.version, 1, {self.name: 0}))

    def on_publish(self, message: wire.Publish) -> None:
        self.found[message.topic] = message.payload
        self._look()

    def on_ack(self, ack: wire.Ack) -> None:
        self.is_ready.set()
        self._look()

    def _look(self) -> None:
        if self.is_ready.is_set() and self.wanted <= self.found.keys():
            self.has_all.set()


async def first_of(limit: float, *waits: Awaitable[object]) -> None:
    """Returns when one of them is over, or after `limit` seconds."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
