"""Devices through the real process: on UDP, on ptys in every mode, beside ours and mosquitto."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from broker.packets.encode import encode
from broker.packets.properties import Property
from broker.packets.types import Connect, Publish
from tests.integration.peer import Peer, wait_for_log
from tests.support.mqttsn_client import Got, SnClient
from tests.support.process import (
    HELIOGRAPH,
    BrokerProcess,
    Certificates,
    add_password,
    clean_environment,
    free_port,
)
from tests.support.serial_devices import FramedDevice, FramedForwarder, Pty, UdpDevice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import StartBroker

CONFIGS = Path(__file__).parents[2] / "configs"
UDP_READY = "MQTT-SN on UDP"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def broker(start_broker: StartBroker, port: int) -> BrokerProcess:
    made = start_broker(settings=on_udp(port))
    wait_for_log(made, UDP_READY)
    return made


@pytest.fixture
def pty(tmp_path: Path) -> Iterator[Pty]:
    with Pty(tmp_path / "ttyTEST") as made:
        yield made


def on_udp(port: int, **mqttsn: object) -> dict[str, object]:
    return {"mqttsn": {"listen": f"udp://127.0.0.1:{port}", "t_retry": 1, **mqttsn}}


def on_wire(pty: Pty, mode: str, **keys: object) -> dict[str, object]:
    return {"serial": [{"port": str(pty.path), "name": "bench", "mode": mode, **keys}]}


@contextmanager
def listener(broker: BrokerProcess, topic_filter: str) -> Iterator[Peer]:
    with Peer.of(broker) as peer:
        peer.connect("listener")
        peer.subscribe(topic_filter)
        yield peer


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)  # a log tells nobody when it grows: ask again


@contextmanager
def running(command: list[str], errors: int | IO[bytes]) -> Iterator[None]:
    """The command, until it is told to stop: it must do so in good order."""
    process = subprocess.Popen(command, stderr=errors, env=clean_environment())
    try:
        yield
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


# -- UDP ------------------------------------------------------------------------------------------


def test_readings_of_every_qos_come_to_mosquitto_sub_over_udp(
    broker: BrokerProcess, port: int
) -> None:
    arguments = ["-p", str(broker.port), "-t", "site/#", "-v", "-C", "3", "-W", "10"]
    with subprocess.Popen(["mosquitto_sub", *arguments], stdout=subprocess.PIPE) as subscriber:
        wait_for_log(broker, "'auto-.* connected")
        with listener(broker, "ready"), UdpDevice(SnClient("dev"), port) as device:
            device.client.connect()
            for qos in range(3):
                device.client.publish("site/temperature", b"%d" % qos, qos)
            device.run()
        heard, _ = subscriber.communicate(timeout=10)
    assert heard.split(b"\n")[:3] == [b"site/temperature %d" % qos for qos in range(3)]


def test_nodes_behind_a_forwarder_are_devices_of_their_own(
    broker: BrokerProcess, port: int
) -> None:
    with (
        UdpDevice(SnClient("one"), port, node=b"\x01") as one,
        UdpDevice(SnClient("two"), port, node=b"\x02\x03") as two,
    ):
        for each in (one, two):
            each.client.connect()
            each.client.subscribe("to/two" if each is two else "to/one", qos=1)
            each.run()
        one.client.publish("to/two", b"hello", qos=1)
        one.run()
        two.run(lambda: bool(two.client.received))
        assert two.client.received == [Got("to/two", b"hello", 1)]
        assert one.client.received == []


def test_the_will_of_a_device_that_falls_silent_is_published(
    start_broker: StartBroker, port: int
) -> None:
    broker = start_broker(settings=on_udp(port, n_retry=0))
    wait_for_log(broker, UDP_READY)
    with (
        listener(broker, "gone/#") as peer,
        UdpDevice(SnClient("dev", keep_alive=1, will=("gone/dev", b"silent", 1)), port) as device,
    ):
        device.client.connect()
        device.run()
        assert peer.take_message() == ("gone/dev", b"silent")


def test_what_is_no_message_of_the_device_harms_nobody(broker: BrokerProcess, port: int) -> None:
    with (
        UdpDevice(SnClient("good"), port) as good,
        UdpDevice(SnClient("good"), port, node=b"\x09") as rival,
        UdpDevice(SnClient("bad"), port) as bad,
    ):
        good.client.connect()
        good.run()
        for kind in range(256):  # every type, from one who is not connected, and cut off
            for size in (2, 3, 7):
                bad.say(bytes((size, kind)) + b"\x01" * (size - 2))
                bad.say(bytes((size, kind)))
        bad.say(b"")
        rival.client.connect()
        rival.run(lambda: bool(rival.client.done))
        assert rival.client.done == [(0x04, 1)]  # congestion: somebody has that name
        good.client.publish("still/there", b"yes", qos=2)
        good.run()
        assert good.client.done[-1] == (0x0C, 0)


def test_messages_and_topics_of_a_sleeping_device_survive_the_end_of_the_process(
    start_broker: StartBroker, port: int
) -> None:
    broker = start_broker(settings=on_udp(port))
    wait_for_log(broker, UDP_READY)
    with UdpDevice(SnClient("sleeper", clean=False), port) as device:
        device.client.connect()
        device.client.register("from/sleeper")
        device.client.subscribe("to/sleeper", qos=1)
        device.client.sleep(3600)
        device.run()
        connects = device.client.connects
        with Peer.of(broker, 4) as peer:
            peer.connect("other")
            for number in range(3):
                peer.send(Publish("to/sleeper", b"%d" % number, 1, packet_id=number + 1))
                peer._next()
        broker.kill()
        broker.start()
        wait_for_log(broker, f"(?s){UDP_READY}.*{UDP_READY}")
        device.client.wake()
        device.run(lambda: device.client.pings > 0)
        assert device.client.received == [
            Got("to/sleeper", b"%d" % number, 1) for number in range(3)
        ]
        assert device.client.connects == connects


def test_a_device_that_is_not_accepted_waits_and_is_let_in_by_a_command(
    start_broker: StartBroker, port: int, tmp_path: Path
) -> None:
    broker = start_broker(settings=on_udp(port, approval=True))
    wait_for_log(broker, UDP_READY)
    with UdpDevice(SnClient("new"), port) as device:
        device.client.T_WAIT = 0.2
        device.client.connect()
        device.run(lambda: (0x04, 1) in device.client.done)
        command = [*HELIOGRAPH, "serial", "accept", "new", "--data", str(tmp_path / "data")]
        subprocess.run(command, check=True, capture_output=True, env=clean_environment())
        device.run()
        assert device.client.state == "active"


def test_devices_have_credentials_by_rules_and_are_authorised_as_any_client(
    start_broker: StartBroker, port: int, tmp_path: Path
) -> None:
    users = tmp_path / "users"
    add_password("heliograph", users, "sensors", "secret")
    rule = {"client_id": "sensor-*", "username": "sensors", "password": "secret"}
    settings = {
        **on_udp(port),
        "mqttsn.device": [{**rule, "broker_client_id": "field/{client_id}"}, {"client_id": "*"}],
        "auth": {"password_file": users, "allow_anonymous": "never"},
    }
    broker = start_broker(settings=settings)
    wait_for_log(broker, UDP_READY)
    with UdpDevice(SnClient("sensor-1"), port) as known, UdpDevice(SnClient("x"), port) as other:
        known.client.connect()
        known.run()
        assert known.client.state == "active"
        wait_for_log(broker, "'field/sensor-1' connected from 127.0.0.1:.*user 'sensors'")
        other.client.connect()
        other.run()
        assert other.client.done == [(0x04, 3)]  # not supported


def test_who_does_not_connect_publishes_if_the_settings_let_it(
    start_broker: StartBroker, port: int
) -> None:
    settings = on_udp(port, unconnected="strangers")
    broker = start_broker(settings=settings)
    wait_for_log(broker, UDP_READY)
    with listener(broker, "ab") as peer, UdpDevice(SnClient("x"), port) as device:
        device.say(b"\x08\x0c\x62ab\x00\x00!")  # PUBLISH, QoS -1, a short topic
        assert peer.take_message() == ("ab", b"!")


# -- wires ----------------------------------------------------------------------------------------


def test_a_line_of_text_is_a_value_and_other_lines_are_the_log(
    start_broker: StartBroker, pty: Pty
) -> None:
    settings = on_wire(pty, "auto", prefix="{port}/", commands="to/bench")
    broker = start_broker(settings=settings)
    wait_for_log(broker, "serial port .*open")
    with listener(broker, "#") as peer:
        pty.write(b"Hello world\r\ntemp/1 21.5\r\n")
        got = {peer.take_message(), peer.take_message()}
        assert got == {("serial/bench/log", b"Hello world"), ("bench/temp/1", b"21.5")}
        peer.send(Publish("to/bench", b"led on"))
        assert pty.read_until(b"\n") == b"led on\n"


def test_a_subscriber_is_told_when_a_device_without_a_clock_has_sent(
    start_broker: StartBroker, pty: Pty
) -> None:
    before = time.time()
    broker = start_broker(settings=on_wire(pty, "text", stamp=True))
    wait_for_log(broker, "serial port .*open")
    with Peer.of(broker, 5) as peer:
        peer.connect("listener")
        peer.subscribe("temp/1")
        pty.write(b"temp/1 21.5\r\n")
        [(name, sent_at)] = peer.take(Publish).properties[Property.USER_PROPERTY]
        assert name == "sent-at"
        assert before < float(sent_at) < time.time() + 0.001


def test_plain_mqtt_goes_to_the_broker_as_over_tcp(start_broker: StartBroker, pty: Pty) -> None:
    broker = start_broker(settings=on_wire(pty, "auto"))
    wait_for_log(broker, "serial port .*open")
    with listener(broker, "a/#") as peer:
        pty.write(encode(Connect("plain"), 4))
        assert pty.read_until(b"\x20\x02\x00\x00")
        pty.write(encode(Publish("a/b", b"1", 1, packet_id=7), 4))
        assert pty.read_until(b"\x40\x02\x00\x07")
        assert peer.take_message() == ("a/b", b"1")


def test_nothing_is_lost_when_a_framed_device_is_unplugged_and_plugged_in_again(
    start_broker: StartBroker, pty: Pty
) -> None:
    broker = start_broker(settings=on_wire(pty, "framed"))
    with listener(broker, "a/#") as peer:
        device = FramedDevice(SnClient("dev"), pty)
        device.client.connect()
        device.client.publish("a/b", b"before", qos=1)
        device.run()
        connects = device.client.connects  # more than one, if the start took its time
        pty.unplug()
        wait_for_log(broker, "closed, ")
        device.client.publish("a/b", b"after", qos=1)
        pty.plug()
        device.plugged()
        device.run()
        assert device.client.connects == connects
        assert [peer.take_message() for _ in range(2)] == [("a/b", b"before"), ("a/b", b"after")]


def test_a_device_on_a_wire_does_not_notice_the_end_of_the_process(
    start_broker: StartBroker, pty: Pty
) -> None:
    broker = start_broker(settings=on_wire(pty, "framed"))
    device = FramedDevice(SnClient("dev", clean=False), pty)
    device.client.connect()
    device.client.subscribe("a/#", qos=1)
    device.client.register("a/b")  # its id is told when it, and all before it, is kept
    device.run()
    connects = device.client.connects  # more than one, if the start took its time
    broker.kill()
    broker.start()
    device.client.publish("a/b", b"still here", qos=1)
    device.run(lambda: bool(device.client.received))
    assert device.client.received[0] == Got("a/b", b"still here", 1)
    assert device.client.connects == connects


@pytest.mark.parametrize("qos", [1, 2])
def test_a_noisy_wire_loses_nothing_doubles_nothing_and_keeps_the_order(
    start_broker: StartBroker, pty: Pty, qos: int
) -> None:
    broker = start_broker(settings=on_wire(pty, "framed"))
    wait_for_log(broker, "serial port .*open")
    with listener(broker, "a/#") as peer:
        device = FramedDevice(SnClient("dev"), pty, noise=0.01)
        device.client.connect()
        device.client.subscribe("to/dev", qos)
        for number in range(20):
            device.client.publish("a/b", b"%d" % number, qos)
        device.run()
        got = [peer.take_message() for _ in range(20)]
        assert got == [("a/b", b"%d" % number) for number in range(20)]
        for number in range(20):
            peer.send(Publish("to/dev", b"%d" % number, qos, packet_id=number + 1))
        device.run(lambda: len(device.client.received) == 20)
        assert [each.payload for each in device.client.received] == [b"%d" % n for n in range(20)]


def test_two_ports_serve_32_nodes_each(start_broker: StartBroker, tmp_path: Path) -> None:
    with Pty(tmp_path / "ttyA") as one, Pty(tmp_path / "ttyB") as two:
        ports = [{"port": str(each.path), "mode": "framed"} for each in (one, two)]
        broker = start_broker(settings={"serial": ports})
        bases = []
        for name, port in (("a", one), ("b", two)):
            nodes = {bytes((number,)): SnClient(f"{name}-{number}") for number in range(32)}
            bases.append(FramedForwarder(port, nodes))
        with listener(broker, "all/#") as peer:
            for base in bases:
                for node, client in base.clients.items():
                    client.connect()
                    client.publish(f"all/{client.client_id}", node, qos=1)
            deadline = time.monotonic() + 20
            while not all(base.is_idle for base in bases):
                assert time.monotonic() < deadline
                for base in bases:
                    base.exchange()
            got = {peer.take_message()[0] for _ in range(64)}
            assert len(got) == 64


def test_ports_and_devices_are_told_as_topics(start_broker: StartBroker, pty: Pty) -> None:
    settings = {**on_wire(pty, "framed"), "broker": {"sys_interval": 1}}
    broker = start_broker(settings=settings)
    device = FramedDevice(SnClient("dev"), pty)
    device.client.connect()
    device.run()
    with listener(broker, "$SYS/broker/mqttsn/bench/dev/state") as peer:
        assert peer.take_message()[1] == b"active"
    with listener(broker, "$SYS/broker/serial/bench/mode") as peer:
        assert peer.take_message()[1] == b"framed"


def test_the_file_for_serial_ports_starts_without_any_port(tmp_path: Path) -> None:
    listen = f"tcp://127.0.0.1:{free_port()}"
    command = [*HELIOGRAPH, "run", "-c", str(CONFIGS / "serial.toml"), "--listen", listen]
    log = tmp_path / "log"
    with log.open("wb") as file, running([*command, "--data", str(tmp_path)], file):
        wait_for(log, "trying again")
    assert "Traceback" not in log.read_text()


# -- alone ----------------------------------------------------------------------------------------


def test_the_gateway_alone_serves_mosquitto_and_outlives_its_restart(
    tmp_path: Path, port: int
) -> None:
    broker = BrokerProcess(tmp_path, dialect="mosquitto")
    log = tmp_path / "gateway.log"
    command = [*HELIOGRAPH, "gateway", "--broker", f"mqtt://127.0.0.1:{broker.port}"]
    command += ["--udp", f"127.0.0.1:{port}", "--data", str(tmp_path / "data")]
    with broker, log.open("wb") as file, running(command, file):
        wait_for(log, "gateway to the broker")
        _talk(broker, port)
    assert "Traceback" not in log.read_text()


def _talk(broker: BrokerProcess, port: int) -> None:
    with UdpDevice(SnClient("dev"), port) as device:
        with listener(broker, "a/#") as peer:
            device.client.connect()
            device.client.subscribe("to/dev", qos=2)
            device.client.publish("a/b", b"1", qos=1)
            device.run()
            assert peer.take_message() == ("a/b", b"1")
            peer.send(Publish("to/dev", b"2"))
            device.run(lambda: bool(device.client.received))
        broker.stop()
        broker.start()
        device.client.publish("a/b", b"3", qos=1)
        device.run()
        assert device.client.state == "active"


def test_the_gateway_alone_speaks_tls_with_a_user_name(
    start_broker: StartBroker, certificates: Certificates, tmp_path: Path, port: int
) -> None:
    users = tmp_path / "users"
    add_password("heliograph", users, "gw", "s:e/c")
    settings = {"auth": {"password_file": users, "allow_anonymous": "never"}}
    broker = start_broker("tls", settings=settings)
    place = f"127.0.0.1:{broker.endpoints['tls'].port}"
    command = [*HELIOGRAPH, "gateway", "--broker", f"mqtts://gw:s%3Ae%2Fc@{place}"]
    command += ["--cafile", str(certificates.authority), "--udp", f"127.0.0.1:{port}"]
    log = tmp_path / "gateway.log"
    with log.open("wb") as file, running([*command, "--data", str(tmp_path / "gw")], file):
        wait_for(log, "gateway to the broker")
        with UdpDevice(SnClient("dev"), port) as device:
            device.client.connect()
            device.run()
            assert device.client.state == "active"
    wait_for_log(broker, "'dev' connected from .*user 'gw'")
    assert "s:e/c" not in log.read_text()


def test_plain_mqtt_goes_through_the_gateway_alone(tmp_path: Path, pty: Pty) -> None:
    broker = BrokerProcess(tmp_path, dialect="mosquitto")
    command = [*HELIOGRAPH, "gateway", "--broker", f"mqtt://127.0.0.1:{broker.port}"]
    command += ["--serial", str(pty.path), "--data", str(tmp_path / "data")]
    log = tmp_path / "gateway.log"
    with (
        broker,
        listener(broker, "a/#") as peer,
        log.open("wb") as file,
        running(command, file),
    ):
        wait_for(log, ": open (")
        pty.write(encode(Connect("plain"), 4))
        assert pty.read_until(b"\x20\x02\x00\x00")
        pty.write(encode(Publish("a/b", b"1", 1, packet_id=7), 4))
        assert pty.read_until(b"\x40\x02\x00\x07")
        assert peer.take_message() == ("a/b", b"1")


def test_the_gateway_alone_says_what_is_wrong(tmp_path: Path) -> None:
    command = [*HELIOGRAPH, "gateway", "--broker", "mqtt://me:secret@host:port", "--udp", "x"]
    found = subprocess.run(
        command, check=False, capture_output=True, text=True, env=clean_environment()
    )
    assert found.returncode == 1
    assert "mqtt://HOST" in found.stderr
    assert "secret" not in found.stderr


def test_figures_are_told_to_another_broker(tmp_path: Path, pty: Pty) -> None:
    broker = BrokerProcess(tmp_path, dialect="mosquitto")
    command = [*HELIOGRAPH, "gateway", "--broker", f"mqtt://127.0.0.1:{broker.port}"]
    command += ["--serial", str(pty.path), "--data", str(tmp_path / "data")]
    with (
        broker,
        listener(broker, "heliograph/gateway/+/serial/+/state") as peer,
        running(command, subprocess.DEVNULL),
    ):
        assert peer.take_message()[1] in {b"open", b"closed"}  # it is being opened
