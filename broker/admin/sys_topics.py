"""The `$SYS/broker/...` topics under Mosquitto's names: what the broker says about itself,
retained, every few seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.packets.publication import Publication

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.engine.engine import Engine

PREFIX = "$SYS/broker/"


class SysTopics:
    """Publishes what has changed since the last round; QoS 0 messages of the broker itself."""

    def __init__(self, engine: Engine, version: str, started: float) -> None:
        self._engine = engine
        self._version = version
        self._started = started
        self._said: dict[str, str] = {}
        self._most_clients = 0

    def publish(self, now: float) -> None:
        """Say everything that is new; take back what is no more."""
        said, self._said = self._said, {name: str(value) for name, value in self.figures(now)}
        for name, text in self._said.items():
            if said.pop(name, None) != text:
                self._tell(name, text.encode())
        for name in said:
            self._tell(name, b"")

    def _tell(self, name: str, payload: bytes) -> None:
        self._engine.publishing.publish(Publication(PREFIX + name, payload, retain=True))

    def figures(self, now: float) -> Iterator[tuple[str, object]]:
        """Every topic (without the prefix) with its value."""
        yield "version", f"heliograph version {self._version}"
        yield "uptime", f"{int(now - self._started)} seconds"
        yield from self._clients()
        yield from self._traffic()
        yield from self._holdings()
        yield from self._queues()
        yield from self._store()

    def _clients(self) -> Iterator[tuple[str, object]]:
        engine = self._engine
        connected = len(engine.admission)
        total = connected + sum(1 for each in engine.sessions if each.carrier is None)
        self._most_clients = max(self._most_clients, connected)
        yield "clients/connected", connected
        yield "clients/active", connected
        yield "clients/disconnected", total - connected
        yield "clients/inactive", total - connected
        yield "clients/total", total
        yield "clients/maximum", self._most_clients
        yield "clients/expired", engine.sessions.expired

    def _traffic(self) -> Iterator[tuple[str, object]]:
        traffic = self._engine.traffic
        yield "messages/received", traffic.messages_received
        yield "messages/sent", traffic.messages_sent
        yield "bytes/received", traffic.bytes_received
        yield "bytes/sent", traffic.bytes_sent
        yield "publish/messages/received", traffic.publish_received
        yield "publish/messages/sent", traffic.delivered
        yield "publish/bytes/received", traffic.publish_bytes_received
        yield "publish/bytes/sent", traffic.publish_bytes_sent
        yield "publish/messages/dropped", sum(traffic.lost.values())
        for reason in sorted(traffic.lost):
            yield f"publish/messages/dropped/{reason}", traffic.lost[reason]

    def _holdings(self) -> Iterator[tuple[str, object]]:
        engine = self._engine
        waiting = sum(session.waiting for session in engine.sessions)
        inflight = sum(session.in_flight for session in engine.sessions)
        yield "subscriptions/count", len(engine.router)
        yield "shared_subscriptions/count", engine.router.shared_count
        yield "retained messages/count", len(engine.retention)
        yield "messages/stored", waiting + len(engine.retention)
        yield "store/messages/count", waiting + len(engine.retention)
        yield "store/messages/bytes", engine.retention.size
        yield "messages/inflight", inflight
        yield "messages/queued", waiting

    def _queues(self) -> Iterator[tuple[str, object]]:
        """How full they are, and who takes from them; there are at most `queues.max_queues`."""
        doors = self._engine.queues
        if doors is None:
            return
        yield "queues/count", len(doors.names)
        for name in doors.names:
            yield from ((f"queues/{name}/{what}", value) for what, value in doors.figures(name))

    def _store(self) -> Iterator[tuple[str, object]]:
        """How the store does; `store/commit/...` are of the time since the start."""
        journal = self._engine.journal
        if journal is None:
            yield "store/level", "memory"
            return
        figures = journal.figures
        batches = max(1, figures.batches)
        yield "store/level", journal.levels.default.name.lower()
        yield "store/trouble", figures.trouble or "none"
        yield "store/alarms/count", len(figures.alarms)
        if figures.alarms:
            yield "store/alarm", figures.alarms[-1]
        yield "store/pending/bytes", journal.pending
        yield "store/commits", figures.batches
        yield "store/commit/rows", round(figures.rows / batches, 1)
        yield "store/commit/milliseconds", round(1000 * figures.total_seconds / batches, 3)
        yield "store/commit/milliseconds/last", round(1000 * figures.seconds, 3)
        yield "store/commit/milliseconds/max", round(1000 * figures.slowest, 3)
