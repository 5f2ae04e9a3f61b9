"""Keys and certificates from a real EST server over real TLS, and by hand."""

import asyncio
import base64
import datetime as dt
import os
import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates

from agent.core.clock import Clock
from agent.core.errors import Refused
from agent.enrolment import calls, credential
from agent.enrolment.est import Est, _certificates
from agent.enrolment.http_client import HttpClient
from agent.enrolment.settings import Enrolment
from agent.enrolment.tls import context
from hil.ca import CA, DAY, SERVER_USES
from hil.est import Policy, est

G = "GTEST"
NOW = dt.datetime.now(dt.UTC).timestamp()


def settings(url: str, ca: Path) -> Enrolment:
    return Enrolment(url=url, ca=ca)


def pem(*certificates) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def test_a_token_gives_one_certificate_for_tls_and_files(tmp_path: Path, state: Path):
    policy = Policy(tokens={"once"})
    with est(tmp_path, policy) as url:
        there = settings(url, policy.ca.file(tmp_path))
        answer = calls.enroll(state, G, NOW, there, "once")
        assert answer["certificate"]["uses"] == ["files", "tls"]
        assert answer["certificate"]["days_left"] in {88, 89}
        with pytest.raises(Refused, match="token, which is wrong, used or expired"):
            calls.enroll(state, G, NOW, there, "once")
        assert credential.load(state).certificate == policy.issued[0], "the first one stays"


def test_an_enrolment_that_waits_for_approval_asks_again_with_the_same_key(
    tmp_path: Path, state: Path
):
    policy = Policy(tokens={"once"}, put_off=2)
    with est(tmp_path, policy) as url:
        there = settings(url, policy.ca.file(tmp_path))
        assert calls.enroll(state, G, NOW, there, "once")["wait"] == 61
        key = credential.standing_key(state)
        assert calls.enroll(state, G, NOW, there, "once")["wait"] == 61
        answer = calls.enroll(state, G, NOW, there, "once")
        assert answer["certificate"]["subject"] == G
        assert key is not None
        assert credential.same_key(credential.load(state).certificate, key)


def test_renewal_brings_a_new_key_by_the_present_certificate(tmp_path: Path, state: Path):
    policy = Policy(tokens={"once"})
    with est(tmp_path, policy) as url:
        there = settings(url, policy.ca.file(tmp_path))
        calls.enroll(state, G, NOW, there, "once")
        before = credential.load(state)
        calls.renew(state, G, NOW, there)
        after = credential.load(state)
        assert not credential.same_key(after.certificate, before.key)
        assert len(policy.issued) == 2


def test_a_renewal_that_fails_leaves_the_present_certificate(tmp_path: Path, state: Path):
    """Rule K4."""
    policy = Policy(tokens={"once"})
    with est(tmp_path, policy) as url:
        there = settings(url, policy.ca.file(tmp_path))
        calls.enroll(state, G, NOW, there, "once")
        before = (state / credential.FILE).read_bytes()
        policy.down = True
        with pytest.raises(Refused, match="503"):
            calls.renew(state, G, NOW, there)
        policy.down, policy.name = False, "GOTHER"
        with pytest.raises(Refused, match='is for "GOTHER"'):
            calls.renew(state, G, NOW, there)
        policy.name, policy.lasts = "", DAY / 2
        with pytest.raises(Refused, match="expired at"):
            calls.renew(state, G, NOW, there)
    with pytest.raises(Refused, match="refused"):
        calls.renew(state, G, NOW, there)
    assert (state / credential.FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("ca", "issued by an unknown CA"),
        ("late", "has expired"),
        ("early", "not valid yet, and the clock of this gateway says"),
        ("host", "is for another name"),
    ],
)
def test_a_token_is_never_told_to_a_server_that_does_not_prove_itself(
    tmp_path: Path, state: Path, wrong: str, words: str
):
    """Rule K3."""
    policy = Policy(tokens={"once"})
    ca = policy.ca
    server = {
        "ca": lambda: ca.server(tmp_path),
        "late": lambda: ca.server(tmp_path, begins=-30 * DAY, lasts=DAY),
        "early": lambda: ca.server(tmp_path, begins=DAY),
        "host": lambda: ca.server(tmp_path, ("elsewhere.example",)),
    }[wrong]()
    trusted = CA("Other").file(tmp_path) if wrong == "ca" else ca.file(tmp_path)
    with est(tmp_path, policy, server) as url:
        with pytest.raises(Refused, match=words):
            calls.enroll(state, G, NOW, settings(url, trusted), "once")
        assert policy.asked == []


def test_a_certificate_is_installed_by_hand(state: Path):
    root = CA("root")
    middle = CA("middle", under=root)
    asked = calls.csr(state, G)["csr"]
    assert calls.csr(state, G)["csr"] != "", "the signature may differ, the key does not"
    key = credential.standing_key(state)
    assert key is not None
    assert asked.startswith("-----BEGIN CERTIFICATE REQUEST-----")
    own = middle.issue(G, key.public_key())
    answer = calls.install(state, G, NOW, pem(root.certificate, middle.certificate, own))
    assert answer["certificate"]["chain"] == 2
    assert credential.load(state).certificate == own


@pytest.mark.parametrize("wrong", ["key", "name", "use", "over", "none", "unasked"])
def test_a_wrong_certificate_is_refused_and_the_present_one_stays(state: Path, wrong: str):
    ca = CA()
    key = credential.waiting_key(state)
    calls.install(state, G, NOW, pem(ca.issue(G, key.public_key())))
    before = (state / credential.FILE).read_bytes()
    if wrong != "unasked":
        calls.csr(state, G)
        waiting = credential.standing_key(state)
        assert waiting is not None
        key = waiting
    stranger = CA("stranger").key.public_key()
    text, words = {
        "key": lambda: (pem(ca.issue(G, stranger)), "belongs to another key"),
        "name": lambda: (pem(ca.issue("GOTHER", key.public_key())), 'for "GOTHER"'),
        "use": lambda: (
            pem(ca.issue(G, key.public_key(), SERVER_USES)),
            "not for TLS clients",
        ),
        "over": lambda: (
            pem(ca.issue(G, key.public_key(), begins=-3 * DAY, lasts=DAY)),
            "expired at",
        ),
        "none": lambda: ("hello", "has no readable certificate"),
        "unasked": lambda: (pem(ca.issue(G, stranger)), "belongs to another key"),
    }[wrong]()
    with pytest.raises(Refused, match=words):
        calls.install(state, G, NOW, text)
    assert (state / credential.FILE).read_bytes() == before


def test_a_gateway_that_believes_it_is_1970_keeps_its_certificate_and_says_so(
    tmp_path: Path, state: Path
):
    policy = Policy(tokens={"once"})
    with est(tmp_path, policy) as url:
        answer = calls.enroll(state, G, 100.0, settings(url, policy.ca.file(tmp_path)), "once")
    said = answer["certificate"]["alarm"]
    assert "the certificate is not valid before" in said
    assert "the clock of this gateway says 1970" in said
    assert "doctor" in said


def test_whoever_looks_while_it_is_renewed_sees_a_key_with_its_own_certificate(
    tmp_path: Path, state: Path
):
    """Rule K2."""
    policy = Policy(tokens={"once"})
    with est(tmp_path, policy) as url:
        there = settings(url, policy.ca.file(tmp_path))
        calls.enroll(state, G, NOW, there, "once")
        over = threading.Event()
        mixed: list[str] = []

        def look() -> None:
            while not over.is_set():
                try:
                    credential.load(state)
                except Refused as error:
                    mixed.append(str(error))

        looking = threading.Thread(target=look)
        looking.start()
        for _ in range(5):
            calls.renew(state, G, NOW, there)
        over.set()
        looking.join()
        assert mixed == []


def test_it_is_renewed_at_two_thirds_of_its_life_and_not_by_all_at_once(
    tmp_path: Path, state: Path
):
    """Rule K4."""
    policy = Policy(tokens={"once"})
    with est(tmp_path, policy) as url:
        calls.enroll(state, G, NOW, settings(url, policy.ca.file(tmp_path)), "once")
    own = credential.load(state).certificate
    days = [(calls.due(own, f"G{n}") - credential.begins(own)) / 86_400 for n in range(200)]
    assert min(days) >= 60
    assert max(days) <= 65
    assert max(days) - min(days) > 4


def test_the_agent_renews_by_itself_in_time_and_tells_what_it_cannot(
    tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture
):
    policy = Policy(tokens={"once"}, begins=-70 * DAY, lasts=75 * DAY)
    with est(tmp_path, policy) as url:
        there = settings(url, policy.ca.file(tmp_path))
        calls.enroll(state, G, NOW, there, "once")
        policy.begins, policy.lasts = -DAY, 90 * DAY

        async def scenario() -> None:
            job = asyncio.ensure_future(calls.keep_valid(state, G, Clock("system"), lambda: there))
            async with asyncio.timeout(20):
                while len(policy.issued) < 2:
                    await asyncio.sleep(0.05)
            job.cancel()
            await asyncio.wait([job])

        asyncio.run(scenario())
    assert "expires in 4 days and has not been renewed" in caplog.text
    assert credential.load(state).certificate == policy.issued[1]
    assert credential.alarm(credential.load(state).certificate, NOW) == ""


def test_a_new_key_that_waits_for_approval_is_asked_for_again_though_the_certificate_holds_long(
    tmp_path: Path, state: Path
):
    policy = Policy(tokens={"once"})
    with est(tmp_path, policy) as url:
        there = settings(url, policy.ca.file(tmp_path))
        calls.enroll(state, G, NOW, there, "once")
        policy.put_off = 1
        assert calls.renew(state, G, NOW, there)["wait"] == 61
        key = credential.standing_key(state)

        async def scenario() -> None:
            job = asyncio.ensure_future(calls.keep_valid(state, G, Clock("system"), lambda: there))
            async with asyncio.timeout(20):
                while credential.standing_key(state) is not None:
                    await asyncio.sleep(0.05)
            job.cancel()
            await asyncio.wait([job])

        asyncio.run(scenario())
    assert key is not None
    assert credential.same_key(credential.load(state).certificate, key)


@pytest.mark.parametrize(("days", "kept"), [(29, True), (31, False)])
def test_the_key_before_goes_after_30_days_though_no_platform_has_taken_the_new_one(
    tmp_path: Path, state: Path, days: int, kept: bool
):
    """Rule K5."""
    policy = Policy(tokens={"once"})
    with est(tmp_path, policy) as url:
        there = settings(url, policy.ca.file(tmp_path))
        calls.enroll(state, G, NOW, there, "once")
        calls.renew(state, G, NOW, there)
    then = NOW - days * 86_400
    os.utime(credential.path(state), (then, then))
    calls._destroy_previous(state, Clock("system"))
    assert (credential.before(state) is not None) is kept
    installed = credential.installed(state)
    assert not calls.has_worked(state, installed - 1)
    assert calls.go_back(state, installed) is kept


def test_a_server_that_answers_a_byte_at_a_time_is_given_up_at_the_timeout(tmp_path: Path):
    ca = CA()
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(ca.server(tmp_path))
    door = secure.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
    over = threading.Event()

    def serve() -> None:
        there, _ = door.accept()
        with there, suppress(OSError):
            there.recv(4096)
            there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not over.wait(0.02):
                there.sendall(b"x")

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        there = settings(f"https://127.0.0.1:{door.getsockname()[1]}", ca.file(tmp_path))
        begun = time.monotonic()
        with pytest.raises(Refused, match=r"incomplete after 0\.5 s"):
            Est(there, within=0.5).cacerts()
        assert time.monotonic() - begun < 8
    finally:
        over.set()
        serving.join()
        door.close()


def test_no_redirection_proxy_or_ca_of_the_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One client for platforms and EST: a token goes to the configured server and nowhere else."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    ca = CA()
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(ca.server(tmp_path))
    door = secure.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
    url = f"https://127.0.0.1:{door.getsockname()[1]}"
    requests: list[bytes] = []

    def serve() -> None:
        there, _ = door.accept()
        with there:
            requests.append(there.recv(4096))
            elsewhere = f"Location: {url}/elsewhere\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n"
            there.sendall(f"HTTP/1.1 302 Found\r\n{elsewhere}\r\n".encode())

    serving = threading.Thread(target=serve)
    serving.start()
    tls = context(ca.file(tmp_path), None)
    with HttpClient.open("server", tls, 5.0) as client:
        answer = client.request("GET", f"{url}/cacerts", 100)
    serving.join()
    door.close()
    assert (answer.status, len(requests)) == (302, 1)
    assert requests[0].startswith(b"GET /cacerts HTTP/1.1")
    assert len(tls.get_ca_certs()) == 1, "those of certifi were not added"


def test_a_certificate_of_a_version_that_there_is_not_is_refused_in_words():
    """cryptography's own error for it is no ValueError: it ended the task that renews."""
    der = bytearray(serialize_certificates([CA().certificate], Encoding.DER))
    at = der.index(bytes.fromhex("a003020102"))
    der[at + 4] = 66
    with pytest.raises(Refused, match="has no readable certificates"):
        _certificates(base64.b64encode(der))


def test_going_back_keeps_a_key_whose_certificate_is_waited_for(tmp_path: Path, state: Path):
    policy = Policy(tokens={"once"})
    with est(tmp_path, policy) as url:
        there = settings(url, policy.ca.file(tmp_path))
        calls.enroll(state, G, NOW, there, "once")
        calls.renew(state, G, NOW, there)
    asked = x509.load_pem_x509_csr(calls.csr(state, G)["csr"].encode()).public_key()
    assert calls.go_back(state, credential.installed(state))
    assert credential.load(state).certificate == policy.issued[0]
    calls.install(state, G, NOW, pem(policy.ca.issue(G, asked)))
    assert credential.load(state).certificate.public_key() == asked


def test_each_file_that_held_the_key_before_is_overwritten(tmp_path: Path, state: Path):
    policy = Policy(tokens={"once"})
    with est(tmp_path, policy) as url:
        there = settings(url, policy.ca.file(tmp_path))
        key = credential.waiting_key(state)
        os.link(state / credential.WAITING, tmp_path / "asked")
        calls.enroll(state, G, NOW, there, "once")
        os.link(credential.path(state), tmp_path / "used")
        calls.renew(state, G, NOW, there)
        os.link(state / credential.BEFORE, tmp_path / "kept")
        assert calls.has_worked(state, credential.installed(state))
    secret = credential._pem(key)
    assert not [one for one in ("asked", "used", "kept") if secret in (tmp_path / one).read_bytes()]
