"""Authenticators and an authentication method for tests, which answer at once or when they are told
to.
"""

from collections.abc import Callable

from broker.engine.ports import Attempt, Step, Verdict


class Judge:
    """An Authenticator that gives every attempt the same verdict and remembers the attempts."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.attempts: list[Attempt] = []

    def authenticate(self, attempt: Attempt, answer: Callable[[Verdict], None]) -> None:
        self.attempts.append(attempt)
        answer(self.verdict)


class Ponderer:
    """An Authenticator that answers when the test says so, oldest attempt first."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[Verdict], None]] = []

    def authenticate(self, attempt: Attempt, answer: Callable[[Verdict], None]) -> None:
        self._waiting.append(answer)

    def decide(self, verdict: Verdict | None = None) -> None:
        self._waiting.pop(0)(verdict or Verdict())


class Script:
    """An AuthenticationMethod that plays the same steps in every exchange.

    `begun` holds the attempts, `seen` the data that clients sent. A `slow` one answers when the
    test calls `go_on`.
    """

    def __init__(self, *steps: Step, slow: bool = False) -> None:
        self.steps = steps
        self.slow = slow
        self.begun: list[Attempt] = []
        self.seen: list[bytes | None] = []
        self._waiting: list[Callable[[], None]] = []

    def begin(self, attempt: Attempt) -> "Exchange":
        self.begun.append(attempt)
        return Exchange(self)

    def answer(self, call: Callable[[], None]) -> None:
        if self.slow:
            self._waiting.append(call)
        else:
            call()

    def go_on(self) -> None:
        self._waiting.pop(0)()


class Exchange:
    """One exchange of a Script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._steps = iter(script.steps)

    def step(self, data: bytes | None, answer: Callable[[Step], None]) -> None:
        self._script.seen.append(data)
        step = next(self._steps)
        self._script.answer(lambda: answer(step))
