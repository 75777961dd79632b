"""Audiences: one row for any number of absent sessions, nothing kept for those that have ended."""

from tests.support.broker import MemoryBroker
from tests.support.store import MemoryStore
from tests.unit.engine.test_recovery import absent, durable, payloads, rows, stored


def test_a_message_for_a_hundred_absent_sessions_is_one_row() -> None:
    broker = stored()
    for number in range(100):
        absent(broker, f"away-{number}", "t")
    broker.connect("publisher").publish("t", b"x", qos=1)
    assert rows(broker, "message") == 1
    assert rows(broker, "member") == 100
    for number in range(99):
        assert payloads(durable(broker, f"away-{number}")) == [b"x"]
    assert rows(broker, "message") == 1
    assert payloads(durable(broker, "away-99")) == [b"x"]
    assert rows(broker, "message") == 0


def test_audiences_of_sessions_that_have_ended_are_forgotten() -> None:
    broker = stored()
    publisher = broker.connect("publisher")
    for _ in range(20):
        durable(broker, "again", clean_start=True).subscribe("t", qos=1)
        publisher.publish("t", b"x", qos=1)
        broker.pass_time(2)
    journal = broker.engine.journal
    assert journal is not None
    assert len(journal.audiences._by_members) <= 2
    assert len(journal.audiences.by_id) <= 2


def test_what_everybody_has_got_before_it_is_written_is_never_written() -> None:
    broker = MemoryBroker(store=MemoryStore())
    client = durable(broker, "one")
    broker.touched.append(client)
    client.send_raw(b"\x82\x07\x00\x01\x00\x00\x01t\x01")
    broker.commit()
    client.received.clear()
    publisher = broker.connect("publisher")
    publisher.publish("t", b"0", qos=1)  # its commit begins
    for number in range(10):
        publisher.publish("t", b"%d" % number, qos=1)
    client.drain()
    broker.commit()
    assert broker.store is not None
    assert broker.store.written["message_put"] == 1
