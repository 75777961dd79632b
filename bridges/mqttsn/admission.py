"""Who may come in, and as whom: rules from device to broker client, and an approval mode.

The rules are asked in order; the first that fits says who the device is to the broker. With
approval on, a device that nobody has accepted is quarantined: it hears "congestion", so it comes
again, and is listed until somebody decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from bridges.mqttsn.codes import ReturnCode
from bridges.mqttsn.ports import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridges.mqttsn.ports import Address


@dataclass(frozen=True, slots=True)
class Rule:
    """For devices whose client id and address fit the patterns (`*`, `?`, `[...]`). In the others
    `{client_id}` and `{address}` stand for the device's.
    """

    client_id: str = "*"
    address: str = "*"
    broker_client_id: str = "{client_id}"
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)

    def fits(self, address: Address, client_id: str) -> bool:
        """Whether the rule is for this device."""
        return fnmatchcase(client_id, self.client_id) and fnmatchcase(str(address), self.address)

    def identity(self, address: Address, client_id: str) -> Identity:
        """Who the device is to the broker."""
        facts = {"{client_id}": client_id, "{address}": str(address)}
        username = None if self.username is None else _filled(self.username, facts)
        return Identity(_filled(self.broker_client_id, facts), username, self.password)


@dataclass(slots=True)
class Quarantined:
    """A device that waits to be accepted."""

    client_id: str
    address: Address
    attempts: int = 0


class Rules:
    """An Admission. `unconnected` is for QoS -1, None refuses it; with approval on it also needs an
    accepted address.
    """

    def __init__(
        self,
        rules: Iterable[Rule] = (Rule(),),
        unconnected: Identity | None = None,
        approval: bool = False,
        most_quarantined: int = 100,
    ) -> None:
        self._rules = list(rules)
        self._unconnected = unconnected
        self._approval = approval
        self._most = most_quarantined
        self._accepted: dict[str, str | None] = {}  # client id -> a pattern for its address
        self._rejected: set[str] = set()
        self.quarantine: dict[str, Quarantined] = {}

    def admit(self, address: Address, client_id: str) -> Identity | ReturnCode:
        """See Admission."""
        rule = next((each for each in self._rules if each.fits(address, client_id)), None)
        if rule is None or client_id in self._rejected:
            return ReturnCode.NOT_SUPPORTED
        if self._approval and not self._is_accepted(address, client_id):
            self._quarantine(address, client_id)
            return ReturnCode.CONGESTION
        return rule.identity(address, client_id)

    def admit_unconnected(self, address: Address) -> Identity | None:
        """See Admission."""
        if self._approval and not self._is_known_place(str(address)):
            return None
        return self._unconnected

    def accept(self, client_id: str, address: Address | str | None = None) -> None:
        """Let a device in when it comes again; with an address or a pattern, only from there."""
        self._rejected.discard(client_id)
        self.quarantine.pop(client_id, None)
        self._accepted[client_id] = None if address is None else str(address)

    def reject(self, client_id: str) -> None:
        """Refuse a device for good; `accept` takes that back."""
        self._accepted.pop(client_id, None)
        self.quarantine.pop(client_id, None)
        self._rejected.add(client_id)

    def is_rejected(self, client_id: str) -> bool:
        """Whether somebody has decided so."""
        return client_id in self._rejected

    def undecide(self, client_id: str) -> None:
        """Neither accepted nor rejected: as if it had never been seen."""
        self._accepted.pop(client_id, None)
        self._rejected.discard(client_id)
        self.quarantine.pop(client_id, None)

    def _is_accepted(self, address: Address, client_id: str) -> bool:
        if client_id not in self._accepted:
            return False
        pattern = self._accepted[client_id]
        return pattern is None or _is_at(str(address), pattern)

    def _is_known_place(self, address: str) -> bool:
        patterns = self._accepted.values()
        return any(pattern is not None and _is_at(address, pattern) for pattern in patterns)

    def _quarantine(self, address: Address, client_id: str) -> None:
        """List it; when the list is full, the one that came first makes room."""
        known = self.quarantine.get(client_id)
        if known is None:
            if len(self.quarantine) >= self._most:
                del self.quarantine[next(iter(self.quarantine))]
            known = self.quarantine[client_id] = Quarantined(client_id, address)
        known.address = address
        known.attempts += 1


def _is_at(address: str, pattern: str) -> bool:
    """An address is itself, although "[" means something else in a pattern."""
    return address == pattern or fnmatchcase(address, pattern)


def _filled(template: str, facts: dict[str, str]) -> str:
    """Every fact once: what a device is called is no template."""
    head, brace, tail = template.partition("{")
    if not brace:
        return head
    for name, fact in facts.items():
        if (brace + tail).startswith(name):
            return head + fact + _filled((brace + tail)[len(name) :], facts)
    return head + brace + _filled(tail, facts)
