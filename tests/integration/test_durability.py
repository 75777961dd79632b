"""What was acknowledged is there after `kill -9`, on both databases, with real processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest

from broker.packets.properties import Property
from broker.packets.types import (
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Will,
)
from tests.integration.durable import (
    change,
    connect,
    kill_all,
    kill_store,
    leave_session,
    numbered,
    publish,
    publish_once,
    receive,
    release,
    restart,
    take_everything,
    wait_for_rows,
    wait_for_sys,
)
from tests.integration.peer import Peer, wait_for_log
from tests.support.process import HOST

if TYPE_CHECKING:
    from tests.integration.conftest import StartBroker
    from tests.support.process import BrokerProcess

MANY = 200
LONG_ENOUGH = 10.0  # seconds: only a hang reaches it


@pytest.fixture
def broker(start_broker: StartBroker, database: dict[str, Any]) -> BrokerProcess:
    store = {**database, "relaxed_interval": 0.05}
    return start_broker(settings={"store": store, "broker": {"sys_interval": 1}})


@pytest.mark.parametrize("qos", [1, 2])
def test_all_that_was_acknowledged_is_there_in_order(broker: BrokerProcess, qos: int) -> None:
    leave_session(broker, "absent", "work/#", qos=qos)
    assert publish_once(broker, "work/one", *numbered(MANY), qos=qos) == [0] * MANY
    restart(broker)
    assert take_everything(broker, "absent", "work/one", qos) == numbered(MANY)


def test_what_a_foreign_client_was_told_is_there(broker: BrokerProcess) -> None:
    leave_session(broker, "absent", "work")
    publisher = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    publisher.connect(HOST, broker.port)
    publisher.loop_start()
    sent = [publisher.publish("work", payload, 1) for payload in numbered(MANY)]
    for each in sent:
        each.wait_for_publish(LONG_ENOUGH)
    broker.kill()
    publisher.loop_stop()
    assert all(each.is_published() for each in sent)
    broker.start()
    assert take_everything(broker, "absent", "work") == numbered(MANY)


def test_what_one_session_has_taken_does_not_come_again(broker: BrokerProcess) -> None:
    for name in ("quick", "slow"):
        leave_session(broker, name, "work")
    publish_once(broker, "work", *numbered(MANY))
    with Peer.of(broker) as peer:
        connect(peer, "quick")
        assert receive(peer, MANY) == numbered(MANY)
    cursors = "SELECT client_id, session.cursor FROM session ORDER BY client_id"
    wait_for_rows(broker, cursors, [("quick", MANY), ("slow", 0)])
    restart(broker)
    assert take_everything(broker, "quick", "work") == []
    assert take_everything(broker, "slow", "work") == numbered(MANY)


# -- QoS 2 in the middle of its exchange -----------------------------------------------------------


def test_a_publisher_may_send_again_what_got_its_pubrec(broker: BrokerProcess) -> None:
    leave_session(broker, "absent", "work", qos=2)
    with Peer.of(broker) as peer:
        connect(peer, "publisher")
        peer.send(Publish("work", b"once", 2, packet_id=7))
        assert peer.take(Pubrec).reason == 0
    restart(broker)
    with Peer.of(broker) as peer:
        assert connect(peer, "publisher").session_present
        peer.send(Publish("work", b"once", 2, dup=True, packet_id=7))
        assert peer.take(Pubrec).reason == 0
        release(peer, [7])
    assert take_everything(broker, "absent", "work", qos=2) == [b"once"]


def test_a_publisher_may_release_what_got_its_pubrec(broker: BrokerProcess) -> None:
    leave_session(broker, "absent", "work", qos=2)
    with Peer.of(broker) as peer:
        connect(peer, "publisher")
        peer.send(Publish("work", b"once", 2, packet_id=7))
        peer.take(Pubrec)
    restart(broker)
    with Peer.of(broker) as peer:
        connect(peer, "publisher")
        peer.send(Pubrel(7))
        assert peer.take(Pubcomp).reason == 0
        assert publish(peer, "work", [b"new"] * 7, qos=2) == [0] * 7  # with the same id, too
    assert take_everything(broker, "absent", "work", qos=2) == [b"once", *[b"new"] * 7]


def test_a_receiver_gets_the_publish_again_under_its_packet_id(broker: BrokerProcess) -> None:
    leave_session(broker, "receiver", "work", qos=2)
    publish_once(broker, "work", b"first", b"second", qos=2)
    with Peer.of(broker) as peer:
        connect(peer, "receiver")
        before = [peer.take(Publish) for _ in range(2)]
    restart(broker)
    with Peer.of(broker) as peer:
        connect(peer, "receiver")
        again = [peer.take(Publish) for _ in range(2)]
    assert [each.dup for each in again] == [True, True]
    assert [(each.packet_id, each.payload) for each in again] == [
        (each.packet_id, each.payload) for each in before
    ]


def test_a_receiver_that_has_answered_gets_the_pubrel_again(broker: BrokerProcess) -> None:
    leave_session(broker, "receiver", "work", qos=2)
    publish_once(broker, "work", b"once", qos=2)
    with Peer.of(broker) as peer:
        connect(peer, "receiver")
        packet_id = peer.take(Publish).packet_id
        peer.send(Pubrec(packet_id))
        assert peer.take(Pubrel).packet_id == packet_id
    restart(broker)
    with Peer.of(broker) as peer:
        connect(peer, "receiver")
        assert peer.take(Pubrel).packet_id == packet_id
        peer.send(Pubcomp(packet_id))
        publish_once(broker, "work", b"next", qos=2)
        assert receive(peer, 1) == [b"next"]


# -- everything else that is kept ------------------------------------------------------------------


def test_retained_messages_stay_and_erased_ones_stay_away(broker: BrokerProcess) -> None:
    publish_once(broker, "state/old", b"old", retain=True)
    publish_once(broker, "state/gone", b"gone", retain=True)
    publish_once(broker, "state/old", b"new", retain=True)
    publish_once(broker, "state/gone", b"", retain=True)
    publish_once(broker, "state/zz", b"last", retain=True)
    restart(broker)
    with Peer.of(broker) as peer:
        peer.connect()
        peer.subscribe("state/#", 1)
        found = {peer.take_message() for _ in range(2)}
        assert found == {("state/old", b"new"), ("state/zz", b"last")}
        publish_once(broker, "state/now", b"live")
        assert peer.take(Publish).topic == "state/now"


def test_a_subscription_stays_with_all_its_options(broker: BrokerProcess) -> None:
    with Peer.of(broker, version=4) as peer:
        connect(peer, "v4")
        peer.subscribe("work/+", 1)
    leave_session(broker, "v5", "work/#", qos=2)
    restart(broker)
    publish_once(broker, "work/one", b"both", qos=2)
    for version, qos in ((4, 1), (5, 2)):
        with Peer.of(broker, version) as peer:
            assert connect(peer, f"v{version}").session_present
            packet = peer.take(Publish)
            assert (packet.payload, packet.qos) == (b"both", qos)


def test_a_session_that_ended_stays_away(broker: BrokerProcess) -> None:
    leave_session(broker, "absent", "work")
    with Peer.of(broker) as peer:
        peer.connect("absent", clean_start=True)  # and so the old one has ended
        peer.send(Disconnect())
        assert peer.is_cut_off()
    wait_for_rows(broker, "SELECT count(*) FROM session WHERE client_id = 'absent'", [(0,)])
    restart(broker)
    with Peer.of(broker) as peer:
        assert not connect(peer, "absent").session_present


def test_a_delayed_will_is_published_by_the_next_process(broker: BrokerProcess) -> None:
    leave_session(broker, "heir", "wills/#")
    delay = {Property.WILL_DELAY_INTERVAL: 1}
    with Peer.of(broker) as peer:
        connect(peer, "mortal", will=Will("wills/mortal", b"farewell", 1, properties=delay))
    wait_for_rows(broker, "SELECT client_id FROM will WHERE due_at IS NOT NULL", [("mortal",)])
    restart(broker)
    with Peer.of(broker) as peer:
        connect(peer, "heir")
        assert receive(peer, 1) == [b"farewell"]


def test_the_will_of_a_client_that_was_connected_is_published(broker: BrokerProcess) -> None:
    leave_session(broker, "heir", "wills/#")
    with Peer.of(broker) as peer:
        connect(peer, "mortal", will=Will("wills/mortal", b"farewell", 1))
        wait_for_rows(broker, "SELECT client_id FROM will WHERE due_at IS NULL", [("mortal",)])
        restart(broker)
    with Peer.of(broker) as peer:
        connect(peer, "heir")
        assert receive(peer, 1) == [b"farewell"]


def test_a_session_expires_by_the_clock_on_the_wall(broker: BrokerProcess) -> None:
    leave_session(broker, "short", "work", expiry=60)
    leave_session(broker, "long", "work", expiry=120)
    publish_once(broker, "work", b"hello")
    wait_for_rows(broker, "SELECT count(*) FROM session WHERE expires_at IS NULL", [(0,)])
    kill_all(broker)
    change(broker, "UPDATE meta SET wall_time = wall_time - 90")  # it was away so long
    broker.start()
    wait_for_rows(broker, "SELECT client_id FROM session", [("long",)])
    with Peer.of(broker) as peer:
        assert not connect(peer, "short").session_present
    assert take_everything(broker, "long", "work") == [b"hello"]


def test_a_shared_group_goes_on_with_each_message_once(broker: BrokerProcess) -> None:
    members = ("one", "two")
    for name in members:
        leave_session(broker, name, "$share/group/work")
    publish_once(broker, "work", *numbered(50))
    restart(broker)
    publish_once(broker, "work", *numbered(50, start=50))
    heard: list[bytes] = []
    for name in members:
        with Peer.of(broker) as peer:
            assert connect(peer, name).session_present
            heard += receive(peer, 50)
    assert sorted(heard) == sorted(numbered(100))


# -- the store process alone -----------------------------------------------------------------------


def test_the_death_of_the_store_process_delays_and_loses_nothing(broker: BrokerProcess) -> None:
    leave_session(broker, "absent", "work")
    with Peer.of(broker) as peer:
        peer.connect()
        assert publish(peer, "work", numbered(100)) == [0] * 100
        for packet_id, payload in enumerate(numbered(100, start=100), 1):
            if packet_id == 50:
                kill_store(broker)
            peer.send(Publish("work", payload, 1, packet_id=packet_id))
        assert [peer.take(Puback).reason for _ in range(100)] == [0] * 100
    wait_for_log(broker, "ERROR .*store process ended with signal SIGKILL")
    assert take_everything(broker, "absent", "work") == numbered(200)
    wait_for_sys(broker, "store/alarm", "SIGKILL")
