"""`gardien privacy`: what leaves of whom, for whom and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import breach
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    Language,
    State,
    as_json,
    ask,
    day,
    form_of,
    not_occupied,
    plural,
    table,
    wrapped,
    write_page,
)
from agent.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

app = typer.Typer(no_args_is_help=True, help="What leaves of whom, for whom and why.")
app.add_typer(breach.app, name="breach")

GAPS = {
    "meter": N_(
        "meter {detail} is not identified yet: what leaves of it is not known; start"
        " gardien, wait until the meter has answered (gardien meter list), then ask again; if no"
        " device is configured for it, or its number is another, put that right first"
    ),
    "no_uplink": N_(
        "{recipient} has no uplink, and there is no record of one: whether it received anything is"
        " not known here; ask {recipient} itself"
    ),
    "leftover": N_(
        "{recipient} has no uplink any more, and {detail} values still wait for it: whose they are"
        " is not known; put the uplink back and ask again, or destroy them: gardien uplink close"
        " {recipient} --drop"
    ),
    "unreadable": N_(
        "what is kept for {recipient} cannot be read ({detail}): what waits, what was received and"
        " what was erased is not known; put that right, then ask again"
    ),
    "damaged": N_(
        "the record of {recipient} was damaged or lost: what it received before is not known here;"
        " ask {recipient} itself"
    ),
    "restored": N_(
        "this gateway was restored from a backup of {detail}: what was received before is not known"
        " here; ask the recipients themselves"
    ),
    "broker": N_(
        "{recipient} confirms nothing itself, its broker does (`receipt: broker`): what it received"
        " or erased is not known here; ask {recipient} itself"
    ),
    "clock": N_(
        "the gateway is not sure of the date: what holds today is not known; gardien status says"
        " why, then ask again"
    ),
}
"""by the kind of what cannot be known: what it is, and what to do"""
UNSURE = ("leftover", "unreadable")
"""kinds with which it is not known whether what waited is destroyed"""
UNCONFIRMED = N_("{recipient} was asked to erase what it has, and has not confirmed it yet")
UNASKED = N_("{recipient} has no uplink: it cannot be asked to erase what it has; ask it yourself")
ERASURES = {
    "none": "",
    "confirmed": "erasure confirmed",
    "asked": "asked to erase",
    "cannot_ask": "no uplink to ask",
    "confirmed_part": "a part: erasure confirmed",
    "asked_part": "a part: asked to erase",
    "cannot_ask_part": "a part: no uplink to ask",
}

LOOKS = {
    "privacy.person": N_("letter on personal data"),
    "read": N_("reading of a meter"),
    "status": N_("status with values"),
    "meter.verify": N_("verification of a meter"),
    "meter.load": N_("load trial of a meter"),
}
"""by the call that showed something of a dwelling"""


def _step(step: int | None) -> str:
    if step is None:
        return "stays here"
    if step >= 86_400:  # noqa: PLR2004 -- a day
        return "monthly" if step > 86_400 else "daily"  # noqa: PLR2004
    return f"every {step // 60} min" if step % 60 == 0 else f"every {step} s"


def _grouped(rows: Sequence[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    """One line for what is alike: the quantities of a place that go to one recipient alike."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row["label"] is None:
            continue
        key = (row["label"], row["recipient"], _step(row["step"]), row["why"])
        found = groups.setdefault(key, [])
        if row["channel"] not in found:
            found.append(row["channel"])
    for (place, recipient, step, why), channels in groups.items():
        yield place, ", ".join(channels), recipient, step, why


def _nobodys(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Devices of which nobody knows whose they are: by the reason, for all recipients alike."""
    devices: dict[str, list[str]] = {}
    for row in rows:
        if row["label"] is None:
            devices.setdefault(row["why"], []).append(row["device"])
    for why, names in devices.items():
        yield f"? ({', '.join(dict.fromkeys(names))}): stays here, {why}"


def _sums(sums: Sequence[dict[str, Any]]) -> Iterable[str]:
    if not sums:
        yield "No sum over several dwellings is sent to anybody."
    for one in sums:
        what = f"{one['channel']} to {one['recipient']}"
        if not one["members"]:
            yield f"sum of {what}: none: {one['why']}"
            continue
        how = _step(one["step"])
        yield f"sum of {what} {how}, {one['why']}; {one['counts']} count"
        if one["n"] is not None:
            yield f"  the last one that was sent is of {one['n']} dwellings"
        others = f" and {plural(one['others'], 'other dwelling')}" if one["others"] else ""
        yield f"  in it until the 1st of next month: {', '.join(one['labels'])}{others}"


def _withheld(notices: Sequence[dict[str, Any]]) -> Iterable[str]:
    """What recipients are told of what is withheld, alike of a place in one line."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for one in notices:
        key = (one["label"], one["recipient"], _step(one["step"]), one["why"])
        groups.setdefault(key, []).append(one["channel"])
    for (label, recipient, step, why), names in groups.items():
        yield (
            f"{label}, {', '.join(names)}: {recipient} is told {step}, without a value, that it is"
            f" withheld ({why})"
        )


def _unknown(gaps: Sequence[dict[str, str]]) -> None:
    """Say what the gateway cannot know, and end with status 1 if there is anything."""
    for one in gaps:
        typer.echo(wrapped("! " + _(GAPS[one["kind"]], **one)), err=True)
    if gaps:
        raise typer.Exit(1)


@app.command()
def explain(
    place: Annotated[str, typer.Argument(help="Only this place.", show_default=False)] = "",
    at: Annotated[str | None, typer.Option(help="As it stands at this date; default: now.")] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Say what leaves, for whom and why; what stays here, and why."""
    answer = ask(config, state, "privacy.explain", place=place, at=at)
    if json:
        as_json(answer)
        _unknown(answer["unknown"])
        return
    typer.echo(f"at {day(answer['at'])}, policy {answer['policy']}")
    if not answer["recipients"]:
        typer.echo("no uplink is configured: nothing leaves")
    if known := list(_grouped(answer["rows"])):
        table((_("place"), _("quantities"), _("recipient"), "", _("why")), known)
    else:
        typer.echo(
            _(
                "nothing that is read is known to be of {place}: gardien meter list",
                place=place or _("any place"),
            )
        )
    not_occupied(answer["not_occupied"])
    notices = _withheld(answer["notices"])
    for line in (*_nobodys(answer["rows"]), *notices, *_sums(answer["sums"])):
        typer.echo(wrapped(line))
    for duty in answer["duties"]:
        typer.echo(wrapped(_goes_on(duty | {"uplink": False})))
    _unknown(answer["unknown"])


@app.command()
def person(
    dwelling: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    stop: Annotated[
        bool, typer.Option("--stop", help="Withdraw all that its people agreed to, first.")
    ] = False,
    id: Annotated[  # noqa: A002 -- the word people write
        str | None,
        typer.Option("--id", metavar="H…", help="Those who lived there before, by their id."),
    ] = None,
    language: Language = "fr",
    to: Annotated[Path, typer.Option(help="The folder to write to.")] = Path(),
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write a letter (HTML) and a CSV for the people of a dwelling: all that is known of it.

    Where the gateway cannot know something, the letter says so; the exit status is then 1, and the
    command says what to do.
    """
    words = {"place": dwelling, "stop": stop, "language": language, "occupancy": id}
    answer = ask(config, state, "privacy.person", named=as_, **words)
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in answer["label"])
    if id is not None:  # the letter to those who live there now is another one
        name = f"{name}-{answer['occupancy']}"
    files = {f"{name}.html": answer["letter"], f"{name}.csv": answer["csv"]}
    to.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        write_page(to / file, text)
    if json:
        as_json(answer)
        _unknown(answer["unknown"])
        return
    for file in files:
        typer.echo(f"written: {to / file}")
    if stop:
        _stopped(answer)
    for recipient in answer["unconfirmed"]:
        typer.echo(wrapped(_(UNCONFIRMED, recipient=recipient)))
    for recipient in answer["unasked"]:
        typer.echo(wrapped(_(UNASKED, recipient=recipient)))
    _unknown(answer["unknown"])


def _stopped(answer: dict[str, Any]) -> None:
    if answer["withdrawn"]:
        many = plural(len(answer["withdrawn"]), "consent")
        unsure = answer["unasked"] or any(one["kind"] in UNSURE for one in answer["unknown"])
        done = "" if unsure else "; what waited is destroyed, what was received is taken back"
        typer.echo(f"{many} withdrawn{done}")
    else:
        typer.echo("there was no consent left to withdraw")
    for duty in answer["goes_on"]:
        typer.echo(wrapped(_goes_on(duty)))


def _goes_on(duty: dict[str, Any]) -> str:
    if duty["uplink"]:
        return f"goes on without consent: {duty['recipient']} ({duty['reference']})"
    return _(
        "{recipient} may have indexes without consent ({reference}), but no uplink is configured to"
        " it: nothing is sent to it",
        recipient=duty["recipient"],
        reference=duty["reference"],
    )


@app.command()
def disclosures(
    dwelling: Annotated[str, typer.Argument(help="Only of this one.", show_default=False)] = "",
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List how many values of dwellings were received by whom, day by day, without them."""
    answer = ask(config, state, "privacy.disclosures", place=dwelling)
    if json:
        as_json(answer)
        _unknown(answer["unknown"])
        return
    rows = [
        (
            *(one["day"], one["recipient"], one["label"], one["channel"], str(one["values"])),
            ERASURES[one["erasure"]],
        )
        for one in answer["disclosures"]
    ]
    table((_("day"), _("recipient"), _("dwelling"), _("quantity"), _("values"), _("since")), rows)
    _unknown(answer["unknown"])


@app.command()
def access(
    dwelling: Annotated[str, typer.Argument(help="Only this one.", show_default=False)] = "",
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List who has seen data of dwellings at this gateway: the first look of each day."""
    answer = ask(config, state, "privacy.access", place=dwelling)
    if json:
        as_json(answer)
        return
    rows = [
        (day(one["when"]), one["who"], _looked(one["what"]), one["label"])
        for one in answer["looks"]
    ]
    table((_("when"), _("who"), _("by"), _("dwelling")), rows)


def _looked(what: str) -> str:
    """How somebody looked, in words; a call that is not known any more as it was recorded."""
    return _(LOOKS[what]) if what in LOOKS else what


To = Annotated[
    Path | None, typer.Option("--to", metavar="FILE", help="Write a page (.html) there instead.")
]


@app.command()
def catalogue(
    language: Language = "fr",
    to: To = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write what is known of dwellings, why, for whom, how long and why that long.

    As a text, or as a page to publish. Nothing else of a dwelling leaves.
    """
    answer = ask(config, state, "privacy.catalogue", language=language)
    _published(answer, to, {".html": answer["html"]}, json=json)


@app.command()
def register(
    language: Language = "fr",
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Write a page (.html) or a table (.csv) there."),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write the register of processing activities (GDPR, article 30)."""
    answer = ask(config, state, "privacy.register", language=language)
    _published(answer, to, {".html": answer["html"], ".csv": answer["csv"]}, json=json)


@app.command()
def assessment(
    language: Language = "fr",
    to: To = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write the facts for an impact assessment (GDPR, article 35) that the gateway knows."""
    answer = ask(config, state, "privacy.assessment", language=language)
    _published(answer, to, {".html": answer["html"]}, json=json)


def _published(
    answer: dict[str, Any], to: Path | None, forms: Mapping[str, str], *, json: bool
) -> None:
    """Show an answer as text or JSON, or write it in the form that a file's name asks for."""
    if to is not None:
        write_page(to, forms[form_of(to, *forms)])
    if json:
        as_json({name: one for name, one in answer.items() if name not in {"html", "text", "csv"}})
    elif to is None:
        typer.echo(answer["text"], nl=False)
    else:
        typer.echo(_("written: {file}", file=to))
