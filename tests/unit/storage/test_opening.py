"""What a start finds and says: everything stored, whatever the state it is in."""

import os
import random
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from broker.storage import migrations, opening
from broker.storage.database import CannotOpen, Trouble
from broker.storage.postgresql import make_engine
from broker.storage.tables import REVISION, all_tables
from tests.support.store_worker import member_row, message_row, session_row


def test_a_new_store_is_empty_and_counts_from_one(new_store):
    opened = new_store().open()
    assert opened["meta"] == (0, 1, 1, 1, 0.0, 0.0)
    names = ("sessions", "subscriptions", "members", "audiences", "retained", "wills", "alarms")
    assert [opened[name] for name in names] == [[]] * len(names)
    assert (opened["retained_count"], opened["retained_bytes"]) == (0, 0)
    assert opened["database"].startswith(("SQLite 3.", "PostgreSQL "))


def test_a_start_loads_what_was_stored(store, new_store):
    subscription = (1, "a/+", 1, 0, 0, "1,2", 0)
    will = ("client-1", None, "will/topic", b"gone", 1, 0, b"", 30, None)
    retained = ("a/b", b"\x00", b"", 49, "publisher", None, 10)
    store.apply(
        ("session_put", [session_row(1, cursor=3), session_row(2)]),
        ("subscription_put", [subscription]),
        ("member_put", [member_row(1, 1)]),
        ("message_put", [message_row(n, size=n) for n in (2, 3, 5, 8)]),
        ("message_put", [message_row(1, None)]),
        ("inflight_put", [(1, 1, 3, 48, 0, 1), (1, 2, 1, 48, 0, 2)]),
        ("retained_put", [retained]),
        ("will_put", [will]),
    )
    store.close()
    opened = new_store().open()
    # 5 and 8 wait; 3 is the oldest in flight, for 1 is a message of one session only.
    assert opened["sessions"] == [
        (*session_row(1, cursor=3), 3, 2, 13),
        (*session_row(2), None, 0, 0),
    ]
    assert opened["subscriptions"] == [subscription]
    assert opened["members"] == [member_row(1, 1)]
    assert opened["audiences"] == [(1, 2, 8)]
    assert opened["retained"] == [retained]
    assert opened["wills"] == [will]
    assert opened["alarms"] == []


def test_what_waits_is_counted_for_each_cursor(store, new_store):
    chance = random.Random(3)
    messages = [message_row(n, chance.randint(1, 5), size=n) for n in range(10, 200)]
    cursors = {each: chance.choice([0, 9, 10, 57, 57, 198, 199, 500]) for each in range(1, 40)}
    members = {(chance.randint(1, 6), each) for each in cursors for _ in range(3)}
    store.apply(
        ("session_put", [session_row(each, cursor=cursor) for each, cursor in cursors.items()]),
        ("member_put", [member_row(*each) for each in members]),
        ("message_put", messages),
    )
    store.close()
    for row in new_store().open()["sessions"]:
        audiences = {audience for audience, each in members if each == row[0]}
        sizes = [m[-1] for m in messages if m[1] in audiences and m[0] > cursors[row[0]]]
        assert row[-2:] == (len(sizes), sum(sizes))


def test_more_retained_messages_than_the_window_are_only_counted(store, new_store):
    rows = [(f"t/{n}", b"", b"", 49, "publisher", None, 7) for n in range(11)]
    store.apply(("retained_put", rows))
    store.close()
    small = new_store(retained_window=10)
    opened = small.open()
    assert (opened["retained"], opened["retained_count"]) == (None, 11)
    assert opened["retained_bytes"] == 77
    small.close()
    assert len(new_store(retained_window=11).open()["retained"]) == 11


def test_counters_are_never_behind_what_is_stored(store, new_store):
    store.apply(
        ("session_put", [session_row(7)]),
        ("member_put", [member_row(9, 7)]),
        ("message_put", [message_row(40, 3)]),
        ("inflight_put", [(7, 1, 41, 48, 0, 1)]),
    )
    store.close()
    assert new_store().open()["meta"][1:4] == (42, 8, 10)


def test_messages_that_a_crash_left_without_an_audience_are_swept(store, new_store):
    store.apply(
        ("member_put", [member_row(1, 1)]), ("message_put", [message_row(1), message_row(2, 2)])
    )
    store.die()
    second = new_store()
    second.open()
    second.store.tidy()
    assert second.numbers() == [1]
    assert second.store.is_tidy


# -- migrations ------------------------------------------------------------------------------------


def described(engine):
    """Every table as the database sees it, in an order that does not depend on who made it."""
    with engine.connect() as connection:
        seen = inspect(connection)
        return {
            table: (
                [repr(sorted(column.items(), key=str)) for column in seen.get_columns(table)],
                seen.get_pk_constraint(table),
                sorted(
                    (index["name"], index["column_names"], str(index.get("dialect_options")))
                    for index in (
                        () if engine.dialect.name == "sqlite" else seen.get_indexes(table)
                    )
                ),
                sorted(map(repr, seen.get_unique_constraints(table))),
                sqlite_definition(connection, table),
            )
            for table in sorted(seen.get_table_names())
        }


def sqlite_definition(connection, table):
    if connection.dialect.name != "sqlite":
        return None
    sql = f"SELECT sql FROM sqlite_master WHERE tbl_name = '{table}' ORDER BY name"
    return ["".join(str(row[0]).split()) for row in connection.exec_driver_sql(sql)]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_migrating_from_the_first_revision_gives_the_same_schema(kind, tmp_path, request):
    engines = []
    for name in ("made", "migrated"):
        if kind == "sqlite":
            engines.append(create_engine(f"sqlite:///{tmp_path}/{name}.db"))
        else:
            url = request.getfixturevalue("postgresql").new_database()
            engines.append(make_engine(url))
    made, migrated = engines
    with made.begin() as connection:
        opening.create_schema(connection)
    with migrated.begin() as connection:
        migrations.upgrade(connection)
    assert described(migrated) == described(made)
    names = {table.name for table in all_tables(made.dialect)}
    assert set(described(made)) == {*names, "alembic_version"}
    with migrated.connect() as connection:
        assert opening.state_of_schema(connection) == opening.CURRENT
    for engine in engines:
        engine.dispose()


def test_the_tables_are_of_the_newest_revision():
    assert migrations.ScriptDirectory.from_config(
        migrations.configuration()
    ).get_current_head() == (REVISION)


def test_an_older_schema_is_migrated_at_a_start(store, new_store, monkeypatch):
    store.apply(("message_put", [message_row(1)]))
    store.close()
    monkeypatch.setattr(opening, "REVISION", "later")
    migrated = []
    monkeypatch.setitem(new_store().store.open.__globals__["CHANGES"], "older", migrated.append)
    second = new_store()
    second.open()
    assert len(migrated) == 1
    assert second.numbers() == [1]


def become_newer(store):
    with store.database.connection.begin():
        store.database.connection.exec_driver_sql("UPDATE alembic_version SET version_num='9999'")
    store.close()


def test_a_newer_file_is_moved_aside(local, sqlite_place, tmp_path):
    first = local(**sqlite_place)
    first.open()
    first.apply(("message_put", [message_row(1)]))
    become_newer(first)
    second = local(**sqlite_place)
    (alarm,) = second.open()["alarms"]
    assert second.numbers() == []
    second.close()
    (aside,) = tmp_path.glob("heliograph.db.newer-*")
    assert "newer release" in alarm
    assert str(aside) in alarm
    with closing(sqlite3.connect(aside)) as connection:
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (1,)


def test_a_newer_database_on_a_server_is_left_alone(local, postgresql_place):
    first = local(**postgresql_place)
    first.open()
    become_newer(first)
    second = local(**postgresql_place)
    with pytest.raises(CannotOpen, match="newer release"):
        second.open()
    second.close()


# -- files that are not as they should be ----------------------------------------------------------


@pytest.fixture
def crashed(local, sqlite_place):
    """A file with a log beside it, as after a crash of the process. Its path."""
    first = local(**sqlite_place)
    first.open()
    first.apply(("message_put", [message_row(1)]))
    copies = [(each, each.read_bytes()) for each in (first.path, first.database.log_path)]
    first.die()
    for path, content in copies:
        path.write_bytes(content)
    return first.path


@pytest.fixture
def second(local, sqlite_place):
    made = local(**sqlite_place)
    yield made
    made.close()


def test_after_a_crash_what_is_in_the_log_is_there_without_an_alarm(crashed, second):
    assert second.open()["alarms"] == []
    assert second.numbers() == [1]


def test_a_missing_log_raises_an_alarm(crashed, second):
    crashed.with_name(crashed.name + "-wal").unlink()
    (alarm,) = second.open()["alarms"]
    assert "write-ahead log is missing" in alarm


def test_a_store_that_was_closed_has_no_log_and_raises_no_alarm(local, sqlite_place):
    for _ in range(3):
        one = local(**sqlite_place)
        assert one.open()["alarms"] == []
        assert one.database.log_path.exists()
        one.close()
        assert not one.database.log_path.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.write_bytes(b"no database at all" * 1000),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: spoil(path, b"CREATE TABLE message", b"CR\xc3\x28TE TABLE message"),
        lambda path: path.unlink(),
    ],
    ids=["empty", "zeroed", "foreign", "truncated", "no text", "gone"],
)
def test_a_broken_file_is_salvaged_and_the_store_starts(crashed, second, damage, tmp_path):
    if damage.__code__.co_names != ("unlink",):  # the log of a truncated file could mend it
        crashed.with_name(crashed.name + "-wal").write_bytes(b"")
    damage(crashed)
    (alarm,) = second.open()["alarms"]
    assert "damaged" in alarm
    assert str(next(tmp_path.glob("heliograph.db.damaged-*Z"))) in alarm
    second.apply(("message_put", [message_row(2)]))
    assert second.numbers() == [2]


def spoil(path, good, bad):
    content = path.read_bytes()
    assert good in content
    path.write_bytes(content.replace(good, bad))


def test_a_file_that_lost_a_table_is_salvaged(crashed, second):
    with closing(sqlite3.connect(crashed)) as connection:
        connection.execute("DROP TABLE message")
    (alarm,) = second.open()["alarms"]
    assert "tables are missing: message" in alarm


def test_an_interrupted_beginning_is_begun_again(second):
    second.path.with_name("heliograph.db.new").write_bytes(b"half a file")
    assert second.open()["alarms"] == []


def test_a_second_broker_is_kept_out(new_store, store, monkeypatch):
    for module in ("sqlite", "postgresql"):
        monkeypatch.setattr(f"broker.storage.{module}.LONGEST_LOCK", 0.0)
    second = new_store()
    with pytest.raises(CannotOpen, match="another broker uses this"):
        second.open()
    store.close()
    assert second.open()["alarms"] == []


# -- what cannot be written ------------------------------------------------------------------------


@contextmanager
def nobody():
    """Without the rights of root, whom no file mode stops."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def frozen(local):
    """A closed store in a folder in which nobody may write. Its path."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "heliograph.db"
    one = local("", str(path))
    one.open()
    one.apply(("message_put", [message_row(1)]), ("member_put", [member_row(1, 1)]))
    one.close()
    path.chmod(0o444)
    folder.chmod(0o555)
    yield path
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_store_is_read_and_written_as_soon_as_it_can_be(frozen, local):
    one = local("", str(frozen))
    with nobody():
        opened = one.open()
        assert one.store.trouble.kind == "read_only"
        assert opened["meta"][0] == 1
        assert len(one.ask("backlog", 1, 0, 10, 1000)) == 1
        for _ in range(2):
            with pytest.raises(Trouble) as caught:
                one.apply(("message_put", [message_row(2)]))
            assert caught.value.kind == "read_only"
            one.position -= 1
    frozen.chmod(0o644)
    frozen.parent.chmod(0o755)
    one.apply(("message_put", [message_row(2)]))
    assert one.store.trouble is None
    assert one.numbers() == [1, 2]
    one.close()


def test_a_new_store_in_a_read_only_folder_cannot_be_opened(frozen, local):
    one = local("", str(frozen.with_name("other.db")))
    with nobody(), pytest.raises(CannotOpen, match="Make the folder writable"):
        one.open()
    one.close()


def test_above_its_size_the_store_is_in_trouble_until_room_is_made(local, sqlite_place):
    one = local(**sqlite_place, max_size=300_000)
    one.open()
    one.apply(("message_put", [message_row(n, payload=bytes(1000)) for n in range(1, 100)]))
    assert one.store.trouble is None
    one.apply(("message_put", [message_row(n, payload=bytes(1000)) for n in range(100, 300)]))
    assert one.store.trouble.kind == "full"
    assert len(one.numbers()) == 299  # it was let in, and what makes room still is
    one.apply(("message_sweep", [(1, 250)]))
    assert one.store.trouble is None
    one.close()


def test_a_file_that_can_take_nothing_more_is_trouble_and_loses_nothing(
    local, sqlite_place, monkeypatch
):
    monkeypatch.setattr("broker.storage.sqlite.RESERVE", 0)
    one = local(**sqlite_place, max_size=200_000)
    one.open()
    one.apply(("message_put", [message_row(1)]))
    with pytest.raises(Trouble) as caught:
        one.apply(("message_put", [message_row(n, payload=bytes(1000)) for n in range(2, 300)]))
    assert caught.value.kind == "full"
    one.position -= 1
    assert one.numbers() == [1]
    one.apply(("message_put", [message_row(2)]))
    assert one.numbers() == [1, 2]
    one.close()


def test_a_url_that_is_none_is_told_to_the_operator(local):
    with pytest.raises(CannotOpen, match="cannot be read"):
        local("no url", "")


def test_a_server_without_that_database_is_told_to_the_operator(local, postgresql):
    one = local(postgresql.url.replace("///postgres?", "///nowhere?"), "")
    with pytest.raises(CannotOpen, match="does not exist"):
        one.open()
    one.close()
