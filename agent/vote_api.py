"""The vote of an assembly that has no key: two people say it, and this gateway signs as witness.

Only where the configuration says `trust.witnessed: true`. One account records what was voted, the
other, who has the code on paper, confirms it; both are accounts of one person each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.clock import stamp
from agent.control.claims import grant_of
from agent.errors import Refused
from agent.inbox.inbox import BY_HAND
from agent.registry_api import shared
from agent.trust import claims, votes
from agent.trust.sign import Signer, new_jti
from agent.trust.verify import verify
from agent.trust.votes import CONFIRMED_WITHIN, Vote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.gateway import Gateway
    from agent.registry_api import Call, Caller

SAID = frozenset({"sub", "nbf", "exp", "scope", "lim", "evid"})
"""claims that a person says; the others are the gateway's own"""


async def record(gateway: Gateway, asker: Caller, *, grant: dict[str, Any]) -> dict[str, Any]:
    """Keep what an assembly has voted until somebody else confirms it; the code for the paper.

    Raises Refused, Forged.
    """
    account, now = _person(gateway, asker), gateway.clock.now()
    if unknown := grant.keys() - SAID:
        raise Refused(f"a vote does not say {', '.join(sorted(unknown))}")
    evidence = grant.get("evid") or {}
    if not (evidence.get("kind") == "vote" and evidence.get("result") and evidence.get("majority")):
        raise Refused("a vote has its result and the majority of it")
    us = gateway.reception_open().audience
    payload = {
        "iss": us.gateway, "jti": new_jti(now), "iat": int(now), "role": "residents_council",
        "aud": us.building or us.gateway, **grant,
    }  # fmt: skip
    _signed(gateway, payload)  # before anybody signs a paper: what is wrong is said now
    code, vote = votes.draw(), Vote(account, int(now) + CONFIRMED_WITHIN, payload)
    with gateway.reception_open().book.transaction() as db:
        votes.keep(db, code, vote, now)
    gateway.audit(
        "vote.recorded", {"jti": payload["jti"], "sha256": evidence["sha256"], "by": account}
    )
    return {"code": code, **_shown(vote)}


async def look(gateway: Gateway, asker: Caller, *, code: str) -> dict[str, Any]:
    """What would be confirmed. Raises Refused."""
    _person(gateway, asker)
    return _shown(_vote(gateway, code))


async def confirm(gateway: Gateway, asker: Caller, *, code: str) -> dict[str, Any]:
    """Sign a recorded vote as witness, and take it like any grant. Raises Refused, Forged."""
    account, vote = _person(gateway, asker), _vote(gateway, code)
    if account == vote.account:
        raise Refused(f'"{account}" has recorded this vote: somebody else must confirm it')
    if gateway.steering is None:
        raise Refused("nothing may be adjusted here: see `controls` in the configuration")
    answer = await gateway.accept(_signed(gateway, vote.claims), BY_HAND)
    # the code last: a kill before it, and the same bytes are taken again with the first answer
    with gateway.reception_open().book.transaction() as db:
        votes.drop(db, code)
    gateway.audit("vote.confirmed", {"jti": vote.claims["jti"], "by": account})
    return answer


CALLS: Mapping[str, Call] = {
    "control.witness": record,
    "control.vote": look,
    "control.confirm": confirm,
}
"""every call of this part by its name"""


def _person(gateway: Gateway, asker: Caller) -> str:
    """The account at the door, where it is one person's and a vote may be witnessed at all."""
    if gateway.reception_open().witness is None or not gateway.config.trust.witnessed:
        raise Refused(
            "this gateway witnesses no votes: the assembly's grant is signed by a key of the"
            " residents' council, or the configuration says `trust: {witnessed: true}`"
        )
    if asker.who in shared(gateway):
        raise Refused(
            f'"{asker.who}" is an account that several people use: a vote is recorded from one'
            " person's own account, and confirmed from another's"
        )
    return asker.who


def _vote(gateway: Gateway, code: str) -> Vote:
    vote = votes.find(gateway.reception_open().book.db, code, gateway.clock.now())
    if vote is None:
        raise Refused("no vote waits for this code: it is wrong, was used, or its time is over")
    return vote


def _signed(gateway: Gateway, payload: Mapping[str, Any]) -> bytes:
    """The grant, seen to be one that this gateway would take. Raises Refused, Forged."""
    assert gateway.identity is not None
    raw = Signer(gateway.identity.gateway, gateway.identity.signing_key).sign(
        "dr-grant+jwt", payload
    )
    verified = verify(raw, gateway.reception_open().known())
    assert isinstance(verified.said, claims.GrantClaims)
    try:
        grant_of(verified, verified.said)
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
