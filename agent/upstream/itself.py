"""What the gateway says of itself, beside lines, devices and uplinks."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from agent.enrolment import calls, credential
from agent.errors import Refused

if TYPE_CHECKING:
    from agent.house import House, Outlet

AHEAD = 1.1
"""times its share of the month before somebody is told"""


def itself(house: House) -> dict[str, Any]:
    """Configuration, disk and certificate."""
    return {
        "configuration": house.config.fingerprint,
        "disk": disk(house),
        "certificate": certificate(house),
    }


def disk(house: House) -> dict[str, int]:
    """Bytes where the state lies."""
    found = shutil.disk_usage(house.config.state)
    return {"free": found.free, "total": found.total}


def certificate(house: House) -> dict[str, Any] | None:
    """The certificate and how long it holds; None where there is none."""
    state = house.config.state
    if house.identity is None or not credential.path(state).exists():
        return None
    try:
        own = credential.load(state)
    except Refused as error:
        return {"not_after": None, "days_left": 0, "validity": str(error), "alarm": str(error)}
    return calls.about(own, house.identity.gateway, house.clock.now())


def moved(house: House, outlet: Outlet) -> dict[str, Any]:
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
