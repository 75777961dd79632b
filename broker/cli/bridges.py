"""What bridges have to say about a settings file, asked before anything starts."""

from importlib import import_module

from broker.settings import Settings


def check_bridges(chosen: Settings) -> None:
    """Raise SettingsError unless every condition can be read, no message would go in circles, and
    every serial port can be looked for.
    """
    if chosen.routes or chosen.defined_queues:
        import_module("bridges.queues.routes").compile_settings(chosen)
    if chosen.serial:
        import_module("bridges.gateway.checking").check_ports(chosen)
