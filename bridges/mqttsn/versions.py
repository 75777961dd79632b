"""Which version of MQTT a broker speaks: 5 is tried first and 3.1.1 then, unless one is chosen.

what the broker does at a CONNECT      what is done
answers in the words of the version    it speaks that one, from now on
refuses the version, or answers in     the other one is tried
  the words of the other
hangs up, or says nothing              once: the same again; twice in a row: the other one is
                                       tried, unless it is known to speak this one
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker.packets.codes import MQTT_3_1_1, MQTT_5, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES: Final = {MQTT_3_1_1: "3.1.1", MQTT_5: "5"}
MOST_ATTEMPTS: Final = 4  # of a session that was never open: 5, 5, 3.1.1, 3.1.1
_MOST_SILENCES: Final = 2
_MOST_WAITING: Final = 1000
_OTHER: Final = {MQTT_3_1_1: MQTT_5, MQTT_5: MQTT_3_1_1}
_CONNACK_3_1_1: Final = 2  # bytes; of MQTT 5 there are more

# The refusal of a version: return code 1 of MQTT 3.1.1, the reason of MQTT 5.
_REFUSALS: Final = frozenset({0x01, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION})

# The other return codes of MQTT 3.1.1 (section 3.2.2.3) as reasons of MQTT 5.
REASONS: Final = {
    0x02: ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
    0x03: ReasonCode.SERVER_UNAVAILABLE,
    0x04: ReasonCode.BAD_USER_NAME_OR_PASSWORD,
    0x05: ReasonCode.NOT_AUTHORIZED,
}


def refuses(connack: bytes, version: int) -> bool:
    """Whether the body of a CONNACK refuses the version of the CONNECT."""
    if (len(connack) == _CONNACK_3_1_1) != (version < MQTT_5):
        return True
    return len(connack) > 1 and connack[1] in _REFUSALS


def _nobody_asks(_version: int) -> None:
    """What is found out need not be told."""


class Versions:
    """What is known of one broker. `on_settled` is called with a version that was not expected,
    `on_trouble` when there is none that the broker would have; once each.
    """

    __slots__ = (
        *("_expected", "_is_chosen", "_is_settled", "_is_trouble", "_on_settled", "_on_trouble"),
        *("_silences", "_waiting", "current"),
    )

    def __init__(
        self,
        chosen: int | None = None,
        on_settled: Callable[[int], None] = _nobody_asks,
        on_trouble: Callable[[int], None] = _nobody_asks,
    ) -> None:
        self._is_chosen = chosen is not None
        self._on_settled = on_settled
        self._on_trouble = on_trouble
        self._is_trouble = False
        self._waiting: list[Callable[[int], None]] = []
        self._is_settled = False
        self._silences = 0
        self._expected = chosen or MQTT_5
        self.current = self._expected  # for the next CONNECT

    @property
    def is_open(self) -> bool:
        """Whether a broker that does not answer may want the other version."""
        return not (self._is_chosen or self._is_settled)

    @property
    def silences(self) -> int:
        """To be noted at a CONNECT, see `silent`."""
        return self._silences

    def accepted(self, version: int) -> None:
        """The broker has answered in the words of this version."""
        self.current = version
        self._is_settled = True
        self._silences = 0
        self._is_trouble = False
        if version != self._expected:
            self._expected = version
            self._on_settled(version)
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            told(version)

    def when_known(self, told: Callable[[int], None]) -> None:
        """Call `told` with the version, now or when the broker has answered."""
        if not self.is_open:
            told(self.current)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append(told)

    def refused(self, version: int) -> bool:
        """The broker has refused this version; whether to come again with another."""
        if self._is_chosen:
            return False
        if version == self.current:
            self._change()
        return True

    def give_up(self, version: int) -> None:
        """This version was refused, and it is the last one."""
        if not self._is_trouble:
            self._is_trouble = True
            self._on_trouble(version)

    def silent(self, version: int, silences: int) -> bool:
        """No answer has come; whether to come again. `silences`: as they were at the CONNECT, for
        many who connect at once are silenced by one trouble.
        """
        if version != self.current:
            return True  # others have found out meanwhile
        if not self.is_open:
            return False
        if silences == self._silences:
            self._silences += 1
            if self._silences >= _MOST_SILENCES:
                self._change()
        return True

    def _change(self) -> None:
        self.current = _OTHER[self.current]
        self._is_settled = False
        self._silences = 0
