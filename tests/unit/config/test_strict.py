"""What `gardien check` refuses, and what a gateway goes on with after an upgrade."""

from __future__ import annotations

import pytest

from agent.config import parse
from agent.config.estimates import affordable
from agent.core.errors import ConfigError
from tests.unit.config.samples import changed

URL = '"mqtts://192.168.10.5"'
OURS = changed("energie.metropole.example", "energie.ville.example")
SERIAL = changed(
    "modbus-tcp, host: 192.168.10.20", "modbus-rtu, port: /dev/x, baudrate: 9601", OURS
)
HTTPS = changed(f"mqtt, url: {URL}", "https, url: https://platform.test, seal: 15min", OURS)
NO_ADDRESS = "is not an IPv4 address: write four numbers from 0 to 255, such as 192.168.10.20"
RATES = (
    "300, 600, 1200, 1800, 2400, 4800, 7200, 9600, 14400, 19200, 28800, 38400, 56000, 57600, 76800,"
    " 115200, 128000, 187500, 230400, 250000, 256000, 460800, 500000, 576000, 921600"
)
REFUSED = {
    "stored more rarely than sent": (
        changed(URL, f"{URL}, seal: 2s", OURS) + "spool: {flush: 30s}\n",
        (
            "7:101: uplinks.metropole.seal: readings are stored only every 30s (`spool.flush`) and"
            " cannot be sent every 2s: write `seal: 30s` or longer, or a shorter `flush`"
        ),
    ),
    "stored more rarely than sent, by default": (
        changed(URL, f"{URL}, seal: 1s", OURS),
        (
            "7:101: uplinks.metropole.seal: readings are stored only every 5s (`spool.flush`) and"
            " cannot be sent every 1s: write `seal: 5s` or longer, or a shorter `flush`"
        ),
    ),
    "a speed that no line has": (
        SERIAL,
        (
            "3:55: links.plant.baudrate: no serial line has 9601 baud; did you mean 9600?"
            f" Known: {RATES}"
        ),
    ),
    "an address with zeros": (
        changed("192.168.10.20", "192.168.010.020", OURS),
        f'3:37: links.plant.host: "192.168.010.020" {NO_ADDRESS}',
    ),
    "an address with a part missing": (
        changed("192.168.10.5", "192.168.10", OURS),
        f'7:71: uplinks.metropole.url: "192.168.10" {NO_ADDRESS}',
    ),
    "a budget that carries nothing": (
        changed("seal: 15min", "seal: 15min, data: 1MB/month", HTTPS),
        "7:114: uplinks.metropole.data: this schedule needs",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_check_refuses_it_and_a_gateway_goes_on(what):
    text, expected = REFUSED[what]
    with pytest.raises(ConfigError) as refused:
        parse(text, "config.yaml", strict=True)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"config.yaml:{expected}")
    assert parse(text, "config.yaml").uplinks


@pytest.mark.parametrize(
    ("data", "seal", "poll"), [(4, 14_400, 14_400), (10, 14_400, 3600), (20, 3600, 3600)]
)
def test_a_small_budget_over_https_is_kept_by_rarer_looks(data, seal, poll):
    """A look makes a new connection: every 15 minutes they would need 21 MB a month by themselves.

    Looks rarer than every hour come last, for a withdrawal waits for them.
    """
    text = changed("seal: 15min", f"seal: 15min, data: {data}MB/month", HTTPS)
    slowed = affordable(parse(text, "config.yaml", strict=True), "metropole")
    assert (slowed.seal, slowed.poll) == (seal, poll)


def test_a_budget_that_carries_nothing_slows_down_to_what_needs_least():
    text = changed("seal: 15min", "seal: 15min, data: 1MB/month", HTTPS)
    slowed = affordable(parse(text, "config.yaml"), "metropole")
    assert (slowed.seal, slowed.poll) == (86_400, 14_400)
