"""The link: one end of a serial wire that loses, damages and repeats bytes, made reliable.

Both ends are this same machine. What it promises: while both keep their memory, each message of
`send` arrives once and in order, however often the wire is cut. What it cannot promise, across the
reset of a peer, it reports (`Restarted`).

    state     means                                         is left by
    down      no port                                       `plugged`
    opening   HELLO goes out until the peer knows us        HELLO with our nonce, any frame of ours
    open      frames go both ways                           silence, a HELLO that does not know us
    asking    a session, but silence: HELLO goes out        any frame of the session
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from bridges.serial import cobs
from bridges.serial.crc import Seal, seal_between
from bridges.serial.events import Event, Looped, Opened, Received, Restarted, Silent
from bridges.serial.frames import (
    HEADER_SIZE,
    HELLO_HEADER,
    RELIABLE,
    SMALLEST_PAYLOAD_LIMIT,
    Capability,
    Channel,
    Control,
    Hello,
    decode_hello,
    encode_hello,
)
from bridges.serial.framing import END, Deframer, longest_on_wire, wrap
from bridges.serial.patience import Patience
from bridges.serial.receiving import Receiving
from bridges.serial.sending import Sending

if TYPE_CHECKING:
    from random import Random

_CHECK: Final = 4
_PLAIN: Final = Seal()  # of a HELLO
_HELD_BITS: Final = 0x7F


class State(Enum):
    """Where a link stands; see the table above."""

    DOWN = "down"
    OPENING = "opening"
    OPEN = "open"
    ASKING = "asking"


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What one end is and wants; times in seconds, sizes in bytes."""

    uid: bytes = b""
    firmware: str = ""
    capabilities: Capability = Capability.CRC_32 | Capability.LOG
    window: int = 8
    payload_limit: int = 1024
    buffer: int = 0
    baud: int = 0
    rate: float = 0.0  # bytes per second that the wire takes; 0: do not pace
    ahead: float = 0.02  # how much wire time may wait behind the port, if paced
    queue: int = 16  # messages that wait for one channel
    first_wait: float = 0.1  # for an acknowledgement, before a round trip has been measured
    shortest_wait: float = 0.02
    longest_wait: float = 2.0
    idle: float = 15.0  # silence after which the peer is asked whether it is there; 0: never
    doubt: float = 2.0  # nothing but damage for so long: perhaps we disagree about the session
    nak_gap: float = 0.02  # between two NAKs
    hello_gap: float = 0.1  # between two HELLOs, while damage is all that is heard
    timeouts: int = 8  # in a row, then the peer is asked
    silence: float = 5.0  # without an answer, then the peer counts as silent
    hello_wait: float = 0.25
    longest_hello_wait: float = 2.0


@dataclass(slots=True)
class LinkCounters:
    """What happened, since the link was made."""

    frames_sent: int = 0
    frames_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    damaged: int = 0
    foreign: int = 0  # sound, but of a kind that does not exist
    dropped: int = 0  # unreliable messages for which there was no room
    restarts: int = 0
    silences: int = 0


class Link:
    """One end, a machine: `receive` and `tick` say what happened, then `data_to_send` is asked."""

    def __init__(self, settings: LinkSettings, rng: Random) -> None:
        self.settings = settings
        self.counters = LinkCounters()
        self.state = State.DOWN
        self.peer: Hello | None = None
        self._rng = rng
        self._now = 0.0
        self._patience = Patience(
            rng, settings.first_wait, settings.shortest_wait, settings.longest_wait
        )
        self._hello_patience = Patience(
            rng, settings.hello_wait, settings.hello_wait, settings.longest_hello_wait
        )
        self._sending = Sending(self._patience, settings.queue)
        self._receiving = Receiving(settings.window)
        self._deframer = Deframer(longest_on_wire(settings.payload_limit + HEADER_SIZE + _CHECK))
        self._once: deque[tuple[int, bytes]] = deque()  # unreliable, waiting
        self._nonce = self._draw()
        self._is_established = False  # the session has been open
        self._is_used = False  # the peer has spoken in it
        self._is_known_silent = False
        self._is_met = False
        self._owes_hello = self._owes_ack = self._owes_nak = False
        self._hello_at: float | None = None  # when the next is due
        self._heard_at = 0.0
        self._asked_at = 0.0  # since when it is being asked
        self._nak_at = 0.0  # no NAK before
        self._wire_free_at = 0.0
        self._tx = self._rx = _PLAIN
        self._events: list[Event] = []

    # -- the port ---------------------------------------------------------------------------------

    def plugged(self, now: float) -> None:
        """The port is open: say HELLO, resume the session if the peer still has it."""
        self._now = now
        self.state = State.OPENING
        self._is_met = False
        self._heard_at = self._wire_free_at = now
        self._deframer.clear()
        self._sending.lose_all()
        self._ask()

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Bytes have arrived; b"" means that the port is gone."""
        self._now = now
        if not data:
            self._unplugged()
        elif self.state is not State.DOWN:
            self.counters.bytes_received += len(data)
            too_long = self._deframer.too_long
            for frame in self._deframer.cut(data):
                self._on_frame(frame)
            if self._deframer.too_long > too_long:
                self._on_damage()
        return self._take_events()

    def data_to_send(self) -> bytes:
        """Take what may go out now: control first, then what was lost, then by channel."""
        if self.state is State.DOWN:
            return b""
        parts: list[bytes] = []
        if self._owes_hello:
            parts.append(self._hello())
        if self.state is State.OPEN:
            self._fill(parts)
        if self._owes_ack and self.state is not State.OPENING:
            self._put(parts, self._acknowledgement())
        return b"".join(parts)

    def tick(self, now: float) -> list[Event]:
        """The deadline has come."""
        self._now = now
        if self._hello_at is not None and now >= self._hello_at:
            self._ask_again()
        if self.state is State.OPEN:
            self._tick_open(now)
        return self._take_events()

    def next_deadline(self) -> float | None:
        """When to tick, if ever."""
        if self.state is State.DOWN:
            return None
        times = [self._hello_at]
        if self.state is State.OPEN:
            times += [self._sending.deadline(), self._idle_at(), self._pace_at()]
        return min((time for time in times if time is not None), default=None)

    # -- messages ---------------------------------------------------------------------------------

    def writable(self, channel: Channel) -> int:
        """Return how many messages `send` takes now; ask again after `receive` and `tick`."""
        return self._sending.room(channel)

    def send(self, channel: Channel, payload: bytes, now: float) -> bool:
        """Send a message that arrives once and in order; False: there is no room, keep it.

        Messages wait for a peer that is away. One larger than the peer takes raises ValueError.
        """
        self._now = now
        self._check_size(payload)
        return self._sending.offer(channel, payload)

    def send_once(self, channel: Channel, payload: bytes, now: float) -> bool:
        """Send a message that may be lost; False: it is already."""
        self._now = now
        self._check_size(payload)
        if self.state is not State.OPEN or len(self._once) >= self.settings.queue:
            self.counters.dropped += 1
            return False
        self._once.append((channel, payload))
        return True

    def adjust(self, rate: float, queue: int) -> None:
        """The wire has changed: see LinkSettings for both. What is queued stays."""
        self.settings = replace(self.settings, rate=rate, queue=queue)
        self._sending.depth = queue

    @property
    def is_met(self) -> bool:
        """Whether the peer has said HELLO since the port was opened, or speaks in a session."""
        return self._is_met

    @property
    def payload_limit(self) -> int:
        """The largest message that the peer takes; before it is known, the least that all take."""
        if self.peer is None or not self._is_established:
            return SMALLEST_PAYLOAD_LIMIT
        return self.peer.payload_limit

    def allow(self, room: int, now: float) -> None:
        """The owner takes so many messages more; at 0 the peer keeps its own.

        What is under way already arrives all the same, a window at most.
        """
        self._now = now
        self._owes_ack |= self._receiving.allow(room)

    @property
    def is_idle(self) -> bool:
        """Whether all that was sent has arrived."""
        return self._sending.is_idle and not self._once

    @property
    def round_trip(self) -> float | None:
        """Seconds, smoothed; None before anything was measured."""
        return self._patience.round_trip

    @property
    def resent(self) -> int:
        """Frames that went again."""
        return self._sending.resent

    @property
    def duplicates(self) -> int:
        """Frames that came again."""
        return self._receiving.duplicates

    # -- what arrives -----------------------------------------------------------------------------

    def _on_frame(self, frame: bytes) -> None:
        data = cobs.decode(frame)
        if data is None:
            self._on_damage()
        elif data.startswith(HELLO_HEADER):
            self._on_hello_frame(data)
        elif (body := self._rx.open(data)) is None or len(body) < HEADER_SIZE or not self.peer:
            self._on_damage()
        else:
            self._on_session_frame(body)

    def _on_session_frame(self, body: bytes) -> None:
        """A frame that only a peer who knows both nonces can have made."""
        self.counters.frames_received += 1
        self._is_used = True
        self._heard()
        first, second = body[0], body[1]
        channel, credit = first >> 5, first & 0x0F
        sequence, ack = second >> 4, second & 0x0F
        if channel == Channel.LINK:
            self._on_control(sequence, ack, credit, body)
            return
        self._sending.on_ack(ack, 0, credit, self._now)
        if not first & RELIABLE:
            self._events.append(Received(channel, body[HEADER_SIZE:]))
            return
        self._owes_ack = True
        for each in self._receiving.accept(sequence, channel, body[HEADER_SIZE:]):
            self._events.append(Received(*each))

    def _on_control(self, kind: int, ack: int, credit: int, body: bytes) -> None:
        held = body[HEADER_SIZE] & _HELD_BITS if len(body) > HEADER_SIZE else 0
        if kind not in {Control.ACK, Control.NAK}:
            self.counters.foreign += 1
            return
        heard = self._sending.on_nak if kind == Control.NAK else self._sending.on_ack
        heard(ack, held, credit, self._now)

    def _on_damage(self) -> None:
        self.counters.damaged += 1
        self._patience.heard_damage()
        self._hello_patience.heard_damage()
        if self._hello_at is not None:
            self._hello_at = min(self._hello_at, self._now + self.settings.hello_gap)
        if self.state is State.OPENING:
            return
        self._sending.timeouts = 0  # somebody is there: it is for doubt to ask
        if self.state is State.OPEN and self._now - self._heard_at > self.settings.doubt:
            self._ask()
        if self._now >= self._nak_at:
            self._owes_ack = self._owes_nak = True
            self._nak_at = self._now + self.settings.nak_gap

    def _on_hello_frame(self, data: bytes) -> None:
        body = _PLAIN.open(data)
        hello = None if body is None else decode_hello(body)
        if hello is None:
            self._on_damage()
            return
        self.counters.frames_received += 1
        self._on_hello(hello)

    def _on_hello(self, hello: Hello) -> None:
        if hello.mine == self._nonce:
            self._on_echo()
            return
        is_known = self.peer is not None and hello.mine == self.peer.mine
        if self._is_established and not (is_known and hello.yours == self._nonce):
            self._on_restart()
            is_known = False
        if hello.is_used and hello.yours == self._nonce and not self._is_established:
            self._nonce = self._draw()  # it means a session from before our reset
            is_known = False
        if not is_known:
            self._meet(hello)
        self.peer = hello
        self._is_met = True
        if hello.yours == self._nonce:
            self._heard()
        if not (hello.is_open and hello.yours == self._nonce):
            self._owes_hello = True

    def _on_echo(self) -> None:
        """Our own HELLO; or a peer that drew the same nonce, so another one is drawn."""
        self._events.append(Looped())
        if not self._is_established:
            self._nonce = self._draw()

    def _on_restart(self) -> None:
        self.counters.restarts += 1
        self._events.append(Restarted(*self._sending.forget()))
        self._once.clear()
        self._nonce = self._draw()
        self._is_established = False
        self.state = State.OPENING
        self._ask()

    def _meet(self, hello: Hello) -> None:
        """A peer that was not known: both count from zero, under seals of their own."""
        mine = self._nonce
        self._is_used = False
        both = self.settings.capabilities & hello.capabilities
        is_strong = Capability.CRC_32 in both
        self._tx = seal_between(mine, hello.mine, is_strong)
        self._rx = seal_between(hello.mine, mine, is_strong)
        self._sending.begin(hello.window, hello.buffer)
        self._receiving.begin()

    def _heard(self) -> None:
        """The peer is there and knows us."""
        self._heard_at = self._now
        self._is_met = True
        if self.state is State.OPEN:
            return
        assert self.peer is not None
        is_news = self.state is State.OPENING or self._is_known_silent
        if is_news:
            self._events.append(Opened(self.peer, self._is_established))
        if self._is_established:
            self._sending.lose_all()
        self.state = State.OPEN
        self._is_established = True
        self._is_known_silent = False
        self._hello_at = None

    # -- silence ----------------------------------------------------------------------------------

    def _tick_open(self, now: float) -> None:
        deadline = self._sending.deadline()
        if deadline is not None and now >= deadline:
            self._sending.on_timeout(now)
        idle_at = self._idle_at()
        is_idle = idle_at is not None and now >= idle_at
        if is_idle or self._sending.timeouts >= self.settings.timeouts:
            self._ask()

    def _idle_at(self) -> float | None:
        peer = self.peer
        if not self.settings.idle or peer is None or Capability.SLEEPS in peer.capabilities:
            return None
        return self._heard_at + self.settings.idle

    def _ask(self) -> None:
        """Say HELLO until the peer answers."""
        if self.state is State.OPEN:
            self.state = State.ASKING
        self._owes_hello = True
        self._asked_at = self._now
        self._hello_patience.measured(0.0)
        self._hello_at = self._now + self._hello_patience.wait

    def _ask_again(self) -> None:
        unanswered = self._now - max(self._heard_at, self._asked_at)
        is_silent = unanswered >= self.settings.silence
        if is_silent and self._is_established and not self._is_known_silent:
            self._is_known_silent = True
            self.counters.silences += 1
            self._events.append(Silent())
        self._owes_hello = True
        self._hello_patience.failed()
        self._hello_at = self._now + self._hello_patience.wait

    def _unplugged(self) -> None:
        self.state = State.DOWN
        self._hello_at = None
        self._owes_hello = self._owes_ack = self._owes_nak = False
        self._deframer.clear()
        self._once.clear()

    # -- what goes out ----------------------------------------------------------------------------

    def _fill(self, parts: list[bytes]) -> None:
        """Frames as far as window, peer and wire have room; they carry the acknowledgement."""
        if self._owes_ack and (self._owes_nak or self._receiving.held):
            self._put(parts, self._acknowledgement())
        while self._once and self._may_send():
            channel, payload = self._once.popleft()
            self._put(parts, self._frame(channel << 5, 0, payload))
        while self._may_send():
            taken = self._sending.take()
            if taken is None:
                return
            sequence, outgoing = taken
            if outgoing.times:
                parts.append(END)  # what was lost may have lost its end
            self._put(
                parts, self._frame(outgoing.channel << 5 | RELIABLE, sequence, outgoing.payload)
            )
            self._sending.sent(outgoing, max(self._wire_free_at, self._now))

    def _frame(self, first: int, second: int, payload: bytes) -> bytes:
        receiving = self._receiving
        self._owes_ack = False
        header = bytes((first | receiving.credit, second << 4 | receiving.expected))
        return wrap(self._tx.close(header + payload))

    def _acknowledgement(self) -> bytes:
        held = self._receiving.held
        kind = Control.NAK if self._owes_nak else Control.ACK
        self._owes_nak = False
        return self._frame(0, kind, bytes((held,)) if held else b"")

    def _hello(self) -> bytes:
        self._owes_hello = False
        settings = self.settings
        hello = Hello(
            mine=self._nonce,
            yours=self.peer.mine if self.peer else 0,
            is_open=self.state is State.OPEN,
            is_used=self._is_used,
            capabilities=settings.capabilities,
            window=settings.window,
            payload_limit=settings.payload_limit,
            buffer=settings.buffer,
            baud=settings.baud,
            uid=settings.uid,
            firmware=settings.firmware,
        )
        parts: list[bytes] = []
        self._put(parts, END + wrap(_PLAIN.close(encode_hello(hello))))
        return parts[0]

    def _put(self, parts: list[bytes], frame: bytes) -> None:
        parts.append(frame)
        self.counters.frames_sent += 1
        self.counters.bytes_sent += len(frame)
        if self.settings.rate:
            free_at = max(self._wire_free_at, self._now)
            self._wire_free_at = free_at + len(frame) / self.settings.rate

    def _may_send(self) -> bool:
        return self._wire_free_at <= self._now + self.settings.ahead

    def _pace_at(self) -> float | None:
        """When the wire takes more, if it is full."""
        if not self.settings.rate or self._may_send() or self.is_idle:
            return None
        return self._wire_free_at - self.settings.ahead

    def _check_size(self, payload: bytes) -> None:
        if len(payload) > self.payload_limit:
            raise ValueError(f"{len(payload)} bytes, the peer takes {self.payload_limit}")

    def _draw(self) -> int:
        return self._rng.randint(1, 0xFFFF)

    def _take_events(self) -> list[Event]:
        events = self._events
        self._events = []
        return events
