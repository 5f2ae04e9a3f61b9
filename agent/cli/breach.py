"""`gardien privacy breach`: records of breaches of personal data (GDPR, articles 33 and 34)."""

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
    make_folder,
    read_here,
    suffix_of,
    table,
    wrapped,
    write_page,
)
from agent.core.i18n import N_, _, language, n_

app = typer.Typer(
    no_args_is_help=True,
    help="Record breaches of personal data: deadline (72 h), people concerned, notification, "
    "letters.",
)
Id = Annotated[str, typer.Argument(metavar="ID", help="The breach's number, as in `breach list`.")]
TextLanguage = Annotated[
    str, typer.Option("--language", help="The language of the texts: fr or en.")
]
Noticed = Annotated[
    str | None,
    typer.Option(
        help="When you became aware: 2026-11-27T09:30; default: now. The 72 h begin then."
    ),
]
NoticedInstead = Annotated[
    str | None,
    typer.Option(
        "--noticed", help="When you became aware: 2026-11-27T09:30. This moves the end of the 72 h."
    ),
]
Began = Annotated[str | None, typer.Option(help="When it began: 2026-11-20, or with a time.")]
Ended = Annotated[str | None, typer.Option(help="When it ended.")]
Kind = Annotated[
    list[str] | None,
    typer.Option(help="confidentiality, integrity or availability; may be repeated."),
]
Store = Annotated[
    list[str] | None,
    typer.Option(help="Data concerned, as in `privacy catalogue --json`, or all; may be repeated."),
]
Key = Annotated[
    list[str] | None,
    typer.Option(
        help="Keys concerned: spool, signing, certificate, credentials, recovery; all: the first"
        " four. May be repeated."
    ),
]
Recipient = Annotated[
    list[str] | None, typer.Option(help="A recipient concerned; may be repeated.")
]
Dwelling = Annotated[
    list[str] | None,
    typer.Option(help="Only this dwelling or occupancy (H…) is concerned; may be repeated."),
]
Consequences = Annotated[str | None, typer.Option(help="Likely consequences for people.")]
Measures = Annotated[str | None, typer.Option(help="What was done, or will be done.")]
Risk = Annotated[str | None, typer.Option(help="The risk for people: none, risk or high.")]


def _facts(texts: str, **given: Any) -> dict[str, Any]:
    """Return what the command line gives, without the options that it leaves out."""
    return {"language": texts} | {name: value for name, value in given.items() if value}


@app.command()
def new(
    what: Annotated[str, typer.Argument(help="What happened, in one sentence.")],
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
    texts: TextLanguage = "fr",
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Open the record of a breach. Add later what is not known yet: breach add."""
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
    noticed: NoticedInstead = None,
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
        str | None, typer.Option(help="When the authority was notified: 2026-11-27T16:00.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="The reference of the authority's receipt.")
    ] = None,
    delay: Annotated[str | None, typer.Option(help="Why the authority was notified late.")] = None,
    informed: Annotated[
        str | None, typer.Option("--told", help="When the people were informed.")
    ] = None,
    texts: TextLanguage = "fr",
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Add facts or measures to a record; --language names the language of the texts.

    An option that may be repeated adds an entry. Any other option replaces the value, and the old
    value stays in the log.
    """
    facts = _facts(
        texts, what=what, noticed=noticed, began=began, ended=ended, kind=kind, store=store,
        key=key, recipient=recipient, dwelling=dwelling, consequences=consequences,
        measures=measures, risk=risk, notified=notified, reference=reference, delay=delay,
        told=informed,
    )  # fmt: skip
    answer = ask(config, state, "privacy.breach.add", id=id, facts=facts, named=as_)
    as_json(answer) if json else _show(answer)


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List all breaches.

    Exit status 1 if the authority must still be notified of one, or if a record differs from the
    audit chain.
    """
    answer = read_here(ask(config, state, "privacy.breach.list"))
    breaches = answer["breaches"]
    altered = [_warn_if_altered(entry["id"], entry["record"]) for entry in breaches]
    altered += [_warn_if_altered(id_, "gone") for id_ in answer["gone"]]
    if json:
        as_json(breaches)
    elif not breaches:
        typer.echo(_("no breach was recorded here"))
    else:
        rows = [(b["id"], day(b["noticed"]), _authority_status(b), _what(b)) for b in breaches]
        columns = (_("breach"), _("noticed"), _("authority"), _("what happened"))
        table(columns, rows)
    raise typer.Exit(1 if any(altered) or any(map(_notification_due, breaches)) else 0)


@app.command()
def show(
    id: Id,  # noqa: A002
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show a breach: deadline, missing facts, people concerned, and what was done."""
    answer = ask(config, state, "privacy.breach.show", id=id)
    as_json(answer) if json else _show(answer)
    # no error: the record of another gateway, or an old one, cannot be compared
    if answer["record"] == "unknown":
        typer.echo(wrapped(_(NOT_COMPARED)), err=True)
    _exit_if_altered(answer)


NOT_COMPARED = N_(
    "it is unknown whether this record was altered: the audit chain on this machine does not have"
    " it (it is another gateway's, or too old)"
)


@app.command()
def notification(
    id: Id,  # noqa: A002
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The page to write (.html).")],
    language_: Annotated[str, typer.Option("--language", help="Language: fr or en.")] = "fr",
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write the notification to the supervisory authority (CNIL), with all that is known."""
    call = "privacy.breach.notification"
    suffix_of(to, ".html")
    answer = ask(config, state, call, id=id, language=language_, named=as_)
    write_page(to, answer["html"])
    if json:
        as_json(answer)
    else:
        typer.echo(_("written: {file}", file=to))
        _show_missing(answer["missing"])
    _exit_if_altered(answer)


@app.command()
def letters(
    id: Id,  # noqa: A002
    to: Annotated[Path, typer.Option("--to", help="The folder to write to.")] = Path(),
    language_: Annotated[
        str | None,
        typer.Option(
            "--language",
            help="fr, en, or both on two sheets: fr,en; default: the languages of the texts.",
        ),
    ] = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Write a letter to the occupants of each dwelling concerned, and to those who moved out."""
    call = "privacy.breach.letters"
    answer = ask(config, state, call, id=id, language=language_, named=as_)
    make_folder(to)
    for letter in answer["letters"]:
        # a label may contain a slash, which would name another folder
        label = "".join(c if c.isalnum() or c in "-_" else "_" for c in letter["label"])
        # else the letters to former and present occupants would have one name
        former = f"_{letter['occupancy']}" if letter["gone"] else ""
        name = f"{id}_{label}{former}.html"
        write_page(to / name, letter["html"])
        letter["file"] = str(to / name)
    if json:
        as_json(answer)
    else:
        number = len(answer["letters"])
        typer.echo(n_("{number} letter written", "{number} letters written", number))
        if answer["nobody"]:
            typer.echo(wrapped(_(NOBODY, labels=", ".join(answer["nobody"]))))
        _show_missing(answer["missing"])
    _exit_if_altered(answer)


NOBODY = N_("no letter, because no occupants are recorded for that time: {labels}")


@app.command()
def close(
    id: Id,  # noqa: A002
    reason: Annotated[
        str, typer.Option(help="Why it is closed although something is missing.")
    ] = "",
    mistake: Annotated[
        bool, typer.Option("--mistake", help="It was recorded by mistake; explain with --reason.")
    ] = False,
    without_notification: Annotated[
        bool,
        typer.Option(
            "--without-notification", help="Close it although the authority was not notified."
        ),
    ] = False,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Close a record. It is kept."""
    answer = ask(
        config, state, "privacy.breach.close", id=id, reason=reason, mistake=mistake,
        without_notification=without_notification, named=as_,
    )  # fmt: skip
    if json:
        as_json(answer)
        return
    typer.echo(_("breach {id} is closed", id=id))
    if not mistake:
        _show_missing(answer["missing"])


def _notification_due(entry: dict[str, Any]) -> bool:
    return entry["closed"] is None and "notified" in entry["missing"]


def _warn_if_altered(id_: str, record: str) -> bool:
    """Warn if a record differs from what was written, and return whether it does."""
    from agent.api.protection.breach import UNLIKE

    if record in UNLIKE:
        why = _(UNLIKE[record])
        typer.echo(wrapped("! " + _(NOT_AS_WRITTEN, id=id_, why=why)), err=True)
    return record in UNLIKE


NOT_AS_WRITTEN = N_(
    "breach {id}: this record differs from what was written: {why}. Do not rely on it; compare it"
    " with the pages that you kept (docs/privacy.md)"
)


def _exit_if_altered(answer: dict[str, Any]) -> None:
    """Exit with status 1 if a record differs from what was written."""
    if _warn_if_altered(answer["id"], answer["record"]):
        raise typer.Exit(1)


def _what(entry: dict[str, Any]) -> str:
    texts: dict[str, str] = entry["what"]
    return texts.get(language()) or next(iter(texts.values()), "")


def _authority_status(entry: dict[str, Any]) -> str:
    """Return whether the authority was notified, or by when it must be."""
    if entry["notified"]:
        return _("notified on {on}", on=_stated_day(entry["notified"]))
    if entry["risk"] == "none":
        return _("no notification needed: no risk")
    if entry["mistake"]:
        return _("closed: recorded by mistake")
    if entry["closed"]:
        return _("closed, NOT NOTIFIED")
    left = entry["seconds_left"]
    until = day(entry["deadline"])
    if left < 0:
        return _("OVERDUE since {until}", until=until)
    return _("notify by {until}: {hours} h left", until=until, hours=left // 3600)


def _stated_day(stamp: str) -> str:
    """Return a time as it was entered: a day without a time is stored as its last second."""
    return day(stamp)[:10] if stamp.endswith(":59Z") else day(stamp)


def _show(answer: dict[str, Any]) -> None:
    from agent.api.protection.stores import page_texts, stores

    read_here(answer)
    texts, reader = page_texts(language()), language()
    typer.echo(_("breach {id}: {what}", id=answer["id"], what=_what(answer)))
    typer.echo(wrapped(_("authority: {standing}", standing=_authority_status(answer))))
    if answer["closed"]:
        typer.echo(_("closed on {on} {reason}", on=day(answer["closed"]), reason=answer["reason"]))
    if was := answer["noticed_before"]:
        before = ", ".join(map(day, was))
        typer.echo(wrapped("! " + _(DEADLINE_MOVED, now=day(answer["noticed"]), before=before)))
    if not answer["mistake"]:
        _show_missing(answer["missing"])
    if named := [stores()[entry].descriptions[reader]["name"] for entry in answer["stores"]]:
        typer.echo(wrapped(_("data concerned: {names}", names=", ".join(named))))
    people = [entry for entry in answer["concerned"] if entry["occupancy"]]
    dwellings = len({entry["place"] for entry in answer["concerned"]})
    counts = texts["breach_counts"].format(dwellings=dwellings, occupancies=len(people))
    typer.echo(wrapped(counts))
    if answer["concerned"]:
        rows = [
            (
                entry["label"], entry["occupancy"] or _("nobody known"), entry["reference"],
                day(entry["since"]), day(entry["until"]),
            )
            for entry in answer["concerned"]
        ]  # fmt: skip
        table((_("dwelling"), _("occupancy"), _("lease"), _("since"), _("until")), rows)
    if answer["staff"]:
        typer.echo(wrapped(texts["breach_staff"].format(number=answer["staff"])))
    for entry in answer["unsure"]:
        typer.echo(wrapped("! " + entry["said"][reader]))
    for entry in answer["steps"]:
        typer.echo(
            wrapped(
                _(
                    "{who}: {what}",
                    who=f"{day(entry['at'])} {entry['who']}",
                    what=entry["said"][reader],
                )
            )
        )


DEADLINE_MOVED = N_("the deadline was moved: noticed on {now}; recorded before: {before}")


def _show_missing(missing: list[str]) -> None:
    """Print what is still missing."""
    from agent.api.protection.stores import field_label

    if missing:
        typer.echo(_("still missing:"))
    for name in missing:
        typer.echo(wrapped(f"! {field_label(name, language())}"))
