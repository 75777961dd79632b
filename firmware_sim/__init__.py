"""Simulated devices: seeded sensors on a virtual wire or a real network, fleets of them with an
exact ledger, and real firmware in an emulator (`mcu/`).

A device is outside: it shares codecs and the link with the bridges and nothing else.

Where to look, each row knowing those above it:

    the wire       faults < uart < worlds (virtual and real time) < pty (a port for a gateway)
    speaking       client (what all can do); clients/ on a wire; tcp, mqtt_library over a network
    a device       signals, battery, flash, bugs; application: what it does with them
    the books      ledger < balance; evidence < diagnosis; books has them all; record: over time
    a scenario     rules < scenario_keys, scenario_checks < scenario_file; wires, endpoint
    a fleet        crew (its devices), commanding < fleet; ways: who carries its messages,
                   in virtual time by hub, hub_port and wired, in real time by tcp and wired
    for people     progress, report/, command (`heliograph sim`)
    real firmware  mcu/ (C); images < emulator < emulated_port < command_emulate; compiled
"""
