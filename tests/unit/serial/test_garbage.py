"""An hour of line time of garbage: what hears it stays small, says little, and understands the next
sound device at once.
"""

from __future__ import annotations

import tracemalloc
from random import Random
from typing import TYPE_CHECKING

import pytest

from bridges.serial import cobs
from bridges.serial.detection import Detector
from bridges.serial.events import LogLine, Reading, Received
from bridges.serial.frames import Channel
from bridges.serial.link import Link, LinkSettings, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.serial.modes import SerialMachine

BAUD = 2400
HOUR = 3600.0  # seconds
READ = 60  # bytes at a time: a quarter of a second
MOST_GROWTH = 20_000  # bytes, in half an hour
MOST_SAID = 150.0  # bytes per second, of 240 that the wire takes
WAITS = 10.0  # seconds


def random_bytes(rng: Random) -> bytes:
    return rng.randbytes(READ)


def random_frames(rng: Random) -> bytes:
    """Right COBS, wrong contents."""
    data = b""
    while len(data) < READ:
        data += cobs.encode(rng.randbytes(rng.randrange(1, 60))) + b"\0"
    return data[:READ]


def zeros(_rng: Random) -> bytes:
    return bytes(READ)


def one_frame_for_ever(rng: Random) -> bytes:
    return bytes(rng.randrange(1, 256) for _ in range(READ))


def pairs_of_codes(rng: Random) -> bytes:
    """The shortest frames there are."""
    return b"".join(bytes((rng.randrange(1, 4), 0)) for _ in range(READ // 2))


GARBAGE = (random_bytes, random_frames, zeros, one_frame_for_ever, pairs_of_codes)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("is_open", [False, True], ids=["stranger", "in a session"])
def test_an_hour_of_garbage_leaves_no_trace(
    garbage: Callable[[Random], bytes], is_open: bool
) -> None:
    link = Link(LinkSettings(uid=b"host"), Random(1))
    machine: SerialMachine = link if is_open else Detector(link)
    machine.plugged(0.0)
    now = 0.0
    if is_open:
        now = meet(machine, link, now)
    rng = Random(2)
    tracemalloc.start()
    said = 0
    held = []
    for _ in range(2):
        until = now + HOUR / 2
        while now < until:
            now += READ * 10 / BAUD
            for event in [*machine.receive(garbage(rng), now), *tick(machine, now)]:
                assert not isinstance(event, Received | Reading | LogLine), event
            said += len(machine.data_to_send())
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[1] - held[0] < MOST_GROWTH
    assert said / HOUR < MOST_SAID
    meet(machine, link, now)


def tick(machine: SerialMachine, now: float) -> list[object]:
    """All that is due; nothing is due for ever."""
    events: list[object] = []
    for _ in range(20):
        deadline = machine.next_deadline()
        if deadline is None or deadline > now:
            return events
        events += machine.tick(now)
    raise AssertionError("it wants to be called for ever")


def meet(machine: SerialMachine, link: Link, now: float) -> float:
    """A sound device comes, and a message of it arrives; return when."""
    device = Link(LinkSettings(uid=b"sound"), Random(now))
    device.plugged(now)
    device.send(Channel.MQTT_SN, b"sound", now)
    heard: list[object] = []
    until = now + WAITS
    while Received(Channel.MQTT_SN, b"sound") not in heard:
        assert now < until, f"not understood: {link.state}"
        now += 0.05
        heard += machine.receive(b"\0" + device.data_to_send(), now)
        heard += tick(machine, now)
        device.receive(machine.data_to_send() or b"\0", now)
        tick(device, now)
    assert link.state is State.OPEN
    return now
