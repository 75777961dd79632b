"""A device's ways to the broker: client machines (`firmware_sim/client.py`) on a wire."""
