"""Simulated devices with the real gateway and the real broker, over virtual wires."""

from __future__ import annotations

import pytest

from firmware_sim.clients.client import Asleep, Collected, Down, Message, Up
from firmware_sim.wire.faults import Faults, Incident, What, errors
from tests.unit.firmware_sim.site import Site

MODES = ["framed", "raw", "slip"]
DAY = 86_400.0


def numbers(count: int) -> list[bytes]:
    return [number.to_bytes(2, "big") for number in range(count)]


def once_each(payloads: list[bytes]) -> list[bytes]:
    """In the order of their first arrival."""
    return list(dict.fromkeys(payloads))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_go_both_ways(mode: str, qos: int) -> None:
    site = Site()
    dev = site.station("dev", mode).connected()
    dev.ask("subscribe", "down/#", qos)
    token = dev.publish("up/x", b"hello", qos)
    dev.settle()
    site.publish("down/y", b"there", qos=2)
    site.run(5)
    assert ("up/x", b"hello") in site.heard
    assert dev.acknowledged == [token]
    assert dev.arrived == [Message("down/y", b"there", qos)]


def test_short_and_predefined_topics_need_no_registration() -> None:
    site = Site(predefined={7: "very/long/topic"})
    dev = site.station("dev", predefined={"very/long/topic": 7}).connected()
    dev.ask("subscribe", "ab", 1)
    dev.ask("subscribe", "very/long/topic", 1)
    dev.publish("ab", b"1")
    dev.publish("very/long/topic", b"2")
    dev.settle()
    assert site.heard == [("ab", b"1"), ("very/long/topic", b"2")]
    assert dev.arrived == [Message("ab", b"1", 1), Message("very/long/topic", b"2", 1)]


def test_a_message_without_a_connection_needs_a_topic_with_a_number() -> None:
    site = Site()
    site.policy = type(site.policy)(t_adv=0, predefined={7: "alarm"})
    dev = site.station("dev", predefined={"alarm": 7})
    site.run(1)
    assert not dev.ask("publish", Message("a/b", b"x", -1), 1)
    assert dev.ask("publish", Message("alarm", b"!", -1), 2)
    assert dev.acknowledged == [2]


def test_a_will_is_published_when_the_device_falls_silent() -> None:
    site = Site()
    dev = site.station("dev", will=Message("w/dev", b"gone", 1)).connected()
    dev.line.power_off(site.now)
    site.run(300)
    assert site.heard == [("w/dev", b"gone")]


def test_an_idle_device_keeps_its_connection_alive() -> None:
    site = Site()
    dev = site.station("dev", keep_alive=30).connected()
    site.run(3600)
    assert dev.client.is_up
    assert dev.take(Down) == []


def test_a_device_that_says_goodbye_leaves_no_will_and_says_nothing_more() -> None:
    site = Site()
    dev = site.station("dev", will=Message("w/dev", b"gone", 1)).connected()
    dev.publish("a/b", b"last words")
    dev.ask("disconnect")
    site.run(600)
    assert site.heard == [("a/b", b"last words")]
    assert (dev.client.is_up, dev.take(Down)) == (False, [])


def test_a_message_that_is_too_large_is_not_taken() -> None:
    site = Site()
    dev = site.station("dev").connected()
    assert not dev.ask("publish", Message("a/b", bytes(2000)), 1)
    assert dev.ask("publish", Message("a/b", bytes(900)), 2)


def test_a_full_queue_takes_no_more() -> None:
    site = Site()
    dev = site.station("dev", queue=4)
    taken = [dev.ask("publish", Message("a/b", b"x", 1), token) for token in range(6)]
    assert taken == [True] * 4 + [False] * 2
    dev.connected().settle()
    assert sorted(dev.acknowledged) == [0, 1, 2, 3]


@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_a_day_of_sleep_loses_nothing(rate: float) -> None:
    site = Site(faults=errors(rate))
    dev = site.station("dev", "sleeper", clean_session=False).connected()
    dev.ask("subscribe", "down/#", 1)
    dev.settle()
    for turn, payload in enumerate(numbers(24)):
        dev.ask("sleep", 3600.0)
        assert site.run(600, lambda t=turn: len(dev.take(Asleep)) == t + 1)  # type: ignore[misc]
        site.publish("down/a", payload)
        site.run(3000)
        assert len(dev.arrived) == turn
        dev.publish("up/a", payload)
        dev.ask("wake")
        assert site.run(500, lambda t=turn: len(dev.take(Collected)) == t + 1)  # type: ignore[misc]
        dev.ask("connect")
        assert site.run(100, lambda: dev.client.is_up)
        site.run(60)
    assert [message.payload for message in dev.arrived] == numbers(24)
    assert [payload for topic, payload in site.heard if topic == "up/a"] == numbers(24)
    assert dev.take(Down) == []


def test_one_that_nobody_wakes_collects_by_itself_before_it_counts_as_lost() -> None:
    site = Site()
    will = Message("w", b"gone", 1)
    dev = site.station("dev", "sleeper", will=will, clean_session=False).connected()
    dev.ask("sleep", 600.0)
    site.run(DAY)
    assert site.heard == []
    assert len(dev.take(Collected)) == pytest.approx(DAY / 600, abs=2)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_one_per_cent_of_byte_errors_lose_nothing(qos: int, seed: int) -> None:
    site = Site(seed, errors(0.01))
    dev = site.station("dev", clean_session=False, window=4).connected()
    for payload in numbers(200):
        dev.publish(f"up/{payload[1] % 3}", payload, qos)
    dev.settle()
    assert sorted(dev.acknowledged) == sorted(dev.sent)
    for branch in range(3):
        got = [payload for topic, payload in site.heard if topic == f"up/{branch}"]
        want = [payload for payload in numbers(200) if payload[1] % 3 == branch]
        assert (got if qos == 2 else once_each(got)) == want


@pytest.mark.parametrize("seed", range(2))
def test_twenty_per_cent_leave_progress(seed: int) -> None:
    site = Site(seed, errors(0.20))
    dev = site.station("dev", clean_session=False).connected()
    for payload in numbers(10):
        dev.publish("u", payload, 2)
    dev.settle()
    assert [payload for _, payload in site.heard] == numbers(10)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_unplugging_loses_nothing(qos: int, seed: int) -> None:
    faults = errors(0.005, Faults(unplug_every=20.0, unplug_seconds=3.0))
    site = Site(seed, faults)
    dev = site.station("dev", clean_session=False).connected()
    dev.ask("subscribe", "down/#", 2)
    dev.settle()
    for payload in numbers(100):
        dev.publish("up/a", payload, qos)
        site.publish("down/a", payload, qos)
        site.run(3.0)
    site.run(600.0)
    dev.settle()
    got = [payload for topic, payload in site.heard if topic == "up/a"]
    assert (got if qos == 2 else once_each(got)) == numbers(100)
    got = [message.payload for message in dev.arrived]
    assert (got if qos == 2 else once_each(got)) == numbers(100)
    assert len(dev.line.happened) > 10


def test_what_waits_while_the_wire_is_away_is_not_said_twice() -> None:
    site = Site()
    dev = site.station("dev", clean_session=False, keep_alive=600).connected()
    dev.publish("up/a", b"before")
    dev.settle()
    dev.line.unplug(site.now)
    dev.publish("up/a", b"meanwhile")
    site.run(120.0)
    dev.line.plug(site.now)
    site.world.wake(dev.line)
    dev.settle()
    assert [payload for _, payload in site.heard] == [b"before", b"meanwhile"]
    assert dev.client.sn.repeats == 0


@pytest.mark.parametrize("seed", range(3))
def test_gateways_that_start_anew_lose_and_double_nothing(seed: int) -> None:
    site = Site(seed, errors(0.005))
    dev = site.station("dev", clean_session=False).connected()
    dev.ask("subscribe", "down/#", 2)
    dev.settle()
    for turn, payload in enumerate(numbers(60)):
        dev.publish("up/a", payload, 2)
        site.publish("down/a", payload, 2)
        if turn % 6 == 0:
            site.run(site.rng.random() * 0.05)
            dev.restart_gateway()
        site.run(5.0)
    dev.settle()
    assert [payload for topic, payload in site.heard if topic == "up/a"] == numbers(60)
    assert once_each([message.payload for message in dev.arrived]) == numbers(60)
    assert len(dev.take(Up)) > 5


def test_a_device_that_is_reset_in_mid_exchange_starts_anew() -> None:
    schedule = tuple(Incident(1000.0 + at, What.RESET) for at in (10.0, 20.013, 30.031))
    site = Site(2, Faults(schedule=schedule))
    dev = site.station("dev", clean_session=False)
    for turn in range(4):
        first = dev.client
        dev.connected()
        for payload in numbers(5):
            dev.publish(f"up/{turn}", payload, 1)
        assert turn == 3 or site.run(30, lambda c=first: dev.client is not c)  # type: ignore[misc]
    dev.settle()
    for turn in range(4):
        got = once_each([payload for topic, payload in site.heard if topic == f"up/{turn}"])
        assert got == numbers(len(got))
    assert len(got) == 5


@pytest.mark.parametrize("seed", range(5))
def test_both_ends_that_are_reset_in_mid_exchange_find_each_other_again(seed: int) -> None:
    site = Site(seed, errors(0.005))
    dev = site.station("dev", clean_session=False).connected()
    for turn in range(10):
        for payload in numbers(4):
            dev.publish(f"up/{turn}", payload, 2)
        site.run(site.rng.random() * 0.03)
        dev.line.reset(site.now)
        site.run(site.rng.random() * 0.01)
        dev.restart_gateway()
        dev.connected()
    dev.publish("up/last", b"done", 2)
    dev.settle()
    assert [payload for topic, payload in site.heard if topic == "up/last"] == [b"done"]
    for turn in range(10):  # what a reset device had not said is lost; nothing else goes wrong
        got = [payload for topic, payload in site.heard if topic == f"up/{turn}"]
        assert got == numbers(len(got))


@pytest.mark.parametrize("mode", ["raw", "slip"])
def test_plainer_wires_get_through_by_repeating(mode: str) -> None:
    site = Site(3, errors(0.002))
    dev = site.station("dev", mode, clean_session=False).connected()
    for payload in numbers(50):
        dev.publish("up/a", payload, 1)
    dev.settle()
    assert once_each([payload for topic, payload in site.heard if topic == "up/a"]) != []
    assert len(dev.acknowledged) == 50


def test_the_same_seed_tells_the_same_story() -> None:
    def story(seed: int) -> tuple[list[tuple[str, bytes]], int, float]:
        site = Site(seed, errors(0.02, Faults(unplug_every=30.0, unplug_seconds=1.0)))
        dev = site.station("dev", clean_session=False).connected()
        for payload in numbers(50):
            dev.publish("up/a", payload, 1)
            site.run(1.0)
        dev.settle()
        return site.heard, site.world.steps, site.now

    assert story(1) == story(1)
    assert story(1)[1] != story(2)[1]
