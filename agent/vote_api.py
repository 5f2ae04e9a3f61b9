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


async def record(house: Gateway, asker: Caller, *, grant: dict[str, Any]) -> dict[str, Any]:
    """Keep what an assembly has voted until somebody else confirms it; the code for the paper.

    Raises Refused, Forged.
    """
    account, now = _person(house, asker), house.clock.now()
    if unknown := grant.keys() - SAID:
        raise Refused(f"a vote does not say {', '.join(sorted(unknown))}")
    evidence = grant.get("evid") or {}
    if not (evidence.get("kind") == "vote" and evidence.get("result") and evidence.get("majority")):
        raise Refused("a vote has its result and the majority of it")
    us = house.reception_open().audience
    said = {
        "iss": us.gateway, "jti": new_jti(now), "iat": int(now), "role": "residents_council",
        "aud": us.building or us.gateway, **grant,
    }  # fmt: skip
    _signed(house, said)  # before anybody signs a paper: what is wrong is said now
    code, vote = votes.draw(), Vote(account, int(now) + CONFIRMED_WITHIN, said)
    with house.reception_open().trust_store.transaction() as db:
        votes.keep(db, code, vote, now)
    house.audit("vote.recorded", {"jti": said["jti"], "sha256": evidence["sha256"], "by": account})
    return {"code": code, **_told(vote)}


async def look(house: Gateway, asker: Caller, *, code: str) -> dict[str, Any]:
    """What would be confirmed. Raises Refused."""
    _person(house, asker)
    return _told(_found(house, code))


async def confirm(house: Gateway, asker: Caller, *, code: str) -> dict[str, Any]:
    """Sign a recorded vote as witness, and take it like any grant. Raises Refused, Forged."""
    account, vote = _person(house, asker), _found(house, code)
    if account == vote.account:
        raise Refused(f'"{account}" has recorded this vote: somebody else must confirm it')
    if house.steering is None:
        raise Refused("nothing may be adjusted here: see `controls` in the configuration")
    answer = await house.accept(_signed(house, vote.claims), BY_HAND)
    # the code last: a kill before it, and the same bytes are taken again with the first answer
    with house.reception_open().trust_store.transaction() as db:
        votes.drop(db, code)
    house.audit("vote.confirmed", {"jti": vote.claims["jti"], "by": account})
    return answer


CALLS: Mapping[str, Call] = {
    "control.witness": record,
    "control.vote": look,
    "control.confirm": confirm,
}
"""every call of this part by its name"""


def _person(house: Gateway, asker: Caller) -> str:
    """The account at the door, where it is one person's and a vote may be witnessed at all."""
    if house.reception_open().witness is None or not house.config.trust.witnessed:
        raise Refused(
            "this gateway witnesses no votes: the assembly's grant is signed by a key of the"
            " residents' council, or the configuration says `trust: {witnessed: true}`"
        )
    if asker.who in shared(house):
        raise Refused(
            f'"{asker.who}" is an account that several people use: a vote is recorded from one'
            " person's own account, and confirmed from another's"
        )
    return asker.who


def _found(house: Gateway, code: str) -> Vote:
    vote = votes.find(house.reception_open().trust_store.db, code, house.clock.now())
    if vote is None:
        raise Refused("no vote waits for this code: it is wrong, was used, or its time is over")
    return vote


def _signed(house: Gateway, said: Mapping[str, Any]) -> bytes:
    """The grant, seen to be one that this gateway would take. Raises Refused, Forged."""
    assert house.identity is not None
    raw = Signer(house.identity.gateway, house.identity.signing_key).sign("dr-grant+jwt", said)
    verified = verify(raw, house.reception_open().known())
    assert isinstance(verified.model, claims.GrantClaims)
    try:
        grant_of(verified, verified.model)
    except ValueError as error:
        raise Refused(str(error)) from error
    return raw


def _told(vote: Vote) -> dict[str, Any]:
    said = vote.claims
    return {
        "by": vote.account,
        "until": stamp(vote.until),
        "jti": said["jti"],
        "from": stamp(said.get("nbf", said["iat"])),
        "to": stamp(said["exp"]),
        **{name: said[name] for name in ("sub", "scope", "lim", "evid")},
    }
