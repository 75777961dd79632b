"""The books of a device whose firmware is real, in the place of an `Application`.

The firmware measures, keeps and sends by itself, and cannot be asked: what its wire tells is noted.
It numbers what it measures from 0 and never back, so a number that was passed over is a reading
that it has dropped. It hands over one message at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmware_sim.books.books import COMMAND, number_in
from firmware_sim.books.ledger import Fate
from firmware_sim.clients.client import Acknowledged, Arrived, Asleep, Down, Failed, Up
from firmware_sim.clients.overheard import Published
from firmware_sim.device.flash import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firmware_sim.books.books import Books
    from firmware_sim.books.evidence import Evidence
    from firmware_sim.clients.overheard import OverheardEvent
    from firmware_sim.fleet.application import Plan
    from firmware_sim.fleet.ways import Watched

    _Hears = Callable[["Onlooker", OverheardEvent, float], None]

LINGER: Final = 0.5  # seconds at the end of a run, to hear what is on its way to the device
MOST_PASSED_OVER: Final = 10_000  # readings; more is no number of ours


class Onlooker:
    """One device. At the end of a run its power is taken when nothing is under way."""

    battery: None = None  # it has none that could be read

    def __init__(self, plan: Plan, board: Watched, books: Books, evidence: Evidence) -> None:
        self.plan = plan
        self._board, self._books, self._evidence = board, books, evidence
        self._stream = books.ledger.streams[plan.topic]
        self._powered = False
        self._is_up = self._is_asleep = False
        self._is_finishing = False
        self._rest_at: float | None = None
        self._token = 0
        self._under_way: Reading | None = None

    # ---- Firmware ----

    def power_on(self, now: float) -> None:
        """It boots."""
        if not self._powered:
            self._powered = True
            self._board.power_on(now)

    def power_off(self, now: float) -> None:
        """The power is gone; what was under way is not known to it any more."""
        self._powered = False
        self._under_way = None
        self._leave(now)
        self._doze(False, now)

    def finish(self, now: float) -> None:
        """What is under way may come in."""
        self._rest_at = now + LINGER

    def close(self, now: float) -> None:
        """The run is over."""
        if self._powered:
            self.power_off(now)
            self._board.cut(now)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left that could be acknowledged."""
        return not self._powered

    def next_deadline(self) -> float | None:
        """When it may rest; it has a clock of its own."""
        return self._rest_at

    def step(self, now: float) -> None:
        """See Part."""
        if self._rest_at is not None and self._rest_at <= now:
            self._rest_at, self._is_finishing = None, True
            self._rest(now)

    def hear(self, now: float) -> None:
        """Note what the wire has told."""
        for event in self._board.take_events():
            if self._powered:
                _HEARS.get(type(event), _nothing)(self, event, now)
        self._rest(now)

    # ---- what the wire tells ----

    def _on_published(self, event: OverheardEvent, now: float) -> None:
        assert isinstance(event, Published)
        seq = number_in(event.payload)
        if not 0 <= seq < len(self._stream) + MOST_PASSED_OVER:
            return  # when it arrives, it is one that was never sent
        self._count_to(seq)
        if self.plan.qos == 0 and self._stream.line(seq).fate is Fate.ACKNOWLEDGED:
            return
        self._token, self._under_way = event.token, Reading(self.plan.topic, seq, event.payload)
        self._books.handed(self._under_way, now)

    def _count_to(self, seq: int) -> None:
        while len(self._stream) <= seq:
            passed = self._books.made(self.plan.topic)
            if passed < seq:
                self._books.dropped(Reading(self.plan.topic, passed, b""))

    def _on_acknowledged(self, event: OverheardEvent, now: float) -> None:
        assert isinstance(event, Acknowledged)
        reading = self._settled(event.token)
        if reading is not None:
            self._books.acknowledged(reading, now)

    def _on_failed(self, event: OverheardEvent, _: float) -> None:
        assert isinstance(event, Failed)
        reading = self._settled(event.token)
        if reading is not None:
            self._books.refused(reading, event.why)

    def _settled(self, token: int) -> Reading | None:
        if token != self._token:
            return None
        reading, self._under_way = self._under_way, None
        return reading

    def _on_arrived(self, event: OverheardEvent, now: float) -> None:
        assert isinstance(event, Arrived)
        self._books.command_arrived(self.plan.topic + COMMAND, event.message.payload, now)

    def _on_up(self, event: OverheardEvent, now: float) -> None:
        assert isinstance(event, Up)
        if not event.session_present and self._under_way is not None:
            self._books.handed(self._under_way, now)  # it says that again, as if new
        self._doze(False, now)
        if not self._is_up:
            self._is_up = True
            self._books.up(self._evidence, self.plan.client_id, now)

    def _on_asleep(self, _: OverheardEvent, now: float) -> None:
        self._leave(now)
        self._doze(True, now)

    def _on_down(self, event: OverheardEvent, now: float) -> None:
        assert isinstance(event, Down)
        self._leave(now)
        self._doze(False, now)
        self._books.down(self._evidence, event.why)

    def _leave(self, now: float) -> None:
        if self._is_up:
            self._is_up = False
            self._books.left(self._evidence, now)

    def _doze(self, is_asleep: bool, now: float) -> None:
        if is_asleep is not self._is_asleep:
            self._is_asleep = is_asleep
            self._books.dozes(is_asleep, now)

    def _rest(self, now: float) -> None:
        if self._is_finishing and self._under_way is None:
            self.close(now)


_HEARS: Final[Mapping[type, _Hears]] = {
    Published: Onlooker._on_published,
    Acknowledged: Onlooker._on_acknowledged,
    Failed: Onlooker._on_failed,
    Arrived: Onlooker._on_arrived,
    Up: Onlooker._on_up,
    Down: Onlooker._on_down,
    Asleep: Onlooker._on_asleep,
}


def _nothing(_: Onlooker, __: OverheardEvent, ___: float) -> None:
    """An event that says nothing here."""
