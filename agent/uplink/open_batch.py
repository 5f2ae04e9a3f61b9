"""Opens a delivered batch for people: `gardien batch open`.

It accepts what any transport carries: an MQTT or HTTPS payload, a file with or without signature
and encryption. The signer must be the gateway that the file name and the batch state.
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

from agent.core.errors import Refused, UplinkLost
from agent.enrolment.judge import subject
from agent.trust.strict import bound
from agent.uplink.cms import decrypt, verify
from agent.uplink.container import LARGEST_TEXT
from agent.uplink.table import table

if TYPE_CHECKING:
    from pathlib import Path

ZSTD, GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
"""the first bytes of each format"""

WRONG = (
    ValueError, LookupError, TypeError, ArithmeticError, EOFError, OSError, zlib.error,
    zstandard.ZstdError, csv.Error,
)  # fmt: skip
"""what parsing a malformed batch raises"""


@dataclass(frozen=True, slots=True)
class OpeningKeys:
    """What is needed to decrypt and verify a file."""

    key: Path
    certificate: Path
    ca: Path
    """the CA of the gateways"""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """The content of a file, and its signer."""

    rows: list[dict[str, str]]
    """one dictionary for each row, by column of the table"""
    document: dict[str, Any] | None
    """the batch as JSON; None: the file is a table"""
    signer: str | None
    """id of the gateway that signed; None: not signed"""

    @property
    def batch(self) -> str:
        """`gateway/recipient/epoch/seq`, as stated in the batch."""
        if self.document is not None:
            ids = ("gateway", "recipient", "epoch", "seq")
            return "/".join(str(self.document[name]) for name in ids)
        return self.rows[0]["batch"]


def unsealed(path: Path, keys: OpeningKeys | None) -> OpenedFile:
    """Open a file. Raises Refused if it cannot be opened, or if its gateway did not sign it."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    signer = None
    if not body.startswith((ZSTD, GZIP)):
        if keys is None:
            raise Refused(f"{path} is encrypted. Add --key, --cert and --ca")
        body, signer = _verified(_decrypted(body, keys), keys)
    try:
        opened = _read(_inflated(body), signer)
        gateway, recipient, epoch, seq = opened.batch.split("/")
    except WRONG as error:
        raise Refused(f"{path} is not a batch: {error}") from error
    if signer is not None and signer != gateway:
        raise Refused(f"{path} states gateway {gateway}, but {signer} signed it")
    expected_stem = f"{gateway}_{recipient}_{epoch}_{seq}"
    if path.name.endswith((".p7m", ".csv.gz", ".json.gz")) and not path.name.startswith(
        f"{expected_stem}."
    ):
        raise Refused(f"{path} contains another batch than its name states: {expected_stem}")
    return opened


def _inflated(body: bytes) -> bytes:
    if body.startswith(ZSTD):
        # not `decompress`, which trusts the size that the file claims
        text = zstandard.ZstdDecompressor().stream_reader(body).read(LARGEST_TEXT + 1)
    else:
        with gzip.open(io.BytesIO(body)) as file:
            text = file.read(LARGEST_TEXT + 1)
    if len(text) > LARGEST_TEXT:
        raise ValueError("it unpacks to more than the limit of a batch")
    return text


def _read(text: bytes, signer: str | None) -> OpenedFile:
    if not text.startswith(b"{"):
        return OpenedFile(_cells(text), None, signer)
    # deep nesting would end json.loads with RecursionError, which WRONG does not list
    bound(text.decode(), len(text))
    document = json.loads(text, parse_float=str, parse_int=str)
    series = document.get("series") or []
    if not isinstance(series, list) or not all(isinstance(one, dict) for one in series):
        raise ValueError("`series` must be a list of objects")
    rows = _cells(table(document)) if series else []
    return OpenedFile(rows, document, signer)


def _cells(text: bytes) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(text.decode(), newline=""), delimiter=";"))
    if any(None in (*row, *row.values()) for row in rows):
        raise ValueError("a line has another number of cells than the header")
    return rows


def _decrypted(body: bytes, keys: OpeningKeys) -> bytes:
    try:
        return decrypt(body, keys.key, "-recip", str(keys.certificate))
    except UplinkLost as error:
        raise Refused(f"the file was altered, or is encrypted for another key ({error})") from error


def _verified(body: bytes, keys: OpeningKeys) -> tuple[bytes, str]:
    try:
        # a file is kept longer than the certificate that signed it was valid
        content, signer = verify(body, "-CAfile", str(keys.ca), "-no_check_time")
    except UplinkLost as error:
        raise Refused(
            f"the signature is not valid, or not by a certificate of that CA ({error})"
        ) from error
    return content, subject(signer)
