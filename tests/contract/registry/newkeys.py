"""A child that makes a gateway's identity and says so. argv: state directory."""

import sys
from pathlib import Path

from agent.registry import identity
from tests.powercut import ack

if __name__ == "__main__":
    ack(identity.mint(Path(sys.argv[1])).gateway)
