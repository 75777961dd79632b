"""What carries messages in and out: work queues, serial wires, MQTT-SN, other brokers.

A bridge implements a port that the broker's engine defines, or speaks MQTT to it; the broker never
imports one: its server loads them by name.
"""
