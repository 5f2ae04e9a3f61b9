"""What the commands of `gardien sign` share: keys, files, numbers and times."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.core.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.trust.sign import Signer

Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The file to write; default: standard output.")
]
DAY = 86_400


def sign(
    typ: str, key: Path, stated: dict[str, Any], out: Path | None, nulls: Iterable[str] = ()
) -> None:
    """Check the claims, sign them and write the object; its number goes to standard error.

    `nulls`: claims with the value null. Raises Refused if a claim is missing or wrong.
    """
    from pydantic import ValidationError

    from agent.trust.jws import LARGEST, MAP
    from agent.trust.object_types import KINDS
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
        raise Refused(f"{len(raw)} bytes: a signed object has {LARGEST} at most")
    typer.echo(f"{typ}, id (jti) {claims['jti']}", err=True)
    write_object(raw, out)


def signer(path: Path) -> Signer:
    """A private key from its file. Raises Refused."""
    from agent.trust.sign import Signer as Private

    return Private.read(_jwk(path))


def public(path: Path) -> dict[str, Any]:
    """A public key from its file, with kid and name. Raises Refused."""
    from agent.trust.key import Key

    jwk = _jwk(path)
    if not jwk.get("name"):
        raise Refused(f"{path}: this key has no `name`. Add the name of its owner")
    parsed = Key.read(jwk)
    return {**parsed.jwk, "kid": parsed.kid, "name": jwk["name"]}


def _jwk(path: Path) -> dict[str, Any]:
    try:
        jwk = json.loads(bytes_of(path))
    except ValueError:
        jwk = None
    if not isinstance(jwk, dict):
        raise Refused(f"{path}: not a key. Make one: gardien sign key NAME")
    return jwk


def bytes_of(path: Path) -> bytes:
    """The content of a file. Raises Refused."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that does not exist yet. Raises Refused."""
    try:
        # O_EXCL: a private key that exists must never be overwritten
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise Refused(
            f"{path} exists already. Move it away, or choose another file with --out"
        ) from None
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def write_object(raw: bytes, out: Path | None) -> None:
    """Write a signed object to a file or to standard output."""
    if out is None:
        typer.echo(raw.decode("ascii"))
    else:
        out.write_bytes(raw + b"\n")


def present(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def now() -> int:
    """Return the current time in seconds since 1970, as claims have it."""
    from agent.core.clock import seconds

    return int(seconds())


def moment(text: str | None) -> int:
    """Return a time in seconds since 1970; None: now. Raises Refused."""
    from agent.trust import claim_types

    return now() if text is None else parsed("the time", claim_types.moment, text)


def parsed(option: str, read: Callable[[str], float], text: str) -> int:
    """Return the value of an option, parsed by `read`, in seconds. Raises Refused."""
    try:
        return int(read(text))
    except ValueError as error:
        raise Refused(f'{option}: "{text}": {error}') from None


def number(text: str | None) -> Any:
    """Return a number, written with a comma or a point. Raises Refused."""
    from decimal import Decimal, InvalidOperation

    if text is None:
        return None
    try:
        value = Decimal(text.replace(",", "."))
    except InvalidOperation:
        raise Refused(f'"{text}" is not a number') from None
    return int(value) if value == value.to_integral_value() else value
