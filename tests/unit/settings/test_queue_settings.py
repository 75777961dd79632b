"""[[queue]], [[route]], [queues], [http] and [[http.token]]: what may be written, how mistakes are
told.
"""

from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cli import run_command
from broker.queues.names import is_queue_name
from broker.queues.policy import QueuePolicy
from broker.settings import QueueSettings, Settings, SettingsError, load
from broker.settings.queue_rules import queue_name

QUEUE = '[[queue]]\nname = "work"\n'
ROUTE = '[[route]]\ntopic = "a/#"\nqueue = "work"\n'
TOKEN = f'[http]\nlisten = "[::1]:1"\n[[http.token]]\nname = "x"\nsha256 = "{"a" * 64}"\n'


def loaded(folder: Path, text: str) -> Settings:
    path = folder / "f.toml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def complaints(folder: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loaded(folder, text)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_without_anything_there_are_no_queues_and_no_http() -> None:
    settings = load()
    assert (settings.defined_queues, settings.routes) == ((), ())
    assert (settings.queues.create, settings.queues.max_queues) == ("no", 1000)
    assert (settings.http.address, settings.http.tokens) == (None, ())
    assert settings.store.schema == ""


def test_a_queue_is_by_default_what_the_policy_says() -> None:
    assert QueueSettings("x").policy() == asdict(QueuePolicy())


def test_a_queue_is_read_with_units(tmp_path: Path) -> None:
    text = QUEUE + (
        'lease = "500 ms"\nretry_first = 2\nmax_bytes = "1 GiB"\nretention = "2 weeks"\n'
        'order = "single_active"\non_full = "drop_oldest"\nmax_rate = 12.5\nlast_value = true\n'
        'dedup_window = "10 min"\ndead_letter_queue = "all.dlq"\n'
    )
    (queue,) = loaded(tmp_path, text).defined_queues
    policy = QueuePolicy(**queue.policy())
    assert (policy.lease, policy.retry_first, policy.max_bytes) == (0.5, 2.0, 2**30)
    assert (policy.retention, policy.order, policy.max_rate) == (
        14 * 86_400.0,
        "single_active",
        12.5,
    )
    assert (policy.on_full, policy.last_value, policy.dedup_window) == ("drop_oldest", True, 600.0)
    assert policy.dead_letter_queue == "all.dlq"


def test_a_route_is_read_with_one_or_several_of_everything(tmp_path: Path) -> None:
    text = QUEUE + (
        '[[queue]]\nname = "more"\n'
        '[[route]]\ntopic = ["a/#", "b"]\nqueue = "work"\nqueues = ["more", "work"]\n'
        'key = "json:id"\npriority = 9\ndelay = "2 s"\nttl = "json:ttl"\n'
        '[[route]]\nfrom_queue = "work.dlq"\nwhen = """\n qos == 1\n or retain"""\n'
        'publish_to = "dead/{key}"\npriority = "property:p"\n'
    )
    first, second = loaded(tmp_path, text).routes
    assert (first.topic, first.targets) == (("a/#", "b"), ("work", "more"))
    assert (first.key, first.priority, first.delay, first.ttl) == ("json:id", 9, 2.0, "json:ttl")
    assert (second.from_queue, second.publish_to) == ("work.dlq", ("dead/{key}",))
    assert (second.when, second.priority) == ("qos == 1\n or retain", "property:p")
    assert (second.place.entry, second.place.lines["when"]) == ("route[2]", 15)


def test_tokens_are_a_list_inside_http(tmp_path: Path) -> None:
    http = loaded(tmp_path, TOKEN + 'queues = "site-*"\nallow = ["receive"]\n').http
    (token,) = http.tokens
    assert (http.address, token.name, token.queues) == (("::1", 1), "x", ("site-*",))
    assert token.allow == ("receive",)
    assert "a" * 64 not in repr(http)


def test_a_body_may_be_as_large_as_a_packet_unless_it_is_said(tmp_path: Path) -> None:
    limits = '[limits]\nmax_packet_size = "64 KiB"\n'
    assert loaded(tmp_path, limits).http.max_body == 65_536
    assert loaded(tmp_path, '[http]\nmax_body = "8 KiB"\n').http.max_body == 8192
    (told,) = complaints(tmp_path, limits + '[http]\nmax_body = "128 KiB"\n')
    assert told.startswith("f.toml:4: http.max_body: is more than limits.max_packet_size")


BAD = [
    ('[[queue]]\nname = ".x"', ["f.toml:2: queue[1].name", '".x" is not a queue']),
    ("[[queue]]\nlease = 1", ["f.toml:1: queue[1]: has no name"]),
    (QUEUE + "lease = 0", ["f.toml:3: queue[1].lease", "out of range"]),
    (QUEUE + "retention = 0", ["f.toml:3: queue[1].retention", '"7 days"']),
    (QUEUE + "max_rate = nan", ["queue[1].max_rate", "out of range"]),
    (QUEUE + 'retry_jitter = "much"', ["queue[1].retry_jitter", "is not a number"]),
    (QUEUE + "retry_jitter = true", ["true is not a number"]),
    (QUEUE + 'order = "keyed"', ['write "key"']),
    (QUEUE + "leas = 1", ["f.toml:3: queue[1].leas", "did you mean lease?"]),
    (QUEUE + QUEUE, ["f.toml:4: queue[2].name", 'a queue "work" before']),
    (QUEUE + "retry_longest = 0.5", ["queue[1].retry_longest", "shorter than retry_first"]),
    (QUEUE + 'dead_letter_queue = "work"', ["f.toml:3", "is the queue itself"]),
    (QUEUE + 'dead_letter_queue = "wirk"', ["f.toml:3", 'no queue "wirk"', "did you mean work?"]),
    (QUEUE + 'dead_letters = false\non_full = "dead_letter"', ["f.toml:4", "dead_letters = false"]),
    ('[[queue]]\nname = "a.dlq"\non_expiry = "dead_letter"', ["f.toml:3", "none of its own"]),
    ('[[queue]]\nname = "a.dlq"\ndead_letter_queue = "b.dlq"', ["f.toml:3", "leave it out"]),
    ('store.level = "memory"\n' + QUEUE, ["f.toml:2: queue[1]: needs a store"]),
    ("queues.max_queues = 1\n" + QUEUE + '[[queue]]\nname = "b"', ["f.toml:4", "max_queues = 1"]),
    ('[queues]\ncreate = "maybe"', ["f.toml:2", '"no" or "yes"']),
    ("queue = 3", ["[[queue]]"]),
    ('[[route]]\nqueue = "x.dlq"', ["f.toml:1: route[1]: takes no messages", "topic ="]),
    (QUEUE + '[[route]]\ntopic = "a"', ["f.toml:3: route[1]: leads nowhere", 'queue = "work"']),
    (
        QUEUE + '[[route]]\ntopic = "$queue/work"\nqueue = "work"',
        ["f.toml:4: route[1].topic:", '"$queue/work" is never matched', "from_queue"],
    ),
    ('[[route]]\ntopic = "a"\nqueue = "work"', ["f.toml:3: route[1].queue", "add a [[queue]]"]),
    (QUEUE + ROUTE.replace("work", "wrk"), ["f.toml:5: route[1].queue", "did you mean work?"]),
    (QUEUE + '[[route]]\nfrom_queue = "wrk"\nqueue = "work"', ["f.toml:4", "did you mean work?"]),
    (QUEUE + ROUTE + 'from_queue = "work"', ["f.toml:6", "exclude each other"]),
    (QUEUE + ROUTE + 'publish_to = "x"', ["f.toml:6", "add from_queue"]),
    (QUEUE + ROUTE + 'topics = "x"', ["f.toml:6", "did you mean topic?"]),
    (QUEUE + ROUTE + "when = 3", ["f.toml:6", "is not a condition"]),
    (QUEUE + ROUTE + f'when = "{"x" * 4097}"', ["f.toml:6", "at most 4096"]),
    (QUEUE + ROUTE + 'key = "level:4"', ["f.toml:6: route[1].key", '"topic:4"']),
    (QUEUE + ROUTE + 'key = "topic:0"', ["f.toml:6", "cannot be taken"]),
    (QUEUE + ROUTE + 'key = "json:"', ["f.toml:6", "cannot be taken"]),
    (QUEUE + ROUTE + 'key = "client:x"', ["f.toml:6", "cannot be taken"]),
    (QUEUE + ROUTE + "key = 4", ["f.toml:6", "4 cannot be taken"]),
    (QUEUE + ROUTE + "priority = 10", ["f.toml:6", "from 0 to 9", "json:FIELD"]),
    (QUEUE + ROUTE + 'delay = "soon"', ["f.toml:6", "is not a duration", "json:FIELD"]),
    (QUEUE + ROUTE + "share = 0", ["f.toml:6", "from 1 to 100"]),
    (QUEUE + ROUTE + 'split = "s"\nshare = 40', ["f.toml:7", "40 = 40: make them 100"]),
    (QUEUE + ROUTE + 'name = "n"\n' + ROUTE + 'name = "n"', ["f.toml:10", 'a route "n" before']),
    (QUEUE + ROUTE.replace("a/#", "a/#/b"), ["f.toml:4", "a whole level"]),
    (QUEUE + ROUTE.replace('"a/#"', "[3]"), ["f.toml:4", "is not a topic filter"]),
    (
        QUEUE + '[[route]]\nfrom_queue = "work"\npublish_to = "$SYS/x"',
        ["f.toml:5", "is not a topic to publish to", "without +, # and a $"],
    ),
    (
        QUEUE + '[[route]]\nfrom_queue = "work"\npublish_to = "a/{device}"',
        ["f.toml:5", "{key} its key"],
    ),
    (
        QUEUE + '[[route]]\nfrom_queue = "work"\npublish_to = "a"\nshare = 50',
        ["f.toml:6", "for ever"],
    ),
    (
        QUEUE
        + ROUTE
        + 'split = "s"\nshare = 50\nkey = "topic:2"\n'
        + ROUTE
        + 'split = "s"\nshare = 50',
        ["f.toml:9: route[2].key", 'same in all routes of the split "s"'],
    ),
    ('[http]\nlisten = "8180"', ["f.toml:2", '"127.0.0.1:8180"']),
    ('[http]\nlisten = "http://a:1"', ["f.toml:2", "is not a place to listen"]),
    ('[http]\nlisten = "a:70000"', ["f.toml:2", "is not a place to listen"]),
    ('[http]\nlisten = "a:1"\ntls_cert = "no"\ntls_key = ""', ["http.tls_cert", "no file"]),
    (TOKEN.replace('[http]\nlisten = "[::1]:1"\n', ""), ["http.listen", "open nothing"]),
    (TOKEN.replace("a" * 64, "a" * 63), ["f.toml:5: http.token[1].sha256", "sha256sum"]),
    ('[http]\nlisten = "a:1"\n[[http.token]]\nname = "x"', ["f.toml:3", "has no sha256", "printf"]),
    (TOKEN + "allow = []", ["f.toml:6", '"receive", "publish"']),
    (TOKEN + 'allow = ["recieve"]', ["f.toml:6", "did you mean receive?"]),
    (TOKEN + 'queues = ["a b"]', ["f.toml:6", "site-*"]),
    (TOKEN.replace("[[http.token]]", "[http.token]"), ["[[http.token]]", "two brackets"]),
    ('[store]\nschema = "A b"', ["f.toml:2: store.schema", "small letters"]),
    (f'[store]\nschema = "{"a" * 64}"', ["f.toml:2: store.schema", "at most 63"]),
]


@pytest.mark.parametrize(("text", "parts"), BAD)
def test_a_mistake_says_where_what_and_what_would_be_right(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    told = complaints(tmp_path, text)[0]
    assert [part for part in parts if part not in told] == []


def test_two_tokens_cannot_be_the_same(tmp_path: Path) -> None:
    other = TOKEN.partition("[[http.token]]")[2].replace("a" * 64, "A" * 64)
    names, hashes = complaints(tmp_path, f"{TOKEN}[[http.token]]{other}")
    assert 'http.token[2].name: there is a token "x" before' in names
    assert "http.token[2].sha256: is that of a token before" in hashes


@given(st.text("aZ0_.:-/ $é\n", max_size=6) | st.integers(120, 135).map("x".__mul__))
def test_the_settings_and_the_queues_agree_about_names(text: str) -> None:
    try:
        queue_name().read(text)
    except ValueError:
        assert not is_queue_name(text)
    else:
        assert is_queue_name(text)


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ROUTE + 'when = "temperature > 60"\n', "f.toml:6: route[1].when: knows no temperature"),
        (
            '[[route]]\nfrom_queue = "work"\nqueue = "work"\n',
            "f.toml:4: route[1].from_queue: messages would go round for ever: work -> work;",
        ),
    ],
)
def test_rules_that_cannot_work_are_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, text: str, told: str
) -> None:
    path = tmp_path / "f.toml"
    path.write_text(QUEUE + text, encoding="utf-8")
    assert run_command([command, *(["-c"] if command == "run" else []), str(path)]) == 1
    assert told in capsys.readouterr().err
