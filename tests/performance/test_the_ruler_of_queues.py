"""The benchmark's own checks of queues: what a broker might spoil is noticed, and named rightly."""

import argparse
import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.performance import amqp, bars, report, wire
from tests.performance.__main__ import _expanded, _schedule
from tests.performance.driver import Loop
from tests.performance.load.ledger import Ledger
from tests.performance.load.speech import (
    CONSUMER,
    AmqpConsuming,
    AmqpPublishing,
    MqttConsuming,
    MqttPublishing,
)
from tests.performance.load.work import Consumer, Publisher
from tests.performance.measure import FaultError, Figures, Latencies, Tally


class Books:
    """A ledger of two sources, of which each has sent ten messages."""

    def __init__(self) -> None:
        self.tally, self.latencies = Tally(), Latencies()
        self.ledger = Ledger(["a", "b"], self.latencies, self.tally)
        for source in self.ledger.sources:
            source.note_sent(10)

    def body(self, source: str, number: int) -> bytes:
        prefix = next(each.prefix for each in self.ledger.sources if each.name == source)
        return prefix + b"%08d" % number


@pytest.fixture
def books() -> Books:
    return Books()


def test_payloads_are_as_long_as_those_of_the_other_scenarios(books: Books) -> None:
    assert len(books.body("a", 7)) == wire.PAYLOAD


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        (range(10), [], None),
        ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9], None),
        ([0, 1, 2, 3], [4, 5, 6, 7, 9], "1 lost"),
        ([0, 1, 2, 3, 4], [4, 5, 6, 7, 8, 9], "1 duplicated"),
        ([0, 1, 2, 4, 3], [5, 6, 7, 8, 9], "1 out of order"),
        ([*range(10), 11], [], "1 spoilt"),
    ],
)
def test_two_consumers_share_a_source_and_each_message_is_taken_once(
    books: Books, first: list[int], second: list[int], fault: str | None
) -> None:
    for numbers in (first, second):
        books.ledger.take([books.body("a", number) for number in numbers], {})
    books.ledger.take([books.body("b", number) for number in range(10)], {})
    books.ledger.close(whole=True)
    assert books.tally.fault() == fault


def test_order_is_that_of_one_source_at_one_consumer(books: Books) -> None:
    last: dict[str, int] = {}
    books.ledger.take([books.body("a", 5), books.body("b", 1)], last)
    books.ledger.take([books.body("a", 4), books.body("b", 2)], last)
    assert books.tally.fault() == "1 out of order"


@pytest.mark.parametrize("body", [b"", b"x" * 64, b"a".ljust(56, b"-") + b"-0000001"])
def test_a_payload_that_nobody_sent_is_spoilt(books: Books, body: bytes) -> None:
    books.ledger.take([body], {})
    assert (books.tally.fault(), books.ledger.taken) == ("1 spoilt", 0)


@pytest.mark.parametrize(("taken", "fault"), [([0, 1, 2], None), ([0, 2], "1 lost")])
def test_of_a_queue_that_is_not_emptied_only_gaps_are_losses(
    books: Books, taken: list[int], fault: str | None
) -> None:
    books.ledger.take([books.body("a", number) for number in taken], {})
    books.ledger.close(whole=False)
    assert books.tally.fault() == fault


def mqtt_stream(books: Books) -> bytes:
    return b"".join(
        wire.publish(
            f"$queue/work/{998 + number}/bench/work/a",
            books.body("a", number),
            1,
            wire.V311,
            packet_id=0x1234 + number,
        )
        for number in range(5)
    )


def amqp_stream(books: Books) -> bytes:
    return b"".join(
        amqp.delivery("work", CONSUMER, number + 1, books.body("a", number)) for number in range(5)
    )


def every_split(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((stream[:cut], stream[cut:]) for cut in range(len(stream) + 1))


def test_mqtt_messages_cut_anywhere_are_taken_once_and_acknowledged_each(books: Books) -> None:
    for parts in every_split(mqtt_stream(books)):
        consuming = MqttConsuming("work")
        taken = [consuming.take(part) for part in parts]
        assert [body for bodies, _ in taken for body in bodies] == [
            books.body("a", number) for number in range(5)
        ]
        acks = bytes.fromhex("40021234 40021235 40021236 40021237 40021238")
        assert b"".join(acks for _, acks in taken) == acks


@pytest.mark.parametrize(
    "packet",
    [
        wire.publish("bench/work/a", bytes(64), 1, wire.V311, packet_id=1),
        wire.publish("$queue/work/1/bench/work/a", bytes(64), 0, wire.V311),
        wire.suback(1, 0x80, wire.V311),
    ],
)
def test_what_is_no_message_of_the_queue_is_refused(packet: bytes) -> None:
    with pytest.raises(FaultError, match="unexpected packet"):
        MqttConsuming("work").take(packet)


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_suback_may_stand_among_the_messages(books: Books, after: int) -> None:
    packets = [wire.packet(first, body) for first, body in wire.split(mqtt_stream(books))]
    packets.insert(after, wire.suback(1, 1, wire.V311))
    bodies, acks = MqttConsuming("work").take(b"".join(packets))
    assert (len(bodies), len(acks)) == (5, 5 * wire.ACK)


def test_amqp_messages_cut_anywhere_are_taken_once_and_acknowledged_together(books: Books) -> None:
    for parts in every_split(amqp_stream(books)):
        consuming = AmqpConsuming("work")
        taken = [consuming.take(part) for part in parts]
        assert [body for bodies, _ in taken for body in bodies] == [
            books.body("a", number) for number in range(5)
        ]
        assert [acks for _, acks in taken if acks][-1] == amqp.ack(5, amqp.MULTIPLE)


def test_an_amqp_delivery_tag_that_is_not_the_next_is_refused(books: Books) -> None:
    with pytest.raises(FaultError, match="unexpected frames"):
        AmqpConsuming("work").take(amqp.delivery("work", CONSUMER, 2, books.body("a", 0)))


def test_a_delivery_is_what_rabbitmq_sends() -> None:
    """As it was recorded from RabbitMQ 3.10."""
    recorded = (
        b"\x01\x00\x01\x00\x00\x00\x16\x00<\x00<\x01w\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x05"
        b"bench\xce\x02\x00\x01\x00\x00\x00\x0f\x00<\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x10"
        b"\x00\x02\xce\x03\x00\x01\x00\x00\x00\x03abc\xce"
    )
    assert amqp.delivery("bench", "w", 1, b"abc") == recorded


@pytest.mark.parametrize(
    ("confirms", "counts"),
    [
        ([(1, 0), (2, 0), (3, 0)], [1, 1, 1]),
        ([(3, 1)], [3]),
        ([(2, 0), (1, 0), (3, 0)], [0, 2, 1]),
        ([(3, 0), (2, 1), (5, 1)], [0, 3, 2]),
        ([(2, 1), (2, 1)], [2, 0]),
    ],
)
def test_amqp_confirms_count_once_whatever_their_order(
    books: Books, confirms: list[tuple[int, int]], counts: list[int]
) -> None:
    publishing = AmqpPublishing(books.ledger.sources[0], "work")
    assert [publishing.confirmed(amqp.ack(*each)) for each in confirms] == counts


def test_half_a_confirm_waits_for_its_other_half(books: Books) -> None:
    for parts in every_split(amqp.ack(1, 0) + amqp.ack(2, 0)):
        publishing = AmqpPublishing(books.ledger.sources[0], "work")
        assert sum(map(publishing.confirmed, parts)) == 2


def test_a_message_that_amqp_refuses_is_a_fault(books: Books) -> None:
    refused = amqp.ack(1, 0).replace(b"\0\x3c\0\x50", b"\0\x3c\0\x78")  # Basic.Nack
    with pytest.raises(FaultError, match="a publisher got"):
        AmqpPublishing(books.ledger.sources[0], "work").confirmed(refused)


def test_what_is_encoded_is_what_the_ledger_expects(books: Books) -> None:
    source = books.ledger.sources[0]
    packets = list(wire.split(MqttPublishing(source, "work").encode(1023, 2)))
    assert [body[-wire.PAYLOAD :] for _, body in packets] == [
        books.body("a", 1023),
        books.body("a", 1024),
    ]
    assert [body[14:16] for _, body in packets] == [b"\x04\x00", b"\x00\x01"]  # packet ids
    message = AmqpPublishing(source, "work").encode(9, 1)
    assert message == amqp.publish_head("work", 64) + books.body("a", 9) + b"\xce"


@contextlib.contextmanager
def two_ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_a_publisher_of_work_keeps_its_window_and_its_limit() -> None:
    with two_ends() as (near, far):
        source = Ledger(["a"], Latencies(), Tally()).sources[0]
        publisher = Publisher(near, source, MqttPublishing(source, "work"))
        publisher.window, publisher.limit = 4, 6
        publisher.refill()
        assert source.sent == 4
        far.sendall(bytes.fromhex("40020001 40020002 40020003"))
        publisher.turn()
        assert (source.sent, publisher.finished, publisher.settled) == (6, 3, False)
        far.sendall(bytes.fromhex("40020004 40020005 40020006"))
        publisher.turn()
        assert (source.sent, publisher.settled) == (6, True)


@pytest.mark.parametrize(("acknowledging", "held"), [(True, 0), (False, 5)])
def test_a_consumer_that_acknowledges_nothing_holds_what_it_gets(
    books: Books, acknowledging: bool, held: int
) -> None:
    with two_ends() as (near, far):
        consumer = Consumer(near, books.ledger, MqttConsuming("work"))
        consumer.acknowledging = acknowledging
        far.sendall(mqtt_stream(books))
        consumer.turn()
        assert (consumer.held, books.ledger.taken) == (held, 5)
        far.setblocking(False)
        with contextlib.nullcontext() if acknowledging else pytest.raises(BlockingIOError):
            assert len(far.recv(99)) == 5 * wire.ACK


def test_something_is_done_at_the_beginning_and_after_each_pause() -> None:
    done: list[int] = []
    with contextlib.closing(Loop({})) as loop:
        loop.pace(0.0025, 0.001, lambda: done.append(1))  # however late each of them is
    assert len(done) == 3


def test_queues_are_all_scenarios_of_queues() -> None:
    names = [*_expanded(["qos0", "queues"])]
    assert names[:3] == ["qos0", "queue", "queue-wide"]
    assert "start" not in names


def test_a_broker_without_queues_is_not_measured_by_them_and_one_without_mqtt_by_nothing_else() -> (
    None
):
    options = argparse.Namespace(
        scenario=["queue", "qos0"],
        broker=["heliograph", "heliograph-queues", "rabbitmq"],
        rounds=1,
    )
    assert [(scenario.name, kind.name) for scenario, kind, _ in _schedule(options)] == [
        ("queue", "heliograph-queues"),
        ("queue", "rabbitmq"),
        ("qos0", "heliograph"),
        ("qos0", "heliograph-queues"),
    ]


@pytest.mark.parametrize(
    ("scenario", "figures", "mark"),
    [
        ("queue", Figures(rate=20_000.0), "met"),
        ("queue", Figures(rate=19_999.0), "LOST"),
        ("queue-idle", Figures(p99_ms=20.0), "met"),
        ("queue-idle", Figures(p99_ms=20.1), "LOST"),
        ("queue-1m", Figures(rate=799.0), "LOST"),
        ("queue-1m", Figures(rate=800.0), "met"),
    ],
)
def test_queues_have_bars(scenario: str, figures: Figures, mark: str) -> None:
    measured = {(scenario, bars.WITH_QUEUES): figures}
    measured["queue-1k", bars.WITH_QUEUES] = Figures(rate=1000.0)
    verdicts = bars.judge(measured)
    assert [each.mark for each in verdicts if each.bar.scenario == scenario] == [mark]


def test_the_report_sets_queues_beside_rabbitmq() -> None:
    table = report.markdown(
        {
            ("queue", "heliograph-queues"): [
                Figures(rate=30.0, broker_us=50.0, generator_us=9.0, p50_ms=1.0, p99_ms=2.0)
            ],
            ("queue", "rabbitmq"): [Figures(rate=10.0, broker_us=100.0, generator_us=200.0)],
        },
        {},
    )
    lines = [" ".join(line.split()) for line in table.splitlines()]
    ours = "| Queue | heliograph-queues | 30.0 | 300% | 50.0 | 50% | 9.00 | 1.00 | 2.00 | |"
    assert ours in lines
    assert "| Queue | rabbitmq | 10.0 | | 100 | | 200 (!) | | | |" in lines
