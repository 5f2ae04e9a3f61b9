"""`gardien control witness|confirm`: the vote of an assembly, recorded by two people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, Json, State, as_json, ask, when


def add_to(app: typer.Typer) -> None:
    """Add the commands to their group."""
    app.command("witness")(witness)
    app.command("confirm")(confirm)


def witness(
    to: Annotated[str, typer.Option(help="Who may send orders: the name in the trust list.")],
    asset: Annotated[
        list[str], typer.Option(help="A control by name, or kind:heating; may be repeated.")
    ],
    act: Annotated[
        list[str], typer.Option(help="offset, setpoint, pause, mode or limit; may be repeated.")
    ],
    ref: Annotated[str, typer.Option(help="The resolution: AG du 12 mai 2026, résolution 14.")],
    date: Annotated[str, typer.Option(help="The date of the vote: 2026-05-12.")],
    result: Annotated[str, typer.Option(help="The result: 61 for, 12 against, 4 abstained.")],
    majority: Annotated[str, typer.Option(help="The majority rule: article 25.")],
    minutes: Annotated[Path, typer.Option(help="The minutes; only their SHA-256 is stored.")],
    least: Annotated[str | None, typer.Option("--min", help="The smallest value.")] = None,
    most: Annotated[str | None, typer.Option("--max", help="The largest value.")] = None,
    unit: Annotated[str | None, typer.Option(help="The unit of --min and --max: K, kW, A.")] = None,
    max_dur: Annotated[
        str | None, typer.Option(help="The maximum duration of an order: PT2H.")
    ] = None,
    min_gap: Annotated[
        str | None, typer.Option(help="The minimum pause between two orders: PT2H.")
    ] = None,
    max_day: Annotated[
        int | None, typer.Option(help="The maximum number of orders in a day.")
    ] = None,
    max_time_day: Annotated[
        str | None, typer.Option(help="The maximum total time in a day: PT4H.")
    ] = None,
    notice: Annotated[
        str | None, typer.Option(help="The minimum notice before an order begins: PT10M.")
    ] = None,
    window: Annotated[
        list[str] | None, typer.Option(help="Allowed hours: Mon-Fri 06:00-22:00; may be repeated.")
    ] = None,
    season: Annotated[str | None, typer.Option(help="Allowed dates: 10-15..04-15.")] = None,
    begins: Annotated[
        str | None, typer.Option(help="Start: 2026-07-12T00:00:00Z; default: now.")
    ] = None,
    days: Annotated[int, typer.Option(help="For how many days it is valid; at most 744.")] = 365,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Record the vote of an assembly that has no key; a second person must confirm it.

    Prints a code. Give it on paper, with the minutes, to the president of the residents' council.
    Works only with `trust: {witnessed: true}` in the configuration.
    """
    import hashlib

    from agent.cli.sign_objects import DAY, bytes_of, moment, number

    lim = {
        "min": _plain(number(least)), "max": _plain(number(most)), "unit": unit,
        "max_dur": max_dur, "min_gap": min_gap, "max_day": max_day, "max_time_day": max_time_day,
        "notice": notice, "windows": window or None, "season": season,
    }  # fmt: skip
    nbf = moment(begins)
    grant = {
        "sub": to, "nbf": nbf, "exp": nbf + days * DAY,
        "scope": {"assets": asset, "acts": act},
        "lim": {name: value for name, value in lim.items() if value is not None},
        "evid": {
            "kind": "vote", "ref": ref, "date": date, "result": result, "majority": majority,
            # hashed here: the minutes themselves are not sent to the agent
            "sha256": hashlib.sha256(bytes_of(minutes)).hexdigest(),
        },
    }  # fmt: skip
    answer = ask(config, state, "control.witness", grant=grant)
    if json:
        as_json(answer)
        return
    _show(answer)
    typer.echo(
        f"\nFor the president of the residents' council, on paper, until {when(answer['until'])}:"
    )
    typer.echo(f"\n    gardien control confirm {answer['code']}\n")
    typer.echo(
        "The gateway signs the grant when another account than this one has run this command."
    )


def confirm(
    code: Annotated[str, typer.Argument(help="The code on the paper.")],
    yes: Annotated[bool, typer.Option("--yes", help="Skip confirmation.")] = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Confirm the vote of an assembly that somebody else has recorded. Compare it with the minutes.

    The code can be used once. The gateway then signs a grant, as a witness of this vote.
    """
    if not json:
        _show(ask(config, state, "control.vote", code=code))
    if not yes and not typer.confirm("\nIs this what the assembly voted?"):
        raise typer.Exit(1)
    answer = ask(config, state, "control.confirm", code=code)
    as_json(answer) if json else typer.echo(
        f"confirmed: the gateway has signed the grant {answer['jti']}"
    )


def _show(vote: dict[str, Any]) -> None:
    scope, lim, evid = vote["scope"], vote["lim"], vote["evid"]
    fields = {
        "vote": f"{evid['ref']}, of {evid['date']}",
        "result": f"{evid['result']}; {evid['majority']}",
        "sha256": evid["sha256"],
        "to": vote["sub"],
        "what": f"{', '.join(scope['acts'])} of {', '.join(scope['assets'])}",
        "limits": ", ".join(f"{name} {_listed(value)}" for name, value in lim.items()) or "none",
        "valid": f"{when(vote['from'])} to {when(vote['to'])}",
        "recorded": f"by {vote['by']}",
    }
    for name, text in fields.items():
        typer.echo(f"{name:9} {text}")


def _listed(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int) else float(value)
