"""The gateway's limits and timers; times in seconds. Chapter 7.2 recommends the values that have a
name there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridges.mqttsn.ports import Address

_SHORT_DURATION: Final = 60


def never(_before: Address, _after: Address) -> bool:
    """A client id in use stays where it is: for wires, where an address is a place."""
    return False


def same_host(before: Address, after: Address) -> bool:
    """It may come from another port of its host: for UDP, where each start has a port of its own
    and a router forgets one that is silent. Peers are "host:port".
    """
    hosts = (before.peer.rpartition(":")[0], after.peer.rpartition(":")[0])
    return hosts[0] == hosts[1] and before.node == after.node


@dataclass(frozen=True, slots=True)
class Policy:
    """What one gateway allows and how patient it is."""

    gateway_id: int = 1
    predefined: Mapping[int, str] = field(default_factory=dict)  # topic names known to all devices
    t_adv: int = 900  # 0: no ADVERTISE
    t_retry: float = 10.0
    n_retry: int = 4
    open_timeout: float = 30.0  # for the broker's answer to a CONNECT
    fence_timeout: float = 2.0  # for the broker's word whether it has more for one awake
    collect_timeout: float = 8.0  # for what it has; less than a device's patience with a PINGREQ
    longest_silence: int = 86_400  # of a device whose keep-alive is 0
    max_devices: int = 1000
    may_move: Callable[[Address, Address], bool] = never  # a client id that is in use
    longest_client_id: int = 64  # the standard's 23 is too little for many
    max_topics: int = 1000  # registered for one device
    max_topic_bytes: int = 65_536  # of their names
    longest_topic: int = 1024  # bytes
    max_topic_levels: int = 32
    receive_maximum: int = 4  # unanswered messages of QoS 1 and 2 held for one device
    max_requests: int = 8  # unanswered requests of one device, of each kind
    device_bytes: int = 65_536  # of messages held for one device
    device_rate: int = 0  # bytes per second of messages to one device; 0: as the link takes them
    longest_message: int = 65_526  # payload towards a device
    collect_most: int = 1000  # messages that one PINGREQ fetches
    max_control: int = 4096  # answers that wait for a slow link


def tolerated(duration: float) -> float:
    """How long a device may be silent that has announced `duration` (section 7.2)."""
    return duration * (1.1 if duration > _SHORT_DURATION else 1.5)
