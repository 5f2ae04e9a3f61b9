"""The retractions that follow from a change of the registry. Pure.

If the new version of a document covers less of the past than the one before, the rows delivered by
the earlier version are destroyed here and erased at the platform. An end now or in the future
retracts nothing, because no rows of that time exist yet. If a wrong clock has closed later slots
already, the rows of these slots are retracted as well.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from agent.core.model import FOR_GOOD, Retraction
from agent.registry.records import Consent, Duty, Installation, Occupancy, Place

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from agent.registry.records import Dated, Document, Provenance

FOR_EVER = 2**62


class Lost(NamedTuple):
    """A part of an interval that the new version no longer covers."""

    since: int
    until: int | None
    """as stated by the change alone, so that the retraction's id is the same whoever computes it"""
    reach: int | None
    """the last time for which rows may exist"""


def effects(
    documents: Sequence[Document], after: int, closed: int = 0
) -> list[tuple[int, tuple[Retraction, ...]]]:
    """Every change after revision `after`, in order, with its retractions.

    `documents`: all of them, in the order in which they were recorded. `closed`: the last slot for
    which rows may exist, if that is ahead of the clock.
    """
    changed = {(one.kind, one.id) for one in documents if one.word.revision > after}
    before: dict[tuple[str, str], Document] = {}
    by_revision: dict[int, list[Retraction]] = {}
    for number, document in enumerate(documents if changed else ()):
        key = (document.kind, document.id)
        if key not in changed:
            continue
        if document.word.revision > after:
            taken = by_revision.setdefault(document.word.revision, [])
            if key in before:
                # those recorded by then: a later call must return the same retractions, with the
                # same ids
                dwellings = _dwellings(documents[:number]) if isinstance(document, Duty) else ()
                taken += taken_away(before[key], document, dwellings, closed)
        before[key] = document
    return [(revision, tuple(taken)) for revision, taken in by_revision.items()]


def _dwellings(documents: Iterable[Document]) -> Collection[str]:
    places = (one.id for one in documents if isinstance(one, Place) and one.id[0] == "D")
    return dict.fromkeys(places)


def taken_away(
    before: Document, after: Document, dwellings: Iterable[str] = (), closed: int = 0
) -> Iterator[Retraction]:
    """The retractions that follow from the later version of a document.

    A withdrawn consent: all its rows, or those of the withdrawn channels. Occupants who moved out
    in the past: everything delivered as theirs since, to all recipients, in one range. A meter that
    measured another dwelling, or none: what it delivered for this one. A basis that ended in the
    past: what was delivered on it since.
    """
    if isinstance(after, Consent) and isinstance(before, Consent):
        yield from _of_a_consent(before, after, closed)
    elif isinstance(after, Occupancy) and isinstance(before, Occupancy):
        for lost in _lost_parts(before, after, closed):
            yield _retraction(after.word, "moved", after.place, lost, occupancy=after.id)
    elif isinstance(after, Installation) and isinstance(before, Installation):
        # no row has left for an installation without a serial number
        for lost in _lost_parts(before, after, closed) if before.serial else ():
            reason = "exchanged" if after.since < lost.since else "corrected"
            yield _retraction(
                after.word, reason, before.place, lost, channel=before.channel, meter=before.serial
            )
    elif isinstance(after, Duty) and isinstance(before, Duty):
        for lost in _lost_parts(before, after, closed):
            for place in dwellings:
                yield _retraction(
                    after.word, "corrected", place, lost, recipient=after.recipient, basis=after.id
                )


def _of_a_consent(before: Consent, after: Consent, closed: int) -> Iterator[Retraction]:
    whose = {"recipient": after.recipient, "occupancy": after.occupancy, "basis": after.id}
    withdrawn: list[str | None] = [None]
    if after.withdrawn is None or before.withdrawn is not None:
        withdrawn = [name for name in before.channels if name not in after.channels]
        for lost in _lost_parts(before, after, closed):
            yield _retraction(after.word, "corrected", after.place, lost, **whose)
    for channel in withdrawn:
        # a withdrawal takes back all rows of the consent, whatever their time
        lost = Lost(before.since, before.until, before.until)
        retraction = _retraction(
            after.word, "withdrawn", after.place, lost, channel=channel, **whose
        )
        yield replace(
            retraction,
            id=withdrawal_id(after, channel),
            until=None,
            # the rows of a withdrawn consent are never made again, so no version is higher
            ver=FOR_GOOD,
            former=retraction.id,
        )


def withdrawal_id(consent: Consent, channel: str | None = None) -> str:
    """The id of the retraction for a withdrawal; `channel` None: of all channels.

    The id can be computed without the withdrawal, so that a gateway which has lost it learns of it
    from a receipt (`lost_withdrawals`).
    """
    what = ("withdrawn", consent.recipient, consent.place, consent.occupancy, consent.id, channel)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def lost_withdrawals(
    consents: Iterable[Consent], recipient: str, ids: Collection[str]
) -> Iterator[tuple[Consent, tuple[str, ...]]]:
    """Consents in force whose withdrawal the recipient has already received, by the `ids` of
    retractions; each with the channels concerned, none meaning all.
    """
    for consent in consents:
        if consent.recipient != recipient or consent.withdrawn is not None:
            continue
        if withdrawal_id(consent) in ids:
            yield consent, ()
        elif gone := tuple(
            name for name in consent.channels if withdrawal_id(consent, name) in ids
        ):
            yield consent, gone


def _lost_parts(before: Dated, after: Dated, closed: int) -> Iterator[Lost]:
    """The parts of the interval of `before` that `after` no longer covers, up to the second in
    which the change was recorded.

    Not beyond: a retraction is permanent, and if the change is corrected later, rows read from then
    on must not fall under it. No rows of that time exist yet; if the clock was wrong, none after
    `closed`, and what is read for those slots later has a higher version.
    """
    until = FOR_EVER if before.until is None else before.until
    ends = FOR_EVER if after.until is None else after.until
    # the index at the last instant of an occupancy or a meter is theirs, too (rules P9, I10)
    closes = before.until is not None and isinstance(before, Occupancy | Installation)
    last = until + 1 if closes and (ends < until or ends <= after.since) else until
    if ends <= after.since:
        lost = [(before.since, last)]
    else:
        lost = [(before.since, min(until, after.since)), (max(before.since, ends), last)]
    recorded_at = after.word.when
    for start, end in lost:
        if start < min(end, max(recorded_at, closed)):
            reach = min(end, int(max(recorded_at, closed)) + 1)
            yield Lost(
                start, min(end, int(recorded_at) + 1) if start < recorded_at else reach, reach
            )


def _retraction(  # noqa: PLR0913 -- its members
    provenance: Provenance,
    reason: str,
    place: str,
    lost: Lost,
    *,
    recipient: str | None = None,
    channel: str | None = None,
    occupancy: str | None = None,
    basis: str | None = None,
    meter: str | None = None,
) -> Retraction:
    of = (place, channel, occupancy, basis, meter, lost.since)
    # the id is a hash of what the change states, so that every gateway and restart agrees on it
    named = (provenance.revision, recipient, *of, lost.until, provenance.when, reason)
    digest = hashlib.sha256(repr(named).encode()).hexdigest()[:16]
    return Retraction(
        digest, recipient, *of, lost.reach, provenance.when, reason, asked=provenance.when
    )
