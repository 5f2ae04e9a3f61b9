"""Files: a folder with `in/` and `out/` for each gateway, as an SFTP server or a share has them.

`--files ROOT`: ROOT has `in/` itself (one gateway), or a folder for each gateway, named by its id.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from receiver.batch import LARGEST, NAME, Batch, Id, Rejected, of_csv, of_json, opened
from receiver.databases import open_store
from receiver.intake import Terms, attempted
from receiver.sign import receipts
from receiver.store import rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from receiver.store import Store

OPENSSL_SECONDS = 60
CARRIED = ".carried.p7m"
"""a batch of another transport, encrypted for a stick: its hash is that of the content"""
LARGEST_FILE = 64 * 1024 * 1024


@dataclass(frozen=True)
class FilesSettings(Terms):
    """Where the files are. Without `cert` they are not encrypted."""

    root: Path
    every: float = 1.0
    """seconds between two looks"""


def watch(settings: FilesSettings, database: str, ready: Callable[[], object]) -> None:
    """Take files until something fails."""
    store = open_store(database)
    ready()
    while True:
        for folder, gateway in folders(settings.root):
            Pickup(folder, gateway, settings, store).once()
        time.sleep(settings.every)


def folders(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Each folder with `in/`, and the gateway that alone may write there; None: any."""
    if (root / "in").is_dir():
        yield root, None
        return
    for folder in sorted(root.iterdir()):
        if (folder / "in").is_dir():
            yield folder, folder.name


class Pickup:
    """One gateway's folder."""

    def __init__(
        self, folder: Path, gateway: str | None, settings: FilesSettings, store: Store
    ) -> None:
        self._folder, self._gateway, self._settings, self._store = folder, gateway, settings, store

    def once(self) -> None:
        """Take every whole file, the oldest first, and write the objects that wait."""
        files = [(path, path.lstat()) for path in (self._folder / "in").iterdir()]
        for path, facts in sorted(files, key=lambda file: file[1].st_mtime_ns):
            if path.suffix == ".part" or path.is_symlink() or not path.is_file():
                continue
            if facts.st_size > LARGEST_FILE:
                self._reject(path, "it is too large")
            elif ".status.json.gz" in path.name:
                self._status(path)
            elif path.suffix == ".building":
                self._building(path)
            else:
                self._batch(path)
        self._objects()

    def _batch(self, path: Path) -> None:
        body = path.read_bytes()
        known = named(path.name)
        if known is None:
            self._count("unreadable", path.name)
            path.unlink()
            return
        gateway = self._gateway or known.gateway
        if path.name.endswith(CARRIED):
            if self._settings.cert is None:
                _say_once(f"{path} is encrypted: it waits for a start with --cert and --ca")
                return
            try:
                body = self._decrypted(path, body, known.gateway, known)
            except Rejected as error:
                self._reject(path, str(error))
                return
        receipt = attempted(
            self._store, body, (gateway, self._settings.only), partial(self._opened, path, known)
        )
        if receipt is None:
            receipt = rejection(
                known, sha256(body).hexdigest(), "it does not open, or the receiver has failed"
            )
        self._answer(path, receipt)

    def _opened(self, path: Path, known: Id, body: bytes) -> Batch:
        if path.name.endswith(f".json.zst{CARRIED}"):
            return self._of_its_name(opened(body), known)
        text = self._content(path, body, known.gateway, known)
        read = of_csv if ".csv.gz" in path.name else of_json
        return self._of_its_name(read(text, sha256(body).hexdigest(), len(body)), known)

    @staticmethod
    def _of_its_name(batch: Batch, known: Id) -> Batch:
        if batch.id != known:
            raise Rejected("its name is that of another batch", known)
        return batch

    def _content(self, path: Path, body: bytes, gateway: str, known: Id | None) -> bytes:
        """What a file states. Raises Rejected; then nothing in it is to be believed."""
        if not path.name.endswith(CARRIED) and self._settings.cert is not None:
            body = self._decrypted(path, body, gateway, known)
        try:
            text = zlib.decompressobj(wbits=31).decompress(body, LARGEST)
        except zlib.error as error:
            raise Rejected(f"it is not gzip: {error}", known) from error
        if len(text) >= LARGEST:
            raise Rejected("it is too large when opened", known)
        return text

    def _decrypted(self, path: Path, body: bytes, gateway: str, known: Id | None) -> bytes:
        settings = self._settings
        assert settings.cert is not None
        if path.suffix != ".p7m":
            raise Rejected("it is neither encrypted nor signed", known)
        return _unsealed(body, gateway, settings.cert, settings.ca, known)

    def _status(self, path: Path) -> None:
        # away first: meanwhile the next one may take its place
        path = path.rename(self._folder / "in" / f"{path.name}.part")
        gateway, _, recipient = path.name.partition(".status.json.gz")[0].partition("_")
        try:
            if self._gateway not in {None, gateway}:
                raise Rejected("a status of another gateway")
            whole = path.with_suffix("")
            text = self._content(whole, path.read_bytes(), gateway, None)
            self._store.keep_status(gateway, recipient, text)
        except Rejected as error:
            self._count("unreadable", f"{path.name}: {error}")
        path.unlink()

    def _building(self, path: Path) -> None:
        gateway, _, recipient = path.stem.partition("_")
        if self._gateway not in {None, gateway}:
            self._reject(path, "a backup of another gateway")
            return
        made = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"  # the name does not state it
        receipt = self._store.keep_building(gateway, recipient, made, 0, path.read_bytes())
        self._answer(path, receipt)

    def _objects(self) -> None:
        gateways = [self._gateway] if self._gateway else self._store.gateways()
        folder = self._folder / "out" / "objects"
        for one in (
            one for gateway in gateways for one in self._store.objects(gateway, 0, time.time())
        ):
            path = folder / f"{one.n:012d}.object"
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                _written(path, one.body.encode())
                self._store.sent(one.n, time.time())

    def _answer(self, path: Path, receipt: dict[str, Any]) -> None:
        unsigned, *signed = receipts(receipt, self._settings.signer)
        for text in signed:  # first: a gateway that needs it then finds both
            _written(self._folder / "out" / f"{path.name}.receipt.jwt", text.encode())
        _written(self._folder / "out" / f"{path.name}.receipt.json", unsigned.encode())
        path.unlink()

    def _reject(self, path: Path, why: str) -> None:
        self._count("unreadable", f"{path.name}: {why}")
        path.unlink()

    def _count(self, what: str, words: str) -> None:
        with self._store.transaction():
            self._store.count(self._gateway or "", what, words)


@cache
def _say_once(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def named(file: str) -> Id | None:
    """The id in a file's name. Rule T12."""
    stem = file.partition(".csv")[0].partition(".json")[0]
    parts = stem.split("_")
    if (
        len(parts) != len(Id._fields)
        or not parts[3].isdigit()
        or not all(map(NAME.fullmatch, parts))
    ):
        return None
    return Id(parts[0], parts[1], parts[2], int(parts[3]))


def _unsealed(body: bytes, gateway: str, cert: Path, ca: Path | None, known: Id | None) -> bytes:
    """Decrypt a file, and verify that the gateway has signed it."""
    inner = _openssl(body, known, "cms", "-decrypt", "-inform", "DER", "-inkey", str(cert),
                     "-recip", str(cert))  # fmt: skip
    with tempfile.NamedTemporaryFile(suffix=".pem") as signer:
        text = _openssl(inner, known, "cms", "-verify", "-inform", "DER", "-CAfile", str(ca),
                        "-no_check_time", "-signer", signer.name)  # fmt: skip
        subject = _openssl(
            signer.read(), known, "x509", "-noout", "-subject", "-nameopt", "RFC2253"
        )
    names = subject.decode(errors="replace").strip().removeprefix("subject=").split(",")
    if f"CN={gateway}" not in names:
        raise Rejected(f"it is signed by {names}, not by {gateway}", known)
    return text


def _openssl(body: bytes, known: Id | None, *arguments: str) -> bytes:
    try:
        done = subprocess.run(("openssl", *arguments), input=body, capture_output=True,
                              timeout=OPENSSL_SECONDS, check=False)  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Rejected("it does not open in time", known) from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines() or [""]
        raise Rejected(f"it does not open: {last[-1][:150]}", known)
    return done.stdout


def _written(path: Path, content: bytes) -> None:
    """A file has its name only when it is complete."""
    new = path.with_name(f"{path.name}.part")
    new.write_bytes(content)
    new.replace(path)
