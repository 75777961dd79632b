"""What a scenario may say of a wire: its rate, its buffers, and what goes wrong on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmware_sim.rules import Duration, Number, Rule, Whole

if TYPE_CHECKING:
    from collections.abc import Mapping

WAYS: Final = ("framed", "raw", "slip", "text")


@dataclass(frozen=True, slots=True)
class WireSettings:
    """Rates are per byte unless they say otherwise; times in seconds."""

    baud: int = 115_200
    fifo: int = 16
    latency: float = 0.0005
    loss: float = 0.0
    flips: float = 0.0
    duplicates: float = 0.0


RULES: Final[Mapping[str, Rule]] = {
    "baud": Whole(300, 4_000_000),
    "fifo": Whole(1, 4096),
    "latency": Duration(0.0, 10.0),
    "loss": Number(0.0, 0.5),
    "flips": Number(0.0, 0.5),
    "duplicates": Number(0.0, 0.5),
}
