"""The store's timeline goes on evenly: nothing expires early, whatever the computer's clock does,
and no time is lost that really passed.
"""

from broker.engine.timeline import Timeline
from broker.packets.properties import Property
from tests.support.broker import MemoryBroker
from tests.unit.engine.test_recovery import absent, durable, payloads, stored

YEAR = 31_536_000.0


def stands(broker: MemoryBroker) -> bool:
    return len(broker.engine.sessions) == 1


def test_time_passes_while_the_broker_is_away() -> None:
    broker = stored()
    absent(broker, "one", "t", expiry=1000)
    broker.pass_time(400)
    broker = broker.crash(away=400)
    broker.pass_time(150)
    assert stands(broker)
    broker.pass_time(100)
    assert not stands(broker)


def test_a_clock_set_back_while_the_broker_is_away_makes_nothing_older() -> None:
    broker = stored()
    absent(broker, "one", "t", expiry=1000)
    broker.pass_time(400)
    broker = broker.crash(jump=-YEAR)
    broker.pass_time(500)
    assert stands(broker)
    broker.pass_time(1000)
    assert not stands(broker)


def test_a_clock_that_jumps_while_the_broker_runs_changes_nothing() -> None:
    for jump in (-YEAR, YEAR):
        broker = stored()
        absent(broker, "one", "t", expiry=1000)
        broker.pass_time(2)
        broker.wall_ahead += jump
        publisher = broker.connect("publisher")
        publisher.publish("t", b"x", qos=1, properties={Property.MESSAGE_EXPIRY_INTERVAL: 900})
        broker.pass_time(400)
        broker = broker.crash(away=400)
        broker.pass_time(10)
        assert stands(broker)
        assert payloads(durable(broker, "one", 1000)) == [b"x"]


def test_a_message_that_expires_while_the_broker_is_away_is_not_delivered() -> None:
    broker = stored()
    absent(broker, "one", "t")
    publisher = broker.connect("publisher")
    publisher.publish("t", b"x", qos=1, properties={Property.MESSAGE_EXPIRY_INTERVAL: 100})
    publisher.publish("t", b"y", qos=1)
    broker = broker.crash(away=200)
    assert payloads(durable(broker, "one")) == [b"y"]
    assert broker.engine.traffic.lost["expired"] == 1


def test_what_is_stored_comes_back_as_the_instant_it_was() -> None:
    first = Timeline(lambda: 5000.0)
    first.begin(0.0, 0.0, 10.0)
    instant = first.stored(110.0)
    second = Timeline(lambda: 5040.0)
    second.begin(first.stored(20.0), 5010.0, 3.0)
    assert second.engine(instant) == 3.0 + 90.0 - 30.0
