"""What a recipient holds after a year, compared with what it is to hold; what differs, in words.

Written by somebody who had read the rules and not the agent (right.py says which).
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from tests.system.year.right import right
from tests.system.year.rules import UNSENT

PARIS = ZoneInfo("Europe/Paris")
BUSY = 60
"""seconds by which versions may run ahead where many are given in one: no two are alike"""
SAID = ("q", "v", "basis", "occupancy", "meter", "ver", "delay", "n", "why")


@dataclass(frozen=True, slots=True)
class Fault:
    """One slot that is not as the rules say."""

    what: str
    """`too many`, `missing`, `wrong`, `twice` or `too late`"""
    place: str
    channel: str
    kind: str
    step: int
    t: int
    says: str

    def __str__(self):
        """The fault in one line."""
        when = dt.datetime.fromtimestamp(self.t, PARIS).isoformat(" ", "minutes")
        slot = f"{self.place} {self.channel} {self.kind}/{self.step} of {when}"
        return f"{self.what}: {slot}: {self.says}"


def judged(truth, recipient, held, end):
    """Every row that should not be there, every slot that lacks one, and all that rows say wrong
    in what `recipient` holds at `end`.
    """
    wanted, slots = right(truth, recipient, end), defaultdict(list)
    for row in held:
        slots[row.place, row.channel, row.kind, row.step, row.t].append(row)
    outages = [out for out in truth.outages if out.who == recipient]
    found = []
    for slot, rows in slots.items():
        found += [
            Fault(what, *slot, says) for what, says in _slot(rows, wanted.get(slot, ()), outages)
        ]
    for slot, rights in wanted.items():
        if slot not in slots and rights and None not in rights:
            found.append(Fault("missing", *slot, _words(rights[0])))
    return found


def _slot(rows, rights, outages):
    """What is wrong in one slot: (what, in words)."""
    rights = [one for one in rights if one is not None]
    if not rights:
        yield from (("too many", _words(row)) for row in rows)
        return
    differs, best = min(
        ((_differs(row, one), row) for row in rows for one in rights), key=lambda it: len(it[0])
    )
    yield from (("twice", _words(row)) for row in rows if row is not best)
    if differs:
        yield "wrong", ", ".join(differs)
    if best.occupancy and best.stored - max(best.t, best.ver) > UNSENT:
        yield "too late", "it was kept for more than 60 days"
    if best.stored < best.t or any(out.start <= best.stored < out.end for out in outages):
        yield "wrong", f"it cannot have come at {best.stored}"


def _words(row):
    return f"{row.q} {row.v} by {row.basis or 'nothing'}, ver {row.ver}"


def _differs(row, one):
    """What a row says otherwise than it should, member by member."""
    found = [
        f"{name} is {getattr(row, name)!r}, not {getattr(one, name)!r}"
        for name in SAID
        if getattr(row, name) != getattr(one, name)
        if not (name == "ver" and 0 < one.ver < row.ver <= one.ver + BUSY)
    ]
    flags, due = ({*each.flags.split("+")} - {""} for each in (row, one))
    if row.v is None:  # a short day says nothing of a value that is not there
        flags, due = flags - {"DST"}, due - {"DST"}
    return found + [f"flags are {row.flags!r}, not {one.flags!r}"] * (flags != due)
