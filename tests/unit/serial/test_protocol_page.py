"""docs/serial-protocol.md says what the code does: its examples in hex, its limits, and its
smallest device, which was written from the page alone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from bridges.serial import cobs
from bridges.serial.crc import Seal, seal_between
from bridges.serial.events import Opened, Received, Restarted
from bridges.serial.files import FileMessage, FileReceiver, Outcome
from bridges.serial.frames import Capability, Channel, Hello, decode_hello, encode_hello
from bridges.serial.framing import wrap
from bridges.serial.link import Link, LinkSettings, State
from bridges.serial.times import answer
from tests.support.wire import Bench, Faults, Wire, errors
from tests.unit.serial.test_files import Shelf
from tests.unit.serial.tiny_device import TinyDevice, crc, stuff

PAGE = (Path(__file__).parents[3] / "docs" / "serial-protocol.md").read_text()
DEVICE, GATEWAY = 0xABCD, 0x1234
HOST = LinkSettings(
    uid=b"host",
    firmware="1.0",
    capabilities=Capability.CRC_32 | Capability.TIME | Capability.FILES | Capability.LOG,
)
SMALL = Hello(
    DEVICE, payload_limit=48, buffer=48, baud=115_200, uid=bytes((1, 2, 3, 4)), firmware="1.0"
)


def rows(letter: str) -> dict[str, list[bytes]]:
    """The rows of the page's tables that begin with such a number: the bytes of their columns."""
    found = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(letter + r"\d+", cells[0]):
            found[cells[0]] = [bytes.fromhex(cell.strip("`")) for cell in cells[2:]]
    return found


FRAMES = rows("E")
HELLOS = ("E1", "E2", "E3")
SEALS = {
    **dict.fromkeys(HELLOS, Seal()),
    **dict.fromkeys(("E4", "E7", "E10"), seal_between(DEVICE, GATEWAY, is_strong=False)),
    **dict.fromkeys(("E5", "E6", "E8", "E9"), seal_between(GATEWAY, DEVICE, is_strong=False)),
    "E11": seal_between(DEVICE, GATEWAY, is_strong=True),
}


def test_the_page_has_its_examples() -> None:
    assert len(FRAMES) == 11
    assert SEALS.keys() == FRAMES.keys()


@pytest.mark.parametrize("name", SEALS)
def test_each_example_is_sealed_and_stuffed_as_the_code_does(name: str) -> None:
    body, check, wire = FRAMES[name]
    assert SEALS[name].close(body) == body + check
    assert wire == (b"\0" if name in HELLOS else b"") + wrap(body + check)
    assert SEALS[name].open(body + check) == body


def test_each_example_is_sealed_and_stuffed_as_the_page_says() -> None:
    pairs = {"E4": (DEVICE, GATEWAY), "E5": (GATEWAY, DEVICE), "E1": None, "E2": None}
    for name, nonces in pairs.items():
        body, check, wire = FRAMES[name]
        prefix = b"" if nonces is None else TinyDevice.prefix(*nonces)
        assert crc(prefix + body).to_bytes(2, "big") == check
        assert stuff(body + check) + b"\0" == wire.lstrip(b"\0")


def test_the_hellos_say_what_stands_above_them() -> None:
    assert encode_hello(SMALL) == FRAMES["E1"][0]
    assert encode_hello(replace(SMALL, yours=GATEWAY, is_open=True)) == FRAMES["E3"][0]
    hello = decode_hello(FRAMES["E2"][0])
    assert hello is not None
    assert (hello.mine, hello.yours, hello.uid, hello.window) == (GATEWAY, DEVICE, b"host", 8)


def test_the_gateway_says_the_examples_in_their_order() -> None:
    link = Link(HOST, Random(1))
    link.plugged(0.0)
    link.data_to_send()
    link._nonce = GATEWAY
    assert link.receive(FRAMES["E1"][2], 1.0) == []
    assert link.data_to_send() == FRAMES["E2"][2]
    (opened,) = link.receive(FRAMES["E3"][2], 1.1)
    assert isinstance(opened, Opened)
    assert link.data_to_send() == b""
    assert link.receive(FRAMES["E4"][2], 1.2) == [Received(Channel.MQTT_SN, b"\x02\x16")]
    assert link.data_to_send() == FRAMES["E5"][2]
    assert link.send(Channel.MQTT_SN, b"\x02\x17", 1.3)
    link_out = link.data_to_send()
    assert link_out == FRAMES["E6"][2]
    assert not link.is_idle
    link.receive(FRAMES["E7"][2], 1.4)
    assert link.is_idle
    assert link.receive(FRAMES["E10"][2], 1.5) == [Received(Channel.LOG, b"hi")]
    link.receive(b"\x05noise\0", 1.6)
    assert link.data_to_send() == FRAMES["E9"][2]


def test_held_frames_are_announced_as_in_the_example() -> None:
    link = Link(HOST, Random(1))
    link.plugged(0.0)
    link._nonce = GATEWAY
    link.receive(FRAMES["E1"][2] + FRAMES["E3"][2], 0.0)
    link.data_to_send()
    seal = SEALS["E4"]
    for sequence in (0, 1, 2, 4, 6):
        link.receive(wrap(seal.close(bytes((0x31, sequence << 4)) + b"x")), 0.1)
    assert link.data_to_send() == FRAMES["E8"][2]


def test_the_examples_of_cobs_are_right() -> None:
    table = PAGE.split("COBS alone:")[1].split("Payloads:")[0]
    pairs = re.findall(
        r"^\| (?:`([0-9a-f ]+)`|\(nothing\)) \| `([0-9a-f ]+)` \|$", table, re.MULTILINE
    )
    assert len(pairs) == 5
    for plain, encoded in pairs:
        assert cobs.encode(bytes.fromhex(plain)) == bytes.fromhex(encoded)


def test_the_examples_of_payloads_are_right() -> None:
    payloads = {name: columns[0] for name, columns in rows("P").items()}
    assert answer(payloads["P1"], 1_893_456_000.0) == payloads["P2"]
    shelf = Shelf()
    data = bytes(256) + b"\xde\xad"
    digest = sha256(data).digest()
    shelf.data, shelf.of = data[:256], digest
    receiver = FileReceiver(shelf, 1000)
    offer = bytes((FileMessage.OFFER, 3)) + (258).to_bytes(4, "big") + digest + b"x"
    assert receiver.receive(offer) == payloads["P3"]
    assert receiver.receive(payloads["P4"]) == payloads["P5"]
    assert payloads["P5"][2] == Outcome.DONE


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    assert len(encode_hello(Hello(1, uid=bytes(16), firmware="x" * 16))) == 50
    assert "HELLO is never longer than 50 bytes" in PAGE
    settings = LinkSettings()
    for text, value in (
        ("100 ms at first", settings.first_wait * 1000 == 100),
        ("20 ms to 2 s", (settings.shortest_wait, settings.longest_wait) == (0.02, 2.0)),
        ("after 250 ms, doubled to 2 s", settings.hello_wait == 0.25),
        ("| silence until asking | 15 s |", settings.idle == 15),
        ("8 times in a row no acknowledgement", settings.timeouts == 8),
        ("damage, and nothing sound for 2 s", settings.doubt == 2.0),
        ("not more often than every 20 ms", settings.nak_gap == 0.02),
        ("every 100 ms while only damage is heard", settings.hello_gap == 0.1),
        ("the owner is told of the silence | after 5 s", settings.silence == 5.0),
    ):
        assert text in PAGE
        assert value


# -- the smallest device --------------------------------------------------------------------------


class World:
    """The gateway's link and a device that knows nothing of our code."""

    def __init__(self, seed: int, faults: Faults = Faults()) -> None:  # noqa: B008
        rng = Random(f"tiny {seed}")
        self.device = TinyDevice(rng.randint(1, 0xFFFF))
        self.link = Link(HOST, Random(seed))
        self.bench = Bench(self.link, self.device, Wire(rng, faults), Wire(rng, faults))
        self.bench.plug()
        self.bench.run(600, self.is_open)
        assert self.is_open()

    def is_open(self) -> bool:
        return self.link.state is State.OPEN and self.device.open

    def talk(self, count: int, until: float) -> bool:
        """Both send so many numbered messages; return whether each arrived once and in order."""
        numbers = [number.to_bytes(2, "big") + b"\0 reading \0" for number in range(count)]
        todo = [list(numbers), list(numbers)]
        while self.bench.now < until and not self.is_done(numbers):
            if todo[0] and self.link.send(Channel.MQTT_SN, todo[0][0], self.bench.now):
                del todo[0][0]
            if todo[1] and self.device.send_message(1, todo[1][0], self.bench.now):
                del todo[1][0]
            self.bench.pump()
            self.bench.run(self.bench.now + 0.005)
        return self.is_done(numbers)

    def is_done(self, numbers: list[bytes]) -> bool:
        to_host = [e.payload for e in self.bench.events[0] if isinstance(e, Received)]
        return to_host == numbers and [each[1] for each in self.device.messages] == numbers


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_device_is_understood_on_bad_wires(seed: int, rate: float) -> None:
    world = World(seed, errors(rate))
    assert world.talk(100, 3600)
    assert world.device.sessions == 1


def test_the_smallest_device_is_never_overrun() -> None:
    world = World(1, Faults(read_every=0.004, ring=64))
    lost = world.bench.outward[0].lost_in_ring
    assert world.talk(50, 600)
    assert world.bench.outward[0].lost_in_ring == lost


@pytest.mark.parametrize("nonce", [0x5555, 1])
def test_a_reset_of_the_smallest_device_is_noticed(nonce: int) -> None:
    world = World(2)
    world.bench.run(world.bench.now + 1)
    world.device.nonce = nonce
    for _ in range(3):
        world.device = TinyDevice(nonce)
        world.bench.replace(1, world.device)
        world.bench.run(world.bench.now + 10, world.is_open)
        world.bench.run(world.bench.now + 1)
        assert world.is_open()
    assert sum(isinstance(event, Restarted) for event in world.bench.events[0]) == 3
    world.bench.events[0].clear()
    world.device.messages.clear()
    assert world.talk(20, world.bench.now + 60)


def test_a_reset_of_the_gateway_is_noticed_by_the_smallest_device() -> None:
    world = World(3)
    world.link = Link(HOST, Random(77))
    world.bench.replace(0, world.link)
    world.bench.run(world.bench.now + 10, world.is_open)
    assert world.device.sessions == 2
    world.bench.events[0].clear()
    assert world.talk(20, world.bench.now + 60)


def test_an_unplugged_smallest_device_goes_on_with_its_session() -> None:
    world = World(4)
    world.bench.at(0.2, world.bench.unplug)
    world.bench.at(9.0, world.bench.replug)
    assert world.talk(50, 120)
    assert world.bench.now > 9.0
    assert world.device.sessions == 1
