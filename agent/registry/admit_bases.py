"""What is asked of consents, of their withdrawal, and of duties."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from agent.clock import stamp
from agent.errors import NotYet, Refused
from agent.registry import fields
from agent.registry.admission import claimed, drawn, dwelling, each, in_order, said, standing
from agent.registry.again import consent_again, duty_again
from agent.registry.dates import day_of_the_year, sane
from agent.registry.documents import (
    Consent,
    Duty,
    Mark,
    OccupancyState,
    Withdrawal,
    covers,
)
from agent.registry.marks import Unknowing, sentence
from agent.registry.marks import unknown as marks_unknown
from agent.registry.place import OCCUPANCY, parse, shown, squeeze
from agent.words import _

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.registry.admission import Author
    from agent.registry.claims import Claims
    from agent.registry.documents import Document, Occupancy, Place, Word
    from agent.registry.entries import NewConsent, NewDuty, NewWithdrawal
    from agent.registry.gate import Policy
    from agent.registry.index import Index


def admit_consents(
    index: Index,
    rows: Sequence[NewConsent],
    author: Author,
    policy: Policy,
    without_effect: list[Refused],
) -> list[Document]:
    """Documents for consents: each hangs on who lives in the dwelling when it begins.

    One is refused that does not know of a withdrawal (marks.py), that was signed in the future, or
    before the occupancy began unless it names it. One that replaces another ends it where it begins
    itself. A row of a list has none that says what stands already, or that knows not of a
    withdrawal: it is added to `without_effect`. NotYet: nobody is known to live there yet, or a
    withdrawal that it names has not come.
    """
    claims = standing(index)
    known = {doc.id: doc for doc in index.consents}

    def admit(row: NewConsent) -> Iterator[Document]:
        _not_in_the_future(row, author, policy)
        if _stood_while_they_lived_there(index, row, author):
            return
        home, since = _home(index, row, author)
        signed = min(int(author.now), since) if row.given is None else row.given
        consent = Consent(
            id=row.id or drawn(),
            occupancy=home.id,
            place=home.place,
            recipient=fields.recipient(row.recipient),
            channels=fields.personal(row.channels),
            step=fields.step(row.step, policy),
            purpose=fields.text(row.purpose, "purpose", fields.LONGEST_WORD),
            since=since,
            until=fields.until(row.until, since, signed),
            word=author.word(row.where),
            given=row.given,
            method=row.method[: fields.LONGEST_LABEL],
            proof=row.proof[: fields.LONGEST_WORD],
        )
        if consent.id in known:
            raise Refused(f"consent {consent.id} is known already")
        old = consent_again(index, row, consent)
        if old is not None and row.where:
            return
        if old is not None:
            raise Refused(f"{claims.sentence(old)}: that is recorded already")
        _signed_by_them(index, row, home, author, policy)
        _of_one_lease(index, row, home)
        try:
            consent = _knowing(index, claims, row, consent, author)
        except Unknowing as error:
            if not row.where:
                raise
            without_effect.append(error)
            return
        yield from _replaced(claims, known, row, consent)
        known[consent.id] = consent
        try:
            yield claimed(claims, consent)
        except Refused as error:
            if row.id is not None or row.replaces is not None:
                raise
            raise Refused(f"{error}; --replace ends that one where this one begins") from error

    return in_order(each(rows, admit))


def admit_withdrawals(
    index: Index, rows: Sequence[NewWithdrawal], author: Author, *, marked: bool
) -> list[Document]:
    """Documents for what no longer counts, from now on and for all time, with its mark.

    A consent by its id, even one that was never heard of: with it goes whatever these people agreed
    to for that recipient. Or what the people living in a place agreed to that the other words fit.
    Only some channels or one purpose: the others stay. `marked`: draw marks.
    """
    known = {doc.id: doc for doc in index.consents}

    def ended(row: NewWithdrawal, meant: list[Consent], word: Word) -> Iterator[Document]:
        channels = set(fields.channels(row.channels)) if row.channels else set()
        for one in meant:
            consent = known[one.id]
            if consent.withdrawn is not None or (channels and not channels & set(consent.channels)):
                continue
            left = tuple(name for name in consent.channels if channels and name not in channels)
            if left:
                known[consent.id] = replace(consent, channels=left, word=word)
            else:
                known[consent.id] = replace(consent, withdrawn=int(author.now), word=word)
            yield known[consent.id]

    def admit(row: NewWithdrawal) -> Iterator[Document]:
        word, unheard = author.word(row.where), row.id is not None and row.id not in known
        occupancy, recipient, meant = _withdrawn_by(index, known, row, author)
        again = unheard and row.id in index.withdrawn
        if again and not row.number:
            raise Refused(f"consent {row.id} was withdrawn already")
        if unheard and not again:
            yield Withdrawal(fields.text(row.id or "", "id", fields.LONGEST_LABEL), word)
        ends = list(ended(row, meant, word))
        partly = row.channels or row.purpose or (row.id and not unheard)
        if not ends and partly and not row.number:  # a signed one may be named by its number
            raise Refused(_nothing_left(row, _theirs(known, occupancy)))
        yield from ends
        if occupancy and marked:
            cause = "refused" if row.refused else "withdrawn"
            # also of a part: an older consent to another recipient may be on its way
            yield Mark(drawn(), occupancy, recipient, cause, word, row.number)

    return in_order(each(rows, admit))


def _withdrawn_by(
    index: Index, known: Mapping[str, Consent], row: NewWithdrawal, author: Author
) -> tuple[str | None, str | None, list[Consent]]:
    """Whose withdrawal it is, for which recipient (None: for all), and which consents it may end.

    Of a consent that was never heard of it is known by the object alone.
    """
    recipient = fields.recipient(row.recipient) if row.recipient else None
    if row.id is not None:
        named = known.get(row.id)
        if named is None:
            # it may be of any recipient where the object does not say
            theirs = [doc for doc in known.values() if doc.occupancy == row.occupancy]
            meant = [one for one in theirs if recipient in (None, one.recipient)]
            return row.occupancy, recipient, meant
        if row.channels:
            return named.occupancy, named.recipient, [named]
        occupancy, recipient = named.occupancy, named.recipient
    elif row.occupancy is not None:
        occupancy = row.occupancy
    else:
        place = dwelling(index, row.place, "consent")
        home = index.occupancy_at(place.id, int(author.now))
        if home is None:
            words = _nobody(index, place, int(author.now))
            raise Refused(_("{words}; name the consent's id", words=words))
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
    return _(
        "{what}: there is no such consent left to withdraw; their consents are for: {purposes}",
        what=row.id or row.place,
        purposes=", ".join(sorted({one.purpose for one in theirs})) or "-",
    )


def _theirs(known: Mapping[str, Consent], occupancy: str | None) -> list[Consent]:
    """What these people agreed to and have not withdrawn."""
    return [one for one in known.values() if one.occupancy == occupancy and one.withdrawn is None]


def admit_missing_marks(index: Index, author: Author) -> list[Document]:
    """A mark for each withdrawal that an earlier version of gardien has recorded without one."""
    return [
        Mark(drawn(), occupancy, recipient, "withdrawn", author.word(""))
        for occupancy, recipient in index.unmarked()
    ]


def admit_restored(index: Index, author: Author) -> list[Document]:
    """A mark for everybody: what they agreed to or withdrew since the backup may not be here."""
    return [Mark(drawn(), home.id, None, "restored", author.word("")) for home in index.occupancies]


def admit_duties(index: Index, rows: Sequence[NewDuty], author: Author) -> list[Document]:
    """Documents for duties. They all name one recipient at a time: the building manager."""
    claims = standing(index)
    duties = list(index.duties)

    def admit(row: NewDuty) -> Iterator[Document]:
        since = author.since(row.since)
        if row.until is not None and sane(row.until) <= since:
            raise Refused(f"until: {stamp(row.until)} is not after {stamp(since)}")
        duty = Duty(
            id=row.id or drawn(),
            recipient=fields.recipient(row.recipient),
            reference=fields.text(row.reference, "reference", fields.LONGEST_WORD),
            channels=fields.registers(row.channels),
            since=since,
            until=row.until,
            word=author.word(row.where),
            billing=tuple(sorted({day_of_the_year(day) for day in row.billing})),
        )
        old = duty_again(index, row, duty)
        if old is not None:
            raise Refused(f"{claims.sentence(old)}: that is recorded already")
        for other in duties:
            if other.id == duty.id:
                raise Refused(f"duty {duty.id} is known already")
            if other.recipient != duty.recipient and _overlap(duty, other):
                raise Refused(
                    f"{claims.statement(duty)}, but {claims.sentence(other)}: "
                    f"a building has one manager at a time"
                )
        duties.append(duty)
        yield claimed(claims, duty)

    return each(rows, admit)


def admit_end_of_duty(index: Index, id_: str, until: int | None, author: Author) -> list[Document]:
    """Renew a duty, named by its id or its reference, with its end; from its beginning on: it
    never was one. Raises Refused.
    """
    at = author.since(until)
    meant = [
        doc
        for doc in index.duties
        if doc.id == id_ or (doc.reference == id_ and (doc.until is None or at < doc.until))
    ]
    if len(meant) != 1:
        known = ", ".join(f'{doc.id} ("{doc.reference}")' for doc in meant or index.duties)
        raise Refused(f'which duty is "{id_}"? there are: {known or "none"}')
    if at < meant[0].since:
        raise Refused(f"it begins only at {stamp(meant[0].since)}")
    return [replace(meant[0], until=at, word=author.word(""))]


def _not_in_the_future(row: NewConsent, author: Author, policy: Policy) -> None:
    """Refuse a signature of a later time than now: the consent would count as newer than every
    withdrawal until then. A list has days: none after today.
    """
    if row.given is None:
        return
    late = row.where and _day(row.given, policy) > _day(author.now, policy)
    if late or row.given > author.now + fields.CLOCKS_DIFFER:
        raise Refused(
            _(
                "given: {given} is in the future (it is {now} here): the consent is not recorded;"
                " write the day on which it was signed",
                given=stamp(row.given), now=stamp(author.now),
            )
        )  # fmt: skip


def _signed_by_them(
    index: Index, row: NewConsent, home: Occupancy, author: Author, policy: Policy
) -> None:
    """Refuse what was signed before these people moved in, unless it names them."""
    signed = author.now if row.given is None else row.given
    if row.occupancy or row.lease or _day(signed, policy) >= _day(home.since, policy):
        return
    raise Refused(
        _(
            "given: {place}: signed on {signed}, before this occupancy began on {since}: it may be"
            " the consent of those who lived there before, so it is not recorded; if the new"
            " occupants signed it, write {lease} in a column `lease` (--lease {lease}); if they"
            " moved in earlier, bring the list of leases (gardien occupancy import LIST), or:"
            " gardien occupancy correct {label} --since DATE",
            place=said(index.places[home.place]), label=index.places[home.place].label,
            signed=stamp(signed), since=stamp(home.since), lease=home.reference or shown(home.id),
        )
    )  # fmt: skip


def _day(at: float, policy: Policy) -> date:
    """The building's day."""
    return datetime.fromtimestamp(at, policy.zone or UTC).date()


def _home(index: Index, row: NewConsent, author: Author) -> tuple[Occupancy, int]:
    """Whose consent it is, and since when it counts."""
    if row.lease is not None and row.occupancy is None:
        return _of_lease(index, row, row.lease.strip(), author)
    since = author.since(row.since)
    return _lives_there(index, row, since), since


def _stood_while_they_lived_there(index: Index, row: NewConsent, author: Author) -> bool:
    """Whether a row of a list states what people agreed to who have moved out since."""
    if not (row.where and row.lease and row.since is None and row.replaces is None):
        return False
    place = dwelling(index, row.place, "consent")
    return any(
        old.channels == fields.personal(row.channels)
        and (old.step, old.purpose) == (row.step, row.purpose)
        and row.given in (None, old.given)
        for home in _leases(index, place, row.lease)
        if home.until is not None and home.until <= author.now
        for old in index.consents_of(home.id, row.recipient)
    )


def _leases(index: Index, place: Place, lease: str) -> list[Occupancy]:
    """The occupancies of this reference, or id."""
    homes = index.occupancies_of(place.id)
    return [home for home in homes if home.reference == lease.strip() or home.id == squeeze(lease)]


def _of_lease(index: Index, row: NewConsent, lease: str, author: Author) -> tuple[Occupancy, int]:
    """Who has this lease; their consent counts from when they move in, if that is to come."""
    place = dwelling(index, row.place, "consent")
    named = _leases(index, place, lease)
    for home in named:
        since = author.since(row.since)
        if row.since is None:
            since = max(since, home.since)
        if covers(home, since):
            return home, since
    if named:
        raise Refused(
            _(
                "lease: {place}: lease {lease} does not include {since}: the consent is not"
                " recorded; look which lease it is: gardien occupancy list {label}",
                place=said(place), label=place.label, lease=lease,
                since=stamp(author.since(row.since)),
            )
        )  # fmt: skip
    raise Refused(
        _(
            'lease: {place} has no lease "{lease}" yet: the consent is not recorded; record the'
            " lease first: gardien occupancy import LIST",
            place=said(place), lease=lease,
        )
    )  # fmt: skip


def _lives_there(index: Index, row: NewConsent, since: int) -> Occupancy:
    if row.occupancy is not None:
        id_ = parse(row.occupancy, OCCUPANCY)
        home = next((doc for doc in index.occupancies if doc.id == id_), None)
        if home is None:
            if row.place:
                index.labels.find(row.place)
            raise NotYet(f"nobody has been recorded as occupancy {shown(id_)} yet")
        if row.place and index.labels.find(row.place).id != home.place:
            raise Refused(f"occupancy {shown(id_)} is not of {row.place}")
        if not covers(home, since):
            raise Refused(f"occupancy {shown(id_)} is not there at {stamp(since)}")
        return home
    place = dwelling(index, row.place, "consent")
    found = index.occupancy_at(place.id, since)
    if found is None:
        raise NotYet(
            _(
                "{words}; who moved in comes first: gardien occupancy move-in",
                words=_nobody(index, place, since),
            )
        )
    return found


def _nobody(index: Index, place: Place, t: int) -> str:
    """Why nobody who lives there can have agreed, or withdrawn, at t."""
    state, since = index.occupancy_state(place.id, t)
    if state is OccupancyState.VACANT:
        left = stamp(since or 0)
        return _(
            "{place} is vacant at {at}, since {left}", place=said(place), at=stamp(t), left=left
        )
    return _(
        "{place}: it is unknown whether somebody lives there at {at}",
        place=said(place),
        at=stamp(t),
    )


def _knowing(
    index: Index, claims: Claims, row: NewConsent, consent: Consent, author: Author
) -> Consent:
    """The consent, from the last mark on. Raises Unknowing where it does not know a mark, NotYet
    where it may know one that has not come.
    """
    if consent.id in index.withdrawn:
        raise Refused(f"consent {consent.id} was withdrawn before it came")
    marks = index.marks_of(consent.occupancy, consent.recipient)
    unknown = marks_unknown(marks, row.after, row.withdrawals, author.who)
    if unknown:
        raise Unknowing(
            _(
                "{consent}, but since then: {marks}; if they agree again now, record it with the"
                " last mark (--after, or a column `after`)",
                consent=claims.statement(consent), marks="; ".join(map(sentence, unknown)),
            ),
            unknown,
        )  # fmt: skip
    last = max((mark.word.when for mark in marks.drawn), default=0)
    # a mark of a clock that was ahead is of the past all the same
    return replace(consent, since=max(consent.since, int(min(last, author.now))))


def _of_one_lease(index: Index, row: NewConsent, home: Occupancy) -> None:
    """Refuse a row of a list that says not whose it is, where it may be of those before."""
    if row.occupancy or row.lease or not row.where:
        return
    lived = [one for one in index.occupancies_of(home.place) if one.until != one.since]
    if len(lived) > 1:
        raise Refused(
            _(
                "lease: {place}: {many} occupancies are known there, and the list does not say"
                " whose consent it is; write the reference of the lease in a column `lease`",
                place=said(index.places[home.place]), many=len(lived),
            )
        )  # fmt: skip


def _replaced(
    claims: Claims, known: dict[str, Consent], row: NewConsent, consent: Consent
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
            raise Refused(f"there is no consent {row.replaces} of these people to replace")
    if old is not None and old.withdrawn is None and consent.since < old.until:
        ends = max(old.since, consent.since)
        new = replace(old, until=ends, replaced=consent.id, word=consent.word)
        known[old.id] = new
        yield claimed(claims, new)


def _overlap(one: Duty, other: Duty) -> bool:
    return (other.until is None or one.since < other.until) and (
        one.until is None or other.since < one.until
    )
