"""A first sketch: lines `topic value`, as `Serial.println("temp/1 21.5")` makes them.

It is never told anything: a message has been acknowledged when it has left the device, and one of
QoS 1 or 2 is not taken. Lines that come in the same form are messages for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridges.serial.events import Reading
from bridges.serial.frames import Channel
from bridges.serial.modes import LONGEST_LINE, TextLines, Unframed, reading
from firmware_sim.clients.client import Acknowledged, Arrived, Asleep, Collected, Message, Up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmware_sim.clients.client import ClientEvent


class TextClient:
    """A ClientMachine without a protocol."""

    def __init__(self) -> None:
        self.is_up = False
        self._wire = Unframed(TextLines())
        self._events: list[ClientEvent] = []

    @property
    def is_idle(self) -> bool:
        """Nothing ever waits for an answer."""
        return True

    def connect(self, now: float) -> None:  # noqa: ARG002 - a Client
        """See Client: nobody has to be asked."""
        if not self.is_up:
            self.is_up = True
            self._events.append(Up())

    def publish(self, message: Message, token: int, now: float) -> bool:
        """See Client; False as well for what is no reading in one line."""
        line = message.topic.encode() + b" " + message.payload
        is_taken = message.qos <= 0 and len(line) <= LONGEST_LINE and _means(line, message)
        if not is_taken or not self._wire.send(Channel.RAW, line, now):
            return False
        self._events.append(Acknowledged(token))
        return True

    def log(self, text: str, now: float) -> None:
        """A line that is no reading."""
        self._wire.send(Channel.RAW, text.encode(), now)

    def subscribe(self, topic_filter: str, qos: int, now: float) -> None:
        """See Client: the gateway alone says what comes."""

    def sleep(self, duration: float, now: float) -> None:  # noqa: ARG002 - a Client
        """See Client."""
        self.is_up = False
        self._events.append(Asleep())

    def wake(self, now: float) -> None:  # noqa: ARG002 - a Client
        """See Client."""
        self._events.append(Collected())

    def disconnect(self, now: float) -> None:  # noqa: ARG002 - a Client
        """See Client."""
        self.is_up = False

    def take_events(self) -> Sequence[ClientEvent]:
        """See Client."""
        events, self._events = self._events, []
        return events

    # -- the machine's verbs ----------------------------------------------------------------------

    def plugged(self, now: float) -> None:
        """See Machine."""
        self._wire.plugged(now)

    def receive(self, data: bytes, now: float) -> None:
        """See Machine."""
        for event in self._wire.receive(data, now):
            if isinstance(event, Reading):
                self._events.append(Arrived(Message(event.topic, event.value)))

    def tick(self, now: float) -> None:
        """See Machine."""

    def next_deadline(self) -> None:
        """See Machine: it does nothing by itself."""

    def data_to_send(self) -> bytes:
        """See Machine."""
        return self._wire.data_to_send()


def _means(line: bytes, message: Message) -> bool:
    """Whether the gateway reads the line as this very message."""
    return reading(line) == Reading(message.topic, message.payload)
