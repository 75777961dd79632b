"""The decoder remembers good topic names; that must not show, in results or in memory."""

import pytest

from broker.packets import decode as decoder
from broker.packets.encode import encode
from broker.packets.errors import ProtocolViolation
from broker.packets.types import Publish
from tests.unit.packets.reading import read


def remembered() -> int:
    """Count the bytes of all names held."""
    return sum(len(raw) for raw in decoder._KNOWN_TOPICS)


def test_a_repeated_topic_reads_the_same() -> None:
    for version in (4, 5, 4, 5):
        packet = Publish("site/\N{DEGREE SIGN}/t", b"x")
        assert read(encode(packet, version), version) == packet


def test_a_bad_topic_is_refused_every_time() -> None:
    for _ in range(3):
        with pytest.raises(ProtocolViolation):
            read(b"\x30\x05\0\3a/+", 4)


def test_more_topics_than_are_remembered_do_not_grow_the_memory() -> None:
    for number in range(3 * decoder._MOST_KNOWN):
        packet = Publish(f"t/{number}")
        assert read(encode(packet, 4), 4) == packet
        assert len(decoder._KNOWN_TOPICS) <= decoder._MOST_KNOWN


def test_a_long_topic_is_not_remembered() -> None:
    before = remembered()
    assert read(encode(Publish("t" * 60_000), 4), 4) == Publish("t" * 60_000)
    assert remembered() == before
