"""Checks of places and of their aliases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import _
from agent.registry import parsers
from agent.registry.admission import admit_rows, claim, current_claims, label_and_id, new_id
from agent.registry.facts.place import particulars
from agent.registry.labels import Cardinality, label_key, scheme, value_of
from agent.registry.place import OCCUPANCY, agrees, mint, parse, shown, squeeze
from agent.registry.records import Alias, Occupancy, Place, covers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.registry.admission import Author
    from agent.registry.index import RegistryIndex
    from agent.registry.inputs import NewAlias, NewPlace
    from agent.registry.labels import Scheme
    from agent.registry.records import Document


def admit_places(
    index: RegistryIndex, rows: Sequence[NewPlace], author: Author, lots: Sequence[NewAlias] = ()
) -> list[Document]:
    """Documents for places, and for each dwelling an occupancy that begins at `since`.

    `lots` are aliases of these or of recorded places. A row of a list whose content is recorded
    already yields no document; a row with other particulars of a recorded place changes them.
    """
    labels, ids = dict[str, str](), dict[str, str]()  # of the rows before

    def who_moved_in(known: Place | None) -> str:
        if known is None or known.type != "dwelling":
            return ""
        homes = [one for one in index.occupancies_of(known.id) if one.since != one.until]
        if not homes:
            return _("; to record its occupants: gardien occupancy import, or move-in")
        return _(
            "; its occupants are recorded since {since}. If that date is wrong: gardien"
            " occupancy correct {label} --id {id} --since DATE. If others moved in: gardien"
            " occupancy move-out, then move-in. Then leave `since` of this row empty",
            since=stamp(homes[-1].since),
            label=known.label,
            id=shown(homes[-1].id),
        )

    changed: dict[str, Place] = {}

    def admit(row: NewPlace) -> Iterator[Document]:
        label = " ".join(parsers.text(row.label, "label", parsers.LONGEST_LABEL).split())
        # a label that is a valid id could not be told from the place with that id
        if agrees(squeeze(label)):
            raise Refused(f'label: "{label}" is an id; a label is what people call the place')
        prefix = parsers.prefix(row.type)
        place = parse(row.id, prefix) if row.id else mint(prefix)
        new = Place(place, label, author.provenance(row.where), **particulars(row))
        known_place = index.labels.by_label.get(label_key(label))
        if known_place is not None and _place_again(index, row, known_place, new):
            yield from _restated(known_place, new, changed)
            return
        origin = f'"{label}" of {row.where or "this call"}'
        for there, known, key in (
            (index.labels.by_label, labels, label_key(label)),
            (index.places, ids, place),
        ):
            if key in there or key in known:
                raise Refused(
                    _(
                        '"{label}" exists already: {known}{more}',
                        label=label,
                        known=label_and_id(there[key]) if key in there else known[key],
                        more=who_moved_in(known_place),
                    )
                )
        labels[label_key(label)] = ids[place] = origin
        yield new
        if prefix == "D" and row.occupied:
            since = author.since(row.since)
            yield Occupancy(mint(OCCUPANCY), place, since, None, author.provenance(row.where))

    places = admit_rows(rows, admit)
    # a lot may belong to a place of the same list
    return [*places, *admit_aliases(index.and_with(places), lots, author)] if lots else places


def _restated(known: Place, new: Place, changed: dict[str, Place]) -> Iterator[Place]:
    """The recorded place with other particulars, if a row states any; `changed`: those of earlier
    rows. Raises Refused if two rows contradict each other.
    """
    # an empty cell contradicts nothing
    stated = {name: value for name, value in particulars(new).items() if value is not None}
    before = changed.get(known.id, known)
    if particulars(before) == particulars(before) | stated:
        return
    if before is not known:
        names = ", ".join(stated)
        raise Refused(f"{names}: {label_and_id(known)} has another one in {before.word.source}")
    changed[known.id] = replace(known, word=new.word, **stated)
    yield changed[known.id]


def admit_aliases(index: RegistryIndex, rows: Sequence[NewAlias], author: Author) -> list[Document]:
    """Documents for aliases, ends first. An alias is refused if another place has it, or if the
    place may have only one; the message names both.
    """
    claims = current_claims(index)

    def admit(row: NewAlias) -> Iterator[Document]:
        place = _place_of(index, row)
        known = scheme(row.scheme)
        if row.ends:
            yield claim(claims, _ended(index, place, known, row, author))
            return
        since = author.since(row.since)
        if row.until is not None and row.until <= since:
            raise Refused("until: it is not after since")
        alias = Alias(
            id=new_id(),
            place=place.id,
            scheme=known.name,
            value=value_of(known, row.value),
            since=since,
            until=row.until,
            word=author.provenance(row.where),
            note=row.note.strip()[: parsers.LONGEST_LABEL],
        )
        # a list that is imported again repeats recorded aliases: they are no error
        shared = known.names is Cardinality.SHARED
        known_as = (
            index.aliases_of(place.id)
            if shared
            else index.aliases_meaning(alias.scheme, alias.value)
        )
        stated = (alias.place, alias.scheme, alias.value)
        if not any(
            (one.place, one.scheme, one.value) == stated and covers(one, alias.since)
            for one in known_as
        ):
            yield claim(claims, alias)

    return admit_rows(rows, admit, lambda row: row.ends)


def _place_of(index: RegistryIndex, row: NewAlias) -> Place:
    try:
        return index.labels.find(row.place)
    except Refused as error:
        if not row.part:
            raise
        raise Refused(
            f"{error}; a {row.part} belongs to a dwelling: write that dwelling's label here"
        ) from error


def _ended(
    index: RegistryIndex, place: Place, known: Scheme, row: NewAlias, author: Author
) -> Alias:
    value = value_of(known, row.value) if row.value else None
    at = author.since(row.until)
    meant = [
        alias
        for alias in index.aliases_of(place.id)
        if alias.scheme == known.name
        and value in (None, alias.value)
        and alias.since <= at
        and (alias.until is None or at < alias.until)
    ]
    if len(meant) != 1:
        which = ", ".join(alias.value for alias in meant)
        problem = f"name one of them: {which}" if meant else "it has none in force then"
        raise Refused(f"{label_and_id(place)}, {known.title}: {problem}")
    return replace(meant[0], until=at, word=author.provenance(row.where))


def _place_again(index: RegistryIndex, row: NewPlace, known: Place | None, new: Place) -> bool:
    """Whether a row states the recorded place with this label."""
    if not row.where or known is None or known.type != new.type:
        return False
    if row.id and known.id != new.id:
        return False
    homes = index.occupancies_of(known.id)
    return row.since is None or any(home.since == row.since for home in homes)
