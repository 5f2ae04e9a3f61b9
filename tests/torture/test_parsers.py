"""Every parser of foreign bytes against bytes made wrong: it answers or says "no" in its own words,
soon, and in bounded memory.

The long form (GARDIEN_TORTURE=1) tries 100,000 changes of each and prints a table.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import pytest

from tests.depth import LONG
from tests.memory import forget, peak
from tests.torture.mutate import mutated
from tests.torture.parsers import parsers, scratch

if TYPE_CHECKING:
    from types import ModuleType

MANY = int(os.environ.get("GARDIEN_MUTATIONS", "100000"))
SHORT = 150
"""changes of each parser in the short form"""
TRACED = 2_000
"""changes whose lines are counted, in the long form"""
SLOWEST, WAITED = 2.0, 30.0
"""seconds of computing, and altogether, on whatever machine"""
LARGEST = 100
"""MB"""


@pytest.fixture(scope="module")
def table():
    with scratch() as folder:
        yield parsers(Path(folder))


def names() -> list[str]:
    return sorted(parsers(Path("/nonexistent")))


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("name", names())
def test_a_parser_of_foreign_bytes_says_no_and_nothing_else(table, name):
    parser = table[name]
    dice = random.Random(f"{name} {time.time_ns() if LONG else 1}")
    for seed in parser.seeds:
        tried(parser, seed)
    before, slowest, refused = forget(), 0.0, 0
    many = MANY if LONG else SHORT
    for _ in range(many):
        raw = mutated(parser.seeds, dice, parser.most)
        begun, of_cpu = time.monotonic(), time.process_time()
        refused += tried(parser, raw)
        slowest = max(slowest, took := time.process_time() - of_cpu)
        assert took < SLOWEST, f"{name}: {took:.1f} s for {raw!r}"
        assert time.monotonic() - begun < WAITED, f"{name} waits at {raw!r}"
    grown = peak() - before
    assert grown < LARGEST, f"{name}: {grown} MB"
    if LONG:
        seen, there = covered(parser, dice)
        print(
            f"\n{name}: {many} changes, {refused} refused, slowest {slowest * 1000:.0f} ms,"
            f" +{grown} MB, {seen} of {there} lines ({100 * seen // max(1, there)} %)"
        )


def tried(parser: Any, raw: bytes) -> bool:
    """Whether it said "no"; the bytes stand beside whatever else it raised."""
    try:
        parser.enter(raw)
    except parser.raises:
        return True
    except Exception as error:
        error.add_note(f"by {raw!r}")
        raise
    return False


def covered(parser: Any, dice: random.Random) -> tuple[int, int]:
    """How many lines in functions of its modules were reached, and how many there are."""
    files = {module.__file__ for module in parser.modules}
    seen: set[tuple[str, int]] = set()

    def line(frame: FrameType, what: str, _: object) -> Any:
        if what == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
        return line

    def called(frame: FrameType, _what: str, _arg: object) -> Any:
        return line if frame.f_code.co_filename in files else None

    sys.settrace(called)
    try:
        for raw in (
            *parser.seeds,
            *(mutated(parser.seeds, dice, parser.most) for _ in range(TRACED)),
        ):
            tried(parser, raw)
    finally:
        sys.settrace(None)
    there = {one for module in parser.modules for one in lines(module)}
    return len(seen & there), len(there)


def lines(module: ModuleType) -> set[tuple[str, int]]:
    """The lines of all functions of a module."""
    path = str(module.__file__)
    todo = [compile(Path(path).read_text(encoding="utf-8"), path, "exec")]
    found = set()
    while todo:
        for one in todo.pop().co_consts:
            if isinstance(one, CodeType):
                todo.append(one)
                if one.co_flags & 2:  # of a function: CO_NEWLOCALS
                    found |= {
                        (path, number) for _, _, number in one.co_lines()
                        if number is not None and number != one.co_firstlineno
                    }  # fmt: skip
    return found
