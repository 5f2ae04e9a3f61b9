"""The gateway's key and certificates: one file, whole or not at all, for nobody else's eyes."""

import base64
import datetime as dt
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import Refused
from agent.enrolment import credential
from agent.enrolment.credential import Credential
from hil.ca import CA, DAY

G = "G12345"
KNOWN = CA().certificate.public_bytes(Encoding.DER)
NOW = dt.datetime.now(dt.UTC).timestamp()


def framed(content: bytes) -> bytes:
    text = base64.encodebytes(content)
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


def enrolled(state: Path, ca: CA) -> Credential:
    key = credential.waiting_key(state)
    own = Credential(key, (ca.issue(G, key.public_key()),))
    credential.keep(state, own)
    return own


def test_what_was_kept_is_read_again_and_is_for_nobody_else(tmp_path: Path):
    own = enrolled(tmp_path, CA())
    assert credential.load(tmp_path).chain == own.chain
    assert (tmp_path / credential.FILE).stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [credential.FILE]


def test_a_waiting_key_stays_the_same_until_its_certificate_is_kept(tmp_path: Path):
    first = credential.waiting_key(tmp_path)
    again = credential.waiting_key(tmp_path)
    assert first.private_numbers() == again.private_numbers()
    own = enrolled(tmp_path, CA())
    assert credential.standing_key(tmp_path) is None
    assert credential.waiting_key(tmp_path).private_numbers() != own.key.private_numbers()
    assert credential.load(tmp_path).chain == own.chain, "the old one serves until the new is kept"


def test_a_key_that_was_kept_already_is_never_asked_for_again(tmp_path: Path):
    """A kill between the two steps of `keep` leaves the waiting key beside its certificate."""
    key = credential.waiting_key(tmp_path)
    left = (tmp_path / credential.WAITING).read_bytes()
    enrolled(tmp_path, CA())
    (tmp_path / credential.WAITING).write_bytes(left)
    (tmp_path / credential.WAITING).chmod(0o600)
    assert credential.waiting_key(tmp_path).private_numbers() != key.private_numbers()


def test_the_one_before_is_kept_until_the_new_one_has_worked(tmp_path: Path):
    first, second = enrolled(tmp_path, CA()), enrolled(tmp_path, CA())
    before = credential.before(tmp_path)
    assert before is not None
    assert before.chain == first.chain
    enrolled(tmp_path, CA())
    before = credential.before(tmp_path)
    assert before is not None
    assert before.chain == first.chain, "the last one that has worked"
    credential.has_worked(tmp_path)
    assert credential.before(tmp_path) is None
    assert second.chain != credential.load(tmp_path).chain
    assert [one.name for one in tmp_path.iterdir()] == [credential.FILE]


def test_going_back_puts_the_one_before_in_its_place_and_the_new_key_waits(tmp_path: Path):
    assert not credential.go_back(tmp_path)
    first, second = enrolled(tmp_path, CA()), enrolled(tmp_path, CA())
    assert credential.go_back(tmp_path)
    assert credential.load(tmp_path).chain == first.chain
    assert credential.waiting_key(tmp_path).private_numbers() == second.key.private_numbers()
    assert not credential.go_back(tmp_path)


@pytest.mark.parametrize("name", [credential.FILE, credential.WAITING])
def test_a_kill_while_going_back_is_mended_by_going_back(tmp_path: Path, name: str):
    """`name`: the last file that was written."""
    first, second = enrolled(tmp_path, CA()), enrolled(tmp_path, CA())
    kept = (tmp_path / credential.BEFORE).read_bytes()
    new = (tmp_path / credential.FILE).read_bytes()
    credential.go_back(tmp_path)
    for file, content in ((credential.BEFORE, kept), (credential.FILE, new)):
        if file != name:
            (tmp_path / file).write_bytes(content)
            (tmp_path / file).chmod(0o600)
    assert credential.go_back(tmp_path) is (name == credential.WAITING)
    assert credential.load(tmp_path).chain == first.chain
    assert credential.waiting_key(tmp_path).private_numbers() == second.key.private_numbers()


@pytest.mark.parametrize("damage", [b"", b"no key", b"\xff" * 100])
def test_a_damaged_file_is_told_in_words(tmp_path: Path, damage: bytes):
    (tmp_path / credential.FILE).touch(mode=0o600)
    (tmp_path / credential.FILE).write_bytes(damage)
    with pytest.raises(Refused, match="damaged"):
        credential.load(tmp_path)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path):
    """Rule K1."""
    enrolled(tmp_path, CA())
    (tmp_path / credential.FILE).chmod(0o640)
    with pytest.raises(Refused, match="other accounts may read"):
        credential.load(tmp_path)


def test_a_key_beside_anothers_certificate_is_refused(tmp_path: Path):
    ca = CA()
    own = enrolled(tmp_path, ca)
    other = ca.issue(G, credential.waiting_key(tmp_path).public_key())
    (tmp_path / credential.WAITING).unlink()
    credential.keep(tmp_path, Credential(own.key, (other,)))
    with pytest.raises(Refused, match="do not match"):
        credential.load(tmp_path)


def test_the_chain_is_put_in_order_and_the_root_stays_at_home(tmp_path: Path):
    root = CA("root")
    middle = CA("middle", under=root)
    own = middle.issue(G, credential.waiting_key(tmp_path).public_key())
    chain = credential.in_order(own, [root.certificate, middle.certificate])
    assert chain == (own, middle.certificate)


@pytest.mark.parametrize(
    ("name", "uses", "said"),
    [
        ("G99999", None, 'is for "G99999", but this gateway is G12345'),
        (G, (ExtendedKeyUsageOID.SERVER_AUTH,), "not for TLS clients"),
        (G, (ExtendedKeyUsageOID.EMAIL_PROTECTION,), "not for TLS clients"),
        (G, (ExtendedKeyUsageOID.CLIENT_AUTH,), ""),
        (G, (), ""),
    ],
)
def test_a_certificate_that_is_not_for_this_gateway_is_unfit(
    tmp_path: Path, name: str, uses: tuple | None, said: str
):
    key = credential.waiting_key(tmp_path).public_key()
    ca = CA()
    found = ca.issue(name, key) if uses is None else ca.issue(name, key, uses)
    assert said in credential.unfit(found, G)
    assert bool(credential.unfit(found, G)) == bool(said)


def test_clock_trouble_is_told_as_what_it_is(tmp_path: Path):
    found = CA().issue(G, credential.waiting_key(tmp_path).public_key())
    said = credential.untimely(found, 12.0)
    assert said.startswith("the certificate is not valid before 20")
    assert "the clock of this gateway says 1970" in said
    assert "expired at" in credential.untimely(found, NOW + 91 * 86_400)
    assert credential.untimely(found, NOW) == ""


@pytest.mark.parametrize(
    ("left", "said"), [(20, ""), (13.5, "expires in 13 days"), (2.5, "deliveries stop")]
)
def test_the_end_is_told_two_weeks_and_three_days_before(tmp_path: Path, left: float, said: str):
    """Rule K4."""
    key = credential.waiting_key(tmp_path).public_key()
    found = CA().issue(G, key, lasts=DAY + dt.timedelta(days=left))
    assert said in credential.alarm(found, NOW)
    assert bool(credential.alarm(found, NOW)) == bool(said)


def test_validity_is_said_in_words(tmp_path: Path):
    key = credential.waiting_key(tmp_path).public_key()
    half = dt.timedelta(hours=12)
    assert credential.validity(CA().issue(G, key, lasts=90 * DAY + half), NOW).endswith(
        "89 days left"
    )


@given(st.binary(max_size=400) | st.binary(max_size=200).map(framed))
def test_no_file_that_is_no_certificate_does_more_than_be_refused(content: bytes):
    with pytest.raises(Refused, match="no readable certificate"):
        credential.certificates(content)


@pytest.mark.filterwarnings("ignore:Parsed a")
def test_a_certificate_with_any_one_wrong_bit_is_refused_or_read_to_the_end():
    refused = 0
    for where in range(8 * len(KNOWN)):
        wrong = bytearray(KNOWN)
        wrong[where // 8] ^= 1 << where % 8
        try:
            (found,) = credential.certificates(bytes(wrong))
        except Refused:
            refused += 1
            continue
        _ = (
            credential.unfit(found, G),
            credential.alarm(found, NOW),
            credential.validity(found, NOW),
        )
    assert refused > 100
