"""The peer's fault, as far as bytes go: a message that cannot be read."""

_LONGEST_FACT = 40


class UnreadableError(Exception):
    """A datagram is no MQTT-SN message. `what` is a fixed phrase to count by, `facts` what was
    found; the sentence is short and printable whatever the peer sent.
    """

    def __init__(self, what: str, *facts: object) -> None:
        super().__init__(what, *facts)
        self.what = what
        self.facts = facts

    def __str__(self) -> str:
        """Make the one sentence, e.g. "reserved message type: 3"."""
        found = ", ".join(ascii(fact)[:_LONGEST_FACT] for fact in self.facts)
        return f"{self.what}: {found}" if found else self.what
