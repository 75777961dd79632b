"""What clients bind queues to, beside the rules of the settings."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from bridges.queues.backend import QueueError
from bridges.queues.local import LocalBackend
from bridges.queues.routes import Rules
from broker.admin.event_log import EventLog
from broker.engine.notices import BindingRefused
from broker.packets.codes import ReasonCode
from broker.packets.properties import Property
from broker.packets.types import Puback, Publish
from broker.queues.policy import QueuePolicy
from broker.settings import RouteSettings
from tests.support.broker import MemoryBroker
from tests.support.store import MemoryStore

RETRY = RouteSettings(from_queue="work.dlq", publish_to=("retry/{client}",))


def made(*routes: RouteSettings, authorizer: Any = None) -> MemoryBroker:
    store = MemoryStore(instant=True, queues=[("work", QueuePolicy().to_json(), "[]")])
    rules = Rules.compile(routes)
    return MemoryBroker(store=store, rules=rules, create_queues=True, authorizer=authorizer)


def bind(broker: MemoryBroker, *bindings: str, version: int = 5, qos: int = 0) -> list[int]:
    client = broker.connect("binder", version)
    return [client.subscribe(f"$queue/{each}", qos).reasons[0] for each in bindings]


def stored(broker: MemoryBroker) -> list[tuple[str, bytes]]:
    assert broker.store is not None
    return [(row[1], row[3]) for row in broker.store.queued.rows()]


def publish(broker: MemoryBroker, topic: str, payload: bytes = b"x") -> int:
    client = broker.connect("publisher")
    client.publish(topic, payload, 1)
    broker.commit()
    reason = client.take(Puback).reason
    client.disconnect()
    return reason


def refused(broker: MemoryBroker) -> list[BindingRefused]:
    return [each for each in broker.notices if isinstance(each, BindingRefused)]


def bound(broker: MemoryBroker, name: str) -> list[str]:
    assert broker.engine.queueing is not None
    queue = broker.engine.queueing.get(name)
    return [] if queue is None else list(queue.bindings)


def unbind(broker: MemoryBroker, name: str, topic_filter: str) -> list[str]:
    told: list[str] = []
    assert broker.engine.queues is not None
    broker.engine.queues.admin("unbind", name, (topic_filter,), told.append)
    broker.commit()
    return told


# -- circles ---------------------------------------------------------------------------------------


def test_a_binding_that_would_close_a_circle_is_refused_and_the_circle_is_named():
    broker = made(RETRY)
    assert bind(broker, "work.dlq/retry/#") == [ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR]
    (notice,) = refused(broker)
    assert (notice.client_id, notice.queue, notice.topic_filter) == (
        "binder",
        "work.dlq",
        "retry/#",
    )
    assert list(notice.circle) == ["work.dlq", "topic retry/{client}", "work.dlq"]
    assert bound(broker, "work.dlq") == []


def test_a_circle_through_dead_letters_and_other_bindings_is_found():
    routes = (
        RouteSettings(from_queue="mine.dlq", publish_to=("a",)),
        RouteSettings(from_queue="other.dlq", publish_to=("b",)),
    )
    broker = made(*routes)
    assert bind(broker, "other/a", "mine/c") == [0, 0]
    assert bind(broker, "mine/+") == [ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR]
    assert bind(broker, "other/b") == [ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR]
    assert bind(broker, "mine/b") == [ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR]
    assert " -> ".join(refused(broker)[-1].circle) == (
        "mine -> mine.dlq -> topic a -> other -> other.dlq -> topic b -> mine"
    )


def test_a_3_1_1_client_hears_of_it_in_the_one_word_it_knows():
    assert bind(made(RETRY), "work.dlq/retry/#", version=4) == [0x80]


def test_what_is_no_circle_may_be_bound():
    broker = made(RETRY)
    assert bind(broker, "work.dlq/other/#", "mine/retry/+", "mine/#", "work.dlq/retry") == [0] * 4
    assert refused(broker) == []


def test_a_filter_that_no_message_can_match_is_refused():
    wanted = ("mine/$queue/work", "mine/$share/g/a", "mine/a/#/b", "mine/#")
    invalid = ReasonCode.TOPIC_FILTER_INVALID
    assert bind(made(), *wanted) == [invalid, invalid, invalid, 0]


def test_who_may_not_subscribe_is_told_that_and_nothing_of_circles():
    class Nobody:
        def may_publish(self, _client: Any, _topic: str) -> bool:
            return True

        def may_subscribe(self, _client: Any, _filter: str) -> bool:
            return False

    broker = made(RETRY, authorizer=Nobody())
    assert bind(broker, "work.dlq/retry/#") == [ReasonCode.NOT_AUTHORIZED]
    assert refused(broker) == []


def test_what_was_bound_before_a_rule_made_a_circle_of_it_is_bound_no_more():
    broker = made()
    assert bind(broker, "work.dlq/retry/#", "work.dlq/ok") == [0, 0]
    broker.commit()
    found = broker.crash(rules=Rules.compile([RETRY]))
    (notice,) = refused(found)
    assert (notice.client_id, notice.queue, notice.topic_filter) == (None, "work.dlq", "retry/#")
    assert bound(found, "work.dlq") == ["ok"]
    assert publish(found, "$queue/work.dlq") == 0
    assert stored(found) == []  # gone to the topic, and not back
    found.commit()
    again = found.crash(rules=Rules.compile([]))
    assert (bound(again, "work.dlq"), refused(again)) == (["ok"], [])


def test_the_log_names_the_circle(caplog: pytest.LogCaptureFixture):
    log = EventLog(logging.getLogger("test"), lambda: 0.0)
    circle = ("q", "topic a/{1}", "q")
    log(BindingRefused("me", "q", "a/#", circle))
    log(BindingRefused(None, "q", "a/#", circle))
    told = [record.getMessage() for record in caplog.records]
    assert "'me'" in told[0]
    assert all("q -> topic a/{1} -> q" in each and "'a/#'" in each for each in told)
    assert "taken away" in told[1]


# -- an end to a binding ---------------------------------------------------------------------------


def test_what_is_unbound_takes_nothing_more_and_keeps_what_it_has():
    broker = made()
    bind(broker, "mine/a/#", "mine/b")
    broker.connect("binder").disconnect()
    assert publish(broker, "a/1", b"before") == 0
    assert unbind(broker, "mine", "a/#") == ["ok"]
    publish(broker, "a/1", b"after")
    publish(broker, "b", b"other")
    assert stored(broker) == [("mine", b"before"), ("mine", b"other")]
    found = broker.crash()
    publish(found, "a/1", b"after")
    assert (bound(found, "mine"), len(stored(found))) == (["b"], 2)


def test_a_durable_session_does_not_bind_again_what_was_unbound_but_its_client_may():
    broker = made()
    expiry = {Property.SESSION_EXPIRY_INTERVAL: 1000}
    client = broker.connect("c", properties=expiry)
    assert client.subscribe("$queue/mine/a/#", 1).reasons == [1]
    broker.commit()
    assert unbind(broker, "mine", "a/#") == ["ok"]
    found = broker.crash()
    assert bound(found, "mine") == []
    again = found.client()
    again.connect("c", clean_start=False, properties=expiry)
    publish(found, "$queue/mine", b"x")  # it goes on consuming
    assert again.take(Publish).payload == b"x"
    assert again.subscribe("$queue/mine/a/#", 1).reasons == [1]
    assert bound(found, "mine") == ["a/#"]


def test_a_place_among_a_hundred_bindings_is_free_again():
    broker = made()
    assert bind(broker, *(f"mine/a/{number}" for number in range(100))) == [0] * 100
    assert bind(broker, "mine/b") == [ReasonCode.QUOTA_EXCEEDED]
    assert unbind(broker, "mine", "a/7") == ["ok"]
    assert bind(broker, "mine/b") == [0]


@pytest.mark.parametrize(("name", "topic_filter", "said"), [
    ("mine", "a/1", "not bound"),
    ("mine", "", "not bound"),
    ("work", "a/#", "not bound"),
    ("none", "a/#", "unknown"),
])  # fmt: skip
def test_what_nobody_has_bound_is_told(name: str, topic_filter: str, said: str):
    broker = made(RouteSettings(topic=("a/#",), queue=("work",)))
    bind(broker, "mine/a/#")
    assert unbind(broker, name, topic_filter) == [said]


def test_a_queue_that_the_settings_have_taken_over_is_bound_to_nothing_by_an_old_session():
    broker = made()
    expiry = {Property.SESSION_EXPIRY_INTERVAL: 1000}
    client = broker.connect("c", properties=expiry)
    client.subscribe("$queue/mine/a/#", 1)
    broker.commit()
    assert broker.store is not None
    store = broker.store.crash()
    assert store.queues is not None
    store.queues.definitions.append(("mine", QueuePolicy(max_messages=7).to_json(), "[]"))
    found = MemoryBroker(store=store, rules=Rules.compile([]), create_queues=True, now=20.0)
    assert bound(found, "mine") == []


# -- an end to a queue -----------------------------------------------------------------------------


async def drop(broker: MemoryBroker, name: str) -> int:
    queues = broker.engine.queues
    assert queues is not None
    dropping = asyncio.ensure_future(LocalBackend(queues, asyncio.get_running_loop()).drop(name))
    while not dropping.done():
        await asyncio.sleep(0)
        broker.commit()
    return await dropping


async def test_a_queue_that_a_client_has_made_can_be_dropped_with_what_is_in_it():
    broker = made()
    bind(broker, "mine/a/#")
    broker.connect("binder").disconnect()
    publish(broker, "a/1")
    publish(broker, "$queue/work")
    assert await drop(broker, "mine") == 1
    assert publish(broker, "a/1") == ReasonCode.NO_MATCHING_SUBSCRIBERS
    assert stored(broker) == [("work", b"x")]
    assert publish(broker, "$queue/mine") == ReasonCode.TOPIC_NAME_INVALID
    found = broker.crash()
    assert found.engine.queues is not None
    assert list(found.engine.queues.names) == ["work"]
    with pytest.raises(QueueError, match="there is no queue"):
        await drop(found, "mine")


async def test_a_queue_in_use_or_of_the_settings_is_not_dropped():
    store = MemoryStore(instant=True, queues=[("work", QueuePolicy().to_json(), "[]")])
    rules = Rules.compile([])
    broker = MemoryBroker(
        store=store, rules=rules, create_queues=True, configured_queues=frozenset({"work"})
    )
    client = broker.connect("c")
    client.subscribe("$queue/mine/a", 1)
    publish(broker, "a")
    for name in ("work", "mine"):
        with pytest.raises(QueueError, match="is in use") as refused:
            await drop(broker, name)
        assert refused.value.code == "in_use"
    assert bound(broker, "mine") == ["a"]
    client.disconnect()
    assert await drop(broker, "mine") == 1


async def test_a_queue_that_the_settings_no_longer_have_can_be_dropped():
    broker = made()
    publish(broker, "$queue/work")
    assert await drop(broker, "work") == 1


async def test_a_durable_consumer_of_a_dropped_queue_makes_it_again_when_it_is_back():
    broker = made()
    expiry = {Property.SESSION_EXPIRY_INTERVAL: 1000}
    client = broker.connect("c", properties=expiry)
    client.subscribe("$queue/mine/a", 1)
    client.disconnect()
    assert await drop(broker, "mine") == 0
    again = broker.client()
    again.connect("c", clean_start=False, properties=expiry)
    assert bound(broker, "mine") == []
    assert publish(broker, "$queue/mine", b"x") == 0
    assert again.take(Publish).payload == b"x"


# -- rules for queues that come later --------------------------------------------------------------


def test_a_rule_for_dead_letters_moves_them_from_the_first_one_on():
    broker = made(RETRY)
    listener = broker.connect("listener")
    listener.subscribe("retry/#", 0)
    client = broker.connect("c")
    client.subscribe("$queue/work", 1)
    publish(broker, "$queue/work", b"bad")
    client.acknowledge(client.take(Publish), ReasonCode.PAYLOAD_FORMAT_INVALID)
    broker.commit()
    assert listener.take(Publish).payload == b"bad"
    assert stored(broker) == []
