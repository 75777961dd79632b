"""What every device must be able to talk through with the gateway: the model in Python, the C
client compiled for this computer, and the same in emulated controllers.

Each is a generator over a `Site`: it does something and yields what it waits for. Readings have
numbers, so what is lost or out of order shows.
"""

from __future__ import annotations

from collections.abc import Generator
from random import Random

from bridges.serial.files import Outcome
from tests.support.device_site import Condition, Conversation, Site

Talk = Generator[Condition]


def is_without_gaps(numbers: list[int]) -> bool:
    """Whether all have come, in order; QoS 1 may repeat."""
    return sorted(set(numbers)) == list(dict.fromkeys(numbers)) == list(range(1, max(numbers) + 1))


def count_of_readings(site: Site, count: int) -> Condition:
    return lambda: len(set(site.numbers())) >= count


def it_connects_with_its_will_and_says_who_it_is(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    session = site.broker.accounts[site.name].session
    assert session is not None
    assert session.opening.will is not None
    assert (session.opening.will.message, session.opening.will.qos) == (b"gone", 1)
    peer = site.host.link.peer
    assert peer is not None
    assert (peer.uid.decode(), peer.firmware) == (site.name, "1.0")


def its_readings_come_in_order(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    site.tell("every 50")
    yield count_of_readings(site, 6)
    assert is_without_gaps(site.numbers())
    assert {m.qos for m in site.messages("reading")} == {1}


def it_publishes_with_every_qos(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    for qos in (0, 1, 2):
        site.tell(f"say{qos} with {qos}")
        yield lambda qos=qos: site.has_said(f"with {qos}")
    site.tell("shout hello")
    yield lambda: any(m.topic == "hg" for m in site.broker.arrived)
    assert [
        (t, m.qos) for m in site.messages("said") if (t := m.payload.decode())[:4] == "with"
    ] == [
        ("with 0", 0),
        ("with 1", 1),
        ("with 2", 2),
    ]


def it_obeys_once_with_every_qos(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    for qos in (0, 1, 2):
        site.tell(f"say1 asked with {qos}", qos)
        yield lambda qos=qos: site.has_said(f"asked with {qos}")
    yield lambda: site.unanswered() == 0
    assert site.said()[1:] == ["asked with 0", "asked with 1", "asked with 2"]
    site.tell("dance")
    yield lambda: site.has_said("what?")


def asleep_it_collects_what_has_waited(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    site.tell("sleep 1")
    yield site.is_asleep
    site.tell("led 1")
    site.tell("led 0", 2)
    site.tell("say1 good morning")
    assert site.unanswered() == 3
    before = len(site.numbers())
    yield lambda: site.unanswered() == 0 and site.is_asleep()
    yield lambda: len(site.numbers()) > before and site.has_said("good morning")
    site.tell("stay")
    yield lambda: len(site.ups()) == 2
    assert not site.broker.wills


def it_comes_back_when_the_gateway_was_restarted(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    site.tell("every 50")
    yield count_of_readings(site, 3)
    site.restart_gateway()
    yield lambda: len(site.ups()) == 2
    yield count_of_readings(site, len(site.numbers()) + 3)
    assert is_without_gaps(site.numbers())
    site.tell("say2 and it obeys")
    yield lambda: site.has_said("and it obeys")


def it_goes_on_when_the_wire_was_cut(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    site.tell("every 50")
    for _ in range(2):
        yield count_of_readings(site, len(site.numbers()) + 3)
        site.unplug()
        site.replug()
    yield count_of_readings(site, len(site.numbers()) + 3)
    assert is_without_gaps(site.numbers())
    assert len(site.ups()) == 1  # the session went on


def a_reset_in_the_middle_of_an_exchange_is_survived(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    site.tell("say2 cut short", 2)  # it is on its way in, or the answer on its way out
    site.reset_device()
    yield lambda: len(site.ups()) == 2
    first, second = (int(up.split()[1]) for up in site.ups())
    assert second == first + 1
    yield lambda: site.unanswered() == 0  # the broker has repeated it
    yield lambda: site.has_said("cut short")
    yield count_of_readings(site, 1)


def told_to_it_resets_itself(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    site.tell("reset")
    yield lambda: site.has_said("reset") and len(site.ups()) == 2


TALKS: list[Conversation] = [
    it_connects_with_its_will_and_says_who_it_is,
    its_readings_come_in_order,
    it_publishes_with_every_qos,
    it_obeys_once_with_every_qos,
    asleep_it_collects_what_has_waited,
    it_comes_back_when_the_gateway_was_restarted,
    it_goes_on_when_the_wire_was_cut,
    a_reset_in_the_middle_of_an_exchange_is_survived,
    told_to_it_resets_itself,
]


# -- damaged bytes: with a wire that does it


def on_a_bad_wire_everything_comes_once(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    for number in range(10):
        site.tell(f"say2 number {number}", 2)
        yield lambda number=number: site.has_said(f"number {number}")
    assert [text for text in site.said() if text.startswith("number")] == [
        f"number {number}" for number in range(10)
    ]
    assert sum(lane.faults.total for lane in site.uart.lanes) > 0


# -- images


def image(size: int, seed: int = 1) -> bytes:
    return b"HGFW" + Random(seed).randbytes(size - 4)


def an_image_is_taken_with_its_progress(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    site.offer(image(site.image_size))
    yield lambda: site.outcome() is Outcome.DONE
    yield lambda: site.progress()[-1:] == ["done"]
    tenths = [int(text) for text in site.progress()[:-1]]
    assert tenths == sorted(tenths)
    assert tenths[0] <= 10


def an_image_goes_on_after_cuts_and_a_reset(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    file = site.offer(image(site.image_size))
    yield lambda: file.offset > site.image_size // 4
    site.unplug()
    site.replug()
    yield lambda: file.offset > site.image_size // 2
    site.reset_device()
    yield lambda: len(site.ups()) == 2
    assert file.offset > site.image_size // 4  # not from the beginning
    yield lambda: file.outcome is Outcome.DONE
    yield lambda: site.progress()[-1:] == ["done"]


def a_wrong_image_is_refused(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    site.offer(b"none" + image(100))
    yield lambda: site.outcome() is Outcome.REFUSED
    yield lambda: site.progress()[-1:] == ["refused"]
    site.offer(image(200), digest=bytes(32))
    yield lambda: site.outcome() is Outcome.DAMAGED
    yield lambda: site.progress()[-1:] == ["damaged"]
    site.offer(image(site.shelf + 1))
    yield lambda: site.outcome() is Outcome.TOO_LARGE
    site.tell("say1 still here")
    yield lambda: site.has_said("still here")


IMAGE_TALKS: list[Conversation] = [
    an_image_is_taken_with_its_progress,
    an_image_goes_on_after_cuts_and_a_reset,
    a_wrong_image_is_refused,
]


# -- everything at once


def after_a_storm_nothing_is_lost_that_was_promised(site: Site) -> Talk:
    """Cuts, gateways that die, resets, sleep, on a bad wire; then calm, in which all must come."""
    yield lambda: bool(site.ups())
    site.tell("every 200")
    told = []
    for number in range(12):
        until = site.world.now + site.rng.random() * 4
        yield lambda until=until: site.world.now >= until
        site.rng.choice((site.unplug, site.restart_gateway, site.reset_device, lambda: None))()
        site.replug()
        told.append(f"n{number}")
        site.tell(f"say2 n{number}", 1 + number % 2)
        if number % 4 == 2:
            site.tell(site.rng.choice(("sleep 1", "stay")))
    site.tell("stay")
    yield lambda: site.unanswered() == 0
    count = len(site.messages("reading"))
    yield lambda: len(site.messages("reading")) > count + 5
    site.tell("say2 over")
    yield lambda: "over" in site.said()
