"""`gardien status`: the state of the running agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    day,
    plural,
    read_here,
    state_of,
    table,
    when,
    wrapped,
)
from agent.core.i18n import _
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

FAULT_REMEDY = (
    "  All other components continue. Restart all at once: sudo systemctl restart gardien. To"
    " report the error, write a support file: sudo gardien support-bundle --out FILE"
)
LONG_OUTAGE = 365
"""days; a spool that can take a longer outage is not mentioned"""


def status(
    named: As = None, config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False
) -> None:
    """Show the state of lines, devices, uplinks and controls.

    Exit status 1 if something needs attention, or if the agent is not running. The command asks the
    agent and does not load the configuration, so it works even if the configuration file
    has mistakes. Only installers see the values of dwellings (--json); each access is logged.
    """
    from agent.local import ask_daemon

    folder = state_of(config, state)
    answer = ask_daemon(folder, "status", {"named": named}, lambda _: None)
    if answer is None:
        how = "sudo systemctl enable --now gardien" if config == DEFAULT_CONFIG else "gardien run"
        typer.echo(f"gardien is not running on {folder}. Start it: {how}", err=True)
        raise typer.Exit(1)
    as_json(answer) if json else _show(read_here(answer))
    raise typer.Exit(1 if answer["events"] else 0)


def _show_gateway(answer: dict[str, Any]) -> None:
    typer.echo(
        f"{answer['building']}  gateway {answer['gateway'] or 'without keys'}"
        f"  {answer['version']}\n"
        f"running since {when(answer['started'])}, clock {answer['clock']}"
        f"{_dwellings(answer.get('dwellings') or {})}"
    )
    # a daemon of an earlier version does not send this member
    if roles := roles_line(answer.get("roles", {})):
        typer.echo(wrapped(_("roles: {roles}", roles=roles)))


def _show(answer: dict[str, Any]) -> None:
    _show_gateway(answer)
    if answer["uplinks"]:
        _show_uplinks(answer["uplinks"])
    if answer["devices"]:
        table(
            ("line", "device", "place", "serial", "last answer", "state"),
            [_device_row(name, d, answer["uplinks"]) for name, d in answer["devices"].items()],
        )
    for name, link in answer["links"].items():
        if remark := link["health"].get("words"):
            typer.echo(f"line {name}: {remark}")
    for name, control in answer["controls"].items():
        if control["value"] is not None:
            until = f" until {when(control['until'])}" if control["until"] else ""
            typer.echo(
                f"control {name}: {control['value']} {spoken(control['unit'])}{until},"
                f" {control['state']}, {control['by']}"
            )
    if certificate := answer["certificate"]:
        typer.echo(f"certificate {certificate['validity']}")
    if rotation := answer.get("rotation"):
        done, total = rotation["passed"] / 1e6, rotation["of"] / 1e6
        waits = f"; waiting: {rotation['waits']}" if rotation["waits"] else ""
        typer.echo(
            f"rotating the spool key since {when(rotation['since'])}: {done:,.1f} of about"
            f" {total:,.1f} MB encrypted with the new key{waits}"
        )
    _consents(answer.get("consents") or {"unanswered": 0, "ending": 0})
    _waiting_objects(answer.get("authority") or {"waiting": 0})
    for event in answer["events"]:
        # `here` names devices and dwellings; it is empty for accounts that may not see them
        typer.echo(f"! {event.get('here') or event['text']}")
    _show_faults(answer.get("faults", ()))


def roles_line(roles: dict[str, list[str]]) -> str:
    """Return who has which role, in one line; empty if only root has one."""
    return "; ".join(f"{role}: {', '.join(who)}" for role, who in roles.items() if who)


def _dwellings(states: dict[str, int]) -> str:
    """Return a line that counts occupied, vacant and unknown dwellings; empty without dwellings."""
    if not any(states.values()):
        return ""
    counts = _(
        "dwellings: {occupied} occupied, {vacant} vacant, {unknown} of unknown occupancy",
        occupied=states["occupied"], vacant=states["vacant"], unknown=states["unknown"],
    )  # fmt: skip
    pointer = _("list them: gardien occupancy list")
    return f"\n{counts}: {pointer}" if states["vacant"] or states["unknown"] else f"\n{counts}"


def _show_faults(faults: Sequence[dict[str, Any]]) -> None:
    for fault in faults:
        retry = "running again; listed until it has run for a while without this error"
        if fault["next_try"]:
            retry = f"next try at {when(fault['next_try'])}"
        typer.echo(
            f"  {fault['component']}, since {when(fault['since'])}, {retry}: {fault['words']}"
        )
    if faults:
        typer.echo(FAULT_REMEDY)


def _consents(consents: dict[str, Any]) -> None:
    if number := consents["unanswered"]:
        typer.echo(
            _("{forms} without an answer. List: gardien consent due", forms=plural(number, "form"))
        )
    if number := consents["ending"]:
        typer.echo(
            _(
                "{consents} end soon, the first on {day}. List: gardien consent due",
                consents=plural(number, "consent"), day=day(consents["first_end"])[:10],
            )
        )  # fmt: skip


def _waiting_objects(authority: dict[str, Any]) -> None:
    if number := authority["waiting"]:
        typer.echo(f"{plural(number, 'signed object')} waiting. Reasons: gardien object list")


def _show_uplinks(uplinks: dict[str, Any]) -> None:
    for name, uplink in uplinks.items():
        typer.echo(f"uplink {name} delivers to {uplink['recipient']}")
        remarks = (
            _receipt_source(uplink),
            uplink.get("weaker"),
            _data_usage(uplink),
            _building_file(uplink),
            _outage(uplink),
            _batch_limit(uplink),
        )
        for line in filter(None, remarks):
            typer.echo(f"  {line}")
    table(
        ("uplink", "connected", "last receipt", "waiting", "in batches", "held back"),
        [_uplink_row(name, uplink) for name, uplink in uplinks.items()],
    )


def _receipt_source(uplink: dict[str, Any]) -> str:
    broker = uplink["receipt"] == "broker"
    return "receipts come from its broker, not from the recipient: weaker proof" if broker else ""


def _building_file(uplink: dict[str, Any]) -> str:
    file = uplink.get("building")
    if file is None:
        return ""
    how = "is stored there" if file["held"] else "is not stored there yet"
    return f"the backup of {when(file['made'])} (change {file['revision']}) {how}"


def _data_usage(uplink: dict[str, Any]) -> str:
    data = uplink["data"]
    if not data["used"] and data["budget"] is None:
        return ""
    of = f" of {data['budget'] / 1e6:,.0f}" if data["budget"] else ""
    return f"{data['used'] / 1e6:,.1f}{of} MB transferred this month"


def _outage(uplink: dict[str, Any]) -> str:
    days = uplink["bears_days"]
    if days is None or days >= LONG_OUTAGE:
        return ""
    return f"room for an outage of {plural(days, 'day')} before data is lost"


def _batch_limit(uplink: dict[str, Any]) -> str:
    largest = uplink.get("largest_batch")
    if largest is None:
        return ""
    return f"batches are limited to {largest:,} B, because larger ones were rejected"


def _uplink_row(name: str, uplink: dict[str, Any]) -> tuple[str, ...]:
    delivery, backlog = uplink["delivery"], uplink["backlog"]
    return (
        name,
        "yes" if delivery["connected_since"] else "no",
        when(delivery["last_receipt"]),
        f"{plural(backlog['slots'], 'value')}",
        str(backlog["batches"]),
        plural(uplink["held_devices"], "device"),
    )


def _device_row(name: str, device: dict[str, Any], uplinks: Collection[str]) -> tuple[str, ...]:
    if device["failures"]:
        times = "once" if device["failures"] == 1 else f"{device['failures']} times"
        state = f"no answer {times}, next try in {device['rests_s']} s"
    # no recipient gets it: the reason is all that matters
    elif device["held"] and set(uplinks) <= device["held"].keys():
        state = "; ".join(sorted(set(device["held"].values())))
    else:
        state = device["said"] or ("fine" if device["answered"] else "not read yet")
        if device["answer_ms"] and state == "fine":
            state = f"fine, {device['answer_ms']:.0f} ms"
            state += f", {device['failed']} failed" if device["failed"] else ""
        if device["clock"] and device["clock"]["words"]:
            state += f"; {device['clock']['words']}"
        for uplink, remark in device["held"].items():  # other uplinks get the readings
            state += "; " + _("not sent to {uplink}: {words}", uplink=uplink, words=remark)
    return (
        *(device["link"], name, device["place"] or "–", device["serial"] or "–"),
        *(when(device["answered"]), state),
    )
