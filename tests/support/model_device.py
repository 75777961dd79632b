"""The application of `firmware_sim/mcu/firmware/app.c` over the device model in Python: the same
topics, commands and answers.
"""

from __future__ import annotations

from random import Random

from bridges.serial.link import LinkSettings
from firmware_sim.clients.client import Acknowledged, Arrived, Failed, Message, Up
from firmware_sim.clients.framed import FramedClient, FramedSettings, sleeping
from firmware_sim.clients.sn import SnSettings

_TICK = 0.05  # seconds between two looks at what is due


class ModelDevice:
    """An end of a Line; it starts when it is `plugged`."""

    def __init__(self, name: str, seed: int = 1) -> None:
        self.name = name
        self.boots = 0
        self._rng = Random(seed)
        self._now = 0.0

    # -- End

    def plugged(self, now: float) -> None:
        self._now = now
        self.boots += 1
        self.every = 1.0
        self.sleep = 0
        self._number = 0
        self._due = now
        self._is_read = self._wants_waking = self._wants_reset = False
        self._waiting: list[Message] = []
        self._busy: str | None = None
        will = Message(self._topic("said"), b"gone", 1)
        link = LinkSettings(uid=self.name.encode(), firmware="1.0", window=1, payload_limit=48)
        sn = SnSettings(self.name, clean_session=False, will=will)
        self.client = FramedClient(FramedSettings(sn, sleeping(link)), self._rng)
        self.client.subscribe(self._topic("do"), 2, now)
        self.client.connect(now)
        self.client.plugged(now)

    def receive(self, data: bytes, now: float) -> None:
        self.client.receive(data, now)
        self._go_on(now)

    def tick(self, now: float) -> None:
        deadline = self.client.next_deadline()
        if deadline is not None and deadline <= now:
            self.client.tick(now)
        self._go_on(now)

    def next_deadline(self) -> float | None:
        return min(self.client.next_deadline() or self._now + _TICK, self._now + _TICK)

    def data_to_send(self) -> bytes:
        return self.client.data_to_send()

    # -- the application

    def _go_on(self, now: float) -> None:
        self._now = now
        for event in self.client.take_events():
            self._on_event(event)
        if now >= self._due:
            self._due = now + (self.sleep or self.every)
            self._is_read = True
        if self._busy is None:
            self._publish_next(now)
        self._rest(now)

    def _on_event(self, event: object) -> None:
        if isinstance(event, Acknowledged | Failed):
            self._busy = None
        elif isinstance(event, Arrived):
            self._obey(event.message.payload.decode())
        elif isinstance(event, Up):
            self._waiting.append(Message(self._topic("said"), f"up {self.boots}".encode(), 1))

    def _publish_next(self, now: float) -> None:
        if self._waiting:
            message = self._waiting.pop(0)
        elif self._wants_reset:
            self.plugged(now)
            return
        elif self._is_read and (self.client.is_up or self.sleep):
            self._is_read = False
            self._wants_waking = True
            self._number += 1
            text = f"{self.boots}.{self._number} {200 + self._rng.randrange(32)}"
            message = Message(self._topic("reading"), text.encode(), 1)
        else:
            return
        assert self.client.publish(message, 1, now)
        self._busy = message.topic

    def _rest(self, now: float) -> None:
        if not self.sleep or self._busy or self._waiting or self._is_read:
            return
        if self.client.is_up:
            self.client.sleep(self.sleep * 3, now)
        elif self._wants_waking:
            self._wants_waking = False
            self.client.wake(now)

    def _obey(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if word == "led":
            return
        if word[:3] == "say":
            self._waiting.append(Message(self._topic("said"), rest.encode(), int(word[3])))
            return
        if word == "shout":
            self._waiting.append(Message("hg", rest.encode(), -1))
            return
        answer = self._change(word, rest)
        self._waiting.append(Message(self._topic("said"), answer.encode(), 1))

    def _change(self, word: str, rest: str) -> str:
        if word == "every":
            self.every = int(rest) / 1000
            self._due = self._now
        elif word == "sleep":
            self.sleep = int(rest)
        elif word == "stay":
            self.sleep = 0
            self.client.connect(self._now)
        elif word == "reset":
            self._wants_reset = True
        else:
            return "what?"
        return f"{word} {rest}".strip()

    def _topic(self, what: str) -> str:
        return f"plant/{self.name}/{what}"
