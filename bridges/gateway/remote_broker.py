"""Any MQTT broker, over TCP or TLS: one connection for each device, as a client of its own.

A connection that breaks is made anew, for ever, more and more rarely and with jitter; sessions go
on where they were. Rules kept here: one write per loop turn; a broker that is silent for longer
than the keep-alive allows is left, as is one that takes nothing, or one that answers no CONNECT
while it is not known which version it speaks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from bridges.gateway.figures import own_prefix
from bridges.gateway.speaker import Speaker
from bridges.mqttsn.mqtt import MqttBroker
from bridges.mqttsn.ports import Identity
from bridges.mqttsn.versions import NAMES, Versions
from broker.packets.codes import MQTT_5

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from bridges.mqttsn.mqtt import MqttSession

KEEP_ALIVE: Final = 60  # seconds
PING_EVERY: Final = 20.0  # seconds; one timer for all
SILENCE: Final = 50.0  # seconds without a byte, then the connection is dead
CONNECT_TIMEOUT: Final = 10.0
# for the CONNACK that shows which version the broker speaks; grows while it does not answer
FIRST_PATIENCE, LONGEST_PATIENCE = 5.0, 40.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before the next attempt
READING: Final = 1.0  # seconds in which a broker may still read what has waited for a client
LASTING: Final = 5.0  # seconds after which a connection counts as one that works
MOST_UNSENT: Final = 4 << 20  # bytes that one connection may have waiting
MOST_EARLY: Final = 64 << 10  # ... before it is there
MOST_FIGURES: Final = 20_000  # that wait for the broker
PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
GOOD_URL: Final = 'write "mqtt://HOST", "mqtt://USER:PASSWORD@HOST:PORT" or "mqtts://HOST"'

log = logging.getLogger("heliograph")


class Place(NamedTuple):
    """Where the broker is, and who devices are that no rule gives a name."""

    host: str
    port: int
    is_secure: bool
    username: str | None = None
    password: bytes | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Place({self})"  # without the password


def parse_broker(url: str) -> Place:
    """The parts of "mqtt://user:password@host:1883". Raises ValueError that repeats no password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"this is not a URL of a broker: {GOOD_URL}") from None
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/"):
        raise ValueError(f"this is not a URL of a broker: {GOOD_URL}")
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password).encode() if parts.password else None
    is_secure = parts.scheme == "mqtts"
    return Place(parts.hostname, port or PORTS[parts.scheme], is_secure, username, password)


class RemoteBroker:
    """A BrokerSide."""

    def __init__(
        self,
        place: Place,
        context: ssl.SSLContext | None,
        expiry: int,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        version: int | None = None,  # of MQTT; None: the one that the broker speaks
    ) -> None:
        self.place = place
        self._is_version_chosen = version is not None
        self.versions = Versions(version, self._settled, self._refused)
        self.context = context
        self.loop = loop
        self._expiry = expiry
        self._rng = rng
        self._pause = FIRST_PAUSE
        self.patience = FIRST_PATIENCE
        self._trouble = ""
        self._pipes: set[RemotePipe] = set()
        self.name = socket.gethostname()
        self.prefix = own_prefix(self.name)
        self.on_forgotten: Callable[[], None] = _nothing
        self.client_id = f"heliograph-gateway-{self.name}"
        identity = Identity(self.client_id, place.username, place.password)
        self._speaker = Speaker(
            self.sessions(""), identity, loop, rng, "", _nothing, most_waiting=MOST_FIGURES
        )
        self._speaker.on_open = self._forgotten
        self._timer = loop.call_later(PING_EVERY, self._ping)

    def sessions(self, name: str, stamp: Callable[[], str] | None = None) -> MqttBroker:
        """See BrokerSide."""
        del name  # the broker cannot be told
        return MqttBroker(self._dial, self._expiry, KEEP_ALIVE, stamp=stamp, versions=self.versions)

    def stream(self, name: str, on_data: Callable[[bytes], None]) -> RemotePipe:
        """See BrokerSide."""
        del name
        return RemotePipe(self, StreamEnds(on_data))

    def tell(self, topic: str, payload: bytes, retain: bool) -> None:
        """See BrokerSide."""
        self._speaker.say(topic, payload, 0, retain)

    def close(self) -> None:
        """See BrokerSide."""
        self._timer.cancel()
        self._speaker.close()
        for pipe in list(self._pipes):
            pipe.close()

    # -- for its pipes ----------------------------------------------------------------------------

    def opened(self, pipe: RemotePipe) -> None:
        """It is there."""
        self._pipes.add(pipe)

    def answered(self) -> None:
        """The broker has said something."""
        self.patience = FIRST_PATIENCE
        if self._trouble:
            self._trouble = ""
            log.info("the broker at %s can be reached again", self.place)

    def worked(self) -> None:
        """A connection has lasted for a while."""
        self._pause = FIRST_PAUSE

    def failed(self, pipe: RemotePipe, why: str) -> float:
        """It is gone, or could not be had; returns after how many seconds to try again."""
        self._pipes.discard(pipe)
        if why != self._trouble:
            self._trouble = why
            log.warning("the broker at %s: %s; trying again", self.place, why)
        pause = self._pause * (0.5 + self._rng.random())
        self._pause = min(1.5 * self._pause, LONGEST_PAUSE)
        return pause

    def ended(self, pipe: RemotePipe) -> None:
        """Nobody needs it any more."""
        self._pipes.discard(pipe)

    # -- helpers ----------------------------------------------------------------------------------

    def _settled(self, version: int) -> None:
        if version >= MQTT_5:
            log.info("the broker at %s speaks MQTT 5 now", self.place)
            return
        log.info(
            "the broker at %s speaks MQTT %s and not 5: what devices lose by that is in "
            "docs/serial.md",
            *(self.place, NAMES[version]),
        )

    def _refused(self, version: int) -> None:
        if self._is_version_chosen:
            text = "the broker at %s refuses MQTT %s: choose another version with --mqtt, or none"
            log.warning(text, self.place, NAMES[version])
        else:
            log.warning("the broker at %s refuses MQTT 5 and 3.1.1: is it one?", self.place)

    def _forgotten(self) -> None:
        self.on_forgotten()  # whoever wants to know has been set after `on_open`

    def _dial(self, session: MqttSession) -> RemotePipe:
        return RemotePipe(self, session)

    def _ping(self) -> None:
        self._timer = self.loop.call_later(PING_EVERY, self._ping)
        now = self.loop.time()
        for pipe in list(self._pipes):
            pipe.check(now)


class StreamEnds:
    """What a pipe tells, for a device that speaks MQTT itself."""

    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        self.receive = on_data

    def connected(self) -> None:
        """What was put in before has gone out."""

    def lost(self) -> None:
        """See Stream: nothing comes any more."""
        self.receive(b"")

    def ping(self) -> None:
        """The device does it."""


class RemotePipe(asyncio.Protocol):
    """A Pipe and a Stream: one connection, from its attempt to its end."""

    def __init__(self, side: RemoteBroker, ends: MqttSession | StreamEnds) -> None:
        self._side = side
        self._ends = ends
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._is_waiting = False
        self._is_closed = False
        self._is_held = False
        self._early = 0  # bytes
        self._opened_at = self._answered_at = self._heard_at = 0.0
        self._is_abandoned = False  # by us: it does not answer
        self._was_closed = False  # by the broker
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = side.loop.create_task(self._connect())

    # -- Pipe -------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """See Pipe. A stream has no back-pressure: one that says too much too early is broken."""
        self._out.append(data)
        if self._transport is None:
            self._early += len(data)
            if self._early > MOST_EARLY:
                self._out.clear()
                self._give_up()
        elif not self._is_waiting:
            self._is_waiting = True
            self._side.loop.call_soon(self._flush)

    def hold(self, held: bool) -> None:
        """See Pipe."""
        if held == self._is_held:
            return
        self._is_held = held
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.pause_reading if held else self._transport.resume_reading)()

    def has_more(self) -> bool:
        """See Pipe. No broker says it; one that has just accepted the client may be reading."""
        return self._side.loop.time() - self._answered_at < READING

    def was_closed(self) -> bool:
        """See Pipe."""
        return self._was_closed

    def close(self) -> None:
        """See Pipe."""
        self._flush()
        self._is_closed = True
        self._side.ended(self)
        if self._task is not None:
            self._task.cancel()
        self._cancel_timer()
        if self._transport is not None:
            self._transport.close()

    def check(self, now: float) -> None:
        """Ping, and leave a broker that has said nothing for too long."""
        if now - self._opened_at > LASTING:
            self._side.worked()
        if self._is_held:  # it may say much that we do not read
            self._heard_at = now
        if now - self._heard_at > SILENCE and not isinstance(self._ends, StreamEnds):
            self._abort()
        else:
            self._ends.ping()

    # -- asyncio ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The broker is there."""
        self._transport = cast("asyncio.Transport", transport)
        if self._is_closed:
            self._transport.abort()
            return
        self._opened_at = self._heard_at = self._side.loop.time()
        self._side.opened(self)
        self._ends.connected()
        self._flush()
        if self._side.versions.is_open and not isinstance(self._ends, StreamEnds):
            self._timer = self._side.loop.call_later(self._side.patience, self._unanswered)

    def data_received(self, data: bytes) -> None:
        """The broker says something."""
        self._heard_at = self._side.loop.time()
        if not self._answered_at:
            self._answered_at = self._heard_at
            self._cancel_timer()
            self._side.answered()
        if not self._is_closed:
            self._ends.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._transport = None
        is_theirs = exc is None or isinstance(exc, ConnectionError)
        self._was_closed = is_theirs and not self._is_abandoned
        if not self._is_closed:
            if self._side.loop.time() - self._opened_at > LASTING:
                self._side.worked()
            self._cancel_timer()
            closed = f"it has closed the connection{f' ({exc})' if exc else ''}"
            self._come_again("it does not answer" if self._is_abandoned else closed)

    # -- helpers ----------------------------------------------------------------------------------

    async def _connect(self) -> None:
        place, context = self._side.place, self._side.context
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._side.loop.create_connection(
                    lambda: self, place.host, place.port, ssl=context
                )
        except TimeoutError:
            self._come_again("it does not answer")
        except UnicodeError:  # of the codec for names of hosts
            self._come_again("this is no name of a host")
        except (OSError, ssl.SSLError) as error:
            self._come_again(_why(error))
        finally:
            self._task = None

    def _come_again(self, why: str) -> None:
        pause = self._side.failed(self, why)
        if not self._is_closed:
            self._timer = self._side.loop.call_later(pause, self._lost)

    def _unanswered(self) -> None:
        self._side.patience = min(1.5 * self._side.patience, LONGEST_PATIENCE)
        self._abort()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _lost(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._ends.lost()

    def _give_up(self) -> None:
        """Break it before it was there; nothing comes out while something is put in."""
        if self._task is not None:
            self._task.cancel()
        self._cancel_timer()
        self._side.ended(self)
        self._side.loop.call_soon(self._lost)

    def _flush(self) -> None:
        self._is_waiting = False
        if self._transport is None or not self._out:
            return
        out, self._out = self._out, []
        self._transport.write(b"".join(out))
        if self._transport.get_write_buffer_size() > MOST_UNSENT:
            log.warning("the broker at %s takes nothing: left", self._side.place)
            self._abort()

    def _abort(self) -> None:
        self._is_abandoned = True
        if self._transport is not None:
            self._transport.abort()


def _nothing() -> None:
    """Nobody wants to know."""


def _why(error: OSError) -> str:
    """In words: asyncio writes "Connect call failed ('127.0.0.1', 1883)"."""
    if error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    return str(error.strerror or error)
