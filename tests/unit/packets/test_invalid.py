"""What the standards forbid is refused, with the reason code and the rule they name."""

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.decode import connect_version
from broker.packets.errors import ProtocolViolation
from tests.unit.packets.invalid import INVALID, TWICE, Invalid
from tests.unit.packets.reading import read


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, id=c.name, marks=pytest.mark.spec(*c.spec) if c.spec else ())
        for c in INVALID
    ],
)
def test_a_frame_that_breaks_a_rule_is_refused_by_that_rule(case: Invalid) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        read(case.frame, case.version)
    assert (caught.value.reason, caught.value.rule) == (case.reason, case.rule)


@pytest.mark.parametrize("case", TWICE, ids=[c.name for c in TWICE])
def test_a_property_that_may_stand_once_is_refused_the_second_time(case: Invalid) -> None:
    with pytest.raises(ProtocolViolation, match="more than once") as caught:
        read(case.frame, case.version)
    assert caught.value.reason == ReasonCode.PROTOCOL_ERROR


def test_a_refused_connect_still_tells_its_version() -> None:
    assert connect_version(b"\0\4MQTT\5\xff", 0, 8) == 5
    assert connect_version(b"\0\4MQTT\4", 0, 7) == 4
    assert connect_version(b"\0\6MQIsdp\3", 0, 9) == 3


@pytest.mark.parametrize("body", [b"", b"\0\4MQTT", b"\0\4MQTT\6", b"\0\4http\4", b"\xff\xff"])
def test_a_connect_of_no_known_version_has_version_0(body: bytes) -> None:
    assert connect_version(body, 0, len(body)) == 0


def test_a_violation_is_one_short_printable_sentence() -> None:
    violation = ProtocolViolation(
        ReasonCode.TOPIC_NAME_INVALID, "MQTT-3.3.2-2", "topic", "a\n" * 999
    )
    sentence = str(violation)
    assert sentence.startswith("Topic name invalid: topic, ")
    assert sentence.endswith("(MQTT-3.3.2-2)")
    assert sentence.isprintable()
    assert len(sentence) < 250


def test_a_violation_names_the_codes_among_its_facts() -> None:
    violation = ProtocolViolation(ReasonCode.PROTOCOL_ERROR, "4.13", ReasonCode.BANNED, b"\0", 3)
    assert str(violation) == "Protocol error: BANNED, b'\\x00', 3 (4.13)"
    assert str(ProtocolViolation(ReasonCode.PROTOCOL_ERROR, "4.13")) == "Protocol error (4.13)"


def test_codes_beyond_the_tables_of_3_1_1_have_no_return_code() -> None:
    from broker.packets.codes import CONNACK_RETURN_CODE

    assert set(CONNACK_RETURN_CODE.values()) == {1, 2, 3, 4, 5}
    assert ReasonCode.PROTOCOL_ERROR not in CONNACK_RETURN_CODE
