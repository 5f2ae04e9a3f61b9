"""What a platform sets up once: the configuration file, the CA, the certificates of gateways."""

import ssl
import stat
import subprocess
import sys
from contextlib import closing
from http.client import HTTPSConnection

import pytest

from agent.core.errors import Refused as AgentRefused
from agent.enrolment import calls
from agent.registry import identity
from hil.process import free_port
from receiver.run import main


def said(capsys, *words):
    """Exit status, and what a command printed."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    printed = capsys.readouterr()
    code = ended.value.code
    return (1, code) if isinstance(code, str) else (code, printed.out + printed.err)


@pytest.fixture
def folder(tmp_path, capsys):
    assert said(capsys, "init", "you.example", "--host", "127.0.0.1", "--folder", tmp_path)[0] == 0
    return tmp_path


@pytest.fixture
def gateway(tmp_path):
    """State directory and id of a gateway that asks for a certificate."""
    state = tmp_path / "state"
    return state, identity.mint(state).gateway


def test_the_conf_that_init_writes_starts_a_receiver_that_lets_admitted_gateways_in(
    folder, gateway, capsys, tmp_path
):
    state, name = gateway
    request = tmp_path / "gateway.csr"
    request.write_text(calls.csr(state, name)["csr"])
    out = tmp_path / "gateway.pem"
    status, words = said(capsys, "admit", name, request, "--out", out, "--folder", folder)
    assert status == 0, words
    calls.install(state, name, 0, out.read_text())
    conf = folder / "receiver.conf"
    port = free_port()
    conf.write_text(
        conf.read_text()
        .replace("0.0.0.0:8470", f"127.0.0.1:{port}")
        .replace("/var/lib/gardien-receiver", str(tmp_path))
    )
    run = (sys.executable, "-m", "receiver", "run", "--conf", str(conf))
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert receiver.stdout.readline() == "ready\n"
            assert get(port, folder / "ca.pem", state / "identity.pem") == b'{"objects": []}'
            with pytest.raises(OSError, match=r"certificate required|closed|reset|Broken pipe"):
                get(port, folder / "ca.pem")
        finally:
            receiver.terminate()
    status, words = said(capsys, "query", "--conf", conf, "SELECT count(*) AS n FROM batch")
    assert (status, words) == (0, "n\n0\n")


def get(port, ca, own=None):
    """What the receiver answers to somebody who asks for signed objects."""
    tls = ssl.create_default_context(cafile=ca)
    if own:
        tls.load_cert_chain(own)
    with closing(HTTPSConnection("127.0.0.1", port, context=tls, timeout=20)) as connection:
        connection.request("GET", "/objects")
        with connection.getresponse() as answer:
            return answer.read()


def test_a_request_of_another_gateway_is_not_signed(folder, gateway, capsys, tmp_path):
    state, name = gateway
    request = tmp_path / "gateway.csr"
    request.write_text(calls.csr(state, name)["csr"])
    other = "G" + name[1:][::-1]
    status, words = said(capsys, "admit", other, request, "--folder", folder)
    assert status == 1
    assert f"is the request of {name}, not of {other}" in words


def test_a_damaged_request_is_not_signed(folder, gateway, capsys, tmp_path):
    state, name = gateway
    request = tmp_path / "gateway.csr"
    request.write_text(calls.csr(state, name)["csr"][:200])
    status, words = said(capsys, "admit", name, request, "--folder", folder)
    assert status == 1
    assert "is no certificate request" in words


def test_a_certificate_of_this_ca_for_another_gateway_is_refused_by_the_gateway(
    folder, gateway, capsys, tmp_path
):
    state, name = gateway
    others = tmp_path / "others"
    other = identity.mint(others).gateway
    request, out = tmp_path / "other.csr", tmp_path / "other.pem"
    request.write_text(calls.csr(others, other)["csr"])
    calls.csr(state, name)
    assert said(capsys, "admit", other, request, "--out", out, "--folder", folder)[0] == 0
    with pytest.raises(AgentRefused):
        calls.install(state, name, 0, out.read_text())


def test_init_again_keeps_the_ca_and_what_people_have_written(folder, capsys):
    ca = (folder / "ca.pem").read_bytes()
    server = (folder / "server.pem").read_bytes()
    conf = folder / "receiver.conf"
    conf.write_text("workers = 3\n")
    status, words = said(capsys, "init", "you.example", "--host", "new.example", "--folder", folder)
    assert status == 0
    assert (folder / "ca.pem").read_bytes() == ca
    assert (folder / "server.pem").read_bytes() != server
    assert conf.read_text() == "workers = 3\n"
    assert "These lines belong in it" in words


def test_a_ca_without_its_key_is_not_replaced(folder, capsys):
    (folder / "ca.key").unlink()
    status, words = said(capsys, "init", "you.example", "--folder", folder)
    assert status == 1
    assert "would lock all gateways out" in words


def test_keys_are_readable_by_their_owner_only(folder):
    for name in ("ca.key", "server.pem"):
        mode = stat.S_IMODE((folder / name).stat().st_mode)
        assert not mode & 0o007
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("htps = 127.0.0.1:1\n", ":1: there is no option `htps`; did you mean `https`?"),
        ("\n# x\nworkers = two\n", ":3: workers: "),
        ("https 127.0.0.1:1\n", ":1: write NAME = VALUE, not `https 127.0.0.1:1`"),
        ("db = a\ndb = b\n", ":2: `db` is also in line 1"),
        ("gateway = G1\n", ":1: there is no option `gateway`"),
        ("https = somewhere\n", "https: write HOST:PORT"),
        ("mqtt = broker:1883\n", "mqtt: write mqtts://HOST:8883 or mqtt://HOST:1883"),
        ("cert = /nonexistent\n", "cert: /nonexistent: No such file or directory"),
        ("ca = /dev/null\n", "ca: /dev/null does not contain certificates"),
        ("files = /nonexistent\n", "files: there is no folder /nonexistent"),
    ],
)
def test_a_mistake_in_the_conf_is_stated_with_its_line_before_anything_runs(
    text, words, tmp_path, capsys
):
    conf = tmp_path / "receiver.conf"
    conf.write_text(text)
    status, printed = said(capsys, "run", "--conf", conf)
    assert status == 1
    assert words in printed
    assert "Traceback" not in printed


def test_the_command_line_counts_more_than_the_conf(tmp_path, capsys):
    conf = tmp_path / "receiver.conf"
    conf.write_text("db = /nonexistent/a.db\n")
    words = said(capsys, "query", "--conf", conf, "--db", "/nonexistent/b.db", "SELECT 1")[1]
    assert "/nonexistent/b.db" in words


def test_the_sample_is_understood(tmp_path, capsys):
    from receiver.certificates import SAMPLE

    conf = tmp_path / "receiver.conf"
    text = SAMPLE.read_text()
    uncommented = [line.removeprefix("#") for line in text.splitlines() if " = " in line]
    (shown := {}).update(line.split(" = ") for line in uncommented if not line.startswith(" "))
    assert {"db", "https", "cert", "ca", "mqtt", "files", "workers", "recipient"} <= set(shown)
    conf.write_text("\n".join(f"{name} = {value}" for name, value in shown.items()))
    words = said(capsys, "query", "--conf", conf, "--db", "/nonexistent/b.db", "SELECT 1")[1]
    assert "There is no database /nonexistent/b.db" in words


def test_a_conf_that_cannot_be_used_stops_only_what_needs_it(tmp_path, capsys):
    conf = tmp_path / "receiver.conf"
    conf.write_text("recipent = you.example\n")
    with pytest.raises(SystemExit, match="0"):
        main(["--help"], default_conf=str(conf))
    assert said(capsys, "query", "--help", "--conf", conf)[0] == 0
    status, printed = said(capsys, "status", "--conf", conf)
    assert (status, "did you mean `recipient`?" in printed) == (1, True)
