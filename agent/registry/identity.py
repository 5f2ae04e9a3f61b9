"""The identity of this gateway: its id, its state id and its keys. All are created together or not
at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.core.atomic_write import NO_ROOM, clear, overwrite, read_key
from agent.core.errors import Absent, NotForYou, Refused
from agent.core.i18n import Text
from agent.registry import place
from agent.registry.storage import sync_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEYS = "keys"
NAMES, SPOOL, SIGNING = "identity.json", "spool.key", "gateway.pem"
SPOOL_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """Ids and keys of this gateway."""

    gateway: str
    """`G…`; it never changes, even when the machine is replaced"""
    state: str
    """id of this state directory; a restored one gets a new id"""
    spool_key: bytes = field(repr=False)
    """AES-256 key of what waits on the disk"""
    signing_key: Ed25519PrivateKey = field(repr=False)
    spool_key_before: bytes | None = field(default=None, repr=False)
    """the previous spool key during a rotation: what is not yet sealed again is under it"""
    rotating_since: float | None = None
    """Unix seconds; None: no rotation is under way"""


class NoIdentity(Absent, Identity):
    """In place of the identity until `gardien key new` has been run: no ids and no keys."""

    REASON = Text("this gateway has no identity yet. Create it: gardien key new")

    gateway = state = ""
    spool_key_before = rotating_since = None


def mint(state: Path, gateway: str | None = None) -> Identity:
    """Create the identity under `<state>/keys`, durably and readable by its owner only.

    `gateway`: the id of the gateway that this one replaces; None: draw a new id. Raises Refused if
    there is an identity already, because a second one would make the spool unreadable.
    """
    keys = state / KEYS
    if keys.exists():
        raise Refused("{keys}: this gateway already has keys", keys=keys)
    signing = Ed25519PrivateKey.generate()
    names = {"gateway": gateway or place.mint(place.GATEWAY), "state": secrets.token_hex(16)}
    contents = {
        NAMES: json.dumps(names).encode(),
        SPOOL: secrets.token_bytes(SPOOL_KEY_BYTES),
        SIGNING: signing.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }
    try:
        _write_together(keys, contents)
    except OSError as error:
        raise Refused("{keys} cannot be created: {reason}", keys=keys, reason=error) from error
    return Identity(names["gateway"], names["state"], contents[SPOOL], signing)


def load(state: Path) -> Identity:
    """Read the identity. Raises Refused if there is none, or if it is damaged or readable by
    others; NotForYou if this account may not read it.
    """
    keys = state / KEYS
    if not keys.is_dir():
        raise Refused("{state} has no keys yet: run `gardien key new`", state=state)
    try:
        names = json.loads(_private(keys / NAMES))
        signing = serialization.load_pem_private_key(_private(keys / SIGNING), password=None)
        spool_keys = _private(keys / SPOOL)
        # the file's own time says since when the rotation runs: a second file could contradict it
        written = (keys / SPOOL).stat().st_mtime
        gateway, state_id = place.parse(names["gateway"], place.GATEWAY), str(names["state"])
    except PermissionError as error:
        raise NotForYou("{keys} is not for this account: run it with sudo", keys=keys) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Refused(
            "{keys} is damaged ({error}): restore a copy of it", keys=keys, error=error
        ) from error
    spool_key, before = spool_keys[:SPOOL_KEY_BYTES], spool_keys[SPOOL_KEY_BYTES:]
    whole = len(spool_key) == SPOOL_KEY_BYTES and len(before) in {0, SPOOL_KEY_BYTES}
    if not whole or not isinstance(signing, Ed25519PrivateKey):
        raise Refused(
            "{keys} is damaged (a key of the wrong kind): restore a copy of it", keys=keys
        )
    return Identity(
        gateway, state_id, spool_key, signing, before or None, written if before else None
    )


def begin_rotation(state: Path, who: Identity) -> Identity:
    """Draw a new spool key. Until `end_rotation` the previous key follows it in the same file.

    Both keys are in one file so that neither can exist without the other: after kill -9 the
    rotation has begun or not. Blocking. Raises Refused if a rotation is under way, or if the disk
    fails.
    """
    if who.spool_key_before is not None:
        raise Refused("the spool key is being rotated already")
    drawn, file = secrets.token_bytes(SPOOL_KEY_BYTES), state / KEYS / SPOOL
    _replace(file, drawn + who.spool_key)
    since = file.stat().st_mtime
    return replace(who, spool_key=drawn, spool_key_before=who.spool_key, rotating_since=since)


def end_rotation(state: Path, who: Identity) -> Identity:
    """Destroy the previous spool key; nothing is under it any more. Blocking. Raises Refused."""
    _replace(state / KEYS / SPOOL, who.spool_key)
    return replace(who, spool_key_before=None, rotating_since=None)


def bind(state: Path, machine: str) -> tuple[Identity, bool]:
    """Read the identity on this machine; also whether its state id was drawn anew.

    A state directory on another machine than before is another state: what was signed for the
    earlier one no longer counts. `machine`: the machine-id, or empty. Only the owner of the state
    may call this. Raises Refused as `load` does.
    """
    who, file = load(state), state / KEYS / NAMES
    names = json.loads(file.read_bytes())
    here = _machine(machine, who.gateway)
    before = names.get("machine")
    if not machine or before == here:
        return who, False
    moved = before is not None
    # a copied state would use numbers twice, so what was signed for the other one must not count
    if moved:
        who = replace(who, state=secrets.token_hex(16))
    _replace(file, json.dumps({**names, "state": who.state, "machine": here}).encode())
    return who, moved


def _machine(machine: str, gateway: str) -> str:
    """A hash of the machine-id, which must be kept confidential (machine-id(5)): it shows only
    whether it is the same machine.
    """
    return hashlib.sha256(f"{gateway} {machine}".encode()).hexdigest()


def _replace(file: Path, content: bytes) -> None:
    """Replace the content of a file and overwrite the old one, because it may be a key."""
    new = file.with_suffix(".new")
    try:
        clear(new)
        _write(new, content)
        with file.open("r+b") as old:
            new.replace(file)
            sync_folder(file.parent)
            # only after the new file is durable, or a power cut would lose both keys
            overwrite(old)
    except OSError as error:
        room = Text("; free some room on the disk") if error.errno in NO_ROOM else ""
        raise Refused(
            "{file} could not be written: {reason}{room}", file=file, reason=error, room=room
        ) from error


def _private(path: Path) -> bytes:
    if path.stat().st_mode & 0o077:
        raise Refused(
            "{path} may be read by others: chmod 600 it, and ask who has read it", path=path
        )
    return read_key(path)


def _write_together(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Create a folder with these files, all of them or none, even if the process is killed."""
    if not folder.parent.exists():
        folder.parent.mkdir(mode=0o700, parents=True)
        sync_folder(folder.parent.parent)
    new = folder.with_suffix(".new")
    # left by an earlier attempt that was killed; these keys were never used
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    for name, content in contents.items():
        _write(new / name, content)
    sync_folder(new)
    new.rename(folder)
    sync_folder(folder.parent)


def _write(path: Path, content: bytes) -> None:
    # the mode is set before there is anything to read
    path.touch(mode=0o600, exist_ok=False)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
