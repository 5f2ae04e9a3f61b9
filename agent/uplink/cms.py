"""CMS: signs, then encrypts, with the command `openssl cms`, as do the partners (decision 024).

Inner layer: SignedData, ECDSA P-256 with SHA-256, with our certificates. Outer layer: AES-256-GCM,
its key for each reader agreed by ECDH with SHA-256 or wrapped with RSA-OAEP. The options are needed
because OpenSSL's defaults are SHA-1 and RSA v1.5.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from agent.core.errors import UplinkLost

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        raise UplinkLost(f"encrypt_for: the key in {reader} must be {wanted}")


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
        raise UplinkLost(f"encrypt_for: {reader} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UplinkLost(f"encrypt_for: {reader} contains no certificate (PEM)") from error


def _run(arguments: Sequence[str], content: bytes) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 -- our arguments, and paths of the configuration
            [OPENSSL, *arguments], input=content, capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UplinkLost(f"the command openssl cannot be run: {error}") from error
    if done.returncode or not done.stdout:
        messages = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise UplinkLost(f"openssl {arguments[1].lstrip('-')} failed: {messages[-1]}")
    return done.stdout
