"""Enhanced authentication: the AUTH exchange before the CONNACK, and re-authentication after it
(section 4.12).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from broker.connection.states import State
from broker.engine.ports import Attempt, Verdict
from broker.packets.codes import MQTT_5, ReasonCode
from broker.packets.decode import decode
from broker.packets.errors import ProtocolViolation, misuse
from broker.packets.properties import Properties, Property
from broker.packets.types import Auth

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.connection.connection import Connection
    from broker.engine.ports import AuthenticationExchange, AuthenticationMethods, Step


class Decide(Protocol):
    """What happens with the outcome of an exchange."""

    def __call__(self, verdict: Verdict, properties: Properties | None = None) -> None:
        """Go on with the verdict; the properties go into the packet that says so."""


class Authentication:
    """What a connection that uses enhanced authentication remembers about it."""

    __slots__ = ("attempt", "decide", "exchange", "is_open", "method", "waiting")

    def __init__(
        self, method: str, attempt: Attempt, exchange: AuthenticationExchange, decide: Decide
    ) -> None:
        self.method = method
        self.attempt = attempt
        self.exchange = exchange
        self.decide = decide
        self.is_open = True  # an exchange is under way
        self.waiting = False  # the method is at work: it is not the client's turn


class Authenticating:
    """Owns the AUTH packets."""

    __slots__ = ("_fail", "_methods", "_reject")

    def __init__(
        self,
        methods: AuthenticationMethods,
        reject: Callable[[Connection, ProtocolViolation], None],
        fail: Callable[[Connection, Verdict], None],
    ) -> None:
        self._methods = methods
        self._reject = reject
        self._fail = fail

    def begin(
        self, connection: Connection, attempt: Attempt, properties: Properties, decide: Decide
    ) -> None:
        """Begin the exchange a CONNECT asks for."""
        name: str = properties[Property.AUTHENTICATION_METHOD]
        method = self._methods.get(name)
        if method is None:  # [MQTT-4.12.0-1]
            reason = ReasonCode.BAD_AUTHENTICATION_METHOD
            decide(Verdict(reason, why=f"authentication method {name[:80]!r} is not known"))
            return
        connection.enter(State.AUTHENTICATING)
        authentication = Authentication(name, attempt, method.begin(attempt), decide)
        connection.authentication = authentication
        self._step(connection, authentication, properties.get(Property.AUTHENTICATION_DATA))

    def on_auth(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """The client's next step, or its wish to authenticate anew."""
        packet = decode(first, data, start, end, connection.version)
        assert isinstance(packet, Auth)
        authentication = connection.authentication
        if connection.version != MQTT_5 or not isinstance(authentication, Authentication):
            raise misuse("MQTT-4.12.0-6", "AUTH without an Authentication Method in CONNECT")
        if packet.properties.get(Property.AUTHENTICATION_METHOD) != authentication.method:
            raise misuse("MQTT-4.12.0-5", "the Authentication Method has changed")
        self._check_turn(connection, authentication, packet.reason)
        if packet.reason == ReasonCode.RE_AUTHENTICATE:
            self._begin_again(connection, authentication)
        data_given = packet.properties.get(Property.AUTHENTICATION_DATA)
        self._step(connection, authentication, data_given)

    # -- helpers ----------------------------------------------------------------------------------

    def _check_turn(
        self, connection: Connection, authentication: Authentication, reason: int
    ) -> None:
        if reason == ReasonCode.RE_AUTHENTICATE:
            if connection.state is State.CONNECTED and not authentication.is_open:
                return
            raise misuse("4.12.1", "re-authentication during an exchange")
        if reason != ReasonCode.CONTINUE_AUTHENTICATION or not authentication.is_open:
            raise misuse("4.12", "AUTH that nothing asked for")
        if authentication.waiting:
            raise misuse("4.12", "AUTH out of turn")

    def _begin_again(self, connection: Connection, authentication: Authentication) -> None:
        """Re-authenticate: the client stays connected as it is until the outcome is known
        [MQTT-4.12.1-1].
        """

        def decide(verdict: Verdict, properties: Properties | None = None) -> None:
            if verdict.reason is ReasonCode.SUCCESS:
                self._send(connection, ReasonCode.SUCCESS, dict(properties or {}))
            else:
                self._fail(connection, verdict)  # [MQTT-4.12.1-2]

        method = self._methods[authentication.method]
        authentication.exchange = method.begin(authentication.attempt)
        authentication.decide = decide
        authentication.is_open = True

    def _step(
        self, connection: Connection, authentication: Authentication, data: bytes | None
    ) -> None:
        def answer(step: Step) -> None:
            authentication.waiting = False
            if connection.state is State.CLOSED:
                return
            properties: Properties = {Property.AUTHENTICATION_METHOD: authentication.method}
            if step.data is not None:
                properties[Property.AUTHENTICATION_DATA] = step.data
            if step.verdict is None:  # [MQTT-4.12.0-2]
                self._send(connection, ReasonCode.CONTINUE_AUTHENTICATION, properties)
                return
            authentication.is_open = False
            authentication.decide(step.verdict, properties)

        authentication.waiting = True
        authentication.exchange.step(data, answer)

    def _send(self, connection: Connection, reason: ReasonCode, properties: Properties) -> None:
        """Send an AUTH; where the client cannot take it, the exchange cannot go on."""
        if not connection.send_packet(Auth(reason, properties)):  # [MQTT-3.1.2-24]
            fact = f"a client that takes {connection.maximum_packet_size} bytes cannot take AUTH"
            too_large = ProtocolViolation(ReasonCode.PACKET_TOO_LARGE, "MQTT-3.1.2-24", fact)
            self._reject(connection, too_large)
