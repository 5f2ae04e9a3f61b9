"""The section `web`: the page is closed without it, and opens on named addresses only."""

import pytest

from agent.config import parse
from agent.config.check import summary
from agent.core.errors import ConfigError

BUILDING = "building: {name: Les Alpins}\n"


def web(section):
    return parse(f"{BUILDING}web: {section}\n", "c.yaml").web


def test_without_the_section_the_page_is_closed():
    assert parse(BUILDING, "c.yaml").web is None
    assert "page" not in summary(parse(BUILDING, "c.yaml"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("192.168.1.10", "192.168.1.10:8443"),
        ("192.168.1.10:443", "192.168.1.10:443"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("fd00::10", "[fd00::10]:8443"),
        ("[FD00:0::10]:9000", "[fd00::10]:9000"),
        ("[fd00::10]", "[fd00::10]:8443"),
    ],
)
def test_an_address_may_lack_its_port_and_its_brackets(written, meant):
    assert web(f'{{listen: ["{written}"]}}').listen == (meant,)
    assert web(f'{{listen: "{written}"}}').listen == (meant,)


@pytest.mark.parametrize(
    "written",
    [
        "gateway.local", "192.168.1.10:0", "192.168.1.10:65536", "192.168.1:8443", "[fd00::10",
        "fe80::1", "224.0.0.1", "192.168.01.10", "192.168.1.10:8443:1", "fe80::1%eth0",
        "192.168.1.10:8443 ListenStream=0.0.0.0:1", "192.168.1.10:٣",
    ],
)  # fmt: skip
def test_what_no_browser_can_open_is_refused(written):
    with pytest.raises(ConfigError, match=r"c\.yaml:2:.*web\.listen"):
        web(f'{{listen: ["{written}"]}}')


@pytest.mark.parametrize("wide", ["0.0.0.0", "[::]:8443"])
def test_every_address_at_once_must_be_meant(wide):
    with pytest.raises(ConfigError, match="also those of a modem"):
        web(f'{{listen: ["{wide}"]}}')
    assert web(f'{{listen: ["{wide}"], anywhere: true}}').listen


@pytest.mark.parametrize(
    "section",
    [
        '{listen: ["10.0.0.1", "10.0.0.1:8443"]}', "{listen: []}", "{}", "",
        "{listen: 10.0.0.1, setup: 14min}", "{listen: 10.0.0.1, setup: 3h}",
    ],
)  # fmt: skip
def test_a_section_that_is_half_written_opens_nothing(section):
    with pytest.raises(ConfigError):
        web(section)


def test_check_says_where_the_page_listens_and_warns_of_an_address_of_the_internet():
    config = parse(f'{BUILDING}web: {{listen: ["10.0.0.1", "8.8.8.8"]}}\n', "c.yaml")
    text = " ".join(summary(config).split())
    assert "page on 10.0.0.1:8443, 8.8.8.8:8443, for those with a password" in text
    assert "! 8.8.8.8:8443 is an address of the internet" in text
    assert "! 10.0.0.1" not in text
