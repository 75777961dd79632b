"""A small MQTT client for the command line, 3.1.1 and 5, over the broker's own codec.

Rule kept here: a received message is acknowledged when it is handed out, not before, so what was
not printed stays with the broker; a sent one counts as sent when its last acknowledgement is here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from broker.cli.pipes import ConnectError, Pipe
from broker.packets.codes import ReasonCode
from broker.packets.decode import decode
from broker.packets.encode import encode
from broker.packets.errors import ProtocolViolation
from broker.packets.properties import Property
from broker.packets.reader import Reader
from broker.packets.types import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)

Result = TypeVar("Result")

CONNACK_TIMEOUT = 15.0  # seconds
LAST_PACKET_ID = 65_535
FAILURE = 0x80  # reason codes from here on refuse

RETURN_CODES = {  # of a 3.1.1 CONNACK
    1: "the broker does not speak this protocol version",
    2: "the broker does not accept the client id",
    3: "the broker is not available",
    4: "wrong user name or password",
    5: "not authorised",
}
HINTS = {
    1: "try another -V",
    2: "choose another with -i",
    4: "check -u and -P",
    5: "give -u USER and -P PASSWORD, or let the broker accept anonymous clients",
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: "try another -V",
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: "choose another with -i",
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: "check -u and -P",
    ReasonCode.NOT_AUTHORIZED: (
        "give -u USER and -P PASSWORD, or let the broker accept anonymous clients"
    ),
}


class RefusedError(Exception):
    """The broker said no. `reason` is its code."""

    def __init__(self, what: str, reason: int, details: str = "") -> None:
        super().__init__(what, reason, details)
        self.what = what
        self.reason = reason
        self.details = details

    def __str__(self) -> str:
        parts = [f"{self.what}: {reason_text(self.reason)}"]
        if self.details:
            parts.append(f" ({self.details})")
        if self.reason in HINTS:
            parts.append(f"; {HINTS[self.reason]}")
        return "".join(parts)


class ConnectionLostError(Exception):
    """The connection is gone. `reason` is that of the broker's DISCONNECT, 0 without one."""

    def __init__(self, text: str, reason: int = 0) -> None:
        super().__init__(text)
        self.reason = reason


def reason_text(reason: int) -> str:
    """A reason or return code in words."""
    if reason in RETURN_CODES:
        return RETURN_CODES[reason]
    try:
        return ReasonCode(reason).name.lower().replace("_", " ")
    except ValueError:
        return f"reason code {reason}"


class Client:
    """One connection: `start`, then publish, subscribe and take messages, then `stop`.

    `unreleased` has the packet ids of QoS 2 messages handed out but not released; give it to the
    next Client when the session continues. Everything may raise ConnectionLostError.
    """

    def __init__(
        self,
        pipe: Pipe,
        connect: Connect,
        trace: Callable[[str], None] | None = None,
        max_inflight: int = 20,
    ) -> None:
        self.pipe = pipe
        self.connect = connect
        self.version = connect.version
        self.unreleased: set[int] = set()
        self.lost: ConnectionLostError | None = None
        self._trace = trace
        self._max_inflight = max_inflight
        self._slots = asyncio.Semaphore(max_inflight)
        self._packet_id = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}  # packet id -> who waits for it
        self._connack: asyncio.Future[Connack] = asyncio.get_running_loop().create_future()
        self._messages: asyncio.Queue[Publish | None] = asyncio.Queue()
        self._aliases: dict[int, str] = {}
        self._bystanders: set[asyncio.Future[Any]] = set()  # cancelled when the connection ends
        self._tasks: list[asyncio.Task[None]] = []
        self._heard = False

    async def start(self) -> Connack:
        """Connect. Raises RefusedError, ConnectError or ConnectionLostError."""
        self._tasks.append(asyncio.create_task(self._read()))
        await self._send(self.connect)
        try:
            async with asyncio.timeout(CONNACK_TIMEOUT):
                connack = await self._connack
        except TimeoutError as error:
            raise ConnectError("connected, but nobody answers: is this an MQTT broker?") from error
        if connack.reason:
            raise RefusedError("connection refused", connack.reason, _details(connack))
        self._adopt_limits(connack)
        return connack

    async def publish(self, message: Publish) -> "asyncio.Future[int]":
        """Send a message; the future's result is the reason code of its last acknowledgement.

        Waits while as many messages as allowed are unacknowledged.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if message.qos == 0:
            await self._send(message)
            done.set_result(0)
            return done
        await self._slots.acquire()
        done.add_done_callback(lambda _: self._slots.release())
        message.packet_id = self._expect(done)
        await self._send(message)
        return done

    async def subscribe(
        self, requests: list[SubscriptionRequest], properties: Mapping[int, Any]
    ) -> list[int]:
        """Subscribe; one reason per request."""
        answer: asyncio.Future[Suback] = asyncio.get_running_loop().create_future()
        await self._send(Subscribe(self._expect(answer), requests, dict(properties)))
        return (await answer).reasons

    async def unsubscribe(self, filters: list[str], properties: Mapping[int, Any]) -> list[int]:
        """Unsubscribe; one reason per filter, none below MQTT 5."""
        answer: asyncio.Future[Unsuback] = asyncio.get_running_loop().create_future()
        await self._send(Unsubscribe(self._expect(answer), filters, dict(properties)))
        return (await answer).reasons

    async def next_message(self) -> Publish:
        """The next message, acknowledged."""
        message = await self._messages.get()
        if message is None:
            self._messages.put_nowait(None)
            raise self.lost or ConnectionLostError("the connection is closed")
        if message.qos == 1:
            await self._send(Puback(message.packet_id))
        elif message.qos == 2:
            self.unreleased.add(message.packet_id)
            await self._send(Pubrec(message.packet_id))
        return message

    async def unless_lost(self, work: Awaitable[Result]) -> Result:
        """The work's result, unless the connection ends first."""
        task = asyncio.ensure_future(work)
        self._bystanders.add(task)
        task.add_done_callback(self._bystanders.discard)
        try:
            return await task
        except asyncio.CancelledError:
            if self.lost is None:
                raise
            raise self.lost from None

    @property
    def has_messages(self) -> bool:
        """Whether next_message would return at once."""
        return not self._messages.empty()

    async def stop(self, properties: Mapping[int, Any] | None = None) -> None:
        """Say goodbye, if that is still possible, and close."""
        if self.lost is None and self._connack.done():
            with suppress(ConnectionLostError):
                await self._send(Disconnect(0, dict(properties or {})))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(OSError):
            await self.pipe.close()

    def _adopt_limits(self, connack: Connack) -> None:
        allowed = connack.properties.get(Property.RECEIVE_MAXIMUM, LAST_PACKET_ID)
        self._slots = asyncio.Semaphore(min(allowed, self._max_inflight))
        keep_alive = connack.properties.get(Property.SERVER_KEEP_ALIVE, self.connect.keep_alive)
        if keep_alive:
            self._tasks.append(asyncio.create_task(self._ping(keep_alive)))

    def _expect(self, answer: "asyncio.Future[Any]") -> int:
        """A free packet id whose acknowledgement goes to `answer`."""
        while True:
            self._packet_id = self._packet_id % LAST_PACKET_ID + 1
            if self._packet_id not in self._answers:
                self._answers[self._packet_id] = answer
                return self._packet_id

    async def _send(self, packet: Packet) -> None:
        if self.lost is not None:
            raise self.lost
        if self._trace:
            self._trace(f"sending {packet}")
        self.pipe.write(encode(packet, self.version))
        try:
            await self.pipe.drain()
        except OSError as error:
            self._lose(ConnectionLostError(f"the connection broke: {error}"))
            raise self.lost or error from error

    async def _ping(self, keep_alive: int) -> None:
        while True:
            await asyncio.sleep(keep_alive * 3 / 4)
            self._heard = False
            await self._send(Pingreq())
            await asyncio.sleep(keep_alive / 4)
            if not self._heard:
                self._lose(ConnectionLostError("the broker does not answer any more"))
                return

    async def _read(self) -> None:
        reader = Reader()
        try:
            while data := await self.pipe.read():
                self._heard = True
                await self._receive(reader, data)
        except ProtocolViolation as error:
            self._lose(ConnectionLostError(f"the broker sent what is not MQTT: {error}"))
        except OSError as error:
            self._lose(ConnectionLostError(f"the connection broke: {error}"))
        except ConnectionLostError as error:
            self._lose(error)
        self._lose(ConnectionLostError("the broker closed the connection"))

    async def _receive(self, reader: Reader, data: bytes) -> None:
        buffer, frames = reader.cut(data)
        for first, start, end in frames:
            packet = decode(first, buffer, start, end, self.version)
            if self._trace:
                self._trace(f"received {packet}")
            reply = HANDLERS.get(type(packet), Client._on_unexpected)(self, packet)
            if reply is not None:
                await self._send(reply)
        if reader.violation is not None:
            raise reader.violation

    def _on_connack(self, packet: Connack) -> None:
        if not self._connack.done():
            self._connack.set_result(packet)

    def _on_publish(self, packet: Publish) -> Packet | None:
        alias = packet.properties.get(Property.TOPIC_ALIAS)
        if alias is not None and packet.topic:
            self._aliases[alias] = packet.topic
        elif alias is not None:
            packet.topic = self._aliases.get(alias, "")
        if packet.qos == 2 and packet.packet_id in self.unreleased:  # [MQTT-4.3.3-10]
            return Pubrec(packet.packet_id)
        self._messages.put_nowait(packet)
        return None

    def _on_pubrel(self, packet: Pubrel) -> Packet:
        self.unreleased.discard(packet.packet_id)
        return Pubcomp(packet.packet_id)

    def _on_pubrec(self, packet: Pubrec) -> Packet | None:
        if packet.reason >= FAILURE:  # [MQTT-4.3.3-4]
            self._answer(packet.packet_id, packet.reason)
            return None
        return Pubrel(packet.packet_id)

    def _on_puback(self, packet: Puback | Pubcomp) -> None:
        self._answer(packet.packet_id, packet.reason)

    def _on_suback(self, packet: Suback | Unsuback) -> None:
        self._answer(packet.packet_id, packet)

    def _on_pingresp(self, packet: Pingresp) -> None:
        """Nothing but the sign of life that every packet is."""

    def _on_disconnect(self, packet: Disconnect) -> None:
        why = reason_text(packet.reason)
        if details := _details(packet):
            why = f"{why} ({details})"
        self._lose(ConnectionLostError(f"the broker ended the connection: {why}", packet.reason))

    def _on_unexpected(self, packet: Packet) -> None:
        name = type(packet).__name__.upper()
        raise ConnectionLostError(f"the broker sent {name}, which no broker may send here")

    def _answer(self, packet_id: int, result: object) -> None:
        answer = self._answers.pop(packet_id, None)
        if answer is not None and not answer.done():
            answer.set_result(result)

    def _lose(self, error: ConnectionLostError) -> None:
        """The connection is over: tell everyone who waits, once."""
        if self.lost is not None:
            return
        self.lost = error
        waiting = [self._connack, *self._answers.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting: do not complain about that
        for task in self._bystanders:
            task.cancel()
        self._messages.put_nowait(None)


def _details(packet: Connack | Disconnect) -> str:
    """What the broker adds to a reason: its sentence, or where to go instead."""
    parts = [
        packet.properties.get(Property.REASON_STRING, ""),
        packet.properties.get(Property.SERVER_REFERENCE, ""),
    ]
    return ", ".join(part for part in parts if part)


HANDLERS: dict[type, Callable[[Client, Any], Packet | None]] = {
    Connack: Client._on_connack,
    Publish: Client._on_publish,
    Puback: Client._on_puback,
    Pubrec: Client._on_pubrec,
    Pubrel: Client._on_pubrel,
    Pubcomp: Client._on_puback,
    Suback: Client._on_suback,
    Unsuback: Client._on_suback,
    Pingresp: Client._on_pingresp,
    Disconnect: Client._on_disconnect,
    Auth: Client._on_unexpected,
}
