"""MQTT packets: bytes <-> values. No I/O, no state but the reader's unfinished packet."""
