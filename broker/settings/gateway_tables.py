"""[[serial]], [mqttsn] and [[mqttsn.device]]: wires and devices that speak MQTT-SN."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated

from broker.settings.gateway_rules import (
    LONGEST_PATTERN,
    Datagrams,
    Password,
    Predefined,
    SerialPort,
    UdpUrl,
    port_name,
    topic_or_none,
    udp_place,
)
from broker.settings.problems import Place
from broker.settings.queue_rules import HostPort, Several
from broker.settings.rules import (
    DAY,
    GIB,
    KIB,
    MANY,
    MIB,
    Choice,
    Count,
    Filter,
    Flag,
    Interval,
    Text,
    duration,
    expiry,
    size,
)

MODES = ("auto", "framed", "mqtt-sn", "slip", "mqtt", "text")
LINES = ("keep", "on", "off")
PACES = ("auto", "yes", "no")
MQTT_VERSIONS = ("auto", "5", "3.1.1")
RESETS = ("dtr", "esp32")
GOOD_LOG = 'write one such as "serial/{port}/log"; {port} is the port\'s name; "" for none'
GOOD_PREFIX = 'write one such as "site/{port}/"; {port} is the port\'s name; "" for none'


@dataclass(frozen=True, slots=True)
class OrNothing:
    """A topic filter; empty: none."""

    def read(self, value: object) -> str:
        return "" if value == "" else Filter().read(value)

    def read_text(self, text: str) -> str:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """One [[serial]]: a wire, and who speaks on it."""

    port: Annotated[str, SerialPort()]
    name: Annotated[str, port_name()] = ""  # "": made of the port
    mode: Annotated[str, Choice(MODES)] = "auto"
    baud: Annotated[tuple[int, ...], Several(Count(50, 12_000_000))] = (115_200,)  # tried in turn
    flow: Annotated[str, Choice(("none", "rtscts", "xonxoff"))] = "none"
    lines: Annotated[str, Choice(LINES, {True: "on", False: "off"})] = "keep"  # DTR and RTS
    reset: Annotated[str, Choice(RESETS)] = "dtr"  # what `heliograph serial reset` does
    rs485: Annotated[bool, Flag()] = False
    # whether to send no faster than the rate says; auto: if a wire is behind the port
    pace: Annotated[str, Choice(PACES, {True: "yes", False: "no"})] = "auto"
    window: Annotated[int, Count(1, 8)] = 8  # frames before an acknowledgement
    payload_limit: Annotated[int, size(48, 65_535)] = KIB  # of one message from the device
    bytes_per_second: Annotated[int, size(0, MANY)] = 0  # to one device; 0: as the wire can
    prefix: Annotated[str, topic_or_none(GOOD_PREFIX)] = ""  # of the topics of text lines
    qos: Annotated[int, Count(0, 2)] = 1  # of text lines
    retain: Annotated[bool, Flag()] = False
    commands: Annotated[str, OrNothing()] = ""  # whose messages become lines; "": none
    log: Annotated[str, topic_or_none(GOOD_LOG)] = "serial/{port}/log"
    client_id: Annotated[str, Text(256)] = ""  # of the port's own client; "": serial-NAME
    username: Annotated[str, Text(1024)] = ""
    password: Annotated[str, Password()] = field(default="", repr=False)
    time: Annotated[bool, Flag()] = True  # tell devices that ask
    stamp: Annotated[bool, Flag()] = False  # note when each message was sent, for those without
    take_files: Annotated[bool, Flag()] = False  # from the device, into data_dir
    largest_file: Annotated[int, size(1, 4 * GIB)] = MIB
    files_bytes: Annotated[int, size(1, 1024 * GIB)] = 64 * MIB  # all of them
    place: Place = field(default_factory=Place, compare=False, repr=False)

    @property
    def shown_name(self) -> str:
        """The name in topics, folders and on the command line."""
        return self.name or name_of(self.port)


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """One [[mqttsn.device]]: who devices are to the broker; of several the first that fits."""

    client_id: Annotated[str, Text(LONGEST_PATTERN)] = "*"
    address: Annotated[str, Text(LONGEST_PATTERN)] = "*"
    broker_client_id: Annotated[str, Text(1024)] = "{client_id}"
    username: Annotated[str, Text(1024)] = ""
    password: Annotated[str, Password()] = field(default="", repr=False)
    place: Place = field(default_factory=Place, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class MqttSnSettings:
    """[mqttsn]: the gateway for MQTT-SN, on UDP and on wires. Times in seconds."""

    listen: Annotated[tuple[str, ...], Several(UdpUrl())] = ()  # (): not on UDP
    gateway_id: Annotated[int, Count(1, 255)] = 1
    advertise: Annotated[int, duration(0, 65_535)] = 900  # 0: never
    advertise_to: Annotated[str, Datagrams()] = ""  # of UDP; "": nobody is told
    t_retry: Annotated[float, Interval(0.1, 3600.0, '"10 s"')] = 10.0
    n_retry: Annotated[int, Count(0, 100)] = 4
    max_devices: Annotated[int, Count(1, 65_535)] = 1000  # of one port or socket
    max_topics: Annotated[int, Count(1, 65_534)] = 1000  # registered for one device
    device_bytes: Annotated[int, size(KIB, GIB)] = 64 * KIB  # held for one device; more: the broker
    session_expiry: Annotated[int, expiry()] = 30 * DAY  # of a durable session that is away
    predefined: Annotated[Mapping[int, str], Predefined()] = field(
        default_factory=lambda: MappingProxyType({})
    )
    unconnected: Annotated[str, Text(256)] = ""  # client id for QoS -1; "": refused
    unconnected_username: Annotated[str, Text(1024)] = ""
    unconnected_password: Annotated[str, Password()] = field(default="", repr=False)
    approval: Annotated[bool, Flag()] = False  # who is not known is let in by a person
    home_assistant: Annotated[str, topic_or_none('write "homeassistant"; "" for none')] = ""
    devices: tuple[DeviceSettings, ...] = ()

    @property
    def places(self) -> tuple[HostPort, ...]:
        """Where to take datagrams."""
        return tuple(udp_place(each) for each in self.listen)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """[gateway]: what `heliograph gateway` alone needs, beside another broker."""

    mqtt: Annotated[str, Choice(MQTT_VERSIONS)] = "auto"  # that is spoken to the broker


def name_of(port: str) -> str:
    """A name made of a port: "/dev/ttyUSB0" is ttyUSB0."""
    last = port.rstrip("/*").rpartition("/")[2] or port
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-")
    return name[:64] or "port"
