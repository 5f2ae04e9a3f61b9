"""CONSERVATION: rows besides the indexes: what flowed in each step, and what is withheld.

Which clauses, and what each check lets pass: tests.sim.judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from tests.sim import judge_rows
from tests.sim.facts import DAY, MONTH, NEVER, SETTLES, Facts, Fitted, Row
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
    """M7: what flowed over an exchange is of both meters, and is stated if both were read and
    nothing but the exchange happened.
    """
    at, every = new.since, facts.every(new)
    t = int(-(-at // every)) * every
    old = next((one for one in facts.fitted if one.until == at and _same(one, new)), None)
    if old is None or old.since > t - every or not t > at or new.until <= t:
        return
    if facts.clock_doubted(at - every - 3600, at + every + 3600):
        return
    slot = (new.place, new.channel, "INT", every, t)
    held = facts.platforms[basis.recipient].slots.get(slot, ())
    for one in held:
        if one.row.v is not None and (wrong := _misstated(facts, old, new, one.row)):
            text = f"{slot}: {one.row.v} {one.row.q} over the exchange of {old.meter}: {wrong}"
            yield Finding("CONSERVATION", "M7", text, one.at, (one.batch.index,))
    stated = any(one.row.v is not None for one in held)
    if not stated and _flow_is_owed(facts, basis, old, new, t):
        text = f"{slot}: no consumption over the exchange of {old.meter}, which was recorded before"
        yield Finding("CONSERVATION", "M7", text, t, (basis.index,))


def _same(one: Fitted, other: Fitted) -> bool:
    return (one.place, one.channel) == (other.place, other.channel)


def _misstated(facts: Facts, old: Fitted, new: Fitted, row: Row) -> str:
    """What is wrong with a consumption over an exchange; empty: nothing."""
    whole = old.closing is not None and new.opening is not None
    if "EXCH" not in row.flags:
        return "not flagged"
    if row.q != ("K" if whole else "E"):
        return "of another quality"
    return "" if _sums_up(facts, old, new, row) else "it is not the sum of both meters"


def _sums_up(facts: Facts, old: Fitted, new: Fitted, row: Row) -> bool:
    """Whether the closing index less one of the old meter's, and one of the new meter's less the
    opening index, add up to this. Where people read no such index, that meter adds nothing.
    """
    before, after = _around(facts, old, new, row.t, row.step)
    of_old = {Decimal(0)} if old.closing is None else {Decimal(old.closing) - one for one in before}
    of_new = {Decimal(0)} if new.opening is None else {one - Decimal(new.opening) for one in after}
    return any(
        one * old.multiplier + other * new.multiplier == Decimal(row.v or 0)
        for one in of_old
        for other in of_new
    )


def _around(
    facts: Facts, old: Fitted, new: Fitted, t: int, step: int
) -> tuple[list[Decimal], list[Decimal]]:
    """What the old meter showed in the slot before t, and the new one in the slot t."""
    before, after = (
        [
            one.value
            for one in facts.answers.get((fitted.meter, fitted.channel), ())
            if begin - 1 <= one.wall <= begin + step and not one.odd
        ]
        for fitted, begin in ((old, t - step), (new, t))
    )
    return before, after


def _flow_is_owed(facts: Facts, basis: judge_rows.Basis, old: Fitted, new: Fitted, t: int) -> bool:
    """Whether a consent for the step of the readings covers a step in which the exchange was
    recorded, and both meters were read around it in a calm time.
    """
    every, others = facts.every(new), [d for d in facts.doubts if d[0] == new.place]
    stay = next((one for one in facts.stays if one.id == basis.occupancy), None)
    if stay is None or stay.known is None or not new.reports or new.known is None:
        return False
    if judge_rows.effective(basis.step, every) != every or not new.known < t - 1:
        return False
    since = max(basis.since, basis.known or NEVER, stay.since, stay.known) + every + 600
    until = min(basis.until, basis.ended, stay.until, stay.until_asked, facts.end - SETTLES)
    until = min(until, facts.removed_from(basis.recipient), facts.other_period_from(new))
    until = min(until, facts.refused_from(basis.recipient) - DAY)
    if not since <= t - every or not t + every <= until:
        return False
    if any(
        end != new.known and begin < t + every and t - every < end for _, begin, end, _ in others
    ):
        return False
    calm = facts.calm_but(t - every - 1800, t + every, "exchange")
    return calm and all(_around(facts, old, new, t, every))


def _withheld(facts: Facts, recipient: str, fitted: Fitted) -> Iterator[Finding]:
    """P20: who asked for it, and never had a basis on a dwelling, is told once a day that there is
    a reading.
    """
    if any(
        basis.recipient == recipient and basis.place in ("", fitted.place)
        for basis in facts.bases.values()
    ):
        return
    last = facts.end - SETTLES
    until = min(facts.removed_from(recipient), facts.refused_from(recipient) - DAY, last)
    until = min(until, fitted.until, fitted.until_asked, facts.other_period_from(fitted))
    slots, every = facts.platforms[recipient].slots, facts.every(fitted)
    for t in facts.slots(DAY, max(fitted.since, facts.plan["begin"]) + 3600, until - every - 3600):
        if not facts.calm(t - 1800, t + min(every, MONTH) + 600):
            continue
        if facts.doubted(fitted.place, t - 3600, t + every):
            continue
        if facts.unheard(t + every, recipient):
            return
        slot = (fitted.place, fitted.channel, "REG", DAY, t)
        if not any(held.row.q == "W" for held in slots.get(slot, ())):
            text = f"{recipient} is not told that {slot} is withheld"
            yield Finding("CONSERVATION", "P20", text, t)
            return
