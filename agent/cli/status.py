"""`gardien status`: how the running agent is."""

from __future__ import annotations

from typing import Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    Config,
    Json,
    State,
    as_json,
    plural,
    state_of,
    table,
    when,
)


def status(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Say how lines, devices and uplinks are; exit status 1 if somebody must look.

    It asks the daemon and does not load the configuration, which may be broken.
    """
    from agent.local import ask_daemon

    folder = state_of(config, state)
    answer = ask_daemon(folder, "status", {}, lambda _: None)
    if answer is None:
        typer.echo(f"gardien is not running on {folder}: `gardien run` starts it", err=True)
        raise typer.Exit(1)
    as_json(answer) if json else _show(answer)
    raise typer.Exit(1 if _worries(answer) else 0)


def _worries(answer: dict[str, Any]) -> list[str]:
    """What somebody must look at, a sentence each."""
    said = [f"readings wait to be dated: {why}"] if (why := answer["clock_said"]) else []
    for name, link in answer["links"].items():
        if not link["open"]:
            said.append(f"line {name} is down: {link['error']}")
        elif link["silent"]:
            said.append(f"line {name}: {plural(link['silent'], 'device')} silent")
        if worry := link["health"].get("worry"):
            said.append(f"line {name}: {worry}")
    for name, uplink in answer["uplinks"].items():
        delivery, backlog = uplink["delivery"], uplink["backlog"]
        if not delivery["connected_since"]:
            said.append(f"uplink {name} is not connected")
        if delivery["alarm"]:
            said.append(f"uplink {name}: {delivery['alarm']}")
        if backlog["quarantined"]:
            said.append(f"uplink {name}: {backlog['quarantined']} batches refused")
        if uplink["shed_rows"]:
            said.append(f"uplink {name}: {plural(uplink['shed_rows'], 'value')} dropped for space")
    return said


def _show(answer: dict[str, Any]) -> None:
    typer.echo(
        f"{answer['building']}  gateway {answer['gateway']}  {answer['version']}\n"
        f"running since {when(answer['started'])}, clock {answer['clock']}"
    )
    for name, one in answer["uplinks"].items():
        typer.echo(f"uplink {name} delivers to {one['recipient']}")
    if answer["uplinks"]:
        table(
            ("uplink", "connected", "last receipt", "waiting", "in batches", "held back"),
            [_uplink_row(name, one) for name, one in answer["uplinks"].items()],
        )
    if answer["devices"]:
        table(
            ("line", "device", "place", "serial", "last answer", "state"),
            [_device_row(name, one) for name, one in answer["devices"].items()],
        )
    for name, link in answer["links"].items():
        if words := link["health"].get("words"):
            typer.echo(f"line {name}: {words}")
    for sentence in _worries(answer):
        typer.echo(f"! {sentence}")


def _uplink_row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    delivery, backlog = one["delivery"], one["backlog"]
    return (
        name,
        "yes" if delivery["connected_since"] else "no",
        when(delivery["last_receipt"]),
        f"{plural(backlog['slots'], 'value')}",
        str(backlog["batches"]),
        plural(one["held_devices"], "device"),
    )


def _device_row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    if one["failures"]:
        state = f"silent, asked again in {one['rests_s']} s"
    elif one["held"]:
        state = "; ".join(sorted(set(one["held"].values())))
    else:
        state = one["said"] or ("fine" if one["answered"] else "not asked yet")
        if one["answer_ms"] and state == "fine":
            state = f"fine, {one['answer_ms']:.0f} ms"
    return (
        one["link"], name, one["place"] or "–", one["serial"] or "–", when(one["answered"]), state
    )  # fmt: skip
