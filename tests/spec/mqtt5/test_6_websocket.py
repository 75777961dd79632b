"""MQTT over WebSocket (MQTT 5 section 6): our tunnel and engine against the client side of the
`websockets` library, both without I/O.
"""

import pytest
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from broker.packets.encode import encode
from broker.packets.types import (
    Connack,
    Connect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from broker.transport.websocket import WebSocketTunnel
from tests.support.broker import MemoryBroker

LARGEST = 100_000
CONVERSATION = [
    Connect("c"),
    Subscribe(1, [SubscriptionRequest("t")]),
    Publish("t", b"hello", 1, packet_id=2),
    Pingreq(),
]
ANSWERS = [Connack, Suback, Publish, Puback, Pingresp]
STREAM = b"".join(encode(packet, 5) for packet in CONVERSATION)


class Peer:
    """A browser's end: frames to the tunnel, and what the tunnel's bytes said."""

    def __init__(
        self, path: str = "/mqtt", offered: tuple[str, ...] = ("mqtt",), served: str = "/mqtt"
    ) -> None:
        self.tunnel = WebSocketTunnel(served, LARGEST)
        uri = parse_uri(f"ws://broker{path}")
        self.protocol = ClientProtocol(uri, subprotocols=[Subprotocol(each) for each in offered])
        self.protocol.send_request(self.protocol.connect())
        self.mqtt = b""  # what the tunnel took for MQTT
        self.frames: list[Frame] = []
        self.response: Response | None = None
        self.exchange()

    def exchange(self) -> None:
        """Carry what both ends have to say."""
        self.carry(b"".join(self.protocol.data_to_send()))

    def carry(self, data: bytes) -> None:
        self.mqtt += self.tunnel.receive(data)
        self.hear(self.tunnel.data_to_send())

    def hear(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                self.response = event
            elif isinstance(event, Frame):
                self.frames.append(event)

    def send_binary(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.protocol.send_binary(payload)
        self.exchange()


def frames(*payloads: bytes) -> bytes:
    """The bytes of one binary frame for each payload."""
    peer = Peer()
    for payload in payloads:
        peer.protocol.send_binary(payload)
    return b"".join(peer.protocol.data_to_send())


# -- the handshake --------------------------------------------------------------------------------


@pytest.mark.parametrize("offered", [("mqtt",), ("chat", "mqtt"), ("mqttv3.1", "mqtt")])
@pytest.mark.spec("5.0:MQTT-6.0.0-4", "5.0:MQTT-6.0.0-3")
def test_the_subprotocol_mqtt_is_selected(offered: tuple[str, ...]) -> None:
    peer = Peer(offered=offered)
    assert peer.protocol.state is State.OPEN
    assert peer.protocol.subprotocol == "mqtt"
    assert not peer.tunnel.is_over


@pytest.mark.parametrize("offered", [(), ("chat",), ("MQTT",)])
@pytest.mark.spec("5.0:MQTT-6.0.0-4", "5.0:MQTT-6.0.0-3")
def test_a_client_that_does_not_offer_mqtt_is_refused(offered: tuple[str, ...]) -> None:
    peer = Peer(offered=offered)
    assert peer.response is not None
    assert peer.response.status_code == 400
    assert peer.tunnel.is_over


@pytest.mark.parametrize("path", ["/", "/other", "/mqtt/x"])
def test_another_path_is_not_found(path: str) -> None:
    peer = Peer(path=path)
    assert peer.response is not None
    assert peer.response.status_code == 404
    assert peer.tunnel.is_over


@pytest.mark.parametrize(("path", "served"), [("/mqtt?token=x", "/mqtt"), ("/anything", "/")])
def test_the_path_served_is_found_also_with_a_query(path: str, served: str) -> None:
    assert Peer(path=path, served=served).protocol.state is State.OPEN


@pytest.mark.parametrize("garbage", [b"\x10\x0d\0\4MQTT\4\2\0\0\0\1a\r\n", b"GET\r\n\r\n"])
def test_what_is_no_handshake_ends_it(garbage: bytes) -> None:
    tunnel = WebSocketTunnel("/mqtt", LARGEST)
    assert tunnel.receive(garbage) == b""
    assert tunnel.is_over


# -- frames and packets ---------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-6.0.0-2")
def test_packets_may_be_cut_into_two_frames_anywhere() -> None:
    for cut in range(1, len(STREAM)):
        peer = Peer()
        peer.send_binary(STREAM[:cut], STREAM[cut:])
        assert peer.mqtt == STREAM, cut


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.spec("5.0:MQTT-6.0.0-2")
def test_a_frame_may_hold_a_part_of_a_packet_or_several(size: int) -> None:
    broker = MemoryBroker()
    client = broker.client()
    peer = Peer()
    for start in range(0, len(STREAM), size):
        peer.mqtt = b""
        peer.send_binary(STREAM[start : start + size])
        client.send_raw(peer.mqtt)
    assert list(map(type, client.received)) == ANSWERS


@pytest.mark.spec("5.0:MQTT-6.0.0-2")
def test_frames_may_arrive_in_pieces_cut_anywhere() -> None:
    data = frames(STREAM[:9], STREAM[9:])
    for cut in range(1, len(data)):
        peer = Peer()
        peer.carry(data[:cut])
        peer.carry(data[cut:])
        assert peer.mqtt == STREAM, cut


@pytest.mark.spec("5.0:MQTT-6.0.0-2")
def test_a_message_in_fragments_is_read_as_one_stream() -> None:
    peer = Peer()
    peer.protocol.send_binary(STREAM[:5], fin=False)
    peer.protocol.send_continuation(STREAM[5:20], fin=False)
    peer.protocol.send_ping(b"between")
    peer.protocol.send_continuation(STREAM[20:], fin=True)
    peer.exchange()
    assert peer.mqtt == STREAM
    assert [frame.opcode for frame in peer.frames] == [Opcode.PONG]


@pytest.mark.spec("5.0:MQTT-6.0.0-1")
def test_packets_to_the_client_travel_in_binary_frames() -> None:
    peer = Peer()
    peer.hear(peer.tunnel.wrap(b"\xd0\0"))
    peer.hear(peer.tunnel.wrap(STREAM * 1000))
    assert {frame.opcode for frame in peer.frames} == {Opcode.BINARY}
    assert b"".join(frame.data for frame in peer.frames) == b"\xd0\0" + STREAM * 1000


# -- what is not MQTT -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"", b"hello", b"\xd0\0"])
@pytest.mark.spec("5.0:MQTT-6.0.0-1")
def test_a_text_frame_ends_the_connection(text: bytes) -> None:
    peer = Peer()
    peer.protocol.send_text(text)
    peer.exchange()
    assert peer.mqtt == b""
    assert peer.tunnel.is_over
    assert peer.protocol.close_rcvd is not None
    assert peer.protocol.close_rcvd.code == CloseCode.UNSUPPORTED_DATA


@pytest.mark.spec("5.0:MQTT-6.0.0-1")
def test_nothing_behind_a_text_frame_is_read() -> None:
    peer = Peer()
    peer.protocol.send_binary(b"before")
    peer.protocol.send_text(b"text")
    peer.protocol.send_binary(b"behind")
    peer.exchange()
    peer.protocol.state = State.OPEN  # a client that goes on nevertheless
    peer.send_binary(b"later")
    assert peer.mqtt == b"before"
    assert peer.tunnel.is_over


@pytest.mark.spec("5.0:MQTT-6.0.0-1")
def test_a_text_message_in_fragments_ends_the_connection() -> None:
    peer = Peer()
    peer.protocol.send_text(b"a", fin=False)
    peer.protocol.send_continuation(b"\xd0\0", fin=True)
    peer.exchange()
    assert peer.mqtt == b""
    assert peer.tunnel.is_over


def test_a_message_larger_than_the_limit_ends_the_connection() -> None:
    peer = Peer()
    peer.send_binary(b"x" * (LARGEST + 1))
    assert peer.mqtt == b""
    assert peer.tunnel.is_over


def test_frames_without_a_mask_end_the_connection() -> None:
    peer = Peer()
    peer.carry(b"\x82\2\xc0\0")
    assert peer.mqtt == b""
    assert peer.tunnel.is_over


# -- the end --------------------------------------------------------------------------------------


def test_the_brokers_close_is_a_normal_one_and_nothing_follows() -> None:
    peer = Peer()
    peer.hear(peer.tunnel.close())
    assert peer.protocol.close_rcvd is not None
    assert peer.protocol.close_rcvd.code == CloseCode.NORMAL_CLOSURE
    peer.hear(peer.tunnel.wrap(b"\xd0\0"))
    assert all(frame.opcode is Opcode.CLOSE for frame in peer.frames)


def test_a_clients_close_is_answered_and_ends_the_connection() -> None:
    peer = Peer()
    peer.protocol.send_close(CloseCode.GOING_AWAY)
    peer.exchange()
    assert peer.tunnel.is_over
    assert [frame.opcode for frame in peer.frames] == [Opcode.CLOSE]
