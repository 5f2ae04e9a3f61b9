"""Guards rule G6: `gardien control release --all` gives back from the journal alone. Rule H20."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from agent.control.journal import Journal
from agent.control.model import TEST, Moment, OrderState, WriteTarget
from agent.control.records import HoldRecord, Phase, Transaction
from agent.control.recovery import release_all
from agent.control.writer import JournalCopy
from hil.charger import Charger
from hil.modbus_server import Reply, serving

NOW = Moment(1_800_000_000.0, 1000.0, "a", trusted=False)
LIMIT = "holding/1100/uint32 write@5004/uint16 alone"
HELD = Decimal(16)


def row(port: int) -> HoldRecord:
    settings = f'{{"host": "127.0.0.1", "port": {port}}}'
    place = WriteTarget(
        "cars", "modbus-tcp", settings, "wallbox", "limit", "255", LIMIT, "A", "0.001"
    )
    return HoldRecord(
        "it", "one", place, None, Decimal(32), HELD, (HELD,), Decimal(32), NOW, NOW.wall + 600,
        600.0, base=Decimal(32), phase=Phase.APPLIED, failsafe=Decimal(10),
    )  # fmt: skip


def given_back(folder, made, limits):
    """What the charger is limited to afterwards (mA), and what is said."""
    charger = Charger(wanted=32_000)
    charger.limit = int(HELD * 1000)

    async def scenario():
        async with serving(lambda _, pdu: Reply(charger(pdu))) as port:
            with Journal.open(folder / "control.sqlite", lambda _: None) as journal:
                journal.save(Transaction(made(row(port))))
                (given,) = await release_all(
                    journal, JournalCopy(folder / "run"), lambda: NOW, 10.0, limits=limits
                )
                assert given.done
                return given.words, list(journal.records.values())

    words, rows = asyncio.run(scenario())
    return charger.limit, words, rows


def ended(one: HoldRecord) -> HoldRecord:
    """A guard has tripped, and the charger was out of reach then."""
    return replace(one, pending=True).releasing(OrderState.ABORTED, "guard:cellar")


@pytest.mark.parametrize(
    ("made", "limits", "stands"),
    [
        (lambda one: one, False, 10_000),
        (lambda one: one, True, 32_000),
        (ended, False, 32_000),  # what ended a limit forbids its failsafe, too
    ],
    ids=["a-limit", "limits-too", "a-limit-that-was-ended"],
)
def test_a_limit_gets_its_failsafe_unless_it_is_to_go_or_was_ended(tmp_path, made, limits, stands):
    limit, words, rows = given_back(tmp_path, made, limits)
    assert limit == stands
    assert words == ("its failsafe limit applies" if rows else "released, confirmed")
    assert bool(rows) == (stands == 10_000)


@pytest.mark.parametrize("jti", ["one", TEST])
def test_a_persons_value_that_is_found_forbids_orders_after_the_next_start(tmp_path, jti):
    """Rule H10."""
    charger = Charger(wanted=32_000)
    charger.limit = 20_000

    async def scenario():
        copy = JournalCopy(tmp_path / "run")
        async with serving(lambda _, pdu: Reply(charger(pdu))) as port:
            with Journal.open(tmp_path / "control.sqlite", lambda _: None) as journal:
                journal.save(Transaction(replace(row(port), jti=jti)))
                await release_all(journal, copy, lambda: NOW, 10.0, limits=True)
        with Journal.open(tmp_path / "control.sqlite", lambda _: None) as journal:
            later = replace(NOW, wall=NOW.wall + 60.0, steady=NOW.steady + 60.0)
            journal.merge(copy.records(), later)
            return journal.memo(row(port).key), later

    memo, now = asyncio.run(scenario())
    assert charger.limit == 20_000
    assert memo.pause(now) == ("" if jti == TEST else "somebody at the plant has taken over")
    assert not memo.pause(replace(now, steady=NOW.steady + 601.0))


def test_a_line_on_which_nobody_answers_takes_no_more_time_than_there_is(tmp_path):
    async def scenario():
        async with serving(lambda *_: None) as port:
            with Journal.open(tmp_path / "control.sqlite", lambda _: None) as journal:
                journal.save(Transaction(row(port)))
                (given,) = await release_all(
                    journal, JournalCopy(tmp_path / "run"), lambda: NOW, 0.2, limits=True
                )
                return given, list(journal.records.values())

    given, left = asyncio.run(scenario())
    assert (given.done, given.words) == (False, "no time was left")
    assert left  # the next start goes on with it


def test_a_write_that_a_busy_gateway_carries_out_after_the_death_is_given_back_too(tmp_path):
    charger = Charger(wanted=32_000)

    async def scenario():
        async with serving(lambda _, pdu: Reply(charger(pdu))) as port:
            with Journal.open(tmp_path / "control.sqlite", lambda _: None) as journal:
                for made in (row(port), replace(row(port), phase=Phase.WRITING)):
                    journal.save(Transaction(made))
                    carried_out = asyncio.get_running_loop().call_later(
                        0.2, setattr, charger, "limit", int(HELD * 1000)
                    )
                    (given,) = await release_all(
                        journal, JournalCopy(tmp_path / "run"), lambda: NOW, 10.0, limits=True,
                        lands_within=0.5,
                    )  # fmt: skip
                    yet_to_come = carried_out.when() > asyncio.get_running_loop().time()
                    carried_out.cancel()
                    yield given.done, yet_to_come, charger.limit, list(journal.records.values())

    async def both():
        return [one async for one in scenario()]

    read_back, on_its_way = asyncio.run(both())
    assert read_back == (True, True, 32_000, [])  # nothing is on its way, and nobody waits
    assert on_its_way == (True, False, 32_000, [])


def test_a_device_that_does_not_answer_at_once_is_asked_again(tmp_path):
    charger, asked = Charger(wanted=32_000), []
    charger.limit = int(HELD * 1000)

    def busy(_, pdu):
        asked.append(pdu)
        return Reply(charger(pdu)) if len(asked) > 4 else None

    async def scenario():
        async with serving(busy) as port:
            with Journal.open(tmp_path / "control.sqlite", lambda _: None) as journal:
                made = row(port)
                settings = made.place.settings.replace("}", ', "timeout": 0.3}')
                journal.save(
                    Transaction(replace(made, place=replace(made.place, settings=settings)))
                )
                (given,) = await release_all(
                    journal, JournalCopy(tmp_path / "run"), lambda: NOW, 20.0, limits=True
                )
                return given.done, list(journal.records.values())

    assert asyncio.run(scenario()) == (True, [])
    assert charger.limit == 32_000
