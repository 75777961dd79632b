"""How a connection ends: DISCONNECT, loss, violation, time-out, take-over, shutdown; and what
becomes of Will and session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.connection.ports import Origin
from broker.connection.states import State
from broker.engine.notices import ClientDisconnected, FaultSeen, ViolationSeen
from broker.packets.codes import MQTT_5, REASONS, PacketType, ReasonCode
from broker.packets.decode import decode
from broker.packets.errors import ProtocolViolation, misuse
from broker.packets.properties import Properties, Property
from broker.packets.types import Connack, Disconnect

if TYPE_CHECKING:
    from broker.connection.connection import Connection
    from broker.engine.admission import Admission
    from broker.engine.notices import Observer
    from broker.engine.policy import Policy
    from broker.engine.ports import Verdict
    from broker.engine.sessions import Sessions
    from broker.engine.wills import Wills
    from broker.packets.types import Will
    from broker.session.session import Session

_UNDECIDED = (
    State.DECIDING,
    State.AUTHENTICATING,
)  # a refusal is said with CONNACK [MQTT-3.14.0-1]

NOWHERE = Origin("the broker itself")


class Ending:
    """Ends connections, each exactly once."""

    __slots__ = ("_admission", "_observe", "_policy", "_sessions", "_wills")

    def __init__(
        self,
        policy: Policy,
        admission: Admission,
        sessions: Sessions,
        wills: Wills,
        observe: Observer,
    ) -> None:
        self._policy = policy
        self._admission = admission
        self._sessions = sessions
        self._wills = wills
        self._observe = observe

    # -- the client's side ------------------------------------------------------------------------

    def on_disconnect(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """The client says goodbye; with reason 0x00 its Will is thrown away [MQTT-3.14.4-3]."""
        packet = decode(first, data, start, end, connection.version)
        assert isinstance(packet, Disconnect)
        if connection.session is not None:
            self._change_expiry(connection.session, packet)
        if packet.reason == ReasonCode.SUCCESS:
            connection.will = None
        self._finish(connection, "said DISCONNECT")
        connection.close()

    def on_lost(self, connection: Connection) -> None:
        """The link broke."""
        if connection.state is not State.CLOSED:
            self._finish(connection, "lost the connection")
            connection.abort()

    # -- the broker's side ------------------------------------------------------------------------

    def on_violation(self, connection: Connection, violation: ProtocolViolation) -> None:
        """Answer as the standard says, then close [MQTT-4.13.1-1]."""
        if connection.state is State.CLOSED:
            return
        self._observe(ViolationSeen(connection.client_id, connection.origin, violation))
        self._close_with(connection, violation.reason, str(violation))

    def on_failed_authentication(self, connection: Connection, verdict: Verdict) -> None:
        """A client could not prove itself anew [MQTT-4.12.1-2]; why is for the operator."""
        failed = ProtocolViolation(verdict.reason, "MQTT-4.12.1-2", verdict.why)
        self._observe(ViolationSeen(connection.client_id, connection.origin, failed))
        known = verdict.reason in REASONS[PacketType.DISCONNECT]
        reason = verdict.reason if known else ReasonCode.NOT_AUTHORIZED
        self._close_with(connection, reason, "re-authentication failed")

    def on_fault(self, connection: Connection, fault: Exception) -> None:
        """A fault of ours ends this one connection."""
        self._observe(FaultSeen(connection.client_id, connection.origin, fault))
        try:
            self._close_with(connection, ReasonCode.UNSPECIFIED_ERROR, "an internal fault")
        except Exception as another:  # noqa: BLE001  whatever is wrong, the link must go
            self._observe(FaultSeen(connection.client_id, connection.origin, another))
            connection.abort()

    def on_stray_fault(self, fault: Exception) -> None:
        """A fault of ours outside any conversation, such as in a timer."""
        self._observe(FaultSeen("", NOWHERE, fault))

    def on_timeout(self, connection: Connection) -> None:
        """Nothing came for too long [MQTT-3.1.2-22], or nothing could be sent."""
        if connection.stalled:
            self._finish(connection, "read too slowly")
            connection.abort()
        else:
            self._close_with(connection, ReasonCode.KEEP_ALIVE_TIMEOUT, "was silent for too long")

    def take_over(self, client_id: str) -> None:
        """Another connection uses this client identifier now [MQTT-3.1.4-3]."""
        connection = self._admission.get(client_id)
        if connection is not None:
            self._close_with(connection, ReasonCode.SESSION_TAKEN_OVER, "was taken over")

    def shut_down(self) -> None:
        """The broker stops: say so to every client. Sessions stay as they are and no Will is
        published.
        """
        for connection in self._admission:
            connection.will = None
            self._close_with(connection, ReasonCode.SERVER_SHUTTING_DOWN, "the broker stops")

    # -- helpers ----------------------------------------------------------------------------------

    def _close_with(self, connection: Connection, reason: ReasonCode, why: str) -> None:
        if connection.version == MQTT_5 and connection.state is State.CONNECTED:
            reason = _fit(reason, PacketType.DISCONNECT)
            connection.send_packet(Disconnect(reason, _explained(why)))
        elif connection.version == MQTT_5 and connection.state in _UNDECIDED:
            reason = _fit(reason, PacketType.CONNACK)
            connection.send_packet(Connack(False, reason, _explained(why)))
        self._finish(connection, why)
        connection.close()

    def _finish(self, connection: Connection, cause: str) -> None:
        """Part connection and session; the Will goes first: a session that ends hurries it."""
        self._admission.leave(connection)
        session, connection.session = connection.session, None
        will, connection.will = connection.will, None
        if session is None:
            return
        session.disconnected()
        try:
            self._leave_behind(session, will, connection)
        except Exception as fault:  # noqa: BLE001  the link must go, whatever went wrong here
            self._observe(FaultSeen(connection.client_id, connection.origin, fault))
        self._observe(ClientDisconnected(connection.client_id, connection.origin, cause))

    def _leave_behind(self, session: Session, will: Will | None, connection: Connection) -> None:
        try:
            if will is not None:
                self._wills.execute(will, connection.client_id, connection.username)
            else:
                self._wills.discard(connection.client_id)
        finally:  # a session without connection and timer would stay for ever
            self._sessions.keep(session)

    def _change_expiry(self, session: Session, packet: Disconnect) -> None:
        wanted = packet.properties.get(Property.SESSION_EXPIRY_INTERVAL)
        if wanted is None:
            return
        if wanted and not session.expiry_interval:
            raise misuse("3.14.2.2.2", "a session without expiry interval cannot be given one")
        session.expiry_interval = min(wanted, self._policy.max_session_expiry)


def _explained(why: str) -> Properties:
    return {Property.REASON_STRING: why}


def _fit(reason: ReasonCode, packet_type: PacketType) -> ReasonCode:
    """The reason, if the packet may carry it [MQTT-3.14.2-1], else the general one."""
    return reason if reason in REASONS[packet_type] else ReasonCode.PROTOCOL_ERROR
