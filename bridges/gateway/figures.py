"""What the gateway can say about its ports and devices: snapshots, taken by who owns the state.

Times in seconds, sizes in bytes, counts since the gateway's start.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PortFigures:
    """One serial port. `name` is that of the settings, one level of a topic."""

    name: str
    path: str = ""  # of the device file, or the URL; "" while there is none
    is_open: bool = False
    mode: str = ""  # how the device speaks: framed, text, ...; "": not known yet
    baud: int = 0
    state: str = ""  # of the link
    uid: str = ""  # the peer's, as it is printed
    firmware: str = ""
    round_trip: float | None = None
    frames_sent: int = 0
    frames_received: int = 0
    resent: int = 0
    duplicates: int = 0
    damaged: int = 0  # frames with a wrong CRC, and what was none
    restarts: int = 0  # of the peer
    bytes_received: int = 0
    bytes_sent: int = 0
    overruns: int = 0  # these four are the kernel's
    framing: int = 0
    parity: int = 0
    breaks: int = 0
    reconnects: int = 0
    devices: int = 0
    log_lines: int = 0
    dropped: int = 0  # messages for which there was no room
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """One MQTT-SN device; `gateway` is the port or socket it is behind."""

    client_id: str
    gateway: str
    address: str = ""
    state: str = "away"  # active, asleep, awake, away, quarantined
    last_seen: float | None = None  # seconds since 1970
    round_trip: float | None = None
    repeats: int = 0
    held: int = 0  # bytes of messages that wait here
    sleep: int = 0  # seconds that it has announced
    battery: float | None = None  # percent, of its port's link or its own word; None: not known
