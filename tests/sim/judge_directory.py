"""Directories and what they leave open (CONSERVATION, SENT): W rows, a duty's indexes, sums.

Which clauses, and what each check lets pass: tests.sim.judge.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

from tests.sim.facts import (
    DAY,
    MONTH,
    NEVER,
    SETTLES,
    Answer,
    Basis,
    Batch,
    Facts,
    Fitted,
    Held,
    Row,
    Stay,
    expanded,
    second,
)
from tests.sim.finding import Finding

FEWEST = 11
"""rule S5, unless configured otherwise"""
SEALED = 5.0
"""seconds by which the time that a batch states may be before the end of its making"""
SHARE = Decimal("0.6")
"""of the day's consumption, beyond doubt more than the half of rule S6"""
NAMED = ("places", "occupancies", "bases", "installations", "series")


def judged(facts: Facts) -> Iterator[Finding]:
    """All findings about directories, withheld rows, a duty's indexes, and sums."""
    epochs: dict[tuple[str, str], list[Batch]] = defaultdict(list)
    for batch in facts.batches.values():
        epochs[batch.recipient, batch.epoch].append(batch)
        yield from _names(facts, batch)
        yield from _of_rows(facts, batch)
    yield from _duties(facts)
    for batches in epochs.values():
        in_order = sorted(batches, key=lambda batch: batch.seq)
        yield from _told_before(in_order)
        yield from _ended(facts, in_order)
    for recipient, platform in facts.platforms.items():
        sums = [held for held in platform.rows if held.row.basis == "rest"]
        for held in sums:
            yield from _sum(facts, recipient, held)


# T21, T33: a row comes after what it refers to


def _told_before(batches: list[Batch]) -> Iterator[Finding]:
    told: dict[str, set[str]] = defaultdict(set)
    for batch in batches:
        for name in NAMED:
            for item in batch.directory.get(name, ()):
                told[name].add(str(item.get("id")) if name != "series" else _series(item))
                if name == "bases" and "duty" in item:
                    told["duties"].add(str(item.get("id")))
                if name == "installations":
                    told["meters"].add(str(item.get("meter")))
        for row in batch.rows:
            missing = _untold(told, row)
            if missing is not None:
                text = f"{row.slot} of {batch.id} names {missing}, of which nothing was said before"
                yield Finding("CONSERVATION", "T21", text, batch.sent[0][0], (batch.index,))
                return


def _series(item: Mapping[str, Any]) -> str:
    return f"{item['place']}/{item['channel']}/{item['kind']}/{item['step']}"


def _untold(told: Mapping[str, set[str]], row: Row) -> str | None:
    if row.q == "W":  # of what is withheld the directory says nothing
        return None
    # the index of a move is no slot, so it is in no series (rule T21)
    slotted = row.step and not (row.step == DAY and _of_a_duty(told, row))
    if row.place not in told["places"]:
        return f"the place {row.place}"
    if row.basis not in told["bases"]:
        return f"the basis {row.basis}"
    if row.occupancy and row.occupancy not in told["occupancies"]:
        return f"the occupancy {row.occupancy}"
    if row.place[:1] == "D" and row.meter and row.meter not in told["meters"]:
        return f"the meter {row.meter}"
    series = f"{row.place}/{row.channel}/{row.kind}/{row.step}"
    return f"the series {series}" if slotted and series not in told["series"] else None


def _of_a_duty(told: Mapping[str, set[str]], row: Row) -> bool:
    return row.basis in told["duties"]


# T34: nobody receives an item because it has ended


def _ended(facts: Facts, batches: list[Batch]) -> Iterator[Finding]:
    told: set[str] = set()
    for batch in batches:
        at = batch.sent[0][0]
        sealed = second(batch.created) - facts.apart(at) if batch.created else at
        for name in ("occupancies", "bases"):
            for item in batch.directory.get(name, ()):
                id_ = str(item["id"])
                bases = [
                    basis
                    for basis in facts.bases.values()
                    if basis.recipient == batch.recipient
                    and (basis.kind == "duty" or id_ in {basis.id, basis.occupancy})
                ]
                late = bases and all(basis.gone + SEALED < sealed for basis in bases)
                # a duty whose answer was lost may be recorded, and tells of all people
                unheard = name == "occupancies" and facts.unheard(at, batch.recipient)
                if late and id_ not in told and not unheard:
                    text = f"{batch.recipient} is told of {id_} first when all of it is withdrawn"
                    yield Finding("SENT", "T34", text, at, (batch.index,))
                    return
                told.add(id_)


# P21: nobody is told of a dwelling without a basis on it


def _names(facts: Facts, batch: Batch) -> Iterator[Finding]:
    if facts.building.get("withheld") or facts.unheard(batch.sent[0][0], batch.recipient):
        return
    at = batch.sent[0][0]
    bases = [
        basis
        for basis in facts.bases.values()
        if basis.recipient == batch.recipient and basis.asked <= at
    ]
    for name in NAMED:
        for item in batch.directory.get(name, ()):
            place = str(item.get("id") if name == "places" else item.get("place") or "")
            if place[:1] == "D" and not any(basis.place in ("", place) for basis in bases):
                text = f"{batch.recipient} is told of {place} ({name}) without a basis on it"
                yield Finding("SENT", "P21", text, at, (batch.index,))
                return


# P9: what a duty gives; P20: what a W row says


def _of_rows(facts: Facts, batch: Batch) -> Iterator[Finding]:
    at = batch.sent[0][0]
    for row in expanded(batch.rows):
        basis = facts.bases.get(row.basis)
        if row.q == "W" and row.place[:1] == "D":
            text = _tells_too_much(facts, batch, row)
            clause = "P20"
        else:
            text = _beyond_a_duty(facts, row) if basis and basis.kind == "duty" else None
            clause = "P9"
        if text is not None:
            yield Finding("SENT", clause, f"{row.slot}: {text}", at, (batch.index,))
            return


def _tells_too_much(facts: Facts, batch: Batch, row: Row) -> str | None:
    """P20: who never had a basis on a dwelling is not told whether somebody lives there."""
    at = batch.sent[0][0]
    if row.why == "consent" or facts.unheard(at, batch.recipient):
        return None
    had = any(
        basis.recipient == batch.recipient and basis.asked <= at and basis.place in ("", row.place)
        for basis in facts.bases.values()
    )
    return None if had else f"{batch.recipient}, without any basis on it, is told {row.why!r}"


def _beyond_a_duty(facts: Facts, row: Row) -> str | None:
    """P9: the index of each month's end, and of 00:00 on the day of a change of occupants."""
    if row.kind != "REG":
        return f"{row.kind} on a duty"
    moved = {facts.midnight_before(at) for at in _moves(facts, row.place)}
    if row.step in (0, MONTH) or (row.step == DAY and row.t in moved):
        return None
    return "no month's end, and nobody moved then"


def _moves(facts: Facts, place: str) -> set[float]:
    """When people moved in or out, as somebody has stated, whatever was recorded."""
    return {
        float(fact["at"])
        for _, _, fact, _ in facts.stated
        if fact["fact"] in ("leave", "enter") and fact["place"] == place
    }


def _duties(facts: Facts) -> Iterator[Finding]:
    """P9, P10: the manager has the index of 00:00 on each day on which people who lived there then
    moved out, however late that was recorded, if the meter told it in a calm time."""
    last = facts.end - SETTLES
    for basis in facts.bases.values():
        if basis.kind != "duty" or basis.known is None or basis.ended < NEVER:
            continue
        if min(facts.removed_from(basis.recipient), facts.refused_from(basis.recipient)) < NEVER:
            continue
        for stay in facts.stays:
            recorded = max(stay.until_known or NEVER, basis.known)
            t = facts.midnight_before(stay.until)
            if recorded < last and t is not None and _in_time(basis, stay, t):
                yield from _index_of(facts, basis, stay.place, t)


def _in_time(basis: Basis, stay: Stay, t: int) -> bool:
    lived = t == stay.until or stay.since <= t
    return lived and max(basis.since, basis.known or NEVER) < t and stay.until < basis.until


def _index_of(facts: Facts, basis: Basis, place: str, t: int) -> Iterator[Finding]:
    for fitted in facts.fitted:
        if fitted.place != place or fitted.channel not in basis.channels or not fitted.reports:
            continue
        if not fitted.since < t < min(fitted.until, fitted.until_asked) or fitted.known is None:
            continue
        answers = facts.answers.get((fitted.meter, fitted.channel), ())
        until = min(facts.read_until(fitted, DAY, t)[0], t + 3600)
        good = next((one for one in answers if t <= one.wall < until), None)
        if good is None or _disturbed(facts, t - 1800, good.at + 120):
            continue
        slot = (place, fitted.channel, "REG", DAY, t)
        rows = facts.platforms[basis.recipient].slots.get(slot, ())
        if not any(held.row.v is not None for held in rows):
            text = f"{basis.recipient} has no index for {slot}, owed on the duty {basis.id}"
            yield Finding("CONSERVATION", "P9", text, t, (basis.index,))


def _disturbed(facts: Facts, since: float, until: float) -> bool:
    """Whether something but people changes what is read and kept in this time."""
    faults = facts.during(since, until, "disk", "device", "line", "exchange", "reload", "upgrade")
    return bool(faults) or facts.down(since, until) or facts.clock_doubted(since, until)


# S: sums over dwellings


def _sum(facts: Facts, recipient: str, held: Held) -> Iterator[Finding]:
    row = held.row
    channels = (facts.building.get("sums") or {}).get(recipient, ())
    if row.channel not in channels:
        text = f"a sum of {row.channel} that {recipient} has not asked for"
        yield Finding("SENT", "S1", text, held.at, (held.batch.index,))
    if row.q in "MW" or facts.clock_doubted_from < NEVER:
        return
    group = _Group(facts, recipient, row)
    for clause, text in group.wrong(int(facts.building.get("fewest") or FEWEST)):
        yield Finding("SENT", clause, f"{row.slot}: {text}", held.at, (held.batch.index,))
    total = _total(facts, row)
    if total is not None and Decimal(row.v or 0) > total:
        text = f"{row.slot}: {row.v}, but all dwellings used {total}"
        yield Finding("CONSERVATION", "S7", text, held.at, (held.batch.index,))


class _Group:
    """The dwellings that a sum may be of, and those that it must be of."""

    def __init__(self, facts: Facts, recipient: str, row: Row) -> None:
        self._facts, self._recipient, self._row = facts, recipient, row
        self.n, self._begin = row.n or 0, _group_begin(facts, row.t)
        metered = {
            one.place: one
            for one in facts.fitted
            if one.channel == row.channel and one.place[:1] == "D"
        }
        members = {place for place in metered if self._member(place)}
        self.members = {place for place in members if self._surely_member(place)}
        self.most = {place for place in members if not self._vacant(place)}
        self.least = {
            place
            for place in self.most & self.members
            if self._lived_in(place) and self._read(metered[place])
        }

    def _bases(self, place: str) -> Iterator[Basis]:
        for basis in self._facts.bases.values():
            mine = basis.recipient == self._recipient and basis.place in ("", place)
            if mine and self._row.channel in basis.channels:
                yield basis

    def _stays(self, place: str) -> list[Stay]:
        return [stay for stay in self._facts.stays if stay.place == place]

    def _member(self, place: str) -> bool:
        """S3: it may belong to the group, by what was recorded when that was fixed."""
        begin = self._begin
        left = {stay.id for stay in self._stays(place) if stay.until <= begin}
        alone = any(
            basis.known is not None
            and max(basis.known, basis.since) < begin < min(basis.until, basis.gone, basis.ended)
            and basis.occupancy not in left
            for basis in self._bases(place)
        )
        lived_in = any(
            stay.since <= begin and (begin < stay.until or (stay.until_known or NEVER) > begin)
            for stay in self._stays(place)
        )
        return lived_in and not alone

    def _surely_member(self, place: str) -> bool:
        """Whether it belongs to the group beyond doubt; an end that was recorded later is none."""
        begin = self._begin
        alone = any(min(basis.asked, basis.since) < begin + 60 for basis in self._bases(place))
        return not alone and any(
            stay.known is not None
            and max(stay.known, stay.since) < begin - 60
            and stay.until_asked > begin + 60
            and (stay.until_known is None or stay.until_known > begin + 60)
            for stay in self._stays(place)
        )

    def _vacant(self, place: str) -> bool:
        """S8: nobody lived there at the end of the slot, as was recorded by then."""
        t = self._row.t - 1
        return not any(
            stay.since <= t and (t < stay.until or (stay.until_known or NEVER) > t)
            for stay in self._stays(place)
        )

    def _lived_in(self, place: str) -> bool:
        t = self._row.t - 1
        return any(
            stay.known is not None
            and max(stay.known, stay.since) <= t - 60
            and t < min(stay.until, stay.until_asked) - 60
            for stay in self._stays(place)
        )

    def _read(self, fitted: Fitted) -> bool:
        """Whether one life read its meter at both ends, when nothing was wrong. A value after an
        odd one may be suspect, which no sum uses (rule M5).
        """
        since, until = self._row.t - self._row.step, self._row.t
        answers = self._facts.answers.get((fitted.meter, fitted.channel), ())
        good = [
            one.wall
            for before, one in pairwise((None, *answers))
            if not one.odd and not (before and before.odd)
        ]
        both = all(any(t <= wall < t + 30 for wall in good) for t in (since, until))
        return both and not _disturbed(self._facts, since - 1800, until + 120)

    def _apart(self) -> set[str]:
        """S4: those that were sent alone since the group began, whatever was taken back since."""
        sent = set()
        for batch in self._facts.batches.values():
            if batch.recipient == self._recipient and batch.sent[0][0] < self._row.t:
                for one in batch.rows:
                    if one.channel == self._row.channel and one.q != "W" and one.t > self._begin:
                        sent.add(one.place)
        return sent

    def wrong(self, fewest: int) -> Iterator[tuple[str, str]]:
        n, apart = self.n, self._apart() & self.most
        if n > len(self.most):
            yield "S3", f"{n} dwellings, but no more than {len(self.most)} can be in it"
        if n < len(self.least):
            yield "S3", f"{n} dwellings, but {len(self.least)} of the group were read"
        counted = n - max(0, len(apart) - max(0, len(self.most) - n))
        if counted < fewest:
            yield "S5", f"{n} dwellings, of which {counted} count"
        if n < Decimal("0.8") * len(self.members):
            yield "S5", f"{n} of a group of {len(self.members)}"
        if (share := self._largest_share()) > SHARE:
            yield "S6", f"one dwelling used {share:.2f} of all of the day"

    def _largest_share(self) -> Decimal:
        """S6: what one dwelling, which counts, used of all of the day."""
        row, facts = self._row, self._facts
        ready = max((life.ready for life in facts.lives if life.ready < row.t), default=0.0)
        since = int(max(row.t - DAY, ready + row.step))
        since += -since % row.step
        used: dict[str, Decimal] = defaultdict(Decimal)
        for one in facts.fitted:
            if one.channel == row.channel and one.place in self.most:
                used[one.place] += _known(facts, one, since, row)
        whole = sum(used.values(), Decimal(0))
        counted = [one for place, one in used.items() if not any(self._bases(place))]
        return max(counted, default=Decimal(0)) / whole if whole else Decimal(0)


def _group_begin(facts: Facts, t: int) -> int:
    """00:00 of the 1st, or of the first midnight that the agent has seen (rule S3)."""
    firsts = [first for first in sorted(facts.firsts) if first < t]
    seen = (
        midnight
        for midnight in facts.midnights
        if any(life.begin < midnight < life.end for life in facts.lives)
    )
    return max(firsts[-1] if firsts else 0, next(seen, t))


def _total(facts: Facts, row: Row) -> Decimal | None:
    """What all meters of the channel counted in a step; None: not known of some."""
    total = Decimal(0)
    for fitted in facts.fitted:
        if fitted.channel != row.channel or fitted.place[:1] != "D":
            continue
        used = _used(facts, fitted, row.t - row.step, row.t)
        if used is None:
            return None
        total += used
    return total


def _known(facts: Facts, fitted: Fitted, since: int, row: Row) -> Decimal:
    """What is known of what was used until a slot: over each step of which both ends have a value
    that is not suspect (rule M5).
    """
    first: dict[int, Answer] = {}
    for one in facts.answers.get((fitted.meter, fitted.channel), ()):
        first.setdefault(int(one.wall // row.step) * row.step, one)
    used = Decimal(0)
    for t in range(since, row.t, row.step):
        ends = first.get(t), first.get(t + row.step)
        if ends[0] and ends[1] and not (ends[0].odd or ends[1].odd):
            used += max(Decimal(0), ends[1].value - ends[0].value)
    return used * fitted.multiplier


def _used(facts: Facts, fitted: Fitted, since: int, until: int) -> Decimal | None:
    answers = facts.answers.get((fitted.meter, fitted.channel), [])
    walls = [answer.wall for answer in answers]
    values = []
    for t in (since, until):
        low = bisect_left(walls, t)
        if low == len(walls) or walls[low] > t + min(until - since, DAY):
            return None
        if answers[low].odd:
            return None
        values.append(answers[low].value)
    return max(Decimal(0), values[1] - values[0]) * fitted.multiplier
