"""`python -m tests.integration.volume`: a million messages wait, a million topics are retained.

Not part of `make test`: it takes minutes. What must hold: the broker itself never needs more than
150 MiB, takes clients less than 2 s after a kill, and gives back every message in order. All other
figures are for reading.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

from tests.crash import wire
from tests.crash.victim import family
from tests.support.postgresql import PostgreSQL
from tests.support.process import BrokerProcess

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator

MOST_MEMORY = 150 * 2**20  # bytes of the broker, at any time
LONGEST_RESTART = 2.0  # seconds from the start of the process to the first CONNACK
PUBLISHERS = 4
AT_ONCE = 1000  # messages that one publisher sends before it reads the acknowledgements
SITES = 100  # the retained topics are those of so many sites
SIZE = 64  # bytes of a payload
PATIENCE = 30.0  # seconds that nothing at all comes
VERSION = wire.V3_1_1
ABSENT = "absent"
ROOMY = {
    "backlog_messages": 100_000_000,
    "backlog_bytes": 2**36,
    "max_retained_messages": 100_000_000,
    "max_retained_bytes": 2**36,
}


class Client:
    """A blocking socket that has connected."""

    def __init__(self, broker: BrokerProcess, client_id: str, *, clean: bool = True) -> None:
        self.socket: socket.socket = broker.endpoints["tcp"].open_socket()
        self.socket.settimeout(PATIENCE)
        self._splitter = wire.Splitter()
        self._ready: list[tuple[int, bytes]] = []
        self.socket.sendall(wire.connect(VERSION, client_id, clean))
        connack = wire.read_connack(VERSION, self.take())
        assert connack.reason == 0, connack
        self.session_present = connack.session_present

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def take(self) -> bytes:
        """The body of the next packet alone."""
        _, body = (chunk := next(self.chunks())).pop(0)
        self._ready = chunk
        return body

    def chunks(self) -> Iterator[list[tuple[int, bytes]]]:
        """The packets of each read: (first byte, body)."""
        while True:
            packets, self._ready = self._ready, []
            if packets:
                yield packets
                continue
            data = self.socket.recv(1 << 18)
            assert data, "the broker has closed the connection"
            self._ready = self._splitter.feed(data)

    def subscribe(self, name: str, qos: int) -> None:
        """Without waiting for the answer."""
        self.socket.sendall(wire.subscribe(VERSION, 1, {name: qos}))

    def expect_acknowledgements(self, count: int) -> None:
        for chunk in self.chunks():
            assert all(first >> 4 == wire.PUBACK for first, _ in chunk), chunk
            count -= len(chunk)
            if not count:
                return


class Observer:
    """What the broker's processes need; the peaks are those since `begin`."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker = broker
        self.most_memory = 0

    def begin(self) -> None:
        self._began = time.monotonic()
        self._written = self._bytes_written()
        self._busy = self._seconds_busy()
        for pid in family(self._broker.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def end(self, what: str, count: int) -> None:
        seconds = time.monotonic() - self._began
        written = self._bytes_written() - self._written
        busy = [now - then for now, then in zip(self._seconds_busy(), self._busy, strict=True)]
        peaks = [peak_of(pid) for pid in family(self._broker.pid)]
        self.most_memory = max(self.most_memory, peaks[0])
        say(
            f"{what:<34}{count:>9,} in {seconds:7.2f} s {count / seconds:>9,.0f}/s"
            f"   peak MiB: broker {mib(peaks[0])}, store {mib(sum(peaks[1:]))}"
            f"   CPU s: broker {busy[0]:.1f}, store {sum(busy[1:]):.1f}"
            f"   written {written / 2**20:,.0f} MiB",
        )

    def _seconds_busy(self) -> list[float]:
        return [seconds_of(pid) for pid in family(self._broker.pid)]

    def _bytes_written(self) -> int:
        return sum(bytes_written_by(pid) for pid in family(self._broker.pid))


def publish(
    broker: BrokerProcess, count: int, topic_of: Callable[[int], str], *, retain: bool
) -> None:
    """By several publishers in turns: while one waits, the next one's messages are on their way."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(broker, f"publisher-{n}")) for n in range(PUBLISHERS)]
        waiting: dict[Client, int] = {}
        for turn, start in enumerate(range(0, count, AT_ONCE)):
            client = clients[turn % PUBLISHERS]
            client.expect_acknowledgements(waiting.pop(client)) if client in waiting else None
            numbers = range(start, min(start + AT_ONCE, count))
            client.socket.sendall(b"".join(encoded(numbers, topic_of, retain)))
            waiting[client] = len(numbers)
        for client, missing in waiting.items():
            client.expect_acknowledgements(missing)


def encoded(
    numbers: Iterable[int], topic_of: Callable[[int], str], retain: bool
) -> Iterator[bytes]:
    for number in numbers:
        message = wire.Publish(
            topic_of(number), payload_of(number), 1, False, retain, number % AT_ONCE + 1
        )
        yield wire.publish(VERSION, message)


def payload_of(number: int) -> bytes:
    return b"%064d" % number


def queue_topic(number: int) -> str:
    return f"queue/{number // AT_ONCE % PUBLISHERS}"  # one for each publisher


def retained_topic(number: int) -> str:
    return f"site/{number % SITES:03}/dev/{number // SITES:05}/temp"


def drain(broker: BrokerProcess, count: int) -> None:
    """Everything, each once, in the order of each publisher."""
    latest: Counter[str] = Counter()
    with Client(broker, ABSENT, clean=False) as client:
        assert client.session_present
        for chunk in client.chunks():
            messages = [wire.read_publish(VERSION, first, body) for first, body in chunk]
            client.socket.sendall(
                b"".join(wire.ack(wire.PUBACK, each.packet_id) for each in messages)
            )
            for each in messages:
                number = int(each.payload) + 1
                assert latest[each.topic] < number, f"{number} after {latest[each.topic]}"
                latest[each.topic] = number
            count -= len(messages)
            if count <= 0:
                break
    assert not count, f"{-count} messages too many"


def read_retained(broker: BrokerProcess, name: str, count: int) -> None:
    """Each once."""
    found: set[bytes] = set()  # the payloads, all different
    with Client(broker, "reader") as client:
        client.subscribe(name, 0)
        for first, body in chain.from_iterable(client.chunks()):
            if first >> 4 == wire.PUBLISH:
                payload = wire.read_publish(VERSION, first, body).payload
                assert payload not in found, f"{payload!r} of {name} came twice"
                found.add(payload)
            if len(found) >= count:
                return


def restart(broker: BrokerProcess, observer: Observer) -> float:
    """Killed and started again; the seconds from the new process to its first CONNACK."""
    broker.kill()
    began = time.monotonic()
    broker.start()
    with Client(broker, "first"):
        taken = time.monotonic() - began
    processes = family(broker.pid)
    busy = [seconds_of(pid) for pid in processes]
    memory = [peak_of(pid) for pid in processes]
    observer.most_memory = max(observer.most_memory, memory[0])
    say(
        f"kill -9, to the first CONNACK: {taken:.2f} s"
        f"   peak MiB: broker {mib(memory[0])}, store {mib(sum(memory[1:]))}"
        f"   CPU s: broker {busy[0]:.1f}, store {sum(busy[1:]):.1f}",
    )
    return taken


def measure(broker: BrokerProcess, observer: Observer, messages: int, retained: int) -> float:
    """All phases; the seconds that the restart took."""
    with Client(broker, ABSENT, clean=False) as client:
        client.subscribe("queue/#", 1)
        assert client.take()[2] == 1
    observer.begin()
    publish(broker, messages, queue_topic, retain=False)
    observer.end("queued for an absent session", messages)
    observer.begin()
    publish(broker, retained, retained_topic, retain=True)
    observer.end("retained", retained)
    say_sizes(broker.directory / "data")
    taken = restart(broker, observer)
    observer.begin()
    drain(broker, messages)
    observer.end("drained", messages)
    of_one_site, of_all_sites = retained // SITES, SITES
    for name, count in (
        ("site/042/dev/+/temp", of_one_site),
        ("site/+/dev/00001/temp", of_all_sites),
        ("site/#", retained),
    ):
        observer.begin()
        read_retained(broker, name, count)
        observer.end(name, count)
    say_sizes(broker.directory / "data")
    return taken


def say_sizes(folder: Path) -> None:
    for path in sorted(folder.glob("*")):
        say(f"    {path.name}: {path.stat().st_size / 2**20:,.1f} MiB")


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  the command's answer


def seconds_of(pid: int) -> float:
    """Of the processor, which tells more than the clock on a machine that has other work."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_of(pid: int) -> int:
    """Bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def bytes_written_by(pid: int) -> int:
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def mib(size: int) -> str:
    return f"{size / 2**20:.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.integration.volume", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--retained", type=int, default=1_000_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    wanted = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="heliograph-volume-")))
        store = {}
        if wanted.database == "postgresql":
            store["url"] = stack.enter_context(PostgreSQL()).new_database()
        settings = {"limits": ROOMY, "store": store}
        broker = stack.enter_context(BrokerProcess(folder, settings=settings))
        observer = Observer(broker)
        taken = measure(broker, observer, wanted.messages, wanted.retained)
        began = time.monotonic()
        broker.stop()
        say(f"SIGTERM, to the end: {time.monotonic() - began:.2f} s")
    broken = []
    if observer.most_memory > MOST_MEMORY:
        broken.append(f"the broker needed {mib(observer.most_memory)} MiB")
    if taken > LONGEST_RESTART:
        broken.append(f"the restart took {taken:.2f} s")
    say("; ".join(broken) or "all bars hold")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
