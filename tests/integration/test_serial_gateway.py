"""The whole last metre with nothing replaced: real broker, real pty, damaged bytes, pulled plugs,
and a kill in the middle. What must hold is the promise: acknowledged is kept, QoS 2 comes once,
topics keep their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bridges.serial.frames import Capability
from firmware_sim.clients.client import Asleep, Collected, Down, Up
from firmware_sim.wire.faults import errors
from tests.support.mqttsn_client import CONNECT
from tests.support.serial_bench import Bench
from tests.support.sn_carriers import Foreign, UdpCarrier

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.serial_bench import Device


@pytest.mark.parametrize("seed", [1, 2])
async def test_with_one_byte_in_a_hundred_damaged_all_arrive_in_order_and_qos_2_once(
    tmp_path: Path, seed: int
) -> None:
    async with Bench(tmp_path, ["dev"]) as bench:
        listener = await bench.listener("listener", "up/#")
        device = await subscribed(bench, "dev", seed=seed, faults=errors(0.01))
        for qos in (1, 2):
            device.publish(f"up/{qos}", qos, 60)
            listener.expect(f"up/{qos}")
            listener.publish(f"down/{qos}", qos, 30)
        await bench.settle()
        spoilt = [lane.faults.total for lane in device.wire.line.uart.lanes]
        assert min(spoilt) > 15, spoilt


async def test_with_one_byte_in_five_damaged_messages_still_arrive(tmp_path: Path) -> None:
    async with Bench(tmp_path, ["dev"]) as bench:
        listener = await bench.listener("listener", "up/#")
        listener.expect("up/1")
        device = bench.device("dev", seed=3, able=Capability(0), t_retry=30.0)
        device.publish("up/1", 1)
        await bench.settle()
        bench.spoil(device.wire, errors(0.2), seed=3)
        device.publish("up/1", 1, 5)
        await bench.settle()


async def test_a_plug_that_is_pulled_in_mid_frame_loses_nothing(tmp_path: Path) -> None:
    async with Bench(tmp_path, ["dev"]) as bench:
        listener = await bench.listener("listener", "up/#")
        device = await subscribed(bench, "dev", seed=4, baud=57_600)
        for qos in (1, 2):
            device.publish(f"up/{qos}", qos, 100)
            listener.expect(f"up/{qos}")
            listener.publish(f"down/{qos}", qos, 60)
        for pulled in range(1, 7):
            await bench.until(lambda: bench.ledger.arrived() > 40 * pulled)  # noqa: B023
            device.wire.unplug()
            device.wire.replug()
        await bench.settle()
        cut = [lane.counters.cut for lane in device.wire.line.uart.lanes]
        assert sum(cut) > 0, "no pull was in the middle of anything"


async def test_a_broker_that_is_killed_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """To a device in the middle of its messages, and for one that sleeps."""
    async with Bench(tmp_path, ["dev", "sleeper"]) as bench:
        listener = await bench.listener("listener", "up/#")
        device = await subscribed(bench, "dev", seed=5)
        sleeper = bench.device("sleeper", seed=6, sleeps=True)
        sleeper.subscribe("for/#", 2, "for/1", "for/2")
        sleeper.publish("up/3", 1)
        await bench.until(lambda: sleeper.is_done and sleeper.client.is_idle)
        sleeper.sleep(600)
        await bench.until(lambda: sleeper.count(Asleep) >= 1)
        for qos in (1, 2):
            device.publish(f"up/{qos}", qos, 100)
            listener.expect(f"up/{qos}", "up/3")
            listener.publish(f"down/{qos}", qos, 30)
            listener.publish(f"for/{qos}", qos, 10)
        await bench.until(lambda: bench.ledger.arrived() > 60)
        await bench.kill()
        await bench.until(lambda: listener.is_up and not bench.ledger.open())
        # It hears that the gateway has started anew, says who it is, and sleeps on.
        await bench.until(lambda: sleeper.count(Asleep) >= 2)
        sleeper.collect()
        await bench.until(lambda: sleeper.count(Collected) >= 1)
        sleeper.publish("up/3", 1)
        await bench.settle()


async def test_registrations_and_messages_of_a_sleeping_device_survive_a_kill(
    tmp_path: Path,
) -> None:
    """A foreign client over UDP, which keeps its topic ids."""
    async with Bench(tmp_path, []) as bench:
        listener = await bench.listener("listener", "up/#")
        listener.expect("up/1")
        device = Foreign(bench.ledger, "sleeper", clean=False)
        device.sn.connect()
        device.subscribe("for/#", 1, "for/1", "for/2")
        device.publish("up/1", 1)
        udp = await UdpCarrier.open(bench, device)
        await bench.until(lambda: device.sn.is_idle)
        listener.publish("for/1", 1)
        await bench.until(lambda: len(device.sn.received) == 1)
        device.sn.sleep(600)
        udp.pump()
        await bench.until(lambda: device.sn.state == "asleep")
        listener.publish("for/1", 1, 5)
        listener.publish("for/2", 2, 5)
        await bench.until(lambda: not bench.ledger.open())
        await bench.kill()
        await bench.until(lambda: listener.is_up)
        known = dict(device.sn.topics)
        device.sn.wake()
        device.publish("up/1", 1)
        udp.pump()
        await bench.settle()
        assert device.sn.connects == 1
        assert known.items() <= device.sn.topics.items()


async def test_a_device_that_never_acknowledges_harms_nobody(tmp_path: Path) -> None:
    settings = {"mqttsn": {"t_retry": "0.3 s", "n_retry": 2}}
    async with Bench(tmp_path, ["dev"], settings=settings) as bench:
        listener = await bench.listener("listener", "up/#")
        listener.expect("up/1")
        deaf = Foreign(bench.ledger, "deaf", clean=False)
        deaf.sn.connect()
        deaf.sn.subscribe("down/#", 2)
        udp = await UdpCarrier.open(bench, deaf)
        await bench.until(lambda: deaf.sn.is_idle)
        deaf.sn.mute = True
        device = await subscribed(bench, "dev", seed=7)
        listener.publish("down/1", 1, 200)
        device.publish("up/1", 1, 20)
        await bench.settle()
        await bench.until_logged("'deaf' from .* is gone")
        deaf.sn.mute = False
        bench.ledger.wants["deaf"] = {"down/1"}
        deaf.sn.reset()
        deaf.sn.connect()
        udp.pump()
        await bench.settle()  # nothing was lost for it: it was the broker's to keep


async def test_who_claims_anothers_client_id_is_refused(tmp_path: Path) -> None:
    async with Bench(tmp_path, ["one", "two"]) as bench:
        listener = await bench.listener("listener", "up/#")
        listener.expect("up/1")
        owner = await subscribed(bench, "one", seed=8)
        thief = bench.device("two", seed=9, name="one")
        stranger = Foreign(bench.ledger, "one")
        stranger.sn.connect()
        await UdpCarrier.open(bench, stranger)
        await bench.until(lambda: thief.count(Down) > 0 and bool(stranger.sn.done))
        assert stranger.sn.done[0] == (CONNECT, 1)  # congestion: come again later
        owner.publish("up/1", 1, 10)
        listener.publish("down/1", 1, 10)
        listener.publish("down/2", 2, 10)
        await bench.settle()
        assert (owner.count(Up), owner.count(Down)) == (1, 0)
        assert (thief.count(Up), thief.got, stranger.sn.received) == (0, [], [])


async def subscribed(bench: Bench, port: str, **options: Any) -> Device:
    """A device that gets down/1 and down/2."""
    device = bench.device(port, **options)
    device.subscribe("down/#", 2, "down/1", "down/2")
    await bench.until(lambda: device.client.is_idle and device.count(Up) > 0)
    return device
