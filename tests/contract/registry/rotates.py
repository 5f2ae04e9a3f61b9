"""Rotates the spool key of a state directory; a power cut may come at any moment."""

import sys
from pathlib import Path

from agent.registry import identity
from tests import powercut

state = Path(sys.argv[1])
who = identity.begin_rotation(state, identity.load(state))
powercut.ack("begun")
identity.end_rotation(state, who)
powercut.ack("ended")
