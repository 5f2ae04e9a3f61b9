"""What was known when, and what it lets a recipient have: the rules of time, of people and of
bases (docs/rules/places.md, docs/rules/privacy.md, docs/dwellings.md, docs/decisions/022).

Written, as what else judges the year, by somebody who had read the rules and not the agent.
Nothing here asks the code that is judged.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.system.year.truth import DAY, Step

if TYPE_CHECKING:
    from tests.system.year.truth import Consent, Duty, Fitted, Held, Stay, Truth

Read = tuple[str, str, int]
"""what is read: place, channel, and every how many seconds"""
MONTH = 30 * DAY
UNSENT = 60 * DAY
"""a personal row that is older has not been received by anybody and is destroyed"""
DELIVERIES = 2 * DAY + DAY // 2
"""between two deliveries there is no more than this, but for outages"""


def covers(start: int, end: int | None, t: int, since: int | None = None) -> bool:
    """Whether [start, end) has the instant t in it, or the whole of the time (since, t]."""
    if since is None:
        return start <= t and (end is None or t < end)
    return start <= since and (end is None or t <= end)


class Year:
    """The truth, as one recipient and the gateway come to know it.

    `t` is a slot, `known` the moment by which the gateway has been told, `since` where the time
    begins that a quantity is of (None: what is meant is the instant t).
    """

    def __init__(self, truth: Truth, recipient: str, end: int) -> None:
        self.truth, self.recipient, self.end = truth, recipient, end
        first = dt.datetime.fromtimestamp(truth.begin, truth.zone)
        days = (first + dt.timedelta(days=n) for n in range((end - truth.begin) // DAY + 2))
        dates = {int(day.timestamp()): day.day for day in days}
        self.midnights = [at for at in dates if at < end]
        self.firsts = {at for at in self.midnights if dates[at] == 1}
        self.odd = {late for early, late in pairwise(self.midnights) if late - early != DAY}
        """midnights at which a day of 23 or 25 hours ends"""
        self.stays, self.fitted = defaultdict(list), defaultdict(list)
        self.consents = defaultdict(list)
        homes = {stay.occupancy: stay.place for stay in truth.stays}
        for stay in truth.stays:
            self.stays[stay.place].append(stay)
        for one in truth.fitted:
            self.fitted[one.place, one.channel].append(one)
        for consent in truth.consents:
            for channel in consent.channels if consent.recipient == recipient else ():
                self.consents[homes[consent.occupancy], channel].append(consent)
        self.outages = [out for out in truth.outages if out.who == recipient]
        self.withholds = recipient in truth.withheld

    # time

    def before(self, t: int, every: int) -> int:
        """The slot before one."""
        if every < DAY:
            return t - every
        at = bisect_left(self.midnights, t)
        return self.midnights[at - 1] if at else t - DAY

    def on(self, step: int, t: int) -> bool:
        """Whether a step has a slot there: a day and a month begin at the building's midnight."""
        if step == MONTH:
            return t in self.firsts
        if step == DAY:
            at = bisect_left(self.midnights, t)
            return at < len(self.midnights) and self.midnights[at] == t
        return t % step == 0

    def restarted(self, since: int, until: int) -> bool:
        """Whether the agent was started in [since, until)."""
        return any(since <= start < until for start in self.truth.starts)

    # meters

    def meter(self, place: str, channel: str, t: int) -> Fitted:
        """The meter that really hangs there."""
        fitted = self.fitted[place, channel]
        return next(one for one in fitted if covers(one.start, one.end, t))

    def shows(self, one: Fitted, t: int):
        """What a meter says, None if it does not answer."""
        mute = any(s.who == one.meter and s.start <= t < s.end for s in self.truth.silences)
        return None if mute else self.truth.register(one.meter, t)

    # people and bases

    def lives(self, place: str, t: int, known: int, since: int | None = None) -> Stay | None:
        """Who lives there."""
        for stay in self.stays[place]:
            told = stay.end_told is not None and stay.end_told <= known
            if stay.told <= known and covers(stay.start, stay.end if told else None, t, since):
                return stay
        return None

    def duty(self, channel: str, t: int) -> Duty | None:
        """The duty of the manager, if the recipient is the manager."""
        for one in self.truth.duties:
            if one.recipient == self.recipient and channel in one.channels and one.told <= t:
                return one if covers(one.start, one.end, t) else None
        return None

    def step(self, consent: Consent, every: int) -> int:
        """The step of its rows: its own, or the next coarser one at which there are readings."""
        return max(_finest(consent), every)

    def bases(
        self, read: Read, t: int, known: int, since: int | None
    ) -> dict[int, tuple[str, Stay, bool]]:
        """By step, the basis on which a row may be made, of whom, and whether it was taken back.

        Of two for one step the coarser carries it, then the one that lasts longer; a duty comes
        before both. What flowed is told at the step of reading only.
        """
        place, channel, every = read
        stay, found = self.lives(place, t, known, since), {}
        if stay is None:
            return found
        for one in sorted(self.consents[place, channel], key=lambda one: (_finest(one), one.end)):
            gone = one.withdrawn is not None and one.withdrawn <= known
            if one.occupancy != stay.occupancy or one.told > known or gone:
                continue
            step = self.step(one, every)
            if not covers(one.start, min(one.end, one.replaced or one.end), t, since):
                continue
            if self.on(step, t) and (step == every or since is None):
                found[step] = one.id, stay, one.withdrawn is not None
        if since is None and self.on(MONTH, t) and (duty := self.duty(channel, t)):
            found[MONTH] = duty.id, stay, False
        return found

    def was_due(self, read: Read, t: int) -> set[int]:
        """The steps at which the recipient was ever to have rows of that dwelling."""
        place, channel, every = read
        consents = self.consents[place, channel]
        steps = {self.step(one, every) for one in consents if max(one.told, one.start) <= t}
        return steps | ({MONTH} if self.duty(channel, t) else set())

    def arrives(self, rows: list[Held | None], t: int, made: int) -> list[Held | None]:
        """Rows of slot t, or None beside them or nothing, as they grew too old in an outage."""
        soonest, latest = made, made + DELIVERIES
        for out in self.outages:
            if out.start <= made < out.end:
                soonest = out.end
            if out.start - DELIVERIES < made < out.end:
                latest = out.end + DELIVERIES
        if soonest - t > UNSENT:
            return []
        return rows if latest - t <= UNSENT else [*rows, None]


def _finest(consent: Consent) -> int:
    return {Step.MONTHLY: MONTH, Step.DAILY: DAY}.get(consent.step, consent.seconds)
