"""What the commands of `gardien sign` share: keys, files, and words as people write them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.trust.sign import Signer

Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The file to write; default: standard output.")
]
DAY = 86_400


def sign(
    typ: str, key: Path, said: dict[str, Any], out: Path | None, nulls: Iterable[str] = ()
) -> None:
    """Sign what is said, once it is whole; its number goes to standard error.

    `nulls`: claims that say that there is none.
    """
    from pydantic import ValidationError

    from agent.trust.jws import LARGEST, MAP
    from agent.trust.object_types import KINDS
    from agent.trust.sign import new_jti

    by = signer(key)
    claims = {"iss": by.name, "jti": new_jti(), "iat": now(), **given(said)}
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
    typer.echo(f"{typ} number {claims['jti']}", err=True)
    give(raw, out)


def signer(path: Path) -> Signer:
    """A private key from its file. Raises Refused."""
    from agent.trust.sign import Signer as Private

    return Private.read(_jwk(path))


def public(path: Path) -> dict[str, Any]:
    """A public key from its file, with kid and name. Raises Refused."""
    from agent.trust.key import Key

    jwk = _jwk(path)
    if not jwk.get("name"):
        raise Refused(f"{path}: this key says no `name`: whose is it?")
    found = Key.read(jwk)
    return {**found.jwk, "kid": found.kid, "name": jwk["name"]}


def _jwk(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(bytes_of(path))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused(f"{path}: this is no key made by `gardien sign key`")
    return found


def bytes_of(path: Path) -> bytes:
    """The content of a file. Raises Refused."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that is not there yet. Raises Refused."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise Refused(
            f"{path} is there already: move it away, or name another with --out"
        ) from None
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def give(raw: bytes, out: Path | None) -> None:
    """Hand a signed object over."""
    if out is None:
        typer.echo(raw.decode("ascii"))
    else:
        out.write_bytes(raw + b"\n")


def given(said: dict[str, Any]) -> dict[str, Any]:
    """What is said, without what is not."""
    return {name: value for name, value in said.items() if value is not None}


def now() -> int:
    """Seconds of now, as objects say it."""
    from agent.clock import seconds

    return int(seconds())


def moment(text: str | None) -> int:
    """Seconds of a moment as people write it; None: now. Raises Refused."""
    from agent.trust import claim_types

    return now() if text is None else in_words("the moment", claim_types.moment, text)


def in_words(option: str, read: Callable[[str], float], text: str) -> int:
    """What `read` makes of an option, in seconds. Raises Refused, naming the option."""
    try:
        return int(read(text))
    except ValueError as error:
        raise Refused(f'{option}: "{text}": {error}') from None


def number(text: str | None) -> Any:
    """A number as people write it. Raises Refused."""
    from decimal import Decimal, InvalidOperation

    if text is None:
        return None
    try:
        value = Decimal(text.replace(",", "."))
    except InvalidOperation:
        raise Refused(f'"{text}" is no number') from None
    return int(value) if value == value.to_integral_value() else value
