"""Requests as the platform makes them: signed, over the broker, waiting there while we are away."""

import asyncio
import json
import sqlite3
import subprocess
import time
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent.core.clock import Clock, ClockEvidence, ClockTrust
from agent.gateway import supervisor
from agent.gateway.gateway import Gateway
from agent.trust.error_codes import Forged
from agent.trust.jws import Key
from agent.trust.sign import Signer, new_jti, trust_list
from agent.trust.store import BURST, INTERVAL
from agent.trust.trust_list import read
from hil.broker import Broker, broker
from hil.platform.child import Platform
from tests.contract.gateway.running import RECIPIENT, at_work, configured, put, settled
from tests.contract.uplink.test_documented import printed
from tests.waiting import until

NOW = int(time.time())
DAY = 86_400
ROOT, PLATFORM, STRANGER = Signer.new("root"), Signer.new("platform"), Signer.new("stranger")


def believe(house: Gateway, who: Signer = PLATFORM, role: str = "registry") -> str:
    """Accept a trust list in which somebody may speak; to whom objects are addressed."""
    key = {"kid": who.kid, "jwk": dict(who.key.jwk), "role": role, "name": who.name, "scope": {},
           "nbf": NOW - DAY, "exp": NOW + 300 * DAY}  # fmt: skip
    said = {"ver": 1, "iss": "m", "iat": NOW - DAY, "exp": NOW + 300 * DAY, "threshold": 1,
            "roots": [ROOT.public_jwk()], "keys": [key]}  # fmt: skip
    raw = trust_list(json.dumps(said), [ROOT])
    inbox = house.objects.inbox
    inbox.renew_trust(raw, read(raw).sha256)
    return inbox.audience.exact


def signed(typ: str, aud: object, by: Signer = PLATFORM, **claims: object) -> bytes:
    about = {"iss": by.name, "jti": new_jti(NOW), "iat": NOW, "aud": aud, "exp": NOW + 3600}
    said = about | {"recipient": RECIPIENT} | claims
    return by.sign(typ, {name: value for name, value in said.items() if value is not ...})


async def tell(far: Broker, house: Gateway, raw: bytes) -> None:
    gateway = house.identity.gateway if house.identity else ""
    topic = f"gardien/{gateway}/{RECIPIENT}/down/objects"
    words = ("mosquitto_pub", "-p", str(far.port), "-q", "1", "-t", topic, "-s")
    client = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.PIPE)
    await client.communicate(raw)


async def forger_told(db: Path) -> bool:
    """Whether the platform has heard that what a stranger has signed was refused, and only that."""
    with closing(sqlite3.connect(db)) as found:
        rows = found.execute("SELECT body FROM directory WHERE list = 'outcomes'").fetchall()
    said = {(one["typ"], one["state"], one.get("code")) for one in map(json.loads, chain(*rows))}
    expected = {("request+jwt", "ACCEPTED", None), ("request+jwt", "REJECTED", "E_KID")}
    return said == expected


PRINTED_NAME = "Your name as the trust list has it"
TRUST = "trust: {threshold: 1}\n"


def believing(folder: Path, url: str) -> Path:
    config = configured(folder, url)
    config.write_text(config.read_text(encoding="utf-8") + TRUST, encoding="utf-8")
    return config


def test_a_request_made_while_the_gateway_is_away_is_done_when_it_comes_back(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db") as platform,
        ):
            config = believing(tmp_path, far.url)
            async with at_work(config) as house:
                aud = believe(house)
                recipient = house.recipients["centre"]
                epoch = await recipient.thread.run(lambda: recipient.spool.epoch)
                await put(house, 5)
                await settled(house)
            ask = {"act": "resend", "epoch": epoch, "from": 1, "to": 9}
            raw = signed("request+jwt", aud, **ask)
            await tell(far, house, raw)
            await tell(far, house, signed("request+jwt", aud, STRANGER, **ask))
            async with at_work(config) as house:

                async def again() -> bool:
                    return (await platform.report())["resent_batches"] >= 2

                await until(again)  # the directory and the rows
                await settled(house)
                await until(partial(forger_told, tmp_path / "platform.db"))
                counted = await platform.report()
                answer = await house.objects.accept(raw, "a copy")
                assert answer["again"], "the same bytes get the first answer"
                await asyncio.sleep(1)
                assert (await platform.report())["resent_batches"] == counted["resent_batches"]
                with pytest.raises(Forged):
                    await house.objects.accept(
                        signed("request+jwt", aud, STRANGER, **ask), "a forger"
                    )

    asyncio.run(scenario())


def test_a_signed_move_that_comes_over_the_uplink_itself_moves_it(tmp_path: Path):
    async def scenario() -> None:
        async with (
            broker() as old,
            broker() as new,
            Platform(old.port, tmp_path / "old.db"),
            Platform(new.port, tmp_path / "new.db") as there,
        ):
            async with at_work(believing(tmp_path, old.url)) as house:
                aud = believe(house)
                await put(house, 5)
                await settled(house)
                await tell(old, house, signed("uplink-move+jws", aud, url=new.url))

                async def proved() -> bool:
                    move = house.moves.of(RECIPIENT, old.url, NOW)
                    return move is not None and move.proved is not None

                await until(proved)
                await put(house, 5, NOW + 100)
                await settled(house)
            assert (await there.report())["rows"] == 5

    asyncio.run(scenario())


def test_what_waits_for_the_clock_is_decided_as_soon_as_it_is_trusted(tmp_path, monkeypatch):
    """Rule O7: what the fact ends may not be sent in the meantime."""
    monkeypatch.setattr(supervisor, "WAITING_EVERY", 1e9)
    kept = [False]
    clock = Clock("ntp", tmp_path / "clock.json", evidence=lambda: ClockEvidence(kept[0], None),
                  rtc=lambda: None)  # fmt: skip

    async def scenario() -> None:
        async with at_work(believing(tmp_path, "mqtt://127.0.0.1:9"), clock) as house:
            aud = believe(house)
            raw = signed("duty+jwt", aud, channels=["heat"], reference="x", billing=["06-30"],
                         **{"from": "2026-01-01T00:00:00Z", "exp": NOW + DAY})  # fmt: skip
            await house.objects.carried(raw, "centre")
            assert house.objects.inbox.trust_store.waiting()
            assert not house.registry.duties()
            kept[0] = True
            assert clock.trust is ClockTrust.TRUSTED
            await until(house.registry.duties)
            assert not house.objects.inbox.trust_store.waiting()

    asyncio.run(scenario())


def by_hand(folder: Path, aud: str) -> bytes:
    """What a team types that has no gardien: docs/platform.md."""
    code = printed("sh", "request.jwt").replace("you.example", RECIPIENT)
    code = code.replace("G….<state id>", aud).replace(PRINTED_NAME, "Métropole")
    subprocess.run(("bash", "-euo", "pipefail", "-c", code), cwd=folder, check=True)
    return (folder / "request.jwt").read_bytes()


def test_the_printed_recipe_signs_a_request_with_openssl_alone(tmp_path: Path):
    async def scenario() -> None:
        async with at_work(believing(tmp_path, "mqtt://127.0.0.1:9")) as house:
            aud = house.objects.inbox.audience.exact
            first, second = by_hand(tmp_path, aud), by_hand(tmp_path, aud)
            found = load_pem_private_key((tmp_path / "sign.pem").read_bytes(), None)
            assert isinstance(found, Ed25519PrivateKey)
            public = json.loads((tmp_path / "sign.pub").read_text(encoding="utf-8"))
            who = Signer("Métropole", found)
            assert (Key.read(public).kid, public["name"]) == (who.kid, who.name)
            believe(house, who)
            for raw in (first, second):
                assert not (await house.objects.accept(raw, "by hand")).get("again")

    asyncio.run(scenario())


SECOND = 'uplinks:\n  other: {recipient: o.example, transport: mqtt, url: "mqtt://127.0.0.1:1"}\n'


def test_a_recipient_asks_for_what_is_its_own_only(tmp_path: Path):
    """Rule O24."""
    config = believing(tmp_path, "mqtt://127.0.0.1:1")
    config.write_text(config.read_text("utf-8").replace("uplinks:\n", SECOND), encoding="utf-8")

    async def scenario() -> None:
        async with at_work(config) as house:

            async def code(raw: bytes, via: str) -> str:
                try:
                    await house.objects.accept(raw, via)
                except Forged as error:
                    return str(error.code)
                return "done"

            for name, ways in {
                "r.example": {"centre": "done", "other": "done", "hand": "done"},
                "o.example": {"centre": "E_KID", "other": "E_KID", "hand": "E_KID"},
                "Platform": {"centre": "done", "other": "E_KID", "hand": "E_KID"},
            }.items():
                who = Signer.new(name)
                house.objects.inbox.trust_store.db.execute("DELETE FROM trust")
                house.objects.inbox.trust_store.trust = None
                aud = believe(house, who)
                for via, expected in ways.items():
                    ask = signed("request+jwt", aud, who, act="directory")
                    move = signed("uplink-move+jws", aud, who, url="mqtt://127.0.0.1:2")
                    assert await code(ask, via) == expected, (name, via)
                    assert await code(move, via) == expected, (name, via)

    asyncio.run(scenario())


def test_an_issuer_makes_no_more_requests_than_it_may_also_after_a_restart(tmp_path: Path):
    """Rule O24."""
    config = believing(tmp_path, "mqtt://127.0.0.1:1")

    async def scenario() -> None:
        async with at_work(config) as house:
            aud = believe(house)
            raw = signed("request+jwt", aud, act="directory")
            for _ in range(30):
                await house.objects.accept(raw, "centre")  # the same bytes cost nothing
            for _ in range(BURST - 1):
                await house.objects.accept(signed("request+jwt", aud, act="directory"), "centre")
        async with at_work(config) as house:
            late = signed("request+jwt", aud, act="directory")
            with pytest.raises(Forged, match="one every 30 minutes") as caught:
                await house.objects.accept(late, "centre")
            assert caught.value.code == "E_OFTEN"
            book = house.objects.inbox.trust_store
            with book.transaction() as db:
                db.execute("UPDATE allowance SET at = at - ?", (INTERVAL,))
            assert (await house.objects.accept(late, "centre"))["outcome"]
            with pytest.raises(Forged):
                await house.objects.accept(signed("request+jwt", aud, act="directory"), "centre")

    asyncio.run(scenario())


def test_batches_of_an_unknown_epoch_are_refused_by_a_code_of_their_own(tmp_path: Path):
    """Rule O24."""

    async def scenario() -> None:
        async with at_work(believing(tmp_path, "mqtt://127.0.0.1:1")) as house:
            ask = {"act": "resend", "epoch": "5f1c00000000", "from": 1, "to": 9}
            with pytest.raises(Forged, match="5f1c00000000") as caught:
                await house.objects.accept(signed("request+jwt", believe(house), **ask), "centre")
            assert caught.value.code == "E_EPOCH"
            assert "this gateway sent to you" in caught.value.sentence

    asyncio.run(scenario())
