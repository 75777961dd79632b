"""A queue against the simplest thing that could be one: a list of dictionaries, looked through."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from broker.storage.queues import administration
from tests.support.queues import Got, QueueStore

LEASE, RETRY = 10.0, 5.0
SLICE = 2  # messages
CONSUMERS = st.sampled_from(["ann", "bob"])
Message = dict[str, Any]


class Model:
    """Plain queues: `q` and its dead letters."""

    def __init__(self, order: str, max_failures: int, on_expiry: str) -> None:
        self.order, self.max_failures, self.on_expiry = order, max_failures, on_expiry
        self.now = 0.0
        self.messages: list[Message] = []  # in the order of their numbers
        self.active, self.active_until = "", 0.0
        self.heads: dict[str, Message] = {}  # whose turn it is, by key

    def put(self, number: int, key: str | None, rank: int, delay: float, ttl: float | None) -> None:
        ends = None if ttl is None else self.now + ttl
        ready_at = self.now + delay
        made = {"number": number, "key": key, "rank": rank, "ready_at": ready_at, "ends": ends}
        made["came"] = self.now
        self.messages.append(made | {"holder": None, "until": 0.0, "failures": 0, "dead": False})

    def lease(self, consumer: str, most: int) -> list[int]:
        self.pass_on()
        if self.order == "single_active" and self.active not in ("", consumer):
            holds = any(each["holder"] == self.active for each in self.alive())
            return [] if holds or self.active_until > self.now else self.take(consumer, most)
        return self.take(consumer, most)

    def take(self, consumer: str, most: int) -> list[int]:
        self.line_up()
        ready = sorted(filter(self.is_ready, self.alive()), key=lambda it: it["rank"])[:most]
        for each in ready:
            each |= {"holder": consumer, "until": self.now + LEASE}
        if ready:
            self.active, self.active_until = consumer, self.now + LEASE
        return [each["number"] for each in ready]

    def is_ready(self, message: Message) -> bool:
        if message["holder"] or message["ready_at"] > self.now:
            return False
        return self.order != "key" or message["key"] is None or self.is_head(message)

    def is_head(self, message: Message) -> bool:
        return self.heads.get(message["key"]) is message

    def line_up(self) -> None:
        """Whoever is at the head of a key stays there; then it is the oldest's turn."""
        alive = self.alive()
        self.heads = {key: each for key, each in self.heads.items() if each in alive}
        for each in alive:
            self.heads.setdefault(each["key"], each)

    def alive(self) -> list[Message]:
        return [each for each in self.messages if not each["dead"]]

    def pass_on(self) -> None:
        """What time does: leases end, then what has expired goes."""
        for each in self.alive():
            if each["holder"] and each["until"] <= self.now:
                self.fail(each, 0.0)
        for each in self.alive():
            if not each["holder"] and each["ends"] is not None and each["ends"] <= self.now:
                self.bury(each, self.on_expiry == "dead_letter")

    def fail(self, message: Message, pause: float) -> str:
        message |= {"holder": None, "ready_at": self.now + pause}
        message["failures"] += 1
        if message["failures"] >= self.max_failures:
            self.bury(message, True)
            return "dead"
        return "ok"

    def bury(self, message: Message, kept: bool) -> None:
        if kept:
            message |= {"dead": True, "holder": None, "ends": None}
        else:
            self.messages.remove(message)

    def find(self, number: int) -> Message | None:
        return next((each for each in self.messages if each["number"] == number), None)


class QueueMachine(RuleBasedStateMachine):
    """Both do the same, and say the same."""

    @initialize(
        order=st.sampled_from(["fifo", "key", "single_active"]),
        max_failures=st.integers(1, 3),
        on_expiry=st.sampled_from(["drop", "dead_letter"]),
    )
    def begin(self, order: str, max_failures: int, on_expiry: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        place = {"url": "", "path": str(Path(self.folder.name) / "x.db")}
        self.queues = QueueStore(place)
        self.queues.define(
            "q",
            order=order,
            max_failures=max_failures,
            on_expiry=on_expiry,
            lease=LEASE,
            retry_jitter=0.0,
        )
        self.model = Model(order, max_failures, on_expiry)
        self.model.now = self.queues.now
        self.leases: list[Got] = []  # whatever has become of them
        self.place: Any = None  # where the next slice of a purge begins
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(administration, "SLICE", SLICE)

    def teardown(self) -> None:
        if hasattr(self, "queues"):
            self.patch.undo()
            self.queues.check()
            self.queues.close()
            self.folder.cleanup()

    @rule(
        key=st.sampled_from(["a", "b", None]),
        rank=st.sampled_from([0, 5, 5, 9]),
        delay=st.sampled_from([0.0, 0.0, 3.0]),
        ttl=st.sampled_from([None, None, 7.0]),
    )
    def put(self, key: str | None, rank: int, delay: float, ttl: float | None) -> None:
        row = self.queues.row("q", key=key, rank=rank, delay=delay, ttl=ttl)
        self.queues.do(("queue_put", [row]))
        self.model.put(row[0], key, rank, delay, ttl)

    @rule(consumer=CONSUMERS, most=st.integers(1, 4))
    def lease(self, consumer: str, most: int) -> None:
        got = self.queues.lease("q", most, consumer, LEASE)
        assert [each.number for each in got] == self.model.lease(consumer, most)
        self.leases += got

    @rule(seconds=st.sampled_from([2.0, 5.5, 11.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.queues.pass_time(seconds)
        self.model.now += seconds

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), verb=st.sampled_from(["ack", "nack", "dead", "return", "renew"]))
    def settle(self, data: st.DataObject, verb: str) -> None:
        got = data.draw(st.sampled_from(self.leases))
        message = self.model.find(got.number)
        assert self._settle(got, verb) == self._expected(got, message, verb)

    def _settle(self, got: Got, verb: str) -> str:
        if verb == "ack":
            return self.queues.ack(got)[0]
        if verb == "renew":
            return self.queues.renew(got, LEASE)
        return self.queues.fail(got, verb, RETRY)

    def _expected(self, got: Got, message: Message | None, verb: str) -> str:
        model = self.model
        if message is None:
            return "gone"
        newest = [each for each in self.leases if each.number == got.number][-1]
        if not message["holder"] or message["until"] <= model.now or got is not newest:
            return "lost"
        if model.active == message["holder"] and verb in ("ack", "renew"):
            model.active_until = model.now + LEASE
        if verb == "nack":
            return model.fail(message, RETRY)
        if verb == "ack":
            model.messages.remove(message)
        elif verb == "renew":
            message["until"] = model.now + LEASE
        elif verb == "return":
            message |= {"holder": None, "ready_at": model.now}
        else:
            model.bury(message, True)
            return "dead"
        return "ok"

    @precondition(lambda self: any(each["holder"] for each in self.model.messages))
    @rule(consumer=CONSUMERS)
    def leave(self, consumer: str) -> None:
        self.queues.leave(consumer)
        for each in self.model.alive():
            if each["holder"] == consumer:
                each |= {"holder": None, "ready_at": self.model.now}
        if self.model.active == consumer:
            self.model.active = ""

    @precondition(lambda self: any(each["dead"] for each in self.model.messages))
    @rule()
    def redrive(self) -> None:
        dead = [each for each in self.model.messages if each["dead"]]
        assert self.queues.redrive("q.dlq") == len(dead)
        for each in dead:
            each |= {"dead": False, "failures": 0, "ready_at": self.model.now}
            each["came"] = self.model.now

    @rule()
    def purge(self) -> None:
        """A slice, the first or the next one: whatever else happens between two of them."""
        if self.place is None:
            numbers = [each["number"] for each in self.model.messages]
            self.bounds = (max(numbers, default=0), self.model.now)
        count, self.place = self.queues.admin("purge", "q", self.place)
        left = {each.number for each in self.queues.peek("q")}
        gone = [each for each in self.model.alive() if each["number"] not in left]
        meant = [each for each in self.model.alive() if self._is_meant(each)]
        assert all(each in meant for each in gone)
        assert count == len(gone) == min(SLICE, len(meant))
        assert (self.place is None) == (count < SLICE)
        for each in gone:
            self.model.messages.remove(each)

    def _is_meant(self, message: Message) -> bool:
        newest, since = self.bounds
        is_old = message["number"] <= newest and message["came"] <= since
        return is_old and not message["holder"]

    @precondition(lambda self: self.queues.position % 5 == 0)
    @rule()
    def restart(self) -> None:
        self.queues.close()
        self.queues.start()

    @invariant()
    def the_same_is_there(self) -> None:
        if hasattr(self, "queues"):
            self.model.line_up()
            for name, dead in (("q", False), ("q.dlq", True)):
                wanted = [each["number"] for each in self.model.messages if each["dead"] is dead]
                assert [each.number for each in self.queues.peek(name)] == wanted


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
