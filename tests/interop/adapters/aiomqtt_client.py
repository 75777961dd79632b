"""aiomqtt: paho's codec under an asyncio interface."""

from __future__ import annotations

import asyncio
from typing import Any

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.interop.adapters.paho_client import PAHO_TRANSPORT, V311_CODES
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

PROTOCOL = {4: aiomqtt.ProtocolVersion.V311, 5: aiomqtt.ProtocolVersion.V5}


class AiomqttClient:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._client = make_aiomqtt(options)
        self._connected = False

    async def connect(self) -> Connack:
        try:
            await patiently(self._client.__aenter__(), "CONNACK")
        except MqttConnectError as refusal:
            raise RefusedError(code_of(refusal.rc, self._options.version)) from None
        self._connected = True
        return Connack()

    async def subscribe(
        self, topic_filter: str, qos: int = 0, properties: Properties | None = None, **options: int
    ) -> int | None:
        arguments: dict[str, Any] = {}
        if self._options.version == V5:
            flags = {OPTIONS[name]: value for name, value in options.items()}
            arguments["options"] = SubscribeOptions(qos, **flags)
            arguments["properties"] = to_paho(SUBSCRIBE, properties)
        else:
            arguments["qos"] = qos
        reason = (await self._client.subscribe(topic_filter, **arguments))[0]
        return reason if isinstance(reason, int) else reason.value

    async def unsubscribe(self, topic_filter: str) -> int | None:
        await self._client.unsubscribe(topic_filter)
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
        converted = to_paho(PUBLISH, properties)
        await self._client.publish(topic, payload, qos, retain, converted)
        return None

    async def next_message(self) -> Message:
        message = await patiently(anext(self._client.messages), "message")
        payload = message.payload
        assert isinstance(payload, bytes)
        return Message(
            message.topic.value,
            payload,
            message.qos,
            message.retain,
            from_paho(message.properties),
        )

    async def disconnected(self) -> int | None:
        try:
            await patiently(anext(self._client.messages), "end of the connection")
        except aiomqtt.MqttError as end:
            if self._options.version != V5:
                return None  # paho invents a reason code
            cause = end.__cause__
            reason = cause.rc if isinstance(cause, aiomqtt.MqttCodeError) else None
            return getattr(reason, "value", None)
        raise AssertionError("a message came instead of the end of the connection")

    async def close(self) -> None:
        if not self._connected:
            return
        self._connected = False
        try:
            await self._client.__aexit__(None, None, None)
        except aiomqtt.MqttError:
            await asyncio.sleep(
                0
            )  # the connection was gone already: the callbacks run, and that is all


def code_of(reason: ReasonCode | int | None, version: int) -> int:
    if isinstance(reason, ReasonCode):
        return reason.value if version == V5 else V311_CODES[str(reason)]
    return reason or 0


def make_aiomqtt(options: Options) -> aiomqtt.Client:
    endpoint = options.endpoint
    unix = endpoint.transport == "unix"
    arguments: dict[str, Any] = {}
    if endpoint.transport.startswith("ws"):
        arguments["websocket_path"] = endpoint.path
    if endpoint.certificates is not None:
        authority = str(endpoint.certificates.authority)
        arguments["tls_params"] = aiomqtt.TLSParameters(ca_certs=authority)
    if options.version == V5:
        arguments["clean_start"] = options.clean
        arguments["properties"] = to_paho(CONNECT, options.connect_properties)
    else:
        arguments["clean_session"] = options.clean_session
    if options.will is not None:
        will = options.will
        properties = to_paho(WILL, will.properties)
        arguments["will"] = aiomqtt.Will(
            will.topic, will.payload, will.qos, will.retain, properties
        )
    return aiomqtt.Client(
        endpoint.path if unix else endpoint.host,
        1 if unix else endpoint.port,
        identifier=options.client_id,
        protocol=PROTOCOL[options.version],
        transport=PAHO_TRANSPORT[endpoint.transport],
        username=options.username,
        password=options.password,
        **arguments,
    )
