"""A certificate authority for tests and the demo: strict, private, made anew each time.

Strict, because Python 3.13 refuses a CA whose basicConstraints are not critical, or that has no key
usage or key identifiers.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

DAY = dt.timedelta(days=1)
GATEWAY_USES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION)
SERVER_USES = (ExtendedKeyUsageOID.SERVER_AUTH,)
NAMES = ("localhost", "127.0.0.1")


@dataclass
class CA:
    """A root, or what `under` issued; both issue certificates."""

    name: str = "Pretend CA"
    under: CA | None = None
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )

    def __post_init__(self) -> None:
        signer = self.under or self
        usage = _usage(key_cert_sign=True, crl_sign=True)
        made = _begun(self.name, signer.name, self.key.public_key(), -DAY, 3650 * DAY)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        made = made.add_extension(usage, critical=True)
        self.certificate = _signed(made, self.key.public_key(), signer.key)

    def issue(  # noqa: PLR0913 -- a certificate has as many ways to be wrong
        self,
        name: str,
        key: CertificatePublicKeyTypes,
        uses: tuple[x509.ObjectIdentifier, ...] = GATEWAY_USES,
        *,
        begins: dt.timedelta = -DAY,
        lasts: dt.timedelta = 90 * DAY,
        hosts: tuple[str, ...] = (),
    ) -> x509.Certificate:
        """A certificate for a public key; `begins` from now."""
        made = _begun(name, self.name, key, begins, lasts)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        made = made.add_extension(_usage(digital_signature=True), critical=True)
        if uses:
            made = made.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            made = made.add_extension(names, critical=False)
        return _signed(made, key, self.key)

    def server(
        self,
        folder: Path,
        hosts: tuple[str, ...] = NAMES,
        begins: dt.timedelta = -DAY,
        lasts: dt.timedelta = 90 * DAY,
        uses: tuple[x509.ObjectIdentifier, ...] = SERVER_USES,
    ) -> Path:
        """Key and certificate of a server in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        issued = self.issue(
            hosts[0], key.public_key(), uses, hosts=hosts, begins=begins, lasts=lasts
        )
        return bundle(folder / f"server-{issued.serial_number:x}.pem", key, issued)

    def gateway(
        self,
        name: str,
        folder: Path,
        begins: dt.timedelta = -DAY,
        lasts: dt.timedelta = 90 * DAY,
        uses: tuple[x509.ObjectIdentifier, ...] = GATEWAY_USES,
    ) -> Path:
        """Key and certificates of a gateway as it keeps them: `identity.pem`."""
        key = ec.generate_private_key(ec.SECP256R1())
        issued = self.issue(name, key.public_key(), uses, begins=begins, lasts=lasts)
        chain = (issued, self.certificate) if self.under else (issued,)
        folder.mkdir(parents=True, exist_ok=True)
        return bundle(folder / "identity.pem", key, *chain)

    def file(self, folder: Path) -> Path:
        """Our own certificate as the far side is given it."""
        path = folder / f"{self.name.replace(' ', '-').lower()}.pem"
        path.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return path

    def revoking(self, folder: Path, *revoked: x509.Certificate) -> Path:
        """A list of the certificates that hold no more."""
        now = dt.datetime.now(dt.UTC)
        made = x509.CertificateRevocationListBuilder().issuer_name(_name(self.name))
        made = made.last_update(now - DAY).next_update(now + 30 * DAY)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number)
            made = made.add_revoked_certificate(entry.revocation_date(now - DAY).build())
        path = folder / "revoked.pem"
        path.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path


def bundle(path: Path, key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> Path:
    """A key with certificates in one file that nobody else may read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(text + b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    return path


def _begun(
    subject: str,
    issuer: str,
    key: CertificatePublicKeyTypes,
    begins: dt.timedelta,
    lasts: dt.timedelta,
) -> x509.CertificateBuilder:
    start = dt.datetime.now(dt.UTC) + begins
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lasts)
    )


def _signed(
    made: x509.CertificateBuilder,
    key: CertificatePublicKeyTypes,
    by: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    own = x509.SubjectKeyIdentifier.from_public_key(key)
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key())
    made = made.add_extension(own, critical=False).add_extension(signer, critical=False)
    return made.sign(by, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(**chosen: bool) -> x509.KeyUsage:
    words = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
        " key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{word: chosen.get(word, False) for word in words.split()})
