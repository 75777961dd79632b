"""Shared subscriptions (MQTT 5 section 4.8.2): who of a group gets a message, and what becomes of
it when that member leaves. The strategies as such are held by tests/unit/topics.
"""

from collections import Counter
from itertools import chain

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Disconnect,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    SubscriptionRequest,
)
from tests.support.broker import MemoryBroker, MemoryClient

SHARED = "$share/group/t"
QOS = pytest.mark.parametrize("qos", [1, 2])


def member(
    broker: MemoryBroker, name: str, qos: int = 2, expiry: int = 600, receive_maximum: int = 100
) -> MemoryClient:
    properties: Properties = {
        Property.SESSION_EXPIRY_INTERVAL: expiry,
        Property.RECEIVE_MAXIMUM: receive_maximum,
    }
    client = broker.connect(name, properties=properties)
    client.subscribe(SHARED, qos)
    return client


def back(client: MemoryClient, expiry: int = 600) -> MemoryClient:
    client.lose()
    properties: Properties = {Property.SESSION_EXPIRY_INTERVAL: expiry}
    client_id = client.connection.client_id
    return client.broker.connect(client_id, clean_start=False, properties=properties)


def flood(broker: MemoryBroker, count: int, qos: int) -> None:
    publisher = broker.connect("publisher")
    for n in range(count):
        publisher.publish("t", b"%d" % n, qos)


def numbers(messages: list[Publish]) -> list[int]:
    return [int(each.payload) for each in messages]


# -- the filter -----------------------------------------------------------------------------------


@pytest.mark.parametrize("topic_filter", ["$share/", "$share//t", "$share/g", "$share/g/"])
@pytest.mark.spec("5.0:MQTT-4.8.2-1", "5.0:MQTT-4.8.2-2")
def test_a_shared_filter_without_name_or_filter_is_refused(topic_filter: str) -> None:
    client = MemoryBroker().connect()
    assert client.subscribe(topic_filter).reasons == [ReasonCode.TOPIC_FILTER_INVALID]


@pytest.mark.parametrize("topic_filter", ["$share/a+/t", "$share/#/t", "$share/+/t", "$share/g/a#"])
@pytest.mark.spec("5.0:MQTT-4.8.2-2")
def test_a_shared_filter_with_wildcards_in_its_name_is_refused(topic_filter: str) -> None:
    client = MemoryBroker().connect()
    assert client.subscribe(topic_filter).reasons == [ReasonCode.TOPIC_FILTER_INVALID]


@pytest.mark.parametrize("share_name", ["g", "$", "a b", "$share", "\u00e9"])
@pytest.mark.spec("5.0:MQTT-4.8.2-1", "5.0:MQTT-4.8.2-2")
def test_a_proper_shared_filter_brings_what_its_inner_filter_matches(share_name: str) -> None:
    client = MemoryBroker().connect()
    assert client.subscribe(f"$share/{share_name}/a/+").reasons == [0]
    client.publish("a/b", b"x")
    client.publish(f"$share/{share_name}/a/b", b"no")
    assert client.messages() == [("a/b", b"x")]


@pytest.mark.spec("5.0:MQTT-3.8.3-4")
def test_no_local_and_shared_do_not_go_together() -> None:
    client = MemoryBroker().connect()
    client.send(Subscribe(1, [SubscriptionRequest(SHARED, no_local=True)]))
    assert client.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR


# -- who gets a message ---------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_message_goes_to_one_member_and_all_get_the_same_share(qos: int) -> None:
    broker = MemoryBroker()
    members = [member(broker, name) for name in "abc"]
    flood(broker, 30, qos)
    received = [numbers(each.drain()) for each in members]
    assert [len(each) for each in received] == [10, 10, 10]
    assert sorted(chain.from_iterable(received)) == list(range(30))


def test_every_group_and_every_plain_subscriber_gets_every_message() -> None:
    broker = MemoryBroker()
    plain, first, second = broker.connect("p"), broker.connect("f"), broker.connect("s")
    plain.subscribe("t")
    first.subscribe("$share/one/t")
    second.subscribe("$share/two/t")
    flood(broker, 3, 0)
    for client in (plain, first, second):
        assert numbers(client.take_all(Publish)) == [0, 1, 2]


def test_the_same_client_gets_a_message_for_each_of_its_subscriptions() -> None:
    client = MemoryBroker().connect()
    for topic_filter in ("t", SHARED, "$share/other/t"):
        client.subscribe(topic_filter)
    client.publish("t", b"x")
    assert len(client.take_all(Publish)) == 3


@pytest.mark.parametrize(("published", "granted"), [(2, 1), (2, 0), (1, 2), (1, 0), (0, 2)])
@pytest.mark.spec("5.0:MQTT-4.8.2-3")
def test_a_message_comes_with_no_more_than_the_granted_qos(published: int, granted: int) -> None:
    broker = MemoryBroker()
    client = member(broker, "a", granted)
    flood(broker, 1, published)
    assert client.take(Publish).qos == min(published, granted)


@pytest.mark.spec("5.0:MQTT-4.8.2-3")
def test_members_with_different_qos_each_get_their_own() -> None:
    broker = MemoryBroker()
    members = [member(broker, f"m{qos}", qos) for qos in (0, 1, 2)]
    flood(broker, 9, 2)
    for qos, client in enumerate(members):
        assert [each.qos for each in client.drain()] == [qos] * 3


@QOS
def test_a_member_whose_window_is_full_is_passed_over(qos: int) -> None:
    broker = MemoryBroker()
    narrow = member(broker, "narrow", receive_maximum=1)
    wide = member(broker, "wide")
    flood(broker, 7, qos)
    assert numbers(narrow.take_all(Publish)) == [0]
    assert numbers(wide.take_all(Publish)) == [1, 2, 3, 4, 5, 6]


@QOS
def test_when_every_window_is_full_the_messages_wait_and_none_is_lost(qos: int) -> None:
    broker = MemoryBroker()
    members = [member(broker, name, receive_maximum=1) for name in "ab"]
    flood(broker, 10, qos)
    assert [len(each.received) for each in members] == [1, 1]
    received = [numbers(each.drain()) for each in members]
    assert sorted(chain.from_iterable(received)) == list(range(10))
    assert [len(each) for each in received] == [5, 5]


def test_a_member_that_reads_slowly_is_passed_over() -> None:
    broker = MemoryBroker(outbox_limit=30)
    slow, fast = member(broker, "slow"), member(broker, "fast")
    slow.stop_reading()
    flood(broker, 40, 0)
    fast_share = len(fast.take_all(Publish))
    slow.resume_reading()
    assert fast_share + len(slow.take_all(Publish)) == 40
    assert fast_share > 30


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_member_that_is_away_gets_nothing_while_another_is_there(qos: int) -> None:
    broker = MemoryBroker()
    away, here = member(broker, "away"), member(broker, "here")
    away.lose()
    flood(broker, 6, qos)
    assert numbers(here.drain()) == list(range(6))
    assert back(away).received == []


@QOS
def test_when_all_are_away_their_sessions_keep_the_messages(qos: int) -> None:
    broker = MemoryBroker()
    members = [member(broker, name) for name in "ab"]
    for each in members:
        each.lose()
    flood(broker, 6, qos)
    received = [numbers(back(each).drain()) for each in members]
    assert sorted(chain.from_iterable(received)) == list(range(6))
    assert [len(each) for each in received] == [3, 3]


def test_a_member_that_unsubscribes_gets_nothing_more() -> None:
    broker = MemoryBroker()
    leaver, stayer = member(broker, "leaver"), member(broker, "stayer")
    flood(broker, 2, 0)
    for each in (leaver, stayer):
        assert len(each.take_all(Publish)) == 1
    leaver.unsubscribe(SHARED)
    flood(broker, 4, 0)
    assert leaver.received == []
    assert numbers(stayer.take_all(Publish)) == [0, 1, 2, 3]


def test_a_group_that_everyone_left_matches_nothing() -> None:
    broker = MemoryBroker()
    client = member(broker, "only")
    client.unsubscribe(SHARED)
    publisher = broker.connect("publisher")
    publisher.publish("t", b"x", qos=1)
    assert publisher.take(Puback).reason == ReasonCode.NO_MATCHING_SUBSCRIBERS
    assert len(broker.engine.router) == 0


def test_subscribing_again_does_not_double_the_share() -> None:
    broker = MemoryBroker()
    eager, plain = member(broker, "eager"), member(broker, "plain")
    for _ in range(3):
        eager.subscribe(SHARED, 1)
    flood(broker, 8, 1)
    assert Counter(len(each.drain()) for each in (eager, plain)) == {4: 2}


def test_retained_messages_do_not_come_to_a_shared_subscription() -> None:
    broker = MemoryBroker()
    broker.connect("publisher").publish("t", b"x", retain=True)
    assert member(broker, "a").received == []


# -- when a member leaves -------------------------------------------------------------------------


def test_qos_1_messages_in_flight_go_to_another_when_the_session_ends() -> None:
    broker = MemoryBroker()
    leaver = member(broker, "leaver", expiry=0)
    stayer = member(broker, "stayer")
    flood(broker, 4, 1)
    assert numbers(stayer.drain()) == [1, 3]
    leaver.lose()
    again = stayer.drain()
    assert numbers(again) == [0, 2]
    assert not any(each.dup for each in again)


def test_qos_1_messages_in_flight_stay_while_the_session_lasts() -> None:
    broker = MemoryBroker()
    leaver, stayer = member(broker, "leaver", expiry=60), member(broker, "stayer")
    flood(broker, 2, 1)
    stayer.drain()
    leaver.lose()
    broker.pass_time(59)
    assert stayer.received == []
    broker.pass_time(2)
    assert numbers(stayer.drain()) == [0]


@QOS
def test_what_a_member_had_not_begun_goes_to_another_when_its_session_ends(qos: int) -> None:
    broker = MemoryBroker()
    leaver = member(broker, "leaver", receive_maximum=1, expiry=0)
    flood(broker, 4, qos)
    first = leaver.take(Publish)
    stayer = member(broker, "stayer")
    leaver.acknowledge(first)
    leaver.lose()
    begun = 2 if qos == 2 else 1
    assert numbers(stayer.drain()) == list(range(begun, 4))


def test_a_message_acknowledged_goes_to_nobody_else() -> None:
    broker = MemoryBroker()
    leaver, stayer = member(broker, "leaver", expiry=0), member(broker, "stayer")
    flood(broker, 2, 1)
    leaver.drain()
    stayer.drain()
    leaver.lose()
    assert stayer.received == []


def test_without_another_member_the_messages_of_an_ended_session_are_counted_as_lost() -> None:
    broker = MemoryBroker()
    only = member(broker, "only", expiry=0, receive_maximum=1)
    flood(broker, 3, 1)
    only.lose()
    assert broker.engine.traffic.lost == {"session_ended": 3}


@pytest.mark.spec("5.0:MQTT-4.8.2-4")
@pytest.mark.parametrize("pubrec_arrived", [False, True])
def test_a_qos_2_message_begun_is_completed_with_the_same_client(pubrec_arrived: bool) -> None:
    broker = MemoryBroker()
    first, other = member(broker, "first"), member(broker, "other")
    flood(broker, 1, 2)
    packet_id = first.take(Publish).packet_id
    if pubrec_arrived:
        first.send(Pubrec(packet_id))
    first = back(first)
    if not pubrec_arrived:
        again = first.take(Publish)
        assert (again.packet_id, again.dup) == (packet_id, True)
        first.send(Pubrec(packet_id))
    assert first.take(Pubrel) == Pubrel(packet_id)
    assert other.received == []


@pytest.mark.spec("5.0:MQTT-4.8.2-5")
@pytest.mark.parametrize("pubrec_arrived", [False, True])
def test_a_qos_2_message_begun_goes_to_nobody_else(pubrec_arrived: bool) -> None:
    broker = MemoryBroker()
    first, other = member(broker, "first", expiry=10), member(broker, "other")
    flood(broker, 1, 2)
    if pubrec_arrived:
        first.send(Pubrec(first.take(Publish).packet_id))
    first.lose()
    broker.pass_time(11)
    assert other.received == []
    assert member(broker, "late").received == []


@pytest.mark.parametrize("reason", [ReasonCode.UNSPECIFIED_ERROR, ReasonCode.QUOTA_EXCEEDED])
@pytest.mark.parametrize(("qos", "ack"), [(1, Puback), (2, Pubrec)])
@pytest.mark.spec("5.0:MQTT-4.8.2-6")
def test_a_refusal_discards_the_message_for_the_whole_group(
    qos: int, ack: type[Puback] | type[Pubrec], reason: int
) -> None:
    broker = MemoryBroker()
    picky, other = member(broker, "picky", expiry=0), member(broker, "other")
    flood(broker, 1, qos)
    picky.send(ack(picky.take(Publish).packet_id, reason))
    picky.lose()
    assert picky.received == []
    assert other.received == []


def test_a_member_that_joins_takes_part_at_once() -> None:
    broker = MemoryBroker()
    old = member(broker, "old")
    flood(broker, 4, 1)
    old.drain()
    new = member(broker, "new")
    flood(broker, 4, 1)
    assert [len(old.drain()), len(new.drain())] == [2, 2]


def test_a_take_over_with_clean_start_hands_the_members_messages_on() -> None:
    broker = MemoryBroker()
    leaver, stayer = member(broker, "leaver"), member(broker, "stayer")
    flood(broker, 2, 1)
    stayer.drain()
    broker.connect("leaver")
    assert leaver.is_closed
    assert numbers(stayer.drain()) == [0]


def test_when_all_are_away_a_message_goes_to_one_whose_session_can_keep_it() -> None:
    broker = MemoryBroker(backlog_messages=2)
    keeper = member(broker, "keeper", qos=1)
    forgetter = member(broker, "forgetter", qos=0)
    keeper.lose()
    forgetter.lose()
    flood(broker, 2, 1)
    assert broker.engine.traffic.lost == {}
    assert broker.engine.sessions.get("keeper").waiting == 2
