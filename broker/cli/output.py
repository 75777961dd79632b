"""How `heliograph sub` prints a message: mosquitto_sub's -F formats, compiled once.

A format becomes a list of functions from a message and its time of arrival to bytes. The table has
mosquitto's letters; `%j` and `%J` make one line of JSON, in which the user properties are a list of
pairs, because their order and their repetitions mean something.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from broker.cli.options import UsageError
from broker.packets.properties import Property
from broker.packets.types import Publish

NANOSECONDS = 1_000_000_000

Piece = Callable[[Publish, int], bytes]  # message, arrival in ns since 1970 -> what to print


def compile_format(text: str) -> Callable[[Publish, int], bytes]:
    """A function that prints messages in this format. Raises UsageError."""
    pieces = _pieces(text)

    def render(message: Publish, arrival: int) -> bytes:
        return b"".join([piece(message, arrival) for piece in pieces])

    return render


def default_format(verbose: bool) -> Callable[[Publish, int], bytes]:
    """The payload, or with `verbose` the topic and the payload."""
    return _verbose if verbose else _payload


def _verbose(message: Publish, _: int) -> bytes:
    return message.topic.encode() + b" " + (message.payload or b"(null)")


def _payload(message: Publish, _: int) -> bytes:
    return message.payload


def _property(identifier: Property) -> Piece:
    def render(message: Publish, _: int) -> bytes:
        value = message.properties.get(identifier, b"")
        return value if isinstance(value, bytes) else str(value).encode()

    return render


def _user_properties(message: Publish, _: int) -> bytes:
    pairs = message.properties.get(Property.USER_PROPERTY, [])
    return " ".join(f"{name}:{value}" for name, value in pairs).encode()


def _subscription_identifiers(message: Publish, _: int) -> bytes:
    numbers = message.properties.get(Property.SUBSCRIPTION_IDENTIFIER, [])
    return " ".join(map(str, numbers)).encode()


def _unix_time(_: Publish, arrival: int) -> bytes:
    return b"%d.%09d" % divmod(arrival, NANOSECONDS)


def _time(pattern: str) -> Piece:
    def render(_: Publish, arrival: int) -> bytes:
        return local_time(arrival).strftime(pattern).encode()

    return render


def local_time(arrival: int) -> datetime:
    """Nanoseconds since 1970 as local time."""
    seconds, nanoseconds = divmod(arrival, NANOSECONDS)
    return (
        datetime.fromtimestamp(seconds, UTC).astimezone().replace(microsecond=nanoseconds // 1000)
    )


def _json_text(message: Publish, arrival: int) -> bytes:
    return _json(message, arrival, message.payload.decode(errors="replace"))


def _json_nested(message: Publish, arrival: int) -> bytes:
    try:
        return _json(message, arrival, json.loads(message.payload))
    except ValueError:  # not JSON: better as a text than not at all
        return _json_text(message, arrival)


def _json(message: Publish, arrival: int, payload: Any) -> bytes:
    record: dict[str, Any] = {
        "tst": local_time(arrival).strftime("%Y-%m-%dT%H:%M:%S.%f%z"),
        "topic": message.topic,
        "qos": message.qos,
        "retain": int(message.retain),
        "payloadlen": len(message.payload),
    }
    if message.qos:
        record["mid"] = message.packet_id
    if message.properties:
        record["properties"] = _json_properties(message)
    record["payload"] = payload
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _json_properties(message: Publish) -> dict[str, Any]:
    named = {
        Property(identifier).name.lower().replace("_", "-"): (
            value.decode(errors="replace") if isinstance(value, bytes) else value
        )
        for identifier, value in message.properties.items()
    }
    if "user-property" in named:
        named["user-properties"] = named.pop("user-property")
    return named


SPECIFIERS: dict[str, Piece] = {
    "%": lambda _, __: b"%",
    "A": _property(Property.TOPIC_ALIAS),
    "C": _property(Property.CONTENT_TYPE),
    "D": _property(Property.CORRELATION_DATA),
    "E": _property(Property.MESSAGE_EXPIRY_INTERVAL),
    "F": _property(Property.PAYLOAD_FORMAT_INDICATOR),
    "I": _time("%Y-%m-%dT%H:%M:%S%z"),
    "J": _json_nested,
    "P": _user_properties,
    "R": _property(Property.RESPONSE_TOPIC),
    "S": _subscription_identifiers,
    "U": _unix_time,
    "X": lambda message, _: message.payload.hex().upper().encode(),
    "j": _json_text,
    "l": lambda message, _: b"%d" % len(message.payload),
    "m": lambda message, _: b"%d" % message.packet_id,
    "p": _payload,
    "q": lambda message, _: b"%d" % message.qos,
    "r": lambda message, _: b"%d" % message.retain,
    "t": lambda message, _: message.topic.encode(),
    "x": lambda message, _: message.payload.hex().encode(),
}

ESCAPES = {
    "\\": b"\\",
    "0": b"\0",
    "a": b"\a",
    "e": b"\033",
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "v": b"\v",
}


def _pieces(text: str) -> Sequence[Piece]:
    """Cut a format at its %, @ and \\, each of which says what the next letter means."""
    pieces = []
    letters = iter(text)
    for letter in letters:
        read = MARKS.get(letter)
        pieces.append(_literal(letter.encode()) if read is None else read(next(letters, "")))
    return pieces


def _specifier(letter: str) -> Piece:
    if letter not in SPECIFIERS:
        raise UsageError(f'-F: there is no "%{letter}"; there are {" ".join(SPECIFIERS)}')
    return SPECIFIERS[letter]


def _strftime(letter: str) -> Piece:
    """`@Y` is strftime's %Y; `@@` an at sign; `@N` the nanoseconds."""
    if letter == "@":
        return _literal(b"@")
    if letter == "N":
        return lambda _, arrival: b"%09d" % (arrival % NANOSECONDS)
    if not letter.isalpha():
        raise UsageError(f'-F: "@{letter}" is no part of a time; try @H:@M:@S')
    return _time(f"%{letter}")


def _escape(letter: str) -> Piece:
    if letter not in ESCAPES:
        raise UsageError(f'-F: there is no "\\{letter}"; there are {" ".join(ESCAPES)}')
    return _literal(ESCAPES[letter])


def _literal(data: bytes) -> Piece:
    return lambda _, __: data


MARKS: dict[str, Callable[[str], Piece]] = {"%": _specifier, "@": _strftime, "\\": _escape}
