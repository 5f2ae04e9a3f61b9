"""`gardien batch`: what stands in a batch that was delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.terminal import Json, as_json, plural, table

app = typer.Typer(no_args_is_help=True, help="Look into a batch that was delivered.")
SHOWN = 50
"""rows that are printed for people"""


@app.callback()
def _group() -> None:
    """Keep `open` a word of its own though it stands alone."""


@app.command("open")
def open_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As it was delivered.")],
    key: Annotated[Path | None, typer.Option(help="The reader's private key (PEM).")] = None,
    cert: Annotated[Path | None, typer.Option(help="The certificate of that key.")] = None,
    ca: Annotated[Path | None, typer.Option(help="The CA of the gateways' certificates.")] = None,
    json: Json = False,
) -> None:
    """Open a delivered file or payload, see who signed it, and show its rows.

    A closed file (.p7m) wants --key, --cert and --ca. Exit status 1 if it does not open, or is not
    of the gateway that it says.
    """
    from agent.uplink.open_batch import OpeningKeys, unsealed

    given = [key, cert, ca]
    if any(given) and not all(given):
        typer.echo("gardien: say all of --key, --cert and --ca", err=True)
        raise typer.Exit(2)
    found = unsealed(file, OpeningKeys(key, cert, ca) if key and cert and ca else None)
    if json:
        as_json({"batch": found.batch, "signer": found.signer, "rows": found.rows,
                 "document": found.document})  # fmt: skip
        return
    typer.echo(f"batch {found.batch}")
    typer.echo(f"signed by {found.signer}" if found.signer else "signed by nobody")
    if found.document is not None and not found.rows:
        members = ("directory", "retract", "void")
        typer.echo(f"no rows: {', '.join(m for m in members if found.document.get(m)) or 'empty'}")
        return
    columns = ("place", "channel", "t_end", "value", "unit", "q")
    table(columns, [_line(row) for row in found.rows[:SHOWN]])
    if (more := len(found.rows) - SHOWN) > 0:
        typer.echo(f"and {plural(more, 'row')} more: --json shows all")


def _line(row: dict[str, str]) -> tuple[str, ...]:
    """A row for people: where there is no value, why, and for how many slots."""
    run = f" ×{row['span']}" if row["span"] else ""
    value = row["value"] or f"{row['why']}{run}"
    return row["place"], row["channel"], row["t_end"], value, row["unit"], row["q"]
