"""Simulated devices: seeded sensors on a virtual wire or a real network, fleets of them with an
exact ledger, and real firmware, compiled for this computer or in an emulator.

A device is outside: it shares codecs and the link with the bridges and nothing else.

Where to look, each room knowing those above it, and those on one line not each other:

    wire/                 what happens to bytes, in virtual and in real time; ports for a gateway
    device/               what a device is made of: signals, battery, flash, bugs
    books/                what was said, what arrived, and the difference
    clients/              a device's ways to speak on a wire
    network/              the same over TCP, TLS and WebSocket
    scenario/, firmware/  what a file says shall be simulated; real firmware behind a port
    fleet/                the devices of a scenario, and the broker that they are told of
    report/               the figures for people: progress, text, JSON, a page
    command.py            `heliograph sim`; command_emulate.py: an emulated controller as a port

mcu/ is not Python: the client in C, the firmware made with it, and what builds both.
"""
