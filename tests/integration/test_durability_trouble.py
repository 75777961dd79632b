"""A store that cannot write for a while: nothing is acknowledged, nothing is lost, it goes on."""

from __future__ import annotations

import errno
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from broker.packets.encode import encode
from broker.packets.types import Pingreq, Pingresp, Puback, Publish
from tests.integration.durable import (
    NOBODY,
    QUOTA_EXCEEDED,
    connect,
    kill_all,
    leave_session,
    mount,
    numbered,
    publish,
    publish_once,
    receive,
    rows,
    stopped,
    take_everything,
    wait_for_sys,
)
from tests.integration.peer import Peer, memory_of, wait_for_log
from tests.support.postgresql import PostgreSQL
from tests.support.process import BrokerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import StartBroker

EVERY_SECOND = {"sys_interval": 1}
LARGE = 64 * 1024  # bytes
SMALL_DISK = 16 * 2**20
MOST_GROWTH = 120 * 2**20  # bytes that a broker may need more while its database is away


def assert_no_answer_yet(peer: Peer) -> None:
    """It is served, but what it has published before is not acknowledged."""
    peer.send(Pingreq())
    peer.take(Pingresp)


def test_no_answer_comes_before_the_commit(start_broker: StartBroker) -> None:
    broker = start_broker()
    leave_session(broker, "absent", "work")
    with Peer.of(broker) as peer:
        peer.connect()
        with stopped(broker):
            peer.send(Publish("work", b"hello", 1, packet_id=1))
            assert_no_answer_yet(peer)
        assert peer.take(Puback).reason == 0


# -- a full disk -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={SMALL_DISK}", "none", folder)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True, timeout=10)


def fill(folder: Path) -> Path:
    """A file that leaves no room on its disk."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017  what it is for
    return path


def test_a_full_disk_refuses_loses_nothing_and_goes_on(small_disk: Path, tmp_path: Path) -> None:
    settings = {"broker": EVERY_SECOND}
    with BrokerProcess(tmp_path, settings=settings) as broker:
        leave_session(broker, "absent", "work")
        assert publish_once(broker, "work", *numbered(50)) == [0] * 50
        filler = fill(small_disk)
        with Peer.of(broker) as first, Peer.of(broker, version=4) as old, Peer.of(broker) as new:
            first.connect()
            large = [bytes([each]) * LARGE for each in range(100)]
            first.send(*(Publish("work", each, 1, packet_id=n) for n, each in enumerate(large, 1)))
            wait_for_sys(broker, "store/trouble", "full")
            old.connect()
            old.send(Publish("work", b"old", 1, packet_id=1))
            new.connect()
            assert publish(new, "work", [b"new"]) == [QUOTA_EXCEEDED]
            assert publish(new, "nobody/cares", [b"new"]) == [NOBODY]
            filler.unlink()
            assert {first.take(Puback).reason for _ in large} <= {0, QUOTA_EXCEEDED}
            assert old.take(Puback).packet_id == 1
        wait_for_sys(broker, "store/trouble", "none")
        assert publish_once(broker, "work", b"after") == [0]
        kill_all(broker)
        broker.start()
        heard = take_everything(broker, "absent", "work")
        assert heard[:50] == numbered(50)
        assert heard[-2:] == [b"old", b"after"]
        assert b"new" not in heard


def test_on_a_full_disk_what_waits_can_be_fetched(small_disk: Path, tmp_path: Path) -> None:
    settings = {"broker": EVERY_SECOND}
    with BrokerProcess(tmp_path, settings=settings) as broker:
        leave_session(broker, "absent", "work")
        assert publish_once(broker, "work", *numbered(50)) == [0] * 50
        filler = fill(small_disk)
        with Peer.of(broker) as peer:
            peer.connect()
            payload = bytes(LARGE // 4)
            taken = 0
            while publish(peer, "work", [payload]) == [0]:
                taken += 1
                assert taken < 1000, "nothing is refused"
        with Peer.of(broker) as peer:
            assert connect(peer, "absent").session_present
            assert receive(peer, 50 + taken) == numbered(50) + [payload] * taken
        wait_for_sys(broker, "store/trouble", "full")
        filler.unlink()
        wait_for_sys(broker, "store/trouble", "none")
        assert publish_once(broker, "work", b"after") == [0]


def test_above_its_largest_size_the_store_refuses_until_it_is_drained(
    start_broker: StartBroker,
) -> None:
    broker = start_broker(settings={"store": {"max_size": 2**20}, "broker": EVERY_SECOND})
    leave_session(broker, "absent", "work")
    payload = bytes(LARGE)
    taken = 0
    with Peer.of(broker) as peer:
        peer.connect()
        while publish(peer, "work", [payload]) == [0]:
            taken += 1
            assert taken < 100, "nothing is refused"
        wait_for_sys(broker, "store/trouble", "full")
        assert publish(peer, "state", [payload], retain=True) == [QUOTA_EXCEEDED]
        assert publish(peer, "nobody/cares", [payload]) == [NOBODY]
    kill_all(broker)
    broker.start()
    with Peer.of(broker) as peer:
        connect(peer, "absent")
        assert receive(peer, taken) == [payload] * taken
        wait_for_sys(broker, "store/trouble", "none")
    assert publish_once(broker, "work", b"there is room again") == [0]


# -- PostgreSQL goes away --------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    """One that may be killed."""
    with PostgreSQL() as server:
        yield server


def test_while_postgresql_is_away_publishers_wait(
    server: PostgreSQL, start_broker: StartBroker
) -> None:
    store = {"url": server.new_database()}
    roomy = {"backlog_bytes": 2**30}
    broker = start_broker(settings={"store": store, "limits": roomy, "broker": EVERY_SECOND})
    leave_session(broker, "absent", "work")
    assert publish_once(broker, "work", *numbered(100)) == [0] * 100
    before = memory_of(broker.pid)
    server.kill()
    load = [b"%d" % number + bytes(100_000) for number in range(600)]
    with Peer.of(broker, version=4) as peer:
        peer.connect()
        peer.send(Publish("work", b"first", 1, packet_id=1))
        wait_for_sys(broker, "store/trouble", "away")
        assert_no_answer_yet(peer)
        packets = (Publish("work", each, 1, packet_id=n) for n, each in enumerate(load, 2))
        rest = send_until_it_is_slowed_down(peer, b"".join(encode(each, 4) for each in packets))
        assert rest, "the broker has taken everything into its memory"
        assert memory_of(broker.pid) - before < MOST_GROWTH
        server.start()
        peer.sock.sendall(rest)
        assert [peer.take(Puback).packet_id for _ in range(601)] == list(range(1, 602))
    wait_for_sys(broker, "store/trouble", "none")
    kill_all(broker)
    broker.start()
    assert take_everything(broker, "absent", "work") == [*numbered(100), b"first", *load]


def send_until_it_is_slowed_down(peer: Peer, data: bytes) -> bytes:
    """What could not be sent, because nobody reads it any more."""
    patience = peer.sock.gettimeout()
    peer.sock.settimeout(1.0)
    sent = 0
    while sent < len(data):
        try:
            sent += peer.sock.send(data[sent : sent + 2**20])
        except TimeoutError:
            break
    peer.sock.settimeout(patience)
    return data[sent:]


def test_a_broker_waits_for_a_postgresql_that_starts_later(
    server: PostgreSQL, tmp_path: Path
) -> None:
    broker = BrokerProcess(tmp_path, settings={"store": {"url": server.new_database()}})
    server.kill()

    def start_it_later() -> None:
        wait_for_log(broker, "ERROR .*store: ")
        server.start()

    later = threading.Thread(target=start_it_later)
    later.start()
    with broker:  # it accepts nobody before
        later.join()
        leave_session(broker, "absent", "work")
        assert publish_once(broker, "work", b"hello") == [0]
        assert take_everything(broker, "absent", "work") == [b"hello"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("&user=postgres", "&user=nobody-we-know"), "check .store. url"),
        (("///heliograph_1?", "///not_there?"), "check .store. url"),
        (("postgresql:", "mysql:"), "postgresql://"),
    ],
)
def test_a_wrong_url_ends_the_broker_with_a_sentence(
    server: PostgreSQL, tmp_path: Path, wrong: tuple[str, str], told: str
) -> None:
    url = server.new_database()
    broker = BrokerProcess(tmp_path, settings={"store": {"url": url.replace(*wrong)}})
    with pytest.raises(AssertionError, match=r"ended with exit code [12]"):
        broker.start()
    wait_for_log(broker, told)
    assert "Traceback" not in broker.log


# -- the end ---------------------------------------------------------------------------------------


def test_a_stop_under_load_keeps_what_was_acknowledged(start_broker: StartBroker) -> None:
    broker = start_broker()
    leave_session(broker, "absent", "work")
    sent = numbered(1000)
    with Peer.of(broker) as peer:
        peer.connect()
        peer.send(*(Publish("work", each, 1, packet_id=n) for n, each in enumerate(sent, 1)))
        acknowledged = [peer.take(Puback).packet_id]
        broker.stop()
        while isinstance(packet := peer.take(object), Puback):
            acknowledged.append(packet.packet_id)
    assert rows(broker, "SELECT clean FROM meta") == [(1,)]
    broker.start()
    heard = take_everything(broker, "absent", "work")
    assert heard == sent[: len(heard)]
    assert len(heard) >= len(acknowledged)
    assert "ERROR" not in broker.log
