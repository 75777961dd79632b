"""The rules of queues in a settings file, checked before anything starts."""

from importlib import import_module

from broker.settings import Settings


def check_rules(chosen: Settings) -> None:
    """Raise SettingsError unless every condition can be read and no message would go in circles."""
    if chosen.routes or chosen.defined_queues:
        import_module("bridges.queues.routes").compile_settings(chosen)
