"""The gateway's own part of the status: disk, certificate, data moved; and samples for people."""

from __future__ import annotations

import shutil
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent.acquisition.slots import multiplier
from agent.api import page
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.core.quantities import channels
from agent.enrolment import calls, credential
from agent.gateway import key_rotation

if TYPE_CHECKING:
    from agent.config import Config
    from agent.core.model import Sample
    from agent.gateway.gateway import Gateway, Recipient, Recipients

AHEAD = 1.1
"""ratio of used data to the month's share from which a warning is shown"""


LEAST_FREE = 4_000_000
"""bytes: a disk with less free space counts as full, whatever the reserve"""


def own_status(gateway: Gateway) -> dict[str, Any]:
    """Configuration, disk, certificate, the rotation of the spool key, and the web page."""
    config, usage = gateway.config, shutil.disk_usage(gateway.config.state)
    return {
        "configuration": config.fingerprint,
        "disk": {"free": usage.free, "total": usage.total},
        "disk_full": full(config, usage.free, gateway.recipients),
        "certificate": certificate(gateway),
        "rotation": key_rotation.standing(gateway),
        "web": page.standing(config.web.listen if config.web else ()),
    }


def full(config: Config, free: int, recipients: Recipients) -> dict[str, Any] | None:
    """How much room a full disk lacks, and whether readings are deleted; None: it is not full."""
    lacking = max(config.spool.reserve, LEAST_FREE) - free
    if lacking <= 0:
        return None
    return {
        "folder": str(config.state),
        "free_at_least_MB": -(-lacking // 10**7) * 10,
        "deleting": any(one.spool.disk_full for one in recipients.values()),
    }


def certificate(gateway: Gateway) -> dict[str, Any] | None:
    """The certificate and its validity; None: no certificate is installed."""
    state = gateway.config.state
    if not gateway.identity or not credential.path(state).exists():
        return None
    try:
        own = credential.load(state)
    except Refused as error:
        return {"not_after": None, "days_left": 0, "validity": error.text, "alarm": error.text}
    summary = calls.about(own, gateway.identity.gateway, gateway.clock.now())
    return summary | {"alarm": summary["alarm"] or gateway.certificate.problem}


def moved(gateway: Gateway, recipient: Recipient) -> dict[str, Any]:
    """Data used by a recipient's line this month, and its budget, in bytes."""
    now = gateway.clock.now()
    counter = gateway.traffic.of(recipient.settings.recipient, now)
    options = gateway.config.uplinks.get(recipient.name)
    allowed = options.data if options else None
    warning: str = ""
    if allowed and counter.used >= allowed:
        warning = Text("this month's data budget is used up: only urgent data are sent")
    # at least a tenth: on the first days of a month each batch would be ahead of its share
    elif allowed and counter.used > AHEAD * allowed * max(gateway.traffic.share(now), 0.1):
        warning = Text(
            "this month's data are used faster than planned: batches are sent less often"
        )
    return {"month": counter.month, "used": counter.used, "budget": allowed, "said": warning}


def shown(sample: Sample) -> dict[str, Any]:
    """Convert a sample for people: in the channel's unit, with the digits that the meter gave."""
    value, point = sample.value, sample.point
    unit = channels()[point.channel].unit if point.channel else point.unit
    if isinstance(value, Decimal):
        value = format((value * multiplier(point)).normalize(), "f")
    return {
        "value": value,
        "unit": unit,
        "channel": point.channel,
        "at": stamp(sample.at),
        "why": sample.why,
        "detail": sample.detail,
        "quality": str(sample.quality),
        "flags": list(sample.flags),
    }
