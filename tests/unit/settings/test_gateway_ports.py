"""[[serial]]: what stands for a port is understood by the settings and by the port alike."""

import pytest

from bridges.serial.port_names import parse_port
from broker.settings.gateway_rules import SerialPort

GOOD = (
    "auto",
    "/dev/ttyUSB0",
    "/dev/serial/by-id/usb-*",
    "2341:0043",
    "0403:6001:A50285BI",
    "tcp://host:2000",
    "rfc2217://[::1]:2217",
)
BAD = (
    "",
    "ttyUSB0",
    "COM3",
    "Auto",
    "2341:43",
    "2341:0043:",
    "/dev/tty\x07",
    "/" + 600 * "x",
    "tcp://host",
    "tcp://:2000",
    "tcp://host:2000/path",
    "tcp://user@host:2000",
    "tcp://host:99999",
    "udp://host:2000",
    "http://[host:1",
)


@pytest.mark.parametrize("text", GOOD)
def test_a_port_that_the_settings_take_can_be_read(text: str) -> None:
    assert SerialPort().read(text) == text
    assert parse_port(text).text == text


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be_read_as_a_port_is_refused_with_the_settings(text: str) -> None:
    with pytest.raises(ValueError, match="is not a port: write"):
        SerialPort().read(text)
    with pytest.raises(ValueError, match="is no serial port"):
        parse_port(text)
