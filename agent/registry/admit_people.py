"""Checks of notices about who lives where: moves, corrections, leases."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import N_, Text
from agent.registry import parsers
from agent.registry.admission import (
    admit_rows,
    claim,
    current_claims,
    dwelling,
    in_order,
    label_and_id,
    place_of,
)
from agent.registry.dates import sane
from agent.registry.doubts import backdated_doubts, date_doubts, unlikely_lease_end, unlikely_move
from agent.registry.place import OCCUPANCY, mint, parse, shown
from agent.registry.records import Occupancy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.registry.admission import Author, Conflicts
    from agent.registry.doubts import DoubtfulValue
    from agent.registry.index import RegistryIndex
    from agent.registry.inputs import NewOccupancy
    from agent.registry.records import Consent, Document


def admit_occupancies(
    index: RegistryIndex, rows: Sequence[NewOccupancy], author: Author
) -> list[Document]:
    """Documents for notices. Ends are admitted before beginnings, whatever their order in the list.

    Two occupancies of one dwelling that overlap are refused, naming both.
    """
    notices = _Notices(index, author)
    events = {
        "move_in": notices.move_in,
        "move_out": notices.move_out,
        "correct": notices.correct,
        "lease": notices.lease,
    }

    def admit(row: NewOccupancy) -> Iterator[Document]:
        if row.event not in events:
            raise Refused(
                'event: "{event}" is not one of {names}', event=row.event, names=", ".join(events)
            )
        yield from events[row.event](row)

    def doubts(row: NewOccupancy, made: Sequence[Document]) -> Iterator[DoubtfulValue]:
        for home in made:
            if isinstance(home, Occupancy):
                yield from _date_doubts(index, row, home, author.now)

    return in_order(admit_rows(rows, admit, notices.ends_something, doubts))


def _date_doubts(
    index: RegistryIndex, row: NewOccupancy, home: Occupancy, now: float
) -> Iterator[DoubtfulValue]:
    """Question dates that a notice states and that were not recorded before."""
    label, known = index.places[home.place].label, index.occupancy(home.id)
    if row.since is not None and (known is None or known.since != home.since):
        yield from date_doubts(label, home.since, now, row.where, ahead=unlikely_move)
    if row.until is not None and home.until and (known is None or known.until != home.until):
        # the end of a lease is agreed years ahead, a move out is not
        planned = row.event in {"lease", "move_in"}
        ahead = unlikely_lease_end if planned else unlikely_move
        yield from date_doubts(label, home.until, now, row.where, ahead=ahead)
        if row.event == "move_out":
            yield from backdated_doubts(label, home.until, now, row.where)


class _Notices:
    """The notices of one call; each is checked against the result of those before it."""

    def __init__(self, index: RegistryIndex, author: Author) -> None:
        self._index, self._author = index, author
        self._claims: Conflicts = current_claims(index)
        self._changed_homes: dict[str, Occupancy] = {}
        self._new: dict[str, list[str]] = {}
        """ids of new ones, by place"""

    def _home(self, id_: str) -> Occupancy | None:
        return self._changed_homes.get(id_) or self._index.occupancy(id_)

    def _homes(self, place: str) -> list[Occupancy]:
        """The occupancies of a place, in the order of their recorded dates; new ones last."""
        recorded = self._index.occupancies_of(place)
        homes = [self._changed_homes.get(home.id, home) for home in recorded]
        return [*homes, *(self._changed_homes[id_] for id_ in self._new.get(place, ()))]

    @cached_property
    def _consents(self) -> dict[str, list[Consent]]:
        """Consents that are not withdrawn, by occupancy."""
        consents: dict[str, list[Consent]] = {}
        for consent in self._index.consents:
            if consent.withdrawn is None:
                consents.setdefault(consent.occupancy, []).append(consent)
        return consents

    def ends_something(self, row: NewOccupancy) -> bool:
        """Whether a notice is about an occupancy that is recorded already."""
        # a lease that is recorded may end, so it comes before leases that begin
        if row.event == "lease":
            try:
                return self._adopts(row) is not None
            # the order of a wrong row does not matter: `lease` reports it
            except (Refused, ValueError):
                return True
        return row.event != "move_in"

    def move_in(self, row: NewOccupancy) -> Iterator[Document]:
        """Occupants move in."""
        place = dwelling(self._index, row.place, Text("have occupants"))
        since = self._author.since(row.since)
        id_ = parse(row.id, OCCUPANCY) if row.id else mint(OCCUPANCY)
        if self._home(id_) is not None:
            raise Refused(
                "occupancy {id} is recorded already; correct it, or use another id", id=shown(id_)
            )
        new = Occupancy(
            id_, place.id, since, _after(row.until, since), self._author.provenance(row.where),
            _reference(row),
        )  # fmt: skip
        old = self._claims.against(new)
        if isinstance(old, Occupancy):
            raise self._too_many(old, new, row.where)
        yield self._accept(new)

    def move_out(self, row: NewOccupancy) -> Iterator[Document]:
        """Occupants move out, have moved out, or left earlier than recorded."""
        at = self._author.since(row.until)
        home = self._by_id(row) or self._there_before(row.place, at)
        if at <= home.since or (home.until is not None and home.until < at):
            raise Refused(
                N_(
                    "{place} is occupied by {home}, {period}, so they cannot move out on"
                    " {at}; to change these dates: gardien occupancy correct {label} --id"
                    " {id}"
                ),
                **self._message_values(home),
                at=stamp(at),
            )
        yield self._changed(home, row, home.since, at)

    def correct(self, row: NewOccupancy) -> Iterator[Document]:
        """Other dates than recorded; if both are the same, the occupancy never existed."""
        if row.stays and row.until is not None:
            raise Refused("until: occupants who have not moved out have no end date; leave it out")
        home = (
            self._by_id(row)
            or (self._last(row.place) if row.stays else None)
            or self._there_before(row.place, self._author.since(None))
        )
        if row.stays and not row.id and home.until is None:
            raise Refused(
                N_(
                    "{place} is occupied by {home}, {period}, and their move-out is not"
                    " recorded; to name earlier occupants use --id (gardien occupancy list)"
                ),
                **self._message_values(home),
            )
        since = home.since if row.since is None else sane(row.since)
        until = home.until if row.until is None else sane(row.until)
        if row.stays:
            until = None
        if until is not None and until < since:
            raise Refused(N_("{until} is before {since}"), until=stamp(until), since=stamp(since))
        yield self._changed(home, row, since, until)

    def _too_many(self, old: Occupancy, new: Occupancy, where: str) -> Refused:
        """The error for occupants who move in where others live, and what to do."""
        known = {**self._message_values(old), "who": _recorded(old)}
        if (old.since, old.until, old.reference) == (new.since, new.until, new.reference):
            return Refused(
                N_("{place} is occupied by {home}, {period} ({who}): that is recorded already"),
                **known,
            )
        if old.since > new.since:
            return Refused(
                N_(
                    "{place} is occupied by {home} from {begins} on ({who}), which is later"
                    " than {since}. If these are the same people: gardien occupancy correct"
                    " {label} --id {id} --since DATE. If others live there until then:"
                    " gardien occupancy move-in {label} --since DATE --until {until}"
                ),
                **known,
                begins=stamp(old.since),
                until=f'"{stamp(old.since)}"',
                since=stamp(new.since),
            )
        if where:
            return Refused(
                N_(
                    "{place} is occupied by {home}, {period} ({who}), so nobody else can have"
                    " a lease there {new}; correct one of the two dates: `until` of the first or"
                    " `since` of the second"
                ),
                **known,
                new=_period(new),
            )
        return Refused(
            N_(
                "{place} is occupied by {home}, {period} ({who}), so nobody else can move"
                " in on {since}; record their move-out first: gardien occupancy move-out"
                " {label} --at {at}"
            ),
            **known,
            since=stamp(new.since),
            at=f'"{stamp(new.since)}"',  # a value that is no time alone stays as it is typed
        )

    def _message_values(self, home: Occupancy) -> dict[str, str]:
        """An occupancy and its dwelling, as values for messages."""
        place = self._index.places[home.place]
        return {
            "place": label_and_id(place),
            "label": place.label,
            "id": shown(home.id),
            "home": _id_and_reference(home),
            "period": _period(home),
        }

    def lease(self, row: NewOccupancy) -> Iterator[Document]:
        """A lease as the manager's list states it. It is found by its reference, or else it is new.

        It also takes over an occupancy without a reference that it overlaps: that occupancy is then
        known to belong to this lease.
        """
        home = self._adopts(row)
        if home is None:
            yield from self.move_in(row)
            return
        since = home.since if row.since is None else sane(row.since)
        until = _after(row.until, since) if row.until is not None else home.until
        self._signed_before(home, row, since)
        if (since, until, _reference(row)) != (home.since, home.until, home.reference):
            yield self._changed(home, row, since, until)

    def _signed_before(self, home: Occupancy, row: NewOccupancy, begins: int) -> None:
        """Refuse to merge people who signed a consent with a lease that begins later."""
        # only an occupancy without a reference can be taken over by the wrong lease
        if home.reference is not None or begins <= home.since:
            return
        consents = self._consents.get(home.id, ())
        signed = [one.given_at for one in consents if one.given_at < begins < one.until]
        if signed:
            place = self._index.places[home.place]
            raise Refused(
                N_(
                    "since: {place}: the occupants signed a consent on {signed}, before"
                    " lease {lease} begins on {since}. The consent would count for that"
                    " lease, so nothing was recorded. If others lived there until then:"
                    " gardien occupancy move-out {label} --at DATE. If these are the same"
                    " people: gardien occupancy correct {label} --since DATE"
                ),
                place=label_and_id(place), label=place.label, signed=stamp(min(signed)),
                lease=str(row.reference), since=stamp(begins),
            )  # fmt: skip

    def _adopts(self, row: NewOccupancy) -> Occupancy | None:
        """The recorded occupancy that a lease is about; None: the lease is new."""
        place = dwelling(self._index, row.place, Text("have occupants"))
        reference = _reference(row)
        if reference is None:
            raise Refused("reference: it is missing; a list of leases needs one for each lease")
        homes = self._homes(place.id)
        known = [home for home in homes if home.reference == reference]
        begins = self._author.since(row.since)
        nameless = [
            home
            for home in homes
            if home.reference is None
            and (home.until is None or begins < home.until)
            and (row.until is None or home.since < row.until)
        ]
        # of several none can be chosen: the lease then counts as new, and is refused where it
        # overlaps one of them
        matches = known or nameless
        return matches[0] if len(matches) == 1 else None

    def _by_id(self, row: NewOccupancy) -> Occupancy | None:
        if not row.id:
            return None
        try:
            id_ = parse(row.id, OCCUPANCY)
        except Refused as error:
            raise Refused(
                N_("id: {fault}. To see the ids of occupancies (H…): gardien occupancy list"),
                fault=str(error),
            ) from error
        home = self._home(id_)
        if home is None:
            raise Refused(N_("this registry has no occupancy {id}"), id=shown(id_))
        if row.place and place_of(self._index, row.place).id != home.place:
            raise Refused(
                N_("occupancy {home} is in {place}, {period}, not in {other}"),
                **self._message_values(home),
                other=row.place,
            )
        return home

    def _there_before(self, text: str, at: int) -> Occupancy:
        place = dwelling(self._index, text, Text("have occupants"))
        # latest first: of two that meet at this instant, those who moved in last
        homes = self._homes(place.id)
        for home in reversed(homes):
            if home.since < at and (home.until is None or at <= home.until):
                return home
        message = N_(
            "{place}: no occupants are recorded before {at}; to see who is recorded:"
            " gardien occupancy list {label}"
        )
        if not any(home.until is None or home.since < home.until for home in homes):
            message = N_(
                "{place}: no occupants have ever been recorded, so nobody can move out. The"
                " occupancy stays unknown, and no personal data leave the dwelling, as if"
                " it were vacant. If the dwelling is empty, do nothing. When somebody moves"
                " in: gardien occupancy move-in {label} --since DATE"
            )
        raise Refused(message, place=label_and_id(place), label=place.label, at=stamp(at))

    def _last(self, text: str) -> Occupancy | None:
        """The latest occupancy: the only one that may turn out not to have ended."""
        place = dwelling(self._index, text, Text("have occupants"))
        homes = self._homes(place.id)
        lived = [home for home in homes if home.until is None or home.since < home.until]
        return max(lived, key=lambda home: home.since, default=None)

    def _changed(
        self, home: Occupancy, row: NewOccupancy, since: int, until: int | None
    ) -> Occupancy:
        reference = _reference(row) or home.reference
        provenance = self._author.provenance(row.where)
        return self._accept(
            replace(home, since=since, until=until, reference=reference, word=provenance)
        )

    def _accept(self, home: Occupancy) -> Occupancy:
        other = self._claims.against(home)
        if isinstance(other, Occupancy):
            raise Refused(
                N_(
                    "{place} is occupied by {home}, {period} ({who}), so {new} cannot live"
                    " there, {then}; correct one of the two first: gardien occupancy"
                    " correct {label} --id {id} --since DATE, or --until DATE"
                ),
                **self._message_values(other),
                who=_recorded(other),
                new=_id_and_reference(home),
                then=_period(home),
            )
        claim(self._claims, home)
        if self._home(home.id) is None:
            self._new.setdefault(home.place, []).append(home.id)
        self._changed_homes[home.id] = home
        return home


def _id_and_reference(home: Occupancy) -> str:
    return shown(home.id) + (f" ({home.reference})" if home.reference else "")


def _period(home: Occupancy) -> str:
    until = "…" if home.until is None else stamp(home.until)
    return Text("{since} → {until}", since=stamp(home.since), until=until)


def _recorded(home: Occupancy) -> str:
    """Who recorded an occupancy, when, and from which source."""
    day = date.fromisoformat(stamp(home.word.when)[:10])
    return Text("{who}, {day}, {source}", who=home.word.who, day=day, source=home.word.source)


def _reference(row: NewOccupancy) -> str | None:
    if row.reference is None or not row.reference.strip():
        return None
    return parsers.text(row.reference, "reference", parsers.LONGEST_LABEL)


def _after(until: int | None, since: int) -> int | None:
    if until is None:
        return None
    if sane(until) <= since:
        raise Refused(
            N_("it ends at {until}, which is not after its beginning at {since}"),
            until=stamp(until),
            since=stamp(since),
        )
    return until
