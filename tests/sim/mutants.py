"""Takes one rule after the other out of the agent, and runs the plan that must notice it.

A mutant (`mutants/*.yaml`) takes out every line that enforces a rule, because many rules are
checked twice. It is applied to a copy of the agent's package, which comes first on the path of Python; the
working tree is never changed. `mutants.json` says which plan finds it. Each mutant is run with its
plan: one that is no longer noticed is a failure. `--find` looks for a plan among those that are kept
and among fresh seeds.

A run that breaks, or whose agent cannot start, finds nothing: the mutant must be seen by its effect
on people's data or equipment.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
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
COMPLAINT = re.compile(r"^(CONSERVATION|SENT|EQUIPMENT|LIVENESS|SPIN|TRUTH): (.*)$", re.MULTILINE)
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
_file, _write = os.environ.get("SIM_LINES"), os.write
if _file:
    _handle = os.open(_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    _tool, _top = sys.monitoring.COVERAGE_ID, os.environ["SIM_AGENT"] + "/"
    def _line(code, number):
        if code.co_filename.startswith(_top):
            _write(_handle, f"{code.co_filename[len(_top):]} {number}\\n".encode())
        return sys.monitoring.DISABLE
    sys.monitoring.use_tool_id(_tool, "lines")
    sys.monitoring.register_callback(_tool, sys.monitoring.events.LINE, _line)
    sys.monitoring.set_events(_tool, sys.monitoring.events.LINE)
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
        (folder / "sitecustomize.py").write_text(TRACER, encoding="utf-8")
        yield folder


class Result(NamedTuple):
    """What a run has shown."""

    status: int
    """0: no complaint; 1: some; anything else: the run is broken"""
    complaints: tuple[tuple[str, str], ...]
    """oracle and text"""
    cpu: float
    """seconds"""
    output: str

    def notices(self, mutant: Mutant) -> tuple[str, str] | None:
        """The first complaint that shows a mutant by its effect."""
        if self.status != 1:
            return None
        return next((one for one in self.complaints if one[0] in EFFECTS[mutant.group]), None)


def run(plan: Path, folder: Path, lines: Path | None = None) -> Result:
    """Run a plan with the agent in a folder. `lines`: note there which lines are reached."""
    environment = {
        **os.environ, "PYTHONPATH": f"{folder}:{TOP}", "PYTHONSAFEPATH": "1", "PYTHONHASHSEED": "0",
        "SIM_AGENT": str(folder / "agent"),
    }  # fmt: skip
    environment |= {"SIM_LINES": str(lines)} if lines else {}
    command = [sys.executable, "-m", "tests.sim", "plan", str(plan)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=TOP, env=environment, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        timer = threading.Timer(LONGEST, os.killpg, (process.pid, 9))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    cpu = usage.ru_utime + usage.ru_stime
    return Result(process.returncode, tuple(COMPLAINT.findall(text)), cpu, text)


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
writes this page; `tests/sim/mutants/` has the changes.

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
        return Row(mutant, "", "", 0.0, "no plan is known that finds it")
    plan = HERE / entry["plan"]
    with copied(mutant) as folder:
        result = run(plan, folder)
    if complaint := result.notices(mutant):
        return Row(mutant, entry["plan"], complaint[0], result.cpu)
    how = f"status {result.status}, {len(result.complaints)} complaints of other oracles"
    return Row(mutant, entry["plan"], "", result.cpu, f"its plan does not notice it: {how}")


def page(rows: Sequence[Row]) -> str:
    """The table for docs."""
    lines = [HEAD]
    for row in rows:
        rules, name, wrong = ", ".join(row.mutant.rules), row.mutant.name, row.mutant.wrong
        plan = Path(row.plan).stem or "none yet"
        lines.append(f"| {rules} | {name} | {wrong} | {plan} | {row.oracle} | {row.cpu:.1f} |")
    lines += ["", "## Clauses without a mutant", ""]
    reasons: dict[str, list[str]] = {}
    for rule, reason in WITHOUT.items():
        reasons.setdefault(reason, []).append(rule)
    lines += [f"- {', '.join(rules)}: {reason}." for reason, rules in reasons.items()]
    return "\n".join(lines) + "\n"


def check_all(mutants: Sequence[Mutant], jobs: int, *, write: bool) -> int:
    """Run mutants with their plans. Return the exit status."""
    with ThreadPoolExecutor(jobs) as pool:
        rows = list(pool.map(check, mutants))
    for row in rows:
        plan = Path(row.plan).stem or "-"
        print(f"{' '.join(row.mutant.rules):14} {row.mutant.name:32} {plan:32} {row.cpu:6.1f} s"
              f"  {row.problem or row.oracle}")  # fmt: skip
    if write:
        PAGE.write_text(page(rows), encoding="utf-8")
    missed = [row for row in rows if row.problem]
    print(f"{len(rows) - len(missed)} of {len(rows)} mutants are noticed,"
          f" in {sum(row.cpu for row in rows):.0f} CPU seconds")  # fmt: skip
    return 1 if missed else 0


# find


class Trial(NamedTuple):
    """A plan that the right agent passes, and the lines that it reaches."""

    plan: dict[str, Any]
    name: str
    lines: frozenset[tuple[str, int]]


class Search:
    """Looks for plans that notice mutants."""

    def __init__(self, work: Path, say: Callable[[str], None] = print) -> None:
        self._work, self._say = work, say
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
            result = run(file, right, lines)
            if result.status != 0:
                (self._work / f"{name}.wrong").write_text(result.output)
                self._say(f"  {name}: the right agent does not pass it (status {result.status})")
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
        for path in (*own, *others):
            yield f"case-{path.stem}", plans.load(path)
        for seed in range(1, seeds + 1):
            for kind in mutant.kinds:
                yield f"{kind}-{seed}", plans.drawn(seed, kind)

    def find(self, mutant: Mutant, right: Path, seeds: int, tries: int) -> bool:
        """Look for a plan that notices a mutant, and keep it. Return whether there is one."""
        lines, used = reached(mutant), 0
        with copied(mutant) as folder:
            for name, plan in self.candidates(mutant, seeds):
                trial = self.trial(name, plan, right)
                if trial is None or not lines & trial.lines:
                    continue
                used += 1
                if used > tries:
                    break
                result = run(self._work / f"{name}.json", folder)
                if complaint := result.notices(mutant):
                    self._keep(mutant, trial, complaint, result, folder, right)
                    return True
                if result.status not in {0, 1}:
                    (self._work / f"{mutant.name}.broken").write_text(result.output)
        self._say(f"{mutant.name}: not noticed in {used} plans")
        return False

    def _keep(  # noqa: PLR0913, PLR0917 -- what was found
        self, mutant: Mutant, trial: Trial, complaint: tuple[str, str], result: Result,
        folder: Path, right: Path,
    ) -> None:  # fmt: skip
        del folder, right
        from tests.sim import plan as plans

        case = trial.name.removeprefix("case-")
        if case == trial.name:
            (CASES / f"{case}.json").write_text(plans.dump(trial.plan), encoding="utf-8")
        entry = {
            "plan": f"cases/{case}.json",
            "oracle": complaint[0],
            "complaint": complaint[1][:200],
        }
        keep(mutant.name, entry | {"cpu": round(result.cpu, 1)})
        self._say(
            f"{mutant.name}: {complaint[0]} in {case}, {result.cpu:.1f} s: {complaint[1][:150]}"
        )


def find_all(mutants: Sequence[Mutant], jobs: int, seeds: int, tries: int, work: Path) -> int:
    """Look for plans for mutants. Return the exit status."""
    search = Search(work)
    with copied(None) as right, ThreadPoolExecutor(jobs) as pool:
        noticed = list(pool.map(lambda one: search.find(one, right, seeds, tries), mutants))
    return 0 if all(noticed) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m tests.sim mutants`."""
    parser = argparse.ArgumentParser(prog="tests.sim mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants or rules; default: all")
    parser.add_argument("--find", action="store_true", help="look for plans")
    parser.add_argument(
        "--all", action="store_true", help="with --find: also for those that have one"
    )
    parser.add_argument("--seeds", type=int, default=20, help="fresh seeds of each kind")
    parser.add_argument("--tries", type=int, default=40, help="runs for each mutant")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "mutants")
    options = parser.parse_args(arguments)
    asked = set(options.names)
    mutants = [one for one in MUTANTS if not asked or asked & {one.name, *one.rules}]
    if options.find:
        known = set() if options.all else found().keys()
        missing = [one for one in mutants if one.name not in known]
        return find_all(missing, options.jobs, options.seeds, options.tries, options.work)
    return check_all(mutants, options.jobs, write=not asked)


if __name__ == "__main__":
    sys.exit(main())
