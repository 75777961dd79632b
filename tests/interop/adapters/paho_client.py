"""paho-mqtt, as most Python programs use it: its own network thread and callbacks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.interop.adapters.paho_properties import (
    CONNECT,
    OPTIONS,
    PUBLISH,
    SUBSCRIBE,
    WILL,
    from_paho,
    to_paho,
)
from tests.interop.foreign import (
    V5,
    Connack,
    Message,
    Options,
    Properties,
    RefusedError,
    patiently,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.reasoncodes import ReasonCode

PAHO_TRANSPORT = {
    "tcp": "tcp",
    "tls": "tcp",
    "ws": "websockets",
    "wss": "websockets",
    "unix": "unix",
}


class PahoClient:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._connack: asyncio.Future[tuple[int, Connack]] = self._loop.create_future()
        self._disconnect: asyncio.Future[int | None] = self._loop.create_future()
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._paho = make_paho(options)
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_publish
        self._paho.on_subscribe = self._on_acknowledged
        self._paho.on_unsubscribe = self._on_acknowledged

    async def connect(self) -> Connack:
        endpoint = self._options.endpoint
        unix = endpoint.transport == "unix"
        place = (endpoint.path, 1) if unix else (endpoint.host, endpoint.port)
        arguments: dict[str, Any] = {}
        if self._options.version == V5:
            arguments["clean_start"] = self._options.clean
            arguments["properties"] = to_paho(CONNECT, self._options.connect_properties)
        await asyncio.to_thread(self._paho.connect, *place, **arguments)
        self._paho.loop_start()
        ends = (self._connack, self._disconnect)
        first_end = asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await patiently(first_end, "CONNACK")
        if not self._connack.done():
            raise ConnectionError("the broker hung up before its CONNACK")
        reason_code, connack = self._connack.result()
        if reason_code:
            raise RefusedError(reason_code)
        return connack

    async def subscribe(
        self, topic_filter: str, qos: int = 0, properties: Properties | None = None, **options: int
    ) -> int | None:
        if self._options.version == V5:
            flags = {OPTIONS[name]: value for name, value in options.items()}
            wanted = SubscribeOptions(qos, **flags)
            result = self._paho.subscribe(
                topic_filter, options=wanted, properties=to_paho(SUBSCRIBE, properties)
            )
        else:
            result = self._paho.subscribe(topic_filter, qos)
        return await self._acknowledged(*result, "SUBACK")

    async def unsubscribe(self, topic_filter: str) -> int | None:
        return await self._acknowledged(*self._paho.unsubscribe(topic_filter), "UNSUBACK")

    async def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> int | None:
        info = self._paho.publish(topic, payload, qos, retain, to_paho(PUBLISH, properties))
        return await self._acknowledged(info.rc, info.mid, f"end of a QoS {qos} handshake")

    async def next_message(self) -> Message:
        return await patiently(self._messages.get(), "message")

    async def disconnected(self) -> int | None:
        return await patiently(asyncio.shield(self._disconnect), "end of the connection")

    async def close(self) -> None:
        self._paho.disconnect()
        await asyncio.to_thread(self._paho.loop_stop)
        for future in (self._connack, self._disconnect):
            future.cancel()

    async def _acknowledged(self, error: MQTTErrorCode, mid: int | None, what: str) -> int:
        assert error == MQTTErrorCode.MQTT_ERR_SUCCESS, error
        assert mid is not None
        # The callback posts to this loop, so it cannot come before the future is in its place.
        waiting = self._waiting.setdefault(mid, self._loop.create_future())
        return await patiently(waiting, what)

    # paho's thread calls from here on.

    def _post(self, deed: Callable[..., object], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(deed, *arguments)

    def _on_connect(
        self, _client: object, _data: object, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        connack = Connack(bool(flags.session_present), from_paho(properties))
        code = reason.value if self._options.version == V5 else V311_CODES.get(str(reason), 0)
        self._post(settle, self._connack, (code, connack))

    def _on_disconnect(
        self, _client: object, _data: object, flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        told = flags.is_disconnect_packet_from_server
        self._post(settle, self._disconnect, reason.value if told else None)

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        taken = Message(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            from_paho(message.properties),
        )
        self._post(self._messages.put_nowait, taken)

    def _on_publish(
        self, _client: object, _data: object, mid: int, reason: ReasonCode, _properties: Any
    ) -> None:
        self._post(self._settle_mid, mid, reason.value)

    def _on_acknowledged(
        self, _client: object, _data: object, mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        self._post(self._settle_mid, mid, reasons[0].value if reasons else 0)

    def _settle_mid(self, mid: int, reason_code: int) -> None:
        settle(self._waiting.setdefault(mid, self._loop.create_future()), reason_code)


# For 3.1.1 paho shows a refusal under its v5 name; these are the codes of 3.1.1's table 3.1.
V311_CODES = {
    "Unsupported protocol version": 1,
    "Client identifier not valid": 2,
    "Server unavailable": 3,
    "Bad user name or password": 4,
    "Not authorized": 5,
}


def make_paho(options: Options) -> paho.Client:
    endpoint = options.endpoint
    made = paho.Client(
        CallbackAPIVersion.VERSION2,
        options.client_id,
        clean_session=None if options.version == V5 else options.clean_session,
        protocol=options.version,
        transport=PAHO_TRANSPORT[endpoint.transport],
        reconnect_on_failure=False,
        manual_ack=not options.acknowledges,
    )
    if endpoint.transport.startswith("ws"):
        made.ws_set_options(path=endpoint.path)
    if endpoint.certificates is not None:
        made.tls_set(str(endpoint.certificates.authority), *options_client_certificate(options))
    if options.username is not None:
        made.username_pw_set(options.username, options.password)
    if options.will is not None:
        will = options.will
        properties = to_paho(WILL, will.properties)
        made.will_set(will.topic, will.payload, will.qos, will.retain, properties)
    return made


def options_client_certificate(options: Options) -> tuple[str, str] | tuple[()]:
    certificates = options.endpoint.certificates
    if certificates is None or not options.show_certificate:
        return ()
    return str(certificates.client), str(certificates.client_key)


def settle(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)
