"""What one change of a large registry costs: `python -m bench.registry_change`.

10,000 dwellings with occupants, a meter and a consent each. Every kind of change is made several
times; the table has the median of its duration and of its CPU time, and the mean of the bytes that
the process wrote meanwhile (`wchar` of /proc/self/io: what it handed to the kernel).
"""

import statistics
import tempfile
import time
from pathlib import Path

from agent.registry.consent_policy import policy
from agent.registry.inputs import (
    NewAlias,
    NewConsent,
    NewInstallation,
    NewOccupancy,
    NewPlace,
    NewWithdrawal,
)
from agent.registry.registry import Registry

DWELLINGS, NOW, DAY, TIMES = 10_000, 1_790_000_040, 86_400, 7
RECIPIENT, RULES = "centre.example", policy("FR-1")
BY = ("bench", "bench", NOW)


def filled(path):
    """A building in which everybody lives, is metered and has consented."""
    records, since = Registry.open(path), NOW - 400 * DAY
    labels = [f"A-{n:05}" for n in range(DWELLINGS)]
    records.add_places([NewPlace(label, "dwelling", since=since) for label in labels], *BY)
    records.name([NewAlias(label, "lot", str(n)) for n, label in enumerate(labels)], *BY)
    meters = [NewInstallation(label, serial=f"h-{label}", since=since) for label in labels]
    records.install(meters, *BY)
    unnumbered = [NewInstallation(labels[n], device=f"d-{n}") for n in range(TIMES + 1)]
    records.install(unnumbered, *BY)
    given = [NewConsent(label, RECIPIENT, ("heat",), 1800, "advice", since) for label in labels]
    records.consent(given, *BY, RULES)
    return records


def changes(records):
    """Every kind of change, by name; each takes a number of its own."""
    ids = {consent.place: consent.id for consent in records.consents()}
    places = [place.id for place in records.places()]
    return {
        "a consent": lambda n: records.consent(
            [NewConsent(places[n], RECIPIENT, ("heat",), 1800, f"more {n}", NOW)], *BY, RULES
        ),
        "a withdrawal": lambda n: records.withdraw([NewWithdrawal(ids[places[n]])], *BY),
        "a move": lambda n: records.occupy(
            [
                NewOccupancy("move_out", places[n], until=NOW),
                NewOccupancy("move_in", places[n], since=NOW),
            ],
            *BY,
        ),
        "a meter": lambda n: records.install(
            [NewInstallation(places[n], serial=f"new-{n}", channel="cw", since=NOW)], *BY
        ),
        "a serial number": lambda n: records.pin_all({f"d-{n}": f"x-{n}"}, *BY),
        "an alias": lambda n: records.name([NewAlias(places[n], "bis:manager", f"D{n}")], *BY),
        "a place": lambda n: records.add_places([NewPlace(f"New {n}", "dwelling")], *BY),
    }


def written():
    """Bytes that this process has written so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def main():
    """Print what each kind of change costs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.json"
        began = time.perf_counter()
        records = filled(path)
        size = sum(file.stat().st_size for file in path.parent.glob("registry*"))
        print(f"{DWELLINGS:,} dwellings, {size / 1e6:.1f} MB", end=" ")
        print(f"(filled in {time.perf_counter() - began:.0f} s)\n")
        print("| change | ms | ms of CPU | bytes written |")
        print("|---|---|---|---|")
        records.name([NewAlias(records.places()[0].id, "bis:manager", "first")], *BY)
        for name, change in changes(records).items():
            spent, before = [], written()
            for n in range(1, TIMES + 1):
                began = time.perf_counter(), time.process_time()
                change(n)
                spent.append((time.perf_counter() - began[0], time.process_time() - began[1]))
            cost = (written() - before) // TIMES
            took, computed = (statistics.median(times) * 1000 for times in zip(*spent, strict=True))
            print(f"| {name} | {took:.1f} | {computed:.1f} | {cost:,} |")
        began = time.perf_counter()
        assert Registry.open(path).revision == records.revision
        print(f"\nopened again: {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
