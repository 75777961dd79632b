"""The conversations of every device, in virtual time: the model, and the client in C compiled for
this computer.
"""

import pytest

from firmware_sim.firmware.compiled import CompiledDevice
from firmware_sim.wire.faults import errors
from firmware_sim.wire.uart import LaneSettings
from firmware_sim.wire.worlds import VirtualWorld
from tests.support.device_conversations import (
    IMAGE_TALKS,
    TALKS,
    after_a_storm_nothing_is_lost_that_was_promised,
    on_a_bad_wire_everything_comes_once,
)
from tests.support.device_site import EPOCH, Conversation, Site
from tests.support.mcu import built
from tests.support.model_device import ModelDevice

SHELF = 4096


def compiled(world: VirtualWorld, **arguments) -> Site:
    """As small as it gets: CRC-16, 48 bytes, one frame at a time."""
    device = CompiledDevice(built("host", "libhost.so"))
    return Site(world, device, "host", SHELF, **arguments)


def large(world: VirtualWorld, **arguments) -> Site:
    """CRC-32, 240 bytes, four frames at a time."""
    device = CompiledDevice(built("host", "libhost-large.so"))
    return Site(world, device, "host", SHELF, **arguments)


def model(world: VirtualWorld, **arguments) -> Site:
    return Site(world, ModelDevice("model"), "model", **arguments)


def hold(site: Site, talk: Conversation) -> None:
    """Go through a conversation, with a minute for each step."""
    site.begin()
    for step, condition in enumerate(talk(site)):
        assert site.world.run(60, condition), f"step {step} does not come"


@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk.__name__)
def test_the_model(talk):
    hold(model(VirtualWorld()), talk)


@pytest.mark.parametrize("talk", TALKS + IMAGE_TALKS, ids=lambda talk: talk.__name__)
@pytest.mark.parametrize("device", [compiled, large])
def test_the_compiled_client(device, talk):
    hold(device(VirtualWorld()), talk)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [1 / 300, 1 / 100, 1 / 30])
@pytest.mark.parametrize("device", [model, compiled, large])
def test_on_bad_wires(device, rate, seed):
    lane = LaneSettings(faults=errors(rate))
    site = device(VirtualWorld(), lanes=(lane, lane), seed=seed)
    hold(site, on_a_bad_wire_everything_comes_once)


@pytest.mark.parametrize("seed", range(10))
def test_the_compiled_client_in_storms(seed):
    lane = LaneSettings(faults=errors((0, 1 / 300, 1 / 60)[seed % 3]))
    site = compiled(VirtualWorld(), lanes=(lane, lane), seed=seed)
    hold(site, after_a_storm_nothing_is_lost_that_was_promised)


def test_the_compiled_client_asks_for_the_time():
    site, device = ready()
    assert device.time() == 0.0
    device.ask_time()
    assert site.world.run(10, lambda: device.time() > 0)
    for _ in range(3):
        site.world.run(50)
        assert device.time() == pytest.approx(EPOCH + site.world.now, abs=0.05)


def test_the_compiled_client_sends_lines_of_log():
    site, device = ready()
    assert site.world.run(1, lambda: device.log(b"something happened"))
    assert site.world.run(1, lambda: site.host.log == [b"something happened"])
    assert not device.log(bytes(49))


def test_the_compiled_client_switches_its_led():
    site, device = ready()
    site.tell("led 1")
    assert site.world.run(1, lambda: device.is_led_on)
    site.tell("led 0")
    assert site.world.run(1, lambda: not device.is_led_on)


def ready() -> tuple[Site, CompiledDevice]:
    """A site whose device is up."""
    site = compiled(VirtualWorld())
    site.begin()
    assert site.world.run(10, lambda: bool(site.ups()))
    device = site.line.device
    assert isinstance(device, CompiledDevice)
    return site, device
