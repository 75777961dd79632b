"""A device's states and which message it may send when: one table (section 6.14, figure 4, and the
exchange of section 6.2 before it).

"Disconnected" and "lost" are no states of an object: there is no Device then, only its note. A lost
one differs in that its will has been published.
"""

from enum import Enum
from typing import Final

from bridges.mqttsn.packets import (
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Regack,
    Register,
    Subscribe,
    Unsubscribe,
    WillMsg,
    WillMsgUpd,
    WillTopic,
    WillTopicUpd,
)


class State(Enum):
    """Where a device stands."""

    AWAITING_WILLTOPIC = "awaiting WILLTOPIC"
    AWAITING_WILLMSG = "awaiting WILLMSG"
    OPENING = "opening"  # the broker is asked
    ACTIVE = "active"
    ASLEEP = "asleep"
    AWAKE = "awake"  # fetches what waits, then sleeps on
    GONE = "gone"  # disconnected or lost: nothing is sent or taken any more


LISTENING: Final = frozenset({State.ACTIVE, State.AWAKE})
SLEEPING: Final = frozenset({State.ASLEEP, State.AWAKE})
CONNECTED: Final = LISTENING | SLEEPING
ASKED: Final = frozenset({State.AWAITING_WILLTOPIC, State.AWAITING_WILLMSG})

_ALWAYS: Final[frozenset[type]] = frozenset({Connect, Disconnect})

# A sleeping device may publish without a CONNECT, although figure 4 does not show it: a battery is
# not to pay for four more messages.
_WHEN_CONNECTED: Final[frozenset[type]] = _ALWAYS | {
    Register,
    Regack,
    Publish,
    Puback,
    Pubcomp,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
    Pingreq,
    Pingresp,
    WillTopicUpd,
    WillMsgUpd,
}

PERMITTED: Final[dict[State, frozenset[type]]] = {
    State.AWAITING_WILLTOPIC: _ALWAYS | {WillTopic},
    State.AWAITING_WILLMSG: _ALWAYS | {WillMsg},
    State.OPENING: _ALWAYS,
    State.ACTIVE: _WHEN_CONNECTED,
    State.ASLEEP: _WHEN_CONNECTED,
    State.AWAKE: _WHEN_CONNECTED,
    State.GONE: frozenset(),
}

# What an unknown sender wants from a gateway is answered with DISCONNECT (section 6.12), so that it
# connects anew. Not DISCONNECT itself and not what gateways say: two must not chat for ever.
REQUESTS: Final[frozenset[type]] = frozenset(
    {
        Register,
        Publish,
        Pubrel,
        Subscribe,
        Unsubscribe,
        Pingreq,
        WillTopicUpd,
        WillMsgUpd,
    }
)
