"""`gardien uplink` and `gardien batch`: uplinks, quarantined batches, and what a batch holds."""

from __future__ import annotations

import time
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
    confirmed,
    table,
    when,
    wrapped,
)
from agent.core.errors import Refused
from agent.core.i18n import _, n_

app = typer.Typer(
    no_args_is_help=True,
    help="Show uplinks, send quarantined batches again, and close an uplink.",
)

POLL_INTERVAL = 2.0
"""seconds between two calls for what still waits"""
batches = typer.Typer(no_args_is_help=True, help="Open a delivered batch and show its content.")
SHOWN = 50
"""how many rows are printed without --json"""


@app.command("list")
def listed(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List the uplinks and how many values wait, also for recipients whose uplink was removed."""
    answer = ask(config, state, "uplink.list")
    if json:
        as_json(answer)
        return
    for name, entry in answer["uplinks"].items():
        typer.echo(_("{name} delivers to {recipient}", name=name, recipient=entry["recipient"]))
    if answer["uplinks"]:
        table(
            (_("uplink"), _("transport"), _("connected"), _("last receipt"), _("waiting")),
            [_row(name, entry) for name, entry in answer["uplinks"].items()],
        )
    for name, entry in answer["uplinks"].items():
        if entry["closing"]:
            typer.echo(
                _(
                    "{name} is being closed: nothing new is stored for {recipient}",
                    name=name,
                    recipient=entry["recipient"],
                )
            )
        if entry["moved"]:
            typer.echo(_migration(name, entry["moved"]))
        if entry["receipt"] == "broker":
            typer.echo(
                _(
                    "{name}: receipts come from its broker, not from the recipient: weaker proof",
                    name=name,
                )
            )
    for recipient, waits in answer["left"].items():
        typer.echo(
            _(
                "! {values} waiting for {recipient}, which has no uplink. Configure the uplink"
                " again, or destroy the values: gardien uplink close {recipient} --drop",
                values=n_("{number} value", "{number} values", waits),
                recipient=recipient,
            )
        )


@app.command()
def close(
    name: Annotated[
        str, typer.Argument(help="The uplink, or a recipient whose uplink was removed.")
    ],
    drain: Annotated[
        bool,
        typer.Option(
            "--drain", help="Deliver all stored values first; the command ends when this is done."
        ),
    ] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Destroy all stored values.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Skip confirmation.")] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Stop collecting for a recipient, before you remove its uplink from the configuration.

    No new readings are stored for it, even after a restart, until its uplink is removed.
    """
    if drain == drop:
        raise typer.BadParameter(
            _("give --drain (deliver waiting values) or --drop (destroy them)")
        )
    question = _("Destroy all values that wait for {name}? This cannot be undone", name=name)
    if drop and not yes and not confirmed(question):
        raise typer.Abort
    how = "drop" if drop else "drain"
    answer = ask(config, state, "uplink.close", named=named, name=name, how=how)
    if drain:
        _until_empty(config, state, name, answer)
        # the answer is from before the wait
        answer["waits"] = answer["retractions"] = 0
    if json:
        as_json(answer)
        return
    if answer["dropped"]:
        typer.echo(
            _(
                "{values} destroyed",
                values=n_("{number} value", "{number} values", answer["dropped"]),
            )
        )
    typer.echo(
        _(
            "nothing waits. Remove uplinks.{name} from the configuration, then: gardien reload",
            name=name,
        )
    )


@app.command()
def retry(
    name: Annotated[str, typer.Argument(help="The uplink.")],
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Send quarantined batches again at once, and return to the configured batch size.

    The recipient has rejected these batches. Use this command after the cause is repaired: the
    platform, or the size limit of a proxy.
    """
    answer = ask(config, state, "uplink.retry", named=named, name=name)
    if json:
        as_json(answer)
        return
    if not answer["batches"]:
        typer.echo(
            _(
                "no batch of {name} is in quarantine; new batches are as large as configured",
                name=name,
            )
        )
        return
    when_sent = _("now") if answer["connected"] else _("once {name} is connected", name=name)
    number = answer["batches"]
    typer.echo(
        _(
            "{number} {value} sent again {when_sent}; see what is still in quarantine:"
            " gardien status",
            number=number,
            value=_("batch") if number == 1 else _("batches"),
            when_sent=when_sent,
        )
    )


@app.command()
def carry(
    name: Annotated[str, typer.Argument(help="The uplink.")],
    folder: Annotated[Path, typer.Argument(help="The USB stick, where it is mounted.")],
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Carry waiting readings on a USB stick, and settle those that were carried before.

    Reads receipts and signed objects that came back in FOLDER/GATEWAY/out, then writes what waits
    to FOLDER/GATEWAY/in, signed, and encrypted for the recipient. The platform reads the stick with
    gardien-receiver --files FOLDER, or from a copy. Batches wait here until their receipts come
    back, on the stick or over a network; nothing is stored twice.
    """
    from agent.cli.stick import Stick

    answer = Stick(config, state, name, named).carry(folder)
    if json:
        as_json(answer)
    for line in answer["objects_refused"] if not json else ():
        typer.echo(f"! {line}", err=True)
    if not json:
        _carried(answer, folder)
    if answer["problem"]:
        raise Refused(answer["problem"])


def _carried(answer: dict[str, Any], folder: Path) -> None:
    for line in answer["refused"]:
        typer.echo(_("! a receipt cannot be used: {line}", line=line), err=True)
    if answer["objects"]:
        number = answer["objects"]
        typer.echo(
            n_("{number} signed object accepted", "{number} signed objects accepted", number)
        )
    if answer["settled"]:
        number = answer["settled"]
        typer.echo(
            n_(
                "{number} batch is settled by its receipt",
                "{number} batches are settled by their receipts",
                number,
            )
        )
    if answer["written"]:
        values = n_("{number} value", "{number} values", answer["rows"])
        batches_ = n_("{number} batch", "{number} batches", answer["written"])
        typer.echo(wrapped(
            _(
                "{batches} with {values} for {recipient} are on the stick. Carry it to the"
                " platform, and bring it back: the same command then settles them. Before you pull"
                " it out: umount {folder}",
                batches=batches_, values=values, recipient=answer["recipient"], folder=folder,
            )
        ))  # fmt: skip
    elif not answer["problem"]:
        typer.echo(_("nothing waits for {recipient}", recipient=answer["recipient"]))
    if answer["left"]:
        values = n_("{number} value", "{number} values", answer["left"])
        why = (
            _("enough is on its way: carry these first")
            if answer["clock"]
            else _(
                "the time is not certain enough to decide what may be sent. Bring a signed time of"
                " the platform on the stick (docs/clock.md)"
            )
        )
        typer.echo(wrapped(_("! {values} stay here: {why}", values=values, why=why)))


def _migration(name: str, moved: dict[str, Any]) -> str:
    if moved["proved"]:
        return _(
            "{name} has moved to {to}: set its url in the configuration", name=name, to=moved["to"]
        )
    return _(
        "{name} will move to {to}, once that address has delivered a receipt",
        name=name,
        to=moved["to"],
    )


def _until_empty(config: Config, state: State, name: str, entry: dict[str, Any]) -> None:
    # waits without limit: who drains must not remove the uplink before all is delivered
    shown, hinted = "", False
    while waits := _waiting(entry):
        if waits != shown:
            typer.echo(_("{values} waiting for delivery", values=waits), err=True)
            shown = waits
        time.sleep(POLL_INTERVAL)
        entry = ask(config, state, "uplink.list")["uplinks"][name]
        if entry["quarantined"] and not hinted:
            hinted = True
            typer.echo(
                n_(
                    "{number} batch is refused by the platform, and waits for it. Once the platform"
                    " is repaired: gardien uplink retry {name}",
                    "{number} batches are refused by the platform, and wait for it. Once the"
                    " platform is repaired: gardien uplink retry {name}",
                    entry["quarantined"],
                    name=name,
                ),
                err=True,
            )


def _waiting(entry: dict[str, Any]) -> str:
    """What has no receipt: values, or else retractions. Empty: nothing."""
    if waits := entry["waits"]:
        return n_("{number} value", "{number} values", waits)
    if retractions := entry["retractions"]:
        return n_("{number} retraction", "{number} retractions", retractions)
    return ""


def _row(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    if "waits" not in entry:
        return name, entry["transport"], _("not running"), "–", "–"
    connected = _("yes") if entry["connected_since"] else _("no")
    return (
        name, entry["transport"], connected, when(entry["last_receipt"]),
        n_("{number} value", "{number} values", entry["waits"]),
    )  # fmt: skip


@batches.callback()
def _group() -> None:
    """Keep `open` a subcommand, although it is the only one."""


@batches.command("open")
def open_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The batch as it was delivered: the file, or the body of the message.",
        ),
    ],
    key: Annotated[Path | None, typer.Option(help="The recipient's private key (PEM).")] = None,
    cert: Annotated[Path | None, typer.Option(help="The certificate of that key.")] = None,
    ca: Annotated[
        Path | None, typer.Option(help="The CA that issues the gateways' certificates.")
    ] = None,
    json: Json = False,
) -> None:
    """Open a batch that was delivered as a file or a message body; show its signer and its rows.

    An encrypted file (.p7m) needs --key, --cert and --ca. Exit status 1 if it cannot be opened, or
    if it was not signed by the gateway that it names.
    """
    from agent.uplink.files.container import OpeningKeys, unsealed

    given = [key, cert, ca]
    # a file that is only decrypted would show rows that anybody may have written
    if any(given) and not all(given):
        typer.echo(_("gardien: give all of --key, --cert and --ca"), err=True)
        raise typer.Exit(2)
    batch = unsealed(file, OpeningKeys(key, cert, ca) if key and cert and ca else None)
    if json:
        as_json({"batch": batch.batch, "signer": batch.signer, "rows": batch.rows,
                 "document": batch.document})  # fmt: skip
        return
    typer.echo(_("batch {batch}", batch=batch.batch))
    typer.echo(_("signed by {signer}", signer=batch.signer) if batch.signer else _("not signed"))
    if batch.document is not None and not batch.rows:
        members = ("directory", "retract", "void")
        typer.echo(
            _(
                "no rows: {value}",
                value=", ".join(m for m in members if batch.document.get(m)) or _("empty"),
            )
        )
        return
    columns = ("place", "channel", "t_end", "value", "unit", "q")
    table(columns, [_line(row) for row in batch.rows[:SHOWN]])
    if (more := len(batch.rows) - SHOWN) > 0:
        typer.echo(
            _(
                "and {more_rows}; all of them: --json",
                more_rows=n_("{number} more row", "{number} more rows", more),
            )
        )


def _line(row: dict[str, str]) -> tuple[str, ...]:
    """Return the cells of a row. Without a value: the reason, and for how many slots."""
    run = f" ×{row['span']}" if row["span"] else ""
    value = row["value"] or f"{row['why']}{run}"
    return row["place"], row["channel"], row["t_end"], value, row["unit"], row["q"]
