"""What version 5 adds to publications and subscriptions, as each client sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.interop.clients import for_clients
from tests.interop.foreign import V5

if TYPE_CHECKING:
    from tests.interop.clients import Case
    from tests.interop.conftest import Foreigners

PARTNER = "paho-5-tcp"
SUCCESS = 0x00
NO_SUBSCRIPTION_EXISTED = 0x11
LARGEST_IDENTIFIER = 268_435_455
MINUTE = 60
MANY = 50


@for_clients(versions=(V5,))
async def test_a_publication_keeps_its_properties(
    clients: Foreigners, case: Case, name: str
) -> None:
    properties = {
        "payload_format_indicator": 1,
        "content_type": "application/json; charset=utf-8",
        "response_topic": f"{name}/réponse",
        "correlation_data": b"request-9",
        "user_property": [("unit", "K"), ("unit", "K"), ("site", "roof/3"), ("é", "ü")],
    }
    client = await clients.connect(case)
    await client.subscribe(name, 1)
    await client.publish(name, b"{}", 1, properties=properties)
    assert (await client.next_message()).properties == properties


@for_clients("keeps_interleaved_pairs", versions=(V5,))
async def test_user_properties_keep_their_order(clients: Foreigners, case: Case, name: str) -> None:
    pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("a", "2"), ("b", "1")]
    client = await clients.connect(case)
    await client.subscribe(name, 1)
    await client.publish(name, b"", 1, properties={"user_property": pairs})
    assert (await client.next_message()).properties["user_property"] == pairs


@for_clients(versions=(V5,))
async def test_a_request_is_answered_where_it_asks(
    clients: Foreigners, case: Case, name: str
) -> None:
    asking = await clients.connect(PARTNER)
    answering = await clients.connect(case)
    await asking.subscribe(f"{name}/answers", 1)
    await answering.subscribe(f"{name}/questions", 1)
    question = {"response_topic": f"{name}/answers", "correlation_data": b"42"}
    await asking.publish(f"{name}/questions", b"how warm?", 1, properties=question)
    asked = (await answering.next_message()).properties
    answer = {"correlation_data": asked["correlation_data"]}
    await answering.publish(asked["response_topic"], b"293 K", 1, properties=answer)
    heard = await asking.next_message()
    assert (heard.payload, heard.properties) == (b"293 K", answer)


@for_clients("is_resident", versions=(V5,))
async def test_a_queued_message_comes_with_the_rest_of_its_life(
    clients: Foreigners, case: Case, name: str
) -> None:
    away = await clients.connect(case, client_id=name, stay=True)
    await away.subscribe(name, 1)
    await away.close()
    publisher = await clients.connect(PARTNER)
    expiry = {"message_expiry_interval": MINUTE}
    await publisher.publish(name, b"perishable", 1, properties=expiry)
    back = await clients.connect(case, client_id=name, clean=False, stay=True)
    heard = await back.next_message()
    assert heard.payload == b"perishable"
    assert 0 < heard.properties["message_expiry_interval"] <= MINUTE


@for_clients(versions=(V5,))
async def test_a_subscription_identifier_names_the_subscription(
    clients: Foreigners, case: Case, name: str
) -> None:
    identifiers = {f"{name}/low": 1, f"{name}/high": LARGEST_IDENTIFIER}
    client = await clients.connect(case)
    for topic, identifier in identifiers.items():
        await client.subscribe(topic, 1, {"subscription_identifier": identifier})
        await client.publish(topic, b"", 1)
        heard = await client.next_message()
        assert (heard.topic, heard.properties) == (topic, {"subscription_identifier": [identifier]})


@for_clients("subscribe_options", versions=(V5,))
async def test_no_local_keeps_ones_own_words_away(
    clients: Foreigners, case: Case, name: str
) -> None:
    client = await clients.connect(case)
    partner = await clients.connect(PARTNER)
    await client.subscribe(name, 1, no_local=1)
    await client.publish(name, b"own", 1)
    await partner.publish(name, b"foreign", 1)
    assert (await client.next_message()).payload == b"foreign"


@for_clients("writes_aliases", versions=(V5,))
async def test_a_topic_alias_stands_for_the_topic(
    clients: Foreigners, case: Case, name: str
) -> None:
    client = await clients.connect(case)
    await client.subscribe(f"{name}/#", 1)
    for topic, alias in (
        (f"{name}/a", 1),
        (f"{name}/b", 2),
        ("", 1),
        ("", 2),
        (f"{name}/c", 1),
        ("", 1),
    ):
        await client.publish(topic, b"", 1, properties={"topic_alias": alias})
    heard = [(await client.next_message()).topic for _ in range(6)]
    assert heard == [f"{name}/{last}" for last in "ababcc"]


@for_clients("reads_aliases", versions=(V5,))
async def test_the_broker_uses_the_aliases_it_is_allowed(
    clients: Foreigners, case: Case, name: str
) -> None:
    client = await clients.connect(case, properties={"topic_alias_maximum": 2})
    await client.subscribe(f"{name}/#", 1)
    topics = [f"{name}/{last}" for last in "abcabcabc"]
    for topic in topics:
        await client.publish(topic, b"", 1)
    heard = [await client.next_message() for _ in topics]
    assert [message.topic for message in heard] == topics
    aliases = {message.properties.get("topic_alias") for message in heard} - {None}
    assert aliases == {1, 2}


@for_clients("tells_reason_codes", versions=(V5,))
async def test_unsubscribe_tells_whether_there_was_a_subscription(
    clients: Foreigners, case: Case, name: str
) -> None:
    client = await clients.connect(case)
    await client.subscribe(name)
    assert await client.unsubscribe(name) == SUCCESS
    assert await client.unsubscribe(name) == NO_SUBSCRIPTION_EXISTED


@for_clients("is_resident", versions=(V5,))
async def test_a_receive_maximum_of_one_slows_but_loses_nothing(
    clients: Foreigners, case: Case, name: str
) -> None:
    client = await clients.connect(case, properties={"receive_maximum": 1})
    partner = await clients.connect(PARTNER)
    await client.subscribe(name, 2)
    sent = [b"%d" % number for number in range(MANY)]
    for number, payload in enumerate(sent):
        await partner.publish(name, payload, 1 + number % 2)
    assert [(await client.next_message()).payload for _ in sent] == sent


@for_clients("is_resident", versions=(V5,))
async def test_what_is_larger_than_the_client_takes_is_left_out(
    clients: Foreigners, case: Case, name: str
) -> None:
    client = await clients.connect(case, properties={"maximum_packet_size": 1000})
    partner = await clients.connect(PARTNER)
    await client.subscribe(name, 1)
    await partner.publish(name, bytes(1000), 1)
    await partner.publish(name, bytes(900), 1)
    assert (await client.next_message()).payload == bytes(900)


@for_clients("may_be_nameless", versions=(V5,))
async def test_a_client_without_a_name_is_given_one(
    clients: Foreigners, case: Case, name: str
) -> None:
    nameless = clients.make(case, client_id="")
    connack = await nameless.connect()
    assert connack.properties["assigned_client_identifier"]
