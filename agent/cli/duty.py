"""`gardien duty`: duties, which entitle the building manager to indexes without a consent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from agent.cli.facts import Answer, command
from agent.cli.terminal import day, table
from agent.core.i18n import _
from agent.registry.facts import duty

if TYPE_CHECKING:
    pass

app = typer.Typer(
    no_args_is_help=True,
    help="Record duties: legal obligations for which the building manager receives indexes "
    "without consent, at each month's end and at 00:00 of a change of occupants or a billing day.",
)


def _show(answer: Answer, _args: Answer | None = None) -> None:
    rows = [
        (d["reference"], d["recipient"], ", ".join(d["channels"]), ", ".join(d["billing"]),
         day(d["since"]), "never" if d.get("never") else day(d["until"]))
        for d in answer["duties"]
    ]  # fmt: skip
    table((_("reference"), _("manager"), _("channels"), _("billing"), _("since"), _("until")), rows)


command(app, duty.ADD)(_show)
command(app, duty.END)(_show)
command(app, duty.LIST)(_show)
