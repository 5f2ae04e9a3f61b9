"""Calls of the commands about legal bases: consents and duties. As in calls.py."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from agent.core.errors import Refused
from agent.core.i18n import _
from agent.registry import answers, parsers, sheet
from agent.registry.consent_policy import policy as named_policy
from agent.registry.inputs import NewConsent, NewDuty, NewWithdrawal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.registry.answers import Answer
    from agent.registry.registry import Registry

COLUMNS = {
    **{name: name for name in (
        "place", "recipient", "channels", "scope", "step", "purpose", "since", "until", "given",
        "method", "proof", "reference", "lease", "after",
    )},
    **dict.fromkeys(
        ("label", "logement", "appartement", "dwelling", "libellé", "désignation"), "place"
    ),
    **dict.fromkeys(("destinataire",), "recipient"),
    **dict.fromkeys(("channel", "grandeur", "grandeurs", "données"), "channels"),
    **dict.fromkeys(("portée", "granularité"), "scope"),
    **dict.fromkeys(("pas",), "step"),
    **dict.fromkeys(("finalité", "but"), "purpose"),
    **dict.fromkeys(("depuis", "début"), "since"),
    **dict.fromkeys(("jusqu'au", "fin"), "until"),
    **dict.fromkeys(("donné le", "signé le", "date de signature"), "given"),
    **dict.fromkeys(("preuve",), "proof"),
    **dict.fromkeys(("bail", "n° de bail", "n° bail", "numéro de bail"), "lease"),
    **dict.fromkeys(("après", "marque", "mark"), "after"),
}  # fmt: skip
WORDS = ("recipient", "channels", "scope", "step", "purpose", "since", "until")


def give(  # noqa: PLR0913 -- as many options
    registry: Registry,
    *,
    who: str,
    now: float,
    places: Sequence[str] = (),
    text: str | None = None,
    name: str = "",
    recipient: str | None = None,
    channels: Sequence[str] = (),
    scope: str | None = None,
    step: str | None = None,
    purpose: str | None = None,
    since: str | None = None,
    until: str | None = None,
    given: str | None = None,
    lease: str | None = None,
    after: Sequence[str] = (),
    replace: bool = False,
    zone: str | None = None,
    policy: str = "FR-1",
    preview: bool = False,
) -> Answer:
    """Record consents of the occupants of each place, named in `places` or in a table: all rows or
    none.

    A cell of the table overrides the argument of the same name. `replace`: a consent in force for
    the same purpose ends where the new one begins. `policy`: its name. `given`: date of the
    signature. `lease`: the reference of the lease of those who signed. `after`: marks of the
    withdrawals that they knew of.
    """
    common = {
        "recipient": recipient or "", "channels": " ".join(channels), "scope": scope or "",
        "step": step or "", "purpose": purpose or "", "since": since or "", "until": until or "",
        "given": given or "", "lease": lease or "", "after": " ".join(after),
    }  # fmt: skip
    lines = [sheet.SheetRow("", {"place": place}) for place in places]
    unread = {}
    if text is not None:
        lines += sheet.read(text, name, COLUMNS, ("place",))
        unread = {"not_read": sheet.unread(text, name, COLUMNS)}
    if not lines:
        raise Refused("no place is named: name places, or a file with a column `place` or `label`")
    rows = [_consent(line, common, zone, "any" if replace else None) for line in lines]
    under = named_policy(policy, zone=ZoneInfo(zone) if zone else None)
    source = "gardien consent give"
    before = {one.id for one in registry.consents()}
    unknowing: list[Refused] = []
    recorded = registry.consent(
        rows, who, source, now, under, preview=preview, without_effect=unknowing
    )
    new = sum(one.id not in before for one in recorded)
    counts = {
        "unchanged": len(rows) - new - len(unknowing),
        "without_effect": [str(one) for one in unknowing],
    }
    return answers.consents(registry, recorded, now) | unread | counts


def withdraw(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    place: str = "",
    id: str | None = None,  # noqa: A002 -- the word people write
    recipient: str | None = None,
    purpose: str | None = None,
    channels: Sequence[str] = (),
) -> Answer:
    """Record what the occupants of a place withdraw; without conditions, everything."""
    if id is not None and all(one.id != id for one in registry.consents()):
        raise Refused(_("no consent has the id {id}; to see all ids: gardien consent list", id=id))
    row = NewWithdrawal(id, place, recipient, purpose, tuple(channels))
    gone = registry.withdraw([row], who, "gardien consent withdraw", now)
    return answers.consents(registry, gone, now)


def marks(
    registry: Registry,
    *,
    who: str,  # noqa: ARG001
    now: float,
    places: Sequence[str],
    recipient: str | None = None,
) -> Answer:
    """List the withdrawals and refusals of the occupants of dwellings, latest last. A later consent
    counts only if it knows of them.
    """
    asked = [registry.place(place) for place in places]
    homes = [registry.occupancy_at(place.id, int(now)) for place in asked]
    rows = [mark for home in homes if home for mark in registry.marks(home.id, recipient)]
    rest = [one for place in asked for one in answers.not_occupied(registry, now, place.id)]
    return answers.marks(registry, rows) | {"not_occupied": rest}


def list_(registry: Registry, *, who: str, now: float, place: str = "") -> Answer:  # noqa: ARG001
    """List all consents, or those of one dwelling, whether in force or not."""
    id_ = registry.place(place).id if place else None
    rows = [one for one in registry.consents() if id_ in (None, one.place)]
    return answers.consents(registry, rows, now)


def duty_add(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    reference: str,
    recipient: str,
    channels: Sequence[str],
    since: str | None = None,
    until: str | None = None,
    billing: Sequence[str] = (),
    zone: str | None = None,
) -> Answer:
    """Record what the building manager must or may receive of all dwellings."""
    begins, ends = parsers.when(since, zone, "since"), parsers.when(until, zone, "until")
    row = NewDuty(recipient, reference, tuple(channels), begins, ends, tuple(billing))
    added = registry.oblige([row], who, "gardien duty add", now)
    return answers.duties(registry, added, now)


def duty_end(  # noqa: PLR0913
    registry: Registry,
    *,
    who: str,
    now: float,
    duty: str,
    at: str | None = None,
    zone: str | None = None,
) -> Answer:
    """Record that a duty, by its reference or id, ends."""
    ended = registry.end_duty(duty, parsers.when(at, zone, "at"), who, "gardien duty end", now)
    return answers.duties(registry, ended, now)


def duty_list(registry: Registry, *, who: str, now: float) -> Answer:  # noqa: ARG001
    """List all duties."""
    return answers.duties(registry, registry.duties(), now)


def _consent(
    line: sheet.SheetRow, common: dict[str, str], zone: str | None, replaces: str | None
) -> NewConsent:
    cells = common | dict(line.cells)
    seconds, fault = 1, line.fault
    try:
        seconds = parsers.step(cells["scope"], cells["step"])
    except Refused as error:
        fault = fault or str(error)
    (since, until, given), wrong = parsers.dated(
        sheet.SheetRow(line.where, cells, fault), zone, "since", "until", "given"
    )
    return NewConsent(
        cells.get("place", ""),
        cells["recipient"],
        parsers.listed(cells["channels"]),
        seconds,
        cells["purpose"],
        since,
        until,
        given=given,
        method=cells.get("method", ""),
        proof=cells.get("proof", "") or cells.get("reference", ""),
        lease=cells.get("lease") or None,
        after=tuple(cells.get("after", "").split()),
        replaces=replaces,
        where=line.where,
        fault=wrong,
    )
