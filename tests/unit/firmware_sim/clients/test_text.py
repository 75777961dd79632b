"""Devices that print lines."""

from __future__ import annotations

import pytest

from bridges.serial.events import LogLine, Reading
from bridges.serial.modes import TextLines, Unframed
from firmware_sim.clients.client import Acknowledged, Arrived, Asleep, Collected, Message, Up
from firmware_sim.clients.text import TextClient


def connected() -> TextClient:
    client = TextClient()
    client.connect(0.0)
    assert list(client.take_events()) == [Up()]
    return client


def test_a_message_is_a_line_that_the_gateway_reads_as_this_message() -> None:
    client = connected()
    assert client.publish(Message("temp/1", b"21.5"), 7, 0.0)
    assert list(client.take_events()) == [Acknowledged(7)]
    client.log("hello world", 0.0)
    data = client.data_to_send()
    assert data == b"temp/1 21.5\nhello world\n"
    gateway = Unframed(TextLines())
    assert gateway.receive(data, 0.0) == [Reading("temp/1", b"21.5"), LogLine("hello world")]


@pytest.mark.parametrize(
    "message",
    [
        Message("a/b", b"two\nlines"),
        Message("a/b", b"\x00binary\xff"),
        Message("a/b", b""),
        Message("a/b", b" padded "),
        Message("no slash", b"1"),
        Message("word", b"word"),
        Message("a/b", b"x" * 600),
        Message("a/b", b"1", qos=1),
        Message("a/b", b"1", qos=2),
    ],
)
def test_what_is_no_reading_is_not_taken(message: Message) -> None:
    client = connected()
    assert not client.publish(message, 1, 0.0)
    assert client.data_to_send() == b""
    assert list(client.take_events()) == []


def test_lines_that_come_are_messages() -> None:
    client = connected()
    client.receive(b"led/1 on\nnonsense\nled/", 0.0)
    client.receive(b"2 off\n", 0.1)
    assert list(client.take_events()) == [
        Arrived(Message("led/1", b"on")),
        Arrived(Message("led/2", b"off")),
    ]


def test_sleep_needs_nobody() -> None:
    client = connected()
    client.sleep(60.0, 0.0)
    client.wake(30.0)
    assert list(client.take_events()) == [Asleep(), Collected()]
    assert not client.is_up


def test_a_port_that_is_not_there_bounds_what_waits() -> None:
    client = connected()
    taken = [client.publish(Message("a/b", b"x" * 100), number, 0.0) for number in range(100)]
    assert 10 < sum(taken) < 40
