"""How a session is taken up at the broker: what may follow what."""

from __future__ import annotations

from typing import Any

import pytest

from bridges.mqttsn.codes import ReturnCode
from bridges.mqttsn.policy import Policy
from bridges.mqttsn.ports import Identity, Opening, Will
from bridges.mqttsn.taking_up import TakingUp

OPENING = Opening(Identity("dev"), False, Will("w", b"gone"))
BUSY, NEVER = ReturnCode.CONGESTION, ReturnCode.NOT_SUPPORTED


class FakeSession:
    def __init__(self) -> None:
        self.closed: bool | None = None  # with or without its will
        self.wills: list[Will | None] = []
        self.may_change_will = True

    def close(self, publish_will: bool) -> None:
        self.closed = publish_will

    def change_will(self, will: Will | None) -> bool:
        self.wills.append(will)
        return self.may_change_will


class FakeBroker:
    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []

    def open(self, opening: Opening, receiver: Any) -> FakeSession:
        self.sessions.append(FakeSession())
        return self.sessions[-1]


class Case:
    """A TakingUp, and words for what may happen to it."""

    def __init__(self) -> None:
        self.broker = FakeBroker()
        self.taking_up = TakingUp(Policy(t_retry=10), self.broker)  # type: ignore[arg-type]
        self.words = {
            "ask": lambda: self.taking_up.ask(OPENING, None),  # type: ignore[arg-type]
            "resume": lambda: self.taking_up.resume(OPENING, None),  # type: ignore[arg-type]
            "found": lambda: self.taking_up.on_opened(True),
            "new": lambda: self.taking_up.on_opened(False),
            "busy": lambda: self.taking_up.on_refused(BUSY),
            "never": lambda: self.taking_up.on_refused(NEVER),
            "pause": lambda: self.taking_up.begin_pause(5.0),
            "connect": self.taking_up.connect,
            "closed": self.taking_up.on_closed,
            "close": lambda: self.taking_up.close(publish_will=True),
        }

    def happens(self, words: str) -> TakingUp:
        for word in words.split():
            self.words[word]()
        return self.taking_up


@pytest.mark.parametrize(
    ("words", "begun", "is_open", "estranged", "again_at"),
    [
        ("", False, False, False, None),
        ("ask", True, False, False, None),
        ("ask found", True, True, False, None),
        ("ask new", True, True, False, None),
        ("ask busy pause", False, False, False, None),
        ("ask never pause", False, False, False, None),
        ("resume", True, False, False, None),
        ("resume found", True, True, False, None),
        ("resume new", True, True, True, None),
        ("resume new connect", True, True, False, None),
        ("resume new ask", True, False, False, None),
        ("resume never pause", False, False, False, None),
        ("resume busy", False, False, False, None),
        ("resume busy pause", False, False, False, 15.0),
        ("resume busy pause resume", True, False, False, None),
        ("resume busy pause resume new", True, True, True, None),
        ("resume busy pause ask new", True, True, False, None),
        ("resume busy ask pause", True, False, False, None),
        ("resume ask new", True, True, False, None),
        ("resume connect new", True, True, True, None),
        ("ask found closed", False, False, False, None),
        ("ask found close", False, False, False, None),
        ("resume busy pause close", False, False, False, None),
    ],
)
def test_what_follows_what(
    words: str, begun: bool, is_open: bool, estranged: bool, again_at: float | None
) -> None:
    taking_up = Case().happens(words)
    assert taking_up.has_begun == begun
    assert (taking_up.open_session is not None) == is_open
    assert taking_up.is_estranged == estranged
    assert taking_up.next_deadline() == again_at


@pytest.mark.parametrize(
    ("words", "code", "again"),
    [("resume", BUSY, True), ("resume", NEVER, False), ("ask", BUSY, False), ("ask", NEVER, False)],
)
def test_only_what_is_resumed_is_asked_for_again(words: str, code: ReturnCode, again: bool) -> None:
    assert Case().happens(words).on_refused(code) is again


def test_another_session_closes_the_one_before_without_its_will() -> None:
    case = Case()
    case.happens("ask found ask")
    assert [session.closed for session in case.broker.sessions] == [False, None]


def test_the_broker_is_told_of_a_will_only_if_it_is_another() -> None:
    case = Case()
    taking_up = case.happens("ask")
    taking_up.change_will(OPENING.will)
    taking_up.change_will(None)
    taking_up.change_will(None)
    assert case.broker.sessions[0].wills == [None]
    assert not taking_up.has_will
