"""The broker of this process: every device is a client of its own, without a socket.

A device is admitted by where it really is: one on a wire counts as of this machine, one that sends
datagrams comes from its address, and what the settings say of anonymous clients holds for it.
Rule kept here: what is sent in one turn of the loop reaches the broker in one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridges.gateway.figures import SYS
from bridges.mqttsn.mqtt import MqttBroker
from broker.connection.ports import Origin
from broker.packets.publication import Publication
from broker.transport.local import LocalLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.mqttsn.mqtt import MqttSession
    from broker.transport.hub import Hub

PAUSE = 1.0  # seconds before a client that the broker has dropped comes again


class LocalBroker:
    """A BrokerSide. `anonymous` is the policy for clients without a user name."""

    name = "broker"
    client_id = ""
    prefix = SYS

    def __init__(self, hub: Hub, anonymous: str, expiry: int) -> None:
        self.on_forgotten: Callable[[], None] = _nothing
        self._hub = hub
        self._anonymous = anonymous
        self._expiry = expiry

    def sessions(self, name: str, stamp: Callable[[], str] | None = None) -> MqttBroker:
        """See BrokerSide."""
        return MqttBroker(lambda session: self._dial(name, session), self._expiry, stamp=stamp)

    def stream(self, name: str, on_data: Callable[[bytes], None]) -> LocalStream:
        """See BrokerSide."""
        return LocalStream(self._hub, Origin(name, anonymous=self._anonymous), on_data)

    def tell(self, topic: str, payload: bytes, retain: bool) -> None:
        """See BrokerSide: as the broker itself does."""
        engine = self._hub.engine
        engine.clock.now = self._hub.now()
        engine.publishing.publish(Publication(topic, payload, retain=retain))

    def close(self) -> None:
        """See BrokerSide: nothing waits longer than a turn."""

    def _dial(self, name: str, session: MqttSession) -> LocalPipe:
        return LocalPipe(self._hub, self._origin(name, session.opening.address.peer), session)

    def _origin(self, name: str, peer: str) -> Origin:
        """A peer on UDP is "host:port", on a wire it has no address."""
        host, colon, port = peer.rpartition(":")
        if not colon:
            return Origin(name, anonymous=self._anonymous)
        return Origin(name, host, int(port), self._anonymous)


class LocalStream:
    """A Stream into the broker of this process, opened at once."""

    __slots__ = ("_hub", "_is_waiting", "_link", "_on_data", "_out")

    def __init__(self, hub: Hub, origin: Origin, on_data: Callable[[bytes], None]) -> None:
        self._hub = hub
        self._on_data = on_data
        self._out: list[bytes] = []
        self._is_waiting = False
        self._link: LocalLink | None = LocalLink(hub, self._arrived, origin=origin)

    def send(self, data: bytes) -> None:
        """See Stream."""
        self._out.append(data)
        if not self._is_waiting:
            self._is_waiting = True
            self._hub.loop.call_soon(self._flush)

    def hold(self, held: bool) -> None:
        """See Stream."""
        if self._link is not None:
            (self._link.pause if held else self._link.go_on)()

    def close(self) -> None:
        """See Stream; what was put in still arrives."""
        self._flush()
        link, self._link = self._link, None
        if link is not None:
            link.disconnect()

    def _flush(self) -> None:
        self._is_waiting = False
        out, self._out = self._out, []
        if out and self._link is not None:
            self._link.send(b"".join(out))

    def _arrived(self, data: bytes) -> None:
        if self._link is None:
            return
        if not data:
            self._link = None
        self._on_data(data)


class LocalPipe:
    """A Pipe: a stream for a session, which hears of it in a later turn."""

    __slots__ = ("_hub", "_is_closed", "_origin", "_session", "_stream")

    def __init__(self, hub: Hub, origin: Origin, session: MqttSession) -> None:
        self._hub = hub
        self._origin = origin
        self._session = session
        self._stream: LocalStream | None = None
        self._is_closed = False
        hub.loop.call_soon(self._open)

    def send(self, data: bytes) -> None:
        """See Pipe."""
        assert self._stream is not None
        self._stream.send(data)

    def hold(self, held: bool) -> None:
        """See Pipe."""
        assert self._stream is not None
        self._stream.hold(held)

    def was_closed(self) -> bool:
        """See Pipe: nobody else can."""
        return True

    def has_more(self) -> bool:
        """See Pipe: nobody knows it better than the broker's session."""
        session = self._hub.engine.sessions.get(self._session.opening.identity.client_id)
        return session is not None and session.owes

    def close(self) -> None:
        """See Pipe."""
        self._is_closed = True
        if self._stream is not None:
            self._stream.close()

    def _open(self) -> None:
        if not self._is_closed:
            self._stream = LocalStream(self._hub, self._origin, self._arrived)
            self._session.connected()

    def _arrived(self, data: bytes) -> None:
        if data:
            self._session.receive(data)
        elif not self._is_closed:
            self._hub.loop.call_later(PAUSE, self._lost)

    def _lost(self) -> None:
        if not self._is_closed:
            self._session.lost()


def _nothing() -> None:
    """The broker of this process forgets nothing."""
