"""The plans that are kept (`cases/*.json`), and in which order a short run begins them.

A short run has time for some of them only. Each second plan is the one that notices the most
mutants in a second of CPU; between those, the other plans come in an order that the agent's code
decides. So what finds most is always run, the rest within some changes, and the same code runs
the same plans.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from itertools import chain, zip_longest
from pathlib import Path

from tests.sim import plan as plans

HERE = Path(__file__).parent
AGENT = HERE.parents[1] / "agent"
DRAWN = 1_000.0
"""CPU seconds of a plan of which nobody knows how long it takes: it counts as no use"""


def files():
    """All plans of the corpus, by name."""
    return sorted((HERE / "cases").glob("*.json"))


def code():
    """A hash of the agent's code."""
    digest = hashlib.sha256()
    for file in sorted(AGENT.rglob("*.py")):
        digest.update(f"{file.relative_to(AGENT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def in_turn(names, mutants, of):
    """Names of plans, each once, in the order in which a short run of that code begins them.

    `mutants`: the mutants of which it is known which plan notices them, as in `mutants.json`.
    """
    noticed, cpu = defaultdict(int), defaultdict(lambda: DRAWN)
    for entry in mutants.values():
        name = Path(entry["plan"]).stem
        noticed[name] += 1
        cpu[name] = min(cpu[name], max(entry["cpu"], 0.1))
    best = sorted(names, key=lambda name: (-noticed[name] / cpu[name], name))
    drawn = sorted(names, key=lambda name: hashlib.sha256(f"{of}/{name}".encode()).digest())
    both = chain.from_iterable(zip_longest(best, drawn))
    return list(dict.fromkeys(name for name in both if name is not None))


def short():
    """The plans of the corpus by name, in the order of a short run."""
    known = {file.stem: file for file in files()}
    mutants = json.loads((HERE / "mutants.json").read_text(encoding="utf-8"))
    return {name: plans.load(known[name]) for name in in_turn(known, mutants, code())}


def whole():
    """All plans of the corpus by name."""
    return {file.stem: plans.load(file) for file in files()}
