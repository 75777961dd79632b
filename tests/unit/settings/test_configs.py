"""The files in configs/ are good, and heliograph.toml tells the truth about the defaults."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from broker.cli import run_command
from broker.settings import DURABILITY, LISTENER, LISTS, RULES, SECTIONS, Settings, load

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
    for key in set(RULES["broker"]) - {"data_dir"}:
        assert getattr(settings.broker, key) == getattr(default.broker, key), key
    assert settings.listeners[: len(default.listeners)] == default.listeners


def test_the_rule_that_the_full_file_shows_in_a_comment_is_good_and_has_every_key(
    tmp_path: Path,
) -> None:
    text = (CONFIGS / "heliograph.toml").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^# \[\[durability\]\]\n(?:# \w+ = .*\n)+", text, re.MULTILINE)
    path = tmp_path / "shown.toml"
    path.write_text(re.sub("^# ", "", shown, flags=re.MULTILINE), encoding="utf-8")
    assert list(tomllib.loads(path.read_text(encoding="utf-8"))[DURABILITY][0]) == list(
        RULES[DURABILITY]
    )
    assert len(load(path).durability) == 1


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
