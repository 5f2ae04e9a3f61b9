"""`gardien sign`: keys and trust lists, on any desktop; `sign_objects.py` has the objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import sign_objects, signing
from agent.errors import Refused

if TYPE_CHECKING:
    from agent.trust.sign import Signer

app = typer.Typer(
    no_args_is_help=True,
    help="Make keys and signed objects: for pilots, small sites and tests. Needs no gateway.",
)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help='Whose key it is: "Régie Dupont", "racine 1".')],
    out: Annotated[
        Path | None, typer.Option(help="The file for the private key; default: NAME.key.")
    ] = None,
) -> None:
    """Draw a key. NAME.key is private; NAME.pub is for others; its kid is read aloud."""
    import json

    from agent.trust.sign import Signer

    made = Signer.new(name)
    file = out or Path(f"{''.join(c if c.isalnum() else '-' for c in name)}.key")
    public = file.with_suffix(".pub")
    for path, mode, content in (
        (file, 0o600, made.private_jwk()),
        (public, 0o644, made.public_jwk()),
    ):
        signing.write_new(path, json.dumps(content, ensure_ascii=False, indent=2), mode)
    typer.echo(f"{file}: keep it to yourself, it has no password\n{public}: give it away")
    typer.echo(f"kid {made.kid}")


@app.command("trust-list")
def trust_list(
    root: Annotated[
        list[Path], typer.Option(help="Private key of a root that signs; may be repeated.")
    ],
    member: Annotated[
        list[str] | None,
        typer.Option(
            help="ROLE=FILE.pub, such as grid_operator=operator.pub; may be repeated. What confines"
            ' it follows: "grid_operator=operator.pub;assets=kind:heating,wallbox-limit", and'
            " buildings=B…,G… or kinds=dr-command+jwt."
        ),
    ] = None,
    other_root: Annotated[
        list[Path] | None,
        typer.Option(help="Public key of a root that signs later (sign co-sign)."),
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(help="How many roots sign a change; default: 2, or 1 of one.")
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option("--from", help="The list it follows: its version, roots and members."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="A kid of --from that is left out; may be repeated.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who publishes the list.")] = "trust list",
    days: Annotated[int, typer.Option(help="For how long it holds.")] = 365,
    out: signing.Out = None,
) -> None:
    """Make a trust list: who may sign, in which role."""
    import json

    from agent.clock import seconds
    from agent.trust import sign, trust_list

    now = int(seconds())
    signers = [signing.signer(path) for path in root]
    old = trust_list.payload_of(before.read_bytes()) if before else {}
    dropped = set(without or ())
    roots = [jwk for jwk in old.get("roots", []) if jwk.get("kid") not in dropped]
    roots += [signer.public_jwk() for signer in signers]
    roots += [signing.public(path) for path in other_root or ()]
    members = [one for one in old.get("keys", []) if one["kid"] not in dropped]
    members += [_member(one, now, days) for one in member or ()]
    roots = _distinct(roots)
    said = {
        "ver": int(old.get("ver", 0)) + 1,
        "iss": old.get("iss", by),
        "iat": now,
        "exp": now + days * signing.DAY,
        "roots": roots,
        "threshold": threshold or old.get("threshold") or min(2, len(roots)),
        "keys": _distinct(members),
    }
    raw = sign.trust_list(json.dumps(said, ensure_ascii=False), signers)
    _checked_list(raw)
    signing.give(raw, out)


@app.command("co-sign")
def co_sign(
    file: Annotated[Path, typer.Argument(help="A trust list that others have signed.")],
    root: Annotated[list[Path], typer.Option(help="Private key of a further root.")],
    out: signing.Out = None,
) -> None:
    """Add a root's signature to a trust list. Look at what it says first: sign show FILE."""
    from agent.trust import sign

    signers: list[Signer] = [signing.signer(path) for path in root]
    raw = sign.cosigned(signing.bytes_of(file), signers)
    _checked_list(raw)
    signing.give(raw, out)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A signed object or a trust list.")],
) -> None:
    """Show what an object says. Nothing is verified: that is the gateway's business."""
    import json

    from agent.trust import trust_list
    from agent.trust.jws import parse_jws

    raw = signing.bytes_of(file)
    if raw.lstrip()[:1] == b"{":
        said: dict[str, Any] = trust_list.payload_of(raw)
        head = {
            "typ": trust_list.TYP,
            "signed by": [kid for kid, _ in trust_list.read(raw).signatures],
        }
    else:
        compact = parse_jws(raw)
        head, said = {"typ": compact.typ, "signed by": [compact.kid]}, compact.claims
    typer.echo(json.dumps(head | {"says": said}, indent=2, ensure_ascii=False, default=str))


def _member(written: str, now: int, days: int) -> dict[str, Any]:
    from typing import get_args

    from agent.trust.claims import Role

    role, equals, path = written.partition("=")
    if not equals or role not in get_args(Role):
        known = ", ".join(get_args(Role))
        raise Refused(f"--member {written}: write ROLE=FILE.pub; roles are {known}")
    file, *confined = path.split(";")
    jwk = signing.public(Path(file))
    return {
        "kid": jwk["kid"],
        "jwk": {name: jwk[name] for name in ("kty", "crv", "x")},
        "role": role,
        "name": jwk["name"],
        "scope": _scope(confined),
        "nbf": now - 60,
        "exp": now + days * signing.DAY,
    }


def _scope(confined: list[str]) -> dict[str, list[str]]:
    scope = {}
    for one in confined:
        name, _, values = one.partition("=")
        if name not in {"buildings", "assets", "kinds"} or not values:
            raise Refused(f"--member …;{one}: write buildings=, assets= or kinds= and what of them")
        scope[name] = [word.strip() for word in values.split(",")]
    return scope


def _distinct(keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({one["kid"]: one for one in keys}.values())


def _checked_list(raw: bytes) -> None:
    """Say how many signatures are still missing, before a gateway does."""
    from agent.trust import trust_list

    made = trust_list.read(raw)
    missing = made.threshold - len(made.signed_by(made.roots))
    if missing > 0:
        typer.echo(f"{missing} of its roots must still sign it: gardien sign co-sign", err=True)


sign_objects.add_to(app)
