"""`python -m firmware_sim`: as `heliograph sim`."""

import sys

from firmware_sim.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
