"""`gardien doctor` at both ends of TLS: of the far side, and of our own certificate."""

import asyncio
import socket
from pathlib import Path

import pytest

from agent.api.diagnosis import machine, network
from agent.config.load import parse
from agent.core.finding import Finding, Severity
from agent.registry import identity
from hil.bacnet.controller import free_udp_port
from hil.broker import broker
from hil.ca import CA, DAY

CONFIG = """\
building: {{name: Les Alpins}}
uplinks:
  centre: {{recipient: r.example, transport: mqtt, url: "mqtts://127.0.0.1:{port}", ca: {ca}}}
state: {state}
"""


def looked(folder: Path, lines: tuple[str, ...], ca: Path) -> Finding:
    """What is said last of the uplink."""

    async def scenario() -> Finding:
        async with broker(more=lines) as far:
            text = CONFIG.format(port=far.port, ca=ca, state=folder / "state")
            config = parse(text, "config.yaml")
            found = await asyncio.to_thread(lambda: list(network.uplinks(config, folder / "state")))
            return found[-1]

    return asyncio.run(scenario())


@pytest.fixture
def gateway(tmp_path: Path) -> str:
    (tmp_path / "state").mkdir(mode=0o700)
    return identity.mint(tmp_path / "state").gateway


def door(folder: Path, ca: CA) -> tuple[str, ...]:
    pem = ca.server(folder)
    return (f"cafile {ca.file(folder)}", f"certfile {pem}", f"keyfile {pem}",
            "require_certificate true", "user root")  # fmt: skip


def test_both_sides_prove_who_they_are(tmp_path: Path, gateway: str):
    """Rule K8."""
    ca = CA()
    ca.gateway(gateway, tmp_path / "state")
    found = looked(tmp_path, door(tmp_path, ca), ca.file(tmp_path))
    assert found.fine
    assert "TLSv1.3, its certificate is valid for 8" in found.text
    (own,) = machine.certificate(tmp_path / "state")
    assert own.fine
    assert f"its key is unencrypted in {tmp_path / 'state' / 'identity.pem'}, on " in own.text


def test_a_far_side_that_refuses_us_is_told_though_the_handshake_ends_well(
    tmp_path: Path, gateway: str
):
    ca = CA()
    CA("Other").gateway(gateway, tmp_path / "state")
    found = looked(tmp_path, door(tmp_path, ca), ca.file(tmp_path))
    assert found.fine is False
    assert "refuses" in found.text


def test_what_is_wrong_with_the_far_side_or_our_own_certificate_is_told(
    tmp_path: Path, gateway: str
):
    ca = CA()
    found = looked(tmp_path, door(tmp_path, ca), CA("Other CA").file(tmp_path))
    assert "issued by an unknown CA" in found.text
    assert "TLS" in looked(tmp_path, (), ca.file(tmp_path)).text
    (none,) = machine.certificate(tmp_path / "state")
    assert (none.severity, "gardien key enroll" in none.text) == (Severity.NOTE, True)
    for who, when, said in (
        ("GOTHER", {}, 'is for "GOTHER"'),
        (gateway, {"lasts": DAY * 8}, "expires in 6 days"),
    ):
        ca.gateway(who, tmp_path / "state", **when)
        (own,) = machine.certificate(tmp_path / "state")
        assert own.fine is False
        assert said in own.text


def test_a_bacnet_port_is_ours_and_free_or_it_says_who_has_it(tmp_path: Path):
    port = free_udp_port()
    link = f"{{bms: {{driver: bacnet, address: 127.0.0.1/8, port: {port}}}}}"
    config = parse(f"building: {{name: B}}\nlinks: {link}\nstate: {tmp_path}\n", "config.yaml")
    assert next(network.lines(config, set())).fine
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port))
        (found,) = network.lines(config, set())
    assert not found.fine
    assert "another program has it" in found.text
