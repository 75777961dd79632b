"""One client's conversation, without I/O: cuts packets, keeps the state, gathers what goes out.

`receive` handles everything a read brought in one pass; what the broker answers gathers in the
outbox and leaves as one write when the link asks for `data_to_send`. The outbox is bounded: over
its limit the connection is `blocked`, QoS 0 is shed and QoS 1 and 2 wait in the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.connection.states import State
from broker.packets.codes import MQTT_3_1_1, MQTT_5, ReasonCode
from broker.packets.encode import encode
from broker.packets.errors import ProtocolViolation
from broker.packets.primitives import encode_varint
from broker.packets.properties import Property
from broker.packets.publication import DUP, PUBLISH, QOS_BITS
from broker.packets.reader import LARGEST_PACKET, Reader
from broker.packets.types import Connack, Disconnect, Packet

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.clock import Clock
    from broker.connection.aliases import InboundAliases, OutboundAliases
    from broker.connection.ports import Host, Origin, RunHandler, Sink, Traffic
    from broker.packets.publication import Publication
    from broker.packets.types import Will
    from broker.session.session import Session

KEEP_ALIVE_GRACE = 1.5  # [MQTT-3.1.2-22]
CHUNK = (
    65_536  # bytes handed to the link at once while a backlog drains, so that others get their turn
)
MOST_HELD = 1_048_576  # bytes of packets that may come between a CONNECT and its CONNACK
QOS_2 = 0x04  # in a PUBLISH packet's first byte
# Why nothing is read from the peer: it does not read its answers, its CONNECT is being decided
# about, or the store is behind.
OUTBOX, HELD, STORE = 1, 2, 4
NO_RUNS: dict[int, RunHandler] = {}
_PROBLEM_PROPERTIES = (Property.REASON_STRING, Property.USER_PROPERTY)


class Connection:
    """What is known about one client while its link lasts."""

    __slots__ = (
        "_clock",
        "_deaf_to",
        "_held",
        "_host",
        "_outbox",
        "_outbox_size",
        "_reader",
        "_stalled_at",
        "_traffic",
        "_unsent_at_stall",
        "aliases_in",
        "aliases_out",
        "armed_for",
        "authentication",
        "awaiting",
        "blocked",
        "client_id",
        "connect_deadline",
        "handlers",
        "hold_back",
        "keep_alive",
        "last_received",
        "maximum_packet_size",
        "origin",
        "outbox_limit",
        "paused",
        "problem_information",
        "runs",
        "session",
        "sink",
        "stall_timeout",
        "state",
        "username",
        "version",
        "will",
    )

    def __init__(
        self,
        origin: Origin,
        sink: Sink,
        host: Host,
        clock: Clock,
        traffic: Traffic,
        maximum_packet_size: int,
        connect_deadline: float,
        outbox_limit: int,
        stall_timeout: float,
    ) -> None:
        self.origin = origin
        self.sink = sink
        self._host = host
        self._clock = clock
        self._traffic = traffic
        self._reader = Reader(maximum_packet_size)
        self._outbox: list[bytes] = []
        # `awaiting` is the journal's position that the last answer held back waits for, `_deaf_to`
        # says why nothing is read from the peer.
        self._outbox_size = self._unsent_at_stall = self.awaiting = self._deaf_to = 0
        self._held: bytearray | None = None
        self._stalled_at: float | None = None
        self.outbox_limit, self.stall_timeout = outbox_limit, stall_timeout  # bytes, seconds
        self.connect_deadline: float | None = connect_deadline
        self.armed_for: int | None = None
        # Nothing more is taken from the session, or taken by the link.
        self.blocked = self.paused = False
        # Takes packets that must not go out before something is stored; None: none has to wait.
        self.hold_back: Callable[[Connection, list[bytes]], None] | None = None
        self.state = State.AWAITING_CONNECT
        self.handlers = host.tables[State.AWAITING_CONNECT]
        self.runs = NO_RUNS
        self.version = MQTT_3_1_1
        self.client_id = ""
        self.username: str | None = None
        self.session: Session | None = None
        self.will: Will | None = None
        self.keep_alive = 0  # seconds; 0 = none
        self.last_received = clock.now
        self.maximum_packet_size = LARGEST_PACKET  # the client's [MQTT-3.1.2-24]
        self.problem_information = True
        self.aliases_in: InboundAliases | None = None
        self.aliases_out: OutboundAliases | None = None
        self.authentication: object | None = None

    # -- the machine's verbs ----------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Handle what a read brought; `b""` says that the link is gone. Never raises."""
        self._clock.now = self.last_received = now
        if not data:
            self.attempt(self._lose)
            return
        traffic = self._traffic
        traffic.bytes_received += len(data)
        try:
            data, packets = self._reader.cut(data)
            traffic.messages_received += len(packets)
            at = 0
            while at < len(packets):
                first, start, stop = packets[at]
                run = self.runs.get(first)
                if run is not None:
                    at = run(self, data, packets, at)
                else:
                    self.handlers[first >> 4](self, first, data, start, stop)
                    at += 1
            if self._reader.violation is not None and self.state is not State.CLOSED:
                raise self._reader.violation  # noqa: TRY301  answered like one from deep below
        except ProtocolViolation as violation:
            self._host.on_violation(self, violation)
        except Exception as fault:  # noqa: BLE001  a fault of ours ends this connection, not all
            self._host.on_fault(self, fault)

    def attempt(self, step: Callable[[], None]) -> None:
        """Do something for this client outside `receive`, with the same net below it."""
        try:
            step()
        except ProtocolViolation as violation:
            self._host.on_violation(self, violation)
        except Exception as fault:  # noqa: BLE001  as in `receive`
            self._host.on_fault(self, fault)

    def data_to_send(self) -> bytes:
        """Take everything that waits to go out."""
        outbox = self._outbox
        self._traffic.messages_sent += len(outbox)
        data = outbox[0] if len(outbox) == 1 else b"".join(outbox)
        self._traffic.bytes_sent += len(data)
        outbox.clear()
        self._outbox_size = 0
        self.blocked = False
        if self._deaf_to & OUTBOX:
            self._listen(OUTBOX)
        return data

    def next_deadline(self) -> float | None:
        """The instant at which `tick` has something to judge."""
        if self.state is State.CLOSED:
            return None
        deadline = self.connect_deadline
        if deadline is None and self.keep_alive and not self._deaf_to & STORE:
            deadline = self.last_received + self.keep_alive * KEEP_ALIVE_GRACE
        if self._stalled_at is not None:
            stall = self._stalled_at + self.stall_timeout
            deadline = stall if deadline is None else min(deadline, stall)
        return deadline

    def tick(self, now: float) -> None:
        """End the connection if its deadline has passed."""
        self._clock.now = now
        deadline = self.next_deadline()
        if deadline is not None and now >= deadline and not self._has_progressed(now):
            self.attempt(lambda: self._host.on_timeout(self))

    # -- what the link reports --------------------------------------------------------------------

    def pause(self, now: float) -> None:
        """The peer reads too slowly: the link takes nothing until `go_on`."""
        self.paused = True
        self._stalled_at = now
        self._unsent_at_stall = self.sink.unsent()
        self._host.arm(self)

    def go_on(self, now: float) -> None:
        """The link takes bytes again."""
        self._clock.now = now
        self.paused = False
        self._stalled_at = None

    def drained(self) -> None:
        """The outbox was taken: send more of what waits in the session."""
        session = self.session
        if session is None:
            return
        if session.queueing:
            self.attempt(session.pump)
        if session.lending is not None:
            self.attempt(session.lending.pump)

    @property
    def sated(self) -> bool:
        """Whether enough for this turn waits: a long backlog must not hold up the others."""
        return self._outbox_size >= CHUNK

    @property
    def takes_runs(self) -> bool:
        """Whether several messages can go at once: with topic aliases each is made by itself."""
        return self.aliases_out is None

    def next_turn(self) -> None:
        """Be `drained` at the end of the next loop turn, also with nothing to send."""
        if not self._outbox:
            self.sink.wake()

    @property
    def stalled(self) -> bool:
        """Whether the peer has not taken a byte for as long as is allowed."""
        return (
            self._stalled_at is not None
            and self._clock.now >= self._stalled_at + self.stall_timeout
        )

    # -- what the broker sends --------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Add one packet to the outbox."""
        outbox = self._outbox
        if not outbox:
            self.sink.wake()
        outbox.append(frame)
        self._outbox_size += len(frame)
        if self._outbox_size >= self.outbox_limit:
            self._overflow()

    def send_all(self, frames: list[bytes]) -> None:
        """Add several packets to the outbox."""
        if not frames:
            return
        if not self._outbox:
            self.sink.wake()
        self._outbox += frames
        self._outbox_size += sum(map(len, frames))
        if self._outbox_size >= self.outbox_limit:
            self._overflow()

    def send_packet(self, packet: Packet) -> bool:
        """Encode and send; False when the client cannot take the packet at all."""
        frame = self.encoded(packet)
        if frame:
            self.send(frame)
        return bool(frame)

    def encoded(self, packet: Packet) -> bytes:
        """The packet without what this client does not want or cannot take; b"" when it cannot take
        it at all.
        """
        properties = getattr(packet, "properties", None)
        if properties and not self.problem_information and not _always_explains(packet):
            for key in _PROBLEM_PROPERTIES:  # [MQTT-3.1.2-29]
                properties.pop(key, None)
        frame = encode(packet, self.version)
        if len(frame) > self.maximum_packet_size and properties:
            for key in _PROBLEM_PROPERTIES:  # [MQTT-3.2.2-19] and its like for every packet
                properties.pop(key, None)
            frame = encode(packet, self.version)
        return b"" if len(frame) > self.maximum_packet_size else frame  # [MQTT-3.1.2-24]

    def send_publication(
        self,
        publication: Publication,
        first: int,
        packet_id: int,
        identifiers: tuple[int, ...],
    ) -> bool:
        """Send a PUBLISH; False when it is larger than the client accepts."""
        if first & (QOS_2 | DUP) == QOS_2 and self.hold_back is not None:
            return self._send_when_stored(publication, first, packet_id, identifiers)
        if identifiers or self.aliases_out is not None:
            frame = self._frame_for_one(publication, first, packet_id, identifiers)
        else:
            frame = publication.encode(first, self.version, packet_id, self._clock.now)
        size = len(frame)
        if size > self.maximum_packet_size:  # [MQTT-3.1.2-25]
            self._drop()
            return False
        traffic = self._traffic
        traffic.delivered += 1
        traffic.publish_bytes_sent += size
        outbox = self._outbox  # as in `send`; a call less for every message
        if not outbox:
            self.sink.wake()
        outbox.append(frame)
        waiting = self._outbox_size = self._outbox_size + size
        if waiting >= self.outbox_limit:
            self._overflow()
        return True

    def send_run(
        self, messages: list[Publication], first: int, packet_ids: list[int] | None
    ) -> bool:
        """Send several PUBLISHes at once; False, and nothing is sent, if one is too large, they are
        too many for the outbox, or this client takes aliases.
        """
        if self.aliases_out is not None or (first & QOS_2 and self.hold_back is not None):
            return False
        version, now = self.version, self._clock.now
        if packet_ids is None:
            frames = [each.encode(first, version, 0, now) for each in messages]
        else:
            pairs = zip(messages, packet_ids, strict=True)
            frames = [each.encode(first, version, packet_id, now) for each, packet_id in pairs]
        sizes = list(map(len, frames))
        size = sum(sizes)
        if max(sizes) > self.maximum_packet_size or self._outbox_size + size >= self.outbox_limit:
            return False
        traffic = self._traffic
        traffic.delivered += len(frames)
        traffic.publish_bytes_sent += size
        self.send_all(frames)
        return True

    def send_pubrel(self, packet_id: int) -> None:
        """Send a PUBREL."""
        self.send_when_stored([b"\x62\x02" + packet_id.to_bytes(2, "big")])

    def send_when_stored(self, frames: list[bytes]) -> None:
        """Send a step of a QoS 2 exchange when what it answers will not be forgotten."""
        if self.hold_back is None:
            self.send_all(frames)
        else:
            self.hold_back(self, frames)

    def send_held_back(self, frames: list[bytes]) -> None:
        """What they waited for is stored: send them, if there is still somebody to send them to."""
        if self.state is not State.CLOSED:
            self.send_all(frames)
        else:
            self._traffic.delivered -= sum(frame[0] & 0xF0 == PUBLISH for frame in frames)

    def slow_down(self, held: bool) -> None:
        """Stop or go on reading from a client that brings more than can be stored."""
        if held:
            self._turn_deaf(STORE)
        elif self._deaf_to & STORE:
            self._listen(STORE)
            self.last_received = self._clock.now  # it could not be heard meanwhile
            self._host.arm(self)

    # -- changes of state -------------------------------------------------------------------------

    def enter(self, state: State) -> None:
        """Take a new state; what was held while its decision was made is handled now."""
        self.state = state
        self.handlers = self._host.tables[state]
        self.runs = self._host.runs if state is State.CONNECTED else NO_RUNS
        if state is State.CONNECTED:
            self.connect_deadline = None  # from here on the keep alive counts
            self.last_received = self._clock.now
        if state in (State.CONNECTED, State.CLOSED):
            self._host.arm(self)  # it may end sooner, or not at all
        if self._held is not None and state is not State.DECIDING:
            self._listen(HELD)
            self._handle_held()

    def hold(self, first: int, data: bytes, start: int, end: int) -> None:
        """Keep a packet that arrived before the decision about its CONNECT, and read no further.

        It is kept as the bytes it came as: a read full of tiny packets must not become a heap of
        objects while somebody's password is checked.
        """
        if self._held is None:
            self._held = bytearray()
            self._turn_deaf(HELD)
        self._held += bytes((first,)) + encode_varint(end - start) + data[start:end]
        if len(self._held) > MOST_HELD:
            raise ProtocolViolation(ReasonCode.QUOTA_EXCEEDED, "4.4", "too much before the CONNACK")

    def close(self) -> None:
        """End the conversation; what is in the outbox still goes out."""
        self.enter(State.CLOSED)
        self.sink.close()

    def abort(self) -> None:
        """End the conversation at once."""
        self.enter(State.CLOSED)
        unsent = [frame[0] & QOS_BITS for frame in self._outbox if frame[0] & 0xF0 == PUBLISH]
        self._traffic.delivered -= len(unsent)
        self._traffic.lose("unsent_qos_0", unsent.count(0))  # the session keeps the others
        self._outbox.clear()
        self.sink.abort()

    # -- helpers ----------------------------------------------------------------------------------

    def _lose(self) -> None:
        self._host.on_lost(self)

    def _handle_held(self) -> None:
        held, self._held = self._held, None
        data, packets = Reader().cut(bytes(held or b""))
        for first, start, stop in packets:
            self.handlers[first >> 4](self, first, data, start, stop)

    def _overflow(self) -> None:
        if not self.paused:
            self.sink.flush()
        self.blocked = self._outbox_size >= self.outbox_limit
        if self._outbox_size >= self.outbox_limit + CHUNK:
            # Only answers get past the limit: who does not read them is not listened to either.
            self._turn_deaf(OUTBOX)

    def _turn_deaf(self, why: int) -> None:
        if not self._deaf_to:
            self.sink.hold_reading(True)
        self._deaf_to |= why

    def _listen(self, why: int) -> None:
        """One reason not to read has gone."""
        self._deaf_to &= ~why
        if not self._deaf_to:
            self.sink.hold_reading(False)

    def _send_when_stored(
        self, publication: Publication, first: int, packet_id: int, identifiers: tuple[int, ...]
    ) -> bool:
        """A QoS 2 PUBLISH of a durable session: its packet id must be known after a crash, or the
        message would come twice. Others may overtake it, so it sets or uses no topic alias.
        """
        assert self.hold_back is not None
        if identifiers and self.version == MQTT_5:
            frame = publication.encode_for_one(
                first, packet_id, self._clock.now, identifiers, 0, True
            )
        else:
            frame = publication.encode(first, self.version, packet_id, self._clock.now)
        if len(frame) > self.maximum_packet_size:  # [MQTT-3.1.2-25]
            self._traffic.lose("too_large_for_client")
            return False
        self._traffic.delivered += 1
        self._traffic.publish_bytes_sent += len(frame)
        self.hold_back(self, [frame])
        return True

    def _has_progressed(self, now: float) -> bool:
        """Whether a stalled peer has taken bytes since the last look: slow is not stuck."""
        if self._stalled_at is None or not self.stalled:
            return False
        unsent = self.sink.unsent()
        if unsent >= self._unsent_at_stall:
            return False
        self._stalled_at, self._unsent_at_stall = now, unsent
        self._host.arm(self)
        return True

    def _frame_for_one(
        self, publication: Publication, first: int, packet_id: int, identifiers: tuple[int, ...]
    ) -> bytes:
        if self.version != MQTT_5:
            return publication.encode(first, self.version, packet_id, self._clock.now)
        alias, with_topic = 0, True
        if self.aliases_out is not None:
            alias, with_topic = self.aliases_out.assign(publication.topic)
        return publication.encode_for_one(
            first, packet_id, self._clock.now, identifiers, alias, with_topic
        )

    def _drop(self) -> None:
        self._traffic.lose("too_large_for_client")
        if self.aliases_out is not None:
            self.aliases_out.forget()


def _always_explains(packet: Packet) -> bool:
    """CONNACK and DISCONNECT (as PUBLISH) may carry reason strings even if problem information was
    not requested.
    """
    return isinstance(packet, Connack | Disconnect)
