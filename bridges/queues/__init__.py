"""Work queues: the rules that fill them from topics, and the doors for backends.

`Queue` and `SyncQueue` are the Python door, docs/queues-python.md tells of it. They are imported
when they are asked for: the broker, which imports rules and doors from here, needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridges.queues.backend import Message, QueueError, QueueStats
    from bridges.queues.client import Queue
    from bridges.queues.received import LeaseLost, Received, Reject, Retry
    from bridges.queues.sync import SyncMessage, SyncQueue

__all__ = [
    "LeaseLost",
    "Message",
    "Queue",
    "QueueError",
    "QueueStats",
    "Received",
    "Reject",
    "Retry",
    "SyncMessage",
    "SyncQueue",
]

_HOMES = {
    "LeaseLost": "received",
    "Message": "backend",
    "Queue": "client",
    "QueueError": "backend",
    "QueueStats": "backend",
    "Received": "received",
    "Reject": "received",
    "Retry": "received",
    "SyncMessage": "sync",
    "SyncQueue": "sync",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
