"""What is asked about whose word counts, and what was decided: the trust list, signed objects
brought by hand, and the audit chain.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.clock import NOT_BELIEVED, stamp
from agent.errors import Refused
from agent.inbox.inbox import BY_HAND
from agent.log_fields import LogEvent, fields
from agent.registry import parsers
from agent.registry_api import author
from agent.steering.grants import left_out
from agent.trust import audit, set_aside, trust_list

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.gateway import Gateway
    from agent.inbox.inbox import Inbox
    from agent.registry_api import Call, Caller
    from agent.trust.audit import AuditRecord
    from agent.trust.trust_list import TrustList

log = logging.getLogger(__name__)

MOST_RECORDS = 1_000
"""of an answer"""
ONE_READS = asyncio.Lock()
"""a chain of 64 MB takes a core for a while: several who ask at once must not slow the reading"""


def standing(house: Gateway) -> dict[str, Any] | None:
    """How it stands with trust and with the chain; None: no identity yet."""
    if house.reception is None:
        return None
    unwritten = house.notes.lost + house.notes.held_back if house.notes else 0
    return house.reception.status() | {"unwritten": unwritten}


async def trust_show(house: Gateway, asker: Caller) -> dict[str, Any]:
    """The list that stands."""
    del asker
    standing = house.reception_open().trust_store.trust
    told = _told(standing, house) if standing else {}
    return {"list": told, **house.reception_open().status()}


async def trust_look(house: Gateway, asker: Caller, *, text: str) -> dict[str, Any]:
    """What a list says and who signed it, before anybody believes it. Raises Forged."""
    del asker
    new, standing = trust_list.read(text.encode()), house.reception_open().trust_store.trust
    if standing is None or standing.sha256 != new.sha256:
        house.reception_open().consider(new)
    return {
        **_told(new, house),
        "signed": sorted(new.signed_by(new.roots)),
        "first": standing is None,
        "pinned": bool(house.config.trust.roots),
    }


async def trust_accept(
    house: Gateway, asker: Caller, *, text: str, sha256: str | None = None, named: str | None = None
) -> dict[str, Any]:
    """Let a list stand; the first where a person has compared its roots: its sha256."""
    who = author(house, asker, named)
    reception = house.reception_open()
    first = reception.trust_store.trust is None
    try:
        answer = reception.renew_trust(text.encode(), sha256)
    except Refused as error:
        house.audit("trust.refused", {"why": str(error)[:300], "by": who})
        raise
    if first:
        house.audit("trust.confirmed", {"sha256": sha256, "by": who})
    elif not answer.get("again"):
        house.audit("trust.brought", {"ver": answer["ver"], "by": who})
    return answer | {"by": who}


async def object_accept(
    house: Gateway, asker: Caller, *, text: str, named: str | None = None
) -> dict[str, Any]:
    """Take a signed object that a person has brought; `accepted`: whether it counts now.

    Raises Forged.
    """
    who, raw = author(house, asker, named), text.encode()
    answer = await house.accept(raw, BY_HAND)
    if not answer.get("again"):
        house.audit("object.brought", {"sha256": hashlib.sha256(raw).hexdigest(), "by": who})
    return answer | {"accepted": _counts(answer)}


async def object_preview(house: Gateway, asker: Caller, *, text: str) -> dict[str, Any]:
    """What a place map that a person has at hand would change, and change nothing. Raises Forged,
    Refused on an object of another kind.
    """
    del asker
    return house.reception_open().preview(text.encode())


def _counts(answer: Mapping[str, Any]) -> bool:
    """Whether what an object says was done, at every control that it names."""
    if str(answer["outcome"]).startswith(("waits", NOT_BELIEVED)) or answer.get("revoked") is True:
        return False
    return not any("code" in target for target in answer.get("targets", {}).values())


async def object_list(house: Gateway, asker: Caller) -> dict[str, Any]:
    """What waits, and for what; and what could not be evaluated."""
    del asker
    book = house.reception_open().trust_store
    return {"waiting": book.waiting_list(), "set_aside": set_aside.listed(book.db)}


async def object_all_came(
    house: Gateway, asker: Caller, *, named: str | None = None
) -> dict[str, Any]:
    """Take a person's word that a restored gateway has all that was said since. Raises Refused."""
    who, found = author(house, asker, named), house.restored
    if found is None or found.made is None:
        raise Refused("nothing is waited for: this gateway was not restored, or has heard all")
    made = found.made
    unproved = sorted(found.unproved or ())
    house.audit("restored.confirmed", {"made": made, "unproved": unproved, "by": who})
    found.end()
    log.warning(
        "%s says that all has come since the building file of %s", who, made,
        extra=fields(LogEvent.RESTORE_CHECKED),
    )  # fmt: skip
    return {"made": made, "by": who}


async def audit_verify(
    house: Gateway,
    asker: Caller,
    *,
    hash: str | None = None,  # noqa: A002 -- the word people write
) -> dict[str, Any]:
    """Follow the chain from record to record; it must have the record of `hash`. Raises Refused."""
    del asker
    answer: dict[str, Any] = await _read(house, audit.verification_report, hash)
    return answer


async def audit_list(
    house: Gateway, asker: Caller, *, kind: str = "", since: str | None = None, last: float = 50
) -> dict[str, Any]:
    """List the last records of the chain: of a kind (`consent`: also `consent.given`), since a
    date. Raises Broken.
    """
    del asker
    begins = parsers.when(since, house.config.building.timezone, "since")
    first = stamp(begins) if begins is not None else ""

    def wanted(record: AuditRecord) -> bool:
        return record.t >= first and (not kind or f"{record.type}.".startswith(f"{kind}."))

    most = max(1, min(int(last), MOST_RECORDS))
    return {"records": [asdict(one) for one in await _read(house, audit.newest, most, wanted)]}


async def _read(house: Gateway, read: Callable[..., Any], *more: Any) -> Any:
    """Read the files of the chain, which grows meanwhile. Raises Refused."""
    try:
        async with ONE_READS:
            return await asyncio.to_thread(read, house.config.state / audit.FOLDER, *more)
    except FileNotFoundError as error:  # the oldest of a full chain has just gone
        raise Refused(f"{error.filename} is not there any more: ask again") from error


CALLS: Mapping[str, Call] = {
    "audit.verify": audit_verify,
    "audit.list": audit_list,
    "trust.show": trust_show,
    "trust.look": trust_look,
    "trust.accept": trust_accept,
    "object.accept": object_accept,
    "object.preview": object_preview,
    "object.list": object_list,
    "object.all_came": object_all_came,
}
"""every call about whose word counts, by its name"""


def _told(one: TrustList, house: Gateway) -> dict[str, Any]:
    reception = house.reception_open()
    now, revoked = house.clock.now(), reception.known().revoked
    members = [
        {
            "kid": kid,
            "name": member.name,
            "role": member.role,
            "until": stamp(member.until) if member.role != "root" else stamp(one.expires),
            "counts": kid not in revoked and member.since <= now <= member.until,
            "scope": {
                "buildings": _words(member.scope.buildings),
                "assets": _words(member.scope.assets),
                "kinds": _words(member.scope.kinds),
            },
        }
        for kid, member in one.members.items()
    ]
    return {
        "ver": one.ver,
        "by": one.name,
        "made": stamp(one.made),
        "expires": stamp(one.expires),
        "threshold": one.threshold,
        "sha256": one.sha256,
        "members": members,
        "left_out": _left_out(one, reception, house),
    }


def _left_out(one: TrustList, reception: Inbox, house: Gateway) -> list[dict[str, Any]]:
    """Keys that this list does not have, or has no more, whose grants stand."""
    if house.steering is None:
        return []
    own = {} if (us := reception.witness) is None else {us.key.kid: us}
    return left_out(house.steering, {**one.members, **own})


def _words(some: frozenset[str] | None) -> list[str] | None:
    return None if some is None else sorted(some)
