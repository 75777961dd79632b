"""What a scenario file may say: rules < scenario, wires < keys, checks < file (which reads one)."""
