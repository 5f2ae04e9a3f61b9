import asyncio
from decimal import Decimal

import pytest

from agent.acquisition.ingest import Ingest, shed
from agent.core.errors import SpoolFull, StorageFailed
from agent.core.model import Reading, Series, SlotMark
from tests.virtual_time import run

SERIES = Series("DX", "elec.imp", "REG", "kWh", 10, "1", "H1", "c1")
OTHER = SERIES._replace(place="DY")


def row(t, series=SERIES, **more):
    return Reading(series, t, Decimal(t), "R", **more)


class Disk:
    """A spool that keeps what it is given, or is full on request."""

    def __init__(self):
        self.commits, self.full = [], False

    async def append(self, rows, marks):
        await asyncio.sleep(0)
        if self.full:
            raise SpoolFull("full")
        self.commits.append((list(rows), dict(marks)))

    @property
    def rows(self):
        return [row for rows, _ in self.commits for row in rows]


def test_one_append_holds_what_came_in_a_flush_interval():
    async def scenario():
        disk = Disk()
        intake = Ingest(disk.append, flush=0.05)
        serving = asyncio.create_task(intake.serve())
        for t in range(0, 100, 10):
            await intake.put([row(t)], {("a", 10): SlotMark(t, heard=True)})
        await asyncio.sleep(0.2)
        serving.cancel()
        assert [len(rows) for rows, _ in disk.commits] == [10]
        assert disk.commits[0][1] == {("a", 10): SlotMark(90, heard=True)}

    run(scenario())


def test_the_reader_waits_while_there_is_no_room():
    async def scenario():
        disk = Disk()
        intake = Ingest(disk.append, flush=60, room=2)
        await intake.put([row(0), row(10)], {})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await intake.put([row(20)], {})
        await intake.commit()
        async with asyncio.timeout(10):
            await intake.put([row(20)], {})

    run(scenario())


def test_a_full_spool_costs_values_but_no_slot():
    async def scenario():
        disk = Disk()
        intake = Ingest(disk.append, flush=60)
        await intake.put([row(0), row(0, OTHER)], {("a", 10): SlotMark(0, heard=True)})
        await intake.commit()
        disk.full = True
        for t in (10, 20, 30):
            await intake.put([row(t), row(t, OTHER)], {("a", 10): SlotMark(t, heard=True)})
            await intake.commit()
        disk.full = False
        await intake.put([row(40), row(40, OTHER)], {("a", 10): SlotMark(40, heard=True)})
        await intake.commit()
        closed = sorted(
            (r.series.place, r.t + n * 10, r.why) for r in disk.rows for n in range(r.span)
        )
        assert closed == sorted(
            (place, t, "shed" if t in (10, 20, 30) else None)
            for place in ("DX", "DY")
            for t in (0, 10, 20, 30, 40)
        )
        assert intake.shed_rows == 6
        assert disk.commits[-1][1] == {("a", 10): SlotMark(40, heard=True)}

    run(scenario())


def test_marks_wait_for_the_rows_they_stand_for():
    async def scenario():
        disk = Disk()
        disk.full = True
        intake = Ingest(disk.append, flush=60)
        await intake.put([row(0)], {("a", 10): SlotMark(0, heard=True)})
        await intake.commit()
        assert disk.commits == []

    run(scenario())


def test_shed_keeps_a_gap_between_runs():
    rows = shed([row(0), row(10), row(40)])
    assert [(r.t, r.span) for r in rows] == [(0, 2), (40, 1)]


def test_a_late_value_that_is_shed_keeps_its_version():
    """Guards rule G2: without it the slot would be stated twice on schedule."""
    rows = shed([row(0), row(10), row(0, ver=99), row(20), row(10, ver=99), row(20, ver=100)])
    assert [(r.t, r.span, r.ver, r.why) for r in rows] == [
        (0, 3, None, "shed"),
        (0, 2, 99, "shed"),
        (20, 1, 100, "shed"),
    ]
    assert shed(rows) == rows


def test_what_is_withheld_stays_so_on_a_full_disk():
    held = [
        Reading(SERIES._replace(basis=""), t, None, "W", why=why)
        for t, why in ((0, "consent"), (10, "consent"), (20, "vacant"))
    ]
    assert [(r.t, r.span, r.quality, r.why) for r in shed(held)] == [
        (0, 2, "W", "consent"),
        (20, 1, "W", "vacant"),
    ]


def test_slots_are_closed_by_what_is_stored_and_by_what_waits_for_room():
    async def scenario():
        disk = Disk()
        disk.full = True
        intake = Ingest(disk.append, flush=60)
        await intake.put([row(10)], {("a", 10): SlotMark(10, heard=True)})
        await intake.commit()

        async def stored():
            return {("a", 10): SlotMark(0, heard=True), ("b", 10): SlotMark(5, heard=True)}

        assert await intake.closed(stored) == {
            ("a", 10): SlotMark(10, heard=True),
            ("b", 10): SlotMark(5, heard=True),
        }

    run(scenario())


def test_the_index_of_a_day_outlives_a_full_spool_and_so_many_of_them_at_most():
    """Rule M11."""
    daily = SERIES._replace(step=86_400)
    power = daily._replace(kind="INS")
    rows = [row(n * 86_400, of) for n in range(3) for of in (daily, power)]
    left = shed(rows, most=2)
    assert [(r.series.kind, r.value, r.why, r.span) for r in left] == [
        ("REG", Decimal(0), None, 1),
        ("REG", Decimal(86_400), None, 1),
        ("REG", None, "shed", 1),
        ("INS", None, "shed", 3),
    ]
    assert shed(left, most=2) == left


def test_a_change_of_a_state_outlives_a_full_spool_as_an_index_of_a_day_does():
    states = [row(n * 10, SERIES._replace(kind="EVT")) for n in range(3)]
    assert shed(states, most=2)[:2] == states[:2]
    assert shed(states, most=2)[2].why == "shed"


def test_an_index_of_a_day_that_waited_for_room_is_stored_with_its_own_value():
    async def scenario():
        disk = Disk()
        disk.full = True
        intake = Ingest(disk.append, flush=60)
        daily = row(86_400, SERIES._replace(step=86_400))
        await intake.put([daily, row(10)], {})
        await intake.commit()
        await intake.commit()
        disk.full = False
        await intake.commit()
        assert disk.rows[0] == daily
        assert [r.why for r in disk.rows] == [None, "shed"]
        assert intake.shed_rows == 1

    run(scenario())


class Failing(Disk):
    """A spool that fails as it is told to, and refuses rows that no batch could carry."""

    def __init__(self):
        super().__init__()
        self.error, self.poison, self.waits = None, set(), None

    async def append(self, rows, marks):
        if self.waits is not None:
            await self.waits.wait()
        if self.error is not None:
            raise self.error
        if bad := [one.t for one in rows if one.t in self.poison and one.value is not None]:
            raise ValueError(f"slot {bad[0]} is none")
        await super().append(rows, marks)


def test_what_an_unexpected_error_kept_from_the_disk_is_there_with_the_next_commit():
    async def scenario():
        disk = Failing()
        intake = Ingest(disk.append, flush=60)
        await intake.put([row(0)], {("a", 10): SlotMark(0, heard=True)})
        disk.error = OSError("disk I/O error")
        with pytest.raises(OSError, match="disk I/O"):
            await intake.commit()
        await intake.put([row(10)], {("a", 10): SlotMark(10, heard=True)})
        disk.error = None
        await intake.commit()
        assert [one.t for one in disk.rows] == [0, 10]
        assert disk.commits[-1][1] == {("a", 10): SlotMark(10, heard=True)}

    run(scenario())


@pytest.mark.parametrize("error", [None, OSError("disk I/O error")])
def test_a_commit_that_is_cancelled_leaves_each_row_once(error):
    async def scenario():
        disk = Failing()
        disk.waits, disk.error = asyncio.Event(), error
        intake = Ingest(disk.append, flush=60)
        await intake.put([row(0)], {("a", 10): SlotMark(0, heard=True)})
        committing = asyncio.create_task(intake.commit())
        await asyncio.sleep(0)
        committing.cancel()
        await asyncio.sleep(0)
        disk.waits.set()
        with pytest.raises((asyncio.CancelledError, OSError)):
            await committing
        disk.error = None
        await intake.commit()
        assert [one.t for one in disk.rows] == [0]

    run(scenario())


class Late(Disk):
    """Carries out its first commit, and does not say so in time; after it nothing more."""

    async def append(self, rows, marks):
        if not self.commits:
            await super().append(rows, marks)
        raise StorageFailed("the disk does not answer")


@pytest.mark.parametrize("stored", [True, False])
def test_rows_of_a_commit_that_may_have_taken_effect_wait_until_somebody_has_looked(stored):
    """Rule T6. What came later, and was never handed to the disk, waits in any case."""

    async def scenario():
        late, disk = Late(), Disk()
        stores = [late, late, disk]
        intake = Ingest(lambda *given: stores.pop(0).append(*given), flush=60)
        for _ in range(2):
            await intake.put([row(len(intake.unsure) * 10)], {})
            with pytest.raises(StorageFailed):
                await intake.commit()
        assert intake.unsure == [row(0)]
        intake.looked(stored=stored)
        await intake.commit()
        assert disk.rows == ([row(10)] if stored else [row(0), row(10)])
        assert not intake.unsure

    run(scenario())


def test_a_row_that_no_batch_could_carry_costs_its_own_value_alone():
    """Rule R12."""

    async def scenario():
        disk = Failing()
        disk.poison = {30, 70}
        intake = Ingest(disk.append, flush=60)
        await intake.put([row(t) for t in range(0, 100, 10)], {("a", 10): SlotMark(90, heard=True)})
        await intake.commit()
        assert [(one.t, one.why) for one in disk.rows] == [
            (t, "agent" if t in disk.poison else None) for t in range(0, 100, 10)
        ]
        assert [marks for _, marks in disk.commits if marks] == [
            {("a", 10): SlotMark(90, heard=True)}
        ]
        assert disk.commits[-1][1], "the mark goes with the last row"

    run(scenario())


def test_rows_that_wait_are_asked_about_again_once_the_registry_has_changed():
    """Rule P12."""

    async def scenario():
        disk, revision = Disk(), [1]
        intake = Ingest(
            disk.append,
            flush=60,
            revision=lambda: revision[0],
            recheck=lambda rows: [one for one in rows if one.t],
        )
        await intake.put([row(0), row(10)], {("a", 10): SlotMark(10, heard=True)})
        revision[0] = 2
        await intake.commit()
        assert [one.t for one in disk.rows] == [10]

    run(scenario())


def test_nobody_waits_for_room_while_the_disk_fails_and_no_slot_is_lost():
    async def scenario():
        disk = Failing()
        intake = Ingest(disk.append, flush=60, room=4)
        for t in range(0, 40, 10):
            await intake.put([row(t)], {("a", 10): SlotMark(t, heard=True)})
        waits = asyncio.create_task(intake.put([row(40)], {("a", 10): SlotMark(40, heard=True)}))
        await asyncio.sleep(0)
        disk.error = OSError("disk I/O error")
        with pytest.raises(OSError, match="disk I/O"):
            await intake.commit()
        async with asyncio.timeout(10):
            await waits
            for t in range(50, 1000, 10):
                await intake.put([row(t)], {("a", 10): SlotMark(t, heard=True)})
        assert len(intake._rows) <= 6
        disk.error = None
        await intake.commit()
        closed = [one.t + n * 10 for one in disk.rows for n in range(one.span)]
        assert sorted(closed) == list(range(0, 1000, 10))
        assert intake.shed_rows > 90

    run(scenario())


def test_what_had_no_value_keeps_its_reason_on_a_full_disk_as_far_as_there_is_room():
    silent = [Reading(SERIES, t, None, "M", why="silent") for t in (10, 20)]
    rows = [row(0), *silent, row(30), Reading(SERIES, 40, None, "M", why="link")]
    kept = [(0, 1, "shed"), (10, 2, "silent"), (30, 1, "shed"), (40, 1, "link")]
    assert [(r.t, r.span, r.why) for r in shed(rows)] == kept
    assert [(r.t, r.span, r.why) for r in shed(rows, most=3)] == [(0, 5, "shed")]


def test_what_is_kept_elsewhere_is_not_taken_by_a_full_spool():
    async def scenario():
        disk = Disk()
        intake = Ingest(disk.append, flush=60)
        disk.full = True
        with pytest.raises(SpoolFull):
            await intake.keep([row(0, ver=5)])
        disk.full = False
        await intake.commit()
        assert disk.rows == []
        await intake.keep([row(0, ver=5)])
        assert disk.rows == [row(0, ver=5)]

    run(scenario())
