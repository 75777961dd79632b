"""The options of `heliograph pub` and `sub`: mosquitto_pub's and mosquitto_sub's, as a table.

Not argparse: the familiar tools take any text as a value (`-m -5`, `-m --`), and `-D` takes two to
four words. What cannot be understood raises UsageError, whose text says what would be right.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote, urlsplit

from broker.cli.properties import PropertySets, properties_from
from broker.packets.codes import MQTT_3_1, MQTT_3_1_1, MQTT_5

NEVER = 0xFFFF_FFFF  # a session expiry interval of this value does not expire
DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
TLS_SCHEMES = frozenset({"mqtts", "wss"})

VERSIONS = {
    **dict.fromkeys(("mqttv31", "31", "3.1"), MQTT_3_1),
    **dict.fromkeys(("mqttv311", "311", "3.1.1"), MQTT_3_1_1),
    **dict.fromkeys(("mqttv5", "5", "5.0"), MQTT_5),
}


class UsageError(Exception):
    """The command line cannot be understood; the text says what would be right."""


@dataclass(slots=True)
class Options:
    """What was asked for. Durations in seconds; `version` 0 means: not said."""

    # where, and as whom
    scheme: str = "mqtt"
    host: str = "localhost"
    port: int = 0
    url_path: str = "/mqtt"
    unix: str = ""
    bind_address: str = ""
    client_id: str = ""
    client_id_prefix: str = ""
    username: str | None = None
    password: str | None = None
    version: int = 0
    keep_alive: int = 60
    keep_session: bool = False
    session_expiry_interval: int | None = None
    # TLS
    cafile: str | None = None
    capath: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False
    tls_use_os_certs: bool = False
    # will
    will_topic: str | None = None
    will_payload: bytes = b""
    will_qos: int = 0
    will_retain: bool = False
    # both
    topics: list[str] = field(default_factory=list)
    qos: int = 0
    properties: PropertySets = field(default_factory=dict)
    debug: bool = False
    quiet: bool = False
    help: bool = False
    # pub
    message: bytes | None = None
    file: str | None = None
    stdin_lines: bool = False
    stdin_whole: bool = False
    empty: bool = False
    retain: bool = False
    repeat: int = 1
    repeat_delay: float = 0.0
    max_inflight: int = 20
    # sub
    verbose: bool = False
    format: str | None = None
    count: int = 0
    timeout: int = 0
    no_newline: bool = False
    no_retained: bool = False
    retained_only: bool = False
    remove_retained: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    exit_after_subscribe: bool = False
    filter_out: list[str] = field(default_factory=list)
    unsubscribe: list[str] = field(default_factory=list)

    @property
    def uses_tls(self) -> bool:
        """Whether anything asks for TLS."""
        return self.scheme in TLS_SCHEMES or bool(
            self.cafile or self.capath or self.tls_use_os_certs
        )


def number(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers in a range."""

    def read(text: str) -> int:
        if text.removeprefix("-").isdecimal() and low <= int(text) <= high:
            return int(text)
        raise UsageError(f"must be a whole number from {low} to {high}")

    return read


def seconds(text: str) -> float:
    """A duration that may have a fraction."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 <= value <= NEVER:
        return value
    raise UsageError("must be a number of seconds, such as 0.5")


def session_expiry(text: str) -> int:
    """A session expiry interval: seconds, or -1 for never."""
    if text in {"-1", "∞", "never"}:
        return NEVER
    return number(0, NEVER)(text)


def protocol_version(text: str) -> int:
    """The protocol level of a version's name."""
    if text in VERSIONS:
        return VERSIONS[text]
    raise UsageError("must be mqttv31, mqttv311 or mqttv5")


def text_bytes(text: str) -> bytes:
    """A payload as it stands on the command line, whatever bytes that are."""
    return os.fsencode(text)


@dataclass(frozen=True, slots=True)
class Option:
    """One row: its names, the field it sets, how its value is read (None: a switch), its help."""

    names: tuple[str, ...]
    target: str
    read: Callable[[str], Any] | None
    help: str
    value: str = ""  # how help calls the value

    def __str__(self) -> str:
        return " ".join((", ".join(self.names), self.value)).rstrip()


QOS = number(0, 2)

CONNECTION_OPTIONS = (
    Option(("-h", "--host"), "host", str, "the broker's address (localhost)", "HOST"),
    Option(("-p", "--port"), "port", number(1, 65_535), "its port (1883, with TLS 8883)", "PORT"),
    Option(
        ("-L", "--url"), "url", str, "all in one: mqtt[s]|ws[s]://[USER[:PW]@]HOST[:PORT]", "URL"
    ),
    Option(("--unix",), "unix", str, "connect through this Unix socket", "FILE"),
    Option(("-A", "--bind"), "bind_address", str, "connect from this address of ours", "ADDRESS"),
    Option(("-u", "--username"), "username", str, "user name", "USER"),
    Option(("-P", "--pw"), "password", str, "password", "PASSWORD"),
    Option(("-i", "--id"), "client_id", str, "client id (the broker chooses one)", "ID"),
    Option(("-I", "--id-prefix"), "client_id_prefix", str, "client id: this and a number", "TEXT"),
    Option(
        ("-V", "--protocol-version"), "version", protocol_version, "31, 311 or 5 (311)", "VERSION"
    ),
    Option(("-k", "--keepalive"), "keep_alive", number(0, 65_535), "keep alive, seconds (60)", "N"),
    Option(("-c", "--disable-clean-session"), "keep_session", None, "keep the session (needs -i)"),
    Option(
        ("-x", "--session-expiry-interval"),
        "session_expiry_interval",
        session_expiry,
        "keep the session this many seconds after the end; -1: for ever (MQTT 5)",
        "SECONDS",
    ),
    Option(("-q", "--qos"), "qos", QOS, "quality of service: 0, 1 or 2 (0)", "QOS"),
    Option(
        ("-D", "--property"),
        "properties",
        str,
        "an MQTT 5 property: connect, publish, subscribe ... NAME VALUE",
        "PACKET NAME VALUE",
    ),
    Option(("--will-topic",), "will_topic", str, "the will's topic", "TOPIC"),
    Option(("--will-payload",), "will_payload", text_bytes, "its payload", "TEXT"),
    Option(("--will-qos",), "will_qos", QOS, "its quality of service", "QOS"),
    Option(("--will-retain",), "will_retain", None, "retain the will"),
    Option(("--cafile",), "cafile", str, "TLS: the certificates to trust (PEM)", "FILE"),
    Option(("--capath",), "capath", str, "TLS: a folder of certificates to trust", "DIR"),
    Option(("--cert",), "cert", str, "TLS: our certificate (PEM)", "FILE"),
    Option(("--key",), "key", str, "TLS: our private key (PEM)", "FILE"),
    Option(("--insecure",), "insecure", None, "TLS: do not check the broker's host name"),
    Option(("--tls-use-os-certs",), "tls_use_os_certs", None, "TLS: trust what the system trusts"),
    Option(("-d", "--debug"), "debug", None, "tell what is sent and received"),
    Option(("--quiet",), "quiet", None, "print no errors"),
    Option(("--nodelay",), "ignored", None, "accepted; always so"),
    Option(("--help",), "help", None, "this text"),
)

PUB_OPTIONS = (
    Option(("-t", "--topic"), "topics", str, "the topic to publish to", "TOPIC"),
    Option(("-m", "--message"), "message", text_bytes, "the message", "TEXT"),
    Option(("-f", "--file"), "file", str, "a file's content as the message", "FILE"),
    Option(("-l", "--stdin-line"), "stdin_lines", None, "each line of standard input as a message"),
    Option(("-s", "--stdin-file"), "stdin_whole", None, "standard input as one message"),
    Option(("-n", "--null-message"), "empty", None, "an empty message"),
    Option(("-r", "--retain"), "retain", None, "retain it"),
    Option(("--repeat",), "repeat", number(1, NEVER), "publish it this many times (1)", "N"),
    Option(("--repeat-delay",), "repeat_delay", seconds, "wait between them (0)", "SECONDS"),
    Option(
        ("-M",), "max_inflight", number(1, 65_535), "QoS 1 and 2: unacknowledged at once (20)", "N"
    ),
    *CONNECTION_OPTIONS,
)

SUB_OPTIONS = (
    Option(
        ("-t", "--topic"), "topics", str, "a topic filter; may be given several times", "FILTER"
    ),
    Option(("-v", "--verbose"), "verbose", None, "print the topic before the payload"),
    Option(("-F",), "format", str, "print like this, e.g. '%I %t %p' or %j for JSON", "FORMAT"),
    Option(("-N",), "no_newline", None, "no end of line after a message"),
    Option(("-C",), "count", number(1, NEVER), "end after this many messages", "N"),
    Option(("-W",), "timeout", number(1, NEVER), "end after this time (exit code 27)", "SECONDS"),
    Option(("-E",), "exit_after_subscribe", None, "end when the broker has acknowledged"),
    Option(("-R",), "no_retained", None, "leave out retained messages"),
    Option(("--retained-only",), "retained_only", None, "only retained ones, then end"),
    Option(("--remove-retained",), "remove_retained", None, "remove retained messages that come"),
    Option(("--retain-as-published",), "retain_as_published", None, "keep the flag (MQTT 5)"),
    Option(("--retain-handling",), "retain_handling", QOS, "0, 1 or 2 (MQTT 5)", "N"),
    Option(("-T", "--filter-out"), "filter_out", str, "leave out what this matches", "FILTER"),
    Option(("-U", "--unsubscribe"), "unsubscribe", str, "unsubscribe from this", "FILTER"),
    *CONNECTION_OPTIONS,
)

CONTRADICTIONS: tuple[tuple[Callable[[Options], bool], str], ...] = (
    (
        lambda given: given.keep_session and not (given.client_id or given.client_id_prefix),
        "-c needs a client id, or nobody can come back to the session: add -i ID",
    ),
    (
        lambda given: bool(given.client_id and given.client_id_prefix),
        "-i and -I exclude each other",
    ),
    (  # [MQTT-3.1.2-22] of 3.1.1; MQTT 5 allows it
        lambda given: given.password is not None and not given.username and given.version < MQTT_5,
        "-P needs a user name: add -u USER",
    ),
    (
        lambda given: bool(given.cert) != bool(given.key),
        "--cert and --key go together",
    ),
    (
        lambda given: given.will_topic is None and bool(given.will_payload or given.will_retain),
        "a will needs --will-topic",
    ),
)

LISTS = frozenset({"topics", "filter_out", "unsubscribe"})


def parse(table: Sequence[Option], arguments: Sequence[str]) -> Options:
    """Read the arguments by the table. Raises UsageError."""
    by_name = {name: option for option in table for name in option.names}
    options = Options()
    words = iter(arguments)
    for word in words:
        option = by_name.get(word)
        if option is None:
            raise UsageError(_unknown(word, by_name))
        _take(options, option, word, words)
    _complete(options)
    return options


def _unknown(word: str, by_name: dict[str, Option]) -> str:
    if not word.startswith("-"):
        return f'"{word}" belongs to no option (a topic is given with -t, a message with -m)'
    near = get_close_matches(word, by_name, 1)
    return f"unknown option {word}" + (f", did you mean {near[0]}?" if near else "")


def _take(options: Options, option: Option, name: str, words: Iterator[str]) -> None:
    """Apply one option, taking its value from the words that follow."""
    if option.read is None:
        _switch_on(options, option.target)
        return
    value = _next(words, name)
    if option.target == "properties":
        _take_property(options, value, name, words)
        return
    try:
        chosen = option.read(value)
    except UsageError as error:
        raise UsageError(f'{name} "{value}" {error}') from error
    if option.target == "url":
        _apply_url(options, chosen)
    elif option.target in LISTS:
        getattr(options, option.target).append(chosen)
    else:
        setattr(options, option.target, chosen)


def _switch_on(options: Options, target: str) -> None:
    if target != "ignored":
        setattr(options, target, True)


def _next(words: Iterator[str], name: str) -> str:
    for word in words:
        return word
    raise UsageError(f"{name} needs a value")


def _take_property(options: Options, packet: str, name: str, words: Iterator[str]) -> None:
    identifier = _next(words, name)
    values = [_next(words, name)]
    if identifier == "user-property":  # the only one with two values
        values.append(_next(words, name))
    try:
        properties_from(options.properties, packet, identifier, values)
    except ValueError as error:
        raise UsageError(f"{name} {packet} {identifier}: {error}") from error


def _apply_url(options: Options, url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f'-L "{url}": {error}') from error
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise UsageError(f'-L "{url}" must look like mqtt://[USER[:PASSWORD]@]HOST[:PORT][/TOPIC]')
    options.scheme, options.host = parts.scheme, parts.hostname
    options.port = port or DEFAULT_PORTS[parts.scheme]
    if parts.username is not None:
        options.username = unquote(parts.username)
    if parts.password is not None:
        options.password = unquote(parts.password)
    if parts.scheme in {"ws", "wss"}:  # here the path is the WebSocket's, the topic comes with -t
        options.url_path = parts.path or "/"
    elif topic := unquote(url.partition("://")[2].partition("/")[2]):
        options.topics.append(topic)


def _complete(options: Options) -> None:
    """Refuse what contradicts itself, and fill in what follows from other options."""
    if options.help:
        return
    _complete_version(options)
    for contradicts, what_to_do in CONTRADICTIONS:
        if contradicts(options):
            raise UsageError(what_to_do)
    if not options.port:
        options.port = DEFAULT_PORTS["mqtts" if options.uses_tls else "mqtt"]
    if options.client_id_prefix:
        options.client_id = f"{options.client_id_prefix}{os.getpid()}"


def _complete_version(options: Options) -> None:
    """MQTT 5 if an option needs it and no version is asked for; else 3.1.1."""
    wants_5 = (
        bool(options.properties)
        or options.session_expiry_interval is not None
        or options.retain_as_published
        or options.retain_handling != 0
    )
    if wants_5 and options.version in {MQTT_3_1, MQTT_3_1_1}:
        raise UsageError("-D, -x, --retain-as-published and --retain-handling need -V mqttv5")
    options.version = options.version or (MQTT_5 if wants_5 else MQTT_3_1_1)


def help_text(command: str, usage: str, table: Sequence[Option]) -> str:
    """What `--help` prints."""
    lines = [f"  {option!s:34} {option.help}" for option in table]
    return "\n".join((f"usage: heliograph {command} {usage}", "", *lines))
