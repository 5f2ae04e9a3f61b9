"""What the gateway says of itself, beside lines, devices and uplinks."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from agent.enrolment import calls, credential
from agent.errors import Refused
from agent.upstream import rotation

if TYPE_CHECKING:
    from agent.gateway import Gateway, Recipient

AHEAD = 1.1
"""times its share of the month before somebody is told"""


LEAST_FREE = 4_000_000
"""bytes: a disk with less is full, whatever is reserved"""


def itself(house: Gateway) -> dict[str, Any]:
    """Configuration, disk, certificate and the rotation of the spool key."""
    return {
        "configuration": house.config.fingerprint,
        "disk": disk(house),
        "disk_said": full(house),
        "certificate": certificate(house),
        "rotation": rotation.standing(house),
    }


def disk(house: Gateway) -> dict[str, int]:
    """Bytes where the state lies."""
    found = shutil.disk_usage(house.config.state)
    return {"free": found.free, "total": found.total}


def full(house: Gateway) -> str:
    """What is given up because the disk is full, and what to do; empty: it is not."""
    state, reserve = house.config.state, house.config.spool.reserve
    lacking = max(reserve, LEAST_FREE) - shutil.disk_usage(state).free
    if lacking <= 0:
        return ""
    full = any(one.spool.disk_full for one in house.outlets.values())
    given_up = (
        "the oldest readings that wait are given up for new ones"
        if full
        else (
            "nothing is given up yet, but readings that must wait find no more room than they have"
        )
    )
    return (
        f"the disk {state} is full: {given_up}, those of now are still sent;"
        f" free at least {-(-lacking // 10**7) * 10} MB"
    )


def certificate(house: Gateway) -> dict[str, Any] | None:
    """The certificate and how long it holds; None where there is none."""
    state = house.config.state
    if house.identity is None or not credential.path(state).exists():
        return None
    try:
        own = credential.load(state)
    except Refused as error:
        return {"not_after": None, "days_left": 0, "validity": str(error), "alarm": str(error)}
    found = calls.about(own, house.identity.gateway, house.clock.now())
    return found | {"alarm": found["alarm"] or house.certificate_said}


def moved(house: Gateway, outlet: Recipient) -> dict[str, Any]:
    """What a recipient's line has moved this month, in bytes, of what it may."""
    now = house.clock.now()
    counter = house.traffic.of(outlet.settings.recipient, now)
    options = house.config.uplinks.get(outlet.name)
    allowed = options.data if options else None
    said = ""
    if allowed and counter.used >= allowed:
        said = "this month's data are used up: only the most urgent goes now"
    elif allowed and counter.used > AHEAD * allowed * max(house.traffic.share(now), 0.1):
        said = "this month's data go faster than planned: what is sent goes more slowly"
    return {"month": counter.month, "used": counter.used, "budget": allowed, "said": said}
