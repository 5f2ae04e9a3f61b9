"""Where signed requests and moves are taken: once each, whichever way they came."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from agent.trust import allowance, replay
from agent.upstream import requests, route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.gateway import Gateway
    from agent.inbox.inbox import Inbox
    from agent.trust.verify import Verified

    Act = Callable[[Gateway, Any], Awaitable[str]]

KINDS: dict[str, Act] = {"request+jwt": requests.obey, "uplink-move+jws": route.move}


def take_seats(house: Gateway) -> None:
    """Take what the platform asks of uplinks, where signed objects are received at all."""
    if house.reception is not None:
        for typ, act in KINDS.items():
            house.reception.seats[typ] = partial(_once, house, house.reception, act)


async def _once(house: Gateway, reception: Inbox, act: Act, verified: Verified) -> dict[str, Any]:
    """Do what a verified object says; the same bytes again get the first answer.

    Raises Forged E_KID where its issuer is not the recipient that it is about, E_OFTEN where the
    issuer has made too many.
    """
    book = reception.book
    if first := replay.first(book.db, verified):
        return first | {"again": True}
    requests.must_be_its_own(house, verified)
    with book.transaction() as db:
        allowance.take(db, verified.owner, house.clock.now())
    answer = {"typ": verified.typ, "jti": verified.jti}
    answer["outcome"] = await act(house, verified.said)
    with book.transaction() as db:
        replay.keep(db, verified, answer)
    house.audit("object.accepted", answer | {"kid": verified.kid, "sha256": verified.sha256})
    return answer
