"""Slots that follow one another, as runs: which rows a recipient has received, without values.
Pure.

A retraction erases slots, not days of receipt: only from slots can the gateway say how many of its
values a recipient still has. A series without gaps is one run, however long it lasts. Of a series
with many gaps the oldest runs are joined, and which of their slots are there is not known any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.core.model import Quality, ValueKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.core.model import Series

VALUE, MISSING, WITHHELD = "V", "M", "W"
"""kinds of rows: with a value; its absence is announced; it is withheld"""
ANY = -1
"""`ver` of a run of rows whose versions or meters differ"""
MOST_RUNS, SPARE = 48, 8
"""runs of one series; if there are more, SPARE more of the oldest are joined than need be"""


class SlotRun(NamedTuple):
    """Slots of rows of one kind."""

    kind: str
    at: int
    """time of the first slot as `Retraction.covers` counts it"""
    last: int
    """time of the last slot"""
    step: int
    slots: int
    ver: int = 0
    """0: made on schedule"""
    meter: str = ""

    @property
    def exact(self) -> bool:
        """Whether each slot from the first to the last is there."""
        return self.ver != ANY and self.last - self.at == (self.slots - 1) * self.step

    def part(self, first: int, slots: int) -> SlotRun:
        """Some slots of an exact run, counted from its first."""
        at = self.at + first * self.step
        return self._replace(at=at, last=at + (slots - 1) * self.step, slots=slots)

    def outside(self, since: int, until: int | None) -> list[SlotRun]:
        """The parts of an exact run whose times are not in [since, until)."""
        step = self.step or 1
        # the first slot at or after each of these times
        first, end = (
            self.slots if at is None else min(max(0, -(-(at - self.at) // step)), self.slots)
            for at in (since, until)
        )
        if end <= first:
            return [self]
        parts = (self.part(0, first), self.part(end, self.slots - end))
        return [one for one in parts if one.slots > 0]


def run_of(series: Series, t: int, quality: str, span: int, ver: int | None) -> SlotRun:
    """The run of one row."""
    kind = quality if quality in {Quality.MISSING, Quality.WITHHELD} else VALUE
    at = t - (series.kind in {ValueKind.INT, ValueKind.AVG})
    last = at + (span - 1) * series.step
    return SlotRun(kind, at, last, series.step, span, ver or 0, series.meter or "")


def joined(known: Iterable[SlotRun], new: Iterable[SlotRun]) -> list[SlotRun]:
    """Both together, each slot once, as few more than MOST_RUNS runs at most."""
    runs = list(known)
    for run in _in_order(new):
        parts = [run]
        for old in runs:
            if _alike(old, run) and _touches(run, old.at, old.last + 1):
                # what lies in a joined run is taken to be one of its slots
                parts = [left for part in parts for left in part.outside(old.at, old.last + 1)]
        runs += parts
    whole = _in_order(runs)
    if (more := len(whole) - MOST_RUNS) <= 0:
        return whole
    by_age = sorted(whole, key=lambda run: run.last)
    oldest, rest = by_age[: more + SPARE], by_age[more + SPARE :]
    groups: dict[tuple[object, ...], SlotRun] = {}
    for run in oldest:
        key = _sort(run)
        groups[key] = _merged(groups[key], run) if key in groups else run
    by_kind: dict[str, SlotRun] = {}
    for run in groups.values() if len(groups) > SPARE else ():
        by_kind[run.kind] = _merged(by_kind[run.kind], run) if run.kind in by_kind else run
    return _in_order([*(by_kind or groups).values(), *rest])


def beyond(known: Iterable[SlotRun], new: Iterable[SlotRun]) -> list[SlotRun]:
    """The new slots that are surely not among the known ones, and those that may not be."""
    parts = _in_order(new)
    for old in known:
        if old.exact:
            parts = [
                left
                for part in parts
                for left in (
                    part.outside(old.at, old.last + 1)
                    if part.exact and _alike(old, part)
                    else [part]
                )
            ]
    return parts


def _in_order(runs: Iterable[SlotRun]) -> list[SlotRun]:
    """Runs that follow one another as one, each slot of them once."""
    whole: list[SlotRun] = []
    for run in sorted(runs, key=lambda run: (*_sort(run), run.at)):
        before = whole[-1] if whole else None
        if before is None or not _alike(before, run) or not (before.exact and run.exact):
            whole.append(run)
            continue
        for left in run.outside(before.at, before.last + 1):
            if before.last + before.step == left.at:
                whole[-1] = before = _merged(before, left)
            else:
                whole.append(left)
    return whole


def _alike(run: SlotRun, other: SlotRun) -> bool:
    return _sort(run) == _sort(other)


def _sort(run: SlotRun) -> tuple[object, ...]:
    """What runs have in common that may be one. Times of quantities over a period lie between those
    of indexes.
    """
    return run.kind, run.step, run.ver, run.meter, run.at % (run.step or 1)


def _merged(first: SlotRun, second: SlotRun) -> SlotRun:
    """Two runs as one."""
    both = first._replace(
        at=min(first.at, second.at),
        last=max(first.last, second.last),
        slots=first.slots + second.slots,
    )
    return both if _alike(first, second) else both._replace(ver=ANY, meter="", step=0)


def remaining(
    runs: Iterable[SlotRun],
    erased: Sequence[tuple[int, int | None, int, str | None]],
) -> tuple[int, int]:
    """How many slots of these runs remain, at least and at most, after erasures: each with its time
    [since, until), the highest `ver` that it erases, and the meter whose rows it erases, if of one
    only.
    """
    least = most = 0
    for run in runs:
        concerning = [
            (since, until)
            for since, until, ver, meter in erased
            if run.ver <= ver and (run.ver == ANY or meter in (None, run.meter))
        ]
        if not run.exact:
            touched = [span for span in concerning if _touches(run, *span)]
            whole = any(
                since <= run.at and (until is None or run.last < until) and run.ver != ANY
                for since, until in touched
            )
            least += 0 if touched else run.slots
            most += 0 if whole else run.slots
            continue
        parts = [run]
        for since, until in concerning:
            parts = [left for part in parts for left in part.outside(since, until)]
        left = sum(part.slots for part in parts)
        least += left
        most += left
    return least, most


def _touches(run: SlotRun, since: int, until: int | None) -> bool:
    return since <= run.last and (until is None or run.at < until)
