"""MQTT over WebSocket (section 6) as a tunnel for a link: bytes in, bytes out, no I/O.

The `websockets` library speaks the protocol. Packets may be split and joined anywhere across frames
[MQTT-6.0.0-2]; a frame that is not binary ends the connection [MQTT-6.0.0-1].
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from websockets.exceptions import NegotiationError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from websockets.typing import Subprotocol

SUBPROTOCOLS = ("mqtt", "mqttv3.1")  # the second: clients from before the standard
ANY_PATH = "/"
DATA = (Opcode.BINARY, Opcode.CONT)

# The library tells its story at levels of its own; what matters to us is in the engine's notices.
_logger = logging.getLogger("websockets.server")
_logger.setLevel(logging.CRITICAL)


class WebSocketTunnel:
    """Turns the bytes of a socket into the bytes of MQTT and back.

    `path` is the only one served ("/" = any); `largest_message` is in bytes.
    """

    def __init__(self, path: str, largest_message: int) -> None:
        self._path = path
        self._is_broken = False
        self._protocol = ServerProtocol(
            select_subprotocol=choose_subprotocol, max_size=largest_message, logger=_logger
        )

    def receive(self, data: bytes) -> bytes:
        """Return the MQTT bytes that a read of the socket brought. Never raises."""
        received: list[bytes] = []
        self._try(self._take, data, received)
        return b"".join(received)

    def wrap(self, data: bytes) -> bytes:
        """Return the socket bytes that carry `data` in one binary frame."""
        if self._protocol.state is State.OPEN:
            self._try(self._protocol.send_binary, data)
        return self.data_to_send()

    def data_to_send(self) -> bytes:
        """Take the bytes of the WebSocket protocol itself: the handshake, pongs, the closing."""
        return b"".join(self._protocol.data_to_send())

    def close(self) -> bytes:
        """End the WebSocket in good order."""
        if self._protocol.state is State.OPEN:
            self._try(self._protocol.send_close, CloseCode.NORMAL_CLOSURE)
        return self.data_to_send()

    @property
    def is_over(self) -> bool:
        """Whether the peer must be disconnected."""
        protocol = self._protocol
        return self._is_broken or protocol.close_expected() or protocol.state is State.CLOSED

    def _try(self, step: Callable[..., None], *arguments: object) -> None:
        """Some garbage makes the library itself stumble, then or later: that ends the WebSocket."""
        if self._is_broken:
            return
        try:
            step(*arguments)
        except Exception:  # noqa: BLE001  whatever it is, hanging up is the answer
            self._is_broken = True

    def _take(self, data: bytes, received: list[bytes]) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
            elif isinstance(event, Frame):
                if event.opcode is Opcode.TEXT:  # [MQTT-6.0.0-1]; what follows is not MQTT either
                    self._protocol.fail(CloseCode.UNSUPPORTED_DATA, "MQTT needs binary frames")
                    return
                if event.opcode in DATA:
                    received.append(bytes(event.data))

    def _shake_hands(self, request: Request) -> None:
        if self._path not in {ANY_PATH, request.path.partition("?")[0]}:
            text = f"MQTT is served at {self._path}\n"
            self._protocol.send_response(self._protocol.reject(HTTPStatus.NOT_FOUND, text))
            return
        self._protocol.send_response(self._protocol.accept(request))  # [MQTT-6.0.0-4]


def choose_subprotocol(
    _protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """Select `mqtt` [MQTT-6.0.0-4]; a client that does not offer it is refused."""
    for known in SUBPROTOCOLS:
        for each in offered:
            if each == known:
                return each
    raise NegotiationError("the subprotocol must be mqtt")
