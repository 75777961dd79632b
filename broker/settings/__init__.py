"""The settings: typed, from a TOML file, the environment and the command line, in this order.

A leaf: it imports nothing of ours. A setting is one field with its default; the rule beside its
type says which values are good, reads friendly spellings ("1 MiB", "7 days") and words the
complaint. `load` finds every problem before it raises, and each problem says where, which key, what
is wrong and what would be right. Sizes are in bytes, durations in seconds.

    words; urls; problems < rules; queue_rules < queue_tables; gateway_tables < tables
    tables < checking; queue_checking; gateway_checking; toml < loading
"""

from broker.settings.gateway_tables import (
    DeviceSettings,
    GatewaySettings,
    MqttSnSettings,
    SerialSettings,
)
from broker.settings.loading import load, variables
from broker.settings.problems import Place, Problem, SettingsError
from broker.settings.queue_tables import (
    HttpSettings,
    QueueSettings,
    QueuesSettings,
    RouteSettings,
    TokenSettings,
)
from broker.settings.rules import NEVER, DatabaseUrl, Filter
from broker.settings.tables import (
    DEVICE,
    DURABILITY,
    LISTENER,
    LISTS,
    QUEUE,
    ROUTE,
    RULES,
    SECTIONS,
    SERIAL,
    STORE_FILE,
    TOKEN,
    BrokerSettings,
    DurabilitySettings,
    Limits,
    ListenerSettings,
    Settings,
    StoreSettings,
)
from broker.settings.urls import parse_url, redacted

__all__ = [
    "DEVICE",
    "DURABILITY",
    "LISTENER",
    "LISTS",
    "NEVER",
    "QUEUE",
    "ROUTE",
    "RULES",
    "SECTIONS",
    "SERIAL",
    "STORE_FILE",
    "TOKEN",
    "BrokerSettings",
    "DatabaseUrl",
    "DeviceSettings",
    "DurabilitySettings",
    "Filter",
    "GatewaySettings",
    "HttpSettings",
    "Limits",
    "ListenerSettings",
    "MqttSnSettings",
    "Place",
    "Problem",
    "QueueSettings",
    "QueuesSettings",
    "RouteSettings",
    "SerialSettings",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "TokenSettings",
    "load",
    "parse_url",
    "redacted",
    "variables",
]
