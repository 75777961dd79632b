"""Builds every part from the settings, starts and stops them: the only place that knows all."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import resource
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from broker import __version__
from broker.admin.event_log import EventLog
from broker.admin.sys_topics import SysTopics
from broker.auth.anonymous import AnonymousPolicy
from broker.engine.durability import Level, Levels
from broker.engine.engine import Engine
from broker.engine.policy import Policy
from broker.engine.ports import Durability
from broker.extensions import DoorError, RuleProblems, open_gateway, open_http, rules_of
from broker.queues.policy import QueuePolicy
from broker.settings import STORE_FILE
from broker.storage.process import StoreError, StoreProcess
from broker.transport.hub import SPARE_LINKS, Hub
from broker.transport.listeners import Listener, ListenerError, open_listener

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from broker.engine.ports import Authenticator
    from broker.extensions import Door
    from broker.settings import Settings
    from broker.storage.child import Spawned

GOODBYE = 2.0  # seconds that clients get to read why the broker stops
SPARE_FILES = 64 + SPARE_LINKS  # descriptors for listeners, logs, and clients to be told no
PASSWORD_WORKERS = 2
# Cyclic garbage is rare here: the collector need not look often, and never at what start-up made.
GARBAGE_THRESHOLDS = (50_000, 20, 50)

log = logging.getLogger("heliograph")


def run(settings: Settings, spawned: Spawned | None = None) -> int:
    """Run the broker until SIGTERM or SIGINT; return the exit code. `spawned`: a store process that
    waits for its first frame.
    """
    set_up_logging(settings)
    try:
        return _run_loop(settings, serve(settings, spawned))
    except (ListenerError, StoreError, RuleProblems, DoorError) as error:
        log.error("%s", error)  # noqa: TRY400  the sentence says it all
        return 1
    except KeyboardInterrupt:
        return 130


async def serve(settings: Settings, spawned: Spawned | None = None) -> int:
    """Open everything, wait for a signal, close everything."""
    server = Server(settings, asyncio.get_running_loop(), spawned)
    try:
        await server.start()
        await server.stopping.wait()
    finally:
        await server.stop()
    return 0


class Server:
    """A running broker: engine, listeners, and what ticks."""

    def __init__(
        self,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        spawned: Spawned | None = None,
    ) -> None:
        self.settings = settings
        self.loop = loop
        self.stopping = asyncio.Event()
        self._executor: ThreadPoolExecutor | None = None
        self.store = self._store(spawned)
        self.engine = Engine(
            policy_of(settings),
            self._authenticator(),
            SystemRandom(),
            EventLog(log, loop.time),
            durability=self._durability(),
            rules=rules_of(settings),
        )
        self.hub = Hub(self.engine, loop)
        self.listeners: list[Listener] = []
        self._doors: list[Door] = []
        self._sys_topics = SysTopics(self.engine, __version__, loop.time())
        self._sys_timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen; raises ListenerError."""
        raise_file_limit(self.engine.policy.max_connections)
        if self.store is not None:
            await self._open_store(self.store)
        for number in (signal.SIGTERM, signal.SIGINT):  # before the first client is there
            self.loop.add_signal_handler(number, self.stopping.set)
        for each in self.settings.listeners:
            anonymous = each.allow_anonymous or self.settings.auth.allow_anonymous
            self.listeners.append(await open_listener(self.hub, each, anonymous))
        self._opened(await open_http(self.engine, self.settings, self.loop))
        self._opened(await open_gateway(self.hub, self.settings, self.loop))
        self._publish_sys_topics()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        self._greet()

    async def stop(self) -> None:
        """Accept nobody, say goodbye to everybody, and give them a moment to hear it."""
        log.info("stopping: %d clients are told", len(self.engine.admission))
        for listener in self.listeners:
            listener.close()
        for door in self._doors:
            await _closed(door)
        if self._sys_timer is not None:
            self._sys_timer.cancel()
        self.engine.shut_down()
        self.hub.hang_up()
        deadline = self.loop.time() + GOODBYE
        while self.hub.links and self.loop.time() < deadline:  # noqa: ASYNC110  the last thing done
            await asyncio.sleep(0.01)
        if self.store is not None:
            await self.store.stop()
        self.hub.stop()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        log.info("stopped")

    def _opened(self, door: Door | None) -> None:
        if door is not None:
            self._doors.append(door)

    # -- parts ----------------------------------------------------------------------------------

    def _authenticator(self) -> Authenticator:
        path = self.settings.auth.password_file
        if path is None:
            return AnonymousPolicy()
        from broker.auth.passwords import PasswordFile  # noqa: PLC0415  only where it is used

        self._executor = ThreadPoolExecutor(PASSWORD_WORKERS, "passwords")
        return PasswordFile(path, self.loop, self._executor, PASSWORD_WORKERS)

    def _store(self, spawned: Spawned | None) -> StoreProcess | None:
        settings = self.settings
        if not settings.has_store:
            return None
        config = {
            "url": settings.store.url,
            "path": str(settings.broker.data_dir / STORE_FILE),
            "max_size": settings.store.max_size,
            "retained_window": settings.store.retained_window,
            "schema": settings.store.schema,
            "queues": [
                (each.name, QueuePolicy(**each.policy()).to_json(), "[]")
                for each in settings.defined_queues
            ],
        }
        return StoreProcess(self.loop, config, spawned=spawned)

    def _durability(self) -> Durability | None:
        if self.store is None:
            return None
        interval = self.settings.store.relaxed_interval
        return Durability(self.store, levels_of(self.settings), time.time, interval)

    async def _open_store(self, store: StoreProcess) -> None:
        """Read what an earlier run has kept; raises StoreError."""
        journal = self.engine.journal
        assert journal is not None
        make_folder(self.settings.broker.data_dir)
        store.on_committed = self._on_committed
        store.on_trouble = self._on_trouble
        store.on_well = self._on_well
        store.on_alarm = self._on_alarm
        store.on_wake = self._on_wake
        store.on_log = lambda line: log.warning("store process: %s", line)
        opened = await store.start()
        for text in opened["alarms"]:
            self._on_alarm(text)
        self.engine.restore(opened, self.loop.time())
        log.info(
            "store: %s, level %s, %d sessions, %d retained messages",
            self.settings.store.shown_url or self.settings.broker.data_dir / STORE_FILE,
            self.settings.store.level,
            len(self.engine.sessions),
            len(self.engine.retention),
        )

    def _on_committed(
        self, position: int, seconds: float, rows: int, results: Any = (), counts: Any = ()
    ) -> None:
        assert self.engine.journal is not None
        self.engine.clock.now = self.loop.time()
        self.engine.journal.on_committed(position, seconds, rows, results, counts)

    def _on_wake(self, names: list[str]) -> None:
        """Another user of the database has done something to these queues."""
        assert self.engine.queueing is not None
        self.engine.clock.now = self.loop.time()
        self.engine.queueing.wake(names)

    def _on_trouble(self, kind: str, text: str) -> None:
        assert self.engine.journal is not None
        log.error("store: %s: what must be stored is refused or waits until it can be", text)
        self.engine.journal.on_trouble(kind, text)

    def _on_well(self) -> None:
        assert self.engine.journal is not None
        log.warning("store: it can be written again")
        self.engine.journal.on_well()

    def _on_alarm(self, text: str) -> None:
        assert self.engine.journal is not None
        log.error("store: %s", text)
        self.engine.journal.figures.alarms.append(text)

    def _publish_sys_topics(self) -> None:
        interval = self.settings.broker.sys_interval
        if interval:
            now = self.loop.time()
            self.engine.clock.now = now
            self._sys_topics.publish(now)
            self._sys_timer = self.loop.call_later(interval, self._publish_sys_topics)

    def _greet(self) -> None:
        log.info("Heliograph %s, MQTT 3.1.1 and 5", __version__)
        for listener in self.listeners:
            log.info("listening on %s", listener.url)
        log.info("%s", _who_may_come(self.settings))
        port = next((each.url.rpartition(":")[2] for each in self.listeners), "1883")
        if self.listeners and self.listeners[0].settings.scheme == "tcp":
            log.info(
                "try it: heliograph sub -p %s -t 'demo/#' -v    and, elsewhere:    "
                "heliograph pub -p %s -t demo/hello -m world",
                port,
                port,
            )


async def _closed(door: Door) -> None:
    """Whatever goes wrong with it, the store is to be closed behind it."""
    try:
        await door.close()
    except Exception:
        log.exception("a fault while stopping")


def policy_of(settings: Settings) -> Policy:
    """The engine's policy from the settings."""
    broker, limits = settings.broker, settings.limits
    return Policy(
        maximum_packet_size=limits.max_packet_size,
        receive_maximum=limits.receive_maximum,
        topic_alias_maximum=limits.topic_alias_maximum,
        topic_aliases_out=broker.topic_aliases_out,
        connect_timeout=limits.connect_timeout,
        maximum_keep_alive=broker.server_keep_alive_max,
        outbox_limit=limits.outbox_bytes,
        stall_timeout=limits.slow_reader_timeout,
        max_connections=limits.max_connections,
        max_connections_per_address=limits.max_connections_per_address,
        connections_per_second_per_address=limits.connection_rate,
        max_sessions=limits.max_sessions,
        max_inflight=limits.max_inflight,
        backlog_messages=limits.backlog_messages,
        backlog_size=limits.backlog_bytes,
        backlog_policy=limits.backlog_policy,
        backlog_window=settings.store.backlog_window,
        max_session_expiry=limits.max_session_expiry,
        session_expiry_3_1_1=limits.session_expiry_3_1_1,
        max_subscriptions_per_client=limits.max_subscriptions_per_client,
        max_subscriptions=limits.max_total_subscriptions,
        max_topic_levels=limits.max_topic_levels,
        max_retained_messages=limits.max_retained_messages,
        max_retained_size=limits.max_retained_bytes,
        retained_window=settings.store.retained_window,
        maximum_qos=broker.maximum_qos,
        retain_available=broker.retain_available,
        shared_strategy=broker.shared_strategy,
        max_queues=settings.queues.max_queues,
        configured_queues=frozenset(each.name for each in settings.defined_queues),
        broker_name=settings.store.schema,
        create_queues=settings.queues.create == "yes",
        response_information=broker.response_information,
        server_reference=broker.server_reference,
    )


def levels_of(settings: Settings) -> Levels:
    """What an acknowledgement promises, by topic."""
    by_filter = tuple((each.filter, Level[each.level.upper()]) for each in settings.durability)
    return Levels(Level[settings.store.level.upper()], by_filter)


def make_folder(path: Path) -> None:
    """Make the data folder; a store in a folder that cannot be made says so itself."""
    with contextlib.suppress(OSError):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)


def raise_file_limit(connections: int) -> None:
    """Ask for as many open files as the connections need; say so when the system gives fewer."""
    needed = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    granted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if granted < needed:
        log.warning(
            "the system allows %d open files, limits.max_connections wants %d: raise it with "
            "`ulimit -Hn` or LimitNOFILE=, or lower limits.max_connections",
            granted,
            needed,
        )


def set_up_logging(settings: Settings) -> None:
    """Log to standard error, as text or as one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(settings.log.level.upper())
    log.propagate = False


class JsonFormatter(logging.Formatter):
    """One line of JSON for a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, message and, where there is one, the traceback."""
        entry = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _who_may_come(settings: Settings) -> str:
    if settings.auth.password_file is not None:
        return f"users and passwords: {settings.auth.password_file}"
    return {
        "loopback": "clients of this machine may connect without a password, others may not yet",
        "always": "everybody may connect without a password",
        "never": "nobody may connect: set auth.password_file or auth.allow_anonymous",
    }[settings.auth.allow_anonymous]


def _run_loop(settings: Settings, main: Coroutine[None, None, int]) -> int:
    factory = _loop_factory(settings.broker.use_uvloop)
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def _loop_factory(use_uvloop: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if use_uvloop:
        with contextlib.suppress(ImportError):
            import uvloop  # noqa: PLC0415  absent on some machines

            return uvloop.new_event_loop
    return None
