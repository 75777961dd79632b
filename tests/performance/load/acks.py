"""Runs of acks: whether they are the ones due, found by one comparison of bytes."""

from tests.performance import wire
from tests.performance.measure import FaultError

PUBACKS = wire.ack_tape(wire.PUBACK)


def match(acks: bytes, tape: wire.Tape, start: int, what: str) -> int:
    """How many acks these are. Raises FaultError unless they are exactly the next ones due."""
    count = len(acks) // wire.ACK
    if acks != tape.cut(start, count):
        due = tape.cut(start, count)
        raise FaultError(f"{what} not as due: got {acks.hex()[:80]}, due {due.hex()[:80]}")
    return count


def leading(values: bytes, wanted: bytes) -> int:
    """How many of the first bytes are all `wanted`."""
    return len(values) - len(values.lstrip(wanted))
