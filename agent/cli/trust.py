"""`gardien trust`, `object` and `audit`: whose signatures count, and what was decided.

Signed objects can be accepted by hand. The audit chain is the record of all decisions.
"""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    state_of,
    table,
    unchanged,
    when,
    wrapped,
)
from agent.core.errors import Refused
from agent.core.i18n import N_, Text, _, in_language, n_
from agent.core.quantities import spoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

app = typer.Typer(
    no_args_is_help=True, help="Show and accept the trust list: whose signatures are valid here."
)
objects = typer.Typer(
    no_args_is_help=True,
    help="Submit signed objects by hand: consents, moves in and out, grants, orders.",
)


audit = typer.Typer(
    no_args_is_help=True, help="Verify and list the audit chain, the record of all decisions."
)

NOT_YOURS = N_(
    "this account may not read {folder}, and the agent, which could verify the chain, is not"
    " running: sudo gardien audit verify"
)


@app.command()
def show(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Show the trust list in force, and the audience (`aud`) of this gateway for orders."""
    answer = ask(config, state, "trust.show")
    if json:
        as_json(answer)
        return
    typer.echo(_("audience (aud) for orders: {audience}", audience=answer["audience"]))
    if not answer["list"]:
        typer.echo(_("no trust list yet, so no signature is valid: gardien trust accept FILE"))
        raise typer.Exit(1)
    _show_list(answer["list"])
    if answer["alarm"]:
        typer.echo(answer["alarm"], err=True)


@app.command()
def accept(
    file: Annotated[Path, typer.Argument(help="A trust list that its roots have signed.")],
    sha256: Annotated[
        str | None,
        typer.Option(help="The SHA-256 of the list that you compared; skips the question."),
    ] = None,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Accept a trust list.

    For the first list, compare its root keys with those that their owners tell you.

    Exit status 1 if it was not accepted.
    """
    try:
        answer = _accepted(file, sha256, named, (config, state), json=json)
    except Refused as error:
        if not json:
            # some refusals name the file already
            why = _without(file, error)
            raise Refused("{file}: not accepted: {why}", file=file, why=why) from error
        as_json({"accepted": False, "refused": str(error)})
        raise typer.Exit(1) from None
    if json:
        as_json(answer | {"accepted": True})
    elif answer.get("again"):
        typer.echo(_("version {ver} is in force already; nothing was changed", ver=answer["ver"]))
    else:
        typer.echo(_("accepted: version {ver} is in force", ver=answer["ver"]))


def _accepted(
    file: Path, sha256: str | None, named: str | None, at: tuple[Path, Path | None], *, json: bool
) -> dict[str, Any]:
    """Show a list and accept it; return the answer of `trust.accept`. Raises Refused."""
    text = signed_text(file)
    preview = ask(*at, "trust.look", text=text)
    if not json:
        typer.echo(f"{file}:")
        _show_list(preview)
    if sha256 is not None and sha256 != preview["sha256"]:
        raise Refused(
            "the file is not the list that was compared; its SHA-256: {sha256}",
            sha256=preview["sha256"],
        )
    # a later list is signed by roots that are trusted already
    if preview["first"] and sha256 is None:
        sha256 = _confirmed_roots(preview, may_ask=not json and sys.stdin.isatty())
    return ask(*at, "trust.accept", text=text, sha256=sha256, named=named)


def _confirmed_roots(preview: dict[str, Any], *, may_ask: bool) -> str:
    """Have a person confirm the root keys; return the list's SHA-256. Raises Refused."""
    if not may_ask:
        raise Refused(
            "for the first trust list, a person must compare the root keys with their"
            " owners. Then: gardien trust accept FILE --sha256 {sha256}",
            sha256=preview["sha256"],
        )
    typer.echo(
        _(
            "\nThis is the first trust list here. The owners of its root keys decide whose\n"
            "orders this gateway obeys. Ask each owner, by telephone or on paper, for their\n"
            "root key, and compare every character."
        )
    )
    if not confirmed(_("Do all root keys agree with what their owners say?")):
        raise Refused("its root keys do not agree with what their owners say")
    return str(preview["sha256"])


def _show_list(trust_list: dict[str, Any]) -> None:
    roots = [member for member in trust_list["members"] if member["role"] == "root"]
    text = _(
        "trust list version {ver} by {by}, valid until {expires}; a change needs"
        " {threshold} of {roots}",
        ver=trust_list["ver"],
        by=trust_list["by"],
        expires=when(trust_list["expires"]),
        threshold=trust_list["threshold"],
        roots=n_("{number} root", "{number} roots", len(roots)),
    )
    typer.echo(wrapped(text))
    signed = trust_list.get("signed")
    for root in roots:
        mark = _("  signed") if signed and root["kid"] in signed else _("  not signed")
        mark = "" if signed is None else mark
        typer.echo(_("  root {name}: {kid}{mark}", name=root["name"], kid=root["kid"], mark=mark))
    table((_("name"), _("role"), _("valid until"), _("only for")), _rows(trust_list["members"]))
    show_left_out(trust_list["left_out"])


def _rows(members: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    from agent.control.decide import role_name

    return [
        (
            member["name"],
            in_language(role_name(member["role"])),
            when(member["until"]) if member["counts"] else _("not valid"),
            _restrictions(member["scope"]),
        )
        for member in members
        if member["role"] != "root"
    ]


def _restrictions(scope: dict[str, list[str] | None]) -> str:
    parts = [
        ", ".join(members) or _("nothing") for members in scope.values() if members is not None
    ]
    return "; ".join(parts)


def signed_text(file: Path) -> str:
    """Return the text of a file with a signed object. Raises Refused."""
    try:
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise Refused("{file}: {reason}", file=file, reason=error) from error
    except UnicodeDecodeError:
        reason = Text("not a signed object, because it is not text")
        raise Refused("{file}: {reason}", file=file, reason=reason) from None


def grants(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """Show the grants: who authorized whom to adjust what, by which vote or contract.

    Each line says whether the grant is valid.
    """
    entries = ask(config, state, "control.grants")["grants"]
    if json:
        as_json(entries)
        return
    for grant_ in entries:
        for line in _lines(grant_):
            typer.echo(wrapped(line))
    if not entries:
        typer.echo(_("no grant has arrived yet, so no order is accepted"))


def _lines(grant_: dict[str, Any]) -> Iterator[str]:
    from agent.control.decide import role_name
    from agent.control.history import evidence_text

    how = (
        _("valid until {until}", until=when(grant_["until"])) if grant_["stands"] else grant_["why"]
    )
    yield _("{who} ({role}): {how}", who=grant_["by"], role=role_name(grant_["role"]), how=how)
    bounds = [value for value in (grant_["min"], grant_["max"]) if value is not None]
    span = "".join(bounds)
    if len(bounds) > 1:
        span = _("{least} to {most}", least=bounds[0], most=bounds[1])
    within = f", {span} {spoken(grant_['unit'] or '')}".rstrip() if span else ""
    acts, assets = ", ".join(grant_["acts"]), ", ".join(grant_["assets"])
    yield _(
        "    {to} may {acts} {assets}{within}",
        to=grant_["to"],
        acts=acts,
        assets=assets,
        within=within,
    )
    yield _("    authorized by the {evidence}", evidence=evidence_text(grant_["evidence"]))
    yield _("    id (jti) {jti}", jti=grant_["jti"])
    # a trust list without the key does not end the grant: only a revocation does
    if grant_["stands"] and not grant_["listed"]:
        yield _(
            "    its key is no longer in the trust list; the grant is valid until it is revoked"
        )


def show_left_out(keys: list[dict[str, Any]]) -> None:
    """Print the keys that a trust list no longer has, and how many of their grants stay valid."""
    from agent.control.decide import role_name

    for key in keys:
        count = key["grants"]
        whose = f"{key['name']} ({in_language(role_name(key['role']))})"
        valid = (
            _("its {count} grants stay valid", count=count)
            if count > 1
            else _("its one grant stays valid")
        )
        typer.echo(
            _(
                "a key of {whose} is not in the list, but {valid}. Show them: gardien control"
                " grants. End them: gardien sign revoke --kid {kid}",
                whose=whose,
                valid=valid,
                kid=key["kid"],
            )
        )


@objects.command("accept")
def accept_object(
    files: Annotated[list[Path], typer.Argument(help="Signed objects, such as from a USB stick.")],
    preview: Annotated[
        bool, typer.Option("--preview", help="For a place map: only show what it would change.")
    ] = False,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Submit signed objects, one after the other. A copy of an object has no further effect.

    Exit status 1 if an object was refused or waits, or if a control refused an order. With
    --preview nothing is accepted, and the exit status is 1 if an object would be refused.
    """
    from agent.core.errors import Refused

    call, more = ("object.preview", {}) if preview else ("object.accept", {"named": named})
    answers: list[dict[str, Any]] = []
    for file in files:
        # one refused object must not keep back the others
        try:
            answer = ask(config, state, call, text=signed_text(file), **more)
        except Refused as error:
            # `signed_text` names the file, and so does the line that is printed
            answer = {"accepted": False, "refused": _without(file, error)}
        answers.append({"file": str(file)} | answer)
        if not json:
            _show(file, answer, preview=preview)
    if json:
        as_json(answers)
    # a preview that finds no fault has no member `accepted`
    raise typer.Exit(1 if any(not answer.get("accepted", preview) for answer in answers) else 0)


def _without(file: Path, error: Refused) -> Text:
    """Return what a refusal says, without the name of the file in front."""
    if error.text.values.get("file") == str(file):
        return Text("{reason}", reason=error.text.values["reason"])
    return error.text


def _show(file: Path, answer: dict[str, Any], *, preview: bool) -> None:
    if refused := answer.get("refused"):
        line = _("{file}: not accepted: {why}", file=file, why=refused)
        if preview:
            line = _("{file}: would not be accepted: {refused}", file=file, refused=refused)
        typer.echo(wrapped(line), err=True)
    elif preview:
        typer.echo(_("{file}: {answer}", file=file, answer=_changes(answer)))
        for what, names in (
            ("places", ("label", "id", "type")),
            ("names", ("place", "scheme", "value")),
        ):
            if rows := [tuple(one[name] for name in names) for one in answer[what]]:
                table(names, rows)
    else:
        typer.echo(_("{file}: {answer}", file=file, answer=_answer_text(answer)))
        _show_matching(answer.get("report"))


def _changes(answer: dict[str, Any]) -> str:
    """Return what a place map would change, in one line."""
    if answer.get("again"):
        return _("accepted before: nothing would change")
    places, names = (
        n_("{number} place", "{number} places", len(answer["places"])),
        n_("{number} name", "{number} names", len(answer["names"])),
    )
    return _(
        "{places} and {names} would be recorded{unchanged}; nothing was changed",
        places=places,
        names=names,
        unchanged=unchanged(answer),
    )


def _show_matching(report: dict[str, Any] | None) -> None:
    """Print how places and meters match, after a place map."""
    if report is None:
        return
    typer.echo(_("places with a meter: {mapped}", mapped=report["mapped"]))
    for name, key in (
        (_("dwellings without a meter"), "places_without_meter"),
        (_("meters without a place"), "meters_without_place"),
    ):
        if entries := report[key]:
            typer.echo(f"{name}: {len(entries)}")
            typer.echo("\n".join(f"  {one}" for one in entries))
    if report["more"]:
        typer.echo(_("and {more} more", more=report["more"]))


def _answer_text(answer: dict[str, Any]) -> str:
    orders = [
        "\n    " + _("{name}: {outcome}", name=name, outcome=_target_outcome(one))
        for name, one in answer.get("targets", {}).items()
    ]
    unknown = [
        _("\n    this gateway has no grant {name}", name=one) for one in answer.get("unknown", ())
    ]
    text = _("{type}: {outcome}", type=answer["typ"], outcome=_outcome(answer))
    return f"{text}{''.join([*orders, *unknown])}"


def _outcome(answer: dict[str, Any]) -> str:
    """Return whether an object was accepted, in words; for a repeated object, the first outcome."""
    outcome, why = str(answer["outcome"]), in_language(answer["outcome"])
    targets = answer.get("targets", {}).values()
    if answer["accepted"]:
        text = why
    elif targets:
        refused = sum("code" in target for target in targets)
        text = _(
            "not accepted by {refused} of {controls}, so nothing was written there",
            refused=refused,
            controls=n_("{number} control", "{number} controls", len(targets)),
        )
    elif answer.get("revoked") is True:
        text = _("not accepted: it was revoked before it arrived")
    elif outcome.startswith("waits"):
        text = _(
            "not accepted yet: it {outcome}. Show what waits: gardien object list", outcome=why
        )
    else:
        text = _("not accepted: {outcome}", outcome=why)
    return (
        _("arrived before, nothing was changed; then: {text}", text=text)
        if answer.get("again")
        else text
    )


def _target_outcome(target: dict[str, Any]) -> str:
    """Return the outcome of an order at one control."""
    if "code" in target:
        sentences = [in_language(target[one]) for one in ("words", "next") if target.get(one)]
        first, *more = sentences or [_("no reason is given")]
        refused = _("refused: {reason} ({code})", reason=first, code=target["code"])
        return ". ".join([refused, *more])
    if "begin" in target:
        return _("from {begin} to {end}", begin=when(target["begin"]), end=when(target["end"]))
    from agent.control.history import ENDS

    state = target["state"]
    return in_language(ENDS.get(state, Text(state.lower())))


@objects.command("check")
def check_object(
    files: Annotated[list[Path], typer.Argument(help="Signed objects, and trust lists.")],
    trust: Annotated[
        Path | None, typer.Option(help="A trust list: whose keys may sign what.")
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="A public key (NAME.pub) that may have signed; may be repeated."),
    ] = None,
    aud: Annotated[
        str | None, typer.Option(help="The audience of the gateway (gardien trust show).")
    ] = None,
    json: Json = False,
) -> None:
    """Check signed objects without a gateway: form, dates, audience, signature, and what they do.

    Nothing is submitted. It states what it could not check. Exit status 1 if an object would be
    refused.
    """
    from agent.cli.object_check import checked, show

    reports = [checked(file, trust, key or [], aud) for file in files]
    if json:
        as_json([report.document() for report in reports])
    else:
        for report in reports:
            show(report)
    raise typer.Exit(1 if any(report.wrong for report in reports) else 0)


@objects.command("all-came")
def all_came(
    named: As = None, config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False
) -> None:
    """Confirm after a restore that you have entered all later withdrawals, revocations, moves out.

    Until then, nothing is sent before each platform has stated that it has sent everything, or has
    been connected for ten minutes.
    """
    answer = ask(config, state, "object.all_came", named=named)
    if json:
        as_json(answer)
    else:
        since = answer["made"] or _("the backup")
        typer.echo(_("recorded: everything since {since} has been entered", since=since))


@objects.command("list")
def list_objects(config: Config = DEFAULT_CONFIG, state: State = None, json: Json = False) -> None:
    """List signed objects that wait, and those that failed because of an error in gardien.

    An object waits for a move in, a withdrawal or a trusted clock.
    """
    answer = ask(config, state, "object.list")
    if json:
        as_json(answer)
        return
    if not answer["waiting"]:
        typer.echo(_("no signed object waits"))
    else:
        rows = [
            (one["typ"], one["jti"], when(one["since"]), in_language(one["why"]))
            for one in answer["waiting"]
        ]
        table((_("kind"), _("id (jti)"), _("since"), _("reason")), rows)
    # a daemon of an earlier version does not send this member
    if failed := answer.get("set_aside"):
        typer.echo(
            _(
                "These objects were set aside because of an error in gardien, and are not tried"
                " again. Report the error with these lines. Once a new version fixes it: gardien"
                " object accept FILE"
            )
        )
        rows = [(one["sha256"], when(one["since"]), one["via"], one["error"]) for one in failed]
        table((_("sha256"), _("since"), _("arrived by"), _("error")), rows)


@audit.command()
def verify(
    place: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PATH]",
            help="A copy of the folder `audit`, or of a file in it; default: this gateway's.",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--hash", help="The hash in a batch's member `audit`; it must be in the chain."
        ),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Verify that no record of the chain was changed or removed. Works without a network.

    If this account may not read the files, the running agent verifies them.
    """
    report = _verify_copy(place, batch) if place else _verify_state(state_of(config, state), batch)
    if json:
        as_json(report)
        return
    count = report["last"] - report["first"] + 1 if report["last"] else 0
    span = _(
        "{first} to {last}, since {begun}",
        first=report["first"],
        last=report["last"],
        begun=when(report["begun"]),
    )
    typer.echo(f"{n_('{number} record', '{number} records', count)}, {span}")
    typer.echo(_("the chain is intact; hash of the last record: {hash}", hash=report["hash"]))
    if report["torn"]:
        typer.echo(
            _(
                "{torn} bytes of an unfinished record follow, left by a power cut",
                torn=report["torn"],
            )
        )


def _verify_state(state: Path, batch: str | None) -> dict[str, Any]:
    from agent.core.errors import Refused
    from agent.local import ask_daemon
    from agent.trust.audit import FOLDER, verification_report

    try:
        # in this process if it may read the files: it needs no agent, and works while none runs
        return verification_report(state / FOLDER, batch)
    except PermissionError:
        answer = ask_daemon(state, "audit.verify", {"hash": batch}, lambda _: None)
    if answer is None:
        raise Refused(NOT_YOURS, folder=str(state / FOLDER))
    return answer


def _verify_copy(path: Path, batch: str | None) -> dict[str, Any]:
    from agent.core.errors import Refused
    from agent.trust.audit import verification_report

    try:
        return verification_report(path, batch)
    except OSError as error:
        raise Refused("{path}: {reason}", path=path, reason=error) from error


@audit.command("list")
def list_records(
    kind: Annotated[
        str,
        typer.Option(
            help="Only this kind of record, such as consent or consent.given.", show_default=False
        ),
    ] = "",
    since: Annotated[
        str | None, typer.Option(help="Start: 2026-07-12 (at 00:00), or with a time.")
    ] = None,
    last: Annotated[int, typer.Option(help="How many records.")] = 50,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """List the newest records of the chain: what was decided, when, by whom, concerning what."""
    answer = ask(config, state, "audit.list", kind=kind, since=since, last=last)
    if json:
        as_json(answer)
        return
    rows = [
        (str(one["n"]), when(one["t"]), one["type"], _body(one["body"]))
        for one in answer["records"]
    ]
    table((_("number"), _("when"), _("what"), _("details")), rows)


DETAILS = {
    "by": N_("by"), "control": N_("control"), "recipient": N_("recipient"), "place": N_("place"),
    "places": N_("places"), "occupancy": N_("occupancy"), "meter": N_("meter"),
    "device": N_("device"), "channels": N_("quantities"), "since": N_("since"), "why": N_("reason"),
    "state": N_("state"), "keys": N_("keys"), "code": N_("refused because of"),
    "jti": N_("signed object"), "typ": N_("type"), "ver": N_("version no."),
    "revision": N_("registry version"), "grants": N_("authorizations"), "kid": N_("key"),
    "from": N_("sent by"),
}  # fmt: skip
"""the members of records that have a word; the member itself follows in brackets"""


def _body(body: dict[str, Any]) -> str:
    """Return the members of a record in one line: `place: D…, reason (why): …`."""
    return ", ".join(
        _(
            "{name}: {text}",
            name=_member_name(name),
            text=value if isinstance(value, str) else json_text.dumps(value, ensure_ascii=False),
        )
        for name, value in body.items()
    )


def _member_name(name: str) -> str:
    label = _(DETAILS[name]) if name in DETAILS else name
    return label if label == name else f"{label} ({name})"
