"""[store] and [[durability]]: where the store is, how safe a topic is; passwords stay hidden."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from broker.cli import run, run_command
from broker.packets.errors import ProtocolViolation
from broker.settings import (
    DatabaseUrl,
    DurabilitySettings,
    Filter,
    Settings,
    SettingsError,
    StoreSettings,
    load,
    redacted,
)
from broker.topics.filters import check_filter

SECRET = "s3cret"

GOOD_URLS = [
    "postgresql://user@host/database",
    "postgresql+psycopg://user:s3cret@host:5432/database",
    "postgresql:///database",
    "postgresql://user@/database?host=/var/run/postgresql",
    "postgresql://user:s3cret@[::1]:5432/database?sslmode=require",
    "postgresql://us%40er:s3cret%2F%40@host/database",
]

# what is written, and a part of the complaint; none of it may come back but the scheme
BAD_URLS = [
    ("mysql://user:s3cret@host/database", '"mysql" is no database of ours'),
    ("sqlite:///s3cret.db", '"" for SQLite'),
    ("postgres://user:s3cret@host/database", '"postgres" is no database of ours'),
    ("postgresql+asyncpg://user:s3cret@host/database", '"postgresql+psycopg://user@host/database"'),
    ("user:s3cret@host/database", "not a URL"),
    ("user:s3cret@postgresql://host/database", "this is no database of ours"),
    ("postgresql:/user:s3cret@host/database", "not a URL"),
    ("postgresql://user:s3cret", "cannot be read"),
    ("postgresql://user:s3cret/x@host/database", "%2F"),
    ("postgresql://user:1/s3cret@host/database", "%2F"),
    ("postgresql://user:a@s3cret@host/database", "%40"),
    ("postgresql://user:s3cret#x@host/database", "%23"),
    ("postgresql://user:s3cret?x@host/database", "%3F"),
    ("postgresql://user:s3cret@host:99999/database", "a port"),
    ("postgresql://user:s3cret@[host/database", "cannot be read"),
    ("postgresql://user:s3cret@host:/database", "a port"),
    ("postgresql://user:1/a?s3cret@host/database", "%40"),
    ("postgresql://user@host/database#s3cret", "%23"),
    ("postgresql://user:s3cret@host", "names no database"),
    ("postgresql://user:s3cret@host/a/b", "names no database"),
    ("postgresql://user:s3cret@host/a\nb", "not a URL"),
]


def complaint(**given: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(None, **given)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_database_url_is_taken_as_it_is_written(url: str) -> None:
    assert load(environ={"HELIOGRAPH_STORE__URL": url}).store.url == url


@given(st.text("u:@/?#%&=1", max_size=14))
def test_what_sqlalchemy_takes_for_the_password_of_a_good_url_is_never_shown(text: str) -> None:
    url = f"postgresql://{text}"
    try:
        DatabaseUrl().read(url)
    except ValueError:
        return
    hidden = None if make_url(url).password is None else "***"
    assert make_url(redacted(url)).password in {hidden, "***"}


@pytest.mark.parametrize(("url", "part"), BAD_URLS)
def test_a_bad_database_url_is_told_without_its_password(url: str, part: str) -> None:
    told = complaint(environ={"HELIOGRAPH_STORE__URL": url})
    assert told.startswith("HELIOGRAPH_STORE__URL: ")
    assert part in told
    assert "postgresql://user@host/database" in told
    assert SECRET not in told


@pytest.mark.parametrize("value", [f'["postgresql://u:{SECRET}@h/d"]', f"{{{SECRET} = 1}}", "7"])
def test_a_database_url_that_is_no_text_is_told_without_what_it_is(
    tmp_path: Path, value: str
) -> None:
    path = tmp_path / "f.toml"
    path.write_text(f"[store]\nurl = {value}\n", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert f"{path}:2: store.url: this is not a URL" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("postgresql://user@host/db", "postgresql://user@host/db"),
        ("postgresql://host:5432/db", "postgresql://host:5432/db"),
        ("postgresql://user:s3cret@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:s3cret@host:1/db", "postgresql://user:***@host:1/db"),
        ("postgresql:///db?user=u&password=s3cret", "postgresql:///db?user=u&password=***"),
        ("postgresql:///db?p%61ssword=s3cret&a=b", "postgresql:///db?p%61ssword=***&a=b"),
        ("postgresql://user:s3@cret://s3cret@host/db", "postgresql:***@host/db"),
        ("user:s3cret@host", "user:***@host"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert StoreSettings(url=url).shown_url == shown


def test_printing_the_settings_shows_all_of_the_store_but_the_password() -> None:
    settings = Settings(
        store=StoreSettings(url=f"postgresql://user:{SECRET}@host/db", level="commit")
    )
    for text in (repr(settings), str(settings), f"{settings.store}"):
        assert SECRET not in text
        assert "url='postgresql://user:***@host/db'" in text
        assert "level='commit'" in text
        assert "backlog_window=256" in text


@pytest.mark.parametrize("text", ["#", "+", "/", "a", "a/#", "+/b/#", "$SYS/#", "a//b", "é b/+"])
def test_a_valid_topic_filter_is_taken(text: str) -> None:
    assert Filter().read(text) == text


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("", "is not a topic filter"),
        (7, "7 is not a topic filter"),
        ("a\0b", "is not a topic filter"),
        ("x" * 65_536, "is not a topic filter"),
        ("é" * 32_768, "is not a topic filter"),
        ("a/#/b", "the last"),
        ("##", "the last"),
        ("a#", "the last"),
        ("a/#b", "the last"),
        ("a+/b", '"sensors/+/state"'),
        ("a/++", '"sensors/+/state"'),
        ("$share/g/a/#", "behind the group"),
        ("$share/", "shared"),
    ],
)
def test_an_invalid_topic_filter_is_refused(value: object, part: str) -> None:
    with pytest.raises(ValueError, match=r"filter|level") as caught:
        Filter().read(value)
    assert part in str(caught.value)


@given(st.text("a/#+$\0é", max_size=8))
def test_the_settings_and_the_broker_agree_about_topic_filters(text: str) -> None:
    try:
        check_filter(text, 128)
    except ProtocolViolation:
        with pytest.raises(ValueError, match=r"filter|level"):
            Filter().read(text)
    else:
        assert Filter().read(text) == text


def test_durability_rules_keep_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    rules = [("b/#", "memory"), ("a/#", "relaxed"), ("#", "commit")]
    text = "".join(f'[[durability]]\nfilter = "{f}"\nlevel = "{level}"\n' for f, level in rules)
    path.write_text(text, encoding="utf-8")
    assert load(path).durability == tuple(DurabilitySettings(*rule) for rule in rules)


def test_a_complaint_about_the_second_rule_names_its_line_among_listeners(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(
        '[[durability]]\nfilter = "a"\nlevel = "memory"\n[[listener]]\nurl = "tcp://[::1]:1"\n'
        '[[durability]]\nlevel = "memory"\nfilter = "a#"\n',
        encoding="utf-8",
    )
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:8: durability[2].filter: ")


def test_without_anything_every_topic_is_strict_in_sqlite() -> None:
    settings = load()
    assert (settings.store.level, settings.store.url, settings.durability) == ("strict", "", ())


def test_the_level_of_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text('[store]\nlevel = "relaxed"\n', encoding="utf-8")
    options = run._parser().parse_args(["--level", "memory"])
    assert load(path, {}, run.overrides(options)).store.level == "memory"


def test_an_unknown_level_on_the_command_line_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", "--level", "stric"]) == 1
    told = capsys.readouterr().err
    assert told == 'command line: store.level: "stric" is not known here: write "strict"\n'


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('[broker]\ndata_dir = "/d"', '/d/heliograph.db, level "strict"'),
        ('[store]\nurl = "postgresql://u:s3cret@h/d"', "postgresql://u:***@h/d, level"),
        ('[store]\nlevel = "memory"', "memory only"),
        (
            'store.level = "memory"\n[[durability]]\nfilter = "a"\nlevel = "strict"',
            'data/heliograph.db, level "memory"',
        ),
    ],
)
def test_check_says_where_the_store_would_be_and_no_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, kept: str
) -> None:
    path = tmp_path / "f.toml"
    path.write_text(text, encoding="utf-8")
    assert run_command(["check", str(path)]) == 0
    told = capsys.readouterr().out
    assert kept in told
    assert SECRET not in told
