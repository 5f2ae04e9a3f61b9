"""The proof: what the building answered against what the platform holds, slot by slot.

Neither side is the agent's. The building logs each answer with its time and its four bytes, the
platform keeps what it was sent; whose meter it is and who consented is known from the lists that
were handed to the agent. A slot is proved by exactly one row that is either right or rightly
missing; no answer makes two rows right.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SLACK = 0.05
"""seconds by which the agent's clock may be behind the building's"""


class Answer(NamedTuple):
    """One answer of a meter, as the building logged it."""

    t: float
    raw: bytes
    since: float = float("inf")
    """when the connection was opened on which it was given; inf: not known"""


class Row(NamedTuple):
    """One row as the platform holds it."""

    place: str
    t: int
    value: str | None
    q: str
    why: str | None
    delay: int
    span: int
    basis: str


@dataclass(frozen=True)
class Evidence:
    """All that the proof rests on."""

    answers: Mapping[str, Sequence[Answer]]
    """by place, in the order of time"""
    rows: Iterable[Row]
    consented: Mapping[str, str]
    """place -> id of its consent"""
    last_slot: int
    step: int
    flush: float
    downs: Sequence[tuple[float, float]] = ()
    """(the agent was killed, it is started again)"""
    silences: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """place -> (told to be silent, told to speak)"""


@dataclass
class Verdict:
    """Counts, and the first few findings in words."""

    slots: int = 0
    stored: int = 0
    """slots that have exactly one row"""
    early: int = 0
    """slots with a row, before the first answer of their meter"""
    missing: int = 0
    duplicate: int = 0
    wrong: int = 0
    without_basis: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """M rows by reason, busy among them"""
    findings: list[str] = field(default_factory=list)

    @property
    def proved(self) -> bool:
        """Nothing is missing, doubled, wrong or without basis, and there was something to prove."""
        return self.slots > 0 and not (
            self.missing or self.duplicate or self.wrong or self.without_basis
        )

    def line(self) -> str:
        """The one line that says it."""
        return (
            f"{'PROVED' if self.proved else 'NOT PROVED'}: {self.slots} slots, "
            f"{self.missing} missing, {self.duplicate} duplicate, {self.wrong} wrong, "
            f"{self.without_basis} without basis"
        )

    def find(self, words: str) -> None:
        """Keep the first findings; the counts hold the rest."""
        if len(self.findings) < 20:
            self.findings.append(words)


def prove(evidence: Evidence) -> Verdict:
    """Go through every slot from each meter's first answer to the last one."""
    verdict = Verdict()
    held: dict[str, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in evidence.rows:
        if evidence.consented.get(row.place) != row.basis:
            verdict.without_basis += 1
            verdict.find(f"{row.place} {row.t}: left on the basis {row.basis!r}")
            continue
        for n in range(row.span):
            held[row.place][row.t + n * evidence.step].append(row)
    for place in evidence.consented:
        _prove_meter(evidence, place, held[place], verdict)
    return verdict


def _prove_meter(
    evidence: Evidence, place: str, held: Mapping[int, list[Row]], verdict: Verdict
) -> None:
    answers = evidence.answers.get(place, ())
    if not answers:
        verdict.missing += 1
        verdict.find(f"{place}: the building never answered for it")
        return
    first = int(answers[0].t // evidence.step) * evidence.step
    owed = set(range(first, evidence.last_slot + evidence.step, evidence.step))
    free = 0  # the first answer that no row has been taken from
    for slot in sorted(owed | {t for t in held if t <= evidence.last_slot}):
        rows = held.get(slot, [])
        verdict.slots += slot in owed
        verdict.stored += slot in owed and len(rows) == 1
        verdict.early += slot not in owed
        if not rows:
            verdict.missing += 1
            verdict.find(f"{place} {slot}: no row")
        elif len(rows) > 1:
            verdict.duplicate += 1
            verdict.find(f"{place} {slot}: {len(rows)} rows")
        elif (value := rows[0].value) is not None:
            begin = slot + rows[0].delay
            taken = _taken_from(answers, free, value, begin)
            if taken is None:
                verdict.wrong += 1
                verdict.find(f"{place} {slot}: no answer of the building says {value} at {begin}")
            else:
                free = taken + 1
        elif why_wrong := _why_wrong(evidence, place, slot, rows[0], answers):
            verdict.wrong += 1
            verdict.find(f"{place} {slot}: {why_wrong}")
        else:
            verdict.reasons[str(rows[0].why)] += 1


def _taken_from(answers: Sequence[Answer], free: int, value: str, begin: int) -> int | None:
    """Which answer a value stamped in this second was taken from; None if there is none.

    One of that second, or the last before it: on a busy machine an answer is under way for a while.
    """
    raw, last_before = struct.pack(">f", float(value)), _index(answers, begin) - 1
    among = range(max(free, last_before), _index(answers, begin + 1 + SLACK))
    return next((n for n in among if answers[n].raw == raw), None)


def _why_wrong(
    evidence: Evidence, place: str, slot: int, row: Row, answers: Sequence[Answer]
) -> str:
    """Why a row without a value must not be as it is; empty if it is right."""
    if row.q != "M":
        return f"no value, and quality {row.q}"
    excuses = {"agent": _downs, "silent": _silences}
    if row.why == "busy":
        return ""
    if row.why not in excuses:
        return f"missing for {row.why!r}, which did not happen"
    spans = list(excuses[row.why](evidence, place, answers))
    if any(a <= slot <= b for a, b in spans):
        return ""
    near = min(spans, key=lambda span: min(abs(slot - end) for end in span), default=None)
    said = [round(answer.t - slot, 2) for answer in answers if abs(answer.t - slot) < 5]
    span = near and tuple(round(end - slot, 2) for end in near)
    return f"{row.why!r} at another time: expected {span} s from it, the meter answered {said}"


def _downs(evidence: Evidence, _: str, answers: Sequence[Answer]) -> Iterator[tuple[float, float]]:
    """From one poll and one flush before each kill to the first read after the start. A slot that
    is passed over closes with the next read, so all since the last read on the disk may be lost.

    On a busy machine a meter may answer who is dead already, on a connection of before.
    """
    for dead, back in evidence.downs:
        begin = dead - evidence.step - evidence.flush
        stored = _index(answers, begin)
        begin = answers[stored - 1].t if stored else begin
        yield begin, _first_after(answers, back, back)


def _silences(
    evidence: Evidence, place: str, answers: Sequence[Answer]
) -> Iterator[tuple[float, float]]:
    """From the slot running when it was told to be silent to its first answer afterwards."""
    for begin, end in evidence.silences.get(place, ()):
        yield begin - evidence.step, _first_after(answers, end)


def _first_after(answers: Sequence[Answer], t: float, since: float = 0.0) -> float:
    """`since`: only on connections that were opened then or later."""
    later = answers[_index(answers, t) :]
    return next((one.t for one in later if one.since >= since), float("inf"))


def _index(answers: Sequence[Answer], t: float) -> int:
    """How many came before."""
    return bisect_left(answers, t, key=lambda answer: answer.t)
