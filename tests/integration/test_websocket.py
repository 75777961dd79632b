"""MQTT over WebSocket on real sockets: frames of every shape, and who speaks something else."""

from __future__ import annotations

import asyncio
import http.client
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import OP_BINARY, OP_CONT, OP_PING, OP_TEXT, Frame
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from broker.packets.decode import decode
from broker.packets.encode import encode
from broker.packets.reader import Reader
from broker.packets.types import (
    Connack,
    Connect,
    Packet,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from tests.integration.peer import Peer, is_served, memory_of, trusting

if TYPE_CHECKING:
    from tests.support.process import BrokerProcess, Certificates


def dial(broker: BrokerProcess, **options: Any) -> ClientConnection:
    endpoint = broker.endpoints["ws"]
    url = f"ws://{endpoint.host}:{endpoint.port}{options.pop('path', endpoint.path)}"
    options.setdefault("subprotocols", ["mqtt"])
    return connect(url, compression=None, open_timeout=10, close_timeout=1, **options)


def read(socket: ClientConnection, count: int) -> list[Packet]:
    """So many packets."""
    reader, packets = Reader(), []
    while len(packets) < count:
        data = socket.recv(10)
        assert isinstance(data, bytes)
        buffer, cut = reader.cut(data)
        packets += [decode(first, buffer, start, stop, 5) for first, start, stop in cut]
    return packets


def talk(client_id: str) -> bytes:
    """A conversation that three packets answer."""
    packets = (
        Connect(client_id),
        Subscribe(1, [SubscriptionRequest(client_id)]),
        Publish(client_id, b"x" * 300),
    )
    return b"".join(encode(packet, 5) for packet in packets)


@pytest.mark.spec("5.0:MQTT-6.0.0-2", "3.1.1:MQTT-6.0.0-2")
@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_packets_may_be_cut_into_messages_anywhere(broker: BrokerProcess, size: int) -> None:
    data = talk(f"ws/messages/{size}")
    with dial(broker) as socket:
        for at in range(0, len(data), size):
            socket.send(data[at : at + size])
        assert [type(each) for each in read(socket, 3)] == [Connack, Suback, Publish]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_packets_may_be_cut_into_fragments_anywhere(broker: BrokerProcess, size: int) -> None:
    data = talk(f"ws/fragments/{size}")
    with dial(broker) as socket:
        socket.send(data[at : at + size] for at in range(0, len(data), size))
        assert [type(each) for each in read(socket, 3)] == [Connack, Suback, Publish]


async def test_wss_is_served(broker: BrokerProcess, certificates: Certificates) -> None:
    """With the library's asyncio client: its blocking one uses a TLS socket from two threads at
    once, and hung in one of 140 connections where this one never did.
    """
    async with connect_async(
        broker.endpoints["wss"].url,
        subprotocols=[Subprotocol("mqtt")],
        compression=None,
        ssl=trusting(certificates),
    ) as socket:
        await socket.send(talk("wss/client"))
        reader, count = Reader(), 0
        while count < 3:
            data = await asyncio.wait_for(socket.recv(decode=False), 10)
            count += len(reader.cut(bytes(data))[1])
    assert count == 3


@pytest.mark.spec("5.0:MQTT-6.0.0-4", "3.1.1:MQTT-6.0.0-4")
def test_the_subprotocol_selected_is_mqtt(broker: BrokerProcess) -> None:
    with dial(broker, subprotocols=["other", "mqtt"]) as socket:
        assert socket.subprotocol == "mqtt"


@pytest.mark.parametrize("offered", [["other"], None])
def test_another_subprotocol_is_refused(broker: BrokerProcess, offered: list[str] | None) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        dial(broker, subprotocols=offered)
    assert refusal.value.response.status_code == 400


def test_another_path_is_not_found(broker: BrokerProcess) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        dial(broker, path="/elsewhere")
    assert refusal.value.response.status_code == 404


def test_a_plain_http_request_is_answered_in_http(broker: BrokerProcess) -> None:
    endpoint = broker.endpoints["ws"]
    browser = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=10)
    browser.request("GET", endpoint.path)
    answer = browser.getresponse()
    assert 400 <= answer.status < 500
    answer.read()
    browser.close()


@pytest.mark.parametrize(
    "garbage", [b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\n\n", b"\0" * 9000]
)
def test_what_is_not_http_is_cut_off(broker: BrokerProcess, garbage: bytes) -> None:
    with Peer(broker.endpoints["ws"].open_socket()) as peer:
        peer.sock.sendall(garbage)
        while peer.sock.recv(1000):
            pass


@pytest.mark.spec("5.0:MQTT-6.0.0-1", "3.1.1:MQTT-6.0.0-1")
def test_a_text_frame_closes_and_nothing_after_it_is_mqtt(broker: BrokerProcess) -> None:
    with dial(broker) as socket, Peer.of(broker) as watcher:
        watcher.connect("ws/watcher")
        watcher.subscribe("ws/after")
        socket.send(encode(Connect("ws/text"), 5))
        read(socket, 1)
        after = encode(Publish("ws/after", b"no"), 5)
        frames = (
            Frame(OP_TEXT, b"text", fin=False),
            Frame(OP_CONT, after),
            Frame(OP_BINARY, after),
        )
        socket.socket.sendall(b"".join(frame.serialize(mask=True) for frame in frames))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003
        watcher.send(Publish("ws/after", b"end"))
        assert watcher.take_message() == ("ws/after", b"end")


def test_an_oversized_frame_is_refused_at_its_header(broker: BrokerProcess) -> None:
    with dial(broker) as socket:
        socket.send(encode(Connect("ws/big"), 5))
        read(socket, 1)
        socket.socket.sendall(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"mask")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("junk", [b"\xff\xff", b"\x82\x05hello", b"\x80\x80mask", b"\xc2\x80mask"])
def test_frames_against_the_rules_close(broker: BrokerProcess, junk: bytes) -> None:
    with dial(broker) as socket:
        socket.send(encode(Connect("ws/junk"), 5))
        read(socket, 1)
        socket.socket.sendall(junk)
        with pytest.raises(ConnectionClosed):
            socket.recv(10)


def test_a_flood_of_pings_whose_answers_nobody_reads_stays_bounded(broker: BrokerProcess) -> None:
    endpoint = broker.endpoints["ws"]
    with Peer(endpoint.open_socket()) as peer:
        request = (
            f"GET {endpoint.path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        peer.sock.sendall(request.encode())
        assert peer.sock.recv(1000).startswith(b"HTTP/1.1 101")
        before = memory_of(broker.pid)
        pings = Frame(OP_PING, b"x" * 125).serialize(mask=True) * 1000
        for _ in range(300):
            peer.sock.sendall(pings)
        assert is_served(Peer.of(broker), "after/pings")
        assert memory_of(broker.pid) - before < 20_000_000, "39 MB of pongs were not read"
