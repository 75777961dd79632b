"""Floods, bombs and abuse: each meets a limit, who sent it is told, and nobody else pays."""

import pytest

from broker.connection.ports import Origin
from broker.engine import router
from broker.engine.notices import FaultSeen
from broker.packets.codes import ReasonCode
from broker.packets.encode import encode
from broker.packets.properties import Property
from broker.packets.types import (
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Puback,
    Publish,
    Pubrec,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from broker.topics.retained import RetainedMessages
from tests.support.authentication import Ponderer
from tests.support.broker import MemoryBroker, MemoryClient, will

DEEP = "a/" * 200 + "a"
KEPT = {Property.SESSION_EXPIRY_INTERVAL: 1000}


def reason_of_end(client: MemoryClient) -> int:
    assert client.is_closed
    return client.take(Disconnect).reason


# -- the connection --------------------------------------------------------------------------------


@pytest.mark.parametrize("beginning", [b"", b"\x10", b"\x10\x20\x00\x04MQ", b"\x10\xff\xff\x3e"])
def test_a_half_packet_left_hanging_is_cut_off_after_the_connect_timeout(beginning: bytes) -> None:
    broker = MemoryBroker(connect_timeout=10.0)
    client = broker.client()
    if beginning:
        client.send_raw(beginning)
    broker.pass_time(9)
    assert not client.is_closed
    broker.pass_time(2)
    assert client.is_closed


def test_bytes_that_trickle_in_do_not_prolong_the_connect_timeout() -> None:
    broker = MemoryBroker(connect_timeout=10.0)
    client = broker.client()
    for byte in encode(Connect("slowly"), 5)[:-1]:
        if client.is_closed:
            break
        client.send_raw(bytes([byte]))
        broker.pass_time(1)
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-3.1.2-22")
def test_a_keep_alive_shorter_than_the_connect_timeout_counts_from_the_beginning() -> None:
    broker = MemoryBroker(connect_timeout=10.0)
    client = broker.connect("quick", keep_alive=1)
    broker.pass_time(2)
    assert reason_of_end(client) == ReasonCode.KEEP_ALIVE_TIMEOUT


def test_an_oversized_packet_is_refused_before_its_body_comes() -> None:
    broker = MemoryBroker(maximum_packet_size=1000)
    client = broker.connect("big")
    client.send_raw(b"\x30\xff\xff\x7f")
    assert reason_of_end(client) == ReasonCode.PACKET_TOO_LARGE
    assert client.connection._reader.pending < 10


def test_an_unfinished_packet_holds_no_more_than_has_come() -> None:
    broker = MemoryBroker(maximum_packet_size=100_000_000)
    client = broker.connect("big")
    client.send_raw(b"\x30\x80\x80\x80\x10" + bytes(100))
    assert client.connection._reader.pending < 200


def test_packets_before_the_connack_are_held_as_bytes_and_handled_after_it() -> None:
    doorkeeper = Ponderer()
    broker = MemoryBroker(doorkeeper)
    client = broker.client()
    client.send(Connect("early"), Subscribe(1, [SubscriptionRequest("t")]), Publish("t", b"x"))
    assert client.held
    assert client.received == []
    doorkeeper.decide()
    broker.flush()
    assert not client.held
    assert [type(each) for each in client.received] == [Connack, Suback, Publish]


@pytest.mark.parametrize("packet", [Pingreq(), Publish("t", bytes(10_000))])
def test_what_comes_before_the_connack_is_bounded(packet: Pingreq | Publish) -> None:
    broker = MemoryBroker(Ponderer())
    client = broker.client()
    client.send(Connect("flood"))
    frame = encode(packet, 5)
    flood = frame * (100_000 // len(frame))
    for _ in range(100):  # a transport would have stopped reading long ago
        if not client.is_closed:
            client.send_raw(flood)
    assert client.is_closed


def test_a_fault_among_held_packets_ends_that_client_only() -> None:
    doorkeeper = Ponderer()
    broker = MemoryBroker(doorkeeper)
    client = broker.client()
    client.send(Connect("early"), Publish(DEEP))
    doorkeeper.decide()  # must not raise: an authenticator has no use for it
    broker.flush()
    client.take(Connack)
    assert reason_of_end(client) == ReasonCode.TOPIC_NAME_INVALID


def test_a_limit_reached_while_passwords_are_checked_holds() -> None:
    doorkeeper = Ponderer()
    broker = MemoryBroker(doorkeeper, max_connections=2)
    crowd = [broker.client() for _ in range(5)]
    for number, client in enumerate(crowd):
        client.send(Connect(f"c{number}"))
    for _ in crowd:
        doorkeeper.decide()
    broker.flush()
    reasons = [client.take(Connack).reason for client in crowd]
    assert reasons == [0, 0, *[ReasonCode.QUOTA_EXCEEDED] * 3]


def test_the_limit_per_address_spares_other_addresses() -> None:
    broker = MemoryBroker(max_connections_per_address=2)
    reasons = []
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"):
        connack = broker.client(origin=Origin("tcp", address, 1)).connect(f"c{len(reasons)}")
        assert connack is not None
        reasons.append(connack.reason)
    assert reasons == [0, 0, ReasonCode.QUOTA_EXCEEDED, 0]


def test_who_connects_too_fast_is_told_and_may_come_again_later() -> None:
    broker = MemoryBroker(connections_per_second_per_address=5)

    def attempt(number: int) -> int:
        connack = broker.client(origin=Origin("tcp", "10.0.0.1", 1)).connect(f"c{number}")
        assert connack is not None
        return connack.reason

    reasons = [attempt(number) for number in range(30)]
    assert reasons == [0] * 10 + [ReasonCode.CONNECTION_RATE_EXCEEDED] * 20
    broker.pass_time(1)
    assert [attempt(number) for number in range(30, 36)].count(0) == 5


def test_comings_and_goings_with_ever_new_expiries_leave_nothing_behind() -> None:
    broker = MemoryBroker()
    for expiry in range(1, 3000):
        client = broker.connect("x", properties={Property.SESSION_EXPIRY_INTERVAL: expiry * 10})
        client.lose()
    deadlines = broker.engine.deadlines
    assert len(deadlines._buckets) <= 2
    assert len(deadlines._order) < 200


# -- topics and filters ----------------------------------------------------------------------------


@pytest.mark.parametrize("retain", [False, True])
def test_a_topic_of_too_many_levels_ends_the_connection_and_is_not_retained(retain: bool) -> None:
    broker = MemoryBroker()
    client = broker.connect("deep")
    client.publish(DEEP, b"x", qos=1, retain=retain)
    assert reason_of_end(client) == ReasonCode.TOPIC_NAME_INVALID
    assert len(broker.engine.retention) == 0


def test_a_filter_of_too_many_levels_is_refused() -> None:
    client = MemoryBroker().connect("deep")
    for topic_filter in (DEEP, "+/" * 200 + "#", "$share/g/" + DEEP):
        assert client.subscribe(topic_filter).reasons == [ReasonCode.TOPIC_FILTER_INVALID]


def test_the_deepest_filters_and_topics_allowed_work() -> None:
    broker = MemoryBroker(max_topic_levels=65_535)
    client = broker.connect("deep")
    topic = "/" * 20_000
    assert client.subscribe(topic + "#").reasons == [0]
    client.publish(topic, b"x", retain=True)
    client.publish(topic + "b", b"y", retain=True)
    assert len(client.messages()) == 2
    assert client.subscribe(topic + "+").reasons == [0]
    assert len(client.messages()) == 2
    assert client.unsubscribe(topic + "#", topic + "+").reasons == [0, 0]


@pytest.mark.parametrize("prefix", ["", "$share/g/", "+/"])
def test_one_client_cannot_have_more_subscriptions_than_its_quota(prefix: str) -> None:
    broker = MemoryBroker(max_subscriptions_per_client=100)
    client = broker.connect("greedy")
    requests = [SubscriptionRequest(f"{prefix}{number}") for number in range(30_000)]
    client.send(Subscribe(1, requests))
    assert client.take(Suback).reasons == [0] * 100 + [ReasonCode.QUOTA_EXCEEDED] * 29_900
    assert len(broker.engine.router) == 100
    assert client.subscribe(f"{prefix}5").reasons == [0], "one that is held may be replaced"


def test_all_together_cannot_have_more_subscriptions_than_allowed() -> None:
    broker = MemoryBroker(max_subscriptions=50)
    reasons = []
    for name in ("a", "b"):
        client = broker.connect(name)
        client.send(Subscribe(1, [SubscriptionRequest(f"$share/g/{n}") for n in range(40)]))
        reasons += client.take(Suback).reasons
    assert reasons == [0] * 50 + [ReasonCode.QUOTA_EXCEEDED] * 30


def test_subscriptions_that_are_gone_count_no_more() -> None:
    broker = MemoryBroker()
    client = broker.connect("x")
    for _ in range(2):
        for topic_filter in ("a", "+", "$share/g/a", "$share/g/+", "$share/h/a"):
            client.subscribe(topic_filter)
    assert len(broker.engine.router) == 5
    assert broker.engine.router.shared_count == 3
    client.unsubscribe("a", "$share/g/a", "$share/g/a")
    assert len(broker.engine.router) == 3
    client.disconnect()
    assert len(broker.engine.router) == broker.engine.router.shared_count == 0


def test_unsubscribing_unknown_filters_is_answered_for_each() -> None:
    client = MemoryBroker().connect("x")
    client.send(Unsubscribe(1, [f"never/{number}" for number in range(5000)] + ["#/bad"]))
    reasons = set(client.take(Unsuback).reasons)
    assert reasons <= {ReasonCode.NO_SUBSCRIPTION_EXISTED, ReasonCode.TOPIC_FILTER_INVALID}


def test_one_filter_a_hundred_thousand_times_does_not_hold_as_many_replays() -> None:
    broker = MemoryBroker(outbox_limit=1000)
    broker.connect("p").publish("t", bytes(500), retain=True)
    client = broker.connect("x")
    client.stop_reading()
    client.send(Subscribe(1, [SubscriptionRequest("#")] * 100_000))
    session = broker.engine.sessions.get("x")
    assert session is not None
    assert len(session._replays or ()) <= broker.engine.policy.max_subscriptions_per_client


def test_many_wildcards_over_many_retained_messages_leave_others_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker()
    broker.connect("p").publish("t", b"x", retain=True)
    client = broker.connect("x")
    searches: list[str] = []
    match = RetainedMessages.match

    def search(self: RetainedMessages[object], topic_filter: str) -> list[tuple[str, object]]:
        searches.append(topic_filter)
        return match(self, topic_filter)

    monkeypatch.setattr(RetainedMessages, "match", search)
    requests = [SubscriptionRequest(f"+/{number}") for number in range(50)]
    client.connection.receive(encode(Subscribe(1, requests), 5), broker.now)
    assert searches == []
    turns = 0
    while broker.touched:
        touched, broker.touched = broker.touched, []
        for each in touched:
            each.flush()
        turns += 1
    assert len(searches) == 50
    assert turns >= 49


def test_the_cache_of_routes_is_bounded_in_receivers() -> None:
    broker = MemoryBroker()
    for number in range(50):
        broker.connect(f"c{number}").subscribe("#")
    publisher = broker.connect("p")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(router, "MOST_RECEIVERS", 1000)
        for number in range(500):
            publisher.publish(f"t/{number}")
    known = broker.engine.router.known.values()
    assert sum(len(route.subscriptions) for route in known) <= 1000


# -- messages --------------------------------------------------------------------------------------


def test_a_flood_of_retained_messages_is_refused_at_the_limit_of_messages() -> None:
    broker = MemoryBroker(max_retained_messages=10)
    client = broker.connect("x")
    reasons = []
    for number in range(20):
        client.publish(f"t/{number}", b"x", qos=1, retain=True)
        reasons.append(client.take(Puback).reason)
    assert reasons[10:] == [ReasonCode.QUOTA_EXCEEDED] * 10
    assert len(broker.engine.retention) == 10
    assert broker.engine.traffic.lost["retained_full"] == 10


def test_a_flood_of_retained_messages_is_refused_at_the_limit_of_bytes() -> None:
    broker = MemoryBroker(max_retained_size=10_000)
    client = broker.connect("x")
    for number in range(20):
        client.publish(f"t/{number}", bytes(1000), retain=True)
    assert 8000 < broker.engine.retention.size <= 10_000
    client.publish("t/0", b"", retain=True)
    client.publish("new", bytes(900), qos=1, retain=True)
    assert client.take(Puback).reason < 0x80, "room that was made can be used"


def test_a_flood_of_sessions_is_refused_and_those_who_have_one_come_back() -> None:
    broker = MemoryBroker(max_sessions=10)
    for number in range(10):
        broker.connect(f"c{number}", properties=KEPT).lose()
    connack = broker.client().connect("one too many")
    assert connack is not None
    assert connack.reason == ReasonCode.QUOTA_EXCEEDED
    back = broker.connect("c3", clean_start=False, properties=KEPT)
    assert back.connack is not None
    assert back.connack.session_present


@pytest.mark.parametrize(
    ("policy", "kept"), [({"backlog_messages": 20}, 20), ({"backlog_size": 20_000}, 19)]
)
def test_what_waits_for_the_absent_is_bounded_and_the_rest_counted(
    policy: dict[str, int], kept: int
) -> None:
    broker = MemoryBroker(**policy)
    away = broker.connect("away", properties=KEPT)
    away.subscribe("t", qos=1)
    away.lose()
    publisher = broker.connect("p")
    for _ in range(100):
        publisher.publish("t", bytes(1000), qos=1)
    session = broker.engine.sessions.get("away")
    assert session is not None
    assert kept - 1 <= session.waiting <= kept
    assert broker.engine.traffic.lost["backlog_full"] == 100 - session.waiting


def test_too_many_unreleased_qos_2_messages_end_the_connection() -> None:
    broker = MemoryBroker(receive_maximum=10)
    client = broker.connect("x", properties=KEPT)
    for packet_id in range(1, 11):
        client.publish("t", qos=2, packet_id=packet_id)
        client.take(Pubrec)
    client.publish("t", qos=2, packet_id=11)
    assert reason_of_end(client) == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED


def test_every_packet_id_unreleased_in_mqtt_3_1_1_is_all_there_can_be() -> None:
    broker = MemoryBroker()
    client = broker.connect("x", version=4)
    frames = [encode(Publish("t", b"", 2, packet_id=n), 4) for n in range(1, 65_536)]
    client.send_raw(b"".join(frames))
    assert len(client.take_all(Pubrec)) == 65_535
    client.send_raw(b"".join(frames))
    session = broker.engine.sessions.get("x")
    assert session is not None
    assert session.unreleased == 65_535
    assert broker.engine.traffic.lost == {}


@pytest.mark.parametrize("alias", [0, 6, 65_535])
def test_an_alias_beyond_what_was_granted_ends_the_connection(alias: int) -> None:
    client = MemoryBroker(topic_alias_maximum=5).connect("x")
    frame = bytearray(encode(Publish("t", b"", properties={Property.TOPIC_ALIAS: 1}), 5))
    frame[-2:] = alias.to_bytes(2, "big")
    client.send_raw(bytes(frame))
    assert reason_of_end(client) == ReasonCode.TOPIC_ALIAS_INVALID


def test_an_alias_that_was_never_set_ends_the_connection() -> None:
    client = MemoryBroker().connect("x")
    client.publish("", properties={Property.TOPIC_ALIAS: 2})
    assert reason_of_end(client) == ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_nobody_publishes_to_sys(qos: int) -> None:
    broker = MemoryBroker()
    watcher = broker.connect("watcher")
    watcher.subscribe("$SYS/#")
    client = broker.connect("x")
    client.publish("$SYS/broker/version", b"mine", qos=qos, retain=True)
    if qos:
        answer = client.received.pop()
        assert isinstance(answer, Puback | Pubrec)
        assert answer.reason == ReasonCode.NOT_AUTHORIZED
    assert watcher.messages() == []
    assert len(broker.engine.retention) == 0


@pytest.mark.parametrize(
    ("topic", "reason"),
    [("$SYS/broker/x", ReasonCode.NOT_AUTHORIZED), (DEEP, ReasonCode.TOPIC_NAME_INVALID)],
)
def test_a_will_that_could_not_be_published_is_refused_at_once(
    topic: str, reason: ReasonCode
) -> None:
    client = MemoryBroker().client()
    connack = client.connect("x", will=will(topic))
    assert connack is not None
    assert connack.reason == reason


def test_a_flood_of_wills_waits_within_the_sessions_and_all_are_published() -> None:
    broker = MemoryBroker()
    watcher = broker.connect("watcher", keep_alive=0)
    watcher.subscribe("gone/#")
    delay = {Property.WILL_DELAY_INTERVAL: 50}
    for number in range(500):
        last = will(f"gone/{number}", properties=delay)
        broker.connect(f"c{number}", will=last, properties=KEPT).lose()
    assert len(broker.engine.wills) == 500
    broker.pass_time(51)
    assert len(watcher.messages()) == 500
    assert len(broker.engine.wills) == 0


def test_a_will_whose_delay_equals_the_session_expiry_is_published_once() -> None:
    broker = MemoryBroker()
    watcher = broker.connect("watcher", keep_alive=0)
    watcher.subscribe("gone")
    last = will("gone", properties={Property.WILL_DELAY_INTERVAL: 1000})
    broker.connect("x", will=last, properties=KEPT).lose()
    broker.pass_time(1010)
    assert watcher.messages() == [("gone", b"gone")]


def test_thousands_of_user_properties_travel_in_their_order() -> None:
    broker = MemoryBroker()
    client = broker.connect("x")
    client.subscribe("t")
    many = [(f"k{number}", "v") for number in range(20_000)]
    client.publish("t", b"x", properties={Property.USER_PROPERTY: many})
    assert client.take(Publish).properties[Property.USER_PROPERTY] == many


# -- faults of our own -----------------------------------------------------------------------------


class BrokenAuthorizer:
    """Raises where the test wants it."""

    def may_publish(self, _client: object, topic: str) -> bool:
        return bool(1 // (topic != "poison"))

    def may_subscribe(self, _client: object, _filter: str) -> bool:
        return True


@pytest.mark.parametrize("ending", ["lose", "silence", "violation"])
def test_a_fault_in_a_will_costs_one_connection_and_no_session(ending: str) -> None:
    broker = MemoryBroker(authorizer=BrokenAuthorizer())
    other = broker.connect("other", keep_alive=0)
    client = broker.connect("x", will=will("poison"), properties=KEPT, keep_alive=5)
    match ending:
        case "lose":
            client.lose()
        case "silence":
            broker.pass_time(10)
        case "violation":
            client.send_raw(b"\xff\x00")
    assert client.is_closed
    assert any(isinstance(notice, FaultSeen) for notice in broker.notices)
    broker.pass_time(1001)
    assert len(broker.engine.sessions) == 1
    other.send(Pingreq())
    assert not other.is_closed


def test_a_fault_in_a_delayed_will_does_not_stop_the_clock() -> None:
    broker = MemoryBroker(authorizer=BrokenAuthorizer())
    delay = {Property.WILL_DELAY_INTERVAL: 5}
    broker.connect("x", will=will("poison", properties=delay), properties=KEPT).lose()
    quiet = broker.connect("quiet", keep_alive=4)
    broker.pass_time(8)
    assert any(isinstance(notice, FaultSeen) for notice in broker.notices)
    assert quiet.is_closed, "its keep alive came in the same bucket or after it"
