"""Simulated devices: seeded sensors on a virtual wire, and real firmware in an emulator.

Nothing here yet. A device is outside: it shares codecs with the bridges and nothing else.
"""
