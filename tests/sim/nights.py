"""Nights: new seeds for hours, with the results of all nights added up.

`nights.json` has an entry for each commit that was run; the page in docs shows them. Both are
written after each run, so a night may end at any time, and the next one goes on with the seed after
the last. A complaint in it may be given `became` by hand: what it was, and which plan of the corpus
has it now.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.sim import run

RESULTS = Path("tests/sim/nights.json")
PAGE = Path("docs/simulation-results.md")
LONG_EACH = 100
"""one of so many plans has three to nine days"""
INTRODUCTION = (
    "`make night HOURS=8` writes this page (tests/sim/README.md). A run is a building with all its"
    " faults for some hours, or for three to nine days, and then some time in which all must come"
    " right. What a seed means changes with the simulation: a complaint is found again with the"
    " commit that it has here, by `python -m tests.sim seed SEED`, with `--days DAYS` where it has"
    " days."
)
COUNTS = ("runs", "complaining", "broken", "seconds", "cpu", "lives", "batches")
TABLES = ("ends", "events")


def days_of(seed):
    """How many days a night gives the plan of a seed; None: as many as its kind needs."""
    number, rest = divmod(seed, LONG_EACH)
    return None if rest else 3 + number % 7


def commit(repository=Path(__file__).parents[2]):
    """The commit of the code that is run, with a mark if the code differs from it."""
    if not (of := _git(repository, "rev-parse", "--short=8", "HEAD")):
        return "unknown"
    code = "agent", "hil", "tests", f":!{RESULTS}"
    return of + ("-dirty" if _git(repository, "status", "--porcelain", "--", *code) else "")


def _git(repository, *arguments):
    asked = ["git", "-C", str(repository), *arguments]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def earlier(file):
    """The entries of earlier nights, the newest last."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def night(hours, files, runs, shown, days=None):
    """Run seeds that were not run before for so many hours. Returns the worst status.

    `files`: results and page. `runs` runs plans, and yields their outcomes; `shown` prints one, and
    returns its status.
    """
    results, page = files
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the runs end with it
    until = time.monotonic() + hours * 3600
    entries = earlier(results)
    first = max((entry["to"] for entry in entries), default=0) + 1

    def plans():
        seed = first
        while time.monotonic() < until:
            yield run.plan_of(seed, days or days_of(seed))
            seed += 1

    of, status, count = commit(), 0, 0
    print(f"From seed {first} on, for {hours:g} hours, with the code of {of}", flush=True)
    for outcome in runs(plans()):
        status, count = max(status, shown(outcome)), count + 1
        add(entries, outcome, of, days or days_of(outcome.seed))
        write(results, json.dumps(entries, indent=1) + "\n")
        write(page, page_of(entries))
    print(f"{count} run{'s'[: count != 1]}. All results: {page} and {results}")
    return status


def write(file, text):
    """Replace a file as a whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}")
    new.write_text(text, encoding="utf-8")
    new.replace(file)


def add(entries, outcome, of, days):
    """Add one run to the entry of its commit."""
    if not entries or entries[-1]["commit"] != of:
        empty = {"commit": of, "from": outcome.seed, "to": outcome.seed, "clean": 0}
        numbers = dict.fromkeys(COUNTS, 0) | {name: {} for name in TABLES}
        entries.append(empty | numbers | {"kinds": {}, "complaints": []})
    entry, wrong = entries[-1], bool(outcome.faults)
    entry["from"] = min(entry["from"], outcome.seed)
    entry["to"] = max(entry["to"], outcome.seed)
    entry["clean"] = 0 if outcome.status else entry["clean"] + 1
    more = {"runs": 1, "complaining": int(wrong), "broken": int(bool(outcome.broken))}
    for name in COUNTS:
        entry[name] = round(entry[name] + more.get(name, getattr(outcome, name, 0)), 1)
    for name in TABLES:
        for key, count in getattr(outcome, name).items():
            entry[name][key] = entry[name].get(key, 0) + count
    runs, length, complaining = entry["kinds"].get(outcome.kind, (0, 0.0, 0))
    length = round(length + outcome.seconds / 86_400, 1)
    entry["kinds"][outcome.kind] = [runs + 1, length, complaining + wrong]
    texts = outcome.faults
    if outcome.broken:  # of a traceback the error: the rest names folders of this machine
        texts = [f"BROKEN: {outcome.broken.strip().splitlines()[-1]}"]
    by_sort = {sort_of(text): text[:400] for text in reversed(texts)}
    for sort, text in reversed(by_sort.items()):
        at = {"seed": outcome.seed, "days": days, "sort": sort, "text": text, "became": ""}
        entry["complaints"].append(at)


def sort_of(text):
    """The rule and the clause of a complaint."""
    return text.partition(" at ")[0].partition("\n")[0][:60]


def clean(entries):
    """How many runs there were since the last complaint."""
    count = 0
    for entry in reversed(entries):
        count += entry["clean"]
        if entry["clean"] < entry["runs"]:
            break
    return count


def page_of(entries):
    """The page of results."""
    total = {name: sum(entry[name] for entry in entries) for name in COUNTS}
    speed = total["seconds"] / total["cpu"] if total["cpu"] else 0
    seeds = f"{entries[0]['from']} to {entries[-1]['to']}" if entries else "none"
    right = total["runs"] - total["complaining"] - total["broken"]
    rows = {
        "seeds": f"{total['runs']:,} ({seeds})",
        "simulated years of a building": f"{total['seconds'] / 365.25 / 86_400:.2f}",
        "lives of the agent": f"{total['lives']:,}",
        "ends of lives": _table(entries, "ends"),
        "batches sent": f"{total['batches']:,}",
        "hours of CPU": f"{total['cpu'] / 3600:.1f}",
        "simulated seconds for each second of CPU": f"{speed:,.0f}",
        "runs without a complaint": f"{right:,}",
        "runs with a complaint": total["complaining"],
        "runs in which the simulation failed": total["broken"],
        "runs since the last complaint": f"{clean(entries):,}",
        "newest commit": entries[-1]["commit"] if entries else "none",
    }
    lines = ["# Results of the simulation", "", INTRODUCTION, "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines += ["", "## Complaints", "", *_complaints(entries)]
    lines += ["", "## By commit", "", *_commits(entries)]
    lines += ["", "## By kind of plan", "", *_kinds(entries)]
    lines += ["", "## Events", "", f"{_table(entries, 'events')}."]
    return "\n".join(lines) + "\n"


def _table(entries, name):
    totals = {}
    for entry in entries:
        for key, count in entry[name].items():
            totals[key] = totals.get(key, 0) + count
    ordered = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{key} {count:,}" for key, count in ordered)


def _complaints(entries):
    """One line for each sort, with what became of it; its first three seeds."""
    sorts = {}
    for entry in entries:
        for one in entry["complaints"]:
            of = sorts.setdefault((one["sort"], one["became"]), [])
            days = f"{one['days']} d, " if one["days"] else ""
            of.append(f"{one['seed']} ({days}{entry['commit']})")
    if not sorts:
        return ["None."]
    lines = ["| complaint | runs | seeds (days, commit) | what it was |", "|---|---|---|---|"]
    for (sort, became), seeds in sorted(sorts.items(), key=lambda item: (item[0], item[1])):
        more = " …" if len(seeds) > 3 else ""
        lines.append(f"| {sort} | {len(seeds)} | {', '.join(seeds[:3])}{more} | {became} |")
    return lines


def _commits(entries):
    lines = ["| commit | seeds | runs | years | lives | complaints |", "|---|---|---|---|---|---|"]
    for one in entries:
        years = one["seconds"] / 365.25 / 86_400
        lines.append(
            f"| {one['commit']} | {one['from']} to {one['to']} | {one['runs']} | {years:.2f}"
            f" | {one['lives']} | {one['complaining'] + one['broken']} |"
        )
    return lines


def _kinds(entries):
    totals = {}
    for entry in entries:
        for kind, numbers in entry["kinds"].items():
            before = totals.get(kind, (0, 0, 0))
            totals[kind] = [sum(pair) for pair in zip(before, numbers, strict=True)]
    lines = ["| kind | runs | days | complaints |", "|---|---|---|---|"]
    for kind, (runs, days, complaints) in sorted(totals.items()):
        lines.append(f"| {kind} | {runs} | {days:,.0f} | {complaints} |")
    return lines
