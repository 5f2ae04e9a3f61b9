"""Calls about the gateway's certificate and the rotation of its keys."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from agent.core.errors import Refused
from agent.core.i18n import Text, joined, text_of
from agent.enrolment import calls, credential
from agent.gateway import key_rotation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.config import Config
    from agent.enrolment.settings import Enrolment
    from agent.gateway.gateway import Gateway
    from agent.registry.identity import Identity

KINDS = SPOOL, CERTIFICATE = "spool", "certificate"


class Requester(Protocol):
    """The account that makes a call."""

    @property
    def who(self) -> str:
        """Its name."""
        ...

    @property
    def progress(self) -> key_rotation.Tell:
        """Receives progress reports."""
        ...


async def show(gateway: Gateway, asker: object) -> dict[str, Any]:
    """The certificate, its validity, and the progress of a spool key rotation."""
    del asker
    certificate = calls.show(
        gateway.config.state, _gateway_id(gateway.identity), gateway.clock.now()
    )
    return certificate | {"rotation": key_rotation.standing(gateway)}


async def csr(gateway: Gateway, asker: object) -> dict[str, Any]:
    """The certificate signing request."""
    del asker
    return await asyncio.to_thread(calls.csr, gateway.config.state, _gateway_id(gateway.identity))


async def install(gateway: Gateway, asker: object, *, text: str) -> dict[str, Any]:
    """Install a certificate that a CA issued for our request. Raises Refused."""
    del asker
    return await _changed(gateway, calls.install, text)


async def enroll(gateway: Gateway, asker: object, *, token: str = "") -> dict[str, Any]:
    """Ask the EST server for the first certificate. Raises Refused."""
    del asker
    server = _server(gateway.config)
    if not token and server.token is not None:
        token = server.token.reveal()
    if not token:
        raise Refused(
            "the EST server requires a one-time token: ask the operator of the platform for one"
        )
    return await _changed(gateway, calls.enroll, server, token)


async def renew(gateway: Gateway, asker: object) -> dict[str, Any]:
    """Ask the EST server for the next certificate, now. Raises Refused."""
    del asker
    return await _changed(gateway, calls.renew, _server(gateway.config))


async def rotate(gateway: Gateway, asker: Requester, *, what: str = "") -> dict[str, Any]:
    """Rotate the spool key and the key of the certificate; `what`: only one of them.

    Raises Refused.
    """
    if what not in {"", *KINDS}:
        raise Refused('"{what}": {names}', what=what, names=joined(Text(" or "), KINDS))
    answer: dict[str, Any] = {"gateway": _gateway_id(gateway.identity), **dict.fromkeys(KINDS)}
    if what != CERTIFICATE:
        key_rotation.must_be_possible(gateway)
    if what != SPOOL:
        answer[CERTIFICATE] = await _rotate_certificate(gateway, asker)
    if what != CERTIFICATE:
        answer[SPOOL] = await key_rotation.rotate(gateway, asker.who, asker.progress)
    return answer


async def _rotate_certificate(gateway: Gateway, asker: Requester) -> dict[str, Any]:
    if not credential.path(gateway.config.state).exists():
        return {"how": "none"}
    gateway.audit("certificate.rotation", {"by": asker.who})
    if gateway.config.enrolment is not None:
        try:
            return {"how": "est"} | await renew(gateway, asker)
        except Refused as error:  # the spool key is rotated all the same
            return {"how": Text("asked again"), "why": text_of(error)}
    return {"how": "csr"} | await csr(gateway, asker)


CALLS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "key.show": show,
    "key.csr": csr,
    "key.install": install,
    "key.enroll": enroll,
    "key.renew": renew,
    "key.rotate": rotate,
}


async def _changed(
    gateway: Gateway, call: Callable[..., dict[str, Any]], *args: Any
) -> dict[str, Any]:
    """Make a call that may install a certificate; then reopen the uplinks at once."""
    state, now = gateway.config.state, gateway.clock.now()
    answer = await asyncio.to_thread(call, state, _gateway_id(gateway.identity), now, *args)
    if answer.get("certificate"):
        await gateway.daemon.reopen()
    return answer


def _gateway_id(identity: Identity) -> str:
    if not identity:
        raise Refused("this gateway has no identity yet: run `gardien key new`")
    return identity.gateway


def _server(config: Config) -> Enrolment:
    if config.enrolment is None:
        raise Refused(
            "no EST server is configured. Write `enrolment: {url: https://…}`, or have a CA sign"
            " the request of `gardien key csr` and run: gardien key install"
        )
    return config.enrolment
