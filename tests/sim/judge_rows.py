"""CONSERVATION and SENT: every owed slot once and true; nothing to those who may not have it.

Which clauses, and what each check lets pass: tests.sim.judge.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

from tests.sim.facts import (
    DAY,
    DELIVERED,
    FLOWS,
    MONTH,
    NEVER,
    NOTICED,
    QUIET,
    SETTLES,
    Answer,
    Basis,
    Batch,
    Facts,
    Fitted,
    Held,
    Platform,
    Row,
    Stay,
    covers,
    expanded,
    second,
)
from tests.sim.finding import Finding

Pair = tuple[Answer | None, Answer | None]
"""what the next value is compared with, and a suspect one that it may confirm"""
UNSENT = 60 * DAY
TENDED = 3 * 3600
"""within which a row that became too old is destroyed"""
BOOTS = 1800.0
"""seconds after a boot in which a time service is found to keep the clock"""
FINEST = 600
DRIFT = 10.0
"""seconds by which a clock may differ from the right one and still count as that (rule C4)"""
READ = 30.0
"""seconds by which the moment that a row states may differ from that of the answer"""
AGAIN = 200.0
"""seconds in which a silent device is asked again: a minute, and what others on its line take"""
CUT = 5.0
"""seconds after the answer to a withdrawal in which a transfer that it concerns is cut off"""
OTHER_EPOCHS = ("disk", "power", "reload", "upgrade")
"""events by which an epoch may begin without a conflict"""
FOR_GOOD = 2**53 - 1
"""the version of the retraction of a withdrawal (rule D12): no row has a higher one"""
ENDED = 3600.0
"""seconds after which a recipient is told that a series has ended: it is minutes"""
NOTHING: Pair = (None, None)
CLOSES = 120.0
"""seconds in which a value that was read is on the disk (a flush and its commit)"""


def judged(facts: Facts) -> Iterator[Finding]:
    """All findings of both oracles."""
    yield from _deliveries(facts)
    yield from _sealed_again(facts)
    yield from _sealed(facts)
    yield from _without_notes(facts)
    yield from _epochs(facts)
    for clause, at, fact, index in facts.restored:
        text = f"a list that was handed in again has given {fact['id']} of {fact['occupancy']}"
        yield _found("SENT", clause, text, at, index)
    for batch in facts.batches.values():
        yield from _batch(facts, batch)
    for recipient, platform in facts.platforms.items():
        yield from _collisions(platform)
        yield from _read_twice(facts, platform)
        yield from _erased(facts, recipient)
        for held in platform.rows:
            yield from _held(facts, recipient, held)
        yield from _owed_by_directory(facts, recipient, platform)
        yield from _after_its_end(facts, platform)
        yield from _without_an_end(facts, recipient, platform)
        yield from _ended_by_a_wrong_clock(facts, recipient)
        yield from _owed(facts, recipient, platform)


def _found(oracle: str, clause: str, text: str, at: float, *near: int) -> Finding:
    return Finding(oracle, clause, text, at, near)


# Deliveries: ids, voids, sizes


def _deliveries(facts: Facts) -> Iterator[Finding]:
    ids: dict[tuple[str, str, int], list[Batch]] = defaultdict(list)
    for batch in facts.batches.values():
        ids[batch.id].append(batch)
    for id_, batches in ids.items():
        yield from _one_content(id_, batches)
    yield from _without_gaps(ids)


def _one_content(id_: tuple[str, str, int], batches: list[Batch]) -> Iterator[Finding]:
    """T2, T5: of one id the same bytes for ever, or a void, and after the void nothing else."""
    whole = [batch for batch in batches if batch.void is None]
    if len(whole) > 1:
        text = f"{id_}: two contents, {whole[0].sha256[:8]} and {whole[1].sha256[:8]}"
        yield _found(
            "CONSERVATION", "T2", text, whole[1].sent[0][0], whole[0].index, whole[1].index
        )
    voids = [batch for batch in batches if batch.void is not None]
    if voids and whole:
        first = min(at for batch in voids for at, _ in batch.sent)
        for at, index in whole[0].sent:
            if at > first:
                yield _found("SENT", "T5", f"{id_}: the original after its void", at, index)


def _sealed_again(facts: Facts) -> Iterator[Finding]:
    """T6: a row that was in a batch before says `again` once that became a void, or its epoch
    ended.
    """
    void = {batch.id for batch in facts.batches.values() if batch.void is not None}
    sent: dict[tuple[Any, ...], tuple[Row, Batch]] = {}
    for batch in facts.batches.values():
        for row in expanded(batch.rows):
            key = (batch.recipient, *row.slot, row.ver or 0)
            before, of = sent.setdefault(key, (row, batch))
            anew = of.id in void or of.epoch != batch.epoch
            if of.id != batch.id and anew and not row.again and not before.again:
                text = f"{_of(row)} ver {row.ver}: {batch.id} has it after {of.id}, without `again`"
                near = (of.index, batch.index)
                yield _found("CONSERVATION", "T6", text, batch.sent[0][0], *near)
                return


def _erased(facts: Facts, recipient: str) -> Iterator[Finding]:
    """C6, I23: nothing that is sent after a retraction falls under it, and is lost."""
    batches = [one for one in facts.batches.values() if one.recipient == recipient]
    batches.sort(key=lambda one: (one.epoch, one.seq))
    standing: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    epoch = ""
    for batch in batches:
        if batch.epoch != epoch:
            epoch, standing = batch.epoch, defaultdict(list)
        for row in expanded(batch.rows):
            if any(covers(one, row) for one in standing[row.place]):
                text = f"{_of(row)}: {batch.id} has it after the retraction that erases it"
                yield _found("CONSERVATION", "C6", text, batch.sent[0][0], batch.index)
                break
        for one in batch.retract:
            standing[one["place"]].append(one)
            yield from _retraction(facts, batch, one)


def _retraction(facts: Facts, batch: Batch, one: Mapping[str, Any]) -> Iterator[Finding]:
    """I23: it ends with the second in which the change was recorded. A9: that of a withdrawal never
    does. C3: because of the clock only with a proof.
    """
    at, reason = batch.sent[0][0], one.get("reason")
    if reason == "withdrawn" and (one.get("until") is not None or int(one["ver"]) != FOR_GOOD):
        text = f"the retraction of a withdrawal ({one['place']}) has an end, or a version above it"
        yield _found("SENT", "A9", text, at, batch.index)
    ends = second(one["until"]) if one.get("until") is not None else NEVER
    moved = reason in ("moved", "exchanged") and facts.clock_doubted_from == NEVER
    if moved and ends > at + 2:
        text = f"a retraction ({reason}) of {one['place']} has no end before it was recorded"
        yield _found("CONSERVATION", "I23", text, at, batch.index)
    if reason == "clock" and not facts.heartbeats:
        wrong = [apart for apart in facts.proven if facts.proof(apart) <= at]
        if not any(wrong) and not facts.stepped_back(at):
            text = f"rows of {one['place']} are taken back, and nothing proves the clock wrong"
            yield _found("CONSERVATION", "C3", text, at, batch.index)


def _without_gaps(ids: Mapping[tuple[str, str, int], list[Batch]]) -> Iterator[Finding]:
    """T1: seq counts from 1 without gaps; in an epoch of memory the end may be missing."""
    epochs: dict[tuple[str, str], set[int]] = defaultdict(set)
    for recipient, epoch, seq in ids:
        epochs[recipient, epoch].add(seq)
    for (recipient, epoch), seqs in epochs.items():
        gaps = set(range(1, max(seqs) + 1)) - seqs
        last = ids[recipient, epoch, max(seqs)][0]
        if gaps and not last.of_memory:
            at = max(last.sent)[0]
            yield _found("CONSERVATION", "T1", f"{recipient} {epoch}: no seq {min(gaps)}", at)


def _sealed(facts: Facts) -> Iterator[Finding]:
    """C12: nothing is sealed by an untrusted clock; A5: nor in the epoch of a disk that fails."""
    untrusted = list(facts.untrusted())
    frozen = [
        (one.begin + NOTICED, one.end)
        for one in facts.troubles
        if one.do == "disk" and one.what.get("how") == "readonly"
    ]
    for batch in facts.batches.values():
        at = batch.sent[0][0]
        sealed = second(batch.created) if batch.created else at
        for begin, end in untrusted:
            if begin < at < end and begin < sealed - facts.apart(at) < end and batch.void is None:
                yield _found(
                    "SENT", "C12", f"{batch.id} was sealed by a wrong clock", at, batch.index
                )
        if not batch.of_memory and any(begin < at < end for begin, end in frozen):
            text = f"{batch.id} was sent first while the disk could not be written"
            yield _found("SENT", "A5", text, at, batch.index)
        if batch.of_memory and batch.kept is None and batch.void is None:
            text = f"{batch.id} does not say that it was kept in memory, as its epoch does"
            yield _found("SENT", "A2", text, at, batch.index)


def _without_notes(facts: Facts) -> Iterator[Finding]:
    """A8: whoever boots on a disk that cannot be written does not know what was withdrawn."""
    boots = [life for before, life in pairwise(facts.lives) if before.boot != life.boot]
    for life in boots:
        for fault in facts.during(life.begin, life.begin, "disk"):
            if fault.what.get("how") != "readonly":
                continue
            for batch in facts.batches.values():
                of_people = any(row.place[:1] == "D" and row.q != "W" for row in batch.rows)
                for at, index in batch.sent if of_people else ():
                    if life.begin < at < fault.end:
                        text = f"{batch.id} was sent by an agent that found no notes of this boot"
                        yield _found("SENT", "A8", text, at, index)
                        return


def _epochs(facts: Facts) -> Iterator[Finding]:
    """T8: a second conflict within a day begins no further epoch."""
    if any(one.do in OTHER_EPOCHS for one in facts.troubles):
        return
    begun: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)
    for batch in facts.batches.values():
        if not batch.of_memory:
            begun[batch.recipient].setdefault(batch.epoch, batch.sent[0])
    for recipient, epochs in begun.items():
        moments = sorted(epochs.values())[1:]
        for (before, near), (at, index) in pairwise(moments):
            if at - before < DAY / 2:
                text = f"{recipient}: two epochs begin within {at - before:.0f} s"
                yield _found("CONSERVATION", "T8", text, at, near, index)
                return


def _cut_off(facts: Facts, batch: Batch) -> Iterator[Finding]:
    """T2: a transfer under way is cut off by the withdrawal of what is in it."""
    if batch.stored == NEVER or batch.void is not None:
        return
    bases = {row.basis: facts.bases.get(row.basis) for row in batch.rows}
    for basis in filter(None, bases.values()):
        if batch.stored > basis.gone + CUT:
            text = f"{batch.id} was stored {batch.stored - basis.gone:.0f} s after the withdrawal"
            text += f" of {basis.id}: its transfer went on"
            yield _found("SENT", "T2", text, batch.stored, batch.index, basis.index)
            return


def _batch(facts: Facts, batch: Batch) -> Iterator[Finding]:
    first = batch.sent[0][0]
    yield from _cut_off(facts, batch)
    if batch.size > 60_000:
        yield _found("SENT", "T15", f"{batch.id}: {batch.size} bytes", first, batch.index)
    if batch.recipient not in facts.building.get("recipients", [batch.recipient]):
        yield _found("SENT", "G3", f"{batch.id}: nobody's", first, batch.index)
    rows = list(expanded(batch.rows))
    yield from _missing_reasons(facts, batch, rows)
    yield from _rows(facts, batch, rows)
    for at, index in batch.sent:
        for row in rows:
            reason = _may_not_leave(facts, batch, row, at)
            if reason is not None:
                clause, text = reason
                yield _found("SENT", clause, f"{_of(row)}: {text}", at, index, batch.index)
                break


def _rows(facts: Facts, batch: Batch, rows: list[Row]) -> Iterator[Finding]:
    """R8, M9, and whether each value is true."""
    first = batch.sent[0][0]
    for row in batch.rows:
        if row.span > 1 and (row.v is not None or row.q not in "MW"):
            yield _found("CONSERVATION", "R8", f"a run of {row.q}: {row}", first, batch.index)
    for row in rows:
        if row.step and row.kind != "EVT" and not facts.on_step(row.step, row.t):
            text = f"{_of(row)}: no slot of its step"
            yield _found("CONSERVATION", "M9", text, first, batch.index)
        if row.v is not None and 0 < row.step < row.d:
            text = f"{_of(row)}: read {row.d} s after it, in a later slot"
            yield _found("CONSERVATION", "M20", text, first, batch.index)
        if row.v is not None and row.basis != "rest":
            yield from _untrue(facts, Held(row, batch, first))


def _may_not_leave(facts: Facts, batch: Batch, row: Row, at: float) -> tuple[str, str] | None:
    """The clause by which this row may not be sent at that moment."""
    if row.place[:1] not in "DCB":
        return "I5", "a place of no known kind"
    if row.place[:1] != "D":
        return _common_may_not(facts, row)
    if row.q == "W":
        return _withheld_may_not(facts, row)
    if 0 < row.step < FINEST:
        return "P2", f"a step of {row.step} s"
    basis = facts.bases.get(row.basis)
    if basis is None:
        unheard = facts.unheard(at, batch.recipient)
        return None if unheard else ("G3", f"nobody ever gave {row.basis!r}")
    return (
        _basis_may_not(facts, batch, row, basis, at)
        or _people_may_not(facts, row, at)
        or _meter_may_not(facts, row, at)
    )


def _common_may_not(facts: Facts, row: Row) -> tuple[str, str] | None:
    if row.basis == "rest" or (row.q == "W" and facts.building.get("withheld")):
        return None
    since = facts.building.get("common")
    if row.basis != "common" or since is None:
        return "P11", f"common plant on the basis {row.basis!r}"
    return ("P11", "before the common basis") if row.at < second(since) else None


def _withheld_may_not(facts: Facts, row: Row) -> tuple[str, str] | None:
    if not facts.building.get("withheld"):
        return "P20", "a W row that nobody asked for"
    if row.v is not None or row.meter or row.occupancy or row.basis:
        return "P20", f"a W row with more than its reason: {row}"
    return None


def _basis_may_not(
    facts: Facts, batch: Batch, row: Row, basis: Basis, at: float
) -> tuple[str, str] | None:
    if basis.recipient != batch.recipient:
        return "G3", f"the basis {basis.id} is for {basis.recipient}"
    late = basis.ended_known is not None and at <= basis.ended_known
    if gone := _gone(basis, at):
        return gone
    if facts.clock_doubted_from == NEVER and at - row.t > UNSENT + TENDED:
        return "P14", f"{(at - row.t) / DAY:.1f} days old"
    if _signed_before(facts, basis):
        return "P6", f"{basis.id} was signed before {basis.occupancy} moved in"
    return _not_covered(row, replace(basis, until=NEVER) if late else basis)


def _gone(basis: Basis, at: float) -> tuple[str, str] | None:
    if at > basis.gone:
        return "P13", f"{basis.id} was withdrawn {at - basis.gone:.1f} s ago"
    if any(since < at < crash for since, crash in basis.only_noted):
        return "A7", f"the withdrawal of {basis.id} is in force, though not recorded"
    if basis.unrecorded:
        return "A10", f"{basis.id} was given while the disk could not record it"
    return None


def _signed_before(facts: Facts, basis: Basis) -> bool:
    """P6: a paper of a day before the move-in that names no occupants; those whose day of signature
    is stated never name any."""
    stay = next((stay for stay in facts.stays if stay.id == basis.occupancy), None)
    if stay is None or basis.given is None or stay.since < facts.midnights[0]:
        return False
    return basis.given < facts.midnights[bisect_right(facts.midnights, stay.since) - 1]


def _not_covered(row: Row, basis: Basis) -> tuple[str, str] | None:
    """P4: one occupancy, the channels and the step that it names, and its own time."""
    if row.channel not in basis.channels:
        return "P4", f"{basis.id} does not name the channel"
    if basis.place and (basis.place != row.place or basis.occupancy != row.occupancy):
        return "P4", f"{basis.id} is of {basis.occupancy} in {basis.place}, not {row.occupancy}"
    if row.step and row.step < basis.step:
        return "P4", f"{basis.id} allows {basis.step} s, not {row.step} s"
    if _begin(row) < basis.since or row.at >= basis.until:
        return "P4", f"{basis.id} is valid from {basis.since:.0f} to {basis.until:.0f}"
    return None


def _begin(row: Row) -> int:
    """The first instant of which a row tells."""
    return row.at - row.step + 1 if row.kind in FLOWS else row.at


def _people_may_not(facts: Facts, row: Row, at: float) -> tuple[str, str] | None:
    """P12, I22: at that moment the gateway knew that other people, or nobody, lived there."""
    stay = next((stay for stay in facts.stays if stay.id == row.occupancy), None)
    if stay is None:
        return "P1", f"nobody recorded the occupancy {row.occupancy}"
    if stay.place != row.place:
        return "G4", f"{stay.id} is of {stay.place}"
    if _begin(row) < stay.since:
        return "P4", f"{stay.id} began at {stay.since:.0f}"
    if stay.until_known is not None and at > stay.until_known and not _in(row, stay.until):
        return (
            "P12",
            f"{stay.id} ended at {stay.until:.0f}, known {at - stay.until_known:.1f} s ago",
        )
    for since, crash, until in stay.only_noted:
        if since < at < crash and not _in(row, until):
            return "A7", f"the end of {stay.id} is in force, though not recorded"
    return None


def _in(row: Row, until: float) -> bool:
    """Whether a row is before an end; a duty has the index of 00:00 of the day of the move."""
    if row.kind == "REG" and row.step in (0, DAY, MONTH) and row.t == until:
        return True
    return row.at < until


def _meter_may_not(facts: Facts, row: Row, at: float) -> tuple[str, str] | None:
    """G4: at that moment the gateway knew that this meter was not that of the place."""
    if not row.meter:
        return ("G4", "a value of no meter") if row.v is not None else None
    known = [
        fitted
        for fitted in facts.fitted
        if (fitted.place, fitted.channel, fitted.meter) == (row.place, row.channel, row.meter)
    ]
    if not known:
        return "G4", f"{row.meter} was never recorded there"
    for fitted in known:
        ended = fitted.until_known is not None and at > fitted.until_known
        # a reason is of the meter that was there at its instant (rule I10), a flow of all its step
        begin = row.at if "EXCH" in row.flags or row.v is None else _begin(row)
        if begin >= fitted.since - 1 and not (ended and row.at >= fitted.until):
            return None
    return "I22", f"{row.meter} was not there at {row.t}"


def _of(row: Row) -> str:
    return f"{row.place} {row.channel} {row.kind}/{row.step} {row.t} {row.q}"


# What is held at the end


def _collisions(platform: Platform) -> Iterator[Finding]:
    for row, batch, held in platform.collisions:
        text = f"{_of(row)} ver {row.ver}: in {held.batch.id} and in {batch.id}, neither `again`"
        yield _found("CONSERVATION", "T6", text, batch.sent[0][0], held.batch.index, batch.index)


def _read_twice(facts: Facts, platform: Platform) -> Iterator[Finding]:
    """M10: the first value closes a slot; a later reading of the same meter is no new version,
    unless a power cut made the agent forget the first one (A, remaining risks).
    """
    if any(abs(apart) > 1 for _, apart, _ in facts.clock):
        return  # what a wrong clock has dated is read again
    for held in platform.slots.values():
        read = [one for one in held if one.row.v is not None and one.row.kind == "REG"]
        for first, second_ in pairwise(read):
            apart = abs(first.row.d - second_.row.d)
            earlier, later = sorted((first, second_), key=_came)
            if facts.may_be_forgotten(earlier.batch, later.at):
                continue
            if first.row.step and first.row.meter == second_.row.meter and apart > 1:
                text = f"{_of(second_.row)}: read at +{first.row.d} s, and at +{second_.row.d} s"
                yield _found("CONSERVATION", "M10", text, second_.at, second_.batch.index)


def _came(held: Held) -> float:
    return held.at


def _held(facts: Facts, recipient: str, held: Held) -> Iterator[Finding]:
    row = held.row
    at = min(facts.end, facts.unlinked_from(recipient))
    if any(covers(one, row) for one in facts.unheeded.get(recipient, ())):
        return
    yield from _wrongly_dated(facts, recipient, held)
    if row.place[:1] == "D" and row.q != "W":
        basis = facts.bases.get(row.basis)
        if basis is not None and basis.gone < at - SETTLES:
            yield _found(
                "SENT",
                "A9",
                f"{recipient} still has {_of(row)} of {basis.id}, withdrawn",
                held.at,
                held.batch.index,
                basis.index,
            )
        else:
            yield from _wrongly_held(facts, recipient, held)
            yield from _weakly_held(facts, recipient, held)


def _wrongly_held(facts: Facts, recipient: str, held: Held) -> Iterator[Finding]:
    """What was recorded late is taken back (rule I22)."""
    at = min(facts.end, facts.unlinked_from(recipient)) - SETTLES
    reason = (
        _people_may_not(facts, held.row, at)
        or _meter_may_not(facts, held.row, at)
        or _ended_before(facts, held.row, at)
    )
    if reason is not None:
        text = f"{recipient} still has {_of(held.row)}: {reason[1]}"
        yield _found("SENT", "I22", text, held.at, held.batch.index)


def _ended_before(facts: Facts, row: Row, at: float) -> tuple[str, str] | None:
    """The basis that had ended before the row, as it was known then."""
    basis = facts.bases.get(row.basis)
    if (
        basis is None
        or basis.ended_known is None
        or basis.ended_known > at
        or _in(row, basis.until)
    ):
        return None
    return "P4", f"{basis.id} ended at {basis.until:.0f}"


def _wrongly_dated(facts: Facts, recipient: str, held: Held) -> Iterator[Finding]:
    """C5: what a wrong clock has dated is taken back once that is proven."""
    row, proven, vouched = held.row, facts.proven, facts.vouched
    of = _meter_of(facts, row)
    doubted = len(proven) > 1 or vouched
    if not doubted or of is None or row.v is None or row.kind != "REG" or not row.step:
        return
    answers = facts.reported(row.meter or of.meter, row.channel)
    answers = [one._replace(value=of.index(one.value)) for one in answers]
    by = [apart for apart in proven if any(_is(row, one, apart) for one in answers)]
    proofs = [facts.proof(apart) for apart in by]
    for begin, end, apart in facts.dated if not by else ():
        read = [one for one in answers if begin <= one.at < end]
        if abs(apart) > DRIFT and any(_is(row, one, apart) for one in read):
            by, proofs = [apart], [facts.reversed_at(end)]
    end = min(facts.end, facts.unlinked_from(recipient))
    if by and 0.0 not in by and max(proofs) < end - SETTLES:
        text = f"{recipient} still has {_of(row)}, which a clock wrong by {by[0]:.0f} s has dated"
        yield _found("CONSERVATION", "C5", text, held.at, held.batch.index)


def _weakly_held(facts: Facts, recipient: str, held: Held) -> Iterator[Finding]:
    """T13: an index of a month that a duty covers is not on a consent, with which it would go."""
    row = held.row
    if row.kind != "REG" or row.step != MONTH:
        return
    duties = [
        basis
        for basis in facts.bases.values()
        if (basis.kind, basis.recipient) == ("duty", recipient) and row.channel in basis.channels
    ]
    if any(duty.id == row.basis for duty in duties):
        return
    for duty in duties:
        known = duty.known is not None and max(duty.known, duty.since) < row.t - FINEST
        if known and duty.ended > held.at:
            text = f"{_of(row)} is on {row.basis}, though {duty.id} covers it"
            yield _found("CONSERVATION", "T13", text, held.at, held.batch.index)
            return


def _untrue(facts: Facts, held: Held) -> Iterator[Finding]:
    """F1, R1, M4, M10, R13, I20: the meter said this, then."""
    row = held.row
    of = _meter_of(facts, row)
    shown = facts.reported(row.meter or (of.meter if of else ""), row.channel)
    answers = [one._replace(value=of.index(one.value) if of else one.value) for one in shown]
    if row.kind == "REG" and row.step == 0:
        if not _at_exchange(facts, row, answers):
            yield _untruth(held, "R14", "no such index at an exchange")
    elif row.kind in ("REG", "INS"):
        if not any(_said(facts, row, answer) for answer in answers):
            values = [answer for answer in answers if answer.value == Decimal(row.v or 0)]
            when = ", ".join(f"{answer.wall:.0f}" for answer in values[:4]) or "never"
            yield _untruth(held, "M10", f"{row.meter} said {row.v} {when}, not at {row.t}+{row.d}")
        elif row.q == "V" and not any(
            not one.odd or _confirmed(facts, shown, one)
            for one, index in zip(shown, answers, strict=True)
            if _said(facts, row, index)
        ):
            yield _untruth(held, "M8", "it is checked, and the meter cannot show it")
    elif row.kind == "INT" and Decimal(row.v or 0) < 0:
        yield _untruth(held, "M6", "a negative consumption")
    elif row.kind == "INT" and "EXCH" not in row.flags and not _flowed(facts, row, of, shown):
        yield _untruth(held, "M2", f"no two indexes of {row.meter} differ by {row.v}")


def _confirmed(facts: Facts, shown: list[Answer], odd: Answer) -> bool:
    """M13, M6: whether what a broken meter shows is compared with a value like it: with the first
    one of this life, which nothing is compared with, or with one that the next has confirmed. What
    is read while the clock is doubted may belong to no slot (M10), and is then compared with
    nothing; once a wrong clock is proven nothing is compared with what was read before (C5).
    """
    since = max((life.begin for life in facts.lives if life.begin <= odd.at), default=0.0)
    ahead = len(facts.proven) > 1 or facts.vouched  # marks may lie ahead, with no end in sight (C3)
    spans = [(begin, NEVER if ahead else end) for begin, end in facts.doubtful_clock()]
    compared, before = {NOTHING}, since
    for one in shown:
        if since <= one.at < odd.at:
            after = {_compared(pair, one) for pair in compared}
            if any(begin <= one.at and before <= end for begin, end in spans):
                after |= {*compared, NOTHING, _compared(NOTHING, one)}
            compared, before = after, one.at
    return odd.value >= 0 and any(one and one.odd and _agree(one, odd) for one, _ in compared)


def _compared(pair: Pair, one: Answer) -> Pair:
    """The same after this value."""
    reference, suspect = pair
    if one.value < 0:  # stays suspect, and confirms nothing
        return reference, None
    if reference is None or _agree(reference, one) or (suspect and _agree(suspect, one)):
        return one, None
    return reference, one


def _agree(first: Answer, then: Answer) -> bool:
    """Whether a value is possible after another one. The true index follows only itself."""
    if first.odd and then.odd:
        end = Decimal(1).scaleb(first.value.adjusted() + 1)
        return then.value == first.value or first.value <= then.value + end < first.value + 1
    return first.odd == then.odd or first.value == then.value


def _untruth(held: Held, clause: str, text: str) -> Finding:
    return _found("CONSERVATION", clause, f"{_of(held.row)}: {text}", held.at, held.batch.index)


def _meter_of(facts: Facts, row: Row) -> Fitted | None:
    """The installation of a row; of common plant, which has no recorded meter, the device's."""
    for one in facts.fitted:
        here = (one.place, one.channel) == (row.place, row.channel)
        if here and row.meter in (None, one.meter):
            return one
    return None


def _at_exchange(facts: Facts, row: Row, answers: list[Answer]) -> bool:
    value = Decimal(row.v or 0)
    stated = [
        fitted.index(Decimal(index))
        for fitted in facts.fitted
        if fitted.meter == row.meter
        for index in (fitted.closing, fitted.opening, *fitted.closing_asked)
        if index is not None
    ]
    return value in stated or any(answer.value == value for answer in answers)


def _said(facts: Facts, row: Row, answer: Answer) -> bool:
    """Whether this answer may be that value: read in the slot, at the stated delay (rules M10, C11)
    by the true time, or by the gateway's clock as a service has set it (rules C8, C10), also if it
    has moved a little since then (C8), or as signed time has kept it (C13).
    """
    moved = {0.0, facts.crept(answer.at)}
    moved |= {apart for begin, end, apart in facts.dated if begin <= answer.at < end}
    return any(_is(row, answer, apart + by) for apart in facts.proven for by in moved)


def _is(row: Row, answer: Answer, apart: float) -> bool:
    """Whether this answer is that value, by a clock that was wrong by so much."""
    low, high = row.t, row.t + min(row.step, DAY)
    moment = answer.at + apart
    return (
        answer.value == Decimal(row.v or 0)
        and low - 1 <= moment <= high + READ
        and abs(moment - row.t - row.d) <= READ
    )


def _flowed(facts: Facts, row: Row, of: Fitted | None, shown: list[Answer]) -> bool:
    """Whether two answers, around the begin and the end of a step, differ by this value."""
    step = row.step
    walls = [answer.wall for answer in shown]

    def near(t: int) -> list[Answer]:
        span = min(step, 6 * 3600)
        return shown[bisect_left(walls, t - 1) : bisect_right(walls, t + span)]

    if facts.clock_doubted_from < NEVER:  # walls are not in order
        return True
    before = row.t - step
    if step == DAY:
        before = facts.midnights[bisect_left(facts.midnights, row.t) - 1]
    value = Decimal(row.v or 0) / (of.multiplier if of else 1)
    flow = _over_the_end if "ROLL" in row.flags else _difference
    return any(flow(a, b) == value for a in near(before) for b in near(row.t))


def _difference(first: Answer, then: Answer) -> Decimal:
    return then.value - first.value


def _over_the_end(first: Answer, then: Answer) -> Decimal | None:
    """What flowed if the index has rolled over: it was above nine tenths of its end (rule M6), the
    power of ten above what it showed.
    """
    if first.value <= 0:
        return None
    end = Decimal(1).scaleb(first.value.adjusted() + 1)
    return then.value - first.value + end if first.value > end * 9 / 10 else None


# What is owed


def _owed_by_directory(facts: Facts, recipient: str, platform: Platform) -> Iterator[Finding]:
    """R16: what docs/platform.md lets the recipient conclude from its own data."""
    until = min(facts.end - SETTLES, facts.removed_from(recipient) - DAY)
    until = min(until, facts.refused_from(recipient) - DAY)
    until = min(until, facts.clock_doubted_from)
    bases = [item for (name, _), item in platform.items.items() if name == "bases"]
    homes = [item for (name, _), item in platform.items.items() if name == "occupancies"]
    newest = max((held.row.t for held in platform.rows), default=0)
    for (name, _), item in platform.items.items():
        if name != "series" or item["kind"] == "EVT" or item["place"][:1] == "B":
            continue
        since = second(item["since"])
        ends = second(item.get("until") or NEVER)
        for t in facts.slots(int(item["step"]), since, min(newest, until, ends)):
            slot = (item["place"], item["channel"], item["kind"], int(item["step"]), t)
            if slot in platform.slots or t + UNSENT < facts.end:
                continue
            if facts.left_to_the_disk(recipient, t, int(item["step"])):
                continue
            if facts.down(t, t + 1) and _stated_at_another_step(platform, slot):
                continue
            basis = next((basis for basis in bases if _item_covers(basis, slot, homes)), None)
            if basis is not None and not facts.doubted(
                item["place"], t - item["step"], NEVER, recipient
            ):
                text = f"{recipient} has no row for {slot}, owed by its directory ({basis['id']})"
                yield _found("CONSERVATION", "R16", text, t)
                break


def _stated_at_another_step(platform: Platform, slot: tuple[str, str, str, int, int]) -> bool:
    """Whether there is a row for the same index in a series of another step: of a time in which no
    agent was there, one that finds another period in force may state the slots at that period.
    """
    return slot[2] == "REG" and any(
        key[:3] == slot[:3] and key[4] == slot[4] and key[3] != slot[3] for key in platform.slots
    )


def _after_its_end(facts: Facts, platform: Platform) -> Iterator[Finding]:
    """R16: of a series that has ended no row comes, or it is stated again without an end; unless
    a power cut made the agent forget the row (A, remaining risks).
    """
    for held in platform.rows:
        row = held.row
        if (row.q == "W" and _removed_later(facts, row)) or facts.may_be_forgotten(held.batch):
            continue
        item = platform.items.get(("series", f"{row.place}/{row.channel}/{row.kind}/{row.step}"))
        if item is None or not item.get("until") or row.t < (ended := second(item["until"])):
            continue
        if not (row.q == "W" and _read_again(facts, row, ended)):
            text = f"{_of(row)} is a slot of a series that ended {item['until']}"
            yield _found("CONSERVATION", "R16", text, row.t, held.batch.index)
            return


def _read_again(facts: Facts, row: Row, ended: float) -> bool:
    """Whether its meter is read at the period of an ended series again by then: of rows that are
    withheld the directory lists no series, so it does not state that the series goes on (P20).
    """
    return any(
        ended < begin <= row.t < until and row.step % every == 0
        for one in facts.fitted
        if (one.place, one.channel) == (row.place, row.channel)
        for every, begin, until in facts.periods(one)
    )


def _removed_later(facts: Facts, row: Row) -> bool:
    """Whether the meter of a slot was recorded as removed only after it, or perhaps was, as the
    answer was lost: a W row names no meter (P20), so the retraction of that meter does not cover it
    (I22).
    """
    return any(
        (one.removed and one.until_known is not None and one.until <= row.t <= one.until_known)
        or (one.until_known is None and row.t <= one.until_asked < NEVER)
        for one in facts.fitted
        if (one.place, one.channel) == (row.place, row.channel)
    )


def _ended_by_a_wrong_clock(facts: Facts, recipient: str) -> Iterator[Finding]:
    """C5: an end that a wrong clock stated is stated anew, before the wrong time, once what that
    clock closed is retracted; unless that comes within the last hours, or a meter was removed,
    which ends a series at any time.
    """
    removed = {(one.place, one.channel) for one in facts.fitted if one.removed}
    stated: dict[tuple[str, str, str, int], float] = {}
    wrong: dict[tuple[str, str, str, int], int] = {}
    sent = [one for one in facts.batches.values() if one.recipient == recipient and one.sent]
    for batch in sorted(sent, key=lambda one: one.sent[0]):
        if batch.sent[0][0] > facts.end - SETTLES:
            break
        for item in batch.directory.get("series", ()):
            key = (item["place"], item["channel"], item["kind"], int(item["step"]))
            stated[key] = second(item["until"]) if item.get("until") else NEVER
            wrong.pop(key, None)
        for one in batch.retract:
            of, since = (one["place"], one.get("channel")), one.get("since", one.get("from"))
            if one.get("reason") == "clock" and of not in removed:
                wrong |= {
                    key: batch.index
                    for key, until in stated.items()
                    if key[:2] == of and second(since) + 1.05 * key[3] < until < NEVER
                }
    for key, index in wrong.items():
        text = f"{recipient}: {key} ends at {stated[key]:.0f}, in time that a wrong clock made"
        yield _found("CONSERVATION", "C5", text, stated[key], index)


def _without_an_end(facts: Facts, recipient: str, platform: Platform) -> Iterator[Finding]:
    """T34: the series of a meter that was removed without a successor end at the removal."""
    doubted = min(facts.clock_doubted_from, facts.removed_from(recipient))
    if min(doubted, facts.refused_from(recipient)) < NEVER:
        return
    for fitted in facts.fitted:
        known = fitted.until_known if fitted.removed else None
        others = [one for one in facts.fitted if _same(one, fitted)]
        if (
            known is None
            or known > facts.end - ENDED
            or any(one.until_known is None for one in others)
            or facts.doubted(fitted.place, facts.end - ENDED, facts.end, recipient)
            or facts.other_period_from(fitted) < NEVER
            or not any(_lasts(facts, basis, fitted, recipient) for basis in facts.bases.values())
        ):
            continue
        for (name, key), item in platform.items.items():
            of = (item.get("place"), item.get("channel"))
            if name != "series" or of != (fitted.place, fitted.channel) or item["kind"] == "EVT":
                continue
            at = fitted.until + 1 if item["kind"] in FLOWS else fitted.until
            first = next(facts.slots(int(item["step"]), at, at + 32 * DAY), None)
            until = second(item["until"]) if item.get("until") else None
            if until is None or first not in (None, until):
                text = f"{recipient}: {key} ends {until}, not {first}, when its meter was removed"
                yield _found("CONSERVATION", "T34", text, known)


def _lasts(facts: Facts, basis: Basis, fitted: Fitted, recipient: str) -> bool:
    """Whether a consent of those who live there is in force until the end, so that a recipient is
    told of the dwelling.
    """
    stay = next((one for one in facts.stays if one.id == basis.occupancy), None)
    return (
        (basis.recipient, basis.place) == (recipient, fitted.place)
        and fitted.channel in basis.channels
        and basis.known is not None
        and min(basis.until, basis.ended) > facts.end
        and stay is not None
        and min(stay.until, stay.until_asked) == NEVER
    )


def _item_covers(item: Mapping[str, Any], slot: Any, homes: list[Mapping[str, Any]]) -> bool:
    place, channel, kind, step, t = slot
    if item["id"] == "rest" or "withdrawn" in item or not _has(item, kind, step, t):
        return False
    if item["id"] == "common":
        return place[:1] != "D"
    duty = item.get("kind") == "duty" or "step" not in item
    least = MONTH if duty else item["step"]
    if not (
        item.get("place") in (None, place)
        and channel in item.get("channels", [channel])
        and (step == MONTH if duty else step >= least)
        and ("recorded" not in item or second(item["recorded"]) < t)
    ):
        return False
    return any(
        home["place"] == place
        and item.get("occupancy") in (None, home["id"])
        and _has(home, kind, step, t)
        for home in homes
    )


def _has(item: Mapping[str, Any], kind: str, step: int, t: int) -> bool:
    since = second(item["since"])
    until = second(item["until"]) if item.get("until") else NEVER
    if kind in FLOWS:
        return since <= t - step and t <= until
    return since <= t < until


def _owed(facts: Facts, recipient: str, platform: Platform) -> Iterator[Finding]:
    """G2, M3: each slot of a basis that nobody doubts has a row; in a calm time it is a value."""
    for basis in facts.bases.values():
        if basis.recipient != recipient or basis.kind != "consent":
            continue
        if basis.known is None or basis.doubted:  # a withdrawal erases all
            continue
        for fitted in facts.fitted:
            if fitted.place == basis.place and fitted.channel in basis.channels:
                yield from _owed_of(facts, platform, basis, fitted)
                yield from _owed_late(facts, platform, basis, fitted)
    for fitted in facts.fitted:
        since = facts.building.get("common")
        if fitted.place[:1] == "C" and since is not None:
            yield from _owed_common(facts, recipient, platform, fitted, second(since))


def _owed_of(facts: Facts, platform: Platform, basis: Basis, fitted: Fitted) -> Iterator[Finding]:
    for step, t in owed_slots(facts, basis, fitted):
        slot = (fitted.place, fitted.channel, "REG", step, t)
        lost = _undated_lost(facts, platform, fitted, slot)
        if lost is not None:
            yield lost
            return
        if undated(facts, step, t):
            continue
        found = _slot(facts, platform, basis, fitted, slot)
        if found is not None:
            yield found
            return


def undated(facts: Facts, step: int, t: int) -> bool:
    """Whether the clock leaves open which slots are dated there (rules C1 to C12)."""
    margin = 2 * min(step, DAY) + 600
    return facts.clock_doubted(t - margin, t + margin)


def owed_slots(facts: Facts, basis: Basis, fitted: Fitted) -> Iterator[tuple[int, int]]:
    """Step and time of the slots that nobody doubts are owed on a consent, of this meter."""
    stay = next((stay for stay in facts.stays if stay.id == basis.occupancy), None)
    if stay is None or stay.known is None or fitted.known is None or not fitted.reports:
        return
    # a midnight is a slot at each period (rule M3)
    periods = facts.periods(fitted) if basis.step < DAY else [(facts.every(fitted), 0.0, NEVER)]
    for every, begin, end in periods:
        step = effective(basis.step, every)
        for t in _undoubted(facts, basis, stay, fitted, step, begin, end):
            yield step, t


def _undoubted(  # noqa: PLR0913, PLR0917 -- what bounds them
    facts: Facts, basis: Basis, stay: Stay, fitted: Fitted, step: int, begin: float, end: float
) -> Iterator[int]:
    margin = 2 * min(step, DAY) + 600
    known = (basis.known or 0, stay.known or 0, fitted.known or 0)
    since = max(basis.since, stay.since, fitted.since, begin, *known)
    until = min(
        basis.until,
        basis.ended,
        stay.until,
        stay.until_asked,
        fitted.until,
        fitted.until_asked,
        facts.end - SETTLES,
        facts.removed_from(basis.recipient),
        facts.refused_from(basis.recipient) - DAY,
        end,
    )
    for t in facts.slots(step, since + margin, until - margin):
        if (
            facts.doubted(fitted.place, t - margin, t + margin, basis.recipient)
            or t + UNSENT < facts.end
            or facts.left_to_the_disk(basis.recipient, t, step)
        ):
            continue
        yield t


def _owed_late(facts: Facts, platform: Platform, basis: Basis, new: Fitted) -> Iterator[Finding]:
    """M22, I21, R14: what is owed of a meter that was recorded after it was fitted."""
    stay = next((stay for stay in facts.stays if stay.id == basis.occupancy), None)
    old = next((one for one in facts.fitted if one.until == new.since and _same(one, new)), None)
    settled = facts.end - SETTLES
    linked = facts.removed_from(basis.recipient)
    linked = min(linked, facts.refused_from(basis.recipient) - DAY)
    if stay is None or stay.known is None or old is None or new.known is None or not new.reports:
        return
    every, configured = facts.period_at(new, new.known)
    step = effective(basis.step, every)
    since = max(new.since, basis.since, basis.known or 0, stay.since, stay.known, configured)
    until = min(new.known, new.until, basis.until, basis.ended, settled)
    until = min(until, stay.until, stay.until_asked, linked)
    others = [one for one in facts.doubts if one[0] == new.place and one[2] != new.known]
    if any(one[1] <= new.known + step and since - step <= one[2] for one in others):
        return  # something else of the place was changed meanwhile
    if new.known >= min(settled, linked):
        return  # what is stated then may be on its way at the end
    if basis.since < new.since - 1 and since == new.since < until:
        yield from _indexes_lost(platform, basis, old, new)
    read = facts.answers.get((new.meter, new.channel), [])
    for t in facts.slots(step, since + step, until - step):
        if facts.clock_doubted(t - step, new.known + step):
            continue
        rows = platform.slots.get((new.place, new.channel, "REG", step, t))
        text = f"{basis.recipient} has no %s for {new.place} {new.channel} {t} of {new.meter}"
        if not rows:
            yield _found("CONSERVATION", "M22", text % "row", t, basis.index)
            return
        latest, _ = facts.read_until(new, step, t)
        good = [one for one in read[1:] if t <= one.at < latest and not one.odd]
        lost = good and not any(one.row.v is not None for one in rows)
        if lost and _known_by(facts, old, new, read[0], good[0]):
            yield _found("CONSERVATION", "I21", text % "value", t, basis.index)
            return


def _same(one: Fitted, other: Fitted) -> bool:
    return (one.place, one.channel) == (other.place, other.channel) and one is not other


def _known_by(facts: Facts, old: Fitted, new: Fitted, first: Answer, answer: Answer) -> bool:
    """Whether the number of a new meter was read before this answer, and the answer was kept until
    it was recorded: its first index was lower, and one life lasted.
    """
    before = [one for one in facts.answers.get((old.meter, old.channel), ()) if one.at < first.at]
    known = new.known or NEVER
    lower = bool(before) and first.value < before[-1].value
    lived = any(life.ready <= first.at - 1 and known + 900 <= life.end for life in facts.lives)
    return lower and lived and not facts.during(answer.at, known + 900, "disk", *RELOADS)


def _indexes_lost(platform: Platform, basis: Basis, old: Fitted, new: Fitted) -> Iterator[Finding]:
    """R14: the indexes that people read at an exchange."""
    for fitted, shown in ((old, old.closing), (new, new.opening)):
        value = None if shown is None else fitted.index(Decimal(shown))
        if value is not None and not any(
            row.step == 0 and row.meter == fitted.meter and Decimal(row.v or 0) == value
            for row in (held.row for held in platform.places[new.place].values())
        ):
            text = f"{basis.recipient} has no index {value} of {fitted.meter} at its exchange"
            yield _found("CONSERVATION", "R14", text, new.since, basis.index)


def _firmer(other: Basis, basis: Basis) -> bool:
    """T13: whether a row is rather on another basis: a duty, or a consent for another purpose,
    which a later one does not replace, if it is coarser, or as fine and lasts as long.
    """
    if other.kind == "duty":
        return True
    beside = other.occupancy == basis.occupancy and other.purpose != basis.purpose
    lasts = other.until + DAY > basis.until  # months end on a day
    return beside and (other.step > basis.step or (other.step == basis.step and lasts))


def _slot(
    facts: Facts, platform: Platform, basis: Basis, fitted: Fitted, slot: Any
) -> Finding | None:
    rows = platform.slots.get(slot)
    t = slot[-1]
    if not rows:
        text = f"{basis.recipient} has no row for {slot}, owed on {basis.id}"
        return _found("CONSERVATION", "G2", text, t, basis.index)
    row = rows[-1].row
    if row.basis != basis.id and row.q != "W":
        other = facts.bases.get(row.basis)
        if other is None or not _firmer(other, basis):
            return _found("CONSERVATION", "T13", f"{slot} is on {row.basis}, not {basis.id}", t)
    if row.q == "W":
        return _found(
            "CONSERVATION", "P20", f"{slot} is withheld ({row.why}), owed on {basis.id}", t
        )
    if row.meter not in (None, fitted.meter):
        return _found("CONSERVATION", "G4", f"{slot} is of {row.meter}, not {fitted.meter}", t)
    return _value_lost(facts, fitted, slot, row)


def _value_lost(facts: Facts, fitted: Fitted, slot: Any, row: Row) -> Finding | None:
    """G1, M3: a value that was read in a calm time is held, not a reason. A2: also one that was
    read while the disk failed, as long as neither process nor machine ended within its flush, and
    the machine not before all was delivered.
    """
    *_, step, t = slot
    if row.v is not None:
        return None
    low, high = t, facts.read_until(fitted, step, t)[0]
    answers = facts.answers.get((fitted.meter, fitted.channel), [])
    good = [one for one in answers if low <= one.wall < high]
    if not good:
        return None
    kept = good[0].at + 2 * float(facts.building.get("flush") or 30) + 60
    since = min(low, good[0].at) - 1800  # a clock that has stepped may say a much later slot
    clause = None
    if facts.calm(since, kept):
        clause = "G1"
    elif _only_disk(facts, since, kept) and _delivered_from_memory(facts, low, kept):
        clause = "A2"
    if clause is None:
        return None
    text = f"{slot} is M {row.why}, but {fitted.meter} said {good[0].value} at {good[0].wall:.1f}"
    return _found("CONSERVATION", clause, text, t)


def _undated_lost(facts: Facts, platform: Platform, fitted: Fitted, slot: Any) -> Finding | None:
    """C11: what was read while nothing could be dated is dated once the clock is right and kept, if
    that comes within the same life.
    """
    *_, step, t = slot
    answers = facts.answers.get((fitted.meter, fitted.channel), ())
    until, _ = facts.read_until(fitted, step, t)
    good = [one for one in answers if t <= one.at < until]
    rows = platform.slots.get(slot) or ()
    if any(one.row.v is not None for one in rows) or not (good or _unread(facts, fitted, step, t)):
        return None
    at = good[0].at if good else float(t)
    if len(facts.proven) == 1:
        right = next((end for begin, end in facts.doubtful_clock() if begin <= at < end), NEVER)
    else:  # marks may lie ahead (rule C3) until signed time agrees with the service (rule C4)
        is_right = not facts.doubtful_at(at)
        right = next((came for came, _ in facts.heartbeats if came > at and is_right), NEVER)
    dated = right + 2 * float(facts.building.get("flush") or 30) + CLOSES
    others = ("clock.step", "clock.service", "uplink", "silence", "move")
    if right == NEVER or not facts.calm_but(at - 1, dated, *others, clock=True):
        return None
    if any(begin - step < until and t < end + step for begin, end, _ in facts.vouched):
        return None  # it was dated by signed time; C5 decides what stays of it
    if not good:
        text = f"{slot} has no value: nobody read {fitted.meter} while nothing could be dated"
        return _found("CONSERVATION", "C3", text, t)
    text = f"{slot} has no value, but {fitted.meter} said {good[0].value} at {at:.1f}, undated"
    return _found("CONSERVATION", "C11", text, t)


def _unread(facts: Facts, fitted: Fitted, step: int, t: int) -> bool:
    """C3: whether nobody asked a meter that was there in all of a slot. By the monotonic clock it
    is asked as often, so two moments may lie just outside of the slot.
    """
    until, latest = facts.read_until(fitted, step, t)
    asked = [one.at for one in facts.answers.get((fitted.meter, fitted.channel), ())]
    asked += [*facts.silent.get(fitted.device, ()), *facts.numbers.moments[fitted.device]]
    before = max((at for at in asked if at < until), default=0.0)
    after = min((at for at in asked if until <= at), default=NEVER)
    there = until < facts.taken_out(fitted.meter)
    return there and before < t and after - before > latest - t + READ


def _delivered_from_memory(facts: Facts, since: float, until: float) -> bool:
    """Whether the agent knew what ended (A8), and nothing hindered the delivery until two hours
    after the disk had recovered.
    """
    ends = [one.end for one in facts.during(since, until, "disk")]
    recovered = max(ends, default=until) + DELIVERED
    hindered = facts.during(since, recovered, "uplink", "reload", "upgrade", "stop")
    return not (hindered or facts.rebooted(since, recovered) or facts.without_notes(since))


def _only_disk(facts: Facts, since: float, until: float) -> bool:
    """Whether one life lasted over all of this time, and nothing was wrong but the disk."""
    troubles = [one.do for one in facts.troubles if one.begin < until and since < one.end + 1]
    harmless = {"disk", *QUIET}
    lived = any(life.ready <= since and until <= life.end for life in facts.lives)
    return lived and not facts.clock_doubted(since, until) and set(troubles) <= harmless


def _owed_common(
    facts: Facts, recipient: str, platform: Platform, fitted: Fitted, since: float
) -> Iterator[Finding]:
    every = facts.every(fitted)
    until = min(
        facts.end - SETTLES,
        facts.other_period_from(fitted) - 2 * every,
        *(facts.removed_from(name) - 2 * every for name in facts.building["recipients"]),
        *(facts.refused_from(name) - DAY for name in facts.building["recipients"]),
    )
    begin = max(since, facts.plan["begin"]) + 2 * every + 600
    for t in facts.slots(every, begin, until):
        left = facts.left_to_the_disk(recipient, t, every)
        if left or facts.clock_doubted(t - 2 * every, t + 2 * every):
            continue
        slot = (fitted.place, fitted.channel, "REG", every, t)
        rows = platform.slots.get(slot)
        if not rows:
            yield _found("CONSERVATION", "G2", f"no row for {slot} of common plant", t)
            return
        lost = _value_lost(facts, fitted, slot, rows[-1].row)
        if lost is not None:
            yield lost
            return


def effective(step: int, every: int) -> int:
    """The step of a consent's rows (rule P3): its own, or the next coarser the readings allow."""
    if step >= DAY or step % every == 0:
        return step
    return next(
        (each for each in range(every, DAY + 1, every) if each >= step and DAY % each == 0), DAY
    )


# Reasons


def _missing_reasons(facts: Facts, batch: Batch, rows: list[Row]) -> Iterator[Finding]:
    """M3, R6: each reason of a missing value can be true."""
    if batch.sent[0][0] > facts.clock_doubted_from:
        return
    for row in rows:
        if row.q != "M" or row.basis == "rest":
            continue
        why = row.why or ""
        check = REASONS.get(why)
        text = f"no such reason {why!r}" if check is None else check(facts, row)
        if text is not None:
            text = f"{_of(row)} is M {why}: {text}"
            yield _found("CONSERVATION", "M3", text, row.t, batch.index)
            return


def _span(row: Row) -> tuple[float, float]:
    """From the slot to the end of its step, and before it for what flowed."""
    step = min(row.step, DAY)
    return (row.t - step if row.kind in FLOWS else row.t) - 60, row.t + step


def _agent(facts: Facts, row: Row) -> str | None:
    since, until = _span(row)
    if facts.down(since, until + CLOSES) or facts.during(since - 3600, until + 3600, "disk"):
        return None
    if facts.doubted(row.place, since - 1800, NEVER) or facts.during(since, until, *RELOADS):
        return None
    return "one life lasted over all of its step, and more"


def _silent(facts: Facts, row: Row) -> str | None:
    since, _ = _span(row)
    fitted = _fitted(facts, row)
    if fitted is None:
        return None
    until = facts.read_until(fitted, row.step, row.t)[1] + 60
    moments = facts.silent.get(fitted.device, [])
    if not any(since <= at <= until for at in moments):
        return "its device was not silent then"
    return _not_asked_again(facts, row, fitted, moments)


def _not_asked_again(facts: Facts, row: Row, fitted: Fitted, silences: list[float]) -> str | None:
    """M14: a device that was silent in a slot of more than two minutes is asked again after one. It
    may give its number and no value; of one that gives none, that leaves no trace.
    """
    end, _ = facts.read_until(fitted, row.step, row.t)
    first = next((at for at in silences if row.t <= at), NEVER)
    until = first + AGAIN
    untold = {"slow"} if fitted.reports else {"slow", "reboot", "garbage"}
    excused = any(one.what["how"] in untold for one in facts.during(row.t - 600, until, "device"))
    if until > end or excused or not facts.calm_but(row.t - 60, until, "device"):
        return None
    asked = [*silences, *facts.numbers.moments[fitted.device]]
    asked += [one.at for one in facts.answers.get((fitted.meter, fitted.channel), ())]
    if any(first < at <= until for at in asked):
        return None
    return f"it was silent at {first:.0f}, and was not asked again within {AGAIN:.0f} s"


def _link(facts: Facts, row: Row) -> str | None:
    since, until = _span(row)
    troubles = facts.during(since - 900, until, "line", "reload", "device", "upgrade")
    return None if troubles else "its line was never down then"


def _bad(facts: Facts, row: Row) -> str | None:
    """I16: after a garbled answer a device is asked its number again, at the next read in 5 min."""
    since, until = _span(row)
    fitted = _fitted(facts, row)
    ago = DAY if fitted is None else 2 * facts.every(fitted) + 900
    swaps = [at for at, *_ in facts.swaps if at <= until]
    wrong = [
        *facts.during(since - ago, until, "device"),
        *facts.during(since - DAY, until, "exchange"),
    ]
    if swaps or wrong:
        return None
    return None if facts.doubted(row.place, since - DAY, until) else "nothing was bad then"


def _early(facts: Facts, row: Row) -> str | None:
    answers = facts.answers.get((row.meter or "", row.channel), [])
    first = min((answer.at for answer in answers), default=NEVER)
    since, _ = _span(row)
    if first >= since or any(life.begin <= row.t + DAY for life in facts.lives[:1]):
        return None if first >= since else f"the meter had answered at {first:.0f}"
    return f"the meter had answered at {first:.0f}"


def _busy(facts: Facts, row: Row) -> str | None:
    since, until = _span(row)
    if facts.during(since - 3600, until + 3600, "device", "line", "disk", *RELOADS):
        return None
    if facts.down(since, until):
        return None
    return "nothing delayed its line"


def _shed(facts: Facts, row: Row) -> str | None:
    small = facts.plan["building"].get("small")
    if small and facts.during(row.t - UNSENT, row.t + UNSENT, "uplink"):
        return None
    return None if facts.during(row.t - UNSENT, NEVER, "disk") else "no disk was full or failed"


def _by_clock(facts: Facts, row: Row) -> str | None:
    """After a boot nothing is dated before a time service keeps the clock (rules C8, C10)."""
    since, until = _span(row)
    boots = [
        (before.end, life.begin + BOOTS)
        for before, life in pairwise(facts.lives)
        if before.boot != life.boot
    ]
    undated = any(begin <= until and since <= end for begin, end in boots)
    return None if undated else "the clock was right all the time"


def _by_uplink(facts: Facts, row: Row) -> str | None:
    del row
    names = facts.building["recipients"]
    removed = any(facts.removed_from(name) < NEVER for name in names)
    return None if removed else "no uplink was removed"


def _fitted(facts: Facts, row: Row) -> Fitted | None:
    """The meter of a row, if there was but one at its place and channel."""
    here = [one for one in facts.fitted if (one.place, one.channel) == (row.place, row.channel)]
    return here[0] if len(here) == 1 else None


RELOADS = ("reload", "upgrade")
REASONS = {
    "agent": _agent,
    "silent": _silent,
    "link": _link,
    "bad": _bad,
    "early": _early,
    "busy": _busy,
    "shed": _shed,
    "clock": _by_clock,
    "uplink": _by_uplink,
}
