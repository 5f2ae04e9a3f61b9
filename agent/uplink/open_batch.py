"""A delivered batch opened again, for the people who look into one: `gardien batch open`.

It takes what any transport carries: an MQTT or HTTPS payload, a file closed or open. Whoever signed
must be the gateway that the file's name and the batch itself say.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zstandard

from agent.enrolment.judge import subject
from agent.errors import Refused, UplinkLost
from agent.trust.strict import bound
from agent.uplink.cms import decrypt, verify
from agent.uplink.container import LARGEST_TEXT
from agent.uplink.table import table

if TYPE_CHECKING:
    from pathlib import Path

ZSTD, GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
"""how such bytes begin"""

WRONG = (
    ValueError, LookupError, TypeError, ArithmeticError, EOFError, OSError, zlib.error,
    zstandard.ZstdError, csv.Error,
)  # fmt: skip
"""what reading something that is no batch raises"""


@dataclass(frozen=True, slots=True)
class OpeningKeys:
    """What it takes to open a closed file."""

    key: Path
    certificate: Path
    ca: Path
    """of the fleet's gateways"""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """What a file says, and who signed it."""

    rows: list[dict[str, str]]
    """as the table has them, by column"""
    document: dict[str, Any] | None
    """of a batch that is JSON; None: it is a table"""
    signer: str | None
    """None: nobody signed it"""

    @property
    def batch(self) -> str:
        """`gateway/recipient/epoch/seq`, as the batch itself says."""
        if self.document is not None:
            ids = ("gateway", "recipient", "epoch", "seq")
            return "/".join(str(self.document[name]) for name in ids)
        return self.rows[0]["batch"]


def unsealed(path: Path, keys: OpeningKeys | None) -> OpenedFile:
    """Open a file. Raises Refused, in words, on what does not open or is not whose it seems."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    signer = None
    if not body.startswith((ZSTD, GZIP)):
        if keys is None:
            raise Refused(f"{path} is encrypted: say --key, --cert and --ca")
        body, signer = _verified(_decrypted(body, keys), keys)
    try:
        found = _read(_inflated(body), signer)
        gateway, recipient, epoch, seq = found.batch.split("/")
    except WRONG as error:
        raise Refused(f"{path} is no batch: {error}") from error
    if signer is not None and signer != gateway:
        raise Refused(f"{path} says that it is of {gateway}, and {signer} signed it")
    said = f"{gateway}_{recipient}_{epoch}_{seq}"
    if path.name.endswith((".p7m", ".csv.gz", ".json.gz")) and not path.name.startswith(f"{said}."):
        raise Refused(f"{path} is another batch than its name says: {said}")
    return found


def _inflated(body: bytes) -> bytes:
    if body.startswith(ZSTD):
        # not `decompress`, which believes whatever size a file claims
        text = zstandard.ZstdDecompressor().stream_reader(body).read(LARGEST_TEXT + 1)
    else:
        with gzip.open(io.BytesIO(body)) as file:
            text = file.read(LARGEST_TEXT + 1)
    if len(text) > LARGEST_TEXT:
        raise ValueError("it opens to more than any batch has")
    return text


def _read(text: bytes, signer: str | None) -> OpenedFile:
    if not text.startswith(b"{"):
        return OpenedFile(_cells(text), None, signer)
    bound(text.decode(), len(text))
    document = json.loads(text, parse_float=str, parse_int=str)
    series = document.get("series") or []
    if not isinstance(series, list) or not all(isinstance(one, dict) for one in series):
        raise ValueError("its series are none")
    rows = _cells(table(document)) if series else []
    return OpenedFile(rows, document, signer)


def _cells(text: bytes) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(text.decode(), newline=""), delimiter=";"))
    if any(None in (*row, *row.values()) for row in rows):
        raise ValueError("a line has not as many cells as the first one")
    return rows


def _decrypted(body: bytes, keys: OpeningKeys) -> bytes:
    try:
        return decrypt(body, keys.key, "-recip", str(keys.certificate))
    except UplinkLost as error:
        raise Refused(f"it does not open with that key, or was altered ({error})") from error


def _verified(body: bytes, keys: OpeningKeys) -> tuple[bytes, str]:
    try:
        content, signer = verify(body, "-CAfile", str(keys.ca), "-no_check_time")
    except UplinkLost as error:
        raise Refused(f"its signature does not hold, or not by that CA ({error})") from error
    return content, subject(signer)
