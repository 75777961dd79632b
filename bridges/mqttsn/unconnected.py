"""QoS -1: messages of those who do not connect (section 6.8), through one session of the gateway
for each identity that may do so.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from bridges.mqttsn.answers import is_topic
from bridges.mqttsn.ports import Message, Opening
from bridges.mqttsn.topics import shared_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.mqttsn.packets import Publish
    from bridges.mqttsn.policy import Policy
    from bridges.mqttsn.ports import Address, Admission, Broker, Identity, Session

_MOST_IDENTITIES = 16
_MOST_WAITING = 100  # messages while the session is being opened


class Unconnected:
    """Publishes what comes without a connection."""

    __slots__ = ("_admission", "_broker", "_count", "_posts", "_predefined", "_topic_levels")

    def __init__(
        self, policy: Policy, broker: Broker, admission: Admission, count: Callable[[str], None]
    ) -> None:
        self._broker = broker
        self._admission = admission
        self._count = count
        self._predefined = policy.predefined
        self._topic_levels = policy.max_topic_levels
        self._posts: dict[Identity, Post] = {}

    def publish(self, address: Address, packet: Publish) -> None:
        """Pass on a message of QoS -1. Nothing is answered, whatever it is."""
        topic = shared_name(self._predefined, packet.flags.topic_id_type, packet.topic_id)
        identity = self._admission.admit_unconnected(address)
        if topic is None or not is_topic(topic, self._topic_levels):
            self._count("QoS -1 refused: no topic")
        elif identity is None or (post := self._post(identity)) is None:
            self._count("QoS -1 refused: not admitted")
        else:
            post.publish(Message(topic, packet.data, 0, packet.flags.retain))

    def _post(self, identity: Identity) -> Post | None:
        """The session to publish through; a closed one is opened again."""
        post = self._posts.get(identity)
        if post is None or post.is_closed:
            if post is None and len(self._posts) >= _MOST_IDENTITIES:
                return None
            post = self._posts[identity] = Post(self._count)
            post.session = self._broker.open(Opening(identity), post)
        return post


class Post:
    """A session that only publishes; its Receiver."""

    __slots__ = ("_count", "_is_open", "_waiting", "is_closed", "session")

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._is_open = False
        self._waiting: deque[Message] = deque()
        self.is_closed = False
        self.session: Session | None = None

    def publish(self, message: Message) -> None:
        """Publish now, or when the session is open."""
        if self._is_open and self.session is not None:
            self.session.publish(message)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append(message)
        else:
            self._count("QoS -1 dropped: no session yet")

    def on_opened(self, session_present: bool) -> None:
        """See Receiver."""
        del session_present  # a clean session has nothing before it
        self._is_open = True
        while self._waiting:
            self.publish(self._waiting.popleft())

    def on_refused(self, reason: int) -> None:
        """See Receiver."""
        self._count(f"QoS -1: the broker refuses the session with 0x{reason:02x}")
        self.on_closed()

    def on_closed(self) -> None:
        """See Receiver."""
        for _ in self._waiting:
            self._count("QoS -1 dropped: no session")
        self._waiting.clear()
        self.is_closed = True

    # It asks for nothing that the following would answer.

    def on_publish(self, message: Message) -> None:
        """See Receiver."""

    def on_pubrel(self, msg_id: int) -> None:
        """See Receiver."""

    def on_puback(self, msg_id: int, reason: int) -> None:
        """See Receiver."""

    def on_pubrec(self, msg_id: int, reason: int) -> None:
        """See Receiver."""

    def on_pubcomp(self, msg_id: int) -> None:
        """See Receiver."""

    def on_suback(self, msg_id: int, reason: int) -> None:
        """See Receiver."""

    def on_unsuback(self, msg_id: int) -> None:
        """See Receiver."""
