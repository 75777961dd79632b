"""The gateway alone beside brokers that speak MQTT 3.1.1 only: amqtt, and mosquitto behind a gate
that refuses MQTT 5 in each of the ways there are.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from broker.packets.types import Puback, Publish
from tests.integration.peer import Peer
from tests.support.mqttsn_client import SnClient
from tests.support.old_broker import REFUSALS, Amqtt, Gate
from tests.support.process import HELIOGRAPH, BrokerProcess, clean_environment, free_port
from tests.support.serial_devices import FramedDevice, Pty, UdpDevice

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOLD = "speaks MQTT 3.1.1 and not 5"
READY = "MQTT-SN on UDP"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def pty(tmp_path: Path) -> Iterator[Pty]:
    with Pty(tmp_path / "ttyTEST") as made:
        yield made


class GatewayProcess:
    """`heliograph gateway`, which may be killed and started again."""

    def __init__(self, folder: Path, broker_port: int, *options: str) -> None:
        self._command = [*HELIOGRAPH, "gateway", "--broker", f"mqtt://me@127.0.0.1:{broker_port}"]
        self._command += ["--data", str(folder / "gw"), *options]
        self._log = folder / "gateway.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        assert self._process is not None
        if failure is not None:
            self.kill()
            return
        self._process.terminate()
        assert self._process.wait(10) == 0
        assert "Traceback" not in self.log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log, env=clean_environment())

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait_for(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + 30
        while self.log.count(text) < times:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)  # a log tells nobody when it grows: ask again


@contextmanager
def peer_of(broker: Amqtt | BrokerProcess, name: str) -> Iterator[Peer]:
    with Peer(broker.endpoints["tcp"].open_socket(), 4) as peer:
        peer.connect(name, username="me")
        yield peer


# -- which version --------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_broker_that_refuses_5_is_served_in_3_1_1(
    tmp_path: Path, port: int, refusal: str
) -> None:
    with (
        BrokerProcess(tmp_path, dialect="mosquitto") as broker,
        Gate(broker.port, refusal) as gate,
        GatewayProcess(tmp_path, gate.port, "--udp", f"127.0.0.1:{port}") as gateway,
        peer_of(broker, "listener") as peer,
        UdpDevice(SnClient("dev"), port) as device,
    ):
        peer.subscribe("a/#")
        gateway.wait_for(READY)
        device.client.connect()
        device.client.publish("a/b", b"1", qos=1)
        device.run()
        assert peer.take_message() == ("a/b", b"1")
        assert gateway.log.count(TOLD) == 1
        refused = gate.tried.index(4)
        assert gate.tried[:refused] == [5] * refused
        assert set(gate.tried[refused:]) == {4}


def test_a_version_that_is_chosen_is_spoken_at_once(tmp_path: Path, port: int) -> None:
    settings = tmp_path / "gateway.toml"
    settings.write_text('[gateway]\nmqtt = "3.1.1"\n')
    with (
        BrokerProcess(tmp_path, dialect="mosquitto") as broker,
        Gate(broker.port, "silence") as gate,
        GatewayProcess(
            tmp_path, gate.port, "-c", str(settings), "--udp", f"127.0.0.1:{port}"
        ) as gateway,
        UdpDevice(SnClient("dev"), port) as device,
    ):
        gateway.wait_for(READY)
        device.client.connect()
        device.run()
        assert device.client.state == "active"
        assert set(gate.tried) == {4}
        assert TOLD not in gateway.log


def test_a_chosen_version_that_the_broker_refuses_is_told(tmp_path: Path, port: int) -> None:
    with (
        BrokerProcess(tmp_path, dialect="mosquitto") as broker,
        Gate(broker.port, "the reason of 5") as gate,
        GatewayProcess(tmp_path, gate.port, "--mqtt", "5", "--udp", f"127.0.0.1:{port}") as gateway,
    ):
        gateway.wait_for("refuses MQTT 5: choose another version with --mqtt, or none")


def test_a_version_that_is_none_is_complained_about() -> None:
    command = [*HELIOGRAPH, "gateway", "--broker", "mqtt://host", "--mqtt", "4", "--udp", "x:1"]
    found = subprocess.run(
        command, check=False, capture_output=True, text=True, env=clean_environment()
    )
    assert found.returncode == 1
    assert '"3.1.1"' in found.stderr


# -- what works in 3.1.1 --------------------------------------------------------------------------


class Site(NamedTuple):
    """A broker, the options of the gateway for it, and what it says when it has found it."""

    broker: Amqtt | BrokerProcess
    options: list[str]
    found: str


@contextmanager
def found_out(folder: Path) -> Iterator[Site]:
    with Amqtt(folder) as broker:  # it neither answers nor closes at a CONNECT of MQTT 5
        yield Site(broker, [], TOLD)


@contextmanager
def amqtt(folder: Path) -> Iterator[Site]:
    with Amqtt(folder) as broker:
        yield Site(broker, ["--mqtt", "3.1.1"], READY)


@contextmanager
def mosquitto(folder: Path) -> Iterator[Site]:
    with BrokerProcess(folder, dialect="mosquitto") as broker:
        yield Site(broker, ["--mqtt", "3.1.1"], READY)


Start = "Callable[[Path], AbstractContextManager[Site]]"
BROKERS = pytest.mark.parametrize("start", [amqtt, mosquitto], ids=["amqtt", "mosquitto"])


@pytest.mark.parametrize("start", [found_out, mosquitto], ids=["amqtt", "mosquitto"])
def test_devices_on_wires_and_udp_hear_each_other(
    tmp_path: Path, port: int, pty: Pty, start: Start
) -> None:
    with (
        start(tmp_path) as (broker, options, found),
        GatewayProcess(
            *(tmp_path, broker.port, *options),
            *("--serial", str(pty.path), "--udp", f"127.0.0.1:{port}"),
        ) as gateway,
        UdpDevice(SnClient("radio"), port) as radio,
    ):
        gateway.wait_for(": open (")
        gateway.wait_for(found)
        wired = FramedDevice(SnClient("wired"), pty)
        for each in (wired, radio):
            each.client.connect()
            each.run()
        radio.client.subscribe("from/wired/#", qos=2)
        wired.client.subscribe("to/wired", qos=1)
        radio.run()
        wired.run()
        for qos in range(3):
            wired.client.publish(f"from/wired/{qos}", b"up", qos)
            wired.run()
            radio.client.publish("to/wired", b"%d" % qos, qos)
            radio.run()
        radio.run(lambda: len(radio.client.received) == 3)
        wired.run(lambda: len(wired.client.received) == 3)
        # not at which QoS: amqtt raises it to that of the subscription
        heard = [(got.topic, got.payload) for got in radio.client.received]
        assert heard == [(f"from/wired/{qos}", b"up") for qos in range(3)]
        heard = [(got.topic, got.payload) for got in wired.client.received]
        assert heard == [("to/wired", b"%d" % qos) for qos in range(3)]


@BROKERS
def test_a_will_is_published_when_its_device_is_lost_and_not_when_it_leaves(
    tmp_path: Path, port: int, start: Start
) -> None:
    settings = tmp_path / "gateway.toml"
    settings.write_text('[mqttsn]\nt_retry = "1 s"\nn_retry = 0\n')
    with (
        start(tmp_path) as (broker, options, found),
        GatewayProcess(
            *(tmp_path, broker.port, *options),
            *("-c", str(settings), "--udp", f"127.0.0.1:{port}"),
        ) as gateway,
        peer_of(broker, "listener") as peer,
        UdpDevice(SnClient("one", will=("gone/one", b"left", 1)), port) as one,
        UdpDevice(SnClient("two", keep_alive=1, will=("gone/two", b"silent", 1)), port) as two,
    ):
        peer.subscribe("gone/#")
        gateway.wait_for(found)
        for each in (one, two):
            each.client.connect()
            each.run()
        one.client.disconnect()
        one.run()
        assert peer.take_message() == ("gone/two", b"silent")


@BROKERS
def test_a_sleeping_device_collects_what_has_waited_also_after_the_end_of_the_gateway(
    tmp_path: Path, port: int, start: Start
) -> None:
    with (
        start(tmp_path) as (broker, options, found),
        GatewayProcess(tmp_path, broker.port, *options, "--udp", f"127.0.0.1:{port}") as gateway,
        peer_of(broker, "other") as peer,
        UdpDevice(SnClient("sleeper", clean=False), port) as device,
    ):
        gateway.wait_for(found)
        device.client.connect()
        device.client.register("to/sleeper/1")
        device.client.subscribe("to/sleeper/#", qos=1)
        device.client.sleep(3600)
        device.run()
        connects = device.client.connects
        publish(peer, "to/sleeper/1", 0)
        device.client.wake()
        device.run(lambda: device.client.pings == 1)
        gateway.kill()
        publish(peer, "to/sleeper/1", 1)
        gateway.start()
        gateway.wait_for(found, times=2)
        publish(peer, "to/sleeper/1", 2)
        device.client.wake()
        device.run(lambda: device.client.pings == 2)
        payloads = [got.payload for got in device.client.received]
        assert payloads == [b"0", b"1", b"2"]
        assert device.client.connects == connects


def publish(peer: Peer, topic: str, number: int) -> None:
    peer.send(Publish(topic, b"%d" % number, 1, packet_id=number + 1))
    assert peer.take(Puback).packet_id == number + 1


def test_a_forgotten_device_leaves_no_session_behind(tmp_path: Path, port: int) -> None:
    with (
        mosquitto(tmp_path) as (broker, options, found),
        GatewayProcess(tmp_path, broker.port, *options, "--udp", f"127.0.0.1:{port}") as gateway,
        UdpDevice(SnClient("old", clean=False), port) as device,
    ):
        gateway.wait_for(found)
        device.client.connect()
        device.client.subscribe("to/old", qos=1)
        device.client.disconnect()
        device.run()
        assert has_session(broker, "old")
        command = [*HELIOGRAPH, "serial", "forget", "old", "--data", str(tmp_path / "gw")]
        subprocess.run(command, check=True, capture_output=True, env=clean_environment())
        deadline = time.monotonic() + 10
        while has_session(broker, "old"):
            assert time.monotonic() < deadline
            time.sleep(0.05)  # another broker tells nobody: ask again


def has_session(broker: Amqtt | BrokerProcess, client_id: str) -> bool:
    with Peer(broker.endpoints["tcp"].open_socket(), 4) as peer:
        return peer.connect(client_id, clean_start=False).session_present


def test_a_broker_that_restarts_is_not_the_end_for_a_clean_session(
    tmp_path: Path, port: int
) -> None:
    with (
        mosquitto(tmp_path) as (broker, options, found),
        GatewayProcess(tmp_path, broker.port, *options, "--udp", f"127.0.0.1:{port}") as gateway,
        UdpDevice(SnClient("dev"), port) as device,
    ):
        gateway.wait_for(found)
        device.client.connect()
        device.run()
        assert isinstance(broker, BrokerProcess)
        broker.stop()
        broker.start()
        device.run(lambda: device.client.state == "lost")  # it is told to connect anew
        device.client.publish("a/b", b"1", qos=1)
        device.run()
        assert device.client.state == "active"
