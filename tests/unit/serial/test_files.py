"""Files in chunks: after any restart only what is missing is sent, and only the whole is kept."""

from __future__ import annotations

from hashlib import sha256
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.serial.files import FileMessage, FileReceiver, FileSender, Outcome, safe_name
from bridges.serial.frames import Channel
from tests.support.wire import errors
from tests.unit.serial.link_world import DEVICE, TINY, World

DATA = Random(1).randbytes(5000)
DIGEST = sha256(DATA).digest()


class Bytes:
    """A source in memory."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.read_bytes = 0

    def read(self, offset: int, size: int) -> bytes:
        self.read_bytes += size
        return self.data[offset : offset + size]


class Shelf:
    """A place in memory for one file, which survives the receiver."""

    def __init__(self) -> None:
        self.data = b""
        self.of = b""
        self.finished: list[bytes] = []
        self.discarded = 0
        self.refuses = False

    def begin(self, name: str, size: int, digest: bytes) -> int:
        if self.refuses:
            return -1
        if digest != self.of:
            self.data, self.of = b"", digest
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]

    def append(self, data: bytes) -> None:
        self.data += data

    def finish(self) -> None:
        self.finished.append(self.data)

    def discard(self) -> None:
        self.data = b""
        self.of = b""
        self.discarded += 1


def sender(data: bytes = DATA, digest: bytes = DIGEST, name: str = "fw.bin") -> FileSender:
    return FileSender(3, name, len(data), digest, Bytes(data))


def carry(one: FileSender, other: FileReceiver, limit: int = 100, most: int = 10_000) -> int:
    """Let them talk until nothing is to be said; return how many messages the sender had."""
    for count in range(most):
        payload = one.payload(limit)
        if payload is None:
            return count
        assert len(payload) <= limit
        answer = other.receive(payload)
        if answer is not None:
            one.receive(answer)
    return most


@given(st.binary(max_size=2000), st.integers(48, 300))
def test_a_file_arrives_whole(data: bytes, limit: int) -> None:
    shelf = Shelf()
    one = sender(data, sha256(data).digest())
    carry(one, FileReceiver(shelf, 10_000), limit)
    assert one.outcome is Outcome.DONE
    assert shelf.finished == [data]


def test_after_a_restart_of_the_receiver_only_the_rest_is_sent() -> None:
    shelf, one = Shelf(), sender()
    carry(one, FileReceiver(shelf, 10_000), most=20)
    kept = len(shelf.data)
    assert 0 < kept < len(DATA)
    one.restart()
    messages = carry(one, FileReceiver(shelf, 10_000))
    assert one.outcome is Outcome.DONE
    assert shelf.finished == [DATA]
    assert messages < (len(DATA) - kept) / 94 + 3


def test_after_a_restart_of_the_sender_only_the_rest_is_sent() -> None:
    shelf = Shelf()
    receiver = FileReceiver(shelf, 10_000)
    carry(sender(), receiver, most=20)
    kept, one = len(shelf.data), sender()
    messages = carry(one, receiver)
    assert one.outcome is Outcome.DONE
    assert shelf.finished == [DATA]
    assert messages < (len(DATA) - kept) / 94 + 3


def test_a_receiver_that_was_reset_and_offered_nothing_says_so() -> None:
    shelf, one = Shelf(), sender()
    carry(one, FileReceiver(shelf, 10_000), most=5)
    carry(one, FileReceiver(shelf, 10_000))
    assert one.outcome is Outcome.ABANDONED


def test_the_rest_of_another_file_is_not_taken_for_this_one() -> None:
    shelf = Shelf()
    carry(sender(), FileReceiver(shelf, 10_000), most=20)
    other = DATA[::-1]
    one = sender(other, sha256(other).digest())
    carry(one, FileReceiver(shelf, 10_000))
    assert shelf.finished == [other]


def test_a_file_that_is_there_already_is_not_sent() -> None:
    shelf = Shelf()
    carry(sender(), FileReceiver(shelf, 10_000))
    one = sender()
    assert carry(one, FileReceiver(shelf, 10_000)) == 1
    assert one.outcome is Outcome.DONE


def test_another_digest_is_discarded() -> None:
    shelf, one = Shelf(), sender(digest=bytes(32))
    carry(one, FileReceiver(shelf, 10_000))
    assert one.outcome is Outcome.DAMAGED
    assert (shelf.finished, shelf.discarded) == ([], 1)


def test_damage_in_what_was_kept_is_noticed() -> None:
    shelf, one = Shelf(), sender()
    carry(one, FileReceiver(shelf, 10_000), most=20)
    shelf.data = b"\0" + shelf.data[1:]
    one.restart()
    carry(one, FileReceiver(shelf, 10_000))
    assert one.outcome is Outcome.DAMAGED
    assert shelf.finished == []


def test_what_is_too_large_or_not_wanted_is_refused() -> None:
    shelf, one = Shelf(), sender()
    carry(one, FileReceiver(shelf, 4999))
    assert one.outcome is Outcome.TOO_LARGE
    shelf.refuses = True
    one = sender()
    carry(one, FileReceiver(shelf, 10_000))
    assert one.outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    "name",
    ["", "..", ".hidden", "../up", "a/b", "a\\b", "C:x", "a\nb", "a\0b", "x" * 65, "a*"],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    shelf = Shelf()
    payload = bytes((FileMessage.OFFER, 1)) + (9).to_bytes(4, "big") + bytes(32) + name.encode()
    answer = FileReceiver(shelf, 10_000).receive(payload)
    assert answer is None if not name else answer == bytes((FileMessage.END, 1, Outcome.REFUSED))
    assert safe_name(b"\xff") is None
    assert safe_name("fw-1.2_ü.bin".encode()) == "fw-1.2_ü.bin"


def test_misplaced_chunks_are_answered_once() -> None:
    shelf = Shelf()
    receiver = FileReceiver(shelf, 10_000)
    offer = sender().payload(100)
    assert offer is not None
    receiver.receive(offer)
    wrong = bytes((FileMessage.CHUNK, 3)) + (500).to_bytes(4, "big") + b"x"
    beyond = bytes((FileMessage.CHUNK, 3)) + (0).to_bytes(4, "big") + bytes(5001)
    assert receiver.receive(wrong) == bytes((FileMessage.WANT, 3, 0, 0, 0, 0))
    assert receiver.receive(wrong) is None
    assert receiver.receive(beyond) is None
    assert shelf.data == b""


@given(st.lists(st.binary(max_size=60), max_size=30))
def test_any_payloads_are_survived_by_both(payloads: list[bytes]) -> None:
    shelf, one = Shelf(), sender()
    receiver = FileReceiver(shelf, 10_000)
    for payload in payloads:
        for kind in (b"", b"\1", b"\2\3", b"\3\3", b"\4\3"):
            receiver.receive(kind + payload)
            one.receive(kind + payload)
            one.payload(48)
    assert len(shelf.data) <= 10_000


@pytest.mark.parametrize("device", [DEVICE, TINY], ids=["full", "tiny"])
def test_a_file_goes_over_a_noisy_link_that_is_reset_on_the_way(device: object) -> None:
    world = World(4, errors(0.005), device=device).opened()  # type: ignore[arg-type]
    shelf, one = Shelf(), sender()
    receiver = FileReceiver(shelf, 10_000)
    seen = [0, 0]
    resets = [1000, 2500, 4000]
    while one.outcome is Outcome.UNDERWAY and world.bench.now < 3600:
        while world.host.writable(Channel.FILES) and world.is_open:
            payload = one.payload(min(world.host.payload_limit, 200))
            if payload is None:
                break
            world.host.send(Channel.FILES, payload, world.bench.now)
        world.bench.pump()
        world.bench.run(world.bench.now + 0.02)
        for event in world.arrived(1)[seen[1] :]:
            answer = receiver.receive(event)
            if answer:
                world.device.send(Channel.FILES, answer, world.bench.now)
        for event in world.arrived(0)[seen[0] :]:
            one.receive(event)
        seen = [len(world.arrived(0)), len(world.arrived(1))]
        if resets and len(shelf.data) > resets[0]:
            del resets[0]
            world.bench.replace(1, world.link(1))
            world.bench.run(world.bench.now + 60, lambda: world.is_open)
            receiver = FileReceiver(shelf, 10_000)
            one.restart()
    assert one.outcome is Outcome.DONE
    assert shelf.finished == [DATA]
    assert resets == []
