"""Values of the package's sample that belong to no real building; `gardien check` refuses them.

Only these exact values are refused, not every name under `.example`. A demonstration (policy
DEMO-1, which works on loopback only) may use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from agent.core.errors import ConfigError
from agent.core.i18n import N_, _
from agent.registry.place import squeeze

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.config.config import Config
    from agent.config.problem import Path
    from agent.config.report import ProblemReport

ANY = "*"
NAME = "Résidence Les Alpins"
BUILDING, PLANT = "B6ASQZ1Y2KSAA3Y", "CZS2YFSTBQQ5WDC"
RECIPIENT = "energie.metropole.example"
BASIS = "AG du 12 mai 2026, résolution 14"


class SampleValue(NamedTuple):
    """One value of the sample, its place, and what to write instead."""

    path: Path
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
    if any(policy == "DEMO-1" for _path, policy in _at(written, ("privacy", "policy"))):
        return
    for sample in SAMPLE_VALUES:
        for path, value in _at(written, sample.path):
            if isinstance(value, str) and sample.simplified(value) == sample.value:
                report.value(path, _(sample.remedy))


def _at(data: Any, pattern: Path, path: Path = ()) -> Iterator[tuple[Path, Any]]:
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
