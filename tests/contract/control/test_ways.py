"""An order comes by whatever way there is, and its platform is told what became of it. Rule H11."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from agent.gateway.controls import Steering
from tests.contract.control.test_orders import Bench
from tests.contract.uplink.house import house, serving
from tests.contract.uplink.sides import side

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.uplink.sides import Side


def put_down(far: Side, folder: Path, raw: bytes) -> None:
    """What the platform does with an order for us."""
    where = far.root / "out/objects" if far.root else folder / "objects"
    where.mkdir(exist_ok=True)
    (where / "order.jws").write_bytes(raw)


def held_by(folder: Path) -> list[dict[str, str]]:
    """The outcomes that the platform holds."""
    with closing(sqlite3.connect(folder / "platform.db")) as db:
        found = db.execute("SELECT body FROM directory WHERE list='outcomes'").fetchall()
    return sorted(
        (json.loads(body) for (body,) in found), key=lambda one: int(one["id"].split("-")[0])
    )


def steering(bench: Bench, place: str | None) -> Steering:
    """The bench as the house has it; `place`: of the plant, if it is common."""
    device = SimpleNamespace(place=place)
    control = SimpleNamespace(point="boiler/offset")
    config = SimpleNamespace(controls={"boiler-offset": control}, devices={"boiler": device})
    return Steering(config, bench.site.controller, bench.orders, None)


@pytest.mark.parametrize("word", ["https", "folder"])
@pytest.mark.parametrize("place", ["common", None], ids=["common-plant", "dwelling"])
def test_an_order_arrives_and_the_platform_holds_what_became_of_it(
    tmp_path: Path, word: str, place: str | None
):
    bench = Bench()
    bench.granted()

    async def scenario() -> list[dict[str, str]]:
        answers = []

        async def take(raw: bytes) -> None:
            answers.append(await bench.orders.take(bench.verified(raw)))

        async with side(word, tmp_path) as far, house(tmp_path) as at:
            at.outbox.directory = steering(bench, place).outcomes
            station = replace(far.station, objects=take)
            async with serving(at, far.kind, far.settings, station):
                put_down(far, tmp_path, bench.order(jti="0192-by-any-way"))
                await at.until(lambda: bool(answers))
                await bench.site.controller.tend("boiler-offset")
                assert bench.site.device.slots[13] == Decimal("-1.5")
                bench.site.truth.at = 600.0
                await bench.site.controller.tend("boiler-offset")
                assert bench.site.device.slots[13] is None
                await at.read()
                await at.settled()
                if place:
                    await at.until(lambda: len(held_by(tmp_path)) == len(bench.states))
            assert len(answers) == 1
            return held_by(tmp_path)

    found = asyncio.run(scenario())
    if place is None:
        assert not found  # what is done in a dwelling is told to nobody outside it
    else:
        assert [one["state"] for one in found] == bench.states
        assert found[-1]["state"] == "COMPLETED"
        assert {one["jti"] for one in found} == {"0192-by-any-way"}
        assert found[-1]["words"] == "released, confirmed"
    bench.site.close()
