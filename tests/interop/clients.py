"""The table of foreign clients: library, versions, transports, and what each can do or tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.adapters.aiomqtt_client import AiomqttClient
from tests.interop.adapters.amqtt_client import AmqttClient
from tests.interop.adapters.gmqtt_client import GmqttClient
from tests.interop.adapters.mosquitto_client import MosquittoClient, missing_mosquitto_clients
from tests.interop.adapters.mqttjs_client import Driver, MqttJsClient, missing_mqttjs
from tests.interop.adapters.paho_client import PahoClient
from tests.interop.foreign import V5, V311, ForeignClient, Options
from tests.support.process import TRANSPORTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from _pytest.mark import ParameterSet

VERSION_NAMES = {V311: "3.1.1", V5: "5"}


@dataclass(frozen=True, slots=True)
class Library:
    """A row of the table. A test runs for the libraries that have the flags it names."""

    name: str
    make: Callable[[Options, Driver], ForeignClient]
    versions: tuple[int, ...]
    transports: tuple[str, ...]
    is_resident: bool = (
        True  # one process or object holds the connection while it publishes and listens
    )
    unsubscribes: bool = True
    tells_session_present: bool = False
    tells_reason_codes: bool = False  # of PUBACK and UNSUBACK
    subscribe_options: bool = True  # No Local, Retain As Published, Retain Handling
    keeps_interleaved_pairs: bool = True  # user properties a, b, a come back as a, b, a
    reads_aliases: bool = False  # understands a topic alias that the broker chose
    writes_aliases: bool = True  # lets the program publish with an alias
    may_be_nameless: bool = False  # lets the broker choose the client identifier, and tells it
    missing: Callable[[], str | None] = lambda: None


LIBRARIES = (
    Library(
        "paho",
        lambda options, _: PahoClient(options),
        versions=(V311, V5),
        transports=TRANSPORTS,
        tells_session_present=True,
        tells_reason_codes=True,
        may_be_nameless=True,
    ),
    Library(
        "aiomqtt",
        lambda options, _: AiomqttClient(options),
        versions=(V311, V5),
        transports=TRANSPORTS,
    ),
    Library(
        "amqtt",
        lambda options, _: AmqttClient(options),
        versions=(V311,),
        transports=("tcp", "tls", "ws", "wss"),
    ),
    Library(
        "gmqtt",
        lambda options, _: GmqttClient(options),
        versions=(V311, V5),
        transports=("tcp", "tls"),
        tells_session_present=True,
        reads_aliases=True,
    ),
    Library(
        "mosquitto",
        lambda options, _: MosquittoClient(options),
        versions=(V311, V5),
        transports=("tcp", "tls", "unix"),
        is_resident=False,
        unsubscribes=False,
        subscribe_options=False,
        writes_aliases=False,
        missing=missing_mosquitto_clients,
    ),
    Library(
        "mqttjs",
        MqttJsClient,
        versions=(V311, V5),
        transports=TRANSPORTS,
        tells_session_present=True,
        tells_reason_codes=True,
        may_be_nameless=True,
        keeps_interleaved_pairs=False,
        reads_aliases=True,
        missing=missing_mqttjs,
    ),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One library speaking one version over one transport."""

    library: Library
    version: int
    transport: str

    def __str__(self) -> str:
        return f"{self.library.name}-{VERSION_NAMES[self.version]}-{self.transport}"


ALL_CASES = tuple(
    Case(library, version, transport)
    for library in LIBRARIES
    for version in library.versions
    for transport in library.transports
)


def cases(
    *flags: str, versions: tuple[int, ...] = (V311, V5), transports: tuple[str, ...] = ("tcp",)
) -> list[ParameterSet]:
    """The cases of these versions and transports whose library has every one of these flags."""
    return [
        pytest.param(case, id=str(case))
        for case in ALL_CASES
        if case.version in versions
        and case.transport in transports
        and all(getattr(case.library, flag) for flag in flags)
    ]


def for_clients(*flags: str, **which: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases(*flags, **which))


def find_case(name: str) -> Case:
    """`find_case("paho-5-tcp")`, for the tests that need a certain client."""
    return next(case for case in ALL_CASES if str(case) == name)
