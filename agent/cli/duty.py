"""`gardien duty`: duties, which entitle the building manager to indexes without a consent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    At,
    Config,
    Json,
    Since,
    State,
    as_json,
    ask,
    day,
    table,
)
from agent.core.i18n import _

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    no_args_is_help=True,
    help="Record duties: legal obligations for which the building manager receives indexes "
    "without consent, at each month's end and at 00:00 of a change of occupants or a billing day.",
)


def _show(duties: Sequence[dict[str, Any]]) -> None:
    rows = [
        (d["reference"], d["recipient"], ", ".join(d["channels"]), ", ".join(d["billing"]),
         day(d["since"]), "never" if d.get("never") else day(d["until"]))
        for d in duties
    ]  # fmt: skip
    table((_("reference"), _("manager"), _("channels"), _("billing"), _("since"), _("until")), rows)


@app.command()
def add(
    reference: Annotated[
        str, typer.Argument(help='The law or contract, such as "décret 2020-886".')
    ],
    recipient: Annotated[str, typer.Option(help="The building manager, by DNS name.")],
    channel: Annotated[
        list[str],
        typer.Option(help="A channel with an index, such as heat or cw; may be repeated."),
    ],
    billing: Annotated[
        list[str] | None, typer.Option(help="A billing day, such as 06-30; may be repeated.")
    ] = None,
    since: Since = None,
    until: Annotated[str | None, typer.Option(help="End; default: none.")] = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record a duty."""
    fields = {"reference": reference, "recipient": recipient, "channels": channel}
    dates = {"billing": billing or [], "since": since, "until": until}
    answer = ask(config, state, "duty.add", named=as_, **fields, **dates)
    as_json(answer) if json else _show(answer["duties"])


@app.command()
def end(
    duty: Annotated[str, typer.Argument(help="The duty's reference or id.")],
    at: At = None,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record that a duty ends or has ended."""
    answer = ask(config, state, "duty.end", named=as_, duty=duty, at=at)
    as_json(answer) if json else _show(answer["duties"])


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List all duties."""
    answer = ask(config, state, "duty.list")
    as_json(answer) if json else _show(answer["duties"])
