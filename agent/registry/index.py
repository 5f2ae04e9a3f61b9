"""The documents in force, indexed for what every reading asks. Pure. A change costs what it
touches, and copies of what it touches in.
"""

from __future__ import annotations

from bisect import bisect_right
from copy import copy
from dataclasses import replace
from enum import StrEnum
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from agent.core.clock import stamp
from agent.core.errors import NotYet, Refused
from agent.core.i18n import N_, Text
from agent.registry.dates import DAY, months_later
from agent.registry.labels import Cardinality, Labels, grouped, listed, scheme
from agent.registry.parsers import LONGEST_CONSENT
from agent.registry.records import (
    METHODS,
    Alias,
    Consent,
    ConsentMark,
    Document,
    Duty,
    FactorProof,
    Form,
    Installation,
    Occupancy,
    OccupancyState,
    Place,
    Withdrawal,
    covers,
    serial_key,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from agent.registry.records import Provenance

D = TypeVar("D", bound=Document)

SHORT_ENOUGH = LONGEST_CONSENT * 28 * DAY
"""seconds that are never more than so many months"""


class Marks(NamedTuple):
    """The withdrawals and refusals of an occupancy that concern a recipient, in the order in which
    they were recorded.
    """

    drawn: tuple[ConsentMark, ...]
    pending: bool
    """a withdrawal has no mark yet, because the previous version could not read marks"""


class Unknowing(Refused):
    """A consent does not know these marks."""

    def __init__(self, message: str, marks: Sequence[ConsentMark]) -> None:
        super().__init__(message)
        self.marks = tuple(marks)


def unknown(
    marks: Marks, after: Collection[str], withdrawals: Collection[str], issuer: str
) -> list[ConsentMark]:
    """The marks that a consent does not know; empty: it counts.

    `after`: it knows all marks up to the last of these. `withdrawals`: numbers of its issuer's own.
    Raises NotYet if one of these has not arrived, or has no mark yet.
    """
    if marks.pending:
        raise NotYet("a withdrawal has no mark yet, because an upgrade is on trial")
    # a number counts only with its issuer: another issuer's consent must not know it by chance
    own = {mark.number: mark.id for mark in marks.drawn if mark.number and mark.word.who == issuer}
    for number in withdrawals:
        if number not in own:
            raise NotYet(
                "the withdrawal {number}, which it names, has not arrived yet", number=number
            )
    known = {own[number] for number in withdrawals}
    # naming a mark covers all earlier ones: people saw the list up to that mark
    first = max((n for n, mark in enumerate(marks.drawn, 1) if mark.id in after), default=0)
    return [mark for mark in marks.drawn[first:] if mark.id not in known]


def sentence(mark: ConsentMark) -> str:
    """What was withdrawn or refused, when, to whom and by whom, with the mark."""
    facts = {
        "to": mark.recipient or Text("all recipients"), "on": stamp(mark.word.when),
        "who": mark.word.who, "mark": mark.id,
    }  # fmt: skip
    match mark.cause:
        case "refused":
            return Text("refused to {to} on {on} by {who}: mark {mark}", **facts)
        case "restored":
            return Text("the gateway was restored on {on}: mark {mark}", **facts)
    return Text("withdrawn from {to} on {on} by {who}: mark {mark}", **facts)


if TYPE_CHECKING:
    K = TypeVar("K")
    V = TypeVar("V")
    Groups = Mapping[K, tuple[V, ...]]


class Unknown(StrEnum):
    """Why it is unknown whose a reading is; the value is a text for people."""

    NO_INSTALLATION = N_("no place is recorded for this meter; to record one: gardien meter assign")
    SERIAL_DIFFERS = N_("its serial number is not the one that was installed")
    OTHER_DEVICE = N_("its serial number is installed under the name of another device")
    NOT_PINNED = N_("its serial number has not been recorded yet")
    SERIAL_UNSAID = N_("its serial number is not known yet")


class RegistryIndex:
    """Answers from one state of the registry; it never changes. `and_with` gives its successor."""

    mute = False
    """what is recorded is known; whether it is all there is, only the registry can doubt"""

    def __init__(self, documents: Iterable[Document] = ()) -> None:
        self.documents: tuple[Document, ...] = ()
        """all of them, in the order in which they were recorded"""
        self.revision = 0
        """number of the last change; 0 before the first"""
        self._latest: Mapping[tuple[str, str], tuple[int, Document]] = {}
        """by kind and id: its number among the first versions, and the latest version"""
        self._narrowed: Mapping[str, Mapping[str, Consent]] = {}
        """by consent and channel: the version that withdrew the channel"""
        self._unlabelled: frozenset[str] = frozenset()
        """places that documents name and that are not recorded"""
        self.places: Mapping[str, Place] = {}
        self.labels = Labels()
        self.forms: Mapping[str, Form] = {}
        self.aliases: list[Alias] = []
        self._aliases_of: Groups[str, Alias] = {}
        self._meaning: Groups[tuple[str, str], Alias] = {}
        self.installations: list[Installation] = []
        self._by_device: Groups[str, Installation] = {}
        self._by_serial: Groups[str, Installation] = {}
        self._meters_of: Groups[str, Installation] = {}
        self.occupancies: list[Occupancy] = []
        self._by_place: Groups[str, Occupancy] = {}
        self.consents: list[Consent] = []
        self._by_occupancy: Groups[tuple[str, str], Consent] = {}
        self._ever_agreed: Groups[tuple[str, str], Consent] = {}
        self.withdrawn: frozenset[str] = frozenset()
        """ids of consents that were withdrawn before they arrived"""
        self._ended: Groups[tuple[str, str], Consent] = {}
        """withdrawn consents, and each narrowed one in the versions that narrowed it"""
        self._marks: Groups[str, ConsentMark] = {}
        self.factor_proofs: Mapping[tuple[str, str], tuple[FactorProof, ...]] = {}
        """by installation and channel, the latest of each method"""
        self.duties: list[Duty] = []
        self._by_channel: Groups[str, Duty] = {}
        self._dwellings: tuple[str, ...] = ()
        self._edges: Mapping[int, int] = {}
        """times at which answers change, with the number of documents that cause each"""
        self._turns: list[int] = []
        self._add(tuple(documents))

    def and_with(self, documents: Iterable[Document]) -> RegistryIndex:
        """The index after these further documents. It costs what they touch."""
        further = tuple(documents)
        for place in further:
            # its label is in the order of all documents that name it
            if isinstance(place, Place) and (
                place.id in self.places or place.id in self._unlabelled
            ):
                return RegistryIndex((*self.documents, *further))
        after = copy(self)
        after._add(further)  # noqa: SLF001 -- of its own
        return after

    def _add(self, documents: tuple[Document, ...]) -> None:
        """Replace, and never change, what the documents touch."""
        self.documents += documents
        if documents:
            self.revision = documents[-1].word.revision
        latest = dict(self._latest)
        before: dict[tuple[str, str], Document | None] = {}
        narrowed = dict(self._narrowed)
        for version in documents:
            key = (version.kind, version.id)
            rank, former = latest.get(key, (len(latest), None))
            document = _as_given(version, former)
            before.setdefault(key, former)
            if isinstance(document, Consent) and isinstance(former, Consent):
                # remember which version withdrew each channel: its date decides about erasure
                lost = set(former.channels) - set(document.channels)
                if lost:
                    known = narrowed.get(document.id, {})
                    narrowed[document.id] = {**known, **dict.fromkeys(lost, document)}
            latest[key] = rank, document
        former_ended = list(_ended(before.values(), self._narrowed))
        self._latest, self._narrowed = latest, narrowed
        gone = [document for document in before.values() if document is not None]
        new = [latest[key][1] for key in before]
        self._add_places(gone, new)
        self._add_bases(gone, new)
        self._add_ends(former_ended, gone, new)
        self._add_turns(gone, new)

    def _rank(self, document: Document) -> int:
        return self._latest[document.kind, document.id][0]

    def _order(self, document: Alias | Installation | Occupancy) -> tuple[str, int, int]:
        """By label and date, the order in which people look for documents."""
        place = self.places.get(document.place)
        label = place.label if place else document.place
        return label, document.since, self._rank(document)

    def _add_places(self, gone: Sequence[Document], new: Sequence[Document]) -> None:
        """Places, and the documents that are listed by their labels."""
        order = self._order
        if places := _of(Place, new):
            self.places = {**self.places, **{place.id: place for place in places}}
            self._dwellings = tuple(sorted([id_ for id_ in self.places if id_[0] == "D"]))
        aliases, meters, homes = _of(Alias, new), _of(Installation, new), _of(Occupancy, new)
        listed_kinds = Alias | Installation | Occupancy
        named = {doc.place for doc in new if isinstance(doc, listed_kinds)}
        self._unlabelled |= named - self.places.keys()
        old_aliases = _of(Alias, gone)
        self.labels = self.labels.and_with(self.places, places, old_aliases, aliases, order)
        if aliases:
            change = old_aliases, aliases
            self.aliases = listed(self.aliases, *change, order)
            self._aliases_of = grouped(self._aliases_of, *change, lambda doc: (doc.place,), order)
            self._meaning = grouped(self._meaning, *change, _meanings, order)
        if meters:
            changed = _of(Installation, gone), meters
            self.installations = listed(self.installations, *changed, order)
            self._by_device = grouped(self._by_device, *changed, _devices, order)
            self._by_serial = grouped(self._by_serial, *changed, _serials, order)
            self._meters_of = grouped(self._meters_of, *changed, lambda doc: (doc.place,), order)
        if homes:
            moved = _of(Occupancy, gone), homes
            self.occupancies = listed(self.occupancies, *moved, order)
            self._by_place = grouped(self._by_place, *moved, lambda doc: (doc.place,), order)

    def _add_bases(self, gone: Sequence[Document], new: Sequence[Document]) -> None:
        if consents := _of(Consent, new):
            stored = _of(Consent, gone), consents
            # with their stored ends, not the capped ones: rows may have left until then
            self._ever_agreed = grouped(
                self._ever_agreed, *stored, lambda doc: ((doc.place, doc.recipient),), _firmness
            )
            # the basis hardest to lose comes first (rule T13)
            # of two consents that cover a row, the coarser: a withdrawal of the finer keeps the row
            capped = list(map(_capped, stored[0])), list(map(_capped, stored[1]))
            self.consents = listed(self.consents, *capped, _firmness)
            self._by_occupancy = grouped(
                self._by_occupancy,
                *capped,
                lambda doc: ((doc.occupancy, doc.recipient),) if doc.withdrawn is None else (),
                _firmness,
            )
        if duties := _of(Duty, new):
            obliged = _of(Duty, gone), duties
            self.duties = listed(self.duties, *obliged, _duration)
            self._by_channel = grouped(
                self._by_channel, *obliged, lambda doc: dict.fromkeys(doc.channels), _duration
            )
        if proofs := _of(FactorProof, new):
            self.factor_proofs = grouped(
                self.factor_proofs, _of(FactorProof, gone), proofs,
                lambda doc: ((doc.installation, doc.channel),), _strength,
            )  # fmt: skip
        if forms := _of(Form, new):
            self.forms = {**self.forms, **{form.id: form for form in forms}}

    def _add_ends(
        self, former: Sequence[Consent], gone: Sequence[Document], new: Sequence[Document]
    ) -> None:
        """Withdrawals and their marks. `former`: what `_ended` gave for the earlier versions."""
        self.withdrawn |= {document.id for document in _of(Withdrawal, new)}
        ended = list(_ended(new, self._narrowed))
        if former or ended:
            self._ended = grouped(
                self._ended, former, ended, lambda doc: ((doc.occupancy, doc.recipient),), _firmness
            )
        if marks := _of(ConsentMark, new):
            drawn = _of(ConsentMark, gone), marks
            self._marks = grouped(self._marks, *drawn, lambda one: (one.occupancy,), self._rank)

    def _add_turns(self, gone: Sequence[Document], new: Sequence[Document]) -> None:
        """Times at which answers change."""
        counts, touched = dict(self._edges), set[int]()
        for step, documents in ((-1, gone), (1, new)):
            for document in documents:
                for edge in _edges(document):
                    counts[edge] = counts.get(edge, 0) + step
                    touched.add(edge)
        if not touched:
            return
        added = [edge for edge in touched if counts[edge] and edge not in self._edges]
        over = [edge for edge in touched if not counts[edge]]
        for edge in over:
            del counts[edge]
        former = [edge for edge in over if edge in self._edges]
        self._edges, self._turns = counts, listed(self._turns, former, added, int)

    def marks_of(self, occupancy: str, recipient: str) -> Marks:
        """The withdrawals from and refusals to this recipient, in order."""
        return Marks(self.marks(occupancy, recipient), self._lacks_mark(occupancy, recipient))

    def _lacks_mark(self, occupancy: str, recipient: str) -> bool:
        """Whether one of their withdrawals from this recipient has no mark yet."""
        drawn = self.marks(occupancy, recipient)
        return any(
            # a mark that was drawn with the withdrawal, or later, covers it
            not any(mark.word.revision >= consent.word.revision for mark in drawn)
            for consent in self._ended.get((occupancy, recipient), ())
        )

    def marks(self, occupancy: str, recipient: str | None = None) -> tuple[ConsentMark, ...]:
        """See Registry.marks."""
        drawn = self._marks.get(occupancy, ())
        return tuple(one for one in drawn if not recipient or one.recipient in (None, recipient))

    def mark(self, id_: str) -> ConsentMark | None:
        """See Registry.mark."""
        _, mark = self._latest.get((ConsentMark.kind, id_), (0, None))
        return mark if isinstance(mark, ConsentMark) else None

    def unmarked(self) -> Sequence[tuple[str, str]]:
        """Occupancies and recipients with a withdrawal that has no mark yet."""
        return sorted(pair for pair in self._ended if self._lacks_mark(*pair))

    def aliases_of(self, place: str) -> Sequence[Alias]:
        """All aliases of a place, in order."""
        return self._aliases_of.get(place, ())

    def aliases_meaning(self, system: str, value: str) -> Sequence[Alias]:
        """All aliases with this value, of any place; none if all places may share it."""
        return self._meaning.get((system, value), ())

    def whose(
        self, device: str, serial: str | None, channel: str, t: int
    ) -> Installation | Unknown:
        """See Registry.whose."""
        # an installation that names the device decides alone: the number must then match
        mine = self._in_force(self._by_device.get(device, ()), channel, t)
        if mine is not None:
            return _matched(mine, serial)
        if serial is None:
            return Unknown.NO_INSTALLATION
        named = self._in_force(self._by_serial.get(serial_key(serial), ()), channel, t)
        if named is None:
            return Unknown.NO_INSTALLATION
        return named if named.device is None else Unknown.OTHER_DEVICE

    def _in_force(
        self, documents: Sequence[Installation], channel: str, t: int
    ) -> Installation | None:
        """The installation that covers t; else one without a successor that ends at t, because this
        is its closing index (rule I10).
        """
        closing = None
        for document in documents:
            if document.channel in (None, channel):
                if covers(document, t):
                    return document
                if document.until == t and document.since < t:
                    closing = document
        # also under another device or number
        if closing is not None and any(
            one.since == t and covers(one, t) and one.channel in (None, channel)
            for one in self.meters_of(closing.place)
        ):
            return None
        return closing

    def known_as(self, device: str) -> Sequence[Installation]:
        """Every meter ever installed under the name of this device."""
        return self._by_device.get(device, ())

    def meters_of(self, place: str) -> Sequence[Installation]:
        """Every meter that ever measured the place, in order."""
        return self._meters_of.get(place, ())

    def meters_called(self, device: str | None, serial: str | None) -> list[Installation]:
        """Every installation with this device name or this serial number, each once."""
        named = self._by_device.get(device, ()) if device else ()
        numbered = self._by_serial.get(serial_key(serial), ()) if serial else ()
        return [*named, *(doc for doc in numbered if doc not in named)]

    def occupancy(self, id_: str) -> Occupancy | None:
        """An occupancy by its id; None: there is none."""
        _, home = self._latest.get((Occupancy.kind, id_), (0, None))
        return home if isinstance(home, Occupancy) else None

    def occupancy_at(self, place: str, t: int) -> Occupancy | None:
        """The occupancy at t; None: vacant or unknown."""
        return next((doc for doc in self._by_place.get(place, ()) if covers(doc, t)), None)

    def occupancy_state(self, place: str, t: int) -> tuple[OccupancyState, int | None]:
        """See Registry.occupancy_state."""
        if (home := self.occupancy_at(place, t)) is not None:
            return OccupancyState.OCCUPIED, home.since
        # an empty interval states that these people never lived there: it leaves nothing vacant
        lived = [one for one in self._by_place.get(place, ()) if one.until != one.since]
        left = [one.until for one in lived if one.until is not None and one.until <= t]
        if left:
            return OccupancyState.VACANT, max(left)
        return OccupancyState.UNKNOWN, None

    def lived_in_from(self, place: str, t: int) -> int | None:
        """See Registry.lived_in_from."""
        later = (one for one in self._by_place.get(place, ()) if one.since > t)
        return min((one.since for one in later if one.until != one.since), default=None)

    def occupancies_of(self, place: str) -> Sequence[Occupancy]:
        """All occupancies of a place, in order of time."""
        return self._by_place.get(place, ())

    def lived_in_before(self, place: str, t: int) -> bool:
        """Whether any occupancy of the place began at or before t."""
        return any(
            doc.since <= t and doc.until != doc.since for doc in self._by_place.get(place, ())
        )

    def consents_of(self, occupancy: str, recipient: str) -> Sequence[Consent]:
        """Consents of an occupancy to a recipient that are not withdrawn, the one hardest to lose
        first.
        """
        return self._by_occupancy.get((occupancy, recipient), ())

    def ever_agreed(self, place: str, recipient: str) -> Sequence[Consent]:
        """See Registry.ever_agreed."""
        return self._ever_agreed.get((place, recipient), ())

    def taken_back(
        self, consent: Consent, channels: Iterable[str]
    ) -> tuple[int, Provenance] | None:
        """When any of these channels of a consent was last withdrawn, alone or with the whole
        consent, and the provenance of that withdrawal; None: never.
        """
        meant = set(channels)
        alone = [doc for name, doc in self._narrowed.get(consent.id, {}).items() if name in meant]
        withdrawals = [(doc.word.when, doc.word) for doc in alone]
        if consent.withdrawn is not None and meant & set(consent.channels):
            withdrawals.append((consent.withdrawn, consent.word))
        return max(withdrawals, key=itemgetter(0), default=None)

    def dwellings(self) -> Sequence[str]:
        """Every dwelling, by id."""
        return self._dwellings

    def duties_of(self, channel: str) -> Sequence[Duty]:
        """Duties that name a channel, the one hardest to lose first."""
        return self._by_channel.get(channel, ())

    def turns(self, start: int, end: int) -> list[int]:
        """See Registry.turns."""
        return self._turns[bisect_right(self._turns, start) : bisect_right(self._turns, end)]


def _of(cls: type[D], documents: Iterable[Document]) -> list[D]:
    return [document for document in documents if isinstance(document, cls)]


def _ended(
    documents: Iterable[Document | None], narrowed: Mapping[str, Mapping[str, Consent]]
) -> Iterator[Consent]:
    """Each withdrawn consent, and each narrowed one in the versions that narrowed it."""
    for document in documents:
        if isinstance(document, Consent):
            if document.withdrawn is not None:
                yield document
            yield from narrowed.get(document.id, {}).values()


def _meanings(alias: Alias) -> tuple[tuple[str, str], ...]:
    # a value that all places share would be a group of all of them
    shared = scheme(alias.scheme).names is Cardinality.SHARED
    return () if shared else ((alias.scheme, alias.value),)


def _devices(meter: Installation) -> tuple[str, ...]:
    return (meter.device,) if meter.device else ()


def _serials(meter: Installation) -> tuple[str, ...]:
    return (serial_key(meter.serial),) if meter.serial else ()


def _duration(duty: Duty) -> tuple[int, str]:
    # a duty without an end lasts longest, so it comes first
    return (-duty.until if duty.until else -(2**62), duty.id)


def _strength(proof: FactorProof) -> int:
    """The strongest method first."""
    return METHODS.index(proof.method)


def _firmness(consent: Consent) -> tuple[int, int, str]:
    """The consent hardest to lose first."""
    return (-consent.step, -consent.until, consent.id)


def _as_given(version: Document, former: Document | None) -> Document:
    """A withdrawal or a replacement is a later version of a consent: that was given with the first
    one.
    """
    if isinstance(version, Consent) and isinstance(former, Consent) and version.given is None:
        return replace(version, given=former.given_at)
    return version


def _capped(consent: Consent) -> Consent:
    """A consent that ends at most 36 months after its signature: earlier versions of gardien
    counted from the day on which it was recorded.
    """
    # most consents are short enough: month arithmetic for each would slow every change
    if consent.given is None or consent.until - consent.given <= SHORT_ENOUGH:
        return consent
    latest = max(consent.since, months_later(consent.given, LONGEST_CONSENT))
    return replace(consent, until=latest) if latest < consent.until else consent


def _matched(installed: Installation, serial: str | None) -> Installation | Unknown:
    if installed.serial is None:
        return Unknown.NOT_PINNED
    if serial is None:
        # a pinned number came from the device: if it reports none now, another meter may be there
        return Unknown.SERIAL_UNSAID if installed.pinned else installed
    if serial_key(serial) != serial_key(installed.serial):
        return Unknown.SERIAL_DIFFERS
    return installed


def _edges(document: Document) -> Iterable[int]:
    """When answers change by a document: at its beginning and end, and the second after each,
    because at t the document that ends then may still answer.
    """
    if not isinstance(document, Consent | Duty | Installation | Occupancy):
        return ()
    dated = _capped(document) if isinstance(document, Consent) else document
    ends = {dated.since, dated.until} if dated.until else {dated.since}
    return ends | {end + 1 for end in ends}
