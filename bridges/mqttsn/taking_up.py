"""How a device's session is taken up at the broker: for its CONNECT, or for the note of a gateway
before this one. One table says what may follow what.

    step        what is so
    NONE        there is no session
    ASKED       the broker is asked, for a CONNECT
    RESUMING    the broker is asked, for a note: the device need not know
    PUT_OFF     it was, and is not there yet: it is asked again
    OPEN        the broker has accepted the client
    ESTRANGED   so it has, but the session that the device knows is gone: it has to connect anew
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from bridges.mqttsn.codes import ReturnCode

if TYPE_CHECKING:
    from bridges.mqttsn.policy import Policy
    from bridges.mqttsn.ports import Broker, Opening, Receiver, Session, Will


class Step(Enum):
    """See above."""

    NONE = "none"
    ASKED = "asked"
    RESUMING = "resuming"
    PUT_OFF = "put off"
    OPEN = "open"
    ESTRANGED = "estranged"


class Event(Enum):
    """What leads from one step to the next."""

    ASK = "ask"
    RESUME = "resume"
    FOUND = "found"  # the broker has the session ...
    NOT_FOUND = "not found"  # ... or makes a new one
    CONGESTION = "congestion"  # it refuses for now ...
    REFUSAL = "refusal"  # ... or for good
    CONNECT = "connect"  # the device is content with a new session
    END = "end"


_ANYWHERE: Final = {Event.ASK: Step.ASKED, Event.END: Step.NONE}

# What a step does not name is of no meaning then.
_NEXT: Final[dict[Step, dict[Event, Step]]] = {
    Step.NONE: {**_ANYWHERE, Event.RESUME: Step.RESUMING},
    Step.ASKED: {
        **_ANYWHERE,
        Event.FOUND: Step.OPEN,
        Event.NOT_FOUND: Step.OPEN,
        Event.CONGESTION: Step.NONE,
        Event.REFUSAL: Step.NONE,
    },
    Step.RESUMING: {
        **_ANYWHERE,
        Event.FOUND: Step.OPEN,
        Event.NOT_FOUND: Step.ESTRANGED,
        Event.CONGESTION: Step.PUT_OFF,
        Event.REFUSAL: Step.NONE,
    },
    Step.PUT_OFF: {**_ANYWHERE, Event.RESUME: Step.RESUMING},
    Step.OPEN: {**_ANYWHERE},
    Step.ESTRANGED: {**_ANYWHERE, Event.CONNECT: Step.OPEN},
}


class TakingUp:
    """One device's session, if it has one, and how that stands."""

    __slots__ = ("_again_at", "_broker", "_pause", "_session", "_step", "_will")

    def __init__(self, policy: Policy, broker: Broker) -> None:
        self._broker = broker
        self._pause = policy.t_retry
        self._step = Step.NONE
        self._session: Session | None = None
        self._will: Will | None = None  # the one that the broker knows
        self._again_at: float | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there is a session, open or not."""
        return self._session is not None

    @property
    def open_session(self) -> Session | None:
        """The session that the broker has accepted."""
        return self._session if self._step in (Step.OPEN, Step.ESTRANGED) else None

    @property
    def is_estranged(self) -> bool:
        """Whether the device has to connect anew."""
        return self._step is Step.ESTRANGED

    @property
    def has_will(self) -> bool:
        """Whether the broker would publish a will."""
        return self._will is not None

    def ask(self, opening: Opening, receiver: Receiver) -> Session:
        """Open a session for a CONNECT, instead of what was there."""
        return self._open(Event.ASK, opening, receiver)

    def resume(self, opening: Opening, receiver: Receiver) -> Session:
        """Open the session of a note."""
        return self._open(Event.RESUME, opening, receiver)

    def connect(self) -> None:
        """The device connects anew."""
        self._go(Event.CONNECT)

    def on_opened(self, session_present: bool) -> None:
        """See Receiver."""
        self._go(Event.FOUND if session_present else Event.NOT_FOUND)

    def on_refused(self, code: ReturnCode) -> bool:
        """See Receiver; whether the broker is to be asked again."""
        self._session = None
        self._go(Event.CONGESTION if code is ReturnCode.CONGESTION else Event.REFUSAL)
        return self._step is Step.PUT_OFF

    def on_closed(self) -> None:
        """See Receiver."""
        self._session = None
        self._go(Event.END)

    def change_will(self, will: Will | None) -> bool:
        """Tell the broker of another will; False: it cannot be changed."""
        if self._session is None or will == self._will:
            return True
        if not self._session.change_will(will):
            return False
        self._will = will
        return True

    def close(self, publish_will: bool) -> None:
        """End the session, if there is one."""
        session, self._session = self._session, None
        self._go(Event.END)
        if session is not None:
            session.close(publish_will)

    # -- asking again -----------------------------------------------------------------------------

    def begin_pause(self, now: float) -> None:
        """The broker has no clock: here is the time, for one that has just put us off."""
        if self._step is Step.PUT_OFF and self._again_at is None:
            self._again_at = now + self._pause

    def next_deadline(self) -> float | None:
        """When to `resume` again."""
        return self._again_at

    # -- helpers ----------------------------------------------------------------------------------

    def _open(self, event: Event, opening: Opening, receiver: Receiver) -> Session:
        if self._session is not None:
            self._session.close(publish_will=False)
        self._go(event)
        self._will = opening.will
        self._session = session = self._broker.open(opening, receiver)
        return session

    def _go(self, event: Event) -> None:
        self._step = _NEXT[self._step].get(event, self._step)
        self._again_at = None
