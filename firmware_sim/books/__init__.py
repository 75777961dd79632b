"""The books of a run: ledger < balance; evidence < diagnosis; books has them all."""
