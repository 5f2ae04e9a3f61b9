"""Registries with one fault each: what the checker has to notice before its word counts."""

from __future__ import annotations

from dataclasses import replace

from agent.acquisition.sums import Sums
from agent.registry.aggregate import formed
from agent.registry.records import covers
from agent.registry.registry import Registry
from tests.system.year.truth import DAY


class ForgetsTheEnd(Registry):
    """A consent that ran out, or was narrowed, goes on."""

    def consents_of(self, occupancy, recipient):
        found = super().consents_of(occupancy, recipient)
        return [replace(one, until=one.until + 3000 * DAY) for one in found]


class ForgetsTheStep(Registry):
    """Whoever allows days allows hours."""

    def consents_of(self, occupancy, recipient):
        return [replace(one, step=600) for one in super().consents_of(occupancy, recipient)]


class ForgetsWhoMovedOut(Registry):
    """The first people who ever lived there live there for ever."""

    def occupancies_of(self, place):
        return [replace(one, until=None) for one in super().occupancies_of(place)[:1]]

    def occupancy_at(self, place, t):
        return next((one for one in self.occupancies_of(place) if covers(one, t)), None)

    def effects(self, after, closed=0):
        return _without("moved", super().effects(after, closed))


class KeepsWhatWasTheirs(Registry):
    """A late notice of a move takes nothing back."""

    def effects(self, after, closed=0):
        return _without("moved", super().effects(after, closed))


class KeepsWhatIsWithdrawn(Registry):
    """A withdrawal ends a consent and takes nothing back."""

    def effects(self, after, closed=0):
        return _without("withdrawn", super().effects(after, closed))


class BelievesTheDevice(Registry):
    """A device measures the dwelling that it always did, whichever meter answers."""

    def whose(self, device, serial, channel, t):  # noqa: ARG002
        first = self.place(f"A-{device.rsplit('-', 1)[1]}")
        meters = [one for one in self.meters_of(first.id) if one.channel == channel]
        return next((one for one in meters if covers(one, t)), meters[-1])

    def effects(self, after, closed=0):
        return _without("exchanged", super().effects(after, closed))


class ForgetsTheConsent(Registry):
    """Nobody ever agreed to anything."""

    def consents_of(self, occupancy, recipient):  # noqa: ARG002
        return ()


def _without(reason, changes):
    return [(revision, tuple(one for one in taken if one.reason != reason))
            for revision, taken in changes]  # fmt: skip


class ForgetsTheClosing(Registry):
    """Of an exchange the old meter's closing index is forgotten."""

    def meters_of(self, place):
        return [replace(one, closed=()) for one in super().meters_of(place)]


class ForgetsToWhomTheyAgreed(Registry):
    """Whatever was agreed to with one recipient was to be everybody's."""

    def ever_agreed(self, place, recipient):  # noqa: ARG002
        homes = {home.id for home in self.occupancies_of(place)}
        return [one for one in self.consents() if one.occupancy in homes]


class ForgetsWhoLivedThere(Registry):
    """Where nobody lives nobody ever did."""

    def lived_in_before(self, place, t):  # noqa: ARG002
        return False


class ForgetsWhoIsSentAlone(Registry):
    """Whoever is sent one by one goes on counting in the sum."""

    def ever_agreed(self, place, recipient):  # noqa: ARG002
        return ()


class TellsOfFew(Sums):
    """A sum of any two leaves."""

    def close(self, asked, now):
        return super().close(replace(asked, fewest=2), now)


class ChangesItsGroup(Sums):
    """The group is that of the hour, not of the month."""

    def _form(self, asked, channel, now):
        super()._form(asked, channel, now)
        if groups := self.groups.of(channel):
            last, measured = groups[-1], self.measured(asked, channel, int(now))
            made = formed(self.registry, measured, channel, int(now), last.until, self.recipient)
            self.groups.add(channel, replace(last, members=made.members))


class ScalesUp(Sums):
    """Who is missing is thought to use what the others do."""

    def _row(self, asked, channel, step, slot, group):
        row = super()._row(asked, channel, step, slot, group)
        if row is None or row.value is None:
            return row
        return replace(row, value=row.value * len(group.members) / row.n, n=len(group.members))


class CountsItsGroup(Sums):
    """A sum is said to be of the whole group, though somebody was silent."""

    def _row(self, asked, channel, step, slot, group):
        row = super()._row(asked, channel, step, slot, group)
        return row if row is None or row.value is None else replace(row, n=len(group.members))
