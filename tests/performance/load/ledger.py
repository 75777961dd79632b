"""Who has sent which message, when, and whether it was taken: each must be taken once and whole.

A payload begins with its source and ends with a number of eight digits. Several consumers share a
queue, so only what one of them gets of one source must come in order.
"""

import time

from tests.performance import wire
from tests.performance.measure import Latencies, Tally

DIGITS = 8


class Source:
    """One publisher's messages; `sent_at` and `taken` are by their numbers."""

    __slots__ = ("name", "prefix", "sent_at", "taken")

    def __init__(self, name: str) -> None:
        self.name = name
        self.prefix = name.encode().ljust(wire.PAYLOAD - DIGITS, b"-")
        self.sent_at: list[float] = []
        self.taken = bytearray()

    @property
    def sent(self) -> int:
        return len(self.sent_at)

    def note_sent(self, count: int) -> None:
        self.sent_at += [time.perf_counter()] * count
        self.taken += bytes(count)


class Ledger:
    """All sources; `taken` counts messages, each of them once."""

    __slots__ = ("_by_prefix", "_latencies", "_tally", "sources", "taken")

    def __init__(self, names: list[str], latencies: Latencies, tally: Tally) -> None:
        self.sources = [*map(Source, names)]
        self.taken = 0
        self._by_prefix = {source.prefix: source for source in self.sources}
        self._latencies, self._tally = latencies, tally

    @property
    def sent(self) -> int:
        return sum(source.sent for source in self.sources)

    def take(self, bodies: list[bytes], last: dict[str, int]) -> None:
        """A consumer has got these; `last` is its own: the highest number it has of each source."""
        now, note = time.perf_counter(), self._latencies.note
        for body in bodies:
            source, digits = self._by_prefix.get(body[:-DIGITS]), body[-DIGITS:]
            if source is None or not digits.isdigit() or (number := int(digits)) >= source.sent:
                self._tally.spoilt += 1
            elif source.taken[number]:
                self._tally.duplicates += 1
            else:
                source.taken[number] = 1
                self.taken += 1
                note((now - source.sent_at[number], 1))
                self._tally.disordered += number < last.get(source.name, 0)
                last[source.name] = number

    def close(self, *, whole: bool) -> None:
        """What was not taken is lost: of all that was sent, or up to the last one taken."""
        for source in self.sources:
            end = source.sent if whole else source.taken.rfind(1) + 1
            missing = (n for n in range(end) if not source.taken[n])
            self._tally.missing.update((source.name, number) for number in missing)
