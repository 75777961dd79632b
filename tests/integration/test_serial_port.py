"""The Carrier at real ptys and sockets: plugged, unplugged, swapped, held, blocked, closed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import termios
import threading
from typing import TYPE_CHECKING, Any

import pytest
import serial
import uvloop
from serial.rfc2217 import PortManager

from bridges.gateway import command_monitor
from bridges.serial import port_names
from bridges.serial.carrier import Carrier, PortInfo, PortSettings
from bridges.serial.detection import Detector
from bridges.serial.events import Opened, Reading, Received, Recognised
from bridges.serial.frames import Channel
from bridges.serial.link import Link, LinkSettings
from bridges.serial.modes import Plain, TextLines, Unframed
from bridges.serial.overhearing import Way
from bridges.serial.port_settings import Rs485
from tests.support.pty_cable import PATIENCE, PtyCable
from tests.support.resources import descriptors

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from bridges.serial.events import Event
    from bridges.serial.modes import SerialMachine

QUICK: dict[str, Any] = {"first_retry": 0.002, "longest_retry": 0.02}


class Recorder:
    """An owner that writes down what it is told."""

    def __init__(self) -> None:
        self.plugged: list[PortInfo] = []
        self.unplugged: list[str] = []
        self.events: list[Event] = []
        self._news = asyncio.Event()

    def on_plugged(self, info: PortInfo) -> None:
        self.plugged.append(info)
        self._news.set()

    def on_unplugged(self, why: str) -> None:
        self.unplugged.append(why)
        self._news.set()

    def on_events(self, events: Sequence[Event], now: float) -> None:
        self.events += events
        self._news.set()

    async def until(self, is_true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not is_true():
                self._news.clear()
                await self._news.wait()

    @property
    def received(self) -> bytes:
        return b"".join(each.payload for each in self.events if isinstance(each, Received))


class World:
    """Carriers and cables, all of which are gone at the end."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.carriers: list[Carrier] = []
        self.cables: list[PtyCable] = []
        self.servers: list[asyncio.Server] = []
        self.writers: list[StreamWriter] = []

    async def serve(self, on_client: Callable[[StreamReader, StreamWriter], None]) -> int:
        """Return the number of a port on which clients are accepted."""

        def accept(reader: StreamReader, writer: StreamWriter) -> None:
            self.writers.append(writer)
            on_client(reader, writer)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.servers.append(server)
        number: int = server.sockets[0].getsockname()[1]
        return number

    def cable(self, name: str = "device") -> PtyCable:
        self.cables.append(PtyCable(self.folder / name))
        return self.cables[-1]

    def carrier(
        self, port: str, machine: SerialMachine | None = None, **settings: Any
    ) -> tuple[Carrier, Recorder]:
        owner = Recorder()
        carrier = Carrier(
            PortSettings(port, **{**QUICK, **settings}),
            machine or Unframed(Plain()),
            owner,
            asyncio.get_running_loop(),
            random.Random(1),
        )
        self.carriers.append(carrier)
        carrier.start()
        return carrier, owner

    async def close(self) -> None:
        for carrier in self.carriers:
            await carrier.close()
        for cable in self.cables:
            cable.unplug()
        for server in self.servers:
            server.close()
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def on_each_loop(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test on asyncio's own loop and on uvloop, which brokers run on."""

    @pytest.mark.parametrize(
        "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )
    def test(
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        new_loop: Callable[[], asyncio.AbstractEventLoop],
    ) -> None:
        async def run() -> None:
            world = World(tmp_path, monkeypatch)
            try:
                await scenario(world)
            finally:
                await world.close()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(run())

    return test


@on_each_loop
async def test_a_port_may_be_waited_for_before_it_exists(world: World) -> None:
    cable = world.cable()
    carrier, owner = world.carrier(str(cable.link))
    await poll(lambda: carrier.figures.attempts > 2)
    assert "is not there" in carrier.figures.last_error
    cable.plug()
    await owner.until(lambda: bool(owner.plugged))
    cable.write(b"hello")
    await owner.until(lambda: owner.received == b"hello")
    assert owner.plugged[0].path == str(cable.link)
    assert carrier.figures.is_open
    assert carrier.figures.bytes_in == 5


@on_each_loop
async def test_a_device_that_is_replugged_under_another_number_is_found_again(world: World) -> None:
    cable, other = world.cable(), world.cable("other")
    cable.plug()
    other.plug()
    _, owner = world.carrier(str(cable.link))
    await owner.until(lambda: len(owner.plugged) == 1)
    cable.unplug()
    await owner.until(lambda: len(owner.unplugged) == 1)
    cable.point(other.path)
    await owner.until(lambda: len(owner.plugged) == 2)
    other.write(b"again")
    await owner.until(lambda: owner.received == b"again")
    assert owner.unplugged == ["it was unplugged"]


@on_each_loop
async def test_two_devices_that_swap_their_numbers_keep_their_carriers(
    world: World,
) -> None:
    one, two = world.cable("one"), world.cable("two")
    one.plug()
    two.plug()
    places = {"A1": one, "B2": two}
    world.monkeypatch.setattr(
        port_names,
        "devices",
        lambda: [
            port_names.Device(cable.path, vid=0x0403, pid=0x6001, serial=name)
            for name, cable in places.items()
            if cable.end is not None
        ],
    )
    _, first = world.carrier("0403:6001:A1")
    _, second = world.carrier("0403:6001:B2")
    await first.until(lambda: bool(first.plugged))
    await second.until(lambda: bool(second.plugged))
    assert first.plugged[0].key == "usb:0403:6001:A1"
    one.unplug()
    two.unplug()
    await first.until(lambda: bool(first.unplugged))
    await second.until(lambda: bool(second.unplugged))
    two.plug()
    one.plug()
    await first.until(lambda: len(first.plugged) == 2)
    await second.until(lambda: len(second.plugged) == 2)
    one.write(b"I am A1")
    two.write(b"I am B2")
    await first.until(lambda: first.received == b"I am A1")
    await second.until(lambda: second.received == b"I am B2")


@on_each_loop
async def test_a_link_goes_on_after_its_wire_was_cut_in_the_middle_of_a_frame(world: World) -> None:
    cable = world.cable()
    host = Link(LinkSettings(uid=b"host"), random.Random(2))
    device = Link(LinkSettings(uid=b"device"), random.Random(3))
    _, owner = world.carrier(str(cable.link), host)
    cable.plug()
    await owner.until(lambda: len(owner.plugged) == 1)
    pump = Pump(device, cable)
    pump.plug()
    await owner.until(lambda: any(isinstance(each, Opened) for each in owner.events))
    device.send(Channel.RAW, b"before", 0.0)
    pump.turn()
    await owner.until(lambda: owner.received == b"before")
    device.send(Channel.RAW, b"the cable breaks in here", 0.0)
    cable.write(device.data_to_send()[:7])
    pump.unplug()
    await owner.until(lambda: len(owner.unplugged) == 1)
    host.send(Channel.RAW, b"down", 0.0)
    cable.plug()
    await owner.until(lambda: len(owner.plugged) == 2)
    pump.plug()
    await owner.until(lambda: owner.received == b"beforethe cable breaks in here")
    await cable.until(lambda: pump.received == [b"down"])
    assert [each.is_resumed for each in owner.events if isinstance(each, Opened)] == [False, True]
    pump.unplug()


@on_each_loop
async def test_what_comes_while_it_is_held_waits_in_the_kernel(world: World) -> None:
    cable = world.cable()
    carrier, owner = world.carrier(str(cable.link))
    carrier.hold(True)
    cable.plug()
    await owner.until(lambda: bool(owner.plugged))
    cable.write(b"patience")
    cable.listen()
    carrier.wake()
    await turns()
    assert owner.received == b""
    carrier.hold(False)
    await owner.until(lambda: owner.received == b"patience")


@on_each_loop
async def test_a_device_that_does_not_read_makes_the_machine_wait_and_loses_nothing(
    world: World,
) -> None:
    cable = world.cable()
    machine = Unframed(Plain())
    carrier, owner = world.carrier(str(cable.link), machine)
    cable.plug()
    await owner.until(lambda: bool(owner.plugged))
    sent = b""
    for number in range(5000):
        await asyncio.sleep(0)
        chunk = b"%07d," % number * 100
        if not machine.send(Channel.RAW, chunk, 0.0):
            break
        sent += chunk
        carrier.wake()
    assert len(sent) < 500_000  # the kernel's buffer, the rest of one write, and the outbox
    assert carrier.figures.waiting > 0
    cable.listen()
    await cable.until(lambda: len(cable.heard) >= len(sent))
    assert cable.heard == sent
    assert carrier.figures.waiting == 0
    assert machine.send(Channel.RAW, b"more", 0.0)


@on_each_loop
async def test_the_owner_hears_when_there_is_room_again(world: World) -> None:
    cable = world.cable()
    machine = Unframed(TextLines())
    carrier, owner = world.carrier(str(cable.link), machine)
    cable.plug()
    await owner.until(lambda: bool(owner.plugged))
    cable.listen()
    lines = [b"line %d" % number for number in range(1000)]
    left = list(lines)

    def feed(events: Sequence[Event], now: float) -> None:
        while left and machine.send(Channel.RAW, left[0], now):
            del left[0]
            carrier.wake()

    owner.on_events = feed  # type: ignore[method-assign]
    feed((), 0.0)
    await cable.until(lambda: cable.heard == b"".join(line + b"\n" for line in lines))


@on_each_loop
async def test_a_port_is_opened_once(world: World) -> None:
    cable = world.cable()
    cable.plug()
    _, first = world.carrier(str(cable.link))
    await first.until(lambda: bool(first.plugged))
    second, owner = world.carrier(cable.path)
    await poll(lambda: "is in use" in second.figures.last_error)
    assert not owner.plugged
    await world.carriers[0].close()
    await owner.until(lambda: bool(owner.plugged))


@on_each_loop
async def test_the_speed_at_which_somebody_is_understood_is_found_and_remembered(
    world: World,
) -> None:
    cable = world.cable()
    bauds = (9600, 19_200, 57_600, 115_200)
    machine = Detector(Link(LinkSettings(), random.Random(2)))
    carrier, owner = world.carrier(str(cable.link), machine, bauds=bauds, probe=0.05)
    cable.plug()
    await owner.until(lambda: bool(owner.plugged))
    await poll(lambda: cable.baud == termios.B57600)
    cable.write(b"\ntemp/1 21.5\n")
    await owner.until(lambda: Reading("temp/1", b"21.5") in owner.events)
    assert Recognised("text") in owner.events
    assert carrier.figures.baud == 57_600
    assert carrier.figures.is_met
    cable.unplug()
    await owner.until(lambda: bool(owner.unplugged))
    cable.plug()
    await owner.until(lambda: len(owner.plugged) == 2)
    assert owner.plugged[1].baud == 57_600
    assert cable.baud == termios.B57600


@on_each_loop
async def test_a_port_over_tcp_is_carried_and_reconnected(world: World) -> None:
    peers: list[tuple[StreamReader, StreamWriter]] = []
    number = await world.serve(lambda *peer: peers.append(peer))
    machine = Unframed(Plain())
    carrier, owner = world.carrier(f"tcp://127.0.0.1:{number}", machine)
    for round_ in (1, 2):
        await owner.until(lambda: len(owner.plugged) == round_)  # noqa: B023
        machine.send(Channel.RAW, b"down", 0.0)
        carrier.wake()
        await poll(lambda: len(peers) == round_)  # noqa: B023
        reader, writer = peers[-1]
        assert await reader.readexactly(4) == b"down"
        writer.write(b"up")
        await owner.until(lambda: owner.received == b"up" * round_)  # noqa: B023
        writer.close()
        await writer.wait_closed()
        await owner.until(lambda: len(owner.unplugged) == round_)  # noqa: B023
    assert set(owner.unplugged) == {"the other end hung up"}


@on_each_loop
async def test_what_the_other_end_says_at_once_is_not_lost(world: World) -> None:
    number = await world.serve(lambda _, writer: writer.write(b"welcome"))
    _, owner = world.carrier(f"tcp://127.0.0.1:{number}")
    await owner.until(lambda: owner.received == b"welcome")


@on_each_loop
async def test_a_port_behind_rfc_2217_gets_its_speed_and_its_bytes(world: World) -> None:
    cable = world.cable()
    cable.plug()
    server = TelnetServer(cable.path)
    machine = Unframed(Plain())
    number = await world.serve(server.serve)
    url = f"rfc2217://127.0.0.1:{number}"
    carrier, owner = world.carrier(url, machine, bauds=(57_600,))
    await owner.until(lambda: len(owner.plugged) == 1)
    assert cable.baud == termios.B57600
    cable.listen()
    everything = bytes(range(256))
    machine.send(Channel.RAW, everything, 0.0)
    carrier.wake()
    await cable.until(lambda: cable.heard == everything)
    cable.write(everything)
    await owner.until(lambda: owner.received == everything)
    assert carrier.figures.has_line_errors
    await server.hang_up()
    await owner.until(lambda: len(owner.plugged) == 2)
    await carrier.close()
    await server.hang_up()
    server.stop()


@on_each_loop
async def test_who_knows_no_rfc_2217_is_recognised(world: World) -> None:
    def refuse(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(bytes((255, 254, 44)))

    number = await world.serve(refuse)
    carrier, owner = world.carrier(f"rfc2217://127.0.0.1:{number}")
    await poll(lambda: "try tcp://" in carrier.figures.last_error)
    await carrier.close()
    assert not owner.plugged


@on_each_loop
async def test_who_never_answers_is_given_up_and_left(world: World) -> None:
    number = await world.serve(lambda *_: None)
    url = f"rfc2217://127.0.0.1:{number}"
    carrier, _ = world.carrier(url, open_timeout=0.02)
    await poll(lambda: "did not answer" in carrier.figures.last_error)
    await carrier.close()
    patient, owner = world.carrier(url)
    accepted = len(world.writers)
    await poll(lambda: len(world.writers) > accepted)
    await patient.close()  # while it is still waiting
    await poll(lambda: len(asyncio.all_tasks()) == 1)
    assert not owner.plugged


@on_each_loop
async def test_a_fault_of_the_owner_ends_one_connection_loudly(world: World) -> None:
    cable = world.cable()
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    _, owner = world.carrier(str(cable.link))
    cable.plug()
    await owner.until(lambda: bool(owner.plugged))
    tell = owner.on_events

    def fail(events: Sequence[Event], now: float) -> None:
        owner.on_events = tell  # type: ignore[method-assign]
        raise ZeroDivisionError

    owner.on_events = fail  # type: ignore[method-assign]
    cable.write(b"x")
    await owner.until(lambda: len(owner.plugged) == 2)
    assert "fault" in owner.unplugged[0]
    assert isinstance(faults[0]["exception"], ZeroDivisionError)


@on_each_loop
async def test_a_plug_that_wobbles_is_not_waited_for_longer_each_time(world: World) -> None:
    cable = world.cable()
    _, owner = world.carrier(str(cable.link), first_retry=0.001, longest_retry=3600.0)
    for number in range(1, 20):
        cable.plug()
        await owner.until(lambda: len(owner.plugged) == number)  # noqa: B023
        cable.write(b"x")
        await owner.until(lambda: len(owner.received) == number)  # noqa: B023
        cable.unplug()


@on_each_loop
async def test_a_thousand_replugs_leave_nothing_behind(world: World) -> None:
    cable = world.cable()
    rng = random.Random(5)
    machine = Detector(Link(LinkSettings(), random.Random(2)))
    carrier, owner = world.carrier(
        str(cable.link), machine, first_retry=0.0001, longest_retry=0.0002
    )
    cable.plug()
    await owner.until(lambda: bool(owner.plugged))
    before = resources()
    for number in range(2, 1002):
        if rng.random() < 0.5:
            cable.write(rng.randbytes(rng.randrange(1, 100)))
        if rng.random() < 0.5:
            await turns()
        cable.unplug()
        cable.plug()
        await owner.until(lambda: len(owner.plugged) == number)  # noqa: B023
    assert resources() == before
    assert carrier.figures.opened == 1001
    await carrier.close()
    assert len(asyncio.all_tasks()) == 1
    assert len(owner.unplugged) == 1001


@on_each_loop
async def test_after_close_nothing_is_open_and_nobody_is_called(world: World) -> None:
    cable = world.cable()
    before = resources()
    carrier, owner = world.carrier(str(cable.link))
    cable.plug()
    await owner.until(lambda: bool(owner.plugged))
    carrier.wake()
    await carrier.close()
    cable.unplug()
    told = len(owner.events), len(owner.unplugged)
    await turns()
    assert resources() == before
    assert (len(owner.events), len(owner.unplugged)) == told
    assert owner.unplugged == ["the gateway closed it"]
    carrier.wake()
    await carrier.close()


@on_each_loop
async def test_a_device_is_set_up_so_that_closing_it_resets_nothing(world: World) -> None:
    cable = world.cable()
    cable.plug()
    assert cable.end is not None
    found = termios.tcgetattr(cable.end)
    found[0] |= termios.BRKINT
    found[2] |= termios.HUPCL
    termios.tcsetattr(cable.end, termios.TCSANOW, found)
    _, owner = world.carrier(str(cable.link), flow="xonxoff", lines="off")
    await owner.until(lambda: bool(owner.plugged))
    iflag, oflag, cflag, lflag, _, speed, characters = termios.tcgetattr(cable.end)
    assert not cflag & termios.HUPCL
    assert not iflag & termios.BRKINT
    assert iflag & termios.IXON
    assert not oflag & termios.OPOST
    assert not lflag & (termios.ICANON | termios.ECHO | termios.ISIG)
    assert speed == termios.B115200
    assert characters[termios.VMIN] in {1, b"\x01"}


@on_each_loop
async def test_what_a_driver_cannot_do_is_said(world: World) -> None:
    cable = world.cable()
    cable.plug()
    carrier, _ = world.carrier(str(cable.link), rs485=Rs485())
    await poll(lambda: "cannot do RS-485" in carrier.figures.last_error)
    before = resources()
    await poll(lambda: carrier.figures.attempts > 10)
    assert resources() == before
    assert "cannot do RS-485" in carrier.figures.last_error  # not: in use, by ourselves
    (world.folder / "file").touch()
    carrier, _ = world.carrier(f"{world.folder}/file")
    await poll(lambda: "is no serial port, but a file" in carrier.figures.last_error)
    carrier, _ = world.carrier("/dev/null")
    await poll(lambda: "/dev/null cannot be used" in carrier.figures.last_error)


@on_each_loop
async def test_a_monitor_between_device_and_gateway_shows_both(world: World) -> None:
    cable, shown = world.cable(), Shown()
    cable.plug()
    settings = PortSettings(str(cable.link), **QUICK)
    watching = asyncio.create_task(command_monitor.watch(settings, shown, True))
    await poll(lambda: len(shown.said) > 1)
    path = re.findall(r'port = "(.*)"', shown.said[0])[0]
    machine = Unframed(TextLines())
    gateway, owner = world.carrier(path, machine)
    await owner.until(lambda: bool(owner.plugged))
    cable.listen()
    cable.write(b"temp/1 21.5\n")
    await owner.until(lambda: Reading("temp/1", b"21.5") in owner.events)
    machine.send(Channel.RAW, b"led on", 0.0)
    gateway.wake()
    await cable.until(lambda: cable.heard == b"led on\n")
    assert shown.seen == [(Way.FROM_DEVICE, b"temp/1 21.5\n"), (Way.TO_DEVICE, b"led on\n")]
    await gateway.close()
    watching.cancel()
    await asyncio.wait([watching])


# -- helpers --------------------------------------------------------------------------------------


class Pump:
    """A machine at the device's end of a cable."""

    def __init__(self, machine: Link, cable: PtyCable) -> None:
        self.machine = machine
        self.cable = cable
        self.received: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def plug(self) -> None:
        if self.cable.end is None:
            self.cable.plug()
        self.machine.plugged(self._now())
        assert self.cable.end is not None
        asyncio.get_running_loop().add_reader(self.cable.end, self._on_readable)
        self.turn()

    def unplug(self) -> None:
        assert self._timer is not None
        self._timer.cancel()
        self.cable.unplug()
        self.machine.receive(b"", self._now())

    def turn(self) -> None:
        self.machine.tick(self._now())
        self.cable.write(self.machine.data_to_send())
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(0.02, self.turn)

    def _on_readable(self) -> None:
        self.cable._on_readable()
        heard, self.cable.heard = self.cable.heard, b""
        events = self.machine.receive(heard, self._now()) if heard else []
        self.received += [each.payload for each in events if isinstance(each, Received)]
        self.turn()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class Shown(command_monitor.Screen):
    """A screen that is read by a test."""

    def __init__(self) -> None:
        super().__init__("auto", None)
        self.said: list[str] = []
        self.seen: list[tuple[Way, bytes]] = []

    def see(self, way: Way, data: bytes) -> None:
        self.seen.append((way, data))

    def say(self, text: str) -> None:
        self.said.append(text)


class _Pty(serial.Serial):
    """A pty has no lines, but pyserial's server asks for them."""

    cts = dsr = ri = cd = False

    def _update_dtr_state(self) -> None:
        pass

    def _update_rts_state(self) -> None:
        pass


class TelnetServer:
    """A foreign RFC 2217 server: pyserial's, in front of a device."""

    def __init__(self, device: str) -> None:
        self._serial = _Pty(device, timeout=0)

    def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        manager = PortManager(self._serial, writer)
        loop = asyncio.get_running_loop()

        def up() -> None:
            writer.write(b"".join(manager.escape(self._serial.read(65_536))))

        async def down() -> None:
            while data := await reader.read(65_536):
                self._serial.write(b"".join(manager.filter(data)))

        loop.add_reader(self._serial.fileno(), up)
        self._writer, self._task = writer, loop.create_task(down())

    async def hang_up(self) -> None:
        asyncio.get_running_loop().remove_reader(self._serial.fileno())
        self._writer.close()
        await self._task

    def stop(self) -> None:
        self._serial.close()


def resources() -> tuple[int, int, int]:
    """Open files, tasks, threads."""
    return descriptors(), len(asyncio.all_tasks()), threading.active_count()


async def turns(count: int = 20) -> None:
    """Let the loop turn some times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def poll(is_true: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not is_true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
