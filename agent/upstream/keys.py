"""Calls about the gateway's certificate, as every door makes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from agent.enrolment import calls, credential
from agent.errors import Refused
from agent.upstream import rotation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.enrolment.settings import Enrolment
    from agent.gateway import Gateway


class Requester(Protocol):
    """Whoever asks."""

    @property
    def who(self) -> str:
        """By name."""
        ...

    @property
    def progress(self) -> rotation.Tell:
        """Hears how far the work is."""
        ...


KINDS = SPOOL, CERTIFICATE = "spool", "certificate"


async def show(house: Gateway, asker: object) -> dict[str, Any]:
    """The certificate and how long it holds; how far a rotation of the spool key is."""
    del asker
    found = calls.show(house.config.state, _gateway(house), house.clock.now())
    return found | {"rotation": rotation.standing(house)}


async def csr(house: Gateway, asker: object) -> dict[str, Any]:
    """The request for a certificate."""
    del asker
    return await asyncio.to_thread(calls.csr, house.config.state, _gateway(house))


async def install(house: Gateway, asker: object, *, text: str) -> dict[str, Any]:
    """Take the certificate that a CA made of our request. Raises Refused."""
    del asker
    return await _changed(house, calls.install, text)


async def enroll(house: Gateway, asker: object, *, token: str = "") -> dict[str, Any]:
    """Ask the EST server for the first certificate. Raises Refused."""
    del asker
    server = _server(house)
    if not token and server.token is not None:
        token = server.token.reveal()
    if not token:
        raise Refused("the EST server wants a one-time token: whoever runs the platform has it")
    return await _changed(house, calls.enroll, server, token)


async def renew(house: Gateway, asker: object) -> dict[str, Any]:
    """Ask the EST server for the next certificate, now. Raises Refused."""
    del asker
    return await _changed(house, calls.renew, _server(house))


async def rotate(house: Gateway, asker: Requester, *, what: str = "") -> dict[str, Any]:
    """Put another spool key, and another key of the certificate, in the place of those of now.

    `what`: only one of the two. Raises Refused.
    """
    if what not in {"", *KINDS}:
        raise Refused(f'"{what}": {" or ".join(KINDS)}')
    answer: dict[str, Any] = {"gateway": _gateway(house), **dict.fromkeys(KINDS)}
    if what != CERTIFICATE:
        rotation.see_that_it_may(house)
    if what != SPOOL:
        answer[CERTIFICATE] = await _rotate_certificate(house, asker)
    if what != CERTIFICATE:
        answer[SPOOL] = await rotation.rotate(house, asker.who, asker.progress)
    return answer


async def _rotate_certificate(house: Gateway, asker: Requester) -> dict[str, Any]:
    if not credential.path(house.config.state).exists():
        return {"how": "none"}
    house.audit("certificate.rotation", {"by": asker.who})
    if house.config.enrolment is not None:
        try:
            return {"how": "est"} | await renew(house, asker)
        except Refused as error:  # the spool key does not wait for it
            return {"how": "asked again", "why": str(error)}
    return {"how": "csr"} | await csr(house, asker)


CALLS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "key.show": show,
    "key.csr": csr,
    "key.install": install,
    "key.enroll": enroll,
    "key.renew": renew,
    "key.rotate": rotate,
}


async def _changed(
    house: Gateway, call: Callable[..., dict[str, Any]], *args: Any
) -> dict[str, Any]:
    """Make a call that may bring another certificate; uplinks that it opens need not wait."""
    state, now = house.config.state, house.clock.now()
    answer = await asyncio.to_thread(call, state, _gateway(house), now, *args)
    if house.reopen is not None and answer.get("certificate"):
        await house.reopen()
    return answer


def _gateway(house: Gateway) -> str:
    if house.identity is None:
        raise Refused("this gateway has no identity yet: run `gardien key new`")
    return house.identity.gateway


def _server(house: Gateway) -> Enrolment:
    if house.config.enrolment is None:
        raise Refused(
            "no EST server is configured: write `enrolment: {url: https://…}`, or take"
            " `gardien key csr` to a CA and bring its certificate to `gardien key install`"
        )
    return house.config.enrolment
