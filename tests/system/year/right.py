"""What one recipient is to hold of a building's year, worked out from the rules alone
(docs/rules, docs/platform.md, docs/policy.md).

For each slot (place, channel, kind, step, t) the rows that would be right, of which there is to be
one; None among them: or none, where the rules leave that open. A slot that is not named here is
to be empty.

A row is *made* at its slot, or later if its meter was not known yet, by what the gateway had been
told until then. What it is told afterwards can only take rows back: a withdrawal, and a move told
late.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

from tests.system.year.right_sums import sums
from tests.system.year.rules import MONTH, Year, covers
from tests.system.year.truth import DAY, Held

BLOCKED, REGISTERS = 60 * DAY, 62 * DAY
"""for so long readings are kept of a meter that nobody knows; registers of 00:00 for a duty"""


def right(truth, recipient, end):
    """All slots of which that recipient is to hold something at `end`, with what."""
    year, found = Year(truth, recipient, end), {}
    for (place, channel), every in truth.every.items():
        found |= _dwelling(year, place, channel, every)
        found |= _changes(year, place, channel)
    for shared in truth.shared:
        found |= _common(year, shared)
    return found | sums(year)


def _row(q, v=None, **more):
    return Held("", "", "", 0, 0, q, v, 0, **more)


def _at(slot, row, flags="", **more):
    place, channel, kind, step, t = slot
    flags = "+".join(filter(None, (row.flags, flags)))
    return replace(
        row, place=place, channel=channel, kind=kind, step=step, t=t, flags=flags, **more
    )


def _dwelling(year, place, channel, every):
    found, due = {}, year.consents[place, channel] or year.duty(channel, year.end)
    if not due and not year.withholds:
        return found
    kinds = ("REG", "INT") if channel in year.truth.flows else ("REG",)
    slots = range(year.truth.begin, year.end, every) if every < DAY else year.midnights
    for t in slots:
        one = year.meter(place, channel, t)
        made = max(t, one.told)
        for kind in kinds:
            since = year.before(t, every) if kind == "INT" else None
            bases = year.bases((place, channel, every), t, made, since)
            rows = ()
            if bases and made - t <= BLOCKED:
                rows = _flowed(year, one, since, t) if since else _index(year, one, t)
            for step, (basis, stay, withdrawn) in bases.items():
                if rows and not withdrawn and covers(stay.start, stay.end, t, since):
                    slot = place, channel, kind, step, t
                    says = {"basis": basis, "occupancy": stay.occupancy, "meter": one.meter}
                    told = [_at(slot, row, _odd(year, slot), **says) for row in rows if row]
                    found[slot] = year.arrives([*told, None] if None in rows else told, t, made)
            if year.withholds and made == t:
                found |= _withheld(year, (place, channel, kind, t), every, since, bases)
    return found


def _odd(year, slot):
    *_, step, t = slot
    return "DST" if step == DAY and t in year.odd else ""


def _index(year, one, t):
    """An index as the meter shows it. None here has a rating, so it is not fully checked: R."""
    shown = year.shows(one, t)
    if one.told > t:
        return [_row("R", shown, flags="LATE+EXCH", ver=one.told)] if shown is not None else []
    if shown is None:
        return [_row("M", why="silent")]
    last = year.before(t, year.truth.every[one.place, one.channel])
    first = year.truth.begin < one.start and last < one.start
    return [_row("R", shown, flags="EXCH" if first else "")]


def _flowed(year, one, since, t):
    """What flowed in the step until t: of two indexes that follow each other, else it is missing.

    In the step of an exchange it is of both meters: K with their indexes, else an E that counts
    nothing that nobody read.
    """
    if since < year.truth.begin:
        return [_row("M", why="early")]
    late = {"flags": "LATE+EXCH", "ver": one.told} if one.told > t else {}
    now, register = year.shows(one, t), year.truth.register
    if one.start <= since:
        then = year.shows(one, since)
        if None in {then, now} or (late and one.told - since > BLOCKED):
            return [] if late else [_row("M", why="silent")]
        lost = [_row("M", why="agent")] if year.restarted(since, t) and not late else []
        return [_row("K", now - then, **late), *lost]
    flowed, q = Decimal(0), "E"
    if one.indexed:
        old = year.meter(one.place, one.channel, since)
        closed = register(old.meter, one.start) - register(old.meter, since)
        flowed, q = closed + now - register(one.meter, one.start), "K"
    # a restart since then may have forgotten what the old meter showed
    lost = (
        [None if late else _row("M", why="agent")]
        if year.restarted(since, max(t, one.told))
        else []
    )
    return [_row(q, flowed, **(late or {"flags": "EXCH"})), *lost]


def _withheld(year, of, every, since, bases):
    """Rows that say that there is something, at the steps that were ever due, or once a day.

    That a dwelling is vacant is said to those alone who ever had something of it.
    """
    place, channel, kind, t = of
    due, found = year.was_due((place, channel, every), t), {}
    why = "consent" if year.lives(place, t, t, since) or not due else "vacant"
    for step in due or ({DAY} if kind == "REG" else ()):
        if step not in bases and year.on(step, t) and (kind == "REG" or step == every):
            found[place, channel, kind, step, t] = [_at((*of[:3], step, t), _row("W", why=why))]
    return found


def _changes(year, place, channel):
    """For the manager, though it be told late: the index at 00:00 of a change of occupant (of who
    moves in, else of who moves out), and the month ends since of who moved in.
    """
    told, found = {}, {}
    for stay in year.stays[place]:
        for at, said in ((stay.end, stay.end_told), (stay.start, stay.told)):
            if at is not None and at >= year.truth.begin and (at not in told or at == stay.start):
                told[at] = min(said, told.get(at, (said,))[0]), stay
    owed = [(DAY, at, said, stay) for at, (said, stay) in told.items()]
    for stay in year.stays[place]:
        since = (at for at in year.firsts if at < stay.told and covers(stay.start, stay.end, at))
        owed += [(MONTH, at, stay.told, stay) for at in since]
    for step, at, said, stay in owed:
        duty = year.duty(channel, at)
        if duty and said - at <= REGISTERS:
            one, slot = year.meter(place, channel, at), (place, channel, "REG", step, at)
            # made after the notice, which may have taken back what stood there
            late = {"flags": "LATE", "ver": said + 1} if said > at else {}
            says = {"basis": duty.id, "occupancy": stay.occupancy, "meter": one.meter}
            row = _row("R", year.shows(one, at), **late, **says)
            found[slot] = year.arrives([_at(slot, row, _odd(year, slot))], at, max(at, said))
    return found


def _common(year, shared):
    """Common places leave on the basis `common`, to everybody, from the day on that it holds."""
    found = {}
    for since, t in pairwise([None, *year.midnights]):
        slot = shared.place, shared.channel, "REG", DAY, t
        shown = year.truth.register(shared.meter, t)
        row = _row("R", shown, basis="common", meter=shared.meter)
        if t >= shared.start:
            found[slot] = [_at(slot, row, _odd(year, slot))]
        if shared.channel in year.truth.flows and since is not None and since >= shared.start:
            slot = shared.place, shared.channel, "INT", DAY, t
            flow = replace(row, q="K", v=shown - year.truth.register(shared.meter, since))
            found[slot] = [_at(slot, flow, _odd(year, slot))]
            if year.restarted(since, t):
                found[slot].append(_at(slot, replace(row, q="M", v=None, why="agent")))
    return found
