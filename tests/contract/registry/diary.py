"""A child that adds documents through the registry's storage and says so after each one.

argv: folder, how many, and what is broken on purpose: nothing | file (its bytes are never made
durable) | folder (its names are not).
"""

import os
import stat
import sys
from pathlib import Path

from tinydb import TinyDB

from agent.registry.storage import AtomicStorage
from tests.powercut import ack


def fsync(broken):
    def only_the_others(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if broken != ("folder" if is_folder else "file"):
            os.fsync(descriptor)

    return only_the_others


def main(folder, many, broken):
    with TinyDB(
        Path(folder) / "registry.json", storage=AtomicStorage, fsync=fsync(broken)
    ) as store:
        for number in range(int(many)):
            store.insert({"number": number, "padding": "x" * 700})
            ack(str(number))


if __name__ == "__main__":
    main(*sys.argv[1:])
