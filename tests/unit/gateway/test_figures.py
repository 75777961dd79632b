"""Retained topics from snapshots: said when they change, removed when their subject is gone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from bridges.gateway.figures import (
    DEVICE_TOPICS,
    INHERITED_FOR,
    PORT_TOPICS,
    DeviceFigures,
    PortFigures,
    Teller,
    level,
    own_prefix,
)
from bridges.gateway.home_assistant import (
    DEVICE_COMPONENTS,
    PORT_COMPONENTS,
    HomeAssistant,
    safe_id,
)
from bridges.gateway.keeping import Waiting
from bridges.gateway.snapshots import Census, printed, with_link
from bridges.mqttsn.ports import Address, Note, Stage
from bridges.mqttsn.states import State
from bridges.serial.link import Link, LinkSettings

PORT = PortFigures("usb", "/dev/ttyUSB0", True, "framed", 115_200, round_trip=0.0042, resent=3)
DEVICE = DeviceFigures("dev", "usb", "usb", "active", 1_800_000_000.4, 0.02, 1, 512)


class World:
    """A broker that retains."""

    def __init__(self) -> None:
        self.retained: dict[str, str] = {}
        self.published: list[str] = []

    def publish(self, topic: str, payload: bytes, retain: bool) -> None:
        assert retain
        self.published.append(topic)
        if payload:
            self.retained[topic] = payload.decode()
        else:
            self.retained.pop(topic, None)

    def news(self) -> list[str]:
        news, self.published = self.published, []
        return news


class Remembered:
    """A Told."""

    def __init__(self) -> None:
        self.kept: set[str] = set()

    def topics(self) -> list[str]:
        return list(self.kept)

    def add(self, topic: str) -> None:
        self.kept.add(topic)

    def discard(self, topic: str) -> None:
        self.kept.discard(topic)


def test_each_figure_has_a_topic_of_its_own() -> None:
    world = World()
    Teller(world.publish).tell([PORT], [DEVICE], 0.0)
    said = world.retained
    assert said["$SYS/broker/gateway/state"] == "online"
    assert said["$SYS/broker/serial/usb/state"] == "open"
    assert said["$SYS/broker/serial/usb/round_trip/milliseconds"] == "4.2"
    assert said["$SYS/broker/serial/usb/frames/resent"] == "3"
    assert "$SYS/broker/serial/usb/error" not in said
    assert said["$SYS/broker/mqttsn/usb/dev/last_seen"] == "2027-01-15T08:00:00+00:00"
    assert said["$SYS/broker/mqttsn/usb/dev/messages/held/bytes"] == "512"
    assert said["$SYS/broker/mqttsn/devices/active"] == "1"
    assert said["$SYS/broker/mqttsn/devices/away"] == "0"


def test_only_what_has_changed_is_said_again() -> None:
    world = World()
    teller = Teller(world.publish)
    teller.tell([PORT], [DEVICE], 0.0)
    world.news()
    teller.tell([PORT], [DEVICE], 1.0)
    assert world.news() == []
    teller.tell([replace(PORT, resent=4)], [DEVICE], 2.0)
    assert world.news() == ["$SYS/broker/serial/usb/frames/resent"]


def test_what_is_gone_is_removed_and_nothing_else() -> None:
    world = World()
    teller = Teller(world.publish, discoveries=[HomeAssistant("homeassistant", "gw", "1.0")])
    teller.tell([PORT, replace(PORT, name="other")], [DEVICE], 0.0)
    assert len([each for each in world.retained if each.startswith("homeassistant/")]) == 3
    teller.tell([PORT], [], 1.0)
    assert not [each for each in world.retained if "/other/" in each or "/dev/" in each]
    assert [each for each in world.retained if each.startswith("homeassistant/")] == [
        "homeassistant/device/heliograph_gw_port_usb/config"
    ]
    assert world.retained["$SYS/broker/serial/usb/state"] == "open"


def test_names_make_one_level_each_and_never_the_same() -> None:
    names = ["a/b", "a%2Fb", "a+b", "a#b", "ab", "\u00fc", "devices", "a\0b"]
    levels = [level(name) for name in names]
    assert len(set(levels)) == len(names)
    assert not [each for each in levels if set("/+#\0") & set(each)]
    world = World()
    devices = [replace(DEVICE, client_id=name, gateway=name) for name in names]
    Teller(world.publish).tell([], devices, 0.0)
    states = [each for each in world.retained if each.endswith("/state")]
    assert len(states) == len(names) + 1


def test_at_most_so_many_devices_are_told_and_those_that_are_here_first() -> None:
    world = World()
    devices = [replace(DEVICE, client_id=f"away{n}", state="away") for n in range(50)]
    devices += [replace(DEVICE, client_id=f"here{n}") for n in range(5)]
    Teller(world.publish, most_devices=7).tell([], devices, 0.0)
    told = {
        each.split("/")[4] for each in world.retained if each.endswith("/dev") or "/usb/" in each
    }
    assert told == {"here0", "here1", "here2", "here3", "here4", "away0", "away1"}
    assert world.retained["$SYS/broker/mqttsn/devices/away"] == "50"


def test_when_a_device_was_last_seen_stays_when_it_is_away() -> None:
    world = World()
    teller = Teller(world.publish)
    teller.tell([], [DEVICE], 0.0)
    teller.tell([], [replace(DEVICE, state="away", last_seen=None)], 1.0)
    assert world.retained["$SYS/broker/mqttsn/usb/dev/state"] == "away"
    assert world.retained["$SYS/broker/mqttsn/usb/dev/last_seen"].startswith("2027")


def test_a_broker_that_has_lost_everything_hears_it_all_again() -> None:
    world = World()
    teller = Teller(world.publish)
    teller.tell([PORT], [DEVICE], 0.0)
    before = dict(world.retained)
    world.retained.clear()
    teller.say_again()
    teller.tell([PORT], [DEVICE], 1.0)
    assert world.retained == before


def test_what_an_earlier_gateway_has_said_is_removed_in_the_end() -> None:
    world, told = World(), Remembered()
    prefix = own_prefix("field 1")
    Teller(world.publish, prefix, told).tell([PORT], [DEVICE], 0.0)
    assert "heliograph/gateway/field 1/mqttsn/usb/dev/state" in world.retained
    later = Teller(world.publish, prefix, told)
    later.tell([PORT], [], 100.0)
    assert prefix + "mqttsn/usb/dev/state" in world.retained  # it may still come
    later.tell([PORT], [], 100.0 + INHERITED_FOR)
    assert prefix + "mqttsn/usb/dev/state" not in world.retained
    assert prefix + "serial/usb/state" in world.retained
    assert told.kept == set(world.retained)


def test_a_forgotten_device_is_removed_at_once_also_if_an_earlier_gateway_told_of_it() -> None:
    world, told = World(), Remembered()
    home = HomeAssistant("ha", "gw", "1.0")
    Teller(world.publish, told=told, discoveries=[home]).tell([PORT], [DEVICE], 0.0)
    later = Teller(world.publish, told=told, discoveries=[home])
    later.tell([PORT], [], 1.0)
    later.forget([DeviceFigures("dev", "usb"), DeviceFigures("dev", "udp")])
    assert not [each for each in world.retained if "dev" in each.split("/")]
    assert [each for each in world.retained if each.startswith("ha/")] == [
        "ha/device/heliograph_gw_port_usb/config"
    ]
    assert told.kept == set(world.retained)


def test_a_gateway_that_leaves_says_so_and_what_it_said_stays() -> None:
    world = World()
    teller = Teller(world.publish)
    teller.tell([PORT], [], 0.0)
    teller.leave()
    assert world.retained["$SYS/broker/gateway/state"] == "offline"
    assert world.retained["$SYS/broker/serial/usb/state"] == "open"


# ---- Home Assistant ----

# What its documentation requires of a device discovery message.
DEVICE_KEYS = {
    *("configuration_url", "connections", "hw_version", "identifiers", "manufacturer", "model"),
    *("model_id", "name", "serial_number", "suggested_area", "sw_version", "via_device"),
}
ORIGIN_KEYS = {"name", "sw_version", "support_url"}
COMPONENT_KEYS = {
    *("platform", "unique_id", "state_topic", "name", "device_class", "state_class", "icon"),
    *("unit_of_measurement", "entity_category", "options", "payload_on", "payload_off"),
}
NODE = re.compile(r"^[a-zA-Z0-9_-]+$")


def configurations(*devices: DeviceFigures) -> list[tuple[str, dict[str, Any]]]:
    home = HomeAssistant("homeassistant", "gw", "1.0")
    ports = [replace(PORT, uid="abc", firmware="2.1"), replace(PORT, name="/dev/tty*")]
    return [(topic, json.loads(text)) for topic, text in home.messages(ports, devices)]


def test_discovery_messages_have_what_home_assistant_requires() -> None:
    found = configurations(DEVICE, replace(DEVICE, client_id="d\u00e4v/+#"))
    assert len(found) == 4
    for topic, payload in found:
        prefix, kind, node, config = topic.split("/")
        assert (prefix, kind, config) == ("homeassistant", "device", "config")
        assert NODE.match(node)
        device, origin = payload["device"], payload["origin"]
        assert device["identifiers"] == [node]
        assert set(device) <= DEVICE_KEYS
        assert origin["name"]
        assert set(origin) <= ORIGIN_KEYS
        assert payload["availability_topic"] == "$SYS/broker/gateway/state"
        for component in payload["components"].values():
            assert component["platform"] in {"sensor", "binary_sensor"}
            assert NODE.match(component["unique_id"])
            assert set(component) <= COMPONENT_KEYS


def test_a_device_is_shown_behind_its_port() -> None:
    (port, _), _, (_, payload), (_, other) = configurations(DEVICE, replace(DEVICE, gateway="udp"))
    assert payload["device"]["via_device"] == port.split("/")[2]
    assert "via_device" not in other["device"]


def test_unique_ids_are_unique() -> None:
    found = configurations(DEVICE, replace(DEVICE, client_id="dev2"))
    ids = [each["unique_id"] for _, payload in found for each in payload["components"].values()]
    assert len(set(ids)) == len(ids)


def test_components_point_at_topics_that_are_told() -> None:
    world = World()
    Teller(world.publish).tell([replace(PORT, mode="text")], [DEVICE], 0.0)
    home = HomeAssistant("homeassistant", "gw", "1.0")
    for _, text in home.messages([PORT], [DEVICE]):
        for component in json.loads(text)["components"].values():
            assert component["state_topic"] in world.retained
    assert PORT_COMPONENTS.keys() <= PORT_TOPICS.keys()
    assert DEVICE_COMPONENTS.keys() <= DEVICE_TOPICS.keys()


def test_numbers_have_no_unit_or_one_that_their_class_allows() -> None:
    units = {"data_size": "B", "duration": "ms"}
    for component in (*PORT_COMPONENTS.values(), *DEVICE_COMPONENTS.values()):
        device_class = component.get("device_class", "")
        assert component.get("unit_of_measurement") == units.get(device_class)
        if device_class in {"enum", "timestamp"}:
            assert "state_class" not in component


def test_a_stranger_makes_nothing_appear_in_home_assistant() -> None:
    assert len(configurations(replace(DEVICE, state="quarantined"))) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a_b", "c"), ("a", "b_c")),
        (("a", "b/c"), ("a", "b+c")),
        (("x" * 200, "1"), ("x" * 200, "2")),
        (("\u00e4",), ("\u00f6",)),
        (("a", ""), ("a",)),
    ],
)
def test_different_names_make_different_ids(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert safe_id(*one) != safe_id(*other)
    for names in (one, other):
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,80}", safe_id(*names))


# ---- snapshots ----


class Machine:
    """As much of a Device as the Census looks at."""

    def __init__(self, client_id: str, state: Any, last_seen: float) -> None:
        self.client_id = client_id
        self.state = state
        self.last_seen = last_seen
        self.address = Address("", b"\x07")
        self.round_trip = 0.0
        self.repeats = 2
        self.held = 10
        self.sleep = 60


def test_the_census_knows_who_is_here_who_was_and_who_is_noted() -> None:
    census = Census(1000.0)
    here: Any = [Machine("dev", State.ASLEEP, 5.2), Machine("opening", State.OPENING, 5.0)]
    note = Note("noted", Address("usb"), Stage.AWAY, False, 60)
    stale = Note("dev", Address(), Stage.ACTIVE, False, 60)
    census.begin()
    census.count("usb", here, [note, stale])
    stranger = Waiting("new", "udp", "10.0.0.1:5", 1, 900.0)
    found = {each.client_id: each for each in census.devices([stranger])}
    assert found.keys() == {"dev", "noted", "new"}
    assert found["dev"] == DeviceFigures("dev", "usb", "/07", "asleep", 1005, None, 2, 10, 60)
    assert (found["noted"].state, found["noted"].last_seen) == ("away", None)
    assert found["new"].state == "quarantined"
    census.begin()
    census.count("usb", [], [note])
    (dev,) = [each for each in census.devices() if each.client_id == "dev"]
    assert (dev.state, dev.last_seen, dev.held) == ("away", 1005, 0)
    assert [each.client_id for each in census.forget("dev")] == ["dev"]
    census.begin()
    census.count("usb", [], [note])
    assert [each.client_id for each in census.devices()] == ["noted"]


def test_who_was_here_is_not_lost_with_a_round_that_is_given_up() -> None:
    census = Census(1000.0)
    device: Any = Machine("dev", State.ACTIVE, 5.0)
    census.begin()
    census.count("usb", [device], [])
    census.devices()
    census.begin()  # and no more of it
    census.begin()
    census.count("usb", [], [])
    (dev,) = census.devices()
    assert (dev.state, dev.last_seen) == ("away", 1005)


def test_the_census_is_bounded() -> None:
    census = Census(0.0, most=3)
    for number in range(20):
        census.begin()
        device: Any = Machine(f"dev{number}", State.ACTIVE, 1.0)
        census.count("usb", [device], [])
        assert len(census.devices()) <= 4


def test_a_link_adds_its_figures() -> None:
    link = Link(LinkSettings(uid=b"gw"), Random(1))
    link.counters.damaged = 7
    figures = with_link(PORT, link)
    assert (figures.damaged, figures.state, figures.path) == (7, "down", "/dev/ttyUSB0")


@pytest.mark.parametrize(
    ("uid", "text"), [(b"node-7", "node-7"), (b"\x00\xff", "00ff"), (b"", ""), (b"\xe4", "e4")]
)
def test_uids_are_printed(uid: bytes, text: str) -> None:
    assert printed(uid) == text
