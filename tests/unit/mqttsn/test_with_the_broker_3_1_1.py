"""The same in MQTT 3.1.1 between gateway and broker, and what is different there."""

import pytest

from broker.packets.codes import MQTT_3_1_1
from broker.packets.types import Publish
from tests.unit.mqttsn import test_with_the_broker as same
from tests.unit.mqttsn.engine_world import EngineWorld
from tests.unit.mqttsn.test_with_the_broker import connected, slept

BUDGET = 2000  # bytes


@pytest.fixture(autouse=True)
def version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EngineWorld, "version", MQTT_3_1_1)


test_a_message_goes = same.test_a_message_goes_from_device_to_device
test_clients_and_devices = same.test_mqtt_clients_and_devices_hear_each_other
test_a_will_is_published = same.test_a_will_is_published_when_a_device_is_lost
test_a_disconnect_publishes_no_will = same.test_a_disconnect_publishes_no_will
test_over_a_lossy_wire = same.test_over_a_lossy_wire_qos_1_arrives_and_qos_2_arrives_once
test_a_sleeping_device = same.test_a_device_sleeps_through_a_day_and_misses_nothing
test_after_a_restart = (
    same.test_after_a_restart_pingresp_waits_for_what_the_broker_reads_from_its_store
)
test_restarts_of_the_gateway = same.test_restarts_of_the_gateway_lose_nothing_and_double_no_qos_2
test_a_device_without_memory = same.test_a_device_that_loses_its_memory_is_told_the_names_again
test_a_device_that_never = same.test_a_device_that_never_acknowledges_harms_nobody


def test_a_restart_of_the_gateway_publishes_wills_and_is_not_noticed_by_durable_devices() -> None:
    world = EngineWorld()
    client = world.broker.connect("client")
    client.subscribe("w", qos=1)
    device = connected(world, "dev", clean=False, will=("w", b"gone", 1))
    device.subscribe("cmd", qos=2)
    world.run_until(lambda: device.is_idle)
    for number in range(2):
        world.restart_gateway()
        client.publish("cmd", b"%d" % number, qos=2)
        world.run(60)
    assert [got.payload for got in device.received] == [b"0", b"1"]
    assert device.connects == 1
    wills = [packet.payload for packet in client.received if isinstance(packet, Publish)]
    assert wills == [b"gone", b"gone"]  # it was armed again


@pytest.mark.parametrize("seed", range(4))
def test_when_the_wire_to_the_broker_breaks_clean_devices_connect_anew(seed: int) -> None:
    world = EngineWorld(seed)
    here = connected(world, "here")
    there = connected(world, "there", clean=False)
    there.subscribe("q", qos=2)
    world.run_until(lambda: there.is_idle)
    for n in range(200):
        here.publish("q", b"%d" % n, qos=1)
    while not here.is_idle:
        world.run(world.rng.uniform(0, 1))
        for pipe in list(world.pipes):
            pipe.break_off()
    world.run(100)
    heard = [int(got.payload) for got in there.received]
    assert sorted(set(heard)) == list(range(200))
    assert list(dict.fromkeys(heard)) == list(range(200))
    assert there.connects == 1
    assert here.connects > 1


def test_a_backlog_beyond_the_budget_waits_in_the_broker_and_one_wake_fetches_all_of_it() -> None:
    world = EngineWorld(device_bytes=BUDGET)
    device = slept(world, 1, messages=300)
    [held] = [each.held for each in world.gateway.devices]
    assert BUDGET < held < 2 * BUDGET
    device.wake()
    world.run_until(lambda: device.is_idle)
    assert [got.payload for got in device.received] == [b"%d" % n for n in range(300)]
