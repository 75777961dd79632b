"""What can be seen of one device from outside: its connections, its messages and their payloads.

Only numbers are kept, so thousands of devices cost little, and however badly one behaves it costs
no more than the others.
"""

from __future__ import annotations

import json
from typing import Final

MINUTE: Final = 60.0
LONGEST_NUMBER: Final = 20  # digits
NAMES: Final = 4  # client ids that are remembered of one device


class Evidence:
    """One device, as a listener on the wire and a subscriber at the broker see it."""

    __slots__ = (
        "_last_values",
        "_minute",
        "_minute_messages",
        "_minute_ups",
        "_same",
        "arrived",
        "client_ids",
        "clock_off",
        "clocks",
        "confirmed",
        "downs",
        "garbage",
        "handed",
        "kind",
        "largest",
        "longest_same",
        "name",
        "sizes",
        "storm_messages",
        "storm_ups",
        "sum_sizes",
        "taken",
        "twice",
        "ups",
    )

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self.client_ids: list[str] = []
        self.ups = self.downs = 0
        self.storm_ups = self.storm_messages = 0  # of the worst minute
        self.handed = self.twice = 0
        self.largest = self.sizes = self.sum_sizes = 0
        self.arrived = self.garbage = 0
        self.clocks = 0  # readings whose time was far off
        self.clock_off = 0.0  # seconds, of the last one
        self.longest_same = 0
        self.taken = self.confirmed = 0  # messages for the device with QoS 1 or 2
        self._minute = -1
        self._minute_ups = self._minute_messages = 0
        self._last_values = b""
        self._same = 0

    def up(self, client_id: str, now: float) -> None:
        """It was accepted as this client."""
        if client_id not in self.client_ids and len(self.client_ids) < NAMES:
            self.client_ids.append(client_id)
        self.ups += 1
        self._turn_minute(now)
        self._minute_ups += 1
        if self._minute_ups > self.storm_ups:
            self.storm_ups, self.storm_messages = self._minute_ups, self._minute_messages

    def down(self) -> None:
        """Its connection broke."""
        self.downs += 1

    def sent(self, size: int, now: float) -> None:
        """It handed over a message."""
        self._turn_minute(now)
        self._minute_messages += 1
        self.handed += 1
        self.sizes += 1
        self.sum_sizes += size
        self.largest = max(self.largest, size)

    def reading(self, payload: bytes, now: float, far_off: float) -> None:
        """A message of it came out at the broker; `now` on the wall's clock."""
        self.arrived += 1
        values = object_in(payload)
        if values is None:
            self.garbage += 1
            return
        self._judge_clock(values.get("t"), now, far_off)
        self._judge_values(values)

    def _judge_clock(self, told: object, now: float, far_off: float) -> None:
        if isinstance(told, int | float) and abs(told - now) > far_off:
            self.clocks += 1
            self.clock_off = told - now

    def _judge_values(self, values: dict[str, object]) -> None:
        measured = {name: value for name, value in values.items() if name not in _NO_VALUES}
        if not any(isinstance(value, float) for value in measured.values()):
            return
        shown = json.dumps(measured, sort_keys=True).encode()
        self._same = self._same + 1 if shown == self._last_values else 1
        self._last_values = shown
        self.longest_same = max(self.longest_same, self._same)

    def _turn_minute(self, now: float) -> None:
        minute = int(now // MINUTE)
        if minute != self._minute:
            self._minute = minute
            self._minute_ups = self._minute_messages = 0


def object_in(payload: bytes) -> dict[str, object] | None:
    """The JSON object that a payload is; None: it is none. Whole numbers are as long as ours."""
    try:
        values = json.loads(payload, parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError("no sensor counts so far")
    return int(text)


_NO_VALUES: Final = frozenset({"seq", "t", "battery", "log"})
