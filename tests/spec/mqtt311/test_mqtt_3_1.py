"""The protocol before the standard: MQTT 3.1, whose CONNECT says "MQIsdp" and 3. It is served as
MQTT 3.1.1, with the few differences that its clients would notice.
"""

import pytest

from broker.packets.types import Connack, Puback, Pubcomp, Publish, Pubrec, Suback, Unsuback
from tests.support.broker import MemoryBroker, will

CONNECT = b"\x10\x0f\0\6MQIsdp\3\2\0\0\0\1a"


def test_a_client_of_mqtt_3_1_is_served() -> None:
    broker = MemoryBroker()
    client = broker.client(version=3)
    client.send_raw(CONNECT)
    assert client.raw == b"\x20\2\0\0"
    assert client.take(Connack) == Connack(False, 0)
    assert client.subscribe("t", qos=2) == Suback(1, [2])
    for qos, answer in ((1, Puback), (2, Pubrec)):
        packet_id = client.publish("t", b"x", qos=qos)
        answers = [each for each in client.received if isinstance(each, answer)]
        assert answers == [answer(packet_id)]
    assert [each.qos for each in client.received if isinstance(each, Publish)] == [1, 2]


@pytest.mark.spec("3.1.1:MQTT-3.1.2-1", "3.1.1:MQTT-3.1.2-2")
@pytest.mark.parametrize(
    "start", [b"\0\6MQIsdp\4", b"\0\6MQIsdp\5", b"\0\4MQTT\3", b"\0\6MQISDP\3"]
)
def test_name_and_level_must_belong_together(start: bytes) -> None:
    client = MemoryBroker().client(version=3)
    body = start + b"\2\0\0\0\1a"
    client.send_raw(bytes([0x10, len(body)]) + body)
    assert client.raw == b"\x20\2\0\1"
    assert client.is_closed


def test_the_connack_has_no_session_present_flag() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=3, clean_start=False)
    alice.subscribe("t", qos=1)
    alice.lose()
    alice = broker.connect("alice", version=3, clean_start=False)
    assert alice.raw == b"\x20\2\0\0"
    alice.publish("t", b"x", qos=1)
    assert alice.take(Publish).payload == b"x"


@pytest.mark.parametrize("clean_start", [True, False])
def test_an_empty_client_identifier_is_refused(clean_start: bool) -> None:
    client = MemoryBroker().client(version=3)
    client.connect("", clean_start=clean_start)
    assert client.raw == b"\x20\2\0\2"
    assert client.is_closed


@pytest.mark.parametrize(("first", "body"), [(0x8A, b"\0\1\0\1t\0"), (0xAA, b"\0\1\0\1t")])
def test_a_repeated_request_may_have_the_dup_flag(first: int, body: bytes) -> None:
    client = MemoryBroker().connect("alice", version=3)
    client.send_raw(bytes([first, len(body)]) + body)
    assert client.received in ([Suback(1, [0])], [Unsuback(1)])


def test_a_repeated_pubrel_may_have_the_dup_flag() -> None:
    client = MemoryBroker().connect("alice", version=3)
    client.publish("t", qos=2, packet_id=1)
    client.take(Pubrec)
    client.send_raw(b"\x6a\2\0\1")
    assert client.take(Pubcomp) == Pubcomp(1)


@pytest.mark.spec("3.1.1:MQTT-2.2.2-2")
@pytest.mark.parametrize("frame", [b"\x4a\2\0\1", b"\xca\0", b"\xea\0", b"\x80\6\0\1\0\1t\0"])
def test_other_wrong_flags_close_the_connection(frame: bytes) -> None:
    client = MemoryBroker().connect("alice", version=3)
    client.send_raw(frame)
    assert client.is_closed


def test_the_will_of_a_lost_client_is_published() -> None:
    broker = MemoryBroker()
    heir = broker.connect("heir", version=3)
    heir.subscribe("will", qos=1)
    broker.connect("alice", version=3, will=will("will", b"gone", 1)).lose()
    assert heir.messages() == [("will", b"gone")]


@pytest.mark.parametrize(("sender", "receiver"), [(3, 4), (4, 3), (3, 5), (5, 3)])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_pass_to_and_from_newer_clients(sender: int, receiver: int, qos: int) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=receiver), broker.connect("bob", version=sender)
    alice.subscribe("t", qos=2)
    for payload in (b"1", b"2"):
        bob.publish("t", payload, qos=qos)
    assert [(each.payload, each.qos) for each in alice.take_all(Publish)] == [
        (b"1", qos),
        (b"2", qos),
    ]
