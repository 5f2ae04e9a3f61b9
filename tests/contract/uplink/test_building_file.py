"""The backup reaches a platform whole over every transport, and its word comes back."""

import asyncio
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from agent.core.errors import NotStored
from agent.uplink.base import AT_ONCE, BackupMessage, held, parts
from agent.uplink.mqtt import transport
from hil.platform.buildings import Buildings
from tests.contract.uplink.house import GATEWAY, RECIPIENT
from tests.contract.uplink.sides import TRANSPORTS, Side, listening, side, so
from tests.unit.trust.objects import US

DOCS = Path(__file__).parents[3] / "docs"


def keepsake(content: bytes, made: str = "2026-11-24T10:15:00Z") -> BackupMessage:
    digest = hashlib.sha256(content).hexdigest()
    return BackupMessage(GATEWAY, RECIPIENT, made, 12, digest, content)


def kept_by(far: Side) -> Buildings:
    return Buildings(far.root / "buildings") if far.root else Buildings.beside(far.platform.db)


@pytest.mark.parametrize("word", TRANSPORTS)
def test_the_latest_is_kept_and_its_receipt_names_what_was_sent(tmp_path: Path, word: str):
    said: list[str] = []
    turns: list[int] = []

    async def turn() -> None:
        turns.append(1)

    async def scenario() -> None:
        async with side(word, tmp_path) as far:
            station = replace(far.station, kept=said.append)
            async with far.kind.open(far.settings, station) as uplink, listening(uplink):
                for number, content in enumerate((os.urandom(50_000), os.urandom(40_001)), 1):
                    one = keepsake(content, f"2026-11-24T10:15:0{number}Z")
                    await uplink.offer(one, turn)
                    await so(lambda sha256=one.sha256: sha256 in said)
                    assert kept_by(far).path(GATEWAY).read_bytes() == content
        assert len(said) == 2

    asyncio.run(scenario())
    assert len(turns) == (4 + 3 if word == "mqtt" else 2)


def test_a_part_is_small_and_says_whose_and_where_it_belongs():
    one = keepsake(bytes(3 * AT_ONCE + 1))
    found = list(parts(one))
    assert [len(part.partition(b"\n")[2]) for part in found] == [AT_ONCE] * 3 + [1]
    assert max(map(len, found)) < AT_ONCE + 500


def test_what_is_said_on_both_sides_is_as_published(tmp_path: Path):
    schema = json.loads((DOCS / "building.schema.json").read_text())
    judge = jsonschema.Draft202012Validator(schema)
    one = keepsake(b"x" * 20_000)
    for part in parts(one):
        judge.validate(json.loads(part.partition(b"\n")[0]))
    judge.validate(Buildings(tmp_path / "b").keep(GATEWAY, RECIPIENT, one.made, b"x"))
    judge.validate({"schema": transport.SCHEMA, "audience": f"{US.gateway}.{US.state}"})
    with pytest.raises(jsonschema.ValidationError):
        judge.validate({"schema": transport.SCHEMA})


def test_behind_a_broker_that_is_believed_its_word_is_enough(tmp_path: Path):
    said: list[str] = []

    async def turn() -> None:
        pass

    async def scenario() -> None:
        async with side("mqtt", tmp_path) as far:
            settings = far.settings.model_copy(update={"receipt": "broker"})
            async with far.kind.open(settings, replace(far.station, kept=said.append)) as uplink:
                await uplink.offer(one := keepsake(b"x" * 20_000), turn)
                assert said == [one.sha256]

    asyncio.run(scenario())


def test_a_file_that_comes_late_does_not_take_the_place_of_a_later_one(tmp_path: Path):
    platform = Buildings(tmp_path / "b")
    platform.keep(GATEWAY, RECIPIENT, "2026-11-24T10:15:01Z", b"later")
    word = platform.keep(GATEWAY, RECIPIENT, "2026-11-24T10:15:00Z", b"earlier")
    assert platform.path(GATEWAY).read_bytes() == b"later"
    assert word["sha256"] == hashlib.sha256(b"earlier").hexdigest()


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'"gardien/building-receipt/1"', b"[" * 1_999,
     b'{"schema": "gardien/building-receipt/1", "gateway": "GOTHER", "recipient": "r"}'],
)  # fmt: skip
def test_what_is_no_receipt_for_it_says_nothing(body: bytes):
    assert held(body, GATEWAY, RECIPIENT) is None


def test_a_platform_that_does_not_take_it_is_no_reason_to_lose_the_line(tmp_path: Path):
    async def turn() -> None:
        pass

    async def scenario() -> None:
        async with (
            side("https", tmp_path) as far,
            far.kind.open(far.settings, far.station) as uplink,
        ):
            with pytest.raises(NotStored, match="the platform answers 403"):
                await uplink.offer(replace(keepsake(b"x"), gateway="GOTHER"), turn)

    asyncio.run(scenario())
