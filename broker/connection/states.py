"""Which packet a client may send when: one table, in the order of a connection's life (sections
3.1, 3.15, 4.12).
"""

from enum import Enum

from broker.packets.codes import PacketType


class State(Enum):
    """Where a connection stands."""

    AWAITING_CONNECT = "awaiting CONNECT"
    DECIDING = "deciding"  # an authenticator is at work; what arrives meanwhile is held
    AUTHENTICATING = "authenticating"  # an AUTH exchange before the CONNACK
    CONNECTED = "connected"
    CLOSED = "closed"  # nothing more is read or sent


PERMITTED: dict[State, frozenset[PacketType]] = {
    State.AWAITING_CONNECT: frozenset({PacketType.CONNECT}),
    State.DECIDING: frozenset(PacketType),
    State.AUTHENTICATING: frozenset({PacketType.AUTH, PacketType.DISCONNECT}),
    State.CONNECTED: frozenset(
        {
            PacketType.PUBLISH,
            PacketType.PUBACK,
            PacketType.PUBREC,
            PacketType.PUBREL,
            PacketType.PUBCOMP,
            PacketType.SUBSCRIBE,
            PacketType.UNSUBSCRIBE,
            PacketType.PINGREQ,
            PacketType.DISCONNECT,
            PacketType.AUTH,
        }
    ),
    State.CLOSED: frozenset(PacketType),
}
