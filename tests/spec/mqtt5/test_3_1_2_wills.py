"""MQTT 5 sections 3.1.2.5 and 3.1.3.2, the Will: when it is published, when not, and what it
carries.
"""

import pytest

from broker.engine.notices import AccessDenied
from broker.engine.ports import Client
from broker.packets.codes import ReasonCode
from broker.packets.properties import Properties, Property
from broker.packets.types import Connack, Disconnect, Publish, Will
from tests.support.broker import MemoryBroker, MemoryClient

GONE = [("will", b"gone")]


def expiry(seconds: int) -> Properties:
    """The property of a CONNECT whose session lasts so long."""
    return {Property.SESSION_EXPIRY_INTERVAL: seconds}


def will(
    delay: int = 0, qos: int = 0, retain: bool = False, topic: str = "will", **properties: object
) -> Will:
    """A Will with a delay and further properties by their lower case names."""
    wanted: Properties = {Property[name.upper()]: value for name, value in properties.items()}
    if delay:
        wanted[Property.WILL_DELAY_INTERVAL] = delay
    return Will(topic, b"gone", qos, retain, wanted)


def watch(broker: MemoryBroker, **options: int | bool) -> MemoryClient:
    """A client that sees every Will."""
    watcher = broker.connect("watcher")
    watcher.subscribe("#", **options)  # type: ignore[arg-type]  # the options of a subscription
    return watcher


# -- which end of a connection publishes it --------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.1.2-7", "5.0:MQTT-3.1.2-8", "3.1.1:MQTT-3.1.2-8")
@pytest.mark.parametrize("version", [3, 4, 5])
def test_the_will_is_published_when_the_connection_is_lost(version: int) -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    alice = broker.connect("alice", version, will=will())
    assert watcher.received == []
    alice.lose()
    assert watcher.messages() == GONE


@pytest.mark.spec("5.0:MQTT-3.1.2-8", "5.0:MQTT-3.1.2-22")
def test_the_will_is_published_when_the_keep_alive_runs_out() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", keep_alive=10, will=will())
    broker.pass_time(14.5)
    assert watcher.received == []
    broker.pass_time(1)
    assert watcher.messages() == GONE


@pytest.mark.spec("5.0:MQTT-3.1.2-8")
@pytest.mark.parametrize(
    "offence",
    [b"\x00\0", b"\x30\2\0\5", b"\x82\2\0\0", b"\xc0\xff\xff\xff\xff", b"\x60\2\0\1"],
)
def test_the_will_is_published_when_the_client_breaks_the_protocol(offence: bytes) -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    alice = broker.connect("alice", will=will())
    alice.send_raw(offence)
    assert alice.is_closed
    assert watcher.messages() == GONE


@pytest.mark.spec("5.0:MQTT-3.1.2-8", "5.0:MQTT-3.1.2-10")
def test_the_will_is_deleted_by_a_plain_disconnect() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    alice = broker.connect("alice", will=will(delay=5), properties=expiry(60))
    alice.disconnect()
    alice.lose()
    broker.pass_time(100)
    assert watcher.received == []


@pytest.mark.spec("5.0:MQTT-3.1.2-8")
@pytest.mark.parametrize(
    "reason",
    [
        ReasonCode.DISCONNECT_WITH_WILL_MESSAGE,
        ReasonCode.UNSPECIFIED_ERROR,
        ReasonCode.QUOTA_EXCEEDED,
    ],
)
def test_the_will_is_published_after_a_disconnect_with_another_reason(reason: int) -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=will()).disconnect(reason)
    assert watcher.messages() == GONE


@pytest.mark.spec("5.0:MQTT-3.1.2-8")
def test_the_will_is_published_when_another_connection_takes_over() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=will(), properties=expiry(60))
    broker.connect("alice", clean_start=False, properties=expiry(60))
    assert watcher.messages() == GONE


@pytest.mark.spec("5.0:MQTT-3.1.2-10")
def test_a_published_will_is_gone() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=will(), properties=expiry(60)).lose()
    assert watcher.messages() == GONE
    broker.connect("alice", clean_start=False, properties=expiry(60)).lose()
    broker.pass_time(100)
    assert watcher.received == []


@pytest.mark.spec("5.0:MQTT-3.1.2-7")
def test_each_connect_brings_its_own_will() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=will(delay=9, topic="old"), properties=expiry(60)).lose()
    resumed = broker.connect(
        "alice", clean_start=False, will=will(topic="new"), properties=expiry(60)
    )
    resumed.lose()
    broker.pass_time(100)
    assert watcher.messages() == [("new", b"gone")]


@pytest.mark.spec("5.0:MQTT-3.1.2-7")
def test_a_refused_client_leaves_no_will() -> None:
    broker = MemoryBroker(max_connections=1)
    watcher = watch(broker)
    alice = broker.client()
    alice.connect("alice", will=will())
    assert alice.is_closed
    alice.lose()
    assert watcher.received == []


def test_the_client_itself_gets_its_will_if_its_session_waits_for_it() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", will=will(qos=1), properties=expiry(60))
    alice.subscribe("will", qos=1)
    alice.lose()
    assert broker.connect("alice", clean_start=False).messages() == GONE


# -- Will Delay Interval ---------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.1.2-8")
def test_a_delayed_will_is_published_once_its_delay_has_passed() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=will(delay=10), properties=expiry(60)).lose()
    broker.pass_time(9.9)
    assert watcher.received == []
    broker.pass_time(0.5)
    assert watcher.messages() == GONE
    broker.pass_time(100)
    assert watcher.received == []


@pytest.mark.spec("5.0:MQTT-3.1.2-8")
@pytest.mark.parametrize("ends_after", [0, 5])
def test_a_delayed_will_is_published_at_the_latest_when_the_session_ends(ends_after: int) -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=will(delay=1000), properties=expiry(ends_after)).lose()
    if ends_after:
        broker.pass_time(ends_after - 0.1)
        assert watcher.received == []
        broker.pass_time(0.5)
    assert watcher.messages() == GONE
    broker.pass_time(2000)
    assert watcher.received == []


@pytest.mark.spec("5.0:MQTT-3.1.2-8")
@pytest.mark.parametrize("reason", [0x04, 0x80])
def test_a_disconnect_with_will_waits_for_the_delay_too(reason: int) -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=will(delay=10), properties=expiry(60)).disconnect(reason)
    broker.pass_time(9.9)
    assert watcher.received == []
    broker.pass_time(0.5)
    assert watcher.messages() == GONE


@pytest.mark.spec("5.0:MQTT-3.1.2-8")
def test_a_disconnect_that_ends_the_session_does_not_wait_for_the_delay() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    alice = broker.connect("alice", will=will(delay=10), properties=expiry(60))
    alice.disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE, expiry(0))
    assert watcher.messages() == GONE


@pytest.mark.spec("5.0:MQTT-3.1.2-8")
def test_a_disconnect_may_shorten_the_time_that_the_will_waits() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    alice = broker.connect("alice", will=will(delay=30), properties=expiry(60))
    alice.disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE, expiry(5))
    broker.pass_time(5.5)
    assert watcher.messages() == GONE


@pytest.mark.spec("5.0:MQTT-3.1.3-9", "5.0:MQTT-3.1.2-8")
def test_a_client_that_is_back_in_time_suppresses_its_will() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=will(delay=10), properties=expiry(60)).lose()
    broker.pass_time(9)
    broker.connect("alice", clean_start=False, properties=expiry(60))
    broker.pass_time(100)
    assert watcher.received == []


@pytest.mark.spec("5.0:MQTT-3.1.3-9")
def test_a_client_of_the_older_version_that_is_back_in_time_suppresses_the_will_too() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=will(delay=10), properties=expiry(60)).lose()
    broker.connect("alice", 4, clean_start=False)
    broker.pass_time(100)
    assert watcher.received == []


@pytest.mark.spec("5.0:MQTT-3.1.2-8")
def test_a_client_that_is_back_with_clean_start_does_not_suppress_its_will() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=will(delay=10), properties=expiry(60)).lose()
    broker.connect("alice", clean_start=True)  # ends the session, and with it the wait
    assert watcher.messages() == GONE
    broker.pass_time(100)
    assert watcher.received == []


@pytest.mark.spec("5.0:MQTT-3.1.3-9")
def test_a_take_over_that_resumes_the_session_suppresses_a_delayed_will() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    older = broker.connect("alice", will=will(delay=10), properties=expiry(60))
    broker.connect("alice", clean_start=False, properties=expiry(60))
    assert older.is_closed
    broker.pass_time(100)
    assert watcher.received == []


@pytest.mark.spec("5.0:MQTT-3.1.2-8", "5.0:MQTT-3.1.2-4")
def test_a_take_over_with_clean_start_publishes_even_a_delayed_will() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=will(delay=10), properties=expiry(60))
    broker.connect("alice", clean_start=True)
    assert watcher.messages() == GONE
    broker.pass_time(100)
    assert watcher.received == []


@pytest.mark.spec("5.0:MQTT-3.1.2-8")
def test_the_delay_counts_from_the_last_end_of_a_connection() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    for _ in range(3):
        broker.connect(
            "alice", clean_start=False, will=will(delay=10), properties=expiry(60)
        ).lose()
        broker.pass_time(8)
    assert watcher.received == []
    broker.pass_time(2.5)
    assert watcher.messages() == GONE


def test_the_wills_of_several_clients_wait_side_by_side() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    for delay in (3, 1, 2):
        lost = broker.connect(
            f"c{delay}", will=will(delay, topic=f"w/{delay}"), properties=expiry(60)
        )
        lost.lose()
    broker.pass_time(10)
    assert [topic for topic, _ in watcher.messages()] == ["w/1", "w/2", "w/3"]


# -- what it carries -------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.1.2-14")
def test_a_will_without_will_retain_is_not_retained() -> None:
    broker = MemoryBroker()
    watcher = watch(broker, retain_as_published=True)
    broker.connect("alice", will=will(retain=False)).lose()
    assert watcher.take(Publish).retain is False
    late = broker.connect("late")
    late.subscribe("will")
    assert late.received == []


@pytest.mark.spec("5.0:MQTT-3.1.2-15")
@pytest.mark.parametrize("delay", [0, 5])
def test_a_will_with_will_retain_is_retained(delay: int) -> None:
    broker = MemoryBroker()
    watcher = watch(broker, retain_as_published=True)
    broker.connect("alice", will=will(delay, retain=True), properties=expiry(60)).lose()
    broker.pass_time(delay + 1)
    assert watcher.take(Publish).retain is True
    late = broker.connect("late")
    late.subscribe("will")
    assert late.messages() == GONE


@pytest.mark.spec("5.0:MQTT-3.1.2-15")
def test_an_empty_will_with_will_retain_erases_the_retained_message() -> None:
    broker = MemoryBroker()
    broker.connect("bob").publish("will", b"old", retain=True)
    broker.connect("alice", will=Will("will", b"", 0, True)).lose()
    late = broker.connect("late")
    late.subscribe("will")
    assert late.received == []


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_will_is_published_with_its_qos(qos: int) -> None:
    broker = MemoryBroker()
    watcher = watch(broker, qos=2)
    broker.connect("alice", will=will(qos=qos)).lose()
    assert watcher.take(Publish).qos == qos


CARRIED: Properties = {
    Property.PAYLOAD_FORMAT_INDICATOR: 1,
    Property.CONTENT_TYPE: "text/plain",
    Property.RESPONSE_TOPIC: "answers",
    Property.CORRELATION_DATA: b"\0\xff",
    Property.USER_PROPERTY: [("b", "1"), ("a", "2"), ("b", "3"), ("b", "1")],
}


@pytest.mark.spec(
    "5.0:MQTT-3.1.3-10",
    "5.0:MQTT-3.3.2-4",
    "5.0:MQTT-3.3.2-15",
    "5.0:MQTT-3.3.2-16",
    "5.0:MQTT-3.3.2-18",
    "5.0:MQTT-3.3.2-20",
)
@pytest.mark.parametrize("delay", [0, 5])
def test_the_properties_of_a_will_are_those_of_its_message_but_for_the_delay(delay: int) -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    last = will(delay)
    last.properties |= CARRIED
    broker.connect("alice", will=last, properties=expiry(60)).lose()
    broker.pass_time(delay + 1)
    assert watcher.take(Publish).properties == CARRIED


@pytest.mark.spec("5.0:MQTT-3.3.2-5", "5.0:MQTT-3.3.2-6")
def test_the_expiry_of_a_will_counts_from_its_publication() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    last = will(delay=50, retain=True, message_expiry_interval=10)
    broker.connect("alice", will=last, properties=expiry(60)).lose()
    broker.pass_time(50.5)
    assert watcher.take(Publish).properties == {Property.MESSAGE_EXPIRY_INTERVAL: 10}
    broker.pass_time(10.5)
    late = broker.connect("late")
    late.subscribe("will")
    assert late.received == []


@pytest.mark.parametrize("payload", [b"", b"x" * 65_535, bytes(range(256))])
def test_a_will_may_carry_any_bytes(payload: bytes) -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    broker.connect("alice", will=Will("will", payload)).lose()
    assert watcher.messages() == [("will", payload)]


# -- wills that cannot be -------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.2.2-12")
@pytest.mark.parametrize(("maximum", "qos"), [(0, 1), (0, 2), (1, 2)])
def test_a_will_above_the_brokers_maximum_qos_is_refused(maximum: int, qos: int) -> None:
    alice = MemoryBroker(maximum_qos=maximum).client()
    assert alice.connect("alice", will=will(qos=qos)) == Connack(
        False, ReasonCode.QOS_NOT_SUPPORTED
    )
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.2.2-13")
def test_a_retained_will_is_refused_where_nothing_is_retained() -> None:
    broker = MemoryBroker(retain_available=False)
    alice = broker.client()
    assert alice.connect("alice", will=will(retain=True)) == Connack(
        False, ReasonCode.RETAIN_NOT_SUPPORTED
    )
    assert alice.is_closed
    broker.connect("bob", will=will(retain=False))


@pytest.mark.parametrize("topic", ["a/#", "a/+/b", ""])
def test_a_will_topic_that_names_no_topic_is_refused(topic: str) -> None:
    alice = MemoryBroker().client()
    connack = alice.connect("alice", will=will(topic=topic))
    assert connack is not None
    assert connack.reason >= 0x80
    assert alice.is_closed


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("a" + "/a" * 500, ReasonCode.TOPIC_NAME_INVALID),
        ("$SYS/broker/version", ReasonCode.NOT_AUTHORIZED),
    ],
    ids=["too deep", "the broker's own"],
)
def test_a_will_topic_that_the_client_could_not_publish_to_is_refused(
    topic: str, reason: ReasonCode
) -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    watcher.subscribe("$SYS/#")
    alice = broker.client()
    assert alice.connect("alice", will=will(topic=topic)) == Connack(False, reason)
    alice.lose()
    assert watcher.received == []


def test_a_will_whose_payload_is_not_the_text_it_claims_to_be_is_refused() -> None:
    alice = MemoryBroker().client()
    last = Will("will", b"\xff", properties={Property.PAYLOAD_FORMAT_INDICATOR: 1})
    assert alice.connect("alice", will=last) == Connack(False, ReasonCode.PAYLOAD_FORMAT_INVALID)
    assert alice.is_closed


class Wary:
    """An Authorizer that lets nobody publish to "secret"."""

    def may_publish(self, client: Client, topic: str) -> bool:
        return topic != "secret"

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:
        return True


def test_a_will_that_its_client_may_not_publish_is_dropped_and_told() -> None:
    broker = MemoryBroker(authorizer=Wary())
    watcher = watch(broker)
    broker.connect("alice", will=will(topic="secret")).lose()
    assert watcher.received == []
    assert AccessDenied("alice", None, "leave a will on", "secret") in broker.notices


def test_no_will_is_published_when_the_broker_stops() -> None:
    broker = MemoryBroker()
    watcher = watch(broker)
    alice = broker.connect("alice", will=will())
    broker.engine.shut_down()
    assert alice.take(Disconnect).reason == ReasonCode.SERVER_SHUTTING_DOWN
    assert watcher.take_all(Disconnect)
