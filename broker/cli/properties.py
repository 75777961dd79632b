"""MQTT 5 properties on the command line: `-D PACKET NAME VALUE`.

The names are the standard's in lower case with hyphens; which may stand in which packet, their
types and ranges come from the codec's own property table.
"""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from broker.packets.codes import PacketType
from broker.packets.properties import (
    PROPERTY_TABLE,
    WILL,
    DataType,
    Properties,
    PropertyRow,
)

PropertySets = dict[int, Properties]  # PacketType or WILL -> its properties

PACKETS = {
    "connect": PacketType.CONNECT,
    "publish": PacketType.PUBLISH,
    "subscribe": PacketType.SUBSCRIBE,
    "unsubscribe": PacketType.UNSUBSCRIBE,
    "disconnect": PacketType.DISCONNECT,
    "will": WILL,
}
TEXTS = frozenset({DataType.STRING, DataType.PAIR, DataType.BINARY})
REPEATED = frozenset({"user-property", "subscription-identifier"})  # kept as lists


def name_of(row: PropertyRow) -> str:
    """A property's name as a person types it."""
    return row.identifier.name.lower().replace("_", "-")


ROWS = {name_of(row): row for row in PROPERTY_TABLE}


def properties_from(sets: PropertySets, packet: str, name: str, values: Sequence[str]) -> None:
    """Add one property to its packet's set. Raises ValueError that says what would be right."""
    if packet not in PACKETS:
        raise ValueError(f"the packet must be one of {', '.join(PACKETS)}")
    where = PACKETS[packet]
    row = ROWS.get(name)
    if row is None or where not in row.packets:
        raise ValueError(_not_here(packet, name))
    properties = sets.setdefault(where, {})
    value = _read(row, values)
    if name in REPEATED:
        properties.setdefault(row.identifier, []).append(value)
    else:
        properties[row.identifier] = value


def _not_here(packet: str, name: str) -> str:
    good = [known for known, row in ROWS.items() if PACKETS[packet] in row.packets]
    near = get_close_matches(name, good, 1)
    if near:
        return f"{packet} has no such property, did you mean {near[0]}?"
    return f"{packet} has no such property; it has {', '.join(good)}"


def _read(row: PropertyRow, values: Sequence[str]) -> Any:
    if row.data_type is DataType.PAIR:
        return (values[0], values[1])
    if row.data_type is DataType.BINARY:
        return os.fsencode(values[0])
    if row.data_type in TEXTS:
        return values[0]
    if not values[0].isdecimal() or not row.low <= int(values[0]) <= row.high:
        raise ValueError(f'"{values[0]}" must be a whole number from {row.low} to {row.high}')
    return int(values[0])
