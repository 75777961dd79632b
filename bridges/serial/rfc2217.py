"""The client's half of RFC 2217: a serial port behind telnet, with its speed and lines.

A machine: bytes in, bytes out. Ready when the other end has agreed to the COM port option and
confirmed the speed. Rule kept here: a request is answered once, and a sub-negotiation without an
end is not held, so no server makes us grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridges.serial.port_settings import LineErrors

if TYPE_CHECKING:
    from bridges.serial.port_settings import PortSettings

SE, SB, WILL, WONT, DO, DONT, IAC = 240, 250, 251, 252, 253, 254, 255
BINARY, SUPPRESS_GO_AHEAD, COM_PORT = 0, 3, 44
# Commands of the client; the server answers with 100 more
SET_BAUDRATE, SET_DATASIZE, SET_PARITY, SET_STOPSIZE, SET_CONTROL = 1, 2, 3, 4, 5
SET_LINESTATE_MASK, SET_MODEMSTATE_MASK = 10, 11
NOTIFY_LINESTATE: Final = 106
SERVER: Final = 100
LONGEST_SUB: Final = 256  # bytes of a sub-negotiation

_END: Final = bytes((IAC, SE))
_ESCAPED: Final = bytes((IAC, IAC))
_IAC: Final = bytes((IAC,))
_FLOW: Final = {"none": (1, 14), "xonxoff": (2, 15), "rtscts": (3, 16)}  # outbound, inbound
_LINES: Final = {"on": (True, True), "off": (False, False)}
_DTR: Final = {True: 8, False: 9}
_RTS: Final = {True: 11, False: 12}
_OVERRUN, _PARITY, _FRAMING, _BREAK = 0x02, 0x04, 0x08, 0x10  # of the line state
_WANTED: Final = _OVERRUN | _PARITY | _FRAMING | _BREAK
_OFFER: Final = bytes(
    byte
    for verb, option in (
        (WILL, BINARY),
        (DO, BINARY),
        (WILL, SUPPRESS_GO_AHEAD),
        (DO, SUPPRESS_GO_AHEAD),
        (WILL, COM_PORT),
    )
    for byte in (IAC, verb, option)
)
_OFFERED: Final = frozenset((BINARY, SUPPRESS_GO_AHEAD, COM_PORT))
_REFUSALS: Final = {WILL: DONT, DO: WONT}


class ComPort:
    """One connection's negotiation, and the bytes of the wire in between."""

    def __init__(self, settings: PortSettings, baud: int) -> None:
        self.is_ready = False
        self.refusal = ""  # why it will never be
        self.errors = LineErrors(0, 0, 0, 0, 0)
        self._settings = settings
        self._baud = baud
        self._held = b""
        self._answered: set[tuple[int, int]] = set()

    def begin(self) -> bytes:
        """What is said first."""
        return _OFFER

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Return (what the wire brought, what is to be answered)."""
        if not self._held and IAC not in data:
            return data, b""
        data = self._held + data
        payload, answers, pos = bytearray(), bytearray(), 0
        while (start := data.find(IAC, pos)) >= 0:
            payload += data[pos:start]
            pos = start
            end = _command_end(data, start)
            if not end:
                break
            if data[start + 1] == IAC:
                payload += _IAC
            answers += self._on_command(data[start + 1 : end])
            pos = end
        else:
            payload += data[pos:]
            pos = len(data)
        self._held = data[pos:]
        return bytes(payload), bytes(answers)

    def encode(self, data: bytes) -> bytes:
        """Return the bytes of the wire as they go through telnet."""
        return data.replace(_IAC, _ESCAPED)

    def set_baud(self, baud: int) -> bytes:
        """Ask for a speed."""
        self._baud = baud
        return _sub(SET_BAUDRATE, baud.to_bytes(4, "big"))

    def set_lines(self, dtr: bool, rts: bool) -> bytes:
        """Ask for DTR and RTS."""
        return _sub(SET_CONTROL, _DTR[dtr]) + _sub(SET_CONTROL, _RTS[rts])

    def _on_command(self, command: bytes) -> bytes:
        """One command without its IAC; return the answer."""
        verb = command[0]
        if verb == SB:
            self._on_sub(command[1:-2].replace(_ESCAPED, _IAC))
        elif WILL <= verb <= DONT and (verb, command[1]) not in self._answered:
            self._answered.add((verb, command[1]))
            return self._on_request(verb, command[1])
        return b""

    def _on_request(self, verb: int, option: int) -> bytes:
        if option == COM_PORT and verb == DONT:
            self.refusal = "it knows no RFC 2217: try tcp:// instead of rfc2217://"
        if option == COM_PORT and verb == DO:
            return self._set_up()
        if option in _OFFERED or verb not in _REFUSALS:
            return b""
        return bytes((IAC, _REFUSALS[verb], option))

    def _set_up(self) -> bytes:
        settings = self._settings
        parts = [
            self.set_baud(self._baud),
            _sub(SET_DATASIZE, 8),
            _sub(SET_PARITY, 1),
            _sub(SET_STOPSIZE, 1),
            *(_sub(SET_CONTROL, flow) for flow in _FLOW[settings.flow]),
            _sub(SET_LINESTATE_MASK, _WANTED),
            _sub(SET_MODEMSTATE_MASK, 0),
        ]
        if settings.lines in _LINES:
            parts.append(self.set_lines(*_LINES[settings.lines]))
        return b"".join(parts)

    def _on_sub(self, sub: bytes) -> None:
        if len(sub) < 3 or sub[0] != COM_PORT:
            return
        if sub[1] == SERVER + SET_BAUDRATE and not self.is_ready:
            self._on_baud(int.from_bytes(sub[2:6], "big"))
        elif sub[1] == NOTIFY_LINESTATE:
            self._on_line_state(sub[2])

    def _on_baud(self, baud: int) -> None:
        if baud == self._baud:
            self.is_ready = True
        else:
            self.refusal = f"it cannot do {self._baud} baud, but offers {baud}"

    def _on_line_state(self, state: int) -> None:
        each = self.errors
        self.errors = LineErrors(
            each.framing + bool(state & _FRAMING),
            each.overrun + bool(state & _OVERRUN),
            each.parity + bool(state & _PARITY),
            each.breaks + bool(state & _BREAK),
            0,
        )


def _command_end(data: bytes, start: int) -> int:
    """Return where the command that begins at `start` ends; 0: it has not come yet."""
    if len(data) < start + 2:
        return 0
    verb = data[start + 1]
    if verb == SB:
        return _sub_end(data, start)
    size = 3 if WILL <= verb <= DONT else 2
    return start + size if len(data) >= start + size else 0


def _sub_end(data: bytes, start: int) -> int:
    pos = start + 2
    while (pos := data.find(IAC, pos)) >= 0 and pos + 1 < len(data):
        if data[pos + 1] == SE:
            return pos + 2
        pos += 2
    return start + 2 if len(data) - start > LONGEST_SUB else 0  # no end: it was none


def _sub(command: int, value: int | bytes) -> bytes:
    data = bytes((value,)) if isinstance(value, int) else value
    head = bytes((IAC, SB, COM_PORT, command))
    return head + data.replace(_IAC, _ESCAPED) + _END
