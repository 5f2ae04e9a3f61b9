"""CONSERVATION: rows besides the indexes: what flowed in each step, and what is withheld.

Which clauses, and what each check lets pass: tests.sim.judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from tests.sim import judge_rows
from tests.sim.facts import DAY, MONTH, Facts, Fitted, Row
from tests.sim.finding import Finding


def judged(facts: Facts) -> Iterator[Finding]:
    """What is missing, once for each recipient and meter."""
    for basis in facts.bases.values():
        if basis.kind == "consent" and basis.known is not None and not basis.doubted:
            for fitted in facts.fitted:
                here = fitted.place == basis.place and fitted.channel in basis.channels
                if here and "INT" in _kinds(facts, fitted):
                    yield from _flows(facts, basis, fitted)
                    yield from _exchanged(facts, basis, fitted)
    if facts.building.get("withheld"):
        for recipient in facts.building["recipients"]:
            for fitted in facts.fitted:
                if fitted.place[:1] == "D" and fitted.known is not None and fitted.reports:
                    yield from _withheld(facts, recipient, fitted)


def _kinds(facts: Facts, fitted: Fitted) -> list[str]:
    meters = facts.building.get("meters", ())
    return next((one.get("kinds", []) for one in meters if one["device"] == fitted.device), [])


def _flows(facts: Facts, basis: judge_rows.Basis, fitted: Fitted) -> Iterator[Finding]:
    """G2: each slot has what flowed in it, if the consent is for the step of the readings."""
    slots = facts.platforms[basis.recipient].slots
    for step, t in judge_rows.owed_slots(facts, basis, fitted):
        slot = (fitted.place, fitted.channel, "INT", step, t)
        owed = step == facts.every(fitted) and not judge_rows.undated(facts, step, t)
        if owed and slot not in slots:
            text = f"{basis.recipient} has no row for {slot}, owed on {basis.id}"
            yield Finding("CONSERVATION", "G2", text, t, (basis.index,))
            return


def _exchanged(facts: Facts, basis: judge_rows.Basis, new: Fitted) -> Iterator[Finding]:
    """M7: what flowed over an exchange of which people read both indexes is of both meters."""
    at, every = new.since, facts.every(new)
    old = next((one for one in facts.fitted if one.until == at and _same(one, new)), None)
    if old is None or new.opening is None or old.closing is None:
        return
    if facts.clock_doubted(at - every - 3600, at + every + 3600):
        return
    slot = (new.place, new.channel, "INT", every, int(-(-at // every)) * every)
    for held in facts.platforms[basis.recipient].slots.get(slot, ()):
        if held.row.q == "K" and not _sums_up(facts, old, new, held.row):
            text = f"{slot}: {held.row.v} did not flow over the exchange of {old.meter}"
            yield Finding("CONSERVATION", "M7", text, held.at, (held.batch.index,))


def _same(one: Fitted, other: Fitted) -> bool:
    return (one.place, one.channel) == (other.place, other.channel)


def _sums_up(facts: Facts, old: Fitted, new: Fitted, row: Row) -> bool:
    """Whether the closing index less one of the old meter's, and one of the new meter's less the
    opening index, add up to this.
    """
    closing, opening = Decimal(old.closing or 0), Decimal(new.opening or 0)
    before, after = (
        [
            one.value
            for one in facts.answers.get((fitted.meter, fitted.channel), ())
            if t - 1 <= one.wall <= t + row.step
        ]
        for fitted, t in ((old, row.t - row.step), (new, row.t))
    )
    return any(
        (closing - last) * old.multiplier + (now - opening) * new.multiplier == Decimal(row.v or 0)
        for last in before
        for now in after
    )


def _withheld(facts: Facts, recipient: str, fitted: Fitted) -> Iterator[Finding]:
    """P20: who asked for it, and never had a basis on a dwelling, is told once a day that there is
    a reading.
    """
    if any(
        basis.recipient == recipient and basis.place in ("", fitted.place)
        for basis in facts.bases.values()
    ):
        return
    last = facts.end - judge_rows.SETTLES
    until = min(facts.removed_from(recipient), facts.refused_from(recipient) - DAY, last)
    until = min(until, fitted.until, fitted.until_asked, facts.other_period_from(fitted))
    slots, every = facts.platforms[recipient].slots, facts.every(fitted)
    for t in facts.slots(DAY, max(fitted.since, facts.plan["begin"]) + 3600, until - every - 3600):
        if not facts.calm(t - 1800, t + min(every, MONTH) + 600):
            continue
        if facts.doubted(fitted.place, t - 3600, t + every):
            continue
        slot = (fitted.place, fitted.channel, "REG", DAY, t)
        if not any(held.row.q == "W" for held in slots.get(slot, ())):
            text = f"{recipient} is not told that {slot} is withheld"
            yield Finding("CONSERVATION", "P20", text, t)
            return
