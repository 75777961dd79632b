"""The gateway: serial ports and UDP on one side, MQTT-SN devices in the middle, a broker on the
other. It ties together what `bridges.serial` and `bridges.mqttsn` know, and does their I/O.
"""
