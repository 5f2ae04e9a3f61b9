"""A signed object that is wrong, or that our own code cannot evaluate, stops nothing but itself.

Its sender is told a code and a sentence, over each transport.
"""

import asyncio
import base64
import json
import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, closing
from itertools import chain
from pathlib import Path

import jsonschema
import pytest

from agent.api.calls import CALLS, NOBODY, status
from agent.core.errors import SpoolFull
from hil.broker import broker
from hil.platform.child import Fetching, Platform, Serving
from hil.process import free_port
from hil.sshd import sftp_server
from tests.contract.gateway.running import at_work, configured, put, settled
from tests.contract.gateway.test_signed import (
    NOW,
    PLATFORM,
    STRANGER,
    TRUST,
    believe,
    signed,
    tell,
)
from tests.waiting import until

SCHEMA = Path(__file__).parents[3] / "docs" / "batch.schema.json"
TRANSPORTS = ("mqtt", "https", "files")
HUGE = b'{"a":1E9999999999999999999}'
"""a number that Decimal cannot represent: 26 bytes, unsigned"""


class FarSide:
    """A platform behind one transport, and how it sends a signed object."""

    def __init__(self, config, platform, send):
        self.config, self.platform, self.send = config, platform, send

    async def outcomes(self):
        """What the platform has been told of signed objects, by their sha256 and state."""
        with closing(sqlite3.connect(self.platform.db)) as found:
            rows = found.execute("SELECT body FROM directory WHERE list = 'outcomes'").fetchall()
        return [json.loads(body) for body in chain(*rows)]

    async def refusals(self, number):
        """So many refusals, once they were told: code and sentence."""

        async def fact():
            rejected = [one for one in await self.outcomes() if one["state"] == "REJECTED"]
            return rejected if len(rejected) >= number else None

        return [(one["code"], one["words"]) for one in await until(fact)]


@asynccontextmanager
async def far_side(transport, folder):
    folder.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        if transport == "mqtt":
            server = await enter(broker())
            platform = await enter(Platform(server.port, folder / "platform.db"))
            config = configured(folder, server.url)

            async def send(house, name, raw):
                del name
                await connected(house)  # a broker keeps nothing for who never subscribed
                await tell(server, house, raw)

        else:
            platform, objects, settings = await enter(_listing(transport, folder))
            config = configured(folder, "mqtt://127.0.0.1:9", more="poll: 200ms")
            mqtt = 'transport: mqtt, url: "mqtt://127.0.0.1:9"'
            config.write_text(config.read_text().replace(mqtt, settings))

            async def send(house, name, raw):
                del house
                (objects / ".part").write_bytes(raw)
                (objects / ".part").rename(objects / name)

        config.write_text(config.read_text() + TRUST)
        yield FarSide(config, platform, send)


@asynccontextmanager
async def _listing(transport, folder):
    """A platform that lists its objects, their folder, and the settings of the uplink to it."""
    if transport == "https":
        (objects := folder / "objects").mkdir()
        port = free_port()
        async with Serving(port, folder / "platform.db") as platform:
            yield platform, objects, f'transport: https, url: "http://127.0.0.1:{port}"'
    else:
        async with (
            sftp_server() as server,
            Fetching(server.root, folder / "platform.db", None) as platform,
        ):
            words = {"url": server.url(), "host_key": server.host_key}
            words |= {"key": f"file:{server.own_key}", "container": "none"}
            settings = ", ".join(f"{name}: {json.dumps(word)}" for name, word in words.items())
            yield platform, server.root / "out/objects", f"transport: files, {settings}"


async def connected(house):
    async def fact():
        return house.recipients["centre"].delivery.connected_since

    await until(fact)


def _b64(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=")


POISONS = {
    "text": HUGE,
    "header": b".".join((_b64(HUGE), _b64(b"{}"), _b64(bytes(64)))),
    "payload": b".".join(
        (
            _b64(json.dumps({"alg": "EdDSA", "kid": PLATFORM.kid, "typ": "time+jwt"}).encode()),
            _b64(HUGE),
            _b64(bytes(64)),
        )
    ),
}


def test_an_order_for_a_gateway_without_equipment_is_reported_with_its_code(tmp_path, caplog):
    """The key's name is no recipient's: its outcome is sent over the uplink of its arrival."""

    async def scenario():
        async with far_side("https", tmp_path / "far") as far, at_work(far.config) as house:
            aud = believe(house, role="grid_operator")
            cmd = {"act": "offset", "tgt": ["boiler-offset"], "val": -1, "unit": "K", "dur": "PT1H"}
            order = signed("dr-command+jwt", aud, recipient=..., seq=1, cmd=cmd)
            await far.send(house, "1-order.jws", order)
            assert await far.refusals(1) == [("E_ASSET", "there is no control boiler-offset here")]
            (outcome,) = await far.outcomes()
            assert outcome["control"] == "boiler-offset"
            schema = json.loads(SCHEMA.read_text())["properties"]["directory"]["properties"]
            jsonschema.validate([outcome], schema["outcomes"])

    with caplog.at_level("INFO"):
        asyncio.run(scenario())
    assert [one.CODE for one in caplog.records if getattr(one, "CODE", "")] == ["E_ASSET"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_number_that_nothing_can_represent_is_refused_and_stops_nothing(transport, tmp_path):
    async def scenario():
        async with far_side(transport, tmp_path / "far") as far:
            for start in (1, 2):  # what a folder or a list holds comes again at each start
                async with at_work(far.config) as house:
                    aud = believe(house) if start == 1 else house.objects.inbox.audience.exact
                    for name, raw in POISONS.items():
                        await far.send(house, f"{start}-{name}.jws", raw)
                    ask = signed("request+jwt", aud, act="directory")
                    await far.send(house, f"{start}-right.jws", ask)
                    found = await far.refusals(len(POISONS))
                    assert {code for code, _ in found} == {"E_FORM"}
                    assert all("number" in words for _, words in found)

                    async def taken(number=start):
                        told = [one["state"] for one in await far.outcomes()]
                        return told.count("ACCEPTED") == number

                    await until(taken)
                    await put(house, 5, NOW + 100 * start)
                    await settled(house)
            assert (await far.platform.report())["rows"] == 10

    asyncio.run(scenario())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_object_that_our_own_code_fails_on_is_told_and_not_tried_again(transport, tmp_path):
    async def failing(verified):
        raise ZeroDivisionError(verified.typ)

    async def scenario():
        async with far_side(transport, tmp_path / "far") as far:
            async with at_work(far.config) as house:
                raw = signed("request+jwt", believe(house), act="directory")
                house.objects.inbox.handlers["request+jwt"] = failing
                await far.send(house, "1.jws", raw)
                ((code, words),) = await far.refusals(1)
                assert code == "E_INTERNAL"
                assert "error in its own software" in words
                events = {
                    one["code"]: one["text"] for one in (await status(house, NOBODY))["events"]
                }
                assert "1 signed object" in events["object"]
            async with at_work(far.config) as house:  # as after an upgrade that mended it
                await far.send(house, "2.jws", raw)
                again = signed("request+jwt", believe(house), act="directory")
                await far.send(house, "3.jws", again)

                async def taken():
                    told = [one["state"] for one in await far.outcomes()]
                    return "ACCEPTED" in told and told

                assert sorted(await until(taken)) == ["ACCEPTED", "REJECTED"]
                (one,) = (await CALLS["object.list"](house, NOBODY))["set_aside"]
                assert one["error"] == "ZeroDivisionError: request+jwt"
                assert (await house.objects.accept(raw, "hand"))[
                    "outcome"
                ] == "the directory is sent again"
                assert not (await CALLS["object.list"](house, NOBODY))["set_aside"]

    asyncio.run(scenario())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_object_that_the_disk_does_not_take_comes_again(transport, tmp_path):
    """Rule O23."""
    tried = []
    # a broker sends it again at the next connection only (tests/contract/uplink/test_mqtt.py)
    times = 1 if transport == "mqtt" else 2

    async def full(verified):
        tried.append(verified.jti)
        raise SpoolFull(verified.jti)

    async def tried_often():
        return len(tried) >= times

    async def scenario():
        async with far_side(transport, tmp_path / "far") as far:
            async with at_work(far.config) as house:
                aud = believe(house)
                house.objects.inbox.handlers["request+jwt"] = full
                await far.send(house, "1.jws", signed("request+jwt", aud, act="directory"))
                await until(tried_often)
                await put(house, 5)  # batches and receipts go on meanwhile
                await settled(house)
                assert (await far.platform.report())["rows"] == 5
                assert not await far.outcomes()
            async with at_work(far.config):

                async def taken():
                    return [one["state"] for one in await far.outcomes()]

                assert await until(taken) == ["ACCEPTED"]

    asyncio.run(scenario())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_with_every_refusal_its_sender_hears_what_is_wrong_and_what_to_do(transport, tmp_path):
    async def scenario():
        async with far_side(transport, tmp_path / "far") as far, at_work(far.config) as house:
            aud = believe(house)
            wrong = {
                "E_FORM": signed("request+jwt", aud, act="dance"),
                "E_SIG": signed("request+jwt", aud, act="directory")[:-9] + b"AAAAAAAAA",
                "E_KID": signed("request+jwt", aud, STRANGER, act="directory"),
                "E_AUD": signed("request+jwt", f"{aud}x", act="directory"),
                "E_EXPIRED": signed(
                    "request+jwt", aud, act="directory", iat=NOW - 7200, exp=NOW - 3600
                ),
                "E_REQUEST": signed("request+jwt", aud, act="read-now", device="boiller"),
                "E_REGISTRY": signed(
                    "duty+jwt", ..., recipient="you", channels=["heat"], reference="x",
                    to="2101-01-01T00:00:00Z",
                ),
            }  # fmt: skip
            for code, raw in wrong.items():
                await far.send(house, f"{code}.jws", raw)
            found = dict(await far.refusals(len(wrong)))
            assert found.keys() == wrong.keys()
            assert "request+jwt" in found["E_FORM"]
            assert STRANGER.kid in found["E_KID"]
            assert aud in found["E_AUD"]
            assert found["E_REQUEST"].startswith('No device "boiller" is configured')
            assert "there are" not in found["E_REQUEST"]
            assert "2101" in found["E_REGISTRY"]
            schema = json.loads(SCHEMA.read_text())["properties"]["directory"]["properties"]
            jsonschema.validate(await far.outcomes(), schema["outcomes"])

    asyncio.run(scenario())
