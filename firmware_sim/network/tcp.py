"""A device's way over TCP, TLS or WebSocket: a real MQTT library (paho), without its threads.

The library's own ways of waiting do not carry thousands of clients. So the event loop watches the
sockets and calls the library when bytes are there; one ticker looks after all keep-alives; only
connecting, which blocks in the library, is done by a few threads.
"""

# ruff: noqa: ARG002 - a `Way` is told the time; here the loop has it

from __future__ import annotations

import asyncio
import select
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from firmware_sim.clients.client import (
    Acknowledged,
    Arrived,
    Asleep,
    Collected,
    Down,
    Failed,
    Message,
    Up,
)
from firmware_sim.network.mqtt_library import Library

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from firmware_sim.books.evidence import Evidence
    from firmware_sim.clients.client import ClientEvent
    from firmware_sim.network.endpoint import Endpoint

CONNECTING_THREADS: Final = 24
KEEP_ALIVE_ROUND: Final = 4.0  # seconds in which every client is looked at once
SLICES: Final = 20  # of a round
FIRST_RETRY: Final = 0.5
LAST_RETRY: Final = 15.0
SESSION: Final = 3600  # seconds the broker keeps a durable session of an absent device
COLLECTING: Final = 1.0  # seconds a sleeping device that woke hears what waited
DONE_BEFORE: Final = 0x92  # the PUBREL had come, and its PUBCOMP was lost: no failure (4.3.3)


@dataclass(frozen=True, slots=True)
class TcpSettings:
    """How one client speaks. `acks` False: it never acknowledges what it gets. `at_once` are
    reads in its turn: who hears a whole fleet is not to wait for each of its devices between two.
    """

    client_id: str
    version: str = "5"
    keep_alive: int = 60
    durable: bool = False
    acks: bool = True
    at_once: int = 1


class Switchboard:
    """What all clients of a run share: the loop, threads that connect, keep-alives, TLS."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._threads = ThreadPoolExecutor(CONNECTING_THREADS, "connecting")
        self._clients: list[TcpClient] = []
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._slice = 0
        self._timer = loop.call_later(KEEP_ALIVE_ROUND / SLICES, self._tick)

    def add(self, client: TcpClient) -> None:
        """Look after a client from now on."""
        self._clients.append(client)

    def run(self, blocking: Callable[[], object]) -> asyncio.Future[object]:
        """Run what blocks in one of the threads."""
        return self.loop.run_in_executor(self._threads, blocking)

    def context(self, endpoint: Endpoint) -> ssl.SSLContext:
        """The TLS context for a broker. Raises OSError or ssl.SSLError for a bad `authority`."""
        if endpoint.authority not in self._contexts:
            made = ssl.create_default_context(cafile=endpoint.authority or None)
            self._contexts[endpoint.authority] = made
        return self._contexts[endpoint.authority]

    async def close(self) -> None:
        """Stop; clients are closed by their owners before. Waits for threads that connect."""
        self._timer.cancel()
        for client in self._clients:
            client.close(0.0)
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _tick(self) -> None:
        self._slice = (self._slice + 1) % SLICES
        for client in self._clients[self._slice :: SLICES]:
            client.keep_alive()
        self._timer = self.loop.call_later(KEEP_ALIVE_ROUND / SLICES, self._tick)


class TcpClient:
    """One MQTT client; implements `Way`. `heard` is called when events are to be taken."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: TcpSettings,
        board: Switchboard,
        rng: Random,
        heard: Callable[[], None],
        evidence: Evidence | None = None,
    ) -> None:
        self._endpoint, self._settings, self._board = endpoint, settings, board
        self._rng, self._heard, self._evidence = rng, heard, evidence
        self._events: list[ClientEvent] = []
        self._told = False  # that there are events
        self._filters: list[tuple[str, int]] = []
        self._tokens: dict[int, int] = {}  # packet id -> token
        self._wanted = False
        self._connecting = False
        self._up = False
        self._kept = 0  # seconds, of the session after the goodbye
        self._refusal = ""
        self._failures = 0
        self._retry: asyncio.TimerHandle | None = None
        self._collecting = False
        self._granted = 0
        self._plugged = True
        self._watched: Any = None  # the socket the loop watches
        self._mqtt = self._make()
        board.add(self)

    # ---- Way ----

    @property
    def is_up(self) -> bool:
        return self._up

    def connect(self, now: float) -> None:
        self._wanted = True
        self._collecting = False
        if not self._up and not self._connecting and self._retry is None and self._plugged:
            self._open()

    def publish(self, message: Message, token: int, now: float) -> bool:
        if not self._up:
            return False
        info = self._mqtt.publish(message.topic, message.payload, message.qos, message.retain)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            return False
        if message.qos == 0:
            self._note_unanswered(info, token)
        else:
            self._tokens[info.mid] = token
        self._watch_writing()
        return True

    def subscribe(self, topic_filter: str, qos: int, now: float) -> None:
        if (topic_filter, qos) in self._filters:
            return
        self._filters.append((topic_filter, qos))
        if self._up:
            self._mqtt.subscribe(topic_filter, qos)
            self._watch_writing()

    def sleep(self, duration: float, now: float) -> None:
        self._goodbye(SESSION)
        self._tell(Asleep())

    def wake(self, now: float) -> None:
        self.connect(now)
        self._collecting = True

    def disconnect(self, now: float) -> None:
        self._goodbye(SESSION if self._wanted and self._settings.durable else 0)

    def take_events(self) -> Sequence[ClientEvent]:
        self._told = False
        events, self._events = self._events, []
        return events

    # ---- for the shell ----

    @property
    def is_subscribed(self) -> bool:
        """Whether every subscription was granted."""
        return self._up and self._granted >= len(self._filters)

    def forget(self, now: float) -> None:
        self._goodbye(0)

    def unplug(self, now: float) -> None:
        self._plugged = False
        self._stop_retrying()
        if self._watched is not None:
            socket = self._watched
            self._unwatch()
            socket.close()  # the library keeps what is on its way
            self._lost("unplugged")

    def plug(self, now: float) -> None:
        self._plugged = True
        if self._wanted:
            self.connect(now)

    def quality(self) -> None:
        return None

    def close(self, now: float) -> None:
        self.cut(now)

    def cut(self, now: float) -> None:
        self._wanted = self._up = False
        self._stop_retrying()
        self._drop()
        self._events.clear()
        self._tokens.clear()
        self._failures = 0
        self._mqtt = self._make()

    def keep_alive(self) -> None:
        """Ping if it is time; find out that the broker is silent."""
        if self._up:
            self._mqtt.loop_misc()
            self._watch_writing()

    # ---- connecting ----

    def _make(self) -> paho.Client:
        settings, endpoint = self._settings, self._endpoint
        is_5 = settings.version == "5"
        made = Library(
            CallbackAPIVersion.VERSION2,
            settings.client_id,
            clean_session=None if is_5 else not settings.durable,
            protocol=paho.MQTTv5 if is_5 else paho.MQTTv311,
            transport="websockets" if endpoint.is_websocket else "tcp",
            reconnect_on_failure=False,
            manual_ack=not settings.acks,
        )
        if endpoint.username is not None:
            made.username_pw_set(endpoint.username, endpoint.password)
        if endpoint.is_secure:
            made.tls_set_context(self._board.context(endpoint))
        if endpoint.is_websocket:
            made.ws_set_options(endpoint.path)
        made.on_connect = self._on_connect
        made.on_disconnect = self._on_disconnect
        made.on_publish = self._on_publish
        made.on_subscribe = self._on_subscribe
        made.on_message = self._on_message
        made.on_socket_close = self._on_socket_close
        return made

    def _open(self) -> None:
        self._connecting = True
        self._refusal = ""
        self._unwatch()  # what is left of an old goodbye, the library closes in the thread
        mqtt = self._mqtt
        opening = self._board.run(lambda: self._connect_blocking(mqtt))
        opening.add_done_callback(lambda done: self._opened(mqtt, done))

    def _connect_blocking(self, mqtt: paho.Client) -> None:
        if mqtt.host:  # only the first time it is to start with a clean session
            mqtt.reconnect()
            return
        properties = None
        if self._settings.version == "5" and self._settings.durable:
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = SESSION
        mqtt.connect(
            self._endpoint.host,
            self._endpoint.port,
            self._settings.keep_alive,
            properties=properties,
        )

    def _opened(self, mqtt: paho.Client, done: asyncio.Future[object]) -> None:
        failure = None if done.cancelled() else done.exception()
        if mqtt is not self._mqtt:  # the power was cut meanwhile
            close_silently(mqtt)
            return
        self._connecting = False
        if done.cancelled():
            return
        if failure is not None:
            self._lost(reason_of(failure))
            return
        self._watch()
        if not self._wanted:
            self._goodbye(self._kept)

    def _lost(self, why: str) -> None:
        """Tell it, and try again later: soon at first, then less often, each at its own time.
        Who has said goodbye, or sleeps, is told nothing.
        """
        self._up = False
        if not self._wanted:
            return
        self._tell(Down(why))
        if self._retry is None and self._plugged:
            pause = min(FIRST_RETRY * 2**self._failures, LAST_RETRY)
            self._failures = min(self._failures + 1, 10)
            self._retry = self._board.loop.call_later(
                pause * self._rng.uniform(0.5, 1.0), self._try_again
            )

    def _try_again(self) -> None:
        self._retry = None
        if self._wanted:
            self._open()

    def _goodbye(self, session: int) -> None:
        self._wanted = self._up = False
        self._kept = session
        self._stop_retrying()
        if self._connecting:
            return  # `_opened` goes on
        properties = None
        if self._settings.version == "5" and session == 0 and self._settings.durable:
            properties = _properties(PacketTypes.DISCONNECT)
            properties.SessionExpiryInterval = 0
        if self._watched is not None:
            self._mqtt.disconnect(properties=properties)
            self._watch_writing()

    def _stop_retrying(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _drop(self) -> None:
        if self._connecting:
            self._connecting = False  # `_opened` closes it
            return
        self._unwatch()
        close_silently(self._mqtt)

    # ---- the socket ----

    def _watch(self) -> None:
        self._watched = self._mqtt.socket()
        if self._watched is None:
            return
        self._board.loop.add_reader(self._watched.fileno(), self._readable)
        self._watch_writing()

    def _unwatch(self) -> None:
        if self._watched is not None and self._watched.fileno() >= 0:
            self._board.loop.remove_reader(self._watched.fileno())
            self._board.loop.remove_writer(self._watched.fileno())
        self._watched = None

    def _readable(self) -> None:
        self._mqtt.loop_read()
        left = self._settings.at_once
        while self._is_decrypted() or ((left := left - 1) > 0 and is_readable(self._watched)):
            self._mqtt.loop_read()
        self._watch_writing()

    def _is_decrypted(self) -> bool:
        """Whether TLS has something that the loop cannot see."""
        return self._watched is not None and self._endpoint.is_secure and self._watched.pending()

    def _writable(self) -> None:
        self._mqtt.loop_write()
        if self._watched is not None and not self._mqtt.want_write():
            self._board.loop.remove_writer(self._watched.fileno())

    def _watch_writing(self) -> None:
        if self._watched is not None and self._mqtt.want_write():
            self._board.loop.add_writer(self._watched.fileno(), self._writable)

    # ---- what the library tells ----

    def _on_socket_close(self, *_: object) -> None:
        self._unwatch()

    def _on_connect(self, _: paho.Client, __: object, flags: Any, reason: Any, ___: object) -> None:
        if reason.is_failure:
            self._refusal = f"refused: {reason}"
            return
        if not self._wanted:
            return  # it has said goodbye meanwhile
        self._up = True
        self._failures = 0
        if not flags.session_present:
            self._granted = 0
            for topic_filter, qos in self._filters:
                self._mqtt.subscribe(topic_filter, qos)
        self._tell(Up(flags.session_present))
        if self._collecting:
            self._board.loop.call_later(COLLECTING, self._collected)

    def _collected(self) -> None:
        """It has heard what waited, and sleeps on, unless it was told to stay."""
        if self._collecting and self._up:
            self._goodbye(SESSION)
            self._tell(Collected())

    def _on_disconnect(
        self, _: paho.Client, __: object, flags: Any, reason: Any, ___: object
    ) -> None:
        self._up = False
        if self._wanted:
            told = str(reason) if flags.is_disconnect_packet_from_server else "connection lost"
            self._lost(self._refusal or told)

    def _on_publish(self, _: paho.Client, __: object, mid: int, reason: Any, ___: object) -> None:
        token = self._tokens.pop(mid, None)
        if token is None:
            return
        has_failed = reason.is_failure and reason.value != DONE_BEFORE
        self._tell(Failed(token, str(reason)) if has_failed else Acknowledged(token))

    def _on_subscribe(self, _: paho.Client, __: object, ___: int, reasons: Any, ____: Any) -> None:
        self._granted += sum(not reason.is_failure for reason in reasons)
        self._tell_shell()

    def _on_message(self, _: paho.Client, __: object, message: paho.MQTTMessage) -> None:
        if self._evidence is not None and message.qos > 0:
            self._evidence.taken += 1
            self._evidence.confirmed += self._settings.acks
        told = Message(message.topic, bytes(message.payload), message.qos, message.retain)
        self._tell(Arrived(told))

    def _note_unanswered(self, info: paho.MQTTMessageInfo, token: int) -> None:
        """QoS 0: it may have left already, before its packet id was known here."""
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._tell(Failed(token, "connection lost"))
        elif info.is_published():
            self._tell(Acknowledged(token))
        else:
            self._tokens[info.mid] = token

    def _tell(self, event: ClientEvent) -> None:
        self._events.append(event)
        self._tell_shell()

    def _tell_shell(self) -> None:
        if not self._told:
            self._told = True
            self._board.loop.call_soon(self._heard)


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call] # the library's


def is_readable(socket: Any) -> bool:
    """Whether there is more to read; None: the socket is gone."""
    if socket is None:
        return False
    looking = select.poll()
    looking.register(socket, select.POLLIN)
    return bool(looking.poll(0))


def close_silently(mqtt: paho.Client) -> None:
    """Close the socket under the library, as a power cut does."""
    mqtt.on_disconnect = None
    mqtt.on_socket_close = None
    socket = mqtt.socket()
    if socket is not None:
        socket.close()


def reason_of(failure: BaseException) -> str:
    """Why a connection could not be made, in few words: no addresses and numbers of tries."""
    if isinstance(failure, ssl.SSLError):
        return f"TLS: {failure.reason or failure}"
    if isinstance(failure, OSError):
        return failure.strerror or str(failure) or type(failure).__name__
    return f"{type(failure).__name__}: {failure}"
