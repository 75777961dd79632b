"""MQTT.js: its clients live in one node process, driven by lines of JSON (mqttjs_driver.mjs)."""

from __future__ import annotations

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE, Process
from base64 import b64decode, b64encode
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.interop.foreign import (
    Connack,
    Message,
    Options,
    Properties,
    RefusedError,
    patiently,
)

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
NAMES = count(1)
LONGEST_LINE = 8 * 1024 * 1024
SCHEME = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss", "unix": "mqtt+unix"}
SUBSCRIBE_OPTIONS = {"no_local": "nl", "retain_as_published": "rap", "retain_handling": "rh"}
IRREGULAR = {"user_property": "userProperties"}
STANDARD = {"userProperties": "user_property"}


class Driver:
    """The node process. It belongs to the event loop in which it was started."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._numbers = count(1)
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._clients: dict[str, MqttJsClient] = {}

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *("node", str(HERE / "mqttjs_driver.mjs")), stdin=PIPE, stdout=PIPE, limit=LONGEST_LINE
        )
        self._reader = asyncio.create_task(self._read())

    async def stop(self) -> None:
        if self._process is None or self._reader is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        await patiently(self._process.wait(), "end of node")
        await self._reader

    async def call(self, client: MqttJsClient, deed: str, **details: Any) -> dict[str, Any]:
        if self._process is None:
            await self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        answer = self._calls[number] = asyncio.get_running_loop().create_future()
        self._clients[client.name] = client
        request = {"call": number, "client": client.name, "do": deed, **details}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return await patiently(answer, f"answer of MQTT.js to {deed}")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "event" in said:
                self._clients[said["client"]].hear(said)
            elif not (answer := self._calls.pop(said["call"])).done():
                answer.set_result(said)


class MqttJsClient:
    def __init__(self, options: Options, driver: Driver) -> None:
        self.name = f"client-{next(NAMES)}"
        self._options = options
        self._driver = driver
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._disconnect: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def connect(self) -> Connack:
        options = self._options
        certificates = options.endpoint.certificates
        answer = await self._driver.call(
            self,
            "connect",
            url=make_url(options),
            authority=str(certificates.authority) if certificates else None,
            will=make_will(options),
            options=make_options(options),
        )
        if "error" in answer:
            assert isinstance(answer["code"], int), answer
            raise RefusedError(answer["code"])
        result = answer["result"]
        return Connack(result["sessionPresent"], from_mqttjs(result.get("properties", {})))

    async def subscribe(
        self, topic_filter: str, qos: int = 0, properties: Properties | None = None, **options: int
    ) -> int | None:
        flags: dict[str, Any] = {"qos": qos}
        for name, value in options.items():
            flags[SUBSCRIBE_OPTIONS[name]] = value if name == "retain_handling" else bool(value)
        if properties:
            flags["properties"] = to_mqttjs(properties)
        return await self._reason_code("subscribe", filter=topic_filter, options=flags)

    async def unsubscribe(self, topic_filter: str) -> int | None:
        return await self._reason_code("unsubscribe", filter=topic_filter)

    async def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> int | None:
        options: dict[str, Any] = {"qos": qos, "retain": retain}
        if properties:
            options["properties"] = to_mqttjs(properties)
        text = b64encode(payload).decode()
        return await self._reason_code("publish", topic=topic, payload=text, options=options)

    async def next_message(self) -> Message:
        return await patiently(self._messages.get(), "message")

    async def disconnected(self) -> int | None:
        return await patiently(asyncio.shield(self._disconnect), "end of the connection")

    async def close(self) -> None:
        await self._driver.call(self, "close")

    def hear(self, said: dict[str, Any]) -> None:
        if said["event"] == "message":
            self._messages.put_nowait(read_message(said))
        elif not self._disconnect.done():
            self._disconnect.set_result(said["reasonCode"])

    async def _reason_code(self, deed: str, **details: Any) -> int | None:
        answer = await self._driver.call(self, deed, **details)
        assert "error" not in answer, answer
        code: int | None = answer["result"].get("reasonCode")
        return code


def make_url(options: Options) -> str:
    endpoint = options.endpoint
    place = "" if endpoint.transport == "unix" else f"{endpoint.host}:{endpoint.port}"
    return f"{SCHEME[endpoint.transport]}://{place}{endpoint.path}"


def make_options(options: Options) -> dict[str, Any]:
    made: dict[str, Any] = {
        "clientId": options.client_id,
        "protocolVersion": options.version,
        "clean": options.clean if options.version == 5 else options.clean_session,
    }
    if options.username is not None:
        made |= {"username": options.username, "password": options.password}
    if options.connect_properties:
        made["properties"] = to_mqttjs(options.connect_properties)
    return made


def make_will(options: Options) -> dict[str, Any] | None:
    will = options.will
    if will is None:
        return None
    made: dict[str, Any] = {"topic": will.topic, "qos": will.qos, "retain": will.retain}
    made["payload"] = b64encode(will.payload).decode()
    if will.properties:
        made["properties"] = to_mqttjs(will.properties)
    return made


def read_message(said: dict[str, Any]) -> Message:
    return Message(
        said["topic"],
        b64decode(said["payload"]),
        said["qos"],
        said["retain"],
        from_mqttjs(said["properties"]),
    )


def to_mqttjs(properties: Properties) -> dict[str, Any]:
    return {camel_case(name): TO.get(name, same)(value) for name, value in properties.items()}


def from_mqttjs(properties: dict[str, Any]) -> Properties:
    named = {snake_case(name): value for name, value in properties.items()}
    return {name: FROM.get(name, same)(value) for name, value in named.items()}


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return IRREGULAR.get(name) or first + "".join(other.capitalize() for other in others)


def snake_case(name: str) -> str:
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return STANDARD.get(name, snake)


def same(value: Any) -> Any:
    return value


def pairs_to_object(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    """MQTT.js holds user properties in an object: a repeated name becomes a list."""
    made: dict[str, list[str]] = {}
    for name, value in pairs:
        made.setdefault(name, []).append(value)
    return made


def object_to_pairs(held: dict[str, str | list[str]]) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, values in held.items()
        for value in (values if isinstance(values, list) else [values])
    ]


TO: dict[str, Callable[[Any], Any]] = {
    "user_property": pairs_to_object,
    "correlation_data": lambda data: b64encode(data).decode(),
    "payload_format_indicator": bool,
}
FROM: dict[str, Callable[[Any], Any]] = {
    "user_property": object_to_pairs,
    "correlation_data": b64decode,
    "payload_format_indicator": int,
    "subscription_identifier": lambda ids: ids if isinstance(ids, list) else [ids],
}


def missing_mqttjs() -> str | None:
    if shutil.which("node") is None:
        return "node is missing: apt-get install nodejs npm"
    if not (HERE.parent / "node_modules" / "mqtt").is_dir():
        return "MQTT.js is missing: npm ci --prefix tests/interop"
    return None
