"""Settings: what a person may write, which of two sources wins, and how every mistake is told."""

from pathlib import Path
from typing import Any

import pytest

from broker.settings import (
    LISTS,
    NEVER,
    RULES,
    SECTIONS,
    ListenerSettings,
    Settings,
    SettingsError,
    load,
    parse_url,
    variables,
)

# what is written in TOML, the setting it sets, the value it means
GOOD = [
    ('[limits]\nmax_packet_size = "64 KiB"', "limits.max_packet_size", 65_536),
    ('[limits]\nmax_packet_size = "1MiB"', "limits.max_packet_size", 1_048_576),
    ('[limits]\nmax_packet_size = "5 kB"', "limits.max_packet_size", 5000),
    ("[limits]\nmax_packet_size = 4096", "limits.max_packet_size", 4096),
    ("[limits]\nmax_packet_size = 268435460", "limits.max_packet_size", 268_435_460),
    ('[limits]\nsession_expiry_3_1_1 = "7 days"', "limits.session_expiry_3_1_1", 604_800),
    ('[limits]\nsession_expiry_3_1_1 = "never"', "limits.session_expiry_3_1_1", NEVER),
    ('[limits]\nmax_session_expiry = "2 h"', "limits.max_session_expiry", 7200),
    ('[broker]\nsys_interval = "1 min"', "broker.sys_interval", 60),
    ('[broker]\nshared_strategy = "sticky"', "broker.shared_strategy", "sticky"),
    ("[broker]\nretain_available = false", "broker.retain_available", False),
    ("[auth]\nallow_anonymous = true", "auth.allow_anonymous", "always"),
    ("[auth]\nallow_anonymous = false", "auth.allow_anonymous", "never"),
    ('[auth]\nallow_anonymous = "loopback"', "auth.allow_anonymous", "loopback"),
    ('[auth]\npassword_file = ""', "auth.password_file", None),
    ('[log]\nformat = "json"', "log.format", "json"),
    ('[limits]\nbacklog_policy = "last_value"', "limits.backlog_policy", "last_value"),
    ('[store]\nlevel = "relaxed"', "store.level", "relaxed"),
    ('[store]\nurl = ""', "store.url", ""),
    ('[store]\nurl = "postgresql://u@h/d"', "store.url", "postgresql://u@h/d"),
    ('[store]\nmax_size = "2 GiB"', "store.max_size", 2_147_483_648),
    ("[store]\nmax_size = 0", "store.max_size", 0),
    ("[store]\nrelaxed_interval = 0.25", "store.relaxed_interval", 0.25),
    ("[store]\nrelaxed_interval = 3600", "store.relaxed_interval", 3600.0),
    ('[store]\nrelaxed_interval = "250 ms"', "store.relaxed_interval", 0.25),
    ('[store]\nrelaxed_interval = "1.5s"', "store.relaxed_interval", 1.5),
    ('[store]\nrelaxed_interval = "2 min"', "store.relaxed_interval", 120.0),
]

# what is written in TOML, and all that must be in the one complaint
BAD = [
    ("[limits]\nmax_packet_sise = 1", ["f.toml:2", "limits.max_packet_sise", "max_packet_size?"]),
    ("[limts]\na = 1", ["f.toml:1", "limts", "did you mean limits?"]),
    ('[limits]\nmax_packet_size = "1 pound"', ["f.toml:2", '"1 pound"', '"64 KiB"']),
    ("[limits]\nmax_packet_size = 1", ["limits.max_packet_size", "1 is out of range", "128"]),
    ("[limits]\nmax_packet_size = true", ["true is not a size"]),
    ("[limits]\nmax_packet_size = 1.5", ["1.5 is not a size"]),
    ("[limits]\nmax_packet_size = 268435461", ["out of range", "268435460"]),
    ('[limits]\nmax_packet_size = "-1"', ['"-1" is not a size']),
    ('[limits]\nmax_packet_size = "٣"', ["is not a size"]),
    ('[limits]\nconnect_timeout = "fast"', ['"fast" is not a duration', '"30 s"']),
    ('[limits]\nconnect_timeout = "never"', ['"never" is not a duration']),
    ('[limits]\nreceive_maximum = "many"', ['"many" is not a whole number', "1 to 65535"]),
    ("[limits]\nreceive_maximum = 0", ["0 is out of range", "1 to 65535"]),
    ("[limits]\nreceive_maximum = 65536", ["65536 is out of range"]),
    ("[limits]\nreceive_maximum = false", ["false is not a whole number"]),
    ("[broker]\nmaximum_qos = 3", ["3 is out of range", "0 to 2"]),
    ("[broker]\nretain_available = 1", ["1 is not true or false"]),
    ('[broker]\nretain_available = "true"', ['"true" is not true or false', "without quotes"]),
    ('[broker]\nshared_strategy = "roundrobin"', ['write "round_robin"']),
    ('[broker]\nresponse_information = "a\\u0000b"', ["printable"]),
    ('[broker]\ndata_dir = ""', ['such as "data"']),
    ('[auth]\nallow_anonymous = "yes"', ['"loopback" or "always" or "never"']),
    ('[auth]\npassword_file = "nowhere"', ["f.toml:2", "heliograph passwd", "nowhere"]),
    ("[auth]\npassword_file = 7", ["7 is not a path"]),
    ("limits = 3", ["f.toml:1", "[limits]"]),
    ('[listener]\nurl = "tcp://0.0.0.0:1"', ["[[listener]]"]),
    ("[[listener]]\n", ["listener[1]", "has no url"]),
    ('[[listener]]\nurl = "mqtt://0.0.0.0:1883"', ['"tcp://0.0.0.0:1883"']),
    ('[[listener]]\nurl = "1883"', ["tcp, tls, ws, wss or unix"]),
    ("[[listener]]\nurl = 1883", ["1883 is not a URL"]),
    ('[[listener]]\nurl = "tcp://0.0.0.0:70000"', ["70000", "tcp://0.0.0.0:1883"]),
    ('[[listener]]\nurl = "tcp://:1883"', ["tcp://0.0.0.0:1883"]),
    ('[[listener]]\nurl = "tcp://0.0.0.0/mqtt"', ["has a path"]),
    ('[[listener]]\nurl = "unix://"', ["names no file"]),
    ('[[listener]]\nurl = "unix:///s"\nmode = "rw"', ['"rw" is not a file mode', '"0660"']),
    ('[[listener]]\nurl = "tcp://[::1]:1"\nurk = 1', ["listener[1].urk", "did you mean url?"]),
    (
        '[[listener]]\nurl = "tcp://[::1]:1"\nrequire_client_certificate = true',
        ['"tls://"', "require_client_certificate"],
    ),
    (
        '[[listener]]\nurl = "tcp://[::1]:1"\n[[listener]]\nurl = "ws://[::1]:1/x"',
        ["f.toml:3", "is there twice"],
    ),
    (
        '[[listener]]\nurl = "unix:///s"\n[[listener]]\nurl = "unix:///s"',
        ["f.toml:3", "is there twice"],
    ),
    ("[limits\n", ["f.toml", "is not TOML", "line 1"]),
    ("a = " + 5000 * "[", ["f.toml", "nested too deep"]),
    ('[limits]\nbacklog_policy = "drop_old"', ["f.toml:2", '"drop_old"', 'write "drop_oldest"']),
    ('[store]\nlevel = "safe"', ["f.toml:2", '"strict" or "commit" or "relaxed" or "memory"']),
    ("[store]\nmax_size = 1024", ["f.toml:2", "1024 is out of range", "0 for no limit"]),
    ("[store]\nmax_size = false", ["false is not a size", '"2 GiB"']),
    ("[store]\nbacklog_window = 0", ["0 is out of range", "from 1 to"]),
    ("[store]\nrelaxed_interval = 0.001", ["0.001 is out of range", "from 0.01 to 3600"]),
    ("[store]\nrelaxed_interval = nan", ["nan is out of range"]),
    ("[store]\nrelaxed_interval = true", ["true is not a duration", '"500 ms"']),
    ('[store]\nrelaxed_interval = "2 h"', ['"2 h" is out of range']),
    ('[store]\nrelaxed_interval = "soon"', ['"soon" is not a duration']),
    ('[durability]\nfilter = "a"', ["[[durability]]", "two brackets"]),
    ('[[durability]]\nlevel = "strict"', ["f.toml:1", "durability[1]", "has no filter"]),
    ('[[durability]]\nfilter = "a"', ["f.toml:1", "has no level", 'level = "relaxed"']),
    ('[[durability]]\nfilter = "a"\nlevel = "no"', ["f.toml:3", "durability[1].level", '"memory"']),
    (
        '[[durability]]\nfilter = "a"\nlevel = "memory"\nlevl = 1',
        ["f.toml:4", "did you mean level?"],
    ),
]


# what must be written: it has no default
NO_DEFAULT = {
    "durability": {"filter": "#", "level": "strict"},
    "queue": {"name": "work"},
    "http.token": {"name": "backend", "sha256": "0" * 64},
    "serial": {"port": "auto"},
}


def written(folder: Path, text: str) -> Path:
    path = folder / "f.toml"
    path.write_text(text, encoding="utf-8")
    return path


def value_of(settings: Settings, dotted: str) -> Any:
    section, key = dotted.split(".")
    return getattr(getattr(settings, section), key)


def complaints(path: Path | None = None, **given: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(path, **given)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(("text", "dotted", "value"), GOOD)
def test_what_a_person_may_write_is_understood(
    tmp_path: Path, text: str, dotted: str, value: object
) -> None:
    assert value_of(load(written(tmp_path, text)), dotted) == value


@pytest.mark.parametrize(("text", "parts"), BAD)
def test_a_mistake_is_one_complaint_that_says_where_what_and_what_would_be_right(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    (complaint,) = complaints(written(tmp_path, text))
    assert [part for part in parts if part not in complaint] == []


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, '[limits]\nmax_inflight = 0\n\n[log]\nlevel = "loud"\nx = 1\n[nope]\n')
    environ = {"HELIOGRAPH_LIMITS__BACKLOG_BYTES": "much"}
    told = complaints(path, environ=environ, overrides={"listener": ["tcp://"]})
    lines = [line.removeprefix(f"{path}:").partition(":")[0] for line in told]
    assert lines == ["2", "5", "6", "7", "HELIOGRAPH_LIMITS__BACKLOG_BYTES", "command line"]


def test_a_complaint_about_the_second_listener_names_its_line(tmp_path: Path) -> None:
    text = '[[listener]]\nurl = "tcp://[::1]:1"\n\n[[listener]]\nmode = 8\nurl = "unix:///s"\n'
    (complaint,) = complaints(written(tmp_path, text))
    assert ":5: listener[2].mode:" in complaint


def test_a_missing_file_is_told_by_name(tmp_path: Path) -> None:
    (complaint,) = complaints(tmp_path / "none.toml")
    assert "none.toml: cannot be read: No such file" in complaint


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_bytes(b"[log]\nlevel = '\xff'\n")
    assert len(complaints(path)) == 1


def test_without_anything_the_defaults_hold_and_port_1883_is_open() -> None:
    settings = load()
    assert settings == Settings()
    assert settings.listeners[0].url == "tcp://0.0.0.0:1883"
    assert settings.auth.allow_anonymous == "loopback"


def test_every_default_keeps_its_own_rule() -> None:
    for section, rules in RULES.items():
        made = {**SECTIONS, **LISTS}[section](**NO_DEFAULT.get(section, {}))
        for key, rule in rules.items():
            value = getattr(made, key)
            assert rule.read("" if value is None else value) == value, f"{section}.{key}"


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = written(tmp_path, '[log]\nlevel = "error"\n[limits]\nmax_inflight = 7')
    environ = {"HELIOGRAPH_LOG__LEVEL": "warning", "HELIOGRAPH_LIMITS__MAX_INFLIGHT": "8"}
    settings = load(path, environ, {"log.level": "debug"})
    assert settings.log.level == "debug"
    assert settings.limits.max_inflight == 8
    assert load(path).limits.max_inflight == 7


@pytest.mark.parametrize(
    ("name", "text", "dotted", "value"),
    [
        ("HELIOGRAPH_LIMITS__MAX_PACKET_SIZE", "64 KiB", "limits.max_packet_size", 65_536),
        ("HELIOGRAPH_LIMITS__MAX_SESSION_EXPIRY", "never", "limits.max_session_expiry", NEVER),
        ("HELIOGRAPH_AUTH__ALLOW_ANONYMOUS", "true", "auth.allow_anonymous", "always"),
        ("HELIOGRAPH_AUTH__ALLOW_ANONYMOUS", "loopback", "auth.allow_anonymous", "loopback"),
        ("HELIOGRAPH_BROKER__RETAIN_AVAILABLE", "off", "broker.retain_available", False),
        ("HELIOGRAPH_BROKER__MAXIMUM_QOS", "1", "broker.maximum_qos", 1),
        ("HELIOGRAPH_BROKER__DATA_DIR", "/x/y", "broker.data_dir", Path("/x/y")),
        ("HELIOGRAPH_STORE__URL", "postgresql://u:p@h/d", "store.url", "postgresql://u:p@h/d"),
        ("HELIOGRAPH_STORE__RELAXED_INTERVAL", "0.5", "store.relaxed_interval", 0.5),
        ("HELIOGRAPH_STORE__MAX_SIZE", "0", "store.max_size", 0),
    ],
)
def test_a_variable_is_read_by_the_type_of_its_setting(
    name: str, text: str, dotted: str, value: object
) -> None:
    assert value_of(load(environ={name: text}), dotted) == value


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("HELIOGRAPH_LIMITS__MAX_PACKET", "1", "did you mean HELIOGRAPH_LIMITS__MAX_PACKET_SIZE?"),
        ("HELIOGRAPH_LIMITS_MAX_INFLIGHT", "1", "did you mean HELIOGRAPH_LIMITS__MAX_INFLIGHT?"),
        ("HELIOGRAPH_LIMITS__MAX_INFLIGHT", "x", '"x" is not good here'),
        ("HELIOGRAPH_BROKER__RETAIN_AVAILABLE", "maybe", '"maybe" is not true or false'),
        ("HELIOGRAPH_AUTH__PASSWORD_FILE", "/no/such", "heliograph passwd /no/such USER"),
        ("HELIOGRAPH_LISTENER__URL", "tcp://a:1 x", '"x" is not a URL'),
    ],
)
def test_a_bad_variable_is_named(name: str, text: str, part: str) -> None:
    (complaint,) = complaints(environ={name: text})
    assert complaint.startswith(f"{name}: ")
    assert part in complaint


def test_variables_of_others_are_left_alone() -> None:
    assert load(environ={"HELIOGRAPH_HOME": "/x", "PATH": "/bin", "HELIOGRAPH": ""}) == load()


def test_every_variable_that_is_announced_is_known() -> None:
    assert all(name.startswith("HELIOGRAPH_") and "__" in name for name in variables())
    assert len(set(variables())) == sum(len(RULES[section]) for section in SECTIONS) + 1


def test_listeners_of_the_command_line_replace_those_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[[listener]]\nurl = "tcp://127.0.0.1:1"')
    settings = load(path, {}, {"listener": ["tcp://127.0.0.1:2", "unix:///s"]})
    assert [listener.url for listener in settings.listeners] == ["tcp://127.0.0.1:2", "unix:///s"]


def test_a_variable_may_list_listeners() -> None:
    settings = load(environ={"HELIOGRAPH_LISTENER__URL": "tcp://127.0.0.1:2 ws://127.0.0.1:3/x"})
    assert [listener.port for listener in settings.listeners] == [2, 3]


def test_two_listeners_may_both_let_the_system_choose_a_port() -> None:
    settings = load(overrides={"listener": ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]})
    assert len(settings.listeners) == 2


def test_paths_in_a_file_are_relative_to_that_file(tmp_path: Path) -> None:
    (tmp_path / "users").touch()
    text = '[broker]\ndata_dir = "d"\n[auth]\npassword_file = "users"'
    settings = load(written(tmp_path, text))
    assert settings.broker.data_dir == tmp_path / "d"
    assert settings.auth.password_file == tmp_path / "users"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    settings = load(written(tmp_path, '[broker]\ndata_dir = "/var/lib/x"'))
    assert settings.broker.data_dir == Path("/var/lib/x")


def test_tls_without_its_files_says_which_are_missing(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    text = '[[listener]]\nurl = "wss://[::1]:1"\nkey = "key"\nrequire_client_certificate = true'
    told = complaints(written(tmp_path, text))
    assert ["has no certificate" in told[0], "client_ca" in told[1], len(told)] == [True, True, 2]


def test_tls_with_its_files_is_good(tmp_path: Path) -> None:
    for name in ("crt", "key", "ca"):
        (tmp_path / name).touch()
    text = (
        '[[listener]]\nurl = "tls://[::]:8883"\ncertificate = "crt"\nkey = "key"\n'
        'client_ca = "ca"\nuse_certificate_cn_as_username = true\nallow_anonymous = false'
    )
    (listener,) = load(written(tmp_path, text)).listeners
    assert listener.certificate == tmp_path / "crt"
    assert listener.use_certificate_cn_as_username
    assert listener.allow_anonymous == "never"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("tcp://0.0.0.0:1883", ("tcp", "0.0.0.0", 1883, "/")),
        ("tcp://localhost", ("tcp", "localhost", 1883, "/")),
        ("tls://[::1]", ("tls", "::1", 8883, "/")),
        ("ws://a:8080/mqtt", ("ws", "a", 8080, "/mqtt")),
        ("wss://a", ("wss", "a", 8443, "/")),
        ("tcp://a:0", ("tcp", "a", 0, "/")),
        ("unix:///run/x.sock", ("unix", "", 0, "/run/x.sock")),
        ("unix://x.sock", ("unix", "", 0, "x.sock")),
    ],
)
def test_a_url_is_taken_apart(url: str, parts: tuple[str, str, int, str]) -> None:
    assert tuple(parse_url(url)) == parts
    listener = ListenerSettings(url)
    assert (listener.scheme, listener.host, listener.port, listener.path) == parts
