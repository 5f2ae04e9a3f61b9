"""A child that records places, one call each, and says so after each one. Every fourth time it also
begins a new log with a new snapshot.

argv: folder, how many, and what is broken on purpose: nothing | file (its bytes are never made
durable) | folder (its names are not).
"""

import os
import stat
import sys
from pathlib import Path

from agent.registry.background_change import RegistryDraft
from agent.registry.inputs import NewPlace
from agent.registry.registry import Registry
from tests.powercut import ack


def fsync(broken):
    def only_the_others(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if broken != ("folder" if is_folder else "file"):
            os.fsync(descriptor)

    return only_the_others


def main(folder, many, broken):
    registry = Registry(Path(folder) / "registry.json", fsync(broken))
    for number in range(int(many)):
        registry.add_places([NewPlace(str(number), "dwelling")], "alice", "x" * 700, 1_790_000_000)
        ack(str(number))
        if number % 4 == 3:
            draft = RegistryDraft(registry)
            draft.stage(anyway=True)
            assert draft.submit()


if __name__ == "__main__":
    main(*sys.argv[1:])
