"""[queues], [[queue]], [[route]], [http] and [[http.token]]: work queues and their doors."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from broker.settings.problems import Place
from broker.settings.queue_rules import (
    Condition,
    HostPort,
    Listen,
    Number,
    OrSource,
    Several,
    Source,
    Words,
    host_port,
    publish_topic,
    queue_name,
    queue_pattern,
    token_hash,
)
from broker.settings.rules import (
    DAY,
    GIB,
    KIB,
    MANY,
    MIB,
    Choice,
    Count,
    FilePath,
    Filter,
    Flag,
    Interval,
    Text,
    size,
)

YEAR = 365 * DAY
LONGEST_NAME = 128
VERBS = ("receive", "publish", "look", "manage")
YES_OR_NO: Mapping[object, str] = {True: "yes", False: "no"}
A_DAY = '"12 h" or "7 days"'


@dataclass(frozen=True, slots=True)
class QueuesSettings:
    """[queues]: what MQTT clients may do about queues."""

    create: Annotated[str, Choice(("no", "yes"), YES_OR_NO)] = "no"  # by $queue/<name>/<filter>
    max_queues: Annotated[int, Count(1, 1_000_000)] = 1000


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """One [[queue]]. All but the name is the queue's policy; durations in seconds, sizes in bytes.

    Defaults are those of broker/queues/policy.py, where 0 switches off the same things.
    """

    name: Annotated[str, queue_name()]
    lease: Annotated[float, Interval(0.1, DAY)] = 30.0
    max_failures: Annotated[int, Count(0, MANY)] = 5  # then it is a dead letter; 0: never
    max_acquisitions: Annotated[int, Count(0, MANY)] = 100  # then it is a dead letter; 0: never
    retry_first: Annotated[float, Interval(0.0, DAY)] = 1.0
    retry_longest: Annotated[float, Interval(0.0, 30 * DAY)] = 300.0
    retry_jitter: Annotated[float, Number(0.0, 1.0)] = 0.2
    order: Annotated[str, Choice(("fifo", "key", "single_active"))] = "fifo"
    prefetch: Annotated[int, Count(1, 65_535)] = 16
    max_messages: Annotated[int, Count(1, MANY)] = 100_000
    max_bytes: Annotated[int, size(KIB, 1024 * GIB)] = 256 * MIB
    on_full: Annotated[str, Choice(("reject", "drop_oldest", "dead_letter"))] = "reject"
    retention: Annotated[float, Interval(1.0, 100 * YEAR, A_DAY)] = 7.0 * DAY
    ttl: Annotated[float, Interval(0.0, 100 * YEAR, A_DAY)] = 0.0  # 0: only the retention holds
    on_expiry: Annotated[str, Choice(("drop", "dead_letter"))] = "drop"
    last_value: Annotated[bool, Flag()] = False
    dedup_window: Annotated[float, Interval(0.0, YEAR, '"10 min"')] = 0.0  # 0: off
    max_rate: Annotated[float, Number(0.0, float(MANY))] = 0.0  # messages a second; 0: any
    dead_letters: Annotated[bool, Flag()] = True
    dead_letter_queue: Annotated[str, queue_name(empty=True)] = ""  # "": `<name>.dlq`
    place: Place = field(default_factory=Place, compare=False, repr=False)

    def policy(self) -> dict[str, Any]:
        """The fields of the queue's policy."""
        others = {"name", "place"}
        return {
            each.name: getattr(self, each.name) for each in fields(self) if each.name not in others
        }


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """One [[route]]: which messages go into which queues, or out of a queue to where."""

    name: Annotated[str, Text(LONGEST_NAME)] = ""  # "": "route 3"
    topic: Annotated[tuple[str, ...], Several(Filter())] = ()  # where messages come from, or
    from_queue: Annotated[str, queue_name(empty=True)] = ""
    when: Annotated[str, Condition()] = ""
    queue: Annotated[tuple[str, ...], Several(queue_name())] = ()  # where they go
    queues: Annotated[tuple[str, ...], Several(queue_name())] = ()
    publish_to: Annotated[tuple[str, ...], Several(publish_topic())] = ()  # with from_queue only
    key: Annotated[str, Source()] = ""
    priority: Annotated[int | str, OrSource(Count(0, 9))] = ""  # "": 4, or as it is in from_queue
    delay: Annotated[float | str, OrSource(Interval(0.0, YEAR))] = 0.0
    ttl: Annotated[float | str, OrSource(Interval(0.0, 100 * YEAR))] = 0.0  # 0: as the queue says
    dedup_id: Annotated[str, Source()] = ""
    share: Annotated[int, Count(1, 100)] = 100  # per cent of the messages that match
    split: Annotated[str, Text(LONGEST_NAME)] = ""  # routes of one split share 100 per cent
    last: Annotated[bool, Flag()] = False  # later routes are not looked at
    place: Place = field(default_factory=Place, compare=False, repr=False)

    @property
    def targets(self) -> tuple[str, ...]:
        """The queues that it names."""
        return tuple(dict.fromkeys((*self.queue, *self.queues)))


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """One [[http.token]]: who may do what with which queues."""

    name: Annotated[str, Text(LONGEST_NAME)]
    sha256: Annotated[str, token_hash()] = field(repr=False)
    queues: Annotated[tuple[str, ...], Several(queue_pattern())] = ("*",)
    allow: Annotated[tuple[str, ...], Words(VERBS)] = VERBS
    place: Place = field(default_factory=Place, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """[http]: the door for backends."""

    listen: Annotated[str, Listen()] = ""  # "": off
    tls_cert: Annotated[Path | None, FilePath()] = None  # PEM, the chain included
    tls_key: Annotated[Path | None, FilePath()] = None  # PEM
    max_body: Annotated[int, size(KIB, 268_435_460)] = MIB  # at most limits.max_packet_size
    tokens: tuple[TokenSettings, ...] = ()

    @property
    def address(self) -> HostPort | None:
        """Where to listen; None: nowhere."""
        return host_port(self.listen) if self.listen else None
