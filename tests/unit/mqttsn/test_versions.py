"""Which version of MQTT a broker is found to speak."""

import pytest

from bridges.mqttsn.ports import Identity, Opening
from bridges.mqttsn.versions import Versions, refuses
from broker.packets.codes import MQTT_3_1_1, MQTT_5, ReasonCode
from broker.packets.decode import decode
from broker.packets.reader import Reader
from broker.packets.types import Connect
from tests.unit.mqttsn.mqtt_world import DURABLE, Wire

CLEAN = Opening(Identity("dev"))
ACCEPTED_3_1_1, ACCEPTED_5 = bytes.fromhex("20020000"), bytes.fromhex("2003000000")


class Told:
    """What the versions of a broker have told."""

    def __init__(self, chosen: int | None = None) -> None:
        self.settled: list[int] = []
        self.trouble: list[int] = []
        self.versions = Versions(chosen, self.settled.append, self.trouble.append)


def connect_of(wire: Wire) -> Connect:
    """The CONNECT that the session has sent, whatever its version."""
    data, wire.pipe.sent = wire.pipe.sent, b""
    buffer, [(first, start, end)] = Reader().cut(data)
    packet = decode(first, buffer, start, end, MQTT_5)  # a CONNECT says its version itself
    assert isinstance(packet, Connect)
    return packet


def connect(wire: Wire, answer: str | None) -> int:
    """Connect, answer (None: hang up); the version that was tried."""
    wire.session.connected()
    version = connect_of(wire).version
    if answer is None:
        wire.session.lost()
    else:
        wire.session.receive(bytes.fromhex(answer))
    return version


@pytest.mark.parametrize(
    ("connack", "version", "refused"),
    [
        ("000000", 5, False),
        ("008700", 5, False),
        ("008400", 5, True),
        ("0001", 5, True),  # MQTT 3.1.1's words
        ("0000", 5, True),
        ("0084", 5, True),
        ("", 5, False),  # nonsense is for the decoder
        ("0000", 4, False),
        ("0005", 4, False),
        ("0001", 4, True),
        ("008400", 4, True),
    ],
)
def test_a_connack_says_whether_the_version_is_understood(
    connack: str, version: int, refused: bool
) -> None:
    assert refuses(bytes.fromhex(connack), version) is refused


@pytest.mark.parametrize("answer", ["20020001", "2003008400", "20020084", "20020000"])
def test_a_broker_that_refuses_5_is_asked_in_3_1_1_at_once(answer: str) -> None:
    told = Told()
    wire = Wire(DURABLE, versions=told.versions)
    assert connect(wire, answer) == MQTT_5
    assert wire.pipes[0].is_closed
    assert connect(wire, "20020000") == MQTT_3_1_1
    assert wire.heard.take() == [("opened", False)]
    assert told.settled == [MQTT_3_1_1]
    assert told.trouble == []


def test_a_broker_that_hangs_up_twice_in_a_row_is_asked_in_3_1_1() -> None:
    told = Told()
    wire = Wire(DURABLE, versions=told.versions)
    tried = [connect(wire, None), connect(wire, None), connect(wire, "20020000")]
    assert tried == [MQTT_5, MQTT_5, MQTT_3_1_1]
    assert wire.heard.take() == [("opened", False)]
    assert told.settled == [MQTT_3_1_1]


def test_a_broker_that_hangs_up_whatever_is_said_is_not_there() -> None:
    told = Told()
    wire = Wire(DURABLE, versions=told.versions)
    assert [connect(wire, None) for _ in range(4)] == [5, 5, 4, 4]
    assert wire.heard.take() == [("refused", ReasonCode.SERVER_UNAVAILABLE)]
    assert told.versions.current == MQTT_5
    assert told.settled == []


def test_a_broker_that_is_known_to_speak_5_is_only_away_when_it_hangs_up() -> None:
    told = Told()
    wire = Wire(DURABLE, versions=told.versions)
    connect(wire, "2003000000")
    for _ in range(10):
        wire.session.lost()
        wire.session.connected()
    assert told.versions.current == MQTT_5


def test_many_who_are_cut_off_by_one_trouble_count_once() -> None:
    told = Told()
    wires = [Wire(DURABLE, versions=told.versions) for _ in range(5)]
    for wire in wires:
        wire.session.connected()
    for wire in wires:
        wire.session.lost()
    assert told.versions.current == MQTT_5


def test_who_was_cut_off_before_others_found_out_comes_again_in_the_right_version() -> None:
    told = Told()
    late, early = Wire(DURABLE, versions=told.versions), Wire(CLEAN, versions=told.versions)
    late.session.connected()
    connect(early, "20020001")
    connect(early, "20020000")
    late.session.lost()
    late.sent()
    assert connect(late, "20020000") == MQTT_3_1_1
    assert late.heard.take() == [("opened", False)]


def test_who_knows_the_version_knows_it_for_all_sessions() -> None:
    told = Told()
    connect(first := Wire(DURABLE, versions=told.versions), "20020001")
    connect(first, "20020000")
    assert connect(Wire(CLEAN, versions=told.versions), "20020000") == MQTT_3_1_1
    assert told.settled == [MQTT_3_1_1]  # once


def test_a_broker_that_refuses_3_1_1_later_is_asked_in_5_again() -> None:
    told = Told()
    wire = Wire(DURABLE, versions=told.versions)
    connect(wire, "20020001")
    connect(wire, "20020000")
    wire.session.lost()
    assert connect(wire, "2003008400") == MQTT_3_1_1
    assert connect(wire, "2003000000") == MQTT_5
    assert told.settled == [MQTT_3_1_1, MQTT_5]


def test_a_broker_that_refuses_both_is_told_of_once_and_devices_come_again() -> None:
    told = Told()
    for _ in range(2):
        wire = Wire(DURABLE, versions=told.versions)
        while not wire.heard.calls:
            connect(wire, "20020001" if told.versions.current == MQTT_5 else "2003008400")
        assert wire.heard.take() == [("refused", ReasonCode.SERVER_UNAVAILABLE)]
        assert len(wire.pipes) == 4
    assert len(told.trouble) == 1


@pytest.mark.parametrize(("chosen", "answer"), [(MQTT_5, "20020001"), (MQTT_3_1_1, "2003008400")])
def test_a_version_that_is_chosen_is_the_only_one(chosen: int, answer: str) -> None:
    told = Told(chosen)
    wire = Wire(DURABLE, versions=told.versions)
    assert connect(wire, answer) == chosen
    assert wire.heard.take() == [("refused", ReasonCode.SERVER_UNAVAILABLE)]
    assert len(wire.pipes) == 1
    assert told.trouble == [chosen]
    assert told.versions.current == chosen


def test_a_broker_that_hangs_up_at_a_chosen_version_is_not_there() -> None:
    wire = Wire(DURABLE, versions=Versions(MQTT_5))
    connect(wire, None)
    assert wire.heard.take() == [("refused", ReasonCode.SERVER_UNAVAILABLE)]
