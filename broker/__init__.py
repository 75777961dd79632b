"""The Heliograph broker: an MQTT 3.1.1 and 5 server."""

__version__ = "0.1.0"
