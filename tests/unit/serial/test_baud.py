"""The search for the speed at which a device speaks."""

from __future__ import annotations

from bridges.serial.baud import LONGEST_PROBE, BaudSearch, ShortMemory
from bridges.serial.events import LogLine, Looped, Opened, Recognised, Silent
from bridges.serial.frames import Hello

BAUDS = (9600, 57_600, 115_200)


def searching(memory: ShortMemory | None = None) -> BaudSearch:
    search = BaudSearch(BAUDS, 3.0, memory or ShortMemory())
    search.open("usb:1")
    search.plugged(0.0)
    return search


def test_each_speed_is_tried_and_each_round_takes_longer() -> None:
    search = searching()
    now, seen = 0.0, [search.baud]
    waits = []
    for _ in range(6):
        assert search.deadline is not None
        waits.append(search.deadline - now)
        now = search.deadline
        seen.append(search.next(now))
    assert seen == [*BAUDS, *BAUDS, 9600]
    assert waits == [3, 3, 3, 6, 6, 6]
    for _ in range(100):
        search.next(now)
    assert search.deadline == now + LONGEST_PROBE


def test_the_search_ends_when_somebody_is_understood_and_is_remembered() -> None:
    memory = ShortMemory()
    search = searching(memory)
    search.next(3.0)
    search.observe([Looped(), LogLine("?")], 4.0)
    assert not search.is_met
    search.observe([Opened(Hello(mine=1, uid=b"\xab\xcd"), False)], 4.0)
    assert search.is_met
    assert search.deadline is None
    assert memory.recall("usb:1") == memory.recall("uid:abcd") == 57_600


def test_what_is_remembered_comes_first() -> None:
    memory = ShortMemory()
    memory.remember("usb:1", 115_200)
    search = searching(memory)
    assert [search.baud, search.next(1.0), search.next(2.0)] == [115_200, 9600, 57_600]


def test_what_is_remembered_but_not_allowed_any_more_is_not_tried() -> None:
    memory = ShortMemory()
    memory.remember("usb:1", 300)
    assert searching(memory).baud == 9600


def test_one_speed_needs_no_search() -> None:
    search = BaudSearch((9600,), 3.0, ShortMemory())
    search.open("x")
    search.plugged(0.0)
    assert search.deadline is None


def test_a_device_that_has_gone_silent_is_searched_for_again() -> None:
    search = searching()
    search.observe([Recognised("text")], 1.0)
    assert search.deadline is None
    search.observe([Silent()], 100.0)
    assert not search.is_met
    assert search.deadline == 103.0
    search.unplugged()
    assert search.deadline is None


def test_a_port_that_goes_away_before_its_speed_is_found_does_not_begin_the_search_again() -> None:
    search = searching()
    seen = [search.baud]
    for _ in BAUDS:
        search.unplugged()
        seen.append(search.open("usb:1"))
        search.plugged(0.0)
    assert seen == [*BAUDS, 9600]


def test_another_device_or_one_that_was_understood_begins_where_it_should() -> None:
    search = searching()
    assert search.open("usb:2") == 9600
    search.plugged(0.0)
    search.next(3.0)
    search.observe([Recognised("text")], 4.0)
    search.unplugged()
    assert search.open("usb:2") == 57_600  # as remembered


def test_a_port_that_could_not_be_opened_has_tried_no_speed() -> None:
    search = BaudSearch(BAUDS, 3.0, ShortMemory())
    assert [search.open("usb:1"), search.open("usb:1")] == [9600, 9600]
