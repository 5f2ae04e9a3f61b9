"""Which address an uplink is opened at, while it moves and otherwise."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from agent.clock import monotonic
from agent.errors import NotRecorded, Refused, UplinkLost
from agent.uplink_migration import PROBE_EVERY, PROVE_WITHIN, address
from agent.upstream.requests import impossible, outlet_to

if TYPE_CHECKING:
    from agent.gateway import Gateway, Recipient
    from agent.trust.claims import UplinkMove
    from agent.uplink_migration import Move

LOOK = 0.5
"""seconds between two looks whether a receipt has come"""

UNPROVED = "the new address has brought no receipt: back to the old one"


class Route:
    """The addresses of one uplink, as long as its job runs."""

    def __init__(self, house: Gateway, outlet: Recipient, settings: Any) -> None:
        self._house, self._outlet, self._settings = house, outlet, settings
        self._failures = 0
        self._opened = monotonic()
        self._probed = self._opened - PROBE_EVERY
        self._proving = False
        self._move: Move | None = None

    def settings(self) -> Any:
        """The settings for the next opening."""
        if self._outlet.delivery.heard > self._opened:
            self._failures = 0
        self._opened, self._proving, self._move = monotonic(), False, self._ordered()
        move = self._move
        if move is None:
            return self._settings
        since = self._opened - self._probed
        url = address(move, self._house.clock.now(), self._failures, since)
        self._failures += 1
        if url == move.new and move.proved is None:
            self._proving, self._probed = True, self._opened
        try:
            return at(self._settings, url)
        except Refused as error:
            raise UplinkLost(str(error)) from error

    async def watch(self) -> None:
        """Note the first receipt over a new address; raise UplinkLost when another is to be tried.

        That is when a move is ordered, when one has brought no receipt in time, and when it is time
        to try it again.
        """
        if self._proving:
            await self._prove()
        while self._ordered() == self._move:
            waits = self._move is not None and self._move.proved is None
            if waits and monotonic() - self._probed >= PROBE_EVERY:
                break
            await asyncio.sleep(LOOK)
        raise UplinkLost("it is to move to another address")

    async def _prove(self) -> None:
        # so that there is something to be receipted
        await self._outlet.thread.run(self._outlet.spool.tell_again)
        self._outlet.delivery.hurry = True
        try:
            async with asyncio.timeout(PROVE_WITHIN):
                while self._outlet.delivery.heard <= self._opened:
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            raise UplinkLost(UNPROVED) from None
        self._house.moves.prove(self._settings.recipient, self._house.clock.now())
        self._move = self._ordered()

    def _ordered(self) -> Move | None:
        now, url = self._house.clock.now(), standing(self._settings)
        return self._house.moves.of(self._settings.recipient, url, now)


def standing(settings: Any) -> str:
    """The address that the configuration names; of a folder as a `file:` URL."""
    return settings.url or Path(settings.path).as_uri()


def _said(settings: Any, url: str) -> dict[str, Any]:
    """A folder moves to another folder only, for its address is a `path`. Raises Refused."""
    if settings.url:
        return {"url": url}
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
        raise Refused(f"{url} is no folder: it must be such as file:///mnt/exchange")
    return {"path": unquote(parts.path)}


def at(settings: Any, url: str) -> Any:
    """The same uplink at another address. Raises Refused where it can be none."""
    told = {name: getattr(settings, name) for name in type(settings).model_fields}
    try:
        return type(settings).model_validate(told | _said(settings, url))
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise Refused(f"{url} cannot be its address: {what}") from error


async def move(house: Gateway, said: UplinkMove) -> str:
    """Begin to move an uplink; what was done, for people. Raises Forged E_REQUEST, NotRecorded.

    The uplink's own job takes it up: this may be called from within it, by what came over it.
    """
    outlet = outlet_to(house, said.recipient)
    settings = house.config.uplinks[outlet.name].settings
    try:
        at(settings, said.url)
        house.moves.order(said.recipient, standing(settings), said.url, house.clock.now())
    except NotRecorded:
        raise
    except Refused as error:
        raise impossible(str(error)) from error
    return f"{said.url} is tried, and counts once it has brought a receipt"
