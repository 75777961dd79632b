"""The benchmark's own checks: what a broker might spoil is noticed, and named rightly."""

import socket
from collections.abc import Iterator

import pytest

from tests.performance import wire
from tests.performance.load import pairs, retained
from tests.performance.measure import FaultError, Latencies, Tally

TOPIC = "bench/pair/a"


class Bench:
    """One pair whose broker is this test: it writes to the far ends of the pair's sockets."""

    def __init__(self, qos: int) -> None:
        publisher, self.from_publisher = socket.socketpair()
        subscriber, self.to_subscriber = socket.socketpair()
        self.tally = Tally()
        self.pair = pairs.Pair(
            TOPIC, qos, wire.V311, publisher, subscriber, Latencies(), self.tally
        )
        self.pair.refill()
        self.from_publisher.recv(65536)
        self.read_subscriber = {0: pairs._read_qos0, 1: pairs._read_qos1, 2: pairs._read_qos2}[qos]

    def deliver(self, *stream: bytes) -> None:
        self.to_subscriber.sendall(b"".join(stream))
        self.read_subscriber(self.pair)

    def close(self) -> None:
        for end in (
            *(self.pair.publisher, self.pair.inbox.socket),
            *(self.from_publisher, self.to_subscriber),
        ):
            end.close()


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(request.param)
    yield made
    made.close()


def message(number: int, qos: int = 0, packet_id: int = 0) -> bytes:
    return wire.publish(TOPIC, wire.payload(number), qos, wire.V311, packet_id=packet_id)


WHOLE = b"".join(map(message, range(20)))


@pytest.mark.parametrize("bench", [0], indirect=True)
@pytest.mark.parametrize("cut", [1, 40, 77, 80, len(WHOLE) - 1])
def test_a_stream_cut_anywhere_is_counted_once(bench: Bench, cut: int) -> None:
    bench.deliver(WHOLE[:cut])
    bench.deliver(WHOLE[cut:])
    assert (bench.pair.inbox.received, bench.tally.fault()) == (20, None)


@pytest.mark.parametrize("bench", [0], indirect=True)
@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ([0, 1, 2, 3], None),
        ([0, 1, 3, 4], "1 lost"),
        ([0, 1, 1, 2], "1 duplicated"),
        ([0, 2, 1, 3], "1 out of order"),
        ([0, 3, 1, 3], "1 lost, 1 duplicated, 1 out of order"),
    ],
)
def test_loss_duplication_and_disorder_are_told_apart(
    bench: Bench, numbers: list[int], fault: str | None
) -> None:
    bench.deliver(*map(message, numbers))
    assert bench.tally.fault() == fault


@pytest.mark.parametrize("bench", [0], indirect=True)
def test_a_changed_payload_is_spoilt(bench: Bench) -> None:
    bench.deliver(message(0), message(1).replace(b"--", b"-+", 1))
    assert bench.tally.fault() == "1 spoilt"


@pytest.mark.parametrize("bench", [1], indirect=True)
def test_each_message_is_acknowledged_with_the_brokers_packet_id(bench: Bench) -> None:
    bench.deliver(message(0, 1, 0x1234), message(1, 1, 7))
    assert bench.to_subscriber.recv(99) == bytes.fromhex("40021234 40020007")
    assert bench.tally.fault() is None


@pytest.mark.parametrize("bench", [1], indirect=True)
def test_pubacks_out_of_order_are_refused(bench: Bench) -> None:
    bench.from_publisher.sendall(bytes.fromhex("40020002 40020001"))
    with pytest.raises(FaultError, match="PUBACK not as due"):
        pairs._read_pubacks(bench.pair)


@pytest.mark.parametrize("bench", [2], indirect=True)
def test_publishes_and_pubrels_may_be_mixed_in_one_read(bench: Bench) -> None:
    first, second, third = (message(n, 2, 0x344E + n) for n in range(3))
    bench.deliver(first, second)
    assert bench.to_subscriber.recv(99) == bytes.fromhex("5002344e 5002344f")
    bench.deliver(bytes.fromhex("6202344e"), third, bytes.fromhex("6202344f"))
    assert bench.to_subscriber.recv(99) == bytes.fromhex("7002344e 50023450 7002344f")
    assert (bench.pair.inbox.received, bench.tally.fault()) == (3, None)


@pytest.mark.parametrize("bench", [2], indirect=True)
def test_a_pubrel_without_its_pubrec_is_refused(bench: Bench) -> None:
    with pytest.raises(FaultError, match="PUBREL out of order"):
        bench.deliver(bytes.fromhex("62020001"))


def kept(number: int) -> bytes:
    return wire.publish(f"k/{number}", wire.payload(number), 0, wire.V311, retain=True)


@pytest.mark.parametrize(
    ("numbers", "fault"), [([2, 0, 1], None), ([0, 1], "1 lost"), ([0, 0, 1, 2], "1 duplicated")]
)
@pytest.mark.parametrize("suback_after", [0, 1, 2])
def test_retained_messages_count_once_each_around_the_suback(
    numbers: list[int], fault: str | None, suback_after: int
) -> None:
    stream = [kept(number) for number in numbers]
    stream.insert(suback_after, wire.suback(1, 0, wire.V311))
    tally = Tally()
    retained._check(b"".join(stream), {kept(n) for n in range(3)}, tally)
    assert tally.fault() == fault
