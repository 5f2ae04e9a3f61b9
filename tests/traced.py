"""Which file calls which, in what order, in a run of the agent: recorded, and held against a story.

A story is a nested list of files: a line that is indented is called by the line above it, and lines
stand in the order in which they are first called. What a task or a thread does by itself begins at
the left. A `Recorder` gives the `Run`; `Run.follow` says where a story is wrong.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from bisect import bisect_left
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor
    from pathlib import Path
    from types import CodeType, FrameType

STEP = re.compile(r"^( *)(?:[0-9]+\.|-) `([a-z_/0-9]+\.py)`", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a story."""

    depth: int
    file: str


def story(text: str, heading: str) -> list[Step]:
    """The list under one heading of a page. Its indents may be of any width, but must be even."""
    section = re.split(r"^## ", text.split(f"## {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)
    indents: list[int] = []
    steps = []
    for spaces, file in STEP.findall(section[0]):
        while indents and indents[-1] >= len(spaces):
            indents.pop()
        steps.append(Step(len(indents), file))
        indents.append(len(spaces))
    return steps


WORKS_FOR: ContextVar[int | None] = ContextVar("WORKS_FOR", default=None)


class Recorder:
    """Records, while `on`, which file below a folder calls which other one, for which task."""

    def __init__(self, root: Path) -> None:
        self.root, self.on = root, False
        self._run = Run()
        self._numbers: dict[object, int] = {}
        """tasks and threads; it keeps them alive, so that none takes the place of another"""
        self._files: dict[CodeType, str] = {}

    @contextmanager
    def recording(self) -> Iterator[asyncio.Runner]:
        """What runs the loop to be recorded."""
        sys.setprofile(self._called)
        threading.setprofile(self._called)
        try:
            with asyncio.Runner(loop_factory=partial(TracedLoop, self)) as runner:
                yield runner
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]

    def taken(self) -> Run:
        """What was recorded since the last time."""
        run, self._run = self._run, Run(parents=self._run.parents)
        return run

    def began(self, task: asyncio.Task[Any]) -> None:
        """Note which task has begun another one."""
        if (before := _task()) is not None:
            self._run.parents[self._number(task)] = self._number(before)

    def strand(self) -> int:
        """The number of the task that runs, or that this thread works for; else of the thread."""
        if (task := _task()) is not None:
            return self._number(task)
        if (works_for := WORKS_FOR.get()) is not None:
            return works_for
        return self._number(threading.current_thread())

    def _number(self, strand: object) -> int:
        return self._numbers.setdefault(strand, len(self._numbers))

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        if not self.on or event != "call" or not (file := self._file(frame.f_code)):
            return
        above = frame.f_back
        while above is not None and not self._file(above.f_code):
            above = above.f_back
        caller = self._file(above.f_code) if above else ""
        strand = self.strand()
        if caller != file:
            self._run.calls.append((caller, file, strand))
        function = file, frame.f_code.co_qualname
        self._run.functions.append((len(self._run.calls) - 1, function, strand))

    def _file(self, code: CodeType) -> str:
        """The path of a file of the agent; empty: it is another's."""
        if (known := self._files.get(code)) is None:
            _, inside, path = code.co_filename.partition(f"{self.root}/")
            known = self._files[code] = path if inside and path.startswith("agent/") else ""
        return known


class TracedLoop(asyncio.SelectorEventLoop):
    """Tells which task begins a task, and for which task a thread of a pool works."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        self._recorder.began(task)
        return task

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        context = copy_context()
        context.run(WORKS_FOR.set, self._recorder.strand())
        return super().run_in_executor(executor, partial(context.run, func), *args)


@dataclass
class Run:
    """The calls of a run in their order."""

    calls: list[tuple[str, str, int]] = field(default_factory=list)
    """caller, called file, task or thread; the caller is empty where the loop has called it"""
    functions: list[tuple[int, tuple[str, str], int]] = field(default_factory=list)
    """after which of the calls a function was called, its file and name, and its task or thread"""
    parents: dict[int, int] = field(default_factory=dict)
    """by which task a task was begun"""
    _known: dict[int, dict[tuple[str, str], list[int]]] = field(default_factory=dict)
    _places: list[tuple[int, int, int]] = field(default_factory=list)
    """task, first and last call of each part of the story followed last"""

    def follow(self, steps: Sequence[Step]) -> list[str]:
        """What is wrong with a story; nothing: the run was so."""
        wrong, since, named = [], 0, set[str]()
        self._places.clear()
        for part in _parts(steps):
            files = {step.file for step in part}
            if named and not files & named:
                wrong.append(f"{part[0].file}: nothing before it hands anything over to it")
            named |= files
            end, missing = self._part(part, since)
            if missing:
                wrong.append(missing)
            since = max(since, end)
        return wrong

    def passed(self) -> set[tuple[str, str]]:
        """File and name of each function that ran in the places of the story followed last.

        A place is in one task, from the first line of a part to its last. What other tasks do at
        the same time does not count.
        """
        return {
            function
            for at, function, own in self.functions
            for strand, start, end in self._places
            if start <= at <= end and self._belongs(own, strand)
        }

    def _part(self, part: Sequence[Step], since: int) -> tuple[int, str]:
        """Until where it took place, and what is wrong with it, in the strand that fits best."""
        edges, root = _edges(part), part[0].file
        best, fits = -1, (since, f"{root} does not run")
        for strand in self._strands.get(root, ()):
            at = self._indexes(strand)
            # a loop that came round before for nothing is passed over
            starts = at.get(edges[0] if edges else ("", root), [])
            for start in starts[bisect_left(starts, since) :]:
                far, end = _in_order(edges, at, start)
                if far == len(edges):
                    self._places.append((strand, start, end))
                    return end, ""
                if far > best:
                    caller, file = edges[far]
                    best, fits = far, (since, f"{caller} does not call {file}, or not then")
        return fits

    @cached_property
    def _strands(self) -> dict[str, dict[int, None]]:
        """In which strands each file was called, in their order."""
        found: dict[str, dict[int, None]] = {}
        for _, file, strand in self.calls:
            found.setdefault(file, {})[strand] = None
        return found

    def _indexes(self, strand: int) -> dict[tuple[str, str], list[int]]:
        """When each file called each other one, in a strand and in those that it has begun."""
        if (at := self._known.get(strand)) is None:
            at = self._known[strand] = {}
            for index, (caller, file, own) in enumerate(self.calls):
                if self._belongs(own, strand):
                    at.setdefault((caller, file), []).append(index)
        return at

    def _belongs(self, strand: int | None, to: int) -> bool:
        while strand is not None and strand != to:
            strand = self.parents.get(strand)
        return strand == to


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _parts(steps: Sequence[Step]) -> list[list[Step]]:
    parts: list[list[Step]] = []
    for step in steps:
        if step.depth == 0:
            parts.append([])
        parts[-1].append(step)
    return parts


def _edges(part: Sequence[Step]) -> list[tuple[str, str]]:
    """Who calls whom, line by line."""
    above: list[str] = []
    edges = []
    for step in part:
        del above[step.depth :]
        if above:
            edges.append((above[-1], step.file))
        above.append(step.file)
    return edges


def _in_order(
    edges: Sequence[tuple[str, str]], at: dict[tuple[str, str], list[int]], start: int
) -> tuple[int, int]:
    """How many of these calls were first made in this order from `start` on, and when the last."""
    last = start - 1
    for far, edge in enumerate(edges):
        indexes = at.get(edge, [])
        first = bisect_left(indexes, start)
        if first == len(indexes) or indexes[first] <= last:
            return far, last
        last = indexes[first]
    return len(edges), last
