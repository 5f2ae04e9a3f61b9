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
    make_folder,
    show_not_occupied,
    suffix_of,
    table,
    wrapped,
    write_page,
)
from agent.core import i18n
from agent.core.i18n import N_, Text, _, n_
from agent.registry.facts.place import described

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

app = typer.Typer(
    no_args_is_help=True,
    help="Show which personal data is sent to whom and why; write letters and pages.",
)
app.add_typer(breach.app, name="breach")
Former = Annotated[
    str | None,
    typer.Option("--id", metavar="H…", help="Former occupants, by the id of their occupancy."),
]

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
    "confirmed": N_("erasure confirmed"),
    "asked": N_("asked to erase"),
    "cannot_ask": N_("no uplink to ask"),
    "confirmed_part": N_("erasure of a part confirmed"),
    "asked_part": N_("asked to erase a part"),
    "cannot_ask_part": N_("erasure of a part: no uplink to ask"),
}

PROOFS = {
    "display": N_("its display was compared with the value read"),
    "load": N_("it counted an appliance that was switched on in the dwelling"),
    "serial": N_("it reports the number that was recorded for the dwelling"),
    "none": N_("not verified"),
}
"""how a meter was proven to be that of a dwelling"""
DUE = {
    "month": N_("{day} (end of the month)"),
    "bill": N_("{day} (bill)"),
    "moved_in": N_("{day} (move in)"),
    "moved_out": N_("{day} (move out)"),
}
"""the dates whose index a duty requires"""


def step_text(step: int | None) -> str:
    """How often something is sent."""
    if step is None:
        return _("not sent")
    if step >= 86_400:  # noqa: PLR2004 -- a day
        return _("monthly") if step > 86_400 else _("daily")  # noqa: PLR2004
    minutes, rest = divmod(step, 60)
    return _("every {number} s", number=step) if rest else _("every {number} min", number=minutes)


def _grouped(rows: Sequence[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    """Yield one row for all quantities of a place that go to a recipient on the same terms."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row["label"] is None:
            continue
        why = row["why"] if row["leaves"] else _(row["why"])
        key = (row["label"], row["recipient"], step_text(row["step"]), why)
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
        yield _(
            "? ({devices}): not sent, {why}", devices=", ".join(dict.fromkeys(names)), why=_(why)
        )


def _sums(sums: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Yield lines about the sums of a building: how many dwellings are in them, not which."""
    if not sums:
        yield _("No recipient receives a sum over several dwellings.")
    for aggregate in sums:
        facts = {"channel": aggregate["channel"], "recipient": aggregate["recipient"]}
        why = Text.of(aggregate["text"]).in_language()
        if not aggregate["members"]:
            yield _("sum of {channel} to {recipient}: none: {why}", why=why, **facts)
            continue
        yield _(
            "sum of {channel} to {recipient} {how}, {why}; dwellings counted: {counts} of"
            " {members}",
            how=step_text(aggregate["step"]), why=why, counts=aggregate["counts"],
            members=aggregate["members"], **facts,
        )  # fmt: skip
        if aggregate["n"] is not None:
            yield "  " + _("the last sum sent was over {number} dwellings", number=aggregate["n"])


def _shares(shares: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Yield one line for each sum that one dwelling is in."""
    for share in shares:
        yield _(
            "it counts in a sum of {channel} over {number} dwellings to {recipient} ({how}), until"
            " {day}",
            channel=share["channel"], number=share["dwellings"], recipient=share["recipient"],
            how=step_text(share["step"]), day=day_of(share["until"]),
        )  # fmt: skip


def _withheld(notices: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Yield one line for all withheld quantities of a place that a recipient is notified of."""
    from agent.core.model import Why
    from agent.registry.explain import HELD

    groups: dict[tuple[str, ...], list[str]] = {}
    for notice in notices:
        key = (notice["label"], notice["recipient"], step_text(notice["step"]), notice["why"])
        groups.setdefault(key, []).append(notice["channel"])
    for (label, recipient, step, why), names in groups.items():
        yield _(
            "{label}, {channels}: {recipient} is notified {step}, without a value, that the data is"
            " withheld ({why})",
            label=label, channels=", ".join(names), recipient=recipient, step=step,
            why=_(HELD[Why(why)]),
        )  # fmt: skip


def day_of(at: float) -> str:
    """The day of a Unix second in the building's time zone."""
    from agent.core.clock import stamp

    return day(stamp(at))


def exit_on_gaps(gaps: Sequence[dict[str, str]]) -> None:
    """Print what the gateway cannot know; exit with status 1 if there is any such gap."""
    for gap in gaps:
        typer.echo(wrapped("! " + _(GAPS[gap["kind"]], **gap)), err=True)
    if gaps:
        raise typer.Exit(1)


@app.command()
def explain(
    place: Annotated[str, typer.Argument(help="Only this place.", show_default=False)] = "",
    at: Annotated[str | None, typer.Option(help="The date to explain; default: now.")] = None,
    id: Former = None,  # noqa: A002 -- the word people write
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show what is sent to whom and why, and what is not sent and why. For one place, everything
    that is known of it.
    """
    answer = ask(config, state, "privacy.explain", place=place, at=at, occupancy=id)
    if json:
        as_json(answer)
        exit_on_gaps(answer["unknown"])
        return
    typer.echo(_("at {day}, policy {policy}", day=day(answer["at"]), policy=answer["policy"]))
    if not answer["recipients"]:
        typer.echo(_("no uplink is configured, so nothing is sent"))
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
    sums = _shares(answer["sums"]) if place else _sums(answer["sums"])
    for line in (*_unassigned(answer["rows"]), *_withheld(answer["notices"]), *sums):
        typer.echo(wrapped(line))
    for duty in answer["duties"]:
        typer.echo(wrapped(continuing_duty(duty)))
    if place:
        _show_dossier(answer)
    exit_on_gaps(answer["unknown"])


def _show_dossier(answer: dict[str, Any]) -> None:
    """Print what is known of one place besides what is sent now."""
    if home := answer["occupancy"]:
        typer.echo(wrapped(occupied(home)))
    if answer["meters"]:
        rows = [
            (one["meter"], day(one["since"]), day(one["until"]), _(PROOFS[one["proof"]]),
             day(one["answered"]))
            for one in answer["meters"]
        ]  # fmt: skip
        table((_("meter"), _("from"), _("to"), _("proof"), _("last answer")), rows)
    if answer["holdings"]:
        _show_holdings(answer["holdings"])
    for recipient, number in answer["waiting"].items():
        typer.echo(_("{number} values wait for {recipient}", number=number, recipient=recipient))
    if answer["midnights"]:
        number = answer["midnights"]
        typer.echo(_("{number} midnight readings are kept for a duty", number=number))
    if answer["type"] == "dwelling":
        facts = {"number": len(answer["looks"]), "label": answer["label"]}
        typer.echo(_("accesses recorded: {number} (gardien privacy access {label})", **facts))
        facts = {"number": len(answer["orders"]), "label": answer["label"]}
        typer.echo(_("orders to equipment: {number} (gardien hotline heating {label})", **facts))
    _show_former(answer["former"])


def occupied(home: dict[str, Any]) -> str:
    """Since when people live in a dwelling, and who notified it."""
    facts = {
        "id": home["occupancy"],
        "since": day(home["since"]),
        "who": home["moved_in"]["who"],
        "when": day(home["moved_in"]["when"]),
    }
    if home["until"] is None:
        return _(
            "occupied by {id} since {since}; recorded by {who} on {when}",
            **facts,
        )
    return _(
        "occupied by {id} from {since} to {until}; recorded by {who} on {when}, the move out by"
        " {other} on {then}",
        until=day(home["until"]), other=home["moved_out"]["who"],
        then=day(home["moved_out"]["when"]), **facts,
    )  # fmt: skip


def _show_holdings(holdings: Sequence[dict[str, Any]]) -> None:
    rows = [(one["recipient"], one["channel"], str(one["received"]), has(one)) for one in holdings]
    table((_("recipient"), _("quantity"), _("values received"), _("still there")), rows)


def has(holding: dict[str, Any]) -> str:
    """How many values a recipient still has."""
    least, most = holding["least"], holding["most"]
    if least == most:
        return str(most)
    return _("between {least} and {most}", least=least, most=most)


def _show_former(former: Sequence[dict[str, Any]]) -> None:
    for home in former:
        until = day(home["until"]) if home["until"] else ""
        facts = {"id": home["occupancy"], "since": day(home["since"]), "until": until}
        typer.echo(_("other occupants: {since} → {until}. To see theirs: --id {id}", **facts))


@app.command()
def person(
    dwelling: Annotated[str, typer.Argument(help="The dwelling's label or id.")],
    stop: Annotated[
        bool, typer.Option("--stop", help="First withdraw all consents of its occupants.")
    ] = False,
    id: Former = None,  # noqa: A002 -- the word people write
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
    make_folder(to)
    for file, text in files.items():
        write_page(to / file, text)
    if json:
        as_json(answer)
        exit_on_gaps(answer["unknown"])  # ends the command: the letter must be written before
        return
    for file in files:
        typer.echo(_("written: {file}", file=to / file))
    if stop:
        _stopped(answer)
    for recipient in answer["unconfirmed"]:
        typer.echo(wrapped(_(UNCONFIRMED, recipient=recipient)))
    for recipient in answer["unasked"]:
        typer.echo(wrapped(_(UNASKED, recipient=recipient)))
    exit_on_gaps(answer["unknown"])


def _stopped(answer: dict[str, Any]) -> None:
    if answer["withdrawn"]:
        # with such a gap it is unknown whether all waiting values are destroyed, so this is not
        # claimed
        unsure = answer["unasked"] or any(one["kind"] in UNSURE for one in answer["unknown"])
        number = len(answer["withdrawn"])
        done = _("waiting values are destroyed, recipients are asked to erase what they received")
        ended = n_("{number} consent withdrawn", "{number} consents withdrawn", number)
        whole = i18n.in_language(i18n.joined("; ", (ended, done)))
        typer.echo(wrapped(ended if unsure else whole))
    else:
        typer.echo(_("there was no consent to withdraw"))
    for duty in answer["goes_on"]:
        typer.echo(wrapped(continuing_duty(duty)))


def continuing_duty(duty: dict[str, Any]) -> str:
    """What a duty allows, and its next dates."""
    if duty["uplink"]:
        dates = [_(DUE[one["why"]], day=day(one["at"])) for one in duty.get("dates", ())]
        facts = {"recipient": duty["recipient"], "reference": duty["reference"]}
        if not dates:
            return _("continues without consent: {recipient} ({reference})", **facts)
        return _(
            "continues without consent: {recipient} ({reference}); next indexes: {dates}",
            dates=", ".join(dates), **facts,
        )  # fmt: skip
    return _(
        "{recipient} may receive indexes without consent ({reference}), but it has no uplink, so"
        " nothing is sent to it",
        recipient=duty["recipient"],
        reference=duty["reference"],
    )


@app.command()
def disclosures(
    dwelling: Annotated[
        str, typer.Argument(help="Only the occupants of this dwelling.", show_default=False)
    ] = "",
    id: Former = None,  # noqa: A002 -- the word people write
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List how many values of each dwelling each recipient has received, day by day."""
    answer = ask(config, state, "privacy.disclosures", place=dwelling, occupancy=id)
    if json:
        as_json(answer)
        exit_on_gaps(answer["unknown"])
        return
    rows = [
        (
            *(short_day(one["day"]), one["recipient"], one["label"], one["channel"]),
            str(one["values"]),
            _(ERASURES[one["erasure"]]) if ERASURES[one["erasure"]] else "",
        )
        for one in answer["disclosures"]
    ]
    table((_("day"), _("recipient"), _("dwelling"), _("quantity"), _("values"), _("erasure")), rows)
    if answer["holdings"]:
        _show_holdings(answer["holdings"])
    _show_former(answer["former"])
    exit_on_gaps(answer["unknown"])


@app.command()
def access(
    dwelling: Annotated[
        str, typer.Argument(help="Only the occupants of this dwelling.", show_default=False)
    ] = "",
    id: Former = None,  # noqa: A002 -- the word people write
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List who has seen data of dwellings on this gateway: the first access of each day."""
    answer = ask(config, state, "privacy.access", place=dwelling, occupancy=id)
    if json:
        as_json(answer)
        return
    rows = [
        (
            day(one["when"]),
            one["who"],
            access_text(one["what"], one.get("reason", "")),
            i18n.in_language(one["label"]),
        )
        for one in answer["looks"]
    ]
    table((_("when"), _("who"), _("by"), _("dwelling")), rows)
    _show_former(answer["former"])


def short_day(day: str) -> str:
    """A day such as 2026-11-24, as tables show it."""
    from datetime import date

    return i18n.short_date(date.fromisoformat(day))


def access_text(what: str, reason: str = "") -> str:
    """Return the kind of an access in words, with the reason that was given; an unknown call as it
    was recorded.
    """
    from agent.registry.access_log import ACCESSES

    kind = _(ACCESSES[what]) if what in ACCESSES else what
    return f"{kind} ({reason})" if reason else kind


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
