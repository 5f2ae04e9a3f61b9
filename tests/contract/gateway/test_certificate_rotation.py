"""A certificate's key is rotated: the one before is kept until every platform has taken the new
one, and is used again where one refuses it. Rule K5.
"""

import asyncio
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_csr

from agent.api import keys
from agent.api.calls import NOBODY, status
from agent.core.errors import CertificateRefused
from agent.enrolment import calls, credential
from agent.gateway.delivery import Proving
from agent.registry import identity
from hil.broker import broker
from hil.ca import CA
from hil.platform.child import Platform
from hil.process import free_port
from tests.command import gardien
from tests.contract.gateway.running import at_work, configured, put, settled
from tests.waiting import until


def tls(folder: Path, ca: CA, port: int) -> tuple[str, ...]:
    pem = ca.server(folder)
    return (
        f"listener {port} 127.0.0.1",
        f"cafile {ca.file(folder)}",
        f"certfile {pem}",
        f"keyfile {pem}",
        "require_certificate true",
        "user root",
    )


async def issued(house, ca: CA) -> str:
    """What a CA makes of the gateway's request."""
    request = load_pem_x509_csr((await keys.csr(house, NOBODY))["csr"].encode())
    made = ca.issue(house.identity.gateway, request.public_key())
    return made.public_bytes(Encoding.PEM).decode()


def own(state: Path) -> bytes:
    return credential.load(state).certificate.public_bytes(Encoding.DER)


def test_the_key_before_is_kept_until_the_new_one_works_and_used_again_where_it_does_not(
    tmp_path: Path,
):
    ca, strangers, port = CA(), CA("Another CA"), free_port()
    config = configured(tmp_path, f"mqtts://127.0.0.1:{port}", f"ca: {ca.file(tmp_path)}")
    state = tmp_path / "state"
    before = state / credential.BEFORE

    async def scenario() -> None:
        async with (
            broker(more=tls(tmp_path, ca, port)) as far,
            Platform(far.port, tmp_path / "platform.db"),
            at_work(config) as house,
        ):
            assert (await keys.rotate(house, NOBODY, what="certificate"))["certificate"] == {
                "how": "none"
            }
            await keys.install(house, NOBODY, text=await issued(house, ca))
            await put(house, 5)
            await settled(house)
            first = own(state)

            answer = await keys.rotate(house, NOBODY, what="certificate")
            assert answer["certificate"]["how"] == "csr"
            assert own(state) == first, "it stays in use until there is another"
            assert not before.exists()
            assert (await keys.show(house, NOBODY))["waits"]
            await keys.install(house, NOBODY, text=await issued(house, ca))
            second = own(state)
            assert second != first
            assert before.exists()

            async def works() -> bool:
                await put(house, 1)
                return not before.exists()

            await until(works)
            assert own(state) == second

            await keys.rotate(house, NOBODY, what="certificate")
            await keys.install(house, NOBODY, text=await issued(house, strangers))
            assert own(state) != second

            async def is_back() -> bool:
                return own(state) == second

            await until(is_back)
            await put(house, 5)
            await settled(house)
            answer = await status(house, NOBODY)
            events = [event["text"] for event in answer["events"]]
            assert any("the previous one is in use again" in text for text in events)
            in_french = answer["certificate"]["alarm"].in_language("fr")
            assert in_french.startswith("une plateforme refuse le nouveau certificat")
            assert (await keys.show(house, NOBODY))["waits"], "the new key, for another certificate"

    asyncio.run(scenario())


def test_the_spool_key_is_rotated_though_the_est_server_is_away(tmp_path: Path):
    ca, est = CA(), f"https://127.0.0.1:{free_port()}"
    config = configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}")
    with config.open("a") as file:
        file.write(f'enrolment: {{url: "{est}", ca: {ca.file(tmp_path)}}}\n')
    state = tmp_path / "state"

    async def begin() -> None:
        async with at_work(config) as house:
            await keys.install(house, NOBODY, text=await issued(house, ca))

    asyncio.run(begin())
    before, present = identity.load(state).spool_key, own(state)
    words = ["key", "rotate", "-c", str(config)]
    said = gardien(*words, env={"LANGUAGE": "fr"})
    assert said.exit_code == 1, said.output
    assert "La clé de la file d'attente est remplacée" in said.output
    assert "L'ancienne clé reste en service" in said.output
    assert identity.load(state).spool_key != before
    assert own(state) == present
    assert calls._is_due(state, identity.load(state).gateway, time.time()), "the agent goes on"


def test_what_a_platform_refused_before_does_not_count_against_the_new_certificate(tmp_path: Path):
    ca = CA()
    config, state = configured(tmp_path, f"mqtt://127.0.0.1:{free_port()}"), tmp_path / "state"

    async def scenario() -> None:
        async with at_work(config) as house:
            await keys.install(house, NOBODY, text=await issued(house, ca))
            proving = Proving(house, house.recipients["centre"])
            for _ in range(3):
                proving.opening()
                await proving.lost(CertificateRefused("the platform refuses us"))
            await keys.install(house, NOBODY, text=await issued(house, ca))
            new = own(state)
            proving.opening()
            await proving.lost(CertificateRefused("the platform refuses us"))
            assert own(state) == new
            proving.opening()
            await proving.lost(CertificateRefused("the platform refuses us"))
            assert own(state) != new

    asyncio.run(scenario())
