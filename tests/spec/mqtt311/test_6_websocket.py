"""Packets over WebSocket, with the `websockets` library as the peer: chapter 6 of MQTT 3.1.1, which
MQTT 5 has taken over as it is.
"""

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from broker.packets.encode import encode
from broker.packets.reader import Reader
from broker.packets.types import Connect, Pingreq, Publish
from broker.transport.websocket import WebSocketTunnel

STREAM = (
    encode(Connect("alice"), 4)
    + encode(Publish("t", 300 * b"x", 1, packet_id=1), 4)
    + encode(Pingreq(), 4)
)


class Peer:
    """A WebSocket client before our tunnel."""

    def __init__(self, *subprotocols: str) -> None:
        offered = [Subprotocol(each) for each in subprotocols]
        self.protocol = ClientProtocol(parse_uri("ws://localhost/mqtt"), subprotocols=offered)
        self.tunnel = WebSocketTunnel("/mqtt", 1_000_000)
        self.response: Response | None = None
        self.protocol.send_request(self.protocol.connect())
        self.exchange()

    def exchange(self) -> bytes:
        """Carry the bytes of both sides across; what the tunnel made of them for MQTT."""
        received = self.tunnel.receive(b"".join(self.protocol.data_to_send()))
        self.take(self.tunnel.data_to_send())
        return received

    def take(self, data: bytes) -> list[Frame]:
        """Give the peer bytes from the broker; the frames in them."""
        if data:
            self.protocol.receive_data(data)
        frames = []
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                self.response = event
            elif isinstance(event, Frame):
                frames.append(event)
        return frames

    def send(self, data: bytes) -> bytes:
        """Send one binary frame; the MQTT bytes that came out of the tunnel."""
        self.protocol.send_binary(data)
        return self.exchange()


def packets(data: bytes) -> int:
    """How many complete packets there are."""
    return len(Reader().cut(data)[1])


@pytest.mark.spec("3.1.1:MQTT-6.0.0-4", "5.0:MQTT-6.0.0-4")
@pytest.mark.parametrize("offered", [["mqtt"], ["chat", "mqtt"], ["mqttv3.1", "mqtt"]])
def test_the_subprotocol_mqtt_is_selected(offered: list[str]) -> None:
    peer = Peer(*offered)
    assert peer.protocol.state is State.OPEN
    assert peer.protocol.subprotocol == "mqtt"


@pytest.mark.parametrize("offered", [[], ["chat"]])
def test_a_client_that_does_not_offer_mqtt_is_refused(offered: list[str]) -> None:
    peer = Peer(*offered)
    assert peer.response is not None
    assert peer.response.status_code == 400
    assert peer.tunnel.is_over


@pytest.mark.spec("3.1.1:MQTT-6.0.0-1", "5.0:MQTT-6.0.0-1")
def test_a_text_frame_ends_the_connection() -> None:
    peer = Peer("mqtt")
    peer.protocol.send_text(b"\x10\0")
    assert peer.exchange() == b""
    assert peer.tunnel.is_over


@pytest.mark.spec("3.1.1:MQTT-6.0.0-1", "5.0:MQTT-6.0.0-1")
def test_the_broker_sends_binary_frames() -> None:
    peer = Peer("mqtt")
    (frame,) = peer.take(peer.tunnel.wrap(STREAM))
    assert frame.opcode is Opcode.BINARY
    assert frame.data == STREAM


@pytest.mark.spec("3.1.1:MQTT-6.0.0-2", "5.0:MQTT-6.0.0-2")
def test_several_packets_may_share_a_frame() -> None:
    assert packets(Peer("mqtt").send(STREAM)) == 3


@pytest.mark.spec("3.1.1:MQTT-6.0.0-2", "5.0:MQTT-6.0.0-2")
@pytest.mark.parametrize("size", [1, 2, 7, 100, 310])
def test_a_packet_may_be_spread_over_frames(size: int) -> None:
    peer = Peer("mqtt")
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    received = b"".join(peer.send(each) for each in pieces)
    assert received == STREAM
    assert packets(received) == 3


@pytest.mark.spec("3.1.1:MQTT-6.0.0-2", "5.0:MQTT-6.0.0-2")
def test_a_frame_may_come_in_fragments() -> None:
    peer = Peer("mqtt")
    peer.protocol.send_binary(STREAM[:5], fin=False)
    peer.protocol.send_continuation(STREAM[5:20], fin=False)
    peer.protocol.send_continuation(STREAM[20:], fin=True)
    assert peer.exchange() == STREAM
