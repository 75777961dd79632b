"""Routing: what a message says decides where it goes. Three rules, of which the first that says
`last` ends the matter; a message may go into several queues, into each once.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from stage import Broker, Sensors, count, tell

from bridges.queues import SyncQueue

SETTINGS = """
[[queue]]
name = "alarms"

[[queue]]
name = "maintenance"

[[queue]]
name = "archive"

[[queue]]
name = "unreadable"

[[route]]
name = "too hot"
topic = "device/+/reading"
when = 'payload.temperature > 60'
queues = ["alarms", "archive"]
priority = "json:temperature_class"

[[route]]
name = "battery"
topic = "device/+/reading"
when = 'payload.battery < 0.2'
queue = "maintenance"
key = "topic:2"

[[route]]
name = "the rest of what can be read"
topic = "device/+/reading"
when = 'payload.temperature > -274'
queue = "archive"
last = true

[[route]]
name = "what is no reading"
topic = "device/+/reading"
queue = "unreadable"
"""


def reading(rng: Random) -> dict[str, Any] | None:
    """None: the device has sent rubbish."""
    if rng.random() < 0.02:
        return None
    temperature = round(rng.gauss(45, 10), 1)
    hot = {"temperature_class": 9 if temperature > 70 else 6} if temperature > 60 else {}
    return {"temperature": temperature, "battery": round(rng.random(), 2), **hot}


def main() -> None:
    rng = Random(1)
    sent = [reading(rng) for _ in range(count(5000))]
    good = [each for each in sent if each is not None]
    expected = {
        "alarms": sum(each["temperature"] > 60 for each in good),
        "maintenance": sum(each["battery"] < 0.2 for each in good),
        "archive": len(good),
        "unreadable": len(sent) - len(good),
    }
    with Broker(SETTINGS) as broker:
        sensors = Sensors(broker)
        seconds = sensors.publish(
            (f"device/{n % 50}/reading", json.dumps(each) if each else "\x02 rubbish")
            for n, each in enumerate(sent)
        )
        sensors.close()
        tell(published=len(sent), messages_a_second=len(sent) / seconds)
        for name, wanted in expected.items():
            with SyncQueue(name, broker.url, token=broker.token) as queue:
                found = queue.stats().messages
                tell(**{name: f"{found}, as it should be" if found == wanted else f"{found} WRONG"})
        with SyncQueue("alarms", broker.url, token=broker.token) as queue:
            first = [message.json()["temperature"] > 70 for message in queue.receive(5)]
            tell(hottest_first="yes" if first == sorted(first, reverse=True) else "no")


if __name__ == "__main__":
    main()
