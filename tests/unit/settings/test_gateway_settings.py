"""[[serial]], [mqttsn] and [[mqttsn.device]]: what is understood, and what is complained about."""

from pathlib import Path

import pytest

from broker.cli import run_command
from broker.settings import SettingsError, load
from broker.settings.gateway_rules import udp_place


def written(folder: Path, text: str) -> Path:
    path = folder / "f.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_wires_and_devices_are_read(tmp_path: Path) -> None:
    text = """
    [mqttsn]
    listen = ["udp://0.0.0.0", "udp://[::1]:7777"]
    predefined = { "7" = "site/door" }
    [[mqttsn.device]]
    client_id = "sensor-*"
    username = "sensors"
    password = "secret"
    [[serial]]
    port = "/dev/serial/by-id/*"
    baud = [9600, 115200]
    [[serial]]
    port = "/dev/ttyUSB1"
    baud = 9600
    """
    settings = load(written(tmp_path, text))
    assert settings.has_gateway
    assert settings.mqttsn.places == (("0.0.0.0", 1884), ("::1", 7777))
    assert settings.mqttsn.predefined == {7: "site/door"}
    assert settings.mqttsn.devices[0].client_id == "sensor-*"
    assert [port.shown_name for port in settings.serial] == ["by-id", "ttyUSB1"]
    assert [port.baud for port in settings.serial] == [(9600, 115_200), (9600,)]
    assert "secret" not in repr(settings)


def test_topics_known_by_number_may_come_from_the_environment() -> None:
    environ = {"HELIOGRAPH_MQTTSN__PREDEFINED": "1=a/b 2=c", "HELIOGRAPH_MQTTSN__APPROVAL": "yes"}
    settings = load(None, environ)
    assert settings.mqttsn.predefined == {1: "a/b", 2: "c"}
    assert settings.mqttsn.approval


def test_the_version_of_another_broker_may_come_from_the_environment() -> None:
    assert load(None, {}).gateway.mqtt == "auto"
    assert load(None, {"HELIOGRAPH_GATEWAY__MQTT": "3.1.1"}).gateway.mqtt == "3.1.1"


def test_a_port_that_nobody_can_look_for_is_told_by_heliograph_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, '[[serial]]\nport = "tcp://nowhere"')
    assert run_command(["check", str(path)]) == 1
    assert f"{path}:2: serial[1].port: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('[[serial]]\nmode = "text"', 1, 'has no port: add port = "auto"'),
        ('[[serial]]\nport = ""', 2, "heliograph serial ports"),
        ('[[serial]]\nport = "a"\nmode = "txt"', 3, 'write "text"'),
        ('[[serial]]\nport = "a"\nname = "a b"', 3, "letters, digits"),
        ('[[serial]]\nport = "a"\nmode = "text"\nbaud = [1200, 9600]', 4, "write one"),
        ('[[serial]]\nport = "a"\nflow = "rtscts"\nrs485 = true', 3, 'flow = "none"'),
        ('[[serial]]\nport = "a"\npassword = "x"', 3, "without a username"),
        ('[[serial]]\nport = "a"\nmode = "slip"\ntake_files = true', 4, "needs frames"),
        ('[[serial]]\nport = "a"\nlargest_file = "1 GiB"', 3, "lower it"),
        ('[[serial]]\nport = "a"\nprefix = "a/#"', 3, "{port}"),
        ('[[serial]]\nport = "a"\n[[serial]]\nport = "b/a"', 3, "name of its own"),
        ('[[serial]]\nport = "a"\n[[serial]]\nport = "a"', 4, "leave one out"),
        (
            '[mqttsn]\nlisten = "udp://0.0.0.0:0"\n[[serial]]\nport = "a"\nname = "udp"',
            5,
            "a socket of mqttsn.listen",
        ),
        ('[mqttsn]\nlisten = "tcp://0.0.0.0:1"', 2, "udp://0.0.0.0:1884"),
        ('[mqttsn]\nlisten = "udp://0.0.0.0:99999"', 2, "udp://0.0.0.0:1884"),
        ('[mqttsn]\nadvertise_to = "everybody:1"', 2, "255.255.255.255:1884"),
        ('[mqttsn]\npredefined = { "0" = "a" }', 2, "topic id from 1"),
        ('[mqttsn]\npredefined = { "1" = "a/#" }', 2, "is no topic"),
        ('[mqttsn]\npredefined = ["a"]', 2, "not a table"),
        ('[[mqttsn.device]]\nbroker_client_id = ""', 2, "{client_id}"),
        ('[[mqttsn.device]]\npassword = "x"', 2, "without a username"),
        ("[mqttsn]\nt_retri = 3", 2, "t_retry"),
        ('[gateway]\nmqtt = "4"', 2, '"5" or "3.1.1"'),
        ("[gateway]\nmqtt = 5", 2, '"5"'),
    ],
)
def test_a_complaint_says_where_and_what_would_be_right(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load(path)
    problems = [str(problem) for problem in caught.value.problems]
    assert any(told in each and each.startswith(f"{path}:{line}: ") for each in problems), problems


def test_a_port_alone_is_no_place_on_udp() -> None:
    with pytest.raises(ValueError, match=r"udp://0\.0\.0\.0:1884"):
        udp_place("udp://1884")
