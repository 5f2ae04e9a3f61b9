"""Whose is it, and may it leave: `python -m bench.registry`.

200 dwellings and 2,000 documents: places, occupancies, meters, consents, aliases. Each reading asks
anew, without the pipeline's memory of the last answer; beside it the same with that memory.
"""

import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from functools import partial
from pathlib import Path

from agent.acquisition.row_assignment import RowAssignment, Withholding
from agent.acquisition.sums import ConfiguredSums, Groups, ReadingCache, Sums
from agent.api.facts import place_import
from agent.core.errors import Refused
from agent.core.model import Point, Sample
from agent.core.quantities import channels
from agent.registry.aggregate import Group
from agent.registry.background_change import change_in_background
from agent.registry.consent_policy import Basis, may_leave, policy, steps_wanted
from agent.registry.index import Unknown
from agent.registry.inputs import NewAlias, NewConsent, NewInstallation, NewOccupancy, NewPlace
from agent.registry.records import Installation
from agent.registry.registry import Registry

DWELLINGS, NOW, DAY = 200, 1_790_000_040, 86_400
RECIPIENT, RULES = "centre.example", policy("FR-1")
BY = ("bench", "bench", NOW)
CHANNELS = ("elec.imp", "heat", "cw", "dhw")
AIM = 30_000
"""readings a second on one core"""
OPENING = """
import sys, time
from pathlib import Path
from agent.registry.registry import Registry
began = time.perf_counter()
Registry.open(Path(sys.argv[1]))
print(time.perf_counter() - began)
"""


def filled(path):
    """A building in its tenth year: everybody has moved once, each meter was exchanged or named."""
    records, since = Registry.open(path), NOW - 900 * DAY
    labels = [f"A-{n:03}" for n in range(DWELLINGS)]
    records.add_places([NewPlace(one, "dwelling", since=since) for one in labels], *BY)
    moved = NOW - 400 * DAY
    out = [NewOccupancy("move_out", one, until=moved) for one in labels]
    records.occupy(out + [NewOccupancy("move_in", one, since=moved) for one in labels], *BY)
    meters = [
        NewInstallation(one, serial=f"{channel}-{n}", channel=channel, since=since)
        for n, one in enumerate(labels)
        for channel in CHANNELS
    ]
    records.install(meters, *BY)
    records.name([NewAlias(one, "lot", str(n)) for n, one in enumerate(labels)], *BY)
    agreed = [
        NewConsent(one, RECIPIENT, CHANNELS, step, purpose, moved)
        for one in labels
        for step, purpose in ((1800, "advice"), (DAY, "research"))
    ]
    records.consent(agreed[: 2 * DWELLINGS - 100], *BY, RULES)
    return records


def asked(count=100_000):
    """(device, serial, channel, t) of readings in turn, and what each may do."""
    for k in range(count // (DWELLINGS * len(CHANNELS))):
        for n in range(DWELLINGS):
            for name in CHANNELS:
                yield f"m-{name}-{n}", f"{name}-{n}", name, NOW + 1800 * k


def resolved(records):
    """Seconds a reading, whose and may it leave."""
    known, readings = channels(), list(asked())
    began, left = time.perf_counter(), 0
    for device, serial, name, t in readings:
        whose = records.whose(device, serial, name, t)
        assert isinstance(whose, Installation)
        answer = may_leave(records, RULES, whose.place, known[name], 1800, t, RECIPIENT)
        left += isinstance(answer, Basis)
    assert 0 < left < len(readings)
    return (time.perf_counter() - began) / len(readings)


def planned(records):
    """Seconds a reading, with the steps at which rows of it are wanted."""
    known, readings = channels(), list(asked())
    began = time.perf_counter()
    for device, serial, name, t in readings:
        whose = records.whose(device, serial, name, t)
        steps_wanted(records, RULES, whose.place, known[name], 900, t, RECIPIENT)
    return (time.perf_counter() - began) / len(readings)


def remembered(records):
    """Seconds a reading through the pipeline's gate."""
    gate = RowAssignment(records, RULES, RECIPIENT)
    points = {
        f"m-{name}-{n}": Point(f"m-{name}-{n}", "x", "1", "x", 1800, name, channels()[name].unit)
        for n in range(DWELLINGS)
        for name in CHANNELS
    }
    readings = list(asked())
    began = time.perf_counter()
    for device, serial, _, t in readings:
        gate.at(points[device], serial, t)
    return (time.perf_counter() - began) / len(readings)


def summed(records):
    """Seconds a reading through the gate and into the memory that sums are made of; and what it
    costs to close a slot of all of them.
    """
    gate, indexes = RowAssignment(records, RULES, RECIPIENT, withholds=True), ReadingCache(records)
    indexes.set_steps(dict.fromkeys(CHANNELS, 1800), None)
    points = {
        f"m-{name}-{n}": Point(f"m-{name}-{n}", "x", "1", "x", 1800, name, channels()[name].unit)
        for n in range(DWELLINGS)
        for name in CHANNELS
    }
    readings = [
        (device, serial, t - NOW % 1800, [Sample(points[device], t, Decimal(t))])
        for device, serial, _, t in asked()
    ]
    began = time.perf_counter()
    for device, serial, t, samples in readings:
        gate.at(points[device], serial, t)
        indexes.note(t, samples, serial)
    seconds = (time.perf_counter() - began) / len(readings)
    asked_for = {name: [points[f"m-{name}-{n}"] for n in range(DWELLINGS)] for name in CHANNELS}
    with tempfile.TemporaryDirectory() as folder:
        groups, slot = Groups(Path(folder) / "rest.json"), readings[-1][2]
        for name in CHANNELS:
            members = frozenset(records.dwellings())
            groups.add(name, Group(slot - 1800, slot + DAY, members))
        sums = Sums(records, "other.example", groups, indexes, {}, lambda device: device[2:])
        sums.close(ConfiguredSums("B", asked_for, 11, finest=1800), slot - 1800)
        began = time.perf_counter()
        rows = [
            row
            for _, made, _ in sums.close(ConfiguredSums("B", asked_for, 11, finest=1800), slot + 1)
            for row in made
        ]
        assert [row.n for row in rows] == [DWELLINGS] * len(CHANNELS), rows
        return seconds, time.perf_counter() - began


def visible(records):
    """Whether a change is in the answer to the very next reading; and what a change costs."""
    gate, label = RowAssignment(records, RULES, RECIPIENT), f"A-{DWELLINGS - 1:03}"
    point = Point("m", "x", "1", "x", 1800, "heat", "kWh")
    serial = f"heat-{DWELLINGS - 1}"
    assert isinstance(gate.at(point, serial, NOW + 1800).series, Withholding)
    row = NewConsent(label, RECIPIENT, ("heat",), 1800, "more advice", NOW)
    began = time.perf_counter()
    records.consent([row], *BY, RULES)
    seconds = time.perf_counter() - began
    assert not isinstance(gate.at(point, serial, NOW + 1800).series, Withholding | Unknown)
    return seconds


def listed(records):
    """CPU seconds of a list of 50,000 lines of which one is wrong, and the most of it between two
    turns of the loop that reads and commands.
    """
    rows = [f"B-{n};dwelling" for n in range(50_000)]
    text = "\n".join(["label;type", *rows, "B;dweling"])
    ask = partial(place_import, who="bench", now=NOW, text=text, name="p.csv")

    async def held():
        task, longest = asyncio.create_task(change_in_background(records, ask)), 0.0
        began = time.process_time()
        while not task.done():
            before = time.process_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.process_time() - before)
        assert isinstance(task.exception(), Refused)
        return time.process_time() - began, longest

    return asyncio.run(held())


def opened(path):
    """Seconds to open it in a fresh process, and of its imports apart."""
    command = [sys.executable, "-c", OPENING, str(path)]
    return statistics.median(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    )


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.json"
        records = filled(path)
        size = sum(file.stat().st_size for file in path.parent.glob("registry*"))
        documents = len(records._documents)  # noqa: SLF001 -- what is measured
        print(f"{DWELLINGS} dwellings, {documents} documents, {size / 1000:.0f} kB\n")
        print(f"| what | µs a reading | readings/s (aim {AIM:,}) |")
        print("|---|---|---|")
        for what, seconds in (
            ("whose, and may it leave", resolved(records)),
            ("whose, and at which steps", planned(records)),
            ("the same, remembered", remembered(records)),
            ("the same, kept for sums", (closing := summed(records))[0]),
        ):
            print(f"| {what} | {seconds * 1e6:.1f} | {1 / seconds:,.0f} |")
        print(f"\na slot of {len(CHANNELS)} sums over all of them: {closing[1] * 1000:.0f} ms")
        print(f"a change, in the next reading's answer: {visible(records) * 1000:.0f} ms")
        whole, longest = listed(records)
        print(f"a list of 50,000 lines, one wrong: {whole:.1f} s, the loop {longest * 1000:.0f} ms")
        print(f"opened in a fresh process: {opened(path) * 1000:.0f} ms")
        print(f"memory at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
