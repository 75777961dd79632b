"""What one end has to say: queues by channel, and the frames that are not acknowledged yet.

A wire does not reorder. So once a frame is acknowledged, all that were sent before it and are not
acknowledged are lost, and go again at once; only for the last ones must a clock be asked.

    a frame is      until                                        counts as outstanding
    queued          the window has room                          no
    sent            acknowledged, or found lost                  yes
    lost            it is sent again                             no
    held            the frames before it are acknowledged        no
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from bridges.serial.frames import HEADER_SIZE, LARGEST_WINDOW, SEQUENCES, Channel
from bridges.serial.framing import longest_on_wire

if TYPE_CHECKING:
    from bridges.serial.patience import Patience

PRIORITY: Final = (Channel.MQTT_SN, Channel.RAW, Channel.TIME, Channel.LOG, Channel.FILES)
_CHECK: Final = 4  # bytes, the larger one


class Outgoing:
    """One message on its way; `order` counts transmissions, of all frames together."""

    __slots__ = ("channel", "is_held", "is_lost", "order", "payload", "sent_at", "size", "times")

    def __init__(self, channel: int, payload: bytes) -> None:
        self.channel = channel
        self.payload = payload
        self.size = longest_on_wire(len(payload) + HEADER_SIZE + _CHECK)
        self.order = 0
        self.times = 0
        self.sent_at = 0.0
        self.is_lost = False
        self.is_held = False


class Sending:
    """The sender's half of a session."""

    __slots__ = (
        "_failed_at",
        "_flight",
        "_lost",
        "_next",
        "_order",
        "_outstanding",
        "_patience",
        "_queued",
        "_queues",
        "_refused_at",
        "buffer",
        "credit",
        "depth",
        "resent",
        "timeouts",
    )

    def __init__(self, patience: Patience, depth: int) -> None:
        self.depth = depth  # messages that may be queued for one channel
        self.credit = LARGEST_WINDOW  # frames the other takes beyond its acknowledgement
        self.buffer = 0  # bytes that may be outstanding; 0: any
        self.resent = 0
        self.timeouts = 0  # in a row without a new acknowledgement
        self._patience = patience
        self._queues: dict[int, deque[Outgoing]] = {channel: deque() for channel in PRIORITY}
        self._queued = 0
        self._begin()

    @property
    def is_idle(self) -> bool:
        """Whether all has been said and acknowledged."""
        return not self._queued and not self._flight

    def room(self, channel: int) -> int:
        """Return how many messages more the channel's queue takes."""
        return max(0, self.depth - len(self._queues[channel]))

    def offer(self, channel: int, payload: bytes) -> bool:
        """Queue a message; False if there is no room."""
        queue = self._queues[channel]
        if len(queue) >= self.depth:
            return False
        queue.append(Outgoing(channel, payload))
        self._queued += 1
        return True

    def take(self) -> tuple[int, Outgoing] | None:
        """Return (sequence, frame) that is to be sent next, if one may be; see `sent`."""
        flight = self._flight
        if self._lost:
            at = next(at for at, frame in enumerate(flight) if frame.is_lost)
            if not self._has_place(flight[at]):
                return None
            self.resent += 1
        else:
            at = len(flight)
            if not self._queued or at >= self.credit or not self._launch():
                return None
        return (self._next - len(flight) + at) % SEQUENCES, flight[at]

    def sent(self, frame: Outgoing, at: float) -> None:
        """The frame has left, or will have at that time."""
        if frame.is_lost:
            frame.is_lost = False
            self._lost -= 1
        self._order += 1
        frame.order = self._order
        frame.sent_at = at
        frame.times += 1
        self._outstanding += frame.size

    def on_ack(self, ack: int, held: int, credit: int, now: float) -> None:
        """`ack` is the sequence that is expected next; bit n of `held` is the one n + 1 after it.

        What cannot be is passed over: it comes from before, or is damage that was not noticed.
        """
        flight = self._flight
        done = (ack - self._next + len(flight)) % SEQUENCES
        if done > len(flight):
            return
        self._credit(credit, now)
        self.timeouts = 0
        if not done and not held:
            return
        news = [flight.popleft() for _ in range(done)]
        if held and flight:
            news += self._newly_held(held)
        if news:
            self._on_arrival(news, now)

    def on_nak(self, ack: int, held: int, credit: int, now: float) -> None:
        """Something arrived damaged: the oldest frame goes again, if it can have been that."""
        self._failed_at = now  # what this acknowledges may have waited for it
        self._patience.heard_damage()
        self.on_ack(ack, held, credit, now)
        if self._flight and now - self._flight[0].sent_at >= self._patience.fastest:
            self._lose(self._flight[0])

    def deadline(self) -> float | None:
        """When patience ends, if something is waited for."""
        if self._flight:
            oldest = self._flight[0].sent_at
            if self._flight[0].is_lost:  # it waits for room: others are asked about
                if not self._outstanding:
                    return None
                oldest = min(
                    each.sent_at for each in self._flight if not each.is_lost and not each.is_held
                )
            return oldest + self._patience.wait
        if self._queued and not self.credit:
            return self._refused_at + self._patience.wait
        return None

    def on_timeout(self, now: float) -> None:
        """The deadline has come: the oldest frame goes again; its answer tells about the others.

        A peer that gave no credit is sent one frame all the same: its news may have been lost.
        """
        self.timeouts += 1
        self._failed_at = now
        self._patience.failed()
        if self._flight and self._flight[0].is_lost:
            self._lose_each()
        elif self._flight:
            self._lose(self._flight[0])
        else:
            self.credit = 1
            self._refused_at = now

    def lose_all(self) -> None:
        """The wire was cut: what was not acknowledged goes again."""
        self._lose_each()
        self.timeouts = 0

    def forget(self) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        """Begin again; return the (channel, payload) that were unacknowledged, and the unsent."""
        flight = [(frame.channel, frame.payload) for frame in self._flight]
        unsent = [
            (frame.channel, frame.payload) for queue in self._queues.values() for frame in queue
        ]
        for queue in self._queues.values():
            queue.clear()
        self._queued = 0
        self._begin()
        return flight, unsent

    def begin(self, window: int, buffer: int) -> None:
        """A session begins with a peer that takes so much; what is queued stays."""
        self._begin()
        self.credit = window
        self.buffer = buffer

    def _begin(self) -> None:
        self._flight: deque[Outgoing] = deque()
        self._next = 0
        self._order = 0
        self._lost = 0
        self._outstanding = 0
        self._refused_at = 0.0
        self._failed_at = -1.0
        self.timeouts = 0

    def _launch(self) -> bool:
        """The first of the most urgent queue takes off, if the peer's buffer takes it."""
        queue = next(queue for queue in self._queues.values() if queue)
        if not self._has_place(queue[0]):
            return False
        self._flight.append(queue.popleft())
        self._queued -= 1
        self._next = (self._next + 1) % SEQUENCES
        return True

    def _has_place(self, frame: Outgoing) -> bool:
        """Whether the peer's buffer takes it; a frame alone may always go."""
        outstanding = self._outstanding
        return not self.buffer or not outstanding or outstanding + frame.size <= self.buffer

    def _credit(self, credit: int, now: float) -> None:
        if not credit and self.credit:
            self._refused_at = now
        self.credit = min(credit, LARGEST_WINDOW)

    def _newly_held(self, held: int) -> list[Outgoing]:
        return [
            frame
            for at, frame in enumerate(self._flight)
            if at and held >> (at - 1) & 1 and not frame.is_held
        ]

    def _on_arrival(self, news: list[Outgoing], now: float) -> None:
        """The peer has these; what went before the newest of them, and is not there, is lost.

        Only the newest tells the round trip: the others may have waited for a lost answer.
        """
        newest = news[0]
        for frame in news:
            self._settle(frame)
            if frame.order > newest.order:
                newest = frame
        if newest.times == 1 and newest.sent_at > self._failed_at:
            self._patience.measured(max(now - newest.sent_at, 0.0))
        for frame in self._flight:
            if frame.order < newest.order:
                self._lose(frame)

    def _settle(self, frame: Outgoing) -> None:
        if frame.is_lost:
            frame.is_lost = False
            self._lost -= 1
        elif not frame.is_held:
            self._outstanding -= frame.size
        frame.is_held = True

    def _lose_each(self) -> None:
        for frame in self._flight:
            self._lose(frame)

    def _lose(self, frame: Outgoing) -> None:
        if not frame.is_lost and not frame.is_held:
            frame.is_lost = True
            self._lost += 1
            self._outstanding -= frame.size
