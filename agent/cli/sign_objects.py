"""`gardien sign grant|command|consent|…`: one signed object each, from plain options."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import write_file
from agent.core.errors import Refused
from agent.core.i18n import _
from agent.trust.object_id import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.trust.sign import Signer

Smallest = Annotated[str | None, typer.Option("--min", help="The smallest value.")]
Largest = Annotated[str | None, typer.Option("--max", help="The largest value.")]
UnitOfLimits = Annotated[str | None, typer.Option(help="The unit of --min and --max: K, kW, A.")]
LongestOrder = Annotated[str | None, typer.Option(help="The maximum duration of an order: PT2H.")]
ShortestPause = Annotated[
    str | None, typer.Option(help="The minimum pause between two orders: PT2H.")
]
OrdersADay = Annotated[int | None, typer.Option(help="The maximum number of orders in a day.")]
TimeADay = Annotated[str | None, typer.Option(help="The maximum total time in a day: PT4H.")]
ShortestNotice = Annotated[
    str | None, typer.Option(help="The minimum notice before an order begins: PT10M.")
]
Hours = Annotated[
    list[str] | None, typer.Option(help="Allowed hours: Mon-Fri 06:00-22:00; may be repeated.")
]
Season = Annotated[str | None, typer.Option(help="Allowed dates: 10-15..04-15.")]
Begins = Annotated[str | None, typer.Option(help="Start: 2026-07-12T00:00:00Z; default: now.")]
Days = Annotated[int, typer.Option(help="For how many days it is valid; at most 744.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The file to write; default: standard output.")
]
DAY = 86_400
By = Annotated[Path, typer.Option("--key", "-k", help="The private key to sign with (NAME.key).")]
Aud = Annotated[
    str, typer.Option(help="The gateway's audience, from `gardien trust show` (G….<state id>).")
]


def sign(
    typ: str, key: Path, stated: dict[str, Any], out: Path | None, nulls: Iterable[str] = ()
) -> None:
    """Check the claims, sign them and write the object; its number goes to standard error.

    `nulls`: claims with the value null. Raises Refused if a claim is missing or wrong.
    """
    from pydantic import ValidationError

    from agent.trust.claims import KINDS
    from agent.trust.jws import LARGEST, MAP
    from agent.trust.sign import new_jti

    # checked as a gateway checks it, so that a mistake shows before the object is sent
    by = signer(key)
    claims = {"iss": by.name, "jti": new_jti(), "iat": now(), **present(stated)}
    # after `present`, which drops null: here null says that a value is removed
    claims |= dict.fromkeys(nulls)
    try:
        KINDS[typ].model.model_validate(claims)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False)
        ]
        raise Refused("\n".join(lines)) from None
    raw = by.sign(typ, claims)
    if len(raw) > LARGEST and typ != MAP:
        raise Refused(
            "{number} bytes: a signed object has {largest} at most",
            number=len(raw),
            largest=LARGEST,
        )
    typer.echo(_("{typ}, id (jti) {jti}", typ=typ, jti=claims["jti"]), err=True)
    write_object(raw, out)


def signer(path: Path) -> Signer:
    """A private key from its file. Raises Refused."""
    from agent.trust.sign import Signer as Private

    return Private.read(_jwk(path))


def public(path: Path) -> dict[str, Any]:
    """A public key from its file, with kid and name. Raises Refused."""
    from agent.trust.jws import Key

    jwk = _jwk(path)
    if not jwk.get("name"):
        raise Refused("{path}: this key has no `name`. Add the name of its owner", path=path)
    parsed = Key.read(jwk)
    return {**parsed.jwk, "kid": parsed.kid, "name": jwk["name"]}


def _jwk(path: Path) -> dict[str, Any]:
    try:
        jwk = json.loads(bytes_of(path))
    except ValueError:
        jwk = None
    if not isinstance(jwk, dict):
        raise Refused("{path}: not a key. Make one: gardien sign key NAME", path=path)
    return jwk


def bytes_of(path: Path) -> bytes:
    """The content of a file. Raises Refused."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused("{path}: {reason}", path=path, reason=error) from error


def write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that does not exist yet. Raises Refused."""
    try:
        # O_EXCL: a private key that exists must never be overwritten
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise Refused(
            "{path} exists already. Move it away, or choose another file with --out", path=path
        ) from None
    except OSError as error:
        raise Refused("{path}: {reason}", path=path, reason=error) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(handle)
    except OSError as error:
        path.unlink(missing_ok=True)  # half a key helps nobody
        raise Refused("{path}: {reason}", path=path, reason=error) from error


def write_object(raw: bytes, out: Path | None) -> None:
    """Write a signed object to a file or to standard output."""
    if out is None:
        typer.echo(raw.decode("ascii"))
    else:
        write_file(out, raw + b"\n")


def present(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def now() -> int:
    """Return the current time in seconds since 1970, as claims have it."""
    from agent.core.clock import seconds

    return int(seconds())


def moment(text: str | None) -> int:
    """Return a time in seconds since 1970; None: now. Raises Refused."""
    from agent.trust import claims

    return now() if text is None else parsed(_("the time"), claims.moment, text)


def parsed(option: str, read: Callable[[str], float], text: str) -> int:
    """Return the value of an option, parsed by `read`, in seconds. Raises Refused."""
    try:
        return int(read(text))
    except ValueError as error:
        raise Refused(
            '{option}: "{text}": {error}', option=option, text=text, error=error
        ) from None


def number(text: str | None) -> Any:
    """Return a number, written with a comma or a point. Raises Refused."""
    from decimal import Decimal, InvalidOperation

    if text is None:
        return None
    try:
        value = Decimal(text.replace(",", "."))
    except InvalidOperation:
        raise Refused('"{text}" is not a number', text=text) from None
    return int(value) if value == value.to_integral_value() else value


def add_to(app: typer.Typer) -> None:
    """Put the commands into their group."""
    for name, command in COMMANDS.items():
        app.command(name)(command)


def grant(
    key: By,
    to: Annotated[str, typer.Option(help="Who may send orders: the name in the trust list.")],
    role: Annotated[str, typer.Option(help="Your own signing role: building_manager, …")],
    aud: Annotated[str, typer.Option(help="The gateway (G…) or the building (B…).")],
    asset: Annotated[
        list[str], typer.Option(help="A control by name, or kind:heating; may be repeated.")
    ],
    act: Annotated[
        list[str], typer.Option(help="offset, setpoint, pause, mode or limit; may be repeated.")
    ],
    evidence: Annotated[str, typer.Option(help="The kind of evidence: vote, contract or form.")],
    ref: Annotated[str, typer.Option(help="Its reference: AG du 12 mai 2026, résolution 14.")],
    date: Annotated[str, typer.Option(help="Its date: 2026-05-12.")],
    document: Annotated[
        Path, typer.Option(help="The scan of the document; only its SHA-256 is used.")
    ],
    least: Smallest = None,
    most: Largest = None,
    unit: UnitOfLimits = None,
    max_dur: LongestOrder = None,
    min_gap: ShortestPause = None,
    max_day: OrdersADay = None,
    max_time_day: TimeADay = None,
    notice: ShortestNotice = None,
    window: Hours = None,
    season: Season = None,
    emergency: Annotated[bool, typer.Option(help="Whether emergency orders are allowed.")] = False,
    occ: Annotated[
        str | None, typer.Option(help="For a grant by occupants: their occupancy, H….")
    ] = None,
    begins: Begins = None,
    days: Days = 365,
    out: Out = None,
) -> None:
    """Make a grant: authorize somebody to send orders within limits."""
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
    claims = {
        "sub": to, "aud": _audience(aud, "GB"), "nbf": nbf, "exp": nbf + days * DAY,
        "role": role, "occ": occ,
        "scope": {"assets": asset, "acts": act}, "lim": present(lim), "evid": evid,
    }  # fmt: skip
    sign("dr-grant+jwt", key, claims, out)


def command(
    key: By,
    aud: Aud,
    act: Annotated[
        str,
        typer.Option(
            help="limit, setpoint, offset, pause or mode; release or cancel ends an order."
        ),
    ],
    target: Annotated[list[str], typer.Option(help="A control by name; may be repeated.")],
    value: Annotated[str | None, typer.Option(help="The value: -1.5")] = None,
    unit: Annotated[str | None, typer.Option(help="The unit of the value: K")] = None,
    start: Annotated[
        str | None, typer.Option(help="Start: 2026-11-24T18:00:00Z; default: now.")
    ] = None,
    dur: Annotated[str | None, typer.Option(help="How long: PT1H30M.")] = None,
    rand: Annotated[
        str | None, typer.Option(help="Start at a random time within this span: PT5M.")
    ] = None,
    auth: Annotated[
        list[str] | None,
        typer.Option(help="The id (jti) of a grant for the order; may be repeated."),
    ] = None,
    ref: Annotated[
        str | None, typer.Option(help="The id (jti) of the order that it cancels or replaces.")
    ] = None,
    seq: Annotated[
        int | None,
        typer.Option(
            help="The sequence number: of orders with equal priority, the highest prevails;"
            " default: the present time."
        ),
    ] = None,
    prio: Annotated[int, typer.Option(help="Priority: 0 is the highest, 100 the lowest.")] = 50,
    emergency: Annotated[
        bool,
        typer.Option(
            help="An emergency order: it prevails over other orders, if grants and configuration"
            " permit it."
        ),
    ] = False,
    why: Annotated[str | None, typer.Option(help="The reason, for the people concerned.")] = None,
    valid: Annotated[
        str, typer.Option(help="How long it may be accepted, PT48H at most.")
    ] = "PT1H",
    out: Out = None,
) -> None:
    """Make an order (`dr-command+jwt`).

    The gateway checks whether grants permit it, and releases the control at its end.
    """
    from agent.core.clock import stamp
    from agent.trust.claims import seconds as duration_s

    at = now()
    # a release or a cancellation has no start: it counts as soon as it arrives
    begins = start or (None if act in {"release", "cancel"} else stamp(at))
    cmd = {
        "act": act, "tgt": target, "val": _value(value), "unit": unit,
        "start": begins, "dur": dur, "rand": rand, "ref": ref,
    }  # fmt: skip
    claims = {
        "aud": _audience(aud), "exp": at + parsed("--valid", duration_s, valid),
        "seq": at if seq is None else seq, "cmd": present(cmd), "auth": auth or None,
        "prio": prio, "emerg": emergency or None, "why": why,
    }  # fmt: skip
    sign("dr-command+jwt", key, claims, out)


def revoke(
    key: By,
    ver: Annotated[int, typer.Option(help="The version: one more than in your last revocation.")],
    grant_: Annotated[
        list[str] | None,
        typer.Option("--grant", help="The id (jti) of a grant to revoke; may be repeated."),
    ] = None,
    kid: Annotated[
        list[str] | None, typer.Option(help="The kid of a key to revoke; may be repeated.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="The reason, in a few words.")] = None,
    out: Out = None,
) -> None:
    """Revoke grants or keys, at once and for ever. Orders in force are released."""
    rev = [present({"jti": number_of(one), "reason": reason}) for one in grant_ or ()]
    rev += [present({"kid": one, "reason": reason}) for one in kid or ()]
    sign("dr-revoke+jwt", key, {"ver": ver, "rev": rev}, out)


def consent(
    key: By,
    place: Annotated[str, typer.Option(help="The dwelling, D….")],
    occ: Annotated[str, typer.Option(help="The occupancy, H….")],
    recipient: Annotated[str | None, typer.Option(help="The recipient, a DNS name.")] = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="A channel, such as heat; may be repeated.")
    ] = None,
    step: Annotated[str, typer.Option(help="The shortest interval: PT30M, P1D or P1M.")] = "P1D",
    purpose: Annotated[str | None, typer.Option(help="The purpose; exactly one.")] = None,
    withdraw: Annotated[
        str | None, typer.Option(help="Withdraw the consent with this id (jti) instead.")
    ] = None,
    refuse: Annotated[
        bool, typer.Option("--refuse", help="Record instead that they were asked and refused.")
    ] = False,
    after: Annotated[
        str | None, typer.Option(help="The mark of the latest withdrawal that they knew of.")
    ] = None,
    knows: Annotated[
        list[str] | None,
        typer.Option(
            help="The id (jti) of a withdrawal or refusal that you signed yourself and that they"
            " knew of; may be repeated."
        ),
    ] = None,
    begins: Begins = None,
    days: Annotated[
        int,
        typer.Option(
            help="For how many days it is valid; at most until 36 months after the signature."
        ),
    ] = 365,
    signed: Annotated[
        str | None,
        typer.Option("--given", help="When they signed, 2026-07-12T00:00:00Z; default: now."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="How they consented: paper, web, app or oral-recorded.")
    ] = "paper",
    out: Out = None,
) -> None:
    """State that the occupants of a dwelling gave, refused or withdrew a consent."""
    at = now()
    claims: dict[str, Any] = {"sub": _id(occ, "H"), "place": _id(place, "D")}
    claims["recipients"] = [recipient] if recipient else None
    if withdraw:
        claims |= {"status": "withdrawn", "prev": number_of(withdraw), "withdrawn_at": at}
    elif refuse:
        claims |= {"status": "refused", "purpose": purpose}
    else:
        nbf = moment(begins)
        claims |= {
            "status": "given", "purpose": purpose,
            "data": {"channels": channel or [], "step": step},
            "nbf": nbf, "exp": nbf + days * DAY, "given_at": moment(signed), "method": method,
            "after": after, "withdrawals": knows,
        }  # fmt: skip
    sign("consent+jwt", key, claims, out)


def occupancy(
    key: By,
    event: Annotated[str, typer.Argument(help="move_in, move_out or correct.")],
    place: Annotated[str, typer.Option(help="The dwelling, D….")],
    occ: Annotated[
        str | None, typer.Option(help="The occupancy, H…; default for a move-in: a new id.")
    ] = None,
    begins: Annotated[
        str | None, typer.Option("--from", help="Start: 2026-07-12T00:00:00Z")
    ] = None,
    ends: Annotated[str | None, typer.Option("--to", help="End: 2026-07-12T00:00:00Z")] = None,
    ref: Annotated[str | None, typer.Option(help="Your own reference: the lease number.")] = None,
    stays: Annotated[
        bool, typer.Option("--stays", help="For a correction: they have not moved out.")
    ] = False,
    out: Out = None,
) -> None:
    """State that occupants move in or out, without names."""
    from agent.registry.place import OCCUPANCY, mint

    if occ is None and event != "move_in":
        raise Refused("--occ is missing: give the occupancy, the H… of the move-in")
    claims = {
        "place": _id(place, "D"), "occ": _id(occ, "H") if occ else mint(OCCUPANCY),
        "event": event, "from": begins, "to": ends, "ref": ref,
    }  # fmt: skip
    # whoever records the move needs the new id for the consents that follow
    if occ is None:
        typer.echo(_("occupancy {occ}", occ=claims["occ"]), err=True)
    # `to: null` removes a recorded end; without `to` the end stays
    sign("occupancy+jwt", key, claims, out, ("to",) if stays else ())


def duty(
    key: By,
    recipient: Annotated[str, typer.Option(help="The building manager, a DNS name.")],
    reference: Annotated[str, typer.Option(help="The law or contract: décret 2020-886.")],
    channel: Annotated[list[str], typer.Option(help="A channel, such as heat; may be repeated.")],
    billing: Annotated[
        list[str] | None, typer.Option(help="A billing day: 06-30; may be repeated.")
    ] = None,
    begins: Annotated[
        str | None, typer.Option("--from", help="Start: 2026-07-12T00:00:00Z")
    ] = None,
    ends: Annotated[str | None, typer.Option("--to", help="End: 2026-07-12T00:00:00Z")] = None,
    end: Annotated[
        str | None, typer.Option(help="State instead that the duty with this id (jti) ended.")
    ] = None,
    out: Out = None,
) -> None:
    """State a duty: a legal obligation for which the building manager receives, without consent,
    indexes of all dwellings.
    """
    claims = {
        "recipient": recipient, "reference": reference, "channels": channel,
        "billing": billing or None, "from": begins, "to": ends, "prev": end and number_of(end),
        "status": _("ended") if end else None,
    }  # fmt: skip
    sign("duty+jwt", key, claims, out)


def place_map(
    key: By,
    file: Annotated[Path, typer.Argument(help="CSV: place_id;type;parent;label;scheme;value;…")],
    ver: Annotated[int, typer.Option(help="The version: one more than in the last map.")],
    out: Out = None,
) -> None:
    """Sign a place map: a list of places and of their names in other systems."""
    sign("place-map+jws", key, {"ver": ver, "csv": bytes_of(file).decode("utf-8-sig")}, out)


def time(key: By, out: Out = None) -> None:
    """Sign the current time."""
    sign("time+jwt", key, {}, out)


def request(
    key: By,
    aud: Aud,
    act: Annotated[str, typer.Argument(help="resend, read-now or directory.")],
    recipient: Annotated[str, typer.Option(help="The recipient of the data, a DNS name.")],
    epoch: Annotated[str | None, typer.Option(help="The epoch of the batches to resend.")] = None,
    first: Annotated[int | None, typer.Option("--from", help="The first batch.")] = None,
    last: Annotated[int | None, typer.Option("--to", help="The last batch.")] = None,
    device: Annotated[str | None, typer.Option(help="The device to read now.")] = None,
    out: Out = None,
) -> None:
    """Make a request: send batches again, read now, or send the directory (master data) again."""
    claims = {
        "aud": _audience(aud), "exp": now() + DAY, "act": act, "recipient": recipient,
        "epoch": epoch, "from": first, "to": last, "device": device,
    }  # fmt: skip
    sign("request+jwt", key, claims, out)


def uplink_move(
    key: By,
    aud: Aud,
    recipient: Annotated[str, typer.Option(help="The recipient of the data, a DNS name.")],
    url: Annotated[str, typer.Argument(help="The new address: mqtts://new.example.")],
    valid: Annotated[
        str, typer.Option(help="How long it may be accepted, PT48H at most.")
    ] = "PT48H",
    out: Out = None,
) -> None:
    """State that a recipient has a new address: an uplink move.

    The gateway changes over when a receipt has arrived from the new address.
    """
    from agent.trust.claims import seconds as duration_s

    exp = now() + parsed("--valid", duration_s, valid)
    claims = {"aud": _audience(aud), "exp": exp, "recipient": recipient, "url": url}
    sign("uplink-move+jws", key, claims, out)


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
    """Return an id in its canonical form. Raises Refused, also for a label."""
    from agent.registry.place import LENGTH, parse, squeeze

    if len(squeeze(text)) != LENGTH:
        raise Refused(
            _(
                '"{text}" is not an id ({letter} and 14 more characters). For the id of a label,'
                " at the gateway: gardien place check LABEL, or gardien occupancy list",
                text=text,
                letter=prefix,
            )
        )
    return parse(text, prefix)


def _audience(text: str, whole: str = "") -> str:
    """Return an audience in its canonical form: an id of a kind in `whole`, or the id of a gateway
    and the id of its state. Raises Refused.
    """
    from agent.registry.place import GATEWAY, looks_like_id, parse, squeeze

    gateway, dot, state = text.strip().partition(".")
    try:
        if not dot and whole:
            return parse(gateway, whole)
        if not dot and squeeze(gateway)[:1] != GATEWAY and looks_like_id(gateway):
            raise Refused(_("{text} is the id of a place", text=text))
        name = parse(gateway, GATEWAY)
        if not re.fullmatch("[0-9a-f]{32}", state):
            raise Refused(_("{text} lacks the id of the gateway's state", text=text))
    except Refused as error:
        raise Refused(
            _(
                "--aud: {fault}. Nothing was signed, because no gateway would accept it. Copy the"
                " audience from: gardien trust show",
                fault=str(error),
            )
        ) from error
    return f"{name}.{state}"


def _value(text: str | None) -> Any:
    try:
        # a mode is a word; every other value is a number
        return number(text)
    except Refused:
        return text
