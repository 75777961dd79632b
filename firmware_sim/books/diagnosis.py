"""Naming broken firmware by what can be seen from outside.

The judges are told neither the scenario nor which bugs were asked for. Each looks at the evidence
of one device, and says what is wrong with it in the numbers that prove it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from firmware_sim.device.bugs import Bug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from firmware_sim.books.evidence import Evidence

STORM_UPS: Final = 10  # in a minute
MESSAGES_PER_UP: Final = 0.5  # a storm has fewer
LARGE: Final = 8 * 1024
LARGER_THAN_USUAL: Final = 3
UNCONFIRMED: Final = 2
FAR_OFF: Final = 3600.0  # seconds; clocks of devices drift by minutes
SAME: Final = 20


class Finding(NamedTuple):
    """One device, what is wrong with it, and why we think so: `proof` goes on after "it"."""

    device: str
    kind: str
    bug: Bug
    proof: str


def diagnose(devices: Iterable[Evidence]) -> list[Finding]:
    """What is wrong with each device, by name."""
    known = sorted(devices, key=lambda evidence: evidence.name)
    shared = _shared_ids(known)
    found = [finding for evidence in known for finding in _judge(evidence, shared)]
    return sorted(found, key=lambda finding: (finding.bug, finding.device))


def _judge(evidence: Evidence, shared: Mapping[str, list[str]]) -> list[Finding]:
    proofs = {bug: judge(evidence) for bug, judge in _JUDGES.items()}
    proofs[Bug.DUPLICATE_IDS] = _duplicate_ids(evidence, shared)
    if proofs[Bug.DUPLICATE_IDS]:
        proofs[Bug.RECONNECT_STORM] = ""  # who shares an id is thrown out again and again
    return [
        Finding(evidence.name, evidence.kind, bug, proof) for bug, proof in proofs.items() if proof
    ]


def _shared_ids(devices: Iterable[Evidence]) -> dict[str, list[str]]:
    users: defaultdict[str, list[str]] = defaultdict(list)
    for evidence in devices:
        for client_id in evidence.client_ids:
            users[client_id].append(evidence.name)
    return {client_id: names for client_id, names in users.items() if len(names) > 1}


def _duplicate_ids(evidence: Evidence, shared: Mapping[str, list[str]]) -> str:
    for client_id in evidence.client_ids:
        if client_id in shared:
            others = [name for name in shared[client_id] if name != evidence.name]
            return f'is "{client_id}", and so is {others[0]}; down {evidence.downs} times'
    return ""


def _storm(evidence: Evidence) -> str:
    ups, messages = evidence.storm_ups, evidence.storm_messages
    if ups < STORM_UPS or messages >= ups * MESSAGES_PER_UP:
        return ""
    return f"connected {ups} times within a minute; messages meanwhile: {messages}"


def _oversized(evidence: Evidence) -> str:
    usual = (evidence.sum_sizes - evidence.largest) / max(evidence.sizes - 1, 1)
    if evidence.largest < LARGE or (
        evidence.sizes > 1 and evidence.largest < LARGER_THAN_USUAL * usual
    ):
        return ""
    return f"sent {evidence.largest} bytes in one message, {round(usual)} on average in the others"


def _garbage(evidence: Evidence) -> str:
    if not evidence.garbage:
        return ""
    return f"sent no JSON in {evidence.garbage} of {evidence.arrived} messages"


def _never_acks(evidence: Evidence) -> str:
    if evidence.confirmed or evidence.taken < UNCONFIRMED:
        return ""
    return f"took {evidence.taken} messages and acknowledged none"


def _clock_wrong(evidence: Evidence) -> str:
    if not evidence.clocks:
        return ""
    days = evidence.clock_off / 86_400
    return f"told a time that is off by {days:.1f} days, in {evidence.clocks} messages"


def _sends_twice(evidence: Evidence) -> str:
    if not evidence.twice:
        return ""
    return f"sent {evidence.twice} messages that had been acknowledged before"


def _stuck(evidence: Evidence) -> str:
    if evidence.longest_same < SAME:
        return ""
    return f"told the same values {evidence.longest_same} times in a row"


_JUDGES: Final[Mapping[Bug, Callable[[Evidence], str]]] = {
    Bug.RECONNECT_STORM: _storm,
    Bug.OVERSIZED_PAYLOAD: _oversized,
    Bug.PAYLOAD_GARBAGE: _garbage,
    Bug.NEVER_ACKS: _never_acks,
    Bug.CLOCK_WRONG: _clock_wrong,
    Bug.SENDS_TWICE: _sends_twice,
    Bug.STUCK_SENSOR: _stuck,
}
