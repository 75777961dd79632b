"""`heliograph explain route`: each rule's answer, and where the message goes."""

import json
from pathlib import Path
from typing import Any

import pytest

from broker.cli import run_command

SETTINGS = """
[[queue]]
name = "telemetry"
[[queue]]
name = "alarms"
[[queue]]
name = "left"
[[queue]]
name = "right"

[[route]]
name = "alarm"
topic = "site/+/dev/+/telemetry"
when = "payload.temperature > 60"
queue = "alarms"
key = "topic:4"
priority = 9
delay = "json:wait"

[[route]]
name = "urgent"
topic = "site/#"
when = 'properties.urgent == "yes" and qos == 2'
queues = ["alarms", "telemetry"]
last = true

[[route]]
name = "all"
topic = "site/#"
queue = "telemetry"

[[route]]
name = "left"
topic = "shared/+"
queue = "left"
share = 50
split = "s"

[[route]]
name = "right"
topic = "shared/+"
queue = "right"
share = 50
split = "s"

[[route]]
name = "tell"
from_queue = "alarms"
when = "payload.temperature > 80"
publish_to = "alarm/{key}"
"""
TOPIC = "site/1/dev/7/telemetry"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "f.toml"
    path.write_text(SETTINGS, encoding="utf-8")
    return path


def asked(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run_command(["explain", "route", "-c", str(config), *arguments])
    return code, capsys.readouterr().out


def asked_for_json(
    config: Path, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, dict[str, Any]]:
    code, text = asked(config, capsys, *arguments, "--json")
    return code, json.loads(text)


def test_it_says_which_rules_take_a_message_and_where_it_goes(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = '{"temperature": 72, "wait": 5}'
    code, text = asked(config, capsys, "--topic", TOPIC, "--payload", payload)
    assert code == 0
    assert text.splitlines() == [
        "yes alarm",
        "      payload.temperature > 60 is true",
        "      payload.temperature: 72",
        "no  urgent",
        '      properties.urgent == "yes" and qos == 2 is false',
        "      properties.urgent: there is no field urgent",
        "      qos: 1",
        "yes all",
        "no  left",
        "      the topic does not match shared/+",
        "no  right",
        "      the topic does not match shared/+",
        "",
        f"A message to {TOPIC} goes to:",
        '  queue alarms (key "7", priority 9, after 5 s, by alarm)',
        "    no  tell",
        "          payload.temperature > 80 is false",
        "          payload.temperature: 72",
        "    From alarms it goes nowhere: it is left in this queue.",
        "  queue telemetry (no key, priority 4, by all)",
    ]


def test_it_follows_a_message_out_of_a_queue(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = '{"temperature": 90, "wait": 5}'
    code, said = asked_for_json(config, capsys, "--topic", TOPIC, "--payload", payload)
    assert code == 0
    assert said["onward"]["alarms"]["publish_to"] == ["alarm/7"]


def test_it_says_what_cannot_be_taken_from_the_message(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, said = asked_for_json(config, capsys, "-t", TOPIC, "-p", '{"temperature": 72}')
    assert (
        "delay cannot be taken from the message: there is no field wait" in said["rules"][0]["why"]
    )
    _, said = asked_for_json(config, capsys, "-t", TOPIC, "-p", "hot")
    (condition, _) = said["rules"][0]["why"][:2]
    assert condition.endswith("is false, as it cannot be said: there is no field temperature")


def test_it_says_which_earlier_rule_decides(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-t", TOPIC, "-p", '{"temperature": 72, "wait": 1}', "-q", "2"]
    _, said = asked_for_json(config, capsys, *arguments, "--property", "urgent=yes")
    urgent, everything = said["rules"][1:3]
    assert 'queue alarms: the earlier rule "alarm" decides' in urgent["why"]
    assert everything["why"] == ['not asked: the rule "urgent" says last = true']
    assert [(each["queue"], each["rule"]) for each in said["queues"]] == [
        ("alarms", "alarm"),
        ("telemetry", "urgent"),
    ]


def test_of_a_split_one_takes_the_message_and_the_other_says_why_not(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, said = asked_for_json(config, capsys, "-t", "shared/x", "-p", "1")
    left, right = said["rules"][3:5]
    assert left["takes"] is not right["takes"]
    assert 'its share is 0 to 49 of "s"; this message stands at' in left["why"][0]
    assert 'its share is 50 to 99 of "s"; this message stands at' in right["why"][0]


def test_a_payload_may_be_a_file(
    config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "payload"
    file.write_bytes(b'{"temperature": 61}')
    _, said = asked_for_json(config, capsys, "-t", TOPIC, "--payload-file", str(file))
    assert said["rules"][0]["takes"]


def test_nowhere_is_exit_code_1(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = asked(config, capsys, "-t", "x")
    assert code == 1
    assert text.endswith("A message to x goes nowhere: it is only for those who subscribe.\n")
    assert run_command(["explain", "route", "-t", "x"]) == 1
    assert "add a [[route]]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["-t", "a/+"], "without + and #"),
        (["-t", ""], "without + and #"),
        (["-t", "x", "--property", "a"], "write NAME=VALUE"),
        (["-t", "x", "--payload-file", "/no/such"], "/no/such"),
        (["-t", "x", "-c", "/no/such.toml"], "cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_exit_code_2(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["explain", "route", *arguments]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["queue"], ["route"], ["route", "-t", "x", "-q", "3"]])
def test_bad_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(["explain", *arguments])
    assert caught.value.code == 2
    assert "usage: heliograph explain" in capsys.readouterr().err
