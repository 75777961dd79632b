"""No Local holds for everything a client has published, not only for what passes through at once
[MQTT-3.8.3-3].
"""

import pytest

from broker.packets.properties import Property
from tests.support.broker import MemoryBroker, will

KEPT = {Property.SESSION_EXPIRY_INTERVAL: 1000}


@pytest.mark.spec("5.0:MQTT-3.8.3-3")
def test_a_will_does_not_come_back_to_the_one_who_left_it() -> None:
    broker = MemoryBroker()
    client = broker.connect("client", will=will("t", qos=1), properties=dict(KEPT))
    client.subscribe("t", qos=1, no_local=True)
    client.lose()
    client = broker.connect("client", clean_start=False, properties=dict(KEPT))
    assert client.messages() == []


@pytest.mark.spec("5.0:MQTT-3.8.3-3")
def test_a_retained_message_does_not_come_back_to_the_one_who_published_it() -> None:
    broker = MemoryBroker()
    client = broker.connect("client")
    client.publish("t", b"mine", retain=True)
    broker.connect("other").publish("u", b"theirs", retain=True)
    client.subscribe("#", no_local=True)
    assert client.messages() == [("u", b"theirs")]
    client.subscribe("#")
    assert sorted(client.messages()) == [("t", b"mine"), ("u", b"theirs")]
