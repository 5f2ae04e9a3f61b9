"""The file of a batch: CSV or JSON, compressed, signed, encrypted; and opened for people."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zstandard
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from agent.core.errors import Refused, UplinkLost
from agent.core.i18n import Text
from agent.core.quantities import channels
from agent.enrolment.credential import subject
from agent.trust.strict import LARGEST_EXPONENT, bound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.core.model import SealedBatch

OPENSSL = "openssl"
SECONDS = 60.0
"""timeout of one call; a file takes some hundredths of a second"""
SIGN = "cms -sign -binary -nodetach -md sha256 -outform DER"
GCM = "cms -encrypt -binary -stream -aes-256-gcm -outform DER"
CBC = "cms -encrypt -binary -stream -aes-256-cbc -outform DER"
DECRYPT = "cms -decrypt -binary -inform DER"
VERIFY = "cms -verify -binary -inform DER"
BY_EC = "-keyopt ecdh_kdf_md:sha256 -wrap id-aes256-wrap"
BY_RSA = "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256"
COLUMNS = (
    "batch", "row", "place", "channel", "obis", "kind", "t_start", "t_end", "value", "unit", "q",
    "flags", "method", "ver", "why", "meter", "n", "basis", "occupancy", "read_at",
    "policy", "privacy", "clock", "audit",
    "step", "span", "again", "lane", "created",
)  # fmt: skip
"""the columns of every file, in order; those after `audit` serve the unique key and spans"""
SPARSE = ("flags", "method", "ver", "why", "n", "span")
"""columns that a series states sparsely, by row index"""
OVER = {"INT", "AVG"}
"""kinds whose value is for the interval (t − step, t]"""
FORMULA = "=+-@\t\r'"
"""a text that begins with one of these gets an apostrophe"""
LARGEST_TEXT = 64 * 1024 * 1024
SETTING = 9, zlib.DEFLATED, 31, 9, zlib.Z_FILTERED
"""gzip parameters for lines that differ in few digits; an eighth smaller than the default"""
ZSTD, GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
"""the first bytes of each format"""

WRONG = (
    ValueError, LookupError, TypeError, ArithmeticError, EOFError, OSError, zlib.error,
    zstandard.ZstdError, csv.Error,
)  # fmt: skip
"""what parsing a malformed batch raises"""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who signs, and who can decrypt."""

    signer: Path
    """key and certificates in one file"""
    readers: tuple[Path, ...]
    """the certificates of those who can decrypt"""
    compat: bool = False
    """AES-256-CBC for RSA readers; weaker: only the signature shows that a file was altered"""

    def close(self, content: bytes) -> bytes:
        """Sign and encrypt. Raises UplinkLost if openssl fails."""
        return self.encrypt(_run(self._signing(), content))

    def encrypt(self, content: bytes) -> bytes:
        """Encrypt without a signature. Raises UplinkLost if openssl fails."""
        return _run(self._encrypting(), content)

    def _signing(self) -> list[str]:
        file = str(self.signer)
        # -certfile adds the issuers' certificates in the same file: a reader may have only the root
        return [*SIGN.split(), "-signer", file, "-inkey", file, "-certfile", file]

    def _encrypting(self) -> list[str]:
        arguments = (CBC if self.compat else GCM).split()
        for reader in self.readers:
            arguments += ["-recip", str(reader), *self._options(reader)]
        return arguments

    def _options(self, reader: Path) -> Sequence[str]:
        match _key(reader):
            case RSAPublicKey():
                return () if self.compat else BY_RSA.split()
            case EllipticCurvePublicKey() if not self.compat:
                return BY_EC.split()
        wanted = "RSA" if self.compat else "EC (P-256) or RSA"
        raise UplinkLost(
            "encrypt_for: the key in {reader} must be {wanted}", reader=reader, wanted=wanted
        )


def decrypt(content: bytes, key: Path, *options: str) -> bytes:
    """Decrypt with a private key. Raises UplinkLost."""
    return _run([*DECRYPT.split(), "-inkey", str(key), *options], content)


def verify(content: bytes, *by: str) -> tuple[bytes, x509.Certificate]:
    """The signed content and the signer's certificate. Raises UplinkLost if verification fails.

    `by`: options of `openssl cms` that say which certificates are trusted.
    """
    with tempfile.NamedTemporaryFile(suffix=".pem") as signer:
        text = _run([*VERIFY.split(), *by, "-signer", signer.name], content)
        return text, x509.load_pem_x509_certificate(Path(signer.name).read_bytes())


def _key(reader: Path) -> object:
    try:
        return x509.load_pem_x509_certificate(reader.read_bytes()).public_key()
    except OSError as error:
        raise UplinkLost(
            "encrypt_for: {reader} cannot be read: {reason}", reader=reader, reason=error
        ) from error
    except ValueError as error:
        raise UplinkLost(
            "encrypt_for: {reader} contains no certificate (PEM)", reader=reader
        ) from error


def _run(arguments: Sequence[str], content: bytes) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 -- our arguments, and paths of the configuration
            [OPENSSL, *arguments], input=content, capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UplinkLost("the command openssl cannot be run: {error}", error=error) from error
    if done.returncode or not done.stdout:
        messages = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise UplinkLost(
            "openssl {lstrip} failed: {messages}",
            lstrip=arguments[1].lstrip("-"),
            messages=messages[-1],
        )
    return done.stdout


def table(document: dict[str, Any]) -> bytes:
    """The rows of a batch as CSV; numbers in `document` are strings or Decimals, never floats."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\n")
    writer.writerow(COLUMNS)
    head = _head(document)
    rows = [row for series in document["series"] for row in _rows(series)]
    rows.sort(key=lambda row: (row["place"], row["channel"], row["t_end"]))
    for number, row in enumerate(rows, 1):
        cells = head | row | {"row": str(number)}
        writer.writerow([cells.get(column, "") for column in COLUMNS])
    return out.getvalue().encode()


def _head(document: dict[str, Any]) -> dict[str, str]:
    ids = ("gateway", "recipient", "epoch", "seq")
    names = ("policy", "privacy", "clock", "audit", "lane", "created")
    batch = "/".join(str(document[name]) for name in ids)
    return {"batch": batch} | {name: _text(document.get(name)) for name in names}


def _rows(series: dict[str, Any]) -> Iterator[dict[str, str]]:
    names = ("place", "channel", "kind", "unit", "meter", "occupancy", "basis")
    shared = {name: _text(series.get(name)) for name in names}
    # `gardien batch open` may show a batch of another version, with channels that this one does not
    # know
    known = channels().get(series["channel"])
    step = int(series["step"])
    start = int(dt.datetime.fromisoformat(series["t0"]).timestamp())
    shared |= {
        "obis": (known.obis or "") if known else "",
        "step": str(step),
        "again": "1" if series.get("again") else "",
    }
    sparse = {name: series[name] for name in SPARSE if name in series}
    delays, over = series.get("d", {}), shared["kind"] in OVER
    columns = zip(series["t"], series["v"], series["q"], strict=True)
    for index, (t, value, quality) in enumerate(columns):
        end, at = start + int(t), str(index)
        row = shared | {"t_end": _stamp(end), "q": quality}
        if over:
            row["t_start"] = _stamp(end - step)
        if value is not None:
            row["value"] = plain(value)
            row["read_at"] = _stamp(end + int(delays.get(at, 0)))
        for name, by_index in sparse.items():
            row[name] = _text(by_index.get(at))
        yield row


def plain(value: Decimal | str) -> str:
    """A number without exponent, with all digits. Raises ValueError if it has too many."""
    text = str(value)
    if "E" not in text.upper():
        return text
    number = Decimal(text)
    # 1E999999999 would become a gigabyte of zeros
    if abs(number.adjusted()) > LARGEST_EXPONENT:
        raise ValueError(
            Text(
                "the exponent of {text} is larger than {largest_exponent}",
                text=text[:40],
                largest_exponent=LARGEST_EXPONENT,
            )
        )
    return format(number, "f")


def _text(name: object) -> str:
    """A cell that spreadsheets do not take for a formula."""
    text = "" if name is None else str(name)
    return f"'{text}" if text.startswith(tuple(FORMULA)) else text


@lru_cache(maxsize=10_000)
def _stamp(second: int) -> str:
    return f"{dt.datetime.fromtimestamp(second, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True)
class Packing:
    """Packs batches for one recipient (agent.buffer.outbox.Pack)."""

    envelope: Envelope | None
    """None: files are neither signed nor encrypted"""
    rows: str = "csv"
    """how batches with rows are written: `csv` or `json`"""

    def closed(self, text: bytes, form: str) -> tuple[str, bytes]:
        """Extension and bytes of a file with this text. Raises UplinkLost if openssl fails."""
        gzip = zlib.compressobj(*SETTING)
        packed = gzip.compress(text) + gzip.flush()
        if self.envelope is None:
            return f"{form}.gz", packed
        return f"{form}.gz.p7m", self.envelope.close(packed)

    def __call__(self, batch: SealedBatch) -> tuple[str, bytes]:
        """Extension and bytes of the file of a batch. Raises UplinkLost if openssl fails."""
        text = zstandard.ZstdDecompressor().decompress(batch.payload, max_output_size=LARGEST_TEXT)
        # numbers stay texts: a float would lose the meter's own digits
        if batch.rows and self.rows == "csv":
            document = json.loads(text, parse_float=str, parse_int=str)
            return self.closed(table(document), "csv")
        return self.closed(text, "json")


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
        raise Refused("{file} cannot be read: {error}", file=path, error=error) from error
    signer = None
    if not body.startswith((ZSTD, GZIP)):
        if keys is None:
            raise Refused("{path} is encrypted. Add --key, --cert and --ca", path=path)
        body, signer = _verified(_decrypted(body, keys), keys)
    try:
        opened = _read(_inflated(body), signer)
        gateway, recipient, epoch, seq = opened.batch.split("/")
    except WRONG as error:
        raise Refused("{path} is not a batch: {error}", path=path, error=error) from error
    if signer is not None and signer != gateway:
        raise Refused(
            "{path} states gateway {gateway}, but {signer} signed it",
            path=path,
            gateway=gateway,
            signer=signer,
        )
    expected_stem = f"{gateway}_{recipient}_{epoch}_{seq}"
    if path.name.endswith((".p7m", ".csv.gz", ".json.gz")) and not path.name.startswith(
        f"{expected_stem}."
    ):
        raise Refused(
            "{path} contains another batch than its name states: {expected_stem}",
            path=path,
            expected_stem=expected_stem,
        )
    return opened


def _inflated(body: bytes) -> bytes:
    if body.startswith(ZSTD):
        # not `decompress`, which trusts the size that the file claims
        text = zstandard.ZstdDecompressor().stream_reader(body).read(LARGEST_TEXT + 1)
    else:
        with gzip.open(io.BytesIO(body)) as file:
            text = file.read(LARGEST_TEXT + 1)
    if len(text) > LARGEST_TEXT:
        raise ValueError(Text("it unpacks to more than the limit of a batch"))
    return text


def _read(text: bytes, signer: str | None) -> OpenedFile:
    if not text.startswith(b"{"):
        return OpenedFile(_cells(text), None, signer)
    # deep nesting would end json.loads with RecursionError, which WRONG does not list
    bound(text.decode(), len(text))
    document = json.loads(text, parse_float=str, parse_int=str)
    series = document.get("series") or []
    if not isinstance(series, list) or not all(isinstance(one, dict) for one in series):
        raise ValueError(Text("`series` must be a list of objects"))
    rows = _cells(table(document)) if series else []
    return OpenedFile(rows, document, signer)


def _cells(text: bytes) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(text.decode(), newline=""), delimiter=";"))
    if any(None in (*row, *row.values()) for row in rows):
        raise ValueError(Text("a line has another number of cells than the header"))
    return rows


def _decrypted(body: bytes, keys: OpeningKeys) -> bytes:
    try:
        return decrypt(body, keys.key, "-recip", str(keys.certificate))
    except UplinkLost as error:
        raise Refused(
            "the file was altered, or is encrypted for another key ({error})", error=error
        ) from error


def _verified(body: bytes, keys: OpeningKeys) -> tuple[bytes, str]:
    try:
        # a file is kept longer than the certificate that signed it was valid
        content, signer = verify(body, "-CAfile", str(keys.ca), "-no_check_time")
    except UplinkLost as error:
        raise Refused(
            "the signature is not valid, or not by a certificate of that CA ({error})", error=error
        ) from error
    return content, subject(signer)
