"""The books of a run: the ledger of readings, that of commands, and the evidence on each device.

Devices and subscribers tell it what passes their doors; it knows nothing of bugs and scenarios.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from firmware_sim.books.diagnosis import FAR_OFF
from firmware_sim.books.evidence import Evidence
from firmware_sim.books.ledger import Fate, Ledger

if TYPE_CHECKING:
    from firmware_sim.device.flash import Reading

RECENT: Final = 256
COMMAND: Final = "/command"  # behind a device's topic
_SEQ: Final = re.compile(rb'"seq": ?(\d{1,9})\b')
_LONGEST_HEAD: Final = 64  # bytes in which the number stands


def number_in(payload: bytes) -> int:
    """The number that a payload of ours carries; -1: none."""
    found = _SEQ.search(payload[:_LONGEST_HEAD])
    return int(found[1]) if found else -1


class Presence(NamedTuple):
    """Seconds of all devices together."""

    connected: float
    asleep: float


class Books:
    """All that is noted. `epoch` is the wall's time at 0.0."""

    def __init__(self, epoch: float = 0.0) -> None:
        self.epoch = epoch
        self.ledger = Ledger()
        self.commands = Ledger()
        self.devices: dict[str, Evidence] = {}
        self.online: dict[str, int] = {}  # by kind
        self.asleep = 0  # devices between two readings
        self.downs: dict[str, int] = {}  # reasons, in words
        self.refusals: dict[str, int] = {}
        self.waits: deque[float] = deque(maxlen=RECENT)  # the last latencies, for the display
        self.exhausted: list[str] = []  # devices without power for good
        self.gone: list[str] = []  # devices whose emulator has ended by itself
        self._presence = Presence(0.0, 0.0)
        self._counted_at = 0.0  # until then

    def enrol(self, name: str, kind: str, topic: str, qos: int) -> Evidence:
        """A new device. Raises ValueError if its topic is taken."""
        self.ledger.open(topic, name, kind, qos)
        self.online.setdefault(kind, 0)
        self.devices[name] = Evidence(name, kind)
        return self.devices[name]

    # ---- the device's side ----

    def made(self, topic: str) -> int:
        """A device has a new reading; its number."""
        self.ledger.made += 1
        return self.ledger.streams[topic].made()

    def handed(self, reading: Reading, now: float) -> None:
        """A device has handed a reading over to its way to the broker."""
        stream = self.ledger.streams[reading.topic]
        evidence = self.devices[stream.device]
        evidence.twice += stream.line(reading.seq).fate is Fate.ACKNOWLEDGED
        evidence.sent(len(reading.payload), now)
        stream.handed(reading.seq, now)
        self.ledger.handed += 1

    def acknowledged(self, reading: Reading, now: float) -> None:
        """The other side owns the reading."""
        self.ledger.streams[reading.topic].acknowledged(reading.seq, now)
        self.ledger.acknowledged += 1

    def given_up(self, reading: Reading, now: float, why: str) -> None:
        """The way to the broker does not carry the reading; seen from outside: it was tried."""
        stream = self.ledger.streams[reading.topic]
        self.devices[stream.device].sent(len(reading.payload), now)
        self.refused(reading, why)

    def refused(self, reading: Reading, why: str) -> None:
        """The reading was not taken."""
        self.ledger.streams[reading.topic].refused(reading.seq)
        count(self.refusals, why)

    def dropped(self, reading: Reading) -> None:
        """The device has lost the reading itself."""
        self.ledger.streams[reading.topic].dropped(reading.seq)

    def up(self, evidence: Evidence, client_id: str, now: float) -> None:
        """A device was accepted."""
        evidence.up(client_id, now)
        self.presence(now)
        self.online[evidence.kind] += 1

    def down(self, evidence: Evidence, why: str) -> None:
        """A device has lost its connection."""
        evidence.down()
        count(self.downs, why)

    def left(self, evidence: Evidence, now: float) -> None:
        """A device that was accepted is so no more, for whatever reason."""
        self.presence(now)
        self.online[evidence.kind] -= 1

    def dozes(self, asleep: bool, now: float) -> None:
        """A device goes to sleep, or wakes."""
        self.presence(now)
        self.asleep += 1 if asleep else -1

    def presence(self, now: float) -> Presence:
        """How long devices were there until now."""
        seconds = now - self._counted_at
        connected, asleep = self._presence
        self._presence = Presence(
            connected + sum(self.online.values()) * seconds, asleep + self.asleep * seconds
        )
        self._counted_at = now
        return self._presence

    def command_arrived(self, topic: str, payload: bytes, now: float) -> None:
        """A command has reached its device."""
        stream = self.commands.streams.get(topic)
        if stream is not None:
            stream.arrived(number_in(payload), now)

    # ---- the other side ----

    def arrived(self, topic: str, payload: bytes, now: float) -> None:
        """A subscriber has got a message."""
        stream = self.ledger.streams.get(topic)
        if stream is None:
            self.ledger.strangers += not topic.endswith(COMMAND)
            return
        took = stream.arrived(number_in(payload), now)
        self.ledger.arrived += 1
        if took is not None:
            self.waits.append(took)
        self.devices[stream.device].reading(payload, self.epoch + now, FAR_OFF)


def count(table: dict[str, int], why: str, longest: int = 64) -> None:
    """Count a reason; a table of reasons that others word stays small."""
    key = why if why in table or len(table) < longest else "other"
    table[key] = table.get(key, 0) + 1
