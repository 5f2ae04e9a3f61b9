"""The backup: all that people told a gateway, for the gateway that replaces it.

It contains the registry, the trust list, revoked keys, waiting signed objects and the
configuration. It contains no readings and no private keys. It is signed with the gateway's
certificate, if there is one, and encrypted for a recovery certificate whose key is kept in a safe.
The new gateway has the same id and places, but new keys and a new state: each of its spools begins
a new epoch (rule K10).
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

from agent.api.registry import in_person
from agent.config.profiles import FOLDER
from agent.core.clock import seconds, stamp
from agent.core.errors import Refused, UplinkLost
from agent.core.i18n import Text, text_of
from agent.core.log_fields import LogEvent, fields
from agent.core.tasks import pause
from agent.enrolment import credential
from agent.enrolment.credential import subject
from agent.gateway.backup import close_gate
from agent.registry import identity, place
from agent.registry.registry import Registry
from agent.trust import trust_list
from agent.trust.audit import Chain
from agent.trust.claims import REVOKES
from agent.trust.jws import parse_jws
from agent.trust.store import FILE, TrustStore
from agent.trust.strict import bound
from agent.trust.verify import TakenBack
from agent.uplink.files.container import Envelope, decrypt, verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

    from agent.api.registry import Call, Caller
    from agent.config.models import Backup
    from agent.gateway.backup import BuildingFile
    from agent.gateway.gateway import Gateway

log = logging.getLogger(__name__)

SCHEMA = "gardien/building/1"
REGISTRY = "registry.json"
GZIP = b"\x1f\x8b"
"""first bytes of a decrypted backup that is not signed"""
LARGEST = 64 * 1024 * 1024
"""most bytes of a decompressed backup"""
MOST_MARKS = 3_000_000
"""most strings, brackets, commas and colons in it; enough for some ten thousand dwellings"""


async def backup(
    gateway: Gateway, caller: Caller, *, certificate: str, files: dict[str, str]
) -> dict[str, Any]:
    """Return the backup, encrypted for a certificate (PEM). Raises Refused.

    `files`: the texts of the configuration, by file name.
    """
    content = _content(gateway, files)
    plain = json.dumps(content, ensure_ascii=False).encode()
    sealed = _encrypted(plain, certificate, _signer(gateway.config.state))
    gateway.audit("backup", {"revision": content["revision"], "by": caller.who})
    return {
        "gateway": content["gateway"],
        "revision": content["revision"],
        "file": base64.b64encode(sealed).decode(),
    }


def _content(gateway: Gateway, files: dict[str, str]) -> dict[str, Any]:
    if not gateway.identity:
        raise Refused(identity.why_absent(gateway.identity))
    store = gateway.objects.inbox.trust_store
    store.must_be_open()  # it would be without the trust list and the revocations
    return {
        "schema": SCHEMA,
        "gateway": gateway.identity.gateway,
        "made": stamp(gateway.clock.now()),
        "revision": gateway.registry.revision,
        "registry": gateway.registry.stored(),
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
    """Read a configuration file and the files beside it that belong to it, by name. Raises Refused.

    These are the files that it includes, the building's own profiles, and the certificates that it
    names. Without the certificates of the platforms, the next gateway could not connect to them.
    """
    text, folder = _text(config), config.absolute().parent
    # By pattern and not by loading: a file that was edited since may have mistakes.
    names = re.findall(r"!include[ \t]+[\"']?([\w.-]+)", text)
    names += [f"{FOLDER}/{path.name}" for path in sorted((folder / FOLDER).glob("*.yaml"))]
    contents = {"config.yaml": text} | {name: _text(folder / name) for name in names}
    named = re.findall(rf"{re.escape(str(folder))}/([\w.-]+)", "\n".join(contents.values()))
    return contents | {name: pem for name in named if (pem := _certificates(folder / name))}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Refused("{path} is not a text file in UTF-8", path=path) from None
    except OSError as error:
        raise Refused("{path}: {reason}", path=path, reason=error) from error


def _certificates(path: Path) -> str:
    """Read a file of certificates; empty if it is missing or holds a key or anything else.

    A private key must never get into the backup.
    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
    return text if set(re.findall("-----BEGIN (.*)-----", text)) == {"CERTIFICATE"} else ""


async def keep(gateway: Gateway, config: Path) -> None:
    """Write a new backup after each change, to where `backup` says. Never returns."""
    while True:
        if gateway.config.backup is not None and gateway.identity:
            try:
                await _renew(gateway, gateway.config.backup, config)
                gateway.building.problem = ""
            except (Refused, OSError) as error:
                if text_of(error) != gateway.building.problem:
                    log.warning(
                        "the backup is not up to date: %s", error,
                        extra=fields(LogEvent.BACKUP_OUTDATED),
                    )  # fmt: skip
                gateway.building.problem = text_of(error)
        await pause(gateway.waits.backup)


async def _renew(gateway: Gateway, options: Backup, config: Path) -> None:
    """Encrypt a new backup if its content has changed, and copy it to `backup.folder`.

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
        # Compressing and encrypting take seconds for a large registry: not on the event loop.
        sealed = await asyncio.to_thread(_encrypted, plain, certificate, signer)
        revision = int(content["revision"])
        kept.renew(sealed, says, int(gateway.clock.now()), revision)
        gateway.audit("backup", {"revision": revision})
    if options.folder is not None and kept.latest is not None and gateway.identity:
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
    """Hash what the file would contain and how it would be encrypted: a new hash means a new file.
    Raises NotRecorded.

    The registry is represented by the number of its last change.
    """
    store = gateway.objects.inbox.trust_store
    store.must_be_open()
    trust = store.trust.sha256 if store.trust else None
    waiting = [sha256 for sha256, _, _ in store.waiting()]
    # Each revocation has its own entry in `versions`, so the revoked objects need not be listed.
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
    """Replace a file so that the old or the new one is whole: a USB stick may be pulled out."""
    new = file.with_suffix(".new")
    with new.open("wb") as out:
        out.write(sealed)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


def _restore_waiting(store: TrustStore, via: str, raw: bytes) -> None:
    """Store an object that was waiting at the backup. It is verified when it is tried again."""
    signed = parse_jws(raw)
    named = (signed.typ, str(signed.claims["jti"]))
    store.wait(signed.sha256, named, (via, raw), Text("it waited before the restore"), seconds())


CALLS: Mapping[str, Call] = {"backup": in_person(backup)}
"""calls by name"""


def _is_configuration_file(name: str) -> bool:
    """Whether a name is that of a file beside the configuration, or in the folder of profiles.

    Any other path could write outside the configuration's folder at a restore.
    """
    last = name.removeprefix(f"{FOLDER}/")
    return Path(last).name == last != ".."


def _signer(state: Path) -> Path | None:
    """Return the file with key and certificate to sign with; None if there is none yet."""
    try:
        credential.load(state)
    except Refused:
        return None
    return credential.path(state)


def _encrypted(content: bytes, certificate: str, signer: Path | None) -> bytes:
    packed = gzip.compress(content, mtime=0)
    # `openssl cms` reads certificates only from files.
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


OTHER_KEY = re.compile("no.matching.recipient|EVP_Decrypt")
"""what openssl says of a file that was encrypted for another key"""


def opened(
    sealed: bytes, key: Path, by: Path | None = None
) -> tuple[dict[str, Any], x509.Certificate | None]:
    """Decrypt and check a backup; return its content and the certificate that signed it.

    The certificate is None if the file is not signed. `by`: the certificate of the gateway or of
    its CA, against which the signature is verified; None: a person must compare the certificate.
    Raises Refused.
    """
    try:
        plain = decrypt(sealed, key)
    except UplinkLost as error:
        if not OTHER_KEY.search(str(error)):
            raise Refused(
                "nothing was restored: the backup cannot be decrypted with {key}: {error}",
                key=key,
                error=error,
            ) from error
        raise Refused(
            "nothing was restored: this backup is encrypted for another key than {key}, or damaged."
            " Take the key of this building's recovery certificate (`backup.to` of its"
            " configuration) from the safe, and name it with --key",
            key=key,
        ) from error
    signer = None
    if not plain.startswith(GZIP):
        plain, signer = _verified(plain, by)
    elif by is not None:
        raise Refused(
            "this backup is not signed, so anybody who has the recovery certificate may have"
            " made it. Check where it comes from. To restore it anyway, leave out --signed-by"
        )
    content = _read(plain)
    if signer is not None and subject(signer) != content["gateway"]:
        raise Refused(
            "the backup belongs to gateway {gateway}, but {subject} signed it",
            gateway=content["gateway"],
            subject=subject(signer),
        )
    return content, signer


def is_certificate(file: Path, signer: x509.Certificate | None) -> bool:
    """Whether a file has the certificate itself that signed a backup, not that of a CA."""
    from cryptography import x509  # noqa: PLC0415 -- only a restore needs it

    try:
        return signer in x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError):
        return False


def _verified(signed: bytes, by: Path | None) -> tuple[bytes, x509.Certificate]:
    # A certificate may have expired since it signed the file, and a CA may have issued it for TLS
    # only: neither says anything about who wrote the file.
    vouched = ("-partial_chain", "-no_check_time", "-purpose", "any")
    try:
        return verify(signed, *(("-CAfile", str(by), *vouched) if by else ("-noverify",)))
    except UplinkLost as error:
        raise Refused(
            "the signature of the backup is not valid, or not by {value}: {error}",
            value=by or Text("its own key"),
            error=error,
        ) from error


def _read(plain: bytes) -> dict[str, Any]:
    try:
        with gzip.open(io.BytesIO(plain)) as file:
            text = file.read(LARGEST).decode()
        bound(text, MOST_MARKS)
        content = json.loads(text)
        if not isinstance(content, dict):
            raise TypeError("it is not a JSON object")
        if content["schema"] != SCHEMA:
            raise ValueError(
                Text("its format is {schema}, not {ours}", schema=content["schema"], ours=SCHEMA)
            )
        place.parse(content["gateway"], place.GATEWAY)
        files = content["files"]
        if not isinstance(files, dict) or not all(map(_is_configuration_file, files)):
            raise ValueError(Text("it contains files that do not belong to a configuration"))
        for waiting in content.get("waiting", ()):
            parse_jws(base64.b64decode(waiting["object"])), str(waiting["via"])
    except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error) as error:
        raise Refused("this is not a backup: {error}", error=error) from error
    return dict(content)


def refuse_existing(state: Path) -> None:
    """Raise Refused if a state directory holds a building already."""
    if (state / REGISTRY).exists() or list(state.glob("spool-*.db")):
        raise Refused(
            "{state} holds a building already, so nothing was restored. If nobody needs it any"
            " more, erase it first: gardien factory-reset",
            state=state,
        )


def restore(content: dict[str, Any], state: Path, by: str) -> identity.Identity:
    """Restore the content of a backup into a fresh state directory; return the new identity.

    The caller owns the state. `by`: the person who restores. The registry is put in place last, so
    that an interrupted restore can be repeated. Raises Refused; then nothing of an existing
    building was changed.
    """
    refuse_existing(state)
    new = state / f"{REGISTRY}.restored"
    new.unlink(missing_ok=True)
    if content["registry"] is not None:
        new.write_text(json.dumps(content["registry"], ensure_ascii=False), encoding="utf-8")
        new.chmod(0o600)
        # Withdrawals and consents made since the backup may still arrive. New marks make sure that
        # a consent given before such a withdrawal does not count again (rule D6).
        registry = Registry.open(new)
        registry.marked = False  # without a log: people may copy this file
        registry.draw_marks(seconds(), restored=True)
    raw = base64.b64decode(content["trust"]) if content["trust"] else None
    standing = trust_list.read(raw) if raw else None
    if standing and len(standing.signed_by(standing.roots)) < standing.threshold:
        raise Refused(
            "the trust list in the backup is not signed by enough of its roots, so nothing"
            " was restored"
        )
    shutil.rmtree(state / identity.KEYS, ignore_errors=True)
    close_gate(state, str(content["made"]))
    who = identity.mint(state, str(content["gateway"]))
    with TrustStore.open(state / FILE) as store:
        if standing is not None and (store.trust is None or store.trust.ver < standing.ver):
            store.install(standing, seconds())
        taken = [TakenBack(*one) for one in content.get("taken_back", ())]
        # Leave out the versions of revocations. Platforms send these again, and they must count
        # again: applying one twice does no harm, missing one does.
        versions = [one for one in content["versions"] if one[1] != REVOKES]
        store.remember(content["revoked"], versions, taken, seconds())
        for waiting in content.get("waiting", ()):
            _restore_waiting(store, str(waiting["via"]), base64.b64decode(waiting["object"]))
    body = {name: content[name] for name in ("gateway", "revision", "made")} | {"by": by}
    Chain(state, seconds).append("restored", body)
    if new.exists():
        new.rename(state / REGISTRY)
    return who
