"""The platform that fetches files: opens them with openssl and gunzip alone, keeps, answers.

It does with each file what docs/platform.md tells a stranger to do, by the very line that stands
there, and then reads the table with the csv module.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hil.platform.answer import receipt, signed
from hil.platform.buildings import Buildings
from hil.platform.status import keep_status
from hil.platform.unpack import Id, Parcel, Row, UnreadableError, parcel_of

if TYPE_CHECKING:
    from pathlib import Path

    from hil.platform.ledger import Ledger

OPEN = """set -o pipefail
openssl cms -decrypt -inform DER -in "$1" -inkey "$2" -recip "$3" |
openssl cms -verify -inform DER -CAfile "$4" -no_check_time -signer "$5" | gunzip
"""
SIGNER = 'openssl x509 -in "$1" -noout -subject -nameopt RFC2253'
PLAIN = 'gunzip < "$1"'


@dataclass(frozen=True)
class Reader:
    """What it takes to open a file."""

    key: Path
    certificate: Path
    ca: Path
    """of the fleet: whoever signs must be known to it"""

    def open(self, path: Path, gateway: str) -> bytes:
        """What a file says. Raises UnreadableError, and then not a byte of it is believed."""
        with tempfile.NamedTemporaryFile(suffix=".pem") as signer:
            words = (path, self.key, self.certificate, self.ca, signer.name)
            text = _shell(OPEN, *words)
            subject = _shell(SIGNER, signer.name).decode().strip()
        if f"CN={gateway}" not in subject.removeprefix("subject=").split(","):
            raise UnreadableError(f"signed by {subject}, not by {gateway}")
        return text


def _shell(line: str, *words: object) -> bytes:
    done = subprocess.run(
        ("bash", "-c", line, "bash", *map(str, words)), capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [""]
        raise UnreadableError(f"it does not open: {said[-1]}")
    return done.stdout


def named(file: str) -> Id:
    """The id in a file's name. Raises UnreadableError."""
    stem, _, _ = file.partition(".csv.gz")
    stem, _, _ = stem.partition(".json.gz")
    gateway, recipient, epoch, seq = [*stem.split("_"), "", "", ""][:4]
    if not seq.isdigit():
        raise UnreadableError(f"no batch is named {file}")
    return Id(gateway, recipient, epoch, int(seq))


def parcel(file: str, text: bytes, sha256: str) -> Parcel:
    """A batch out of an opened file: a table, or JSON where there are no rows."""
    if ".csv.gz" not in file:
        return parcel_of(text, sha256)
    table = list(csv.DictReader(io.StringIO(text.decode(), newline=""), delimiter=";"))
    try:
        gateway, recipient, epoch, seq = table[0]["batch"].split("/")
        rows = [_row(cells) for cells in table]
    except (LookupError, ValueError, AttributeError) as error:
        raise UnreadableError(f"{type(error).__name__}: {error}") from error
    id_ = Id(gateway, recipient, epoch, int(seq))
    return Parcel(id_, sha256, table[0]["lane"], table[0]["created"], rows)


def _row(cells: dict[str, str]) -> Row:
    said = {name: cell.removeprefix("'") for name, cell in cells.items()}
    end = datetime.fromisoformat(said["t_end"])
    read = datetime.fromisoformat(said["read_at"]) if said["read_at"] else end
    return Row(
        place=said["place"],
        channel=said["channel"],
        kind=said["kind"],
        unit=said["unit"],
        step=int(said["step"]),
        meter=said["meter"] or None,
        occupancy=said["occupancy"] or None,
        basis=said["basis"],
        t=int(end.astimezone(UTC).timestamp()),
        v=cells["value"] or None,
        q=said["q"],
        d=int((read - end).total_seconds()),
        why=said["why"] or None,
        span=int(said["span"] or 1),
        ver=int(said["ver"]) if said["ver"] else None,
        again=said["again"] == "1",
        flags=said["flags"],
        n=int(said["n"]) if said["n"] else None,
    )


class Pickup:
    """Fetches what lies in `in/`, answers in `out/`."""

    def __init__(
        self, root: Path, ledger: Ledger, reader: Reader | None, sign: Path | None = None
    ) -> None:
        self._root, self._ledger, self._reader, self._sign = root, ledger, reader, sign
        self._buildings = Buildings(root / "buildings")

    def once(self) -> int:
        """Every whole file that lies there now; how many there were."""
        files = [one for one in (self._root / "in").iterdir() if one.suffix != ".part"]
        for path in sorted(files, key=lambda one: one.stat().st_mtime_ns):
            self._take(path)
        return len(files)

    def _take(self, path: Path) -> None:
        if ".status.json.gz" in path.name:
            self._keep_status(path)
            return
        body = path.read_bytes()
        if path.suffix == ".building":
            self._keep(path, body)
            return
        sha256 = hashlib.sha256(body).hexdigest()
        try:
            id_ = named(path.name)
        except UnreadableError:
            self._ledger.count("unreadable")
            path.unlink()
            return
        try:
            text = self._reader.open(path, id_.gateway) if self._reader else _shell(PLAIN, path)
            found = parcel(path.name, text, sha256)
            if found.id != id_:
                raise UnreadableError("its name is another batch's")
            held = self._ledger.store(found, len(body))
        except UnreadableError as error:
            self._ledger.count("rejected_batches")
            self._answer(path, id_, {"rejected": [[id_.seq, sha256, str(error)]]})
        else:
            self._answer(path, id_, self._ledger.word(id_, held))
        path.unlink()

    def _keep_status(self, path: Path) -> None:
        gateway = path.name.partition("_")[0]
        # away first: meanwhile the next one may take its place
        path = path.rename(self._root / path.name)
        try:
            text = self._reader.open(path, gateway) if self._reader else _shell(PLAIN, path)
            keep_status(self._root / "status", gateway, text)
        except UnreadableError:
            self._ledger.count("unreadable")
        path.unlink()

    def _keep(self, path: Path, content: bytes) -> None:
        """A building file: what comes later is later."""
        gateway, _, recipient = path.stem.partition("_")
        made = datetime.now(UTC).isoformat()
        receipt_ = self._buildings.keep(gateway, recipient, made, content)
        out = self._root / "out" / f"{path.name}.receipt.json"
        out.with_suffix(".new").write_text(json.dumps(receipt_))
        out.with_suffix(".new").replace(out)
        path.unlink()

    def _answer(self, path: Path, id_: Id, word: dict[str, Any]) -> None:
        out = self._root / "out" / f"{path.name}.receipt.json"
        new = out.with_suffix(".new")
        body = receipt(self._ledger, id_, word)
        new.write_bytes(body)
        new.replace(out)
        if proof := signed(body, self._sign):
            new.write_bytes(proof)
            new.replace(out.with_suffix(".jwt"))


def watch(pickup: Pickup, every: float) -> None:
    """Fetch for ever; says `ready` first."""
    print("ready", flush=True)
    while True:
        pickup.once()
        time.sleep(every)
