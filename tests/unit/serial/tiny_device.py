"""The smallest device of docs/serial-protocol.md, written from that page alone.

It shares no code with the gateway: a misunderstanding there must not be repeated here. It keeps to
what 512 bytes of memory allow: one message at a time, frames of at most 64 bytes.
"""

from __future__ import annotations

UID, FIRMWARE = b"\x01\x02\x03\x04", b"1.0"
PAYLOAD_LIMIT, BUFFER, RING = 48, 48, 64
HELLO_WAIT, ACK_WAIT, TRIES = 0.5, 0.2, 8


def crc(data: bytes) -> int:
    value = 0xFFFF
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value ^ 0xFFFF


def stuff(data: bytes) -> bytes:
    out, group = bytearray(), bytearray()
    for byte in (*data, 0):
        if byte:
            group.append(byte)
        else:
            out.append(len(group) + 1)
            out += group
            group.clear()
    return bytes(out)


def unstuff(data: bytes) -> bytes | None:
    out, at = bytearray(), 0
    while at < len(data):
        code = data[at]
        if code == 0 or at + code > len(data):
            return None
        out += data[at + 1 : at + code]
        at += code
        if at < len(data):
            out.append(0)
    return bytes(out)


class TinyDevice:
    """`messages` is what has arrived: (channel, message)."""

    def __init__(self, nonce: int) -> None:
        self.nonce = nonce
        self.peer = 0
        self.open = False
        self.expected = self.sequence = 0
        self.pending: tuple[int, bytes] | None = None
        self.credit = 1
        self.due = 0.0
        self.tries = 0
        self.frame = bytearray()
        self.is_too_long = False
        self.out = bytearray()
        self.now = 0.0
        self.messages: list[tuple[int, bytes]] = []
        self.sessions = 0

    # -- the verbs of a machine: the UART and the clock

    def plugged(self, now: float) -> None:
        self.now = self.due = now

    def next_deadline(self) -> float | None:
        return self.due if not self.open or self.pending else None

    def data_to_send(self) -> bytes:
        data = bytes(self.out)
        self.out.clear()
        return data

    def receive(self, data: bytes, now: float) -> list[tuple[int, bytes]]:
        self.now = now
        before = len(self.messages)
        for byte in data:
            self.on_byte(byte)
        return self.messages[before:]

    def tick(self, now: float) -> list[tuple[int, bytes]]:
        self.now = now
        if now >= self.due and not self.open:
            self.send_hello()
            self.due = now + HELLO_WAIT
        elif now >= self.due and self.pending:
            self.out.append(0)
            self.send_pending()
            self.tries += 1
            if self.tries > TRIES:
                self.open = False
        return []

    # -- the program of the page

    def send_message(self, channel: int, message: bytes, now: float) -> bool:
        if not self.open or self.pending or not self.credit:
            return False
        self.now = now
        self.pending = (channel, message)
        self.tries = 0
        self.send_pending()
        return True

    def on_byte(self, byte: int) -> None:
        if byte and len(self.frame) < RING:
            self.frame.append(byte)
        elif byte:
            self.is_too_long = True
        else:
            if self.frame and not self.is_too_long:
                self.on_frame(bytes(self.frame))
            self.frame.clear()
            self.is_too_long = False

    def on_frame(self, frame: bytes) -> None:
        data = unstuff(frame)
        if data is None or len(data) < 4:
            return
        body, check = data[:-2], int.from_bytes(data[-2:], "big")
        if body[:2] == b"\x00\x10":
            if crc(body) == check and len(body) >= 18:
                self.on_hello(body[2:])
        elif self.peer and crc(self.prefix(self.peer, self.nonce) + body) == check:
            self.on_session_frame(body)

    def on_hello(self, hello: bytes) -> None:
        is_open, is_used = hello[1] & 1, hello[1] & 2
        mine, yours = int.from_bytes(hello[2:4], "big"), int.from_bytes(hello[4:6], "big")
        if not hello[0] or not mine:
            return
        if mine == self.nonce:
            if not self.open:
                self.nonce = self.another_nonce()
            return
        if is_used and not self.peer and yours == self.nonce:
            self.nonce = self.another_nonce()
        if mine != self.peer or (self.open and yours != self.nonce):
            self.peer = mine
            self.expected = self.sequence = 0
            self.credit = 1
            self.open = False
            self.pending = None
            self.sessions += 1
        if yours == self.nonce:
            self.open = True
        if not (is_open and yours == self.nonce):
            self.send_hello()

    def another_nonce(self) -> int:
        return self.nonce * 25173 % 65521 + 1

    def on_session_frame(self, body: bytes) -> None:
        self.open = True
        self.credit = body[0] & 15
        if self.pending and body[1] & 15 == (self.sequence + 1) % 16:
            self.pending = None
            self.sequence = (self.sequence + 1) % 16
        channel = body[0] >> 5
        if not channel:
            return
        if not body[0] & 0x10:
            self.messages.append((channel, body[2:]))
            return
        if body[1] >> 4 == self.expected:
            self.expected = (self.expected + 1) % 16
            self.messages.append((channel, body[2:]))
        self.send_sealed(bytes((1, self.expected)))

    def send_pending(self) -> None:
        assert self.pending is not None
        channel, message = self.pending
        header = bytes((channel << 5 | 0x11, self.sequence << 4 | self.expected))
        self.send_sealed(header + message)
        self.due = self.now + ACK_WAIT

    def send_sealed(self, body: bytes) -> None:
        check = crc(self.prefix(self.nonce, self.peer) + body)
        self.out += stuff(body + check.to_bytes(2, "big")) + b"\0"

    def send_hello(self) -> None:
        body = bytes((0, 0x10, 1, int(self.open))) + self.prefix(self.nonce, self.peer)
        body += bytes((0, 1, 0, PAYLOAD_LIMIT, 0, BUFFER)) + (1152).to_bytes(2, "big")
        body += bytes((len(UID),)) + UID + bytes((len(FIRMWARE),)) + FIRMWARE
        self.out += b"\0" + stuff(body + crc(body).to_bytes(2, "big")) + b"\0"

    @staticmethod
    def prefix(sender: int, receiver: int) -> bytes:
        return sender.to_bytes(2, "big") + receiver.to_bytes(2, "big")
