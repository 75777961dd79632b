"""When a message was sent by a device without a clock."""

from random import Random

from bridges.gateway.stamp import Stamp
from bridges.serial.frames import Channel
from bridges.serial.link import Link
from tests.unit.serial.link_world import DEVICE, HOST, World


def test_without_a_link_it_was_sent_when_it_came() -> None:
    assert Stamp(lambda: 1_700_000_000.1234)() == "1700000000.123"


def test_before_the_round_trip_is_known_too() -> None:
    stamp = Stamp(lambda: 12.0)
    stamp.link = Link(HOST, Random(1))
    assert stamp() == "12.000"


def test_on_a_link_it_was_sent_half_a_round_trip_before() -> None:
    world = World(device=DEVICE).opened()
    world.send(0, b"down", Channel.MQTT_SN)
    world.settle(5)
    round_trip = world.host.round_trip
    assert round_trip is not None
    assert round_trip > 0.002
    stamp = Stamp(lambda: 100.0)
    stamp.link = world.host
    assert stamp() == f"{100.0 - round_trip / 2:.3f}"
