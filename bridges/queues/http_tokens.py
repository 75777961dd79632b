"""Who may do what over HTTP: tokens, each with the queues it is for and what it may do there.

Of the tokens in the settings only SHA-256 is known. The administrator's token is made at the first
start, in a file that only the broker's user can read; `heliograph queue` reads it there. Rule kept
here: tokens are compared in constant time, and never shown.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridges.queues.backend import QueueError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from broker.settings.queue_tables import TokenSettings

TOKEN_FILE = "http.token"  # noqa: S105  a file's name
TOKEN_BYTES = 32
LONGEST_TOKEN = 1024
RIGHTS = ("receive", "publish", "look", "manage")
SCHEME = "bearer "


@dataclass(frozen=True, slots=True)
class Grant:
    """What the holder of one token may do."""

    name: str
    digest: bytes
    queues: re.Pattern[str]
    rights: frozenset[str]

    def covers(self, queue: str) -> bool:
        """Whether the token is for this queue."""
        return self.queues.fullmatch(queue) is not None

    def check(self, right: str, queue: str | None) -> None:
        """Raise QueueError unless the token is good for this."""
        if right not in self.rights:
            raise QueueError(
                "not_allowed",
                f'the token "{self.name}" may not {right}: add "{right}" to its allow = [...] in '
                "the settings, or use another one",
            )
        if queue is not None and not self.covers(queue):
            raise QueueError(
                "not_allowed",
                f'the token "{self.name}" is not for the queue "{queue}": add it to its '
                "queues = [...] in the settings, or use another one",
            )


class Tokens:
    """All tokens there are."""

    def __init__(self, administrator: str, settings: Iterable[TokenSettings]) -> None:
        whole = re.compile(".*")
        self._grants = [
            Grant("administrator", digest_of(administrator), whole, frozenset(RIGHTS)),
            *(grant_of(each) for each in settings),
        ]

    def find(self, authorization: str | None) -> Grant:
        """The grant for an Authorization header; raises QueueError "no_token"."""
        if authorization is None or authorization[: len(SCHEME)].lower() != SCHEME:
            raise QueueError(
                "no_token", "there is no token: send the header `Authorization: Bearer TOKEN`"
            )
        presented = digest_of(authorization[len(SCHEME) :].strip()[:LONGEST_TOKEN])
        found = None
        for each in self._grants:  # all of them, so that time tells nothing
            if hmac.compare_digest(each.digest, presented):
                found = each
        if found is None:
            raise QueueError("no_token", "the token is not known here: check it, or ask for one")
        return found


def digest_of(token: str) -> bytes:
    """SHA-256 of a token."""
    return hashlib.sha256(token.encode(errors="replace")).digest()


def grant_of(settings: TokenSettings) -> Grant:
    """A token of the settings."""
    names = "|".join(re.escape(each).replace(r"\*", ".*") for each in settings.queues)
    return Grant(
        settings.name,
        bytes.fromhex(settings.sha256),
        re.compile(f"(?:{names})" if settings.queues else r"(?!)"),
        frozenset(settings.allow),
    )


def administrators_token(folder: Path) -> str:
    """The token in the data folder, made if it is not there; raises OSError."""
    path = folder / TOKEN_FILE
    token = read_token(path)
    if token:
        return token
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    fresh = path.with_suffix(".new")  # or a crash would leave half of one
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
    fresh.replace(path)
    return token


def read_token(path: Path) -> str:
    """What stands in a token file; "": there is none. Raises OSError."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def is_open_to_others(path: Path) -> bool:
    """Whether other users of this machine can read it."""
    return path.stat().st_mode & 0o077 != 0
