"""`gardien privacy`: which data of whom is sent to whom and why, and the pages about it."""

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
    plural,
    show_not_occupied,
    suffix_of,
    table,
    wrapped,
    write_page,
)
from agent.core import i18n
from agent.core.i18n import N_, _
from agent.registry.facts.place import described

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

app = typer.Typer(
    no_args_is_help=True,
    help="Show which personal data is sent to whom and why; write letters and pages.",
)
app.add_typer(breach.app, name="breach")

GAPS = {
    "meter": N_(
        "meter {detail} is not identified yet, so it is unknown what is sent of it. Check that a"
        " device is configured for it and that the number is right. Start gardien, wait until the"
        " meter has answered (gardien meter list), and repeat this command"
    ),
    "no_uplink": N_(
        "{recipient} has no uplink, and there is no record of one, so it is unknown whether it"
        " received anything. Ask {recipient}"
    ),
    "leftover": N_(
        "{recipient} has no uplink any more, and {detail} values still wait for it; it is unknown"
        " whose they are. Configure the uplink again and repeat this command, or destroy the"
        " values: gardien uplink close {recipient} --drop"
    ),
    "unreadable": N_(
        "the spool of {recipient} cannot be read ({detail}), so it is unknown what waits, what was"
        " received and what was erased. Repair it, then repeat this command"
    ),
    "damaged": N_(
        "the record of {recipient} was damaged or lost, so it is unknown what it received before."
        " Ask {recipient}"
    ),
    "restored": N_(
        "this gateway was restored from a backup of {detail}, so it is unknown what was received"
        " before. Ask the recipients"
    ),
    "broker": N_(
        "only the broker of {recipient} sends receipts (`receipt: broker`), so it is unknown what"
        " {recipient} itself received or erased. Ask {recipient}"
    ),
    "clock": N_(
        "the clock is not trusted, so it is unknown what is in force today. Repair the clock, then"
        " repeat this command. Reason: gardien status"
    ),
}
"""by the kind of gap in what the gateway knows: the gap, and what to do"""
UNSURE = ("leftover", "unreadable")
"""kinds of gap with which it is unknown whether waiting values are destroyed"""
UNCONFIRMED = N_("{recipient} was asked to erase its data, and has not confirmed it yet")
UNASKED = N_(
    "{recipient} has no uplink, so gardien cannot ask it to erase its data. Ask it yourself"
)
ERASURES = {
    "none": "",
    "confirmed": "erasure confirmed",
    "asked": "asked to erase",
    "cannot_ask": "no uplink to ask",
    "confirmed_part": "erasure of a part confirmed",
    "asked_part": "asked to erase a part",
    "cannot_ask_part": "erasure of a part: no uplink to ask",
}

ACCESSES = {
    "privacy.person": N_("letter on personal data"),
    "read": N_("reading of a meter"),
    "status": N_("status with values"),
    "meter.verify": N_("verification of a meter"),
    "meter.load": N_("load test of a meter"),
}
"""by the call that showed data of a dwelling"""


def _step(step: int | None) -> str:
    if step is None:
        return "not sent"
    if step >= 86_400:  # noqa: PLR2004 -- a day
        return "monthly" if step > 86_400 else "daily"  # noqa: PLR2004
    return f"every {step // 60} min" if step % 60 == 0 else f"every {step} s"


def _grouped(rows: Sequence[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    """Yield one row for all quantities of a place that go to a recipient on the same terms."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row["label"] is None:
            continue
        key = (row["label"], row["recipient"], _step(row["step"]), row["why"])
        names = groups.setdefault(key, [])
        if row["channel"] not in names:
            names.append(row["channel"])
    for (place, recipient, step, why), channels in groups.items():
        yield place, ", ".join(channels), recipient, step, why


def _unassigned(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Yield one line for each reason why devices belong to no known place."""
    devices: dict[str, list[str]] = {}
    for row in rows:
        if row["label"] is None:
            devices.setdefault(row["why"], []).append(row["device"])
    for why, names in devices.items():
        yield f"? ({', '.join(dict.fromkeys(names))}): not sent, {why}"


def _sums(sums: Sequence[dict[str, Any]]) -> Iterable[str]:
    if not sums:
        yield "No recipient receives a sum over several dwellings."
    for aggregate in sums:
        what = f"{aggregate['channel']} to {aggregate['recipient']}"
        if not aggregate["members"]:
            yield f"sum of {what}: none: {aggregate['why']}"
            continue
        how = _step(aggregate["step"])
        yield f"sum of {what} {how}, {aggregate['why']}; dwellings counted: {aggregate['counts']}"
        if aggregate["n"] is not None:
            yield f"  the last sum sent was over {aggregate['n']} dwellings"
        number = aggregate["others"]
        others = f" and {plural(number, 'other dwelling')}" if number else ""
        yield f"  members until the 1st of next month: {', '.join(aggregate['labels'])}{others}"


def _withheld(notices: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Yield one line for all withheld quantities of a place that a recipient is notified of."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for notice in notices:
        key = (notice["label"], notice["recipient"], _step(notice["step"]), notice["why"])
        groups.setdefault(key, []).append(notice["channel"])
    for (label, recipient, step, why), names in groups.items():
        yield (
            f"{label}, {', '.join(names)}: {recipient} is notified {step}, without a value, that"
            f" the data is withheld ({why})"
        )


def _exit_on_gaps(gaps: Sequence[dict[str, str]]) -> None:
    """Print what the gateway cannot know; exit with status 1 if there is any such gap."""
    for gap in gaps:
        typer.echo(wrapped("! " + _(GAPS[gap["kind"]], **gap)), err=True)
    if gaps:
        raise typer.Exit(1)


@app.command()
def explain(
    place: Annotated[str, typer.Argument(help="Only this place.", show_default=False)] = "",
    at: Annotated[str | None, typer.Option(help="The date to explain; default: now.")] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show what is sent to whom and why, and what is not sent and why."""
    answer = ask(config, state, "privacy.explain", place=place, at=at)
    if json:
        as_json(answer)
        _exit_on_gaps(answer["unknown"])
        return
    typer.echo(f"at {day(answer['at'])}, policy {answer['policy']}")
    if not answer["recipients"]:
        typer.echo("no uplink is configured, so nothing is sent")
    if known := list(_grouped(answer["rows"])):
        table((_("place"), _("quantities"), _("recipient"), "", _("why")), known)
    else:
        typer.echo(
            _(
                "no reading is assigned to {place}. Check the meters: gardien meter list",
                place=place or _("any place"),
            )
        )
    for title, value in described(answer["recorded"], i18n.language()).items():
        typer.echo(_("{title}: {value}; it is not sent to anybody", title=title, value=value))
    show_not_occupied(answer["not_occupied"])
    notices = _withheld(answer["notices"])
    for line in (*_unassigned(answer["rows"]), *notices, *_sums(answer["sums"])):
        typer.echo(wrapped(line))
    for duty in answer["duties"]:
        # the answer lists only duties whose recipient has no uplink
        typer.echo(wrapped(_continuing_duty(duty | {"uplink": False})))
    _exit_on_gaps(answer["unknown"])


@app.command()
def person(
    dwelling: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    stop: Annotated[
        bool, typer.Option("--stop", help="First withdraw all consents of its occupants.")
    ] = False,
    id: Annotated[  # noqa: A002 -- the word people write
        str | None,
        typer.Option("--id", metavar="H…", help="Former occupants, by the id of their occupancy."),
    ] = None,
    language: Language = "fr",
    to: Annotated[Path, typer.Option(help="The folder to write to.")] = Path(),
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write a letter (HTML) and a CSV file with all that is known of a dwelling, for its occupants.

    If the gateway cannot know something, the letter says so, the command shows what to do, and the
    exit status is 1.
    """
    fields = {"place": dwelling, "stop": stop, "language": language, "occupancy": id}
    answer = ask(config, state, "privacy.person", named=as_, **fields)
    # a label may contain a slash, which would name another folder
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in answer["label"])
    if id is not None:  # else it would overwrite the letter to the present occupants
        name = f"{name}-{answer['occupancy']}"
    files = {f"{name}.html": answer["letter"], f"{name}.csv": answer["csv"]}
    to.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        write_page(to / file, text)
    if json:
        as_json(answer)
        _exit_on_gaps(answer["unknown"])  # ends the command: the letter must be written before
        return
    for file in files:
        typer.echo(f"written: {to / file}")
    if stop:
        _stopped(answer)
    for recipient in answer["unconfirmed"]:
        typer.echo(wrapped(_(UNCONFIRMED, recipient=recipient)))
    for recipient in answer["unasked"]:
        typer.echo(wrapped(_(UNASKED, recipient=recipient)))
    _exit_on_gaps(answer["unknown"])


def _stopped(answer: dict[str, Any]) -> None:
    if answer["withdrawn"]:
        many = plural(len(answer["withdrawn"]), "consent")
        # with such a gap it is unknown whether all waiting values are destroyed, so this is not
        # claimed
        unsure = answer["unasked"] or any(one["kind"] in UNSURE for one in answer["unknown"])
        done = "; waiting values are destroyed, recipients are asked to erase what they received"
        typer.echo(f"{many} withdrawn{'' if unsure else done}")
    else:
        typer.echo("there was no consent to withdraw")
    for duty in answer["goes_on"]:
        typer.echo(wrapped(_continuing_duty(duty)))


def _continuing_duty(duty: dict[str, Any]) -> str:
    if duty["uplink"]:
        return f"continues without consent: {duty['recipient']} ({duty['reference']})"
    return _(
        "{recipient} may receive indexes without consent ({reference}), but it has no uplink, so"
        " nothing is sent to it",
        recipient=duty["recipient"],
        reference=duty["reference"],
    )


@app.command()
def disclosures(
    dwelling: Annotated[str, typer.Argument(help="Only this dwelling.", show_default=False)] = "",
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List how many values of each dwelling each recipient has received, day by day."""
    answer = ask(config, state, "privacy.disclosures", place=dwelling)
    if json:
        as_json(answer)
        _exit_on_gaps(answer["unknown"])
        return
    rows = [
        (
            *(one["day"], one["recipient"], one["label"], one["channel"], str(one["values"])),
            ERASURES[one["erasure"]],
        )
        for one in answer["disclosures"]
    ]
    table((_("day"), _("recipient"), _("dwelling"), _("quantity"), _("values"), _("since")), rows)
    _exit_on_gaps(answer["unknown"])


@app.command()
def access(
    dwelling: Annotated[str, typer.Argument(help="Only this dwelling.", show_default=False)] = "",
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List who has seen data of dwellings on this gateway: the first access of each day."""
    answer = ask(config, state, "privacy.access", place=dwelling)
    if json:
        as_json(answer)
        return
    rows = [
        (day(one["when"]), one["who"], _access(one["what"]), one["label"])
        for one in answer["looks"]
    ]
    table((_("when"), _("who"), _("by"), _("dwelling")), rows)


def _access(what: str) -> str:
    """Return the kind of an access in words; an unknown call as it was recorded."""
    return _(ACCESSES[what]) if what in ACCESSES else what


To = Annotated[
    Path | None, typer.Option("--to", metavar="FILE", help="Write a page (.html) instead of text.")
]


@app.command()
def catalogue(
    language: Language = "fr",
    to: To = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write the catalogue: which data of dwellings are processed, why, for whom, for how long.

    Without --to it is printed as text. Data that are not in the catalogue are never sent from a
    dwelling.
    """
    answer = ask(config, state, "privacy.catalogue", language=language)
    _published(answer, to, {".html": answer["html"]}, json=json)


@app.command()
def register(
    language: Language = "fr",
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FILE", help="Write a page (.html) or a table (.csv) instead."
        ),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write the records of processing activities (GDPR, article 30)."""
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
    """Write what the gateway knows for an impact assessment (GDPR, article 35)."""
    answer = ask(config, state, "privacy.assessment", language=language)
    _published(answer, to, {".html": answer["html"]}, json=json)


def _published(
    answer: dict[str, Any], to: Path | None, forms: Mapping[str, str], *, json: bool
) -> None:
    """Print an answer as text or JSON, or write it to a file in the format of its suffix."""
    if to is not None:
        write_page(to, forms[suffix_of(to, *forms)])
    if json:
        as_json({name: one for name, one in answer.items() if name not in {"html", "text", "csv"}})
    elif to is None:
        typer.echo(answer["text"], nl=False)
    else:
        typer.echo(_("written: {file}", file=to))
