"""The whole agent behind TLS: enrolled by a token, let in by its certificate, heard of by its
status, renewed under way. Guards rules G1, G2, G10.
"""

import asyncio
import json
import time
from pathlib import Path

import jsonschema
import pytest

from hil.ca import DAY
from hil.est import Policy, est
from hil.process import free_port
from hil.stage import RECIPIENT, Stage, stage
from tests.waiting import until

SCHEMA = json.loads(Path("docs/status.schema.json").read_text(encoding="utf-8"))


def listener(port: int, folder: Path, policy: Policy) -> tuple[str, ...]:
    """A second door of the broker, for gateways with a certificate only."""
    ca, pem = policy.ca.file(folder), policy.ca.server(folder)
    return (
        f"listener {port} 127.0.0.1",
        f"cafile {ca}",
        f"certfile {pem}",
        f"keyfile {pem}",
        "require_certificate true",
        "user root",
    )


async def said(on: Stage, gateway: str) -> dict:
    """What stands at the status topic."""
    topic = f"gardien/{gateway}/{RECIPIENT}/status"
    ask = ("mosquitto_sub", "-p", str(on.broker.port), "-t", topic, "-C", "1", "-W", "20")
    client = await asyncio.create_subprocess_exec(*ask, stdout=asyncio.subprocess.PIPE)
    printed, _ = await client.communicate()
    return json.loads(printed)


async def scenario(folder: Path) -> None:
    policy, port = Policy(tokens={"once"}, begins=-70 * DAY, lasts=79.5 * DAY), free_port()
    told = listener(port, folder, policy)
    with est(folder, policy) as url:
        async with stage(folder, lines=1, meters=3, without_consent=1, broker_says=told) as on:
            ca = policy.ca.file(folder)
            text = on.config.read_text(encoding="utf-8")
            text = text.replace(
                f'"mqtt://127.0.0.1:{on.cut.port}"', f'"mqtts://127.0.0.1:{port}", ca: {ca}'
            )
            text += f"enrolment: {{url: {url}, ca: {ca}}}\n"
            on.config.write_text(text, encoding="utf-8")

            await on.start_agent()
            await until(on.status)
            await asyncio.sleep(2)
            waits = await on.status()
            assert waits["certificate"] is None
            assert "gardien key enroll" in waits["uplinks"]["metropole"]["delivery"]["lost"]
            assert any("gardien key enroll" in one["text"] for one in waits["events"])

            token = folder / "token"
            token.write_text("once\n", encoding="ascii")
            shown = await on.command("key", "enroll", "--token-file", str(token))
            assert shown["certificate"]["days_left"] == 9
            await on.delivered(int(time.time()))

            gateway = shown["gateway"]
            document = await until(lambda: full(on, gateway))
            jsonschema.validate(document, SCHEMA)
            assert document["devices"]["up"] == 3
            assert document["certificate"]["days_left"] == 9
            assert document["data"]["used"] >= 0
            assert document["metrics"]["line_openings_total"] == {"riser-0": 1}
            assert document["metrics"]["slots_total"]["measured"] > 0
            for secret in [one.label for one in on.dwellings] + [
                one.serial for one in on.dwellings
            ]:
                assert secret not in json.dumps(document), "nothing of dwellings is in it"

            first = policy.issued[0]
            policy.begins, policy.lasts = -DAY, 90 * DAY
            rotated = await on.command("key", "rotate")
            assert rotated["certificate"]["certificate"]["days_left"] > 80
            assert rotated["spool"]["done"]
            assert policy.issued[-1] != first
            await on.kill_agent()
            await on.start_agent()
            await until(on.status)  # it listens to signals by now
            last = int(time.time())
            await on.delivered(last)
            verdict = on.prove(last)
            assert verdict.proved, verdict.line()
            assert await on.stop_agent() == 0
            assert (await said(on, gateway))["state"] == "offline"


async def full(on: Stage, gateway: str) -> dict | None:
    found = await said(on, gateway)
    return found if "devices" in found else None


@pytest.mark.timeout(240)
def test_a_gateway_enrols_delivers_over_tls_and_says_how_it_is(tmp_path: Path):
    asyncio.run(scenario(tmp_path))
