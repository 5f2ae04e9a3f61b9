"""`gardien meter`: which meter measures which dwelling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    At,
    Config,
    Json,
    Preview,
    Since,
    State,
    as_json,
    ask,
    day,
    not_read,
    plural,
    stands,
    table,
    text_of,
)
from agent.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(no_args_is_help=True, help="Which meter measures which dwelling.")


Index = Annotated[
    list[str] | None,
    typer.Option(help="What it showed: 8412,5 or heat=8412.5; repeatable.", show_default=False),
]
Old = Annotated[
    str | None,
    typer.Option(help="Which meter there: its serial number or device.", show_default=False),
]
Channel = Annotated[str | None, typer.Option(help="Only this quantity of it.", show_default=False)]
Offset = Annotated[str | None, typer.Option(help="What is added to its index.", show_default=False)]
Times = Annotated[
    str | None,
    typer.Option(help="What its index is multiplied by; needs --channel.", show_default=False),
]


def _show(meters: Sequence[dict[str, Any]]) -> None:
    rows = [
        (m["serial"] or "–", m["device"] or "", m["label"], m["channel"] or "all",
         day(m["since"]), _state(m), m["proof"])
        for m in meters
    ]  # fmt: skip
    table((_("serial"), _("device"), _("place"), _("channel"), _("since"), "", _("proof")), rows)


def _state(meter: dict[str, Any]) -> str:
    if meter.get("never"):
        return "never measured it"
    if meter["until"]:
        return f"until {day(meter['until'])}"
    said = str(meter["state"]) if meter["in_force"] else "not yet in force"
    if meter["multiplier"] != "1":
        said += f"; × {meter['multiplier']}"
    return said if meter["offset"] == "0" else f"{said}; {meter['offset']} added"


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(help="CSV or .xlsx with the columns serial;dwelling or device;dwelling."),
    ],
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the meters who they are.")
    ] = False,
    preview: Preview = False,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record the meters of a spreadsheet: the whole file or nothing."""
    words = {"text": text_of(file), "name": str(file), "preview": preview}
    answer = ask(config, state, "meter.import", named=as_, join_lines=not offline, **words)
    if json:
        as_json(answer)
        return
    if answer["meters"]:
        _show(answer["meters"])
    done = "would be recorded" if preview else "recorded"
    typer.echo(f"{plural(len(answer['meters']), 'meter')} {done}{stands(answer)}")
    not_read(answer)
    if not offline:
        _joined(answer["joined"])


def _joined(joined: dict[str, Any]) -> None:
    """How the list fits the lines."""
    typer.echo(f"matched: {len(joined['matched'])}")
    silent = [f"{one['meter']} ({one['label']}): {one['why']}" for one in joined["silent"]]
    for name, lines in (
        ("on the list but silent", silent),
        ("on the line but not on the list", [_device(d) for d in joined["unlisted"]]),
        ("two for one", joined["doubled"]),
    ):
        if lines:
            typer.echo(f"{name}: {len(lines)}")
        for line in lines:
            typer.echo(f"  {line}")


def _device(device: dict[str, Any]) -> str:
    said = (
        f" says {device['serial']}" if device["serial"] else ": " + (device["why"] or "no number")
    )
    return f"{device['device']}{said}"


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def verify(
    context: typer.Context,
    place: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Read a dwelling's meters now, and compare: verify A-3-12 --heat 8412.

    Each option is a quantity, and what you have just read on the meter's display. Exit status 1 if
    one differs.
    """
    shown = _said_on(context.args)
    answer = ask(config, state, "meter.verify", named=as_, place=place, shown=shown)
    if json:
        as_json(answer)
    else:
        for one in answer["results"]:
            typer.echo(_compared(one))
    raise typer.Exit(0 if all(one["agrees"] for one in answer["results"]) else 1)


@app.command()
def load(
    place: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    channel: Annotated[str, typer.Argument(help="What it draws: elec.imp, cw, heat …")],
    seconds: Annotated[
        float, typer.Option("--for", help="Seconds of each of the two spans.")
    ] = 60.0,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Prove a meter by a load: switch something on there when told to, and see which meter moves.

    For meters whose display nobody can see. Exit status 1 if it was another one, or none.
    """
    words = {"place": place, "channel": channel, "seconds": seconds}
    answer = ask(config, state, "meter.load", named=as_, **words)
    as_json(answer) if json else typer.echo(_tried(answer))
    raise typer.Exit(0 if answer["agrees"] else 1)


def _tried(answer: dict[str, Any]) -> str:
    """The outcome in one line."""
    said, moved = f"{answer['channel']} in {answer['label']}: ", answer["moved"]
    if answer["agrees"]:
        return f"{said}agrees: meter {answer['meter']} counted {answer['more']} more"
    if moved is None:
        many = plural(answer["asked"], "meter")
        return f"{said}differs: none of {many} moved clearly more than the others"
    name = moved["serial"] or moved["device"]
    return f"{said}differs: it was {name} ({moved['label'] or 'of nobody'}) that moved"


def _said_on(words: Sequence[str]) -> dict[str, str]:
    if len(words) % 2 or not all(word.startswith("--") for word in words[::2]):
        raise typer.BadParameter("write each quantity with what its meter shows: --heat 8412")
    return {
        name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)
    }


def _compared(one: dict[str, Any]) -> str:
    """One result in one line."""
    said = f"{one['channel']} {one['shown']}: "
    if one["agrees"]:
        return f"{said}agrees: meter {one['meter']} says {one['read']}"
    read = f"meter {one['meter']} says {one['read'] or 'nothing of it'}"
    others = [
        f"{o['serial'] or o['device']} ({o['label'] or 'of nobody'})" for o in one["shown_by"]
    ]
    if not others:
        return f"{said}differs: {read}, and no other meter shows this"
    return f"{said}differs: this is what {' and '.join(others)} shows; {read}"


@app.command()
def assign(
    device: Annotated[str, typer.Argument(help="A device of the configuration.")],
    dwelling: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    serial: Annotated[
        str | None,
        typer.Option(help="What is printed on the meter; default: what it says itself first."),
    ] = None,
    channel: Channel = None,
    since: Since = None,
    multiplier: Times = None,
    offset: Offset = None,
    index: Index = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record whose one device is."""
    answer = ask(
        config, state, "meter.assign", named=as_,
        device=device, dwelling=dwelling, serial=serial, channel=channel, since=since,
        multiplier=multiplier, offset=offset, index=index or [],
    )  # fmt: skip
    as_json(answer) if json else _show(answer["meters"])


@app.command()
def exchange(
    place: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    serial: Annotated[
        str | None,
        typer.Option(help="Of the new meter; default: what its device says first."),
    ] = None,
    old: Old = None,
    channel: Channel = None,
    device: Annotated[
        str | None, typer.Option(help="Of the new meter; default: as the old one's.")
    ] = None,
    at: At = None,
    closing: Index = None,
    opening: Index = None,
    multiplier: Times = None,
    offset: Offset = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that another meter took the place of one, with what both showed, if known."""
    answer = ask(
        config, state, "meter.exchange", named=as_,
        place=place, serial=serial, old=old, channel=channel, device=device, at=at,
        closing=closing or [], opening=opening or [], multiplier=multiplier, offset=offset,
    )  # fmt: skip
    if json:
        as_json(answer)
        return
    _show(answer["meters"])
    if not answer["meters"][0]["closed"]:
        typer.echo("no closing index: the old meter's last good reading stands for it")


@app.command()
def remove(
    place: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    old: Old = None,
    channel: Channel = None,
    at: At = None,
    never: Annotated[
        bool, typer.Option("--never", help="It never measured it: take back all of it.")
    ] = False,
    closing: Index = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that a meter measures a place no more, or never did."""
    answer = ask(
        config, state, "meter.remove", named=as_,
        place=place, old=old, channel=channel, at=at, never=never, closing=closing or [],
    )  # fmt: skip
    as_json(answer) if json else _show(answer["meters"])


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List all meters with the places they measure."""
    answer = ask(config, state, "meter.list")
    as_json(answer) if json else _show(answer["meters"])
