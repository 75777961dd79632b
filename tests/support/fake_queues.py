"""A small queue in memory with the engine's port for doors (`engine.queues`), for tests of doors.

Honest where a door can see it: leases with tokens that end, failures and dead letters, delays,
priorities, FIFO, pause and drain, answers that may come later. It knows no keys, rates or limits
but `max_messages`. Time stands still until `advance` moves it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from broker.queues.delivery import STATES, Delivery
from broker.queues.names import dead_letter_queue, takes_dead_letters
from broker.queues.policy import QueuePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from broker.queues.entry import Entry

READY, LEASED, _, DELAYED = range(len(STATES))
START = 1_700_000_000.0
MODES = {"pause": "paused", "resume": "running", "drain": "draining"}


class FakeQueues:
    """`held` None: answers come at once; a list: they gather there, `let_go` gives them."""

    def __init__(self, *names: str, **policy: Any) -> None:
        self.now = START
        self.policies = {name: QueuePolicy(**policy) for name in names}
        self.modes = dict.fromkeys(names, "running")
        self.messages: dict[int, Delivery] = {}
        self.due: dict[int, float] = {}
        self.calls: list[tuple[Any, ...]] = []  # leases asked for, consumers that left
        self.watchers: list[tuple[str, Callable[[], None]]] = []
        self.held: list[Callable[[], None]] | None = None
        self.bindings: dict[str, list[str]] = {}
        self.full_store = False
        self.slice = 100  # messages that a purge or redrive does at once
        self._next = 1

    # -- for tests ---------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Time passes; what becomes ready wakes those who wait."""
        self.now += seconds
        for message in list(self.messages.values()):
            self._settle(message)
        self.wake()

    def wake(self) -> None:
        for _, wake in list(self.watchers):
            wake()

    def let_go(self) -> None:
        """Give the answers that were held back, and hold none any more."""
        held, self.held = self.held or [], None
        for each in held:
            each()

    def add(self, queue: str, payload: bytes = b"x", **values: Any) -> int:
        """Put a message in, whatever its fields."""
        number, self._next = self._next, self._next + 1
        fields: dict[str, Any] = {
            "key": None, "rank": 5, "topic": f"$queue/{queue}", "properties": b"", "first": 0x32,
            "publisher": "", "enqueued_at": self.now, "lease_until": None, "acquisitions": 0,
            "failures": 0, "expires_at": None, "state": READY,
        }  # fmt: skip
        self.messages[number] = Delivery(number, 0, queue, payload=payload, **(fields | values))
        self._wake(queue)
        return number

    def of(self, queue: str) -> list[Delivery]:
        """The messages of a queue by number."""
        return [each for _, each in sorted(self.messages.items()) if each.queue == queue]

    # -- the port ----------------------------------------------------------------------------

    @property
    def names(self) -> Collection[str]:
        return self.policies

    def policy_of(self, name: str) -> QueuePolicy | None:
        return self.policies.get(name)

    def consumers(self, name: str) -> int:
        return sum(1 for queue, _ in self.watchers if queue == name)

    def define(self, name: str, policy: QueuePolicy, bindings: list[str]) -> None:
        self.policies[name] = policy
        self.modes.setdefault(name, "running")
        self.bindings[name] = list(bindings)

    def watch(self, queue: str, wake: Callable[[], None]) -> Callable[[], None]:
        entry = (queue, wake)
        self.watchers.append(entry)
        return lambda: self.watchers.remove(entry)

    def lease(
        self, queue: str, consumer: str, most: int, seconds: float | None,
        answer: Callable[[str, list[Delivery], float | None], None],
    ) -> None:  # fmt: skip
        self.calls.append(("lease", queue, consumer, most, seconds))
        self._later(lambda: answer(*self._lease(queue, consumer, most, seconds)))

    def ack(self, receipts: Sequence[tuple[int, int]], answer: Callable[[list[str]], None]) -> None:
        self._later(lambda: answer([self._ack(*each) for each in receipts]))

    def fail(
        self, receipts: Sequence[tuple[int, int]], kind: str, delay: float | None, reason: str,
        answer: Callable[[list[str]], None],
    ) -> None:  # fmt: skip
        self._later(lambda: answer([self._fail(*each, kind, delay, reason) for each in receipts]))

    def renew(
        self, receipts: Sequence[tuple[int, int]], seconds: float,
        answer: Callable[[list[str]], None],
    ) -> None:  # fmt: skip
        self._later(lambda: answer([self._renew(*each, seconds) for each in receipts]))

    def leave(self, consumer: str) -> None:
        self.calls.append(("leave", consumer))
        for each in list(self.messages.values()):
            if each.state == LEASED and each.consumer == consumer:
                self._back(each)

    def put(
        self, entry: Entry, topic: str, payload: bytes, properties: bytes, publisher: str,
        answer: Callable[[str, int | None], None],
    ) -> None:  # fmt: skip
        status = self._refusal(entry.queue)
        if status:
            self._later(lambda: answer(status, None))
            return
        number = self.add(
            entry.queue, payload, key=entry.key, rank=9 - entry.priority, topic=topic,
            properties=properties, publisher=publisher,
            expires_at=None if entry.ttl is None else self.now + entry.ttl,
            state=DELAYED if entry.delay else READY,
        )  # fmt: skip
        if entry.delay:
            self.due[number] = self.now + entry.delay
        self._later(lambda: answer("ok", number))

    def admin(
        self, verb: str, queue: str, arguments: tuple[Any, ...], answer: Callable[[Any], None]
    ) -> None:
        self._later(lambda: answer(self._admin(verb, queue, arguments)))

    def stats(self, name: str | None, answer: Callable[[list[dict[str, Any]]], None]) -> None:
        chosen = [each for each in self.policies if name in (None, each)]
        self._later(lambda: answer([self._stats(each) for each in chosen]))

    def peek(
        self, queue: str, after: int, most: int, answer: Callable[[list[Delivery]], None]
    ) -> None:
        found = [each for each in self.of(queue) if each.number > after][:most]
        self._later(lambda: answer([replace(each, token=0) for each in found]))

    # -- inside ------------------------------------------------------------------------------

    def _later(self, give: Callable[[], None]) -> None:
        if self.held is None:
            give()
        else:
            self.held.append(give)

    def _wake(self, queue: str) -> None:
        for name, wake in list(self.watchers):
            if name == queue:
                wake()

    def _settle(self, message: Delivery) -> None:
        if message.expires_at is not None and message.expires_at <= self.now:
            del self.messages[message.number]
        elif message.state == LEASED and (message.lease_until or self.now + 1) <= self.now:
            self._failed(message, 0.0, "lease ended")
        elif message.state == DELAYED and self.due[message.number] <= self.now:
            message.state = READY

    def _lease(
        self, queue: str, consumer: str, most: int, seconds: float | None
    ) -> tuple[str, list[Delivery], float | None]:
        policy = self.policies.get(queue)
        if policy is None:
            return "unknown", [], None
        running = self.modes[queue] != "paused"
        ready = [each for each in self.of(queue) if each.state == READY and running]
        taken = sorted(ready, key=lambda each: (each.rank, each.number))[:most]
        for each in taken:
            each.state, each.token, each.consumer = LEASED, 0x5000 + self._next, consumer
            self._next += 1
            each.acquisitions += 1
            each.lease_until = self.now + (policy.lease if seconds is None else seconds)
        return "ok", [replace(each) for each in taken], None

    def _held_by(self, number: int, token: int) -> str:
        message = self.messages.get(number)
        if message is None:
            return "gone"
        return "ok" if message.state == LEASED and message.token == token else "lost"

    def _ack(self, number: int, token: int) -> str:
        found = self._held_by(number, token)
        if found == "ok":
            del self.messages[number]
        return found

    def _renew(self, number: int, token: int, seconds: float) -> str:
        found = self._held_by(number, token)
        if found == "ok":
            self.messages[number].lease_until = self.now + seconds
        return found

    def _fail(self, number: int, token: int, kind: str, delay: float | None, reason: str) -> str:
        found = self._held_by(number, token)
        if found != "ok":
            return found
        message = self.messages[number]
        if kind == "return":
            self._back(message)
            return "ok"
        if kind == "dead":
            return self._die(message, reason or "rejected")
        pause = self.policies[message.queue].retry_first if delay is None else delay
        return self._failed(message, pause, "failures")

    def _failed(self, message: Delivery, delay: float, reason: str) -> str:
        message.failures += 1
        limit = self.policies[message.queue].max_failures
        if limit and message.failures >= limit:
            return self._die(message, reason)
        self._back(message)
        if delay:
            message.state, self.due[message.number] = DELAYED, self.now + delay
        return "ok"

    def _back(self, message: Delivery) -> None:
        message.state, message.token = READY, 0
        message.lease_until = message.consumer = None
        self._wake(message.queue)

    def _die(self, message: Delivery, reason: str) -> str:
        if takes_dead_letters(message.queue):
            del self.messages[message.number]
            return "dead"
        target = dead_letter_queue(message.queue)
        self.define(target, QueuePolicy.for_dead_letters(self.policies[message.queue]), [])
        message.dead_from, message.dead_reason, message.dead_at = message.queue, reason, self.now
        message.queue = target
        self._back(message)
        return "dead"

    def _refusal(self, queue: str) -> str:
        if self.full_store:
            return "unavailable"
        if queue not in self.policies:
            return "unknown"
        if self.modes[queue] == "draining":
            return "draining"
        return "full" if len(self.of(queue)) >= self.policies[queue].max_messages else ""

    def _admin(self, verb: str, queue: str, arguments: tuple[Any, ...]) -> Any:
        if queue not in self.policies:
            return "unknown"
        if verb in MODES:
            self.modes[queue] = MODES[verb]
            self._wake(queue)
            return MODES[verb]
        return {"purge": self._purge, "delete": self._delete, "redrive": self._redrive,
                "unbind": self._unbind, "drop": self._drop}[verb](queue, *arguments)  # fmt: skip

    def _drop(self, queue: str, place: Any = None) -> Any:
        if self.consumers(queue) or any(each.state == LEASED for each in self.of(queue)):
            return "in use"
        count, place = self._purge(queue, place)
        if place is None:
            del self.policies[queue]
        return count, place

    def _unbind(self, queue: str, topic_filter: str) -> str:
        bound = self.bindings.get(queue, [])
        if topic_filter not in bound:
            return "not bound"
        bound.remove(topic_filter)
        return "ok"

    def _delete(self, queue: str, number: int) -> int:
        gone = [each for each in self._loose(queue) if each.number == number]
        for each in gone:
            del self.messages[each.number]
        return len(gone)

    def _loose(self, queue: str) -> list[Delivery]:
        return [each for each in self.of(queue) if each.state != LEASED]

    def _purge(self, queue: str, place: tuple[int] | None = None) -> tuple[int, Any]:
        (up_to,) = place or (self._next - 1,)
        gone = [each for each in self._loose(queue) if each.number <= up_to][: self.slice]
        for each in gone:
            del self.messages[each.number]
        return len(gone), (up_to,) if len(gone) == self.slice else None

    def _redrive(
        self, queue: str, numbers: list[int] | None, to: str | None, payload: bytes | None,
        place: tuple[int, int] | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        after, up_to = place or (0, self._next - 1)
        chosen = [
            each
            for each in self._loose(queue)
            if (to or each.dead_from) and (numbers is None or each.number in numbers)
            if after < each.number <= up_to
        ][: self.slice]
        for each in chosen:
            each.queue = to or each.dead_from or ""
            each.payload = each.payload if payload is None else payload
            each.dead_from = each.dead_reason = each.dead_at = None
            each.failures = each.acquisitions = 0
            self._back(each)
        is_last = len(chosen) < self.slice
        return len(chosen), None if is_last else (chosen[-1].number, up_to)

    def _stats(self, name: str) -> dict[str, Any]:
        held = self.of(name)
        loose = [each for each in held if each.state != LEASED]
        counts = {
            state: sum(each.state == number for each in held) for number, state in enumerate(STATES)
        }
        return {
            "name": name,
            "mode": self.modes[name],
            "origin": "config",
            "policy": self.policies[name].to_json(),
            "messages": len(held),
            "bytes": sum(len(each.payload) + 100 for each in held),
            **counts,
            "oldest_age": self.now - min(each.enqueued_at for each in loose) if loose else None,
            "dead": len(self.of(dead_letter_queue(name))),
            "active": None,
            "bindings": json.dumps(self.bindings.get(name, [])),
        }
