"""Passwords, strangers and crowds, on real sockets."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING

import pytest

from broker.admin.event_log import EventLog
from broker.auth.anonymous import AnonymousPolicy
from broker.connection.ports import Origin
from broker.engine.engine import Engine
from broker.engine.policy import Policy
from broker.packets.codes import ReasonCode
from broker.packets.types import Connack, Connect, Pingreq, Pingresp
from tests.integration.peer import Peer, is_served
from tests.support.broker import MemoryBroker
from tests.support.process import BrokerProcess, add_password

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import StartBroker

RIGHT = {"username": "ann", "password": b"sesame"}
NEVER = {"allow_anonymous": "never"}


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("passwords") / "passwords"
    add_password("heliograph", path, "ann", "sesame")
    return path


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, passwords: Path) -> Iterator[BrokerProcess]:
    settings = {
        "auth": {**NEVER, "password_file": str(passwords)},
        "limits": {"connect_timeout": 120},  # two hundred passwords take a small machine a while
    }
    with BrokerProcess(tmp_path_factory.mktemp("locked"), settings=settings) as made:
        yield made


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        (RIGHT, 0),
        ({**RIGHT, "password": b"open"}, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ({**RIGHT, "password": b""}, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ({**RIGHT, "password": b"x" * 65_535}, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ({"username": "ann"}, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ({**RIGHT, "username": "bob"}, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ({**RIGHT, "username": "u" * 65_535}, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ({}, ReasonCode.NOT_AUTHORIZED),
    ],
    ids=["right", "wrong", "empty", "long", "none", "unknown", "long-name", "anonymous"],
)
def test_a_password_file_decides(
    locked: BrokerProcess, credentials: dict[str, object], reason: int
) -> None:
    with Peer.of(locked) as peer:
        assert peer.connect("client", **credentials).reason == reason


def test_two_hundred_at_once_are_all_answered(locked: BrokerProcess) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer.of(locked)) for _ in range(200)]
        for number, peer in enumerate(peers):
            right = {**RIGHT, "password": b"sesame" if number % 2 else b"wrong"}
            peer.send(Connect(f"c{number}", **right), Pingreq())
        for number, peer in enumerate(peers):
            if number % 2:
                assert peer.take(Connack).reason == 0
                peer.take(Pingresp)
            else:
                assert peer.take(Connack).reason == ReasonCode.BAD_USER_NAME_OR_PASSWORD


def test_those_who_leave_before_they_are_judged_trouble_nobody(locked: BrokerProcess) -> None:
    for number in range(50):
        with Peer.of(locked) as peer:
            peer.send(Connect(f"gone{number}", **RIGHT))
    with Peer.of(locked) as peer:
        assert peer.connect("stays", **RIGHT).reason == 0
    assert "Traceback" not in locked.log
    assert "never retrieved" not in locked.log


def test_a_password_file_that_changes_is_read_again(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    path = tmp_path / "passwords"
    add_password("heliograph", path, "ann", "sesame")
    broker = start_broker(settings={"auth": {**NEVER, "password_file": str(path)}})
    add_password("heliograph", path, "bob", "later")
    with Peer.of(broker) as peer:
        assert peer.connect("bob", username="bob", password=b"later").reason == 0
    path.unlink()  # users known so far stay
    with Peer.of(broker) as peer:
        assert peer.connect("ann", **RIGHT).reason == 0


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", 0),
        ("127.8.8.8", 0),
        ("::1", 0),
        ("::ffff:127.0.0.1", 0),
        ("", 0),
        ("192.0.2.7", ReasonCode.NOT_AUTHORIZED),
        ("::ffff:192.0.2.7", ReasonCode.NOT_AUTHORIZED),
        ("fe80::1%eth0", ReasonCode.NOT_AUTHORIZED),
        ("nonsense", ReasonCode.NOT_AUTHORIZED),
    ],
)
def test_without_a_password_only_this_machine_gets_in(address: str, reason: int) -> None:
    client = MemoryBroker().client(origin=Origin("tcp", address, 1, "loopback"))
    connack = client.connect("x")
    assert connack is not None
    assert connack.reason == reason


def test_the_log_says_how_to_let_a_stranger_in(caplog: pytest.LogCaptureFixture) -> None:
    broker = MemoryBroker()
    log = logging.getLogger("test.stranger")
    broker.engine = Engine(
        Policy(), AnonymousPolicy(), Random(1), EventLog(log, lambda: broker.now)
    )
    broker.client(origin=Origin("tcp", "192.0.2.7", 5, "loopback")).connect("stranger\n\x1b[2J")
    line = caplog.messages[-1]
    assert "192.0.2.7" in line
    assert "heliograph passwd" in line
    assert "auth.password_file" in line
    assert 'auth.allow_anonymous = "always"' in line
    assert line.isprintable()


# -- crowds ---------------------------------------------------------------------------------------


def test_a_crowd_above_the_limit_is_refused_and_those_inside_are_unharmed(
    start_broker: StartBroker,
) -> None:
    broker = start_broker(settings={"limits": {"max_connections": 50}})
    with ExitStack() as stack:
        inside = [stack.enter_context(Peer.of(broker)) for _ in range(50)]
        assert {peer.connect(f"in{n}").reason for n, peer in enumerate(inside)} == {0}
        crowd = [stack.enter_context(Peer.of(broker)) for _ in range(250)]
        for number, peer in enumerate(crowd):
            peer.send(Connect(f"out{number}"))
        assert {peer.take(Connack).reason for peer in crowd} == {ReasonCode.QUOTA_EXCEEDED}
        for peer in inside:
            peer.send(Pingreq())
            peer.take(Pingresp)
    assert is_served_patiently(broker)


def is_served_patiently(broker: BrokerProcess) -> bool:
    """The broker may learn a moment later that the others are gone."""
    deadline = time.monotonic() + 10
    while True:
        with Peer.of(broker) as peer:
            if peer.connect("later").reason == 0:
                return True
        assert time.monotonic() < deadline, "the places of those who left are not free"
        time.sleep(0.05)  # nobody tells when a socket's end has been noticed


def test_who_comes_too_fast_is_told(start_broker: StartBroker) -> None:
    broker = start_broker(settings={"limits": {"connection_rate": 5}})
    reasons = []
    for number in range(40):
        with Peer.of(broker) as peer:
            reasons.append(peer.connect(f"c{number}").reason)
    assert reasons[:10] == [0] * 10
    assert ReasonCode.CONNECTION_RATE_EXCEEDED in reasons[10:]


# -- what the broker says about itself ------------------------------------------------------------


def test_sys_topics_are_retained_and_renewed(broker: BrokerProcess) -> None:
    with Peer.of(broker) as peer:
        peer.connect("sys")
        peer.subscribe("$SYS/broker/#")
        told = {}
        wanted = {"$SYS/broker/uptime", "$SYS/broker/clients/connected", "$SYS/broker/version"}
        while not wanted <= told.keys():
            topic, payload = peer.take_message()
            told[topic] = payload
        assert told["$SYS/broker/version"].startswith(b"heliograph version ")
        assert int(told["$SYS/broker/clients/connected"]) >= 0
        seen = told["$SYS/broker/uptime"]
        topic = ""
        while topic != "$SYS/broker/uptime":
            topic, payload = peer.take_message()
        assert payload != seen


def test_a_wildcard_at_the_beginning_does_not_see_sys_topics(broker: BrokerProcess) -> None:
    assert is_served(Peer.of(broker), "sys/none")
    with Peer.of(broker) as peer:
        peer.connect("no-sys")
        peer.subscribe("#")
        peer.subscribe("$SYS/broker/version")
        topic, _ = peer.take_message()
        assert topic == "$SYS/broker/version"
