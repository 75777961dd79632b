"""The gate sees every way in which statements, tests and reasons can fail to go together."""

import pytest

from tests.spec.conformance import Statement, assign, read_reasons, read_statements, render


def statements(binds: str = "server") -> dict[str, Statement]:
    statement = Statement("5.0", "MQTT-3.1.0-2", binds, "A second CONNECT ends the connection.")
    return {statement.key: statement}


@pytest.mark.parametrize("binds", ["server", "both"])
def test_a_statement_without_test_and_reason_is_open(binds: str) -> None:
    assert assign(statements(binds), {}, {}) == [
        "5.0:MQTT-3.1.0-2: neither test nor reason (A second CONNECT ends the connection.)"
    ]


def test_a_test_or_a_reason_is_enough() -> None:
    assert assign(statements(), {"5.0:MQTT-3.1.0-2": ["t.py::test"]}, {}) == []
    assert assign(statements(), {}, {"5.0:MQTT-3.1.0-2": "because"}) == []


def test_a_statement_that_binds_clients_needs_nothing() -> None:
    assert assign(statements("client"), {}, {}) == []


@pytest.mark.parametrize(
    ("binds", "marks", "reasons", "complaint"),
    [
        ("client", {}, {"5.0:MQTT-3.1.0-2": "because"}, "binds clients only"),
        ("server", {"5.0:MQTT-3.1.0-2": ["t.py::a"]}, {"5.0:MQTT-3.1.0-2": "x"}, "yet observed"),
        ("client", {"5.0:MQTT-9": ["t.py::a"]}, {}, "no such statement, carried by t.py::a"),
        ("client", {}, {"5.0:MQTT-9": "x"}, "no such statement, in unobservable.toml"),
    ],
)
def test_what_does_not_go_together_is_told(
    binds: str, marks: dict[str, list[str]], reasons: dict[str, str], complaint: str
) -> None:
    (problem,) = assign(statements(binds), marks, reasons)
    assert complaint in problem


def test_the_page_names_the_tests_and_the_reasons() -> None:
    known = read_statements()
    tested, unobserved = "5.0:MQTT-3.1.0-2", "3.1.1:MQTT-3.1.0-2"
    assign(known, {tested: ["tests/a.py::test_it"]}, {unobserved: "for | good"})
    page = render(list(known.values()))
    assert "[a::test_it](../tests/a.py)" in page
    assert "not observable: for \\| good" in page
    assert all(f"| {statement.number} |" in page for statement in known.values())


def test_every_reason_is_a_sentence() -> None:
    assert all(len(reason) > 20 for reason in read_reasons().values())
