"""The certificate of the web page: the gateway's own, or one that the building's CA has issued.

It is apart from the certificate of the gateway: browsers check it, platforms do not.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core import atomic_write
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.state import acting_as

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path("/var/lib/gardien-web")
"""belongs to the page's account; root acts as that account to write in it, and follows no link"""
ACCOUNT = "gardien-web"
CERTIFICATE, KEY = "certificate.pem", "key.pem"
BEGINS = datetime(2024, 1, 1, tzinfo=UTC)
"""so that no browser refuses a new certificate because the gateway's clock was ahead of its own"""
LASTS = timedelta(days=3_652)
LARGEST = 100_000
"""bytes of a file with a key, or with a certificate and those of the CAs above it"""


class PagePair(NamedTuple):
    """The files of the certificate and of its key, in PEM."""

    certificate: bytes
    key: bytes


def make(names: Iterable[str], now: float) -> PagePair:
    """Make a key and its own certificate for some addresses and host names, valid for ten years."""
    from cryptography import x509  # noqa: PLC0415 -- seldom needed
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gardien")])
    ends = max(datetime.fromtimestamp(now, UTC), BEGINS) + LASTS
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        False,
    )  # fmt: skip
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGINS)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([_general_name(one) for one in names]), False)
        # a key that is stolen from the page must not be able to vouch for other servers
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    return PagePair(
        made.public_bytes(form),
        key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _general_name(name: str) -> Any:
    from cryptography import x509  # noqa: PLC0415 -- seldom needed

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def issued(certificate: Path, key: Path, now: float) -> PagePair:
    """Read a certificate that a CA has issued, with those above it, and its key.

    Raises Refused if they cannot be read, do not belong together, or are of no use now.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- seldom needed

    from agent.enrolment import credential  # noqa: PLC0415

    texts = PagePair(_content(certificate), _content(key))
    if b"-----BEGIN CERTIFICATE-----" not in texts.certificate:
        raise Refused("{file}: expected a certificate in PEM, which begins with -----BEGIN"
                      " CERTIFICATE-----", file=certificate)  # fmt: skip
    own = credential.certificates(texts.certificate)[0]
    try:
        private: Any = serialization.load_pem_private_key(texts.key, None)
    except TypeError:
        raise Refused("{file}: the key has a password, which nobody can type when the page starts."
                      " Remove it: openssl pkey -in {file}", file=key) from None  # fmt: skip
    except credential.UNREADABLE as error:
        raise Refused("{file}: no private key in PEM", file=key) from error
    if not credential.same_key(own, private):
        raise Refused("{certificate} does not belong to the key {key}", certificate=certificate,
                      key=key)  # fmt: skip
    if untimely := credential.untimely(own, now):
        raise Refused("{file}: {why}", file=certificate, why=untimely)
    if not _for_servers(own):
        raise Refused("{file}: this certificate is not for servers. Have the CA issue it with the"
                      " extended key usage serverAuth", file=certificate)  # fmt: skip
    return texts


def _for_servers(certificate: Any) -> bool:
    from cryptography import x509  # noqa: PLC0415 -- seldom needed
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415

    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    permitted = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    return not permitted.isdisjoint(uses)


def _content(file: Path) -> bytes:
    try:
        return atomic_write.read(file, LARGEST)[0]
    except OSError as error:
        raise Refused("{path}: {reason}", path=file, reason=error) from error


def keep(pair: PagePair, folder: Path = FOLDER, account: str | None = ACCOUNT) -> None:
    """Write certificate and key as the page's account, the key first. Raises Refused, NotRecorded.

    `account`: None writes as the present account.
    """
    owner = None
    if account is not None:
        try:
            owner = pwd.getpwnam(account)
        except KeyError:
            raise Refused(
                "the account {account} does not exist. Repair the package: sudo apt install"
                " --reinstall gardien-web",
                account=account,
            ) from None
        _make_folder(folder, owner)
    with acting_as(owner):
        atomic_write.write_key(folder / KEY, pair.key)
        atomic_write.write(folder / CERTIFICATE, pair.certificate)
        (folder / CERTIFICATE).chmod(0o644)


def _make_folder(folder: Path, owner: pwd.struct_passwd) -> None:
    """Make the page's folder before systemd does, at its first start. Raises Refused."""
    try:
        folder.mkdir(mode=0o755)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    except FileExistsError:
        return
    except OSError as error:
        raise Refused("{path}: {reason}", path=folder, reason=error) from error


def destroy(folder: Path = FOLDER) -> None:
    """Destroy the key and the certificate, as the account that owns them. Raises OSError,
    NotRecorded.
    """
    if not folder.is_dir():
        return
    owner = folder.stat().st_uid
    with acting_as(pwd.getpwuid(owner) if owner and not os.geteuid() else None):
        atomic_write.destroy(folder / KEY)
        (folder / CERTIFICATE).unlink(missing_ok=True)


def facts(folder: Path = FOLDER) -> dict[str, Any] | None:
    """Return what people compare: `fingerprint` (SHA-256), `not_after`, and whether it is the
    gateway's `own`; None: there is no certificate, or none that can be read.
    """
    from cryptography import x509  # noqa: PLC0415 -- only where a page is open
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415

    from agent.enrolment.credential import UNREADABLE  # noqa: PLC0415

    try:
        text = atomic_write.read(folder / CERTIFICATE, LARGEST)[0]
        first = x509.load_pem_x509_certificates(text)[0]
    except (OSError, *UNREADABLE):
        return None
    return {
        "fingerprint": first.fingerprint(hashes.SHA256()).hex(":").upper(),
        "not_after": stamp(first.not_valid_after_utc.timestamp()),
        "own": first.issuer == first.subject,
    }
