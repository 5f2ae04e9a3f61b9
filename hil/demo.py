"""`make demo`: the main job on screen, in about two minutes, and what it proved.

Sixty dwellings with meters that answer real Modbus TCP, the agent, a real broker, and
gardien-receiver as the platform. The platform is cut off, the backlog grows and drains, the agent
is killed -9 and started again. What is stated at the end is counted by the building's log, and by a
ledger that shares no code with agent and receiver: it listens at the broker and answers nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table

from hil.cellar import cellar
from hil.demand import HELD_S, WANTED
from hil.proof import prove
from hil.receiver import ReceiverChild
from hil.stage import RECIPIENT, stage

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from decimal import Decimal

    from hil.demand import Demand
    from hil.proof import Verdict
    from hil.stage import Stage

CUT_S, DOWN_S, SILENT_S = 15, 4, 6
WIDTH = 80
ROUNDING = 1e-4
"""kWh: SQLite adds up floating-point numbers"""


@dataclass
class Scene:
    """What the screen shows beside the counts."""

    now: str = "setting up"
    done: tuple[str, ...] = ()
    peak: int = 0
    """the largest backlog since the last scene began"""


async def play(on: Stage, demand: Demand, scene: Scene) -> int:
    """Direct the whole piece; returns the last slot that is to be proved."""

    async def act(words: str, doing: Awaitable[Any]) -> None:
        scene.now, scene.peak = words, 0
        await doing
        scene.done = (*scene.done, words)

    async def cut_off() -> None:
        await on.cut.set("cut")
        await asyncio.sleep(CUT_S)

    async def kill() -> None:
        await demand.ordered_for_long()
        await on.kill_agent()
        await demand.given_back()
        await asyncio.sleep(max(0.0, on.killed + DOWN_S - time.time()))
        await on.start_agent()
        await asyncio.sleep(5)

    async def reconnect() -> None:
        await on.cut.set("pass")
        await drained(on)

    quiet = next(one for one in on.dwellings if one.consents)
    await on.start_agent()
    await act("readings flow; the boiler's control is tested, grants come in", demand.prepare())
    await act(f"an authorized order: {WANTED} K on the boiler for {HELD_S} s", demand.obeyed())
    await act("a forged order, and one beyond what was voted", demand.refused())
    await act(f"the meter of {quiet.label} is silent for {SILENT_S} s", on.silence(quiet, SILENT_S))
    await act(f"cut off for {CUT_S} s: the backlog grows", cut_off())
    await act("the platform is back: it drains to zero", reconnect())
    await act(f"the agent is killed -9 during an order, away for {DOWN_S} s", kill())
    await act("it says what it missed, delivers the rest", drained(on))
    last_slot = int(time.time()) + 5
    await act("the last slot is waited for", waited_for(on, last_slot))
    return last_slot


async def drained(on: Stage, within: float = 120.0) -> None:
    """Return once nothing waits for a receipt. Raises TimeoutError.

    New values come every second, so zero is seen between a receipt and the next flush only.
    """
    async with asyncio.timeout(within):
        while await on.backlog() != 0:
            await asyncio.sleep(0.05)


async def waited_for(on: Stage, slot: int) -> None:
    """Return once the platform holds this slot of every dwelling that consented."""
    await asyncio.sleep(max(0.0, slot - time.time()))
    await on.delivered(slot)


async def shown(on: Stage, scene: Scene, live: Live) -> None:
    """Keep the screen up to date, for ever."""
    began = time.time()
    while True:
        status, report = await on.status(), await on.platform.report()
        live.update(picture(on, scene, status, report, time.time() - began))
        await asyncio.sleep(0.5)


def picture(
    on: Stage, scene: Scene, status: dict[str, Any] | None, report: dict[str, Any], seconds: float
) -> Table:
    """The screen: a table of at most 80 columns."""
    table = Table(
        title=f"gardien: {len(on.dwellings)} dwellings, {RECIPIENT}   {seconds:3.0f} s",
        width=WIDTH,
        show_header=False,
        title_justify="left",
    )
    table.add_column(width=26)
    table.add_column()
    for words in scene.done:
        table.add_row("", f"[green]✓[/green] {words}")
    table.add_row("now", f"[bold]{scene.now}[/bold]")
    table.add_section()
    consented = sum(one.consents for one in on.dwellings)
    table.add_row("dwellings with consent", f"{consented} of {len(on.dwellings)}")
    for row in agent_rows(status, scene):
        table.add_row(*row)
    table.add_section()
    table.add_row("platform: slots sent", f"{report['slots']:,} in {report['batches']} batches")
    table.add_row("platform: sent twice", f"{report['resent_batches']} batches, kept once")
    return table


def agent_rows(status: dict[str, Any] | None, scene: Scene) -> list[tuple[str, str]]:
    """What the agent says of itself."""
    if status is None:
        return [("agent", "[red]does not answer[/red]"), ("", ""), ("", ""), ("", "")]
    one, devices = status["uplinks"]["metropole"], status["devices"].values()
    waits = one["backlog"]["slots"] + one["backlog"]["batch_rows"]
    scene.peak = max(scene.peak, waits)
    connected = one["delivery"]["connected_since"]
    silent = sum(device["failures"] > 0 for device in devices)
    bar = "█" * min(30, -(-waits // 60))
    return [
        ("agent", f"running, {'connected' if connected else '[red]cut off[/red]'}"),
        ("agent: meters answering", f"{len(devices) - silent}, silent {silent}"),
        ("agent: held back", f"{one['held_devices']} meters without consent"),
        ("agent: backlog", f"{waits:>5} {bar}  most {scene.peak}"),
    ]


def tell(verdict: Verdict, report: dict[str, Any], console: Console) -> None:
    """Say what was proved and by whom it was counted."""
    console.print()
    for finding in verdict.findings:
        console.print(f"  {finding}", style="red")
    for reason, slots in sorted(verdict.reasons.items()):
        console.print(f"{slots:>6} slots are rightly missing, with the reason '{reason}'")
    console.print(
        f"{report['resent_batches']:>6} batches were sent again, "
        f"{report['differing_batches']} with other bytes; {report['seq_gaps']} gaps in the count"
    )
    console.print("counted by the building's log of its answers and by a ledger at the broker")


def consumption(
    consumed: dict[str, tuple[str, Decimal]], on: Stage, console: Console, most: int = 5
) -> bool:
    """Show kWh per dwelling; whether each is what its meter has advanced between its readings."""
    console.print("\nkWh per dwelling, by the SQL of the receiver: sum(amount) FROM daily")
    wrong = 0
    for n, (place, (label, kwh)) in enumerate(consumed.items()):
        if n < most:
            console.print(f"  {label:<8} {kwh:>9.5f} kWh")
        values = [float(value) for value in on.values(place)]
        wrong += abs(float(kwh) - (values[-1] - values[0])) > ROUNDING
    total = sum(kwh for _, kwh in consumed.values())
    consented = sum(one.consents for one in on.dwellings)
    console.print(f"  … {len(consumed)} of {consented} dwellings: {total:.5f} kWh, {wrong} wrong\n")
    return len(consumed) == consented and not wrong


async def demo(folder: Path, console: Console) -> bool:
    """Set up, play, prove; whether it was proved."""
    console.print("setting up by gardien's commands: keys, places, meters, 57 consents …")
    async with (
        stage(folder) as on,
        cellar(on) as below,
        ReceiverChild(
            folder / "receiver.db", "--mqtt", f"mqtt://127.0.0.1:{on.broker.port}"
        ) as receiver,
    ):
        await on.platform.only_listen()
        scene = Scene()
        with Live(console=console, refresh_per_second=4, transient=not console.is_terminal) as live:
            screen = asyncio.create_task(shown(on, scene, live))
            try:
                last_slot = await play(on, below.demand, scene)
            finally:
                screen.cancel()
                with suppress(asyncio.CancelledError):
                    await screen
        ended_well = await on.stop_agent() == 0
        verdict, report = on.prove(last_slot), await on.platform.report()
        mbus, wrong, boiler = *below.verdict(), below.boiler_values()
        await receiver.holds(report["batches"])
        stored = prove(replace(on.evidence(last_slot), rows=await receiver.rows()))
        consumed = await receiver.consumed()
    if not console.is_terminal:
        for words in scene.done:
            console.print(f"✓ {words}")
    tell(verdict, report, console)
    for words in below.demand.told:
        console.print(Padding(words, (0, 0, 0, 7)))
    for words in below.demand.wrong:
        console.print(f"  {words}", style="red")
    console.print(
        f"{mbus:>6} values of {len(below.meters)} heat and water meters on M-Bus, {wrong} wrong"
    )
    console.print(f"{boiler:>6} values of the boiler room on BACnet, on the common basis")
    sound = (
        mbus
        and boiler
        and not wrong
        and not below.demand.wrong
        and not (report["differing_batches"] or report["seq_gaps"] or report["alarms"])
    )
    agreed = consumption(consumed, on, console)
    console.print("the receiver's own database, against the same log:")
    console.print(stored.line(), soft_wrap=True)
    for finding in stored.findings:
        console.print(f"  {finding}", style="red")
    console.print(
        verdict.line(), style="bold green" if verdict.proved else "bold red", soft_wrap=True
    )
    return bool(verdict.proved and stored.proved and agreed and sound and ended_well)


def main() -> int:
    """Exit status 0 when it was proved, else 1."""
    parser = argparse.ArgumentParser(prog="python -m hil.demo", description=__doc__)
    parser.add_argument("--keep", type=Path, help="a new folder for all that is made; kept")
    chosen = parser.parse_args()
    console = Console(width=WIDTH, highlight=False)
    if chosen.keep:
        chosen.keep.mkdir(parents=True)
        return 0 if asyncio.run(demo(chosen.keep, console)) else 1
    with tempfile.TemporaryDirectory(prefix="gardien-demo-") as folder:
        return 0 if asyncio.run(demo(Path(folder), console)) else 1


if __name__ == "__main__":
    sys.exit(main())
