"""Commands that follow from the declaration of a fact: options in, one call, and its answer out."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, As, Config, Json, State, as_json, ask, text_of
from agent.registry.facts.declaration import REQUIRED, UNSET, Kind

if TYPE_CHECKING:
    from agent.registry.facts.declaration import FactCommand, Field

Answer = dict[str, Any]
Show = Callable[[Answer, dict[str, Any]], None]
"""prints an answer for people; the arguments of the call are the second argument"""
Prepare = Callable[[dict[str, Any], Path, Path | None], None]
"""completes the arguments of a call, with the configuration and the state of the gateway"""
Confirm = Callable[[dict[str, Any], Callable[..., Answer]], None]
"""asks a person, with the arguments of the call and a function that makes it with others"""
Sheet = Annotated[
    str | None, typer.Option(help="The sheet of a workbook; default: the one with the list.")
]


def command(
    app: typer.Typer,
    declared: FactCommand,
    prepare: Prepare | None = None,
    confirm: Confirm | None = None,
) -> Callable[[Show], Show]:
    """Add a command to its group. The function shows the answer to people."""

    def add(show: Show) -> Show:
        def run(
            *, config: Path, state: Path | None, json: bool, as_: str | None = None, **typed: Any
        ) -> None:
            args = arguments(declared, typed)
            if prepare is not None:
                prepare(args, config, state)
            by = {"named": as_} if declared.changes else {}
            if confirm is not None and not json:
                confirm(args, lambda **more: ask(config, state, declared.call, **by, **args | more))
            answer = ask(config, state, declared.call, **by, **args)
            as_json(answer) if json else show(answer, args)

        options = [_parameter(field) for field in declared.fields]
        if any(field.kind is Kind.FILE for field in declared.fields):
            options.append(_keyword("sheet", Sheet, None))
        if declared.changes:
            options.append(_keyword("as_", As, None))
        options += [
            _keyword("config", Config, DEFAULT_CONFIG),
            _keyword("state", State, None),
            _keyword("json", Json, default=False),
        ]
        run.__signature__ = Signature(options)  # type: ignore[attr-defined]
        run.__annotations__ = {option.name: option.annotation for option in options}
        app.command(declared.name, help=declared.help)(run)
        return show

    return add


def arguments(declared: FactCommand, typed: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call, by what was typed. Raises Refused if a file cannot be read."""
    args: dict[str, Any] = {}
    for field in declared.fields:
        value = typed[field.option or field.name]
        if field.kind is Kind.FILE:
            sheet = typed.get("sheet") or ""
            text = text_of(value, field.headings, sheet) if value else None
            args |= {"text": text, "name": str(value or "")}
        elif field.kind is Kind.FLAG:
            args[field.name] = value is not field.default
        else:
            args[field.name] = (value or []) if field.repeated else value
    return args


def _parameter(field: Field) -> Parameter:
    """The option or argument of a field, as typer reads it."""
    name = field.option or field.name
    default = field.default if field.assumed is UNSET else field.assumed
    if field.kind is Kind.FLAG:
        default = False
    shown: dict[str, Any] = {"help": field.help, "metavar": field.metavar}
    # a default is shown only if it says something
    shown["show_default"] = bool(default) and default is not REQUIRED
    type_: Any = {Kind.FILE: Path, Kind.FLAG: bool}.get(field.kind, str)
    type_ = list[str] if field.repeated else type_
    # typer would add --no-… to a flag without a name of its own
    names = [f"--{name}"] if field.kind is Kind.FLAG else []
    info = typer.Argument(**shown) if field.argument else typer.Option(*names, **shown)
    return _keyword(name, Annotated[type_ if default is not None else type_ | None, info], default)


def _keyword(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
