"""What `heliograph serial stats` makes of topics, whatever they hold."""

from __future__ import annotations

import json

import pytest

from bridges.gateway.command_stats import MOST_TOPICS, Report, _size, main
from bridges.gateway.figures import DeviceFigures, PortFigures, Teller, own_prefix

PORT = PortFigures(
    "usb/1",
    "/dev/ttyUSB0",
    True,
    "framed",
    115_200,
    round_trip=0.0042,
    bytes_received=1_234_567,
    last_error="",
)
AWAY = PortFigures("pump", last_error="no such port: plug the device in")
DEVICE = DeviceFigures("dev", "usb/1", "", "asleep", 1_800_000_000.0, 0.02, 1, 512)


def told(prefix: str = "$SYS/broker/") -> Report:
    report = Report()
    teller = Teller(lambda topic, payload, _: report.take(topic, payload), prefix)
    teller.tell([PORT, AWAY], [DEVICE], 0.0)
    return report


def test_ports_and_devices_are_tables() -> None:
    heading, pump, usb, trouble, gap, counts, columns, dev = told().lines(1_800_000_090.0)
    assert heading.split()[:6] == ["PORT", "STATE", "MODE", "BAUD", "RTT", "IN"]
    assert pump.split() == "pump closed - - - 0 B 0 B 0 0 0 0 0".split()  # noqa: SIM905
    assert usb.startswith("usb/1  open    framed  115200  4.2 ms  1.2 MB  0 B")
    assert trouble == "pump: no such port: plug the device in"
    assert (gap, counts) == ("", "MQTT-SN devices: 1 asleep")
    assert columns.split()[0] == "DEVICE"
    assert dev.split() == "dev usb/1 asleep 1 min ago 20.0 ms 1 512 B".split()  # noqa: SIM905


def test_a_gateway_beside_the_broker_is_named() -> None:
    report = told(own_prefix("field 1"))
    assert report.lines(0.0)[0] == "Gateway field 1: online"
    assert list(report.gateways()) == ["field 1"]


def test_programs_get_the_same() -> None:
    found = json.loads(json.dumps(told().as_json()))[""]
    assert found["ports"]["usb/1"]["bytes/received"] == "1234567"
    assert found["devices"][0]["client_id"] == "dev"
    assert found["counts"]["asleep"] == "1"
    assert found["state"] == "online"


def test_what_is_removed_is_gone() -> None:
    report = Report()
    report.take("$SYS/broker/serial/a/state", b"open")
    report.take("$SYS/broker/serial/a/state", b"")
    assert not report
    assert report.lines(0.0) == []


@pytest.mark.parametrize(
    "topic",
    [
        "$SYS",
        "$SYS/broker/serial",
        "$SYS/broker/serial/x",
        "heliograph/gateway",
        "",
        "/",
        "a/b/c/d",
    ],
)
def test_topics_of_another_shape_do_no_harm(topic: str) -> None:
    report = Report()
    report.take(topic, b"x")
    report.take("$SYS/broker/mqttsn/a/b/last_seen", b"yesterday")
    report.take("$SYS/broker/mqttsn/a/b/messages/held/bytes", b"much")
    report.take("$SYS/broker/serial/a/bytes/sent", b"\xff\x1b[2J")
    lines = report.lines(0.0)
    assert "\x1b" not in "".join(lines)
    json.dumps(report.as_json())


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_TOPICS <= 100_000
    monkeypatch.setattr("bridges.gateway.command_stats.MOST_TOPICS", 3)
    report = Report()
    for number in range(10):
        report.take(f"$SYS/broker/serial/{number}/state", b"open")
    assert len(report.gateways()[""].ports) == 3


def test_nobody_commands_the_terminal_through_a_topic() -> None:
    report = Report()
    for topic in ("mqttsn/devices/%1B[2J", "mqttsn/udp/%1B[2J/state", "serial/%1B[2J/state"):
        report.take(f"heliograph/gateway/%1B[2J/{topic}", b"1")
    assert "\x1b" not in "\n".join(report.lines(0.0))


def test_sizes_are_short() -> None:
    sizes = ["0", "999", "1000", "1234567", "9" * 15, None, "much"]
    shown = ["0 B", "999 B", "1.0 kB", "1.2 MB", "1000000.0 GB", "-", "much"]
    assert [_size(each) for each in sizes] == shown


@pytest.mark.parametrize("interval", ["", "0", "x", "nan", "-1", "1e9"])
def test_a_bad_interval_is_explained(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--watch", "--interval", interval]) == 2
    assert "number of seconds" in capsys.readouterr().err


def test_without_a_broker_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h", "127.0.0.1", "-p", "1"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_help_names_our_options_and_the_brokers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "--json" in printed
    assert "--cafile" in printed
