"""The building file: all that people told a gateway, for the one that takes its place.

Registry, trust list, revoked keys, signed objects that wait, configuration; no readings and no
private keys. It is signed by the gateway's certificate, where it has one, and encrypted to a
recovery certificate, whose key lies in a safe. The new gateway has the same id and the same places,
new keys, and a new state: its spools begin a new epoch each.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import logging
import os
import re
import shutil
import tempfile
import zlib
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import post_restore_gate
from agent.clock import seconds, stamp
from agent.config.profiles import FOLDER
from agent.enrolment import credential
from agent.enrolment.judge import subject
from agent.errors import Refused, UplinkLost
from agent.log_fields import LogEvent, fields
from agent.registry import identity, place
from agent.registry.registry import Registry
from agent.registry_api import in_person
from agent.trust import trust_list
from agent.trust.audit import Chain
from agent.trust.jws import parse_jws
from agent.trust.object_types import REVOKES
from agent.trust.revocations import TakenBack
from agent.trust.store import FILE, TrustStore
from agent.trust.strict import bound
from agent.uplink.cms import Envelope, decrypt, verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

    from agent.backup_file import BuildingFile
    from agent.config.models import Backup
    from agent.gateway import Gateway
    from agent.registry_api import Call, Caller

log = logging.getLogger(__name__)

SCHEMA = "gardien/building/1"
REGISTRY = "registry.json"
GZIP = b"\x1f\x8b"
"""how one begins that nobody signed"""
LOOK = 30.0
"""seconds between two looks whether something was changed"""
LARGEST = 64 * 1024 * 1024
"""bytes that a building file may open to"""
MOST_MARKS = 3_000_000
"""strings, brackets, commas and colons in it: of some ten thousand dwellings"""


async def backup(
    house: Gateway, asker: Caller, *, certificate: str, files: dict[str, str]
) -> dict[str, Any]:
    """The building file, encrypted to a certificate (PEM); `files`: the configuration's texts."""
    content = _content(house, files)
    plain = json.dumps(content, ensure_ascii=False).encode()
    sealed = _sealed(plain, certificate, _signer(house.config.state))
    house.audit("backup", {"revision": content["revision"], "by": asker.who})
    return {
        "gateway": content["gateway"],
        "revision": content["revision"],
        "file": base64.b64encode(sealed).decode(),
    }


def _content(house: Gateway, files: dict[str, str]) -> dict[str, Any]:
    if house.identity is None:
        raise Refused("this gateway has no identity yet: there is nothing to back up")
    book = house.reception_open().trust_store
    return {
        "schema": SCHEMA,
        "gateway": house.identity.gateway,
        "made": stamp(house.clock.now()),
        "revision": house.registry.revision,
        "registry": _registry(house.config.state / REGISTRY),
        "trust": base64.b64encode(book.trust.raw).decode() if book.trust else None,
        "revoked": sorted(book.revoked),
        "taken_back": [list(astuple(one)) for one in book.taken.all()],
        "versions": book.versions(),
        "waiting": [
            {"via": via, "object": base64.b64encode(raw).decode()} for _, via, raw in book.waiting()
        ],
        "files": files,
    }


def texts(config: Path) -> dict[str, str]:
    """The texts of a configuration: the file, and what lies beside it and belongs to it.

    That is what it includes, profiles of its own, and the certificates that it names: without those
    of the platforms the next gateway reaches none of them. Raises Refused.
    """
    text, folder = _text(config), config.absolute().parent
    names = re.findall(r"!include[ \t]+[\"']?([\w.-]+)", text)
    names += [f"{FOLDER}/{path.name}" for path in sorted((folder / FOLDER).glob("*.yaml"))]
    found = {"config.yaml": text} | {name: _text(folder / name) for name in names}
    named = re.findall(rf"{re.escape(str(folder))}/([\w.-]+)", "\n".join(found.values()))
    return found | {name: pem for name in named if (pem := _certificates(folder / name))}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{path}: this is not text") from None
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def _certificates(path: Path) -> str:
    """The certificates in a file; nothing if it is not there, or holds a key or anything else."""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
    return text if set(re.findall("-----BEGIN (.*)-----", text)) == {"CERTIFICATE"} else ""


async def keep(house: Gateway, config: Path) -> None:
    """Seal the building file anew after each change, and write it where `backup` says; for ever."""
    while True:
        if house.config.backup is not None and house.identity is not None:
            try:
                await _renew(house, house.config.backup, config)
                house.backup_said = ""
            except (Refused, OSError) as error:
                if str(error) != house.backup_said:
                    log.warning(
                        "the building file is not up to date: %s", error,
                        extra=fields(LogEvent.BACKUP_OUTDATED),
                    )  # fmt: skip
                house.backup_said = str(error)
        await asyncio.sleep(LOOK)


async def _renew(house: Gateway, options: Backup, config: Path) -> None:
    """Seal it anew, if what it would say is not what the one there says; put it where it belongs.

    Raises Refused or OSError.
    """
    kept = house.building
    assert kept is not None
    files, certificate = texts(config), _text(options.to)
    signer = _signer(house.config.state)
    says = _stands_for(house, files, (certificate, signer is not None))
    if kept.latest is None or kept.latest.says != says:
        content = _content(house, files)
        plain = json.dumps(content, ensure_ascii=False).encode()
        sealed = await asyncio.to_thread(_sealed, plain, certificate, signer)
        revision = int(content["revision"])
        kept.renew(sealed, says, int(house.clock.now()), revision)
        house.audit("backup", {"revision": revision})
    if options.folder is not None and kept.latest is not None and house.identity is not None:
        file = options.folder / f"{house.identity.gateway}.building"
        if not file.exists() or file.stat().st_size != kept.latest.size or not _same(file, kept):
            await asyncio.to_thread(_replace, file, kept.content())


def _same(file: Path, kept: BuildingFile) -> bool:
    return kept.latest is not None and _hash(file.read_bytes()) == kept.latest.sha256


def _stands_for(house: Gateway, files: dict[str, str], sealing: tuple[str, bool]) -> str:
    """What changes when the file would say something else, or be sealed otherwise; a registry by
    its last change.
    """
    book = house.reception_open().trust_store
    trust = book.trust.sha256 if book.trust else None
    waiting = [sha256 for sha256, _, _ in book.waiting()]
    # each revocation has a version of its own, so what was taken back need not be named here
    said = [house.registry.revision, trust, sorted(book.revoked), book.versions(), waiting, files]
    return _hash(json.dumps([said, *sealing], sort_keys=True).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _replace(file: Path, sealed: bytes) -> None:
    """All of the new one, or the one before: a stick may be pulled."""
    beside = file.with_suffix(".new")
    with beside.open("wb") as out:
        out.write(sealed)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(file)


def _wait_on(book: TrustStore, via: str, raw: bytes) -> None:
    """Keep an object that waited; whether it may count is judged when its turn comes."""
    one = parse_jws(raw)
    named = (one.typ, str(one.claims["jti"]))
    book.wait(one.sha256, named, (via, raw), "it waited before the restore", seconds())


CALLS: Mapping[str, Call] = {"backup": in_person(backup)}
"""every call of this part by its name"""


def _beside(name: str) -> bool:
    """Whether a file of this name lies beside the configuration, or among its profiles."""
    last = name.removeprefix(f"{FOLDER}/")
    return Path(last).name == last != ".."


def _registry(path: Path) -> Any:
    return json.loads(path.read_bytes()) if path.exists() else None


def _signer(state: Path) -> Path | None:
    """Key and certificate to sign with; None: there are none (yet)."""
    try:
        credential.load(state)
    except Refused:
        return None
    return credential.path(state)


def _sealed(content: bytes, certificate: str, signer: Path | None) -> bytes:
    packed = gzip.compress(content, mtime=0)
    with tempfile.NamedTemporaryFile(suffix=".pem") as reader:
        reader.write(certificate.encode())
        reader.flush()
        path = Path(reader.name)
        envelope = Envelope(signer or path, (path,))
        try:
            return envelope.close(packed) if signer else envelope.encrypt(packed)
        except UplinkLost as error:
            said = str(error).replace(str(path), "the recovery certificate")
            raise Refused(said.removeprefix("encrypt_for: ")) from error


def opened(
    sealed: bytes, key: Path, by: Path | None = None
) -> tuple[dict[str, Any], x509.Certificate | None]:
    """What a building file says, seen to be whole, and the certificate that signed it; None: nobody
    did. `by`: the certificate of the gateway or its CA, which must vouch for it; None: whether it
    is the gateway's is for a person to say. Raises Refused.
    """
    try:
        plain = decrypt(sealed, key)
    except UplinkLost as error:
        raise Refused(f"this key does not open the building file: {error}") from error
    signer = None
    if not plain.startswith(GZIP):
        plain, signer = _verified(plain, by)
    elif by is not None:
        raise Refused("nobody signed this building file: whoever has the certificate may have")
    found = _read(plain)
    if signer is not None and subject(signer) != found["gateway"]:
        raise Refused(f"it says that it is of {found['gateway']}, and {subject(signer)} signed it")
    return found, signer


def _verified(signed: bytes, by: Path | None) -> tuple[bytes, x509.Certificate]:
    # a file may be older than its signer's certificate, and the CA need not have meant it for files
    vouched = ("-partial_chain", "-no_check_time", "-purpose", "any")
    try:
        return verify(signed, *(("-CAfile", str(by), *vouched) if by else ("-noverify",)))
    except UplinkLost as error:
        raise Refused(
            f"its signature does not hold, or not by {by or 'itself'}: {error}"
        ) from error


def _read(plain: bytes) -> dict[str, Any]:
    try:
        with gzip.open(io.BytesIO(plain)) as file:
            text = file.read(LARGEST).decode()
        bound(text, MOST_MARKS)
        found = json.loads(text)
        if not isinstance(found, dict):
            raise TypeError("it is no object")
        if found["schema"] != SCHEMA:
            raise ValueError(f"it is of another version: {found['schema']}")
        place.parse(found["gateway"], place.GATEWAY)
        files = found["files"]
        if not isinstance(files, dict) or not all(map(_beside, files)):
            raise ValueError("its configuration is not one")
        for one in found.get("waiting", ()):
            parse_jws(base64.b64decode(one["object"])), str(one["via"])
    except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error) as error:
        raise Refused(f"this is no building file: {error}") from error
    return dict(found)


def restore(found: dict[str, Any], state: Path, by: str) -> identity.Identity:
    """Make a state of it, in the place of a fresh one, whose owner the caller is; `by`: a person.

    The registry comes last: until it is there, the same can be done again. Raises Refused, and
    then nothing of an existing building was changed.
    """
    if (state / REGISTRY).exists() or list(state.glob("spool-*.db")):
        raise Refused(f"{state} holds a building already: gardien factory-reset makes it empty")
    new = state / f"{REGISTRY}.restored"
    new.unlink(missing_ok=True)
    if found["registry"] is not None:
        new.write_text(json.dumps(found["registry"], ensure_ascii=False), encoding="utf-8")
        new.chmod(0o600)
        # what people withdrew since the backup may be on its way, and so may what they agreed to
        Registry.open(new).draw_marks(seconds(), restored=True)
    raw = base64.b64decode(found["trust"]) if found["trust"] else None
    standing = trust_list.read(raw) if raw else None
    if standing and len(standing.signed_by(standing.roots)) < standing.threshold:
        raise Refused("its trust list is not as its roots have signed it")
    shutil.rmtree(state / identity.KEYS, ignore_errors=True)
    post_restore_gate.begin(state, str(found["made"]))
    who = identity.mint(state, str(found["gateway"]))
    with TrustStore.open(state / FILE) as book:
        if standing is not None and (book.trust is None or book.trust.ver < standing.ver):
            book.install(standing, seconds())
        taken = [TakenBack(*one) for one in found.get("taken_back", ())]
        # revocations come again with all other objects, and count again: they only add
        versions = [one for one in found["versions"] if one[1] != REVOKES]
        book.remember(found["revoked"], versions, taken, seconds())
        for one in found.get("waiting", ()):
            _wait_on(book, str(one["via"]), base64.b64decode(one["object"]))
    body = {name: found[name] for name in ("gateway", "revision", "made")} | {"by": by}
    Chain(state, seconds).append("restored", body)
    if new.exists():
        new.rename(state / REGISTRY)
    return who
