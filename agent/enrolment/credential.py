"""The gateway's private key and its certificates in one file, for TLS and for signing files.

In one file, key and certificate always match; it is replaced by one rename. A new key is kept in a
file of its own until its certificate arrives (design note 025). The previous key is kept in a third
file until the new one has worked (design note 031).
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

from agent.core.atomic_write import destroy, read_key, write_key
from agent.core.errors import NotForYou, Refused

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
"""what the library raises for a damaged or unknown certificate"""


@dataclass(frozen=True, slots=True)
class Credential:
    """A key, its certificate, and the intermediate certificates up to a CA."""

    key: EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    """the gateway's own certificate first"""

    @property
    def certificate(self) -> x509.Certificate:
        """The gateway's own certificate."""
        return self.chain[0]


def path(state: Path) -> Path:
    """The file with key and certificates of a state directory, for TLS and `openssl`."""
    return state / FILE


def installed(state: Path) -> int:
    """A number that changes with each installed certificate; 0: there is none."""
    return path(state).stat().st_mtime_ns if path(state).exists() else 0


def load(state: Path) -> Credential:
    """Read key and certificates.

    Raises Refused if they are missing, damaged, readable by others, or do not match.
    """
    return _read(path(state))


def _read(file: Path) -> Credential:
    try:
        text = private(file)
        key = serialization.load_pem_private_key(text, password=None)
        chain = certificates(text)
    except FileNotFoundError:
        raise Refused(
            "this gateway has no certificate yet. Get one: gardien key enroll, or gardien key csr"
            " and gardien key install"
        ) from None
    except PermissionError as error:
        raise NotForYou(f"this account may not read {file}: run the command with sudo") from error
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"{file} is damaged ({error}): enrol again") from error
    if not isinstance(key, EllipticCurvePrivateKey) or not same_key(chain[0], key):
        raise Refused(f"{file}: key and certificate do not match: enrol again")
    return Credential(key, tuple(chain))


def keep(state: Path, credential: Credential) -> None:
    """Install key and certificates durably and atomically; the previous ones are kept until these
    have worked.
    """
    if before(state) is None:  # an existing one is the last that worked
        with suppress(Refused):
            write_key(state / BEFORE, _text(load(state)))
    write_key(path(state), _text(credential))
    # last: after a kill between the two writes the new key must still be in one of the files
    destroy(state / WAITING)


def before(state: Path) -> Credential | None:
    """The previous key and certificates, while the present ones have not worked yet; None: the
    present ones have worked, or there were none before.
    """
    try:
        previous, own = _read(state / BEFORE), load(state)
    except Refused:
        return None
    return None if previous.chain[0] == own.chain[0] else previous


def has_worked(state: Path) -> None:
    """Destroy the previous key and certificates, since the present ones have worked."""
    destroy(state / BEFORE)


def go_back(state: Path) -> bool:
    """Return to the previous key and certificates, since the present ones are not accepted.

    The new key waits for another certificate, unless a later key does. Returns False if there are
    no previous ones.
    """
    if (previous := before(state)) is None:
        return False
    # first: until then the new key is only in the file that is replaced next
    if not (state / WAITING).exists():
        write_key(state / WAITING, _pem(load(state).key))
    write_key(path(state), _text(previous))
    has_worked(state)
    return True


def waiting_key(state: Path) -> EllipticCurvePrivateKey:
    """The key that waits for a certificate; a new one if none waits.

    It is reused until its certificate is installed, so that a late certificate still matches.
    """
    key = standing_key(state)
    # a kill in `keep` can leave the installed key here: a renewal needs a new one (rule K4)
    if key is None or (path(state).exists() and same_key(load(state).certificate, key)):
        key = generate_private_key(SECP256R1())
        write_key(state / WAITING, _pem(key))
    return key


def standing_key(state: Path) -> EllipticCurvePrivateKey | None:
    """The key that waits for a certificate; None: no key waits."""
    try:
        key = serialization.load_pem_private_key(private(state / WAITING), password=None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"{state / WAITING} is damaged ({error}): remove it") from error
    return key if isinstance(key, EllipticCurvePrivateKey) else None


def same_key(certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> bool:
    """Whether a certificate belongs to a key."""
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)


def in_order(
    own: x509.Certificate, others: Iterable[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """The gateway's certificate and the intermediate ones, without the root."""
    by_subject = {one.subject: one for one in others}
    chain = [own]
    # popped: certificates that name each other as issuer would never end the loop
    while (issuer := by_subject.pop(chain[-1].issuer, None)) and issuer.subject != issuer.issuer:
        chain.append(issuer)
    return tuple(chain)


def private(file: Path) -> bytes:
    """Read a private file. Raises Refused if others may read it."""
    if file.stat().st_mode & 0o077:
        raise Refused(
            f"other accounts may read {file}, so its key may be known to others. Protect it: chmod"
            f" 600 {file}"
        )
    return read_key(file)


def certificates(text: bytes) -> Sequence[x509.Certificate]:
    """All certificates in a PEM or DER file. Raises Refused if there is none or one is damaged."""
    try:
        if b"-----BEGIN" in text:
            parsed = x509.load_pem_x509_certificates(text)
        else:
            parsed = [x509.load_der_x509_certificate(text)]
        for certificate in parsed:  # the library parses them only on access
            _ = (
                certificate.subject,
                certificate.issuer,
                certificate.not_valid_before_utc,
                certificate.not_valid_after_utc,
            )
            _ = certificate.extensions, certificate.public_key()
    except UNREADABLE as error:
        raise Refused(
            "the file has no readable certificate. A certificate from a CA begins with"
            " -----BEGIN CERTIFICATE-----"
        ) from error
    return parsed


def _text(credential: Credential) -> bytes:
    chain = (one.public_bytes(Encoding.PEM) for one in credential.chain)
    return b"".join([_pem(credential.key), *chain])


def _pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
