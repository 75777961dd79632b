"""A QoS 1 publisher whose window is counted in PUBACKs: what the broker has taken charge of."""

import math
import socket

from tests.performance import wire
from tests.performance.load.acks import PUBACKS, match
from tests.performance.load.clients import pull, push
from tests.performance.measure import Departures, Latencies


class Publisher:
    """`sent` and `finished` count messages; latencies are from the send to the PUBACK."""

    __slots__ = (
        *("_departures", "_socket", "_tail", "_tape", "_window"),
        *("finished", "limit", "sending", "sent"),
    )

    def __init__(
        self, topic: str, client: socket.socket, window: int, latencies: Latencies
    ) -> None:
        self._socket, self._window, self._tail = client, window, b""
        self._tape, self._departures = wire.sent_tape(topic, 1, wire.V311), Departures(latencies)
        self.sent = self.finished = 0
        self.limit: float = math.inf  # never more messages than this in all
        self.sending = True

    def turn(self) -> None:
        self.read()
        self.refill()

    def refill(self) -> None:
        """Send what the window and the limit allow."""
        count = int(min(self.finished + self._window, self.limit)) - self.sent
        if count > 0 and self.sending:
            push(self._socket, self._tape.cut(self.sent, count))
            self.sent += count
            self._departures.sent(self.sent)

    def read(self) -> None:
        """Take the PUBACKs that have come. Raises FaultError unless they are the next ones due."""
        data = self._tail + pull(self._socket)
        whole = len(data) - len(data) % wire.ACK
        data, self._tail = data[:whole], data[whole:]
        start = self.finished
        self.finished += match(data, PUBACKS, start, "PUBACK")
        self._departures.arrived(start, self.finished)

    def settled(self) -> bool:
        return self.finished == self.sent

    def close(self) -> None:
        self._socket.close()
