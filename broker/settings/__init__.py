"""The settings: typed, from a TOML file, the environment and the command line, in this order.

A leaf: it imports nothing of ours. A setting is one field with its default; the rule beside its
type says which values are good, reads friendly spellings ("1 MiB", "7 days") and words the
complaint. `load` finds every problem before it raises, and each problem says where, which key, what
is wrong and what would be right. Sizes are in bytes, durations in seconds.

    words < problems; urls < rules < tables < checking; toml; loading
"""

from broker.settings.loading import load, variables
from broker.settings.problems import Problem, SettingsError
from broker.settings.rules import NEVER, DatabaseUrl, Filter
from broker.settings.tables import (
    DURABILITY,
    LISTENER,
    LISTS,
    RULES,
    SECTIONS,
    STORE_FILE,
    BrokerSettings,
    DurabilitySettings,
    Limits,
    ListenerSettings,
    Settings,
    StoreSettings,
)
from broker.settings.urls import parse_url, redacted

__all__ = [
    "DURABILITY",
    "LISTENER",
    "LISTS",
    "NEVER",
    "RULES",
    "SECTIONS",
    "STORE_FILE",
    "BrokerSettings",
    "DatabaseUrl",
    "DurabilitySettings",
    "Filter",
    "Limits",
    "ListenerSettings",
    "Problem",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "load",
    "parse_url",
    "redacted",
    "variables",
]
