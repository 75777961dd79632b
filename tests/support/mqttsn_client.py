"""A device that speaks MQTT-SN 1.2, written from the standard alone: it shares no code with the
gateway, not even the numbers.

    device = SnClient("dev", clean=False)
    device.connect(); device.subscribe("a/#", qos=1); device.publish("a/b", b"x", qos=2)

What it is asked to do it does one after the other, each repeated until it is answered (T_retry,
N_retry). A connection that is lost is set up again; what was asked stays asked. `receive`, `tick`,
`next_deadline` and `datagrams` carry it. What it received is in `received`.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

# Message types
CONNECT, CONNACK = 0x04, 0x05
WILLTOPICREQ, WILLTOPIC, WILLMSGREQ, WILLMSG = 0x06, 0x07, 0x08, 0x09
REGISTER, REGACK = 0x0A, 0x0B
PUBLISH, PUBACK, PUBCOMP, PUBREC, PUBREL = 0x0C, 0x0D, 0x0E, 0x0F, 0x10
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 0x12, 0x13, 0x14, 0x15
PINGREQ, PINGRESP, DISCONNECT = 0x16, 0x17, 0x18


class Got(NamedTuple):
    """A message that has come."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False


class Ask:
    """Something the device wants: its message, and what answers it."""

    def __init__(self, kind: int, answer: int, topic: str = "", **details: object) -> None:
        self.kind = kind
        self.answer = answer
        self.topic = topic
        self.details = details
        self.msg_id = 0
        self.topic_id = 0
        self.step = kind
        self.tries = 0
        self.repeat_at: float | None = None


def message(kind: int, *parts: bytes) -> bytes:
    """One message with its header."""
    body = bytes([kind]) + b"".join(parts)
    if len(body) + 1 < 256:
        return bytes([len(body) + 1]) + body
    return b"\x01" + two(len(body) + 3) + body


def two(number: int) -> bytes:
    return number.to_bytes(2, "big")


def number(data: bytes, pos: int) -> int:
    return int.from_bytes(data[pos : pos + 2], "big")


class SnClient:
    """One device. With `clean` False it has a durable session, and keeps its own half of it."""

    T_RETRY = 10.0
    N_RETRY = 5
    T_WAIT = 300.0

    def __init__(
        self,
        client_id: str,
        clean: bool = True,
        keep_alive: int = 60,
        will: tuple[str, bytes, int] | None = None,
    ) -> None:
        self.client_id = client_id
        self.clean = clean
        self.keep_alive = keep_alive
        self.will = will
        self.state = "disconnected"
        self.received: list[Got] = []
        self.done: list[tuple[int, object]] = []  # (kind of what was asked, its result)
        self.mute = False  # says nothing, as if it were broken
        self.topics: dict[int, str] = {}
        self.ids: dict[str, int] = {}
        self.pings = 0
        self.connects = 0
        self._asks: deque[Ask] = deque()
        self._out: list[bytes] = []
        self._held: dict[int, None] = {}  # QoS 2: received and not released
        self._last_id = 0
        self._ping_at: float | None = None
        self._sleep = 0

    # -- what it can be asked ---------------------------------------------------------------------

    def connect(self) -> None:
        self._asks.append(Ask(CONNECT, CONNACK))

    def register(self, topic: str) -> None:
        self._asks.append(Ask(REGISTER, REGACK, topic))

    def subscribe(self, topic: str, qos: int = 0) -> None:
        self._asks.append(Ask(SUBSCRIBE, SUBACK, topic, qos=qos))

    def unsubscribe(self, topic: str) -> None:
        self._asks.append(Ask(UNSUBSCRIBE, UNSUBACK, topic))

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> None:
        """Registers the topic first if it must."""
        answer = {0: 0, 1: PUBACK, 2: PUBREC}[qos]
        self._asks.append(Ask(PUBLISH, answer, topic, payload=payload, qos=qos, retain=retain))

    def sleep(self, duration: int) -> None:
        self._asks.append(Ask(DISCONNECT, DISCONNECT, duration=duration))

    def wake(self) -> None:
        """Fetch what waits, then sleep on."""
        self._asks.append(Ask(PINGREQ, PINGRESP, wake=True))

    def disconnect(self) -> None:
        self._asks.append(Ask(DISCONNECT, DISCONNECT))

    def reset(self) -> None:
        """The power was gone: everything in RAM is forgotten but what was to be done."""
        self.state = "disconnected"
        self.topics.clear()
        self.ids.clear()
        self._out.clear()
        self._ping_at = None
        for ask in self._asks:
            ask.tries, ask.repeat_at, ask.step = 0, None, ask.kind

    @property
    def is_idle(self) -> bool:
        return not self._asks

    # -- the verbs of a machine -------------------------------------------------------------------

    def datagrams(self, now: float) -> list[bytes]:
        if not self.mute:
            self._go_on(now)
        out, self._out = self._out, []
        return [] if self.mute else out

    def next_deadline(self) -> float | None:
        times = [self._ping_at] if self.state == "active" and self._ping_at is not None else []
        if self._asks and self._asks[0].repeat_at is not None:
            times.append(self._asks[0].repeat_at)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        if self.state == "active" and self._ping_at is not None and now >= self._ping_at:
            self._ping_at = now + self.keep_alive * 0.8
            self._out.append(message(PINGREQ))
        if not self._asks:
            return
        ask = self._asks[0]
        if ask.repeat_at is not None and now >= ask.repeat_at:
            ask.repeat_at = None
            if ask.tries > self.N_RETRY:
                self._lost()

    def receive(self, data: bytes, now: float) -> None:
        if self.mute:
            return
        start = 3 if data[0] == 1 else 1
        length = number(data, 1) if data[0] == 1 else data[0]
        assert length == len(data), data
        kind, body = data[start], data[start + 1 :]
        {
            CONNACK: self._on_connack,
            WILLTOPICREQ: self._on_willtopicreq,
            WILLMSGREQ: self._on_willmsgreq,
            REGISTER: self._on_register,
            REGACK: self._on_regack,
            PUBLISH: self._on_publish,
            PUBACK: self._on_puback,
            PUBREC: self._on_pubrec,
            PUBREL: self._on_pubrel,
            PUBCOMP: self._on_pubcomp,
            SUBACK: self._on_suback,
            UNSUBACK: self._on_unsuback,
            PINGREQ: self._on_pingreq,
            PINGRESP: self._on_pingresp,
            DISCONNECT: self._on_disconnect,
        }[kind](body, now)

    # -- asking -----------------------------------------------------------------------------------

    def _go_on(self, now: float) -> None:
        while self._asks:
            ask = self._asks[0]
            if ask.repeat_at is not None:
                return
            if self.state == "lost" and ask.kind != CONNECT:
                self._asks.appendleft(Ask(CONNECT, CONNACK))
                continue
            if ask.kind == PUBLISH and self._topic_id(ask.topic) is None:
                self._asks.appendleft(Ask(REGISTER, REGACK, ask.topic))
                continue
            self._send(ask, now)
            if ask.answer == 0:
                self._finish(None)

    def _send(self, ask: Ask, now: float) -> None:
        ask.tries += 1
        ask.repeat_at = now + self.T_RETRY
        if ask.msg_id == 0:
            self._last_id = ask.msg_id = self._last_id % 65535 + 1
        self._ping_at = now + self.keep_alive * 0.8
        self._out.append(self._bytes(ask))

    def _bytes(self, ask: Ask) -> bytes:
        details, msg_id = ask.details, two(ask.msg_id)
        if ask.step == CONNECT:
            self.connects += 1
            flags = 0x04 * self.clean + 0x08 * (self.will is not None)
            return message(
                CONNECT, bytes([flags, 1]), two(self.keep_alive), self.client_id.encode()
            )
        if ask.step == REGISTER:
            return message(REGISTER, two(0), msg_id, ask.topic.encode())
        if ask.step in (SUBSCRIBE, UNSUBSCRIBE):
            flags = int(details.get("qos", 0)) << 5
            return message(ask.step, bytes([flags]), msg_id, ask.topic.encode())
        if ask.step == PUBREL:
            return message(PUBREL, msg_id)
        if ask.step == PINGREQ:
            return message(PINGREQ, self.client_id.encode())
        if ask.step == DISCONNECT:
            duration = details.get("duration")
            return message(DISCONNECT, b"" if duration is None else two(int(duration)))
        ask.topic_id = self.ids[ask.topic]
        qos = int(details["qos"])
        flags = 0x80 * (ask.tries > 1 and qos > 0) + (qos << 5) + 0x10 * bool(details["retain"])
        sent_id = msg_id if qos else two(0)
        return message(PUBLISH, bytes([flags]), two(ask.topic_id), sent_id, details["payload"])

    def _topic_id(self, topic: str) -> int | None:
        return self.ids.get(topic)

    def _finish(self, result: object) -> None:
        self.done.append((self._asks.popleft().kind, result))

    def _answers(self, kind: int, msg_id: int | None = None) -> Ask | None:
        """What is being asked, if this answers it."""
        if not self._asks or self._asks[0].answer != kind or self._asks[0].repeat_at is None:
            return None
        if msg_id is not None and self._asks[0].msg_id != msg_id:
            return None
        return self._asks[0]

    def _lost(self) -> None:
        """The gateway does not answer, or knows us no more."""
        self.state = "lost"
        if self._asks:
            ask = self._asks[0]
            ask.tries, ask.repeat_at = 0, None

    # -- answers ----------------------------------------------------------------------------------

    def _on_connack(self, body: bytes, now: float) -> None:
        ask = self._answers(CONNACK)
        if ask is None:
            return
        if body[0] == 1:  # congestion
            ask.tries, ask.repeat_at = 0, now + self.T_WAIT
            self.done.append((CONNECT, 1))
            return
        if body[0] == 0:
            self.state = "active"
            if self.clean:
                self.topics.clear()
                self.ids.clear()
        self._finish(body[0])

    def _on_willtopicreq(self, body: bytes, now: float) -> None:
        assert self.will is not None
        topic, _, qos = self.will
        self._out.append(message(WILLTOPIC, bytes([qos << 5]), topic.encode()))

    def _on_willmsgreq(self, body: bytes, now: float) -> None:
        assert self.will is not None
        self._out.append(message(WILLMSG, self.will[1]))

    def _on_regack(self, body: bytes, now: float) -> None:
        ask = self._answers(REGACK, number(body, 2))
        if ask is None:
            return
        if body[4] == 0:
            self._learn(number(body, 0), ask.topic)
        self._finish(body[4])
        if body[4] and self._asks and self._asks[0].kind == PUBLISH:
            self._finish("not registered")

    def _on_puback(self, body: bytes, now: float) -> None:
        topic_id, msg_id, code = number(body, 0), number(body, 2), body[4]
        if code == 2:  # the gateway has forgotten the id
            topic = self.topics.pop(topic_id, None)
            self.ids.pop(topic, None)
        ask = self._answers(PUBACK, msg_id) or (self._answers(PUBREC, msg_id) if code else None)
        if ask is None:
            return
        if code == 2:
            ask.repeat_at, ask.tries = None, 0
        elif code == 1:
            ask.repeat_at, ask.tries = now + self.T_WAIT, 0
        else:
            self._finish(code)

    def _on_pubrec(self, body: bytes, now: float) -> None:
        ask = self._answers(PUBREC, number(body, 0))
        if ask is not None:
            ask.step, ask.answer, ask.tries = PUBREL, PUBCOMP, 0
            ask.repeat_at = None

    def _on_pubcomp(self, body: bytes, now: float) -> None:
        if self._answers(PUBCOMP, number(body, 0)):
            self._finish(0)

    def _on_suback(self, body: bytes, now: float) -> None:
        ask = self._answers(SUBACK, number(body, 3))
        if ask is None:
            return
        if body[5] == 0 and number(body, 1):
            self._learn(number(body, 1), ask.topic)
        self._finish((body[5], body[0] >> 5 & 3))

    def _on_unsuback(self, body: bytes, now: float) -> None:
        if self._answers(UNSUBACK, number(body, 0)):
            self._finish(0)

    def _on_pingreq(self, body: bytes, now: float) -> None:
        self._out.append(message(PINGRESP))

    def _on_pingresp(self, body: bytes, now: float) -> None:
        self.pings += 1
        if self._answers(PINGRESP):
            self._finish(0)

    def _on_disconnect(self, body: bytes, now: float) -> None:
        ask = self._answers(DISCONNECT)
        if ask is not None:
            self.state = "asleep" if ask.details.get("duration") else "disconnected"
            self._finish(0)
        elif self.state != "disconnected":
            self._lost()

    # -- messages ---------------------------------------------------------------------------------

    def _on_register(self, body: bytes, now: float) -> None:
        self._learn(number(body, 0), body[4:].decode())
        self._out.append(message(REGACK, body[:4], b"\0"))

    def _on_publish(self, body: bytes, now: float) -> None:
        flags, topic_id, msg_id, payload = body[0], body[1:3], body[3:5], body[5:]
        qos = flags >> 5 & 3
        topic = topic_id.decode() if flags & 3 == 2 else self.topics.get(number(topic_id, 0))
        if topic is None:
            self._out.append(message(PUBACK, topic_id, msg_id, b"\x02"))
            return
        if qos < 2 or number(msg_id, 0) not in self._held:
            self.received.append(Got(topic, payload, qos, bool(flags & 0x10)))
        if qos == 1:
            self._out.append(message(PUBACK, topic_id, msg_id, b"\0"))
        if qos == 2:
            self._held[number(msg_id, 0)] = None
            self._out.append(message(PUBREC, msg_id))

    def _on_pubrel(self, body: bytes, now: float) -> None:
        self._held.pop(number(body, 0), None)
        self._out.append(message(PUBCOMP, body))

    def _learn(self, topic_id: int, topic: str) -> None:
        self.topics[topic_id] = topic
        self.ids[topic] = topic_id
