"""TRUTH: the answer to a call states what was asked, and what has happened to it.

What only the agent knows, such as an id or the second of a record, is taken from its answer; each
check bounds it. Which clauses, and what each check lets pass: tests.sim.judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.sim.facts import DAY, NEVER, Facts, second
from tests.sim.finding import Finding
from tests.sim.judge_equipment import opted_out_until

FRESH = 3.0
"""seconds by which a time may differ: times of calls and answers are in whole seconds"""
RECOVERS = 3600.0
"""seconds after a fault of the disk in which something may not be recorded yet"""


def judged(facts: Facts) -> Iterator[Finding]:
    """All answers that state something else than what was asked, or happened."""
    for at, what, index in facts.calls:
        if what.get("outcome") != "accepted" or what.get("lost") or "asked" not in what:
            continue
        for clause, text in _wrong(facts, at, what):
            yield Finding("TRUTH", clause, f"{what['name']}: {text}", at, (index,))


def _wrong(facts: Facts, at: float, what: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    asked, result = second(what["asked"]), what.get("result") or {}
    unrecorded = what.get("unrecorded") or result.get("unrecorded")
    if unrecorded and not facts.during(asked - RECOVERS, at, "disk"):
        yield "A7", "it was not recorded, although no disk failed"
    for fact in what.get("means") or ():
        check = CHECKS.get(fact["fact"])
        if check is not None and result:
            yield from check(facts, at, what, fact)


def _when(facts: Facts, at: float, what: Mapping[str, Any], text: str) -> str:
    """What is wrong with the second at which something counts as recorded; empty: nothing. It lies
    between the first time that it was asked and the answer.
    """
    errand = what.get("errand")
    first = min(
        (
            second(one["asked"])
            for _, one, _ in facts.calls
            if errand is not None and one.get("errand") == errand and one["name"] == what["name"]
        ),
        default=second(what["asked"]),
    )
    apart = facts.apart(at)
    if any(first - FRESH <= moment <= at for moment, *_ in facts.clock) or (
        first - FRESH <= second(text) - apart <= at + FRESH
    ):
        return ""
    return f"{text} is not between question and answer"


def _differs(item: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[str]:
    for name, value in names.items():
        shown = item.get(name)
        if (sorted(shown) if isinstance(shown, list) else shown) != value:
            yield f"{name} is {shown}, not {value}"


def _consent(
    facts: Facts, at: float, what: Mapping[str, Any], fact: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """P2, P4, P5: as it was asked, of those who live there; P22: given when it was."""
    (item,) = [one for one in what["result"]["consents"] if one["id"] == fact["id"]]
    about = {name: fact[name] for name in ("place", "recipient", "step", "purpose") if name in fact}
    if "channels" in fact:
        about["channels"] = sorted(fact["channels"])
    for text in _differs(item, about):
        yield "P4", text
    slack = DAY if what["name"] == "consent.answers" else FRESH  # months end on a day
    if "until" in fact and abs(second(item["until"]) - fact["until"]) > slack:
        yield "P5", f"it ends {item['until']}, not at {fact['until']}"
    if text := _when(facts, at, what, item["since"]):
        yield "P4", f"it begins {item['since']}: {text}"
    if "given" in fact and abs(second(item["given"]) - fact["given"]) > FRESH:
        yield "P22", f"it was given {item['given']}, not at {fact['given']}"
    yield from _occupant(facts, at, what, fact, second(item["since"]))


def _occupant(
    facts: Facts, at: float, what: Mapping[str, Any], fact: Mapping[str, Any], when: float
) -> Iterator[tuple[str, str]]:
    """G4, P4: those who lived at a place then, by what was recorded when the call was made."""
    here = _occupants(facts, at, what, fact["place"], when)
    if here is not None and fact["occupancy"] not in here:
        names = ", ".join(sorted(here)) or "nobody"
        yield "P4", f"it is of {fact['occupancy']}, but {names} live there"


def _occupants(
    facts: Facts, at: float, what: Mapping[str, Any], place: str, when: float
) -> set[str] | None:
    """Who may live at a place at a time, by what was stated before a call was answered; none: an
    occupancy may have begun whose id nobody has seen. What was stated later does not count: a call
    is right although a late notice shows afterwards that others lived there.
    """
    since = {one["occupancy"]: second(one["since"]) for one in facts.building["places"]
             if one["place"] == place and one.get("occupancy")}  # fmt: skip
    ends: dict[str, float] = {}  # the last one counts
    perhaps: dict[str, float] = {}  # of calls without an answer
    unseen: set[float] = set()
    for begin, known, fact, index in facts.stated:
        moves = fact["fact"] in {"enter", "leave"} and fact["place"] == place
        if not moves or begin > at or facts.journal[index].what is what:
            continue
        moment, name = second(fact["at"]), fact["occupancy"]
        sure = known is not None and known <= second(what["asked"])
        if fact["fact"] == "leave" and sure:
            ends[name] = moment
        elif fact["fact"] == "leave":
            perhaps[name] = max(moment, perhaps.get(name, 0.0))
        elif name:
            since[name] = moment
            unseen -= {moment} if sure else set()
        else:
            unseen.add(moment)
    if unseen:
        return None
    return {
        name
        for name, begin in since.items()
        if begin - FRESH <= when <= max(ends.get(name, NEVER), perhaps.get(name, 0.0)) + FRESH
    }


def _withdrawn(
    facts: Facts, at: float, what: Mapping[str, Any], fact: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """D1, P13: it names each consent that has ended, and only those. P22: none is given by it."""
    if what["name"] != "consent.withdraw":
        return
    asked, to = second(what["asked"]), fact.get("recipient")
    items = {one["id"]: one for one in what["result"]["consents"]}
    for item in items.values():
        basis = facts.bases.get(item["id"])
        if item["withdrawn"] is None:
            continue
        if item["place"] != fact["place"] or to not in (None, item["recipient"]):
            yield "D1", f"{item['id']} of {item['place']} to {item['recipient']} is withdrawn"
        if basis is not None and basis.known is not None:
            latest = basis.known + facts.apart(basis.known) + FRESH
            if basis.given is None and second(item["given"]) > max(latest, basis.since + FRESH):
                yield "P22", f"{item['id']} was given {item['given']}, after it was recorded"
    for basis in facts.bases.values():
        theirs = basis.kind == "consent" and basis.occupancy == fact["occupancy"]
        sure = basis.known is not None and basis.known < asked <= min(basis.ended, basis.gone)
        lasts = basis.until > at + facts.apart(at) and not facts.clock_doubted_from < at
        if theirs and to in (None, basis.recipient) and sure and lasts and basis.id not in items:
            yield "P13", f"{basis.id} is not named, but ends by it"


def _move(
    facts: Facts, at: float, what: Mapping[str, Any], fact: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """P4, I9: an occupancy of that place begins or ends at that moment."""
    name = "until" if fact["fact"] == "leave" else "since"
    items = [one for one in what["result"]["occupancies"] if one["id"] == fact["occupancy"]]
    for item in items:
        for text in _differs(item, {"place": fact["place"]}):
            yield "P4", text
        if second(item[name]) != fact["at"]:
            yield "P4", f"{fact['occupancy']}: {name} is {item[name]}, not {fact['at']}"
    if fact["fact"] == "leave":
        yield from _occupant(facts, at, what, fact, fact["at"])


def _duty(
    facts: Facts, at: float, what: Mapping[str, Any], fact: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """P9: a duty as it was stated."""
    (item,) = what["result"]["duties"]
    about = {"recipient": fact["recipient"], "channels": sorted(fact["channels"])}
    for text in _differs(item, about):
        yield "P9", text
    if text := _when(facts, at, what, item["since"]):
        yield "P9", f"it begins {item['since']}: {text}"


def _duty_end(
    facts: Facts, at: float, what: Mapping[str, Any], fact: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """P9, I9: that duty ends at the moment that was stated, or now."""
    (item,) = what["result"]["duties"]
    for text in _differs(item, {"id": fact["id"], "recipient": fact["recipient"]}):
        yield "P9", text
    if "at" not in (what.get("args") or {}):
        if text := _when(facts, at, what, item["until"]):
            yield "P9", f"it ends {item['until']}: {text}"
    elif second(item["until"]) != fact["at"]:
        yield "P9", f"it ends {item['until']}, not at {fact['at']}"


def _opt_out(
    facts: Facts, at: float, what: Mapping[str, Any], fact: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """H7, H36: it ends when the person has asked, or with a longer one that is in force."""
    asked = second(what["asked"])
    if any(asked <= moment <= at for moment, *_ in facts.clock):
        return
    control, until = fact["control"], second(what["result"]["until"]) - facts.apart(at)
    stated = second(fact["until"]) - facts.apart(at) if fact.get("until") else NEVER
    own = min(stated, asked + fact.get("lasts", NEVER))
    if until < own - FRESH:
        yield (
            "H7",
            f"{control} is free from {what['result']['until']}, {own - until:.0f} s too soon",
        )
    earlier = [
        opted_out_until(facts, begin, known, other)
        for begin, known, other, _ in facts.stated
        if other["fact"] == "opt-out" and other["control"] == control and begin <= asked
    ]
    longer = facts.rebooted(0, at) or facts.clock_doubted_from < at
    longer = longer or any(
        one["by"] == "person" and one.get("control") == control and moment <= at
        for moment, one, _ in facts.writes
    )  # who takes over at the equipment opts out until the end of the order
    latest = max([own + at - asked, *earlier])
    if until > latest + FRESH and not longer:
        yield "H7", f"{control} is free only {what['result']['until']}, {until - latest:.0f} s late"


CHECKS = {
    "consent": _consent, "withdraw": _withdrawn, "leave": _move, "enter": _move, "duty": _duty,
    "duty.end": _duty_end, "opt-out": _opt_out,
}  # fmt: skip
