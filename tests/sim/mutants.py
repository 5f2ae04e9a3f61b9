"""Takes one rule after the other out of the agent, and runs the plan that must notice it.

A mutant (`mutants/*.yaml`) takes out every line that enforces a rule, because many rules are
checked twice. It is applied to a copy of the agent's package, which comes first on the path of
Python; the working tree is never changed. `mutants.json` says which plan finds it. Each mutant is
run with its plan: one that is no longer noticed is a failure, and so is one for which no plan is
known (exit status 1). `--find` looks for a plan among those that are kept and among fresh seeds.

A run that breaks, or whose agent cannot start, finds nothing: the mutant must be seen by its effect
on people's data or equipment.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

HERE = Path(__file__).parent
TOP = HERE.parents[1]
CASES, STATED, FOUND = HERE / "cases", HERE / "mutants", HERE / "mutants.json"
PAGE = TOP / "docs/simulation-mutants.md"
LONGEST = 600.0
"""seconds that one run may take"""
AT_ONCE = 3
"""plans that one process of a mutant runs"""
MARK = "outcome: "
DATA = frozenset({"CONSERVATION", "SENT", "TRUTH"})
ALL = DATA | {"LIVENESS", "EQUIPMENT"}
EFFECTS = {
    **dict.fromkeys(("privacy", "consents", "aggregates"), DATA),
    **dict.fromkeys(("meters", "rows", "clocks"), DATA | {"EQUIPMENT"}),
    **dict.fromkeys(("delivery", "storage"), ALL),
    "controls": frozenset({"EQUIPMENT", "LIVENESS"}),
}
"""by file of mutants: the oracles that may notice one; SPIN, for example, does not count"""


class Patch(NamedTuple):
    """A change of one file of the agent. `old` occurs in it exactly once."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """An agent without one rule."""

    name: str
    group: str
    rules: tuple[str, ...]
    wrong: str
    """what goes wrong"""
    kinds: tuple[str, ...]
    """kinds of plans among which one is looked for"""
    patches: tuple[Patch, ...]


def _read(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def _mutants() -> Iterator[Mutant]:
    for group in EFFECTS:
        for name, stated in _read(STATED / f"{group}.yaml").items():
            patches = tuple(
                Patch(f"agent/{one['file']}", one["old"], one["new"]) for one in stated["patches"]
            )
            rules, kinds = tuple(stated["rules"].split()), tuple(stated["kinds"].split())
            yield Mutant(name, group, rules, stated["wrong"], kinds, patches)


MUTANTS = tuple(_mutants())
WITHOUT = {
    rule: stated["reason"]
    for stated in _read(STATED / "without.yaml")
    for rule in stated["rules"].split()
}
"""clauses that have no mutant, each with the reason"""
TRACER = """
import os, sys
_write, _top, _file = os.write, {top!r}, {file!r}
_handle = os.open(_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
def _line(code, number):
    if code.co_filename.startswith(_top):
        _write(_handle, f"{{code.co_filename[len(_top):]}} {{number}}\\n".encode())
    return sys.monitoring.DISABLE
_events = sys.monitoring
_events.use_tool_id(_events.COVERAGE_ID, "lines")
_events.register_callback(_events.COVERAGE_ID, _events.events.LINE, _line)
_events.set_events(_events.COVERAGE_ID, _events.events.LINE)
"""
"""notes each line of the agent that a run reaches, once: a mutant elsewhere is not tried with it"""


def patched(mutant: Mutant) -> dict[str, str]:
    """The changed files of a mutant. Raises ValueError if a patch does not apply exactly once."""
    texts: dict[str, str] = {}
    for patch in mutant.patches:
        text = texts.get(patch.file) or (TOP / patch.file).read_text(encoding="utf-8")
        if (times := text.count(patch.old)) != 1:
            raise ValueError(f"{mutant.name}: {patch.file} has {patch.old!r} {times} times")
        texts[patch.file] = text.replace(patch.old, patch.new)
    for file, text in texts.items():
        ast.parse(text, file)
    return texts


def reached(mutant: Mutant) -> set[tuple[str, int]]:
    """The lines that a mutant changes, by file and number."""
    lines = set()
    for patch in mutant.patches:
        text = (TOP / patch.file).read_text(encoding="utf-8")
        first = text[: text.index(patch.old)].count("\n") + 1
        numbers = range(first, first + patch.old.rstrip("\n").count("\n") + 1)
        lines |= {(patch.file.removeprefix("agent/"), number) for number in numbers}
    return lines


@contextmanager
def copied(mutant: Mutant | None) -> Iterator[Path]:
    """A folder with a copy of the agent's package, changed by a mutant; None: unchanged."""
    texts = {} if mutant is None else patched(mutant)
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        shutil.copytree(TOP / "agent", folder / "agent")
        for file, text in texts.items():
            path = folder / file
            path.write_text(text, encoding="utf-8")
            for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
                compiled.unlink()
        yield folder


class Result(NamedTuple):
    """What the run of a plan has shown."""

    status: int
    """0: no complaint; 1: some; anything else: the run is broken"""
    complaints: tuple[str, ...]
    """each begins with its oracle"""
    cpu: float
    """seconds, with the import of the agent"""
    broken: str = ""

    def noticed(self, oracles: Collection[str]) -> str:
        """The first complaint of one of these oracles; empty: there is none."""
        by_them = [one for one in self.complaints if one.partition(":")[0] in oracles]
        return by_them[0] if by_them and self.status == 1 else ""


def run(
    plans: Sequence[Path], folder: Path, until: Collection[str] = (), lines: Path | None = None
) -> list[Result]:
    """Run plans, one after the other, with the agent in a folder, until one of these oracles
    complains.

    `lines`: note there which lines are reached.
    """
    with tempfile.TemporaryDirectory(prefix="lines-") as name, tempfile.TemporaryFile() as output:
        paths = [str(folder), str(TOP)]
        if lines is not None:
            traces = TRACER.format(top=f"{folder}/agent/", file=str(lines))
            Path(name, "sitecustomize.py").write_text(traces, encoding="utf-8")
            paths.insert(0, name)
        command = [sys.executable, "-P", "-m", "tests.sim.mutants", "--run", *map(str, plans)]
        process = subprocess.Popen(
            [*command, "--until", *sorted(until)], cwd=TOP, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONPATH": ":".join(paths)},
        )  # fmt: skip
        # not SIGKILL: the processes of the run have groups of their own, which it must end
        timer = threading.Timer(LONGEST * len(plans), process.send_signal, (signal.SIGTERM,))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    outcomes = [json.loads(line[len(MARK) :]) for line in text.splitlines() if MARK in line[:9]]
    before = usage.ru_utime + usage.ru_stime - sum(one["cpu"] for one in outcomes)
    results = [
        Result(one["status"], tuple(one["faults"]), one["cpu"] + before, one["broken"])
        for one in outcomes
    ]
    if process.returncode or not results:
        return [*results, Result(2, (), 0.0, text[-4_000:])]
    return results


def run_here(plans: Sequence[str], until: Collection[str]) -> int:
    """In the process of a mutant: run plans, and print a line about each."""
    from tests.sim import plan as planned
    from tests.sim import run as runs

    runs.surroundings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    runs.imported()
    for path in plans:
        for outcome in runs.run_all([planned.load(path)]):
            about = {"status": outcome.status, "faults": outcome.faults, "cpu": outcome.cpu}
            print(MARK + json.dumps(about | {"broken": outcome.broken}), flush=True)
            if any(fault.partition(":")[0] in until for fault in outcome.faults):
                return 0
    return 0


def found() -> dict[str, dict[str, Any]]:
    """Which plan finds each mutant, by its name."""
    return json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.exists() else {}


LOCK = threading.Lock()


def keep(name: str, entry: dict[str, Any]) -> None:
    """Note which plan finds a mutant."""
    with LOCK:
        known = found() | {name: entry}
        text = json.dumps(dict(sorted(known.items())), indent=1) + "\n"
        FOUND.write_text(text, encoding="utf-8")


# check


HEAD = """# The mutants of the simulation

Each rule that protects people's data or equipment ([rules](rules/README.md)) is taken out of the
agent in turn: a mutant changes the lines that enforce it. The plan beside it must notice that by
what leaves the building, or by what happens to the equipment. `make mutants` runs all of them and
writes this page; `tests/sim/mutants/` has the changes. Of {number} mutants, {unknown}
have no plan yet.

| rules | mutant | what goes wrong | plan | noticed by | CPU s |
|---|---|---|---|---|---|"""


class Row(NamedTuple):
    """A line of the table."""

    mutant: Mutant
    plan: str
    oracle: str
    cpu: float
    problem: str = ""


def check(mutant: Mutant) -> Row:
    """Run a mutant with its plan."""
    entry = found().get(mutant.name)
    if entry is None:
        return Row(mutant, "", "", 0.0)
    plan = HERE / entry["plan"]
    with copied(mutant) as folder:
        result = run([plan], folder)[-1]
    if complaint := result.noticed(EFFECTS[mutant.group]):
        return Row(mutant, entry["plan"], complaint.partition(":")[0], result.cpu)
    how = f"status {result.status}, {len(result.complaints)} complaints of other oracles"
    return Row(mutant, entry["plan"], "", result.cpu, f"its plan does not notice it: {how}")


def page(rows: Sequence[Row]) -> str:
    """The table for docs."""
    unknown = sum(not row.plan for row in rows)
    lines = [HEAD.format(number=len(rows), unknown=unknown)]
    for row in rows:
        rules, name, wrong = ", ".join(row.mutant.rules), row.mutant.name, row.mutant.wrong
        plan = Path(row.plan).stem or "none yet"
        cpu = f"{row.cpu:.0f}" if row.plan else ""
        lines.append(f"| {rules} | {name} | {wrong} | {plan} | {row.oracle} | {cpu} |")
    lines += ["", "## Clauses without a mutant", ""]
    reasons: dict[str, list[str]] = {}
    for rule, reason in WITHOUT.items():
        reasons.setdefault(reason, []).append(rule)
    lines += [f"- {', '.join(rules)}: {reason}." for reason, rules in reasons.items()]
    return "\n".join(lines) + "\n"


def known_rows(mutants: Sequence[Mutant]) -> list[Row]:
    """The table as the last runs have shown it."""
    entries, rows = found(), []
    for mutant in mutants:
        of = entries.get(mutant.name)
        oracle = of["complaint"].partition(":")[0] if of else ""
        rows.append(Row(mutant, of["plan"] if of else "", oracle, of["cpu"] if of else 0.0))
    return rows


def check_all(mutants: Sequence[Mutant], jobs: int, *, write: bool) -> int:
    """Run mutants with their plans. Return the exit status: 1 if one is not noticed, or has no
    plan.
    """
    rows = []
    with ThreadPoolExecutor(jobs) as pool:
        for row in pool.map(check, mutants):
            rows.append(row)
            plan = Path(row.plan).stem or "-"
            what = row.problem or row.oracle or "no plan is known: look for one with --find"
            print(f"{' '.join(row.mutant.rules):14} {row.mutant.name:32} {plan:32} {row.cpu:6.1f} s"
                  f"  {what}", flush=True)  # fmt: skip
    if write:
        PAGE.write_text(page(rows), encoding="utf-8")
    missed, unknown = [row for row in rows if row.problem], [row for row in rows if not row.plan]
    noticed, cpu = len(rows) - len(missed) - len(unknown), sum(row.cpu for row in rows)
    print(f"{noticed} of {len(rows)} mutants are noticed, in {cpu:.0f} CPU seconds;")
    print(f"{len(missed)} no longer are; no plan is known yet for {len(unknown)}")
    return 1 if missed or unknown else 0


# find


class Trial(NamedTuple):
    """A plan that the right agent passes, and the lines that it reaches."""

    plan: dict[str, Any]
    name: str
    lines: frozenset[tuple[str, int]]


class Search:
    """Looks for plans that notice mutants."""

    def __init__(self, work: Path, plans: Path | None) -> None:
        self._work, self._plans = work, plans
        self._trials: dict[str, Trial | None] = {}
        self._making: dict[str, threading.Lock] = {}
        work.mkdir(parents=True, exist_ok=True)

    def trial(self, name: str, plan: dict[str, Any], right: Path) -> Trial | None:
        """Run a plan with the right agent; None if that has complaints: then it shows nothing."""
        with LOCK:
            making = self._making.setdefault(name, threading.Lock())
        with making:
            if name not in self._trials:
                self._trials[name] = self._tried(name, plan, right)
            return self._trials[name]

    def _tried(self, name: str, plan: dict[str, Any], right: Path) -> Trial | None:
        file, lines = self._file(name, plan), self._work / f"{name}.lines"
        known = self._work / f"{name}.ok"
        if not (known.exists() and known.read_text() == file.read_text()):
            lines.unlink(missing_ok=True)
            result = run([file], right, lines=lines)[-1]
            if result.status != 0:
                why = "\n".join(result.complaints) + result.broken
                (self._work / f"{name}.wrong").write_text(why)
                print(f"  {name}: the right agent does not pass it: {why[:300]}")
                return None
            known.write_text(file.read_text())
        reached_lines = (line.rpartition(" ") for line in lines.read_text().splitlines())
        return Trial(plan, name, frozenset((path, int(n)) for path, _, n in reached_lines))

    def _file(self, name: str, plan: dict[str, Any]) -> Path:
        from tests.sim import plan as plans

        file = self._work / f"{name}.json"
        file.write_text(plans.dump(plan), encoding="utf-8")
        return file

    def candidates(self, mutant: Mutant, seeds: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Plans to try: those that are kept, then fresh ones of the kinds of a mutant."""
        from tests.sim import plan as plans

        own = sorted(CASES.glob(f"{mutant.name}*.json"))
        others = [path for path in sorted(CASES.glob("*.json")) if path not in own]
        others += sorted(self._plans.glob("*.json")) if self._plans else []
        for path in (*own, *others):
            yield path.stem, plans.load(path)
        for seed in range(1, seeds + 1):
            for kind in mutant.kinds:
                yield f"{kind}-{seed}", plans.drawn(seed, kind)

    def find(self, mutant: Mutant, right: Path, seeds: int, tries: int) -> bool:
        """Look for a plan that notices a mutant, and keep it. Return whether there is one."""
        lines, oracles, used = reached(mutant), EFFECTS[mutant.group], 0
        with copied(mutant) as folder:
            trials: list[Trial] = []
            candidates = self.candidates(mutant, seeds)
            while used < tries:
                name, plan = next(candidates, ("", {}))
                trial = self.trial(name, plan, right) if name else None
                if trial is not None and lines & trial.lines:
                    trials.append(trial)
                if not trials or (name and len(trials) < AT_ONCE):
                    if not name:
                        break
                    continue
                files = [self._work / f"{one.name}.json" for one in trials]
                results = run(files, folder, oracles)
                used += len(results)
                if complaint := results[-1].noticed(oracles):
                    self._keep(mutant, trials[len(results) - 1], complaint, results[-1].cpu)
                    return True
                for result in results:
                    if result.broken:
                        (self._work / f"{mutant.name}.broken").write_text(result.broken)
                trials = []
        broken = " (a run broke)" if (self._work / f"{mutant.name}.broken").exists() else ""
        print(f"{mutant.name}: not noticed in {used} plans{broken}")
        return False

    def _keep(self, mutant: Mutant, trial: Trial, complaint: str, cpu: float) -> None:
        from tests.sim import plan as plans

        case = trial.name
        with LOCK:
            if not (CASES / f"{case}.json").exists():
                text = plans.dump(trial.plan)
                (CASES / f"{case}.json").write_text(text, encoding="utf-8")
        entry = {"plan": f"cases/{case}.json", "complaint": complaint[:200], "cpu": round(cpu, 1)}
        keep(mutant.name, entry)
        print(f"{mutant.name}: {case}, {cpu:.1f} s: {complaint[:150]}")


def find_all(mutants: Sequence[Mutant], options: argparse.Namespace) -> int:
    """Look for plans for mutants. Return the exit status."""
    search, limits = Search(options.work, options.plans), (options.seeds, options.tries)
    with copied(None) as right, ThreadPoolExecutor(options.jobs) as pool:
        noticed = list(pool.map(lambda one: search.find(one, right, *limits), mutants))
    return 0 if all(noticed) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m tests.sim mutants`."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim mutants", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help="mutants or clauses, such as P13 (default: all, and the page is written)",
    )
    parser.add_argument("--find", action="store_true", help="look for plans")
    parser.add_argument(
        "--all", action="store_true", help="with --find: also for those that have one"
    )
    parser.add_argument(
        "--seeds", type=int, default=20, help="with --find: fresh seeds of each kind (default: 20)"
    )
    parser.add_argument(
        "--tries", type=int, default=40, help="with --find: runs for each mutant (default: 40)"
    )
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants at the same time"
    )
    work = Path(tempfile.gettempdir()) / "mutants"
    text = "with --find: a folder for what runs show, kept for the next search"
    parser.add_argument("--work", type=Path, default=work, help=text)
    text = "with --find: a folder with further plans to try before fresh seeds"
    parser.add_argument("--plans", type=Path, help=text)
    parser.add_argument(
        "--page", action="store_true", help="only write the page, from mutants.json"
    )
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--until", nargs="*", default=(), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run:
        return run_here(options.run, options.until)
    if options.page:
        PAGE.write_text(page(known_rows(MUTANTS)), encoding="utf-8")
        return 0
    asked = set(options.names)
    if unknown := asked - {name for one in MUTANTS for name in (one.name, *one.rules)}:
        whys = (
            f"{name}: {WITHOUT.get(name, 'no mutant and no clause')}" for name in sorted(unknown)
        )
        parser.error("there is no mutant of " + "; ".join(whys))
    mutants = [one for one in MUTANTS if not asked or asked & {one.name, *one.rules}]
    if options.find:
        known = set() if options.all else found().keys()
        missing = [one for one in mutants if one.name not in known]
        return find_all(missing, options)
    return check_all(mutants, options.jobs, write=not asked)


if __name__ == "__main__":
    sys.exit(main())
