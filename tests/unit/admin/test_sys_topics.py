"""What the broker says about itself."""

from broker.admin.sys_topics import SysTopics
from broker.packets.types import Publish
from broker.queues.policy import QueuePolicy
from tests.support.broker import MemoryBroker
from tests.support.store import MemoryStore

ROUND = 10.0


def broker_with(*queues: str) -> MemoryBroker:
    policy = QueuePolicy().to_json()
    return MemoryBroker(store=MemoryStore(queues=[(name, policy, "[]") for name in queues]))


def test_a_queue_says_how_full_it_is_and_who_takes_from_it():
    broker = broker_with("work")
    watcher = broker.connect("watcher")
    watcher.subscribe("$SYS/broker/queues/#")
    publisher = broker.connect("publisher")
    for _ in range(3):
        publisher.publish("$queue/work", b"x", 1)
    broker.commit()
    topics = SysTopics(broker.engine, "1", 0.0)
    tell(topics, ROUND, broker)
    said = {each.topic.removeprefix("$SYS/broker/queues/"): each.payload for each in heard(watcher)}
    assert said.pop("work/bytes") > b"0"
    assert said == {
        "count": b"1", "work/mode": b"running", "work/messages": b"3", "work/consumers": b"0"
    }  # fmt: skip


def test_only_what_has_changed_is_said_again():
    broker = broker_with("work")
    watcher = broker.connect("watcher")
    watcher.subscribe("$SYS/broker/queues/#")
    topics = SysTopics(broker.engine, "1", 0.0)
    tell(topics, ROUND, broker)
    heard(watcher)
    broker.connect("consumer").subscribe("$queue/work", 1)
    tell(topics, 2 * ROUND, broker)
    assert [(each.topic, each.payload) for each in heard(watcher)] == [
        ("$SYS/broker/queues/work/consumers", b"1")
    ]


def test_a_topic_whose_subject_is_gone_is_taken_back():
    broker = broker_with("work")
    topics = SysTopics(broker.engine, "1", 0.0)
    tell(topics, ROUND, broker)
    del broker.engine.queueing._queues["work"]
    tell(topics, 2 * ROUND, broker)
    late = broker.connect("late")
    late.subscribe("$SYS/broker/queues/#")
    assert [each.topic for each in heard(late)] == ["$SYS/broker/queues/count"]


def tell(topics: SysTopics, now: float, broker: MemoryBroker) -> None:
    topics.publish(now)
    broker.flush()


def heard(client) -> list[Publish]:
    return client.take_all(Publish)
