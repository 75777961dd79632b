"""The options of pub and sub: mosquitto's spelling, any text as a value, complaints that help."""

import pytest

from broker.cli import pub, sub
from broker.cli.conversation import connect_packet
from broker.cli.options import NEVER, PUB_OPTIONS, SUB_OPTIONS, Option, Options, UsageError, parse
from broker.packets.codes import MQTT_3_1, MQTT_3_1_1, MQTT_5, PacketType
from broker.packets.properties import WILL, Property
from broker.packets.types import Will


def parse_pub(line: str) -> Options:
    return parse(PUB_OPTIONS, line.split())


def parse_sub(line: str) -> Options:
    return parse(SUB_OPTIONS, line.split())


def test_the_defaults_are_mosquittos() -> None:
    options = parse_pub("-t a -m b")
    assert (options.host, options.port, options.qos, options.keep_alive) == (
        "localhost",
        1883,
        0,
        60,
    )
    assert options.version == MQTT_3_1_1
    assert connect_packet(options).clean_start


def test_h_is_the_host_not_help() -> None:
    assert parse_pub("-h there -t a -m b").host == "there"


@pytest.mark.parametrize("text", ["-5", "--", "-m", "--help", "", "=", "ä ö"])
def test_any_text_can_be_a_message(text: str) -> None:
    options = parse(PUB_OPTIONS, ["-t", "a", "-m", text])
    assert options.message == text.encode()


def test_bytes_of_the_command_line_that_are_no_utf8_stay_what_they_are() -> None:
    options = parse(PUB_OPTIONS, ["-t", "a", "-m", b"\xff\xfe".decode(errors="surrogateescape")])
    assert options.message == b"\xff\xfe"


def test_topics_of_sub_add_up() -> None:
    options = parse_sub("-t a -t b/# -T b/c -U x")
    assert (options.topics, options.filter_out, options.unsubscribe) == (
        ["a", "b/#"],
        ["b/c"],
        ["x"],
    )


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("mqttv31", MQTT_3_1),
        ("31", MQTT_3_1),
        ("mqttv311", MQTT_3_1_1),
        ("311", MQTT_3_1_1),
        ("mqttv5", MQTT_5),
        ("5", MQTT_5),
    ],
)
def test_each_version_has_its_names(name: str, version: int) -> None:
    assert parse_pub(f"-t a -m b -V {name}").version == version


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-L mqtt://h/a/b", ("mqtt", "h", 1883, ["a/b"], None, None)),
        ("-L mqtt://h:7/", ("mqtt", "h", 7, [], None, None)),
        ("-L mqtts://u:p%40@h/a", ("mqtts", "h", 8883, ["a"], "u", "p@")),
        ("-L mqtt://[::1]:9/a%23", ("mqtt", "::1", 9, ["a#"], None, None)),
        ("-L mqtt://h/a/#", ("mqtt", "h", 1883, ["a/#"], None, None)),
        ("-L ws://h:8080/x -t a", ("ws", "h", 8080, ["a"], None, None)),
    ],
)
def test_a_url_says_it_all(line: str, expected: tuple[object, ...]) -> None:
    given = parse_sub(line)
    assert (
        given.scheme,
        given.host,
        given.port,
        given.topics,
        given.username,
        given.password,
    ) == expected


def test_tls_moves_the_port_unless_it_is_given() -> None:
    assert parse_pub("-t a -m b --cafile x").port == 8883
    assert parse_pub("-t a -m b --cafile x -p 1").port == 1


def test_properties_reach_their_packets_in_order() -> None:
    options = parse_pub(
        "-t a -m b -D publish user-property k v -D publish user-property k w"
        " -D publish content-type text/plain -D publish correlation-data c"
        " -D connect receive-maximum 7 -D will will-delay-interval 3"
        " -D disconnect session-expiry-interval 0"
    )
    assert options.version == MQTT_5  # nobody said -V, and 3.1.1 has no properties
    assert options.properties == {
        PacketType.PUBLISH: {
            Property.USER_PROPERTY: [("k", "v"), ("k", "w")],
            Property.CONTENT_TYPE: "text/plain",
            Property.CORRELATION_DATA: b"c",
        },
        PacketType.CONNECT: {Property.RECEIVE_MAXIMUM: 7},
        WILL: {Property.WILL_DELAY_INTERVAL: 3},
        PacketType.DISCONNECT: {Property.SESSION_EXPIRY_INTERVAL: 0},
    }


def test_a_subscription_identifier_is_a_list_of_one() -> None:
    options = parse_sub("-t a -D subscribe subscription-identifier 7")
    assert options.properties == {PacketType.SUBSCRIBE: {Property.SUBSCRIPTION_IDENTIFIER: [7]}}


def test_the_will_and_the_session_reach_the_connect_packet() -> None:
    connect = connect_packet(
        parse_sub(
            "-t a -i me -c -V 5 -u u -P p -k 9 --will-topic w --will-payload x --will-qos 2"
            " --will-retain -D will content-type t"
        )
    )
    assert connect.client_id == "me"
    assert not connect.clean_start
    assert (connect.username, connect.password, connect.keep_alive) == ("u", b"p", 9)
    assert connect.will == Will("w", b"x", 2, True, {Property.CONTENT_TYPE: "t"})
    assert connect.properties == {Property.SESSION_EXPIRY_INTERVAL: NEVER}


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("60", 60), ("-1", NEVER), ("∞", NEVER)])
def test_a_session_expiry_is_a_property_of_mqtt_5(text: str, seconds: int) -> None:
    connect = connect_packet(parse_sub(f"-t a -i me -c -x {text}"))
    assert connect.version == MQTT_5
    assert connect.properties == {Property.SESSION_EXPIRY_INTERVAL: seconds}


def test_mqtt_3_1_gets_a_client_id_because_it_knows_no_empty_one() -> None:
    assert connect_packet(parse_sub("-t a -V 31")).client_id
    assert not connect_packet(parse_sub("-t a -V 311")).client_id


def test_an_id_prefix_becomes_a_client_id() -> None:
    client_id = parse_sub("-t a -I probe-").client_id
    assert client_id.startswith("probe-")
    assert client_id.removeprefix("probe-").isdecimal()


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("-t", "-t needs a value"),
        ("-t a -q 3", "from 0 to 2"),
        ("-t a -p 0", "from 1 to 65535"),
        ("-t a -p ٣x", "must be a whole number"),
        ("-t a -V 6", "mqttv5"),
        ("-t a --retaim", "did you mean --retain?"),
        ("a b", "belongs to no option"),
        ("-t a -c", "add -i ID"),
        ("-t a -i x -I y", "exclude each other"),
        ("-t a -P x", "add -u USER"),
        ("-t a --cert x", "--cert and --key"),
        ("-t a --will-payload x", "--will-topic"),
        ("-t a -x 1 -V 311", "need -V mqttv5"),
        ("-t a -D publish content-typ x", "did you mean content-type?"),
        ("-t a -D publish receive-maximum 5", "publish has no such property"),
        ("-t a -D puplish content-type x", "one of connect, publish"),
        ("-t a -D connect receive-maximum 0", "from 1 to 65535"),
        ("-t a -D connect receive-maximum x", "must be a whole number"),
        ("-t a -D publish user-property k", "-D needs a value"),
        ("-L http://h/a", "mqtt://"),
        ("-L mqtt://h:port/a", "-L"),
        ("-t a --repeat-delay soon", "number of seconds"),
    ],
)
def test_a_mistake_is_told_with_what_would_be_right(line: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_pub(line)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("command", "line", "part"),
    [
        (pub, "-m x", "which topic?"),
        (pub, "-t a", "say once what to publish"),
        (pub, "-t a -m x -n", "say once what to publish"),
        (pub, "-t a -t b -m x", "only one topic"),
        (pub, "-t a/# -m x", '"a/#" is not a valid topic'),
        (pub, "-t a -m x --will-topic w/+", '"w/+" is not a valid topic'),
        (sub, "-v", "which topic?"),
        (sub, "-t a/#/b", '"a/#/b" is not a valid topic filter'),
        (sub, "-t $share/g/a#", "is not a valid topic filter"),
        (sub, "-t a -T #a", '"#a" is not a valid topic filter'),
        (sub, "-t a -R --retained-only", "exclude each other"),
        (sub, "-t a -F %z", 'there is no "%z"'),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_connected(
    command: object, line: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(line.split()) == 1
    told = capsys.readouterr()
    assert part in told.err
    assert not told.out


@pytest.mark.parametrize("line", ["-t $share/g/a/#", "-t a -t +/b/#", "-U a"])
def test_filters_a_broker_would_take_are_let_through(line: str) -> None:
    sub.check(parse_sub(line))


@pytest.mark.parametrize(("command", "table"), [(pub, PUB_OPTIONS), (sub, SUB_OPTIONS)])
def test_help_names_every_option(
    command: object, table: tuple[Option, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert [name for option in table for name in option.names if name not in text] == []


@pytest.mark.parametrize("table", [PUB_OPTIONS, SUB_OPTIONS])
def test_every_option_sets_something_and_no_name_is_given_twice(table: tuple[Option, ...]) -> None:
    names = [name for option in table for name in option.names]
    assert len(names) == len(set(names))
    known = set(Options.__slots__) | {"url", "ignored"}
    assert {option.target for option in table} <= known
