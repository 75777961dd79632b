"""What all tests share: how hypothesis searches, and `--store instant`, which gives every broker in
memory a store.

No deadline and no complaint about slow data: speed is no matter of tests, and a busy machine must
not fail one. Under CI the search is the same every time, so that a failure there can be had again;
elsewhere it goes on finding new examples.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.support.broker import Defaults

settings.register_profile(
    "heliograph",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("heliograph")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--store", choices=["none", "instant"], default="none")


def pytest_configure(config: pytest.Config) -> None:
    Defaults.instant_store = config.getoption("--store") == "instant"
