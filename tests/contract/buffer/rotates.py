"""A spool that is brought under another key while it is used, in a process that is there to be
killed. Says what has returned as `life` does, and `step` for each step.
"""

import random
import sys
from pathlib import Path

from agent.buffer.spool import Spool
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.life import CAP, live, say

NEW = b"n" * 32


def rotating(path):
    return Spool.open(path, NEW, HEAD, CAP, before=KEY)


def main(folder, seed, first):
    dice, slot = random.Random(int(seed)), int(first)
    with rotating(Path(folder) / "spool.db") as spool:
        while spool.rekey_step():
            say("step")
            if dice.random() < 0.4:
                live(spool, dice, slot, 1)
                slot += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
