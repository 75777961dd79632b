"""gmqtt, an asyncio client with callbacks."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any

import gmqtt
from gmqtt.mqtt.handler import MQTTConnectError
from gmqtt.storage import PersistentStorage

from tests.interop.foreign import (
    V5,
    Connack,
    Message,
    Options,
    Properties,
    RefusedError,
    patiently,
)

# Where gmqtt's name for a property is not the standard's.
NAMES = {
    "payload_format_indicator": "payload_format_id",
    "request_response_information": "request_response_info",
    "response_information": "response_info",
}
STANDARD = {theirs: ours for ours, theirs in NAMES.items()}
REPEATABLE = ("user_property", "subscription_identifier")
NEVER = -2  # gmqtt would take 0 for "once" and -1 for "without end"
OPTIONS = {"retain_handling": "retain_handling_options"}


class GmqttClient:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._acks: dict[int, asyncio.Future[int]] = {}
        self._connack: asyncio.Future[Connack] = self._loop.create_future()
        self._disconnect: asyncio.Future[int | None] = self._loop.create_future()
        self._unacknowledged = PersistentStorage()
        self._client = make_gmqtt(options, self._unacknowledged)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_unsubscribe = self._on_unsubscribe

    async def connect(self) -> Connack:
        endpoint = self._options.endpoint
        certificates = endpoint.certificates
        context = certificates and ssl.create_default_context(cafile=str(certificates.authority))
        connecting = self._client.connect(
            endpoint.host, endpoint.port, ssl=context or False, version=self._options.version
        )
        try:
            await patiently(connecting, "CONNACK")
        except MQTTConnectError as refusal:
            raise RefusedError(refusal._code) from None  # it has no public name for the number
        return self._connack.result()

    async def subscribe(
        self, topic_filter: str, qos: int = 0, properties: Properties | None = None, **options: int
    ) -> int | None:
        flags = {OPTIONS.get(name, name): value for name, value in options.items()}
        mid = self._client.subscribe(topic_filter, qos, **flags, **to_gmqtt(properties))
        return await self._acknowledged(mid, "SUBACK")

    async def unsubscribe(self, topic_filter: str) -> int | None:
        return await self._acknowledged(self._client.unsubscribe(topic_filter), "UNSUBACK")

    async def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> int | None:
        self._client.publish(topic, payload, qos, retain, **to_gmqtt(properties))
        await patiently(self._unacknowledged.wait_empty(), f"end of a QoS {qos} handshake")
        return None

    async def next_message(self) -> Message:
        return await patiently(self._messages.get(), "message")

    async def disconnected(self) -> int | None:
        return await patiently(asyncio.shield(self._disconnect), "end of the connection")

    async def close(self) -> None:
        if self._client._connection is not None:  # disconnect() of an unconnected client raises
            # It closes at once after DISCONNECT; what the broker was saying upsets Python's TLS.
            with suppress(ssl.SSLError):
                await patiently(self._client.disconnect(), "orderly end")

    async def _acknowledged(self, mid: int, what: str) -> int:
        waiting = self._acks[mid] = self._loop.create_future()
        return await patiently(waiting, what)

    def _on_connect(self, _client: object, flags: int, _code: int, properties: Properties) -> None:
        if not self._connack.done():
            self._connack.set_result(Connack(bool(flags), from_gmqtt(properties)))

    def _on_message(
        self, _client: object, topic: str, payload: bytes, qos: int, properties: Properties
    ) -> int:
        retain = bool(properties["retain"])
        message = Message(topic, bytes(payload), qos, retain, from_gmqtt(properties))
        self._messages.put_nowait(message)
        return 0

    def _on_disconnect(self, _client: object, packet: bytes, _failure: object = None) -> None:
        # The end of the socket shows as an empty packet, a DISCONNECT as its body.
        if not self._disconnect.done():
            self._disconnect.set_result(packet[0] if packet else None)

    def _on_subscribe(
        self, _client: object, mid: int, codes: tuple[int, ...], _properties: Properties
    ) -> None:
        self._acks.pop(mid).set_result(codes[0])

    def _on_unsubscribe(self, _client: object, mid: int, codes: tuple[int, ...]) -> None:
        self._acks.pop(mid).set_result(codes[0] if codes else 0)


def make_gmqtt(options: Options, unacknowledged: PersistentStorage) -> gmqtt.Client:
    will = options.will
    will_message = will and gmqtt.Message(
        will.topic, will.payload, qos=will.qos, retain=will.retain, **to_gmqtt(will.properties)
    )
    made = gmqtt.Client(
        options.client_id,
        clean_session=options.clean if options.version == V5 else options.clean_session,
        will_message=will_message,
        persistent_storage=unacknowledged,
        **to_gmqtt(options.connect_properties),
    )
    made.set_config({"reconnect_retries": NEVER})
    if options.username is not None:
        made.set_auth_credentials(options.username, options.password)
    return made


def to_gmqtt(properties: Properties | None) -> dict[str, Any]:
    return {NAMES.get(name, name): value for name, value in (properties or {}).items()}


def from_gmqtt(properties: Properties) -> Properties:
    found: Properties = {}
    for name, values in properties.items():
        if isinstance(
            values, list
        ):  # `dup` and `retain` stand between the properties as plain numbers
            ours = STANDARD.get(name, name)
            found[ours] = values if ours in REPEATABLE else values[0]
    return found
