"""The cost of the spool: readings a second into committed blocks, and bytes a reading.

`python -m bench.spool` prints one table. The same run also writes the same blocks prebuilt, without
the code before them. So the ratio shows what gardien's code costs, whatever the machine.
"""

from __future__ import annotations

import random
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from statistics import median

from agent.buffer.batch import BatchHead
from agent.buffer.capacity import STEP
from agent.buffer.database import Database
from agent.buffer.spool import Spool
from agent.core.model import Lane, Reading, Receipt, Series, SlotMark

HEAD = BatchHead("G7Q2MXW4T", "energie.metropole.example", "FR-1")
KEY = b"k" * 32
CAP = 200_000_000
NOON = 1_700_000_000 // 3600 * 3600
POINTS, POLLS, RUNS = 500, 120, 5
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def building(dice: random.Random) -> list[Series]:
    """50 dwellings of ten points: indexes, temperatures, power."""

    def name(letter: str) -> str:
        return letter + "".join(dice.choices(LETTERS, k=14))

    series = []
    for _ in range(POINTS // 10):
        place, occupancy, basis = name("D"), name("H"), name("K")
        for n, channel in enumerate(
            ["elec.imp", "heat", "cw", "dhw", "temp", "rh", "temp", "co2", "elec.power", "gas"]
        ):
            meter = f"KAM-{dice.randrange(10**8):08}"
            kind = "REG" if n in {0, 1, 2, 3, 9} else "INS"
            unit = "kWh" if kind == "REG" else "Cel"
            series.append(
                Series(place, f"{channel}{n // 5 or ''}", kind, unit, 60, meter, occupancy, basis)
            )
    return series


def polls(dice: random.Random) -> list[list[Reading]]:
    """What they say, minute by minute."""
    series = building(dice)
    values = [Decimal(dice.randrange(10**7)) for _ in series]
    rounds = []
    for slot in range(POLLS):
        rows = []
        for n, of in enumerate(series):
            values[n] += dice.randrange(40) if of.kind == "REG" else dice.randrange(-2, 3)
            value = values[n].scaleb(-3 if of.kind == "REG" else -1)
            rows.append(Reading(of, NOON + slot * 60, value, "V", n // 40))
        rounds.append(rows)
    return rounds


def appended(folder: Path, data: list[list[Reading]]) -> tuple[float, list[bytes]]:
    """Readings a second, and the blocks that lie on the disk afterwards."""
    with Spool.open(folder / "ours.db", KEY, HEAD, CAP) as spool:
        spool.append(data[0], {})  # the series are met once in a lifetime
        began = time.perf_counter()
        for rows in data[1:]:
            spool.append(rows, {("sdm-12", 60): SlotMark(rows[0].t, True)})
        seconds = time.perf_counter() - began
        blocks = [body for (body,) in spool._database.read("SELECT body FROM block")]  # noqa: SLF001
    return (len(data) - 1) * POINTS / seconds, blocks[1:]


def written(folder: Path, blocks: list[bytes]) -> float:
    """The same blocks, one durable commit each, and nothing else."""
    database = Database(folder / "bare.db", CAP, STEP, STEP)
    with database.transaction():
        database.write("CREATE TABLE block(no INTEGER PRIMARY KEY, body BLOB)")
    began = time.perf_counter()
    for body in blocks:
        with database.transaction():
            database.write("INSERT INTO block(body) VALUES(?)", body)
    seconds = time.perf_counter() - began
    database.close()
    return len(blocks) * POINTS / seconds


def drained(folder: Path) -> tuple[float, float]:
    """Readings a second from blocks to receipted batches, and bytes a reading in them."""
    rows = size = 0
    with Spool.open(folder / "ours.db", KEY, HEAD, CAP) as spool:
        began = time.perf_counter()
        while batch := spool.seal(Lane.BACKFILL, NOON, "trusted", 2**40):
            rows, size = rows + batch.rows, size + len(batch.payload)
            held = ((batch.id.seq, batch.sha256),)
            spool.settle(Receipt(HEAD.gateway, HEAD.recipient, batch.id.epoch, held), NOON)
        seconds = time.perf_counter() - began
    return rows / seconds, size / rows


def online(folder: Path, data: list[list[Reading]]) -> float:
    """Bytes a reading when every minute's poll is a batch of its own."""
    size = 0
    with Spool.open(folder / "online.db", KEY, HEAD, CAP) as spool:
        for rows in data[:20]:
            spool.append(rows, {})
            batch = spool.seal(Lane.LIVE, NOON, "trusted", 0)
            size += len(batch.payload) if batch else 0
    return size / (20 * POINTS)


def opened(folder: Path) -> float:
    """Milliseconds to open what `appended` has left."""
    began = time.perf_counter()
    with Spool.open(folder / "ours.db", KEY, HEAD, CAP):
        return (time.perf_counter() - began) * 1000


def main() -> None:
    """Print medians of all runs."""
    data = polls(random.Random(1))
    results: dict[str, list[float]] = {}
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ours, blocks = appended(folder, data)
            bare = written(folder, blocks)
            milliseconds = opened(folder)
            drain, in_backlog = drained(folder)
            line = {
                "readings/s, Reading objects to committed block": ours,
                "readings/s, the same blocks prebuilt": bare,
                "ratio": ours / bare,
                "bytes/reading in blocks of one poll (sealed)": sum(map(len, blocks))
                / (len(blocks) * POINTS),
                "readings/s, blocks to receipted batches": drain,
                "bytes/reading in batches, backlog": in_backlog,
                "bytes/reading in batches, a poll a batch": online(folder, data),
                "ms to open with that backlog": milliseconds,
            }
        for what, value in line.items():
            results.setdefault(what, []).append(value)
    print(f"spool, {POINTS} points, {POLLS} polls, median of {RUNS}")
    for what, values in results.items():
        middle = median(values)
        print(f"  {what:<48} {middle:>12,.{0 if middle > 100 else 2}f}")


if __name__ == "__main__":
    main()
