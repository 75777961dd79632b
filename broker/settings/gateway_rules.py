"""The rules of what concerns serial ports and MQTT-SN: ports, rates, places on UDP, topic ids."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from broker.settings.queue_rules import HostPort, Matching, host_port
from broker.settings.words import show

UDP_PORT = 1884  # where MQTT-SN is at home
LONGEST_PATTERN = 256
LAST_TOPIC_ID = 0xFFFE  # 0 and 65535 are reserved [MQTT-SN 5.3.11]
GOOD_UDP = f'write one such as "udp://0.0.0.0:{UDP_PORT}" or "udp://[::]:{UDP_PORT}"'
GOOD_PREDEFINED = 'write ids and topics, such as { "1" = "site/door", "2" = "site/temperature" }'


def port_name() -> Matching:
    """The name of a serial port in topics, folders and on the command line."""
    good = 'write 1 to 64 letters, digits, _ . and -, with no dot in front; "" for a name made'
    return Matching(
        re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}"), "a port's name", f"{good} of the port"
    )


def topic_or_none(good: str) -> Matching:
    """A topic to publish to, with placeholders in braces; empty: none."""
    form = r"(?!\$)(?:[^\x00-\x1f{}+#]|\{[a-z_]+\}){1,1000}"
    return Matching(re.compile(form), "a topic to publish to", good)


@dataclass(frozen=True, slots=True)
class SerialPort:
    """Which port: a path, a pattern of paths, USB ids, a place on the network, or auto."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ValueError(
                f'{show(value)} is not a port: write "auto", a path such as "/dev/ttyUSB0" or '
                '"/dev/serial/by-id/*", USB ids such as "2341:0043", or "tcp://HOST:PORT"; '
                "`heliograph serial ports` shows what is there"
            )
        return value.strip()

    def read_text(self, text: str) -> str:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class Password:
    """A secret; no complaint repeats it."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or len(value.encode()) > 65_535:
            raise ValueError("this is not a password: write a text in quotes")
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class UdpUrl:
    """Where datagrams are taken."""

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{show(value)} is not a place on UDP: {GOOD_UDP}")
        udp_place(value)
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)


def udp_place(url: str) -> HostPort:
    """The parts of "udp://0.0.0.0:1884"; without a port, MQTT-SN's. Raises ValueError."""
    try:
        parts = urlsplit(url)
        port = UDP_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise ValueError(f"{show(url)} is not a URL ({error}): {GOOD_UDP}") from error
    host = parts.hostname
    if parts.scheme != "udp" or not host or parts.path.strip("/") or parts.query or host.isdigit():
        raise ValueError(f"{show(url)} is not a place on UDP: {GOOD_UDP}")
    return HostPort(host, port)


@dataclass(frozen=True, slots=True)
class Datagrams:
    """An address and a port to send to; empty: none."""

    def read(self, value: object) -> str:
        text = value if isinstance(value, str) else str(value)
        try:
            if text:
                ip_address(host_port(text).host)
        except ValueError as error:
            good = f'write one such as "255.255.255.255:{UDP_PORT}"; "" for none'
            raise ValueError(f"{show(value)} is no address and port: {good}") from error
        return text

    def read_text(self, text: str) -> str:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class Predefined:
    """Topics that all devices know by a number. In an environment variable: "1=a/b 2=c/d"."""

    def read(self, value: object) -> Mapping[int, str]:
        if not isinstance(value, Mapping):
            raise ValueError(f"{show(value)} is not a table: {GOOD_PREDEFINED}")
        return dict(_predefined(str(key), topic) for key, topic in value.items())

    def read_text(self, text: str) -> Mapping[int, str]:
        pairs = (each.partition("=") for each in text.split())
        return dict(_predefined(key, topic) for key, _, topic in pairs)


def _predefined(key: str, topic: object) -> tuple[int, str]:
    if not re.fullmatch(r"[1-9]\d{0,4}", key, re.ASCII) or int(key) > LAST_TOPIC_ID:
        raise ValueError(f"{show(key)} is no topic id from 1 to {LAST_TOPIC_ID}: {GOOD_PREDEFINED}")
    if not isinstance(topic, str) or not re.fullmatch(r"[^\x00-\x1f+#]{1,1000}", topic):
        raise ValueError(f"{show(topic)} is no topic, id {key}: {GOOD_PREDEFINED}")
    return int(key), topic
