"""A device's way over a wire: a client machine at the device's end, woken when it was asked.

A brown-out takes the machine's memory: another one takes its place when the power is back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridges.serial.link import LinkSettings
from firmware_sim.clients.framed import FramedClient, FramedSettings, sleeping
from firmware_sim.clients.sn import SnSettings
from firmware_sim.clients.text import TextClient
from firmware_sim.clients.unframed import raw_client, slip_client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from firmware_sim.clients.client import ClientEvent, ClientMachine, Message
    from firmware_sim.fleet.crew import Device
    from firmware_sim.wire.uart import VirtualUart
    from firmware_sim.wire.worlds import Line, World

T_RETRY: Final = 5.0
T_WAIT: Final = 60.0
_UID: Final = 16  # bytes


class Quality:
    """How much of what went over a wire came through unharmed."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen = (0, 0)  # bytes written and harmed, when it was last asked

    def of(self, uart: VirtualUart) -> float | None:
        """The part, since it was last asked; None: nothing went over it."""
        written = sum(lane.counters.written for lane in uart.lanes)
        harmed = sum(
            lane.faults.total + lane.counters.overrun + lane.counters.stuck for lane in uart.lanes
        )
        sent, spoilt = written - self._seen[0], harmed - self._seen[1]
        self._seen = (written, harmed)
        return max(1.0 - spoilt / sent, 0.0) if sent else None


class WiredWay:
    """A `Way`, and the device's `End` of a `Line`. `heard` is called when there may be events."""

    def __init__(
        self, device: Device, world: World, rng: Random, heard: Callable[[], None]
    ) -> None:
        self.line: Line
        self._device, self._world, self._rng, self._heard = device, world, rng, heard
        self._machine = self._made()
        self._quality = Quality()

    # ---- Way ----

    @property
    def is_up(self) -> bool:
        """See Client."""
        return self.line.is_powered and self._machine.is_up

    def connect(self, now: float) -> None:
        """See Client."""
        if not self.line.is_powered:
            self.line.power_on(now)
        self._machine.connect(now)
        self._asked(now)

    def publish(self, message: Message, token: int, now: float) -> bool:
        """See Client."""
        taken = self._machine.publish(message, token, now)
        if taken:
            self._asked(now)
        return taken

    def subscribe(self, topic_filter: str, qos: int, now: float) -> None:
        """See Client."""
        self._machine.subscribe(topic_filter, qos, now)
        self._world.wake(self.line)

    def sleep(self, duration: float, now: float) -> None:
        """See Client."""
        self._machine.sleep(duration, now)
        self._asked(now)

    def wake(self, now: float) -> None:
        """See Client."""
        self._machine.wake(now)
        self._asked(now)

    def disconnect(self, now: float) -> None:
        """See Client."""
        self._machine.disconnect(now)
        self._asked(now)

    def take_events(self) -> Sequence[ClientEvent]:
        """See Client."""
        return self._machine.take_events()

    def cut(self, now: float) -> None:
        """See Way."""
        self.line.power_off(now)
        self._machine = self._made()

    def forget(self, now: float) -> None:
        """See Way."""
        self.disconnect(now)

    def unplug(self, now: float) -> None:
        """See Way."""
        self.line.unplug(now)
        self._world.wake(self.line)

    def plug(self, now: float) -> None:
        """See Way."""
        self.line.plug(now)
        self._world.wake(self.line)

    def quality(self) -> float | None:
        """See Way; since it was last asked."""
        return self._quality.of(self.line.uart)

    def close(self, now: float) -> None:  # noqa: ARG002 - a Way
        """See Way."""
        self._world.remove(self.line)

    # ---- End ----

    def plugged(self, now: float) -> None:
        """See Machine."""
        self._machine.plugged(now)

    def receive(self, data: bytes, now: float) -> None:
        """See Machine."""
        self._machine.receive(data, now)
        self._heard()

    def tick(self, now: float) -> None:
        """See Machine."""
        self._machine.tick(now)
        self._heard()

    def next_deadline(self) -> float | None:
        """See Machine."""
        return self._machine.next_deadline()

    def data_to_send(self) -> bytes:
        """See Machine."""
        return self._machine.data_to_send()

    def _asked(self, now: float) -> None:
        """The machine may have something to say, to the wire and to the device."""
        self._world.wake(self.line)
        self._world.at(now, self._heard)

    def _made(self) -> ClientMachine:
        return MACHINES[self._device.kind.way](self._device, self._rng)


def _sn(device: Device) -> SnSettings:
    kind = device.kind
    return SnSettings(
        device.plan.client_id,
        clean_session=not kind.is_durable,
        keep_alive=kind.keep_alive,
        t_retry=T_RETRY,
        t_wait=T_WAIT,
    )


def _framed(device: Device, rng: Random) -> ClientMachine:
    kind = device.kind
    link = LinkSettings(
        uid=device.plan.client_id.encode()[-_UID:],
        baud=kind.wire.baud,
        rate=kind.wire.baud / 10,
    )
    return FramedClient(FramedSettings(_sn(device), sleeping(link) if kind.sleeps else link), rng)


def _raw(device: Device, rng: Random) -> ClientMachine:
    return raw_client(_sn(device), rng)


def _slip(device: Device, rng: Random) -> ClientMachine:
    return slip_client(_sn(device), rng)


def _text(_device: Device, _rng: Random) -> ClientMachine:
    return TextClient()


MACHINES: Final[Mapping[str, Callable[[Device, Random], ClientMachine]]] = {
    "framed": _framed,
    "raw": _raw,
    "slip": _slip,
    "text": _text,
}
