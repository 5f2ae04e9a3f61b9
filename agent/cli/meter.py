"""`gardien meter`: which meter measures which place."""

from __future__ import annotations

from decimal import Decimal
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.facts import Answer, command
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    RECORDED,
    WOULD_BE_RECORDED,
    As,
    Config,
    Json,
    State,
    as_json,
    ask,
    day,
    measured,
    show_ignored_columns,
    show_left_out,
    table,
    unchanged,
    wrapped,
)
from agent.core.i18n import N_, _, in_language, n_, number
from agent.registry.facts import meter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

app = typer.Typer(no_args_is_help=True, help="Record and verify which meter measures which place.")


PROOF = {
    "none": N_("no proof"),
    "serial": N_("serial number"),
    "display": N_("display"),
    "load": N_("load"),
    "power": N_("power of a day"),
    "sum": N_("sum of a day"),
    "wrong": N_("wrong"),
}
"""how it was verified that the meter measures the place"""


def _show(answer: Answer, _args: Answer | None = None) -> None:
    rows = [
        (m["serial"] or "–", m["device"] or "", m["label"], m["channel"] or _("all quantities"),
         day(m["since"]), _state(m), _(PROOF[m["proof"]]))
        for m in answer["meters"]
    ]  # fmt: skip
    table(
        (_("serial"), _("device"), _("place"), _("channel"), _("since"), _("state"), _("proof")),
        rows,
    )


def _state(installed: dict[str, Any]) -> str:
    if installed.get("never"):
        return _("never measured it")
    if installed["until"]:
        return _("until {until}", until=day(installed["until"]))
    text = in_language(installed["state"]) if installed["in_force"] else _("not yet in force")
    if installed["multiplier"] != "1":
        text += f"; × {installed['multiplier']}"
    return (
        text
        if installed["offset"] == "0"
        else _("{text}; {offset} added", text=text, offset=installed["offset"])
    )


@command(app, meter.IMPORT)
def _show_import(answer: Answer, args: Answer) -> None:
    if answer["meters"]:
        _show(answer)
    many = n_("{number} meter", "{number} meters", len(answer["meters"]))
    done = WOULD_BE_RECORDED if args["preview"] else RECORDED
    typer.echo(_(done, many=many, unchanged=unchanged(answer)))
    show_left_out(answer["left_out"])
    show_ignored_columns(answer)
    if args["join_lines"]:
        _show_matching(answer["joined"])


def _show_matching(matching: dict[str, Any]) -> None:
    """Print how the list matches what answers on the lines."""
    typer.echo(_("matched: {number}", number=len(matching["matched"])))
    silent = [
        _("{name}: {text}", name=f"{one['meter']} ({one['label']})", text=one["why"])
        for one in matching["silent"]
    ]
    for name, lines in (
        (_("on the list, but no answer"), silent),
        (_("answers, but is not on the list"), [_device(d) for d in matching["unlisted"]]),
        (_("found twice"), matching["doubled"]),
    ):
        if lines:
            typer.echo(_("{name}: {text}", name=name, text=len(lines)))
        for line in lines:
            typer.echo(f"  {line}")


def _device(device: dict[str, Any]) -> str:
    serial = (
        _(" says {serial}", serial=device["serial"])
        if device["serial"]
        else ": " + (device["why"] or _("no number"))
    )
    return f"{device['device']}{serial}"


# the options of `verify` are quantities, whose names typer does not know
@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def verify(
    context: typer.Context,
    place: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    multiplier: Annotated[
        str | None,
        typer.Option(help="The ratio on the plates of the current transformers: 200/5, or 40."),
    ] = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Read a dwelling's meters and compare with their displays: verify A-3-12 --heat 8412.

    Give an option for each channel, with the index on the display: --heat 8412 --cw 99.9. A meter
    that agrees, with at least two digits, has its factor proven, too. Exit status 1 if one
    differs.
    """
    from agent.api.visit_steps import comparison

    shown = _display_values(context.args)
    fields = {"place": place, "shown": shown, "multiplier": multiplier}
    answer = ask(config, state, "meter.verify", named=as_, **fields)
    if json:
        as_json(answer)
    else:
        for result in answer["results"]:
            typer.echo(comparison(result).in_language())
            _show_factor(result)
            if not result["agrees"]:
                typer.echo(wrapped(_after_a_difference(answer["label"], result)))
    raise typer.Exit(0 if all(result["agrees"] for result in answer["results"]) else 1)


@app.command()
def load(
    place: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    channel: Annotated[
        str, typer.Argument(help="The channel that counts the load: elec.imp, cw, heat …")
    ],
    seconds: Annotated[
        float, typer.Option("--for", help="How many seconds each of the two phases takes.")
    ] = 60.0,
    power: Annotated[
        str | None,
        typer.Option(help="What the load takes, as on its plate: 2000W, 2kW, 8l/min."),
    ] = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Check which meter belongs to a dwelling: switch a load on there when asked.

    The command shows which meter counts. For meters without a visible display. With --power it
    proves the meter's factor, too. Exit status 1 if another meter or none counted.
    """
    fields = {"place": place, "channel": channel, "seconds": seconds, "power": power}
    answer = ask(config, state, "meter.load", named=as_, **fields)
    if json:
        as_json(answer)
    else:
        typer.echo(_load_outcome(answer))
        if power is not None and answer["agrees"]:
            _show_factor(answer)
    raise typer.Exit(0 if answer["agrees"] else 1)


def _show_factor(result: dict[str, Any]) -> None:
    """Print what a comparison has shown about the factor of the meter."""
    if result["factor"]:
        typer.echo(wrapped(f"  {in_language(result['factor']['sentence'])}"))


@app.command()
def proofs(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Show whether the factors of the dwellings' meters are proven, and how.

    A Modbus meter does not say in which unit it counts. Exit status 1 if a factor is wrong or not
    proven.
    """
    answer = ask(config, state, "meter.proofs")
    listed, unread = answer["proofs"], answer["unread"]
    unproven = [one for one in listed if one["needed"] and one["proof"] in {"none", "wrong"}]
    if json:
        as_json({"proofs": listed, "unread": unread})
        raise typer.Exit(1 if unproven else 0)
    rows = [
        (one["label"], measured(one["channel"]), one["serial"] or one["device"],
         _(PROOF[one["proof"]]) if one["needed"] else _("not needed"),
         day(one["at"]) if one["at"] else "", one["who"] or "")
        for one in listed
    ]  # fmt: skip
    table((_("place"), _("channel"), _("meter"), _("proof"), _("on"), _("by")), rows)
    for sentence in dict.fromkeys(_summary(listed)):
        typer.echo(wrapped(sentence))
    if unread:
        many = n_("{number} meter", "{number} meters", unread)
        text = _(
            "left out: {many}, because gardien has not read their serial numbers from the devices"
            " yet, and does not know which device each is. It reads them while it runs: sudo"
            " systemctl start gardien",
            many=many,
        )
        typer.echo(wrapped(text))
    raise typer.Exit(1 if unproven else 0)


def _summary(listed: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield each wrong factor, how many are open with the next step, and what the proofs mean."""
    for entry in listed:
        if entry["proof"] == "wrong":
            name = f"{entry['label']}, {entry['device']}"
            yield _("{name}: {text}", name=name, text=in_language(entry["sentence"]))
    unproven = [one for one in listed if one["needed"] and one["proof"] == "none"]
    if unproven:
        many = n_("{number} meter", "{number} meters", len(unproven))
        text = in_language(unproven[0]["sentence"])
        yield _("not proven: {many}", many=many)
        yield _("{name}: {text}", name=unproven[0]["label"], text=text)
    # what each method leaves open, by its weakest proof
    proven = [one for one in listed if one["needed"] and one["proof"] not in {"none", "wrong"}]
    proven.sort(key=lambda one: Decimal(one["excludes"]), reverse=True)
    for method in dict.fromkeys(one["proof"] for one in proven):
        weakest = next(one for one in proven if one["proof"] == method)
        yield _("{name}: {text}", name=_(PROOF[method]), text=in_language(weakest["sentence"]))


@app.command()
def match(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Compare the recorded meters with the devices that answer on the lines.

    Exit status 1 if a meter was not found, is not on the list, or was found twice.
    """
    answer = ask(config, state, "meter.match")
    as_json(answer) if json else _show_matching(answer)
    raise typer.Exit(1 if answer["silent"] or answer["unlisted"] or answer["doubled"] else 0)


@app.command()
def swap(
    place: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    channel: Annotated[str, typer.Argument(help="The channel: elec.imp, cw, heat …")],
    device: Annotated[str, typer.Argument(help="The device that measures this dwelling.")],
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that the meters of two dwellings were swapped from the beginning.

    The readings that were made under the wrong assignments are retracted.
    """
    fields = {"place": place, "channel": channel, "device": device}
    answer = ask(config, state, "meter.swap", named=as_, **fields)
    if json:
        as_json(answer)
    else:
        typer.echo(_("recorded: {labels}", labels=", ".join(answer["labels"])))


def _load_outcome(answer: dict[str, Any]) -> str:
    """Return the outcome of a load test in one line."""
    subject, moved = (
        _("{channel} in {label}: ", channel=answer["channel"], label=answer["label"]),
        answer["moved"],
    )
    if answer["agrees"]:
        return _(
            "{subject}agrees: meter {meter} counted {more} more",
            subject=subject,
            meter=answer["meter"],
            more=answer["more"],
        )
    if moved is None:
        many = n_("{number} meter", "{number} meters", answer["asked"])
        return _(
            "{subject}differs: none of {many} counted clearly more than the others",
            subject=subject,
            many=many,
        )
    name = moved["serial"] or moved["device"]
    return _(
        "{subject}differs: meter {name} ({value}) counted",
        subject=subject,
        name=name,
        value=moved["label"] or _("unassigned"),
    )


def _display_values(arguments: Sequence[str]) -> dict[str, str]:
    if len(arguments) % 2 or not all(word.startswith("--") for word in arguments[::2]):
        raise typer.BadParameter(_("give each channel with the index on the display: --heat 8412"))
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    return {name.removeprefix("--"): value for name, value in pairs}


def _after_a_difference(label: str, result: dict[str, Any]) -> str:
    """What a difference costs, and what to do."""
    if result["factor"] and result["factor"]["proof"] == "wrong":
        return _(
            "This dwelling would be billed wrongly. {remedy} Then repeat the command",
            remedy=in_language(result["factor"]["remedy"]),
        )
    if result["times"] and len(result["shown_by"]) != 1:
        from agent.api.visit_steps import TIMES

        return _(TIMES, factor=result["times"])
    shown = number(Decimal(result["shown"]))
    values = {"label": quote(label), "shown": shown, "meter": result["meter"]}
    if len(result["shown_by"]) == 1:
        return _(
            "The meter is not recorded as verified. Read the display again. If it shows {shown},"
            " another meter is recorded for {label} than the one in it: gardien meter remove"
            " {label} --old {meter} --never; then gardien meter assign {device} {label}",
            **values,
            device=result["shown_by"][0]["device"],
        )
    return _(
        "The meter is not recorded as verified. Read the display again, and repeat the command with"
        " its value. If it does show {shown}, the meter in {label} may be another one than {meter}:"
        " compare the number on its plate with gardien meter list",
        **values,
    )


command(app, meter.ASSIGN)(_show)


@command(app, meter.EXCHANGE)
def _show_exchange(answer: Answer, _args: Answer) -> None:
    _show(answer)
    # the first is the old meter
    if not answer["meters"][0]["closed"]:
        typer.echo(_("no last index was given: the old meter's last good reading is used"))


command(app, meter.REMOVE)(_show)
command(app, meter.CORRECT)(_show)
command(app, meter.LIST)(_show)
