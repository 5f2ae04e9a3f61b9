"""Calls about votes of an assembly that has no key: two people act, and the gateway signs.

This needs `trust.witnessed: true` in the configuration. One account records the vote. Another one
confirms it with the code on paper. Neither may be an account that several people use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.api.registry import shared
from agent.control.orders import grant_of
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.gateway.controls import NoControls
from agent.inbox.inbox import BY_HAND
from agent.trust import claims, store
from agent.trust.sign import Signer, new_jti
from agent.trust.store import CONFIRMED_WITHIN, Vote
from agent.trust.verify import verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.api.registry import Call, Caller
    from agent.gateway.gateway import Gateway

SAID = frozenset({"sub", "nbf", "exp", "scope", "lim", "evid"})
"""claims that a person gives; the gateway adds the others"""


async def record(gateway: Gateway, caller: Caller, *, grant: dict[str, Any]) -> dict[str, Any]:
    """Record a vote until another person confirms it; return the code for the paper.

    Raises Refused, Forged.
    """
    account, now = _person(gateway, caller), gateway.clock.now()
    if unknown := grant.keys() - SAID:
        raise Refused(f"a vote may not contain: {', '.join(sorted(unknown))}")
    evidence = grant.get("evid") or {}
    if not (evidence.get("kind") == "vote" and evidence.get("result") and evidence.get("majority")):
        raise Refused("the result of the vote or its majority is missing")
    us = gateway.objects.inbox.audience
    payload = {
        "iss": us.gateway, "jti": new_jti(now), "iat": int(now), "role": "residents_council",
        "aud": us.building or us.gateway, **grant,
    }  # fmt: skip
    _signed(gateway, payload)  # refuse a wrong grant now, before people sign the paper
    code, vote = store.draw_code(), Vote(account, int(now) + CONFIRMED_WITHIN, payload)
    with gateway.objects.inbox.trust_store.transaction() as db:
        store.keep_vote(db, code, vote, now)
    gateway.audit(
        "vote.recorded", {"jti": payload["jti"], "sha256": evidence["sha256"], "by": account}
    )
    return {"code": code, **_shown(vote)}


async def look(gateway: Gateway, caller: Caller, *, code: str) -> dict[str, Any]:
    """Return the vote that a code would confirm. Raises Refused."""
    _person(gateway, caller)
    return _shown(_vote(gateway, code))


async def confirm(gateway: Gateway, caller: Caller, *, code: str) -> dict[str, Any]:
    """Sign a recorded vote as witness, and accept it like any grant. Raises Refused, Forged."""
    account, vote = _person(gateway, caller), _vote(gateway, code)
    if account == vote.account:
        raise Refused(f'"{account}" has recorded this vote, so another person must confirm it')
    if not gateway.steering:
        raise Refused(NoControls.REASON)
    answer = await gateway.objects.accept(_signed(gateway, vote.claims), BY_HAND)
    # Drop the code last. If the process is killed before, the same signed bytes are accepted again
    # with the first answer.
    with gateway.objects.inbox.trust_store.transaction() as db:
        store.drop_vote(db, code)
    gateway.audit("vote.confirmed", {"jti": vote.claims["jti"], "by": account})
    return answer


CALLS: Mapping[str, Call] = {
    "control.witness": record,
    "control.vote": look,
    "control.confirm": confirm,
}
"""calls by name"""


def _person(gateway: Gateway, caller: Caller) -> str:
    """Return the caller's account. Raises Refused if it may not record or confirm votes."""
    if gateway.objects.inbox.witness is None or not gateway.config.trust.witnessed:
        raise Refused(
            "this gateway does not witness votes. Have the grant signed with a key of the"
            " residents' council, or set `trust: {witnessed: true}` in the configuration"
        )
    if caller.who in shared(gateway):
        raise Refused(
            f'several people use the account "{caller.who}": record a vote from your own account,'
            " and let another person confirm it from theirs"
        )
    return caller.who


def _vote(gateway: Gateway, code: str) -> Vote:
    vote = store.find_vote(gateway.objects.inbox.trust_store.db, code, gateway.clock.now())
    if vote is None:
        raise Refused("no vote waits for this code: it is wrong, already used, or expired")
    return vote


def _signed(gateway: Gateway, payload: Mapping[str, Any]) -> bytes:
    """Sign the grant, and check that this gateway would accept it. Raises Refused, Forged."""
    assert gateway.identity
    raw = Signer(gateway.identity.gateway, gateway.identity.signing_key).sign(
        "dr-grant+jwt", payload
    )
    verified = verify(raw, gateway.objects.inbox.known())
    assert isinstance(verified.model, claims.GrantClaims)
    try:
        grant_of(verified, verified.model)
    except ValueError as error:
        raise Refused(str(error)) from error
    return raw


def _shown(vote: Vote) -> dict[str, Any]:
    grant = vote.claims
    return {
        "by": vote.account,
        "until": stamp(vote.until),
        "jti": grant["jti"],
        "from": stamp(grant.get("nbf", grant["iat"])),
        "to": stamp(grant["exp"]),
        **{name: grant[name] for name in ("sub", "scope", "lim", "evid")},
    }
