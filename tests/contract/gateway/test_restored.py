"""Guards rule T9: after a restore, what was withdrawn since comes before anything."""

import asyncio
from decimal import Decimal
from functools import partial

import pytest

from agent.api.calls import CALLS, NOBODY, status
from agent.api.registry import Caller
from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.model import Reading, Series
from agent.gateway import backup
from agent.gateway.gateway import Daemon
from agent.trust.sign import Signer, new_jti
from hil.broker import broker
from hil.platform.child import Platform, Serving
from hil.platform.report import rows
from hil.process import free_port
from tests.contract.gateway.running import RECIPIENT, at_work, configured, put, settled
from tests.contract.gateway.test_signed import NOW, believe, believing
from tests.waiting import until

COLLECTOR = Signer.new("accueil")
MADE = "2026-11-20T10:00:00Z"


def restored_now(house):
    """As a start finds it after `gardien restore`."""
    backup.close_gate(house.config.state, MADE)
    house.restored = backup.PostRestoreGate(house.config.state)
    house.daemon.describe = partial(status, house, NOBODY)
    return house.config.state / backup.FILE


async def connected(house):
    async def fact():
        return house.recipients["centre"].delivery.connected_since is not None

    await until(fact)


async def events(house):
    return {one["code"]: one["text"] for one in (await status(house, NOBODY))["events"]}


def test_without_a_proof_nothing_is_sealed_for_ten_minutes_and_it_stays_told(tmp_path):

    async def scenario():
        async with (
            broker() as far,
            Platform(far.port, tmp_path / "platform.db") as platform,
            at_work(configured(tmp_path, far.url)) as house,
        ):
            mark = restored_now(house)
            # Its status never leaves, so the platform is never asked.
            house.daemon.describe = Daemon().describe
            await connected(house)
            await put(house, 5)
            await asyncio.sleep(2)
            assert (await platform.report())["rows"] == 0
            assert "10 minutes more" in (await events(house))["restored"]
            house.restored.listens_for = 0.5
            await platform.holds(5)
            assert "restored" not in await events(house)
            assert "has not confirmed" in (await events(house))["restored-unproved"]
            assert backup.PostRestoreGate(house.config.state).unproved == {"r.example"}
            done = await CALLS["object.all_came"](house, Caller("marie", None))
            assert (done["made"], done["by"]) == (MADE, "marie")
            assert not mark.exists()
            assert "restored-unproved" not in await events(house)
            with pytest.raises(Refused, match="this gateway waits for nothing"):
                await CALLS["object.all_came"](house, Caller("marie", None))

    asyncio.run(scenario())


def test_a_platform_behind_a_broker_sends_all_objects_and_says_that_these_were_all(tmp_path):
    (tmp_path / "objects").mkdir()
    for number in range(3):
        (tmp_path / "objects" / f"{number}.jwt").write_text(f"object {number}")
    came, real = [], None

    async def scenario():
        async with broker() as far, at_work(configured(tmp_path, far.url)) as house:
            nonlocal real
            real, house.objects.accept = house.objects.accept, noted
            mark = restored_now(house)
            await connected(house)
            await put(house, 5)
            async with Platform(far.port, tmp_path / "platform.db") as platform:
                await platform.holds(5, within=90)
            assert came == [f"object {number}".encode() for number in range(3)]
            assert not mark.exists()
            assert "restored-unproved" not in await events(house)

    async def noted(raw, via):
        came.append(raw)
        return await real(raw, via)

    asyncio.run(scenario())


async def lived_in(house):
    """A dwelling with a consent to everything, and rows that wait on it."""
    asker = Caller("marie", None)
    since = stamp(house.clock.now())
    await CALLS["place.new"](house, asker, label="A-1", type="dwelling", since=since)
    agreed = {"recipient": RECIPIENT, "channels": ["elec.imp"], "purpose": "advice", "step": "1s"}
    await CALLS["consent.give"](house, asker, places=["A-1"], **agreed)
    (given,) = house.registry.consents()
    series = Series(
        given.place, "elec.imp", "REG", "kWh", 1, "45", given.occupancy, given.id
    )  # fmt: skip
    first = int(house.clock.now()) + 1
    rows = [Reading(series, first + n, Decimal(n), "V") for n in range(3)]
    recipient = house.recipients["centre"]
    await recipient.thread.run(recipient.spool.append, rows, {})
    recipient.delivery.stored()
    return given


def withdrawn(given):
    said = {"status": "withdrawn", "prev": given.id, "place": given.place, "sub": given.occupancy}
    about = {"iss": COLLECTOR.name, "jti": new_jti(NOW), "iat": NOW, "withdrawn_at": NOW}
    return COLLECTOR.sign("consent+jwt", about | said)


@pytest.mark.parametrize("since", ["withdrawn since", "nothing said since"])
def test_what_was_withdrawn_after_the_building_file_was_written_does_not_leave(tmp_path, since):
    """Rule D6."""
    (tmp_path / "objects").mkdir()

    async def scenario():
        async with broker() as far, at_work(believing(tmp_path, far.url)) as house:
            believe(house, COLLECTOR, "consent_collector")
            restored_now(house)
            given = await lived_in(house)
            await put(house, 5)
            if since == "withdrawn since":
                (tmp_path / "objects/1.jwt").write_bytes(withdrawn(given))
            async with Platform(far.port, tmp_path / "platform.db") as platform:
                await platform.holds(5 if since == "withdrawn since" else 8, within=90)
                await settled(house)
                return [one.place for one in rows(platform.db)].count(given.place)

    assert asyncio.run(scenario()) == (0 if since == "withdrawn since" else 3)


def test_over_https_the_end_of_the_list_is_the_proof(tmp_path):
    port = free_port()
    path = configured(tmp_path, "mqtt://127.0.0.1:9")
    text = path.read_text().replace("transport: mqtt", "transport: https")
    path.write_text(text.replace("mqtt://127.0.0.1:9", f"http://127.0.0.1:{port}"))

    async def scenario():
        async with at_work(path) as house:
            mark = restored_now(house)
            await put(house, 5)
            assert not house.recipients["centre"].outbox.ready()
            async with Serving(port, tmp_path / "platform.db") as platform:
                await platform.holds(5)
            assert not mark.exists()

    asyncio.run(scenario())
