"""amqtt's client (MQTT 3.1.1 only), on asyncio streams and the `websockets` library."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from amqtt.client import MQTTClient
from amqtt.contexts import ClientConfig, ConnectionConfig, WillConfig
from amqtt.errors import ConnectError
from websockets.exceptions import ConnectionClosed

from tests.interop.foreign import Connack, Message, Options, Properties, RefusedError, patiently

SCHEME = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}


class AmqttClient:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._client = MQTTClient(options.client_id, make_config(options))

    async def connect(self) -> Connack:
        try:
            connecting = self._client.connect(make_uri(self._options))
            await patiently(connecting, "CONNACK")
        except ConnectError as refusal:
            if refusal.return_code is None:
                raise
            raise RefusedError(refusal.return_code) from None
        return Connack()

    async def subscribe(
        self, topic_filter: str, qos: int = 0, properties: Properties | None = None, **options: int
    ) -> int | None:
        return (await patiently(self._client.subscribe([(topic_filter, qos)]), "SUBACK"))[0]

    async def unsubscribe(self, topic_filter: str) -> int | None:
        await patiently(self._client.unsubscribe([topic_filter]), "UNSUBACK")
        return None

    async def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> int | None:
        sending = self._client.publish(topic, payload, qos, retain)
        await patiently(sending, f"end of a QoS {qos} handshake")
        return None

    async def next_message(self) -> Message:
        message = await patiently(self._client.deliver_message(), "message")
        assert message is not None
        # amqtt shows the RETAIN flag only in the packet itself.
        retain = message.publish_packet is not None and message.publish_packet.retain_flag
        return Message(message.topic, bytes(message.data), message.qos or 0, retain)

    async def disconnected(self) -> int | None:
        # amqtt tells only those who wait for a message: by cancelling, with None or an exception.
        waiting = asyncio.create_task(self._client.deliver_message())
        await patiently(asyncio.wait([waiting]), "end of the connection")
        ended = waiting.cancelled() or waiting.exception() or waiting.result() is None
        assert ended, "a message came instead of the end of the connection"
        return None

    async def close(self) -> None:
        with suppress(ConnectionClosed):  # it has not yet noticed that the wire was cut
            await patiently(self._client.disconnect(), "orderly end")
        # Refused or disconnected by the broker, amqtt leaves its socket to the garbage collector.
        handler = self._client._handler
        if handler is not None and handler.writer is not None:
            with suppress(ConnectionClosed):
                await handler.writer.close()


def make_config(options: Options) -> ClientConfig:
    will = options.will
    certificates = options.endpoint.certificates
    return ClientConfig(
        auto_reconnect=False,
        cleansession=options.clean_session,
        connection=ConnectionConfig(
            uri=make_uri(options),
            cafile=str(certificates.authority) if certificates else None,
        ),
        plugins={},
        will=will and WillConfig(will.topic, will.payload.decode(), will.qos, will.retain),
    )


def make_uri(options: Options) -> str:
    endpoint = options.endpoint
    user = f"{options.username}:{options.password}@" if options.username else ""
    place = f"{user}{endpoint.host}:{endpoint.port}{endpoint.path}"
    return f"{SCHEME[endpoint.transport]}://{place}"
