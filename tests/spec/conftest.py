"""The chapters in which something is kept hold with a store as well as without: each of their tests
is run twice.
"""

from collections.abc import Iterator

import pytest

from tests.support.broker import Defaults

STORED = (  # by the beginning of the file's name
    "test_3_1_2_wills",
    "test_3_8_subscribe",
    "test_4_1_session_state",
    "test_4_3_",
    "test_4_4_redelivery",
    "test_4_6_ordering",
    "test_4_8_shared",
    "test_4_9_flow_control",
    "test_session_machine",
)

# A store looks at the clock every minute, which is long in centuries; and retained messages may
# come before the SUBACK, which waits for its commit (section 3.8.4).
UNSTORED = (
    "test_the_largest_interval_never_runs_out",
    "test_retained_messages_that_were_still_to_come_belong_to_the_session",
)
# With a store, QoS 2 packets that are sent again wait for a commit and those of QoS 1 do not.


@pytest.fixture(autouse=True)
def _keeping(request: pytest.FixtureRequest) -> Iterator[None]:
    before = Defaults.instant_store
    Defaults.instant_store = getattr(request, "param", None) == "stored" or before
    yield
    Defaults.instant_store = before


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_stored = metafunc.module.__name__.rpartition(".")[2].startswith(STORED)
    if is_stored and metafunc.function.__name__ not in UNSTORED:
        metafunc.parametrize("_keeping", ["memory", "stored"], indirect=True)
