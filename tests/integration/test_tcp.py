"""Plain TCP: clients in and out, ports in use, and a stop in good order."""

from __future__ import annotations

import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.types import Connect, Disconnect, Pingreq, Pingresp, Publish
from tests.integration.peer import Peer, is_served, memory_of, wait_for_log
from tests.support.process import HELIOGRAPH, BrokerProcess, clean_environment

if TYPE_CHECKING:
    from tests.integration.conftest import StartBroker


@pytest.mark.parametrize("version", [3, 4, 5])
def test_every_version_is_served_on_one_port(broker: BrokerProcess, version: int) -> None:
    assert is_served(Peer.of(broker, version), f"tcp/{version}")


def test_a_packet_may_come_byte_by_byte(broker: BrokerProcess) -> None:
    with Peer.of(broker) as peer:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.connect("dribble")
        for byte in b"\xc0\x00" * 20:
            peer.sock.send(bytes([byte]))
        for _ in range(20):
            peer.take(Pingresp)


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n" * 9, b"\x16\x03\x01\x02\x00\x01\x00", b"\0" * 100, b"\xff" * 9],
)
def test_what_is_not_mqtt_is_cut_off_and_costs_nobody_else(
    broker: BrokerProcess, garbage: bytes
) -> None:
    with Peer.of(broker) as other, Peer.of(broker) as peer:
        other.connect("bystander")
        peer.sock.sendall(garbage)
        assert peer.is_cut_off()
        other.send(Pingreq())
        other.take(Pingresp)


def test_an_oversized_packet_is_refused_at_its_header(broker: BrokerProcess) -> None:
    with Peer.of(broker) as peer:
        peer.connect("big")
        peer.sock.sendall(b"\x30\xff\xff\xff\x7f")
        assert peer.take(Disconnect).reason == ReasonCode.PACKET_TOO_LARGE
        assert peer.is_cut_off()


def test_who_never_says_connect_is_cut_off(start_broker: StartBroker) -> None:
    broker = start_broker(settings={"limits": {"connect_timeout": 1}})
    with Peer.of(broker) as silent, Peer.of(broker) as half:
        half.sock.sendall(b"\x10\x20\x00\x04MQ")
        assert silent.is_cut_off()
        assert half.is_cut_off()


def test_a_port_in_use_is_told_with_a_remedy_and_exit_code_1(broker: BrokerProcess) -> None:
    url = broker.urls["tcp"]
    tried = subprocess.run(
        [*HELIOGRAPH, "run", "--listen", url],
        capture_output=True,
        text=True,
        timeout=10,
        env=clean_environment(),
        check=False,
    )
    assert tried.returncode == 1
    assert f"cannot listen on {url}: Address already in use" in tried.stderr
    assert "choose another port" in tried.stderr
    assert "Traceback" not in tried.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_tells_the_clients_and_ends_with_0(
    start_broker: StartBroker, number: signal.Signals
) -> None:
    broker = start_broker()
    with Peer.of(broker) as new, Peer.of(broker, 4) as old:
        new.connect("new")
        old.connect("old")
        broker._process.send_signal(number)  # type: ignore[union-attr]
        assert new.take(Disconnect).reason == ReasonCode.SERVER_SHUTTING_DOWN
        assert new.is_cut_off()
        assert old.is_cut_off()
        assert broker._process.wait(10) == 0  # type: ignore[union-attr]


def test_a_stop_waits_neither_for_strangers_nor_for_those_who_do_not_read(
    start_broker: StartBroker,
) -> None:
    broker = start_broker()
    with Peer.of(broker) as deaf, Peer.of(broker) as talker, Peer.of(broker) as stranger:
        deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect("deaf")
        deaf.subscribe("t")
        stranger.sock.sendall(b"\x10")
        talker.connect("talker")
        for _ in range(100):
            talker.send(Publish("t", bytes(100_000)))
        talker.send(Pingreq())
        talker.take(Pingresp)
        broker.stop()


def test_a_slow_reader_is_dropped_and_the_publisher_never_waits(start_broker: StartBroker) -> None:
    limits = {"slow_reader_timeout": 1, "outbox_bytes": 65_536}
    broker = start_broker(settings={"limits": limits})
    with Peer.of(broker) as deaf, Peer.of(broker) as talker, Peer.of(broker) as watcher:
        deaf.connect("deaf", keep_alive=0)
        deaf.subscribe("t")
        watcher.connect("watcher")
        watcher.subscribe("$SYS/broker/clients/connected")
        talker.connect("talker")
        before = memory_of(broker.pid)
        for _ in range(600):
            talker.send(Publish("t", bytes(100_000)))
        talker.send(Pingreq())
        talker.take(Pingresp)
        assert memory_of(broker.pid) - before < 20_000_000, "60 MB were not read"
        wait_for_log(broker, "deaf' from .* is gone: read too slowly")


def test_a_reset_in_the_middle_of_everything_leaves_no_trace(broker: BrokerProcess) -> None:
    for number in range(50):
        sock = broker.endpoints["tcp"].open_socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer = Peer(sock)
        peer.send(Connect(f"reset{number}"), *[Publish("t", bytes(1000))] * number)
        sock.close()  # with RST: the answers find nobody
    assert is_served(Peer.of(broker), "after/resets")
    assert "Traceback" not in broker.log
