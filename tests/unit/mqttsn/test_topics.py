"""Which ids are given (section 6.5)."""

from bridges.mqttsn.codes import LAST_TOPIC_ID
from bridges.mqttsn.policy import Policy
from bridges.mqttsn.topics import Topics


def test_after_the_last_id_the_first_free_one_is_given() -> None:
    topics = Topics(Policy(), {LAST_TOPIC_ID: "z", 1: "a", 2: "b"})
    assert [topics.register(name) for name in ("c", "d", "a")] == [3, 4, 1]


def test_reserved_ids_are_never_given() -> None:
    topics = Topics(Policy(max_topics=70_000, max_topic_bytes=1_000_000), {})
    ids = {topics.register(str(n)) for n in range(70_000)}
    assert ids - {0} == set(range(1, 0xFFFF))
    assert topics.register("one more") == 0
