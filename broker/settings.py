"""The settings: typed, from a TOML file, the environment and the command line, in this order.

A leaf: it imports nothing of ours. A setting is one field with its default; the rule beside its
type says which values are good, reads friendly spellings ("1 MiB", "7 days") and words the
complaint. `load` finds every problem before it raises, and each problem says where, which key, what
is wrong and what would be right. Sizes are in bytes, durations in seconds.
"""

import re
import socket
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol, get_type_hints
from urllib.parse import unquote, urlsplit

ENVIRONMENT_PREFIX = "HELIOGRAPH_"
COMMAND_LINE = "command line"
NEVER = 0xFFFF_FFFF  # a session expiry of this many seconds means: never [MQTT 5, 3.1.2.11.2]

KIB, MIB, GIB = 1024, 1024**2, 1024**3
SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "kib": KIB,
    "mb": 1000**2,
    "mib": MIB,
    "gb": 1000**3,
    "gib": GIB,
}
MINUTE, HOUR, DAY = 60, 3600, 86_400
DURATION_UNITS = {
    **dict.fromkeys(("", "s", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("h", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), DAY),
    **dict.fromkeys(("w", "week", "weeks"), 7 * DAY),
}
INTERVAL_UNITS = {**DURATION_UNITS, "ms": 0.001}
FLAG_WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}

# scheme -> the port a URL without one means; a Unix socket has none
DEFAULT_PORTS = {"tcp": 1883, "tls": 8883, "ws": 8080, "wss": 8443, "unix": 0}
TLS_SCHEMES = frozenset({"tls", "wss"})
DATABASE_SCHEMES = ("postgresql", "postgresql+psycopg")
SCHEMES_BY_OTHER_NAMES = {
    "mqtt": "tcp",
    "mqtts": "tls",
    "ssl": "tls",
    "http": "ws",
    "https": "wss",
}


# ---- the rules: which values are good ----


class Rule(Protocol):
    """What a setting may hold. Raises ValueError with "what is wrong: what would be right"."""

    def read(self, value: object) -> object:
        """The setting's value from what TOML gave."""

    def read_text(self, text: str) -> object:
        """The setting's value from an environment variable."""


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    def read(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueError(f"{show(value)} is not true or false: write true or false, without quotes")

    def read_text(self, text: str) -> bool:
        if text.lower() in FLAG_WORDS:
            return FLAG_WORDS[text.lower()]
        raise ValueError(f"{show(text)} is not true or false: write true or false")


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def read(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{show(value)} is not a whole number: {self._good()}")
        return self.checked(value)

    def read_text(self, text: str) -> int:
        try:
            return self.checked(int(text))
        except ValueError as error:
            raise ValueError(f"{show(text)} is not good here: {self._good()}") from error

    def checked(self, value: int) -> int:
        if self.low <= value <= self.high:
            return value
        raise ValueError(f"{value} is out of range: {self._good()}")

    def _good(self) -> str:
        return f"write a whole number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A whole number with an optional unit, kept in the base unit (bytes or seconds)."""

    what: str
    units: Mapping[str, int]
    examples: str
    low: int
    high: int
    words: Mapping[str, int] = field(default_factory=dict)
    also: tuple[int, ...] = ()  # good although out of the range

    def read(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(f"{show(value)} is not a {self.what}: write {self.examples}")
        amount = self._amount(value) if isinstance(value, str) else value
        if self.low <= amount <= self.high or amount in self.also:
            return amount
        raise ValueError(
            f"{show(value)} is out of range: write {self.examples}, from {self.low} to {self.high}"
        )

    def read_text(self, text: str) -> int:
        return self.read(text)

    def _amount(self, text: str) -> int:
        word = text.strip().lower()
        if word in self.words:
            return self.words[word]
        parts = re.fullmatch(r"(\d{1,18})\s*([a-z]*)", word, re.ASCII)
        if parts is None or parts[2] not in self.units:
            raise ValueError(f"{show(text)} is not a {self.what}: write {self.examples}")
        return int(parts[1]) * self.units[parts[2]]


def size(low: int, high: int) -> Quantity:
    """A number of bytes."""
    return Quantity("size", SIZE_UNITS, 'bytes or a size such as "64 KiB" or "1 MiB"', low, high)


def size_or_none(low: int, high: int) -> Quantity:
    """A number of bytes; 0 means that there is no limit."""
    examples = '0 for no limit, or a size such as "512 MiB" or "2 GiB"'
    return Quantity("size", SIZE_UNITS, examples, low, high, also=(0,))


def duration(low: int, high: int) -> Quantity:
    """A number of seconds."""
    examples = 'seconds or a duration such as "30 s", "15 min" or "7 days"'
    return Quantity("duration", DURATION_UNITS, examples, low, high)


def expiry() -> Quantity:
    """A number of seconds, or "never"."""
    examples = 'seconds, a duration such as "7 days", or "never"'
    return Quantity("duration", DURATION_UNITS, examples, 0, NEVER, {"never": NEVER})


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds and parts of them, with an optional unit."""

    low: float
    high: float

    def read(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"{show(value)} is not a duration: {self._good()}")
        amount = self._amount(value) if isinstance(value, str) else float(value)
        if self.low <= amount <= self.high:
            return amount
        raise ValueError(f"{show(value)} is out of range: {self._good()}")

    def read_text(self, text: str) -> float:
        return self.read(text)

    def _amount(self, text: str) -> float:
        parts = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]*)", text.strip().lower(), re.ASCII)
        if parts is None or parts[2] not in INTERVAL_UNITS:
            raise ValueError(f"{show(text)} is not a duration: {self._good()}")
        return float(parts[1]) * INTERVAL_UNITS[parts[2]]

    def _good(self) -> str:
        return f'write seconds from {self.low:g} to {self.high:g}, such as 0.5 or "500 ms"'


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of a few. `also` maps other spellings, true and false among them."""

    words: tuple[str, ...]
    also: Mapping[object, str] = field(default_factory=dict)

    def read(self, value: object) -> str:
        if isinstance(value, str) and value in self.words:
            return value
        if isinstance(value, str | bool) and value in self.also:
            return self.also[value]
        raise ValueError(f"{show(value)} is not known here: write {self._good(value)}")

    def read_text(self, text: str) -> str:
        return self.read(FLAG_WORDS.get(text.lower(), text) if self.also else text)

    def _good(self, value: object) -> str:
        near = get_close_matches(str(value), self.words, 1)
        return " or ".join(f'"{word}"' for word in near or self.words if word)


@dataclass(frozen=True, slots=True)
class Text:
    """Any text without control characters, fit for an MQTT string."""

    longest: int = 65_535

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{show(value)} is not a text: write it in quotes")
        if not value.isprintable() or len(value.encode()) > self.longest:
            raise ValueError(
                f"{show(value)} cannot be sent to a client: write printable characters, "
                f"at most {self.longest} bytes"
            )
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class FilePath:
    """A path; empty means none. `load` makes it relative to the file it was written in."""

    def read(self, value: object) -> Path | None:
        if not isinstance(value, str | Path) or "\0" in str(value):
            raise ValueError(f"{show(value)} is not a path: write it in quotes")
        return Path(value).expanduser() if str(value) else None

    def read_text(self, text: str) -> Path | None:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class FolderPath:
    """A path that cannot be empty."""

    def read(self, value: object) -> Path:
        path = FilePath().read(value)
        if path is None:
            raise ValueError('"" is not a folder: write where it is, such as "data"')
        return path

    def read_text(self, text: str) -> Path:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class Url:
    """Where to listen."""

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f'{show(value)} is not a URL: write one such as "tcp://0.0.0.0:1883"')
        parse_url(value)
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class FileMode:
    """A file's permission bits, written as octal digits."""

    def read(self, value: object) -> str:
        if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
            return value
        raise ValueError(f'{show(value)} is not a file mode: write octal digits such as "0660"')

    def read_text(self, text: str) -> str:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class Filter:
    """An MQTT topic filter that is matched against topics: no shared subscription."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value or "\0" in value or len(value.encode()) > 65_535:
            raise ValueError(f'{show(value)} is not a topic filter: write one such as "sensors/#"')
        if value.startswith("$share/"):
            raise ValueError(
                f"{show(value)} is a shared subscription: write the filter behind the group's name"
            )
        self._check_wildcards(value)
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)

    def _check_wildcards(self, text: str) -> None:
        *levels, last = text.split("/")
        if any("#" in level for level in levels) or ("#" in last and last != "#"):
            raise ValueError(f'{show(text)}: "#" is a whole level, the last: write "sensors/#"')
        if any("+" in level and level != "+" for level in (*levels, last)):
            raise ValueError(f'{show(text)}: "+" is a whole level: write "sensors/+/state"')


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Where the PostgreSQL database is; empty means SQLite.

    No complaint repeats what was written: a password may be anywhere in a URL with a mistake.
    """

    def read(self, value: object) -> str:
        if value == "":
            return ""
        if not isinstance(value, str) or not value.isprintable() or "://" not in value:
            raise ValueError(f"this is not a URL: {GOOD_DATABASE_URL}")
        scheme = value.partition("://")[0]
        if scheme not in DATABASE_SCHEMES:
            shown = show(scheme) if re.fullmatch(r"[\w+]{1,30}", scheme) else "this"
            raise ValueError(f"{shown} is no database of ours: {GOOD_DATABASE_URL}")
        _check_database_url(value)
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)


GOOD_DATABASE_URL = (
    'write "postgresql://user@host/database" or "postgresql+psycopg://user@host/database", '
    'or "" for SQLite'
)


def _check_database_url(url: str) -> None:
    """Refuse what could be read in two ways, and so might show a part of a password as a host."""
    try:
        parts = urlsplit(url)
        readable = parts.port != 0 and not parts.netloc.endswith(":") and "#" not in url
    except ValueError:  # it may quote a password: it is not told, and not chained
        readable = False
    if not readable or "@" in parts.netloc.partition("@")[2] + parts.path + parts.query:
        raise ValueError(
            "this URL cannot be read: write a port as a number, and /, @, :, ?, # and % in a name "
            f"or password as %2F, %40, %3A, %3F, %23 and %25; {GOOD_DATABASE_URL}"
        )
    if not re.fullmatch(r"/[^/]+", parts.path):
        raise ValueError(f"the URL names no database: {GOOD_DATABASE_URL}")


def redacted(url: str) -> str:
    """A URL as it may be shown: `***` for its password, whether or not the URL is a good one."""
    start, mark, rest = url.rpartition("://") if url.count("://") == 1 else ("", "", url)
    rest = re.sub(r":.*@", ":***@", rest, flags=re.DOTALL)
    return start + mark + re.sub(r"([?&][^=&]*=)([^&]*)", _without_secret, rest)


def _without_secret(pair: re.Match[str]) -> str:
    return f"{pair[1]}***" if "pass" in unquote(pair[1]).lower() else pair[0]


class Address(NamedTuple):
    """A listener's URL in its parts. `path` is a URL's path, or a Unix socket's file."""

    scheme: str
    host: str
    port: int
    path: str


def parse_url(url: str) -> Address:
    """The parts of a listener's URL, such as "tcp://[::]:1883".

    Raises ValueError that says what would be right.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in DEFAULT_PORTS:
        raise ValueError(_unknown_scheme(url, scheme, rest))
    if scheme == "unix":
        if not rest:
            raise ValueError(f'"{url}" names no file: write "unix:///run/heliograph.sock"')
        return Address(scheme, "", 0, rest)
    try:
        parts = urlsplit(url)
        port = DEFAULT_PORTS[scheme] if parts.port is None else parts.port
    except ValueError as error:
        raise ValueError(f'"{url}" is not a URL ({error}): {_good_url(scheme)}') from error
    if parts.hostname is None or parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f'"{url}" is not a place to listen: {_good_url(scheme)}')
    if parts.path not in {"", "/"} and scheme not in {"ws", "wss"}:
        raise ValueError(f'"{url}" has a path, which only ws and wss have: {_good_url(scheme)}')
    return Address(scheme, parts.hostname, port, parts.path or "/")


def _unknown_scheme(url: str, scheme: str, rest: str) -> str:
    if scheme in SCHEMES_BY_OTHER_NAMES:
        return f'"{url}": here this is called "{SCHEMES_BY_OTHER_NAMES[scheme]}://{rest}"'
    return f'"{url}" is not a URL of tcp, tls, ws, wss or unix: {_good_url("tcp")}'


def _good_url(scheme: str) -> str:
    path = "/mqtt" if scheme in {"ws", "wss"} else ""
    return f'write "{scheme}://0.0.0.0:{DEFAULT_PORTS[scheme]}{path}"'


# ---- the settings ----

ANONYMOUS = ("loopback", "always", "never")
ANONYMOUS_FLAGS: Mapping[object, str] = {True: "always", False: "never"}
LEVELS = ("strict", "commit", "relaxed", "memory")
POLICIES = ("reject", "drop_oldest", "drop_newest", "last_value")
STORE_FILE = "heliograph.db"  # in broker.data_dir
MANY = 1_000_000_000  # no broker of this kind meets it; it only catches a slip of the finger


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """[broker]: what the broker offers and where it keeps things."""

    data_dir: Annotated[Path, FolderPath()] = Path("data")
    sys_interval: Annotated[int, duration(0, DAY)] = 10  # seconds between $SYS rounds; 0: no $SYS
    shared_strategy: Annotated[
        str,
        Choice(("round_robin", "random", "sticky", "hash_topic", "hash_client", "least_inflight")),
    ] = "round_robin"
    server_keep_alive_max: Annotated[int, duration(0, 65_535)] = 0  # 0: the client's value stands
    response_information: Annotated[str, Text()] = ""  # "": none; "{client_id}" is filled in
    server_reference: Annotated[str, Text()] = ""  # "": none
    maximum_qos: Annotated[int, Count(0, 2)] = 2
    retain_available: Annotated[bool, Flag()] = True
    topic_aliases_out: Annotated[bool, Flag()] = True  # shorten topics for clients that allow it
    use_uvloop: Annotated[bool, Flag()] = True  # where it is installed


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """[store]: what survives the end of the process, and what an acknowledgement promises.

    `url` may hold a password: show `shown_url` instead.
    """

    # strict: acknowledged when committed and synced; commit: when committed, which survives the end
    # of the process but not a power cut; relaxed: at once, written every `relaxed_interval`;
    # memory: at once, never written
    level: Annotated[str, Choice(LEVELS)] = "strict"
    url: Annotated[str, DatabaseUrl()] = ""  # "": SQLite, STORE_FILE in broker.data_dir
    relaxed_interval: Annotated[float, Interval(0.01, HOUR)] = 1.0
    max_size: Annotated[int, size_or_none(MIB, 1024 * GIB)] = 0  # of the SQLite file
    retained_window: Annotated[int, Count(0, MANY)] = (
        20_000  # above it they are read when asked for
    )
    backlog_window: Annotated[int, Count(1, MANY)] = 256  # in memory for one connected session

    @property
    def shown_url(self) -> str:
        """`url` without its password; "" for SQLite."""
        return redacted(self.url)

    def __repr__(self) -> str:
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        shown = {**values, "url": self.shown_url}
        return f"StoreSettings({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


@dataclass(frozen=True, slots=True)
class DurabilitySettings:
    """One [[durability]]: the level of the topics that match; of several the first counts."""

    filter: Annotated[str, Filter()]
    level: Annotated[str, Choice(LEVELS)]


@dataclass(frozen=True, slots=True)
class Limits:
    """[limits]: what one client, and all together, may cost. Sizes in bytes, times in seconds."""

    max_connections: Annotated[int, Count(1, MANY)] = 10_000
    max_connections_per_address: Annotated[int, Count(0, MANY)] = 0  # 0: no limit
    connection_rate: Annotated[int, Count(0, MANY)] = 0  # per second and address; 0: no limit
    connect_timeout: Annotated[int, duration(1, HOUR)] = 10  # from the socket to a whole CONNECT
    max_packet_size: Annotated[int, size(128, 268_435_460)] = MIB
    receive_maximum: Annotated[int, Count(1, 65_535)] = 1024
    topic_alias_maximum: Annotated[int, Count(0, 65_535)] = 64
    max_inflight: Annotated[int, Count(1, 65_535)] = 100  # towards one client; v5 may ask for less
    max_topic_levels: Annotated[int, Count(1, 65_535)] = 128
    max_subscriptions_per_client: Annotated[int, Count(1, MANY)] = 1000
    max_total_subscriptions: Annotated[int, Count(1, MANY)] = 1_000_000
    max_sessions: Annotated[int, Count(1, MANY)] = 100_000
    max_session_expiry: Annotated[int, expiry()] = NEVER
    session_expiry_3_1_1: Annotated[int, expiry()] = 7 * DAY  # of clean session 0, which names none
    backlog_messages: Annotated[int, Count(0, MANY)] = 100_000  # waiting for one session
    backlog_bytes: Annotated[int, size(0, 1024 * GIB)] = 64 * MIB
    # what gives way when a backlog is full. reject: the publisher is told 0x97, where it can be
    # (MQTT 5, QoS 1 and 2), else as drop_newest; last_value: older ones of the same topic first
    backlog_policy: Annotated[str, Choice(POLICIES)] = "drop_newest"
    max_retained_messages: Annotated[int, Count(0, MANY)] = 1_000_000
    max_retained_bytes: Annotated[int, size(0, 1024 * GIB)] = 256 * MIB
    outbox_bytes: Annotated[int, size(KIB, 16 * GIB)] = MIB  # waiting for one slow reader
    slow_reader_timeout: Annotated[int, duration(1, DAY)] = 60  # then the slow reader is dropped


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """[auth]: who may connect."""

    allow_anonymous: Annotated[str, Choice(ANONYMOUS, ANONYMOUS_FLAGS)] = "loopback"
    password_file: Annotated[Path | None, FilePath()] = None  # made by `heliograph passwd`


@dataclass(frozen=True, slots=True)
class LogSettings:
    """[log]: what is told to the person who runs the broker."""

    level: Annotated[str, Choice(("debug", "info", "warning", "error"))] = "info"
    format: Annotated[str, Choice(("text", "json"))] = "text"


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One [[listener]]: a place where clients may knock."""

    url: Annotated[str, Url()] = "tcp://0.0.0.0:1883"
    certificate: Annotated[Path | None, FilePath()] = None  # PEM, the chain included
    key: Annotated[Path | None, FilePath()] = None  # PEM
    client_ca: Annotated[Path | None, FilePath()] = None  # PEM: who may sign clients' certificates
    require_client_certificate: Annotated[bool, Flag()] = False
    use_certificate_cn_as_username: Annotated[bool, Flag()] = False
    allow_anonymous: Annotated[str, Choice((*ANONYMOUS, ""), ANONYMOUS_FLAGS)] = ""  # "": as [auth]
    mode: Annotated[str, FileMode()] = "0660"  # a Unix socket's permissions

    @property
    def scheme(self) -> str:
        """tcp, tls, ws, wss or unix."""
        return parse_url(self.url).scheme

    @property
    def host(self) -> str:
        """The address to bind, without brackets; "" for a Unix socket."""
        return parse_url(self.url).host

    @property
    def port(self) -> int:
        """The port to bind; 0 lets the system choose."""
        return parse_url(self.url).port

    @property
    def path(self) -> str:
        """The URL's path of a WebSocket listener, or a Unix socket's file."""
        return parse_url(self.url).path


def default_listeners() -> tuple[ListenerSettings, ...]:
    """Port 1883 on every IPv4 address, and on every IPv6 address where this machine has any."""
    listeners = (ListenerSettings(),)
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return listeners
    return (*listeners, ListenerSettings("tcp://[::]:1883"))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set."""

    broker: BrokerSettings = field(default_factory=BrokerSettings)
    listeners: tuple[ListenerSettings, ...] = field(default_factory=default_listeners)
    limits: Limits = field(default_factory=Limits)
    auth: AuthSettings = field(default_factory=AuthSettings)
    log: LogSettings = field(default_factory=LogSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    durability: tuple[DurabilitySettings, ...] = ()

    @property
    def has_store(self) -> bool:
        """Whether any level asks for one."""
        levels = {self.store.level, *(each.level for each in self.durability)}
        return levels != {"memory"}


SECTIONS: Mapping[str, type] = {
    "broker": BrokerSettings,
    "store": StoreSettings,
    "limits": Limits,
    "auth": AuthSettings,
    "log": LogSettings,
}
LISTENER, DURABILITY = "listener", "durability"
LISTS: Mapping[str, type] = {  # [[listener]] and the like, any number of them
    LISTENER: ListenerSettings,
    DURABILITY: DurabilitySettings,
}
NEEDED: Mapping[str, Mapping[str, str]] = {  # what an entry of a list must have -> an example
    LISTENER: {"url": "tcp://0.0.0.0:1883"},
    DURABILITY: {"filter": "sensors/#", "level": "relaxed"},
}


def rules_of(section: type) -> dict[str, Rule]:
    """Each key of a section with the rule its values keep."""
    hints = get_type_hints(section, include_extras=True)
    return {entry.name: hints[entry.name].__metadata__[0] for entry in fields(section)}


RULES: Mapping[str, Mapping[str, Rule]] = {
    name: rules_of(section) for name, section in {**SECTIONS, **LISTS}.items()
}


# ---- problems ----


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong.

    `source` is a file, an environment variable or the command line; line 0 is unknown.
    """

    source: str
    key: str
    wrong: str
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return ": ".join(part for part in (place, self.key, self.wrong) if part)


class SettingsError(Exception):
    """The settings cannot be used; `problems` has every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def show(value: object) -> str:
    """A value as a person wrote it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    return "a table" if isinstance(value, dict) else str(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a complaint about an unknown word."""
    near = get_close_matches(word, list(known), 1, 0.6)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


# ---- loading ----


def load(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """The settings from a TOML file, then HELIOGRAPH_SECTION__KEY variables, then overrides.

    The later wins. `overrides` has dotted keys ("broker.data_dir"); its "listener" is a list of
    URLs that replaces the listeners, as the variable HELIOGRAPH_LISTENER__URL (URLs separated by
    spaces) does. Paths in a file are relative to that file, all others to the working directory.
    Raises SettingsError with every problem.
    """
    draft = Draft()
    if path is not None:
        draft.read_file(path)
    draft.read_environment(environ or {})
    draft.read_overrides(overrides or {})
    return draft.settings()


class Entry(NamedTuple):
    """One entry of a list while it is gathered. Line 0 is unknown."""

    source: str
    line: int
    values: dict[str, Any]


class Draft:
    """The settings while they are gathered: good values so far, and every problem met."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        self.lists: dict[str, list[Entry]] = {name: [] for name in LISTS}
        self.places: dict[str, Problem] = {}  # where each good value was written
        self.problems: list[Problem] = []

    def read_file(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
            document = tomllib.loads(text)
        except OSError as error:
            wrong = f"cannot be read: {error.strerror}"
            self.problems.append(Problem(str(path), "", wrong))
        except ValueError as error:  # not TOML, or not UTF-8
            self.problems.append(Problem(str(path), "", f"is not TOML: {error}"))
        else:
            TomlFile(self, path, text).read(document)

    def read_environment(self, environ: Mapping[str, str]) -> None:
        for name in sorted(environ):
            if name.startswith(ENVIRONMENT_PREFIX):
                self._read_variable(name, environ[name])

    def read_overrides(self, overrides: Mapping[str, object]) -> None:
        for dotted, value in overrides.items():
            if dotted == LISTENER and isinstance(value, list):
                self._replace_listeners(COMMAND_LINE, value)
                continue
            section, _, key = dotted.partition(".")
            self.set(section, key, value, Problem(COMMAND_LINE, dotted, ""))

    def set(self, section: str, key: str, value: object, place: Problem) -> None:
        """Keep one value, or the problem with it."""
        if section not in SECTIONS or key not in RULES[section]:
            self.complain(place, did_you_mean(f"{section}.{key}", dotted_keys()))
            return
        self.keep(self.values[section], key, RULES[section][key].read, value, place)

    def keep(
        self, values: dict[str, Any], key: str, read: Any, value: object, place: Problem
    ) -> None:
        try:
            values[key] = read(value)
            self.places[place.key or place.source] = place
        except ValueError as error:
            self.complain(place, str(error))

    def complain(self, place: Problem, wrong: str) -> None:
        self.problems.append(Problem(place.source, place.key, wrong, place.line))

    def settings(self) -> Settings:
        """The settings, or SettingsError with all problems, those between two settings included."""
        made = {name: section(**self.values[name]) for name, section in SECTIONS.items()}
        listeners = tuple(ListenerSettings(**entry.values) for entry in self._whole(LISTENER))
        durability = tuple(DurabilitySettings(**entry.values) for entry in self._whole(DURABILITY))
        self._check_listeners(listeners)
        self._check_password_file(made["auth"].password_file)
        if self.problems:
            raise SettingsError(self.problems)
        return Settings(listeners=listeners or default_listeners(), durability=durability, **made)

    def _whole(self, name: str) -> list[Entry]:
        """The entries of a list that have what they need; the others are complained about."""
        return [entry for entry in self.lists[name] if NEEDED[name].keys() <= entry.values.keys()]

    def _check_listeners(self, listeners: tuple[ListenerSettings, ...]) -> None:
        entries = self._whole(LISTENER)
        for entry, listener in zip(entries, listeners, strict=True):
            self.problems.extend(_listener_problems(listener, entry.source, entry.line))
        self.problems.extend(_twice(entries))

    def _check_password_file(self, path: Path | None) -> None:
        if path is None or path.is_file():
            return
        variable = f"{ENVIRONMENT_PREFIX}AUTH__PASSWORD_FILE"
        key = "auth.password_file"
        place = self.places.get(variable) or self.places.get(key) or Problem("settings", key, "")
        wrong = f"there is no file {path}: make it with `heliograph passwd {path} USER`"
        self.complain(place, wrong)

    def _read_variable(self, name: str, text: str) -> None:
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        place = Problem(name, "", "")
        if (section, key) == (LISTENER, "url"):
            self._replace_listeners(name, text.split())
        elif section in SECTIONS and key in RULES[section]:
            rule = RULES[section][key]
            self.keep(self.values[section], key, rule.read_text, text, place)
        elif key or get_close_matches(name, list(variables()), 1, 0.9):
            known = did_you_mean(name, variables())
            self.complain(place, f"there is no such setting: {known}")

    def _replace_listeners(self, source: str, urls: list[Any]) -> None:
        self.lists[LISTENER].clear()
        for url in urls:
            values: dict[str, Any] = {}
            self.keep(values, "url", Url().read, url, Problem(source, "", ""))
            self.lists[LISTENER].append(Entry(source, 0, values))


def dotted_keys() -> Iterator[str]:
    """Every key outside the lists, as "section.key"."""
    return (f"{section}.{key}" for section in SECTIONS for key in RULES[section])


def variables() -> Iterator[str]:
    """Every environment variable that means something."""
    for dotted in dotted_keys():
        yield ENVIRONMENT_PREFIX + dotted.replace(".", "__").upper()
    yield f"{ENVIRONMENT_PREFIX}LISTENER__URL"


class TomlFile:
    """One settings file on its way into a draft: knows its lines, and where its paths start."""

    def __init__(self, draft: Draft, path: Path, text: str) -> None:
        self.draft = draft
        self.source = str(path)
        self.folder = path.parent
        self.lines = _lines_of_keys(text)

    def read(self, document: dict[str, Any]) -> None:
        for name, table in document.items():
            if name in LISTS:
                self._read_list(name, table)
            elif name in SECTIONS:
                self._read_section(name, table)
            else:
                known = did_you_mean(name, [*SECTIONS, *LISTS])
                self._complain(name, f"there is no such section: {known}")

    def _read_section(self, name: str, table: object) -> None:
        if isinstance(table, dict):
            self._read_table(name, table, self.draft.values[name], name)
        else:
            self._complain(name, f"is a section: write [{name}] on a line of its own")

    def _read_list(self, name: str, tables: object) -> None:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._complain(name, f"is a list: write [[{name}]], with two brackets")
            return
        for number, table in enumerate(tables, 1):
            self._read_entry(name, table, f"{name}[{number}]")

    def _read_entry(self, name: str, table: dict[str, object], place: str) -> None:
        for key, example in NEEDED[name].items():
            if key not in table:
                self._complain(place, f'has no {key}: add {key} = "{example}"')
        values: dict[str, Any] = {}
        self._read_table(name, table, values, place)
        self.draft.lists[name].append(Entry(self.source, self._line(place), values))

    def _read_table(
        self, section: str, table: dict[str, object], values: dict[str, Any], place: str
    ) -> None:
        for key, value in table.items():
            rule = RULES[section].get(key)
            if rule is None:
                known = did_you_mean(key, RULES[section])
                self._complain(f"{place}.{key}", f"there is no such key: {known}")
                continue
            where = Problem(self.source, f"{place}.{key}", "", self._line(f"{place}.{key}"))
            self.draft.keep(values, key, rule.read, value, where)
            if isinstance(values.get(key), Path):
                values[key] = self.folder / values[key]

    def _complain(self, key: str, wrong: str) -> None:
        self.draft.problems.append(Problem(self.source, key, wrong, self._line(key)))

    def _line(self, dotted: str) -> int:
        return self.lines.get(dotted, 0)


def _lines_of_keys(text: str) -> dict[str, int]:
    """The line of each section and plainly written key, such as "listener[2].url"."""
    lines: dict[str, int] = {}
    section, entries = "", Counter[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line):
            section = header[1]
            if section in LISTS:
                entries[section] += 1
                section = f"{section}[{entries[section]}]"
            lines.setdefault(section, number)
        elif key := re.match(r"\s*([\w.-]+)\s*=", line):
            lines.setdefault(f"{section}.{key[1]}".lstrip("."), number)
    return lines


# ---- what no single value can tell ----

TLS_ONLY = ("certificate", "key", "client_ca")


def _listener_problems(listener: ListenerSettings, source: str, line: int) -> Iterator[Problem]:
    check = _tls_problems if listener.scheme in TLS_SCHEMES else _plain_problems
    for wrong in check(listener):
        yield Problem(source, f'listener "{listener.url}"', wrong, line)


def _tls_problems(listener: ListenerSettings) -> Iterator[str]:
    for key in ("certificate", "key"):
        if getattr(listener, key) is None:
            yield f'has no {key}: add {key} = "FILE" (PEM)'
    for key in TLS_ONLY:
        path = getattr(listener, key)
        if path is not None and not path.is_file():
            yield f"{key}: there is no file {path}"
    for key in ("require_client_certificate", "use_certificate_cn_as_username"):
        if getattr(listener, key) and listener.client_ca is None:
            yield f'{key} needs client_ca = "FILE": the certificates that may sign those of clients'


def _plain_problems(listener: ListenerSettings) -> Iterator[str]:
    secure = {"tcp": "tls", "ws": "wss"}.get(listener.scheme, "tls")
    for key in (*TLS_ONLY, "require_client_certificate", "use_certificate_cn_as_username"):
        if getattr(listener, key):
            yield f'{key} is for TLS only: write "{secure}://" in the url, or leave {key} out'


def _twice(listeners: list[Entry]) -> Iterator[Problem]:
    seen: set[tuple[str, int]] = set()
    for source, line, values in listeners:
        address = parse_url(values["url"])
        place = (address.host or address.path, address.port)
        if place in seen and (address.port or not address.host):  # port 0 is a new one each time
            wrong = "is there twice: leave one out, or choose another port"
            yield Problem(source, f'listener "{values["url"]}"', wrong, line)
        seen.add(place)
