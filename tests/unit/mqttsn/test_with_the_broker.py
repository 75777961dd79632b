"""An independent client, the gateway and the real broker, in virtual time."""

from collections import Counter

import pytest

from broker.packets.types import Publish
from tests.support.mqttsn_client import SnClient
from tests.support.store import MemoryStore
from tests.unit.mqttsn.engine_world import DELAY, EngineWorld

HOUR = 3600


def connected(world: EngineWorld, *args: object, **kwargs: object) -> SnClient:
    device = world.add(SnClient(*args, **kwargs))
    device.connect()
    world.run_until(lambda: device.is_idle)
    assert device.state == "active"
    return device


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_goes_from_device_to_device(qos: int) -> None:
    world = EngineWorld()
    here, there = connected(world, "here"), connected(world, "there")
    there.subscribe("a/#", qos=2)
    here.publish("a/b", b"x", qos=qos)
    world.run(5)
    assert there.received == [("a/b", b"x", qos, False)]
    assert here.is_idle


def test_mqtt_clients_and_devices_hear_each_other() -> None:
    world = EngineWorld()
    device = connected(world, "dev")
    client = world.broker.connect("client")
    client.subscribe("up/#", qos=1)
    device.subscribe("down/x", qos=1)
    device.publish("up/x", b"1", qos=1, retain=True)
    world.run(1)
    assert client.take(Publish).payload == b"1"
    client.publish("down/x", b"2", qos=1)
    world.run(1)
    assert device.received == [("down/x", b"2", 1, False)]


def test_a_will_is_published_when_a_device_is_lost() -> None:
    world = EngineWorld()
    client = world.broker.connect("client")
    client.subscribe("w/#", qos=1)
    device = connected(world, "dev", will=("w/dev", b"gone", 1))
    world.run(HOUR)
    assert client.received == []
    device.mute = True
    world.run(200)
    assert client.take(Publish).payload == b"gone"


def test_a_disconnect_publishes_no_will() -> None:
    world = EngineWorld()
    client = world.broker.connect("client")
    client.subscribe("w/#", qos=1)
    device = connected(world, "dev", will=("w/dev", b"gone", 1))
    device.disconnect()
    world.run(HOUR)
    assert client.received == []
    assert [session.client_id for session in world.broker.engine.sessions] == ["client"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loss", [0.01, 0.2])
def test_over_a_lossy_wire_qos_1_arrives_and_qos_2_arrives_once(seed: int, loss: float) -> None:
    world = EngineWorld(seed, loss=loss, doubling=0.05, n_retry=8)
    here = connected(world, "here", clean=False)
    there = connected(world, "there", clean=False)
    there.subscribe("q/#", qos=2)
    world.run_until(lambda: there.is_idle)
    for n in range(100):
        here.publish(f"q/{n % 3}", b"one %d" % n, qos=1)
        here.publish(f"q/{n % 3}", b"two %d" % n, qos=2)
    world.run_until(lambda: here.is_idle)
    expected = {b"%s %d" % (word, n) for n in range(100) for word in (b"one", b"two")}
    world.run_until(lambda: {got.payload for got in there.received} == expected)
    world.run(100)
    twos = [got.payload for got in there.received if got.payload.startswith(b"two")]
    assert Counter(twos) == Counter(b"two %d" % n for n in range(100))
    for topic in range(3):
        order = [got.payload for got in there.received if got.topic == f"q/{topic}"]
        firsts = list(dict.fromkeys(each for each in order if each.startswith(b"two")))
        assert firsts == [b"two %d" % n for n in range(100) if n % 3 == topic]


def test_a_device_sleeps_through_a_day_and_misses_nothing() -> None:
    world = EngineWorld(loss=0.05)
    device = connected(world, "dev", clean=False)
    device.subscribe("cmd/#", qos=1)
    world.run_until(lambda: device.is_idle)
    device.sleep(900)
    world.run_until(lambda: device.state == "asleep")
    client = world.broker.connect("client")
    sent = []
    for quarter in range(96):
        for n in range(quarter % 4):
            sent.append(b"%d/%d" % (quarter, n))
            client.publish(f"cmd/{quarter}", sent[-1], qos=1)
        world.run(880)
        device.wake()
        world.run_until(lambda: device.is_idle)
    assert list(dict.fromkeys(got.payload for got in device.received)) == sent
    assert device.connects == 1
    assert world.now - 1000 > 23 * HOUR


def test_a_backlog_waits_in_the_broker_and_one_wake_fetches_all_of_it() -> None:
    world = EngineWorld(receive_maximum=2)
    device = connected(world, "dev", clean=False)
    device.subscribe("cmd", qos=2)
    world.run_until(lambda: device.is_idle)
    device.sleep(HOUR)
    world.run(10)
    client = world.broker.connect("client")
    for n in range(300):
        client.publish("cmd", b"%d" % n, qos=1 + n % 2)
        world.run(0.1)
    [held] = [each.held for each in world.gateway.devices]
    assert held < 1000
    device.wake()
    world.run_until(lambda: device.is_idle)
    assert [got.payload for got in device.received] == [b"%d" % n for n in range(300)]


def slept(world: EngineWorld, qos: int, messages: int) -> SnClient:
    """A device that sleeps; so many messages wait for it."""
    device = connected(world, "dev", clean=False)
    device.subscribe("cmd", qos=2)
    world.run_until(lambda: device.is_idle)
    device.sleep(HOUR)
    world.run(1)
    client = world.broker.connect("client")
    for n in range(messages):
        client.publish("cmd", b"%d" % n, qos=qos)
        world.run(0.1)
    return device


@pytest.mark.parametrize("qos", [1, 2])
def test_after_a_restart_pingresp_waits_for_what_the_broker_reads_from_its_store(qos: int) -> None:
    world = EngineWorld(store=MemoryStore(instant=True))
    device = slept(world, qos, messages=6)
    world.restart_all()
    store = world.broker.store
    store.instant = False
    device.wake()
    world.run(3)
    assert (device.pings, device.received) == (0, [])  # what was in flight is still to be read
    while world.broker.engine.sessions.get("dev").carrier is None:
        assert store.commit_next()
    world.run(3)
    assert device.pings == 0  # and now, what waits
    assert len(device.received) < 6
    store.instant = True
    world.run(3)
    assert device.pings == 1
    assert [got.payload for got in device.received] == [b"%d" % n for n in range(6)]
    assert device.connects == 1


def test_pingresp_waits_for_qos_2_that_the_broker_must_store_before_it_sends_it() -> None:
    world = EngineWorld(store=MemoryStore(instant=True), receive_maximum=1)
    device = slept(world, 2, messages=3)
    device.wake()
    world.run(4.5 * DELAY)  # PINGREQ, PUBLISH, PUBREC, PUBREL; the PUBCOMP is on its way
    world.broker.store.instant = False
    world.run(3)
    assert (device.pings, len(device.received)) == (0, 1)
    world.broker.store.instant = True
    world.run(3)
    assert device.pings == 1
    assert [got.payload for got in device.received] == [b"0", b"1", b"2"]


def test_a_restart_of_the_gateway_is_not_noticed_by_devices() -> None:
    world = EngineWorld()
    client = world.broker.connect("client")
    client.subscribe("#", qos=2)
    awake = connected(world, "awake", clean=False, will=("w", b"gone", 1))
    asleep = connected(world, "asleep", clean=False)
    for device in (awake, asleep):
        device.subscribe("cmd/#", qos=2)
        device.publish("up", b"before", qos=1)
    world.run_until(lambda: awake.is_idle and asleep.is_idle)
    asleep.sleep(HOUR)
    world.run(10)
    client.publish("cmd/1", b"while it was there", qos=2)
    world.run(10)
    world.restart_gateway()
    client.publish("cmd/1", b"after", qos=2)
    awake.publish("up", b"after", qos=1)
    asleep.wake()
    world.run(60)
    for device in (awake, asleep):
        assert [got.payload for got in device.received] == [b"while it was there", b"after"]
        assert device.connects == 1
    payloads = [packet.payload for packet in client.received if isinstance(packet, Publish)]
    assert b"after" in payloads
    assert b"gone" not in payloads


@pytest.mark.parametrize("seed", range(4))
def test_restarts_of_the_gateway_lose_nothing_and_double_no_qos_2(seed: int) -> None:
    world = EngineWorld(seed, loss=0.05, n_retry=8)
    here = connected(world, "here", clean=False)
    there = connected(world, "there", clean=False)
    there.subscribe("q", qos=2)
    world.run_until(lambda: there.is_idle)
    for n in range(100):
        here.publish("q", b"%d" % n, qos=2)
    while not here.is_idle:
        world.run(world.rng.uniform(1, 20))
        world.restart_gateway()
    world.run_until(lambda: len({got.payload for got in there.received}) == 100)
    world.run(200)
    assert [got.payload for got in there.received] == [b"%d" % n for n in range(100)]


@pytest.mark.parametrize("seed", range(4))
def test_a_wire_to_the_broker_that_breaks_is_not_noticed_by_devices(seed: int) -> None:
    world = EngineWorld(seed)
    here = connected(world, "here")
    there = connected(world, "there", clean=False)
    there.subscribe("q", qos=2)
    world.run_until(lambda: there.is_idle)
    for n in range(200):
        here.publish("q", b"%d" % n, qos=2)
    while not here.is_idle:
        world.run(world.rng.uniform(0, 1))
        for pipe in list(world.pipes):
            pipe.break_off()
    world.run(100)
    assert [got.payload for got in there.received] == [b"%d" % n for n in range(200)]
    assert here.connects == there.connects == 1


def test_a_device_that_loses_its_memory_is_told_the_names_again() -> None:
    world = EngineWorld()
    device = connected(world, "dev", clean=False)
    device.subscribe("a/#", qos=1)
    world.run(5)
    client = world.broker.connect("client")
    client.publish("a/1", b"x", qos=1)
    world.run(5)
    device.reset()
    client.publish("a/1", b"y", qos=1)
    device.connect()
    world.run(60)
    assert [got.payload for got in device.received] == [b"x", b"y"]
    device.topics.clear()  # and without a CONNECT
    client.publish("a/1", b"z", qos=1)
    world.run(60)
    assert [got.payload for got in device.received] == [b"x", b"y", b"z"]


def test_a_device_that_never_acknowledges_harms_nobody() -> None:
    world = EngineWorld()
    good, bad = connected(world, "good", clean=False), connected(world, "bad", clean=False)
    for device in (good, bad):
        device.subscribe("a", qos=1)
    world.run(10)
    bad.mute = True
    client = world.broker.connect("client")
    for n in range(50):
        client.publish("a", b"%d" % n, qos=1)
        world.run(10)
    assert len(good.received) == 50
    assert [device.client_id for device in world.gateway.devices] == ["good"]
    bad.mute = False
    bad.connect()
    world.run(60)
    assert [got.payload for got in bad.received] == [b"%d" % n for n in range(50)]


def test_a_will_can_be_changed_while_messages_are_under_way() -> None:
    from bridges.mqttsn.packets import Pingresp
    from bridges.mqttsn.ports import Will

    world = EngineWorld()
    client = world.broker.connect("client")
    client.subscribe("#", qos=1)
    device = connected(world, "dev", will=("w", b"old", 1))
    device.publish("q", b"x", qos=2)
    world.run(0.12)
    [view] = world.gateway.devices
    view._update_will(Will("w", b"new", 1), Pingresp())
    world.run(20)
    assert client.take(Publish).payload == b"x"
    assert client.received == []
    device.mute = True
    world.run(200)
    assert client.take(Publish).payload == b"new"
    assert client.received == []
