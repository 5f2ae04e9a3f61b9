"""`gardien place`: dwellings, common areas and buildings, their ids and their aliases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.facts import Answer, command
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    DEFAULT_STATE,
    MOST_LABELS,
    RECORDED,
    WOULD_BE_RECORDED,
    Config,
    Json,
    State,
    as_json,
    ask,
    confirmed,
    day,
    show_ignored_columns,
    show_left_out,
    table,
    unchanged,
    wrapped,
)
from agent.core.errors import AgentError, Refused
from agent.core.i18n import N_, _, language, n_, text_of
from agent.registry.facts import alias, place
from agent.registry.place import PLACES, agrees, looks_like_id, parse, shown, squeeze

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

app = typer.Typer(
    no_args_is_help=True, help="Record places: dwellings, common areas and buildings."
)
aliases = typer.Typer(
    no_args_is_help=True,
    help="Record aliases: the names that other systems use for places (PRM, lot, …).",
)


app.add_typer(aliases, name="alias")


def _show(answer: Answer, _args: Answer | None = None) -> None:
    recorded = [place.described(p, language()) for p in answer["places"]]
    # a column in which no place has a value would take room from the others
    titles = list(dict.fromkeys(title for values in recorded for title in values))
    rows = [
        (
            *(p["label"], p["shown"], _(p["type"]), _state(p), ", ".join(p["aliases"])),
            *(values.get(title, "") for title in titles),
        )
        for p, values in zip(answer["places"], recorded, strict=True)
    ]
    table((_("label"), _("id"), _("type"), _("state"), _("also called"), *titles), rows)


def _state(shown_place: dict[str, Any]) -> str:
    """Return whether a dwelling is occupied, vacant or unknown, and since when."""
    state, since = shown_place["occupancy_state"], shown_place["occupancy_state_since"]
    if state is None:
        return ""
    text = {"occupied": _("occupied"), "vacant": _("vacant"), "unknown": _("unknown")}[state]
    if since is not None:
        text = _("{state} since {day}", state=text, day=day(since))
    if later := shown_place["lived_in_from"]:
        text = _("{state}; occupied from {day}", state=text, day=day(later))
    return text


command(app, place.NEW)(_show)


@app.command()
def check(
    place: Annotated[str, typer.Argument(help="An id in any spelling, or a label.")],
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Show which place an id or a label names, and check the id's check characters.

    An id can be checked without a configuration. A label is known only on its own gateway.
    """
    answer, why = _looked_up(place, config, state)
    if json:
        as_json(answer)
        return
    label = answer["label"] or _("valid, but not of this building")
    known = label if answer["looked_up"] else _("valid by its check characters")
    typer.echo(f"{answer['shown']}  {_(answer['type'])}  {known}")
    if why:
        typer.echo(_("Its label is not known here: {why}", why=why), err=True)


def _looked_up(text: str, config: Path, state: Path | None) -> tuple[dict[str, Any], str]:
    """Return what an id or a label names, and why no registry was asked (empty: it was asked).

    Raises Refused for a label that no registry here has, and for an id that is wrong.
    """
    # on a machine that is not a gateway, the call would create the state directory
    named = state is not None or config != DEFAULT_CONFIG
    gateway = named or os.access(config, os.F_OK) or os.access(DEFAULT_STATE, os.F_OK)
    try:
        if not gateway:
            raise Refused("this machine is not a gateway")
        return ask(config, state, "place.check", text=text) | {"looked_up": True}, ""
    except AgentError as error:
        # an id can be checked without a registry, a label cannot
        if not agrees(squeeze(text)) and not looks_like_id(text):
            if gateway:
                raise
            raise Refused(
                '"{text}" is not an id, and labels are known only on their own gateway', text=text
            ) from error
        id_ = parse(text)
        answer = {"id": id_, "shown": shown(id_), "type": PLACES[id_[0]], "label": None}
        return answer | {"looked_up": False}, text_of(error)


def _confirm(args: Answer, call: Callable[..., Answer]) -> None:
    """Show what gardien makes of a list, and ask whether it is right."""
    if args["preview"] or args["reviewed"] or not os.isatty(0):
        return  # without a terminal, the call itself refuses
    answer = call(preview=True)
    if not (answer["left_out"] or answer["remarks"] or answer["labels_made_of"]):
        return
    _show_list(answer, preview=True)
    if not confirmed(_("Is this right? Record it?")):
        raise typer.Abort
    args["reviewed"] = True


@command(app, place.IMPORT, confirm=_confirm)
def _show_import(answer: Answer, args: Answer) -> None:
    _show_list(answer, preview=args["preview"])


def _show_list(answer: Answer, *, preview: bool, most: int | None = None) -> None:
    """Print what becomes of a list; `most`: how many of its places are shown."""
    if answer["places"]:
        _show(answer | {"places": answer["places"][:most]})
    done = N_("{many} would be recorded{unchanged}; the import creates their ids")
    lots = (
        _(" and {lots}", lots=n_("{number} lot", "{number} lots", answer["lots"]))
        if answer["lots"]
        else ""
    )
    many = n_("{number} place", "{number} places", len(answer["places"])) + lots
    typer.echo(_(done if preview else RECORDED, many=many, unchanged=unchanged(answer)))
    for type_, number in answer["not_taken"].items():
        typer.echo(
            _("not imported: {many} of type {value}", many=number, value=type_ or _("(empty)"))
        )
    if answer["labels_made_of"]:
        from agent.registry.recognition import MEANINGS

        columns = ", ".join(_(MEANINGS.get(one, one)) for one in answer["labels_made_of"])
        typer.echo(_("labels are made of the columns: {columns}", columns=columns))
    show_left_out(answer["left_out"])
    from agent.registry.remarks import REMARKS

    for why in dict.fromkeys(one["why"] for one in answer["remarks"]):
        labels = [one["label"] for one in answer["remarks"] if one["why"] == why]
        text = _(N_("{labels}: {what}"), labels=_listed(labels), what=_(REMARKS[why]))
        typer.echo(wrapped(text))
    show_ignored_columns(answer)


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:MOST_LABELS]) + " …" * (len(labels) > MOST_LABELS)


command(app, place.LIST)(_show)


def _show_aliases(answer: Answer, _args: Answer | None = None) -> None:
    rows = [
        (a["label"], a["said"], a["value"], a["note"], day(a["since"]), day(a["until"]))
        for a in answer["aliases"]
    ]
    table((_("place"), _("scheme"), _("value"), "", _("since"), _("until")), rows)


command(aliases, alias.ADD)(_show_aliases)


command(aliases, alias.END)(_show_aliases)


@command(aliases, alias.IMPORT)
def _show_imported_aliases(answer: Answer, args: Answer) -> None:
    if answer["aliases"]:
        _show_aliases(answer)
    many = n_("{number} name", "{number} names", len(answer["aliases"]))
    done = WOULD_BE_RECORDED if args["preview"] else RECORDED
    typer.echo(_(done, many=many, unchanged=unchanged(answer)))
    show_left_out(answer["left_out"])
    show_ignored_columns(answer)


command(aliases, alias.LIST)(_show_aliases)
