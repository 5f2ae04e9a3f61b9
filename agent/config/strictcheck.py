"""Checks of `gardien check` only: a gateway that already runs with such a file still starts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.config.data_budget import datacheck
from agent.config.sample import samplecheck
from agent.core.i18n import _
from agent.core.settings import written, wrong_ipv4
from agent.drivers.modbus.serialline import RATES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.compose import ConfigDraft
    from agent.config.problem import Path


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
        if wrong := wrong_ipv4(host):
            draft.report.value(path, wrong)


def _hosts(draft: ConfigDraft) -> Iterator[tuple[Path, str]]:
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
