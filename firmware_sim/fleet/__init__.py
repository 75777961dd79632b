"""A fleet: application (what one device does) < crew (its devices), commanding < fleet; record:
what was seen over time.

`ways` says what carries messages: in virtual time `hub`, `hub_port` and `wired` (run by `virtual`),
in real time `network` and `wired` (run by `real`).
"""
