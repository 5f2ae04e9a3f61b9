"""The address at which an uplink is opened, also while it moves to another one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from agent.core.clock import monotonic
from agent.core.errors import NotRecorded, Refused, UplinkLost
from agent.gateway.uplink_migration import PROBE_EVERY, PROVE_WITHIN, address
from agent.gateway.upstream.requests import impossible, recipient_named

if TYPE_CHECKING:
    from agent.gateway.gateway import Gateway, Recipient
    from agent.gateway.uplink_migration import Move
    from agent.trust.claims import UplinkMove

LOOK = 0.5
"""seconds between two checks for a receipt"""

UNPROVED = "no receipt arrived over the new address: returning to the old one"


class Route:
    """The addresses of one uplink, for as long as its task runs."""

    def __init__(self, gateway: Gateway, recipient: Recipient, settings: Any) -> None:
        self._gateway, self._recipient, self._settings = gateway, recipient, settings
        self._failures = 0
        self._opened = monotonic()
        self._probed = self._opened - PROBE_EVERY
        self._proving = False
        self._move: Move | None = None

    def settings(self) -> Any:
        """The settings for the next opening."""
        if self._recipient.delivery.heard > self._opened:
            self._failures = 0
        self._opened, self._proving, self._move = monotonic(), False, self._ordered()
        move = self._move
        if move is None:
            return self._settings
        since = self._opened - self._probed
        url = address(move, self._gateway.clock.now(), self._failures, since)
        self._failures += 1
        if url == move.new and move.proved is None:
            self._proving, self._probed = True, self._opened
        try:
            return at(self._settings, url)
        except Refused as error:
            raise UplinkLost(str(error)) from error

    async def watch(self) -> None:
        """Record the first receipt over a new address.

        Raises UplinkLost when another address must be tried: a move was ordered, no receipt arrived
        in time, or it is time to try the new address again.
        """
        if self._proving:
            await self._prove()
        while self._ordered() == self._move:
            waits = self._move is not None and self._move.proved is None
            if waits and monotonic() - self._probed >= PROBE_EVERY:
                break
            await asyncio.sleep(LOOK)
        raise UplinkLost("the uplink moves to another address")

    async def _prove(self) -> None:
        # the directory is sent again, or there might be nothing to receipt
        await self._recipient.thread.run(self._recipient.spool.tell_again)
        self._recipient.delivery.hurry = True
        try:
            async with asyncio.timeout(PROVE_WITHIN):
                while self._recipient.delivery.heard <= self._opened:
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            raise UplinkLost(UNPROVED) from None
        self._gateway.moves.prove(self._settings.recipient, self._gateway.clock.now())
        self._move = self._ordered()

    def _ordered(self) -> Move | None:
        now, url = self._gateway.clock.now(), standing(self._settings)
        return self._gateway.moves.of(self._settings.recipient, url, now)


def standing(settings: Any) -> str:
    """The configured address; of a folder as a `file:` URL."""
    return settings.url or Path(settings.path).as_uri()


def _address_option(settings: Any, url: str) -> dict[str, Any]:
    """The option for an address. A folder can only move to a folder. Raises Refused."""
    if settings.url:
        return {"url": url}
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
        raise Refused(f"{url} is not a folder: expected an address such as file:///mnt/exchange")
    return {"path": unquote(parts.path)}


def at(settings: Any, url: str) -> Any:
    """The same settings with another address. Raises Refused if the address is invalid."""
    # validated again as a whole: the ordered address must meet the rules of the configured one
    configured = {name: getattr(settings, name) for name in type(settings).model_fields}
    try:
        return type(settings).model_validate(configured | _address_option(settings, url))
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise Refused(f"{url} is not a valid address for this uplink: {what}") from error


async def move(gateway: Gateway, claims: UplinkMove) -> str:
    """Begin to move an uplink; returns what was done, for people.

    The uplink's own task makes the move, since this may be called from within that task. Raises
    Forged E_REQUEST, NotRecorded.
    """
    recipient = recipient_named(gateway, claims.recipient)
    settings = gateway.config.uplinks[recipient.name].settings
    try:
        at(settings, claims.url)
        gateway.moves.order(claims.recipient, standing(settings), claims.url, gateway.clock.now())
    except NotRecorded:
        raise
    except Refused as error:
        raise impossible(str(error)) from error
    return f"{claims.url} is tried now, and takes effect after its first receipt"
