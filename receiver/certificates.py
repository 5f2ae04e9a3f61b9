"""A certificate authority for gateways: `init` makes it, `admit` signs a gateway's request.

For platforms without one of their own. Its rules are those of docs/enrolment.md, "For the CA".
"""

from __future__ import annotations

import datetime as dt
import grp
import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from receiver.conf import ACCOUNT, Refused

if TYPE_CHECKING:
    import argparse

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

DAY = dt.timedelta(days=1)
YEARS_20 = 7_300 * DAY
"""of the CA and of the server. The CA's key is beside that of the server: a shorter life of the
latter would protect nothing, and its end would stop all gateways at once"""
GATEWAY = re.compile(r"G[0-9A-Z]{9,19}")
PORT = 8470
SAMPLE = Path(__file__).with_name("receiver.conf")


def init(chosen: argparse.Namespace) -> int:
    """Make the CA, the server's key and the configuration; state what comes next."""
    folder, hosts = chosen.folder, chosen.host or [chosen.name]
    folder.mkdir(parents=True, exist_ok=True)
    key_file, ca_file, server_file = (folder / n for n in ("ca.key", "ca.pem", "server.pem"))
    if key_file.exists():
        key, ca = _authority(folder)
        print(f"{ca_file} is kept: gateways go on with their certificates")
    elif ca_file.exists():
        raise Refused(f"{ca_file} has no key beside it, and a new CA would lock all gateways out."
                      f" Bring {key_file.name} back, or delete {ca_file}")  # fmt: skip
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"gardien CA of {chosen.name}"
        ca = _signed(name, key.public_key(), name, key, YEARS_20, authority=True)
        _written(ca_file, _pem(ca), 0o644)
        _written(key_file, _private(key), 0o600)
        print(f"{ca_file}: the CA's certificate. Each gateway needs it")
        print(f"{key_file}: its key. Who has it can be any gateway: keep a copy offline")
    own = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(hosts[0], own.public_key(), _name_of(ca), key, YEARS_20, hosts=hosts)
    _written(server_file, _private(own) + _pem(certificate), 0o640, ACCOUNT)
    print(f"{server_file}: the server's key and certificate, for {', '.join(hosts)}")
    _configured(folder, chosen)
    shown = f"[{hosts[0]}]" if ":" in hosts[0] else hosts[0]
    print(f"""
Next:             sudo systemctl restart gardien-receiver
At each gateway:  sudo gardien key csr --out gateway.csr
Here, with it:    sudo gardien-receiver admit G… gateway.csr
Then there, with a copy of ca.pem, in /etc/gardien/config.yaml:
uplinks:
  centre:
    recipient: {chosen.name}
    transport: https
    url: https://{shown}:{PORT}
    ca: /etc/gardien/platform-ca.pem""")
    return 0


def admit(chosen: argparse.Namespace) -> int:
    """Write the certificate of a gateway; state what comes next. Raises Refused."""
    gateway = chosen.gateway.replace("-", "").upper()
    if not GATEWAY.fullmatch(gateway):
        raise Refused(f"{chosen.gateway} is no id of a gateway. At the gateway: gardien key show")
    try:
        key, ca = _authority(chosen.folder)
        request = x509.load_pem_x509_csr(chosen.request.read_bytes())
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"{chosen.request} is no certificate request. Copy it again from the gateway:"
                      " sudo gardien key csr --out gateway.csr") from error  # fmt: skip
    names = [str(one.value) for one in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [gateway]:
        raise Refused(f"{chosen.request} is the request of {', '.join(names)}, not of {gateway}")
    if not request.is_signature_valid:
        raise Refused(f"{chosen.request} is damaged: its signature is wrong. Copy it again")
    certificate = _signed(
        gateway,
        request.public_key(),
        _name_of(ca),
        key,
        chosen.days * DAY,
    )
    out = chosen.out or Path(f"{gateway}.pem")
    _written(out, _pem(certificate), 0o644)
    until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    print(f"""{out}: the certificate of {gateway}, valid until {until}
Bring it to the gateway, with {chosen.folder / "ca.pem"}
At the gateway: sudo gardien key install {out.name}""")
    return 0


def _configured(folder: Path, chosen: argparse.Namespace) -> None:
    """Write the configuration, or state what to write if somebody has written one."""
    path = folder / "receiver.conf"
    given = {
        "recipient": chosen.name,
        "db": chosen.db,
        "https": f"0.0.0.0:{PORT}",
        "cert": str(folder / "server.pem"),
        "ca": str(folder / "ca.pem"),
    }
    sample = SAMPLE.read_text("utf-8")
    lines = [f"{name} = {value}" for name, value in given.items() if value]
    if path.exists() and path.read_text("utf-8") != sample:
        print(f"{path} was edited, so it is kept. These lines belong in it:")
        print("\n".join(f"  {line}" for line in lines))
        return
    for line in lines:
        name = line.partition(" ")[0]
        sample = re.sub(rf"(?m)^#?{name} = .*$", lambda _, line=line: line, sample, count=1)  # type: ignore[misc]
    _written(path, sample.encode(), 0o640, ACCOUNT)
    print(f"{path}: listens on port {PORT} of all addresses")


def _authority(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Key and certificate of the CA. Raises OSError."""
    key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key, x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())


def _signed(  # noqa: PLR0913 -- what differs between the three kinds
    subject: str,
    key: CertificatePublicKeyTypes,
    issuer: str,
    by: ec.EllipticCurvePrivateKey,
    lasts: dt.timedelta,
    *,
    authority: bool = False,
    hosts: list[str] | None = None,
) -> x509.Certificate:
    """A certificate of a CA, of a server (`hosts`), or of a gateway.

    Python 3.13 refuses a CA without critical basicConstraints, key usage and key identifiers.
    """
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(_named(subject))
        .issuer_name(_named(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)  # clocks differ
        .not_valid_after(now + lasts)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_usage(authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
        )
    )
    if hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        uses = [ExtendedKeyUsageOID.SERVER_AUTH]
        made = made.add_extension(names, critical=False)
    else:
        # the second is for files that a gateway signs
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION]
    if not authority:
        made = made.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    return made.sign(by, hashes.SHA256())


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=authority, crl_sign=authority,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _named(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _name_of(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _written(path: Path, content: bytes, mode: int, group: str = "") -> None:
    """Replace a file, whole, with its final mode and group from the beginning."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        if group:
            try:
                os.fchown(file.fileno(), -1, grp.getgrnam(group).gr_gid)
            except (KeyError, PermissionError):
                mode &= 0o700  # without the Debian package's account: whoever made it
        os.fchmod(file.fileno(), mode)
        file.write(content)
    new.replace(path)
