"""What the tests of durability share: sessions that stay, messages that are acknowledged, and the
broker's processes.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import time
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from broker.packets.properties import Property
from broker.packets.types import (
    Connack,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)
from tests.crash.victim import end_family, end_of, family
from tests.integration.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.support.process import BrokerProcess

DAY = 86_400
PATIENCE = 15.0  # seconds: only a hang reaches it
NOBODY, QUOTA_EXCEEDED = 0x10, 0x97  # no matching subscribers; no room
STORE_SYS = "$SYS/broker/store/"


def connect(peer: Peer, client_id: str, expiry: int = DAY, **fields: Any) -> Connack:
    """With a session that outlives the connection."""
    properties = {Property.SESSION_EXPIRY_INTERVAL: expiry} if peer.version == 5 else {}
    return peer.connect(client_id, clean_start=False, properties=properties, **fields)


def leave_session(
    broker: BrokerProcess, client_id: str, topic_filter: str, qos: int = 1, expiry: int = DAY
) -> None:
    """Its client has subscribed and gone."""
    with Peer.of(broker) as peer:
        connect(peer, client_id, expiry)
        peer.subscribe(topic_filter, qos)
        peer.send(Disconnect())
        assert peer.is_cut_off()


def publish(
    peer: Peer, topic: str, payloads: Iterable[bytes], qos: int = 1, *, retain: bool = False
) -> list[int]:
    """All at once (at most as many as Receive Maximum allows); the reason of each answer."""
    packets = [
        Publish(topic, payload, qos, retain, packet_id=number)
        for number, payload in enumerate(payloads, 1)
    ]
    peer.send(*packets)
    answers: list[Puback | Pubrec] = [peer.take(Puback if qos == 1 else Pubrec) for _ in packets]
    assert [each.packet_id for each in answers] == [each.packet_id for each in packets]
    if qos == 2:
        release(peer, (each.packet_id for each in answers if each.reason < 0x80))
    return [each.reason for each in answers]


def release(peer: Peer, packet_ids: Iterable[int]) -> None:
    """The second half of QoS 2."""
    wanted = list(packet_ids)
    peer.send(*map(Pubrel, wanted))
    assert [peer.take(Pubcomp).packet_id for _ in wanted] == wanted


def publish_once(
    broker: BrokerProcess, topic: str, *payloads: bytes, qos: int = 1, retain: bool = False
) -> list[int]:
    """By a client of its own."""
    with Peer.of(broker) as peer:
        peer.connect()
        return publish(peer, topic, payloads, qos, retain=retain)


def receive(peer: Peer, count: int) -> list[bytes]:
    """The payloads of so many messages, each answered to its end."""
    payloads = []
    while len(payloads) < count:
        packet = peer.take(Publish | Pubrel)
        if isinstance(packet, Pubrel):
            peer.send(Pubcomp(packet.packet_id))
            continue
        payloads.append(packet.payload)
        if packet.qos:
            peer.send(Puback(packet.packet_id) if packet.qos == 1 else Pubrec(packet.packet_id))
    return payloads


def take_everything(broker: BrokerProcess, client_id: str, topic: str, qos: int = 1) -> list[bytes]:
    """What waits for a session: up to a last message that is published when its client is there.
    It must be of the same topic and QoS: only these keep their order among themselves.
    """
    with Peer.of(broker) as peer:
        assert connect(peer, client_id).session_present, f"the session of {client_id} is gone"
        assert publish_once(broker, topic, b"end", qos=qos) == [0]
        payloads = []
        while not payloads or payloads[-1] != b"end":
            payloads += receive(peer, 1)
        return payloads[:-1]


@contextmanager
def stopped(broker: BrokerProcess) -> Iterator[None]:
    """Its store process does nothing."""
    _, store = family(broker.pid)
    os.kill(store, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(store, signal.SIGCONT)


def is_connected(peer: Peer) -> bool:
    """And nothing has come, now."""
    peer.sock.setblocking(False)
    try:
        peer.sock.recv(1)
    except BlockingIOError:
        return True
    finally:
        peer.sock.settimeout(PATIENCE)
    return False


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"message %d" % number for number in range(start, start + count)]


def restart(broker: BrokerProcess) -> None:
    """Killed, as the kernel does it, and started again."""
    broker.kill()
    broker.start()


def kill_all(broker: BrokerProcess) -> None:
    """The broker and its store process, which would still finish what it has."""
    end_family(broker.pid)
    broker.kill()


def kill_store(broker: BrokerProcess) -> None:
    """Its store process alone."""
    _, store = family(broker.pid)
    end_of(store)


def rows(broker: BrokerProcess, sql: str) -> list[tuple[Any, ...]]:
    """What is committed, read past the broker."""
    with database_of(broker) as connection:
        return connection.execute(sql).fetchall()


def change(broker: BrokerProcess, sql: str) -> None:
    """In the database of a broker that does not run."""
    with database_of(broker) as connection:
        connection.execute(sql)
        connection.commit()


def database_of(broker: BrokerProcess) -> AbstractContextManager[Any]:
    store = broker.settings.get("store", {})
    if url := store.get("url"):
        return psycopg.connect(url)
    path = broker.directory / "data" / "heliograph.db"
    return closing(sqlite3.connect(path, timeout=PATIENCE))


def wait_for_rows(broker: BrokerProcess, sql: str, expected: list[tuple[Any, ...]]) -> None:
    """Until what nobody waits for is written, too."""
    deadline = time.monotonic() + PATIENCE
    while (found := rows(broker, sql)) != expected:
        assert time.monotonic() < deadline, f"{sql}: {found}, not {expected}"
        time.sleep(0.02)  # a database tells nobody what is committed: ask again


def wait_for_sys(broker: BrokerProcess, name: str, pattern: str) -> str:
    """Until a `$SYS/broker/...` topic says something that fits."""
    with Peer.of(broker) as peer:
        peer.connect()
        peer.subscribe(f"$SYS/broker/{name}")
        return wait_for_message(peer, pattern)


def wait_for_message(peer: Peer, pattern: str) -> str:
    heard = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        heard.append(peer.take_message()[1].decode())
        if re.search(pattern, heard[-1]):
            return heard[-1]
    raise AssertionError(f"{pattern!r} was not said: {heard}")


def mount(*arguments: str | Path) -> None:
    """Skips the test where nobody may mount, not even root, as in some containers: there is no
    other way to a disk that is full or read-only for everybody.
    """
    done = subprocess.run(["mount", *arguments], capture_output=True, timeout=10, check=False)
    if done.returncode:
        pytest.skip(f"mount {' '.join(map(str, arguments))}: {done.stderr.decode().strip()}")
