"""Gathering the settings: from a TOML file, the environment and the command line, in this order.

`load` finds every problem before it raises.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from broker.settings.checking import http_problems, listener_problems, twice
from broker.settings.gateway_checking import gateway_problems
from broker.settings.gateway_tables import DeviceSettings, SerialSettings
from broker.settings.problems import Entry, Problem, SettingsError
from broker.settings.queue_checking import queue_problems
from broker.settings.queue_tables import HttpSettings, QueueSettings, RouteSettings, TokenSettings
from broker.settings.rules import Url
from broker.settings.tables import (
    DEVICE,
    DURABILITY,
    LISTENER,
    LISTS,
    NEEDED,
    QUEUE,
    ROUTE,
    RULES,
    SECTIONS,
    SERIAL,
    TOKEN,
    DurabilitySettings,
    ListenerSettings,
    Settings,
    default_listeners,
)
from broker.settings.toml import TomlFile
from broker.settings.words import did_you_mean

ENVIRONMENT_PREFIX = "HELIOGRAPH_"
COMMAND_LINE = "command line"

T = TypeVar("T", QueueSettings, RouteSettings, TokenSettings, SerialSettings, DeviceSettings)


def load(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """The settings from a TOML file, then HELIOGRAPH_SECTION__KEY variables, then overrides.

    The later wins. `overrides` has dotted keys ("broker.data_dir"); its "listener" is a list of
    URLs that replaces the listeners, as the variable HELIOGRAPH_LISTENER__URL (URLs separated by
    spaces) does. Paths in a file are relative to that file, all others to the working directory.
    Raises SettingsError with every problem.
    """
    draft = Draft()
    if path is not None:
        draft.read_file(path)
    draft.read_environment(environ or {})
    draft.read_overrides(overrides or {})
    return draft.settings()


class Draft:
    """The settings while they are gathered: good values so far, and every problem met."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        self.lists: dict[str, list[Entry]] = {name: [] for name in LISTS}
        self.places: dict[str, Problem] = {}  # where each good value was written
        self.problems: list[Problem] = []

    def read_file(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
            document = tomllib.loads(text)
        except OSError as error:
            wrong = f"cannot be read: {error.strerror}"
            self.problems.append(Problem(str(path), "", wrong))
        except ValueError as error:  # not TOML, or not UTF-8
            self.problems.append(Problem(str(path), "", f"is not TOML: {error}"))
        except RecursionError:
            self.problems.append(Problem(str(path), "", "lists or tables are nested too deep"))
        else:
            TomlFile(self, path, text).read(document)

    def read_environment(self, environ: Mapping[str, str]) -> None:
        for name in sorted(environ):
            if name.startswith(ENVIRONMENT_PREFIX):
                self._read_variable(name, environ[name])

    def read_overrides(self, overrides: Mapping[str, object]) -> None:
        for dotted, value in overrides.items():
            if dotted == LISTENER and isinstance(value, list):
                self._replace_listeners(COMMAND_LINE, value)
                continue
            section, _, key = dotted.partition(".")
            self.set(section, key, value, Problem(COMMAND_LINE, dotted, ""))

    def set(self, section: str, key: str, value: object, place: Problem) -> None:
        """Keep one value, or the problem with it."""
        if section not in SECTIONS or key not in RULES[section]:
            self.complain(place, did_you_mean(f"{section}.{key}", dotted_keys()))
            return
        self.keep(self.values[section], key, RULES[section][key].read, value, place)

    def keep(
        self, values: dict[str, Any], key: str, read: Any, value: object, place: Problem
    ) -> None:
        try:
            values[key] = read(value)
            self.places[place.key or place.source] = place
        except ValueError as error:
            self.complain(place, str(error))

    def complain(self, place: Problem, wrong: str) -> None:
        self.problems.append(Problem(place.source, place.key, wrong, place.line))

    def settings(self) -> Settings:
        """The settings, or SettingsError with all problems, those between two settings included."""
        made = {name: section(**self.values[name]) for name, section in SECTIONS.items()}
        made["http"] = self._http(made["http"], made["limits"].max_packet_size)
        made["mqttsn"] = replace(made["mqttsn"], devices=self._placed(DEVICE, DeviceSettings))
        listeners = tuple(ListenerSettings(**entry.values) for entry in self._whole(LISTENER))
        durability = tuple(DurabilitySettings(**entry.values) for entry in self._whole(DURABILITY))
        settings = Settings(
            listeners=listeners or default_listeners(),
            durability=durability,
            defined_queues=self._placed(QUEUE, QueueSettings),
            routes=self._placed(ROUTE, RouteSettings),
            serial=self._placed(SERIAL, SerialSettings),
            **made,
        )
        self._check_listeners(listeners)
        self._check_password_file(settings.auth.password_file)
        self._check_http(settings)
        self.problems.extend(queue_problems(settings))
        self.problems.extend(gateway_problems(settings))
        if self.problems:
            raise SettingsError(self.problems)
        return settings

    def _placed(self, name: str, made: type[T]) -> tuple[T, ...]:
        """The entries of a list as settings that know where they were written."""
        return tuple(made(**entry.values, place=entry.place) for entry in self._whole(name))

    def _http(self, http: HttpSettings, largest: int) -> HttpSettings:
        """[http] with its tokens; a body that nobody has set is as large as a packet may be."""
        body = http.max_body if "max_body" in self.values["http"] else min(http.max_body, largest)
        return replace(http, max_body=body, tokens=self._placed(TOKEN, TokenSettings))

    def _check_http(self, settings: Settings) -> None:
        for key, wrong in http_problems(settings.http):
            self._complain_about("http", key, wrong)
        largest = settings.limits.max_packet_size
        if settings.http.max_body > largest:
            wrong = f"is more than limits.max_packet_size, {largest} bytes: lower it, or raise that"
            self._complain_about("http", "max_body", wrong)

    def _complain_about(self, section: str, key: str, wrong: str) -> None:
        """Complain where the setting was written, or else without a place."""
        variable = f"{ENVIRONMENT_PREFIX}{section}__{key}".upper()
        dotted = f"{section}.{key}"
        place = self.places.get(variable) or self.places.get(dotted)
        self.complain(place or Problem("settings", dotted, ""), wrong)

    def _whole(self, name: str) -> list[Entry]:
        """The entries of a list that have what they need; the others are complained about."""
        return [entry for entry in self.lists[name] if NEEDED[name].keys() <= entry.values.keys()]

    def _check_listeners(self, listeners: tuple[ListenerSettings, ...]) -> None:
        entries = self._whole(LISTENER)
        for entry, listener in zip(entries, listeners, strict=True):
            self.problems.extend(listener_problems(listener, entry.source, entry.line))
        self.problems.extend(twice(entries))

    def _check_password_file(self, path: Path | None) -> None:
        if path is None or path.is_file():
            return
        wrong = f"there is no file {path}: make it with `heliograph passwd {path} USER`"
        self._complain_about("auth", "password_file", wrong)

    def _read_variable(self, name: str, text: str) -> None:
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        place = Problem(name, "", "")
        if (section, key) == (LISTENER, "url"):
            self._replace_listeners(name, text.split())
        elif section in SECTIONS and key in RULES[section]:
            rule = RULES[section][key]
            self.keep(self.values[section], key, rule.read_text, text, place)
        elif key or get_close_matches(name, list(variables()), 1, 0.9):
            known = did_you_mean(name, variables())
            self.complain(place, f"there is no such setting: {known}")

    def _replace_listeners(self, source: str, urls: list[Any]) -> None:
        self.lists[LISTENER].clear()
        for url in urls:
            values: dict[str, Any] = {}
            self.keep(values, "url", Url().read, url, Problem(source, "", ""))
            self.lists[LISTENER].append(Entry(source, 0, values))


def dotted_keys() -> Iterator[str]:
    """Every key outside the lists, as "section.key"."""
    return (f"{section}.{key}" for section in SECTIONS for key in RULES[section])


def variables() -> Iterator[str]:
    """Every environment variable that means something."""
    for dotted in dotted_keys():
        yield ENVIRONMENT_PREFIX + dotted.replace(".", "__").upper()
    yield f"{ENVIRONMENT_PREFIX}LISTENER__URL"
