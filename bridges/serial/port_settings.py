"""What the owner of a serial port says about it, and what the port says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from bridges.serial.port_spec import parse_port

Flow = Literal["none", "rtscts", "xonxoff"]
Lines = Literal["keep", "on", "off"]
Reset = Literal["dtr", "esp32"]

SLOWEST_BAUD, FASTEST_BAUD = 50, 12_000_000
MOST_BAUDS: Final = 16
LONGEST_RS485_DELAY: Final = 0.1


@dataclass(frozen=True, slots=True)
class Rs485:
    """Half duplex: RTS switches the transmitter. Times in seconds, as the driver keeps them: ms."""

    rts_on_send: bool = True
    rts_after_send: bool = False
    delay_before_send: float = 0.0
    delay_after_send: float = 0.0
    hears_itself: bool = False

    def __post_init__(self) -> None:
        """Refuse what no driver does."""
        for delay in (self.delay_before_send, self.delay_after_send):
            if not 0.0 <= delay <= LONGEST_RS485_DELAY:
                raise ValueError(f"a delay of RS-485 is 0 to {LONGEST_RS485_DELAY} s, not {delay}")


@dataclass(frozen=True, slots=True)
class PortSettings:
    """One port. `port` is what `port_spec.parse_port` understands; times in seconds.

    `bauds`: with several, they are tried until the device is understood. `lines`, of DTR and RTS:
    "keep" touches neither and asks the kernel not to drop DTR at close, so that the next open
    makes no edge and resets no Arduino; "on" and "off" set both. A network port has no baud unless
    it is rfc2217://. Raises ValueError.
    """

    port: str
    bauds: tuple[int, ...] = (115_200,)
    flow: Flow = "none"
    lines: Lines = "keep"
    reset: Reset = "dtr"  # what `reset_device` does
    rs485: Rs485 | None = None
    first_retry: float = 0.1
    longest_retry: float = 5.0
    open_timeout: float = 10.0  # of network ports
    probe: float = 3.0  # for one baud; longer with each round

    def __post_init__(self) -> None:
        """Check what can be checked without a port."""
        parse_port(self.port)
        check_bauds(self.bauds)
        _one_of("flow", self.flow, get_args(Flow))
        _one_of("lines", self.lines, get_args(Lines))
        _one_of("reset", self.reset, get_args(Reset))


def check_bauds(bauds: tuple[int, ...]) -> None:
    """Raise ValueError if they cannot be tried one after the other."""
    if not 1 <= len(bauds) <= MOST_BAUDS:
        raise ValueError(f"a port has 1 to {MOST_BAUDS} bauds to try, not {len(bauds)}")
    for baud in bauds:
        if not SLOWEST_BAUD <= baud <= FASTEST_BAUD:
            raise ValueError(f"a baud is {SLOWEST_BAUD} to {FASTEST_BAUD:,}, not {baud}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f'{name} is one of {", ".join(allowed)}, not "{value}"')


@dataclass(frozen=True, slots=True)
class PortInfo:
    """What has been opened. `key` is the hardware's, the same under every number it may get."""

    path: str
    key: str
    baud: int
    description: str = ""


@dataclass(frozen=True, slots=True)
class LineErrors:
    """What the driver has counted since the port exists; it counts bytes, not frames."""

    framing: int
    overrun: int  # in the chip
    parity: int
    breaks: int
    buffer_overrun: int  # in the kernel


@dataclass(slots=True)
class PortFigures:
    """How a port fares, since its Carrier was made."""

    is_open: bool = False
    path: str = ""
    key: str = ""
    baud: int = 0
    is_met: bool = False  # somebody was understood at this baud
    is_held: bool = False
    opened: int = 0  # times
    closed: int = 0
    attempts: int = 0  # to open, since it was open last
    bytes_in: int = 0
    bytes_out: int = 0
    waiting: int = 0  # bytes that are behind the port and not on the wire, as far as known
    framing: int = 0
    overruns: int = 0
    parity: int = 0
    breaks: int = 0
    has_line_errors: bool = False  # whether the four above are known
    last_error: str = ""
