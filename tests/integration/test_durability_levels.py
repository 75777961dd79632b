"""What an acknowledgement promises at each level, and what gives way in a full backlog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.durable import (
    NOBODY,
    QUOTA_EXCEEDED,
    connect,
    kill_all,
    leave_session,
    numbered,
    publish,
    publish_once,
    receive,
    restart,
    rows,
    stopped,
    take_everything,
    wait_for_rows,
    wait_for_sys,
)
from tests.integration.peer import Peer

if TYPE_CHECKING:
    from tests.integration.conftest import StartBroker
    from tests.support.process import BrokerProcess

EVERY_SECOND = {"sys_interval": 1}
ROOM = 10  # messages


def test_relaxed_answers_at_once_and_writes_soon(
    start_broker: StartBroker, database: dict[str, Any]
) -> None:
    store = {**database, "level": "relaxed", "relaxed_interval": 0.1}
    broker = start_broker(settings={"store": store, "broker": EVERY_SECOND})
    leave_session(broker, "absent", "work")
    wait_for_rows(broker, "SELECT count(*) FROM subscription", [(1,)])
    with stopped(broker):
        assert publish_once(broker, "work", *numbered(100)) == [0] * 100
    wait_for_rows(broker, "SELECT count(*) FROM message", [(100,)])
    assert wait_for_sys(broker, "store/level", "") == "relaxed"
    kill_all(broker)
    broker.start()
    assert take_everything(broker, "absent", "work") == numbered(100)


@pytest.mark.parametrize("qos", [1, 2])
def test_commit_survives_the_end_of_the_process(start_broker: StartBroker, qos: int) -> None:
    broker = start_broker(settings={"store": {"level": "commit"}})
    leave_session(broker, "absent", "work", qos=qos)
    assert publish_once(broker, "work", *numbered(100), qos=qos) == [0] * 100
    restart(broker)
    assert take_everything(broker, "absent", "work", qos) == numbered(100)


def test_memory_writes_nothing(start_broker: StartBroker) -> None:
    broker = start_broker(settings={"store": {"level": "memory"}, "broker": EVERY_SECOND})
    leave_session(broker, "absent", "work")
    assert publish_once(broker, "work", *numbered(100)) == [0] * 100
    assert take_everything(broker, "absent", "work") == numbered(100)
    assert wait_for_sys(broker, "store/level", "") == "memory"
    broker.stop()
    assert not (broker.directory / "data").exists()
    broker.start()
    with Peer.of(broker) as peer:
        assert not connect(peer, "absent").session_present


def test_each_topic_has_its_level(start_broker: StartBroker) -> None:
    durability = [
        {"filter": "noise/alarm", "level": "strict"},
        {"filter": "noise/#", "level": "memory"},
    ]
    broker = start_broker(settings={"durability": durability})
    leave_session(broker, "absent", "#")
    with Peer.of(broker) as peer:
        peer.connect()
        for topic in ("noise/a", "work", "noise/alarm"):
            assert publish(peer, topic, [topic.encode()]) == [0]
            assert publish(peer, topic, [b"state"], retain=True) == [0]
    stored = "SELECT topic, count(*) FROM {} GROUP BY topic ORDER BY topic"
    assert rows(broker, stored.format("message")) == [("noise/alarm", 2), ("work", 2)]
    assert rows(broker, stored.format("retained")) == [("noise/alarm", 1), ("work", 1)]
    kill_all(broker)
    broker.start()
    heard = take_everything(broker, "absent", "work")
    assert heard == [b"work", b"state", b"noise/alarm", b"state"]


# -- full backlogs ---------------------------------------------------------------------------------


def start_with(start_broker: StartBroker, policy: str) -> BrokerProcess:
    limits = {"backlog_messages": ROOM, "backlog_policy": policy}
    broker = start_broker(settings={"limits": limits, "broker": EVERY_SECOND})
    leave_session(broker, "absent", "work/#")
    return broker


def test_reject_tells_the_publisher(start_broker: StartBroker) -> None:
    broker = start_with(start_broker, "reject")
    refused = [QUOTA_EXCEEDED] * 5
    assert publish_once(broker, "work/a", *numbered(ROOM + 5)) == [0] * ROOM + refused
    restart(broker)
    assert publish_once(broker, "work/a", b"too much") == [QUOTA_EXCEEDED]
    wait_for_sys(broker, "publish/messages/dropped/quota_exceeded", "^1$")
    with Peer.of(broker) as peer:
        connect(peer, "absent")
        heard = [peer.take_message()[1] for _ in range(ROOM)]
    assert heard == numbered(ROOM)


def test_drop_newest_keeps_what_came_first(start_broker: StartBroker) -> None:
    broker = start_with(start_broker, "drop_newest")
    for payload in numbered(ROOM + 5):  # what comes at once is looked at as one
        assert publish_once(broker, "work/a", payload) in ([0], [NOBODY])
    wait_for_sys(broker, "publish/messages/dropped/backlog_full", "^5$")
    restart(broker)
    with Peer.of(broker) as peer:
        connect(peer, "absent")
        heard = [peer.take_message()[1] for _ in range(ROOM)]
    assert heard == numbered(ROOM)


def test_drop_oldest_keeps_what_came_last(start_broker: StartBroker) -> None:
    broker = start_with(start_broker, "drop_oldest")
    assert publish_once(broker, "work/a", *numbered(500)) == [0] * 500
    restart(broker)
    with Peer.of(broker) as peer:
        connect(peer, "absent")
        heard = [peer.take_message()[1] for _ in range(ROOM)]
        assert heard == numbered(ROOM, start=500 - ROOM)


def test_drop_oldest_counts_what_it_drops(start_broker: StartBroker) -> None:
    broker = start_with(start_broker, "drop_oldest")
    assert publish_once(broker, "work/a", *numbered(500)) == [0] * 500
    with Peer.of(broker) as peer:
        connect(peer, "absent")
        assert peer.take_message()[1] == numbered(1, start=500 - ROOM)[0]
        wait_for_sys(broker, "publish/messages/dropped/backlog_oldest", f"^{500 - ROOM}$")


@pytest.mark.parametrize("is_restarted", [False, True])
def test_last_value_keeps_the_last_of_each_topic(
    start_broker: StartBroker, is_restarted: bool
) -> None:
    broker = start_with(start_broker, "last_value")
    with Peer.of(broker) as peer:
        peer.connect()
        for payload in numbered(20):
            for topic in ("work/a", "work/b"):
                assert publish(peer, topic, [topic.encode() + payload]) == [0]
    if is_restarted:
        restart(broker)
    last = numbered(20)[-1]
    with Peer.of(broker) as peer:
        connect(peer, "absent")
        assert receive(peer, 2) == [b"work/a" + last, b"work/b" + last]
        publish_once(broker, "work/a", b"next")
        assert receive(peer, 1) == [b"next"]
        if not is_restarted:  # the counters begin anew with a process
            wait_for_sys(broker, "publish/messages/dropped/superseded", "^38$")
