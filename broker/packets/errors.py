"""The peer's fault: one exception with the reason code for the wire and the rule that was broken.

Raised deep, caught once by the connection's owner, answered as the standard says. The sentence is
made here and is short and printable whatever the peer sent, so it may be logged and sent back.
"""

from enum import Enum

from broker.packets.codes import ReasonCode

_LONGEST_FACT = 60


class ProtocolViolation(Exception):  # noqa: N818 - not an error of ours: the peer's deed
    """The peer broke `rule`: a statement id ("MQTT-3.1.2-3") or a section ("3.3.2.3.4").

    `reason` is what MQTT 5 answers (CONNACK or DISCONNECT); MQTT 3.1.1 closes. `facts` say what
    was found, in the order the sentence needs them.
    """

    def __init__(self, reason: ReasonCode, rule: str, *facts: object) -> None:
        super().__init__(reason, rule, *facts)
        self.reason = reason
        self.rule = rule
        self.facts = facts

    def __str__(self) -> str:
        """Make the one sentence, e.g. "Malformed packet: PUBREL, flags, 3 (MQTT-2.1.3-1)"."""
        what = self.reason.name.replace("_", " ").capitalize()
        found = ", ".join(_printable(fact) for fact in self.facts)
        return f"{what}: {found} ({self.rule})" if found else f"{what} ({self.rule})"


def malformed(rule: str, *facts: object) -> ProtocolViolation:
    """Make the violation for bytes that cannot be read as the packet they claim to be."""
    return ProtocolViolation(ReasonCode.MALFORMED_PACKET, rule, *facts)


def misuse(rule: str, *facts: object) -> ProtocolViolation:
    """Make the violation for readable bytes that the protocol does not allow (Protocol Error)."""
    return ProtocolViolation(ReasonCode.PROTOCOL_ERROR, rule, *facts)


def _printable(fact: object) -> str:
    if isinstance(fact, Enum):
        return fact.name
    text = fact if isinstance(fact, str) else repr(fact)
    if len(text) > _LONGEST_FACT:
        text = text[:_LONGEST_FACT] + "..."
    return text if text.isprintable() else ascii(text)
