"""What may stand in a query string or a JSON body: data that both reads it and describes it.

Each kind reads what was sent and gives its JSON schema, so the document cannot promise what is not
kept. What is wrong is told with what would be right (ValueError).
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bridges.queues.backend import MOST_AT_ONCE
from bridges.queues.local import LONGEST_TEXT, LONGEST_TIME
from broker.queues.names import LONGEST, is_queue_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LARGEST_NUMBER = 2**63 - 1
LONGEST_RECEIPT = 40
FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Kind(Protocol):
    """What a field may hold."""

    def read(self, value: object) -> Any:
        """The value from JSON."""
        ...

    def read_text(self, text: str) -> Any:
        """The value from a query string."""
        ...

    def schema(self) -> dict[str, Any]:
        """As JSON Schema says it."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number."""

    low: int
    high: int

    def read(self, value: object) -> int:
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        ):
            return value
        raise ValueError(f"write a whole number from {self.low} to {self.high}")

    def read_text(self, text: str) -> int:
        is_number = text.isascii() and text.isdigit() and len(text) < 20
        return self.read(int(text) if is_number else text)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Seconds:
    """A duration."""

    low: float = 0.0
    high: float = LONGEST_TIME

    def read(self, value: object) -> float:
        is_flag = isinstance(value, bool)
        if isinstance(value, int | float) and not is_flag and self.low <= value <= self.high:
            return float(value)
        raise ValueError(f"write seconds from {self.low:g} to {self.high:.10g}")

    def read_text(self, text: str) -> float:
        try:
            value = float(text) if len(text) <= 30 else math.nan
        except ValueError:
            value = math.nan
        return self.read(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Text:
    """Any text that the databases and MQTT can keep; `longest` in bytes."""

    longest: int = LONGEST_TEXT

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("write a text")
        if len(encoded(value)) > self.longest or "\0" in value:
            raise ValueError(f"write at most {self.longest} bytes, without U+0000")
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.longest}


@dataclass(frozen=True, slots=True)
class QueueName:
    """The name of a queue."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not is_queue_name(value):
            raise ValueError(f"write 1 to {LONGEST} letters, digits, _ . : and -, no dot in front")
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}$"}


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError("write true or false")
        return value

    def read_text(self, text: str) -> bool:
        return self.read(FLAGS.get(text.lower(), text))

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class AnyText:
    """A payload as text."""

    def read(self, value: object) -> bytes:
        if not isinstance(value, str):
            raise ValueError("write a text, or send bytes as payload_base64 and JSON as json")
        return encoded(value)

    def read_text(self, text: str) -> bytes:
        return self.read(text)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


@dataclass(frozen=True, slots=True)
class Base64:
    """A payload of any bytes."""

    def read(self, value: object) -> bytes:
        try:
            return base64.b64decode(value, validate=True)  # type: ignore[arg-type]
        except (binascii.Error, TypeError, ValueError):
            raise ValueError("write base64, with its padding") from None

    def read_text(self, text: str) -> bytes:
        return self.read(text)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64"}


@dataclass(frozen=True, slots=True)
class AnyJson:
    """Any JSON value."""

    def read(self, value: object) -> Any:
        return value

    def read_text(self, text: str) -> Any:
        return text

    def schema(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of `least` to `most`."""

    kind: Kind
    least: int = 1
    most: int = MOST_AT_ONCE

    def read(self, value: object) -> list[Any]:
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise ValueError(f"write a list of {self.least} to {self.most}")
        return [self.kind.read(each) for each in value]

    def read_text(self, text: str) -> list[Any]:
        return self.read([self.kind.read_text(each) for each in text.split(",")])

    def schema(self) -> dict[str, Any]:
        bounds = {"minItems": self.least, "maxItems": self.most}
        return {"type": "array", "items": self.kind.schema(), **bounds}


@dataclass(frozen=True, slots=True)
class Names:
    """Texts by names."""

    most: int = 100

    def read(self, value: object) -> dict[str, str]:
        if not isinstance(value, dict) or len(value) > self.most:
            raise ValueError(f"write an object with at most {self.most} texts")
        return {Text().read(name): Text().read(text) for name, text in value.items()}

    def read_text(self, text: str) -> dict[str, str]:
        return self.read(text)

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": "string"}}


@dataclass(frozen=True, slots=True)
class Field:
    """One name, what it holds, and for whom it is. What is not sent is not there."""

    name: str
    kind: Kind
    about: str
    needed: bool = False


def read_query(fields: Sequence[Field], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What a query string says; raises ValueError."""
    given = dict(pairs)
    if len(given) != len(pairs):
        raise ValueError("a name stands twice in the query: write each once")
    return _read(fields, given, "read_text", "the query")


def read_object(fields: Sequence[Field], value: object) -> dict[str, Any]:
    """What a JSON body says; raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError("the body is not a JSON object: write {...}")
    return _read(fields, value, "read", "the body")


def schema_of(fields: Sequence[Field]) -> dict[str, Any]:
    """The JSON schema of an object with these fields."""
    shapes = {each.name: {**each.kind.schema(), "description": each.about} for each in fields}
    needed = [each.name for each in fields if each.needed]
    schema = {"type": "object", "properties": shapes, "additionalProperties": False}
    return {**schema, "required": needed} if needed else schema


def encoded(text: str) -> bytes:
    """UTF-8; raises ValueError for half a surrogate pair, which JSON can hold."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("write whole characters: there is half of a surrogate pair") from None


def _read(
    fields: Sequence[Field], given: Mapping[str, Any], how: str, where: str
) -> dict[str, Any]:
    known = {each.name: each for each in fields}
    for name in given:
        if name not in known:
            names = ", ".join(known) or "nothing"
            raise ValueError(f"{where} has {name[:60]!r}, which is not known here: {names}")
    values = {}
    for name, field in known.items():
        if name in given:
            values[name] = _read_field(field, given[name], how, where)
        elif field.needed:
            raise ValueError(f"{where} has no {name!r}: {field.about}")
    return values


def _read_field(field: Field, value: object, how: str, where: str) -> Any:
    try:
        return getattr(field.kind, how)(value)
    except ValueError as error:
        raise ValueError(f"{field.name} in {where}: {error}") from None
