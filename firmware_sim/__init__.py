"""Simulated devices: seeded sensors on a virtual wire or a real network, fleets of them with an
exact ledger, and real firmware in an emulator (`mcu/`).

A device is outside: it shares codecs and the link with the bridges and nothing else.
"""
