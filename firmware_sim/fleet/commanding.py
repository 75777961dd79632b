"""The one who commands: sends a numbered command to each device of a kind, in turn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from firmware_sim.books.books import COMMAND
from firmware_sim.clients.client import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firmware_sim.books.ledger import Ledger, Stream
    from firmware_sim.fleet.crew import Device
    from firmware_sim.scenario.scenario import Kind


class Commander:
    """A machine: every device of one kind gets a command once per `kind.commands`."""

    def __init__(
        self,
        kind: Kind,
        devices: Sequence[Device],
        ledger: Ledger,
        publish: Callable[[Message, Stream, int, float], bool],
    ) -> None:
        assert kind.commands is not None
        self._streams = [
            ledger.open(device.plan.topic + COMMAND, device.plan.name, kind.kind, 1)
            for device in devices
        ]
        self._ledger, self._publish = ledger, publish
        self._gap = kind.commands / len(devices)
        self._next: float | None = None
        self._place = 0

    def start(self, now: float) -> None:
        """From now on."""
        self._next = now + self._gap

    def stop(self) -> None:
        """No more."""
        self._next = None

    def next_deadline(self) -> float | None:
        """When the next command goes out."""
        return self._next

    def step(self, now: float) -> None:
        """Send one, if it is time."""
        if self._next is None or now < self._next:
            return
        self._next += self._gap
        stream = self._streams[self._place]
        self._place = (self._place + 1) % len(self._streams)
        seq = stream.made()
        payload = json.dumps({"seq": seq, "do": "report"}, separators=(",", ":")).encode()
        stream.handed(seq, now)
        if self._publish(Message(stream.topic, payload, 1), stream, seq, now):
            self._ledger.handed += 1
        else:
            stream.refused(seq)
