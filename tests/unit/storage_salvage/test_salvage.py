"""Whatever happened to the file: a good one takes its place, with all that can still be read."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker.queues.policy import QueuePolicy
from broker.storage.salvage import Salvaged, make_fresh, salvage
from tests.unit.storage_salvage.building import (
    NEXT_NUMBER,
    PAGE,
    SESSIONS,
    TABLES,
    Row,
    build,
    fill,
    owner_of_pages,
    rows_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

OF_QUEUES = {"queued", "queue_payload", "queue_counter"}
STAMP = "20260102T030405Z"
INVARIANTS = (
    "SELECT * FROM subscription WHERE session NOT IN (SELECT id FROM session)",
    "SELECT * FROM member WHERE session NOT IN (SELECT id FROM session)",
    "SELECT * FROM inflight WHERE session NOT IN (SELECT id FROM session)",
    "SELECT * FROM received WHERE session NOT IN (SELECT id FROM session)",
    "SELECT number FROM message WHERE audience NOT IN (SELECT audience FROM member)",
    "SELECT * FROM inflight WHERE state = 0 AND number NOT IN (SELECT number FROM message)",
    "SELECT 1 FROM message WHERE audience IS NULL AND number NOT IN (SELECT number FROM inflight)",
    "SELECT * FROM meta WHERE next_number <= (SELECT max(number) FROM message)",
    "SELECT * FROM meta WHERE next_number <= (SELECT max(cursor) FROM session)",
    "SELECT * FROM meta WHERE next_session <= (SELECT max(id) FROM session)",
    "SELECT * FROM meta WHERE next_audience <= (SELECT max(audience) FROM member)",
)
# rows of other tables go with these
LEADING = frozenset({"session", "member", "message", "inflight"})


class Sample:
    """One good store, what it holds, and which page is whose."""

    def __init__(self, folder: Path) -> None:
        path = folder / "good.db"
        build(path)
        self.rows = rows_of(path)
        self.image = path.read_bytes()
        self.owners = owner_of_pages(path)

    def pages_of(self, table: str) -> list[int]:
        return [page for page, owner in self.owners.items() if owner == table]

    def without(self, *pages: int) -> bytes:
        """The file with these pages overwritten."""
        image = bytearray(self.image)
        for page in pages:
            image[(page - 1) * PAGE : page * PAGE] = random.Random(page).randbytes(PAGE)
        return bytes(image)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "heliograph.db"


def salvaged(path: Path, image: bytes) -> Salvaged:
    """Salvage a file with this content, and look whether the new one hangs together."""
    path.write_bytes(image)
    result = salvage(path, STAMP)
    assert_sound(path)
    assert result.rows == {table: len(rows) for table, rows in rows_of(path).items()}
    return result


def assert_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM meta").fetchone() == (1,)
        for query in INVARIANTS:
            assert connection.execute(query).fetchall() == [], query


def lost_rows(sample: Sample, path: Path) -> dict[str, int]:
    """How many rows of each table are missing; the counters' clean flag is not looked at."""
    have = rows_of(path)
    return {table: len(sample.rows[table] - have[table]) for table in TABLES if table != "meta"}


def nothing_lost(sample: Sample, path: Path) -> bool:
    return not any(lost_rows(sample, path).values())


def test_a_file_without_damage_is_taken_over_whole(sample: Sample, path: Path) -> None:
    result = salvaged(path, sample.image)
    assert nothing_lost(sample, path)
    assert result.lost == []


def test_the_damaged_file_and_its_log_are_kept_aside(path: Path) -> None:
    path.write_bytes(b"damaged")
    Path(f"{path}-wal").write_bytes(b"log")
    Path(f"{path}-shm").write_bytes(b"index of the log")
    result = salvage(path, STAMP)
    assert result.moved_to == path.with_name(f"heliograph.db.damaged-{STAMP}")
    assert result.moved_to.read_bytes() == b"damaged"
    assert Path(f"{result.moved_to}-wal").read_bytes() == b"log"
    assert {file.name for file in path.parent.iterdir()} == {
        path.name,
        result.moved_to.name,
        f"{result.moved_to.name}-wal",
    }


def test_a_second_salvage_in_the_same_second_keeps_both_files(path: Path) -> None:
    for content in (b"first", b"second"):
        path.write_bytes(content)
        assert salvage(path, STAMP).moved_to.read_bytes() == content


@pytest.mark.parametrize("size", [0, 1, PAGE, 20 * PAGE])
def test_a_zeroed_file_gives_an_empty_store_that_says_so(path: Path, size: int) -> None:
    result = salvaged(path, bytes(size))
    assert set(result.rows.values()) == {0, 1}  # the counters are there again
    assert any(line.startswith("waiting messages could not all be read") for line in result.lost)
    assert any(line.startswith("retained messages could not all be") for line in result.lost)


def test_a_missing_file_gives_an_empty_store(path: Path) -> None:
    assert salvage(path, STAMP).rows["message"] == 0
    assert_sound(path)


def test_a_lost_first_page_costs_nothing(sample: Sample, path: Path) -> None:
    salvaged(path, bytes(PAGE) + sample.image[PAGE:])
    assert nothing_lost(sample, path)


def test_a_lost_list_of_tables_costs_nothing(sample: Sample, path: Path) -> None:
    """The file header is good, what follows it in the first page is not."""
    salvaged(path, sample.image[:100] + bytes(PAGE - 100) + sample.image[PAGE:])
    assert nothing_lost(sample, path)


@pytest.mark.parametrize("offset", [0, 16, 18, 19, 20, 21, 25, 31, 33, 39, 43, 47, 55, 59, 63, 95])
def test_a_changed_byte_in_the_file_header_costs_nothing(
    sample: Sample, path: Path, offset: int
) -> None:
    image = bytearray(sample.image)
    image[offset] ^= 0x55
    salvaged(path, bytes(image))
    assert nothing_lost(sample, path)


def test_a_lost_page_costs_the_rows_in_it_and_no_others(sample: Sample, path: Path) -> None:
    """Of every table each third page; a table's first page leads to the others."""
    for table in ("subscription", "retained", "will", "received"):
        for page in sample.pages_of(table)[1::3]:
            before = set(path.parent.iterdir())
            result = salvaged(path, sample.without(page))
            lost = lost_rows(sample, path)
            most = {"received": 400, "subscription": 130}.get(table, 45)
            assert 0 < lost.pop(table) <= most
            assert not any(lost.values())
            assert result.lost, (table, page)
            for left in set(path.parent.iterdir()) - before:
                left.unlink()


def test_a_lost_page_of_messages_costs_what_is_in_it(sample: Sample, path: Path) -> None:
    for page in sample.pages_of("message")[1::9]:
        salvaged(path, sample.without(page))
        lost = lost_rows(sample, path)
        assert lost["message"] <= 40
        assert lost["inflight"] <= lost["message"]
        assert not any(lost[table] for table in set(TABLES) - LEADING - {"meta"})


def test_lost_inner_pages_of_the_trees_cost_next_to_nothing(sample: Sample, path: Path) -> None:
    """What they led to is found page by page; a table without row ids keeps some rows in them."""
    inner = [sample.pages_of(t)[0] for t in ("session", "message", "retained", "will", "member")]
    salvaged(path, sample.without(*inner))
    lost = lost_rows(sample, path)
    assert lost["member"] <= 5
    assert lost["session"] == lost["retained"] == lost["will"] == 0


def test_lost_indexes_cost_nothing(sample: Sample, path: Path) -> None:
    pages = [
        page for page, owner in sample.owners.items() if owner not in (*TABLES, "sqlite_schema")
    ]
    result = salvaged(path, sample.without(*pages))
    assert nothing_lost(sample, path)
    assert result.lost == []


def test_rows_deleted_before_do_not_come_back(sample: Sample, path: Path) -> None:
    """Though every page is looked at: the free ones are known."""
    salvaged(path, sample.without(sample.pages_of("message")[0]))
    assert not rows_of(path)["message"] - sample.rows["message"]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_of_a_truncated_file_the_rest_is_kept(sample: Sample, path: Path, share: float) -> None:
    result = salvaged(path, sample.image[: int(len(sample.image) * share)])
    assert result.lost
    tables_there = {sample.owners.get(n) for n in range(1, int(share * len(sample.owners)))}
    for table in {"session", "subscription"} & tables_there:
        if max(sample.pages_of(table)) < share * len(sample.owners) - 1:
            assert lost_rows(sample, path)[table] == 0


@pytest.mark.parametrize("seed", range(25))
def test_changed_bits_anywhere_leave_a_store_that_hangs_together(
    sample: Sample, path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    image = bytearray(sample.image)
    flips = chance.choice((1, 1, 10, 100, 1000))
    for _ in range(flips):
        image[chance.randrange(len(image))] ^= 1 << chance.randrange(8)
    salvaged(path, bytes(image))
    if flips == 1:  # one page at most
        assert sum(lost_rows(sample, path).values()) < 1000


@pytest.mark.parametrize("seed", range(10))
def test_parts_that_changed_places_leave_a_store_that_hangs_together(
    sample: Sample, path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    pages = [sample.image[at : at + PAGE] for at in range(0, len(sample.image), PAGE)]
    for _ in range(chance.randrange(1, 20)):
        a, b = chance.randrange(len(pages)), chance.randrange(len(pages))
        pages[a] = chance.choice((pages[b], bytes(PAGE), chance.randbytes(PAGE)))
    salvaged(path, b"".join(pages))


def test_a_lost_page_of_queues_costs_what_is_in_it(sample: Sample, path: Path) -> None:
    for page in sample.pages_of("queued")[1::5]:
        result = salvaged(path, sample.without(page))
        lost = lost_rows(sample, path)
        assert 0 < lost["queued"] <= 40
        assert lost["queue_payload"] <= lost["queued"]
        assert not any(lost[table] for table in set(TABLES) - OF_QUEUES - {"meta"})
        assert any(line.startswith("messages in queues could not all") for line in result.lost)


def test_queues_hang_together_after_a_loss(path: Path) -> None:
    """Sums are right, nobody holds what he does not know of, every line has a head."""
    make_fresh(path)
    row = (
        "INSERT INTO queued VALUES (?, 'x.dlq', ?, 5, ?, ?, 7, NULL, 1, 0, 1.0, NULL, NULL, NULL,"
        " NULL, 't', 50, 'p', 104, ?, x'', x'00')"
    )
    held = "SELECT number, queue, state, token FROM queued ORDER BY number"
    with closing(sqlite3.connect(path)) as connection:
        rows = [
            (1, 1, None, None, None),
            (2, 2, None, "k", None),
            (3, 2, None, "k", None),
            (4, 0, None, None, 77),
            (5, 1, 9.5, None, None),
        ]
        connection.executemany(row, rows)
        connection.execute("INSERT INTO queue_payload VALUES (78, 3, x'00')")
        connection.commit()
    salvage(path, STAMP)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(held).fetchall() == [
            (1, "x.dlq", 0, None),
            (2, "x.dlq", 0, 7),
            (3, "x.dlq", 2, 7),
            (5, "x.dlq", 1, 7),
        ]
        assert connection.execute("SELECT * FROM queue_counter").fetchall() == [
            ("x.dlq", 0, 4, 416)
        ]
        ((name, policy),) = connection.execute("SELECT name, policy FROM queue").fetchall()
        assert connection.execute("SELECT count(*) FROM queue_payload").fetchall() == [(0,)]
    assert (name, QueuePolicy.from_json(policy).dead_letters) == ("x.dlq", False)


# ---- the write-ahead log ----


@pytest.fixture
def with_log(path: Path) -> Callable[[], tuple[Path, set[Row]]]:
    """A store whose rows are in the log only, as a kill leaves it."""

    def make() -> tuple[Path, set[Row]]:
        live = path.with_name("live.db")
        make_fresh(live)
        with closing(sqlite3.connect(live, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            fill(connection)
            for end in ("", "-wal"):
                shutil.copyfile(f"{live}{end}", f"{path}{end}")
        return path, rows_of(live)["message"]

    return make


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda image: image, id="none"),
        pytest.param(lambda image: b"", id="no length"),
        pytest.param(lambda image: bytes(len(image)), id="zeroed"),
        pytest.param(lambda image: b"garbage" + image[7:], id="header"),
    ],
)
def test_what_is_in_the_log_is_kept_whatever_the_main_file_is(
    with_log: Callable[[], tuple[Path, set[Row]]], damage: Callable[[bytes], bytes]
) -> None:
    path, messages = with_log()
    salvaged(path, damage(path.read_bytes()))
    assert rows_of(path)["message"] == messages


def test_the_damaged_log_is_kept_as_it_was(
    with_log: Callable[[], tuple[Path, set[Row]]],
) -> None:
    path, _ = with_log()
    log = Path(f"{path}-wal").read_bytes()
    moved_to = salvaged(path, b"").moved_to
    assert Path(f"{moved_to}-wal").read_bytes() == log


@pytest.mark.parametrize("seed", range(10))
def test_a_damaged_log_leaves_a_store_that_hangs_together(
    with_log: Callable[[], tuple[Path, set[Row]]], seed: int
) -> None:
    path, _ = with_log()
    log = Path(f"{path}-wal")
    chance = random.Random(seed)
    image = bytearray(log.read_bytes())
    for _ in range(5):
        image[chance.randrange(len(image))] ^= 0xFF
    log.write_bytes(image[: chance.randrange(len(image))] if seed % 2 else image)
    salvaged(path, path.read_bytes())


# ---- counters, and what is no damage of pages ----


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE inflight SET packet_id = 65536 WHERE session = 1 AND packet_id = 1",
        "UPDATE subscription SET qos = 3 WHERE session = 1 AND qos = 1",
        "UPDATE retained SET topic = CAST(x'ff41' AS TEXT) WHERE topic = 'state/00000'",
        "UPDATE retained SET topic = 'a/#' WHERE topic = 'state/00000'",
        "UPDATE message SET payload = 5 WHERE number = 3",
        "UPDATE will SET due_at = 'soon' WHERE client_id LIKE 'sensor-00002%'",
        "UPDATE session SET client_id = x'00' WHERE id = 3",
    ],
)
def test_a_row_that_makes_no_sense_is_left_out_and_counted(
    sample: Sample, path: Path, statement: str
) -> None:
    path.write_bytes(sample.image)
    change(path, statement)
    result = salvage(path, STAMP)
    assert_sound(path)
    assert any(line.startswith("1 damaged rows made no sense") for line in result.lost)


def test_lost_counters_are_set_above_everything_seen(sample: Sample, path: Path) -> None:
    path.write_bytes(sample.image)
    change(path, "DELETE FROM meta")
    salvage(path, STAMP)
    ((_, position, number, session, audience, store_time, wall_time, clean),) = rows_of(path)[
        "meta"
    ]
    assert (position, store_time, clean) == (0, 0.0, 1)
    assert isinstance(wall_time, float)
    assert wall_time > 1.7e9  # now: or everything would expire at once
    assert number == 901
    assert session == SESSIONS + 1
    assert audience == 101


def test_good_counters_are_kept(sample: Sample, path: Path) -> None:
    salvaged(path, sample.without(sample.pages_of("session")[1]))
    ((_, position, number, *_),) = rows_of(path)["meta"]
    assert (position, number) == (77, NEXT_NUMBER)


# ---- interruptions, and a folder that gives no room ----


def test_an_interrupted_salvage_is_begun_again(sample: Sample, path: Path) -> None:
    folder = path.with_name(f"{path.name}.salvage")
    folder.mkdir()
    (folder / "draft.db").write_bytes(b"half done")
    salvaged(path, sample.image)
    assert nothing_lost(sample, path)
    assert not folder.exists()


def test_a_salvage_interrupted_at_its_very_end_is_finished(sample: Sample, path: Path) -> None:
    folder = path.with_name(f"{path.name}.salvage")
    folder.mkdir()
    (folder / "ready.db").write_bytes(sample.image)
    result = salvaged(path, b"what the log belonged to is not here any more")
    assert nothing_lost(sample, path)
    assert "interrupted" in result.lost[0]


def test_a_folder_that_cannot_be_written_is_an_os_error(path: Path) -> None:
    path.write_bytes(b"damaged")
    path.with_name(f"{path.name}.salvage").write_bytes(b"a file where a folder must be")
    with pytest.raises(OSError, match="exists"):
        salvage(path, STAMP)
    assert path.read_bytes() == b"damaged"
