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
from agent.trust.jws import take_apart
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
    gateway: Gateway, asker: Caller, *, certificate: str, files: dict[str, str]
) -> dict[str, Any]:
    """The building file, encrypted to a certificate (PEM); `files`: the configuration's texts."""
    content = _content(gateway, files)
    plain = json.dumps(content, ensure_ascii=False).encode()
    sealed = _encrypted(plain, certificate, _signer(gateway.config.state))
    gateway.audit("backup", {"revision": content["revision"], "by": asker.who})
    return {
        "gateway": content["gateway"],
        "revision": content["revision"],
        "file": base64.b64encode(sealed).decode(),
    }


def _content(gateway: Gateway, files: dict[str, str]) -> dict[str, Any]:
    if gateway.identity is None:
        raise Refused("this gateway has no identity yet: there is nothing to back up")
    store = gateway.reception_open().book
    return {
        "schema": SCHEMA,
        "gateway": gateway.identity.gateway,
        "made": stamp(gateway.clock.now()),
        "revision": gateway.registry.revision,
        "registry": _registry(gateway.config.state / REGISTRY),
        "trust": base64.b64encode(store.trust.raw).decode() if store.trust else None,
        "revoked": sorted(store.revoked),
        "taken_back": [list(astuple(one)) for one in store.taken.all()],
        "versions": store.versions(),
        "waiting": [
            {"via": via, "object": base64.b64encode(raw).decode()}
            for _, via, raw in store.waiting()
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
    contents = {"config.yaml": text} | {name: _text(folder / name) for name in names}
    named = re.findall(rf"{re.escape(str(folder))}/([\w.-]+)", "\n".join(contents.values()))
    return contents | {name: pem for name in named if (pem := _certificates(folder / name))}


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


async def keep(gateway: Gateway, config: Path) -> None:
    """Seal the building file anew after each change, and write it where `backup` says; for ever."""
    while True:
        if gateway.config.backup is not None and gateway.identity is not None:
            try:
                await _renew(gateway, gateway.config.backup, config)
                gateway.backup_said = ""
            except (Refused, OSError) as error:
                if str(error) != gateway.backup_said:
                    log.warning(
                        "the building file is not up to date: %s", error,
                        extra=fields(LogEvent.BACKUP_OUTDATED),
                    )  # fmt: skip
                gateway.backup_said = str(error)
        await asyncio.sleep(LOOK)


async def _renew(gateway: Gateway, options: Backup, config: Path) -> None:
    """Seal it anew, if what it would say is not what the one there says; put it where it belongs.

    Raises Refused or OSError.
    """
    kept = gateway.building
    assert kept is not None
    files, certificate = texts(config), _text(options.to)
    signer = _signer(gateway.config.state)
    says = _content_hash(gateway, files, (certificate, signer is not None))
    if kept.latest is None or kept.latest.says != says:
        content = _content(gateway, files)
        plain = json.dumps(content, ensure_ascii=False).encode()
        sealed = await asyncio.to_thread(_encrypted, plain, certificate, signer)
        revision = int(content["revision"])
        kept.renew(sealed, says, int(gateway.clock.now()), revision)
        gateway.audit("backup", {"revision": revision})
    if options.folder is not None and kept.latest is not None and gateway.identity is not None:
        file = options.folder / f"{gateway.identity.gateway}.building"
        if (
            not file.exists()
            or file.stat().st_size != kept.latest.size
            or not _is_current(file, kept)
        ):
            await asyncio.to_thread(_replace, file, kept.content())


def _is_current(file: Path, kept: BuildingFile) -> bool:
    return kept.latest is not None and _hash(file.read_bytes()) == kept.latest.sha256


def _content_hash(gateway: Gateway, files: dict[str, str], sealing: tuple[str, bool]) -> str:
    """What changes when the file would say something else, or be sealed otherwise; a registry by
    its last change.
    """
    store = gateway.reception_open().book
    trust = store.trust.sha256 if store.trust else None
    waiting = [sha256 for sha256, _, _ in store.waiting()]
    # each revocation has a version of its own, so what was taken back need not be named here
    parts = [
        gateway.registry.revision,
        trust,
        sorted(store.revoked),
        store.versions(),
        waiting,
        files,
    ]
    return _hash(json.dumps([parts, *sealing], sort_keys=True).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _replace(file: Path, sealed: bytes) -> None:
    """All of the new one, or the one before: a stick may be pulled."""
    new = file.with_suffix(".new")
    with new.open("wb") as out:
        out.write(sealed)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


def _restore_waiting(store: TrustStore, via: str, raw: bytes) -> None:
    """Keep an object that waited; whether it may count is judged when its turn comes."""
    signed = take_apart(raw)
    named = (signed.typ, str(signed.claims["jti"]))
    store.wait(signed.sha256, named, (via, raw), "it waited before the restore", seconds())


CALLS: Mapping[str, Call] = {"backup": in_person(backup)}
"""every call of this part by its name"""


def _is_configuration_file(name: str) -> bool:
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


def _encrypted(content: bytes, certificate: str, signer: Path | None) -> bytes:
    packed = gzip.compress(content, mtime=0)
    with tempfile.NamedTemporaryFile(suffix=".pem") as reader:
        reader.write(certificate.encode())
        reader.flush()
        path = Path(reader.name)
        envelope = Envelope(signer or path, (path,))
        try:
            return envelope.close(packed) if signer else envelope.encrypt(packed)
        except UplinkLost as error:
            message = str(error).replace(str(path), "the recovery certificate")
            raise Refused(message.removeprefix("encrypt_for: ")) from error


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
    content = _read(plain)
    if signer is not None and subject(signer) != content["gateway"]:
        raise Refused(
            f"it says that it is of {content['gateway']}, and {subject(signer)} signed it"
        )
    return content, signer


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
        content = json.loads(text)
        if not isinstance(content, dict):
            raise TypeError("it is no object")
        if content["schema"] != SCHEMA:
            raise ValueError(f"it is of another version: {content['schema']}")
        place.parse(content["gateway"], place.GATEWAY)
        files = content["files"]
        if not isinstance(files, dict) or not all(map(_is_configuration_file, files)):
            raise ValueError("its configuration is not one")
        for waiting in content.get("waiting", ()):
            take_apart(base64.b64decode(waiting["object"])), str(waiting["via"])
    except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error) as error:
        raise Refused(f"this is no building file: {error}") from error
    return dict(content)


def restore(content: dict[str, Any], state: Path, by: str) -> identity.Identity:
    """Make a state of it, in the place of a fresh one, whose owner the caller is; `by`: a person.

    The registry comes last: until it is there, the same can be done again. Raises Refused, and
    then nothing of an existing building was changed.
    """
    if (state / REGISTRY).exists() or list(state.glob("spool-*.db")):
        raise Refused(f"{state} holds a building already: gardien factory-reset makes it empty")
    new = state / f"{REGISTRY}.restored"
    new.unlink(missing_ok=True)
    if content["registry"] is not None:
        new.write_text(json.dumps(content["registry"], ensure_ascii=False), encoding="utf-8")
        new.chmod(0o600)
        # what people withdrew since the backup may be on its way, and so may what they agreed to
        Registry.open(new).draw_marks(seconds(), restored=True)
    raw = base64.b64decode(content["trust"]) if content["trust"] else None
    standing = trust_list.read(raw) if raw else None
    if standing and len(standing.signed_by(standing.roots)) < standing.threshold:
        raise Refused("its trust list is not as its roots have signed it")
    shutil.rmtree(state / identity.KEYS, ignore_errors=True)
    post_restore_gate.begin(state, str(content["made"]))
    who = identity.mint(state, str(content["gateway"]))
    with TrustStore.open(state / FILE) as store:
        if standing is not None and (store.trust is None or store.trust.ver < standing.ver):
            store.install(standing, seconds())
        taken = [TakenBack(*one) for one in content.get("taken_back", ())]
        # revocations come again with all other objects, and count again: they only add
        versions = [one for one in content["versions"] if one[1] != REVOKES]
        store.remember(content["revoked"], versions, taken, seconds())
        for waiting in content.get("waiting", ()):
            _restore_waiting(store, str(waiting["via"]), base64.b64decode(waiting["object"]))
    body = {name: content[name] for name in ("gateway", "revision", "made")} | {"by": by}
    Chain(state, seconds).append("restored", body)
    if new.exists():
        new.rename(state / REGISTRY)
    return who
