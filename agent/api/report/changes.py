"""What has changed between two commissioning reports, in sentences. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from agent.api.proofs import NONE, WRONG, too_much
from agent.core.finding import Finding
from agent.core.i18n import N_, Plural, Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent.api.report.document import DeviceReport, Report

T = TypeVar("T")
PROVEN = frozenset({"display", "load", "power", "sum"})
"""methods of proof by a person or a calculation; a serial number shows only which meter it is"""
METHODS = {
    "display": N_("its display"),
    "load": N_("a load"),
    "power": N_("its power"),
    "sum": N_("the building's meter"),
}
CLOCKS = {
    "trusted": N_("the clock is trusted now"),
    "person": N_("a person has given the time"),
    "untrusted": N_("the clock is not trusted now"),
}
OF_A_DEVICE = ("link", "address", "place")
"""options whose change another sentence states"""
MOST = 40
"""sentences about options; what is more is counted"""


def changes(before: Report, after: Report) -> list[Text]:
    """Return a sentence for each change that matters to people, in the order of the report."""
    return [
        *_gateway(before, after),
        *_lines(before, after),
        *_devices(before, after),
        *_places(before, after),
        *_proofs(before, after),
        *_factors(before, after),
        *_uplinks(before, after),
        *_options(before, after),
        *_findings(before, after),
    ]


def _gateway(before: Report, after: Report) -> Iterator[Text]:
    if before.gateway != after.gateway:
        yield Text("this is another gateway than before: {name}", name=before.gateway)
    elif before.kid != after.kid:
        yield Text("the gateway has new keys: it was replaced, or restored from its backup")
    if before.version != after.version:
        yield Text("gardien {new} runs now, before {old}", new=after.version, old=before.version)
    if before.building != after.building:
        yield Text(
            "the building is called {new} now, before {old}",
            new=after.building, old=before.building,
        )  # fmt: skip
    clocks = [one.clock.replace("holdover", "trusted") for one in (before, after)]
    if clocks[0] != clocks[1]:
        yield Text(CLOCKS.get(clocks[1], CLOCKS["untrusted"]))
    yield from _certificates(before, after)


def _certificates(before: Report, after: Report) -> Iterator[Text]:
    old, new = before.backup.recovery, after.backup.recovery
    if new and not old:
        yield Text("a backup is now kept, for the recovery certificate {name}", name=new.subject)
    elif old and not new:
        yield Text("no backup is kept any more")
    elif old and new and old != new:
        yield Text("the backup has another recovery certificate: {name}", name=new.subject)
    ends = (before.certificate and before.certificate.not_after,
            after.certificate and after.certificate.not_after)  # fmt: skip
    if ends[0] != ends[1]:
        if ends[1]:
            yield Text("the gateway has a new certificate, valid until {day}", day=ends[1])
        else:
            yield Text("the gateway has no certificate any more")
    pages = [one.page and one.page.fingerprint for one in (before, after)]
    if pages[0] and pages[1] and pages[0] != pages[1]:
        yield Text("the web page has another certificate: browsers warn once more")


def _lines(before: Report, after: Report) -> Iterator[Text]:
    old, new = ({one.line for one in report.lines} for report in (before, after))
    yield from (Text("new line {line}", line=name) for name in sorted(new - old))
    yield from (Text("line {line} was removed", line=name) for name in sorted(old - new))


def _devices(before: Report, after: Report) -> Iterator[Text]:
    old, new = ({one.device: one for one in report.devices} for report in (before, after))
    # a meter that keeps its number under another name was not exchanged, but moved or renamed
    serials = {one.serial: one for one in before.devices if one.serial}
    for name, device in new.items():
        was = old.get(name)
        elsewhere = serials.get(device.serial or "")
        if elsewhere is not None and elsewhere.device != name:
            yield Text(
                "the meter {meter} is now the device {new} on line {line}, before {old}",
                meter=_meter(device), new=name, line=device.line, old=elsewhere.device,
            )  # fmt: skip
        elif was is None:
            yield Text(
                "new device {device} on line {line}: {meter}, for {places}",
                device=name, line=device.line, meter=_meter(device), places=_labels(device),
            )  # fmt: skip
        elif was.serial and device.serial and was.serial != device.serial and not device.measures:
            yield Text(
                "{device} reports the meter {new} now, before {old} ({places}): the exchange is not"
                " recorded", device=name, new=device.serial, old=was.serial, places=_labels(was),
            )  # fmt: skip
            continue
        elif was.serial and device.serial and was.serial != device.serial:
            yield Text(
                "{places}: the meter {old} was exchanged for {new} (device {device})",
                places=_labels(device), old=was.serial, new=device.serial, device=name,
            )  # fmt: skip
        if was is not None:
            yield from _one_device(was, device)
    kept = {one.serial for one in after.devices if one.serial}
    for name, device in old.items():
        if name not in new and device.serial not in kept:
            yield Text(
                "the device {device} was removed: {meter}, of {places}",
                device=name, meter=_meter(device), places=_labels(device),
            )  # fmt: skip


def _one_device(was: DeviceReport, device: DeviceReport) -> Iterator[Text]:
    name = device.device
    if (was.line, was.address) != (device.line, device.address):
        yield Text(
            "{device} is now at address {new} of line {line}, before at {old} of {before}",
            device=name, new=device.address, line=device.line, old=was.address, before=was.line,
        )  # fmt: skip
    places = {one.place for one in was.measures}, {one.place for one in device.measures}
    if places[0] != places[1]:
        yield Text(
            "{device} (meter {meter}) measures {new} now, before {old}",
            device=name, meter=_meter(device), new=_labels(device), old=_labels(was),
        )  # fmt: skip
    factors = ({(one.label, one.channel): one for one in each.measures} for each in (was, device))
    old, new = factors
    for key in new.keys() & old.keys():
        if (old[key].multiplier, old[key].offset) != (new[key].multiplier, new[key].offset):
            yield Text(
                "{label}: the index is multiplied by {new} now, before by {old}",
                label=key[0], new=new[key].multiplier, old=old[key].multiplier,
            )  # fmt: skip
    if was.silent and not device.silent:
        yield Text("{device} ({places}) answers again", device=name, places=_labels(device))
    elif device.silent and not was.silent:
        yield Text("{device} ({places}) does not answer", device=name, places=_labels(device))


def _places(before: Report, after: Report) -> Iterator[Text]:
    old, new = ({one.place: one for one in report.places} for report in (before, after))
    for key in new.keys() & old.keys():
        if old[key].label != new[key].label:
            yield Text("{old} is called {new} now", old=old[key].label, new=new[key].label)
    if added := [one.label for key, one in new.items() if key not in old]:
        yield Plural(
            "{number} new place: {labels}", "{number} new places: {labels}", len(added),
            labels=added,
        )  # fmt: skip
    if gone := [one.label for key, one in old.items() if key not in new]:
        yield Plural(
            "{number} place is not recorded any more: {labels}",
            "{number} places are not recorded any more: {labels}", len(gone), labels=gone,
        )  # fmt: skip


def _proofs(before: Report, after: Report) -> Iterator[Text]:
    old, new = _proven(before), _proven(after)
    for method, name in METHODS.items():
        labels = [label for key, (how, label) in new.items() if how == method and key not in old]
        if labels:
            yield Plural(
                "{number} meter was proven by {method}: {labels}",
                "{number} meters were proven by {method}: {labels}",
                len(labels), method=Text(name), labels=labels,
            )  # fmt: skip
    if lost := [label for key, (_how, label) in old.items() if key not in new]:
        yield Plural(
            "{number} meter is not proven any more: {labels}",
            "{number} meters are not proven any more: {labels}", len(lost), labels=lost,
        )  # fmt: skip


def _factors(before: Report, after: Report) -> Iterator[Text]:
    old, new = _factor_states(before), _factor_states(after)
    changed: dict[tuple[str, str], list[str]] = {}
    for key, (state, label) in new.items():
        if state != (old[key][0] if key in old else (NONE, "")):
            changed.setdefault(state, []).append(label)
    for (proof, factor), labels in changed.items():
        if proof == WRONG:
            yield Plural(
                "the factor of {number} meter is wrong, {error}: {labels}",
                "the factors of {number} meters are wrong, {error}: {labels}",
                len(labels), error=too_much(Decimal(factor)), labels=labels,
            )  # fmt: skip
        elif proof == NONE:
            yield Plural(
                "the factor of {number} meter is not proven any more: {labels}",
                "the factors of {number} meters are not proven any more: {labels}",
                len(labels), labels=labels,
            )  # fmt: skip
        else:
            yield Plural(
                "the factor of {number} meter was proven by {method}: {labels}",
                "the factors of {number} meters were proven by {method}: {labels}",
                len(labels), method=Text(METHODS[proof]) if proof in METHODS else proof,
                labels=labels,
            )  # fmt: skip


def _factor_states(report: Report) -> dict[tuple[str | None, ...], tuple[tuple[str, str], str]]:
    """By meter, place and channel: the proof of the factor and its error, and the place's label."""
    return {
        (device.serial or device.device, one.place, each.channel): (
            (each.proof, each.factor or ""),
            one.label,
        )
        for device in report.devices
        for one in device.measures
        for each in one.factors
        if each.needed
    }


def _proven(report: Report) -> dict[tuple[str | None, str, str | None], tuple[str, str]]:
    """By meter, place and channel: how it is proven, and the place's label."""
    return {
        (device.serial or device.device, one.place, one.channel): (one.proof.method, one.label)
        for device in report.devices
        for one in device.measures
        if one.proof.method in PROVEN
    }


def _uplinks(before: Report, after: Report) -> Iterator[Text]:
    old, new = ({one.uplink: one for one in report.uplinks} for report in (before, after))
    for name, uplink in new.items():
        if name not in old:
            yield Text(
                "new uplink {uplink} to {recipient}", uplink=name, recipient=uplink.recipient
            )
        elif (was := old[name].recipient) != uplink.recipient:
            yield Text(
                "the uplink {uplink} goes to {new} now, before to {old}",
                uplink=name, new=uplink.recipient, old=was,
            )  # fmt: skip
    yield from (Text("the uplink {uplink} was removed", uplink=n) for n in old if n not in new)


def _options(before: Report, after: Report) -> Iterator[Text]:
    """Yield changed options of lines, devices and uplinks that are in both reports."""
    old, new = before.settings, after.settings
    both = _entries(old) & _entries(new)
    named = [
        option
        for option in sorted(old.keys() | new.keys())
        if old.get(option) != new.get(option)
        and _entry(option) in both
        and not (option.startswith("devices/") and option.split("/")[2] in OF_A_DEVICE)
        and not (option.startswith("uplinks/") and option.endswith("/recipient"))
    ]
    for option in named[:MOST]:
        values = {"option": option.replace("/", ": "), "old": old.get(option),
                  "new": new.get(option)}  # fmt: skip
        if option not in old:
            yield Text("option {option}: {new} now, before not set", **values)
        elif option not in new:
            yield Text("option {option}: not set now, before {old}", **values)
        else:
            yield Text("option {option}: {new} now, before {old}", **values)
    if len(named) > MOST:
        yield Text("{number} more options have changed", number=len(named) - MOST)


def _entry(option: str) -> str:
    return "/".join(option.split("/")[:2])


def _entries(settings: Mapping[str, str]) -> set[str]:
    return {_entry(option) for option in settings}


def _findings(before: Report, after: Report) -> Iterator[Text]:
    old, new = _open(before.findings), _open(after.findings)
    yield from (Text("new finding: {what}", what=new[key]) for key in new if key not in old)
    yield from (Text("settled: {what}", what=old[key]) for key in old if key not in new)


def _open(findings: Iterable[dict[str, Any]]) -> dict[tuple[str, str], Text]:
    made = map(Finding.of, findings)
    # a sentence with a count or a time is another one each day; its code and subject are not
    return {(one.code, str(one.subject)): one.what for one in made}


def _meter(device: DeviceReport) -> str:
    return device.serial or device.recorded_serial or Text("without a serial number")


def _labels(device: DeviceReport) -> Text | Sequence[str]:
    labels = list(dict.fromkeys(one.label for one in device.measures))
    return labels or Text("no place")
