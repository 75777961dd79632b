"""QoS 1 and 2 towards one client: what has been sent and is not yet done (section 4.3), in two
tables by packet id.

    state      left by                                 awaits the answer to
    published  PUBACK, PUBREC (both free the message)  PUBLISH
    released   PUBCOMP                                 PUBREL

Both tables keep the order in which their packets were first sent, which is the order of re-sending
(section 4.6).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.packets.publication import Publication
    from broker.session.outgoing import Outgoing
    from broker.session.subscription import Subscription

LAST_PACKET_ID = 65_535
QOS_2 = 0x04  # the bit in a PUBLISH packet's first byte that only QoS 2 sets


class Step(Enum):
    """What an acknowledgement means for the conversation."""

    DONE = "done"  # the message is finished, its packet id is free again
    RELEASE = "release"  # answer with PUBREL
    UNKNOWN = "unknown"  # no such packet id in that state
    MISMATCH = "mismatch"  # the packet id belongs to a message of the other QoS


class Inflight:
    """The unacknowledged messages of one session and their packet identifiers."""

    __slots__ = ("_last_id", "published", "released", "unsent")

    def __init__(self) -> None:
        self.published: dict[int, Outgoing] = {}
        self.released: dict[int, None] = {}
        self.unsent: dict[int, None] = {}  # those published that this connection has not seen yet
        self._last_id = 0

    def __len__(self) -> int:
        return len(self.published) + len(self.released)

    @property
    def has_qos_2(self) -> bool:
        """Whether a QoS 2 message is among them."""
        return bool(self.released) or any(each[2] & QOS_2 for each in self.published.values())

    def start(self, outgoing: Outgoing, window: int) -> int:
        """Take a free packet id for a message that is sent for the first time [MQTT-2.2.1-4].

        Returns 0 when `window` messages are unacknowledged already [MQTT-3.3.4-9].
        """
        published = self.published
        released = self.released
        if len(published) + len(released) >= window:
            return 0
        packet_id = self._last_id + 1
        while packet_id > LAST_PACKET_ID or packet_id in published or packet_id in released:
            packet_id = packet_id + 1 if packet_id < LAST_PACKET_ID else 1
        self._last_id = packet_id
        published[packet_id] = outgoing
        return packet_id

    def start_run(
        self, messages: list[Publication], subscription: Subscription, first: int, window: int
    ) -> list[int]:
        """Take packet ids for several messages, all or none; see `start`."""
        published = self.published
        released = self.released
        if len(published) + len(released) + len(messages) > window:
            return []
        packet_ids = []
        packet_id = self._last_id
        for message in messages:
            packet_id += 1
            while packet_id > LAST_PACKET_ID or packet_id in published or packet_id in released:
                packet_id = packet_id + 1 if packet_id < LAST_PACKET_ID else 1
            published[packet_id] = (message, subscription, first)
            packet_ids.append(packet_id)
        self._last_id = packet_id
        return packet_ids

    def abandon(self, packet_id: int) -> None:
        """Forget a message that could not be sent at all."""
        del self.published[packet_id]

    def withdraw(self, packet_id: int) -> None:
        """Forget a message that the client may have, if it has not answered yet."""
        self.published.pop(packet_id, None)
        self.unsent.pop(packet_id, None)

    def begin_again(self) -> None:
        """A new connection: every PUBLISH without an answer is to be sent again, in the order of
        the first time [MQTT-4.4.0-1].
        """
        self.unsent = dict.fromkeys(self.published)

    def next_unsent(self) -> tuple[int, Outgoing]:
        """Take the oldest message that is to be sent again; there must be one."""
        packet_id = next(iter(self.unsent))
        del self.unsent[packet_id]
        return packet_id, self.published[packet_id]

    def on_puback(self, packet_id: int) -> Step:
        """The client owns a QoS 1 message now (or refuses it): either way it is done."""
        outgoing = self.published.get(packet_id)
        if outgoing is None:
            return Step.UNKNOWN
        if outgoing[2] & QOS_2:
            return Step.MISMATCH
        self._answered(packet_id)
        return Step.DONE

    def on_pubacks(self, packet_ids: list[int]) -> Step:
        """Several of them; MISMATCH at the first that is for a QoS 2 message."""
        published = self.published
        for packet_id in packet_ids:
            outgoing = published.get(packet_id)
            if outgoing is None:
                continue
            if outgoing[2] & QOS_2:
                return Step.MISMATCH
            del published[packet_id]
            if self.unsent:
                self.unsent.pop(packet_id, None)
        return Step.DONE

    def on_pubrec(self, packet_id: int, refused: bool) -> Step:
        """The client owns a QoS 2 message: from here on only PUBREL is sent [MQTT-4.3.3-4]
        [MQTT-4.3.3-6].
        """
        outgoing = self.published.get(packet_id)
        if outgoing is None:
            return Step.RELEASE if packet_id in self.released else Step.UNKNOWN
        if not outgoing[2] & QOS_2:
            return Step.MISMATCH
        self._answered(packet_id)
        if refused:  # [MQTT-4.4.0-2]
            return Step.DONE
        self.released[packet_id] = None
        return Step.RELEASE

    def on_pubcomp(self, packet_id: int) -> Step:
        """The exchange of a QoS 2 message is complete."""
        if packet_id in self.released:
            del self.released[packet_id]
            return Step.DONE
        return Step.MISMATCH if packet_id in self.published else Step.UNKNOWN

    def restore(self, published: list[tuple[int, Outgoing]], released: list[int]) -> None:
        """Take over what an earlier broker process had in flight, in the order of sending."""
        self.published = dict(published)
        self.released = dict.fromkeys(released)
        self._last_id = max([*self.published, *self.released], default=0)

    def unreleased(self) -> Iterator[tuple[int, Outgoing]]:
        """The messages whose PUBLISH has no answer yet, in their original order."""
        return iter(self.published.items())

    def _answered(self, packet_id: int) -> None:
        del self.published[packet_id]
        if self.unsent:
            self.unsent.pop(packet_id, None)
