"""MQTT-SN 1.2: the messages, and the gateway's view of devices that speak it over any datagrams.

Machines only: no I/O, no clock. Packets (`codes`, `packets`, `decode`, `encode`) know nothing of
the broker, so a simulated device can use them, too. Section numbers are those of the standard.
"""
