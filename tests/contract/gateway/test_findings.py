"""Findings of a gateway at work, each on the condition itself: brokers, batches, lines."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.api.calls import CALLS, NOBODY, status
from agent.api.registry import Caller
from agent.buffer.upkeep import TRIED_ANEW
from agent.cli.status import _summary
from agent.core.clock import Clock, stamp
from agent.core.finding import Finding, Severity
from agent.drivers.line_disturbance import NAMED
from agent.gateway.delivery import document
from hil.broker import broker
from hil.cut import cut
from hil.disturber import Disturber, Kind
from hil.platform.child import Platform
from hil.platform.ledger import tell_to_reject
from hil.serial_line import SerialLine
from tests.contract.acquisition.disturbed import answering
from tests.contract.gateway.running import at_work, configured, put, settled
from tests.waiting import until

if TYPE_CHECKING:
    from agent.gateway.gateway import Gateway


class Watch:
    """A wall clock that a test can set forward."""

    ahead = 0.0

    def clock(self) -> Clock:
        return Clock("system", None, lambda: time.time() + self.ahead)


async def found(house: Gateway, code: str, begins: str = "") -> Finding | None:
    findings = map(Finding.of, (await status(house, NOBODY))["events"])
    fitting = (one for one in findings if one.code == code and one.what.startswith(begins))
    return next(fitting, None)


def test_a_broker_that_is_frozen_is_told_from_one_that_answers(tmp_path: Path):
    watch = Watch()

    async def scenario() -> None:
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db"),
            cut(far.port) as line,
            at_work(configured(tmp_path, f"mqtt://127.0.0.1:{line.port}"), watch.clock()) as house,
        ):
            await put(house, 2)
            await settled(house)
            assert await found(house, "no-answer") is None
            await line.set("freeze")
            await put(house, 2, int(time.time()) + 100)
            delivery = house.recipients["centre"].delivery

            async def asked() -> bool:
                return delivery.asked_since is not None

            await until(asked)
            watch.ahead = 20.0
            problem = await found(house, "no-answer")
            assert problem is not None
            assert problem.severity is Severity.WAITING
            assert problem.since == stamp(delivery.asked_since or 0)
            answer = await status(house, NOBODY)
            (uplinks,) = [one for one in _summary(answer, every=False) if "last receipt" in one]
            assert "centre does not answer, last receipt" in uplinks
            told = document(answer, "centre")["events"]
            assert [one["since"] for one in told if one["code"] == "no-answer"] == [problem.since]
            await line.set("pass")
            await settled(house)
            assert await found(house, "no-answer") is None

    asyncio.run(scenario())


def test_a_batch_that_the_platform_refuses_states_until_when_it_is_kept_aside(tmp_path: Path):
    async def scenario() -> None:
        path = tmp_path / "platform.db"
        async with (
            broker() as far,
            Platform(far.port, path),
            at_work(configured(tmp_path, far.url)) as house,
        ):
            await put(house, 1)
            await settled(house)
            tell_to_reject(path, 1)
            await put(house, 2, int(time.time()) + 100)
            began = int(time.time())

            async def refused() -> Finding | None:
                return await found(house, "quarantine")

            problem = await until(refused)
            assert (problem.count, problem.severity) == (1, Severity.WAITING)
            assert "told to reject it" in problem.what
            since, end = map(datetime.fromisoformat, (problem.since, problem.until))
            assert abs(since.timestamp() - began) < 30
            assert (end - since).total_seconds() == TRIED_ANEW
            assert problem.command == "gardien uplink retry centre"
            await CALLS["uplink.retry"](house, Caller("alice", None), name="centre")
            await settled(house)
            assert await found(house, "quarantine") is None, "the command ends it"

    asyncio.run(scenario())


def test_a_device_that_disturbs_a_serial_line_is_named_with_its_beginning(tmp_path: Path):
    async def scenario() -> None:
        async with SerialLine.open(9600, seed=3) as line:
            for unit in (1, 2):
                line.add(unit, answering(unit), 0.01)
            line.units[1].spoils = Disturber(Kind.TWICE)
            text = configured(tmp_path, "mqtt://127.0.0.1:9").read_text()
            text = text.replace("DEMO-1", "FR-1").replace("source: system", "source: ntp")
            rtu = f"links: {{riser: {{driver: modbus-rtu, port: {line.port}, baudrate: 9600}}}}\n"
            meters = "".join(
                f"  flat-{unit}: {{link: riser, address: {unit}, every: 1h, points:"
                " {v: {at: input/72/uint32, channel: elec.imp, unit: kWh}}}\n"
                for unit in (1, 2)
            )
            (tmp_path / "config.yaml").write_text(f"{text}{rtu}devices:\n{meters}")
            async with at_work(tmp_path / "config.yaml", Watch().clock()) as house:

                async def read(*devices: str) -> None:
                    for device in devices:
                        await CALLS["read"](house, Caller("alice", None), device=device)

                async def named() -> Finding | None:
                    await read("flat-1", "flat-2")
                    return await found(house, "line-disturbed", "flat-2 disturbs line riser: ")

                await read(*["flat-2"] * (NAMED - 1))
                problem = await until(named)
                assert "sends its answer twice" in problem.what
                assert problem.since is not None
                assert "flat" not in problem.without_names().text

    asyncio.run(scenario())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_worn_card_is_found_by_the_figure_that_the_kernel_gives_for_it(tmp_path: Path):
    """In a mount namespace of its own: the state lies on a card, and its wear is in sysfs."""
    card = tmp_path / "block/mmcblk0/device"
    card.mkdir(parents=True)
    (card / "life_time").write_text("0x02 0x09\n")
    asks = (
        "import pathlib, agent.api.diagnosis.machine as machine;"
        " print(*(one.text for one in machine.wear(pathlib.Path('state')) if one.fine is False))"
    )
    script = f"""cd {tmp_path} && mkdir state && mount -t tmpfs /dev/mmcblk0p2 state &&
        mount --bind block /sys/class/block && {sys.executable} -c "{asks}" """
    ran = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True)
    assert ran.stdout.startswith("mmcblk0 has used 80 to 90 % of its lifetime"), ran.stderr
