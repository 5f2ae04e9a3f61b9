"""Giving back from the journal alone, when the agent is dead: no configuration, no socket, no
uplink. A limit gets its failsafe value, unless everything is to go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.control.hold import Holder
from agent.control.model import State
from agent.control.opened import opened
from agent.control.plug import LinePlug
from agent.control.row import Phase
from agent.control.want import FAILSAFE, FOREVER, Want
from agent.errors import LinkLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.control.journal import Journal
    from agent.control.plug import Plug
    from agent.control.records import Change
    from agent.control.row import Place, Row
    from agent.control.stamps import Moment
    from agent.control.world import Audit, Save


@dataclass
class Alone:
    """What of the world is left when the agent is dead."""

    now: Callable[[], Moment]
    plug: Callable[[Place, int | None], Plug]
    save: Save
    audit: Audit = lambda _kind, _body: None
    power: Callable[[str], str] = lambda _: ""


@dataclass(frozen=True, slots=True)
class Given:
    """What became of one row."""

    control: str
    done: bool
    words: str


async def release_all(
    journal: Journal, now: Callable[[], Moment], within: float, *, limits: bool
) -> list[Given]:
    """Give back every open row, the lines beside each other, in so many seconds at most."""
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in journal.rows.values():
        lines.setdefault((row.place.driver, row.place.settings), []).append(row)
    found: dict[int, Given] = {}
    try:
        async with asyncio.timeout(within):
            await asyncio.gather(
                *(_line(journal, now, line, rows, found, limits) for line, rows in lines.items())
            )
    except TimeoutError:
        pass
    late = "no time was left"
    rows = [row for group in lines.values() for row in group]
    return [found.get(row.number, Given(row.control, done=False, words=late)) for row in rows]


async def _line(  # noqa: PLR0913, PLR0917 -- what it works with
    journal: Journal,
    now: Callable[[], Moment],
    line: tuple[str, str],
    rows: list[Row],
    found: dict[int, Given],
    limits: bool,
) -> None:
    try:
        async with opened(*line) as bus:

            async def save(change: Change) -> Row | None:
                return journal.save(change)

            alone = Alone(now, lambda at, slot: LinePlug(bus, at, slot), save)
            holder = Holder(journal, alone)
            for row in rows:
                found[row.number] = await _row(
                    holder, LinePlug(bus, row.place, row.slot), row, limits
                )
    except LinkLost as error:
        for row in rows:
            found.setdefault(row.number, Given(row.control, done=False, words=str(error)))


async def _row(holder: Holder, plug: LinePlug, row: Row, limits: bool) -> Given:
    if row.failsafe is not None and row.phase is not Phase.RELEASING and not limits:
        want = Want(
            row.control, FAILSAFE, row.place, row.slot, row.failsafe, row.restore, FOREVER, FOREVER,
            row.tolerance, never_raise=True,
        )  # fmt: skip
        left = await holder.change(row, want, plug)
        if left is None:
            return Given(row.control, done=True, words="somebody else had taken over")
        return Given(row.control, not left.alarm, left.alarm or "its failsafe limit applies")
    left = await holder.release(row.releasing(State.ABORTED, "the agent is gone"), plug)
    if left is None:
        return Given(row.control, done=True, words="given back, confirmed")
    return Given(row.control, done=False, words=left.alarm)
