"""The SQL door: what a backend sees that has no more than a driver."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from broker.packets.properties import Property, encode_properties
from tests.support.queues import QueueStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.postgresql import PostgreSQL


@pytest.fixture
def url(postgresql: PostgreSQL) -> str:
    return postgresql.new_database()


@pytest.fixture
def queues(url: str) -> Iterator[QueueStore]:
    """The broker's side."""
    with closing(QueueStore({"url": url, "path": ""})) as made:
        made.define("jobs")
        yield made
        made.check()


@pytest.fixture
def session(url: str, queues: QueueStore) -> Iterator[psycopg.Connection[Any]]:
    """A backend's side, each statement a transaction."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def one(session: psycopg.Connection[Any], sql: str, *values: Any) -> Any:
    row = session.execute(sql, values).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def block(*user_properties: tuple[str, str], content_type: str = "") -> bytes:
    """MQTT 5 properties, without their length."""
    first = {Property.CONTENT_TYPE: content_type} if content_type else {}
    return encode_properties({**first, Property.USER_PROPERTY: [*user_properties]})[1:]


LEASE = "SELECT id, token FROM heliograph.lease('jobs')"
ACK = "SELECT heliograph.ack(%s, %s)"


def test_a_message_of_the_broker_is_leased_and_acknowledged(queues, session):
    properties = block(("a", "ü"), content_type="text/plain")
    queues.put("jobs", b"\x00\xff", topic="site/1", key="k", rank=2, properties=properties)
    row = session.execute(
        "SELECT id, token, payload, topic, key, priority, properties, content_type, publisher,"
        " delivery_count, failures FROM heliograph.lease('jobs')"
    ).fetchone()
    assert row is not None
    number, token, *rest = row
    assert rest[:4] == [b"\x00\xff", "site/1", "k", 7]
    assert rest[4:] == [{"a": "ü"}, "text/plain", "publisher", 1, 0]
    assert one(session, ACK, number, token) == "ok"
    assert one(session, ACK, number, token) == "gone"
    assert queues.stats("jobs")["messages"] == 0


def test_what_is_enqueued_reaches_the_brokers_consumers(queues, session):
    number = one(
        session,
        "SELECT heliograph.enqueue('jobs', '\\xff00', topic => 'a/b', key => 'k', priority => 9,"
        " properties => '{\"name\": \"värde\"}', content_type => 'x/y')",
    )
    got = queues.take("jobs")
    assert (got.number, got.payload, got.topic, got.key, got.rank) == (
        number,
        b"\xff\x00",
        "a/b",
        "k",
        0,
    )
    assert got.properties == block(("name", "värde"), content_type="x/y")
    assert got.publisher == ""


def test_an_acknowledgement_goes_with_the_transaction_that_made_it(queues, session, url):
    queues.put("jobs", b"1")
    lease = one(session, LEASE)
    with session.transaction(force_rollback=True):
        assert one(session, ACK, *lease) == "ok"
        assert queues.payloads("jobs") == []  # nobody else gets it meanwhile
    assert queues.states("jobs") == {b"1": "leased"}
    assert one(session, ACK, *lease) == "ok"


def test_a_lease_that_is_rolled_back_was_never_taken(queues, session):
    queues.put("jobs", b"1")
    with session.transaction(force_rollback=True):
        one(session, LEASE)
        assert queues.payloads("jobs") == []
        assert queues.next_in is not None  # nobody would tell of the rollback
        assert 0 < queues.next_in <= 1
    got = queues.take("jobs")
    assert (got.payload, got.acquisitions, got.failures) == (b"1", 1, 0)


def test_nobody_waits_for_a_transaction_that_stays_open(queues, session):
    queues.define("keyed", order="key")
    queues.put("keyed", b"1", b"2", key="k")
    queues.sql("SET lock_timeout = '1s'")
    number, token = one(session, "SELECT id, token FROM heliograph.lease('keyed')")
    with session.transaction():
        one(session, ACK, number, token)
        one(session, "SELECT heliograph.enqueue('keyed', '3', key => 'k')")
        queues.put("keyed", b"4", key="k")  # the same key: in whose hands it is
        queues.put("keyed", b"5", key="other")
        assert queues.payloads("keyed") == [b"5"]
    order = []
    while got := queues.lease("keyed"):
        order += [each.payload for each in got]
        queues.ack(*got)
    assert order == [b"2", b"3", b"4"]
    queues.admin("reap", "")


def test_two_acknowledgements_of_one_shared_payload_do_not_wait(queues, session):
    queues.define("other")
    contents = ("queue_content", [(1, b"x" * 5000, 2)])
    rows = [queues.row(name, None, content=1, size=5103) for name in ("jobs", "other")]
    queues.do(contents, ("queue_put", rows))
    queues.sql("SET lock_timeout = '1s'")
    lease = one(session, LEASE)
    with session.transaction():
        one(session, ACK, *lease)
        assert queues.ack(queues.take("other")) == ["ok"]
    queues.admin("reap", "")
    assert queues.sql("SELECT id FROM heliograph.queue_payload") == []


def test_failures_retries_and_dead_letters(queues, session):
    queues.put("jobs", b"1", b"2", b"3")
    leases = session.execute("SELECT id, token FROM heliograph.lease('jobs', 3)").fetchall()
    nack = "SELECT heliograph.nack(%s, %s"
    assert one(session, nack + ", interval '1 minute')", *leases[0]) == "ok"
    assert one(session, nack + ", dead => true, reason => 'no such device')", *leases[1]) == "dead"
    assert one(session, "SELECT heliograph.release(%s, %s)", *leases[2]) == "ok"
    assert queues.states("jobs") == {b"1": "delayed", b"3": "ready"}
    seen = one(session, "SELECT payload, dead_from, dead_reason FROM heliograph.dead_letters")
    assert seen == (b"2", "jobs", "no such device")
    assert one(session, "SELECT messages, dead FROM heliograph.queues WHERE name = 'jobs'") == (
        2,
        1,
    )


def test_a_nack_without_a_delay_waits_as_the_policy_says(queues, session):
    queues.put("jobs", b"1")
    assert one(session, "SELECT heliograph.nack(%s, %s)", *one(session, LEASE)) == "ok"
    assert queues.states("jobs") == {b"1": "delayed"}
    queues.pass_time(1.3)
    assert one(session, "SELECT heliograph.nack(%s, %s, 0)", *one(session, LEASE)) == "ok"
    assert queues.states("jobs") == {b"1": "ready"}


def test_a_lease_is_renewed(queues, session):
    queues.put("jobs", b"1")
    lease = one(session, "SELECT id, token FROM heliograph.lease('jobs', seconds => 10)")
    assert one(session, "SELECT heliograph.renew(%s, %s, 100)", *lease) == "ok"
    queues.pass_time(50)
    assert queues.payloads("jobs") == []
    queues.pass_time(51)
    assert one(session, "SELECT heliograph.renew(%s, %s, 100)", *lease) == "lost"
    assert one(session, ACK, lease[0], lease[1] + 1) == "lost"


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT heliograph.lease('jbos')", 'there is no queue "jbos"'),
        ("SELECT heliograph.lease(NULL)", "there is no queue"),
        ("SELECT heliograph.lease('jobs', 0)", "Take 1 to 10000 messages"),
        ("SELECT heliograph.lease('jobs', seconds => 'NaN')", "Take 1 to 10000 messages"),
        ("SELECT heliograph.renew(1, 1, 0)", "Renew for more than 0 s"),
        ("SELECT heliograph.enqueue('jbos', '')", 'there is no queue "jbos"'),
        ("SELECT heliograph.enqueue('jobs', NULL)", "It needs a payload"),
        ("SELECT heliograph.enqueue('jobs', '', priority => 10)", "a priority of 0 to 9"),
        ("SELECT heliograph.enqueue('jobs', '', delay => -1)", "a delay of 0 s"),
        ("SELECT heliograph.enqueue('jobs', '', delay => 'Infinity')", "a delay of 0 s"),
        (
            "SELECT heliograph.enqueue('jobs', '', properties => '{\"a\": \""
            + "x" * 70_000
            + "\"}')",
            "longer than 65,535 bytes",
        ),
    ],
)
def test_errors_say_what_to_do(session, sql, says):
    with pytest.raises(psycopg.Error) as error:
        session.execute(sql)
    assert says in str(error.value) + str(error.value.diag.message_hint)


def test_a_full_or_draining_queue_takes_nothing(queues, session):
    queues.define("jobs", max_messages=1)
    put = "SELECT heliograph.enqueue('jobs', '')"
    session.execute(put)
    with pytest.raises(psycopg.Error, match="full"):
        session.execute(put)
    queues.admin("drain", "jobs")
    with pytest.raises(psycopg.Error, match="drained"):
        session.execute(put)


def test_a_broken_block_of_properties_is_read_as_far_as_it_goes(queues, session):
    good = block(("a", "b"))
    for broken in (good + b"\x26\x00\x09x", good + b"\x99", good + b"\x0b\xff", good + b"\x26\x00"):
        queues.put("jobs", b"", properties=broken)
        assert one(session, "SELECT properties FROM heliograph.lease('jobs')") == {"a": "b"}


def test_a_role_with_the_rights_of_a_consumer_needs_no_more(queues, postgresql, url):
    queues.put("jobs", b"1")
    postgresql.execute(
        "CREATE ROLE worker LOGIN; GRANT USAGE ON SCHEMA heliograph TO worker;"
        "GRANT EXECUTE ON FUNCTION heliograph.lease, heliograph.ack, heliograph.renew,"
        " heliograph.release, heliograph.enqueue,"
        " heliograph.nack(bigint, bigint, float8, boolean, text),"
        " heliograph.nack(bigint, bigint, interval) TO worker;"
        "GRANT SELECT ON heliograph.queues, heliograph.messages, heliograph.dead_letters TO worker",
        url,
    )
    with psycopg.connect(url, user="worker", autocommit=True) as worker:
        lease = one(worker, LEASE)
        assert one(worker, "SELECT id, properties FROM heliograph.messages") == (lease[0], {})
        assert one(worker, "SELECT leased FROM heliograph.queues") == 1
        assert one(worker, ACK, *lease) == "ok"
        assert one(worker, "SELECT heliograph.enqueue('jobs', 'x')") > lease[0]
        purge = "SELECT heliograph._purge('jobs', 1, NULL, NULL)"
        for forbidden in (purge, "SELECT * FROM heliograph.queued"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                worker.execute(forbidden)


def test_psql_is_enough(queues, postgresql, url):
    queues.put("jobs", b"hello", key="k")
    said = postgresql.psql(
        "SELECT id AS id, token AS token, convert_from(payload, 'UTF8') AS payload"
        " FROM heliograph.lease('jobs') \\gset\n"
        "\\echo :payload\n"
        "BEGIN;\nSELECT heliograph.ack(:id, :token);\nCOMMIT;\n"
        "SELECT name, messages FROM heliograph.queues;\n"
        "SELECT heliograph.lease('nix');\n",
        url,
    )
    lines = said.splitlines()
    assert lines[:3] == ["hello", "ok", "jobs|0"]
    assert 'there is no queue "nix"' in lines[3]
    assert lines[4].startswith("HINT:")
