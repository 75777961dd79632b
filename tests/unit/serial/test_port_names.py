"""What stands for a port, and what it stands for now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bridges.serial import port_names
from bridges.serial.port_names import Device, PortError, find
from bridges.serial.port_settings import PortSettings, Rs485
from bridges.serial.port_spec import Kind, PortSpec, parse_port

if TYPE_CHECKING:
    from pathlib import Path

FTDI = Device(
    "/dev/ttyUSB0", "/dev/serial/by-id/usb-FTDI_A50285BI-if00", 0x0403, 0x6001, "A50285BI"
)
CH340 = Device("/dev/ttyUSB1", "/dev/serial/by-id/usb-1a86-if00", 0x1A86, 0x7523, "", "USB Serial")
CLONE = Device("/dev/ttyUSB2", "", 0x1A86, 0x7523)
BUILT_IN = Device("/dev/ttyS0")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("auto", Kind.AUTO),
        ("/dev/ttyUSB0", Kind.PATH),
        ("/dev/serial/by-id/usb-FTDI*", Kind.PATTERN),
        ("/dev/ttyACM?", Kind.PATTERN),
        ("0403:6001", Kind.USB),
        ("1a86:7523:5678-x", Kind.USB),
        ("tcp://sensor.local:4000", Kind.TCP),
        ("rfc2217://[::1]:4000", Kind.RFC2217),
    ],
)
def test_each_form_is_read_for_what_it_is(text: str, kind: Kind) -> None:
    assert parse_port(text).kind is kind
    assert parse_port(text).text == text


def test_the_parts_of_a_form_are_read() -> None:
    assert parse_port("0403:6001:A50285BI") == PortSpec(
        "0403:6001:A50285BI", Kind.USB, 0x0403, 0x6001, "A50285BI"
    )
    spec = parse_port("tcp://[fe80::1]:4000")
    assert (spec.host, spec.port) == ("fe80::1", 4000)


@pytest.mark.parametrize(
    "text",
    [
        *("", "ttyUSB0", "AUTO", "0403", "0403:60", "0403:6001:", "/dev/tty\n", "/dev/\0"),
        *("tcp://host", "tcp://host:0", "tcp://host:99999", "tcp://:1", "tcp://h:1/path"),
        *("rfc2217://h:1?x", "udp://h:1", "tcp://u@h:1", "http://[", "/" + "x" * 600),
    ],
)
def test_what_is_no_port_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no serial port: (use auto|write tcp)"):
        parse_port(text)


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    found: list[Device] = []
    monkeypatch.setattr(port_names, "devices", lambda: found)
    return found


def test_auto_is_the_one_on_usb(plugged: list[Device]) -> None:
    plugged += [FTDI, BUILT_IN]
    found = find(parse_port("auto"))
    assert (found.path, found.key) == ("/dev/ttyUSB0", "usb:0403:6001:A50285BI")


def test_auto_does_not_choose_between_two(plugged: list[Device]) -> None:
    plugged += [FTDI, CH340]
    with pytest.raises(PortError, match=r"stands for .*FTDI.*1a86.*: name one of them"):
        find(parse_port("auto"))


def test_two_that_cannot_be_told_apart_are_named_by_their_paths(plugged: list[Device]) -> None:
    plugged += [CLONE, Device("/dev/ttyUSB3", "", 0x1A86, 0x7523)]
    with pytest.raises(PortError, match="stands for /dev/ttyUSB2, /dev/ttyUSB3: name"):
        find(parse_port("1a86:7523"))


def test_no_port_is_said_with_what_to_do(plugged: list[Device]) -> None:
    with pytest.raises(PortError, match="no USB serial port: plug it in, or see heliograph"):
        find(parse_port("auto"))
    plugged.append(FTDI)
    with pytest.raises(PortError, match="no USB serial port 0403:6001:OTHER: plug it in"):
        find(parse_port("0403:6001:OTHER"))


def test_a_usb_device_keeps_its_key_under_another_number(plugged: list[Device]) -> None:
    spec = parse_port("0403:6001:A50285BI")
    plugged.append(FTDI)
    before = find(spec)
    plugged[:] = [Device("/dev/ttyUSB7", "", 0x0403, 0x6001, "A50285BI")]
    after = find(spec)
    assert (before.path, after.path) == ("/dev/ttyUSB0", "/dev/ttyUSB7")
    assert before.key == after.key


def test_a_pattern_counts_devices_not_names(tmp_path: Path, plugged: list[Device]) -> None:
    (tmp_path / "device").touch()
    (tmp_path / "usb-1").symlink_to("device")
    (tmp_path / "usb-2").symlink_to("device")
    assert find(parse_port(f"{tmp_path}/usb-*")).path == f"{tmp_path}/usb-1"
    with pytest.raises(PortError, match="nothing is named"):
        find(parse_port(f"{tmp_path}/x*"))
    (tmp_path / "other").touch()
    with pytest.raises(PortError, match=r"stands for .*device, .*other: name one"):
        find(parse_port(f"{tmp_path}/[do]*"))


def test_a_name_that_leads_in_a_circle_is_not_there(tmp_path: Path, plugged: list[Device]) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(PortError, match="is not there"):
        find(parse_port(f"{tmp_path}/a"))


def test_a_path_to_a_usb_device_has_the_key_of_the_device(
    tmp_path: Path, plugged: list[Device]
) -> None:
    (tmp_path / "tty").touch()
    plugged.append(Device(str(tmp_path / "tty"), "", 0x0403, 0x6001, "A1"))
    (tmp_path / "sensor").symlink_to("tty")
    assert find(parse_port(f"{tmp_path}/sensor")).key == "usb:0403:6001:A1"


def test_what_a_device_calls_itself_reaches_no_terminal_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Port:
        device, vid, pid, serial_number = "/dev/ttyUSB0", 1, 2, "A\x1b[31m 1"
        product, description = "evil\x07" + "x" * 500, "n/a"

    monkeypatch.setattr(port_names.list_ports, "comports", lambda: [Port])
    (device,) = port_names.devices()
    assert device.serial.isprintable()
    assert device.product.isprintable()
    assert len(device.product) == 80
    assert parse_port(device.usb_name).kind is Kind.USB  # a number with a space is left out


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"bauds": ()}, "1 to 16 bauds"),
        ({"bauds": (115_200, 0)}, "not 0"),
        ({"bauds": (99_000_000,)}, "not 99000000"),
        ({"flow": "dtrdsr"}, 'flow is one of none, rtscts, xonxoff, not "dtrdsr"'),
        ({"lines": "up"}, 'lines is one of keep, on, off, not "up"'),
        ({"reset": "x"}, "reset is one of dtr, esp32"),
        ({"port": "x"}, "is no serial port"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        PortSettings(**{"port": "auto", **settings})


def test_a_delay_that_no_driver_keeps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0 to 0\.1 s, not 2\.0"):
        Rs485(delay_before_send=2.0)
