"""What a reload of the configuration may change, and what it changes in a recipient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.gateway.gateway import points_by_key, policy_of
from agent.gateway.recipient import NOT_COUNTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import Config
    from agent.core.model import MarkKey, SlotMark
    from agent.core.tasks import Faults
    from agent.gateway.gateway import Gateway, Recipient

AT_A_START = ("state", "clock", "spool", "trust")
"""sections that are read only when the agent starts"""
IN_PLACE = ("building", "privacy", "enrolment", "updates", "backup", "syndic")
"""sections that are read at each use: nothing must be opened or closed for them"""


async def must_be_possible(gateway: Gateway, new: Config) -> None:
    """Raise Refused for a change that needs a restart, or that would lose readings."""
    for section in AT_A_START:
        if getattr(gateway.config, section) != getattr(new, section):
            raise Refused(
                f"`{section}` has changed and is only read at a start, so nothing was reloaded:"
                " sudo systemctl restart gardien"
            )
    if new.uplinks and not gateway.identity:
        raise Refused(
            "this gateway has no identity yet, so it can have no uplinks: gardien key new; then"
            " sudo systemctl restart gardien"
        )
    for name, recipient in gateway.recipients.unopened.items():
        if recipient_in(new, name) != recipient.settings.recipient:
            raise Refused(
                f"uplinks.{name}: its spool is not open, so the values that wait in it cannot be"
                " counted. Put the uplink back. Why it is not open: gardien status"
            )
    for name, recipient in gateway.recipients.items():
        if recipient_in(new, name) == recipient.settings.recipient:
            continue
        if recipient.kept:
            raise Refused(NOT_COUNTED.format(name))
        if waits := await recipient.waiting():
            raise Refused(
                f"uplinks.{name}: {waits} values still wait for {recipient.settings.recipient}. Put"
                f" the uplink back, and first: gardien uplink close {name} --drain (or --drop)"
            )


def changed_settings(old: Config, new: Config) -> list[str]:
    """Return the changed options of the sections that are read at each use, such as
    `building.roles`. A section that was added or removed is named as a whole.
    """
    changed: list[str] = []
    for section in IN_PLACE:
        before, after = getattr(old, section), getattr(new, section)
        if before is None or after is None:
            changed += [section] if before is not after else []
            continue
        options = type(after).model_fields
        changed += [
            f"{section}.{option}"
            for option in options
            if getattr(before, option) != getattr(after, option)
        ]
    return changed


def adopt(
    new: Config, recipient: Recipient, marks: Mapping[MarkKey, SlotMark], faults: Faults
) -> None:
    """Give a recipient the points, rules and transport of the new configuration."""
    uplink = new.uplinks[recipient.name]
    # Faults of devices that are no longer configured would stay for ever.
    faults.forget(f"rows {recipient.name}")
    points, withholds = points_by_key(new.points()), uplink.withheld
    recipient.ledger.renew(points, marks, policy_of(new), new.zone, withholds=withholds)
    recipient.settings, recipient.transport = uplink.settings, uplink.transport


def recipient_in(config: Config, name: str) -> str | None:
    """Return the recipient of an uplink; None if there is no such uplink."""
    uplink = config.uplinks.get(name)
    return uplink.settings.recipient if uplink else None
