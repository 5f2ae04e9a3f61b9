"""The state of the gateway in numbers: for monitoring, and for the status of a recipient.

`metric_types.py` declares each number once. The samples are made of the answer to `status`, and of
what the process counts. They name lines, recipients and common plant.
They never name a dwelling, a device that measures one, or a person, since whoever collects the
numbers of many buildings needs no names of these.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.api.diagnosis.machine import wear_tenths
from agent.api.metric_types import BY_NAME, METRICS
from agent.api.privacy import is_common
from agent.core.clock import ClockTrust
from agent.core.errors import StorageFailed
from agent.core.finding import COMPONENTS, RANK, Severity
from agent.core.model import Quality
from agent.core.process import temperatures, usage
from agent.drivers.line_disturbance import How

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent.gateway.gateway import Gateway

Json = dict[str, Any]
Figure = tuple[str, float | None, dict[str, str]]
"""name of a metric, value and labels; None: there is no value now"""

HEALTH = (Severity.LOST, Severity.EQUIPMENT, Severity.WAITING, Severity.LATER, Severity.FINE)
"""the states of a gateway, the worst first"""
DAY = 86_400


async def families(gateway: Gateway, answer: Mapping[str, Any]) -> list[Json]:
    """Return all metrics that have a value now: name, type, help, unit and samples.

    `answer`: of `status`, made for the agent itself. A sample has `labels` and a `value`.
    """
    figures = [*_own(gateway, answer)]
    with suppress(StorageFailed):  # the rest is known all the same
        figures += await gateway.disk.read(_machine, gateway.config.state)
    return _grouped(figures)


def _grouped(figures: Iterable[Figure]) -> list[Json]:
    samples: dict[str, list[Json]] = {name: [] for name in BY_NAME}
    for name, value, labels in figures:
        if value is not None:
            samples[name].append({"labels": labels, "value": value})
    return [
        {
            "name": one.name,
            "type": one.type,
            "help": one.help,
            "unit": one.unit,
            "samples": samples_,
        }
        for one in METRICS
        if (samples_ := samples[one.name])
    ]


def of_recipient(made: Sequence[Json], recipient: str) -> dict[str, Any]:
    """Return what a recipient gets of these families, short: by name without `gardien_`, a number,
    or numbers by label. Those about a recipient are its own, without that label.
    """
    numbers: dict[str, Any] = {}
    for family in made:
        metric, name = BY_NAME[family["name"]], family["name"].removeprefix("gardien_")
        for sample in family["samples"] if metric.shared else ():
            labels, value = dict(sample["labels"]), _short(sample["value"])
            if labels.pop("recipient", recipient) != recipient:
                continue
            if labels:
                numbers.setdefault(name, {})[" ".join(filter(None, labels.values()))] = value
            else:
                numbers[name] = value
    return numbers


def _short(value: float) -> float:
    """Leave out digits that nobody needs: each is paid for."""
    exact = abs(value) < 1000 and value != int(value)  # noqa: PLR2004
    return round(value, 4) if exact else round(value)


def _own(gateway: Gateway, answer: Mapping[str, Any]) -> Iterator[Figure]:
    """Return what the agent itself knows."""
    yield from _gateway(gateway, answer)
    yield from _health(answer["events"])
    for name, link in answer["links"].items():
        yield from _line(name, link)
    yield from _answers(gateway)
    for name, uplink in answer["uplinks"].items():
        if recipient := gateway.recipients.get(name):  # a spool may close meanwhile
            yield from _slots(recipient.settings.recipient, recipient.intake.slots)
        yield from _recipient(uplink)
    yield from _controls(answer)


def _gateway(gateway: Gateway, answer: Mapping[str, Any]) -> Iterator[Figure]:
    yield "gardien_build_info", 1, {"version": answer["version"]}
    if answer["gateway"]:
        yield "gardien_gateway_info", 1, {"gateway": answer["gateway"]}
    yield "gardien_start_time_seconds", gateway.started, {}
    yield "gardien_time_seconds", gateway.clock.now(), {}
    for state in ClockTrust:
        yield "gardien_clock_state", int(answer["clock"] == state), {"state": str(state)}
    yield "gardien_disk_free_bytes", answer["disk"]["free"], {}
    yield "gardien_disk_size_bytes", answer["disk"]["total"], {}
    yield "gardien_stores_failed", len(answer["storage"]["faults"]), {}
    yield from _by_kind(
        "gardien_components_failed",
        dict.fromkeys([one["component"] for one in answer["faults"]], 1),
    )
    yield from _by_kind("gardien_component_failures_total", gateway.jobs.failures)
    if certificate := answer["certificate"]:
        ends = certificate["not_after"]
        yield "gardien_certificate_end_timestamp_seconds", _time(ends), {}


def _by_kind(metric: str, numbers: Mapping[str, int]) -> Iterator[Figure]:
    """Add up numbers of components by what these do: their names may contain that of a control."""
    kinds: Counter[str] = Counter()
    for component, number in numbers.items():
        whole = component in COMPONENTS
        kinds[component if whole else component.partition(" ")[0]] += number
    for kind, number in kinds.items():
        yield metric, number, {"component": kind}


def _health(events: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    shared = [one for one in events if not one["private"]]
    worst = min((one["severity"] for one in shared), key=_rank, default=Severity.FINE)
    present = worst if worst in HEALTH else Severity.FINE  # notes cost nothing
    for state in HEALTH:
        yield "gardien_health", int(state == present), {"state": str(state)}
    kinds = Counter((one["code"], one["severity"], one["actor"]) for one in shared)
    for (code, severity, actor), number in kinds.items():
        labels = {"code": code, "severity": severity, "actor": actor}
        yield "gardien_findings", number, labels
    begins: defaultdict[tuple[str, str], list[float | None]] = defaultdict(list)
    for event in shared:
        begins[event["code"], event["severity"]].append(_time(event["since"]))
    for (code, severity), since in begins.items():
        oldest = min((begin for begin in since if begin is not None), default=None)
        labels = {"code": code, "severity": severity}
        yield "gardien_finding_since_timestamp_seconds", oldest, labels


def _rank(severity: str) -> int:
    return RANK[Severity(severity)]


def _line(line: str, link: Mapping[str, Any]) -> Iterator[Figure]:
    health, on = link["health"], {"line": line}
    yield "gardien_line_open", int(link["open"]), on
    yield "gardien_line_devices", link["devices"], on
    yield "gardien_line_silent_devices", link["silent"], on
    yield "gardien_line_openings_total", link["opened"], on
    yield "gardien_line_requests_total", health.get("requests"), on
    yield "gardien_line_busy_ratio", health.get("busy"), on
    if "failed" in health:
        silent = sum(health["failed"].values())
        yield "gardien_line_errors_total", silent, on | {"kind": "silent"}
    yield "gardien_line_errors_total", health.get("strays"), on | {"kind": "stray"}
    if took := [*health.get("answer_ms", {}).values()]:
        yield "gardien_line_answer_mean_seconds", sum(took) / len(took) / 1000, on
        yield "gardien_line_answer_slowest_seconds", max(took) / 1000, on
    for how, number in Counter(How(one["how"]) for one in link["disturbers"]).items():
        kind = how.name.lower().replace("_", " ")
        yield "gardien_line_disturbing_devices", number, on | {"kind": kind}


def _answers(gateway: Gateway) -> Iterator[Figure]:
    """When devices last answered: of each line the oldest answer, and each of common plant."""
    for name, line in gateway.lines.items():
        answered = {
            device.name: device.answered
            for device in line.devices.values()
            if device.answered is not None
        }
        oldest = min(answered.values(), default=None)
        yield "gardien_line_oldest_answer_timestamp_seconds", oldest, {"line": name}
        for device, at in answered.items():
            if is_common(gateway, device):
                labels = {"line": name, "device": device}
                yield "gardien_device_answer_timestamp_seconds", at, labels


def _slots(recipient: str, slots: Mapping[tuple[str, str | None], int]) -> Iterator[Figure]:
    for (quality, why), number in slots.items():
        labels = {"quality": Quality(quality).name.lower(), "reason": why or ""}
        yield "gardien_slots_total", number, {"recipient": recipient, **labels}


def _recipient(uplink: Mapping[str, Any]) -> Iterator[Figure]:
    to, backlog = {"recipient": uplink["recipient"]}, uplink["backlog"]
    delivery, data, lasts = uplink["delivery"], uplink["data"], uplink["bears_days"]
    yield "gardien_connected", int(delivery["connected_since"] is not None), to
    yield "gardien_receipt_timestamp_seconds", _time(delivery["last_receipt"]), to
    yield "gardien_receipt_seconds", delivery["receipt_s"], to
    yield "gardien_batches_sent_total", delivery["sent"], to
    yield "gardien_batches_resent_total", delivery["resent"], to
    yield "gardien_batches_settled_total", delivery["settled"], to
    yield "gardien_batches_refused_total", delivery["rejected"], to
    yield "gardien_data_used_bytes", data["used"], to
    yield "gardien_data_budget_bytes", data["budget"], to
    yield "gardien_spool_rows", backlog["rows"], to | {"state": "waiting"}
    yield "gardien_spool_rows", backlog["batch_rows"], to | {"state": "sealed"}
    yield "gardien_spool_rows", backlog["quarantined_rows"], to | {"state": "refused"}
    yield "gardien_spool_batches", backlog["batches"], to | {"state": "sealed"}
    yield "gardien_spool_batches", backlog["quarantined"], to | {"state": "refused"}
    yield "gardien_spool_oldest_timestamp_seconds", backlog["oldest"], to
    yield "gardien_spool_used_bytes", backlog["used"], to
    yield "gardien_spool_limit_bytes", backlog["cap"], to
    yield "gardien_spool_lasts_seconds", None if lasts is None else lasts * DAY, to
    yield "gardien_spool_memory", int(bool(uplink["kept"])), to
    yield "gardien_values_shed_total", uplink["shed_rows"], to
    yield "gardien_rows_unreadable_total", backlog["unreadable"], to
    yield "gardien_devices_held_back", uplink["held_devices"], to


def _controls(answer: Mapping[str, Any]) -> Iterator[Figure]:
    """Count the controls. Only those of common plant are named: others may be named after homes."""
    controls = answer["controls"].values()
    now = _time(answer["now"]) or 0.0
    held = [one for one in controls if one["jti"]]
    # a failsafe has no end; without an action it is no longer configured
    ended = [
        one
        for one in held
        if one["action"] is None or ((until := _time(one["until"])) is not None and until < now)
    ]
    yield "gardien_controls", len(controls), {}
    yield "gardien_controls_in_force", len(held), {}
    yield "gardien_controls_overdue", len(ended), {}
    yield "gardien_controls_opted_out", sum(bool(one["opted_out"]) for one in controls), {}
    yield "gardien_controls_forbidden", sum(bool(one["forbidden"]) for one in controls), {}
    for hold in answer["holds"]:
        yield "gardien_control_left_seconds", hold["left"], {"control": hold["control"]}


def _machine(state: Path) -> list[Figure]:
    """Return what the kernel counts. Blocking."""
    used, tenths = usage(), wear_tenths(state)
    return [
        ("gardien_uptime_seconds", used.get("age"), {}),
        ("gardien_written_bytes_total", used.get("written"), {}),
        ("gardien_disk_worn_ratio", None if tenths is None else tenths / 10, {}),
        ("process_resident_memory_bytes", used.get("memory"), {}),
        ("process_cpu_seconds_total", used.get("cpu"), {}),
        ("process_open_fds", used.get("files"), {}),
        *(
            ("gardien_temperature_celsius", degrees, {"zone": zone, "sensor": sensor})
            for (zone, sensor), degrees in temperatures().items()
        ),
    ]


def _time(written: str | None) -> float | None:
    """Return a time of the answer in Unix seconds."""
    return datetime.fromisoformat(written).timestamp() if written else None
