"""-F formats: mosquitto's letters, time, escapes and JSON."""

import json
from collections.abc import Iterator

import pytest

from broker.cli.options import UsageError
from broker.cli.output import SPECIFIERS, compile_format, default_format, local_time
from broker.packets.properties import Property
from broker.packets.types import Publish

ARRIVAL = 1_700_000_000_123_456_789  # 2023-11-14 22:13:20.123456789 UTC

MESSAGE = Publish(
    "a/ü",
    b"\x01hi",
    qos=1,
    retain=True,
    packet_id=9,
    properties={
        Property.CONTENT_TYPE: "text/plain",
        Property.CORRELATION_DATA: b"\xffc",
        Property.MESSAGE_EXPIRY_INTERVAL: 90,
        Property.PAYLOAD_FORMAT_INDICATOR: 1,
        Property.RESPONSE_TOPIC: "r",
        Property.SUBSCRIPTION_IDENTIFIER: [3, 4],
        Property.TOPIC_ALIAS: 5,
        Property.USER_PROPERTY: [("k", "v"), ("k", "w")],
    },
)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def render(text: str, message: Publish = MESSAGE) -> bytes:
    return compile_format(text)(message, ARRIVAL)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("%t|%p|%q|%r|%l|%m", "a/ü|\x01hi|1|1|3|9".encode()),
        ("%x %X", b"016869 016869"),
        ("100%% @@", b"100% @"),
        ("%C %E %F %R %S %A %P", b"text/plain 90 1 r 3 4 5 k:v k:w"),
        ("%D", b"\xffc"),
        ("%U", b"1700000000.123456789"),
        ("@N", b"123456789"),
        (r"\t\n\\\0\a\e\r\v", b"\t\n\\\0\a\033\r\v"),
        ("", b""),
    ],
)
def test_each_letter_prints_its_part(text: str, printed: bytes) -> None:
    assert render(text) == printed


@pytest.mark.usefixtures("utc")
def test_times_are_local_times() -> None:
    assert render("%I") == b"2023-11-14T22:13:20+0000"
    assert render("@Y-@m-@d @H:@M:@S") == b"2023-11-14 22:13:20"
    assert local_time(ARRIVAL).microsecond == 123_456


def test_properties_that_are_absent_print_nothing() -> None:
    assert render("%A%C%D%E%F%P%R%S", Publish("t")) == b""


def test_json_is_one_line_with_everything() -> None:
    line = render("%j")
    assert b"\n" not in line
    record = json.loads(line)
    assert record.pop("tst").startswith("2023-11-1")
    assert record == {
        "topic": "a/ü",
        "qos": 1,
        "retain": 1,
        "payloadlen": 3,
        "mid": 9,
        "payload": "\x01hi",
        "properties": {
            "content-type": "text/plain",
            "correlation-data": "�c",
            "message-expiry-interval": 90,
            "payload-format-indicator": 1,
            "response-topic": "r",
            "subscription-identifier": [3, 4],
            "topic-alias": 5,
            "user-properties": [["k", "v"], ["k", "w"]],
        },
    }


@pytest.mark.parametrize(
    ("payload", "nested"),
    [(b'{"a": [1, null]}', {"a": [1, None]}), (b"21.5", 21.5), (b"{", "{"), (b"\xff", "�")],
)
def test_a_json_payload_may_be_nested(payload: bytes, nested: object) -> None:
    assert json.loads(render("%J", Publish("t", payload)))["payload"] == nested


@pytest.mark.parametrize("text", ["%z", "%", r"\q", "\\", "@1", "@"])
def test_what_no_format_knows_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="-F"):
        compile_format(text)


def test_every_letter_can_print_a_bare_message() -> None:
    for letter in SPECIFIERS:
        assert isinstance(render(f"%{letter}", Publish("t", b"x")), bytes)


def test_without_a_format_the_payload_is_printed_as_it_is() -> None:
    assert default_format(verbose=False)(MESSAGE, ARRIVAL) == b"\x01hi"
    assert default_format(verbose=True)(MESSAGE, ARRIVAL) == "a/ü \x01hi".encode()
    assert default_format(verbose=True)(Publish("t"), ARRIVAL) == b"t (null)"
