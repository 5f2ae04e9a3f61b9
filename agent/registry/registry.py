"""The registry: an append-only list of documents on the disk, and answers from memory.

It has one owner and is used from one thread. Every change writes all its documents at once, and
every answer reflects it when the call returns.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from agent.core.errors import NotRecorded, Refused
from agent.core.i18n import Text
from agent.core.log_fields import LogEvent, fields
from agent.core.storage import made
from agent.core.tasks import Change
from agent.registry.admission import Author, place_of
from agent.registry.admit_bases import (
    admit_answers,
    admit_consents,
    admit_duties,
    admit_end_of_duty,
    admit_forms,
    admit_missing_marks,
    admit_restored,
    admit_withdrawals,
)
from agent.registry.admit_people import admit_occupancies
from agent.registry.admit_places import (
    admit_aliases,
    admit_exchanges,
    admit_factors,
    admit_installations,
    admit_multipliers,
    admit_pin,
    admit_pins,
    admit_places,
    admit_proof,
)
from agent.registry.exchange_indexes import ExchangeIndex, exchange_indexes
from agent.registry.index import RegistryIndex, Unknown
from agent.registry.place import shown
from agent.registry.records import (
    Alias,
    Consent,
    ConsentMark,
    Duty,
    FactorProof,
    Form,
    Installation,
    Occupancy,
    Place,
    Provenance,
    Withdrawal,
)
from agent.registry.retractions import effects
from agent.registry.storage import TABLE, DocumentTable, RegistryStorage, from_row, to_row

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from agent.core.model import Retraction
    from agent.registry.consent_policy import Policy
    from agent.registry.forms import Box
    from agent.registry.index import Marks
    from agent.registry.inputs import (
        FactorResult,
        NewAlias,
        NewAnswer,
        NewConsent,
        NewDuty,
        NewExchange,
        NewInstallation,
        NewMultiplier,
        NewOccupancy,
        NewPlace,
        NewWithdrawal,
    )
    from agent.registry.records import Document, OccupancyState
    from agent.registry.storage import Documents, Staged

    Admit = Callable[..., list[Document]]

D = TypeVar(
    "D", Place, Alias, Occupancy, Installation, Consent, ConsentMark, Form, Duty, FactorProof
)

log = logging.getLogger(__name__)

NAMED = 20
"""documents that a message names"""


class Registry:
    """Places, meters, occupancies, consents and duties, each with its provenance.

    A change takes rows, who records them, the source and the time. All rows are recorded or none.
    It raises Refused, which names every wrong row and what contradicts it. `preview`: return what
    would be recorded, but record nothing; ids that are drawn will be different.
    """

    _index: RegistryIndex

    def __init__(
        self, path: Path, fsync: Callable[[int], None] = os.fsync, notes: Path | None = None
    ) -> None:
        self._path, self._notes = path, notes
        self._storage = RegistryStorage(path, fsync)
        self.unrecorded: tuple[Document, ...] = ()
        """documents in force that the disk has not accepted yet: see `_record`"""
        self.mute = False
        """nothing is allowed now, because a withdrawal made while the disk failed may be lost"""
        self._complete, self._notes_begun = True, False
        """whether the file has what is in force; whether the notes are of this boot"""
        self._last_good: int | None = None
        """last revision that was written without error, if later ones may be in the file"""
        self.changed = Change()
        """documents have come into force, or what the disk has of them has changed"""
        self._load()
        self._load_notes()
        self.marked = True

    @classmethod
    def open(cls, path: Path, notes: Path | None = None) -> Registry:
        """Read the registry. If there is no file, the registry is empty and the first change
        creates the file.

        `notes`: a file that survives kill -9, for what the disk does not accept. Raises Refused if
        the file is not a registry, and leaves it unchanged.
        """
        return cls(path, notes=notes)

    @property
    def marked(self) -> bool:
        """Whether withdrawals draw marks, and changes go to a log. False while an upgrade is on
        trial, because the previous version may read neither.
        """
        return self._storage.logs

    @marked.setter
    def marked(self, marked: bool) -> None:
        self._storage.logs = marked

    @property
    def _documents(self) -> Sequence[Document]:
        """All documents in force, in the order in which they were recorded."""
        return self._index.documents

    @property
    def revision(self) -> int:
        """Number of the last change; 0 before the first. A change's documents carry its number."""
        return self._index.revision

    def effects(self, after: int, closed: int = 0) -> Sequence[tuple[int, tuple[Retraction, ...]]]:
        """Every change after revision `after`, in order, with the retractions it causes; most cause
        none. The result is the same whenever it is asked.
        """
        return effects(self._documents, after, closed)

    def exchange_indexes(self, after: int) -> list[ExchangeIndex]:
        """The indexes at exchanges of meters that the changes after revision `after` recorded."""
        return exchange_indexes(self._documents, after)

    def ids_after(self, after: int) -> dict[int, list[str]]:
        """Ids of the documents of each change after revision `after`, by revision."""
        ids: dict[int, list[str]] = {}
        for document in self._documents:
            if document.word.revision > after:
                ids.setdefault(document.word.revision, []).append(document.id)
        return ids

    def first_recorded_at(self, id_: str) -> int:
        """When the first version of a document was recorded (Unix second)."""
        return next(one.word.when for one in self._documents if one.id == id_)

    def first_recorded(self) -> dict[str, int]:
        """When the first version of each document was recorded (Unix second), by id."""
        return {one.id: one.word.when for one in reversed(self._documents)}

    def lasted(self, occupancy: Occupancy) -> tuple[int, int | None]:
        """The longest time of an occupancy in any of its versions: rows were made by each."""
        versions = [
            one for one in self._documents if isinstance(one, Occupancy) and one.id == occupancy.id
        ]
        ends = [one.until for one in versions]
        until = None if None in ends else max(filter(None, ends))
        return min(one.since for one in versions), until

    def occupancies_at(self, revisions: Mapping[str, int]) -> dict[str, Occupancy]:
        """The versions of these occupancies that were in force after a change, by id.

        `revisions`: the number of that change, by the id of the occupancy.
        """
        return {
            one.id: one
            for one in self._documents
            if isinstance(one, Occupancy) and one.word.revision <= revisions.get(one.id, -1)
        }

    def first_provenance(self, ids: Collection[str]) -> dict[str, Provenance]:
        """Provenance of the first version of each of these documents."""
        wanted, first = frozenset(ids), dict[str, Provenance]()
        for document in self._documents:
            if document.id in wanted:
                first.setdefault(document.id, document.word)
        return first

    def verifications(self) -> dict[str, Provenance]:
        """Who verified each installation, by its id; only those whose proof is still recorded."""
        made: dict[str, Provenance] = {}
        how: dict[str, str] = {}
        for document in self._documents:
            if isinstance(document, Installation) and document.verified != how.get(document.id):
                how[document.id] = document.verified
                made[document.id] = document.word
        return {id_: word for id_, word in made.items() if how[id_] != "none"}

    def recorded(self, who: str, source: str) -> bool:
        """Whether this author ever recorded anything from exactly this source."""
        return any((one.word.who, one.word.source) == (who, source) for one in self._documents)

    def author(self, id_: str) -> str | None:
        """Who first recorded a consent or a duty; None: there is none with that id."""
        first = (one for one in self._documents if one.id == id_)
        return next((one.word.who for one in first if isinstance(one, Consent | Duty)), None)

    # documents in force

    def places(self) -> list[Place]:
        """All places, by label."""
        return sorted(self._index.places.values(), key=lambda place: place.label)

    def place(self, text: str) -> Place:
        """A place by id, label or alias, tolerant of spelling. Raises Refused if none or several
        fit, with the candidates.
        """
        return place_of(self._index, text)

    def label(self, place: str) -> str | None:
        """The label of a place (by its exact id); None: it is not recorded here."""
        known = self._index.places.get(place)
        return known.label if known else None

    def aliases(self) -> list[Alias]:
        """All aliases in their latest version, by label and date."""
        return list(self._index.aliases)

    def installations(self) -> list[Installation]:
        """All installations in their latest version, by label and date."""
        return list(self._index.installations)

    def occupancies(self) -> list[Occupancy]:
        """All occupancies in their latest version, by label and date."""
        return list(self._index.occupancies)

    def consents(self) -> list[Consent]:
        """All consents, including withdrawn ones, the one hardest to lose first."""
        return list(self._index.consents)

    def duties(self) -> list[Duty]:
        """All duties, the one hardest to lose first."""
        return list(self._index.duties)

    # changes

    def add_places(  # noqa: PLR0913 -- and the lots
        self,
        rows: Sequence[NewPlace],
        who: str,
        source: str,
        now: float,
        *,
        lots: Sequence[NewAlias] = (),
        preview: bool = False,
    ) -> list[Place]:
        """Record places, an occupancy from `since` for each dwelling, and lots of these or of
        recorded dwellings.
        """
        return self._change(
            Place, partial(admit_places, rows=rows, lots=lots), (who, source, now), preview
        )

    def name(
        self, rows: Sequence[NewAlias], who: str, source: str, now: float, *, preview: bool = False
    ) -> list[Alias]:
        """Record aliases of places."""
        return self._change(Alias, partial(admit_aliases, rows=rows), (who, source, now), preview)

    def occupy(
        self,
        rows: Sequence[NewOccupancy],
        who: str,
        source: str,
        now: float,
        *,
        preview: bool = False,
    ) -> list[Occupancy]:
        """Record moves, leases and corrections."""
        return self._change(
            Occupancy, partial(admit_occupancies, rows=rows), (who, source, now), preview
        )

    def install(
        self,
        rows: Sequence[NewInstallation],
        who: str,
        source: str,
        now: float,
        *,
        preview: bool = False,
    ) -> list[Installation]:
        """Record which meter measures which place."""
        return self._change(
            Installation, partial(admit_installations, rows=rows), (who, source, now), preview
        )

    def exchange(
        self, rows: Sequence[NewExchange], who: str, source: str, now: float
    ) -> list[Installation]:
        """Record exchanges of meters; the result has the old and the new meters."""
        return self._change(Installation, partial(admit_exchanges, rows=rows), (who, source, now))

    def correct_multiplier(
        self, rows: Sequence[NewMultiplier], who: str, source: str, now: float
    ) -> list[Installation]:
        """Record right multipliers of meters; the result has both versions of each."""
        return self._change(Installation, partial(admit_multipliers, rows=rows), (who, source, now))

    def pin(
        self, device: str, serial: str, who: str, source: str, now: float
    ) -> list[Installation]:
        """Record the serial number that a device reports in its installations without one.

        Nothing is written if there are none. Raises Refused if that meter is installed elsewhere.
        """
        return self._change(
            Installation, partial(admit_pin, device=device, serial=serial), (who, source, now)
        )

    def pin_all(
        self, serials: Mapping[str, str], who: str, source: str, now: float
    ) -> tuple[list[Installation], Mapping[str, str]]:
        """Like `pin` for many devices in one change; `serials` by device.

        Also returns which devices were refused and why: their meter is installed elsewhere.
        """
        refused: dict[str, str] = {}
        admit = partial(admit_pins, serials=serials, refused=refused)
        return self._change(Installation, admit, (who, source, now)), refused

    def verify(
        self, meters: Sequence[str], how: str, who: str, source: str, now: float
    ) -> list[Installation]:
        """Record that a person verified installations (by id), by `display` or by `load`."""
        return self._change(
            Installation, partial(admit_proof, meters=meters, how=how), (who, source, now)
        )

    def prove_factors(
        self, results: Sequence[FactorResult], who: str, source: str, now: float
    ) -> list[FactorProof]:
        """Record what comparisons have shown about the factors of meters. Nothing is written while
        an upgrade is on trial, because the previous version cannot read it.
        """
        if not self.marked:
            return []
        admit = partial(admit_factors, results=results)
        return self._change(FactorProof, admit, (who, source, now))

    def factor_proof(self, meter: Installation, channel: str, point: str) -> FactorProof | None:
        """The strongest proof of a meter's factor that still applies, right or wrong; None: there
        is none. `point`: `Point.to_prove`.
        """
        proofs = self._index.factor_proofs.get((meter.id, channel), ())
        return next((one for one in proofs if one.of(meter, point)), None)

    def factor_proven(
        self, meter: Installation, channel: str, point: str, *, confirmed: bool = False
    ) -> bool:
        """Whether a meter's factor is proven, or needs no proof and nothing contradicts it.
        `point`, `confirmed`: `Point.to_prove` and `Point.confirmed`.
        """
        proof = self.factor_proof(meter, channel, point) if point else None
        return not point or (confirmed if proof is None else proof.factor == 1)

    def consent(  # noqa: PLR0913 -- and the policy
        self,
        rows: Sequence[NewConsent],
        who: str,
        source: str,
        now: float,
        policy: Policy,
        *,
        preview: bool = False,
        without_effect: list[Refused] | None = None,
    ) -> list[Consent]:
        """Record consents within the policy.

        For a single row NotYet is raised if it may become possible once an occupancy is recorded or
        a withdrawal has arrived; Unknowing if it does not know a withdrawal. Rows of a list that do
        not know one have no effect and are added to `without_effect`.
        """
        unknowing: list[Refused] = [] if without_effect is None else without_effect
        admit = partial(admit_consents, rows=rows, policy=policy, without_effect=unknowing)
        return self._change(Consent, admit, (who, source, now), preview)

    def withdraw(
        self, rows: Sequence[NewWithdrawal], who: str, source: str, now: float
    ) -> list[Consent]:
        """Record withdrawals and refusals; the result has the recorded consents that they end or
        narrow.
        """
        admit = partial(admit_withdrawals, rows=rows, marked=self.marked)
        return self._change(Consent, admit, (who, source, now))

    def marks_of(self, occupancy: str, recipient: str) -> Marks:
        """The withdrawals from and refusals to a recipient, in order (marks.py)."""
        return self._index.marks_of(occupancy, recipient)

    def marks(self, occupancy: str, recipient: str | None = None) -> Sequence[ConsentMark]:
        """All marks of an occupancy, or those that concern one recipient, in order."""
        return self._index.marks(occupancy, recipient)

    def mark(self, id_: str) -> ConsentMark | None:
        """A mark by its id; None: there is none."""
        return self._index.mark(id_)

    def forms(self) -> list[Form]:
        """All printed consent forms, oldest first."""
        return sorted(self._index.forms.values(), key=lambda form: (form.printed, form.id))

    def print_forms(
        self, places: Sequence[str], boxes: Sequence[Box], who: str, now: float
    ) -> list[Form]:
        """Record a form for the occupants of each place. Raises Refused while an upgrade is on
        trial, because the previous version cannot read forms.
        """
        if not self.marked:
            raise Refused(
                "an upgrade is on trial, so no forms can be printed; print them once it"
                " is confirmed"
            )
        admit = partial(admit_forms, places=places, boxes=boxes)
        return self._change(Form, admit, (who, "gardien consent forms", now))

    def answer(  # noqa: PLR0913 -- and the policy
        self,
        rows: Sequence[NewAnswer],
        who: str,
        source: str,
        now: float,
        policy: Policy,
        *,
        without_effect: list[Refused],
        preview: bool = False,
    ) -> list[Consent]:
        """Record the answers on forms; the result has the consents that they give or end. What has
        no effect is added to `without_effect`.
        """
        admit = partial(admit_answers, rows=rows, policy=policy, without_effect=without_effect)
        return self._change(Consent, admit, (who, source, now), preview)

    def draw_marks(self, now: float, *, restored: bool = False) -> None:
        """Draw the missing marks of withdrawals; `restored`: also one for every occupancy."""
        admit = admit_restored if restored else admit_missing_marks
        self._change(ConsentMark, admit, ("gardien", "restore" if restored else "upgrade", now))

    def oblige(
        self, rows: Sequence[NewDuty], who: str, source: str, now: float, *, preview: bool = False
    ) -> list[Duty]:
        """Record duties of the building manager."""
        return self._change(Duty, partial(admit_duties, rows=rows), (who, source, now), preview)

    def end_duty(
        self, duty: str, until: int | None, who: str, source: str, now: float
    ) -> list[Duty]:
        """Record that a duty, by id or reference, ends; None: now."""
        return self._change(
            Duty, partial(admit_end_of_duty, id_=duty, until=until), (who, source, now)
        )

    # questions that every reading asks

    def whose(
        self, device: str, serial: str | None, channel: str, t: int
    ) -> Installation | Unknown:
        """The installation to which a value at t (Unix seconds) belongs, or why there is none.

        `serial` is the number that the device reports; None: none. If installations name the
        device, they alone decide; another serial number than recorded gives Unknown, whatever else
        is installed (rule G4). At the instant of its end a meter without a successor still answers,
        with its closing index. For a quantity over (t − step, t] pass t − 1.
        """
        return self._index.whose(device, serial, channel, t)

    def installed_at(self, device: str, serial: str | None) -> tuple[tuple[str, int], ...]:
        """The installations that name a device or the serial number that it reports, with the
        change that last recorded each: another answer after each change of one of them.
        """
        named = self._index.meters_called(device, serial)
        return tuple((one.id, one.word.revision) for one in named)

    def meters_called(self, serial: str) -> Sequence[Installation]:
        """Every installation of a meter, by its serial number."""
        return self._index.meters_called(None, serial)

    def meters_of(self, place: str) -> Sequence[Installation]:
        """Every meter that ever measured a place (by id), in order."""
        return self._index.meters_of(place)

    def occupancy_at(self, place: str, t: int) -> Occupancy | None:
        """The occupancy of a place (by id) at t; None: vacant or unknown."""
        return self._index.occupancy_at(place, t)

    def occupancy_state(self, place: str, t: int) -> tuple[OccupancyState, int | None]:
        """Whether a dwelling (by id) is occupied, vacant or unknown at t, and since when. It is
        unknown before its first recorded occupancy.
        """
        return self._index.occupancy_state(place, t)

    def lived_in_from(self, place: str, t: int) -> int | None:
        """When the next occupancy of a dwelling (by id) after t begins; None: none is recorded."""
        return self._index.lived_in_from(place, t)

    def occupancies_of(self, place: str) -> Sequence[Occupancy]:
        """All occupancies of a place (by id), in order of time."""
        return self._index.occupancies_of(place)

    def lived_in_before(self, place: str, t: int) -> bool:
        """Whether any occupancy of the place began at or before t."""
        return self._index.lived_in_before(place, t)

    def consents_of(self, occupancy: str, recipient: str) -> Sequence[Consent]:
        """Consents of an occupancy to a recipient that are not withdrawn, the one hardest to lose
        first.
        """
        return () if self.mute else self._index.consents_of(occupancy, recipient)

    def ever_agreed(self, place: str, recipient: str) -> Sequence[Consent]:
        """Every consent of a place's occupants (by id) to this recipient, including withdrawn ones,
        the one hardest to lose first.
        """
        return () if self.mute else self._index.ever_agreed(place, recipient)

    def dwellings(self) -> Sequence[str]:
        """Every dwelling, by id."""
        return self._index.dwellings()

    def duties_of(self, channel: str) -> Sequence[Duty]:
        """Duties that name a channel, the one hardest to lose first."""
        return () if self.mute else self._index.duties_of(channel)

    def turns(self, start: int, end: int) -> list[int]:
        """Times in (start, end], sorted, at which an answer may change: every since and until, and
        the second after each.

        The policy's own `common.since` is not among them.
        """
        return self._index.turns(start, end)

    # changes in the background

    def state(self) -> tuple[Path, RegistryStorage, RegistryIndex]:
        """What a draft of the registry starts from."""
        return self._path, self._storage, self._index

    def adopt(
        self,
        added: Sequence[Document],
        index: RegistryIndex,
        of: RegistryIndex,
        staged: Staged | None,
    ) -> bool:
        """Adopt a change that was checked elsewhere: its documents, the index with them, and the
        snapshot with them if one was written. False, without effect, if the registry is no longer
        the one (`of`) that the change started from.
        """
        # the change was checked against another state: what it contradicts may be recorded by now
        if of is not self._index:
            return False
        try:
            if staged is None:
                self._write(added)
            else:
                self._storage.settle(staged)
        except (OSError, NotRecorded) as error:
            self._disk_failed(error, ())  # the file may have changed nevertheless
            raise self._not_recorded(error) from error
        self._index = index
        if staged is not None:
            self._written()
        self.changed.tell()
        return True

    @property
    def long_log(self) -> bool:
        """Whether the log of changes should become part of a new snapshot (`fold_log`)."""
        return self._complete and self._storage.long

    def stored(self) -> Documents | None:
        """The documents as the disk has them, in one table; None: there is no file yet. Raises
        NotRecorded if they cannot be read.
        """
        return self._storage.read()

    def _change(
        self, cls: type[D], admit: Admit, by: tuple[str, str, float], preview: bool = False
    ) -> list[D]:
        documents = admit(self._index, author=Author(*by, self.revision + 1))
        if not preview:
            self._record(documents)
        return [document for document in documents if isinstance(document, cls)]

    def _record(self, documents: list[Document]) -> None:
        """Write documents to the disk and put them in force.

        What takes something away is in force even if the disk does not accept it: at once, and
        after kill -9; `unrecorded` lists it. Everything else is then not in force: raises
        NotRecorded.
        """
        if not documents:
            return
        try:
            self._write(documents)
        except (OSError, NotRecorded) as error:
            self._disk_failed(error, documents)
        else:
            self._index = self._index.and_with(documents)
            self.changed.tell()

    def _disk_failed(self, error: Exception, documents: Sequence[Document]) -> None:
        """Put in force, without the disk, those documents that take something away. Raises
        NotRecorded if there are others.
        """
        # a withdrawal must stop rows even if the disk fails; anything else can be tried again
        ends = [one for one in documents if self._takes_away(one)]
        if self._complete:
            # only at the first failure: of what is written later, nobody knows whether it is in the
            # file
            self._complete, self._last_good = False, self.revision
        if ends:
            self._index = self._index.and_with(ends)
            self.unrecorded += tuple(ends)
        self._write_notes()
        self.changed.tell()
        if len(ends) < len(documents):
            raise self._not_recorded(error, ends) from error

    def _write(self, documents: Sequence[Document] = ()) -> None:
        """Write all documents in force, and these, to the disk. Raises OSError."""
        if self._complete:
            self._table.insert_multiple(to_row(document) for document in documents)
            return
        # an earlier write failed, so the file may hold refused documents: replace all of it
        rows = [to_row(document) for document in (*self._documents, *documents)]
        self._storage.write({TABLE: {str(n): row for n, row in enumerate(rows, 1)}})
        self._written(len(rows))

    def _written(self, length: int | None = None) -> None:
        # a new table: TinyDB keeps the next row number in memory, and the file was replaced
        rows = len(self._documents) if length is None else length
        self._table = DocumentTable(self._storage, rows)
        self._complete = True
        if self.unrecorded or self._last_good is not None:
            self.unrecorded, self._last_good = (), None
            self._write_notes()

    @property
    def answers(self) -> tuple[int, bool]:
        """Identifies the state that the answers reflect: (revision, mute)."""
        return self.revision, self.mute

    @property
    def last_recorded(self) -> int:
        """Number of the last change that the disk has for sure."""
        return self.revision if self._last_good is None else min(self._last_good, self.revision)

    @property
    def written(self) -> bool:
        """Whether the disk has all documents in force."""
        return self._complete

    def begin_notes(self, *, failing: bool) -> None:
        """Begin the notes of this boot, by which a later start knows that it has lost nothing.
        `failing`: the disk accepts nothing now; if there are no notes then, nothing is allowed
        until it does.
        """
        self._notes_begun = True
        if self._notes is None:
            return
        if failing:
            self.mute = self.mute or not self._notes.exists()
        else:
            self.mute = False
        self._write_notes()

    def unmute(self) -> None:
        """The disk works again, so the registry may allow again."""
        self.mute = False
        self._write_notes()

    def retry(self) -> bool:
        """Write what the disk has not accepted yet; whether it has everything now."""
        if not self._complete:
            with suppress(OSError, NotRecorded):
                self._write()
        return self._complete

    def _takes_away(self, after: Document) -> bool:
        """Whether a document only restricts: nothing may leave by it that could not leave without
        it.
        """
        if isinstance(after, Withdrawal | ConsentMark):
            return True
        if not isinstance(after, (Consent, Occupancy, Duty)):
            return False
        known = (one for one in reversed(self._documents) if one.kind == after.kind)
        before = next((one for one in known if one.id == after.id), None)
        if isinstance(after, Consent) and isinstance(before, Consent):
            # A replaced consent ends together with the beginning of the other one, or not.
            return after.withdrawn is not None or (
                after.replaced == before.replaced
                and set(after.channels) <= set(before.channels)
                and after.until <= before.until
            )
        # one without an earlier version is new, and may allow something
        return before is not None and _ends_sooner(before, after)

    def _load_notes(self) -> None:
        """Put in force what was noted and did not reach the disk."""
        try:
            noted = json.loads(self._notes.read_bytes()) if self._notes else {}
            rows, good = list(noted["documents"]), noted["good"]
        except (FileNotFoundError, ValueError, TypeError, LookupError):
            return
        self.mute = bool(noted.get("mute"))
        unrecorded = tuple(map(from_row, rows))
        have, noted_ones = frozenset(self._documents), frozenset(unrecorded)
        new = [document for document in unrecorded if document not in have]
        # drop documents that reached the disk in a failed write: their authors got an error
        kept = [
            document
            for document in self._documents
            if good is None or document.word.revision <= good or document in noted_ones
        ]
        if new or len(kept) < len(self._documents):
            self._last_good = good
            self._index = RegistryIndex([*kept, *new])
            self.unrecorded, self._complete = unrecorded, False
            self.retry()

    def _write_notes(self) -> None:
        """Note what the disk has not accepted in a file that survives kill -9."""
        if self._notes is None:
            return
        try:
            made(self._notes.parent)
            new = self._notes.with_suffix(".new")
            content = {
                "documents": [to_row(one) for one in self.unrecorded],
                "good": self._last_good,
                # without notes of this boot a withdrawal may have been lost: allow nothing
                "mute": self.mute or not (self._notes_begun or self._notes.exists()),
            }
            new.write_text(json.dumps(content), encoding="utf-8")
            # in one step: a kill in between must leave the former notes
            new.replace(self._notes)
        except (OSError, Refused) as error:
            log.error(  # noqa: TRY400 -- no bug
                "%s cannot be written: %s", self._notes, error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN, store=self._notes.name),
            )  # fmt: skip

    def _not_recorded(self, error: Exception, ends: Sequence[Document] = ()) -> NotRecorded:
        if ends:
            more = ["…"] if len(ends) > NAMED else []
            return NotRecorded(
                "{path} could not be written ({error}). In force, but not recorded yet: the end of"
                " {ends}. The rest was refused: once the disk works, do the same again",
                path=self._path,
                error=error,
                ends=", ".join([*(shown(one.id) for one in ends[:NAMED]), *more]),
            )
        return NotRecorded(
            "{path} could not be written ({error}); the change was not recorded",
            path=self._path,
            error=error,
        )

    def _load(self) -> None:
        stored = self._storage.load()
        try:
            tables = {TABLE: {}} if stored is None else dict(stored)
            rows = tables.pop(TABLE)
            # a later version may have added tables, which the next write would drop
            if tables:
                raise ValueError(Text("unknown tables {tables}", tables=sorted(tables)))
            self._index = RegistryIndex([from_row(row) for row in rows.values()])
            self._table = DocumentTable(self._storage, len(rows))
        except (AttributeError, ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise NotRecorded(
                "{path}: this is not a registry that this version can read ({kind}: {error}); it"
                " was left unchanged",
                path=self._path,
                kind=type(error).__name__,
                error=error,
            ) from error
        except Refused as error:
            raise NotRecorded(
                "{path}: {error}; it was left unchanged", path=self._path, error=error
            ) from error


def _ends_sooner(before: Document, after: Document) -> bool:
    """Whether an occupancy or duty differs from its earlier version only by an earlier end."""
    if not isinstance(before, (Occupancy, Duty)) or not isinstance(after, (Occupancy, Duty)):
        return False
    if after != replace(before, until=after.until, word=after.word) or after.until is None:
        return False
    return before.until is None or after.until <= before.until
