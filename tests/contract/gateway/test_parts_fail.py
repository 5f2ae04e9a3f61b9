"""A store that is damaged, or cannot be opened, is opened anew, and the rest goes on meanwhile.

Guards rules G1, G2.
"""

import asyncio
import sqlite3
import time
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from agent import local
from agent.acquisition.ingest import ROOM, Ingest
from agent.api.calls import NOBODY, status
from agent.api.registry import Caller
from agent.buffer.batch import read
from agent.buffer.database import Damaged
from agent.core.errors import NotRecorded, StorageFailed
from agent.core.model import Reading, Series, SlotMark
from agent.core.storage import volatile
from agent.gateway import supervisor
from agent.gateway.delivery import document
from agent.gateway.recipient import close_passed_slots
from agent.inbox.inbox import BY_HAND
from agent.trust import store
from hil.broker import broker
from hil.platform.child import Platform
from hil.platform.report import rows
from hil.process import free_port
from tests.contract.buffer.far import seal
from tests.contract.gateway.running import at_work, configured, put, settled
from tests.waiting import until

SERIES = Series("CZS2YFSTBQQ5WDC", "elec.imp", "REG", "kWh", 1, "m1", None, "common")


METER = """\
links: {riser: {driver: modbus-tcp, host: 127.0.0.1, port: 1}}
devices:
  m1: {link: riser, address: 1, profile: eastron-sdm120, every: 1h, place: CZS2YFSTBQQ5WDC}
"""


def row(t):
    return Reading(SERIES, t, Decimal(t), "V")


def unconnected(folder):
    return configured(folder, url())


def faults(house):
    return {one.component for one in house.jobs.faults.all()}


@asynccontextmanager
async def failing_at_work(config):
    """As `at_work`; what has failed is forgotten at the end, for the test has looked at it."""
    async with at_work(config) as house:
        house.jobs.well = 0.5
        yield house
        for name in faults(house):
            house.jobs.faults.forget(name)


def dates(house):
    async def let_in():
        return house.clock.dates

    return let_in


async def open_again(house, name="centre"):
    async def is_open():
        return name in house.recipients

    await until(is_open)
    return house.recipients[name]


def test_a_spool_that_is_damaged_while_it_is_open_is_set_aside_and_what_waited_in_memory_is_kept(
    tmp_path,
):
    async def scenario():
        async with failing_at_work(unconnected(tmp_path)) as house:
            recipient = house.recipients["centre"]
            epoch = await recipient.thread.run(lambda: recipient.spool.epoch)
            ledger, now = recipient.ledger, int(time.time())
            await recipient.thread.run(tear, recipient.spool._database, tmp_path / "torn.db")
            await recipient.intake.put([row(now)], {("m", 1): SlotMark(now, heard=True)})

            async def fails():
                return "spool centre" in faults(house)

            await until(fails)
            await recipient.intake.put([row(now + 1)], {("m", 1): SlotMark(now + 1, heard=True)})
            recipient = await open_again(house)
            assert recipient.ledger is ledger, "the pollers that run read for it"
            assert await recipient.thread.run(lambda: recipient.spool.epoch) != epoch
            assert (tmp_path / "state" / "spool-r.example.db.damaged").exists()

            async def kept():
                return (await recipient.thread.run(recipient.spool.backlog)).rows == 2

            await until(kept)
            marks = await recipient.thread.run(recipient.spool.marks)
            assert marks["m", 1].slot == now + 1

            async def well():
                return not faults(house)

            await until(well)

    asyncio.run(scenario())


class Silent:
    """A spool on a disk that carries out a commit, and answers too late. `has_effect`: or not."""

    def __init__(self, spool, *, has_effect):
        self._spool, self._has_effect = spool, has_effect

    def append(self, *given):
        if self._has_effect:
            self._spool.append(*given)
        raise StorageFailed("the disk does not answer")

    def __getattr__(self, name):
        return getattr(self._spool, name)


@pytest.mark.parametrize("has_effect", [True, False])
def test_what_a_commit_that_was_given_up_has_stored_is_not_stored_once_more(tmp_path, has_effect):
    """The disk answered soon after, and its spool had each row twice. Rules T6, P18."""

    async def scenario():
        async with failing_at_work(unconnected(tmp_path)) as house:
            recipient = house.recipients["centre"]
            before, now = recipient.spool, int(time.time())
            recipient.spool = Silent(before, has_effect=has_effect)
            await recipient.intake.put([row(now)], {("m", 1): SlotMark(now, heard=True)})

            async def anew():
                here = "centre" in house.recipients and recipient.spool
                return here not in {False, before} and not isinstance(here, Silent)

            await until(anew)
            await recipient.intake.put([row(now + 1)], {("m", 1): SlotMark(now + 1, heard=True)})
            await recipient.intake.commit()
            assert not recipient.kept
            batch = await recipient.thread.run(seal, recipient.spool)
            assert [one.t for one in read(batch.payload)] == [now, now + 1]

    asyncio.run(scenario())


def test_what_memory_has_closed_is_closed_on_the_disk_once_it_works_again(tmp_path):
    """Its running slot was stated at the next one, as M `busy`. Rules M3, A3."""

    async def scenario():
        config = unconnected(tmp_path)
        config.write_text(config.read_text() + METER)
        async with failing_at_work(config) as house:
            await house.jobs.stop("poll riser")
            recipient, key = house.recipients["centre"], ("m1", 3600)
            running = int(time.time()) // 3600 * 3600
            mark = SlotMark(running - 7200, heard=True)
            await recipient.thread.run(recipient.spool.append, [], {key: mark})

            async def opened_again():
                await house.jobs.stop("spool centre")
                await house.daemon.reload()
                return await open_again(house)

            obstacle = tmp_path / "state" / "spool-r.example.db-wal"
            await house.jobs.stop("spool centre")
            obstacle.mkdir()
            recipient = await opened_again()
            assert recipient.kept
            recipient.ledger.marks[key] = mark._replace(slot=running)
            obstacle.rmdir()
            recipient = await opened_again()
            assert not recipient.kept
            marks = await recipient.thread.run(recipient.spool.marks)
            assert marks[key].slot == running

    asyncio.run(scenario())


def test_what_was_closed_on_the_disk_is_closed_in_memory_before_the_next_slot(tmp_path):
    """A start while the disk still failed read the running slot once more. Rules M3, M10."""

    async def scenario():
        config = unconnected(tmp_path)
        config.write_text(config.read_text() + METER)
        async with failing_at_work(config) as house:
            await house.jobs.stop("poll riser")
            running = int(time.time()) // 3600 * 3600
            mark = SlotMark(running, heard=True)
            house.recipients["centre"].ledger.marks["m1", 3600] = mark
            await house.jobs.stop("spool centre")
            (tmp_path / "state" / "spool-r.example.db-wal").mkdir()
            await house.daemon.reload()
            recipient = await open_again(house)
            assert recipient.kept
            assert await recipient.thread.run(recipient.spool.marks) == {("m1", 3600): mark}

    asyncio.run(scenario())


def test_while_the_registry_allows_nothing_no_slot_is_closed_on_the_disk(tmp_path):
    """Its disk may work again before the registry can be written: rules A8, R16."""

    async def scenario():
        async with failing_at_work(unconnected(tmp_path)) as house:
            for mute in (True, False):
                house.registry.mute = mute
                await house.jobs.stop("spool centre")
                await house.daemon.reload()
                recipient = await open_again(house)
                assert bool(recipient.kept) == mute

    asyncio.run(scenario())


def test_damage_that_only_a_question_finds_opens_the_spool_anew_too(tmp_path):
    async def scenario():
        async with failing_at_work(unconnected(tmp_path)) as house:
            recipient = house.recipients["centre"]
            before = recipient.spool
            await recipient.thread.run(tear, before._database, tmp_path / "torn.db")
            with pytest.raises(Damaged):
                await recipient.thread.run(before.marks)

            async def anew():
                return recipient.spool is not before and "centre" in house.recipients

            await until(anew)
            assert await recipient.thread.run(recipient.spool.marks) == {}

    asyncio.run(scenario())


def test_damage_at_the_opening_of_one_spool_concerns_no_other(tmp_path, monkeypatch):
    """Both are opened in the end, and the clock's period is let in."""
    real, tries = supervisor.close_passed_slots, []

    async def damaged_once(house, recipient):
        tries.append(recipient.name)
        if len(tries) == 1:
            raise Damaged("a page of it is damaged")
        await real(house, recipient)

    async def scenario():
        config = unconnected(tmp_path)
        second = f'  other: {{recipient: s.example, transport: mqtt, url: "{url()}"}}\nprivacy:'
        config.write_text(config.read_text().replace("privacy:", second))
        monkeypatch.setattr(supervisor, "close_passed_slots", damaged_once)
        async with failing_at_work(config) as house:
            assert "other" in house.recipients
            await open_again(house)
            await until(dates(house))  # the period is let in once both are open

    asyncio.run(scenario())


def test_a_start_after_a_long_outage_does_not_wait_for_room(tmp_path):
    """More rows than there is room for in memory, before anybody makes room."""

    async def scenario():
        async with at_work(unconnected(tmp_path)) as house:
            recipient = house.recipients["centre"]
            late = int(time.time())
            many = [row(late + n) for n in range(ROOM + 1)]
            recipient.ledger.resume = lambda *_: many
            recipient.intake = Ingest(recipient.intake._append, 60.0)  # which nobody serves yet
            async with asyncio.timeout(20):
                await close_passed_slots(house, recipient)
            stored = await recipient.thread.run(recipient.spool.backlog)
            assert stored.slots + stored.batch_rows >= len(many)

    asyncio.run(scenario())


def url():
    return f"mqtt://127.0.0.1:{free_port()}"


def tear(database, path):
    """From now on the pages of an open database make no sense."""
    database._connection.close()
    database._connection = torn(path)


def torn(path):
    """A connection to a file of SQLite whose pages make no sense."""
    made = sqlite3.connect(path)
    made.execute("CREATE TABLE waits(x)")
    made.commit()
    made.close()
    path.write_bytes(path.read_bytes()[:100] + b"\x5a" * 20_000)
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def test_a_spool_that_cannot_be_opened_is_parked_and_a_reload_opens_it_at_once(tmp_path):
    async def scenario():
        config = unconnected(tmp_path)
        text = config.read_text()
        other = (
            '  other: {recipient: o.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}\nprivacy:'
        )
        config.write_text(text.replace("privacy:", other, 1))
        spool = tmp_path / "state" / "spool-r.example.db"
        spool.mkdir()
        async with failing_at_work(config) as house:
            assert list(house.recipients) == ["other"], "the start goes on"
            assert faults(house) == {"spool centre"}
            answer = await status(house, NOBODY)
            (event,) = [one for one in answer["events"] if one["code"] == "fault"]
            assert event["uplink"] == "centre"
            assert not document(answer, "other")["faults"], "another recipient's is not told"
            for _ in range(8):  # so that it would take minutes by itself
                house.jobs._components["spool centre"].backoff.next()
            spool.rmdir()
            await house.daemon.reload()
            assert set(house.recipients) == {"centre", "other"}
            intake, now = house.recipients["centre"].intake, int(time.time())
            await intake.put([row(now)], {("m", 1): SlotMark(now, heard=True)})
            await house.jobs.stop("spool centre")
            async with asyncio.timeout(20):  # nobody waits for a spool that is closed
                await intake.put([row(now + n) for n in range(1, 25_000)], {})
                await intake.put([row(now + 25_000)], {})
            assert intake.shed_rows > 20_000

    asyncio.run(scenario())


def test_an_uplink_that_is_parked_is_opened_at_once_when_uplinks_are_tried_again(
    tmp_path, monkeypatch
):
    async def scenario():
        async with (
            broker() as at,
            Platform(at.port, tmp_path / "platform.db") as platform,
            failing_at_work(configured(tmp_path, at.url)) as house,
        ):
            with monkeypatch.context() as patch:
                patch.setattr(house.moves, "of", wrong)
                recipient = house.recipients["centre"]
                await house.jobs.stop("uplink centre")
                await house.daemon.reopen()

                async def parked():
                    return house.jobs.parked("uplink centre")

                await until(parked)
                await put(house, 5)
            for _ in range(8):  # so that it would take minutes by itself
                house.jobs._components["uplink centre"].backoff.next()
            await house.daemon.reopen()
            await settled(house)
            assert recipient.delivery.settled
            await platform.holds(5)

    asyncio.run(scenario())


def wrong(*_args, **_more):
    raise TypeError("odd")


def test_a_status_that_cannot_be_made_stops_no_delivery(tmp_path):
    async def scenario():
        async with (
            broker() as at,
            Platform(at.port, tmp_path / "platform.db") as platform,
            failing_at_work(configured(tmp_path, at.url)) as house,
        ):

            async def describe():
                raise TypeError("odd")

            house.daemon.describe = describe
            await house.jobs.stop("uplink centre")
            house.recipients["centre"].delivery.connected_since = None
            await house.daemon.reopen()

            async def told():
                return "status centre" in faults(house)

            await until(told)
            await put(house, 5)
            await settled(house)
            await platform.holds(5)
            assert "uplink centre" not in faults(house)
            assert len({held.t for held in rows(platform.db)}) == 5

    asyncio.run(scenario())


def test_a_book_that_is_damaged_while_it_is_open_is_opened_anew(tmp_path):
    async def scenario():
        async with failing_at_work(unconnected(tmp_path)) as house:
            before, file = house.objects.inbox, tmp_path / "state" / store.FILE
            before.trust_store.db.close()
            file.write_bytes(b"\x5a" * 40_000)
            before.trust_store.db = damaged = torn(tmp_path / "torn.db")
            with pytest.raises((NotRecorded, sqlite3.DatabaseError)):
                await house.objects.carried(b"e30.e30.e30", "centre")
            house.jobs.retry("signed objects")  # before, it may open the book anew first

            async def anew():
                return house.objects.inbox is not before and not house.objects.is_broken

            await until(anew)
            damaged.close()
            assert file.with_name(f"{file.name}.damaged").exists()
            assert set(house.objects.inbox.handlers) >= {"request+jwt", "uplink-move+jws"}
            await house.objects.carried(b"e30.e30.e30", "centre")

    asyncio.run(scenario())


def test_a_book_that_can_be_opened_neither_on_the_disk_nor_in_memory_is_tried_again(tmp_path):
    """Rules O23, A1: meanwhile an object is neither accepted nor refused, and the rest goes on."""

    async def scenario():
        async with failing_at_work(unconnected(tmp_path)) as house:
            before, state = house.objects.inbox, tmp_path / "state"
            file, copy = state / store.FILE, volatile(state) / store.FILE
            file.rename(tmp_path / "kept")
            for folder in (file, copy):  # SQLite opens no folder
                folder.mkdir(parents=True)
            house.objects.note_broken()
            house.jobs.retry("signed objects")

            async def failed():
                return "signed objects" in faults(house)

            await until(failed)
            with pytest.raises(NotRecorded):
                await house.objects.accept(b"e30.e30.e30", BY_HAND)
            with pytest.raises(NotRecorded):
                await house.objects.carried(b"e30.e30.e30", "centre")
            await house.objects.registry_changed()
            assert (await status(house, NOBODY))["authority"]
            assert "signed objects" in faults(house)
            for folder in (file, copy):
                folder.rmdir()
            (tmp_path / "kept").rename(file)
            house.jobs.retry("signed objects")

            async def anew():
                return house.objects.inbox is not before and not house.objects.is_broken

            await until(anew)
            await house.objects.carried(b"e30.e30.e30", "centre")

    asyncio.run(scenario())


def test_a_shelf_that_is_damaged_while_it_is_open_is_opened_anew_with_what_it_held(tmp_path):
    async def scenario():
        async with failing_at_work(unconnected(tmp_path)) as house:
            kept, before = house.unsent["shelf"], house.unsent["shelf"].store
            kept._held = {"m": [one_kept()]}
            await kept.thread.run(tear, before._database, tmp_path / "torn.db")
            kept.full = True

            async def anew():
                return kept.store is not before and not kept._held

            await until(anew)
            assert house.unsent["shelf"] is kept
            assert await kept.thread.run(kept.store.count) == 1

    asyncio.run(scenario())


def one_kept():
    from agent.buffer.unassigned_store import UnassignedValue

    return UnassignedValue("m", "energy", 1, int(time.time()), "s", "1", time.time(), "V", ())


def test_a_call_that_fails_is_answered_in_plain_words_and_told_in_the_log(tmp_path, caplog):
    async def scenario():
        async with at_work(unconnected(tmp_path)) as house:
            house.objects.report = house.registry.places = wrong

            asker = Caller("tests", NOBODY.progress)
            request = {"call": "place.list", "args": {}}
            house.sums.configured = house.recipients["centre"].outbox.catch_up = wrong
            return [await local.answer(house, request, asker) for _ in range(2)]

    for answer in asyncio.run(scenario()):
        assert answer["refused"].startswith("an error in gardien itself (TypeError)")
        assert "support-bundle" in answer["refused"]
    told = [one for one in caplog.records if "place.list failed" in one.message]
    assert [bool(one.exc_info) for one in told] == [True, False]


def test_what_fails_in_a_callback_or_in_a_task_that_nobody_awaits_is_logged(tmp_path, caplog):
    async def scenario():
        async with at_work(unconnected(tmp_path)):
            asyncio.get_running_loop().call_soon(wrong)
            await asyncio.sleep(0.05)

    asyncio.run(scenario())
    assert any("TypeError: odd" in one.message and one.exc_info for one in caplog.records)
