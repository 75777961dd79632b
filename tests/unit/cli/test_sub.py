"""heliograph sub: what it prints and leaves out, when it ends, how it survives a lost broker."""

import asyncio

import pytest

from broker.cli import conversation, sub
from broker.cli.client import ConnectionLostError, RefusedError
from broker.cli.options import SUB_OPTIONS, parse
from broker.packets.codes import MQTT_5, ReasonCode
from broker.packets.types import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from tests.unit.cli.scripted_broker import PATIENCE, ScriptedBroker


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedBroker]:
    """The brokers that `sub` finds, one for each time it connects."""
    waiting = [ScriptedBroker(MQTT_5), ScriptedBroker(MQTT_5)]
    left = iter(waiting)

    async def open_pipe(_: object) -> ScriptedBroker:
        return next(left)

    monkeypatch.setattr(conversation, "open_pipe", open_pipe)
    monkeypatch.setattr(sub, "FIRST_PAUSE", 0.0)
    return waiting


@pytest.fixture
def broker(brokers: list[ScriptedBroker]) -> ScriptedBroker:
    """The first of them; it grants one subscription and one end of it."""
    brokers[0].say(Connack())
    brokers[0].answers = {Subscribe: [Suback(1, [0])], Unsubscribe: [Unsuback(2, [0])]}
    return brokers[0]


async def subscribe(line: str) -> int:
    options = parse(SUB_OPTIONS, ["-V", "5", *line.split()])
    sub.check(options)
    async with asyncio.timeout(PATIENCE):
        return await sub.work(options)


def heard(broker: ScriptedBroker) -> list[Packet]:
    """What it sent between CONNECT and DISCONNECT."""
    packets = [broker.from_client.get_nowait() for _ in range(broker.from_client.qsize())]
    assert isinstance(packets[0], Connect)
    assert isinstance(packets[-1], Disconnect)
    return packets[1:-1]


OLD = [Publish("a/old", b"1", retain=True), Publish("b/old", b"2", retain=True)]
NEW = [Publish("a/new", b"3"), Publish("b/new", b"4")]


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("-C 4", b"1\n2\n3\n4\n"),
        ("-C 2", b"1\n2\n"),
        ("-C 2 -N", b"12"),
        ("-C 1 -v", b"a/old 1\n"),
        ("-C 2 -R", b"3\n4\n"),
        ("-C 2 -T a/#", b"2\n4\n"),
        ("-C 1 -R -T +/old -T a/new -v", b"b/new 4\n"),
        ("--retained-only", b"1\n2\n"),
        ("-C 1 -F %t=%p%r", b"a/old=11\n"),
    ],
)
async def test_only_what_is_wanted_is_printed(
    broker: ScriptedBroker, line: str, printed: bytes, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    broker.answers[Subscribe] += [*OLD, *NEW]
    assert await subscribe(f"-t # {line}") == 0
    assert capfdbinary.readouterr().out == printed


async def test_each_filter_is_asked_for_with_the_options_given(broker: ScriptedBroker) -> None:
    broker.answers[Subscribe] += [Publish("a")]
    await subscribe("-t a -q 2 --retain-as-published --retain-handling 1 -C 1")
    request = SubscriptionRequest("a", 2, retain_as_published=True, retain_handling=1)
    assert heard(broker) == [Subscribe(1, [request])]


async def test_retained_messages_are_removed_on_request(broker: ScriptedBroker) -> None:
    broker.answers[Subscribe] += [*OLD, NEW[0]]
    await subscribe("-t # --remove-retained -C 3")
    assert heard(broker)[1:] == [
        Publish("a/old", b"", 1, retain=True, packet_id=2),
        Publish("b/old", b"", 1, retain=True, packet_id=3),
    ]


async def test_it_can_end_as_soon_as_it_is_subscribed(broker: ScriptedBroker) -> None:
    assert await subscribe("-t a -E") == 0


async def test_it_can_unsubscribe(broker: ScriptedBroker) -> None:
    await subscribe("-t a -U b -U c -E")
    assert heard(broker)[1:] == [Unsubscribe(2, ["b", "c"])]


async def test_a_denied_subscription_beside_a_granted_one_is_a_warning(
    brokers: list[ScriptedBroker], capfd: pytest.CaptureFixture[str]
) -> None:
    brokers[0].say(Connack())
    brokers[0].answers[Subscribe] = [Suback(1, [0, ReasonCode.NOT_AUTHORIZED])]
    assert await subscribe("-t a -t secret -E") == 0
    assert 'no subscription to "secret": not authorized' in capfd.readouterr().err


async def test_no_subscription_at_all_is_a_refusal(brokers: list[ScriptedBroker]) -> None:
    brokers[0].say(Connack())
    brokers[0].answers[Subscribe] = [Suback(1, [ReasonCode.NOT_AUTHORIZED])]
    with pytest.raises(RefusedError) as refused:
        await subscribe("-t secret")
    assert refused.value.reason == ReasonCode.NOT_AUTHORIZED


async def test_time_that_runs_out_is_exit_code_27(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = parse(SUB_OPTIONS, ["-t", "a", "-V", "5"])
    options.timeout = 0.01  # the command line takes whole seconds
    assert await sub.work(options) == 27


async def test_a_lost_broker_is_looked_for_again_and_asked_again(
    brokers: list[ScriptedBroker], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for broker, text in zip(brokers, (b"1", b"2"), strict=True):
        broker.say(Connack())
        broker.answers[Subscribe] = [Suback(1, [0]), Publish("a", text)]
    work = asyncio.create_task(subscribe("-t a -C 2"))
    while not isinstance(await brokers[0].hear(), Subscribe):
        pass
    brokers[0].hang_up()
    assert await work == 0
    assert capfdbinary.readouterr().out == b"1\n2\n"
    assert heard(brokers[1]) == [Subscribe(1, [SubscriptionRequest("a")])]


async def test_a_broker_that_sends_us_away_is_not_asked_again(broker: ScriptedBroker) -> None:
    broker.answers[Subscribe] += [Disconnect(ReasonCode.SESSION_TAKEN_OVER)]
    with pytest.raises(ConnectionLostError, match="session taken over"):
        await subscribe("-t a")


async def test_a_message_left_when_enough_are_printed_stays_with_the_broker(
    broker: ScriptedBroker,
) -> None:
    broker.answers[Subscribe] += [
        Publish("a", b"1", 1, packet_id=1),
        Publish("a", b"2", 1, packet_id=2),
    ]
    await subscribe("-t a -q 1 -C 1")
    acknowledged = [packet.packet_id for packet in heard(broker)[1:]]
    assert acknowledged == [1]
