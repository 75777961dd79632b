"""Devices, a gateway and the real broker in virtual time: datagrams over a pipe that loses and
doubles them, MQTT between gateway and broker.

What anybody has to say to another comes in a later turn; `run` turns the clock.
"""

import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from bridges.mqttsn.admission import Rules
from bridges.mqttsn.gateway import Gateway
from bridges.mqttsn.mqtt import MqttBroker, MqttSession
from bridges.mqttsn.notebook import MemoryNotebook
from bridges.mqttsn.policy import Policy
from bridges.mqttsn.versions import Versions
from broker.connection.ports import Origin
from broker.packets.codes import MQTT_5
from tests.support.broker import MemoryBroker
from tests.support.mqttsn_client import SnClient
from tests.support.store import MemoryStore

DELAY = 0.05  # seconds of a datagram


class EnginePipe:
    """A Pipe between a session and the engine."""

    def __init__(self, world: "EngineWorld", session: MqttSession) -> None:
        self._world = world
        self._session = session
        self._broker_end: BrokerEnd | None = None
        self.is_closed = False
        self._is_wanted = True  # the session has not closed it
        world.pipes.append(self)
        world.later(self._open)

    def _open(self) -> None:
        if not self.is_closed:
            self._broker_end = BrokerEnd(self._world, self)
            self._session.connected()

    def send(self, data: bytes) -> None:
        self._world.later(lambda: self._broker_end.take(data))

    def hold(self, held: bool) -> None:
        self._broker_end.hold(held)

    def was_closed(self) -> bool:
        return False  # the engine has nothing against what devices want here

    def has_more(self) -> bool:
        session = self._world.broker.engine.sessions.get(self._session.opening.identity.client_id)
        return session is not None and session.owes

    def close(self) -> None:
        self._is_wanted = False
        self._shut()

    def break_off(self) -> None:
        """The wire is cut, or the broker has closed."""
        if not self.is_closed:
            self._shut()
            self._world.later(self._lost)

    def _shut(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._world.pipes.remove(self)
        if self._broker_end is not None:
            self._world.later(lambda: self._broker_end.take(b""))

    def _lost(self) -> None:
        if self._is_wanted:
            self._session.lost()

    def arrive(self, data: bytes) -> None:
        if not self.is_closed:
            self._session.receive(data)


class BrokerEnd:
    """The Sink of the broker's end."""

    def __init__(self, world: "EngineWorld", pipe: EnginePipe) -> None:
        self._world = world
        self._pipe = pipe
        self._connection = world.broker.engine.open(Origin(), self, world.now)

    def take(self, data: bytes) -> None:
        self._connection.receive(data, self._world.now)

    def hold(self, held: bool) -> None:
        if held:
            self._connection.pause(self._world.now)
        else:
            self._connection.go_on(self._world.now)
            self.wake()

    def wake(self) -> None:
        self._world.broker.touched.append(self)

    def flush(self) -> None:
        if self._pipe.is_closed or self._connection.paused:
            return
        data = self._connection.data_to_send()
        if data:
            self._world.later(lambda: self._pipe.arrive(data))
        self._connection.drained()

    def unsent(self) -> int:
        return 0

    def hold_reading(self, held: bool) -> None:
        pass

    def close(self) -> None:
        self.flush()
        self.abort()

    def abort(self) -> None:
        self._world.later(self._pipe.break_off)


class EngineWorld:
    """All of it. `loss` and `doubling` are chances of a datagram, either way."""

    version = MQTT_5  # that gateway and broker speak; a test may set the other

    def __init__(
        self,
        seed: int = 1,
        loss: float = 0.0,
        doubling: float = 0.0,
        store: MemoryStore | None = None,
        **policy: Any,
    ) -> None:
        self.now = 1000.0
        self.rng = Random(seed)
        self.loss = loss
        self.doubling = doubling
        self.broker = MemoryBroker(now=self.now, retained_window=100, store=store)
        self.notebook = MemoryNotebook()
        self.policy = Policy(**{"t_adv": 0, **policy})
        self.devices: dict[str, SnClient] = {}
        self.pipes: list[EnginePipe] = []
        self.datagrams = 0
        self._turns: deque[Callable[[], None]] = deque()
        self._flying: list[tuple[float, int, Callable[[], None]]] = []
        self.start_gateway()

    def start_gateway(self) -> None:
        versions = Versions(self.version)
        mqtt = MqttBroker(lambda session: EnginePipe(self, session), versions=versions)
        self.gateway = Gateway(mqtt, self.notebook, Rules(), self.policy)
        self.gateway.resume(self.now)

    def restart_gateway(self) -> None:
        """The gateway's process dies and another one starts."""
        for pipe in list(self.pipes):
            pipe.close()
        self._flying.clear()
        self.settle()
        self.start_gateway()
        self.settle()

    def restart_all(self) -> None:
        """The broker's process dies, with the gateway in it, and another one starts."""
        for pipe in self.pipes:
            pipe.is_closed = True
        self.pipes.clear()
        self._turns.clear()
        self._flying.clear()
        self.broker = self.broker.crash()
        self.start_gateway()

    def add(self, device: SnClient) -> SnClient:
        self.devices[device.client_id] = device
        return device

    def later(self, call: Callable[[], None]) -> None:
        self._turns.append(call)

    # -- time -------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let the clock run, with every deadline and every datagram on the way."""
        end = self.now + seconds
        self.settle()
        while (when := self._next()) is not None and when <= end:
            self.now = max(self.now, when)
            self._pass()
            self.settle()
        self.now = end
        self.settle()

    def run_until(self, done: Callable[[], bool], longest: float = 100_000.0) -> None:
        """Let the clock run until it is so."""
        end = self.now + longest
        while not done():
            assert self.now < end, "it takes too long"
            self.run(1.0)

    def settle(self) -> None:
        """Everything that can happen now."""
        while True:
            while self._turns:
                self._turns.popleft()()
            self.broker.now = self.now
            self.broker.engine.clock.now = self.now
            self.broker.flush()
            if not self._turns and not self._exchange():
                return

    def _next(self) -> float | None:
        times = [self.gateway.next_deadline(), self.broker.engine.next_deadline()]
        times += [device.next_deadline() for device in self.devices.values()]
        times += [self._flying[0][0]] if self._flying else []
        return min((when for when in times if when is not None), default=None)

    def _pass(self) -> None:
        while self._flying and self._flying[0][0] <= self.now:
            heapq.heappop(self._flying)[2]()
        self.gateway.tick(self.now)
        if (when := self.broker.engine.next_deadline()) is not None and when <= self.now:
            self.broker.engine.tick(self.now)
        for device in self.devices.values():
            device.tick(self.now)

    # -- datagrams --------------------------------------------------------------------------------

    def _exchange(self) -> bool:
        """Put on their way what waits; False if nothing does."""
        before = self.datagrams
        for datagram in self.gateway.data_to_send(self.now):
            device = self.devices[datagram.peer or ""]
            self._fly(lambda d=device, data=datagram.data: d.receive(data, self.now))
        for name, device in self.devices.items():
            for data in device.datagrams(self.now):
                self._fly(lambda name=name, data=data: self._to_gateway(data, name))
        return self.datagrams > before

    def _to_gateway(self, data: bytes, peer: str) -> None:
        self.gateway.receive(data, self.now, peer)

    def _fly(self, arrive: Callable[[], None]) -> None:
        copies = 0 if self.rng.random() < self.loss else 1 + (self.rng.random() < self.doubling)
        self.datagrams += 1
        for copy in range(copies):
            when = self.now + DELAY
            heapq.heappush(self._flying, (when, 2 * self.datagrams + copy, arrive))
