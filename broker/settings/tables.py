"""All that can be set: one field with its default and, beside its type, the rule it keeps."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, get_type_hints

from broker.settings.gateway_tables import (
    DeviceSettings,
    GatewaySettings,
    MqttSnSettings,
    SerialSettings,
)
from broker.settings.queue_rules import schema_name
from broker.settings.queue_tables import (
    HttpSettings,
    QueueSettings,
    QueuesSettings,
    RouteSettings,
    TokenSettings,
)
from broker.settings.rules import (
    DAY,
    GIB,
    HOUR,
    KIB,
    MANY,
    MIB,
    NEVER,
    Choice,
    Count,
    DatabaseUrl,
    FileMode,
    FilePath,
    Filter,
    Flag,
    FolderPath,
    Interval,
    Rule,
    Text,
    Url,
    duration,
    expiry,
    size,
    size_or_none,
)
from broker.settings.urls import parse_url, redacted

ANONYMOUS = ("loopback", "always", "never")
ANONYMOUS_FLAGS: Mapping[object, str] = {True: "always", False: "never"}
LEVELS = ("strict", "commit", "relaxed", "memory")
POLICIES = ("reject", "drop_oldest", "drop_newest", "last_value")
STORE_FILE = "heliograph.db"  # in broker.data_dir


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
    # of PostgreSQL, for what is this broker's own; "": the default
    schema: Annotated[str, schema_name()] = ""
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
    queues: QueuesSettings = field(default_factory=QueuesSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    defined_queues: tuple[QueueSettings, ...] = ()
    routes: tuple[RouteSettings, ...] = ()
    mqttsn: MqttSnSettings = field(default_factory=MqttSnSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    serial: tuple[SerialSettings, ...] = ()

    @property
    def has_gateway(self) -> bool:
        """Whether devices may come by a wire or with MQTT-SN."""
        return bool(self.serial or self.mqttsn.listen)

    @property
    def has_store(self) -> bool:
        """Whether any level asks for one."""
        levels = {self.store.level, *(each.level for each in self.durability)}
        return levels != {"memory"}


SECTIONS: Mapping[str, type] = {
    "broker": BrokerSettings,
    "store": StoreSettings,
    "queues": QueuesSettings,
    "http": HttpSettings,
    "mqttsn": MqttSnSettings,
    "gateway": GatewaySettings,
    "limits": Limits,
    "auth": AuthSettings,
    "log": LogSettings,
}
LISTENER, DURABILITY = "listener", "durability"
QUEUE, ROUTE, TOKEN = "queue", "route", "http.token"
SERIAL, DEVICE = "serial", "mqttsn.device"
LISTS: Mapping[str, type] = {  # [[listener]] and the like, any number of them
    LISTENER: ListenerSettings,
    DURABILITY: DurabilitySettings,
    QUEUE: QueueSettings,
    ROUTE: RouteSettings,
    TOKEN: TokenSettings,
    SERIAL: SerialSettings,
    DEVICE: DeviceSettings,
}
NEEDED: Mapping[str, Mapping[str, str]] = {  # what an entry of a list must have -> an example
    LISTENER: {"url": "tcp://0.0.0.0:1883"},
    DURABILITY: {"filter": "sensors/#", "level": "relaxed"},
    QUEUE: {"name": "work"},
    ROUTE: {},
    TOKEN: {"name": "backend", "sha256": "what this prints: printf %s TOKEN | sha256sum"},
    SERIAL: {"port": "auto"},
    DEVICE: {},
}


METADATA = "__metadata__"  # what a field has that can be set


def rules_of(section: type) -> dict[str, Rule]:
    """Each key of a section with the rule its values keep."""
    hints = get_type_hints(section, include_extras=True)
    annotated = (entry.name for entry in fields(section) if hasattr(hints[entry.name], METADATA))
    return {name: hints[name].__metadata__[0] for name in annotated}


RULES: Mapping[str, Mapping[str, Rule]] = {
    name: rules_of(section) for name, section in {**SECTIONS, **LISTS}.items()
}
