"""Calls about the trust list, signed objects brought by hand, and the audit chain."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import asdict
from functools import wraps
from typing import TYPE_CHECKING, Any

from agent.api.control import left_out, with_next_steps
from agent.api.registry import author
from agent.core.clock import NOT_BELIEVED, stamp
from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
from agent.inbox.inbox import BY_HAND
from agent.registry import parsers
from agent.trust import audit, store, trust_list
from agent.trust.error_codes import Forged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.api.registry import Call, Caller
    from agent.config import Config
    from agent.gateway.controls import Steering
    from agent.gateway.gateway import Gateway
    from agent.inbox.inbox import Inbox
    from agent.trust.audit import AuditRecord
    from agent.trust.trust_list import TrustList

log = logging.getLogger(__name__)

ONE_READS = asyncio.Lock()
"""lets one caller at a time read the chain: reading 64 MB uses a core, and polling must go on"""


def standing(gateway: Gateway) -> dict[str, Any] | None:
    """Describe the state of trust and of the audit chain; None without an identity."""
    if not gateway.objects.inbox:
        return None
    unwritten = gateway.audit.lost + gateway.audit.held_back
    return gateway.objects.inbox.status() | {"unwritten": unwritten}


async def trust_show(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Return the trust list in force. Raises Refused."""
    del caller
    standing = gateway.objects.inbox.trust_store.trust
    contents = _contents(standing, gateway) if standing else {}
    return {"list": contents, **gateway.objects.inbox.status()}


def _brought_by_a_person(call: Call) -> Call:
    """Wrap a call so that a refused object is refused with the next step of a person."""

    @wraps(call)
    async def wrapper(gateway: Gateway, caller: Caller, **args: Any) -> dict[str, Any]:
        try:
            return await call(gateway, caller, **args)
        except Forged as error:
            raise error.for_a_person() from error

    return wrapper


async def trust_look(gateway: Gateway, caller: Caller, *, text: str) -> dict[str, Any]:
    """Return what a new list contains and who signed it, before it is accepted. Raises Forged."""
    del caller
    new, standing = trust_list.read(text.encode()), gateway.objects.inbox.trust_store.trust
    if standing is None or standing.sha256 != new.sha256:
        gateway.objects.inbox.consider(new)
    return {
        **_contents(new, gateway),
        "signed": sorted(new.signed_by(new.roots)),
        "first": standing is None,
        "pinned": bool(gateway.config.trust.roots),
    }


async def trust_accept(
    gateway: Gateway,
    caller: Caller,
    *,
    text: str,
    sha256: str | None = None,
    named: str | None = None,
) -> dict[str, Any]:
    """Accept a trust list. Raises Refused.

    `sha256`: needed for the first list, as proof that a person has compared its roots.
    """
    who = author(gateway, caller, named)
    inbox = gateway.objects.inbox
    first = inbox.trust_store.trust is None
    try:
        answer = inbox.renew_trust(text.encode(), sha256)
    except Refused as error:
        # A refused list may be an attack: who tried it must be in the chain.
        gateway.audit("trust.refused", {"why": str(error)[:300], "by": who})
        raise
    if first:
        gateway.audit("trust.confirmed", {"sha256": sha256, "by": who})
    elif not answer.get("again"):
        gateway.audit("trust.brought", {"ver": answer["ver"], "by": who})
    return answer | {"by": who}


async def object_accept(
    gateway: Gateway, caller: Caller, *, text: str, named: str | None = None
) -> dict[str, Any]:
    """Accept a signed object that a person has brought. Raises Forged.

    In the answer, `accepted` says whether the object is in force now.
    """
    who, raw = author(gateway, caller, named), text.encode()
    answer = await gateway.objects.accept(raw, BY_HAND)
    if not answer.get("again"):
        gateway.audit("object.brought", {"sha256": hashlib.sha256(raw).hexdigest(), "by": who})
    with_next_steps(answer.get("targets", {}), gateway)
    return answer | {"accepted": _counts(answer)}


async def object_preview(gateway: Gateway, caller: Caller, *, text: str) -> dict[str, Any]:
    """Say what a place map would change, without changing anything.

    Raises Forged if it does not verify, and Refused for another type of object.
    """
    del caller
    return gateway.objects.inbox.preview(text.encode())


def _counts(answer: Mapping[str, Any]) -> bool:
    """Whether an object is in force, at every control that it names."""
    if str(answer["outcome"]).startswith(("waits", NOT_BELIEVED)) or answer.get("revoked") is True:
        return False
    return not any("code" in target for target in answer.get("targets", {}).values())


async def object_list(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """List the waiting objects with what they wait for, and the objects that were set aside."""
    del caller
    book = gateway.objects.inbox.trust_store
    return {"waiting": book.waiting_list(), "set_aside": store.list_set_aside(book.db)}


async def object_all_came(
    gateway: Gateway, caller: Caller, *, named: str | None = None
) -> dict[str, Any]:
    """Open the post-restore gate on a person's word that all has arrived. Raises Refused."""
    who, gate = author(gateway, caller, named), gateway.restored
    if gate.made is None:
        raise Refused(
            "this gateway waits for nothing: it was not restored, or all objects have arrived"
        )
    made = gate.made
    unproved = sorted(gate.unproved or ())
    gateway.audit("restored.confirmed", {"made": made, "unproved": unproved, "by": who})
    gate.end()
    log.warning(
        "%s confirms that all objects since the backup of %s have arrived", who, made,
        extra=fields(LogEvent.RESTORE_CHECKED),
    )  # fmt: skip
    return {"made": made, "by": who}


async def audit_verify(
    gateway: Gateway,
    caller: Caller,
    *,
    hash: str | None = None,  # noqa: A002 -- the name of the call's argument
) -> dict[str, Any]:
    """Verify the audit chain record by record, and that it contains `hash`. Raises Refused."""
    del caller
    answer: dict[str, Any] = await _read(gateway.config, audit.verification_report, hash)
    return answer


async def audit_list(
    gateway: Gateway, caller: Caller, *, kind: str = "", since: str | None = None, last: float = 50
) -> dict[str, Any]:
    """List the last records of the audit chain. Raises Broken.

    `kind`: only these (`consent` includes `consent.given`). `since`: a date. `last`: how many.
    """
    del caller
    begins = parsers.when(since, gateway.config.building.timezone, "since")
    first = stamp(begins) if begins is not None else ""

    def wanted(record: AuditRecord) -> bool:
        return record.t >= first and (not kind or f"{record.type}.".startswith(f"{kind}."))

    most = max(1, min(int(last), audit.MOST_RECORDS))
    return {
        "records": [asdict(one) for one in await _read(gateway.config, audit.newest, most, wanted)]
    }


async def _read(config: Config, read: Callable[..., Any], *more: Any) -> Any:
    """Read the files of the chain in a thread; the chain may grow meanwhile. Raises Refused."""
    try:
        async with ONE_READS:
            return await asyncio.to_thread(read, config.state / audit.FOLDER, *more)
    except FileNotFoundError as error:  # a full chain has just dropped its oldest file
        raise Refused(
            "{filename} was just removed as the oldest: try again", filename=error.filename
        ) from error


CALLS: Mapping[str, Call] = {
    "audit.verify": audit_verify,
    "audit.list": audit_list,
    "trust.show": trust_show,
    "trust.look": _brought_by_a_person(trust_look),
    "trust.accept": _brought_by_a_person(trust_accept),
    "object.accept": _brought_by_a_person(object_accept),
    "object.preview": _brought_by_a_person(object_preview),
    "object.list": object_list,
    "object.all_came": object_all_came,
}
"""calls by name"""


def _contents(current: TrustList, gateway: Gateway) -> dict[str, Any]:
    inbox = gateway.objects.inbox
    now, revoked = gateway.clock.now(), inbox.known().revoked
    members = [
        {
            "kid": kid,
            "name": member.name,
            "role": member.role,
            "until": stamp(member.until) if member.role != "root" else stamp(current.expires),
            "counts": kid not in revoked and member.since <= now <= member.until,
            "scope": {
                "buildings": _listed(member.scope.buildings),
                "assets": _listed(member.scope.assets),
                "kinds": _listed(member.scope.kinds),
            },
        }
        for kid, member in current.members.items()
    ]
    return {
        "ver": current.ver,
        "by": current.name,
        "made": stamp(current.made),
        "expires": stamp(current.expires),
        "threshold": current.threshold,
        "sha256": current.sha256,
        "members": members,
        "left_out": _left_out(current, inbox, gateway.steering),
    }


def _left_out(current: TrustList, inbox: Inbox, steering: Steering) -> list[dict[str, Any]]:
    """Return the keys that are not on this list but whose grants are still in force."""
    if not steering:
        return []
    own = {} if (us := inbox.witness) is None else {us.key.kid: us}
    return left_out(steering, {**current.members, **own})


def _listed(some: frozenset[str] | None) -> list[str] | None:
    return None if some is None else sorted(some)
