"""`gardien status`: how the running agent is."""

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
from agent.i18n import _
from agent.units import spoken

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

REPORT = (
    "  all else goes on. Report it: `sudo gardien support-bundle --out FILE` writes what is needed;"
    " `sudo systemctl restart gardien` tries all of it at once"
)
LONG = 365
"""days of outage that nobody need be told of"""


def status(
    named: As = None, config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False
) -> None:
    """Say how lines, devices and uplinks are; exit status 1 if somebody must look.

    It asks the daemon and does not load the configuration, which may be broken. The values of
    dwellings (--json) are for installers, who say who they are.
    """
    from agent.local import ask_daemon

    folder = state_of(config, state)
    answer = ask_daemon(folder, "status", {"named": named}, lambda _: None)
    if answer is None:
        how = "sudo systemctl enable --now gardien" if config == DEFAULT_CONFIG else "gardien run"
        typer.echo(f"gardien is not running on {folder}: `{how}` starts it", err=True)
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
    # a daemon of an earlier version does not say it
    if roles := in_words(answer.get("roles", {})):
        typer.echo(wrapped(_("roles: {roles}", roles=roles)))


def _show(answer: dict[str, Any]) -> None:
    _show_gateway(answer)
    if answer["uplinks"]:
        _show_uplinks(answer["uplinks"])
    if answer["devices"]:
        table(
            ("line", "device", "place", "serial", "last answer", "state"),
            [_device_row(name, one, answer["uplinks"]) for name, one in answer["devices"].items()],
        )
    for name, link in answer["links"].items():
        if words := link["health"].get("words"):
            typer.echo(f"line {name}: {words}")
    for name, one in answer["controls"].items():
        if one["value"] is not None:
            until = f" until {when(one['until'])}" if one["until"] else ""
            typer.echo(
                f"control {name}: {one['value']} {spoken(one['unit'])}{until},"
                f" {one['state']}, {one['by']}"
            )
    if one := answer["certificate"]:
        typer.echo(f"certificate {one['validity']}")
    if one := answer.get("rotation"):
        waits = f"; waits: {one['waits']}" if one["waits"] else ""
        typer.echo(
            f"the spool key is being rotated since {when(one['since'])}: {one['passed'] / 1e6:,.1f}"
            f" of about {one['of'] / 1e6:,.1f} MB are sealed anew{waits}"
        )
    _consents(answer.get("consents") or {"unanswered": 0, "ending": 0})
    _waiting(answer.get("authority") or {"waiting": 0})
    for event in answer["events"]:
        typer.echo(f"! {event.get('here') or event['text']}")
    _show_faults(answer.get("faults", ()))


def in_words(roles: dict[str, list[str]]) -> str:
    """Who has which role, in a line; nothing where nobody but root has one."""
    return "; ".join(f"{role}: {', '.join(who)}" for role, who in roles.items() if who)


def _dwellings(states: dict[str, int]) -> str:
    """A line with how many dwellings are occupied, vacant and unknown; empty: there are none."""
    if not any(states.values()):
        return ""
    said = _(
        "dwellings: {occupied} occupied, {vacant} vacant, {unknown} unknown",
        occupied=states["occupied"], vacant=states["vacant"], unknown=states["unknown"],
    )  # fmt: skip
    where = _("gardien occupancy list says which")
    return f"\n{said}: {where}" if states["vacant"] or states["unknown"] else f"\n{said}"


def _show_faults(faults: Sequence[dict[str, Any]]) -> None:
    for one in faults:
        tried = "runs; named until it has worked for a while without this error"
        if one["next_try"]:
            tried = f"tried again at {when(one['next_try'])}"
        typer.echo(f"  {one['component']}, since {when(one['since'])}, {tried}: {one['words']}")
    if faults:
        typer.echo(REPORT)


def _consents(consents: dict[str, Any]) -> None:
    if number := consents["unanswered"]:
        typer.echo(
            _("{forms} without an answer: gardien consent due", forms=plural(number, "form"))
        )
    if number := consents["ending"]:
        typer.echo(
            _(
                "{consents} end soon, the first on {day}: gardien consent due",
                consents=plural(number, "consent"), day=day(consents["first_end"])[:10],
            )
        )  # fmt: skip


def _waiting(authority: dict[str, Any]) -> None:
    if number := authority["waiting"]:
        typer.echo(f"{plural(number, 'signed object')} waiting: gardien object list says for what")


def _show_uplinks(uplinks: dict[str, Any]) -> None:
    for name, one in uplinks.items():
        typer.echo(f"uplink {name} delivers to {one['recipient']}")
        said = (
            _weaker(one), one.get("weaker"), _data(one), _building(one), _bears(one), _smaller(one)
        )  # fmt: skip
        for line in filter(None, said):
            typer.echo(f"  {line}")
    table(
        ("uplink", "connected", "last receipt", "waiting", "in batches", "held back"),
        [_uplink_row(name, one) for name, one in uplinks.items()],
    )


def _weaker(one: dict[str, Any]) -> str:
    broker = one["receipt"] == "broker"
    return "on its broker's word alone, which is weaker" if broker else ""


def _building(one: dict[str, Any]) -> str:
    file = one.get("building")
    if file is None:
        return ""
    how = "is kept there" if file["held"] else "is not kept there yet"
    return f"the building file of {when(file['made'])} (change {file['revision']}) {how}"


def _data(one: dict[str, Any]) -> str:
    data = one["data"]
    if not data["used"] and data["budget"] is None:
        return ""
    of = f" of {data['budget'] / 1e6:,.0f}" if data["budget"] else ""
    return f"{data['used'] / 1e6:,.1f}{of} MB moved this month"


def _bears(one: dict[str, Any]) -> str:
    found = one["bears_days"]
    if found is None or found >= LONG:
        return ""
    return f"room for {plural(found, 'day')} of outage before anything is given up"


def _smaller(one: dict[str, Any]) -> str:
    largest = one.get("largest_batch")
    if largest is None:
        return ""
    return f"batches of at most {largest:,} B, because larger ones were refused"


def _uplink_row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    delivery, backlog = one["delivery"], one["backlog"]
    return (
        name,
        "yes" if delivery["connected_since"] else "no",
        when(delivery["last_receipt"]),
        f"{plural(backlog['slots'], 'value')}",
        str(backlog["batches"]),
        plural(one["held_devices"], "device"),
    )


def _device_row(name: str, one: dict[str, Any], uplinks: Collection[str]) -> tuple[str, ...]:
    if one["failures"]:
        times = "once" if one["failures"] == 1 else f"{one['failures']} times"
        state = f"silent {times}, asked again in {one['rests_s']} s"
    elif one["held"] and set(uplinks) <= one["held"].keys():
        state = "; ".join(sorted(set(one["held"].values())))
    else:
        state = one["said"] or ("fine" if one["answered"] else "not asked yet")
        if one["answer_ms"] and state == "fine":
            state = f"fine, {one['answer_ms']:.0f} ms"
            state += f", {one['failed']} failed" if one["failed"] else ""
        if one["clock"] and one["clock"]["words"]:
            state += f"; {one['clock']['words']}"
        for uplink, words in one["held"].items():  # others have it
            state += "; " + _("stays here for {uplink}: {words}", uplink=uplink, words=words)
    return (
        one["link"], name, one["place"] or "–", one["serial"] or "–", when(one["answered"]), state
    )  # fmt: skip
