"""The rules of what concerns queues: names, where a value comes from, tokens."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from broker.settings.rules import Rule
from broker.settings.words import did_you_mean, show

LONGEST_CONDITION = 4096  # characters
SOURCES = ("topic", "property", "json", "client")  # what a value may be taken from
GOOD_SOURCE = (
    'write "topic" (the whole topic), "topic:4" (its fourth level), "property:device" (a user '
    'property), "json:device.id" (a field of the payload) or "client" (who published it)'
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number, whole or not, from `low` to `high`."""

    low: float
    high: float

    def read(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{show(value)} is not a number: {self._good()}")
        if not self.low <= value <= self.high:
            raise ValueError(f"{show(value)} is out of range: {self._good()}")
        return float(value)

    def read_text(self, text: str) -> float:
        try:
            return self.read(float(text))
        except ValueError as error:
            raise ValueError(f"{show(text)} is not good here: {self._good()}") from error

    def _good(self) -> str:
        return f"write a number from {self.low:g} to {self.high:g}, such as 0.5"


@dataclass(frozen=True, slots=True)
class Matching:
    """A text of a certain form; `empty`: or none."""

    form: re.Pattern[str]
    what: str
    good: str
    empty: bool = True

    def read(self, value: object) -> str:
        if isinstance(value, str) and (self.form.fullmatch(value) or (self.empty and not value)):
            return value
        raise ValueError(f"{show(value)} is not {self.what}: {self.good}")

    def read_text(self, text: str) -> str:
        return self.read(text)


def queue_name(empty: bool = False) -> Matching:
    """The name of a queue."""
    good = "write 1 to 128 letters, digits, _ . : and -, with no dot in front"
    return Matching(
        re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}"), "a queue's name", good, empty
    )


def queue_pattern() -> Matching:
    """Names of queues, with `*` for any characters."""
    good = 'write a name such as "telemetry", or one with * for any characters: "site-*"'
    return Matching(re.compile(r"[A-Za-z0-9_.:*-]{1,128}"), "a pattern of names", good, False)


def schema_name() -> Matching:
    """A schema of PostgreSQL."""
    good = 'write small letters, digits and _, at most 63, such as "broker_1"; "" for the default'
    return Matching(re.compile(r"[a-z_][a-z0-9_]{0,62}"), "a schema's name", good)


def token_hash() -> Matching:
    """SHA-256 of a token, in hexadecimal."""
    good = "write the 64 digits that `printf %s TOKEN | sha256sum` prints"
    return Matching(re.compile(r"[0-9a-fA-F]{64}"), "a SHA-256", good, False)


def publish_topic() -> Matching:
    """Where a rule publishes: a topic with placeholders."""
    good = (
        'write a topic such as "alarms/{3}", without +, # and a $ in front; {3} is the third level '
        "of the message's topic, {key} its key, {client} its publisher"
    )
    form = r"(?!\$)(?:[^\x00-\x1f{}+#]|\{(?:[1-9]\d{0,2}|key|client)\}){1,1000}"
    return Matching(re.compile(form), "a topic to publish to", good, False)


@dataclass(frozen=True, slots=True)
class Several:
    """One of something, or a list of them."""

    each: Rule

    def read(self, value: object) -> tuple[object, ...]:
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(dict.fromkeys(self.each.read(one) for one in values))

    def read_text(self, text: str) -> tuple[object, ...]:
        return self.read(text.split())


@dataclass(frozen=True, slots=True)
class Words:
    """Some words of a few."""

    words: tuple[str, ...]

    def read(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"{show(value)} is not a list: write {self._good()}")
        for word in value:
            if word not in self.words:
                known = did_you_mean(str(word), self.words)
                raise ValueError(f"{show(word)} is not known here: {known}")
        return tuple(dict.fromkeys(value))

    def read_text(self, text: str) -> tuple[str, ...]:
        return self.read(text.split())

    def _good(self) -> str:
        return "[" + ", ".join(f'"{word}"' for word in self.words) + "], or some of them"


@dataclass(frozen=True, slots=True)
class Source:
    """What of a message a value is taken from; empty: nothing."""

    def read(self, value: object) -> str:
        if value == "":
            return ""
        if not isinstance(value, str) or not _is_source(value):
            raise ValueError(f"{show(value)} cannot be taken from a message: {GOOD_SOURCE}")
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)


def _is_source(text: str) -> bool:
    kind, mark, detail = text.partition(":")
    if kind == "client" or (kind == "topic" and not mark):
        return not mark
    if kind == "topic":
        return re.fullmatch(r"[1-9]\d{0,4}", detail, re.ASCII) is not None
    return kind in SOURCES and 0 < len(detail) <= 1000 and detail.isprintable()


@dataclass(frozen=True, slots=True)
class OrSource:
    """A value, or what of a message it is taken from; empty: not said."""

    rule: Rule

    def read(self, value: object) -> object:
        if value == "":
            return ""
        if isinstance(value, str) and value.partition(":")[0] in SOURCES:
            return Source().read(value)
        try:
            return self.rule.read(value)
        except ValueError as error:
            raise ValueError(f'{error}, or take it from the message: "json:FIELD"') from error

    def read_text(self, text: str) -> object:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class Condition:
    """An expression; what is in it is checked by whoever evaluates it."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > LONGEST_CONDITION:
            raise ValueError(
                f'this is not a condition: write one such as "payload.temperature > 60", '
                f"at most {LONGEST_CONDITION} characters"
            )
        return value.strip()

    def read_text(self, text: str) -> str:
        return self.read(text)


class HostPort(NamedTuple):
    """Where to listen."""

    host: str
    port: int


def host_port(text: str) -> HostPort:
    """The parts of "127.0.0.1:8180" or "[::1]:8180". Raises ValueError."""
    parts = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\s\[\]:/]+):(\d{1,5})", text, re.ASCII)
    if parts is None or int(parts[2]) > 65_535:
        good = 'write an address and a port, such as "127.0.0.1:8180" or "[::1]:8180"; "" for none'
        raise ValueError(f"{show(text)} is not a place to listen: {good}")
    return HostPort(parts[1].strip("[]"), int(parts[2]))


@dataclass(frozen=True, slots=True)
class Listen:
    """An address and a port; empty: none."""

    def read(self, value: object) -> str:
        text = value if isinstance(value, str) else str(value)
        if text:
            host_port(text)
        return text

    def read_text(self, text: str) -> str:
        return self.read(text)
