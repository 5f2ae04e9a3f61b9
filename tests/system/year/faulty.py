"""Registries with one fault each: what the checker has to notice before its word counts."""

from __future__ import annotations

from dataclasses import replace

from agent.acquisition.sums import Sums
from agent.registry.aggregate import formed
from agent.registry.registry import Registry


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
