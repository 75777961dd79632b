"""What carries messages in and out: serial wires, MQTT-SN, work queues, other brokers.

Nothing here yet. A bridge implements a port that the broker's engine defines, or speaks MQTT to it;
the broker never imports one.
"""
