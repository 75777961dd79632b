"""A broker whose data folder or database is broken starts all the same, says so, and serves."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from broker.packets.types import Publish
from broker.storage.tables import REVISION
from tests.integration.durable import (
    QUOTA_EXCEEDED,
    change,
    is_connected,
    kill_all,
    leave_session,
    mount,
    numbered,
    publish,
    publish_once,
    take_everything,
    wait_for_sys,
)
from tests.integration.peer import Peer, is_served
from tests.support.process import BrokerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.conftest import StartBroker

SOME = 50


@pytest.fixture
def broker(start_broker: StartBroker) -> BrokerProcess:
    """With messages that wait for `absent`."""
    broker = start_broker(settings={"broker": {"sys_interval": 1}})
    leave_session(broker, "absent", "work")
    publish_once(broker, "work", *numbered(SOME))
    return broker


def database_file(broker: BrokerProcess) -> Path:
    return broker.directory / "data" / "heliograph.db"


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def scramble(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [zero, cut_in_half, scramble, empty])
def test_a_broken_database_is_moved_aside_and_told(
    broker: BrokerProcess, harm: Callable[[Path], None]
) -> None:
    broker.stop()  # everything is in the main file now
    harm(database_file(broker))
    broker.start()
    assert "ERROR   store: the database was damaged" in broker.log
    wait_for_sys(broker, "store/alarm", "the database was damaged")
    assert list(database_file(broker).parent.glob("heliograph.db.damaged-*"))
    assert is_served(Peer.of(broker), "anybody")
    leave_session(broker, "later", "work")
    publish_once(broker, "work", b"new")
    kill_all(broker)
    broker.start()
    assert take_everything(broker, "later", "work") == [b"new"]


def test_what_can_be_read_of_a_damaged_database_is_saved(broker: BrokerProcess) -> None:
    publish_once(broker, "state", b"kept", retain=True)
    broker.stop()
    os.truncate(path := database_file(broker), path.stat().st_size - 4096)
    broker.start()
    wait_for_sys(broker, "store/alarm", "a new one holds what could be read: .*of ")
    assert is_served(Peer.of(broker), "anybody")


def test_a_log_that_was_deleted_after_a_crash_is_missed(broker: BrokerProcess) -> None:
    kill_all(broker)
    log = database_file(broker).with_name("heliograph.db-wal")
    assert log.stat().st_size > 0
    log.unlink()
    broker.start()
    wait_for_sys(broker, "store/alarm", "the write-ahead log is missing")
    assert is_served(Peer.of(broker), "anybody")


def test_a_newer_database_is_kept_aside(broker: BrokerProcess) -> None:
    broker.stop()
    change(broker, "UPDATE alembic_version SET version_num = '9999'")
    broker.start()
    wait_for_sys(broker, "store/alarm", "written by a newer release")
    assert is_served(Peer.of(broker), "anybody")
    (aside,) = database_file(broker).parent.glob("heliograph.db.newer-*")
    broker.stop()
    aside.replace(database_file(broker))  # as the newer release would be run with it
    change(broker, f"UPDATE alembic_version SET version_num = '{REVISION}'")
    broker.start()
    assert take_everything(broker, "absent", "work") == numbered(SOME)


def test_no_alarm_is_raised_for_a_database_in_good_order(broker: BrokerProcess) -> None:
    kill_all(broker)
    broker.start()
    broker.stop()
    broker.start()
    assert wait_for_sys(broker, "store/alarms/count", "") == "0"
    assert "ERROR" not in broker.log


# -- the folder ------------------------------------------------------------------------------------


def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet" / "there"
    with BrokerProcess(tmp_path, settings={"broker": {"data_dir": folder}}) as broker:
        leave_session(broker, "absent", "work")
        assert (folder / "heliograph.db").exists()


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    broker = BrokerProcess(tmp_path)
    with pytest.raises(AssertionError, match="ended with exit code 1"):
        broker.start()
    assert f"{tmp_path}/data" in broker.log
    assert "[broker] data_dir" in broker.log
    assert "Traceback" not in broker.log


def test_a_second_broker_on_one_folder_leaves_and_harms_nothing(
    broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = broker.directory / "data"
    settings = {"broker": {"data_dir": folder}}
    second = BrokerProcess(tmp_path_factory.mktemp("second"), settings=settings)
    with pytest.raises(AssertionError, match="ended with exit code 1"):
        second.start()
    assert f"another broker uses this folder: {folder}" in second.log
    assert "Traceback" not in second.log
    assert publish_once(broker, "work", b"still here") == [0]
    kill_all(broker)
    broker.start()
    assert take_everything(broker, "absent", "work") == [*numbered(SOME), b"still here"]


@pytest.fixture
def read_only(broker: BrokerProcess) -> Iterator[BrokerProcess]:
    broker.stop()
    with frozen(broker.directory / "data"):
        broker.start()
        yield broker
        broker.stop()


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Nothing in it can be changed. Permissions do not bind root, mounts do."""
    if os.getuid():
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)
        return
    mount("--bind", folder, folder)
    try:
        mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=10)


def test_a_read_only_folder_refuses_what_it_would_have_to_keep(read_only: BrokerProcess) -> None:
    wait_for_sys(read_only, "store/trouble", "read_only")
    assert is_served(Peer.of(read_only), "anybody")
    with Peer.of(read_only) as peer:
        peer.connect()
        assert publish(peer, "work", [b"kept by nobody"]) == [QUOTA_EXCEEDED]
        assert publish(peer, "state", [b"kept by nobody"], retain=True) == [QUOTA_EXCEEDED]


def test_a_read_only_store_says_nothing_to_who_cannot_be_told(read_only: BrokerProcess) -> None:
    with Peer.of(read_only, version=4) as old, Peer.of(read_only) as other:
        old.connect()
        old.send(Publish("work", b"kept by nobody", 1, packet_id=1))
        other.connect()
        other.subscribe("elsewhere", 1)
        assert publish_once(read_only, "elsewhere", b"live") == [0]
        assert other.take_message() == ("elsewhere", b"live")
        assert is_connected(old)
