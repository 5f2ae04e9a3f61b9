"""Checks of places, of their aliases, and of the meters in them."""

from __future__ import annotations

import shlex
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import Text, text_of
from agent.core.quantities import channels
from agent.registry import parsers
from agent.registry.admission import (
    admit_rows,
    claim,
    current_claims,
    in_order,
    label_and_id,
    new_id,
    place_of,
)
from agent.registry.doubts import (
    AliasDoubts,
    LabelDoubts,
    LastReading,
    SerialDoubts,
    backdated_doubts,
    date_doubts,
    index_doubts,
    not_yet,
    unlikely_move,
)
from agent.registry.facts.meter import MOST
from agent.registry.facts.place import particulars
from agent.registry.labels import Cardinality, label_key, scheme, value_of
from agent.registry.place import OCCUPANCY, agrees, mint, parse, shown, squeeze
from agent.registry.records import (
    Alias,
    FactorProof,
    Installation,
    Occupancy,
    Place,
    covers,
    serial_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence

    from agent.registry.admission import Author, Conflicts
    from agent.registry.doubts import DoubtfulValue
    from agent.registry.index import RegistryIndex
    from agent.registry.inputs import (
        FactorResult,
        NewAlias,
        NewExchange,
        NewInstallation,
        NewMultiplier,
        NewPlace,
    )
    from agent.registry.labels import Scheme
    from agent.registry.records import Document, Indexes, Provenance

PROOFS = ("display", "load")


NO_CHANNEL = Text("multiplier, offset: name the channel to which they apply")


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
            return Text("; to record its occupants: gardien occupancy import, or move-in")
        return Text(
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
            raise Refused(
                'label: "{label}" is an id; a label is what people call the place', label=label
            )
        prefix = parsers.prefix(row.type)
        place = parse(row.id, prefix) if row.id else mint(prefix)
        new = Place(place, label, author.provenance(row.where), **particulars(row))
        known_place = index.labels.by_label.get(label_key(label))
        if known_place is not None and _place_again(index, row, known_place, new):
            yield from _restated(known_place, new, changed)
            return
        origin = Text('"{label}" of {value}', label=label, value=row.where or Text("this call"))
        for there, known, key in (
            (index.labels.by_label, labels, label_key(label)),
            (index.places, ids, place),
        ):
            if key in there or key in known:
                raise Refused(
                    '"{label}" exists already: {known}{more}',
                    label=label,
                    known=label_and_id(there[key]) if key in there else known[key],
                    more=who_moved_in(known_place),
                )
        labels[label_key(label)] = ids[place] = origin
        yield new
        if prefix == "D" and row.occupied:
            since = author.since(row.since)
            yield Occupancy(mint(OCCUPANCY), place, since, None, author.provenance(row.where))

    doubts = partial(_place_doubts, index, LabelDoubts(index.places.values()), author.now)
    places = admit_rows(rows, admit, doubts=doubts)
    # a lot may belong to a place of the same list
    return [*places, *admit_aliases(index.and_with(places), lots, author)] if lots else places


def _place_doubts(
    index: RegistryIndex, others: LabelDoubts, now: float, row: NewPlace, made: Sequence[Document]
) -> Iterator[DoubtfulValue]:
    for new in made:
        if isinstance(new, Place) and new.id not in index.places:
            yield from others.about(new.label, row.where)
        elif isinstance(new, Occupancy):
            yield from date_doubts(row.label, new.since, now, row.where, ahead=unlikely_move)


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
        raise Refused(
            "{names}: {label_and_id} has another one in {source}",
            names=names,
            label_and_id=label_and_id(known),
            source=before.word.source,
        )
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

    others = AliasDoubts(
        (one.scheme, one.value, index.places[one.place].label) for one in index.aliases
    )

    def doubts(row: NewAlias, made: Sequence[Document]) -> Iterator[DoubtfulValue]:
        for new in made:
            # one that all places may share looks like itself everywhere
            if isinstance(new, Alias) and scheme(new.scheme).names is not Cardinality.SHARED:
                stated = (new.scheme, new.value, index.places[new.place].label)
                yield from (
                    () if row.ends else others.about(scheme(new.scheme).title, stated, row.where)
                )

    return admit_rows(rows, admit, lambda row: row.ends, doubts)


def _place_of(index: RegistryIndex, row: NewAlias) -> Place:
    try:
        return place_of(index, row.place)
    except Refused as error:
        if not row.part:
            raise
        raise Refused(
            "{error}; a {part} belongs to a dwelling: write that dwelling's label here",
            error=error,
            part=row.part,
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
        problem = (
            Text("name one of them: {which}", which=which)
            if meant
            else Text("it has none in force then")
        )
        raise Refused(
            "{label_and_id}, {title}: {problem}",
            label_and_id=label_and_id(place),
            title=known.title,
            problem=problem,
        )
    return replace(meant[0], until=at, word=author.provenance(row.where))


def _place_again(index: RegistryIndex, row: NewPlace, known: Place | None, new: Place) -> bool:
    """Whether a row states the recorded place with this label."""
    if not row.where or known is None or known.type != new.type:
        return False
    if row.id and known.id != new.id:
        return False
    homes = index.occupancies_of(known.id)
    return row.since is None or any(home.since == row.since for home in homes)


def admit_installations(
    index: RegistryIndex, rows: Sequence[NewInstallation], author: Author
) -> list[Document]:
    """Documents for installations. A meter that contradicts a recorded one is refused, naming both.
    A row of a list whose content is recorded already yields no document.
    """
    claims = current_claims(index)

    def admit(row: NewInstallation) -> Iterator[Document]:
        device, serial = _names(row.device, row.serial)
        if not device and not serial:
            raise Refused("a meter needs a serial number or the name of its device")
        channel = parsers.checked_channel(row.channel) if row.channel else None
        multiplier, offset = row.multiplier or Decimal(1), row.offset or Decimal(0)
        if channel is None and (multiplier != 1 or offset != 0):
            raise Refused(NO_CHANNEL)
        installation = Installation(
            id=new_id(),
            place=_place_measured(index, row).id,
            device=device,
            serial=serial,
            pinned=False,
            channel=channel,
            since=author.since(row.since),
            until=None,
            word=author.provenance(row.where),
            multiplier=multiplier,
            offset=offset,
            opened=_indexes(row.index, channel),
        )
        known = _meter_again(index, row, installation)
        if known is None:
            yield _claimed(index, claims, installation)
        elif not row.where:
            raise Refused("{sentence}: that is recorded already", sentence=claims.sentence(known))

    serials = _serial_doubts(index)

    def doubts(row: NewInstallation, made: Sequence[Document]) -> Iterator[DoubtfulValue]:
        for new in made:
            assert isinstance(new, Installation)
            label = index.places[new.place].label
            if new.serial:
                yield from serials.about(new.serial, label, row.where)
            yield from date_doubts(label, new.since, author.now, row.where, ahead=not_yet)

    return admit_rows(rows, admit, doubts=doubts)


def _place_measured(index: RegistryIndex, row: NewInstallation) -> Place:
    try:
        return place_of(index, row.place)
    except Refused as error:
        if not row.serial or len(index.labels.meant(row.serial)) != 1:
            raise
        raise Refused(
            '{error}, but "{serial}" is one: the columns of serial numbers and dwellings seem to be'
            " swapped. Swap their headings",
            error=error,
            serial=row.serial,
        ) from error


def _serial_doubts(index: RegistryIndex) -> SerialDoubts:
    return SerialDoubts(
        (known.serial, index.places[known.place].label)
        for known in index.installations
        if known.serial
    )


def admit_exchanges(
    index: RegistryIndex, rows: Sequence[NewExchange], author: Author
) -> list[Document]:
    """Documents for meters that were removed, each with its successor if there is one.

    The new meter measures what the old one did, from the same instant on. A meter that never
    measured its place keeps an empty interval, and the rows that it delivered for that place are
    retracted.
    """
    claims = current_claims(index)

    def admit(row: NewExchange) -> Iterator[Document]:
        known = _exchanged_already(index, row, author)
        yield from _indexes_corrected(*known, row, author) if known else exchanged(row)

    def exchanged(row: NewExchange) -> Iterator[Document]:
        at = author.since(row.at)
        old = _old(index, row, at)
        # an empty interval states that the meter never measured this place
        at = old.since if row.never else at
        closed = _indexes(row.closing, old.channel)
        provenance = author.provenance(row.where)
        yield claim(claims, replace(old, until=at, closed=closed, word=provenance))
        if not row.followed:
            return
        device, serial = _names(row.device or old.device, row.serial)
        if not device and not serial:
            raise Refused("the new meter needs a serial number or the name of its device")
        if row.offset and old.channel is None:
            raise Refused(NO_CHANNEL)
        # two meters with one number could not be told apart, unless the offset shows the exchange
        same = serial and old.serial and serial_key(serial) == serial_key(old.serial)
        if same and row.offset is None:
            raise Refused(
                "the new meter has the serial number of the old one, {serial}; if only its"
                " counting part was exchanged, give what is added to its index: --offset",
                serial=old.serial,
            )
        new = Installation(
            id=new_id(),
            place=old.place,
            device=device,
            serial=serial,
            pinned=False,
            channel=old.channel,
            since=at,
            until=None,
            word=provenance,
            multiplier=old.multiplier if row.multiplier is None else row.multiplier,
            offset=row.offset or Decimal(0),
            opened=_indexes(row.opening, old.channel),
        )
        yield claim(claims, new)

    doubts = partial(_exchange_doubts, index, _serial_doubts(index), author.now)
    return in_order(admit_rows(rows, admit, doubts=doubts))


def admit_multipliers(
    index: RegistryIndex, rows: Sequence[NewMultiplier], author: Author
) -> list[Document]:
    """Documents for meters whose multiplier was wrong: the old installation ends, and one with the
    right multiplier begins at the same instant, with the same index. Its other channels go on.

    `never`: it was wrong from the beginning, and what was delivered with it is retracted.
    """
    claims = current_claims(index)

    def admit(row: NewMultiplier) -> Iterator[Document]:
        at = author.since(row.at)
        old = _old(index, replace(row, never=False), at)  # of one that is in force
        at = old.since if row.never else at
        if row.multiplier == old.multiplier and old.channel is not None:
            raise Refused(
                "meter {meter} has the multiplier {multiplier} already",
                meter=old.meter,
                multiplier=format(old.multiplier, "f"),
            )
        if old.channel is None and row.channel not in row.every:
            raise Refused(
                "meter {meter} is recorded for all its channels, and gardien has not read {channel}"
                " from it. See gardien meter list and gardien scan",
                meter=old.meter,
                channel=row.channel,
            )
        provenance = author.provenance(row.where)
        shown = old.opened if row.never else _indexes(row.closing, old.channel)
        yield claim(claims, replace(old, until=at, closed=() if row.never else shown,
                                    word=provenance))  # fmt: skip
        for channel in (old.channel,) if old.channel else row.every:
            right = row.multiplier if channel == row.channel else None
            new = replace(
                old, id=new_id(), channel=channel, since=at, until=old.until, word=provenance,
                multiplier=right or old.multiplier, closed=old.closed,
                opened=tuple(one for one in shown if one[0] == channel),
            )  # fmt: skip
            yield claim(claims, new)

    def doubts(row: NewMultiplier, made: Sequence[Document]) -> Iterator[DoubtfulValue]:
        old = made[0]
        assert isinstance(old, Installation)
        if not row.never:
            label, at = index.places[old.place].label, author.since(row.at)
            yield from date_doubts(label, at, author.now, row.where, ahead=not_yet)
            yield from backdated_doubts(label, at, author.now, row.where)
            yield from _closing_doubts(old, label, row.last or {})

    return in_order(admit_rows(rows, admit, doubts=doubts))


def _exchange_doubts(
    index: RegistryIndex,
    serials: SerialDoubts,
    now: float,
    row: NewExchange,
    made: Sequence[Document],
) -> Iterator[DoubtfulValue]:
    for meter in made:
        assert isinstance(meter, Installation)
        label = index.places[meter.place].label
        if meter.until is None and meter.serial:
            yield from serials.about(meter.serial, label, row.where)
        elif meter.until is not None and not row.never:
            yield from date_doubts(label, meter.until, now, row.where, ahead=not_yet)
            yield from backdated_doubts(label, meter.until, now, row.where)
            yield from _closing_doubts(meter, label, row.last or {})


def _closing_doubts(
    old: Installation, label: str, last: Mapping[str, LastReading]
) -> Iterator[DoubtfulValue]:
    """Question closing indexes by the last readings, or else by the first index."""
    opened = dict(old.opened)
    for channel, closed in old.closed:
        known = last.get(channel)
        if known is None and channel in opened:
            # how much it counted since then is not known, so only a lower index is doubtful
            known = LastReading(opened[channel], old.since, rating=MOST)
        if known is not None:
            unit = channels()[channel].unit
            at = int(old.until or known.at)
            yield from index_doubts(label, closed, at, known, unit)


def admit_pin(index: RegistryIndex, device: str, serial: str, author: Author) -> list[Document]:
    """Record the serial number that a device reports in its installations without one."""
    unnumbered = _without_serial(index, device, author)
    if not unnumbered:
        return []
    return _pinned(current_claims(index), unnumbered, serial, author.provenance(""))


def admit_pins(
    index: RegistryIndex,
    serials: Mapping[str, str],
    author: Author,
    refused: MutableMapping[str, str],
) -> list[Document]:
    """Like `admit_pin` for many devices; `serials` has the number that each reports. If a device
    cannot be that meter, the reason is added to `refused`.
    """
    every = [(device, _without_serial(index, device, author)) for device in serials]
    waiting = [(device, unnumbered) for device, unnumbered in every if unnumbered]
    if not waiting:
        return []
    claims = current_claims(index)
    documents: list[Document] = []
    for device, unnumbered in waiting:
        try:
            documents += _pinned(
                claims,
                unnumbered,
                serials[device],
                author.provenance(Text("{device} said so", device=device)),
            )
        except Refused as error:
            refused[device] = text_of(error)
    return documents


def _without_serial(index: RegistryIndex, device: str, author: Author) -> list[Installation]:
    known = index.known_as(device)
    return [doc for doc in known if doc.serial is None and covers(doc, int(author.now))]


def _pinned(
    claims: Conflicts, unnumbered: Sequence[Installation], serial: str, provenance: Provenance
) -> list[Document]:
    number = parsers.text(serial, "serial", parsers.LONGEST_LABEL)
    return [
        claim(claims, replace(doc, serial=number, pinned=True, word=provenance))
        for doc in unnumbered
    ]


def admit_proof(
    index: RegistryIndex, meters: Sequence[str], how: str, author: Author
) -> list[Document]:
    """Record how a person verified installations (by id)."""
    if how not in PROOFS:
        raise Refused('"{how}" is not one of {names}', how=how, names=", ".join(PROOFS))
    known = {doc.id: doc for doc in index.installations}
    provenance = author.provenance("")
    return [replace(known[id_], verified=how, word=provenance) for id_ in meters]


def admit_factors(
    index: RegistryIndex, results: Sequence[FactorResult], author: Author
) -> list[Document]:
    """Record results of comparisons; those that repeat the last one add nothing."""
    provenance = author.provenance("")
    made: list[Document] = []
    for meter, channel, method, factor, excludes, point, evidence in results:
        new = FactorProof(
            f"{meter.id}/{channel}/{method}", meter.id, meter.place, channel, method, factor,
            excludes, point, meter.serial, meter.multiplier, evidence, provenance,
        )  # fmt: skip
        known = index.factor_proofs.get((meter.id, channel), ())
        last = next((one for one in known if one.method == method), None)
        if last is None or not last.of(meter, point) or last.factor != factor:
            made.append(new)
    return made


def _claimed(index: RegistryIndex, claims: Conflicts, new: Installation) -> Document:
    """Like `claim`; if the same meter is recorded elsewhere or since another day, the message says
    what to do.
    """
    old = claims.against(new)
    if not isinstance(old, Installation) or old.word.revision == new.word.revision:
        return claim(claims, new)
    if new.device and (old.place, old.channel, old.device) == (new.place, new.channel, None):
        raise Refused(
            "{sentence}: that is recorded already by its serial number; leave out the name"
            " of the device",
            sentence=claims.sentence(old),
        )
    # people copy the command, and a label may contain blanks
    label = shlex.quote(index.places[old.place].label)
    away = f"gardien meter remove {label} --old {shlex.quote(old.serial or str(old.device))}"
    raise Refused(
        "you ask to record that {statement}, but {sentence}; if that has ended or was wrong:"
        " {away} (--never: it never measured there)",
        statement=claims.statement(new),
        sentence=claims.sentence(old),
        away=away,
    )


def _names(device: str | None, serial: str | None) -> tuple[str | None, str | None]:
    return (
        parsers.text(device, "device", parsers.LONGEST_LABEL) if device else None,
        parsers.text(serial, "serial", parsers.LONGEST_LABEL) if serial else None,
    )


def _indexes(given: Mapping[str, Decimal] | None, channel: str | None) -> Indexes:
    for name in given or {}:
        if channel not in (None, parsers.checked_channel(name)):
            raise Refused(
                "index: this meter measures {channel}, not {name}", channel=channel, name=name
            )
    return tuple(sorted((given or {}).items()))


def _old(index: RegistryIndex, row: NewExchange, at: int) -> Installation:
    """The meter that is exchanged. Raises Refused if none or several fit, with the candidates."""
    place = place_of(index, row.place)
    # `never` may be about a meter that has been removed already
    there = [doc for doc in index.meters_of(place.id) if covers(doc, at) or row.never]
    meant = [doc for doc in there if _meant(doc, row)]
    if len(meant) == 1:
        # it would have an empty interval, which states that it never measured the place
        if meant[0].since == at and not row.never:
            raise Refused(
                "meter {meter} measures {label_and_id} only since {stamp}",
                meter=meant[0].meter,
                label_and_id=label_and_id(place),
                stamp=stamp(at),
            )
        return meant[0]
    if not there:
        raise Refused(
            "{label_and_id}: no meter is recorded there at {stamp}",
            label_and_id=label_and_id(place),
            stamp=stamp(at),
        )
    names = ", ".join(
        f"{doc.meter} ({doc.channel})" if doc.channel else doc.meter for doc in meant or there
    )
    which = (
        Text("name one of them with --old:")
        if meant
        else Text("none of them is {value}:", value=row.old or row.channel)
    )
    raise Refused(
        "{label_and_id}: {which} {names}",
        label_and_id=label_and_id(place),
        which=which,
        names=names,
    )


def _exchanged_already(
    index: RegistryIndex, row: NewExchange, author: Author
) -> tuple[Installation, Installation] | None:
    """The two meters of a recorded exchange of which a row states the indexes, afterwards or
    corrected: it names both meters, and the same instant.
    """
    if not (row.old and row.serial and (row.closing or row.opening)) or row.never:
        return None
    at = author.since(row.at)
    there = [one for one in index.meters_of(place_of(index, row.place).id) if one.since < at]
    old = [one for one in there if one.until == at and _meant(one, row)]
    new = [one for one in index.meters_called(None, row.serial) if one.since == at]
    new = [one for one in new if old and one.place == old[0].place]
    return (old[0], new[0]) if len(old) == len(new) == 1 else None


def _indexes_corrected(
    old: Installation, new: Installation, row: NewExchange, author: Author
) -> Iterator[Document]:
    provenance = author.provenance(row.where)
    closed = tuple(sorted({**dict(old.closed), **dict(_indexes(row.closing, old.channel))}.items()))
    opened = tuple(sorted({**dict(new.opened), **dict(_indexes(row.opening, new.channel))}.items()))
    # a command shows both meters, even if it repeats what is recorded
    if not row.where or (closed, opened) != (old.closed, new.opened):
        yield replace(old, closed=closed, word=provenance)
        yield replace(new, opened=opened, word=provenance)


def _meant(document: Installation, row: NewExchange) -> bool:
    if row.channel and document.channel not in (None, row.channel):
        return False
    if row.old is None:
        return True
    known = document.serial is not None and serial_key(document.serial) == serial_key(row.old)
    return known or document.device == row.old


def _meter_again(
    index: RegistryIndex, row: NewInstallation, new: Installation
) -> Installation | None:
    """The recorded installation that a row states. Raises Refused if a row of a list has a meter
    that was removed from there: the list is out of date, or lacks the date since which the meter is
    back.
    """
    there = [
        old
        for old in index.meters_called(new.device, new.serial)
        if old.place == new.place and _same_meter(old, new)
    ]
    for old in there:
        if _same_installation(old, row, new):
            return old
    # an empty interval states that the meter never was there, so the list may be right
    gone = [old for old in there if old.until is not None and old.since < old.until <= new.since]
    if row.where and row.since is None and gone:
        raise Refused(
            "meter {meter} measures {place} no more since {stamp} ({who}, {source}): leave"
            " it out of the list, or write since when it is back, in a column `since`",
            meter=new.meter,
            place=row.place,
            stamp=stamp(gone[-1].until or 0),
            who=gone[-1].word.who,
            source=gone[-1].word.source,
        )
    return None


def _same_meter(old: Installation, new: Installation) -> bool:
    """Whether each name of the new installation is also the old one's."""
    if new.device and new.device != old.device:
        return False
    if new.serial:
        return old.serial is not None and serial_key(old.serial) == serial_key(new.serial)
    return True


def _same_installation(old: Installation, row: NewInstallation, new: Installation) -> bool:
    return (
        old.channel == new.channel
        and (covers(old, new.since) if row.since is None else old.since == row.since)
        and row.multiplier in (None, old.multiplier)
        and row.offset in (None, old.offset)
        and (not new.opened or new.opened == old.opened)
    )
