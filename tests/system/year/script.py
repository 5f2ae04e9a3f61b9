"""What happens in the building, told to the gateway through its registry, and kept as the truth.

A dwelling has a story. What is told is told in the middle of an hour, so that no reading falls on
it.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
from dataclasses import replace
from decimal import Decimal
from zoneinfo import ZoneInfo

from agent.core.model import Point
from agent.registry.consent_policy import CommonBasis
from agent.registry.inputs import (
    NewConsent,
    NewDuty,
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
HOUR = 3600
MONTH = 30 * DAY
ELEC, HEAT = "elec.imp", "heat"
BOTH = (ELEC, HEAT)
METRO, FLEX, SYNDIC = "energie.metropole.example", "flex.example", "syndic.example"
PLANT, WHOLE, STAIRS = "CZS2YFSTBQQ5WDC", "B6ASQZ1Y2KSAA3Y", "stairs"
STEPS = {Step.MONTHLY: MONTH, Step.DAILY: DAY, Step.LOADCURVE: HOUR}
WHO = ("the manager", "a script")


def midnight(day):
    """Midnight of the building at which that day of the script begins."""
    return int((FIRST + dt.timedelta(days=day)).timestamp())


def office(day):
    """When something of that day is told."""
    return midnight(day) + 9 * HOUR + HOUR // 2


BEGIN = midnight(0)


class Script:
    """The days: every method is something that happens, now or when its day comes."""

    def __init__(self, folder, stories, registry=Registry, fine=(), **more):
        """`fine`: the stories in whose dwellings electricity is read every hour; `sums` by
        recipient; `withheld`: who wants to know what is held back; `adder`: how sums are made.
        """
        self._plan, self._order = [], itertools.count()
        self._first, self._rate = {}, {}
        self._stays, self._fitted, self._consents, self._duties = {}, {}, {}, {}
        self._silences, self._outages = [], []
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
            story(self, n)

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

    def silent(self, n, channel, day, until):
        """A meter does not answer."""
        meter = self._fitted[n, channel][-1].meter
        self._silences.append(Span(meter, office(day), office(until)))

    # the days

    async def run(self, days):
        """Let it all happen; the stores are looked after, and emptied, every day."""
        self.starts.append(self.house.now)
        async with self.house.open():
            await self._days(days)
            self.house.now = midnight(days)
            await self.house.tend()

    async def _days(self, days):
        for hour in range(BEGIN, midnight(days), HOUR):
            await self._happen(hour)
            self.house.now = hour
            await self._read(hour)
            if (hour - BEGIN) % DAY <= 2 * HOUR:  # daily sums close then, whatever the clocks do
                await self.house.add_up()
            if (hour - BEGIN) % DAY == 5 * HOUR:
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
