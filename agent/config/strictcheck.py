"""Checks of `gardien check` only: a gateway that already runs with such a file still starts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from agent.config.estimates import datacheck
from agent.core.errors import ConfigError
from agent.core.i18n import N_, _
from agent.core.settings import shown, written, wrong_ipv4
from agent.drivers.modbus.bus import RATES
from agent.registry.place import squeeze

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.config.compose import ConfigDraft
    from agent.config.config import Config
    from agent.config.files import ProblemReport
    from agent.config.problem import ValuePath

ANY = "*"
NAME = "Résidence Les Alpins"
BUILDING, PLANT = "B6ASQZ1Y2KSAA3Y", "CZS2YFSTBQQ5WDC"
RECIPIENT = "energie.metropole.example"
BASIS = "AG du 12 mai 2026, résolution 14"


class SampleValue(NamedTuple):
    """One value of the sample, its place, and what to write instead."""

    path: ValuePath
    """ANY stands for each name"""
    value: str
    simplified: Callable[[str], str]
    """converts a written value to the form of `value`"""
    remedy: str


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


SAMPLE_VALUES = (
    SampleValue(
        ("building", "name"),
        NAME,
        _single_spaced,
        N_("this is the sample's building: write the name of yours"),
    ),
    SampleValue(
        ("building", "place"),
        BUILDING,
        squeeze,
        N_(
            "this is the id of the sample's building: write the id of yours"
            " (`gardien place new NAME --type building` makes one), or delete the line"
        ),
    ),
    SampleValue(
        ("devices", ANY, "place"),
        PLANT,
        squeeze,
        N_(
            "this is the id of the sample's plant room: write the id of yours"
            " (`gardien place new NAME --type common` makes one), or delete the line"
        ),
    ),
    SampleValue(
        ("uplinks", ANY, "recipient"),
        RECIPIENT,
        str.lower,
        N_("this is the sample's recipient: write the name that your platform gave you"),
    ),
    SampleValue(
        ("uplinks", ANY, "url"),
        "platform.example",
        _host,
        N_("this is the sample's platform: write the address of yours"),
    ),
    SampleValue(
        ("privacy", "common", "basis"),
        BASIS,
        _single_spaced,
        N_(
            "this is the sample's legal basis: write the vote or contract of your building, or"
            " delete `common`"
        ),
    ),
    SampleValue(
        ("enrolment", "url"),
        "pki.example",
        _host,
        N_(
            "this is the sample's certificate server: write the address of yours, or delete"
            " `enrolment`"
        ),
    ),
)


def samplecheck(written: Any, report: ProblemReport) -> None:
    """Report each value of the sample that was not replaced."""
    for path, remedy in samples_left(written).items():
        report.value(path, _(remedy))


def samples_left(written: Any) -> dict[ValuePath, str]:
    """Return the values of the sample that were not replaced, each with what to write instead.

    `written`: the plain data of the file.
    """
    if any(policy == "DEMO-1" for _path, policy in _at(written, ("privacy", "policy"))):
        return {}
    return {
        path: sample.remedy
        for sample in SAMPLE_VALUES
        for path, value in _at(written, sample.path)
        if isinstance(value, str) and sample.simplified(value) == sample.value
    }


def _at(data: Any, pattern: ValuePath, path: ValuePath = ()) -> Iterator[tuple[ValuePath, Any]]:
    """The values at a path, each with its full path; ANY matches every name."""
    if not pattern:
        yield path, data
    elif isinstance(data, dict):
        for name in data if pattern[0] == ANY else (pattern[0],):
            if name in data:
                yield from _at(data[name], pattern[1:], (*path, name))


def refuse_start(config: Config) -> None:
    """Refuse to start with the sample (rule U16). Raises ConfigError.

    An edited file that still has the sample's building id is refused only if this gateway has never
    run: an upgrade must not stop a gateway that runs with such a file.
    """
    if config.privacy.policy == "DEMO-1" or config.building.place != BUILDING:
        return
    if _unedited(config):
        raise ConfigError(
            _(
                "the configuration is the package's sample, not your building: nothing was"
                " started. Edit it, then: sudo gardien check"
            )
        )
    if not _has_run(config):
        raise ConfigError(
            _(
                "building.place is the id of the sample's building: nothing was started. Write"
                " the id of yours, or delete the line, then: sudo gardien check"
            )
        )


def _unedited(config: Config) -> bool:
    common = config.privacy.common
    recipients = {uplink.settings.recipient for uplink in config.uplinks.values()}
    return (
        config.building.name == NAME
        and recipients == {RECIPIENT}
        and common is not None
        and common.basis == BASIS
    )


def _has_run(config: Config) -> bool:
    """Whether the state directory has a file that only a running agent makes."""
    state = config.state
    # both: a gateway without uplinks has no spool, but it stores the time as well
    return (state / "clock.json").exists() or any(state.glob("spool-*.db"))


def strictcheck(draft: ConfigDraft, data: Any) -> None:
    """Report what a new installation must not have; `data`: the plain data of the file."""
    samplecheck(data, draft.report)
    _stored_before_sent(draft)
    _addresses_are_whole(draft)
    _speeds_are_usual(draft)
    datacheck(draft)


def _stored_before_sent(draft: ConfigDraft) -> None:
    """Check that readings are stored at least as often as they are sent."""
    for name, uplink in draft.uplinks.items():
        if draft.spool and draft.spool.flush > uplink.settings.seal:
            what = _(
                "readings are stored only every {flush} (`spool.flush`) and cannot be sent every"
                " {seal}: write `seal: {flush}` or longer, or a shorter `flush`",
                flush=written(draft.spool.flush),
                seal=written(uplink.settings.seal),
            )
            draft.report.value(("uplinks", name, "seal"), what)


def _addresses_are_whole(draft: ConfigDraft) -> None:
    """Check IPv4 addresses: a missing part or a leading zero makes another address."""
    for path, host in _hosts(draft):
        if "/" in host and path[0] == "links":
            what = _(
                "{host} is the address of a page, and no host: write only {name}. The line cannot"
                " be opened so, and its devices are not read",
                host=shown(host),
                name=_host(host if "//" in host else f"//{host}"),
            )
            draft.report.value(path, what)
        elif wrong := wrong_ipv4(host):
            draft.report.value(path, wrong)


def _hosts(draft: ConfigDraft) -> Iterator[tuple[ValuePath, str]]:
    """The hosts in the file, each with its path."""
    for name, link in draft.links.items():
        if host := getattr(link.settings, "host", None):
            yield ("links", name, "host"), str(host)
    for name, uplink in draft.uplinks.items():
        if host := urlsplit(str(getattr(uplink.settings, "url", ""))).hostname:
            yield ("uplinks", name, "url"), host
    if draft.syndic and (host := urlsplit(draft.syndic.url or "").hostname):
        yield ("syndic", "url"), host
    if draft.enrolment and (host := urlsplit(draft.enrolment.url).hostname):
        yield ("enrolment", "url"), host


def _speeds_are_usual(draft: ConfigDraft) -> None:
    for name, link in draft.links.items():
        rate = getattr(link.settings, "baudrate", None)
        if rate is None or rate in RATES:
            continue
        # compared by ratio, because usual speeds double from one to the next
        near = min(RATES, key=lambda known: abs(math.log(known / rate)))
        what = _(
            "no serial line has {value} baud; did you mean {near}? Known: {rates}",
            value=rate,
            near=near,
            rates=", ".join(map(str, RATES)),
        )
        draft.report.value(("links", name, "baudrate"), what)
