"""TRUTH: what the gateway tells people is what was recorded, what was sent, and what is held.

Which clauses, and what each check lets pass: tests.sim.judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.sim.facts import NEVER, Basis, Facts, Stay, second
from tests.sim.finding import Finding

FRESH = 60.0
"""seconds after an answer, or before an end, in which both are right"""
MAY_FORGET = ("disk", "reload", "upgrade")
"""faults and changes after which it may be unknown what was sent"""


def judged(facts: Facts) -> Iterator[Finding]:
    """All findings in what people were told."""
    for at, what, index in facts.statuses:
        check = CHECKS.get(what["what"])
        if check is not None and facts.clock_doubted_from > at:
            for clause, text in check(facts, at, what):
                yield Finding("TRUTH", clause, f"{what['what']}: {text}", at, (index,))


def _explain(facts: Facts, at: float, what: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    answer, place = what["answer"], what["place"]
    yield from _occupancy(facts, at, place, answer)
    listed = {one["id"]: one["standing"] for one in answer.get("consents", ())}
    for basis in facts.bases.values():
        if basis.kind != "consent" or basis.place != place or not _is_now(facts, basis, at):
            continue
        if basis.id not in listed:
            yield "P22", f"the consent {basis.id} is not listed"
        elif not listed[basis.id].startswith("in_force"):
            yield "P28", f"the consent {basis.id} is {listed[basis.id]}, but is in force"
    for id_, standing in listed.items():
        known = facts.bases.get(id_)
        if known is not None and known.gone + FRESH < at and standing.startswith("in_force"):
            yield "P28", f"the consent {id_} is in force, but was withdrawn"
    yield from _given(facts, answer)
    yield from _what_leaves(facts, at, answer)


def _given(facts: Facts, answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """P5, P22: nobody has signed a consent after it was recorded, whatever became of it since."""
    for one in answer.get("consents", ()):
        known = facts.bases.get(one["id"])
        if known is None or known.known is None or not one.get("given"):
            continue
        if second(one["given"]) > known.known + FRESH:
            yield "P22", f"the consent {known.id} was given {one['given']}, after it was recorded"


def _what_leaves(facts: Facts, at: float, answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for row in answer.get("rows", ()):
        known = facts.bases.get(row.get("basis") or "")
        if not row.get("leaves") or known is None:
            continue
        if known.recipient != row["recipient"] or row["channel"] not in known.channels:
            yield "P28", f"{row['channel']} is sent to {row['recipient']} on {known.id}"
        elif known.gone + FRESH < at:
            yield "P13", f"{row['channel']} is sent on {known.id}, which was withdrawn"


def _is_now(facts: Facts, basis: Basis, at: float) -> bool:
    """Whether a consent is in force beyond doubt."""
    return (
        basis.known is not None
        and max(basis.known, basis.since) + FRESH < at < min(basis.until, basis.ended) - FRESH
        and any(stay.id == basis.occupancy and _lives(stay, at) for stay in facts.stays)
    )


def _lives(stay: Stay, at: float) -> bool:
    """Whether people have not left beyond doubt: a dossier is of present occupants."""
    return at < min(stay.until, stay.until_asked) - FRESH


def _occupancy(
    facts: Facts, at: float, place: str, answer: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """I14: who lives there, if nobody doubts it."""
    if facts.doubted(place, at - FRESH, at):
        return
    homes = [
        stay.id
        for stay in facts.stays
        if stay.place == place and stay.known is not None and stay.since <= at < stay.until
    ]
    shown = (answer.get("occupancy") or {}).get("occupancy")
    shown = shown and shown.replace("-", "")
    if homes and shown != homes[-1]:
        yield "I14", f"{homes[-1]} lives in {place}, not {shown}"


def _disclosures(facts: Facts, at: float, what: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """P18, P28: what a recipient has received, and still holds."""
    answer, place = what["answer"], what["place"]
    # a meter that has not told its number sends nothing, so all that was sent is known
    unknown = sorted({one["kind"] for one in answer.get("unknown", ())} - {"meter"})
    if unknown:  # it says itself that it does not know all
        if not (facts.during(0, at, *MAY_FORGET) or facts.rebooted(0, at)):
            yield "P22", f"{', '.join(unknown)} is unknown, although nothing was damaged or removed"
        return
    theirs, left = _people(facts, at, place)
    held, settled, forgotten = (
        _of(counted[at, place], lambda whose: whose in theirs)
        for counted in (facts.counted, facts.settled, facts.forgotten)
    )
    possible = _of(facts.counted[at, place], lambda whose: whose not in left)
    for one in answer.get("holdings", ()):
        key = one["recipient"], one["channel"], one["basis"]
        least, most = one.get("least"), one.get("most")
        undone = one["basis"] in facts.bases and facts.undone(at, one["recipient"], one["basis"])
        if least is not None and possible[key] < least and not undone:
            yield "P28", f"{key} holds {possible[key]}, not at least {least}"
        if most is not None and held[key] - forgotten[key] > most:
            yield "P28", f"{key} holds {held[key]}, not at most {most}"
    listed = {
        (one["recipient"], one["channel"], one["basis"]) for one in answer.get("holdings", ())
    }
    for key, count in held.items():
        if key in listed or count <= forgotten[key]:
            continue
        if settled[key] > forgotten[key]:
            yield "P18", f"{key} has received {settled[key]}, of which nothing is said"
        else:
            yield "P28", f"{key} holds {count} without a receipt, of which nothing is said"


def _people(facts: Facts, at: float, place: str) -> tuple[set[str], set[str]]:
    """Those who live there beyond doubt, whose dossier it is, and those who surely do not."""
    stays = [stay for stay in facts.stays if stay.place == place]
    theirs = {one.id for one in stays if _lives(one, at) and one.since + FRESH < at}
    left = {one.id for one in stays if max(one.until, one.until_known or NEVER) + FRESH < at}
    return theirs, left


def _of(counted: Counter[Any], whose: Callable[[str | None], bool]) -> Counter[Any]:
    """The values of some people, by recipient, channel and basis."""
    values = Counter[Any]()
    for (*key, occupancy), count in counted.items():
        values[tuple(key)] += count if whose(occupancy) else 0
    return values


def _status(facts: Facts, at: float, what: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    answer = what["answer"]
    dwellings = answer.get("dwellings") or {}
    places = {place["place"] for place in facts.building.get("places", ())}
    total = sum(value for value in dwellings.values() if isinstance(value, int))
    if dwellings and places and total != len(places):
        yield "I14", f"{total} dwellings, not {len(places)}"
    if abs(second(answer["now"]) - at - facts.apart(at)) > FRESH:
        yield "C7", f"now is {answer['now']}"


CHECKS = {"explain": _explain, "disclosures": _disclosures, "status": _status}
