"""`gardien batch`: the content of a delivered batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.terminal import Json, as_json, plural, table

app = typer.Typer(no_args_is_help=True, help="Open a delivered batch and show its content.")
SHOWN = 50
"""how many rows are printed without --json"""


@app.callback()
def _group() -> None:
    """Keep `open` a subcommand, although it is the only one."""


@app.command("open")
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
        typer.echo("gardien: give all of --key, --cert and --ca", err=True)
        raise typer.Exit(2)
    batch = unsealed(file, OpeningKeys(key, cert, ca) if key and cert and ca else None)
    if json:
        as_json({"batch": batch.batch, "signer": batch.signer, "rows": batch.rows,
                 "document": batch.document})  # fmt: skip
        return
    typer.echo(f"batch {batch.batch}")
    typer.echo(f"signed by {batch.signer}" if batch.signer else "not signed")
    if batch.document is not None and not batch.rows:
        members = ("directory", "retract", "void")
        typer.echo(f"no rows: {', '.join(m for m in members if batch.document.get(m)) or 'empty'}")
        return
    columns = ("place", "channel", "t_end", "value", "unit", "q")
    table(columns, [_line(row) for row in batch.rows[:SHOWN]])
    if (more := len(batch.rows) - SHOWN) > 0:
        typer.echo(f"and {plural(more, 'more row')}; all of them: --json")


def _line(row: dict[str, str]) -> tuple[str, ...]:
    """Return the cells of a row. Without a value: the reason, and for how many slots."""
    run = f" ×{row['span']}" if row["span"] else ""
    value = row["value"] or f"{row['why']}{run}"
    return row["place"], row["channel"], row["t_end"], value, row["unit"], row["q"]
