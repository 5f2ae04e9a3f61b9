"""`gardien sign`: makes keys and trust lists on any computer; `sign_objects.py` has the objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import sign_objects
from agent.core.errors import Refused
from agent.core.i18n import _, n_

if TYPE_CHECKING:
    from agent.trust.sign import Signer

app = typer.Typer(
    no_args_is_help=True,
    help="Make keys and signed objects for pilots, small sites and tests. Needs no gateway.",
)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help='The owner of the key: "Régie Dupont", "racine 1".')],
    out: Annotated[
        Path | None, typer.Option(help="The file for the private key; default: NAME.key.")
    ] = None,
) -> None:
    """Make a key pair: NAME.key is private, NAME.pub is for others.

    It prints the key's kid, which others compare by telephone or on paper.
    """
    import json

    from agent.trust.sign import Signer

    made = Signer.new(name)
    file = out or Path(f"{''.join(c if c.isalnum() else '-' for c in name)}.key")
    public = file.with_suffix(".pub")
    for path, mode, content in (
        (file, 0o600, made.private_jwk()),
        (public, 0o644, made.public_jwk()),
    ):
        sign_objects.write_new(path, json.dumps(content, ensure_ascii=False, indent=2), mode)
    typer.echo(
        _(
            "{file}: private key without a password, keep it secret\n{public}: public key",
            file=file,
            public=public,
        )
    )
    typer.echo(f"kid {made.kid}")


@app.command("trust-list")
def trust_list(
    root: Annotated[
        list[Path],
        typer.Option(help="The private key of a root with which to sign; may be repeated."),
    ],
    member: Annotated[
        list[str] | None,
        typer.Option(
            help="ROLE=FILE.pub, such as grid_operator=operator.pub; may be repeated. Restrictions"
            ' may follow: ";assets=kind:heating,wallbox", ";buildings=B…,G…" or'
            ' ";kinds=dr-command+jwt".'
        ),
    ] = None,
    other_root: Annotated[
        list[Path] | None,
        typer.Option(help="The public key of a root that signs later (sign co-sign)."),
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(
            help="How many roots must sign a change; default: that of --from; for a first list: 2,"
            " or 1 if there is one root."
        ),
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="The previous list: its roots and members are copied, and its version is increased"
            " by one.",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="The kid of a key in --from to leave out; may be repeated."),
    ] = None,
    by: Annotated[str, typer.Option(help="Who publishes the list.")] = "trust list",
    days: Annotated[int, typer.Option(help="How many days it is valid.")] = 365,
    out: sign_objects.Out = None,
) -> None:
    """Make a trust list: who may sign, in which signing role."""
    import json

    from agent.core.clock import seconds
    from agent.trust import sign, trust_list

    now = int(seconds())
    signers = [sign_objects.signer(path) for path in root]
    previous = trust_list.payload_of(before.read_bytes()) if before else {}
    dropped = set(without or ())
    roots = [jwk for jwk in previous.get("roots", []) if jwk.get("kid") not in dropped]
    roots += [signer.public_jwk() for signer in signers]
    roots += [sign_objects.public(path) for path in other_root or ()]
    members = [entry for entry in previous.get("keys", []) if entry["kid"] not in dropped]
    members += [_member(entry, now, days) for entry in member or ()]
    # a root that signs may be in the previous list, too: the newest entry counts
    roots = _distinct(roots)
    payload = {
        "ver": int(previous.get("ver", 0)) + 1,
        # a list keeps its publisher: --by counts for the first list only
        "iss": previous.get("iss", by),
        "iat": now,
        "exp": now + days * sign_objects.DAY,
        "roots": roots,
        "threshold": threshold or previous.get("threshold") or min(2, len(roots)),
        "keys": _distinct(members),
    }
    raw = sign.trust_list(json.dumps(payload, ensure_ascii=False), signers)
    _checked_list(raw)
    sign_objects.write_object(raw, out)


@app.command("co-sign")
def co_sign(
    file: Annotated[Path, typer.Argument(help="A trust list that others have signed.")],
    root: Annotated[
        list[Path], typer.Option(help="The private key of another root; may be repeated.")
    ],
    out: sign_objects.Out = None,
) -> None:
    """Add a root's signature to a trust list. Read the list first: sign show FILE."""
    from agent.trust import sign

    signers: list[Signer] = [sign_objects.signer(path) for path in root]
    raw = sign.cosigned(sign_objects.bytes_of(file), signers)
    _checked_list(raw)
    sign_objects.write_object(raw, out)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A signed object or a trust list.")],
) -> None:
    """Show the content of a signed object. The signature is not verified."""
    import json

    from agent.trust import trust_list
    from agent.trust.jws import parse_jws

    raw = sign_objects.bytes_of(file)
    if raw.lstrip()[:1] == b"{":
        payload: dict[str, Any] = trust_list.payload_of(raw)
        head = {
            "typ": trust_list.TYP,
            "signed by": [kid for kid, _ in trust_list.read(raw).signatures],
        }
    else:
        compact = parse_jws(raw)
        head, payload = {"typ": compact.typ, "signed by": [compact.kid]}, compact.claims
    typer.echo(json.dumps(head | {"says": payload}, indent=2, ensure_ascii=False, default=str))


def _member(option: str, now: int, days: int) -> dict[str, Any]:
    from typing import get_args

    from agent.trust.claims import Role

    role, equals, path = option.partition("=")
    if not equals or role not in get_args(Role):
        known = ", ".join(get_args(Role))
        raise Refused(
            "--member {option}: write ROLE=FILE.pub; roles are {known}", option=option, known=known
        )
    file, *restrictions = path.split(";")
    jwk = sign_objects.public(Path(file))
    return {
        "kid": jwk["kid"],
        "jwk": {name: jwk[name] for name in ("kty", "crv", "x")},
        "role": role,
        "name": jwk["name"],
        "scope": _scope(restrictions),
        "nbf": now - 60,  # the gateway's clock may be behind
        "exp": now + days * sign_objects.DAY,
    }


def _scope(restrictions: list[str]) -> dict[str, list[str]]:
    scope = {}
    for restriction in restrictions:
        name, _, values = restriction.partition("=")
        if name not in {"buildings", "assets", "kinds"} or not values:
            raise Refused(
                "--member …;{restriction}: write buildings=…, assets=… or kinds=…",
                restriction=restriction,
            )
        scope[name] = [value.strip() for value in values.split(",")]
    return scope


def _distinct(keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({one["kid"]: one for one in keys}.values())


def _checked_list(raw: bytes) -> None:
    """Print how many signatures are still missing."""
    from agent.trust import trust_list

    # read as a gateway reads it: a list that is malformed is refused before it is written
    made = trust_list.read(raw)
    missing = made.threshold - len(made.signed_by(made.roots))
    if missing > 0:
        typer.echo(
            _(
                "{more_roots} must sign it: gardien sign co-sign",
                more_roots=n_("{number} more root", "{number} more roots", missing),
            ),
            err=True,
        )


sign_objects.add_to(app)
