"""Who may come in, as people decide it: from the command line into the file and the rules, and the
unknown ones from the rules to where people see them.

A new device costs one line in the log, which says what to type; however many there are, the log
gets few lines a minute and the file one commit in some seconds.
"""

from __future__ import annotations

import logging
import shlex
import time
from typing import TYPE_CHECKING, Final

from bridges.gateway.keeping import ACCEPTED, Waiting
from bridges.gateway.orders import Kind, Order, Outcome
from bridges.mqttsn.admission import Quarantined
from bridges.mqttsn.codes import ReturnCode
from bridges.mqttsn.ports import Address

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from bridges.gateway.keeping import Keeping
    from bridges.mqttsn.admission import Rules
    from bridges.mqttsn.ports import Identity

WRITE_EVERY: Final = 5.0  # seconds
LINES_AT_ONCE: Final = 10  # in WRITE_EVERY seconds
MOST_SEEN: Final = 1000  # in WRITE_EVERY seconds
TOO_MANY: Final = Outcome(False, "there are too many decisions already: `forget` some devices")

_log: Final = logging.getLogger("heliograph")


class Approvals:
    """Takes the orders that are about devices. `expel` sends a device away wherever it is, and
    says whether it was there; `forget` makes every gateway forget it, with the same answer.
    """

    def __init__(
        self,
        keeping: Keeping,
        rules: Rules,
        loop: asyncio.AbstractEventLoop,
        expel: Callable[[str], bool],
        forget: Callable[[str], bool],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._keeping = keeping
        self._rules = rules
        self._loop = loop
        self._expel = expel
        self._forget_everywhere = forget
        self._wall = wall
        self._seen: dict[str, tuple[str, float]] = {}  # client id -> gateway, when; to be written
        self._without_rule: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._lines = 0
        self._load()

    def door(self, gateway: str) -> Door:
        """The Admission of one gateway."""
        return Door(gateway, self._rules, self)

    def take(self, order: Order) -> Outcome | None:
        """Do what the order says, if it is one for us."""
        do = _DOERS.get(order.kind)
        return None if do is None else do(self, order)

    def on_refused(self, gateway: str, address: Address, client_id: str) -> None:
        """A device has been put into quarantine, or is still there."""
        if self._is_closed:
            return
        if client_id not in self._keeping.quarantine and client_id not in self._seen:
            self._announce(gateway, str(address), client_id)
        if len(self._seen) < MOST_SEEN or client_id in self._seen:
            self._seen[client_id] = (gateway, self._wall())
        if self._timer is None:
            self._write()

    def on_no_rule(self, address: str, client_id: str) -> None:
        """Say once that a device is refused: it hears no reason itself."""
        if client_id in self._without_rule or len(self._without_rule) >= MOST_SEEN:
            return
        self._without_rule.add(client_id)
        _log.warning(
            "device %s at %s is refused: no [[mqttsn.device]] of the settings is for it",
            *(client_id, address),
        )

    def close(self) -> None:
        """Write what is to be written, and no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._write_seen()

    # -- orders -----------------------------------------------------------------------------------

    def _accept(self, order: Order) -> Outcome:
        client_id = order.target
        address = order.argument or None
        was_here = client_id in self._rules.quarantine
        if not self._keeping.accept(client_id, address):
            return TOO_MANY
        self._rules.accept(client_id, address)
        self._seen.pop(client_id, None)
        where = f" from {address}" if address else ""
        when = "it is let in when it tries again" if was_here else "it is let in when it comes"
        _log.info("device %s is accepted%s", client_id, where)
        return Outcome(True, f"{client_id} is accepted{where}: {when}")

    def _reject(self, order: Order) -> Outcome:
        client_id = order.target
        if not self._keeping.reject(client_id):
            return TOO_MANY
        self._rules.reject(client_id)
        self._seen.pop(client_id, None)
        gone = "; it was connected and has been sent away" if self._expel(client_id) else ""
        _log.info("device %s is rejected", client_id)
        return Outcome(True, f"{client_id} is rejected{gone}")

    def _forget(self, order: Order) -> Outcome:
        client_id = order.target
        was_known = [
            client_id in self._rules.quarantine,
            self._keeping.undecide(client_id),
            self._expel(client_id),
            self._forget_everywhere(client_id),
        ]
        self._rules.undecide(client_id)
        self._keeping.release(client_id)
        self._seen.pop(client_id, None)
        if not any(was_known):
            return Outcome(
                False, f"{client_id} is not known: `heliograph serial devices` lists all"
            )
        _log.info("device %s is forgotten", client_id)
        return Outcome(True, f"{client_id} is forgotten")

    # -- strangers --------------------------------------------------------------------------------

    def _load(self) -> None:
        for decision in self._keeping.decisions.values():
            if decision.verdict == ACCEPTED:
                self._rules.accept(decision.client_id, decision.address)
            else:
                self._rules.reject(decision.client_id)
        for each in self._keeping.quarantine.values():
            listed = Quarantined(each.client_id, Address(each.address), each.attempts)
            self._rules.quarantine[each.client_id] = listed
        if waiting := len(self._keeping.quarantine):
            _log.warning("%d unknown devices wait: `heliograph serial devices` lists them", waiting)

    def _announce(self, gateway: str, address: str, client_id: str) -> None:
        self._lines += 1
        if self._lines > LINES_AT_ONCE:
            return
        quoted = shlex.quote(client_id)
        _log.warning(
            "unknown device %s at %s has to wait: `heliograph serial accept %s` lets it in, "
            "`heliograph serial reject %s` keeps it out",
            client_id,
            address if address.startswith(gateway) else f"{address} ({gateway})",
            quoted,
            quoted,
        )

    def _write(self) -> None:
        """Now, and then not for a while."""
        self._timer = None
        if not self._seen:
            return
        self._write_seen()
        if self._lines > LINES_AT_ONCE:
            more = self._lines - LINES_AT_ONCE
            _log.warning("%d more unknown devices: `heliograph serial devices` lists them", more)
        self._lines = 0
        self._timer = self._loop.call_later(WRITE_EVERY, self._write)

    def _write_seen(self) -> None:
        listed = self._rules.quarantine
        for client_id in [each for each in self._keeping.quarantine if each not in listed]:
            self._keeping.release(client_id)
        for client_id, (gateway, when) in self._seen.items():
            if (each := listed.get(client_id)) is not None:
                address = str(each.address)
                self._keeping.wait(Waiting(client_id, gateway, address, each.attempts, when))
        self._seen.clear()


class Door:
    """An Admission: the rules, seen from one gateway. On a wire with one device, which has no
    address, the address is the gateway's name.
    """

    __slots__ = ("_approvals", "_gateway", "_rules")

    def __init__(self, gateway: str, rules: Rules, approvals: Approvals) -> None:
        self._gateway = gateway
        self._rules = rules
        self._approvals = approvals

    def admit(self, address: Address, client_id: str) -> Identity | ReturnCode:
        """See Admission."""
        place = self._place(address)
        answer = self._rules.admit(place, client_id)
        if answer is ReturnCode.CONGESTION:
            self._approvals.on_refused(self._gateway, place, client_id)
        elif isinstance(answer, ReturnCode) and not self._rules.is_rejected(client_id):
            self._approvals.on_no_rule(str(place), client_id)
        return answer

    def admit_unconnected(self, address: Address) -> Identity | None:
        """See Admission."""
        return self._rules.admit_unconnected(self._place(address))

    def _place(self, address: Address) -> Address:
        return address if address.peer else Address(self._gateway, address.node)


_DOERS: Final = {
    Kind.ACCEPT: Approvals._accept,
    Kind.REJECT: Approvals._reject,
    Kind.FORGET: Approvals._forget,
}
