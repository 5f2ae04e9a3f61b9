"""Calls about uplinks: which there are, and how one is closed without losing what waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.buffer.disclosures import tokens_of
from agent.buffer.orphaned_spools import destroy, leftovers
from agent.clock import stamp
from agent.errors import Refused
from agent.upstream.gateway_status import moved
from agent.upstream.route import standing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.gateway import Gateway, Recipient


async def listed(house: Gateway, asker: object) -> dict[str, Any]:
    """Every uplink, and the recipients without one for whom something still waits."""
    del asker
    config, recipients = house.config, _recipients(house)
    found = {
        name: {
            "recipient": one.settings.recipient,
            "transport": one.transport,
            "url": standing(one.settings),
            "receipt": getattr(one.settings, "receipt", "platform"),
            "closing": one.settings.recipient in house.closing,
            "moved": _moved(house, one.settings),
            **(await _live(house, house.outlets[name]) if name in house.outlets else {}),
        }
        for name, one in config.uplinks.items()
    }
    left = dict(leftovers(config.state, recipients))
    return {"uplinks": found, "left": left, "running": house.close is not None}


async def close(house: Gateway, asker: object, *, name: str, how: str) -> dict[str, Any]:
    """Keep nothing more for a recipient; `how`: drain what waits, or drop it. Raises Refused.

    The answer says what still waits, or was dropped.
    """
    del asker
    if how not in {"drain", "drop"}:
        raise Refused("say --drain (deliver what waits) or --drop (destroy it)")
    if name not in house.config.uplinks:
        return await _forsake(house, name, how)
    if house.close is None:
        raise Refused("gardien is not running: start it, for it is what delivers, and try again")
    dropped = await house.close(name, how == "drop")
    waits = await house.outlets[name].waiting()
    return {"uplink": name, "waits": waits, "dropped": dropped}


async def retry(house: Gateway, asker: object, *, name: str) -> dict[str, Any]:
    """Send the batches of an uplink that were refused once more, at once. Raises Refused."""
    del asker
    if name not in house.config.uplinks:
        known = ", ".join(house.config.uplinks) or "none"
        raise Refused(f'no uplink "{name}"; there are: {known}')
    if name not in house.outlets or house.close is None:
        raise Refused("gardien is not running: start it, for it is what delivers, and try again")
    outlet = house.outlets[name]
    batches = await outlet.outbox.retry()
    outlet.delivery.hurry = True
    connected = outlet.delivery.connected_since is not None
    return {"uplink": name, "batches": batches, "connected": connected}


CALLS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "uplink.list": listed,
    "uplink.close": close,
    "uplink.retry": retry,
}


def _moved(house: Gateway, settings: Any) -> dict[str, Any] | None:
    """Its way to another address; None where it is on none."""
    move = house.moves.of(settings.recipient, standing(settings), house.clock.now())
    return None if move is None else {"to": move.new, "proved": move.proved is not None}


def _recipients(house: Gateway) -> set[str]:
    return {one.settings.recipient for one in house.config.uplinks.values()}


async def _live(house: Gateway, outlet: Recipient) -> dict[str, Any]:
    since, last = outlet.delivery.connected_since, outlet.delivery.last_receipt
    return {
        "connected_since": stamp(since) if since else None,
        "last_receipt": stamp(last) if last else None,
        "waits": await outlet.waiting(),
        "data": moved(house, outlet),
    }


async def _forsake(house: Gateway, recipient: str, how: str) -> dict[str, Any]:
    """Destroy what waits for a recipient whose uplink is gone from the configuration."""
    left = dict(leftovers(house.config.state, _recipients(house)))
    if recipient not in left:
        known = ", ".join([*house.config.uplinks, *left]) or "none"
        raise Refused(f'no uplink "{recipient}"; there are: {known}')
    if how == "drain":
        raise Refused(
            f"nothing can be delivered to {recipient} without its uplink: put it back into the"
            " configuration, or give up what waits with --drop"
        )
    words = tokens_of(house.identity, recipient)
    now = house.clock.now()
    await asyncio.to_thread(destroy, house.config.state, recipient, now, words)
    return {"uplink": recipient, "waits": 0, "dropped": left[recipient]}
