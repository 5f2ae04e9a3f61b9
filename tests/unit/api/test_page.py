"""Whether the web page is open, by what listens on this machine, and the findings about it."""

import socket

import pytest

from agent.api import page
from agent.api.diagnosis import running
from agent.cli import page_socket
from agent.cli.web import _addresses
from agent.core.errors import Refused
from agent.core.finding import Severity

NOW = "2026-11-28T12:00:00Z"


def listener(address="127.0.0.1"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.bind((address, 0))
    bound.listen()
    return bound


@pytest.mark.parametrize(("ip", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_what_listens_is_known_and_what_is_only_connected_is_not(ip, shown):
    with listener(ip) as bound:
        port = bound.getsockname()[1]
        assert f"{shown}:{port}" in page.listening()
        with socket.create_connection((ip, port)) as client:
            assert f"{shown}:{client.getsockname()[1]}" not in page.listening()
    assert f"{shown}:{port}" not in page.listening()


def test_where_nothing_is_configured_or_opened_the_page_is_closed(tmp_path):
    assert page.standing((), tmp_path / "listen.conf", tmp_path) is None


def test_the_drop_in_that_is_written_is_the_one_that_is_read(tmp_path):
    addresses = ["127.0.0.1:8443", "[fd00::10]:443"]
    (tmp_path / "listen.conf").write_text(page_socket.drop_in(addresses))
    assert page.read_opened(tmp_path / "listen.conf") == addresses


def test_the_addresses_of_this_machine_are_those_to_which_it_can_bind():
    for address in page.machine_addresses():
        listener(address).close()
    assert not {"127.0.0.1", "::1"} & set(page.machine_addresses())


def test_people_are_told_addresses_that_a_browser_can_open():
    assert page.urls(["10.0.0.1:8443", "[fd00::1]:443"]) == [
        "https://10.0.0.1:8443", "https://[fd00::1]:443",
    ]  # fmt: skip
    here = [one for one in page.machine_addresses() if ":" not in one]
    assert page.urls(["0.0.0.0:8443"]) == [f"https://{one}:8443" for one in here or ["0.0.0.0"]]


def findings(web):
    answer = {"clock_said": "", "now": NOW, "links": {}, "devices": {}, "uplinks": {}, "web": web}
    return [one for one in running.findings(answer) if one.code == "page"]


def web(listen=(), opened=(), listening=(), not_after="2036-01-01T00:00:00Z", own=True):
    certificate = {"fingerprint": "AB:CD", "not_after": not_after, "own": own}
    return {"listen": [*listen], "opened": [*opened], "listening": [*listening],
            "certificate": certificate}  # fmt: skip


A, B = "10.0.0.1:8443", "10.0.0.2:8443"


@pytest.mark.parametrize(
    ("state", "severities", "says"),
    [
        (None, [], ""),
        (web([A], [A], [A]), [], ""),
        (web([A], [], []), [Severity.NOTE], "does not listen on 10.0.0.1:8443"),
        (web([A], [A], []), [Severity.LATER], "does not listen on 10.0.0.1:8443"),
        (web([], [A], [A]), [Severity.LATER], "listens on 10.0.0.1:8443, which `web`"),
        (web([A, B], [A], [A]), [Severity.LATER], "does not listen on 10.0.0.2:8443"),
        (web([], [A], []), [], ""),
        (web([A], [A], [A], "2026-12-20T00:00:00Z"), [Severity.LATER], "ends soon"),
        (web([A], [A], [A], "2026-11-20T00:00:00Z"), [Severity.LATER], "has ended"),
        (web([A], [], [], "2026-11-20T00:00:00Z"), [Severity.NOTE], "does not listen"),
    ],
)
def test_a_page_that_is_not_as_configured_is_named_and_no_platform_hears_of_it(
    state, severities, says
):
    made = findings(state)
    assert [one.severity for one in made] == severities
    assert all(one.private for one in made)
    assert says in (str(made[0].what) if made else "")


def test_the_remedy_for_a_certificate_that_ends_depends_on_who_has_issued_it():
    own, theirs = (
        findings(web([A], [A], [A], "2026-12-20T00:00:00Z", own))[0] for own in (True, False)
    )
    assert own.command == "sudo gardien web open --no-setup --new-certificate"
    assert theirs.command.endswith("--certificate FILE --key FILE")


def test_an_address_that_another_program_has_is_refused_before_anything_is_changed():
    with listener() as bound:
        port = bound.getsockname()[1]
        with pytest.raises(Refused, match=f"cannot listen on 127.0.0.1:{port}: .*in use"):
            page_socket.see_that_they_are_free([f"127.0.0.1:{port}"])
    page_socket.see_that_they_are_free([f"127.0.0.1:{port}"])
    # of a network that is plugged in later
    page_socket.see_that_they_are_free(["10.255.255.1:8443", "[fd00::ffff]:8443"])


def test_without_an_address_those_of_this_machine_are_named(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("building: {name: Les Alpins}\n")
    with pytest.raises(Refused, match="sudo gardien web open --listen") as refused:
        _addresses(config, [])
    for address in page.machine_addresses():
        assert f"--listen {address}" in str(refused.value)


def test_given_addresses_are_added_to_those_of_the_configuration(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("building: {name: Les Alpins}\nweb: {listen: 127.0.0.1}\n")
    assert _addresses(config, ["127.0.0.2:443", "127.0.0.1"]) == ["127.0.0.1:8443", "127.0.0.2:443"]
    assert _addresses(config, ["8.8.8.8"])[-1] == "8.8.8.8:8443"
    warned = capsys.readouterr().err
    assert "does not have the address 8.8.8.8" in warned
    assert "8.8.8.8 is an address of the internet" in warned
    with pytest.raises(Refused, match="expected an address"):
        _addresses(config, ["gateway"])
