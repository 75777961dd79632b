"""The command line's client against a scripted broker: no sockets, packets in and out as values."""

import asyncio

import pytest

from broker.cli.client import Client, ConnectionLostError, RefusedError
from broker.packets.codes import MQTT_3_1_1, MQTT_5, ReasonCode
from broker.packets.types import (
    Connack,
    Connect,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from tests.unit.cli.scripted_broker import ScriptedBroker, connected, soon

pytestmark = pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])


async def test_a_connection_begins_with_connect_and_ends_with_disconnect(version: int) -> None:
    broker = ScriptedBroker(version)
    client = Client(broker, Connect("me", version=version))
    broker.say(Connack(session_present=True))
    connack = await client.start()
    await client.stop()
    assert connack.session_present
    assert await broker.hear() == Connect("me", version=version)
    assert await broker.hear() == Disconnect()
    assert broker.closed


async def test_a_refusal_has_its_reason_and_a_hint(version: int) -> None:
    broker = ScriptedBroker(version)
    client = Client(broker, Connect(version=version))
    broker.say(Connack(reason=5 if version < MQTT_5 else ReasonCode.NOT_AUTHORIZED))
    with pytest.raises(RefusedError, match="-u USER"):
        await client.start()
    await client.stop()


async def test_a_broker_that_hangs_up_instead_of_answering_is_told(version: int) -> None:
    broker = ScriptedBroker(version)
    client = Client(broker, Connect(version=version))
    broker.hang_up()
    with pytest.raises(ConnectionLostError, match="closed the connection"):
        await client.start()
    await client.stop()


async def test_a_far_end_that_speaks_no_mqtt_is_told(version: int) -> None:
    broker = ScriptedBroker(version)
    client = Client(broker, Connect(version=version))
    broker.to_client.put_nowait(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100)
    with pytest.raises(ConnectionLostError, match="not MQTT"):
        await client.start()
    await client.stop()


async def test_qos_0_is_sent_once_it_is_written(version: int) -> None:
    client, broker = await connected(version)
    assert await (await client.publish(Publish("t", b"x"))) == 0
    assert await broker.hear() == Publish("t", b"x")
    await client.stop()


async def test_qos_1_is_sent_once_it_is_acknowledged(version: int) -> None:
    client, broker = await connected(version)
    done = await client.publish(Publish("t", b"x", qos=1))
    assert await broker.hear() == Publish("t", b"x", qos=1, packet_id=1)
    assert not done.done()
    broker.say(Puback(1))
    assert await soon(done) == 0
    await client.stop()


async def test_qos_2_is_sent_once_all_four_steps_are_done(version: int) -> None:
    client, broker = await connected(version)
    done = await client.publish(Publish("t", b"x", qos=2))
    await broker.hear()
    broker.say(Pubrec(1))
    assert await broker.hear() == Pubrel(1)
    assert not done.done()
    broker.say(Pubcomp(1))
    assert await soon(done) == 0
    await client.stop()


async def test_no_more_is_under_way_than_allowed(version: int) -> None:
    client, broker = await connected(version, max_inflight=1)
    await client.publish(Publish("t", b"1", qos=1))
    waiting = asyncio.create_task(client.publish(Publish("t", b"2", qos=1)))
    await broker.hear()
    assert not waiting.done()
    broker.say(Puback(1))
    await soon(waiting)
    assert await broker.hear() == Publish("t", b"2", qos=1, packet_id=2)
    await client.stop()


async def test_a_received_message_is_acknowledged_when_it_is_taken(version: int) -> None:
    client, broker = await connected(version)
    broker.say(Publish("a", qos=1, packet_id=7), Publish("b", qos=2, packet_id=8), Publish("c"))
    topics = [(await soon(client.next_message())).topic for _ in range(2)]
    assert topics == ["a", "b"]
    assert [await broker.hear(), await broker.hear()] == [Puback(7), Pubrec(8)]
    broker.say(Pubrel(8))
    assert await broker.hear() == Pubcomp(8)
    assert (await soon(client.next_message())).topic == "c"
    await client.stop()


async def test_a_qos_2_message_sent_again_is_handed_out_once(version: int) -> None:
    client, broker = await connected(version)
    broker.say(Publish("a", qos=2, packet_id=8))
    await soon(client.next_message())
    broker.say(Publish("a", qos=2, packet_id=8, dup=True))
    assert [await broker.hear(), await broker.hear()] == [Pubrec(8), Pubrec(8)]
    assert not client.has_messages
    broker.say(Pubrel(8))
    await broker.hear()
    broker.say(Publish("b", qos=2, packet_id=8))
    assert (await soon(client.next_message())).topic == "b"
    await client.stop()


async def test_subscribing_gives_the_reasons_in_order(version: int) -> None:
    client, broker = await connected(version)
    requests = [SubscriptionRequest("a", 1), SubscriptionRequest("b", 2)]
    answer = asyncio.create_task(client.subscribe(requests, {}))
    assert await broker.hear() == Subscribe(1, requests)
    broker.say(Suback(1, [1, 0x80]))
    assert await soon(answer) == [1, 0x80]
    await client.stop()


async def test_unsubscribing_waits_for_its_answer(version: int) -> None:
    client, broker = await connected(version)
    answer = asyncio.create_task(client.unsubscribe(["a"], {}))
    assert await broker.hear() == Unsubscribe(1, ["a"])
    reasons = [0x11] if version == MQTT_5 else []
    broker.say(Unsuback(1, reasons))
    assert await soon(answer) == reasons
    await client.stop()


async def test_everyone_who_waits_is_told_when_the_connection_is_lost(version: int) -> None:
    client, broker = await connected(version)
    publish = await client.publish(Publish("t", qos=1))
    message = asyncio.create_task(client.next_message())
    other = asyncio.create_task(client.unless_lost(asyncio.sleep(3600)))
    await broker.hear()
    broker.hang_up()
    for waiting in (publish, message, other):
        with pytest.raises(ConnectionLostError):
            await soon(waiting)
    with pytest.raises(ConnectionLostError):
        await client.publish(Publish("t"))
    await client.stop()


async def test_what_no_broker_may_send_ends_the_connection(version: int) -> None:
    client, broker = await connected(version)
    broker.say(Subscribe(1, [SubscriptionRequest("a")]))
    with pytest.raises(ConnectionLostError, match="SUBSCRIBE"):
        await soon(client.next_message())
    await client.stop()
