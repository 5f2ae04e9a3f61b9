"""Calls about uplinks: list them, retry refused batches, close one without losing rows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.api.status import moved
from agent.buffer.disclosures import tokens_of
from agent.buffer.orphaned_spools import destroy, leftovers
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.gateway.delivery import standing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.config import Config
    from agent.gateway.gateway import Gateway, Recipient


async def listed(gateway: Gateway, asker: object) -> dict[str, Any]:
    """Every uplink, and recipients without an uplink for whom rows are still stored."""
    del asker
    config, recipients = gateway.config, _recipients(gateway.config)
    uplinks = {
        name: {
            "recipient": one.settings.recipient,
            "transport": one.transport,
            "url": standing(one.settings),
            "receipt": getattr(one.settings, "receipt", "platform"),
            "closing": one.settings.recipient in gateway.recipients.closing,
            "moved": _moved(gateway, one.settings),
            **(
                await _live(gateway, gateway.recipients[name]) if name in gateway.recipients else {}
            ),
        }
        for name, one in config.uplinks.items()
    }
    left = dict(leftovers(config.state, recipients))
    return {"uplinks": uplinks, "left": left, "running": bool(gateway.daemon)}


async def close(gateway: Gateway, asker: object, *, name: str, how: str) -> dict[str, Any]:
    """Stop collecting for a recipient; `how`: `drain` stored rows or `drop` them.

    The answer has the number of rows that are still stored or were destroyed, and of retractions
    that have no receipt. Raises Refused.
    """
    del asker
    if how not in {"drain", "drop"}:
        raise Refused("choose --drain (deliver the stored rows) or --drop (destroy them)")
    if name not in gateway.config.uplinks:
        return await _drop_orphaned(gateway, name, how)
    dropped = await gateway.daemon.close(name, how == "drop")
    recipient = gateway.recipients[name]
    waits, retractions = await recipient.waiting(), await recipient.unreceipted_retractions()
    return {"uplink": name, "waits": waits, "retractions": retractions, "dropped": dropped}


async def retry(gateway: Gateway, asker: object, *, name: str) -> dict[str, Any]:
    """Send the refused batches of an uplink again now. Raises Refused."""
    del asker
    recipient = recipient_at_work(gateway, name)
    batches = await recipient.outbox.retry()
    recipient.delivery.send_now()
    connected = recipient.delivery.connected_since is not None
    return {"uplink": name, "batches": batches, "connected": connected}


def recipient_at_work(gateway: Gateway, name: str) -> Recipient:
    """The recipient of an uplink, if the gateway is running. Raises Refused."""
    if name not in gateway.config.uplinks:
        known = ", ".join(gateway.config.uplinks) or Text("none")
        raise Refused('no uplink "{name}"; there are: {known}', name=name, known=known)
    if name not in gateway.recipients or not gateway.daemon:
        raise Refused(
            "gardien is not running, and only a running gateway delivers: start it and try again"
        )
    return gateway.recipients[name]


CALLS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "uplink.list": listed,
    "uplink.close": close,
    "uplink.retry": retry,
}


def _moved(gateway: Gateway, settings: Any) -> dict[str, Any] | None:
    """The move of an uplink to another address; None: it does not move."""
    move = gateway.moves.of(settings.recipient, standing(settings), gateway.clock.now())
    return None if move is None else {"to": move.new, "proved": move.proved is not None}


def _recipients(config: Config) -> set[str]:
    return {one.settings.recipient for one in config.uplinks.values()}


async def _live(gateway: Gateway, recipient: Recipient) -> dict[str, Any]:
    since, last = recipient.delivery.connected_since, recipient.delivery.last_receipt
    return {
        "connected_since": stamp(since) if since else None,
        "last_receipt": stamp(last) if last else None,
        "waits": await recipient.waiting(),
        "retractions": await recipient.unreceipted_retractions(),
        "quarantined": (await recipient.thread.run(recipient.spool.backlog)).quarantined,
        "data": moved(gateway, recipient),
    }


async def _drop_orphaned(gateway: Gateway, recipient: str, how: str) -> dict[str, Any]:
    """Destroy the stored rows of a recipient that has no uplink in the configuration."""
    left = dict(leftovers(gateway.config.state, _recipients(gateway.config)))
    if recipient not in left:
        known = ", ".join([*gateway.config.uplinks, *left]) or Text("none")
        raise Refused('no uplink "{name}"; there are: {known}', name=recipient, known=known)
    if how == "drain":
        raise Refused(
            "nothing can be delivered to {recipient} without its uplink. Put it back into"
            " the configuration, or destroy the stored rows: --drop",
            recipient=recipient,
        )
    tokens = tokens_of(gateway.identity, recipient)
    now = gateway.clock.now()
    await asyncio.to_thread(destroy, gateway.config.state, recipient, now, tokens)
    return {"uplink": recipient, "waits": 0, "retractions": 0, "dropped": left[recipient]}
