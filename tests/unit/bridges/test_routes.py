"""Rules: into which queues a message goes and how it stands there; what cannot be is refused."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.queues.routes import QueueRules, RuleError, Rules, SettledRules, compile_settings
from bridges.queues.subject import Miss, Subject
from bridges.queues.templates import Template
from broker.packets.properties import Property
from broker.packets.publication import Publication, travelling_properties
from broker.queues.delivery import Delivery
from broker.queues.entry import Entry, Forward
from broker.settings import Place, QueueSettings, RouteSettings, Settings

if TYPE_CHECKING:
    from broker.engine import ports

TOPIC = "site/1/dev/7/telemetry"
ALL = ("site/+/dev/+/telemetry",)
PAYLOAD = {"temperature": 72, "device": {"id": "a7"}, "urgent": 8, "wait": 2.5, "list": [{"a": 1}]}


def route(**values: Any) -> RouteSettings:
    return RouteSettings(**{"topic": ALL, "queue": ("work",), **values})


def publication(payload: Any = PAYLOAD, topic: str = TOPIC, **user: str) -> Publication:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    properties = travelling_properties({Property.USER_PROPERTY: list(user.items())})
    return Publication(topic, data, 1, properties=properties, publisher="client-1")


def entries(*routes: RouteSettings, message: Publication | None = None) -> list[Entry]:
    message = message or publication()
    rules: ports.Rules = Rules.compile(routes)
    found = rules.for_topic(message.topic)
    return [] if found is None else list(found.entries(message))


def delivery(payload: Any = PAYLOAD, **values: Any) -> Delivery:
    return Delivery(
        **{
            "number": 1,
            "token": 2,
            "queue": "work",
            "key": "k",
            "rank": 9 - 6,
            "topic": TOPIC,
            "payload": json.dumps(payload).encode(),
            "properties": b"",
            "first": 0x32,
            "publisher": "client-1",
            "enqueued_at": 0.0,
            "lease_until": None,
            "acquisitions": 1,
            "failures": 0,
            "expires_at": None,
            **values,
        }
    )


# ---- topics ----


def test_a_topic_without_rules_has_none() -> None:
    rules = Rules.compile([route()])
    assert rules.for_topic("site/1/dev/7/state") is None
    assert rules.for_topic("$SYS/x") is None
    assert Rules.compile([route(topic=("#",))]).for_topic("$SYS/x") is None


def test_a_rule_of_topics_alone_is_settled_before_a_message_comes() -> None:
    rules = Rules.compile([route(key="topic:4"), route(queue=("all",), key="topic")])
    found = rules.for_topic(TOPIC)
    assert isinstance(found, SettledRules)
    assert found.entries(publication()) is found.entries(publication(b"x"))
    assert [(entry.queue, entry.key) for entry in found.entries(publication())] == [
        ("work", "7"),
        ("all", TOPIC),
    ]


def test_a_rule_with_two_filters_that_match_takes_a_message_once() -> None:
    rules = Rules.compile([route(topic=("#", TOPIC), when="payload.x == 1", name="x")])
    found = rules.for_topic(TOPIC)
    assert found is not None
    assert len(found.entries(publication({"x": 1}))) == 1
    found.entries(publication())
    assert rules.misses == {"x": 1}


def test_a_message_goes_once_into_each_queue_and_the_first_rule_decides() -> None:
    found = entries(
        route(name="first", when="payload.temperature > 60", priority=9),
        route(name="second", queue=("work", "more"), queues=("more",), key="topic:2"),
    )
    assert found == [Entry("work", priority=9, why="first"), Entry("more", "1", why="second")]


def test_what_a_last_rule_takes_later_rules_do_not_see() -> None:
    hot = route(when="payload.temperature > 60", queue=("hot",), last=True)
    assert [entry.queue for entry in entries(hot, route())] == ["hot"]
    cold = publication({"temperature": 1})
    assert [entry.queue for entry in entries(hot, route(), message=cold)] == ["work"]
    assert [entry.queue for entry in entries(route(last=True), route(queue=("more",)))] == ["work"]


def test_rules_without_a_name_are_told_by_their_number() -> None:
    assert [entry.why for entry in entries(route(), route(queue=("b",), name="x"))] == [
        "route 1",
        "x",
    ]


# ---- what is taken from a message ----


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("topic", TOPIC),
        ("topic:1", "site"),
        ("topic:5", "telemetry"),
        ("client", "client-1"),
        ("property:device", "d9"),
        ("json:device.id", "a7"),
        ("json:temperature", "72"),
        ("json:wait", "2.5"),
        ("json:list.0.a", "1"),
    ],
)
def test_a_key_is_taken_from_the_message(source: str, key: str) -> None:
    (entry,) = entries(route(key=source), message=publication(device="d9"))
    assert entry.key == key


@pytest.mark.parametrize(
    ("source", "payload"),
    [
        ("topic:6", b"x"),
        ("property:other", b"x"),
        ("json:id", b"x"),
        ("json:id", b"\xff"),
        ("json:id", b"7"),
        ("json:id", b'{"id": null}'),
        ("json:id", b'{"id": {}}'),
        ("json:id", b'{"id": "\\ud800"}'),
        ("json:id", b'{"id": "a\\u0000"}'),
        ("json:0", b"[]"),
        ("json:id", b"[" * 100_000),
    ],
)
def test_a_key_that_cannot_be_taken_is_none_and_counted(source: str, payload: bytes) -> None:
    rules = Rules.compile([route(key=source, name="x", when="qos == 1"), route(name="y")])
    found = rules.for_topic(TOPIC)
    assert found is not None
    before = rules.misses["x"]
    assert found.entries(publication(payload))[0].key is None
    assert (rules.misses["x"] > 0, before == rules.misses["x"]) == (True, source == "topic:6")
    assert rules.misses["y"] == 0


def test_keys_that_are_too_long_are_their_hash_so_they_stay_apart() -> None:
    keys = [
        entries(route(key="json:id"), message=publication({"id": "x" * 300 + end}))[0].key
        for end in ("a", "b", "a")
    ]
    assert keys[0] == keys[2] != keys[1]
    assert all(key is not None and len(key) == 7 + 64 for key in keys)


def test_what_a_value_is_taken_from_may_stand_for_every_number() -> None:
    (entry,) = entries(
        route(
            priority="json:urgent", delay="json:wait", ttl="property:ttl", dedup_id="property:id"
        ),
        message=publication(ttl="60", id="m1"),
    )
    assert (entry.priority, entry.delay, entry.ttl, entry.dedup_id) == (8, 2.5, 60.0, "m1")


@pytest.mark.parametrize("value", [10, -1, 1.5, True, "high", None, [1], 1e400, "nan", "1" * 400])
def test_a_number_that_does_not_fit_is_as_without_the_rule_and_counted(value: object) -> None:
    rules = Rules.compile([route(priority="json:x", name="x")])
    found = rules.for_topic(TOPIC)
    assert found is not None
    message = publication(json.dumps({"x": value}).replace("Infinity", "1e400").encode())
    assert found.entries(message)[0].priority == 4
    assert rules.misses == {"x": 1}


@pytest.mark.parametrize("value", [-1, "soon", "inf", "nan", 1e12, None, True])
def test_a_delay_that_is_none_is_none(value: object) -> None:
    (entry,) = entries(route(delay="json:x", ttl="json:x"), message=publication({"x": value}))
    assert (entry.delay, entry.ttl) == (0.0, None)


def test_a_condition_that_cannot_be_answered_is_false_and_counted() -> None:
    rules = Rules.compile([route(when="payload.humidity > 1", name="damp"), route(queue=("b",))])
    found = rules.for_topic(TOPIC)
    assert found is not None
    assert [entry.queue for entry in found.entries(publication())] == ["b"]
    assert rules.misses == {"damp": 1, "route 2": 0}


@given(st.binary(max_size=80), st.text(max_size=20))
def test_no_message_makes_a_rule_fail(payload: bytes, text: str) -> None:
    rules = Rules.compile(
        [
            route(when="payload.a > 1 or payload > 2", key="json:a", priority="json:b"),
            route(delay="property:x", dedup_id="json:0", key="property:x", share=50),
        ]
    )
    for data in (payload, json.dumps({"a": text, "b": text}).encode(), json.dumps(text).encode()):
        message = Publication("site/1/dev/7/telemetry", data)
        found = rules.for_topic(message.topic)
        assert found is not None
        for entry in found.entries(message):
            assert 0 <= entry.priority <= 9
            assert entry.key is None or entry.key.encode()


# ---- shares ----


def shared(*shares: int, **values: Any) -> list[RouteSettings]:
    return [
        route(queue=(f"q{number}",), share=share, split="s", **values)
        for number, share in enumerate(shares)
    ]


def test_every_message_goes_to_exactly_one_route_of_a_split_by_its_share() -> None:
    rules = Rules.compile(shared(25, 60, 15, key="topic:4"))
    counted: Counter[str] = Counter()
    for device in range(4000):
        topic = f"site/1/dev/{device}/telemetry"
        found = rules.for_topic(topic)
        assert found is not None
        (entry,) = found.entries(publication(topic=topic))
        counted[entry.queue] += 1
    assert [round(counted[f"q{n}"] / 40) for n in range(3)] == pytest.approx([25, 60, 15], abs=3)


def test_one_key_stays_on_its_side_whatever_the_message() -> None:
    queues = {
        entries(*shared(50, 50, key="json:id"), message=publication({"id": 3, "n": n}))[0].queue
        for n in range(50)
    }
    assert len(queues) == 1


def test_messages_without_a_key_are_shared_each_for_itself() -> None:
    counted = Counter(
        entries(*shared(50, 50), message=publication({"n": n}))[0].queue for n in range(400)
    )
    assert 150 < counted["q0"] < 250


def test_two_splits_do_not_choose_alike() -> None:
    messages = [publication({"n": n}) for n in range(400)]
    both = Counter(
        tuple(
            entry.queue
            for entry in entries(
                route(queue=("a",), share=50, name="a"),
                route(queue=("b",), share=50, name="b"),
                message=message,
            )
        )
        for message in messages
    )
    assert min(both[()], both["a",], both["b",], both["a", "b"]) > 50


# ---- out of a queue ----


def forward(*routes: RouteSettings, message: Delivery | None = None) -> Forward:
    rules = Rules.compile(routes)
    found: ports.ForwardRules | None = rules.for_queue("work")
    assert found is not None
    return found.forward(message or delivery())


def moved(**values: Any) -> RouteSettings:
    return RouteSettings(**{"from_queue": "work", **values})


def test_a_message_moves_on_with_its_key_and_priority_unless_the_rule_says_otherwise() -> None:
    assert forward(moved(queue=("b",))).entries == (Entry("b", "k", 6, why="route 1"),)
    changed = moved(queue=("b",), key="topic:4", priority=1, delay=5.0, name="x")
    assert forward(changed).entries == (Entry("b", "7", 1, 5.0, why="x"),)


def test_a_message_that_no_rule_takes_stays() -> None:
    assert forward(moved(queue=("b",), when="payload.temperature < 0")) == Forward()


def test_a_queue_without_rules_keeps_its_messages() -> None:
    rules = Rules.compile([moved(queue=("b",))])
    assert (list(rules.forwards), rules.for_queue("b")) == (["work"], None)
    assert isinstance(rules.for_queue("work"), QueueRules)


def test_a_message_is_published_to_a_topic_made_of_it() -> None:
    out = forward(
        moved(publish_to=("alarms/{2}/{4}", "by/{client}/{key}", "alarms/1/7"), last=True),
        moved(queue=("b",)),
    )
    assert out == Forward((), ("alarms/1/7", "by/client-1/k"))


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("a/{key}", {"key": None}),
        ("a/{key}", {"key": "b/c"}),
        ("a/{key}", {"key": "#"}),
        ("a/{key}", {"key": "+"}),
        ("{key}/a", {"key": "$SYS"}),
        ("{key}", {"key": ""}),
        ("a/{client}", {"publisher": "a/b"}),
        ("a/{9}", {}),
        ("{1}/x", {"topic": "$queue/x"}),
    ],
)
def test_nobody_reaches_another_topic_by_a_key_or_client_id(
    template: str, values: dict[str, Any]
) -> None:
    rules = Rules.compile([moved(publish_to=(template,), name="x")])
    found = rules.for_queue("work")
    assert found is not None
    assert found.forward(delivery(**values)) == Forward()
    assert rules.misses == {"x": 1}


@given(st.text("a/+#$\0{}1", max_size=6), st.sampled_from(["{key}", "x/{key}", "{key}/y/{1}"]))
def test_what_a_template_makes_matches_its_filter(key: str, text: str) -> None:
    template = Template(text)
    try:
        topic = template.topic(Subject("one/two", b""), key)
    except Miss:
        return
    assert topic.count("/") == template.filter.count("/")
    assert not topic.startswith("$")
    assert "#" not in topic


# ---- what cannot be ----


def complaints(routes: list[RouteSettings], queues: list[QueueSettings] | None = None) -> str:
    with pytest.raises(RuleError) as caught:
        Rules.compile(routes, queues or [])
    return str(caught.value)


def test_all_bad_conditions_are_told_with_file_and_line() -> None:
    places = [Place("f.toml", f"route[{n}]", {"": n, "when": n + 10}) for n in (1, 2, 3)]
    told = complaints(
        [
            route(when="temperature > 1", place=places[0]),
            route(when="qos == 1", place=places[1]),
            route(when="qos =", place=places[2]),
        ]
    ).splitlines()
    assert [line.partition("when:")[0] for line in told] == [
        "f.toml:11: route[1].",
        "f.toml:13: route[3].",
    ]
    assert "payload.temperature" in told[0]


@pytest.mark.parametrize(
    ("routes", "circle"),
    [
        ([moved(queue=("work",))], "work -> work"),
        (
            [moved(queue=("b",)), RouteSettings(from_queue="b", queue=("c", "work"))],
            "work -> b -> work",
        ),
        (
            [
                moved(queue=("b",)),
                RouteSettings(from_queue="b", queue=("c",)),
                RouteSettings(from_queue="c", queue=("work",)),
            ],
            "work -> b -> c -> work",
        ),
        (
            [moved(publish_to=("hot/{4}",)), RouteSettings(topic=("hot/+",), queue=("work",))],
            "work -> topic hot/{4} -> work",
        ),
        (
            [moved(publish_to=("{key}/x",)), RouteSettings(topic=("a/#",), queue=("work",))],
            "work -> topic {key}/x -> work",
        ),
        (
            [moved(publish_to=("a",)), RouteSettings(topic=("a/#",), queue=("work",))],
            "work -> topic a -> work",
        ),
        (
            [RouteSettings(from_queue="work.dlq", queue=("work",))],
            "work -> work.dlq -> work",
        ),
    ],
)
def test_a_circle_is_refused_and_named(routes: list[RouteSettings], circle: str) -> None:
    told = complaints(routes)
    _, *rest = circle.split(" -> ")
    turned = [" -> ".join([*rest[i:], *rest[: i + 1]]) for i in range(len(rest))]
    assert any(f" {each};" in told for each in turned), told


@pytest.mark.parametrize(
    "routes",
    [
        [moved(queue=("b",)), RouteSettings(from_queue="b", queue=("c",))],
        [moved(publish_to=("hot/{4}",)), RouteSettings(topic=("hot/+/x",), queue=("work",))],
        [moved(publish_to=("{key}",)), RouteSettings(topic=("$SYS/#",), queue=("work",))],
        [moved(publish_to=("a/b",)), RouteSettings(topic=("a/+",), queue=("b",))],
        [route(), route(queue=("b",))],
    ],
)
def test_what_is_no_circle_is_good(routes: list[RouteSettings]) -> None:
    assert len(Rules.compile(routes).routes) == len(routes)


def test_dead_letters_that_go_in_circles_are_refused() -> None:
    queues = [
        QueueSettings("a", dead_letter_queue="b"),
        QueueSettings("b", dead_letter_queue="a", place=Place("f.toml", "queue[2]", {"": 4})),
    ]
    told = complaints([], queues)
    assert "a -> b" in told
    assert "b -> a" in told
    with pytest.raises(RuleError):
        compile_settings(Settings(defined_queues=tuple(queues)))


def test_no_dead_letters_no_circle() -> None:
    queues = [QueueSettings("work", dead_letters=False)]
    Rules.compile([RouteSettings(from_queue="work.dlq", queue=("work",))], queues)


@pytest.mark.parametrize(
    ("queues", "topic_filter", "circle"),
    [
        ([], "hot/+", "work -> work.dlq -> topic hot/{4} -> work"),
        ([QueueSettings("work")], "hot/#", "work -> work.dlq -> topic hot/{4} -> work"),
        ([QueueSettings("work", dead_letters=False)], "hot/#", ""),
        ([QueueSettings("work", dead_letter_queue="graves")], "hot/#", ""),
        ([], "hot", ""),
        ([], "$SYS/#", ""),
    ],
)
def test_a_binding_closes_a_circle_or_not(
    queues: list[QueueSettings], topic_filter: str, circle: str
) -> None:
    rules = Rules.compile([RouteSettings(from_queue="work.dlq", publish_to=("hot/{4}",))], queues)
    assert " -> ".join(rules.circle("work", topic_filter, [])) == circle


def test_only_queues_that_rules_empty_and_those_before_them_lead_on() -> None:
    routes = [RouteSettings(from_queue="graves", publish_to=("hot",))]
    queues = [QueueSettings("a", dead_letter_queue="graves"), QueueSettings("b")]
    rules = Rules.compile(routes, queues)
    names = ("graves", "a", "b", "b.dlq", "graves.dlq", "c")
    assert [each for each in names if rules.leads_on(each)] == ["graves", "a"]


def test_a_binding_may_close_a_circle_by_way_of_rules_and_of_what_else_is_bound() -> None:
    routes = [moved(publish_to=("hot",)), RouteSettings(topic=("cold",), queue=("work",))]
    routes.append(RouteSettings(from_queue="b", publish_to=("cold",)))
    rules = Rules.compile(routes)
    assert rules.circle("b", "warm", [("c", "hot")]) == []
    assert " -> ".join(rules.circle("b", "hot", [("c", "hot")])) == (
        "b -> topic cold -> work -> topic hot -> b"
    )
    assert rules.circle("d", "hot", [("b", "hot")]) == []
    routes = [moved(publish_to=("hot",)), RouteSettings(from_queue="b", publish_to=("cold",))]
    found = Rules.compile(routes).circle("work", "cold", [("b", "hot"), ("c", "hot")])
    assert " -> ".join(found) == "work -> topic hot -> b -> topic cold -> work"


def test_a_chain_of_a_thousand_queues_is_no_circle() -> None:
    chain = [RouteSettings(from_queue=f"q{n}", queue=(f"q{n + 1}",)) for n in range(1000)]
    assert len(Rules.compile(chain).forwards) == 1000


def test_settings_without_rules_have_none() -> None:
    assert compile_settings(Settings()) is None
