"""A device over TCP and a broker that goes in the middle of a message: what it says after that."""

from __future__ import annotations

import asyncio
import threading
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from firmware_sim.clients.client import Acknowledged, Asleep, Failed, Message, Up
from firmware_sim.network import tcp
from firmware_sim.network.endpoint import parse_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from firmware_sim.clients.client import ClientEvent

HOST = "127.0.0.1"
LONGEST = 20.0  # seconds
CONNECT, PUBLISH, PUBREL, DISCONNECT = 0x10, 0x34, 0x62, 0xE0  # first bytes
AGAIN = 0x08  # of a PUBLISH: DUP
NEW, RESUMED = bytes.fromhex("2003000000"), bytes.fromhex("2003010000")  # CONNACK of MQTT 5
PUBREC, PUBCOMP = b"\x50\x02", b"\x70\x02"
PUBREC_REASON, PUBCOMP_REASON = b"\x50\x03", b"\x70\x03"
QUOTA_EXCEEDED, ID_NOT_FOUND = b"\x97", b"\x92"


class Broker:
    """A broker by hand: the test answers, packet for packet. All are short here."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server
        self._joined: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        self._joined = asyncio.Queue()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> None:
        self._server = await asyncio.start_server(lambda *way: self._joined.put_nowait(way), HOST)
        self.port = self._server.sockets[0].getsockname()[1]

    async def accept(self) -> None:
        self._reader, self._writer = await self._joined.get()
        assert (await self.packet())[0] == CONNECT

    async def packet(self) -> tuple[int, bytes]:
        """The next one: its first byte, and its body."""
        first, length = await self._reader.readexactly(2)
        assert length < 0x80
        return first, await self._reader.readexactly(length)

    def say(self, packet: bytes) -> None:
        self._writer.write(packet)

    async def drop(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def close(self) -> None:
        await self.drop()
        self._server.close()
        await self._server.wait_closed()


class Device:
    """A client, and what it has told."""

    def __init__(self, port: int, board: tcp.Switchboard) -> None:
        self.heard: list[ClientEvent] = []
        self._news = asyncio.Event()
        settings = tcp.TcpSettings("device", durable=True)
        endpoint = parse_endpoint(f"mqtt://{HOST}:{port}")
        self.client = tcp.TcpClient(endpoint, settings, board, Random(1), self._hear)

    async def until(self, wanted: ClientEvent) -> None:
        while (type(wanted), wanted) not in [(type(event), event) for event in self.heard]:
            self._news.clear()
            await self._news.wait()

    def _hear(self) -> None:
        self.heard += self.client.take_events()
        self._news.set()


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    made = Broker()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def device(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Device]:
    monkeypatch.setattr(tcp, "FIRST_RETRY", 0.01)
    board = tcp.Switchboard(asyncio.get_running_loop())
    made = Device(broker.port, board)
    made.client.connect(0.0)
    yield made
    await board.close()


async def handed_over(broker: Broker, device: Device) -> bytes:
    """Connected, with a message of QoS 2 on its way; its packet id."""
    await broker.accept()
    broker.say(NEW)
    await device.until(Up(session_present=False))
    device.client.publish(Message("topic", b"17", 2), 1, 0.0)
    first, body = await broker.packet()
    assert first == PUBLISH
    return body[7:9]


@pytest.mark.parametrize("tries", [1, 2, 5])
async def test_a_released_message_is_not_published_again_however_often_it_has_to_connect(
    broker: Broker, device: Device, tries: int
) -> None:
    async with asyncio.timeout(LONGEST):
        packet_id = await handed_over(broker, device)
        broker.say(PUBREC + packet_id)
        assert await broker.packet() == (PUBREL, packet_id)
        await broker.drop()
        for _ in range(tries - 1):
            await broker.accept()
            await broker.drop()
        await broker.accept()
        broker.say(RESUMED)
        assert await broker.packet() == (PUBREL, packet_id)
        broker.say(PUBCOMP + packet_id)
        await device.until(Acknowledged(1))


@pytest.mark.parametrize("tries", [1, 2, 5])
async def test_a_message_that_nobody_has_taken_is_published_again_as_a_repetition(
    broker: Broker, device: Device, tries: int
) -> None:
    async with asyncio.timeout(LONGEST):
        packet_id = await handed_over(broker, device)
        await broker.drop()
        for _ in range(tries - 1):
            await broker.accept()
            await broker.drop()
        await broker.accept()
        broker.say(RESUMED)
        first, body = await broker.packet()
        assert (first, body[7:9]) == (PUBLISH | AGAIN, packet_id)
        broker.say(PUBREC + packet_id)
        assert await broker.packet() == (PUBREL, packet_id)
        broker.say(PUBCOMP + packet_id)
        await device.until(Acknowledged(1))


async def test_what_the_broker_released_before_it_went_is_acknowledged_and_not_refused(
    broker: Broker, device: Device
) -> None:
    async with asyncio.timeout(LONGEST):
        packet_id = await handed_over(broker, device)
        broker.say(PUBREC + packet_id)
        assert await broker.packet() == (PUBREL, packet_id)
        await broker.drop()
        await broker.accept()
        broker.say(RESUMED)
        assert await broker.packet() == (PUBREL, packet_id)
        broker.say(PUBCOMP_REASON + packet_id + ID_NOT_FOUND)
        await device.until(Acknowledged(1))


async def test_a_message_that_is_refused_ends_there_and_is_not_released(
    broker: Broker, device: Device
) -> None:
    async with asyncio.timeout(LONGEST):
        packet_id = await handed_over(broker, device)
        broker.say(PUBREC_REASON + packet_id + QUOTA_EXCEEDED)
        await device.until(Failed(1, "Quota exceeded"))
        device.client.publish(Message("topic", b"18", 2), 2, 0.0)
        first, body = await broker.packet()
        assert (first, body[-2:]) == (PUBLISH, b"18")


@pytest.mark.parametrize("is_connecting", [True, False])
async def test_who_goes_to_sleep_before_the_broker_has_answered_says_so_and_is_not_up(
    broker: Broker, device: Device, is_connecting: bool
) -> None:
    async with asyncio.timeout(LONGEST):
        if not is_connecting:
            await broker.accept()
        device.client.sleep(60.0, 0.0)
        if is_connecting:
            await broker.accept()
        broker.say(NEW)
        assert (await broker.packet())[0] == DISCONNECT
        await broker.drop()
        device.client.connect(0.0)
        await broker.accept()
        broker.say(RESUMED)
        await device.until(Up(session_present=True))
        assert [type(event) for event in device.heard] == [Asleep, Up]


async def test_a_sleeper_is_not_told_that_it_could_not_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleeps, is_over = threading.Event(), asyncio.Event()
    goes_on = tcp.TcpClient._opened

    def refuse(*_: object) -> None:
        sleeps.wait(LONGEST)
        raise ConnectionRefusedError

    def go_on(*arguments: Any) -> None:
        goes_on(*arguments)
        is_over.set()

    monkeypatch.setattr(tcp.TcpClient, "_connect_blocking", refuse)
    monkeypatch.setattr(tcp.TcpClient, "_opened", go_on)
    board = tcp.Switchboard(asyncio.get_running_loop())
    device = Device(1, board)
    device.client.connect(0.0)
    device.client.sleep(60.0, 0.0)
    sleeps.set()
    async with asyncio.timeout(LONGEST):
        await is_over.wait()
        await device.until(Asleep())
    assert not device.client.take_events()
    await board.close()
    assert [type(event) for event in device.heard] == [Asleep]
