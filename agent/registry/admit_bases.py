"""Checks of consents, withdrawals, duties, and consent forms (printed, and answered)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING

from agent.core.clock import stamp
from agent.core.errors import NotYet, Refused
from agent.core.i18n import Text, joined
from agent.registry import parsers
from agent.registry.admission import (
    admit_rows,
    claim,
    current_claims,
    dwelling,
    in_order,
    label_and_id,
    new_id,
)
from agent.registry.dates import day_of_the_year, months_later, sane
from agent.registry.doubts import date_doubts, recipient_doubts, unlikely_consent
from agent.registry.forms import NUMBER, Box
from agent.registry.index import Unknowing, sentence, unknown
from agent.registry.index import unknown as marks_unknown
from agent.registry.inputs import NewConsent, NewWithdrawal
from agent.registry.place import OCCUPANCY, mint, parse, shown, squeeze
from agent.registry.records import (
    Consent,
    ConsentMark,
    Duty,
    Form,
    OccupancyState,
    Withdrawal,
    covers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.registry.admission import Author, Conflicts
    from agent.registry.consent_policy import Policy
    from agent.registry.doubts import DoubtfulValue
    from agent.registry.index import RegistryIndex
    from agent.registry.inputs import NewAnswer, NewDuty
    from agent.registry.records import Document, Occupancy, Place, Provenance

DAY = 86_400


def admit_consents(
    index: RegistryIndex,
    rows: Sequence[NewConsent],
    author: Author,
    policy: Policy,
    without_effect: list[Refused],
) -> list[Document]:
    """Documents for consents. Each belongs to the occupancy at its beginning.

    A consent is refused if it does not know of a withdrawal (marks.py), if it was signed in the
    future, or if it was signed before the occupancy began and does not name it. A consent that
    replaces another ends that one where it begins itself. A row of a list yields no document if its
    content is recorded already. A row of a list that does not know of a withdrawal is added to
    `without_effect`. Raises NotYet if no occupancy is recorded yet, or if a withdrawal that it
    names has not arrived.
    """
    claims = current_claims(index)
    known = {doc.id: doc for doc in index.consents}

    def admit(row: NewConsent) -> Iterator[Document]:
        _not_in_the_future(row, author, policy)
        # otherwise an old list would give the consent of earlier occupants to the present ones
        gone = _withdrew_and_left(index, row, author)
        without_effect.extend(gone)
        if gone or _stood_while_they_lived_there(index, row, author):
            return
        home, since = _home(index, row, author)
        # without a date it counts as signed when it begins, but not in the future
        signed = min(int(author.now), since) if row.given is None else row.given
        consent = Consent(
            id=row.id or new_id(),
            occupancy=home.id,
            place=home.place,
            recipient=parsers.recipient(row.recipient),
            channels=parsers.personal(row.channels),
            step=parsers.checked_step(row.step, policy),
            purpose=parsers.text(row.purpose, "purpose", parsers.LONGEST_WORD),
            since=since,
            until=parsers.until(row.until, since, signed),
            word=author.provenance(row.where),
            given=row.given,
            method=row.method[: parsers.LONGEST_LABEL],
            proof=row.proof[: parsers.LONGEST_WORD],
        )
        if consent.id in known:
            raise Refused("consent {id} is recorded already", id=consent.id)
        old = _consent_again(index, row, consent)
        if old is not None and row.where:
            return
        if old is not None:
            raise Refused("{sentence}: that is recorded already", sentence=claims.sentence(old))
        _signed_by_them(index, row, home, author, policy)
        _of_one_lease(index, row, home)
        try:
            consent = _knowing(index, claims, row, consent, author)
        except Unknowing as error:
            if not row.where:
                raise
            without_effect.append(error)
            return
        # before the claim: the old consent must end first, or both would contradict each other
        yield from _replaced(claims, known, row, consent)
        known[consent.id] = consent
        try:
            yield claim(claims, consent)
        except Refused as error:
            if row.id is not None or row.replaces is not None:
                raise
            raise Refused(
                "{error}; to end that one where this one begins: --replace", error=error
            ) from error

    doubts = partial(_consent_doubts, index, _known_recipients(index), author.now)
    return in_order(admit_rows(rows, admit, doubts=doubts))


def _known_recipients(index: RegistryIndex) -> frozenset[str]:
    consents = {consent.recipient for consent in index.consents}
    return frozenset(consents | {duty.recipient for duty in index.duties})


def _consent_doubts(
    index: RegistryIndex,
    recipients: frozenset[str],
    now: float,
    row: NewConsent,
    made: Sequence[Document],
) -> Iterator[DoubtfulValue]:
    yield from _recipient_doubts(recipients, row, made)
    if row.since is not None and isinstance(made[-1], Consent):
        label = index.places[made[-1].place].label
        yield from date_doubts(label, row.since, now, row.where, ahead=unlikely_consent)


def _recipient_doubts(
    recipients: frozenset[str], row: NewConsent | NewWithdrawal | NewDuty, _made: object
) -> Iterator[DoubtfulValue]:
    if row.recipient:
        name = parsers.recipient(row.recipient)
        yield from recipient_doubts(name, row.configured, recipients, row.where)


def admit_withdrawals(
    index: RegistryIndex, rows: Sequence[NewWithdrawal], author: Author, *, marked: bool
) -> list[Document]:
    """Documents for withdrawals, from now on and for all time, each with its mark.

    A consent is named by its id, even if it has never arrived; then everything that these people
    agreed to for that recipient ends as well. Or a place is named, with conditions that select
    among the consents of its occupants. If only some channels or one purpose are named, the others
    stay. `marked`: draw marks.
    """
    known = {doc.id: doc for doc in index.consents}

    def ended(
        row: NewWithdrawal, meant: list[Consent], provenance: Provenance
    ) -> Iterator[Document]:
        channels = set(parsers.channels(row.channels)) if row.channels else set()
        for named in meant:
            consent = known[named.id]
            if consent.withdrawn is not None or (channels and not channels & set(consent.channels)):
                continue
            # a consent to several channels is narrowed, not ended, if only some are withdrawn
            left = tuple(name for name in consent.channels if channels and name not in channels)
            if left:
                known[consent.id] = replace(consent, channels=left, word=provenance)
            else:
                known[consent.id] = replace(consent, withdrawn=int(author.now), word=provenance)
            yield known[consent.id]

    def admit(row: NewWithdrawal) -> Iterator[Document]:
        provenance = author.provenance(row.where)
        unheard = row.id is not None and row.id not in known
        occupancy, recipient, meant = _withdrawn_by(index, known, row, author)
        again = unheard and row.id in index.withdrawn
        if again and not row.number:
            raise Refused("consent {id} was withdrawn already", id=row.id)
        if unheard and not again:
            # recorded, so that the consent is refused if it arrives after its withdrawal
            yield Withdrawal(parsers.text(row.id or "", "id", parsers.LONGEST_LABEL), provenance)
        ends = list(ended(row, meant, provenance))
        partly = row.channels or row.purpose or (row.id and not unheard)
        if not ends and partly and not row.number:  # a signed withdrawal has effect by its number
            raise Refused(_nothing_left(row, _theirs(known, occupancy)))
        yield from ends
        if occupancy and marked:
            cause = Text("refused") if row.refused else Text("withdrawn")
            # Also for a part: an older consent for another recipient may still be in transit.
            yield ConsentMark(new_id(), occupancy, recipient, cause, provenance, row.number)

    doubts = partial(_recipient_doubts, _known_recipients(index))
    return in_order(admit_rows(rows, admit, doubts=doubts))


def _withdrawn_by(
    index: RegistryIndex, known: Mapping[str, Consent], row: NewWithdrawal, author: Author
) -> tuple[str | None, str | None, list[Consent]]:
    """Whose withdrawal it is, for which recipient (None: for all), and which consents it may end.

    If the consent never arrived, only the signed object says whose it is.
    """
    recipient = parsers.recipient(row.recipient) if row.recipient else None
    if row.id is not None:
        named = known.get(row.id)
        if named is None:
            # if the object names no recipient, the consent may have been for any
            theirs = [doc for doc in known.values() if doc.occupancy == row.occupancy]
            meant = [one for one in theirs if recipient in (None, one.recipient)]
            return row.occupancy, recipient, meant
        if row.channels:
            return named.occupancy, named.recipient, [named]
        occupancy, recipient = named.occupancy, named.recipient
    elif row.occupancy is not None:
        occupancy = row.occupancy
    else:
        place = dwelling(index, row.place, Text("have consents"))
        home = index.occupancy_at(place.id, int(author.now))
        if home is None:
            reason = _nobody(index, place, int(author.now))
            raise Refused("{words}; name the consent by its id", words=reason)
        occupancy = home.id
    meant = [
        doc
        for doc in known.values()
        if doc.occupancy == occupancy
        and recipient in (None, doc.recipient)
        and row.purpose in (None, doc.purpose)
    ]
    return occupancy, recipient, meant


def _nothing_left(row: NewWithdrawal, theirs: Sequence[Consent]) -> str:
    return Text(
        "{what}: no such consent is left to withdraw; the consents in force are for: {purposes}",
        what=row.id or row.place,
        purposes=", ".join(sorted({one.purpose for one in theirs})) or "-",
    )


def _theirs(known: Mapping[str, Consent], occupancy: str | None) -> list[Consent]:
    """The consents of these people that are not withdrawn."""
    return [one for one in known.values() if one.occupancy == occupancy and one.withdrawn is None]


def admit_missing_marks(index: RegistryIndex, author: Author) -> list[Document]:
    """A mark for each withdrawal that an earlier version of gardien recorded without one."""
    return [
        ConsentMark(new_id(), occupancy, recipient, "withdrawn", author.provenance(""))
        for occupancy, recipient in index.unmarked()
    ]


def admit_restored(index: RegistryIndex, author: Author) -> list[Document]:
    """A mark for every occupancy: consents and withdrawals since the backup may be missing."""
    return [
        ConsentMark(new_id(), home.id, None, "restored", author.provenance(""))
        for home in index.occupancies
    ]


def admit_duties(index: RegistryIndex, rows: Sequence[NewDuty], author: Author) -> list[Document]:
    """Documents for duties. At any time all of them name one recipient: the building manager."""
    claims = current_claims(index)
    duties = list(index.duties)

    def admit(row: NewDuty) -> Iterator[Document]:
        since = author.since(row.since)
        if row.until is not None and sane(row.until) <= since:
            raise Refused(
                "until: {stamp} is not after {stamp_2}",
                stamp=stamp(row.until),
                stamp_2=stamp(since),
            )
        duty = Duty(
            id=row.id or new_id(),
            recipient=parsers.recipient(row.recipient),
            reference=parsers.text(row.reference, "reference", parsers.LONGEST_WORD),
            channels=parsers.registers(row.channels),
            since=since,
            until=row.until,
            word=author.provenance(row.where),
            billing=tuple(sorted({day_of_the_year(day) for day in row.billing})),
        )
        old = _duty_again(index, row, duty)
        if old is not None:
            raise Refused("{sentence}: that is recorded already", sentence=claims.sentence(old))
        for other in duties:
            if other.id == duty.id:
                raise Refused("duty {id} is recorded already", id=duty.id)
            # a duty needs no consent, so a second manager would receive data without any
            if other.recipient != duty.recipient and _overlap(duty, other):
                raise Refused(
                    "{statement}, but {sentence}: a building has one manager at a time",
                    statement=claims.statement(duty),
                    sentence=claims.sentence(other),
                )
        duties.append(duty)
        yield claim(claims, duty)

    return admit_rows(rows, admit, doubts=partial(_recipient_doubts, _known_recipients(index)))


def admit_end_of_duty(
    index: RegistryIndex, id_: str, until: int | None, author: Author
) -> list[Document]:
    """End a duty, named by its id or its reference. An end at its beginning means that it never
    held. Raises Refused.
    """
    at = author.since(until)
    meant = [
        doc
        for doc in index.duties
        if doc.id == id_ or (doc.reference == id_ and (doc.until is None or at < doc.until))
    ]
    if len(meant) != 1:
        known = ", ".join(f'{doc.id} ("{doc.reference}")' for doc in meant or index.duties)
        raise Refused(
            '"{id}" does not name exactly one duty; the duties are: {value}',
            id=id_,
            value=known or Text("none"),
        )
    if at < meant[0].since:
        raise Refused("the duty begins only at {stamp}", stamp=stamp(meant[0].since))
    return [replace(meant[0], until=at, word=author.provenance(""))]


def _not_in_the_future(row: NewConsent, author: Author, policy: Policy) -> None:
    """Refuse a signature in the future, because the consent would count as newer than every
    withdrawal until then. A list has days only: none after today.
    """
    if row.given is None:
        return
    late = row.where and _day(row.given, policy) > _day(author.now, policy)
    if late or row.given > author.now + parsers.CLOCKS_DIFFER:
        raise Refused(
            "given: {given} is in the future (the gateway's time is {now}), so the"
                " consent was not recorded; write the date of the signature",
                given=stamp(row.given), now=stamp(author.now)
        )  # fmt: skip


def _signed_by_them(
    index: RegistryIndex, row: NewConsent, home: Occupancy, author: Author, policy: Policy
) -> None:
    """Refuse a consent signed before these people moved in, unless it names their occupancy."""
    # days are compared: a paper has no hour, and people may sign on the day on which they move in
    signed = author.now if row.given is None else row.given
    if row.occupancy or row.lease or _day(signed, policy) >= _day(home.since, policy):
        return
    raise Refused(
        "given: {place}: the consent was signed on {signed}, before this occupancy"
            " began on {since}. It may be the consent of the previous occupants, so it was"
            " not recorded. If the present occupants signed it, write {lease} in a column"
            " `lease` (--lease {lease}). If they moved in earlier, import the list of"
            " leases (gardien occupancy import LIST), or correct the date: gardien"
            " occupancy correct {label} --since DATE",
            place=label_and_id(index.places[home.place]), label=index.places[home.place].label,
            signed=stamp(signed), since=stamp(home.since), lease=home.reference or shown(home.id)
    )  # fmt: skip


def _day(at: float, policy: Policy) -> date:
    """The day of a time in the building's time zone."""
    return datetime.fromtimestamp(at, policy.zone or UTC).date()


def _home(index: RegistryIndex, row: NewConsent, author: Author) -> tuple[Occupancy, int]:
    """The occupancy that consents, and from when on the consent counts."""
    if row.lease is not None and row.occupancy is None:
        return _of_lease(index, row, row.lease.strip(), author)
    since = author.since(row.since)
    return _lives_there(index, row, since), since


def _stood_while_they_lived_there(index: RegistryIndex, row: NewConsent, author: Author) -> bool:
    """Whether a row of a list states a consent of people who have moved out since."""
    if not (row.where and row.lease and row.since is None and row.replaces is None):
        return False
    place = dwelling(index, row.place, Text("have consents"))
    return any(
        old.channels == parsers.personal(row.channels)
        and (old.step, old.purpose) == (row.step, row.purpose)
        and row.given in (None, old.given)
        for home in _leases(index, place, row.lease)
        if home.until is not None and home.until <= author.now
        for old in index.consents_of(home.id, row.recipient)
    )


def _withdrew_and_left(index: RegistryIndex, row: NewConsent, author: Author) -> list[Refused]:
    """Why a row of a list has no effect, if the people whom it names have withdrawn and moved out
    since: the rows of the others count.
    """
    if not (row.where and row.lease and row.since is None and row.occupancy is None):
        return []
    place = dwelling(index, row.place, Text("have consents"))
    homes = _leases(index, place, row.lease)
    gone = [home for home in homes if home.until is not None and home.until <= author.now]
    if not any(index.marks(home.id) for home in gone) or gone != homes:
        return []
    reason = Refused(
        "{where}: the occupants with lease {lease} have withdrawn and moved out of {place}; the"
        " other rows count. If this row is of the present occupants, write their lease: gardien"
        " occupancy list {label}",
        where=row.where, lease=row.lease.strip(), place=label_and_id(place), label=place.label,
    )  # fmt: skip
    return [reason]


def _leases(index: RegistryIndex, place: Place, lease: str) -> list[Occupancy]:
    """The occupancies of a dwelling with this reference or id."""
    homes = index.occupancies_of(place.id)
    return [home for home in homes if home.reference == lease.strip() or home.id == squeeze(lease)]


def _of_lease(
    index: RegistryIndex, row: NewConsent, lease: str, author: Author
) -> tuple[Occupancy, int]:
    """The occupancy with this lease. Its consent counts from the move-in at the earliest."""
    place = dwelling(index, row.place, Text("have consents"))
    named = _leases(index, place, lease)
    for home in named:
        since = author.since(row.since)
        if row.since is None:
            since = max(since, home.since)
        if covers(home, since):
            return home, since
    if named:
        raise Refused(
            "lease: {place}: lease {lease} does not include {since}, so the consent was"
                " not recorded; find the right lease: gardien occupancy list {label}",
                place=label_and_id(place), label=place.label, lease=lease,
                since=stamp(author.since(row.since))
        )  # fmt: skip
    raise Refused(
        'lease: {place} has no lease "{lease}" yet, so the consent was not recorded;'
            " record the lease first: gardien occupancy import LIST",
            place=label_and_id(place), lease=lease
    )  # fmt: skip


def _lives_there(index: RegistryIndex, row: NewConsent, since: int) -> Occupancy:
    """The occupancy that consents, by id or by who lives there at `since`. Raises NotYet if none is
    recorded, Refused if it does not fit.
    """
    if row.occupancy is not None:
        id_ = parse(row.occupancy, OCCUPANCY)
        home = index.occupancy(id_)
        if home is None:
            if row.place:
                index.labels.find(row.place)
            raise NotYet("occupancy {id} is not recorded yet", id=shown(id_))
        if row.place and index.labels.find(row.place).id != home.place:
            raise Refused("occupancy {id} is not in {place}", id=shown(id_), place=row.place)
        if not covers(home, since):
            raise Refused(
                "occupancy {id} does not include {stamp}", id=shown(id_), stamp=stamp(since)
            )
        return home
    place = dwelling(index, row.place, Text("have consents"))
    occupancy = index.occupancy_at(place.id, since)
    if occupancy is None:
        raise NotYet(
            "{words}; record the move-in first: gardien occupancy move-in",
            words=_nobody(index, place, since),
        )
    return occupancy


def _nobody(index: RegistryIndex, place: Place, t: int) -> str:
    """Why no occupants can have agreed or withdrawn at t: the dwelling is vacant or unknown."""
    state, since = index.occupancy_state(place.id, t)
    if state is OccupancyState.VACANT:
        left = stamp(since or 0)
        return Text(
            "{place} is vacant at {at}; the last occupants left on {left}",
            place=label_and_id(place),
            at=stamp(t),
            left=left,
        )
    return Text(
        "{place}: at {at} it is unknown whether somebody lives there",
        place=label_and_id(place),
        at=stamp(t),
    )


def _knowing(
    index: RegistryIndex, claims: Conflicts, row: NewConsent, consent: Consent, author: Author
) -> Consent:
    """The consent, beginning at the last mark at the earliest. Raises Unknowing if it does not know
    a mark, NotYet if it may know one that has not arrived.
    """
    if consent.id in index.withdrawn:
        raise Refused("consent {id} was withdrawn before it arrived", id=consent.id)
    marks = index.marks_of(consent.occupancy, consent.recipient)
    unknown = marks_unknown(marks, row.after, row.withdrawals, author.who)
    if unknown:
        raise Unknowing(
            Text(
                "{consent}, but since then: {marks}. If the occupants agree again now,"
                " record the consent with the last mark (--after, or a column `after`)",
                consent=claims.statement(consent), marks=joined("; ", map(sentence, unknown)),
            ),
            unknown,
        )  # fmt: skip
    last = max((mark.word.when for mark in marks.drawn), default=0)
    # a mark drawn while the clock was ahead still lies in the past
    return replace(consent, since=max(consent.since, int(min(last, author.now))))


def _of_one_lease(index: RegistryIndex, row: NewConsent, home: Occupancy) -> None:
    """Refuse a row of a list that does not name its occupants, if it may be of earlier ones."""
    if row.occupancy or row.lease or not row.where:
        return
    # an undated list may be older than the last move
    lived = [one for one in index.occupancies_of(home.place) if one.until != one.since]
    if len(lived) > 1:
        raise Refused(
            "lease: {place} has had {many} occupancies, and the list does not say which"
                " of them consented; write the reference of the lease in a column `lease`",
                place=label_and_id(index.places[home.place]), many=len(lived)
        )  # fmt: skip


def _replaced(
    claims: Conflicts, known: dict[str, Consent], row: NewConsent, consent: Consent
) -> Iterator[Document]:
    """The consent that ends where this one begins."""
    if row.replaces is None:
        return
    if row.replaces == "any":
        against = claims.against(consent)
        old = against if isinstance(against, Consent) else None
    else:
        old = known.get(row.replaces)
        if old is None or old.occupancy != consent.occupancy:
            raise Refused(
                "these occupants have no consent {replaces} to replace", replaces=row.replaces
            )
    if old is not None and old.withdrawn is None and consent.since < old.until:
        # a replaced consent that was to begin later never holds
        ends = max(old.since, consent.since)
        new = replace(old, until=ends, replaced=consent.id, word=consent.word)
        known[old.id] = new
        yield claim(claims, new)


def _overlap(first: Duty, second: Duty) -> bool:
    return (second.until is None or first.since < second.until) and (
        first.until is None or second.since < first.until
    )


def _consent_again(index: RegistryIndex, row: NewConsent, new: Consent) -> Consent | None:
    """The recorded consent that a row states; None if the row replaces another one."""
    if row.id is not None or row.replaces is not None:
        return None
    for old in index.consents_of(new.occupancy, new.recipient):
        same = (old.channels, old.step, old.purpose) == (new.channels, new.step, new.purpose)
        dated = covers(old, new.since) if row.since is None else old.since == row.since
        if same and dated and row.until in (None, old.until) and row.given in (None, old.given):
            return old
    return None


def _duty_again(index: RegistryIndex, row: NewDuty, new: Duty) -> Duty | None:
    """The recorded duty that a row states."""
    for old in index.duties:
        same = (old.recipient, old.reference, old.channels, old.billing) == (
            new.recipient, new.reference, new.channels, new.billing,
        )  # fmt: skip
        dated = covers(old, new.since) if row.since is None else old.since == row.since
        if row.id is None and same and dated and row.until in (None, old.until):
            return old
    return None


def admit_forms(
    index: RegistryIndex, places: Sequence[str], boxes: Sequence[Box], author: Author
) -> list[Document]:
    """A form for the people who live in each place now. Raises Refused if none are recorded."""
    recipients = sorted({box.recipient for box in boxes})
    made: list[Document] = []
    for text in places:
        place = dwelling(index, text, Text("have consents"))
        home = index.occupancy_at(place.id, int(author.now))
        if home is None:
            raise Refused(
                "{place}: no occupants are recorded, so no form can be printed; record"
                " the lease first: gardien occupancy import LIST",
                place=label_and_id(place),
            )
        # the page mentions the marks of its own recipients only, in the order of all marks
        marks = {mark.id for to in recipients for mark in index.marks(home.id, to)}
        after = tuple(mark.id for mark in index.marks(home.id) if mark.id in marks)
        asked = tuple(box.text() for box in boxes)
        made.append(
            Form(
                mint(NUMBER),
                home.id,
                place.id,
                asked,
                after,
                int(author.now),
                author.provenance(""),
            )
        )
    return made


def admit_answers(
    index: RegistryIndex,
    rows: Sequence[NewAnswer],
    author: Author,
    policy: Policy,
    without_effect: list[Refused],
) -> list[Document]:
    """Documents for the answers on forms: refusals first, then consents that know of them.

    A form that does not know of a later withdrawal gives no consent, but its refusals count. It is
    added to `without_effect`, as is a form of people who have moved out. A form with the same
    answers as before yields no documents, except for a proof that arrives later.
    """
    known: dict[str, Form] = {}
    rounds: list[list[tuple[NewAnswer, Form]]] = []
    """forms of the same people go into successive rounds, so that the later form knows of the
    earlier
    """

    def read(row: NewAnswer) -> Iterator[Document]:
        form = _form(index, row)
        answered = known.get(form.id, form)
        if answered.signed is not None:
            if (answered.answers, answered.signed) != (row.answers, row.signed):
                raise Refused(
                    "form {form} has another answer already (signed on {signed}); to"
                        " change the answer, print a new form: gardien consent forms"
                        " {label}",
                        form=shown(form.id), signed=stamp(answered.signed),
                        label=index.places[form.place].label
                )  # fmt: skip
            yield from _proved(index, answered, row, author)
            return
        # into the first round that has no form of these people yet
        for group in rounds:
            if all(other.occupancy != form.occupancy for _row, other in group):
                group.append((row, form))
                break
        else:
            rounds.append([(row, form)])
        known[form.id] = replace(
            form, answers=row.answers, signed=row.signed, word=author.provenance(row.where)
        )
        yield known[form.id]

    documents = admit_rows(rows, read)
    for group in rounds:
        made = _answered(index, group, author, policy, without_effect)
        documents += made
        index = index.and_with(made)
    return documents


def _proved(index: RegistryIndex, form: Form, row: NewAnswer, author: Author) -> Iterator[Document]:
    """The consents of a form whose scan arrives after its answers."""
    if "sha256:" not in row.proof:
        return
    for to in sorted({Box.of(text).recipient for text in form.asked}):
        for consent in index.consents_of(form.occupancy, to):
            lacks = "sha256:" not in consent.proof
            # a consent does not name its form: the row of the list and the date of signature do
            if lacks and (consent.word.source, consent.given) == (form.word.source, form.signed):
                yield replace(consent, proof=row.proof, word=author.provenance(row.where))


def _answered(
    index: RegistryIndex,
    answered: Sequence[tuple[NewAnswer, Form]],
    author: Author,
    policy: Policy,
    without_effect: list[Refused],
) -> list[Document]:
    refusals = [
        NewWithdrawal(occupancy=form.occupancy, recipient=to, refused=True, where=row.where)
        for row, form in answered
        for to in sorted(_recipients(form, row, "no"))
    ]
    refused = admit_withdrawals(index, refusals, author, marked=True)
    # consents name the marks that the refusals of the same form have just drawn
    after = index.and_with(refused)
    consents = [
        new
        for row, form in answered
        for new in _consents((index, after), row, form, without_effect, author)
    ]
    given = admit_consents(after, consents, author, policy, without_effect)
    return [*refused, *given]


def _form(index: RegistryIndex, row: NewAnswer) -> Form:
    id_ = parse(row.form, NUMBER)
    form = index.forms.get(id_)
    if form is None:
        raise Refused("this gateway has not printed form {form}; check its number", form=shown(id_))
    if row.place and index.labels.find(row.place).id != form.place:
        raise Refused(
            "form {form} belongs to {place}, but the row says {other}: check whether"
                " cells have moved to another row",
                form=shown(id_), place=index.places[form.place].label, other=row.place
        )  # fmt: skip
    if len(row.answers) > len(form.asked) and any(row.answers[len(form.asked) :]):
        raise Refused(
            "form {form} has only {many} boxes, but the row has more answers",
            form=shown(id_),
            many=len(form.asked),
        )
    if not any(row.answers):
        raise Refused(
            "form {form}: no box is answered; remove the row from the list", form=shown(id_)
        )
    if row.signed is None:
        raise Refused(
            "form {form}: the date of the signature is missing; write it", form=shown(id_)
        )
    # a day's tolerance: a date without time is midnight, before the printing of that day
    if row.signed < form.printed - DAY:
        raise Refused(
            "form {form}: signed on {signed}, before it was printed on {printed}:"
                " correct the date",
                form=shown(id_), signed=stamp(row.signed), printed=stamp(form.printed)
        )  # fmt: skip
    return form


def _recipients(form: Form, row: NewAnswer, answer: str) -> set[str]:
    boxes = (Box.of(text) for text in form.asked)
    return {box.recipient for box, tick in zip(boxes, row.answers, strict=False) if tick == answer}


def _consents(
    indexes: tuple[RegistryIndex, RegistryIndex],
    row: NewAnswer,
    form: Form,
    without_effect: list[Refused],
    author: Author,
) -> Iterator[NewConsent]:
    """One consent for each box with a yes."""
    before, after = indexes
    home = next(one for one in before.occupancies if one.id == form.occupancy)
    ticks = zip(map(Box.of, form.asked), row.answers, strict=False)
    agreed = [box for box, answer in ticks if answer == "yes"]
    if agreed and not covers(home, int(author.now)):
        reason = Text("form {form}: the people who signed it have moved out", form=shown(form.id))
        without_effect.append(Refused("{where}: {reason}", where=row.where, reason=reason))
        return
    # judged before the form's own refusals, which would make every yes beside a no unknowing
    knows = {to: _knows(before, form, to) for to in {box.recipient for box in agreed}}
    for to, lacks in knows.items():
        if lacks:
            reason = Text(
                "form {form}, for {to}: after it was printed: {marks}. The yes has no"
                " effect. If the occupants agree now, print a new form: gardien consent"
                " forms {label}",
                form=shown(form.id), to=to, label=before.places[form.place].label,
                marks=joined("; ", map(sentence, lacks)),
            )  # fmt: skip
            refusal = Text("{where}: {reason}", where=row.where, reason=reason)
            without_effect.append(Unknowing(refusal, lacks))
    for box in agreed:
        if knows[box.recipient]:
            continue
        marks = after.marks(form.occupancy, box.recipient)
        yield NewConsent(
            "",
            box.recipient,
            box.channels,
            box.step,
            box.purpose,
            until=months_later(row.signed or 0, box.months),
            occupancy=form.occupancy,
            given=row.signed,
            method=row.method,
            proof=row.proof,
            # the last mark covers the earlier ones
            after=tuple(one.id for one in marks[-1:]),
            replaces="any",
            where=row.where,
        )


def _knows(index: RegistryIndex, form: Form, to: str) -> list[ConsentMark]:
    """The marks that a form does not know; empty: its consents count."""
    return unknown(index.marks_of(form.occupancy, to), form.after, (), "")
