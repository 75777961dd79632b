"""`heliograph explain route`: what the rules of a settings file do with a message, and why.

The message is made up on the command line; no broker has to run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bridges.queues.explain import Explanation, explain
from bridges.queues.routes import Rules
from bridges.queues.subject import Subject
from broker.packets.errors import ProtocolViolation
from broker.packets.properties import Properties, Property
from broker.packets.publication import PUBLISH, travelling_properties
from broker.settings import SettingsError, load
from broker.topics.filters import check_topic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from broker.queues.entry import Entry

SOMEWHERE, NOWHERE, USAGE = 0, 1, 2
MARKS = {True: "yes", False: "no "}


def main(arguments: Sequence[str]) -> int:
    """0: the message goes into a queue, 1: into none, 2: the question could not be understood."""
    options = _parser().parse_args(arguments)
    try:
        settings = load(options.config, os.environ)
        rules = Rules.compile(settings.routes, settings.defined_queues)
        explanation = explain(rules, _subject(options, settings.limits.max_topic_levels))
    except (SettingsError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return USAGE
    if options.json:
        print(json.dumps(explanation.as_json(), indent=2))
    else:
        print("\n".join(_lines(explanation, options.topic)))
    return SOMEWHERE if explanation.entries else NOWHERE


def _subject(options: argparse.Namespace, max_levels: int) -> Subject:
    """Raises ValueError that says what would be right."""
    try:
        check_topic(options.topic, max_levels)
    except ProtocolViolation as error:
        wrong = "is not a topic to publish to: write one without + and #, such as site/1/dev/7"
        raise ValueError(f'--topic "{options.topic}" {wrong}') from error
    file: Path | None = options.payload_file
    payload = os.fsencode(options.payload) if file is None else file.read_bytes()
    first = PUBLISH | options.qos << 1 | options.retain
    return Subject(options.topic, payload, first, _properties(options), options.client)


def _properties(options: argparse.Namespace) -> bytes:
    properties: Properties = {}
    if options.content_type is not None:
        properties[Property.CONTENT_TYPE] = options.content_type
    if options.property:
        properties[Property.USER_PROPERTY] = [_pair(text) for text in options.property]
    return travelling_properties(properties)


def _pair(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise ValueError(f'--property "{text}" has no "=": write NAME=VALUE')
    return name, value


# ---- what is printed ----


def _lines(explanation: Explanation, topic: str) -> Iterator[str]:
    if not explanation.steps:
        yield "There are no rules: add a [[route]] to a settings file, and name it with -c FILE."
        return
    yield from _steps(explanation, "")
    yield ""
    yield from _outcome(explanation, f"A message to {topic}", "")


def _steps(explanation: Explanation, indent: str) -> Iterator[str]:
    for step in explanation.steps:
        yield f"{indent}{MARKS[step.takes]} {step.rule}"
        for sentence in step.why:
            yield f"{indent}      {sentence}"


def _outcome(explanation: Explanation, what: str, indent: str) -> Iterator[str]:
    if not explanation.entries and not explanation.topics:
        yield f"{indent}{what} goes nowhere: it is {'' if indent else 'only '}{_fate(indent)}."
        return
    yield f"{indent}{what} goes to:"
    for entry in explanation.entries:
        yield f"{indent}  queue {entry.queue} ({_details(entry)})"
        yield from _further(explanation, entry, f"{indent}    ")
    for topic in explanation.topics:
        yield f"{indent}  topic {topic}"


def _fate(indent: str) -> str:
    return "left in this queue" if indent else "for those who subscribe"


def _further(explanation: Explanation, entry: Entry, indent: str) -> Iterator[str]:
    onward = explanation.onward.get(entry.queue)
    if onward is not None:
        yield from _steps(onward, indent)
        yield from _outcome(onward, f"From {entry.queue} it", indent)


def _details(entry: Entry) -> str:
    parts = ["no key" if entry.key is None else f'key "{entry.key}"', f"priority {entry.priority}"]
    if entry.delay:
        parts.append(f"after {entry.delay:g} s")
    if entry.ttl is not None:
        parts.append(f"for {entry.ttl:g} s")
    if entry.dedup_id is not None:
        parts.append(f'dedup_id "{entry.dedup_id}"')
    return ", ".join([*parts, f"by {entry.why}"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heliograph explain",
        description="Say for each rule whether it takes a message, and why not, and into which "
        "queues the message goes. Exit code 0: into at least one, 1: into none, 2: this could not "
        "be asked.",
    )
    parser.add_argument("what", choices=["route"], help="what to explain")
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="settings file (TOML)")
    parser.add_argument("-t", "--topic", required=True, help="the topic it is published to")
    payload = parser.add_mutually_exclusive_group()
    payload.add_argument("-p", "--payload", default="", metavar="TEXT", help="the message")
    payload.add_argument("-f", "--payload-file", metavar="FILE", type=Path, help="or a file of it")
    parser.add_argument(
        "--property",
        action="append",
        metavar="NAME=VALUE",
        help="a user property (MQTT 5); may be given several times",
    )
    parser.add_argument("--content-type", metavar="TEXT", help="its content type (MQTT 5)")
    parser.add_argument("-q", "--qos", type=int, choices=(0, 1, 2), default=1, help="1 if not said")
    parser.add_argument("--retain", action="store_true", help="with the RETAIN flag")
    parser.add_argument("--client", default="", metavar="ID", help="who publishes it")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    return parser
