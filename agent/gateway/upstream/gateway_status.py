"""The parts of the status that concern the gateway itself, not lines, devices or uplinks."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from agent.core.errors import Refused
from agent.enrolment import calls, credential
from agent.gateway.upstream import rotation

if TYPE_CHECKING:
    from agent.gateway.gateway import Gateway, Recipient

AHEAD = 1.1
"""ratio of used data to the month's share from which a warning is shown"""


LEAST_FREE = 4_000_000
"""bytes: a disk with less free space counts as full, whatever the reserve"""


def own_status(gateway: Gateway) -> dict[str, Any]:
    """Configuration, disk, certificate and the rotation of the spool key."""
    return {
        "configuration": gateway.config.fingerprint,
        "disk": disk(gateway),
        "disk_said": full(gateway),
        "certificate": certificate(gateway),
        "rotation": rotation.standing(gateway),
    }


def disk(gateway: Gateway) -> dict[str, int]:
    """Free and total bytes of the file system with the state directory."""
    usage = shutil.disk_usage(gateway.config.state)
    return {"free": usage.free, "total": usage.total}


def full(gateway: Gateway) -> str:
    """What a full disk costs and what to do; empty: the disk is not full."""
    state, reserve = gateway.config.state, gateway.config.spool.reserve
    lacking = max(reserve, LEAST_FREE) - shutil.disk_usage(state).free
    if lacking <= 0:
        return ""
    full = any(one.spool.disk_full for one in gateway.recipients.values())
    effect = (
        "the oldest unsent readings are deleted to make room for new ones"
        if full
        else ("nothing is deleted yet, but the spools can no longer grow")
    )
    return (
        f"the disk of {state} is full: {effect}; current readings are still sent."
        f" Free at least {-(-lacking // 10**7) * 10} MB"
    )


def certificate(gateway: Gateway) -> dict[str, Any] | None:
    """The certificate and its validity; None: no certificate is installed."""
    state = gateway.config.state
    if gateway.identity is None or not credential.path(state).exists():
        return None
    try:
        own = credential.load(state)
    except Refused as error:
        return {"not_after": None, "days_left": 0, "validity": str(error), "alarm": str(error)}
    summary = calls.about(own, gateway.identity.gateway, gateway.clock.now())
    return summary | {"alarm": summary["alarm"] or gateway.certificate_said}


def moved(gateway: Gateway, recipient: Recipient) -> dict[str, Any]:
    """Data used by a recipient's line this month, and its budget, in bytes."""
    now = gateway.clock.now()
    counter = gateway.traffic.of(recipient.settings.recipient, now)
    options = gateway.config.uplinks.get(recipient.name)
    allowed = options.data if options else None
    warning = ""
    if allowed and counter.used >= allowed:
        warning = "this month's data budget is used up: only urgent data are sent"
    # at least a tenth: on the first days of a month each batch would be ahead of its share
    elif allowed and counter.used > AHEAD * allowed * max(gateway.traffic.share(now), 0.1):
        warning = "this month's data are used faster than planned: batches are sent less often"
    return {"month": counter.month, "used": counter.used, "budget": allowed, "said": warning}
