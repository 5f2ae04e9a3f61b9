"""mqtts:// against a real mosquitto with certificates made here: who is who, told in words.
Rule K8.
"""

import asyncio
import datetime as dt
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509

from agent.core.errors import CertificateRefused, UplinkLost
from agent.uplink.base import GatewayFacts
from agent.uplink.mqtt.settings import Settings
from agent.uplink.mqtt.transport import MqttUplink
from hil.broker import Broker, broker
from hil.ca import CA, DAY
from tests.contract.uplink.house import GATEWAY, RECIPIENT, delivering, house
from tests.contract.uplink.sides import so

LATE = {"begins": -30 * DAY, "lasts": 29 * DAY}
EARLY = {"begins": 2 * DAY}


def secured(folder: Path, ca: CA, server: Path | None = None, *more: str) -> tuple[str, ...]:
    """Lines for a broker that takes gateways with a certificate of `ca` only."""
    folder.mkdir(exist_ok=True)
    pem = server or ca.server(folder)
    return (
        f"cafile {ca.file(folder)}",
        f"certfile {pem}",
        f"keyfile {pem}",
        "require_certificate true",
        "use_identity_as_username true",
        "user root",
        *more,
    )


async def opened(port: int, ca: Path, credential: Path | None, host: str = "127.0.0.1") -> None:
    settings = Settings(recipient=RECIPIENT, url=f"mqtts://{host}:{port}", ca=ca)
    async with MqttUplink.open(settings, GatewayFacts(GATEWAY, credential)):
        pass


def run(lines: tuple[str, ...], what: Callable[[Broker], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with broker(more=lines) as far:
            await what(far)

    asyncio.run(scenario())


def refused(
    lines: tuple[str, ...],
    ca: Path,
    credential: Path | None,
    error: type[UplinkLost] = UplinkLost,
) -> str:
    """The text with which an opening fails."""

    said: list[str] = []

    async def scenario(far: Broker) -> None:
        with pytest.raises(error) as lost:
            await opened(far.port, ca, credential)
        said.append(str(lost.value))

    run(lines, scenario)
    return said[0]


def test_a_gateway_with_its_certificate_is_let_in_and_delivers(tmp_path: Path):
    ca = CA()
    pem = ca.gateway(GATEWAY, tmp_path / "state")

    async def scenario(far: Broker) -> None:
        await opened(far.port, ca.file(tmp_path), pem)
        await opened(far.port, ca.file(tmp_path), pem, host="localhost")

    run(secured(tmp_path / "far", ca), scenario)


def test_a_gateway_of_an_intermediate_ca_sends_its_chain_along(tmp_path: Path):
    root = CA("root")
    pem = CA("fleet", under=root).gateway(GATEWAY, tmp_path / "state")
    run(
        secured(tmp_path / "far", root),
        lambda far: opened(far.port, root.file(tmp_path), pem),
    )


def test_a_broker_of_another_ca_is_not_believed(tmp_path: Path):
    ca, other = CA(), CA("Other CA")
    pem = ca.gateway(GATEWAY, tmp_path / "state")
    said = refused(secured(tmp_path / "far", ca), other.file(tmp_path), pem)
    assert "issued by an unknown CA" in said


@pytest.mark.parametrize(
    ("when", "words"),
    [(LATE, "has expired"), (EARLY, "not valid yet, and the clock of this gateway says")],
)
def test_a_brokers_certificate_out_of_its_time_is_told(
    tmp_path: Path, when: dict[str, dt.timedelta], words: str
):
    ca = CA()
    pem = ca.gateway(GATEWAY, tmp_path / "state")
    lines = secured(tmp_path / "far", ca, ca.server(tmp_path, **when))
    assert words in refused(lines, ca.file(tmp_path), pem)


def test_a_broker_of_another_name_is_not_believed(tmp_path: Path):
    ca = CA()
    pem = ca.gateway(GATEWAY, tmp_path / "state")
    lines = secured(tmp_path / "far", ca, ca.server(tmp_path, ("elsewhere.example",)))
    assert "is for another name than" in refused(lines, ca.file(tmp_path), pem)


@pytest.mark.parametrize(
    ("when", "words"), [(LATE, "the certificate expired at"), (EARLY, "is not valid before")]
)
def test_our_own_certificate_out_of_its_time_is_told(
    tmp_path: Path, when: dict[str, dt.timedelta], words: str
):
    ca = CA()
    pem = ca.gateway(GATEWAY, tmp_path / "state", **when)
    said = refused(secured(tmp_path / "far", ca), ca.file(tmp_path), pem)
    assert words in said
    assert "the clock of this gateway says" in said


def test_a_certificate_of_another_ca_is_refused_in_words(tmp_path: Path):
    ca, other = CA(), CA("Other CA")
    pem = other.gateway(GATEWAY, tmp_path / "state")
    said = refused(secured(tmp_path / "far", ca), ca.file(tmp_path), pem, CertificateRefused)
    assert (
        "does not know the issuer of our certificate" in said or "refuses our certificate" in said
    )


def test_a_revoked_certificate_is_refused_in_words(tmp_path: Path):
    ca = CA()
    pem = ca.gateway(GATEWAY, tmp_path / "state")
    own = x509.load_pem_x509_certificate(pem.read_bytes())
    lines = secured(tmp_path / "far", ca, None, f"crlfile {ca.revoking(tmp_path, own)}")
    said = refused(lines, ca.file(tmp_path), pem, CertificateRefused)
    assert "was revoked" in said or "refuses our certificate" in said


def test_a_gateway_without_a_certificate_is_told_what_to_do(tmp_path: Path):
    ca = CA()
    lines = secured(tmp_path / "far", ca)
    said = refused(lines, ca.file(tmp_path), tmp_path / "identity.pem")
    assert "gardien key enroll" in said


def test_the_certificate_of_another_gateway_is_named_when_it_is_refused(tmp_path: Path):
    ca = CA()
    pem = ca.gateway("GOTHER", tmp_path / "state")
    only = tmp_path / "rights"
    only.write_text(f"user {GATEWAY}\ntopic readwrite gardien/#\n", encoding="utf-8")
    lines = secured(tmp_path / "far", ca, None, f"acl_file {only}", "log_type none")
    said: list[str] = []

    async def scenario(far: Broker) -> None:
        settings = Settings(recipient=RECIPIENT, url=f"mqtts://127.0.0.1:{far.port}",
                            ca=ca.file(tmp_path))  # fmt: skip
        with pytest.raises(UplinkLost) as lost:
            async with MqttUplink.open(settings, GatewayFacts(GATEWAY, pem)):
                pass
        said.append(str(lost.value))

    run(lines, scenario)
    assert 'for "GOTHER", but this gateway is GTEST' in said[0]


def test_a_broker_that_does_not_speak_tls_is_told(tmp_path: Path):
    ca = CA()
    pem = ca.gateway(GATEWAY, tmp_path / "state")
    said = refused((), ca.file(tmp_path), pem)
    assert "does not speak TLS" in said or "TLS" in said


def test_a_ca_file_that_is_none_is_told(tmp_path: Path):
    nothing = tmp_path / "none.pem"
    nothing.write_text("no certificate", encoding="utf-8")
    said = refused((), nothing, None)
    assert f"ca: {nothing} cannot be used" in said


def test_nothing_is_lost_while_the_certificate_is_refused_and_a_new_one_is_taken_by_itself(
    tmp_path: Path,
):
    """Rule G1: an expired certificate stops deliveries, and the next one resumes them."""
    ca = CA()
    state = tmp_path / "state"
    pem = ca.gateway(GATEWAY, state, **LATE)
    lines = secured(tmp_path / "far", ca)

    async def scenario() -> None:
        async with broker(more=lines) as far, house(tmp_path) as at:
            url = f"mqtts://127.0.0.1:{far.port}"
            more = {"url": url, "ca": ca.file(tmp_path), "receipt": "broker"}
            listener = ("mosquitto_sub", "-p", str(far.port), "--cafile", str(ca.file(tmp_path)),
                        "--cert", str(ca.gateway("platform", tmp_path / "p")),
                        "--key", str(tmp_path / "p" / "identity.pem"), "-h", "127.0.0.1",
                        "-q", "1", "-t", "gardien/+/+/up/#", "-C", "1", "-F", "%t", "-W", "60",
                        )  # fmt: skip
            heard = await asyncio.create_subprocess_exec(*listener, stdout=asyncio.subprocess.PIPE)
            await asyncio.sleep(0.5)
            async with delivering(at, far.port, station=GatewayFacts(GATEWAY, pem), **more):
                await at.read()
                await asyncio.sleep(1.5)
                assert await at.unsettled() == 10
                ca.gateway(GATEWAY, state)
                out, _ = await heard.communicate()
                assert out.decode().strip() == f"gardien/{GATEWAY}/{RECIPIENT}/up/backfill"
                await at.settled()

    asyncio.run(scenario())


def test_the_broker_keeps_a_persistent_session_only_where_objects_are_wanted():
    """A signed object sent while we are away is there when we come back, and once only."""

    async def scenario() -> None:
        async with broker() as far:
            url = f"mqtt://127.0.0.1:{far.port}"
            settings = Settings(recipient=RECIPIENT, url=url)
            got: list[bytes] = []

            async def take(raw: bytes) -> None:
                got.append(raw)

            station = GatewayFacts(GATEWAY, objects=take)
            async with MqttUplink.open(settings, station):
                pass
            topic = f"gardien/{GATEWAY}/{RECIPIENT}/down/objects"
            tell = ("mosquitto_pub", "-p", str(far.port), "-q", "1", "-t", topic, "-m", "an object")
            client = await asyncio.create_subprocess_exec(*tell)
            await client.wait()
            for _ in range(2):
                async with MqttUplink.open(settings, station) as uplink:
                    listening = asyncio.create_task(anext(aiter(uplink.receipts())))
                    await so(lambda: got)
                    await asyncio.sleep(0.5)
                    listening.cancel()
                    await asyncio.wait([listening])
            assert got == [b"an object"]

            deaf = settings.model_copy(update={"objects": False})
            async with MqttUplink.open(deaf, station):
                pass
            client = await asyncio.create_subprocess_exec(*tell)
            await client.wait()
            async with MqttUplink.open(settings, station) as uplink:
                listening = asyncio.create_task(anext(aiter(uplink.receipts())))
                await asyncio.sleep(0.5)
                listening.cancel()
                await asyncio.wait([listening])
            assert len(got) == 1, "without objects nothing was kept for us"

    asyncio.run(scenario())


def test_an_object_that_was_not_dealt_with_comes_again():
    """A kill while an object is being taken must not lose it: it is acknowledged afterwards.
    Rule T26.
    """

    async def scenario() -> None:
        async with broker() as far:
            url = f"mqtt://127.0.0.1:{far.port}"
            settings = Settings(recipient=RECIPIENT, url=url)
            got: list[bytes] = []

            async def hang(raw: bytes) -> None:
                got.append(raw)
                if len(got) == 1:
                    await asyncio.Event().wait()

            station = GatewayFacts(GATEWAY, objects=hang)
            topic = f"gardien/{GATEWAY}/{RECIPIENT}/down/objects"
            tell = ("mosquitto_pub", "-p", str(far.port), "-q", "1", "-t", topic, "-m", "once")
            for nth in (1, 2):
                async with MqttUplink.open(settings, station) as uplink:
                    if not got:
                        await (await asyncio.create_subprocess_exec(*tell)).wait()
                    listening = asyncio.create_task(anext(aiter(uplink.receipts())))
                    await so(lambda: len(got) >= nth)  # noqa: B023 -- of this round
                    await asyncio.sleep(0.5)
                    listening.cancel()
                    await asyncio.wait([listening])
            assert got == [b"once", b"once"]

    asyncio.run(scenario())


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_the_status_says_how_we_are_and_that_we_left(version: str):
    async def scenario() -> None:
        async with broker() as far:
            url = f"mqtt://127.0.0.1:{far.port}"
            settings = Settings(recipient=RECIPIENT, url=url, version=version)
            ask = ("mosquitto_sub", "-p", str(far.port), "-t", f"gardien/{GATEWAY}/#", "-C", "1",
                   "-W", "10")  # fmt: skip

            async def status() -> dict:
                client = await asyncio.create_subprocess_exec(*ask, stdout=asyncio.subprocess.PIPE)
                out, _ = await client.communicate()
                return json.loads(out)

            async with MqttUplink.open(settings, GatewayFacts(GATEWAY)) as uplink:
                await uplink.tell({"version": "1.2.3"})
                said = await status()
                assert (said["state"], said["version"]) == ("online", "1.2.3")
                assert uplink.used() > 500
            assert (await status())["state"] == "offline"

    asyncio.run(scenario())
