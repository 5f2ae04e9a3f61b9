"""From what a driver read to a committed block: `python -m bench.intake`.

Samples of 200 meters go through gate, ledger, intake and spool. Beside it, in the same run, the
same blocks are written with nothing before them: their rows are made beforehand.
"""

import asyncio
import statistics
import tempfile
import time
from decimal import Decimal
from functools import partial
from pathlib import Path

from agent.acquisition.ingest import Ingest
from agent.acquisition.row_assignment import RowAssignment
from agent.acquisition.slots import SlotLedger
from agent.buffer.batch import BatchHead
from agent.buffer.database import in_own_thread
from agent.buffer.spool import Spool
from agent.core.model import Point, Sample, Why
from agent.registry.consent_policy import policy
from agent.registry.inputs import NewConsent, NewInstallation, NewPlace
from agent.registry.registry import Registry

DWELLINGS, SLOTS, STEP, NOW = 200, 100, 60, 1_790_000_040
RECIPIENT = "centre.example"


def registry(folder):
    records, rules, since = Registry.open(folder / "registry.json"), policy("DEMO-1"), NOW - 86_400
    labels = [f"D{n}" for n in range(DWELLINGS)]
    records.add_places([NewPlace(o, "dwelling", since=since) for o in labels], "b", "b", NOW)
    meters = [NewInstallation(o, serial=f"9{o[1:]:>05}", since=since) for o in labels]
    records.install(meters, "b", "b", NOW)
    agreed = [NewConsent(o, RECIPIENT, ("elec.imp",), STEP, "advice", since) for o in labels]
    records.consent(agreed, "b", "b", NOW, rules)
    return records, rules


def readings():
    """What the drivers bring: (point, serial, slot, sample), slot by slot."""
    points = [
        Point(f"m{n}", "energy", "1", "input/72/float32", STEP, "elec.imp", "kWh")
        for n in range(DWELLINGS)
    ]
    for k in range(SLOTS):
        for n, point in enumerate(points):
            slot = NOW + k * STEP
            yield n, slot, Sample(point, slot + 0.4, Decimal(f"{4000 + n}.{k:03}5"))


async def through(folder, samples, prepared=None):
    """Seconds for all samples; with `prepared` rows, for their blocks alone. Gives the rows too."""
    records, rules = registry(folder)
    keyed = {(one.point.device, STEP): [one.point] for _, _, one in samples[:DWELLINGS]}
    ledger = SlotLedger(RowAssignment(records, rules, RECIPIENT), keyed, {})
    head = BatchHead("G0000000000000", RECIPIENT, "DEMO-1")
    opening = partial(Spool.open, folder / "spool.db", b"k" * 32, head, 500_000_000)
    made = []
    async with in_own_thread("bench", opening) as (spool, thread):
        began = time.perf_counter()
        if prepared is not None:
            for rows, marks in prepared:
                await thread.run(spool.append, rows, marks)
            return time.perf_counter() - began, made

        async def append(rows, marks):
            made.append((rows, marks))
            await thread.run(spool.append, rows, marks)

        intake = Ingest(append, flush=60)
        serving = asyncio.create_task(intake.serve())
        for n, slot, sample in samples:
            key = (sample.point.device, STEP)
            rows = ledger.close(key, slot, [sample], f"9{n:05}", Why.BUSY)
            await intake.put(rows, {key: ledger.marks[key]})
        await intake.commit()
        spent = time.perf_counter() - began
        serving.cancel()
        return spent, made


def main():
    samples = list(readings())
    whole, alone = [], []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            spent, made = asyncio.run(through(Path(one), samples))
            assert sum(len(rows) for rows, _ in made) == len(samples)
            whole.append(spent)
            alone.append(asyncio.run(through(Path(other), samples, made))[0])
    ratio = statistics.median(a / b for a, b in zip(alone, whole, strict=True))
    print(f"from sample to committed block, {len(samples):,} readings, medians of 5")
    print(
        f"  whole path      {len(samples) / statistics.median(whole):>10,.0f} readings/s aim 20,000"
    )
    print(f"  blocks alone    {len(samples) / statistics.median(alone):>10,.0f} readings/s")
    print(f"  ratio           {ratio:>10.2f}")


if __name__ == "__main__":
    main()
