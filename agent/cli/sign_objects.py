"""`gardien sign grant|command|consent|…`: one signed object each, from plain options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.signing import DAY, Out, bytes_of, given, in_words, moment, now, number, sign
from agent.errors import Refused
from agent.trust.object_id import number_of

if TYPE_CHECKING:
    from collections.abc import Callable

By = Annotated[Path, typer.Option("--key", "-k", help="The private key that signs (NAME.key).")]
Aud = Annotated[
    str, typer.Option(help="The gateway as `gardien trust show` says it (G….<state id>).")
]


def add_to(app: typer.Typer) -> None:
    """Put the commands into their group."""
    for name, command in COMMANDS.items():
        app.command(name)(command)


def grant(
    key: By,
    to: Annotated[str, typer.Option(help="Who may command by it: the name in the trust list.")],
    role: Annotated[str, typer.Option(help="As whom you grant: building_manager, …")],
    aud: Annotated[str, typer.Option(help="The gateway (G…) or the building (B…).")],
    asset: Annotated[list[str], typer.Option(help="A control by name, or kind:heating.")],
    act: Annotated[list[str], typer.Option(help="offset, setpoint, pause, mode, limit.")],
    evidence: Annotated[str, typer.Option(help="On what it stands: vote, contract or form.")],
    ref: Annotated[str, typer.Option(help="Its reference: AG du 12 mai 2026, résolution 14.")],
    date: Annotated[str, typer.Option(help="Its date: 2026-05-12.")],
    document: Annotated[Path, typer.Option(help="The scan of it: only its sha256 is named.")],
    least: Annotated[str | None, typer.Option("--min", help="The smallest value.")] = None,
    most: Annotated[str | None, typer.Option("--max", help="The largest value.")] = None,
    unit: Annotated[str | None, typer.Option(help="Of both: K, kW, A.")] = None,
    max_dur: Annotated[str | None, typer.Option(help="How long at most: PT2H.")] = None,
    min_gap: Annotated[str | None, typer.Option(help="Rest between two: PT2H.")] = None,
    max_day: Annotated[int | None, typer.Option(help="How often a day.")] = None,
    max_time_day: Annotated[str | None, typer.Option(help="How long a day in all: PT4H.")] = None,
    notice: Annotated[str | None, typer.Option(help="How long before: PT10M.")] = None,
    window: Annotated[list[str] | None, typer.Option(help="Mon-Fri 06:00-22:00.")] = None,
    season: Annotated[str | None, typer.Option(help="10-15..04-15.")] = None,
    emergency: Annotated[bool, typer.Option(help="Whether emergencies are allowed.")] = False,
    occ: Annotated[str | None, typer.Option(help="Of an occupant: the occupancy H….")] = None,
    begins: Annotated[str | None, typer.Option(help="2026-07-12T00:00:00Z; default: now.")] = None,
    days: Annotated[int, typer.Option(help="For how long it stands, two years at most.")] = 365,
    out: Out = None,
) -> None:
    """Allow somebody to command, within limits: standing, signed by one role."""
    import hashlib

    nbf = moment(begins)
    lim = {
        "min": number(least), "max": number(most), "unit": unit, "max_dur": max_dur,
        "min_gap": min_gap, "max_day": max_day, "max_time_day": max_time_day, "notice": notice,
        "windows": window or None, "season": season, "emerg": emergency or None,
    }  # fmt: skip
    evid = {
        "kind": evidence, "ref": ref, "date": date,
        "sha256": hashlib.sha256(bytes_of(document)).hexdigest(),
    }  # fmt: skip
    said = {
        "sub": to, "aud": aud, "nbf": nbf, "exp": nbf + days * DAY, "role": role, "occ": occ,
        "scope": {"assets": asset, "acts": act}, "lim": given(lim), "evid": evid,
    }  # fmt: skip
    sign("dr-grant+jwt", key, said, out)


def command(
    key: By,
    aud: Aud,
    act: Annotated[
        str, typer.Option(help="limit, setpoint, offset, pause, mode; release or cancel give back.")
    ],
    target: Annotated[list[str], typer.Option(help="A control by name; may be repeated.")],
    value: Annotated[str | None, typer.Option(help="-1.5")] = None,
    unit: Annotated[str | None, typer.Option(help="K")] = None,
    start: Annotated[str | None, typer.Option(help="2026-11-24T18:00:00Z; default: now.")] = None,
    dur: Annotated[str | None, typer.Option(help="How long: PT1H30M.")] = None,
    rand: Annotated[str | None, typer.Option(help="Start at random within: PT5M.")] = None,
    auth: Annotated[list[str] | None, typer.Option(help="A grant's number it relies on.")] = None,
    ref: Annotated[str | None, typer.Option(help="The order that it cancels or replaces.")] = None,
    seq: Annotated[int | None, typer.Option(help="Later wins; default: the time.")] = None,
    prio: Annotated[int, typer.Option(help="0 is the highest, 100 the lowest.")] = 50,
    emergency: Annotated[bool, typer.Option(help="At the stronger priority.")] = False,
    why: Annotated[str | None, typer.Option(help="A word for the people concerned.")] = None,
    valid: Annotated[
        str, typer.Option(help="How long it may be accepted, PT48H at most.")
    ] = "PT1H",
    out: Out = None,
) -> None:
    """Order something within grants; the gateway decides, and gives back at the end."""
    from agent.clock import stamp
    from agent.trust.claim_types import seconds as long

    at = now()
    begins = start or (None if act in {"release", "cancel"} else stamp(at))
    cmd = {
        "act": act, "tgt": target, "val": _value(value), "unit": unit,
        "start": begins, "dur": dur, "rand": rand, "ref": ref,
    }  # fmt: skip
    said = {
        "aud": aud, "exp": at + in_words("--valid", long, valid),
        "seq": at if seq is None else seq, "cmd": given(cmd), "auth": auth or None,
        "prio": prio, "emerg": emergency or None, "why": why,
    }  # fmt: skip
    sign("dr-command+jwt", key, said, out)


def revoke(
    key: By,
    ver: Annotated[int, typer.Option(help="One more than in your last revocation.")],
    grant_: Annotated[list[str] | None, typer.Option("--grant", help="Number of a grant.")] = None,
    kid: Annotated[list[str] | None, typer.Option(help="A key that counts no more.")] = None,
    reason: Annotated[str | None, typer.Option(help="In a few words.")] = None,
    out: Out = None,
) -> None:
    """Take grants or keys back: at once, also while something is in force, and for ever."""
    rev = [given({"jti": number_of(one), "reason": reason}) for one in grant_ or ()]
    rev += [given({"kid": one, "reason": reason}) for one in kid or ()]
    sign("dr-revoke+jwt", key, {"ver": ver, "rev": rev}, out)


def consent(
    key: By,
    place: Annotated[str, typer.Option(help="The dwelling, D….")],
    occ: Annotated[str, typer.Option(help="Who lives there: the occupancy, H….")],
    recipient: Annotated[str | None, typer.Option(help="Who may have it, a DNS name.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="A quantity; may be repeated.")] = None,
    step: Annotated[str, typer.Option(help="Nothing finer: PT30M, P1D or P1M.")] = "P1D",
    purpose: Annotated[str | None, typer.Option(help="One purpose.")] = None,
    withdraw: Annotated[
        str | None, typer.Option(help="Instead: the number of the consent that is withdrawn.")
    ] = None,
    refuse: Annotated[
        bool, typer.Option("--refuse", help="Instead: they were asked for it and said no.")
    ] = False,
    after: Annotated[
        str | None, typer.Option(help="The last withdrawal that they knew of: its mark.")
    ] = None,
    knows: Annotated[
        list[str] | None,
        typer.Option(help="Your own withdrawal or refusal that they knew of, too: its number."),
    ] = None,
    begins: Annotated[str | None, typer.Option(help="2026-07-12T00:00:00Z; default: now.")] = None,
    days: Annotated[
        int, typer.Option(help="For how long; 36 months after the signature at most.")
    ] = 365,
    signed: Annotated[
        str | None,
        typer.Option("--given", help="When they signed, 2026-07-12T00:00:00Z; default: now."),
    ] = None,
    method: Annotated[str, typer.Option(help="paper, web, app or oral-recorded.")] = "paper",
    out: Out = None,
) -> None:
    """Say what the people of a dwelling agreed to, or that they refused or withdrew it."""
    at = now()
    said: dict[str, Any] = {"sub": _id(occ, "H"), "place": _id(place, "D")}
    said["recipients"] = [recipient] if recipient else None
    if withdraw:
        said |= {"status": "withdrawn", "prev": number_of(withdraw), "withdrawn_at": at}
    elif refuse:
        said |= {"status": "refused", "purpose": purpose}
    else:
        nbf = moment(begins)
        said |= {
            "status": "given", "purpose": purpose,
            "data": {"channels": channel or [], "step": step},
            "nbf": nbf, "exp": nbf + days * DAY, "given_at": moment(signed), "method": method,
            "after": after, "withdrawals": knows,
        }  # fmt: skip
    sign("consent+jwt", key, said, out)


def occupancy(
    key: By,
    event: Annotated[str, typer.Argument(help="move_in, move_out or correct.")],
    place: Annotated[str, typer.Option(help="The dwelling, D….")],
    occ: Annotated[
        str | None, typer.Option(help="H…; at a move-in one is drawn if you say none.")
    ] = None,
    begins: Annotated[str | None, typer.Option("--from", help="2026-07-12T00:00:00Z")] = None,
    ends: Annotated[str | None, typer.Option("--to", help="2026-07-12T00:00:00Z")] = None,
    ref: Annotated[str | None, typer.Option(help="Your own reference: the lease number.")] = None,
    stays: Annotated[
        bool, typer.Option("--stays", help="Of a correction: they have not moved out.")
    ] = False,
    out: Out = None,
) -> None:
    """Say that somebody moves in or out; nobody is named."""
    from agent.registry.place import OCCUPANCY, mint

    if occ is None and event != "move_in":
        raise Refused("--occ: who moves? the H… of the move-in")
    said = {
        "place": _id(place, "D"), "occ": _id(occ, "H") if occ else mint(OCCUPANCY),
        "event": event, "from": begins, "to": ends, "ref": ref,
    }  # fmt: skip
    if occ is None:
        typer.echo(f"occupancy {said['occ']}", err=True)
    sign("occupancy+jwt", key, said, out, ("to",) if stays else ())


def duty(
    key: By,
    recipient: Annotated[str, typer.Option(help="The building manager, a DNS name.")],
    reference: Annotated[str, typer.Option(help="The law or contract: décret 2020-886.")],
    channel: Annotated[list[str], typer.Option(help="A quantity; may be repeated.")],
    billing: Annotated[list[str] | None, typer.Option(help="A day of the year: 06-30.")] = None,
    begins: Annotated[str | None, typer.Option("--from", help="2026-07-12T00:00:00Z")] = None,
    ends: Annotated[str | None, typer.Option("--to", help="2026-07-12T00:00:00Z")] = None,
    end: Annotated[str | None, typer.Option(help="Instead: the duty that ended.")] = None,
    out: Out = None,
) -> None:
    """Record a duty of the building manager to have indexes of all dwellings."""
    said = {
        "recipient": recipient, "reference": reference, "channels": channel,
        "billing": billing or None, "from": begins, "to": ends, "prev": end and number_of(end),
        "status": "ended" if end else None,
    }  # fmt: skip
    sign("duty+jwt", key, said, out)


def place_map(
    key: By,
    file: Annotated[Path, typer.Argument(help="place_id;type;parent;label;scheme;value;…")],
    ver: Annotated[int, typer.Option(help="One more than the last.")],
    out: Out = None,
) -> None:
    """Sign a list of places and of what other systems call them."""
    sign("place-map+jws", key, {"ver": ver, "csv": bytes_of(file).decode("utf-8-sig")}, out)


def time(key: By, out: Out = None) -> None:
    """Say what time it is."""
    sign("time+jwt", key, {}, out)


def request(
    key: By,
    aud: Aud,
    act: Annotated[str, typer.Argument(help="resend, read-now or directory.")],
    recipient: Annotated[str, typer.Option(help="Whose data it is about, a DNS name.")],
    epoch: Annotated[str | None, typer.Option(help="Of the batches to resend.")] = None,
    first: Annotated[int | None, typer.Option("--from", help="The first batch.")] = None,
    last: Annotated[int | None, typer.Option("--to", help="The last batch.")] = None,
    device: Annotated[str | None, typer.Option(help="Which device to read now.")] = None,
    out: Out = None,
) -> None:
    """Ask the gateway for batches again, for a reading now, or for its directory."""
    said = {
        "aud": aud, "exp": now() + DAY, "act": act, "recipient": recipient, "epoch": epoch,
        "from": first, "to": last, "device": device,
    }  # fmt: skip
    sign("request+jwt", key, said, out)


def uplink_move(
    key: By,
    aud: Aud,
    recipient: Annotated[str, typer.Option(help="Whose data it is about, a DNS name.")],
    url: Annotated[str, typer.Argument(help="The new address: mqtts://new.example.")],
    valid: Annotated[
        str, typer.Option(help="How long it may be accepted, PT48H at most.")
    ] = "PT48H",
    out: Out = None,
) -> None:
    """Say that a recipient has a new address; it counts once it has brought a receipt."""
    from agent.trust.claim_types import seconds as long

    exp = now() + in_words("--valid", long, valid)
    said = {"aud": aud, "exp": exp, "recipient": recipient, "url": url}
    sign("uplink-move+jws", key, said, out)


COMMANDS: dict[str, Callable[..., None]] = {
    "grant": grant,
    "command": command,
    "revoke": revoke,
    "consent": consent,
    "occupancy": occupancy,
    "duty": duty,
    "place-map": place_map,
    "time": time,
    "request": request,
    "uplink-move": uplink_move,
}


def _id(text: str, prefix: str) -> str:
    """An id as people write it, in its one form. Raises Refused."""
    from agent.registry.place import parse

    return parse(text, prefix)


def _value(text: str | None) -> Any:
    try:
        return number(text)
    except Refused:
        return text
