"""Runs of plans: one process for each, with limits, always in the same surroundings.

`surroundings` starts the program again with a fixed hash seed and without address randomization, so
that nothing depends on either. A run is then a fork of a process that has imported the agent.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import gc
import hashlib
import importlib
import json
import os
import pickle
import resource
import selectors
import shutil
import signal
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
GARBAGE = (20_000, 20, 50)
"""when a process looks for garbage (gc.set_threshold); a life makes little that only this finds"""
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
    import agent.cli.control
    import agent.control.recovery
    import agent.drivers
    import agent.local
    import agent.uplink

    for table in (agent.drivers.DRIVERS, agent.uplink.TRANSPORTS):
        for where in table.values():
            importlib.import_module(where.partition(":")[0])
    for name in NEEDED:
        importlib.import_module(f"tests.sim.{name}")
    read_once()
    from tests.sim import disk_files, seams

    seams.named(seams.modules())
    disk_files.bound(seams.modules())
    # what is here is here for good: no search for garbage has to look at it, in no life
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def read_once():
    """Read what a life reads only once, so that none does: texts, templates, profiles, models."""
    from agent.api.protection import stores
    from agent.config import load
    from agent.registry import page
    from tests.sim import first, houses

    for language in page.LANGUAGES:
        page.texts_of("letter", language)
        stores.page_texts(language)
    for template in page.AGENT.glob("registry/*.html"):
        page.environment().get_template(str(template.relative_to(page.AGENT)))
    lines = {"lines": ["modbus", "mbus", "bacnet"], "controls": 2}
    with tempfile.TemporaryDirectory() as folder:
        house = houses.house(first.PLAN | {"building": first.PLAN["building"] | lines})
        houses.lay_out(house, Path(folder))
        load(Path(folder) / "config.yaml")


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
    """The plan of a seed; `days`: of this length instead of one that fits its kind."""
    from tests.sim import plan as plans

    return plans.plan(seed, days)


def perform(plan, judged=True, **wishes):
    """Run a plan in this process and its children. Returns the outcome.

    `wishes`: `keep`, a file that gets plan and journal, pickled; `journal`, one that gets the
    journal as text; `trace`, one that gets the whole trace; `profile`, the beginning of names of
    files with profiles; `shown`: print the agent's log.
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
        if journal := wishes.get("journal"):
            Path(journal).write_text(journal_text(world.journal), encoding="utf-8")
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


def journal_text(journal):
    """A line for each record: index, as complaints name it, true time (UTC), kind and content."""
    lines = []
    for index, record in enumerate(journal):
        when = dt.datetime.fromtimestamp(record.at, dt.UTC).isoformat(" ", "milliseconds")
        lines.append(f"{index} {when} {record.kind} {record.what}\n")
    return "".join(lines)


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
