"""MQTT clients as consumers and producers of queues, over the real rules of the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bridges.queues.backend import QueueError
from bridges.queues.local import LocalBackend
from broker.packets.codes import ReasonCode
from broker.packets.properties import Property
from broker.packets.types import (
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from broker.queues.entry import Entry, Forward
from broker.queues.policy import QueuePolicy
from tests.support.broker import MemoryBroker, MemoryClient
from tests.support.store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Coroutine

REASON = Property.REASON_STRING
USER = Property.USER_PROPERTY


class Feed:
    """Rules for tests: topics that begin with `feed/` go into the queue of their second level, and
    forwards are what a table says.
    """

    misses: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, forwards: dict[str, Forward] | None = None) -> None:
        self._forwards = forwards or {}

    @property
    def forwards(self) -> list[str]:
        return list(self._forwards)

    def for_topic(self, topic: str) -> Feed | None:
        return self if topic.startswith("feed/") else None

    def entries(self, publication: Any) -> list[Entry]:
        _, queues, *key = publication.topic.split("/")
        return [Entry(each, key[0] if key else None) for each in queues.split(",")]

    def leads_on(self, queue: str) -> bool:
        return False

    def circle(self, queue: str, topic_filter: str, bound: Any) -> list[str]:
        return []

    def for_queue(self, queue: str) -> Any:
        forward = self._forwards.get(queue)
        return None if forward is None else Fixed(forward)


class Fixed:
    def __init__(self, forward: Forward) -> None:
        self._forward = forward

    def forward(self, delivery: Any) -> Forward:
        return self._forward


def made(*names: str, instant: bool = True, rules: Any = None, **policy: Any) -> MemoryBroker:
    """A broker with these queues, whose store commits at once if `instant`."""
    fields = {name: policy.pop(name) for name in list(policy) if name in POLICY}
    definitions = [(name, QueuePolicy(**fields).to_json(), "[]") for name in names or ("work",)]
    store = MemoryStore(instant=instant, queues=definitions)
    return MemoryBroker(store=store, rules=rules or Feed(), **policy)


POLICY = QueuePolicy.__dataclass_fields__


def consumer(broker: MemoryBroker, name: str = "c", queue: str = "work", **given: Any) -> Any:
    client = broker.connect(name, given.pop("version", 5), **given.pop("connect", {}))
    assert client.subscribe(f"$queue/{queue}", given.pop("qos", 1)).reasons[0] < 0x80
    return client


def told(publish: Publish) -> dict[str, str]:
    return dict(publish.properties.get(USER, ()))


def in_queue(broker: MemoryBroker) -> list[tuple[str, bytes]]:
    """(queue, payload) of what is stored."""
    assert broker.store is not None
    return [(row[1], row[3]) for row in broker.store.queued.rows()]


def fill(broker: MemoryBroker, *payloads: bytes, topic: str = "$queue/work", qos: int = 1) -> None:
    """Publish, and see each taken."""
    publisher = broker.connect()
    for payload in payloads:
        publisher.publish(topic, payload, qos)
        broker.commit()
        assert publisher.take(Puback).reason == 0
    publisher.disconnect()


# -- from a topic to one consumer ------------------------------------------------------------------


def test_a_message_goes_to_one_consumer_and_is_gone_when_it_is_acknowledged():
    broker = made()
    one, other = consumer(broker, "one"), consumer(broker, "other")
    fill(broker, b"x", topic="feed/work")
    came = [each for client in (one, other) for each in client.take_all(Publish)]
    assert [(each.topic, each.payload, each.qos) for each in came] == [("$queue/work", b"x", 1)]
    assert in_queue(broker) == [("work", b"x")]
    for client in (one, other):  # who has no such packet id is not heard
        client.acknowledge(came[0])
    broker.commit()
    assert in_queue(broker) == []


def test_what_waited_before_the_first_consumer_comes_in_order():
    broker = made()
    fill(broker, b"1", b"2", b"3")
    client = consumer(broker)
    assert [each.payload for each in client.drain()] == [b"1", b"2", b"3"]
    broker.commit()
    assert in_queue(broker) == []


def test_a_consumer_is_told_what_there_is_to_know():
    broker = made(rules=Feed())
    fill(broker, b"x", topic="feed/work/k7")
    message = consumer(broker).take(Publish)
    properties = told(message)
    assert properties["original-topic"] == "feed/work/k7"
    assert properties["delivery-count"] == "1"
    assert properties["key"] == "k7"
    assert float(properties["lease-until"]) - float(properties["enqueued-at"]) == pytest.approx(30)
    assert int(properties["msg-id"]) > 0


def test_a_consumer_of_3_1_1_reads_number_and_topic_in_the_topic():
    broker = made()
    fill(broker, b"x", topic="feed/work")
    message = consumer(broker, version=4).take(Publish)
    prefix, queue, number, topic = message.topic.split("/", 3)
    assert (prefix, queue, topic) == ("$queue", "work", "feed/work")
    assert int(number) > 0


def test_two_consumers_share_what_waits():
    broker = made(prefetch=2)
    fill(broker, *[b"%d" % n for n in range(4)])
    one, other = consumer(broker, "one"), consumer(broker, "other")
    assert [each.payload for each in one.take_all(Publish)] == [b"0", b"1"]
    assert [each.payload for each in other.take_all(Publish)] == [b"2", b"3"]


def test_a_consumer_gets_no_more_than_its_prefetch_until_it_answers():
    broker = made(prefetch=2)
    fill(broker, *[b"%d" % n for n in range(5)])
    client = consumer(broker)
    first, second = client.take_all(Publish)
    client.acknowledge(first)
    assert [each.payload for each in client.take_all(Publish)] == [b"2"]
    client.acknowledge(second)
    assert [each.payload for each in client.take_all(Publish)] == [b"3"]


def test_the_clients_receive_maximum_is_kept():
    broker = made()
    fill(broker, *[b"%d" % n for n in range(5)])
    client = consumer(broker, connect={"properties": {Property.RECEIVE_MAXIMUM: 3}})
    assert len(client.take_all(Publish)) == 3


def test_a_message_for_a_waiting_consumer_is_never_written_if_it_is_acknowledged_in_time():
    broker = made(instant=False)
    client = consumer(broker)
    broker.commit()
    publisher = broker.connect("p")
    publisher.publish("feed/work", b"first", 1)  # is written: the store is free
    publisher.publish("feed/work", b"x", 1)  # gathers while the first is being committed
    for each in client.take_all(Publish):
        client.acknowledge(each)
    assert broker.store is not None
    broker.commit()
    assert broker.store.written["queue_put"] == 1
    assert [each.reason for each in publisher.take_all(Puback)] == [0, 0]
    assert in_queue(broker) == []


def test_a_message_that_was_handed_over_and_not_acknowledged_is_stored_before_its_puback():
    broker = made(instant=False)
    consumer(broker)
    broker.commit()
    publisher = broker.connect("p")
    publisher.publish("feed/work", b"x", 1)
    assert publisher.received == []
    broker.commit()
    assert publisher.take(Puback).reason == 0
    assert in_queue(broker) == [("work", b"x")]
    found = broker.crash(away=40)
    again = consumer(found, "other")
    found.commit()
    assert [each.payload for each in again.take_all(Publish)] == [b"x"]


def test_the_message_of_a_qos_2_publisher_goes_nowhere_before_it_is_committed():
    broker = made(instant=False)
    client = consumer(broker)
    broker.commit()
    publisher = broker.connect("p")
    publisher.publish("feed/work", b"x", 2)
    assert client.received == []
    broker.commit()
    assert client.take(Publish).payload == b"x"


# -- answers ---------------------------------------------------------------------------------------


def test_a_negative_puback_brings_the_message_again_after_a_pause():
    broker = made(retry_first=5.0, retry_jitter=0.0)
    fill(broker, b"x")
    client = consumer(broker)
    client.acknowledge(client.take(Publish), ReasonCode.UNSPECIFIED_ERROR)
    broker.pass_time(4)
    assert client.received == []
    broker.pass_time(2)
    again = client.take(Publish)
    assert (again.payload, told(again)["delivery-count"]) == (b"x", "2")


def test_a_puback_can_say_how_long_the_pause_is():
    broker = made()
    fill(broker, b"x")
    client = consumer(broker)
    packet_id = client.take(Publish).packet_id
    client.send(Puback(packet_id, 0x80, {USER: [("delay", "60")]}))
    broker.pass_time(59)
    assert client.received == []
    broker.pass_time(2)
    assert client.take(Publish).payload == b"x"


def test_payload_format_invalid_sends_a_message_to_the_dead_letters():
    broker = made()
    fill(broker, b"x", topic="feed/work")
    client = consumer(broker)
    packet_id = client.take(Publish).packet_id
    client.send(Puback(packet_id, ReasonCode.PAYLOAD_FORMAT_INVALID, {REASON: "no JSON"}))
    broker.commit()
    dead = consumer(broker, "doctor", "work.dlq").take(Publish)
    properties = told(dead)
    assert (dead.payload, properties["original-topic"]) == (b"x", "feed/work")
    assert (properties["dead-from"], properties["dead-reason"]) == ("work", "no JSON")


def test_a_message_that_fails_five_times_is_a_dead_letter():
    broker = made()
    fill(broker, b"x")
    client = consumer(broker)
    for _ in range(5):
        client.acknowledge(client.take(Publish), ReasonCode.UNSPECIFIED_ERROR)
        broker.pass_time(600)
    assert client.received == []
    assert in_queue(broker) == [("work.dlq", b"x")]


def test_a_lease_that_runs_out_gives_the_message_to_another():
    broker = made(lease=30.0, prefetch=1)
    fill(broker, b"x")
    consumer(broker, "slow")
    other = consumer(broker, "other")
    broker.pass_time(29)
    assert other.received == []
    broker.pass_time(7)
    assert other.take(Publish).payload == b"x"


def test_an_answer_after_the_lease_ended_changes_nothing():
    broker = made(lease=30.0, prefetch=1)
    fill(broker, b"x")
    slow = consumer(broker, "slow")
    late = slow.take(Publish)
    other = consumer(broker, "other")
    broker.pass_time(40)
    held = other.take(Publish)
    slow.acknowledge(late)
    broker.commit()
    assert in_queue(broker) == [("work", b"x")]
    other.acknowledge(held)
    broker.commit()
    assert in_queue(broker) == []


def test_control_topics_nack_reject_and_renew():
    broker = made(lease=30.0)
    fill(broker, b"a", b"b", b"c")
    client = consumer(broker, version=4)
    numbers = {each.payload: each.topic.split("/")[2] for each in client.take_all(Publish)}
    client.publish(f"$queue/work/$nack/{numbers[b'a'].strip()}", b"5", 1)
    client.publish(f"$queue/work/$reject/{numbers[b'b']}", b"bad", 1)
    client.publish(f"$queue/work/$renew/{numbers[b'c']}", b"100", 1)
    assert [each.packet_id for each in client.take_all(Puback)]
    broker.commit()
    assert ("work.dlq", b"b") in in_queue(broker)
    broker.pass_time(10)
    assert [each.payload for each in client.take_all(Publish)] == [b"a"]
    broker.pass_time(40)
    assert [each.payload for each in client.take_all(Publish)] == [b"a"]  # c is still leased


def test_nobody_can_answer_for_a_message_that_another_client_has():
    broker = made()
    fill(broker, b"x")
    client = consumer(broker)
    number = told(client.take(Publish))["msg-id"]
    thief = broker.connect("thief")
    thief.publish(f"$queue/work/$reject/{number}", b"", 1)
    assert thief.take(Puback).reason == ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR
    broker.commit()
    assert in_queue(broker) == [("work", b"x")]


@pytest.mark.parametrize(
    "topic",
    [
        "$queue/work/$ack/1",
        "$queue/work/$nack/x",
        "$queue/work/a",
        "$queue/a b",
        "$queue/none",
        "$queue/" + "x" * 200,
        "$queue/work/$nack/" + "9" * 30,
    ],
)
def test_what_is_no_queue_and_no_answer_is_refused(topic):
    broker = made()
    client = broker.connect("c")
    client.publish(topic, b"x", 1)
    assert client.take(Puback).reason == ReasonCode.TOPIC_NAME_INVALID
    assert in_queue(broker) == []


# -- coming and going ------------------------------------------------------------------------------


def test_a_consumer_that_leaves_gives_its_messages_back_at_once():
    broker = made()
    fill(broker, b"1", b"2")
    client = consumer(broker, "gone")
    other = consumer(broker, "other")
    assert len(client.take_all(Publish)) == 2
    client.disconnect()
    broker.flush()
    assert [each.payload for each in other.take_all(Publish)] == [b"1", b"2"]


def test_a_consumer_that_unsubscribes_may_answer_what_it_has_and_gets_no_more():
    broker = made(prefetch=1)
    fill(broker, b"1", b"2", b"3")
    client = consumer(broker, "going")
    first = client.take(Publish)
    assert client.unsubscribe("$queue/work").reasons == [0]
    other = consumer(broker, "other")
    assert other.take(Publish).payload == b"2"
    client.acknowledge(first)
    broker.commit()
    assert client.received == []
    assert [payload for _, payload in in_queue(broker)] == [b"2", b"3"]


def test_what_a_client_had_when_it_unsubscribed_goes_back_when_it_leaves():
    broker = made()
    fill(broker, b"1")
    client = consumer(broker, "going")
    client.take(Publish)
    client.unsubscribe("$queue/work")
    other = consumer(broker, "other")
    assert other.received == []
    client.disconnect()
    broker.flush()
    assert other.take(Publish).payload == b"1"


def test_a_durable_session_goes_on_consuming_when_its_client_is_back_even_after_a_restart():
    broker = made(instant=False)
    client = broker.connect("c", properties={Property.SESSION_EXPIRY_INTERVAL: 1000})
    broker.commit()
    client.received.clear()
    request(client, "$queue/work")
    broker.commit()
    client.received.clear()
    found = broker.crash()
    back = found.client()
    back.connect("c", clean_start=False, properties={Property.SESSION_EXPIRY_INTERVAL: 1000})
    found.commit()
    fill(found, b"x")
    assert b"x" in [each.payload for each in back.received if isinstance(each, Publish)]


def request(client: MemoryClient, topic_filter: str, qos: int = 1) -> None:
    client.send(Subscribe(client.next_id(), [SubscriptionRequest(topic_filter, qos)], {}))


def test_a_qos_2_message_stays_with_a_session_that_goes_on_and_is_sent_again_to_it_alone():
    broker = made(instant=True)
    expiry = {"properties": {Property.SESSION_EXPIRY_INTERVAL: 1000}}
    client = consumer(broker, "c", qos=2, connect=expiry)
    fill(broker, b"x")
    broker.commit()
    (first,) = client.take_all(Publish)
    other = consumer(broker, "other")
    client.disconnect()
    broker.pass_time(100)
    assert other.received == []
    back = broker.client()
    back.connect("c", clean_start=False, **expiry)
    again = back.take(Publish)
    assert (again.payload, again.dup, again.packet_id) == (b"x", True, first.packet_id)
    back.acknowledge(again)
    broker.commit()
    assert in_queue(broker) == []


def test_a_qos_2_message_is_sent_again_to_its_session_after_a_crash_and_then_never():
    broker = made(instant=False)
    expiry = {"properties": {Property.SESSION_EXPIRY_INTERVAL: 1000}}
    client = broker.connect("c", **expiry)
    request(client, "$queue/work", 2)
    broker.commit()
    fill(broker, b"x")
    broker.commit()
    (first,) = [each for each in client.received if isinstance(each, Publish)]
    found = broker.crash()
    back = found.client()
    back.connect("c", clean_start=False, **expiry)
    found.commit()
    (again,) = [each for each in back.received if isinstance(each, Publish)]
    assert (again.payload, again.dup, again.packet_id) == (b"x", True, first.packet_id)
    back.send(Pubrec(again.packet_id))
    found.commit()
    assert any(isinstance(each, Pubrel) for each in back.received)
    assert in_queue(found) == []
    third = found.crash()
    last = third.client()
    last.connect("c", clean_start=False, **expiry)
    third.commit()
    assert not [each for each in last.received if isinstance(each, Publish)]
    assert any(isinstance(each, Pubrel) for each in last.received)


def test_the_qos_2_messages_of_a_session_that_ends_go_back_into_the_queue():
    broker = made(instant=True)
    expiry = {"properties": {Property.SESSION_EXPIRY_INTERVAL: 10}}
    client = consumer(broker, "c", qos=2, connect=expiry)
    fill(broker, b"x")
    other = consumer(broker, "other")
    client.disconnect()
    assert other.received == []
    broker.pass_time(20)
    assert other.take(Publish).payload == b"x"


def test_a_qos_0_consumer_gets_each_message_at_most_once():
    broker = made()
    fill(broker, b"x")
    client = consumer(broker, qos=0)
    assert client.take(Publish).qos == 0
    broker.commit()
    assert in_queue(broker) == []


# -- who may ---------------------------------------------------------------------------------------


def test_an_unknown_queue_cannot_be_consumed():
    broker = made()
    client = broker.connect("c")
    assert client.subscribe("$queue/none", 1).reasons == [ReasonCode.TOPIC_FILTER_INVALID]
    assert client.subscribe("$queue/+", 1).reasons == [ReasonCode.TOPIC_FILTER_INVALID]
    assert client.subscribe("$share/g/$queue/work", 1).reasons == [ReasonCode.TOPIC_FILTER_INVALID]
    assert broker.connect("d", 4).subscribe("$queue/none", 1).reasons == [0x80]


def test_clients_make_and_bind_queues_only_where_that_is_allowed():
    broker = made()
    refused = broker.connect("c").subscribe("$queue/new/a/#", 1)
    assert refused.reasons == [ReasonCode.NOT_AUTHORIZED]


def test_a_client_makes_a_queue_and_binds_it_to_a_filter():
    broker = made(create_queues=True)
    client = broker.connect("c")
    assert client.subscribe("$queue/new/a/+", 1).reasons == [1]
    fill(broker, b"x", topic="a/b")
    message = client.take(Publish)
    assert (message.payload, told(message)["original-topic"]) == (b"x", "a/b")
    assert client.subscribe("$queue/work/a/#", 1).reasons == [ReasonCode.NOT_AUTHORIZED]
    assert client.subscribe("$queue/new/a/#/b", 1).reasons[0] >= 0x80


def test_what_a_client_has_bound_is_bound_after_a_restart():
    broker = made(create_queues=True)
    broker.connect("c").subscribe("$queue/new/a/+", 1)
    broker.commit()
    found = broker.crash()
    fill(found, b"x", topic="a/b")
    assert in_queue(found) == [("new", b"x")]


class OnlyWork:
    def may_publish(self, client: Any, topic: str) -> bool:
        return topic == "$queue/work"

    def may_subscribe(self, client: Any, topic_filter: str) -> bool:
        return topic_filter == "$queue/work"


def test_the_authorizer_is_asked_about_queues_like_about_topics():
    broker = made("work", "other", authorizer=OnlyWork())
    client = broker.connect("c")
    assert client.subscribe("$queue/work", 1).reasons == [1]
    assert client.subscribe("$queue/other", 1).reasons == [ReasonCode.NOT_AUTHORIZED]
    client.publish("$queue/other", b"x", 1)
    assert client.take(Puback).reason == ReasonCode.NOT_AUTHORIZED
    client.publish("$queue/work", b"x", 1)
    broker.commit()
    kinds = [type(each) for each in client.received]
    assert sorted(kind.__name__ for kind in kinds) == ["Puback", "Publish"]
    number = next(told(each)["msg-id"] for each in client.received if isinstance(each, Publish))
    client.received.clear()
    client.publish(f"$queue/work/$nack/{number}", b"", 1)  # its own: nobody need allow that
    assert client.take(Puback).reason == 0


# -- bounds ----------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_the_publisher_is_told():
    broker = made(max_messages=2)
    fill(broker, b"1", b"2", topic="feed/work")
    publisher = broker.connect("p")
    publisher.publish("feed/work", b"3", 1)
    assert publisher.take(Puback).reason == ReasonCode.QUOTA_EXCEEDED
    publisher.publish("$queue/work", b"3", 1)
    assert publisher.take(Puback).reason == ReasonCode.QUOTA_EXCEEDED
    old = broker.connect("old", 4)
    old.publish("feed/work", b"3", 1)
    assert old.take(Puback).reason == 0
    broker.commit()
    assert [payload for _, payload in in_queue(broker)] == [b"1", b"2"]
    assert broker.engine.traffic.lost["queue_full"] == 2
    client = consumer(broker)
    client.drain()
    broker.commit()
    publisher.publish("feed/work", b"4", 1)
    broker.commit()
    assert publisher.take(Puback).reason == 0


def test_a_message_goes_into_all_queues_of_its_rules_or_into_none():
    broker = made("one", "two", max_messages=1)
    fill(broker, b"1", topic="feed/one")
    publisher = broker.connect("p")
    publisher.publish("feed/one,two", b"2", 1)
    assert publisher.take(Puback).reason == ReasonCode.QUOTA_EXCEEDED
    assert in_queue(broker) == [("one", b"1")]


def test_a_payload_that_two_queues_share_is_stored_once_and_goes_with_the_last():
    broker = made("one", "two")
    fill(broker, b"x" * 10, topic="feed/one,two")
    assert broker.store is not None
    assert broker.store.written["queue_content"] == 1
    assert in_queue(broker) == [("one", b"x" * 10), ("two", b"x" * 10)]
    for queue in ("one", "two"):
        consumer(broker, queue, queue).drain()
    broker.commit()
    assert broker.store.queued.count("queue_payload") == 0


# -- order -----------------------------------------------------------------------------------------


def test_messages_of_one_key_come_one_after_the_other():
    broker = made(order="key")
    for topic, payload in (("a", b"a1"), ("a", b"a2"), ("b", b"b1")):
        fill(broker, payload, topic=f"feed/work/{topic}")
    client = consumer(broker)
    first, second = client.take_all(Publish)
    assert [first.payload, second.payload] == [b"a1", b"b1"]
    client.acknowledge(first)
    assert client.take(Publish).payload == b"a2"


def test_user_properties_of_a_direct_publish_say_how_it_stands_in_the_queue():
    broker = made()
    publisher = broker.connect("p")
    for payload, *properties in (
        (b"late", ("delay", "60")),
        (b"low", ("priority", "1")),
        (b"high", ("priority", "9"), ("key", "k")),
        (b"odd", ("priority", "eleven"), ("delay", "-3"), ("ttl", "nan")),
    ):
        publisher.publish("$queue/work", payload, 1, properties={USER: list(properties)})
    broker.commit()
    client = consumer(broker)
    came = client.take_all(Publish)
    assert [each.payload for each in came] == [b"high", b"odd", b"low"]
    for each in came:
        client.acknowledge(each)
    broker.pass_time(61)
    assert client.take(Publish).payload == b"late"


# -- rules that move on ----------------------------------------------------------------------------


def test_rules_move_messages_on_to_queues_and_topics():
    rules = Feed({"in": Forward((Entry("out", "k"),), ("moved/on",))})
    broker = made("in", "out", rules=rules)
    listener = broker.connect("l")
    listener.subscribe("moved/#", 1)
    fill(broker, b"x", topic="feed/in")
    broker.commit()
    assert in_queue(broker) == [("out", b"x")]
    assert listener.messages() == [("moved/on", b"x")]


def test_a_message_that_no_rule_wants_is_a_dead_letter():
    broker = made("in", rules=Feed({"in": Forward()}))
    fill(broker, b"x", topic="feed/in")
    broker.commit()
    assert in_queue(broker) == [("in.dlq", b"x")]


def test_a_message_waits_while_the_queue_it_is_moved_to_is_full():
    rules = Feed({"in": Forward((Entry("out"),))})
    broker = made("in", "out", rules=rules, max_messages=1)
    fill(broker, b"1", topic="feed/in")
    broker.commit()
    fill(broker, b"2", topic="feed/in")
    broker.commit()
    assert in_queue(broker) == [("out", b"1"), ("in", b"2")]
    consumer(broker, "c", "out").drain()
    broker.pass_time(2)
    assert [queue for queue, _ in in_queue(broker)] == ["out"]


# -- the store -------------------------------------------------------------------------------------


def test_a_puback_waits_until_the_queue_has_the_message():
    broker = made(instant=False)
    publisher = broker.connect("p")
    publisher.publish("feed/work", b"x", 1)
    broker.flush()
    assert publisher.received == []
    broker.commit()
    assert publisher.take(Puback).reason == 0
    assert in_queue(broker.crash()) == [("work", b"x")]


def test_a_qos_2_publish_enters_a_queue_once_whenever_the_broker_ends():
    broker = made(instant=False)
    expiry = {"properties": {Property.SESSION_EXPIRY_INTERVAL: 1000}}
    publisher = broker.connect("p", **expiry)
    packet_id = publisher.publish("feed/work", b"x", 2)
    broker.flush()
    broker.commit()
    found = broker.crash()
    back = found.client()
    back.connect("p", clean_start=False, **expiry)
    found.commit()
    back.received.clear()
    back.publish("feed/work", b"x", 2, packet_id=packet_id, dup=True)
    found.commit()
    assert back.take(Pubrec).reason == 0
    assert in_queue(found) == [("work", b"x")]


def test_a_broker_without_a_store_has_no_queues():
    broker = MemoryBroker()
    if broker.store is not None:
        pytest.skip("every broker of this run has a store")
    client = broker.connect("c")
    suback = client.subscribe("$queue/work", 1)
    assert isinstance(suback, Suback)
    assert suback.reasons == [ReasonCode.TOPIC_FILTER_INVALID]
    client.publish("$queue/work", b"x", 1)
    assert client.take(Puback).reason == ReasonCode.TOPIC_NAME_INVALID


def test_after_a_crash_what_consumers_had_comes_again_at_once():
    broker = made(instant=False)
    fill(broker, b"x")
    client = consumer(broker, "c")
    broker.commit()
    assert client.take(Publish).payload == b"x"
    found = broker.crash(away=1)
    found.commit()
    again = consumer(found, "other")
    found.commit()
    message = again.take(Publish)
    assert (message.payload, told(message)["delivery-count"]) == (b"x", "2")


def test_qos_0_messages_for_queues_are_shed_while_the_store_is_behind():
    broker = made(instant=False, max_messages=10**6)
    publisher = broker.connect("p")
    for _ in range(40):
        publisher.publish("feed/work", b"x" * 1_000_000, 0)
    assert broker.engine.journal is not None
    assert broker.engine.journal.pending < 20_000_000
    assert broker.engine.traffic.lost["queue_behind"] > 20
    broker.commit()
    assert len(in_queue(broker)) + broker.engine.traffic.lost["queue_behind"] == 40


def test_a_fault_in_one_result_does_not_cost_others_theirs():
    broker = made(instant=False)
    queues = broker.engine.queues
    assert queues is not None
    told = []
    queues.admin("pause", "work", (), lambda _value: 1 / 0)
    queues.admin("resume", "work", (), told.append)
    broker.commit()
    assert told == ["running"]


# -- what people do to many messages at once -------------------------------------------------------

MANY = 1_100  # more than two slices


def load(broker: MemoryBroker, *queues: str) -> None:
    publisher = broker.connect()
    for queue in queues:
        for number in range(MANY):
            publisher.publish(f"$queue/{queue}", b"%d" % number, 0)
    broker.commit()


async def finish(broker: MemoryBroker, work: asyncio.Future[int]) -> int:
    while not work.done():
        await asyncio.sleep(0)
        broker.commit()
    return await work


async def begin(broker: MemoryBroker, work: Coroutine[Any, Any, int]) -> asyncio.Future[int]:
    """It has done one slice, and has not asked for the next."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    broker.commit()
    assert not task.done()
    return task


def door(broker: MemoryBroker) -> LocalBackend:
    queues = broker.engine.queues
    assert queues is not None
    return LocalBackend(queues, asyncio.get_running_loop())


async def test_others_publish_and_consume_between_two_slices_of_a_purge():
    broker = made("work", "other", instant=False)
    client = consumer(broker, "c", "other")
    load(broker, "work")
    publisher = broker.connect("p")
    purging = await begin(broker, door(broker).purge("work"))
    publisher.publish("feed/work,other", b"new", 1)
    broker.commit()
    assert publisher.take(Puback).reason == 0
    assert client.take(Publish).payload == b"new"
    assert not purging.done()
    assert await finish(broker, purging) == MANY
    assert [each for each in in_queue(broker) if each[0] == "work"] == [("work", b"new")]
    assert broker.engine.traffic.lost["queue_purge"] == MANY


async def test_a_purge_takes_what_waits_for_a_consumer_and_leaves_what_it_has():
    broker = made(instant=False)
    client = consumer(broker)
    load(broker, "work")
    held = client.take_all(Publish)
    assert len(held) == 16
    purging = await begin(broker, door(broker).purge("work"))
    assert await finish(broker, purging) == MANY - 16
    assert in_queue(broker) == [("work", each.payload) for each in held]


async def test_who_gives_up_a_purge_ends_it_where_it_is():
    broker = made(instant=False)
    load(broker, "work")
    purging = await begin(broker, door(broker).purge("work"))
    purging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await purging
    left = len(in_queue(broker))
    assert 0 < left < MANY
    broker.commit()
    assert len(in_queue(broker)) == left


async def test_what_a_redrive_sends_back_is_worked_on_between_its_slices():
    broker = made("work", "done", instant=False)
    client = consumer(broker)
    load(broker, "done")
    moving = await begin(broker, door(broker).redrive("done", to="work"))
    assert [each.payload for each in client.take_all(Publish)] == [b"%d" % n for n in range(16)]
    assert await finish(broker, moving) == MANY
    assert {queue for queue, _ in in_queue(broker)} == {"work"}
    assert len(in_queue(broker)) == MANY


async def test_a_store_that_dies_during_a_purge_is_told():
    broker = made(instant=False)
    load(broker, "work")
    purging = await begin(broker, door(broker).purge("work"))
    await asyncio.sleep(0)
    broker.flush()
    die(broker)
    with pytest.raises(QueueError, match="may still happen"):
        await purging


# -- the store dies alone --------------------------------------------------------------------------


def die(broker: MemoryBroker) -> None:
    """The store commits the next batch, and dies before it has said what came of it."""
    store, journal = broker.store, broker.engine.journal
    assert store is not None
    assert journal is not None
    store.journal = None
    position = store.waiting[0][1][0]
    assert store.commit_next()
    store.journal = journal
    journal.on_committed(position, 0.0, 0)


@pytest.mark.parametrize("qos", [1, 2])
def test_what_a_dead_store_has_leased_to_nobody_is_leased_again_at_once(qos):
    broker = made(instant=False)
    fill(broker, b"x")
    client = broker.connect("c", properties={Property.SESSION_EXPIRY_INTERVAL: 100})
    request(client, "$queue/work", qos)
    broker.commit()
    client.received.clear()
    broker.pass_time(0.01)
    client.disconnect()
    broker.commit()
    again = broker.client()
    again.connect("c", clean_start=False, properties={Property.SESSION_EXPIRY_INTERVAL: 100})
    broker.flush()
    die(broker)
    broker.commit()
    broker.pass_time(2)
    broker.commit()
    (message,) = [each for each in again.received if isinstance(each, Publish)]
    assert message.payload == b"x"


def test_what_a_dead_store_has_counted_is_asked_again():
    broker = made(instant=False, max_messages=2)
    fill(broker, b"1", b"2")
    client = consumer(broker)
    broker.commit()
    for each in client.take_all(Publish):
        client.acknowledge(each)
    broker.flush()
    die(broker)
    broker.commit()
    assert in_queue(broker) == []
    fill(broker, b"3")


def test_a_nack_by_topic_counts_whatever_puback_follows_it():
    broker = made(instant=False)
    client = consumer(broker, version=4)
    broker.commit()
    publisher = broker.connect("p")
    for topic in ("feed/work", "feed/work"):  # one past the store, one out of it
        publisher.publish(topic, b"x", 1)
        message = client.take(Publish)
        number = message.topic.split("/")[2]
        client.publish(f"$queue/work/$reject/{number}", b"bad", 0)
        client.acknowledge(message)
        broker.commit()
    assert in_queue(broker) == [("work.dlq", b"x"), ("work.dlq", b"x")]


def test_a_client_gets_what_it_has_room_for_again_whatever_made_the_room():
    broker = made()
    fill(broker, b"1", b"2", b"3")
    narrow = {"properties": {Property.RECEIVE_MAXIMUM: 1}}
    client = consumer(broker, "c", qos=2, connect=narrow)
    assert [each.payload for each in client.drain()] == [b"1", b"2", b"3"]
    client.subscribe("other", 1)
    broker.connect("p").publish("other", b"fills the window", 1)
    fill(broker, b"4")
    (other,) = client.take_all(Publish)
    client.acknowledge(other)
    assert client.take(Publish).payload == b"4"


def test_what_waits_for_room_elsewhere_does_not_fail_by_waiting():
    rules = Feed({"in": Forward((Entry("out"),))})
    broker = made("in", "out", rules=rules, max_messages=1)
    fill(broker, b"1", topic="feed/in")
    fill(broker, b"2", topic="feed/in")
    broker.pass_time(1000)
    assert in_queue(broker) == [("out", b"1"), ("in", b"2")]


def test_long_keys_are_stored_as_their_hash():
    broker = made(order="key")
    publisher = broker.connect("p")
    for _ in range(2):
        publisher.publish("$queue/work", b"x", 1, properties={USER: [("key", "k" * 5000)]})
    broker.commit()
    (message,) = consumer(broker).take_all(Publish)  # the other waits behind its key
    assert told(message)["key"].startswith("sha256:")


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        ({"on_full": "drop_oldest", "max_messages": 3}, [b"0", b"8", b"9"]),
        ({"on_full": "dead_letter", "max_messages": 3}, [b"0", b"1", b"2"]),
    ],
)
def test_a_busy_consumer_does_not_change_what_a_full_queue_keeps(policy, left):
    broker = made(prefetch=1, **policy)
    consumer(broker)
    publisher = broker.connect("p")
    for number in range(10):
        publisher.publish("feed/work", b"%d" % number, 1)
        broker.commit()
        assert publisher.take(Puback).reason == 0
    kept = [payload for queue, payload in in_queue(broker) if queue == "work"]
    assert kept[-3:] == left[-3:]
    assert kept[0] == b"0"  # which the consumer has


def test_a_qos_2_consumer_is_not_starved_by_a_busy_one_of_qos_1():
    broker = made(prefetch=3)
    fill(broker, *[b"%d" % number for number in range(8)])
    busy = consumer(broker, "busy")
    assert len(busy.take_all(Publish)) == 3
    expiry = {"properties": {Property.SESSION_EXPIRY_INTERVAL: 60}}
    exact = consumer(broker, "exact", qos=2, connect=expiry)
    assert [each.payload for each in exact.take_all(Publish)] == [b"3", b"4", b"5"]


def test_a_lease_can_be_renewed_to_end_sooner():
    broker = made(lease=30.0, prefetch=1)
    fill(broker, b"x")
    client = consumer(broker, version=4)
    number = client.take(Publish).topic.split("/")[2]
    other = consumer(broker, "other")
    client.publish(f"$queue/work/$renew/{number}", b"2", 0)
    broker.pass_time(3)
    assert other.take(Publish).payload == b"x"


def test_the_next_active_consumer_goes_on_in_order():
    broker = made(order="single_active", prefetch=2)
    fill(broker, *[b"%d" % number for number in range(6)])
    one, other = consumer(broker, "one"), consumer(broker, "other")
    assert [each.payload for each in one.take_all(Publish)] == [b"0", b"1"]
    assert other.received == []
    one.disconnect()
    broker.commit()
    assert [each.payload for each in other.drain()] == [b"%d" % number for number in range(6)]


def test_a_new_message_does_not_overtake_those_that_the_store_was_asked_for():
    broker = made(instant=False)
    client = consumer(broker)
    broker.commit()
    publisher = broker.connect("p")
    publisher.publish("feed/work", b"1", 2)  # by way of the store
    broker.flush()
    publisher.publish("feed/work", b"2", 1)  # while the store is being asked
    broker.flush()
    assert client.received == []
    broker.commit()
    assert [each.payload for each in client.take_all(Publish)] == [b"1", b"2"]


def test_whoever_shares_queues_looks_for_ended_leases_also_where_he_knows_of_no_message():
    """The broker that leased may be gone, and nobody has heard of its messages."""
    broker = made()

    def looks() -> int:
        batches = [dict(operations) for _, operations in broker.store.batches]
        return sum(row[1] == "reap" for each in batches for row in each.get("queue_admin", ()))

    broker.pass_time(6)
    assert looks() == 0
    broker.engine.queueing.is_shared = True
    broker.pass_time(6)
    assert looks() == 1
