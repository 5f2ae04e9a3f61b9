"""The gateway's private key and its certificates in one file, and checks of a certificate."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.core.atomic_write import destroy, read_key, write_key
from agent.core.clock import BUILT, stamp
from agent.core.errors import NotForYou, Refused
from agent.core.i18n import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta
    from pathlib import Path

DAY = 86_400
ALARMS = (14, 3)
"""days before the end at which a warning and an alarm are raised"""


CLOCK = Text(": the clock has lost the time (empty battery?); see: gardien doctor")
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


def subject(certificate: x509.Certificate) -> str:
    """The common name of the owner; empty: it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def uses(certificate: x509.Certificate) -> frozenset[str]:
    """Permitted uses out of `tls` and `files`; without the extension, both."""
    known = {
        ExtendedKeyUsageOID.CLIENT_AUTH: {"tls"},
        ExtendedKeyUsageOID.EMAIL_PROTECTION: {"files"},
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: {"tls", "files"},
    }
    try:
        named = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return frozenset({"tls", "files"})
    return frozenset(use for oid in named for use in known.get(oid, ()))


def unfit(certificate: x509.Certificate, gateway: str) -> str:
    """Why this gateway can never use the certificate; empty: it can."""
    if (whose := subject(certificate)) != gateway:
        return Text(
            'the certificate is for "{whose}", but this gateway is {gateway}. Have the'
            " request of this gateway signed: gardien key csr",
            whose=whose,
            gateway=gateway,
        )
    if "tls" not in uses(certificate):
        return Text(
            "the certificate is not for TLS clients. Have the CA issue it with the extended key"
            " usages clientAuth and emailProtection"
        )
    return ""


def untimely(certificate: x509.Certificate, now: float) -> str:
    """Why the certificate is not valid at `now` (wall clock); empty: it is valid."""
    begin, end = begins(certificate), ends(certificate)
    if now < begin:
        return Text(
            "the certificate is not valid before {stamp}, and the clock of this gateway says"
            " {moment}{value}",
            stamp=stamp(begin),
            moment=_moment(now),
            value=CLOCK if now < BUILT else "",
        )
    if now > end:
        return Text(
            "the certificate expired at {stamp}; the clock of this gateway says {moment}",
            stamp=stamp(end),
            moment=_moment(now),
        )
    return ""


def begins(certificate: x509.Certificate) -> float:
    """Start of its validity in seconds since 1970."""
    return certificate.not_valid_before_utc.timestamp()


def ends(certificate: x509.Certificate) -> float:
    """End of its validity in seconds since 1970."""
    return certificate.not_valid_after_utc.timestamp()


def days_left(certificate: x509.Certificate, now: float) -> int:
    """Whole days until it expires; negative after that."""
    return int((ends(certificate) - now) // DAY)


def alarm(certificate: x509.Certificate, now: float) -> str:
    """A warning about its expiry; empty: none is needed yet."""
    if problem := untimely(certificate, now):
        return problem
    left = days_left(certificate, now)
    if left < ALARMS[-1]:
        end = stamp(ends(certificate))
        return Text("the certificate expires at {end}, and deliveries stop then: renew it", end=end)
    if left < ALARMS[0]:
        return Text("the certificate expires in {left} days and has not been renewed", left=left)
    return ""


def validity(certificate: x509.Certificate, now: float) -> str:
    """Its validity for people: `valid until 2027-02-22, 80 days left`."""
    return untimely(certificate, now) or (
        Text(
            "valid until {day}, {spell} left",
            day=certificate.not_valid_after_utc.date(),
            spell=_spell(certificate.not_valid_after_utc - datetime.fromtimestamp(now, UTC)),
        )
    )


def _spell(span: timedelta) -> str:
    if span.days == 1:
        return Text("1 day")
    return (
        Text("{days} days", days=span.days)
        if span.days
        else Text("{seconds} hours", seconds=span.seconds // 3600)
    )


def _moment(now: float) -> object:
    # a clock without a battery starts in 1970, so only the year is meaningful
    day = datetime.fromtimestamp(now, UTC).date()
    return str(day.year) if now < BUILT else day


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
        raise NotForYou(
            "this account may not read {file}: run the command with sudo", file=file
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise Refused("{file} is damaged ({error}): enrol again", file=file, error=error) from error
    if not isinstance(key, EllipticCurvePrivateKey) or not same_key(chain[0], key):
        raise Refused("{file}: key and certificate do not match: enrol again", file=file)
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
        raise Refused(
            "{state} is damaged ({error}): remove it", state=state / WAITING, error=error
        ) from error
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
            "other accounts may read {file}, so its key may be known to others. Protect it:"
            " chmod 600 {file}",
            file=file,
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
