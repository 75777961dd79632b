"""One queue, all doors at once: paho publishes, and Python programs, a loop of curl and a session
of psql share the work. The broker runs configs/queues.toml, with other ports and folders.

No consumer takes a second message before each of them holds its first: so all doors have had a part
in it, however fast one of them is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import paho.mqtt.client as paho
import pytest

from bridges.queues import SyncQueue
from tests.support.postgresql import program
from tests.support.process import (
    HOST,
    BrokerProcess,
    clean_environment,
    explain_missing,
    free_port,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).parents[2]
SETTINGS = PROJECT / "configs" / "queues.toml"
DEVICES = 8  # more than consumers: each can have a device's first message
READINGS = 15  # of each device
MESSAGES = DEVICES * READINGS
HOT = 60  # degrees; above it configs/queues.toml makes an alarm of a reading, too
PATIENCE = 40.0  # seconds; a test that works takes a few
QUEUE, ALARMS = "telemetry", "alarms"


def temperature(number: int) -> int:
    return 50 + number % 20


# ---- the broker ----


@pytest.fixture
def broker(tmp_path: Path, database: dict[str, Any]) -> Iterator[BrokerProcess]:
    tables = tomllib.loads(SETTINGS.read_text())
    tables["http"]["listen"] = f"{HOST}:{free_port()}"
    tables["store"] |= database
    with BrokerProcess(tmp_path, settings=tables) as made:
        yield made


class Door:
    """Where HTTP is, and who may come in."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.url = f"http://{broker.settings['http']['listen']}"
        self._wait()
        self.token = (broker.directory / "data" / "http.token").read_text().strip()

    def _wait(self) -> None:
        """MQTT's listeners are open before this one."""
        retry = ("--retry", "30", "--retry-delay", "1", "--retry-connrefused")
        subprocess.run(
            ["curl", "-sSf", *retry, "-o", "/dev/null", f"{self.url}/api/v1/openapi.json"],
            check=True,
            timeout=PATIENCE,
        )

    def queue(self, name: str = QUEUE) -> SyncQueue:
        return SyncQueue(name, self.url, token=self.token)


def publish(broker: BrokerProcess) -> None:
    """All readings, one device after the other; returns when all are acknowledged."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect(HOST, broker.port)
    client.loop_start()
    sent = [
        client.publish(
            f"site/1/dev/{number // READINGS}/telemetry",
            json.dumps({"n": number, "temperature": temperature(number)}),
            qos=1,
        )
        for number in range(MESSAGES)
    ]
    for each in sent:
        each.wait_for_publish(PATIENCE)
    client.disconnect()
    client.loop_stop()


# ---- who gets what ----


class Referee:
    """Notes who takes and who acknowledges what, and that nobody has what another holds."""

    def __init__(self, consumers: int) -> None:
        self.over = threading.Event()
        self.faults: list[str] = []
        self.taken: dict[str, list[int]] = defaultdict(list)  # by door
        self.by_device: dict[int, list[int]] = defaultdict(list)
        self._first = threading.Barrier(consumers)
        self._lock = threading.Lock()
        self._held: set[int] = set()  # devices, of which one reading at a time is out
        self._ids: set[int] = set()
        self._done = 0

    def took(self, door: str, message_id: int, payload: str) -> int:
        """Returns the device."""
        number = json.loads(payload)["n"]
        device: int = number // READINGS
        with self._lock:
            if message_id in self._ids:
                self.faults.append(f"{door} was given message {message_id} a second time")
            if device in self._held:
                self.faults.append(f"{door} was given device {device}, which another works on")
            self._ids.add(message_id)
            self._held.add(device)
            self.taken[door].append(number)
            self.by_device[device].append(number)
        if len(self.taken[door]) == 1:
            self._first.wait(PATIENCE)
        return device

    def lets_go(self, device: int) -> None:
        """Called before it is acknowledged."""
        with self._lock:
            self._held.discard(device)

    def acknowledged(self, door: str, result: str) -> None:
        with self._lock:
            self._done += result == "ok"
            if result != "ok":
                self.faults.append(f"{door} was told {result}")
            if self._done >= MESSAGES:
                self.over.set()

    def watch(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.faults.append(repr(error))
            self.over.set()
            self._first.abort()
            raise


# ---- the consumers ----


def python_program(name: str, referee: Referee, queue: SyncQueue) -> None:
    """As a user writes it, on whatever door its queue is."""
    with queue:
        threading.Thread(target=lambda: (referee.over.wait(PATIENCE), queue.stop())).start()
        for message in queue.consume(prefetch=1):
            device = referee.took(name, message.id, message.text())
            referee.lets_go(device)
            message.ack()
            referee.acknowledged(name, "ok")


class Conversation:
    """A program that does what it is told on its standard input, and says a line when it has."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: IO[str] = self._process.stdin
        self._from: IO[str] = self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._to.close()
        self._process.wait(PATIENCE)
        self._from.close()

    def ask(self, text: str) -> str:
        self._to.write(text + "\n")
        answer = self._from.readline()
        assert answer, "it has ended"
        return answer.rstrip("\n")


# Each line that is read takes one message, or acknowledges the one that was taken.
CURL_LOOP = r"""
set -u
call() { curl -sS -H "Authorization: Bearer $TOKEN" "$@"; }
while read -r what; do
    if [ "$what" = take ]; then
        call -X POST "$URL/receive?max=1&wait=1" | tr -d '\n'
        echo
    else
        call --json "{\"receipts\": [\"$what\"]}" "$URL/ack" | tr -d '\n'
        echo
    fi
done
"""


def curl_loop(referee: Referee, door: Door) -> None:
    words = f"URL={door.url}/api/v1/queues/{QUEUE}; TOKEN={door.token}"
    with Conversation("bash", "-c", words + CURL_LOOP) as shell:
        while not referee.over.is_set():
            for message in json.loads(shell.ask("take"))["messages"]:
                device = referee.took("curl", message["id"], message["payload"])
                referee.lets_go(device)
                answer = json.loads(shell.ask(message["receipt"]))
                referee.acknowledged("curl", answer["results"][0]["result"])


TAKE = (
    "SELECT coalesce(max(id || '|' || token || '|' || convert_from(payload, 'UTF8')), 'none') "
    f"FROM heliograph.lease('{QUEUE}');"
)


def psql_session(referee: Referee, url: str) -> None:
    """Asks again when there was nothing; a backend would LISTEN, which psql cannot wait for."""
    with Conversation(program("psql"), "-X", "-A", "-t", "-q", "-d", url) as psql:
        while not referee.over.is_set():
            row = psql.ask(TAKE)
            if row == "none":
                referee.over.wait(0.05)
                continue
            number, token, payload = row.split("|", 2)
            device = referee.took("psql", int(number), payload)
            referee.lets_go(device)
            answer = psql.ask(f"SELECT heliograph.ack({number}, {token});")
            referee.acknowledged("psql", answer)


def consumers(door: Door, url: str) -> list[Callable[[Referee], None]]:
    """With SQLite there are two doors fewer: the file is the broker's alone."""
    works = [
        partial(python_program, "Python over HTTP", queue=door.queue()),
        partial(curl_loop, door=door),
    ]
    if not url:
        return [*works, partial(python_program, "Python again", queue=door.queue())]
    return [
        *works,
        partial(python_program, "Python by SQL", queue=SyncQueue(QUEUE, url)),
        partial(psql_session, url=url),
    ]


# ---- the test ----


def test_all_doors_share_one_queue_and_each_message_goes_through_one_of_them(
    broker: BrokerProcess, database: dict[str, Any]
) -> None:
    explain_missing(None if shutil.which("curl") else "curl is missing: apt-get install curl")
    door = Door(broker)
    works = consumers(door, database.get("url", ""))
    referee = Referee(len(works))
    publisher = threading.Thread(target=referee.watch, args=(lambda: publish(broker),))
    threads = [
        threading.Thread(target=referee.watch, args=(partial(work, referee),)) for work in works
    ]
    publisher.start()
    for each in threads:
        each.start()
    is_over = referee.over.wait(PATIENCE)
    for each in (publisher, *threads):
        each.join(PATIENCE)
    assert referee.faults == []
    assert is_over, f"only {referee.taken} were taken"
    assert sorted(n for numbers in referee.taken.values() for n in numbers) == list(range(MESSAGES))
    assert len(referee.taken) == len(threads), "a door had no part in it"
    for numbers in referee.by_device.values():
        assert numbers == sorted(numbers), "the order of a device was broken"
    with door.queue() as queue:
        assert (queue.stats().messages, queue.stats().dead) == (0, 0)
    alarms_are_those_that_are_too_hot(door)


def alarms_are_those_that_are_too_hot(door: Door) -> None:
    with door.queue(ALARMS) as queue:
        alarms = [json.loads(message.payload)["n"] for message in queue.peek(MESSAGES)]
        assert alarms == [number for number in range(MESSAGES) if temperature(number) > HOT]


# ---- what the README says ----


@pytest.mark.parametrize("page", ["README.md", "docs/queues.md"])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_from_a_sensor_to_a_worker_in_nine_lines(broker: BrokerProcess, page: str) -> None:
    door = Door(broker)
    block_of_code = re.compile(r"^```\n(\S+ pub .*?)^```\n", re.MULTILINE | re.DOTALL)
    block = next(
        each for each in block_of_code.findall((PROJECT / page).read_text()) if "EOF" in each
    )
    assert block.count("\n") == 9
    for theirs, ours in {
        ".venv/bin/python": sys.executable,
        ".venv/bin/heliograph pub": f"{sys.executable} -m broker pub -p {broker.port}",
    }.items():
        assert theirs in block
        block = block.replace(theirs, ours)
    done = subprocess.run(
        ["bash", "-ec", block],
        check=True,
        capture_output=True,
        text=True,
        cwd=broker.directory,
        env={**clean_environment(), "HELIOGRAPH_QUEUES_URL": door.url},
        timeout=PATIENCE,
    )
    assert done.stdout == "site/1/dev/7/telemetry {'temperature': 72}\n"
