"""The broker's side of the store process, on both event loops, with a store process that misbehaves
on demand (tests/support/fake_store_worker.py).
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from broker.storage import child, process
from broker.storage.process import StoreError, StoreProcess
from tests.support.fake_store_worker import COMMAND, read_book

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

LONGEST_WAIT = 20.0  # seconds: far more than needed, so that only a hang reaches it
LARGE = 48 * 1024 * 1024  # bytes: hundreds of times what the socket holds
ROW = [("session_drop", [(1,)])]

PARENT = """
import asyncio, sys
from broker.storage.process import StoreProcess
async def main():
    config = {"book": sys.argv[1], "witness": sys.argv[2]}
    store = StoreProcess(asyncio.get_running_loop(), config, sys.argv[3:])
    await store.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Owner:
    """Starts a store process with the fake worker, and sees everything that it is told."""

    def __init__(self, book: Path, **config: Any) -> None:
        self.book = book
        self.loop = asyncio.get_running_loop()
        self.events: list[tuple[Any, ...]] = []
        self.faults: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))
        self.store = StoreProcess(self.loop, {"book": str(book), **config}, COMMAND)
        for kind in ("committed", "trouble", "well", "alarm", "log"):
            setattr(self.store, f"on_{kind}", self.note(kind))

    def note(self, kind: str) -> Callable[..., None]:
        def see(*args: Any) -> None:
            self.events.append((kind, *args))
            self._changed.set()

        return see

    async def until(self, *event: Any) -> None:
        """An event that starts with these has been seen."""
        async with asyncio.timeout(LONGEST_WAIT):
            while not any(seen[: len(event)] == event for seen in self.events):
                self._changed.clear()
                await self._changed.wait()

    async def ask(self, name: str, *args: Any) -> Any:
        answered = self.loop.create_future()
        self.store.ask(name, args, answered.set_result)
        async with asyncio.timeout(LONGEST_WAIT):
            return await answered

    def of(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[0] in kinds]

    def written(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [event for event in read_book(self.book) if event[0] in kinds]


class Owners:
    """Makes owners for one test on its loop, and stops them all."""

    def __init__(self, runner: asyncio.Runner, book: Path) -> None:
        self.runner = runner
        self.book = book
        self.made: list[Owner] = []

    def __call__(self, **config: Any) -> Owner:
        self.made.append(Owner(self.book, **config))
        return self.made[-1]

    async def stop(self) -> None:
        for owner in self.made:
            await owner.store.stop(0.0)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def owners(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Owners]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        made = Owners(runner, tmp_path / "book")
        yield made
        runner.run(made.stop())


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test is run by the loop of its `owners`."""

    @functools.wraps(test)
    def run(owners: Owners, **others: Any) -> None:
        owners.runner.run(test(owners, **others))

    return run


# -- in good order ---------------------------------------------------------------------------------


@on_each_loop
async def test_start_returns_what_has_been_loaded(owners):
    assert (await owners().store.start())["life"] == 1


@on_each_loop
async def test_batches_and_questions_arrive_in_the_order_they_were_given(owners):
    owner = owners()
    await owner.store.start()
    owner.store.submit(1, True, ROW)
    owner.store.ask("echo", ("between",), lambda _: owner.events.append(("answer",)))
    owner.store.submit(2, False, [])
    await owner.until("committed", 2)
    assert owner.written("batch", "ask") == [
        ("batch", 1, True, ROW),
        ("ask", "echo", ("between",)),
        ("batch", 2, False, []),
    ]
    assert owner.events == [
        ("committed", 1, 0.25, 1, [], []),
        ("answer",),
        ("committed", 2, 0.25, 0, [], []),
    ]


@on_each_loop
async def test_what_is_given_before_the_start_waits_for_it(owners):
    owner = owners()
    owner.store.submit(1, True, ROW)
    starting = asyncio.ensure_future(owner.store.start())
    await asyncio.sleep(0)  # it has been spawned
    owner.store.submit(2, True, ROW)
    await starting
    await owner.ask("echo", "everything so far has arrived")
    assert [event[1] for event in owner.written("batch")] == [1, 2]


@on_each_loop
async def test_pending_bytes_are_those_not_reported_as_committed(owners):
    owner = owners(holds=True)
    await owner.store.start()
    owner.store.submit(1, True, [("retained_drop", [("x" * 1000,)])])
    assert 1000 < owner.store.pending_bytes < 1200
    await owner.ask("release")
    assert owner.store.pending_bytes == 0


@on_each_loop
async def test_a_batch_may_be_changed_by_its_owner_after_it_was_submitted(owners):
    owner = owners()
    operations = list(ROW)
    owner.store.submit(1, True, operations)
    operations.clear()
    await owner.store.start()
    await owner.until("committed", 1)
    assert owner.written("batch") == [("batch", 1, True, ROW)]


@on_each_loop
async def test_frames_far_larger_than_the_socket_pass_in_both_directions(owners):
    owner = owners()
    await owner.store.start()
    sent = os.urandom(LARGE)
    assert await owner.ask("echo", sent) == sent


@on_each_loop
async def test_a_process_that_does_not_read_holds_nobody_up(owners):
    owner = owners()
    await owner.store.start()
    owner.store.ask("hang", (), lambda _: None)
    owner.store.submit(1, True, [("retained_drop", [("x" * LARGE,)])])
    await asyncio.sleep(0)  # the loop turns, though nobody takes the batch
    assert owner.store.pending_bytes > LARGE


@on_each_loop
async def test_trouble_is_passed_on_until_the_store_is_well(owners):
    owner = owners()
    await owner.store.start()
    await owner.ask("tell", ("trouble", "full", "no room"), ("well",), ("alarm", "moved aside"))
    assert owner.events == [("trouble", "full", "no room"), ("well",), ("alarm", "moved aside")]


@on_each_loop
async def test_each_line_on_its_standard_error_is_handed_on(owners):
    owner = owners()
    await owner.store.start()
    await owner.ask("print", "one\ntw")
    await owner.ask("print", "o\nthree")
    await owner.store.stop()
    assert owner.of("log") == [("log", "one"), ("log", "two"), ("log", "three")]


@on_each_loop
async def test_a_callback_that_raises_is_reported_and_the_next_ones_are_called(owners):
    owner = owners()
    await owner.store.start()
    owner.store.on_committed = lambda *_: 1 / 0
    owner.store.submit(1, True, ROW)
    owner.store.ask("echo", ("x",), lambda _: 1 / 0)
    assert await owner.ask("echo", "still here") == "still here"
    assert [type(fault["exception"]) for fault in owner.faults] == [ZeroDivisionError] * 2
    assert owner.store.pending_bytes == 0


@on_each_loop
async def test_a_callback_that_raises_does_not_cost_the_frames_that_came_with_it(owners):
    owner = owners()
    await owner.store.start()
    owner.store.on_alarm = lambda _: 1 / 0
    await owner.ask("tell", ("alarm", "lost"), ("no such frame",), ("trouble", "full", "no room"))
    assert owner.events == [("trouble", "full", "no room")]
    assert len(owner.faults) == 2


# -- it cannot be opened ---------------------------------------------------------------------------


@on_each_loop
async def test_a_store_that_cannot_be_opened_is_an_error_with_its_own_words(owners):
    with pytest.raises(StoreError, match=r"^make room on the disk$"):
        await owners(refuse="make room on the disk").store.start()


@on_each_loop
async def test_a_process_that_dies_before_opening_is_an_error_with_its_last_words(owners):
    with pytest.raises(StoreError, match=r"exit code 3 before opening\ncannot go on: no such"):
        await owners(die_opening=3).store.start()


@on_each_loop
async def test_a_process_that_cannot_be_started_is_an_error(owners):
    store = StoreProcess(asyncio.get_running_loop(), {}, ["/nowhere/to/be/found"])
    with pytest.raises(StoreError, match="cannot be started"):
        await store.start()


@on_each_loop
async def test_a_start_that_is_cancelled_leaves_no_process(owners, tmp_path):
    path = tmp_path / "witness"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        owner = owners(witness=str(path))
        starting = asyncio.ensure_future(owner.store.start())
        await asyncio.sleep(0)  # it has been spawned
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await owner.store.stop()
    assert not owner.book.exists()  # it was ended before it could do anything


# -- it dies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["die_before", "die_after"])
@on_each_loop
async def test_a_batch_at_whose_commit_it_dies_is_committed_once_and_reported(owners, moment):
    owner = owners(**{moment: 2})
    await owner.store.start()
    for position in (1, 2, 3):
        owner.store.submit(position, True, ROW)
    await owner.until("committed", 3)
    assert [event[1] for event in owner.written("batch")] == [1, 2, 3]
    assert [event[1] for event in owner.of("committed")] == [1, 2, 3]
    assert owner.store.pending_bytes == 0


@on_each_loop
async def test_its_death_is_trouble_at_once_and_an_alarm_and_ends_with_a_commit(owners):
    owner = owners(die_before=1)
    await owner.store.start()
    owner.store.submit(1, True, ROW)
    await owner.until("well")
    assert [event[:2] for event in owner.events] == [
        ("trouble", "away"),
        ("alarm", "the store process ended with signal SIGKILL: starting it again"),
        ("committed", 1),
        ("well",),
    ]


@on_each_loop
async def test_the_trouble_of_an_idle_store_ends_when_it_is_open_again(owners):
    owner = owners()
    await owner.store.start()
    os.kill(await owner.ask("pid"), signal.SIGKILL)
    await owner.until("well")
    assert [event[0] for event in owner.events] == ["trouble", "alarm", "well"]


@on_each_loop
async def test_batches_and_unanswered_questions_are_given_again_in_their_order(owners):
    owner = owners()
    await owner.store.start()
    owner.store.ask("exit_once", (7,), lambda _: None)
    owner.store.submit(1, True, ROW)
    asked = asyncio.ensure_future(owner.ask("echo", "after the first"))
    await owner.until("trouble", "away")
    owner.store.submit(2, True, ROW)  # nobody lives to take it
    assert await asked == "after the first"
    await owner.until("committed", 2)
    assert owner.written("life", "batch", "ask") == [
        ("life", 1),
        ("ask", "exit_once", (7,)),
        ("life", 2),
        ("ask", "exit_once", (7,)),
        ("batch", 1, True, ROW),
        ("ask", "echo", ("after the first",)),
        ("batch", 2, True, ROW),
    ]


@on_each_loop
async def test_what_is_submitted_from_a_report_comes_after_what_was_kept(owners):
    owner = owners(die_after=1)
    seen = owner.store.on_committed

    def submit_more(position: int, *more: Any) -> None:
        if position == 1:
            owner.store.submit(3, True, ROW)
        seen(position, *more)

    owner.store.on_committed = submit_more
    await owner.store.start()
    owner.store.submit(1, True, ROW)
    owner.store.submit(2, True, ROW)
    await owner.until("committed", 3)
    assert [event[1] for event in owner.written("batch")] == [1, 2, 3]


@on_each_loop
async def test_half_a_large_frame_is_given_again_as_a_whole(owners):
    owner = owners()
    await owner.store.start()
    owner.store.ask("exit_once", (7,), lambda _: None)
    sent = os.urandom(LARGE)
    assert await owner.ask("echo", sent) == sent
    assert owner.written("life") == [("life", 1), ("life", 2)]


@on_each_loop
async def test_it_is_started_until_it_opens_and_the_alarms_of_a_new_life_are_passed_on(owners):
    owner = owners(die_reopening=4, alarms=["a page was unreadable"])
    await owner.store.start()
    os.kill(await owner.ask("pid"), signal.SIGKILL)
    await owner.until("well")
    assert owner.written("life")[-1] == ("life", 3)
    assert [event[1] for event in owner.of("alarm")] == [
        "the store process ended with signal SIGKILL: starting it again",
        "the store process ended with exit code 4: starting it again",
        "a page was unreadable",
    ]


@on_each_loop
async def test_trouble_that_the_new_life_has_is_not_over_with_its_first_commit(owners):
    owner = owners()
    await owner.store.start()
    os.kill(await owner.ask("pid"), signal.SIGKILL)
    await owner.until("well")
    owner.events.clear()
    await owner.ask("tell", ("trouble", "full", "no room"))
    owner.store.submit(1, True, ROW)
    await owner.until("committed", 1)
    assert owner.of("well") == []


@on_each_loop
async def test_a_process_that_speaks_nonsense_is_killed_and_started_again(owners):
    owner = owners()
    await owner.store.start()
    await owner.ask("babble", b"\0\0\0\1?")
    assert owner.written("life") == [("life", 1), ("life", 2)]


@on_each_loop
async def test_a_process_that_only_closes_its_stream_is_killed_and_started_again(
    owners, monkeypatch
):
    monkeypatch.setattr(child, "LINGER", 0.0)
    owner = owners()
    await owner.store.start()
    owner.store.ask("close_stream_and_hang", (), lambda _: None)
    await owner.until("alarm", "the store process ended with signal SIGKILL: starting it again")


# -- it stops --------------------------------------------------------------------------------------


@on_each_loop
async def test_stop_waits_for_the_last_commits_and_closes_the_store(owners):
    owner = owners(holds=True)
    await owner.store.start()
    owner.store.submit(1, True, ROW)
    stopping = asyncio.ensure_future(owner.store.stop())
    await owner.ask("echo", "everything so far has arrived")
    assert not stopping.done()
    await owner.ask("release")
    await stopping
    assert owner.written("batch", "close", "end") == [("batch", 1, True, ROW), ("close",)]
    assert owner.of("trouble", "alarm") == []


@on_each_loop
async def test_stop_waits_for_a_store_process_that_has_to_be_started_again(owners):
    owner = owners(die_before=1)
    await owner.store.start()
    owner.store.submit(1, True, ROW)
    await owner.store.stop()
    assert owner.written("batch", "close") == [("batch", 1, True, ROW), ("close",)]


@on_each_loop
async def test_stop_does_not_wait_for_an_idle_store_process_to_be_started_again(
    owners, monkeypatch
):
    monkeypatch.setattr(process, "FIRST_PAUSE", 0.0)
    owner = owners()
    await owner.store.start()
    os.kill(await owner.ask("pid"), signal.SIGKILL)
    await owner.until("alarm")
    await owner.store.stop()
    await asyncio.sleep(0)  # a timer that had been left would go off
    await asyncio.sleep(0)
    await owner.store.stop()
    assert owner.written("life") == [("life", 1)]


@on_each_loop
async def test_stop_kills_a_process_that_does_not_commit(owners):
    owner = owners(holds=True)
    await owner.store.start()
    owner.store.submit(1, True, ROW)
    await owner.store.stop(0.0)
    ((_, text),) = owner.of("alarm")
    assert text.endswith(f"{owner.store.pending_bytes} bytes of changes are not committed")
    assert owner.written("batch", "close") == []


@on_each_loop
async def test_stop_kills_a_process_that_hangs(owners):
    owner = owners()
    await owner.store.start()
    pid = await owner.ask("pid")
    owner.store.ask("hang", (), lambda _: None)
    await owner.store.stop(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@on_each_loop
async def test_a_stopped_store_process_is_not_started_again(owners):
    owner = owners()
    await owner.store.start()
    await owner.store.stop()
    await owner.store.stop()
    assert owner.written("life", "close") == [("life", 1), ("close",)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@on_each_loop
async def test_it_outlives_the_signals_that_stop_a_broker(owners, number):
    owner = owners()
    await owner.store.start()
    os.kill(await owner.ask("pid"), number)
    owner.store.submit(1, True, ROW)
    await owner.until("committed", 1)
    assert owner.of("alarm") == []


def test_it_ends_when_the_broker_is_killed(tmp_path):
    path, book = tmp_path / "witness", tmp_path / "book"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(LONGEST_WAIT)
        arguments = [sys.executable, "-c", PARENT, str(book), str(path), *COMMAND]
        with subprocess.Popen(arguments) as parent:
            witness, _ = listener.accept()
            parent.kill()
        with witness:
            witness.settimeout(LONGEST_WAIT)
            assert witness.recv(1) == b""  # the store process has ended
    assert read_book(book)[-1] == ("end",)
