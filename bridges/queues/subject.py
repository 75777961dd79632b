"""A message as rules look at it: everything is decoded when a rule first asks, and once at most.

Rule kept here: what a message does not have, or has in another form, is a Miss, never another
exception, whatever a device has sent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

from broker.packets.codes import PacketType
from broker.packets.errors import ProtocolViolation
from broker.packets.primitives import encode_varint
from broker.packets.properties import Property, decode_properties
from broker.queues.policy import HIGHEST_PRIORITY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from broker.packets.properties import Properties
    from broker.packets.publication import Publication
    from broker.queues.delivery import Delivery

RETAIN = 0x01


class Miss(Exception):  # noqa: N818 - no error: it is what most messages are to most rules
    """A message does not have what a rule asks for; the text says what."""


class Subject:
    """One message. `key` and `priority` are those it has in a queue, if it comes out of one."""

    __slots__ = (
        "_decoded",
        "_levels",
        "_value",
        "block",
        "client",
        "first",
        "key",
        "payload",
        "priority",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        first: int = 0,
        properties: bytes = b"",
        client: str = "",
        key: str | None = None,
        priority: int | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.first = first
        self.client = client
        self.key = key
        self.priority = priority
        self.block = properties
        self._levels: Sequence[str] | None = None
        self._value: Any = _UNREAD
        self._decoded: Properties | None = None

    @classmethod
    def of_publication(cls, publication: Publication) -> Subject:
        """A message that comes in."""
        return cls(
            publication.topic,
            publication.payload,
            publication.first,
            publication.properties,
            publication.publisher,
        )

    @classmethod
    def of_delivery(cls, delivery: Delivery) -> Subject:
        """A message out of a queue."""
        return cls(
            delivery.topic,
            delivery.payload,
            delivery.first,
            delivery.properties,
            delivery.publisher,
            delivery.key,
            HIGHEST_PRIORITY - delivery.rank,
        )

    def __getitem__(self, name: str) -> Any:
        """What conditions know by this name; KeyError for a name that they do not know."""
        return NAMES[name](self)

    @property
    def levels(self) -> Sequence[str]:
        """The levels of the topic."""
        if self._levels is None:
            self._levels = self.topic.split("/")
        return self._levels

    @property
    def value(self) -> Any:
        """The payload: the value of its JSON, or its text. Raises Miss when it is neither."""
        if self._value is _UNREAD:
            self._value = _read(self.payload)
        if self._value is _UNREADABLE:
            raise Miss("the payload is neither JSON nor text")
        return self._value

    @property
    def properties(self) -> Mapping[str, str]:
        """The user properties; of several with one name the last."""
        return dict(self._properties().get(Property.USER_PROPERTY, ()))

    @property
    def content_type(self) -> str | None:
        """What the publisher says that the payload is."""
        content_type: str | None = self._properties().get(Property.CONTENT_TYPE)
        return content_type

    def _properties(self) -> Properties:
        if self._decoded is None:
            self._decoded = _decode(self.block)
        return self._decoded


# What conditions may ask for.
NAMES: Final[Mapping[str, Callable[[Subject], Any]]] = {
    "payload": lambda subject: subject.value,
    "topic": lambda subject: subject.topic,
    "levels": lambda subject: subject.levels,
    "properties": lambda subject: subject.properties,
    "content_type": lambda subject: subject.content_type,
    "qos": lambda subject: subject.first >> 1 & 3,
    "retain": lambda subject: subject.first & RETAIN != 0,
    "client": lambda subject: subject.client,
    "size": lambda subject: len(subject.payload),
}

_UNREAD = object()
_UNREADABLE = object()


def _read(payload: bytes) -> Any:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return _UNREADABLE
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text
    except RecursionError:  # nested too deeply to be meant well
        return _UNREADABLE


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and Infinity are not JSON


def _decode(block: bytes) -> Properties:
    """The properties in a block without its length."""
    if not block:
        return {}
    data = encode_varint(len(block)) + block
    try:
        return decode_properties(data, 0, len(data), PacketType.PUBLISH)[0]
    except ProtocolViolation as error:  # only a damaged store could have one
        raise Miss("its properties cannot be read") from error
