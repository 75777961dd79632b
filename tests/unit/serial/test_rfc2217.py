"""The client's half of RFC 2217, byte by byte."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bridges.serial.port_settings import LineErrors, PortSettings
from bridges.serial.rfc2217 import COM_PORT, DO, DONT, IAC, SB, SE, WILL, WONT, ComPort

AGREED = bytes((IAC, DO, COM_PORT))


def com_port(**settings: object) -> ComPort:
    return ComPort(PortSettings("rfc2217://h:1", **settings), 115_200)  # type: ignore[arg-type]


def sub(command: int, *values: int) -> bytes:
    return bytes((IAC, SB, COM_PORT, command, *values, IAC, SE))


def test_speed_shape_flow_and_lines_are_set_when_the_other_end_agrees() -> None:
    _, said = com_port(flow="rtscts", lines="on").receive(AGREED)
    for part in (
        sub(1, 0, 1, 0xC2, 0),
        *(sub(2, 8), sub(3, 1), sub(4, 1)),
        *(sub(5, 3), sub(5, 16)),
        *(sub(10, 0x1E), sub(11, 0)),
        *(sub(5, 8), sub(5, 11)),
    ):
        assert part in said


def test_lines_are_left_alone_unless_asked_for() -> None:
    _, said = com_port().receive(AGREED)
    for value in (8, 9, 11, 12):
        assert sub(5, value) not in said


def test_it_is_ready_when_the_speed_is_confirmed() -> None:
    port = com_port()
    port.receive(AGREED)
    assert not port.is_ready
    port.receive(sub(101, 0, 1, 0xC2, 0))
    assert port.is_ready
    assert not port.refusal


def test_another_speed_than_asked_for_is_a_refusal() -> None:
    port = com_port()
    port.receive(sub(101, 0, 0, 0x25, 0x80))
    assert "cannot do 115200 baud, but offers 9600" in port.refusal


def test_who_does_not_know_the_option_is_told_apart() -> None:
    port = com_port()
    port.receive(bytes((IAC, DONT, COM_PORT)))
    assert "try tcp://" in port.refusal


def test_what_we_did_not_offer_is_declined_once() -> None:
    port = com_port()
    asked = bytes((IAC, DO, 24, IAC, WILL, 1))
    assert port.receive(asked * 50)[1] == bytes((IAC, WONT, 24, IAC, DONT, 1))
    assert port.receive(asked)[1] == b""


def test_line_errors_are_counted() -> None:
    port = com_port()
    port.receive(sub(106, 0x02) + sub(106, 0x04 | 0x08) + sub(106, 0x10) + sub(106, 0x60))
    assert port.errors == LineErrors(framing=1, overrun=1, parity=1, breaks=1, buffer_overrun=0)


def test_a_sub_negotiation_without_an_end_is_not_held() -> None:
    port = com_port()
    for _ in range(100):
        port.receive(bytes((IAC, SB)) + b"x" * 1000)
    assert len(port._held) < 2000


@given(st.binary(), st.lists(st.integers(0, 400), max_size=5))
def test_bytes_of_the_wire_survive_any_split(data: bytes, cuts: list[int]) -> None:
    port = com_port()
    wire = port.encode(data) + AGREED + port.encode(data)
    places = sorted({0, *(cut for cut in cuts if cut < len(wire)), len(wire)})
    pieces = [wire[a:b] for a, b in pairwise(places)]
    assert b"".join(port.receive(piece)[0] for piece in pieces) == data + data


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_no_garbage_raises_or_is_held(chunks: list[bytes]) -> None:
    port = com_port()
    for chunk in chunks:
        port.receive(b"\xff" + chunk)
    assert len(port._held) <= 400
