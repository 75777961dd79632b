"""The benchmark: Heliograph beside other brokers on one machine (`make bench`).

It measures and never tests: pytest collects nothing here but the check of the ruler itself.
"""
