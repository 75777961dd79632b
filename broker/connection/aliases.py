"""Topic aliases: two tables that live as long as the connection [MQTT-3.3.2-7], one for each
direction.
"""

from collections import OrderedDict

from broker.packets.codes import ReasonCode
from broker.packets.errors import ProtocolViolation


class InboundAliases:
    """What the client's aliases stand for. `maximum` is what the broker announced."""

    __slots__ = ("_topics", "maximum")

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._topics: dict[int, str] = {}

    def resolve(self, alias: int, topic: str) -> str:
        """Return the topic meant; a `topic` that is not empty sets what the alias stands for."""
        if not 0 < alias <= self.maximum:  # [MQTT-3.3.2-8] [MQTT-3.3.2-9]
            raise ProtocolViolation(
                ReasonCode.TOPIC_ALIAS_INVALID, "MQTT-3.3.2-9", f"topic alias {alias}"
            )
        if topic:
            self._topics[alias] = topic
            return topic
        known = self._topics.get(alias)
        if known is None:
            raise ProtocolViolation(
                ReasonCode.PROTOCOL_ERROR, "3.3.2.3.4", f"topic alias {alias} was never set"
            )
        return known


class OutboundAliases:
    """The aliases the broker gives to the topics a client receives most recently.

    `maximum` is what the client announced [MQTT-3.1.2-26].
    """

    __slots__ = ("_aliases", "_maximum")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._aliases: OrderedDict[str, int] = OrderedDict()  # least recently used first

    def assign(self, topic: str) -> tuple[int, bool]:
        """Return (alias, whether the topic must be sent along to set it)."""
        alias = self._aliases.get(topic)
        if alias is not None:
            self._aliases.move_to_end(topic)
            return alias, False
        if len(self._aliases) < self._maximum:
            alias = len(self._aliases) + 1
        else:
            _, alias = self._aliases.popitem(last=False)
        self._aliases[topic] = alias
        return alias, True

    def forget(self) -> None:
        """Start anew: a packet that should have set an alias was not sent."""
        self._aliases.clear()
