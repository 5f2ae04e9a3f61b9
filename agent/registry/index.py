"""The documents in force, indexed for what every reading asks. Pure. Built anew at every change,
which takes milliseconds for 2,000 documents.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from enum import StrEnum
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

from agent.registry.dates import DAY, months_later
from agent.registry.fields import LONGEST_CONSENT
from agent.registry.labels import Labels
from agent.registry.marks import Marks
from agent.registry.records import (
    Alias,
    Consent,
    ConsentMark,
    Duty,
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
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from agent.registry.records import Dated, Document, Provenance

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")
D = TypeVar("D", Alias, Installation, Occupancy)

SHORT_ENOUGH = LONGEST_CONSENT * 28 * DAY
"""seconds that are never more than so many months"""


class Unknown(StrEnum):
    """Why it is unknown whose a reading is; the value is a text for people."""

    NO_INSTALLATION = "no place is recorded for this meter; to record one: gardien meter assign"
    SERIAL_DIFFERS = "its serial number is not the one that was installed"
    OTHER_DEVICE = "its serial number is installed under the name of another device"
    NOT_PINNED = "its serial number has not been recorded yet"
    SERIAL_UNSAID = "its serial number is not known yet"


class RegistryIndex:
    """Answers from one state of the registry; it never changes."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self.documents = tuple(documents)
        self._narrowed: dict[str, dict[str, Consent]] = {}
        latest: dict[tuple[str, str], Document] = {}
        for document in self.documents:
            before = latest.get((document.kind, document.id))
            # remember which version withdrew each channel: its date decides about erasure
            if isinstance(document, Consent) and isinstance(before, Consent):
                gone = set(before.channels) - set(document.channels)
                self._narrowed.setdefault(document.id, {}).update(dict.fromkeys(gone, document))
            latest[document.kind, document.id] = document
        now = list(latest.values())
        self.places = {doc.id: doc for doc in now if isinstance(doc, Place)}
        self.aliases = self._listed(doc for doc in now if isinstance(doc, Alias))
        self.labels = Labels(self.places, self.aliases)
        self.installations = self._listed(doc for doc in now if isinstance(doc, Installation))
        self.occupancies = self._listed(doc for doc in now if isinstance(doc, Occupancy))
        # the basis hardest to lose comes first (rule T13)
        stored = [doc for doc in now if isinstance(doc, Consent)]
        # of two consents that cover a row, the coarser: a withdrawal of the finer keeps the row
        self.consents = sorted(map(_capped, stored), key=_hardest_to_lose)
        self.duties = [doc for doc in now if isinstance(doc, Duty)]
        # a duty without an end lasts longest, so it comes first
        self.duties.sort(key=lambda doc: (-doc.until if doc.until else -(2**62), doc.id))
        self._by_channel = _groups((name, doc) for doc in self.duties for name in doc.channels)
        self.withdrawn = {doc.id for doc in now if isinstance(doc, Withdrawal)}
        self.forms = {doc.id: doc for doc in now if isinstance(doc, Form)}
        self._marks = _groups((doc.occupancy, doc) for doc in now if isinstance(doc, ConsentMark))
        self._unmarked = {
            (doc.occupancy, doc.recipient)
            for doc in self._ended(stored)
            if not any(
                # a mark that was drawn with the withdrawal, or later, covers it
                one.word.revision >= doc.word.revision and one.recipient in (None, doc.recipient)
                for one in self._marks.get(doc.occupancy, ())
            )
        }
        self._by_device = _groups((doc.device, doc) for doc in self.installations if doc.device)
        self._by_serial = _groups(
            (serial_key(doc.serial), doc) for doc in self.installations if doc.serial
        )
        self._by_place = _groups((doc.place, doc) for doc in self.occupancies)
        self._by_occupancy = _groups(
            ((doc.occupancy, doc.recipient), doc) for doc in self.consents if doc.withdrawn is None
        )
        # with their stored ends, not the capped ones: rows may have left until then
        stored.sort(key=_hardest_to_lose)
        self._ever_agreed = _groups(((doc.place, doc.recipient), doc) for doc in stored)
        self._dwellings = tuple(sorted(id_ for id_ in self.places if id_[0] == "D"))
        self._meters_of = _groups((doc.place, doc) for doc in self.installations)
        self._turns = _edges([*self.installations, *self.occupancies, *self.consents, *self.duties])

    def _listed(self, documents: Iterable[D]) -> list[D]:
        """Documents by label and date, the order in which people look for them."""

        def order(document: D) -> tuple[str, int]:
            place = self.places.get(document.place)
            return (place.label if place else document.place, document.since)

        return sorted(documents, key=order)

    def _ended(self, stored: Iterable[Consent]) -> Iterator[Consent]:
        """Each withdrawn consent, and each narrowed one in the version that narrowed it last."""
        yield from (doc for doc in stored if doc.withdrawn is not None)
        for gone in self._narrowed.values():
            yield from gone.values()

    def marks_of(self, occupancy: str, recipient: str) -> Marks:
        """The withdrawals from and refusals to this recipient, in order."""
        return Marks(self.marks(occupancy, recipient), (occupancy, recipient) in self._unmarked)

    def marks(self, occupancy: str, recipient: str | None = None) -> tuple[ConsentMark, ...]:
        """See Registry.marks."""
        drawn = self._marks.get(occupancy, ())
        return tuple(one for one in drawn if not recipient or one.recipient in (None, recipient))

    def mark(self, id_: str) -> ConsentMark | None:
        """See Registry.mark."""
        return next((one for of in self._marks.values() for one in of if one.id == id_), None)

    def unmarked(self) -> Sequence[tuple[str, str]]:
        """Occupancies and recipients with a withdrawal that has no mark yet."""
        return sorted(self._unmarked)

    def and_with(self, documents: Iterable[Document]) -> RegistryIndex:
        """The index after these further documents."""
        return RegistryIndex([*self.documents, *documents])

    def whose(
        self, device: str, serial: str | None, channel: str, t: int
    ) -> Installation | Unknown:
        """See Registry.whose."""
        # an installation that names the device decides alone: the number must then match
        mine = _in_force(self._by_device.get(device, ()), channel, t)
        if mine is not None:
            return _matched(mine, serial)
        if serial is None:
            return Unknown.NO_INSTALLATION
        named = _in_force(self._by_serial.get(serial_key(serial), ()), channel, t)
        if named is None:
            return Unknown.NO_INSTALLATION
        return named if named.device is None else Unknown.OTHER_DEVICE

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


def _hardest_to_lose(consent: Consent) -> tuple[int, int, str]:
    return (-consent.step, -consent.until, consent.id)


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


def _in_force(documents: Sequence[Installation], channel: str, t: int) -> Installation | None:
    """The installation that covers t; else one that ends at t, because this is its closing
    index.
    """
    closing = None
    for document in documents:
        if document.channel in (None, channel):
            if covers(document, t):
                return document
            if document.until == t and document.since < t:
                closing = document
    return closing


def _groups(pairs: Iterable[tuple[K, V]]) -> Mapping[K, tuple[V, ...]]:
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in groups.items()}


def _edges(documents: Sequence[Dated]) -> list[int]:
    """Times at which answers change: each beginning and end, and the second after it, because at t
    the document that ends then may still answer.
    """
    ends = {doc.since for doc in documents} | {doc.until for doc in documents if doc.until}
    return sorted(ends | {end + 1 for end in ends})
