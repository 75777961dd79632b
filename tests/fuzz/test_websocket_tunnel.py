"""Spoilt WebSocket bytes: the tunnel never raises, and after the end it lets nothing through."""

from random import Random

import pytest
from websockets.exceptions import ProtocolError
from websockets.frames import Frame

from broker.transport.websocket import WebSocketTunnel

HANDSHAKE = (
    b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)
OPCODES = (0, 1, 2, 2, 2, 2, 8, 9, 10)


def talk(rng: Random) -> bytes:
    """A handshake and some frames, spoilt here and there."""
    frames = [
        Frame(rng.choice(OPCODES), rng.randbytes(rng.choice((0, 2, 130))), rng.random() < 0.9)
        for _ in range(rng.randrange(8))
    ]
    try:
        data = bytearray(HANDSHAKE + b"".join(each.serialize(mask=True) for each in frames))
    except ProtocolError:  # a control frame too long: make one with its hands
        data = bytearray(HANDSHAKE + b"\x89\xfe\x01\x00mask" + bytes(256))
    for _ in range(rng.choice((0, 0, 1, 3, 10))):
        at = rng.randrange(len(data))
        data[at : at + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
    return bytes(data)


@pytest.mark.parametrize("seed", range(5))
def test_no_bytes_make_the_tunnel_raise(seed: int) -> None:
    rng = Random(seed)
    opened = 0
    for _ in range(200):
        tunnel = WebSocketTunnel("/mqtt", 10_000)
        data = talk(rng)
        size = rng.choice((1, 10, 100_000))
        for at in range(0, len(data), size):
            was_over = tunnel.is_over
            received = tunnel.receive(data[at : at + size])
            assert not (was_over and received)
            opened += tunnel.data_to_send().startswith(b"HTTP/1.1 101")
            tunnel.wrap(b"answer")
        tunnel.close()
    assert opened > 50
