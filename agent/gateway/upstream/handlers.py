"""Handlers for signed requests and uplink moves: each object takes effect once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from agent.gateway.upstream import requests, route
from agent.trust import allowance, replay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.gateway.gateway import Gateway
    from agent.inbox.inbox import Inbox
    from agent.trust.verify import Verified

    Act = Callable[[Gateway, Any], Awaitable[str]]

KINDS: dict[str, Act] = {"request+jwt": requests.obey, "uplink-move+jws": route.move}


def register_handlers(gateway: Gateway) -> None:
    """Register the handlers, if the gateway accepts signed objects."""
    if gateway.inbox is not None:
        for typ, act in KINDS.items():
            gateway.inbox.handlers[typ] = partial(_once, gateway, gateway.inbox, act)


async def _once(gateway: Gateway, inbox: Inbox, act: Act, verified: Verified) -> dict[str, Any]:
    """Carry out a verified object; the same bytes again get the first answer.

    Raises Forged E_KID if its issuer is not the recipient concerned, E_OFTEN if the issuer has made
    too many requests.
    """
    store = inbox.trust_store
    # first, so that the same bytes again cost no allowance
    if first := replay.first(store.db, verified):
        return first | {"again": True}
    requests.must_be_its_own(gateway, verified)
    # committed before it is carried out: a request that fails must count as well
    with store.transaction() as db:
        allowance.take(db, verified.owner, gateway.clock.now())
    answer = {"typ": verified.typ, "jti": verified.jti}
    answer["outcome"] = await act(gateway, verified.model)
    with store.transaction() as db:
        replay.keep(db, verified, answer)
    gateway.audit("object.accepted", answer | {"kid": verified.kid, "sha256": verified.sha256})
    return answer
