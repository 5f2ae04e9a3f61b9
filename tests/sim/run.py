"""Runs of plans: one process for each, with limits, always in the same surroundings.

`surroundings` starts the program again with a fixed hash seed and without address randomization, so
that nothing depends on either. A run is then a fork of a process that has imported the agent.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import json
import os
import pickle
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

NO_RANDOM_ADDRESSES = 0x0040000
MARK = "GARDIEN_SIM"
MEMORY = 1_500 << 20
CPU = 900
"""CPU seconds of one life, and of the judge"""
WALL = 1_800.0
"""seconds of one run"""
RESULTS = Path("build/simulation.jsonl")
PAGE = Path("docs/simulation-results.md")
PAGE_INTRODUCTION = (
    "`make night HOURS=8` writes this page (tests/sim/README.md). Each seed is a plan: what happens"
    " to one building for some days, with all its faults."
)
NEW_NAMESPACE = 0x00020000
PRIVATE, RECURSIVE = 1 << 18, 1 << 14
NEEDED = (
    "world", "seams", "loop", "houses", "building", "platform", "people", "disk", "disk_files",
    "disk_sqlite", "judge",
)  # fmt: skip
SPACE = "size=700m,mode=0700"


@dataclass
class Outcome:
    """What became of a run. `faults`: what the judge says; `broken`: the simulation failed."""

    seed: int
    plan: str = ""
    trace: str = ""
    kind: str = ""
    faults: list[str] = field(default_factory=list)
    broken: str = ""
    seconds: float = 0.0
    lives: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    cpu: float = 0.0
    wakes: int = 0
    batches: int = 0
    errors: list[str] = field(default_factory=list)
    """why lives ended that nobody ended: the first few"""

    @property
    def status(self):
        return 2 if self.broken else 1 if self.faults else 0


def surroundings():
    """Return if this process is as all runs are; else start the program again so."""
    if os.environ.get(MARK):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.personality(libc.personality(0xFFFFFFFF) | NO_RANDOM_ADDRESSES)
    named = {"PYTHONHASHSEED": "0", MARK: "1", "TZ": "UTC", "LC_ALL": "C.UTF-8", "LANGUAGE": ""}
    kept = ("PATH", "HOME", "TMPDIR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "GARDIEN_SIM_TRACE")
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    environ = {name: os.environ[name] for name in kept if name in os.environ} | named
    sys.stdout.flush()
    os.execve(sys.executable, sys.orig_argv[:1] + sys.orig_argv[1:], environ)


def imported():
    """Import all that a life needs, once for all runs."""
    import agent.api.calls
    import agent.api.diagnosis.machine
    import agent.api.diagnosis.network
    import agent.api.logins
    import agent.app
    import agent.control.recovery
    import agent.drivers
    import agent.local
    import agent.uplink

    for table in (agent.drivers.DRIVERS, agent.uplink.TRANSPORTS):
        for where in table.values():
            importlib.import_module(where.partition(":")[0])
    for name in NEEDED:
        importlib.import_module(f"tests.sim.{name}")


def base():
    """Where the folders of runs are: in memory if possible."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def own_folder():
    """A folder that has the same name in each run, or nearly so: names are part of what happens."""
    folder = base() / "gardien-sim"
    folder.mkdir(mode=0o700, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if (
        libc.unshare(NEW_NAMESPACE) == 0
        and libc.mount(b"none", b"/", None, PRIVATE | RECURSIVE, None) == 0
        and libc.mount(b"run", os.fsencode(folder), b"tmpfs", 0, SPACE.encode()) == 0
    ):
        own = folder / "run"
        own.mkdir()
        return own, None
    own = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    return own, own


def sha(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def plan_of(seed, days=None):
    """The plan of a seed; `days`: without what comes later."""
    from tests.sim import plan as plans

    made = plans.plan(seed)
    if days is not None:
        made["days"] = min(made["days"], days)
        made["events"] = [event for event in made["events"] if event["at"] < days * 86_400]
    return made


def perform(plan, judged=True, **wishes):
    """Run a plan in this process and its children. Returns the outcome.

    `wishes`: `keep`, a file that gets plan and journal, pickled; `trace`, one that gets the whole
    trace; `profile`, the beginning of names of files with profiles; `shown`: print the agent's log.
    """
    keep, trace = wishes.get("keep"), wishes.get("trace")
    from tests.sim import world as worlds
    from tests.sim.disk import Disk

    worlds.SHOWN, worlds.PROFILE = wishes.get("shown"), wishes.get("profile")
    outcome = Outcome(plan["seed"], sha(plan), kind=plan.get("kind", ""))
    folder, litter = own_folder()
    began = time.process_time()
    try:
        world = worlds.World(plan, folder)
        if world.parts == worlds.FIRST:
            world._parts()[0].begin(world)
        else:
            worlds.houses().begin(world)
        world.disk = Disk(str(folder / "state"), plan["seed"])
        file = open(trace, "w") if trace else None  # noqa: PTH123, SIM115 -- as long as the run
        world = worlds.lives(world, file, until=time.monotonic() + WALL)
        fill(outcome, world)
        if keep:
            Path(keep).write_bytes(pickle.dumps((plan, [tuple(one) for one in world.journal])))
        if judged and world.parts != worlds.FIRST:
            from tests.sim import judge

            outcome.faults += [str(one) for one in judge.judge(plan, world.journal)]
    except worlds.Broken as error:
        outcome.broken = str(error)
    except Exception:  # noqa: BLE001 -- it must not end the other runs
        outcome.broken = traceback.format_exc()
    finally:
        if litter:
            shutil.rmtree(litter, ignore_errors=True)
    outcome.cpu += time.process_time() - began
    return outcome


def fill(outcome, world):
    """What can be counted."""
    outcome.trace = hashlib.sha256(world.trace + b"end").hexdigest()[:16]
    outcome.seconds = world.now() - world.begin + 3600.0
    outcome.lives = world.life
    outcome.cpu = world.cpu
    outcome.wakes = sum(one["rounds"] for one in world.wakes)
    for record in world.journal:
        if record.kind == "life.ended":
            how = record.what["how"]
            outcome.ends[how] = outcome.ends.get(how, 0) + 1
            if how in ("error", "refused") and len(outcome.errors) < 3:
                outcome.errors.append(f"{how}: {record.what['text'].strip()[-600:]}")
            if how == "spun":
                outcome.faults.append(f"SPIN: {record.what['text']}")
        elif record.kind == "sent":
            outcome.batches += 1
    outcome.events = dict(world.counts)
    outcome.faults += [f"WORLD: {text}" for text in world.mistakes]


def run_all(plans, jobs=1, **options):
    """Run plans, some at the same time, each in its own process. Yields outcomes as they come.

    `plans`: an iterable of plans, or of functions that return one.
    """
    plans, busy = iter(plans), {}
    selector = selectors.DefaultSelector()
    try:
        while True:
            while len(busy) < jobs and (plan := next(plans, None)) is not None:
                if callable(plan):
                    plan = plan()
                pid, pipe = _begin(plan, options)
                busy[pipe] = [pid, plan, b"", time.monotonic()]
                selector.register(pipe, selectors.EVENT_READ)
            if not busy:
                return
            for key, _ in selector.select(5.0):
                data = os.read(key.fd, 1 << 20)
                busy[key.fd][2] += data
                if not data:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    yield _ended(busy.pop(key.fd))
            for pid, _, _, since in busy.values():
                if time.monotonic() - since > WALL + 60:
                    os.killpg(pid, signal.SIGKILL)
    finally:
        for pid, *_ in busy.values():
            os.killpg(pid, signal.SIGKILL)


def _begin(plan, options):
    sys.stdout.flush()
    sys.stderr.flush()
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    status = 3
    try:
        os.setsid()
        os.close(read)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        outcome = perform(plan, **options)
        with os.fdopen(write, "wb") as out:
            out.write(json.dumps(asdict(outcome)).encode())
        status = 0
    except BaseException:  # noqa: BLE001 -- the last chance to say so
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _ended(busy):
    pid, plan, data, _ = busy
    _, status = os.waitpid(pid, 0)
    if not data:
        code = os.waitstatus_to_exitcode(status)
        return Outcome(plan["seed"], sha(plan), broken=f"its process ended with {code}")
    return Outcome(**json.loads(data))


# Nights


def commit():
    """The commit of the code that is run, with a mark if files differ from it."""
    asked = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=8",
    ]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def results_of(file):
    """All results of earlier nights; a line that a kill has cut is left out."""
    results = []
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                results.append(json.loads(line))
    return results


def night(until, results, page, jobs, shown):
    """Run seeds that were not run before until it is time; what was run is kept in `results`.

    The page is written after each run, so that a night may be ended at any time.
    """
    earlier, of, status = results_of(results), commit(), 0
    results.parent.mkdir(parents=True, exist_ok=True)
    first = max((result["seed"] for result in earlier), default=0) + 1

    def plans():
        seed = first
        while time.monotonic() < until:
            yield plan_of(seed)
            seed += 1

    with results.open("a", encoding="utf-8") as out:
        for outcome in run_all(plans(), jobs):
            status = max(status, shown(outcome))
            result = {**asdict(outcome), "commit": of}
            out.write(json.dumps(result) + "\n")
            out.flush()
            earlier.append(result)
            page.write_text(page_of(earlier), encoding="utf-8")
    return status


def page_of(results):
    """The page of results."""
    commits = sorted({result["commit"] for result in results})
    newest = results[-1]["commit"] if results else "none"
    seconds = sum(result["seconds"] for result in results)
    cpu = sum(result["cpu"] for result in results)
    right = sum(not result["faults"] and not result["broken"] for result in results)
    lines = [
        "# Results of the simulation",
        "",
        PAGE_INTRODUCTION,
        "",
        "| | |",
        "|---|---|",
        f"| seeds | {len(results)}, {_span(results)} |",
        f"| simulated years of a building | {seconds / 365.25 / 86_400:.2f} |",
        f"| lives of the agent | {sum(result['lives'] for result in results)} |",
        f"| ends of lives | {_counted(results, 'ends')} |",
        f"| batches sent | {sum(result['batches'] for result in results)} |",
        f"| simulated seconds for each second of CPU | {seconds / cpu if cpu else 0:,.0f} |",
        f"| runs without a complaint | {right} |",
        f"| runs with a complaint | {sum(bool(result['faults']) for result in results)} |",
        f"| runs in which the simulation failed | {sum(bool(one['broken']) for one in results)} |",
        f"| newest commit | {newest} (all: {', '.join(commits)}) |",
        "",
        "## Complaints",
        "",
        *_complaints(results),
        "",
        "## Plans by kind",
        "",
        "| kind | runs | days | complaints |",
        "|---|---|---|---|",
    ]
    for kind in sorted({result["kind"] for result in results}):
        runs = [result for result in results if result["kind"] == kind]
        days = sum(result["seconds"] for result in runs) / 86_400
        lines.append(
            f"| {kind} | {len(runs)} | {days:.0f} | {sum(bool(one['faults']) for one in runs)} |"
        )
    lines += ["", "## Events", "", "| event | how often |", "|---|---|"]
    for name, count in sorted(_totals(results, "events").items()):
        lines.append(f"| {name} | {count} |")
    return "\n".join(lines) + "\n"


def _span(results):
    seeds = [result["seed"] for result in results]
    return f"from {min(seeds)} to {max(seeds)}" if seeds else "none"


def _totals(results, what):
    totals = {}
    for result in results:
        for name, count in result[what].items():
            totals[name] = totals.get(name, 0) + count
    return totals


def _counted(results, what):
    totals = sorted(_totals(results, what).items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count}" for name, count in totals)


def _complaints(results):
    """By what begins the text of a complaint: the rule, and its clause."""
    seeds = {}
    for result in results:
        for fault in result["faults"]:
            sort = fault.partition(" at ")[0][:60]
            seeds.setdefault(sort, set()).add((result["seed"], result["commit"]))
    if not seeds:
        return ["None."]
    rows = ["| complaint | runs | seeds (commit) |", "|---|---|---|"]
    for sort, runs in sorted(seeds.items(), key=lambda item: -len(item[1])):
        names = ", ".join(f"{seed} ({of})" for seed, of in sorted(runs)[:6])
        rows.append(f"| {sort} | {len(runs)} | {names}{' …' if len(runs) > 6 else ''} |")
    return rows
