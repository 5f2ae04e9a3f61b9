"""The gateway's private key and its certificates in one file, for TLS and for signing files.

One file, so that nobody ever sees a key beside the certificate of another; it is replaced by one
rename. A new key lies in a file of its own until its certificate has come (design note 025); the
one before lies in another until the new one has worked (design note 031).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agent.atomic_write import destroy, read_key, write_key
from agent.errors import NotForYou, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FILE, WAITING, BEFORE = "identity.pem", "identity.waiting.pem", "identity.before.pem"
UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
"""what the library raises at one that is damaged or of a kind it does not know"""


@dataclass(frozen=True, slots=True)
class Credential:
    """A key with the certificate that speaks for it, and those that lead from there to a CA."""

    key: EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    """our own first"""

    @property
    def certificate(self) -> x509.Certificate:
        """Our own."""
        return self.chain[0]


def path(state: Path) -> Path:
    """Where key and certificates of a state directory lie: what TLS and `openssl` are given."""
    return state / FILE


def installed(state: Path) -> int:
    """Another number for each certificate that was installed; 0: there is none."""
    return path(state).stat().st_mtime_ns if path(state).exists() else 0


def load(state: Path) -> Credential:
    """Read key and certificates. Raises Refused where there are none, or where they are damaged,
    open to others, or do not belong together.
    """
    return _read(path(state))


def _read(file: Path) -> Credential:
    try:
        text = private(file)
        key = serialization.load_pem_private_key(text, password=None)
        chain = certificates(text)
    except FileNotFoundError:
        raise Refused(
            "this gateway has no certificate yet: `gardien key enroll`, or `gardien key csr` and"
            " `gardien key install`"
        ) from None
    except PermissionError as error:
        raise NotForYou(f"{file} is not for this account: run it with sudo") from error
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"{file} is damaged ({error}): enrol anew") from error
    if not isinstance(key, EllipticCurvePrivateKey) or not same_key(chain[0], key):
        raise Refused(f"{file}: the key is not that of the certificate: enrol anew")
    return Credential(key, tuple(chain))


def keep(state: Path, credential: Credential) -> None:
    """Make these the gateway's key and certificates, durably and in one step; those before are kept
    until these have worked.
    """
    if before(state) is None:  # else that one worked last
        with suppress(Refused):
            write_key(state / BEFORE, _text(load(state)))
    write_key(path(state), _text(credential))
    destroy(state / WAITING)


def before(state: Path) -> Credential | None:
    """Key and certificates that worked before those of now, which have not yet; None: those of now
    have, or there were none.
    """
    try:
        previous, own = _read(state / BEFORE), load(state)
    except Refused:
        return None
    return None if previous.chain[0] == own.chain[0] else previous


def has_worked(state: Path) -> None:
    """Those of now are accepted: destroy the ones before."""
    destroy(state / BEFORE)


def go_back(state: Path) -> bool:
    """Put those before in the place of those of now, which are not accepted. The new key waits for
    a certificate again, unless a later one does. False: there are none before.
    """
    if (previous := before(state)) is None:
        return False
    if not (state / WAITING).exists():
        write_key(state / WAITING, _pem(load(state).key))
    write_key(path(state), _text(previous))
    has_worked(state)
    return True


def waiting_key(state: Path) -> EllipticCurvePrivateKey:
    """The key whose certificate is waited for; a new one where none is.

    It stays the same until its certificate is kept, so that what comes late still belongs to it.
    """
    key = standing_key(state)
    if key is None or (path(state).exists() and same_key(load(state).certificate, key)):
        key = generate_private_key(SECP256R1())
        write_key(state / WAITING, _pem(key))
    return key


def standing_key(state: Path) -> EllipticCurvePrivateKey | None:
    """The key whose certificate is waited for; None where none is waited for."""
    try:
        key = serialization.load_pem_private_key(private(state / WAITING), password=None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"{state / WAITING} is damaged ({error}): remove it") from error
    return key if isinstance(key, EllipticCurvePrivateKey) else None


def same_key(certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> bool:
    """Whether a certificate speaks for a key."""
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)


def in_order(
    own: x509.Certificate, others: Iterable[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """Our certificate and those that lead from it to a CA, which itself is not sent along."""
    by_subject = {one.subject: one for one in others}
    chain = [own]
    while (issuer := by_subject.pop(chain[-1].issuer, None)) and issuer.subject != issuer.issuer:
        chain.append(issuer)
    return tuple(chain)


def private(file: Path) -> bytes:
    """The bytes of a file that nobody else may read. Raises Refused where others may."""
    if file.stat().st_mode & 0o077:
        raise Refused(f"{file} may be read by others: chmod 600 it, and ask who has read it")
    return read_key(file)


def certificates(text: bytes) -> Sequence[x509.Certificate]:
    """Every certificate in a PEM or DER file, readable in all its parts. Raises Refused where there
    is none.
    """
    try:
        if b"-----BEGIN" in text:
            parsed = x509.load_pem_x509_certificates(text)
        else:
            parsed = [x509.load_der_x509_certificate(text)]
        for certificate in parsed:  # they are taken apart only when asked for
            _ = (
                certificate.subject,
                certificate.issuer,
                certificate.not_valid_before_utc,
                certificate.not_valid_after_utc,
            )
            _ = certificate.extensions, certificate.public_key()
    except UNREADABLE as error:
        raise Refused(
            "the file holds no certificate that can be read: what a CA gives back for a request"
            " begins with -----BEGIN CERTIFICATE-----"
        ) from error
    return parsed


def _text(credential: Credential) -> bytes:
    chain = (one.public_bytes(Encoding.PEM) for one in credential.chain)
    return b"".join([_pem(credential.key), *chain])


def _pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
