"""The files in configs/ are good, and heliograph.toml tells the truth about the defaults."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from broker.cli import run_command
from broker.settings import (
    DEVICE,
    DURABILITY,
    LISTENER,
    LISTS,
    QUEUE,
    ROUTE,
    RULES,
    SECTIONS,
    SERIAL,
    TOKEN,
    DeviceSettings,
    QueueSettings,
    SerialSettings,
    Settings,
    load,
)

CONFIGS = Path(__file__).parents[3] / "configs"
FILES_THEY_NAME = ("server.crt", "server.key", "devices-ca.crt", "users")


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """The folder as a person has it who made the certificates and the password file."""
    folder = tmp_path / "configs"
    shutil.copytree(CONFIGS, folder)
    for name in FILES_THEY_NAME:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.toml")))
def test_each_file_is_good(configs: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", str(configs / name)]) == 0
    assert "good" in capsys.readouterr().out


def test_the_full_file_has_every_key_there_is() -> None:
    document = tomllib.loads((CONFIGS / "heliograph.toml").read_text(encoding="utf-8"))
    written = {name: list(table) for name, table in document.items() if name not in LISTS}
    assert written == {name: list(RULES[name]) for name in SECTIONS}
    assert list(document[LISTENER][0]) == list(RULES[LISTENER])


def test_the_full_file_says_the_defaults(configs: Path) -> None:
    settings = load(configs / "heliograph.toml")
    default = Settings()
    assert settings.broker.data_dir == configs / default.broker.data_dir
    assert settings.limits == default.limits
    assert settings.auth == default.auth
    assert settings.log == default.log
    assert settings.store == default.store
    assert settings.durability == default.durability
    assert settings.queues == default.queues
    assert settings.http == default.http
    assert settings.mqttsn == default.mqttsn
    assert settings.gateway == default.gateway
    for key in set(RULES["broker"]) - {"data_dir"}:
        assert getattr(settings.broker, key) == getattr(default.broker, key), key
    assert settings.listeners[: len(default.listeners)] == default.listeners


def shown_in_comments() -> dict[str, str]:
    """The list entries that the full file shows, each as TOML."""
    text = (CONFIGS / "heliograph.toml").read_text(encoding="utf-8")
    found = re.findall(r"^# \[\[([\w.]+)\]\]\n((?:# .*\n)+)", text, re.MULTILINE)
    return {name: re.sub("^# ", "", body, flags=re.MULTILINE) for name, body in found}


def test_the_full_file_shows_an_entry_of_every_list_with_every_key() -> None:
    shown = {name: list(tomllib.loads(text)) for name, text in shown_in_comments().items()}
    lists = set(LISTS) - {LISTENER}
    assert shown == {name: list(RULES[name]) for name in lists}


@pytest.mark.parametrize("name", [DURABILITY, TOKEN])
def test_an_entry_that_the_full_file_shows_is_good(tmp_path: Path, name: str) -> None:
    path = tmp_path / "shown.toml"
    text = f'[http]\nlisten = "[::1]:1"\n[[{name}]]\n{shown_in_comments()[name]}'
    path.write_text(text, encoding="utf-8")
    settings = load(path)
    assert len(settings.durability) + len(settings.http.tokens) == 1


def test_the_queue_and_the_rule_that_the_full_file_shows_are_good_together(tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    shown = shown_in_comments()
    path.write_text(f"[[queue]]\n{shown[QUEUE]}[[route]]\n{shown[ROUTE]}", encoding="utf-8")
    settings = load(path)
    (queue,), (route,) = settings.defined_queues, settings.routes
    assert queue == QueueSettings("work")
    assert route.targets == ("work",)


def test_the_port_and_the_device_that_the_full_file_shows_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    shown = shown_in_comments()
    path.write_text(f"[[serial]]\n{shown[SERIAL]}[[mqttsn.device]]\n{shown[DEVICE]}")
    settings = load(path)
    assert settings.serial == (SerialSettings("auto"),)
    assert settings.mqttsn.devices == (DeviceSettings(),)


def test_the_file_for_queues_keys_telemetry_by_device_and_sorts_out_alarms() -> None:
    settings = load(CONFIGS / "queues.toml")
    orders = {queue.name: queue.order for queue in settings.defined_queues}
    assert orders == {"telemetry": "key", "alarms": "fifo"}
    assert {route.queue: route.key for route in settings.routes} == {
        ("telemetry",): "topic:4",
        ("alarms",): "topic:4",
    }
    assert settings.http.address == ("127.0.0.1", 8180)
    assert settings.has_store


def test_the_raspberry_pi_keeps_alarms_strict_and_telemetry_relaxed() -> None:
    settings = load(CONFIGS / "raspberry-pi.toml")
    assert settings.store.level == "commit"
    assert {rule.filter: rule.level for rule in settings.durability} == {
        "alarms/#": "strict",
        "commands/#": "strict",
        "telemetry/#": "relaxed",
    }


def test_the_postgresql_file_is_strict_and_holds_no_password() -> None:
    store = load(CONFIGS / "postgresql.toml").store
    assert store.level == "strict"
    assert store.url.startswith("postgresql://")
    assert store.shown_url == store.url
