"""The serial wire, as machines without I/O: frames, the link that makes a noisy wire reliable, what
its channels carry, and the plainer ways in which a device may speak (docs/serial-protocol.md).
"""
