"""The certificate of the web page: the gateway's own, and one of a CA."""

import asyncio
import os
import ssl
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.core.errors import AgentError, Refused
from agent.enrolment import page_certificate

NOW = datetime(2026, 11, 28, tzinfo=UTC).timestamp()
NAMES = ("127.0.0.1", "fd00::10", "gateway", "gateway.local")
DAY = timedelta(days=1)


async def handshake(folder, client):
    """Return the fingerprint that a client sees. Raises ssl.SSLError."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    async with await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=server
    ) as serving:
        port = serving.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex(":").upper()


def test_a_client_that_knows_it_accepts_it_for_the_address_and_sees_the_shown_fingerprint(tmp_path):
    page_certificate.keep(page_certificate.make(NAMES, NOW), tmp_path, account=None)
    client = ssl.create_default_context(cafile=tmp_path / "certificate.pem")
    seen = asyncio.run(handshake(tmp_path, client))
    facts = page_certificate.facts(tmp_path)
    assert facts == {"fingerprint": seen, "not_after": "2036-11-27T00:00:00Z", "own": True}
    made = x509.load_pem_x509_certificate((tmp_path / "certificate.pem").read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(one.value) for one in names} == set(NAMES)


@pytest.mark.parametrize("clock", [0.0, NOW, 4_000_000_000.0])
def test_a_clock_that_is_wrong_makes_no_certificate_that_is_not_valid_now(clock):
    pair = page_certificate.make(NAMES, clock)
    made = x509.load_pem_x509_certificate(pair.certificate)
    assert made.not_valid_before_utc == datetime(2024, 1, 1, tzinfo=UTC)
    assert made.not_valid_after_utc.timestamp() > max(clock, NOW) + 7 * 365 * 86_400


def test_only_its_account_may_read_the_key(tmp_path):
    page_certificate.keep(page_certificate.make(NAMES, NOW), tmp_path, account=None)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"certificate.pem": 0o644, "key.pem": 0o600}
    page_certificate.destroy(tmp_path)
    assert [*tmp_path.iterdir()] == []
    assert page_certificate.facts(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as another account")
@pytest.mark.parametrize("name", ["key.pem", "key.new", "certificate.pem", "certificate.new"])
def test_root_follows_no_link_that_the_page_s_account_has_planted(name):
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        target, folder = Path(made, "target"), Path(made, "page")
        target.write_text("of root")
        target.chmod(0o600)
        pair = page_certificate.make(NAMES, NOW)
        page_certificate.keep(pair, folder, account="nobody")
        assert (folder / "key.pem").owner() == "nobody"
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
        for work in (lambda: page_certificate.keep(pair, folder, account="nobody"),
                     lambda: page_certificate.destroy(folder)):  # fmt: skip
            with suppress(AgentError, OSError):
                work()
            assert target.read_text() == "of root"
            assert target.stat().st_uid == 0


def test_a_damaged_certificate_has_no_fingerprint(tmp_path):
    for content in (b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n", os.urandom(99)):
        (tmp_path / "certificate.pem").write_bytes(content)
        assert page_certificate.facts(tmp_path) is None


def issue(folder, *, begins=-DAY, ends=DAY, usage=ExtendedKeyUsageOID.SERVER_AUTH, password=None):
    """Write a certificate of a CA of this test, and its key."""
    ca, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    named = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("ca", "page")]
    at = datetime.fromtimestamp(NOW, UTC)
    made = (
        x509.CertificateBuilder(named[0], named[1], key.public_key(), 7, at + begins, at + ends)
        .add_extension(x509.ExtendedKeyUsage([usage]), False)
        .sign(ca, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    cipher = serialization.NoEncryption()
    if password:
        cipher = serialization.BestAvailableEncryption(password)
    (folder / "c.pem").write_bytes(made.public_bytes(pem))
    (folder / "k.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, cipher)
    )
    return folder / "c.pem", folder / "k.pem"


def test_a_certificate_of_a_ca_is_taken_with_its_key(tmp_path):
    page_certificate.keep(page_certificate.issued(*issue(tmp_path), NOW), tmp_path, account=None)
    facts = page_certificate.facts(tmp_path)
    assert (facts["own"], facts["not_after"]) == (False, "2026-11-29T00:00:00Z")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"ends": -DAY / 2}, "expired"),
        ({"begins": DAY / 2}, "not valid before"),
        ({"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, "not for servers"),
        ({"password": b"secret"}, "the key has a password"),
    ],
)
def test_a_certificate_that_is_of_no_use_is_refused(tmp_path, how, why):
    with pytest.raises(Refused, match=why):
        page_certificate.issued(*issue(tmp_path, **how), NOW)


def test_a_key_of_another_certificate_is_refused_and_so_is_what_is_neither(tmp_path):
    certificate, key = issue(tmp_path)
    other = tmp_path / "other.pem"
    other.write_bytes(page_certificate.make(NAMES, NOW).key)
    with pytest.raises(Refused, match="does not belong to the key"):
        page_certificate.issued(certificate, other, NOW)
    with pytest.raises(Refused, match="no private key in PEM"):
        page_certificate.issued(certificate, certificate, NOW)
    with pytest.raises(Refused, match="expected a certificate in PEM"):
        page_certificate.issued(key, key, NOW)
    with pytest.raises(Refused, match=r"absent\.pem"):
        page_certificate.issued(tmp_path / "absent.pem", key, NOW)
