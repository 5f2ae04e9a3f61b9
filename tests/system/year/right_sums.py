"""The sums over dwellings that a recipient is to hold (docs/rules/aggregates.md).

Who stands in one is fixed by what was known at the first midnight of its month. A day's sum is
told when all of the group are there, else after their next reading. Where the rules leave it open
whether a dwelling is known in that day (its meter was exchanged, or somebody told of a move while
the sum was waiting), the sum with it and the sum without it are right.
"""

from __future__ import annotations

from itertools import combinations, pairwise

from tests.system.year.truth import DAY, Held

FEWEST = 11


def sums(year):
    """By slot, the rows that would be right."""
    found = {}
    for asked in year.truth.sums:
        if asked.recipient == year.recipient:
            places = sorted(p for p, channel in year.truth.every if channel == asked.channel)
            for since, t in pairwise(year.midnights):
                if since >= asked.start:
                    slot = asked.place, asked.channel, "INT", DAY, t
                    found[slot] = _day(year, asked, places, since, t)
    return found


def _day(year, asked, places, since, t):
    channel, until = asked.channel, t + DAY + DAY // 8
    begun = max(at for at in (*year.firsts, asked.start) if at <= since)
    group = [place for place in places if _joins(year, place, channel, begun)]

    def row(q, v=None, n=0, why=""):
        flags = "DST" if t in year.odd else ""
        return Held(asked.place, channel, "INT", DAY, t, q, v, 0, "rest", n=n, why=why, flags=flags)

    if year.restarted(since + 1, t):
        return [row("M", why="agent")]
    meters = {place: year.meter(place, channel, t) for place in group}
    soon, late = (_known(year, meters, (since, t), known) for known in (t, until))
    waits = len(soon) < len(group)
    rights = [row("M", why="agent")] if waits and year.restarted(t, until) else []
    if waits and until > year.end:
        rights.append(None)
    perhaps = {p: soon[p] for p in soon if max(meters[p].start, meters[p].told) > since}
    if waits:
        perhaps |= {p: v for p, v in (soon | late).items() if (p in soon) != (p in late)}
    few = [row("W", why="few")] if year.withholds else [None]
    for some in (some for n in range(len(perhaps) + 1) for some in combinations(perhaps, n)):
        known = {p: v for p, v in (soon | perhaps).items() if p not in perhaps or p in some}
        counted = [v for p, v in known.items() if not _alone(year, p, channel, begun, t)]
        told = len(counted) >= FEWEST and 5 * len(known) >= 4 * len(group)
        if told and 2 * max(counted) <= sum(counted):
            rights.append(row("K", sum(known.values()), len(known)))
        else:
            rights += few
    return rights


def _joins(year, place, channel, at):
    """Lived in, measured, and not sent alone, by what was known then."""
    measured = any(max(one.told, one.start) <= at for one in year.fitted[place, channel])
    lived_in = year.lives(place, at, at) is not None
    return measured and lived_in and not _alone(year, place, channel, at, at)


def _alone(year, place, channel, since, t):
    """Whether the recipient was sent something of that dwelling alone since the group began."""
    return year.duty(channel, t) is not None or any(
        max(one.told, one.start) <= t
        and since < min(one.end, one.replaced or one.end, one.withdrawn or one.end)
        for one in year.consents[place, channel]
    )


def _known(year, meters, day, known):
    """What flowed where somebody lives and the meter is known, by what is known then."""
    since, t = day
    flows = {p: _flow(year, one, since, t, known) for p, one in meters.items()}
    return {
        p: flow
        for p, flow in flows.items()
        if flow is not None and year.lives(p, t, known, since) is not None
    }


def _flow(year, one, since, t, known):
    now, register = year.shows(one, t), year.truth.register
    if one.told > known or now is None:
        return None
    if one.start <= since:
        then = year.shows(one, since)
        return None if then is None else now - then
    if not one.indexed:
        return None
    old, at = year.meter(one.place, one.channel, since), one.start
    return register(old.meter, at) - register(old.meter, since) + now - register(one.meter, at)
