"""Mutated conversations against the whole engine; `python -m tests.fuzz --seconds 60 --seed 1`."""
