"""A device's way to a broker on a network: endpoint (where it is) < tcp, with an MQTT library."""
