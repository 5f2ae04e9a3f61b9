"""The certificate signing request of this gateway, for TLS and for signing files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

USES = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION]
)
SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def request(key: EllipticCurvePrivateKey, gateway: str) -> x509.CertificateSigningRequest:
    """A signing request (PKCS #10) for the common name `gateway`, signed with `key`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, gateway)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    builder = builder.add_extension(USES, critical=False).add_extension(SIGNS, critical=True)
    return builder.sign(key, SHA256())
