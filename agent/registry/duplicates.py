"""Rows whose content is recorded already. Pure.

People import a whole list whenever something in it has changed. A row that repeats what is recorded
changes nothing and is not an error. An empty cell contradicts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.registry.records import covers, serial_key

if TYPE_CHECKING:
    from agent.registry.index import RegistryIndex
    from agent.registry.inputs import NewConsent, NewDuty, NewInstallation, NewPlace
    from agent.registry.records import Consent, Duty, Installation, Place


def place_again(index: RegistryIndex, row: NewPlace, known: Place | None, new: Place) -> bool:
    """Whether a row states the recorded place with this label."""
    if not row.where or known is None or known.type != new.type:
        return False
    if row.id and known.id != new.id:
        return False
    homes = index.occupancies_of(known.id)
    return row.since is None or any(home.since == row.since for home in homes)


def meter_again(
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
            f"meter {new.meter} measures {row.place} no more since {stamp(gone[-1].until or 0)} "
            f"({gone[-1].word.who}, {gone[-1].word.source}): leave it out of the list, or write "
            "since when it is back, in a column `since`"
        )
    return None


def consent_again(index: RegistryIndex, row: NewConsent, new: Consent) -> Consent | None:
    """The recorded consent that a row states; None if the row replaces another one."""
    if row.id is not None or row.replaces is not None:
        return None
    for old in index.consents_of(new.occupancy, new.recipient):
        same = (old.channels, old.step, old.purpose) == (new.channels, new.step, new.purpose)
        dated = covers(old, new.since) if row.since is None else old.since == row.since
        if same and dated and row.until in (None, old.until) and row.given in (None, old.given):
            return old
    return None


def duty_again(index: RegistryIndex, row: NewDuty, new: Duty) -> Duty | None:
    """The recorded duty that a row states."""
    for old in index.duties:
        same = (old.recipient, old.reference, old.channels, old.billing) == (
            new.recipient, new.reference, new.channels, new.billing,
        )  # fmt: skip
        dated = covers(old, new.since) if row.since is None else old.since == row.since
        if row.id is None and same and dated and row.until in (None, old.until):
            return old
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
