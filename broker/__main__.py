"""`python -m broker` and the console script `heliograph`."""

import sys

from broker.cli import run_command


def main() -> int:
    """Do what the command line says; return the exit code."""
    return run_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
