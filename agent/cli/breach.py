"""`gardien privacy breach`: what a breach of personal data asks for within 72 hours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    ask,
    day,
    form_of,
    read_here,
    table,
    wrapped,
    write_page,
)
from agent.i18n import N_, _, language, n_

app = typer.Typer(
    no_args_is_help=True,
    help="Breaches of personal data: the 72 hours, who is concerned, notification and letters.",
)
Id = Annotated[str, typer.Argument(metavar="ID", help="Its number, as in `breach list`.")]
Written = Annotated[
    str, typer.Option("--language", help="In which language the texts are: fr or en.")
]
Noticed = Annotated[
    str | None,
    typer.Option(help="When you became aware: 2026-11-27T09:30; default: now. 72 h run from it."),
]
Began = Annotated[str | None, typer.Option(help="When it began: 2026-11-20, or with a time.")]
Ended = Annotated[str | None, typer.Option(help="When it ended.")]
Kind = Annotated[list[str] | None, typer.Option(help="confidentiality, integrity or availability.")]
Store = Annotated[
    list[str] | None,
    typer.Option(help="Whose data are concerned, as in `privacy catalogue --json`; or all."),
]
Key = Annotated[
    list[str] | None,
    typer.Option(help="spool, signing, certificate, credentials, recovery; all: but recovery."),
]
Recipient = Annotated[list[str] | None, typer.Option(help="A recipient that is concerned.")]
Dwelling = Annotated[
    list[str] | None, typer.Option(help="A dwelling that alone is concerned, or its people (H…).")
]
Consequences = Annotated[str | None, typer.Option(help="What may follow from it for people.")]
Measures = Annotated[str | None, typer.Option(help="What was done, or will be.")]
Risk = Annotated[str | None, typer.Option(help="For people: none, risk or high.")]


def _facts(texts: str, **given: Any) -> dict[str, Any]:
    """What was said on the command line."""
    return {"language": texts} | {name: one for name, one in given.items() if one}


@app.command()
def new(
    what: Annotated[str, typer.Argument(help="What happened, in a sentence.")],
    noticed: Noticed = None,
    began: Began = None,
    ended: Ended = None,
    kind: Kind = None,
    store: Store = None,
    key: Key = None,
    recipient: Recipient = None,
    dwelling: Dwelling = None,
    consequences: Consequences = None,
    measures: Measures = None,
    risk: Risk = None,
    texts: Written = "fr",
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Open the record of a breach; what is not known yet is added later."""
    facts = _facts(
        texts, what=what, noticed=noticed, began=began, ended=ended, kind=kind, store=store,
        key=key, recipient=recipient, dwelling=dwelling, consequences=consequences,
        measures=measures, risk=risk,
    )  # fmt: skip
    answer = ask(config, state, "privacy.breach.new", facts=facts, named=as_)
    as_json(answer) if json else _show(answer)


@app.command()
def add(
    id: Id,  # noqa: A002 -- the word people write
    what: Annotated[str | None, typer.Option(help="What happened.")] = None,
    noticed: Noticed = None,
    began: Began = None,
    ended: Ended = None,
    kind: Kind = None,
    store: Store = None,
    key: Key = None,
    recipient: Recipient = None,
    dwelling: Dwelling = None,
    consequences: Consequences = None,
    measures: Measures = None,
    risk: Risk = None,
    notified: Annotated[
        str | None, typer.Option(help="When the authority was told: 2026-11-27T16:00.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Of the authority's receipt.")] = None,
    delay: Annotated[str | None, typer.Option(help="Why the authority was told late.")] = None,
    told: Annotated[str | None, typer.Option(help="When the people were told.")] = None,
    texts: Written = "fr",
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Add facts to a record, or what was done: texts in the language that --language says.

    What is said anew takes the place of what was said before, which stays in the log; what may be
    repeated is added.
    """
    facts = _facts(
        texts, what=what, noticed=noticed, began=began, ended=ended, kind=kind, store=store,
        key=key, recipient=recipient, dwelling=dwelling, consequences=consequences,
        measures=measures, risk=risk, notified=notified, reference=reference, delay=delay,
        told=told,
    )  # fmt: skip
    answer = ask(config, state, "privacy.breach.add", id=id, facts=facts, named=as_)
    as_json(answer) if json else _show(answer)


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List all breaches. Exit status 1 while the authority must still be told of one.

    Also where a record is not the one that was written, by the audit chain.
    """
    answer = read_here(ask(config, state, "privacy.breach.list"))
    found = answer["breaches"]
    unlike = [_unlike(one["id"], one["record"]) for one in found]
    unlike += [_unlike(id_, "gone") for id_ in answer["gone"]]
    if json:
        as_json(found)
    elif not found:
        typer.echo(_("no breach was recorded here"))
    else:
        rows = [(one["id"], day(one["noticed"]), _standing(one), _what(one)) for one in found]
        columns = (_("breach"), _("noticed"), _("authority"), _("what happened"))
        table(columns, rows)
    raise typer.Exit(1 if any(unlike) or any(_owed(one) for one in found) else 0)


@app.command()
def show(
    id: Id,  # noqa: A002
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show a breach: the deadline, what is missing, who is concerned, and what was done."""
    answer = ask(config, state, "privacy.breach.show", id=id)
    as_json(answer) if json else _show(answer)
    if answer["record"] == "unknown":
        typer.echo(wrapped(_(NOT_COMPARED)), err=True)
    _end(answer)


NOT_COMPARED = N_(
    "the audit chain at hand does not have this record (another gateway's, or too old): whether it"
    " was changed is not known"
)


@app.command()
def notification(
    id: Id,  # noqa: A002
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The page to write (.html).")],
    language_: Annotated[str, typer.Option("--language", help="fr or en.")] = "fr",
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write the notification to the supervisory authority (CNIL), as far as it is known."""
    call = "privacy.breach.notification"
    form_of(to, ".html")
    answer = ask(config, state, call, id=id, language=language_, named=as_)
    write_page(to, answer["html"])
    if json:
        as_json(answer)
    else:
        typer.echo(_("written: {file}", file=to))
        _lacks(answer["missing"])
    _end(answer)


@app.command()
def letters(
    id: Id,  # noqa: A002
    to: Annotated[Path, typer.Option("--to", help="The folder to write to.")] = Path(),
    language_: Annotated[
        str | None,
        typer.Option(
            "--language",
            help="fr, en, or both on two sheets: fr,en; default: those in which texts are.",
        ),
    ] = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write the letter to the people of each dwelling concerned; also to those who moved out."""
    call = "privacy.breach.letters"
    answer = ask(config, state, call, id=id, language=language_, named=as_)
    to.mkdir(parents=True, exist_ok=True)
    for one in answer["letters"]:
        label = "".join(c if c.isalnum() or c in "-_" else "_" for c in one["label"])
        name = f"{id}_{label}_{one['occupancy']}.html" if one["gone"] else f"{id}_{label}.html"
        write_page(to / name, one["html"])
        one["file"] = str(to / name)
    if json:
        as_json(answer)
    else:
        number = len(answer["letters"])
        typer.echo(n_("{number} letter written", "{number} letters written", number))
        if answer["nobody"]:
            typer.echo(wrapped(_(NOBODY, labels=", ".join(answer["nobody"]))))
        _lacks(answer["missing"])
    _end(answer)


NOBODY = N_("no letter: nobody is known to have lived there then: {labels}")


@app.command()
def close(
    id: Id,  # noqa: A002
    reason: Annotated[str, typer.Option(help="Why it is closed though something is missing.")] = "",
    mistake: Annotated[
        bool, typer.Option("--mistake", help="It was recorded by mistake: --reason says which.")
    ] = False,
    without_notification: Annotated[
        bool, typer.Option("--without-notification", help="Though the authority was not told.")
    ] = False,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Close a record, which stays."""
    answer = ask(
        config, state, "privacy.breach.close", id=id, reason=reason, mistake=mistake,
        without_notification=without_notification, named=as_,
    )  # fmt: skip
    if json:
        as_json(answer)
        return
    typer.echo(_("breach {id} is closed", id=id))
    if not mistake:
        _lacks(answer["missing"])


def _owed(one: dict[str, Any]) -> bool:
    return one["closed"] is None and "notified" in one["missing"]


def _unlike(id_: str, record: str) -> bool:
    """Warn where a record is not the one that was written; whether it is not."""
    from agent.protection.breach import UNLIKE

    if record in UNLIKE:
        why = _(UNLIKE[record])
        typer.echo(wrapped("! " + _(NOT_AS_WRITTEN, id=id_, why=why)), err=True)
    return record in UNLIKE


NOT_AS_WRITTEN = N_(
    "breach {id}: this record is not the one that was written: {why}. Do not rely on it: compare it"
    " with the pages that you kept (docs/privacy.md)"
)


def _end(answer: dict[str, Any]) -> None:
    """Exit status 1 where a record is not the one that was written."""
    if _unlike(answer["id"], answer["record"]):
        raise typer.Exit(1)


def _what(one: dict[str, Any]) -> str:
    texts: dict[str, str] = one["what"]
    return texts.get(language()) or next(iter(texts.values()), "")


def _standing(one: dict[str, Any]) -> str:
    """How it stands with the authority."""
    if one["notified"]:
        return _("told on {on}", on=_said(one["notified"]))
    if one["risk"] == "none":
        return _("need not be told: no risk")
    if one["mistake"]:
        return _("closed: recorded by mistake")
    if one["closed"]:
        return _("closed, NOT NOTIFIED")
    left = one["seconds_left"]
    until = day(one["deadline"])
    if left < 0:
        return _("TOO LATE since {until}", until=until)
    return _("to be told by {until}: {hours} h left", until=until, hours=left // 3600)


def _said(stamp: str) -> str:
    """A moment as it was said: a day without a time is kept as its last second."""
    return day(stamp)[:10] if stamp.endswith(":59Z") else day(stamp)


def _show(answer: dict[str, Any]) -> None:
    from agent.protection.stores import page_texts, stores

    read_here(answer)
    says, spoken = page_texts(language()), language()
    typer.echo(_("breach {id}: {what}", id=answer["id"], what=_what(answer)))
    typer.echo(wrapped(_("authority: {standing}", standing=_standing(answer))))
    if answer["closed"]:
        typer.echo(_("closed on {on} {reason}", on=day(answer["closed"]), reason=answer["reason"]))
    if was := answer["noticed_before"]:
        before = ", ".join(map(day, was))
        typer.echo(wrapped("! " + _(MOVED, now=day(answer["noticed"]), before=before)))
    if not answer["mistake"]:
        _lacks(answer["missing"])
    if named := [stores()[one].descriptions[spoken]["name"] for one in answer["stores"]]:
        typer.echo(wrapped(_("data concerned: {names}", names=", ".join(named))))
    people = [one for one in answer["concerned"] if one["occupancy"]]
    dwellings = len({one["place"] for one in answer["concerned"]})
    counts = says["breach_counts"].format(dwellings=dwellings, occupancies=len(people))
    typer.echo(wrapped(counts))
    if answer["concerned"]:
        rows = [
            (
                one["label"], one["occupancy"] or _("nobody known"), one["reference"],
                day(one["since"]), day(one["until"]),
            )
            for one in answer["concerned"]
        ]  # fmt: skip
        table((_("dwelling"), _("occupancy"), _("lease"), _("since"), _("until")), rows)
    if answer["staff"]:
        typer.echo(wrapped(says["breach_staff"].format(number=answer["staff"])))
    for one in answer["unsure"]:
        typer.echo(wrapped("! " + one["said"][spoken]))
    for one in answer["steps"]:
        typer.echo(wrapped(f"{day(one['at'])} {one['who']}: {one['said'][spoken]}"))


MOVED = N_("the deadline was moved: noticed {now}, before that {before} was said")


def _lacks(missing: list[str]) -> None:
    """What is still to be said or done."""
    from agent.protection.stores import field_label

    if missing:
        typer.echo(_("still missing:"))
    for name in missing:
        typer.echo(wrapped(f"! {field_label(name, language())}"))
