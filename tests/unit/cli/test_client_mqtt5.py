"""The command line's client where MQTT 5 has what 3.1.1 has not."""

import pytest

from broker.cli.client import ConnectionLostError
from broker.packets.codes import MQTT_5, ReasonCode
from broker.packets.properties import Property
from broker.packets.types import Disconnect, Puback, Publish, Pubrec
from tests.unit.cli.scripted_broker import connected, soon


async def test_a_refused_message_has_the_brokers_reason() -> None:
    client, broker = await connected(MQTT_5)
    first = await client.publish(Publish("t", qos=1))
    second = await client.publish(Publish("t", qos=2))
    broker.say(Puback(1, ReasonCode.NOT_AUTHORIZED), Pubrec(2, ReasonCode.QUOTA_EXCEEDED))
    assert await first == ReasonCode.NOT_AUTHORIZED
    assert await second == ReasonCode.QUOTA_EXCEEDED
    await client.stop()


async def test_the_brokers_disconnect_is_told_with_its_reason() -> None:
    client, broker = await connected(MQTT_5)
    sentence = {Property.REASON_STRING: "back soon"}
    broker.say(Disconnect(ReasonCode.SERVER_SHUTTING_DOWN, sentence))
    with pytest.raises(ConnectionLostError, match=r"server shutting down \(back soon\)") as lost:
        await soon(client.next_message())
    assert lost.value.reason == ReasonCode.SERVER_SHUTTING_DOWN
    await client.stop()


async def test_topic_aliases_are_resolved() -> None:
    client, broker = await connected(MQTT_5)
    alias = {Property.TOPIC_ALIAS: 3}
    broker.say(Publish("long", b"1", properties=alias), Publish("", b"2", properties=alias))
    assert [(await soon(client.next_message())).topic for _ in range(2)] == ["long", "long"]
    await client.stop()
