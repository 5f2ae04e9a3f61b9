"""Checks of consent forms: when they are printed, and when their answers arrive."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import _
from agent.registry.admission import admit_rows, dwelling, label_and_id
from agent.registry.admit_bases import admit_consents, admit_withdrawals
from agent.registry.dates import months_later
from agent.registry.forms import NUMBER, Box
from agent.registry.index import Unknowing, sentence, unknown
from agent.registry.inputs import NewConsent, NewWithdrawal
from agent.registry.place import mint, parse, shown
from agent.registry.records import Form, covers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.registry.admission import Author
    from agent.registry.consent_policy import Policy
    from agent.registry.index import RegistryIndex
    from agent.registry.inputs import NewAnswer
    from agent.registry.records import ConsentMark, Document

DAY = 86_400


def admit_forms(
    index: RegistryIndex, places: Sequence[str], boxes: Sequence[Box], author: Author
) -> list[Document]:
    """A form for the people who live in each place now. Raises Refused if none are recorded."""
    recipients = sorted({box.recipient for box in boxes})
    made: list[Document] = []
    for text in places:
        place = dwelling(index, text, "have consents")
        home = index.occupancy_at(place.id, int(author.now))
        if home is None:
            raise Refused(
                _(
                    "{place}: no occupants are recorded, so no form can be printed; record"
                    " the lease first: gardien occupancy import LIST",
                    place=label_and_id(place),
                )
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
                    _(
                        "form {form} has another answer already (signed on {signed}); to"
                        " change the answer, print a new form: gardien consent forms"
                        " {label}",
                        form=shown(form.id), signed=stamp(answered.signed),
                        label=index.places[form.place].label,
                    )
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
        raise Refused(
            _("this gateway has not printed form {form}; check its number", form=shown(id_))
        )
    if row.place and index.labels.find(row.place).id != form.place:
        raise Refused(
            _(
                "form {form} belongs to {place}, but the row says {other}: check whether"
                " cells have moved to another row",
                form=shown(id_), place=index.places[form.place].label, other=row.place,
            )
        )  # fmt: skip
    if len(row.answers) > len(form.asked) and any(row.answers[len(form.asked) :]):
        raise Refused(
            _(
                "form {form} has only {many} boxes, but the row has more answers",
                form=shown(id_),
                many=len(form.asked),
            )
        )
    if not any(row.answers):
        raise Refused(
            _("form {form}: no box is answered; remove the row from the list", form=shown(id_))
        )
    if row.signed is None:
        raise Refused(
            _("form {form}: the date of the signature is missing; write it", form=shown(id_))
        )
    # a day's tolerance: a date without time is midnight, before the printing of that day
    if row.signed < form.printed - DAY:
        raise Refused(
            _(
                "form {form}: signed on {signed}, before it was printed on {printed}:"
                " correct the date",
                form=shown(id_), signed=stamp(row.signed), printed=stamp(form.printed),
            )
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
        reason = _("form {form}: the people who signed it have moved out", form=shown(form.id))
        without_effect.append(Refused(f"{row.where}: {reason}"))
        return
    # judged before the form's own refusals, which would make every yes beside a no unknowing
    knows = {to: _knows(before, form, to) for to in {box.recipient for box in agreed}}
    for to, lacks in knows.items():
        if lacks:
            reason = _(
                "form {form}, for {to}: after it was printed: {marks}. The yes has no"
                " effect. If the occupants agree now, print a new form: gardien consent"
                " forms {label}",
                form=shown(form.id), to=to, label=before.places[form.place].label,
                marks="; ".join(map(sentence, lacks)),
            )  # fmt: skip
            without_effect.append(Unknowing(f"{row.where}: {reason}", lacks))
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
