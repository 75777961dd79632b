"""In-process clients: the same conversation on a running loop, without a socket."""

from __future__ import annotations

import asyncio
from random import Random

from broker.auth.anonymous import AnonymousPolicy
from broker.engine.engine import Engine
from broker.engine.policy import Policy
from broker.packets.decode import decode
from broker.packets.encode import encode
from broker.packets.reader import Reader
from broker.packets.types import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from broker.transport.hub import Hub
from broker.transport.local import LocalLink


class Insider:
    """An in-process client that keeps what it is told."""

    def __init__(self, hub: Hub) -> None:
        self.packets: asyncio.Queue[Packet | None] = asyncio.Queue()
        self._reader = Reader()
        self.link = LocalLink(hub, self._on_data)

    def send(self, *packets: Packet) -> None:
        self.link.send(b"".join(encode(packet, 5) for packet in packets))

    async def take(self) -> Packet | None:
        """The next packet; None when the broker has closed."""
        return await asyncio.wait_for(self.packets.get(), 10)

    def _on_data(self, data: bytes) -> None:
        buffer, packets = self._reader.cut(data)
        for first, start, stop in packets:
            self.packets.put_nowait(decode(first, buffer, start, stop, 5))
        if not data:
            self.packets.put_nowait(None)


def make_hub(**policy: object) -> Hub:
    engine = Engine(Policy(**policy), AnonymousPolicy(), Random(1))  # type: ignore[arg-type]
    return Hub(engine, asyncio.get_running_loop())


async def connect(hub: Hub, client_id: str, topic_filter: str = "#") -> Insider:
    insider = Insider(hub)
    insider.send(Connect(client_id), Subscribe(1, [SubscriptionRequest(topic_filter)]))
    assert isinstance(await insider.take(), Connack)
    assert isinstance(await insider.take(), Suback)
    return insider


async def test_messages_go_from_one_to_the_other() -> None:
    hub = make_hub()
    one, other = await connect(hub, "one", "t"), await connect(hub, "other", "-")
    other.send(Publish("t", b"hello"))
    message = await one.take()
    assert isinstance(message, Publish)
    assert message.payload == b"hello"
    hub.stop()


async def test_a_lost_insider_is_forgotten() -> None:
    hub = make_hub()
    insider = await connect(hub, "one")
    insider.link.disconnect()
    assert len(hub.engine.admission) == len(hub.links) == 0
    hub.stop()


async def test_the_broker_s_goodbye_arrives_before_the_end() -> None:
    hub = make_hub()
    insider = await connect(hub, "one")
    hub.engine.shut_down()
    goodbye = await insider.take()
    assert isinstance(goodbye, Disconnect)
    assert goodbye.reason == 0x8B
    assert await insider.take() is None
    hub.stop()


async def test_one_that_pauses_gets_the_rest_later() -> None:
    hub = make_hub()
    one, other = await connect(hub, "one", "t"), await connect(hub, "other", "-")
    one.link.pause()
    for _ in range(10):
        other.send(Publish("t", b"x"))
    await asyncio.sleep(0)
    assert one.packets.empty()
    one.link.go_on()
    for _ in range(10):
        assert isinstance(await one.take(), Publish)
    hub.stop()


async def test_a_long_replay_comes_in_pieces_that_let_others_have_their_turn() -> None:
    hub = make_hub()
    one = await connect(hub, "one", "-")
    for number in range(3000):
        one.send(Publish(f"t/{number}", bytes(1000), retain=True))
    reader = Insider(hub)
    reader.send(Connect("reader"), Subscribe(1, [SubscriptionRequest("t/#")]))
    await reader.take()
    assert isinstance(await reader.take(), Suback)
    for _ in range(3000):
        assert isinstance(await reader.take(), Publish)
    hub.stop()


async def test_a_broken_link_does_not_cost_the_others_their_flush() -> None:
    hub = make_hub()
    reported: list[object] = []
    hub.loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))

    class Broken:
        def flush(self) -> None:
            raise RuntimeError("broken")

        def close(self) -> None:
            """Nothing to close."""

    hub.touch(Broken())
    insider = await connect(hub, "one")
    assert insider.packets.empty()
    assert [str(each) for each in reported] == ["broken"]
    hub.stop()


async def test_a_fault_in_a_tick_does_not_stop_the_timer() -> None:
    hub = make_hub(connect_timeout=0.3)
    hub.loop.set_exception_handler(lambda _loop, _context: None)
    good, hub.engine.tick = hub.engine.tick, lambda _: 1 // 0  # type: ignore[method-assign, assignment]
    silent = Insider(hub)
    try:
        hub._tick()
    except ZeroDivisionError:
        hub.engine.tick = good  # type: ignore[method-assign]
    assert await silent.take() is None
    hub.stop()
