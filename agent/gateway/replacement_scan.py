"""The replacement scan: find the device that took the place of a meter silent for a day.

It runs while the line is free, one or two requests at a time, so readings are not delayed.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, NamedTuple

from agent.core.clock import monotonic
from agent.core.errors import LinkLost
from agent.core.i18n import Text, joined
from agent.core.log_fields import LogEvent, fields
from agent.core.tasks import pause
from agent.drivers import TAKEN_FOR, driver
from agent.drivers.base import Found, Seeks
from agent.gateway.lines import label_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from zoneinfo import ZoneInfo

    from agent.config import Config
    from agent.gateway.gateway import Gateway
    from agent.gateway.lines import LinkDevices

log = logging.getLogger(__name__)

LOOK_EVERY = 900.0
"""seconds between two checks for silent meters"""
PATIENCE = 86_400.0
"""seconds of silence after which a meter that is addressed by its number is considered missing"""
AGAIN_AFTER = PATIENCE
"""seconds between two searches of one line"""


async def seek(gateway: Gateway, look_every: float = LOOK_EVERY) -> None:
    """Search for replacements and put them into `proposals` of each line. Never returns."""
    searched: dict[str, float] = {}
    while True:
        for name, line in list(gateway.lines.items()):
            if not _missed(gateway, line):
                line.proposals = []
            elif monotonic() >= searched.get(name, 0.0):
                searched[name] = monotonic() + AGAIN_AFTER
                await _search(gateway, name, line)
        await pause(look_every)


def _missed(gateway: Gateway, line: LinkDevices) -> bool:
    """Whether a meter of the line has been silent for long enough to start a scan."""
    now = gateway.clock.now()
    return gateway.clock.dates and any(
        now - one.since >= PATIENCE for one in _silent(gateway, line)
    )


def _silent(gateway: Gateway, line: LinkDevices) -> Iterator[Silent]:
    """Yield the meters that do not answer now and are addressed by their serial numbers."""
    for name, device in line.devices.items():
        number = _number(gateway.config, line, name)
        if number and device.failures and not line.link.error:
            kind = gateway.config.devices[name].profile or TAKEN_FOR["mbus"][0]
            since = device.answered or gateway.started
            yield Silent(
                number, label_of(device, gateway.registry, int(gateway.clock.now())), kind, since
            )


def _number(config: Config, line: LinkDevices, name: str) -> str | None:
    kind = driver(config.links[line.link.name].driver)
    if not issubclass(kind, Seeks):
        return None
    return kind.number(config.devices[name].address)


async def _search(gateway: Gateway, name: str, line: LinkDevices) -> None:
    log.info(
        "line %s: a meter has been silent for a day; searching for its replacement", name,
        extra=fields(line=name),
    )  # fmt: skip
    known = {_number(gateway.config, line, one) for one in line.devices}
    known |= {(one.serial or "").partition("/")[0] for one in line.devices.values()}
    unknown = []
    try:
        async for answer in line.link.seek():
            number = answer.number if isinstance(answer, Found) else None
            if isinstance(answer, Found) and number and number not in known:
                unknown.append(New(str(answer.entry.get("profile", "")), answer.about))
            if line is not gateway.lines.get(name):
                return  # reloaded meanwhile
    except LinkLost:
        return  # the line logs its loss itself; the next scan is in a day
    texts = proposals(
        list(_silent(gateway, line)), unknown, gateway.clock.now(), gateway.config.zone
    )
    if (current := gateway.lines.get(name)) is not None:  # a reload may have replaced the object
        current.proposals = texts
    for text in texts:
        log.warning("line %s: %s", name, text, extra=fields(LogEvent.REPLACEMENT_FOUND, line=name))


class Silent(NamedTuple):
    """A meter that does not answer at present."""

    number: str
    label: str | None
    """label of the place that it measures"""
    kind: str
    """its profile: a heat meter is not replaced by a water meter"""
    since: float
    """wall time of its last answer"""


class New(NamedTuple):
    """A meter on the line that is not configured."""

    kind: str
    about: str
    """`45999001, heat, 0.012 MWh`"""


def proposals(
    silent: Sequence[Silent], new: Sequence[New], now: float, zone: ZoneInfo
) -> list[str]:
    """One question for each kind of meter of which one has been silent long enough.

    All silent meters of the kind count, even those that are silent for a short time: each may be
    the one that was replaced.
    """
    questions: list[str] = []
    for kind in dict.fromkeys(meter.kind for meter in silent if now - meter.since >= PATIENCE):
        lost = [meter for meter in silent if meter.kind == kind]
        candidates = [meter for meter in new if meter.kind == kind]
        if not candidates:
            continue
        names = _list([_name(meter) for meter in lost])
        there = _list([meter.about for meter in candidates])
        if len(lost) == len(candidates) == 1:
            since = dt.datetime.fromtimestamp(lost[0].since, zone)
            questions.append(
                Text(
                    "{names} silent since {since}; new on the line: {there}. Exchange?",
                    names=names,
                    since=since,
                    there=there,
                )
            )
        else:
            questions.append(
                Text(
                    "{names} silent; new on the line: {there}. Read their type plates to see which"
                    " meter replaced which",
                    names=names,
                    there=there,
                )
            )
    return questions


def _name(meter: Silent) -> str:
    return f"{meter.number} ({meter.label})" if meter.label else meter.number


def _list(names: Sequence[str]) -> str:
    return joined(Text(" and "), filter(None, ["; ".join(names[:-1]), names[-1]]))
