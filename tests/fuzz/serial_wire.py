"""Throws spoilt bytes at everything that listens on a serial wire: the link, with and without the
right seals, the modes, the detector, and what the channels carry.

What must hold: no exception escapes; what is held and what waits is bounded; nobody asks to be
called at once for ever; a sound peer can still open a session and be understood.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from bridges.serial.crc import Seal
from bridges.serial.detection import HELD, Detector
from bridges.serial.events import Received
from bridges.serial.files import FileReceiver, FileSender
from bridges.serial.frames import Capability, Channel, Hello, encode_hello
from bridges.serial.framing import wrap
from bridges.serial.link import Link, LinkSettings, State
from bridges.serial.modes import PacketStream, Plain, Slip, TextLines, Unframed, slip
from bridges.serial.times import TimeAsker, answer
from tests.fuzz.conversations import split, spoil
from tests.fuzz.fuzzer import FoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.serial.modes import SerialMachine

SETTINGS = LinkSettings(uid=b"fuzzed", payload_limit=300, queue=4)
ROUNDS_PER_MACHINE = 50
LONGEST_ROUND = 10_000  # bytes
MOST_OUTPUT = 20_000  # bytes for one read
MOST_TICKS = 50  # for one read, without time passing
SN_PACKETS = [
    bytes.fromhex(each) for each in ("0a040c01003c74657374", "030100", "0216", "06fe000102030216")
]


class SerialFuzzer:
    """Rounds of bytes; `seed` and the number of the round repeat each of them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rounds = 0
        self.packets = 0
        self.begin()

    def begin(self) -> None:
        """New machines."""
        # Their history depends on the seed and its first round, and on nothing before.
        self.rng = Random(f"serial {self.seed}/{self.rounds}")
        self.now = 0.0
        self.link = Link(SETTINGS, Random(self.rng.random()))
        self.detector = Detector(Link(SETTINGS, Random(self.rng.random())))
        codecs = (PacketStream(), Slip(), Plain(), TextLines())
        self.machines: list[SerialMachine] = [
            self.link, self.detector, *(Unframed(codec) for codec in codecs)
        ]  # fmt: skip
        for machine in self.machines:
            machine.plugged(0.0)
        self.shelf = Shelf()
        self.receiver = FileReceiver(self.shelf, 1000)
        self.sender = FileSender(1, "name", 100, bytes(32), self.shelf)
        self.asker = TimeAsker()

    def round(self) -> None:
        """One conversation; raises FoundError."""
        if self.rounds % ROUNDS_PER_MACHINE == 0:
            self.begin()
        self.rounds += 1
        try:
            self._talk()
            self._check()
        except Exception as fault:
            raise FoundError(f"seed {self.seed}, round {self.rounds}: {fault!r}") from fault

    def _talk(self) -> None:
        rng = self.rng
        frames = [rng.choice(_MAKERS)(self) for _ in range(rng.randint(1, 20))]
        frames = spoil(rng, frames)
        self.packets += len(frames)
        for read in split(rng, [b"".join(frames)[:LONGEST_ROUND]]):
            for machine in self.machines:
                self._give(machine, read)
            self.now += rng.choice((0.0, 0.001, 0.03, 1.0, 20.0))
            if rng.random() < 0.1:
                self.link.allow(rng.randrange(10), self.now)
            self.link.send(rng.choice(list(Channel)[1:]), rng.randbytes(20), self.now)
        for frame in frames:
            self._give_channels(frame)
        if rng.random() < 0.05:
            for machine in self.machines:
                machine.receive(b"", self.now)
                machine.plugged(self.now)

    def _give(self, machine: SerialMachine, read: bytes) -> None:
        machine.receive(read, self.now)
        assert len(machine.data_to_send()) < MOST_OUTPUT
        for _ in range(MOST_TICKS):
            deadline = machine.next_deadline()
            if deadline is None or deadline > self.now:
                return
            machine.tick(self.now)
            assert len(machine.data_to_send()) < MOST_OUTPUT
        raise AssertionError(f"{type(machine).__name__} wants to be called for ever")

    def _give_channels(self, payload: bytes) -> None:
        self.receiver.receive(payload)
        self.sender.receive(payload)
        self.sender.payload(60)
        self.asker.receive(payload, self.now)
        answer(payload, self.now)
        assert len(self.shelf.data) <= 1000

    def _check(self) -> None:
        limit = self.link._deframer.limit
        assert self.link._deframer.pending <= limit
        assert len(self.detector._held) <= HELD
        assert self.link._sending._outstanding >= 0
        if self.link.state is State.OPEN:
            assert self.link.peer is not None
        if self.rounds % 10 == 0:
            self._serve()

    def _serve(self) -> None:
        """A sound peer comes, and is understood."""
        peer = Link(LinkSettings(uid=b"sound"), Random(self.rng.random()))
        self.link.receive(b"", self.now)
        self.link.plugged(self.now)
        self.link.allow(8, self.now)
        peer.plugged(self.now)
        peer.send(Channel.MQTT_SN, b"understood", self.now)
        heard = []
        for _ in range(200):
            peer.receive(self.link.data_to_send() or b"\0", self.now)
            heard += self.link.receive(peer.data_to_send() or b"\0", self.now)
            self.now += 0.05
            for link in (peer, self.link):
                link.tick(self.now)
        assert Received(Channel.MQTT_SN, b"understood") in heard


class Shelf:
    """Files in memory."""

    def __init__(self) -> None:
        self.data = b""

    def begin(self, name: str, size: int, digest: bytes) -> int:
        assert "/" not in name
        self.data = self.data[:size]
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]

    def append(self, data: bytes) -> None:
        self.data += data

    def finish(self) -> None:
        self.data = b""

    def discard(self) -> None:
        self.data = b""


# -- what is thrown: sound frames, whose damage is done later, and sealed nonsense ----------------


def _hello(fuzzer: SerialFuzzer) -> bytes:
    rng, link = fuzzer.rng, fuzzer.link
    hello = Hello(
        mine=rng.choice((1, 2, 3, link._nonce, link.peer.mine if link.peer else 9)),
        yours=rng.choice((0, 1, link._nonce, link._nonce)),
        is_open=rng.random() < 0.5,
        capabilities=Capability(rng.randrange(32)),
        window=rng.randint(1, 8),
        payload_limit=rng.choice((48, 300, 65_535)),
        buffer=rng.choice((0, 1, 64, 65_535)),
        uid=rng.randbytes(rng.randrange(17)),
    )
    return b"\0" + wrap(Seal().close(encode_hello(hello)))


def _nonsense_hello(fuzzer: SerialFuzzer) -> bytes:
    return wrap(Seal().close(b"\x00\x10" + fuzzer.rng.randbytes(fuzzer.rng.randrange(40))))


def _sealed(fuzzer: SerialFuzzer) -> bytes:
    """A frame of the session with any header and any payload."""
    rng = fuzzer.rng
    size = rng.choice((0, 1, 2, 3, 10, 48, 300, 320))
    return wrap(fuzzer.link._rx.close(rng.randbytes(size)))


def _data(fuzzer: SerialFuzzer) -> bytes:
    rng = fuzzer.rng
    expected = fuzzer.link._receiving.expected
    sequence = (expected + rng.choice((0, 0, 0, 1, 2, 7, 8, 15))) % 16
    header = bytes(
        (rng.randrange(8) << 5 | 0x10 | rng.randrange(16), sequence << 4 | rng.randrange(16))
    )
    return wrap(fuzzer.link._rx.close(header + rng.choice(SN_PACKETS)))


def _control(fuzzer: SerialFuzzer) -> bytes:
    rng = fuzzer.rng
    body = bytes((rng.randrange(9), rng.choice((0, 2)) << 4 | rng.randrange(16)))
    return wrap(fuzzer.link._rx.close(body + rng.randbytes(rng.randrange(2))))


def _packet(fuzzer: SerialFuzzer) -> bytes:
    packet = fuzzer.rng.choice(SN_PACKETS)
    return fuzzer.rng.choice((packet, slip(packet)))


def _line(fuzzer: SerialFuzzer) -> bytes:
    return fuzzer.rng.choice((b"temp/1 21.5\r\n", b"hello\n", b"x" * 600 + b"\n", b"a/b \xff\n"))


def _channel(fuzzer: SerialFuzzer) -> bytes:
    return bytes((fuzzer.rng.randrange(6), 1)) + fuzzer.rng.randbytes(
        fuzzer.rng.choice((0, 4, 8, 40))
    )


def _noise(fuzzer: SerialFuzzer) -> bytes:
    return fuzzer.rng.randbytes(fuzzer.rng.choice((1, 10, 1000)))


_MAKERS: tuple[Callable[[SerialFuzzer], bytes], ...] = (
    *(_hello, _hello, _nonsense_hello, _sealed, _sealed, _data, _data, _data, _control, _control),
    *(_packet, _line, _channel, _noise),
)
