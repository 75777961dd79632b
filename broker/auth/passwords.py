"""User names and passwords from a file of `user:$argon2id$...` lines, as `heliograph passwd` writes
it.

Hashing takes tens of milliseconds on purpose, so it is done on other threads, a few at a time; the
engine goes on meanwhile. A file that changes is read again. An unknown user costs as much time as a
wrong password.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from broker.auth.anonymous import judge
from broker.engine.ports import Attempt, Verdict
from broker.packets.codes import ReasonCode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Executor
    from pathlib import Path

MOST_WAITING = 10_000  # attempts in line; further ones are told to come back
LONGEST_PASSWORD = 1024  # bytes; longer ones are wrong without a look

# What `heliograph passwd` makes, and what an unknown user costs, so that the two take as long.
# 19 MiB and two passes, OWASP's floor: a thousand clients that come back at once after a power cut
# must not stall a Raspberry Pi
ARGON2ID: dict[str, Any] = {"memory_cost": 19_456, "time_cost": 2, "parallelism": 1}

REFUSED = Verdict(ReasonCode.BAD_USER_NAME_OR_PASSWORD, why="the user name or password is wrong")
BUSY = Verdict(ReasonCode.SERVER_BUSY, why="too many clients are waiting to be checked")


class Job(NamedTuple):
    """An attempt that waits for a thread."""

    attempt: Attempt
    answer: Callable[[Verdict], None]


class PasswordFile:
    """An Authenticator over one file. `workers` is how many passwords are checked at a time."""

    def __init__(
        self, path: Path, loop: asyncio.AbstractEventLoop, executor: Executor, workers: int
    ) -> None:
        self._path = path
        self._loop = loop
        self._executor = executor
        self._idle = workers
        self._waiting: deque[Job] = deque()
        self._users: dict[str, str] = {}
        self._read_at: tuple[int, int] | None = None
        self._refresh()

    def authenticate(self, attempt: Attempt, answer: Callable[[Verdict], None]) -> None:
        """Check a user name and password; a client without a user name is judged by where it comes
        from.
        """
        if attempt.username is None:
            answer(judge(attempt))
        elif attempt.password is None or len(attempt.password) > LONGEST_PASSWORD:
            answer(REFUSED)
        elif len(self._waiting) >= MOST_WAITING:
            answer(BUSY)
        else:
            self._waiting.append(Job(attempt, answer))
            self._start()

    # -- helpers ----------------------------------------------------------------------------------

    def _start(self) -> None:
        while self._idle and self._waiting:
            self._idle -= 1
            job = self._waiting.popleft()
            self._refresh()
            assert job.attempt.username is not None
            hashed = self._users.get(job.attempt.username)
            self._loop.create_task(self._check(job, hashed))

    async def _check(self, job: Job, hashed: str | None) -> None:
        good = False
        try:
            assert job.attempt.password is not None
            good = await self._loop.run_in_executor(
                self._executor, verify, hashed, job.attempt.password
            )
        finally:
            self._idle += 1
            job.answer(Verdict() if good else REFUSED)
            self._start()

    def _refresh(self) -> None:
        """Read the file again if it has changed; while it cannot be read, the users known so far
        stay.
        """
        try:
            status = self._path.stat()
            state = (status.st_mtime_ns, status.st_size)
            if state != self._read_at:
                self._users = read_users(self._path.read_text(encoding="utf-8"))
                self._read_at = state
        except (OSError, UnicodeDecodeError):
            return


def read_users(text: str) -> dict[str, str]:
    """Return hash by user name; empty lines, comments and lines of another form are left out."""
    users = {}
    for line in text.splitlines():
        user, colon, hashed = line.strip().partition(":")
        if colon and user and not user.startswith("#"):
            users[user] = hashed
    return users


def verify(hashed: str | None, password: bytes) -> bool:
    """Whether the password belongs to the hash. Takes as long for an unknown user (None) as for a
    known one.
    """
    from argon2 import PasswordHasher  # noqa: PLC0415  only brokers with a password file pay for it
    from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415

    hasher = PasswordHasher(**ARGON2ID)
    if hashed is None:
        hasher.hash(password)
        return False
    try:
        return hasher.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
