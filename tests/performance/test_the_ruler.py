"""The benchmark's own checks: what a broker might spoil is noticed, and named rightly."""

import argparse
import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.performance import bars, brokers, report, wire
from tests.performance.__main__ import _schedule
from tests.performance.disk import mount_of
from tests.performance.load import drain, durable, pairs, retained
from tests.performance.load.inbox import Inbox
from tests.performance.load.publisher import Publisher
from tests.performance.measure import (
    FaultError,
    Figures,
    Latencies,
    Tally,
    cpu_seconds,
    rss_kib,
    tree,
    tree_rss_kib,
)

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


class Sender:
    """A publisher with window 8 whose broker is this test."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.publisher = Publisher(TOPIC, self.near, window=8, latencies=Latencies())
        self.publisher.refill()

    def acknowledge(self, *packet_ids: int) -> None:
        self.far.sendall(b"".join(bytes([wire.PUBACK, 2, 0, n]) for n in packet_ids))
        self.publisher.turn()

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def sender() -> Iterator[Sender]:
    with contextlib.closing(Sender()) as made:
        yield made


def test_a_window_of_pubacks_lets_as_many_go_as_have_been_acknowledged(sender: Sender) -> None:
    assert (sender.publisher.sent, sender.publisher.finished) == (8, 0)
    sender.acknowledge(1, 2, 3)
    assert (sender.publisher.sent, sender.publisher.finished) == (11, 3)
    assert sender.far.recv(65536) == b"".join(message(n, 1, n + 1) for n in range(11))


def test_half_a_puback_waits_for_its_other_half(sender: Sender) -> None:
    sender.far.sendall(bytes.fromhex("40020001 4002"))
    sender.publisher.turn()
    assert sender.publisher.finished == 1
    sender.far.sendall(bytes.fromhex("0002"))
    sender.publisher.turn()
    assert sender.publisher.finished == 2


def test_a_puback_for_another_message_is_refused(sender: Sender) -> None:
    with pytest.raises(FaultError, match="PUBACK not as due"):
        sender.acknowledge(1, 3)


def test_a_publisher_stops_at_its_limit(sender: Sender) -> None:
    sender.publisher.limit = 9
    sender.acknowledge(1, 2, 3)
    assert sender.publisher.sent == 9
    assert not sender.publisher.settled()
    sender.acknowledge(*range(4, 10))
    assert sender.publisher.settled()


def test_a_durable_message_counts_when_it_is_acknowledged_and_delivered(sender: Sender) -> None:
    near, far = socket.socketpair()
    with near, far:
        inbox = Inbox(near, Tally(), wire.received_tape(TOPIC, 1, wire.V311), TOPIC)
        pair = durable.Pair(inbox, sender.publisher)
        far.sendall(b"".join(message(n, 1, n + 1) for n in range(5)))
        pair.read_messages()
        sender.acknowledge(1, 2, 3)
        assert pair.done == 3
        sender.acknowledge(4, 5, 6)
        assert pair.done == 5


def drained(*streams: bytes, due: int) -> str | None:
    """The fault of sessions that return, are given these streams and close."""
    ends = [socket.socketpair() for _ in streams]
    load = drain.DrainLoad([near for near, _ in ends], due)
    for (near, far), stream in zip(ends, streams, strict=True):
        far.sendall(stream)
        load.readers[near]()
        far.close()
    load.close()
    return load.tally.fault()


def kept_for_absent(*numbers: int) -> bytes:
    return b"".join(
        wire.publish("a/0", wire.payload(n), 1, wire.V311, packet_id=7 + n) for n in numbers
    )


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ([0, 1, 2], None),
        ([0, 1], "1 lost"),
        ([0, 1, 1, 2], "1 duplicated"),
        ([0, 2, 1], "1 out of order"),
        ([0, 1, 2, 2], "1 duplicated"),
    ],
)
def test_each_returning_session_is_judged_by_itself(numbers: list[int], fault: str | None) -> None:
    assert drained(kept_for_absent(0, 1, 2), kept_for_absent(*numbers), due=3) == fault


def test_the_same_loss_in_two_sessions_is_two_losses() -> None:
    assert drained(kept_for_absent(0, 1), kept_for_absent(0, 1), due=3) == "2 lost"


@pytest.mark.parametrize(
    ("connack", "refusal"),
    [
        ("20020100", contextlib.nullcontext()),
        ("20020000", pytest.raises(FaultError, match="the session was lost")),
    ],
)
def test_a_returning_client_needs_its_session(
    connack: str, refusal: contextlib.AbstractContextManager[object]
) -> None:
    def answer() -> None:
        with server.accept()[0] as peer:
            assert peer.recv(99) == wire.connect("absent", wire.V311, clean_session=False)
            peer.sendall(bytes.fromhex(connack) + kept_for_absent(0))

    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = threading.Thread(target=answer)
        broker.start()
        with refusal:
            (client,) = drain.return_clients(server.getsockname()[1], ["absent"])
            assert client.recv(99) == kept_for_absent(0)
            client.close()
        broker.join(10)


def test_the_brokers_children_and_theirs_belong_to_it() -> None:
    """Each of two processes says who it is, and waits for its input to end."""
    inner = "import os; print(os.getpid(), flush=True); input()"
    outer = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stdout
        grandchild = int(child.stdout.readline())
        assert tree(child.pid) == [child.pid, grandchild]
        assert {child.pid, grandchild} < set(tree(os.getpid()))
        assert tree_rss_kib(child.pid) > rss_kib(child.pid)
        child.stdin.write(b"\n")


BURN = "import os\nwhile os.times().user < 0.3: pass\n"  # seconds of CPU, however long they take


@pytest.mark.parametrize("then", ["print(flush=True); input()", ""])
def test_the_cpu_of_a_child_counts_while_it_runs_and_when_it_has_ended(then: str) -> None:
    outer = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN + then!r}]);"
        "print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        spent = sum(map(cpu_seconds, tree(child.pid)))
        child.stdin.write(b"\n\n")
    assert spent >= 0.3


def test_a_child_that_outlives_its_broker_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child holds the other end of the pipe: its end is the end of the file.

    It would end by itself as well, but far too late for this test.
    """
    monkeypatch.setattr(brokers, "STOP_LIMIT", 0.2)
    deaf = (
        "import signal; signal.signal(2, signal.SIG_IGN); signal.alarm(30);"
        "print(flush=True); signal.pause()"
    )
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {deaf!r}])"
    broker = subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE)
    assert broker.stdout
    with broker.stdout:
        broker.stdout.readline()
        brokers._stop(broker)
        assert select.select([broker.stdout], [], [], 10)[0]
        assert broker.stdout.read() == b""


@pytest.mark.parametrize(("ours", "mark"), [(99.0, "LOST"), (100.0, "met"), (101.0, "met")])
def test_a_rate_must_reach_its_bar(ours: float, mark: str) -> None:
    verdicts = bars.judge(
        {("absent", "heliograph"): Figures(rate=ours), ("absent", "mosquitto"): Figures(rate=100.0)}
    )
    assert [each.mark for each in verdicts if each.bar.scenario == "absent"] == [mark]


@pytest.mark.parametrize(("strict", "mark"), [(1.04, "met"), (1.06, "LOST")])
def test_qos_0_is_held_against_a_broker_without_store(strict: float, mark: str) -> None:
    verdicts = bars.judge(
        {
            ("qos0", "heliograph"): Figures(broker_us=strict),
            ("qos0", "heliograph-memory"): Figures(broker_us=1.0),
        }
    )
    marks = {each.bar.of: each.mark for each in verdicts if each.bar.scenario == "qos0"}
    assert marks["qos0", "heliograph-memory"] == mark


def test_the_report_sets_a_puback_beside_one_sync_and_bytes_beside_a_million() -> None:
    figures = Figures(
        rate=1.0, p50_ms=0.5, p99_ms=1.5, sync_ms=0.3, sync_p99_ms=0.9, written=2048.0
    )
    table = report.markdown({("durable-1", "heliograph"): [figures]}, {})
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert "| 1 absent, window 1 | heliograph | 0.50 | 1.50 | 0.30 | 0.90 | +0.20 |" in lines
    assert "| 1 absent, window 1 | heliograph | 2,048 | 1.91 |" in lines


def test_the_report_names_the_brokers_own_memory_only_beside_that_of_others() -> None:
    table = report.markdown(
        {
            ("start", "heliograph"): [Figures(start_ms=1.0, rss_mib=50.0, alone_mib=30.0)],
            ("start", "mosquitto"): [Figures(start_ms=1.0, rss_mib=8.0, alone_mib=8.0)],
        },
        {},
    )
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert "| heliograph | 1.00 | 50.0 | 30.0 | |" in lines
    assert "| mosquitto | 1.00 | 8.00 | | |" in lines


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/sdb1 /tmp/disk xfs rw 0 0
/dev/sdc1 /tmp/disk btrfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "said", "is_memory"),
    [
        ("/home/build", "ext4 on /dev/sda1", False),
        ("/tmp/build", "tmpfs on tmpfs", True),
        ("/tmp/disk/build", "btrfs on /dev/sdc1", False),
    ],
)
def test_a_disk_in_memory_is_told_from_one_that_lasts(
    folder: str, said: str, is_memory: bool
) -> None:
    mount = mount_of(Path(folder), MOUNTS)
    assert (str(mount), mount.is_memory) == (said, is_memory)


@pytest.mark.parametrize(
    ("asked", "measured"),
    [
        (None, ["heliograph", "mosquitto"] * 2),
        (["mosquitto-persistent"], ["mosquitto-persistent"] * 2),
    ],
)
def test_a_scenario_has_its_own_brokers_unless_others_are_asked_for(
    asked: list[str] | None, measured: list[str]
) -> None:
    options = argparse.Namespace(scenario=["absent-8"], broker=asked, rounds=2)
    assert [kind.name for _, kind, _ in _schedule(options)] == measured
