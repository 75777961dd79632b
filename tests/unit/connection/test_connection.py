"""What a connection leaves behind and what its flags become, whatever happens to it."""

from collections.abc import Callable

import pytest

from broker.connection.connection import CHUNK
from broker.engine.ports import Attempt, Verdict
from broker.packets.types import Connack, Connect, Pingreq, Publish, Pubrec, Pubrel
from tests.support.broker import MemoryBroker


class SlowAuthenticator:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.answers: list[Callable[[Verdict], None]] = []

    def authenticate(self, attempt: Attempt, answer: Callable[[Verdict], None]) -> None:
        self.answers.append(answer)


@pytest.mark.parametrize("packet", [Connect("", version=4, clean_start=False), Pingreq()])
def test_a_refused_connection_is_forgotten_at_once(packet: Connect | Pingreq) -> None:
    broker = MemoryBroker(connect_timeout=10)
    client = broker.client(version=4)
    assert client.connection.armed_for is not None
    client.send(packet)
    assert client.is_closed
    assert client.connection.armed_for is None
    assert broker.engine.next_deadline() is None


def test_the_keep_alive_counts_from_the_connack() -> None:
    authenticator = SlowAuthenticator()
    broker = MemoryBroker(authenticator, connect_timeout=60)
    client = broker.client()
    client.connect("client", keep_alive=4)
    broker.pass_time(10)
    authenticator.answers.pop()(Verdict())
    broker.flush()
    assert client.take(Connack).reason == 0
    broker.pass_time(5)
    assert not client.is_closed
    broker.pass_time(2)
    assert client.is_closed


def test_qos_0_messages_that_never_left_the_outbox_are_counted_as_lost() -> None:
    broker = MemoryBroker()
    slow = broker.connect("slow")
    slow.subscribe("t", qos=1)
    slow.stop_reading()
    publisher = broker.connect("publisher")
    publisher.publish("t", b"0")
    publisher.publish("t", b"1", qos=1)
    publisher.publish("t", b"2")
    slow.lose()
    assert broker.engine.traffic.lost == {"unsent_qos_0": 2, "session_ended": 1}
    assert broker.engine.traffic.delivered == 0


def test_a_client_that_reads_no_answers_is_not_read_either_until_it_does() -> None:
    broker = MemoryBroker(outbox_limit=1000)
    client = broker.connect("client")
    client.stop_reading()
    pings = b"\xc0\x00" * ((CHUNK + 1000) // 2 + 1)
    client.send_raw(pings)
    assert client.held
    client.resume_reading()
    assert not client.held
    assert not client.connection.blocked


def test_a_connection_that_is_closed_twice_says_goodbye_once() -> None:
    broker = MemoryBroker()
    client = broker.connect("client")
    client.send(Publish("t", b"", 2, packet_id=1), Pubrec(7), Pubrel(1))
    client.received.clear()
    client.send_raw(b"\x00\x00")
    goodbye = list(client.received)
    broker.engine.on_lost(client.connection)
    broker.engine.on_timeout(client.connection)
    assert client.received == goodbye
    assert (
        len([each for each in broker.notices if type(each).__name__ == "ClientDisconnected"]) == 1
    )
