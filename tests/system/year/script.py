"""What happens in the building, told to the gateway through its registry, and kept as the truth.

A dwelling has a story; the stories repeat with other dates until there are as many dwellings as
asked for. What is told is told in the middle of an hour, so that no reading falls on it.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from zoneinfo import ZoneInfo

from agent.core.model import Point
from agent.registry.consent_policy import CommonBasis
from agent.registry.forms import Box
from agent.registry.inputs import (
    NewAnswer,
    NewConsent,
    NewDuty,
    NewExchange,
    NewInstallation,
    NewOccupancy,
    NewPlace,
    NewWithdrawal,
)
from agent.registry.registry import Registry
from tests.system.year.house import House
from tests.system.year.truth import (
    DAY,
    Consent,
    Duty,
    Fitted,
    Shared,
    Span,
    Stay,
    Step,
    Summed,
    Truth,
)

ZONE = ZoneInfo("Europe/Paris")
FIRST = dt.datetime(2027, 1, 1, tzinfo=ZONE)
DAYS = 460
HOUR = 3600
MONTH = 30 * DAY
RESTARTS = (75, 130, 259, 330)
"""days on which the agent ends and starts again: with a meter unannounced, a move untold, and in
each outage"""
ELEC, HEAT = "elec.imp", "heat"
BOTH = (ELEC, HEAT)
METRO, FLEX, SYNDIC = "energie.metropole.example", "flex.example", "syndic.example"
PLANT, WHOLE, STAIRS = "CZS2YFSTBQQ5WDC", "B6ASQZ1Y2KSAA3Y", "stairs"
STEPS = {Step.MONTHLY: MONTH, Step.DAILY: DAY, Step.LOADCURVE: HOUR}
WHO = ("the manager", "a script")
BOXES = [
    Box(METRO, "advice", BOTH, DAY, 24),
    Box(FLEX, "shifting", (ELEC,), HOUR, 24),
]
"""of the consent forms"""


def midnight(day):
    """Midnight of the building at which that day of the script begins."""
    return int((FIRST + dt.timedelta(days=day)).timestamp())


def office(day):
    """When something of that day is told."""
    return midnight(day) + 9 * HOUR + HOUR // 2


BEGIN = midnight(0)


class Script:
    """The year: every method is something that happens, now or when its day comes."""

    def __init__(self, folder, stories, registry=Registry, fine=(), **more):
        """`fine`: the stories in whose dwellings electricity is read every hour; `sums` by
        recipient; `withheld`: who wants to know what is held back; `adder`: how sums are made.
        """
        self._plan, self._order = [], itertools.count()
        self._first, self._rate = {}, {}
        self._stays, self._fitted, self._consents, self._duties = {}, {}, {}, {}
        self._silences, self._outages = [], []
        self._forms, self._came, self._said_no = {}, set(), defaultdict(list)
        self.fine = {n: story in fine for n, story in enumerate(stories)}
        points = [self._point(n, channel) for n in range(len(stories)) for channel in BOTH]
        points.append(Point(STAIRS, "index", "s", "x", DAY, ELEC, "kWh", place=PLANT))
        self.sums, self.withheld = more.get("sums", {}), more.get("withheld", ())
        common, self.starts = CommonBasis("AG du 12 mai, résolution 14", midnight(4)), []
        self.house = House(
            folder, ZONE, points, (METRO, FLEX, SYNDIC), registry,
            common=common, building=WHOLE, flows=(ELEC,), **more,
        )  # fmt: skip
        self.house.now, self.house.meters = BEGIN - HOUR // 2, self._shown
        self._settle_in(len(stories))
        for n, story in enumerate(stories):
            story(self, n, 7 * (n // len(STORIES)))

    def _point(self, n, channel):
        every = HOUR if channel == ELEC and self.fine[n] else DAY
        return Point(f"{channel}-{n}", "index", str(n), "x", every, channel, "kWh")

    def _settle_in(self, dwellings):
        registry, now, since = self.house.registry, float(self.house.now), BEGIN - 400 * DAY
        labels = [f"A-{n}" for n in range(dwellings)]
        rows = [NewPlace(label, "dwelling", since=since) for label in labels]
        self.places = [place.id for place in registry.add_places(rows, *WHO, now)]
        homes = {home.place: home.id for home in registry.occupancies()}
        for n, place in enumerate(self.places):
            self._stays[n] = [Stay(homes[place], place, since, since)]
            for channel in BOTH:
                meter = self._meter(n, channel)
                new = NewInstallation(f"A-{n}", serial=meter, channel=channel, since=since)
                registry.install([new], *WHO, now)
                self._fitted[n, channel] = [Fitted(meter, place, channel, since, since)]
                self.house.serials[f"{channel}-{n}"] = meter
        duty = NewDuty(SYNDIC, "décret 2020-886", BOTH, since=BEGIN, id="duty-1")
        registry.oblige([duty], *WHO, now)
        self.house.serials[STAIRS] = self._meter(dwellings, ELEC)
        self._duties = [Duty("duty-1", SYNDIC, frozenset(BOTH), BEGIN, BEGIN)]

    def _meter(self, n, channel):
        """A new meter, unlike all others in index and in speed."""
        number = len(self._first)
        meter = f"{'E' if channel == ELEC else 'H'}{number:04}-{n}"
        self._first[meter], self._rate[meter] = 1_000_000 * (number + 1), 101 + 7 * number
        return meter

    def register(self, meter, t):
        """What a meter shows."""
        turned = (t - BEGIN) // HOUR + 10_000
        return Decimal(self._first[meter] + self._rate[meter] * turned).scaleb(-3)

    def _shown(self, meter, t):
        silent = any(one.who == meter and one.start <= t < one.end for one in self._silences)
        return None if silent else self.register(meter, t)

    # what stories are made of

    def at(self, t, what):
        """Let something happen at `t`."""
        heapq.heappush(self._plan, (t, next(self._order), what))

    def gives(  # noqa: PLR0913
        self, n, recipient, step, since, *, channels=BOTH, until=None, replaces=None
    ):
        """The people of dwelling n agree, from the moment they say so; the consent's id."""
        id_ = f"c{n}-{next(self._order)}"

        def told():
            now, occupancy = self.house.now, self._stays[n][-1].occupancy
            end = until or now + 900 * DAY
            # they know of what they withdrew before
            after = tuple(one.id for one in self.house.registry.marks(occupancy, recipient))
            new = NewConsent(
                f"A-{n}", recipient, channels, STEPS[step], f"advice {id_}", since=now, until=end,
                id=id_, replaces=replaces, after=after,
            )  # fmt: skip
            self.house.registry.consent([new], *WHO, float(now), self.house.policy)
            self._consents[id_] = Consent(
                id_, occupancy, recipient, frozenset(channels), step, now, now, end, HOUR
            )
            if replaces:
                self._consents[replaces] = replace(self._consents[replaces], replaced=now)

        self.at(office(since), told)
        return id_

    def withdraws(self, id_, day):
        """A consent is withdrawn."""

        def told():
            row = NewWithdrawal(id=id_)
            self.house.registry.withdraw([row], *WHO, float(self.house.now))
            self._consents[id_] = replace(self._consents[id_], withdrawn=self.house.now)

        self.at(office(day), told)

    def prints(self, n, day):
        """A consent form is printed for who lives there."""

        def printed():
            now = self.house.now
            (form,) = self.house.registry.print_forms([f"A-{n}"], BOXES, WHO[0], float(now))
            self._forms[n, day] = form.id, self._stays[n][-1].occupancy, now

        self.at(office(day), printed)

    def form_comes(self, n, of, day, *ticks):
        """The form that was printed on day `of` comes back, signed the day after, in a list."""

        def came():
            now, home = self.house.now, self._stays[n][-1].occupancy
            form, occupancy, printed = self._forms[n, of]
            row = NewAnswer(form, ticks, office(of + 1), where=f"list:{n}")
            recorded = self.house.registry.answer(
                [row], *WHO, float(now), self.house.policy, without_effect=[]
            )
            ids = {one.recipient: one.id for one in recorded if one.withdrawn is None}
            if (form, ticks) in self._came:
                return  # the list was brought again
            self._came.add((form, ticks))
            ticked = list(zip(BOXES, ticks, strict=True))
            refused = {box.recipient for box, tick in ticked if tick == "no"}
            unknown = {
                box.recipient
                for box in BOXES
                if any(at > printed for at in self._said_no[occupancy, box.recipient])
            }
            for recipient in refused:
                self._ends_all(occupancy, recipient)
            for box, tick in ticked:
                if tick == "yes" and home == occupancy and box.recipient not in unknown:
                    id_ = ids.get(box.recipient, "none was recorded")
                    for old, one in list(self._consents.items()):
                        theirs = (one.occupancy, one.recipient) == (occupancy, box.recipient)
                        if theirs and one.withdrawn is None and one.replaced is None:
                            self._consents[old] = replace(one, replaced=now)
                    self._consents[id_] = Consent(
                        id_, occupancy, box.recipient, frozenset(box.channels),
                        Step.DAILY if box.step == DAY else Step.LOADCURVE, now, now,
                        now + 2 * 366 * DAY, HOUR,
                    )  # fmt: skip

        self.at(office(day), came)

    def withdraws_from(self, n, recipient, day):
        """The people of dwelling n withdraw all that they agreed to for a recipient."""

        def told():
            row = NewWithdrawal(place=f"A-{n}", recipient=recipient)
            self.house.registry.withdraw([row], *WHO, float(self.house.now))
            self._ends_all(self._stays[n][-1].occupancy, recipient)

        self.at(office(day), told)

    def _ends_all(self, occupancy, recipient):
        now = self.house.now
        self._said_no[occupancy, recipient].append(now)
        for id_, one in self._consents.items():
            theirs = (one.occupancy, one.recipient) == (occupancy, recipient)
            if theirs and one.withdrawn is None:
                self._consents[id_] = replace(one, withdrawn=now)

    def moves(self, n, day, told, back=None):
        """People move out at the midnight of `day`, others in (`back`: later; the same if None)."""

        def out():
            row = NewOccupancy("move_out", f"A-{n}", until=midnight(day))
            self.house.registry.occupy([row], *WHO, float(self.house.now))
            last = self._stays[n][-1]
            self._stays[n][-1] = replace(last, end=midnight(day), end_told=self.house.now)
            if back is None:
                moves_in(day)

        def moves_in(since):
            row = NewOccupancy("move_in", f"A-{n}", since=midnight(since))
            (home,) = self.house.registry.occupy([row], *WHO, float(self.house.now))
            new = Stay(home.id, self.places[n], midnight(since), self.house.now)
            self._stays[n].append(new)

        self.at(office(told), out)
        if back is not None:
            self.at(office(back), lambda: moves_in(back))

    def exchanges(self, n, channel, day, told, *, closing):
        """Another meter takes the place of one, at half past ten."""
        when, new = midnight(day) + 10 * HOUR + HOUR // 2, self._meter(n, channel)

        def fitted():
            self.house.serials[f"{channel}-{n}"] = new

        def said():
            old = self._fitted[n, channel][-1]
            index = {channel: self.register(old.meter, when)} if closing else None
            opening = {channel: self.register(new, when)} if closing else None
            row = NewExchange(
                f"A-{n}", old=old.meter, serial=new, at=when, closing=index, opening=opening
            )
            self.house.registry.exchange([row], *WHO, float(self.house.now))
            self._fitted[n, channel][-1] = replace(old, end=when)
            at = self.house.now
            self._fitted[n, channel].append(
                Fitted(new, self.places[n], channel, when, at, indexed=closing)
            )

        self.at(when, fitted)
        self.at(max(office(told), when + HOUR), said)

    def crosses(self, n, other, channel, day, until):
        """Somebody crosses two lines: each device's name reaches the other dwelling's meter."""

        def cross():
            one, two = f"{channel}-{n}", f"{channel}-{other}"
            serials = self.house.serials
            serials[one], serials[two] = serials[two], serials[one]

        self.at(office(day), cross)
        self.at(office(until), cross)

    def silent(self, n, channel, day, until):
        """A meter does not answer."""
        meter = self._fitted[n, channel][-1].meter
        self._silences.append(Span(meter, office(day), office(until)))

    def unreachable(self, recipient, day, until):
        """A recipient's platform cannot be reached."""
        self._outages.append(Span(recipient, office(day), office(until)))
        self.at(office(day), lambda: self.house.cut.add(recipient))
        self.at(office(until), lambda: self.house.cut.discard(recipient))

    # the year

    async def run(self, days=DAYS, every=1):
        """Let it all happen; the stores are looked after, and emptied, `every` so many days."""
        ends = [*(day for day in RESTARTS if day < days), days]
        for first, last in zip([0, *ends], ends, strict=False):
            self.starts.append(self.house.now)
            async with self.house.open():
                await self._days(first, last, every)
                if last == days:
                    self.house.now = midnight(days)
                    await self.house.tend()

    async def _days(self, first, last, every):
        for hour in range(midnight(first), midnight(last), HOUR):
            await self._happen(hour)
            self.house.now = hour
            await self._read(hour)
            if (hour - BEGIN) % DAY <= 2 * HOUR:  # daily sums close then, whatever the clocks do
                await self.house.add_up()
            if (hour - BEGIN) % (every * DAY) == 5 * HOUR:
                await self.house.tend()

    async def _happen(self, before):
        changed = False
        while self._plan and self._plan[0][0] < before:
            self.house.now, _, what = heapq.heappop(self._plan)
            what()
            changed = True
        if changed:
            await self.house.changed()

    async def _read(self, hour):
        at_midnight = dt.datetime.fromtimestamp(hour, ZONE).hour == 0
        for device, point in self.house.points.items():
            if point.every == HOUR or at_midnight:
                await self.house.read(device, hour)

    def truth(self):
        """What happened."""
        return Truth(
            zone=ZONE,
            begin=BEGIN,
            register=self.register,
            every={
                (self.places[n], channel): HOUR if channel == ELEC and fine else DAY
                for n, fine in self.fine.items()
                for channel in BOTH
            },
            stays=[stay for stays in self._stays.values() for stay in stays],
            fitted=[one for fitted in self._fitted.values() for one in fitted],
            consents=list(self._consents.values()),
            duties=self._duties,
            outages=self._outages,
            silences=self._silences,
            withheld=frozenset(self.withheld),
            flows=frozenset({ELEC}),
            shared=[Shared(PLANT, ELEC, self.house.serials[STAIRS], midnight(4))],
            sums=[
                Summed(name, channel, WHOLE, DAY, BEGIN)
                for name, wanted in self.sums.items()
                for channel in wanted
            ],
            starts=self.starts[1:],
        )


# --- the stories: one dwelling's year each; `d` days later where a story is told again -----------


def agrees_to_days(s, n, d):
    s.gives(n, METRO, Step.DAILY, 3 + d)


def agrees_to_curves(s, n, d):
    s.gives(n, METRO, Step.LOADCURVE, 3 + d, channels=(ELEC,))
    s.gives(n, FLEX, Step.LOADCURVE, 5 + d, channels=(ELEC,))


def agrees_to_months(s, n, d):
    s.gives(n, METRO, Step.MONTHLY, 3 + d)


def agrees_to_nothing(s, n, d):
    s.moves(n, 210 + d, told=200 + d)


def moves_as_told(s, n, d):
    s.gives(n, METRO, Step.DAILY, 3)
    s.moves(n, 100 + d, told=95 + d)
    s.gives(n, METRO, Step.LOADCURVE, 110 + d)


def moves_three_weeks_ago(s, n, d):
    s.gives(n, METRO, Step.LOADCURVE, 3, channels=(ELEC,))
    s.gives(n, SYNDIC, Step.DAILY, 4, channels=(HEAT,))
    s.moves(n, 120 + d, told=141 + d)
    s.gives(n, METRO, Step.DAILY, 150 + d)


def moves_fourteen_months_ago(s, n, d):
    s.gives(n, METRO, Step.DAILY, 3)
    s.moves(n, 20 + d, told=446 + min(d, 7))


def leaves_it_empty(s, n, d):
    s.gives(n, METRO, Step.LOADCURVE, 3)
    s.moves(n, 90 + d, told=91 + d, back=130 + d)
    s.gives(n, METRO, Step.DAILY, 131 + d)


def gets_a_meter(s, n, d):
    s.gives(n, METRO, Step.LOADCURVE, 3, channels=(ELEC,))
    s.gives(n, METRO, Step.DAILY, 3, channels=(HEAT,))
    s.exchanges(n, ELEC, 60 + d, told=60 + d, closing=True)
    s.exchanges(n, HEAT, 61 + d, told=61 + d, closing=True)


def gets_a_meter_unannounced(s, n, d):
    s.gives(n, METRO, Step.LOADCURVE, 3, channels=(ELEC,))
    s.gives(n, METRO, Step.DAILY, 3, channels=(HEAT,))
    s.exchanges(n, ELEC, 70 + d, told=80 + d, closing=False)
    s.exchanges(n, HEAT, 72 + d, told=147 + d, closing=False)


def narrows(s, n, d):
    first = s.gives(n, METRO, Step.LOADCURVE, 3, channels=(ELEC,))
    s.gives(n, METRO, Step.DAILY, 180 + d, channels=(ELEC,), replaces=first)


def withdraws(s, n, d):
    first = s.gives(n, METRO, Step.LOADCURVE, 3)
    s.gives(n, FLEX, Step.LOADCURVE, 3, channels=(ELEC,))
    s.withdraws(first, 200 + d)


def runs_out_in_the_outage(s, n, d):
    s.gives(n, METRO, Step.LOADCURVE, 3, until=midnight(255 + d) + HOUR // 2)


def withdraws_in_the_outage(s, n, d):
    s.withdraws(s.gives(n, METRO, Step.LOADCURVE, 3), 258 + d)


def moves_in_the_outage(s, n, d):
    s.gives(n, METRO, Step.DAILY, 3)
    s.moves(n, 252 + d, told=262 + d)


def runs_out_in_the_long_outage(s, n, d):
    s.gives(n, FLEX, Step.LOADCURVE, 3, channels=(ELEC,), until=midnight(302 + d))


def moves_and_gets_a_meter(s, n, d):
    s.gives(n, METRO, Step.DAILY, 3)
    s.exchanges(n, ELEC, 155 + d, told=163 + d, closing=False)
    s.moves(n, 150 + d, told=171 + d)
    s.gives(n, METRO, Step.LOADCURVE, 175 + d)


def has_a_silent_meter(s, n, d):
    s.gives(n, METRO, Step.LOADCURVE, 3)
    s.silent(n, ELEC, 40 + d, 45 + d)
    s.silent(n, HEAT, 40 + d, 45 + d)


def has_crossed_lines(s, n, d):
    s.gives(n, METRO, Step.DAILY, 3)
    s.crosses(n, n - 1, HEAT, 30 + d, 52 + d)


def withdraws_and_comes_back(s, n, d):
    s.withdraws(s.gives(n, METRO, Step.DAILY, 3), 33 + d)
    s.gives(n, METRO, Step.MONTHLY, 90 + d)


def signs_a_form(s, n, d):
    s.prints(n, 8 + d)
    s.form_comes(n, 8 + d, 20 + d, "yes", "yes")


def brings_the_form_of_those_before(s, n, d):
    s.prints(n, 10 + d)
    s.moves(n, 40 + d, told=38 + d)
    s.form_comes(n, 10 + d, 60 + d, "yes", "yes")
    s.prints(n, 70 + d)
    s.form_comes(n, 70 + d, 80 + d, "yes", "no")


def withdraws_and_an_old_form_comes(s, n, d):
    s.prints(n, 12 + d)
    s.form_comes(n, 12 + d, 15 + d, "yes", "no")
    s.prints(n, 100 + d)
    s.withdraws_from(n, METRO, 120 + d)
    s.form_comes(n, 100 + d, 140 + d, "yes", "yes")
    s.form_comes(n, 12 + d, 150 + d, "yes", "no")
    s.form_comes(n, 100 + d, 160 + d, "yes", "yes")
    s.prints(n, 200 + d)
    s.form_comes(n, 200 + d, 215 + d, "yes", "yes")


def refuses_on_paper(s, n, d):
    s.gives(n, METRO, Step.DAILY, 3)
    s.prints(n, 9 + d)
    s.form_comes(n, 9 + d, 111 + d, "no", "no")


STORIES = (
    agrees_to_days, agrees_to_curves, agrees_to_months, agrees_to_nothing, moves_as_told,
    moves_three_weeks_ago, moves_fourteen_months_ago, leaves_it_empty, gets_a_meter,
    gets_a_meter_unannounced, narrows, withdraws, runs_out_in_the_outage, withdraws_in_the_outage,
    moves_in_the_outage, runs_out_in_the_long_outage, moves_and_gets_a_meter, has_a_silent_meter,
    has_crossed_lines, withdraws_and_comes_back, signs_a_form, brings_the_form_of_those_before,
    withdraws_and_an_old_form_comes, refuses_on_paper,
)  # fmt: skip
FINE = {
    agrees_to_curves, moves_as_told, moves_three_weeks_ago, leaves_it_empty, gets_a_meter,
    gets_a_meter_unannounced, narrows, withdraws, runs_out_in_the_outage, withdraws_in_the_outage,
    runs_out_in_the_long_outage, moves_and_gets_a_meter, has_a_silent_meter, signs_a_form,
    withdraws_and_an_old_form_comes,
}  # fmt: skip
"""stories of which the electricity is read every hour where there is time for it"""
