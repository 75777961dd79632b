"""Who may connect without a user name: nobody, clients of this machine (default), or everybody."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from broker.engine.ports import Attempt, Verdict
from broker.packets.codes import ReasonCode

if TYPE_CHECKING:
    from collections.abc import Callable

LET_IN = (
    "to let it in, make a user with `heliograph passwd FILE USER` and set auth.password_file, "
    'or set auth.allow_anonymous = "always"'
)


class AnonymousPolicy:
    """An Authenticator that admits by where a client comes from; each listener brings its own
    policy.
    """

    def authenticate(self, attempt: Attempt, answer: Callable[[Verdict], None]) -> None:
        """Answer at once; a user name without a password file to check it against is as good as
        none.
        """
        answer(judge(attempt))


def judge(attempt: Attempt) -> Verdict:
    """The verdict about a client that shows no password."""
    origin = attempt.origin
    if origin.certificate_name is not None:  # a verified certificate says who it is
        return Verdict(username=origin.certificate_name)
    if origin.anonymous == "always" or (
        origin.anonymous == "loopback" and is_this_machine(origin.address)
    ):
        return Verdict()
    where = "a client of this machine" if is_this_machine(origin.address) else origin.address
    why = f"{where} gave no user name and password; {LET_IN}"
    return Verdict(ReasonCode.NOT_AUTHORIZED, why=why)


def is_this_machine(address: str) -> bool:
    """Whether a peer's address ("" for a Unix socket or in-process) belongs to this machine."""
    if not address:
        return True
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)
