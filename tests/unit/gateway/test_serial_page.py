"""docs/serial.md says what the code does: its settings, commands, topics and messages are there."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from pathlib import Path
from unittest.mock import patch

import pytest

from bridges.gateway import (
    command_devices,
    command_gateway,
    command_monitor,
    command_ports,
    command_serial,
)
from bridges.gateway.figures import DEVICE_TOPICS, PORT_TOPICS, STATE_TOPIC, STATES
from bridges.gateway.wire_view import view_of
from bridges.serial.overhearing import Way
from bridges.serial.port_names import Device
from bridges.serial.port_spec import parse_port
from broker.settings import DeviceSettings, MqttSnSettings, SerialSettings, load
from broker.settings.gateway_tables import MODES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "serial.md").read_text()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = FENCE.findall(PAGE)
PROSE = FENCE.sub("", PAGE)
SPANS = re.findall(r"`([^`\n]+)`", PROSE)
OF_OTHER_TABLES = {"level", "sys_interval", "data_dir"}
# What is put together of several texts -> the text of ours in it
PUT_TOGETHER = {
    "what comes means nothing at": "means nothing",
    "there is no USB serial port": "USB serial port",
    "auto stands for": " stands for ",
    "may not be opened: sudo usermod": " may not be opened: ",
    "is damaged; it is now gateway.db.damaged-": "; it is now ",
    "cannot be written: database or disk is full": " cannot be written: ",
}
KEYS = OF_OTHER_TABLES | {
    each.name
    for table in (SerialSettings, MqttSnSettings, DeviceSettings)
    for each in dataclasses.fields(table)
}
COMMANDS = sorted(
    {
        line.strip().removeprefix("$ ").removeprefix(".venv/bin/").partition("    #")[0]
        for line in (*"\n".join(text for _, text in BLOCKS).splitlines(), *SPANS)
        if re.match(r"(\$ )?(\.venv/bin/)?heliograph \w+ \S", line.strip())
    }
)
PARSERS = {
    "ports": command_ports._parser,
    "monitor": command_monitor._parser,
    **{verb: lambda verb=verb: command_devices._parser(verb) for verb in command_devices.VERBS},
}


def section(title: str) -> str:
    """What stands below a heading."""
    return PAGE.partition(f" {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """The first column of all tables."""
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]


def source() -> str:
    """All code, with strings that go on in the next line put together."""
    texts = [
        path.read_text()
        for folder in ("bridges", "broker")
        for path in (ROOT / folder).rglob("*.py")
    ]
    return re.sub(r'["\']\n\s*f?["\']', "", "\n".join(texts))


SOURCE = source()


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "toml"])
def test_the_settings_that_are_shown_are_good(text: str, tmp_path: Path) -> None:
    (tmp_path / "users").touch()
    (tmp_path / "h.toml").write_text(text)
    load(tmp_path / "h.toml", {})


@pytest.mark.parametrize("span", sorted({each for each in SPANS if " = " in each}))
def test_a_setting_in_the_text_is_one_with_a_good_value(span: str, tmp_path: Path) -> None:
    ((key, _),) = tomllib.loads(span).items()
    assert key in KEYS
    if key in OF_OTHER_TABLES:
        return
    is_port = key in {each.name for each in dataclasses.fields(SerialSettings)}
    head = '[[serial]]\nport = "auto"\n' if is_port and key != "port" else "[[serial]]\n"
    text = f"{head if is_port else '[mqttsn]'}\n{span}\n"
    (tmp_path / "h.toml").write_text(text)
    load(tmp_path / "h.toml", {})


@pytest.mark.parametrize(
    "span", sorted({each for each in SPANS if re.fullmatch(r"[a-z]+(_[a-z]+)+", each)})
)
def test_a_name_with_underscores_is_a_setting(span: str) -> None:
    assert span in KEYS | set(DEVICE_TOPICS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_shown_is_understood(command: str) -> None:
    _, first, *rest = shlex.split(command)
    if first == "gateway":
        options = ["--broker", "mqtt://host", *rest]
        command_gateway._parser().parse_args(options)
    elif first == "serial" and rest[0] in PARSERS:
        PARSERS[rest[0]]().parse_args(_with_what_is_left_out(rest))
    elif first == "serial":
        assert rest[0] in command_serial.COMMANDS
    else:
        assert first in {"run", "sub", "check", "passwd"}


def _with_what_is_left_out(words: list[str]) -> list[str]:
    """In running text, a command may stand without its operands."""
    verb, *rest = words
    operands = {"monitor": ["/dev/ttyUSB0"], "reject": ["x"], "forget": ["x"], "reset": ["x"]}
    return rest or operands.get(verb, [])


def test_the_modes_are_those_of_the_settings() -> None:
    modes = first_cells(section("How a device may speak"))[1:]
    assert sorted(modes) == sorted(f"`{mode}`" for mode in MODES if mode != "auto")


def test_the_topics_are_those_that_are_told() -> None:
    ports, _, devices = section("Figures").partition("| Below `mqttsn/")
    told = {f"`{name}`" for name in PORT_TOPICS}
    named = [
        each
        for cell in first_cells(ports.partition("| Below `serial")[2])
        for each in cell.split(", ")
    ]
    assert sorted(named) == sorted(told)
    cells = first_cells(devices)
    named = [each for cell in cells for each in cell.split(", ") if each[1:-1] in DEVICE_TOPICS]
    assert sorted(named) == sorted(f"`{name}`" for name in DEVICE_TOPICS)
    assert all(f"`{state}`" in devices for state in STATES)
    assert f"`{STATE_TOPIC}`" in cells


def test_the_forms_of_a_port_can_be_read() -> None:
    spans = re.findall(r'`"(.*?)"`', "\n".join(first_cells(section("Which port"))))
    assert len(spans) > 5
    for span in spans:
        parse_port(span.replace("...", "1"))


def test_the_ports_are_printed_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    shown = next(text for _, text in BLOCKS if text.startswith("$ heliograph serial ports"))
    by_id = re.findall(r'port = "(.*)"', shown)
    uno = Device("/dev/ttyACM0", by_id[0], 0x2341, 0x43, "75830303934351618212", "Arduino Uno")
    clone = Device("/dev/ttyUSB0", by_id[1], 0x1A86, 0x7523, "", "USB2.0-Serial")
    hint = "sudo usermod -aG dialout pi, then log in again (a service: restart it)"
    with (
        patch.object(command_ports, "devices", lambda: [uno, clone]),
        patch.object(command_ports, "permission_hint", lambda _: hint),
        patch.object(command_ports.os, "access", lambda path, _: path == "/dev/ttyACM0"),
    ):
        command_ports.main([])
    assert capsys.readouterr().out == shown.partition("\n")[2]


def messages() -> list[str]:
    """What the table of troubles quotes, without what stands for something else."""
    cells = first_cells(section("When something is wrong"))[1:]
    quoted = [each for cell in cells for each in re.findall(r"`([^`]+)`", cell)]
    parts = [part.strip(" '") for each in quoted for part in re.split(r"\.\.\.|'dev'", each)]
    return [part for part in parts if " " in part and not part.startswith("heliograph")]


@pytest.mark.parametrize("message", messages())
def test_a_message_in_the_table_of_troubles_is_one_of_ours(message: str) -> None:
    assert PUT_TOGETHER.get(message, message) in SOURCE


def test_links_within_the_page_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in titles}
    assert set(re.findall(r"\(#([a-z0-9-]+)\)", PAGE)) <= anchors


def test_the_monitor_shows_what_the_page_shows() -> None:
    shown = next(text for _, text in BLOCKS if text.startswith("$ heliograph serial monitor"))
    view = view_of("auto")
    wire = b"\x0a\x04\x04\x01\x00\x3cdev1" + b"\x0b\x0c\x02t1\x00\x0021.5"
    lines = [f"{each.way.value} {each.text}" for each in view.see(Way.FROM_DEVICE, wire, 0.0)]
    assert [line.partition(" ")[2] for line in shown.splitlines()[2:]] == lines
