"""A spool's life in a process of its own that is there to be killed, and what must be left of it.

Says on standard output what has returned, one line each, and nothing before it returned:
`rows SLOT`, `batch SEQ SHA256`, `receipt SEQ`.
"""

import os
import random
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

from agent.buffer.batch import read
from agent.buffer.spool import Spool
from agent.core.errors import StorageFailed
from agent.core.model import Lane, SlotMark
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.far import FOREVER, receipt_for, seal_all
from tests.unit.buffer.rows import NOON, poll

METERS = 12
CAP = 50_000_000


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def live(spool, dice, first, rounds):
    for slot in range(first, first + rounds):
        spool.append(poll(slot, METERS), {("a", 60): SlotMark(slot, True)})
        say("rows", slot)
        if dice.random() < 0.4:
            lane = dice.choice(list(Lane))
            live_after = NOON + (slot - 2) * 60
            batch = spool.seal(lane, 0.0, "trusted", live_after, most_rows=dice.randint(1, 60))
            if batch:
                say("batch", batch.id.seq, batch.sha256)
        waiting = spool.unreceipted()
        if waiting and dice.random() < 0.3:
            batch = dice.choice(waiting)
            spool.settle(receipt_for(batch), float(slot))
            say("receipt", batch.id.seq)


def left(spool):
    """Seqs, hashes and states of all batches, and how often each row is there."""
    kept = {}
    count = Counter()
    for seq, sha256, state in spool._database.read("SELECT seq, sha256, state FROM batch"):
        kept[seq] = (sha256, state)
        payload = spool._outbox.payload(spool.epoch, seq)
        for row in read(payload) if payload else ():
            count[row.series.place, row.t] += 1
    for batch in seal_all(spool, Lane.BACKFILL, FOREVER):
        for row in read(batch.payload):
            count[row.series.place, row.t] += 1
    return kept, count


def faults(spool, said):
    """What was said and is not there, or is there twice; empty if the spool kept its word."""
    found = [f"set aside: {spool.set_aside}"] if spool.set_aside else []
    mark = spool.marks().get(("a", 60), SlotMark(-1, True)).slot
    kept, count = left(spool)
    if sorted(kept) != list(range(1, len(kept) + 1)):
        found.append(f"gaps: {sorted(kept)}")
    found += [f"twice: {key}" for key, times in count.items() if times != 1]
    slots = {slot for _, slot in count}
    whole = sum(
        1
        for slot in slots
        for row in poll((slot - NOON) // 60, METERS)
        if (row.series.place, slot) in count
    )
    if whole != len(slots) * METERS:
        found.append("part of an append")
    if slots and max(slots) != NOON + mark * 60:
        found.append(f"the mark is at {mark}, the rows end at {max(slots)}")
    for line in said:
        match line.split():
            case ["rows", slot] if NOON + int(slot) * 60 not in slots:
                found.append(f"lost: {line}")
            case ["batch", seq, sha256] if kept.get(int(seq), ("",))[0] != sha256:
                found.append(f"lost: {line}")
            case ["receipt", seq] if kept.get(int(seq), ("", 0))[1] != 1:
                found.append(f"lost: {line}")
    return found


def main(folder, seed, first, rounds, careless):
    with Spool.open(Path(folder) / "spool.db", KEY, HEAD, CAP) as spool:
        if careless == "careless":  # the planted fault that the power cuts must find
            spool._database._connection.execute("PRAGMA synchronous=OFF")
        live(spool, random.Random(int(seed)), int(first), int(rounds))


def recovers(folder, rounds):
    """Live on a disk of which some calls fail: after each the file is opened anew, as the agent
    does, and what it says of its mark counts.
    """
    opened = partial(Spool.open, Path(folder) / "spool.db", KEY, HEAD, CAP)
    done, failed = -1, 0
    while done < rounds:
        with suppress(StorageFailed), opened() as spool:
            done = spool.marks().get(("a", 60), SlotMark(-1, True)).slot
            live(spool, random.Random(done), done + 1, rounds - done)
            break
        failed += 1
        say("failed", failed)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        recovers(sys.argv[1], int(sys.argv[2]))
    else:
        main(*sys.argv[1:])
