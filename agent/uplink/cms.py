"""Signed, then encrypted, by the `openssl cms` command that partners open it with (note 024).

Inside: SignedData, ECDSA P-256 with SHA-256, our certificates embedded. Outside, for each reader:
AES-256-GCM, its key agreed by ECDH with SHA-256 or wrapped by RSA-OAEP. OpenSSL's own defaults are
SHA-1 and RSA v1.5, hence the options.
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

from agent.errors import UplinkLost

if TYPE_CHECKING:
    from collections.abc import Sequence

OPENSSL = "openssl"
SECONDS = 60.0
"""for one call; a file takes hundredths of one"""
SIGN = "cms -sign -binary -nodetach -md sha256 -outform DER"
GCM = "cms -encrypt -binary -stream -aes-256-gcm -outform DER"
CBC = "cms -encrypt -binary -stream -aes-256-cbc -outform DER"
DECRYPT = "cms -decrypt -binary -inform DER"
VERIFY = "cms -verify -binary -inform DER"
BY_EC = "-keyopt ecdh_kdf_md:sha256 -wrap id-aes256-wrap"
BY_RSA = "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256"


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who signs and who may open."""

    signer: Path
    """key and certificates in one file"""
    readers: tuple[Path, ...]
    """a certificate each"""
    compat: bool = False
    """AES-256-CBC for RSA readers: weaker, whoever opens it must verify before they believe it"""

    def close(self, content: bytes) -> bytes:
        """Sign and encrypt. Raises UplinkLost in words if it cannot be done now."""
        return self.encrypt(_run(self._signing(), content))

    def encrypt(self, content: bytes) -> bytes:
        """Encrypt without a signature. Raises UplinkLost in words if it cannot be done now."""
        return _run(self._encrypting(), content)

    def _signing(self) -> list[str]:
        file = str(self.signer)
        return [*SIGN.split(), "-signer", file, "-inkey", file, "-certfile", file]

    def _encrypting(self) -> list[str]:
        words = (CBC if self.compat else GCM).split()
        for reader in self.readers:
            words += ["-recip", str(reader), *self._options(reader)]
        return words

    def _options(self, reader: Path) -> Sequence[str]:
        match _key(reader):
            case RSAPublicKey():
                return () if self.compat else BY_RSA.split()
            case EllipticCurvePublicKey() if not self.compat:
                return BY_EC.split()
        wanted = "RSA" if self.compat else "EC (P-256) or RSA"
        raise UplinkLost(f"encrypt_for: the key in {reader} is of another kind than {wanted}")


def decrypt(content: bytes, key: Path, *more: str) -> bytes:
    """Open what was encrypted for the certificate of this private key. Raises UplinkLost."""
    return _run([*DECRYPT.split(), "-inkey", str(key), *more], content)


def verify(content: bytes, *by: str) -> tuple[bytes, x509.Certificate]:
    """What was signed, and the certificate of who signed it; `by`: how `openssl cms` is to see
    whether that is to be believed. Raises UplinkLost where the signature does not hold.
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
        raise UplinkLost(f"encrypt_for: there is no certificate in {reader} (PEM)") from error


def _run(words: Sequence[str], content: bytes) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 -- words of ours and paths of the configuration
            [OPENSSL, *words], input=content, capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UplinkLost(f"the command openssl cannot be run: {error}") from error
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise UplinkLost(f"openssl {words[1].lstrip('-')} failed: {said[-1]}")
    return done.stdout
