"""LIVENESS and TRUTH: what waits, by the answer to `status`, against what leaves later.

What waited at a look is sent afterwards, so the batches that leave between the look and the end of
the run show how much it can have been, and how much it was at least. Which clauses, and what each
check lets pass: tests.sim.judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.sim.facts import DAY, NEVER, SETTLES, Batch, Facts, Row, expanded, second
from tests.sim.finding import Finding

FRESH = 5.0
"""seconds before and after an answer in which a batch may be sealed, or its receipt may arrive"""
STORED = 45.0
"""seconds after which what was read is surely in the spool; the longest flush is 30 s"""
SEALED = 600.0
"""seconds in which a batch leaves once its interval is over: the longest gap of the backlog"""
REOPENS = 120.0
"""seconds after a fault of the disk until its spool is surely open: it is tried each minute"""
CHANGES = ("consent", "withdraw", "leave", "enter", "exchange", "removal", "duty",
           "duty.end")  # fmt: skip
"""facts after which rows are made, or deleted, of slots that are past"""


def judged(facts: Facts) -> Iterator[Finding]:
    """What each look in a calm time was told to wait, and must not wait, or does not."""
    for at, what, index in facts.statuses:
        if what["what"] == "status" and _calm(facts, at):
            for uplink in (what["answer"].get("uplinks") or {}).values():
                here = _Waiting.at(facts, uplink["recipient"], at)
                yield from _unsent(here, uplink, at, index)
                for text in _misstated(here, uplink["backlog"]):
                    about = f"status: {uplink['recipient']}: {text}"
                    yield Finding("TRUTH", "T31", about, at, (index,))


def _calm(facts: Facts, at: float) -> bool:
    """Whether nothing hindered anything for long before, nor until all of it is delivered."""
    until = at + 2 * facts.building.get("seal", 60) + SEALED
    changed = any(
        fact["fact"] in CHANGES and asked <= until and at - SETTLES / 3 <= (known or asked)
        for asked, known, fact, _ in facts.stated
    )
    wrong = any(begin <= until and at - SETTLES <= end for begin, end in facts.doubtful_clock())
    calm = facts.calm_but(at - SETTLES, until, clock=True) and not wrong
    return until <= facts.end and calm and not changed


@dataclass
class _Waiting:
    """What waits for a recipient at a moment: surely, and at most."""

    sure: list[Row]
    """values that were read before, and left for the first time afterwards"""
    most: list[Row]
    """all rows that left for the first time afterwards, but those of a later time"""
    retractions: set[str]
    sealed: set[Any]
    """ids that had left and had no receipt"""
    perhaps: set[Any]
    """ids of which that is so within some seconds"""
    sealed_rows: int

    @classmethod
    def at(cls, facts: Facts, recipient: str, at: float) -> _Waiting:
        batches = [one for one in facts.batches.values() if one.recipient == recipient]
        later = [one for one in batches if one.sent[0][0] > at - FRESH]
        wall = at + facts.apart(at)
        rows = [(row, one) for one in later for row in expanded(one.rows)]
        settled = _Settled(facts, recipient)
        sure, perhaps, latest = set[Any](), set[Any](), dict[Any, Batch]()
        for one in batches:
            if one.of_memory or one.sent[0][0] > at + FRESH:
                continue
            receipt = settled.surely.get(one.id, NEVER)
            if receipt > at - FRESH or _refused_after(facts, one, receipt, at):
                perhaps.add(one.id)
            if one.sent[0][0] < at - FRESH and settled.perhaps.get(one.id, NEVER) > at + FRESH:
                sure.add(one.id)
            latest[one.id] = one
        return cls(
            [row for row, one in rows if _was_stored(row, wall) and one.sent[0][0] > at + FRESH],
            [row for row, _ in rows if _read(row) <= wall + FRESH],
            {two["id"] for one in later for two in one.retract},
            sure,
            perhaps,
            sum(len(latest[id_].rows) for id_ in sure),
        )


def _read(row: Row) -> float:
    """When a row was made at the earliest, by the clock of the gateway."""
    return row.t + (row.d if row.v is not None else 0)


def _was_stored(row: Row, at: float) -> bool:
    """Whether a value surely waits since then: it was neither restated nor sent before. A sum is
    made up to two of its steps later, since it waits for the values of dwellings that are late.
    """
    made = _read(row) if row.n is None else row.t + 2 * row.step
    return row.v is not None and not row.again and not row.ver and made < at - STORED


@dataclass
class _Settled:
    """When each batch of the spool on the disk no longer waits: by a receipt for one of its
    contents, or because one for other bytes had its rows sealed again (rule T8).
    """

    facts: Facts
    recipient: str
    surely: dict[Any, float] = field(default_factory=dict)
    perhaps: dict[Any, float] = field(default_factory=dict)
    """by id; earlier, if the disk may not have recorded a conflict"""
    ended: dict[str, float] = field(default_factory=dict)
    """epochs that such conflicts have surely ended, or a batch of a later epoch shows as ended"""
    begun: list[tuple[float, bool]] = field(default_factory=list)
    """conflicts that have begun an epoch, and whether that is sure"""

    def __post_init__(self) -> None:
        own = [one for one in self.facts.batches.values() if one.recipient == self.recipient]
        memory = {one.epoch for one in own if one.of_memory}
        first: dict[str, float] = {}
        for one in own:
            if not one.of_memory:
                first[one.epoch] = min(one.sent[0][0], first.get(one.epoch, NEVER))
        moments = sorted((at, epoch) for epoch, at in first.items())
        self.ended = {epoch: after for (_, epoch), (after, _) in pairwise(moments)}
        for at, id_, sha256 in _stored(self.facts, self.recipient):
            contents = self.facts.contents.get(id_, set())
            if sha256 in contents:
                self._is(id_, at, sure=True)
            elif contents and id_[1] not in memory:  # each spool counts its own
                self._contradicted(at, id_)

    def _is(self, id_: Any, at: float, *, sure: bool) -> None:
        self.perhaps.setdefault(id_, at)
        if sure:
            self.surely.setdefault(id_, at)

    def _contradicted(self, at: float, id_: Any) -> None:
        """The first conflict within a day begins an epoch; each one of an epoch that has ended has
        its rows sealed again, too, and any other lets them wait.
        """
        hindered = self.facts.during(at - FRESH - REOPENS, at + FRESH, "disk", "kill", "power")
        recent = [sure for begun, sure in self.begun if at - begun < DAY]
        epoch = id_[1]
        if self.ended.get(epoch, NEVER) < at:
            self._is(id_, at, sure=not hindered)
        elif not any(recent):
            sure = not hindered and not recent
            self._is(id_, at, sure=sure)
            self.begun.append((at, sure))
            if sure:
                self.ended[epoch] = at


def _stored(facts: Facts, recipient: str) -> Iterator[tuple[float, tuple[str, str, int], str]]:
    """(when, id, sha256) of what a recipient has said to hold, in receipts that count."""
    signed = facts.building["recipients"][0] if facts.building.get("signed") else None
    for at, what, _ in facts.receipts:
        if (
            what["recipient"] == recipient
            and what.get("of", recipient) == recipient
            and what.get("gateway", facts.building["gateway"]) == facts.building["gateway"]
            and (recipient != signed or what.get("signed"))
        ):
            for seq, sha256, *_ in what.get("stored") or ():
                yield at, (recipient, what.get("epoch", ""), seq), sha256


def _refused_after(facts: Facts, batch: Batch, receipt: float, until: float) -> bool:
    """Whether a copy was refused after a receipt that the disk may not have recorded."""
    recorded = not facts.during(receipt, receipt + FRESH, "disk", "kill", "power")
    return not recorded and any(
        receipt < at <= until + FRESH
        and (what["recipient"], what.get("epoch")) == (batch.recipient, batch.epoch)
        and any(seq == batch.seq for seq, *_ in what.get("rejected") or ())
        for at, what, _ in facts.receipts
    )


def _unsent(here: _Waiting, uplink: Mapping[str, Any], at: float, index: int) -> Iterator[Finding]:
    """T14, T19: once nothing hinders it, whatever waits is sent soon."""
    name, backlog = uplink["recipient"], uplink["backlog"]
    if backlog["slots"] > len(here.most):
        text = f"{backlog['slots']} slots wait for {name}, of which {len(here.most)} are sent"
        yield Finding("LIVENESS", "T14", text, at, (index,))
    if backlog["retractions"] > len(here.retractions):
        text = f"{backlog['retractions']} retractions wait for {name}, and are not sent"
        yield Finding("LIVENESS", "T19", text, at, (index,))


def _misstated(here: _Waiting, backlog: Mapping[str, Any]) -> Iterator[str]:
    """T31: the numbers are those of what waits."""
    if backlog["slots"] < len(here.sure):
        yield f"{backlog['slots']} slots wait, not {len(here.sure)}"
    if not backlog["slots"] >= backlog["rows"] >= min(backlog["slots"], 1):
        yield f"{backlog['rows']} rows have {backlog['slots']} slots"
    sealed = backlog["batches"] + backlog["quarantined"]
    if not len(here.sealed) <= sealed <= len(here.perhaps):
        yield f"{sealed} batches wait for a receipt, not {len(here.sealed)}"
    rows = backlog["batch_rows"] + backlog["quarantined_rows"]
    if here.sealed == here.perhaps and rows != here.sealed_rows:
        yield f"{rows} rows wait for a receipt, not {here.sealed_rows}"
    oldest = backlog["oldest"]
    ends = [row.t for row in here.sure]
    if ends and (oldest is None or second(oldest) > min(ends)):
        yield f"the oldest slot is {oldest}, not {min(ends)}"
    if oldest is not None and second(oldest) < min((row.t for row in here.most), default=0):
        yield f"the oldest slot is {oldest}, and none is so old"
