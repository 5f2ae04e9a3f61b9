"""Guards rule G3 on the disk: what a withdrawal takes lies in no file of the state directory
afterwards, not even sealed, while the real agent goes on working for the other dwelling. Rule P16.
"""

import asyncio
import shutil
import signal
import sqlite3
import time
from contextlib import closing, contextmanager

import pytest

from hil.broker import broker
from hil.platform.child import Platform
from hil.platform.report import rows
from tests.system.test_daemon import House
from tests.system.test_withdrawal import CONFIG, building
from tests.waiting import wait_until

__all__ = ["building"]

LENGTH = 24
"""bytes: long enough that none is met by chance"""


def chunks(body):
    """Pieces that every copy of most of a body holds one of, whatever page it ends on."""
    return {body[at : at + LENGTH] for at in range(0, len(body) - LENGTH + 1, 200)}


@contextmanager
def standing_still(daemon):
    """The agent stopped in whatever it does, so that its files are of one moment."""
    daemon.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.send_signal(signal.SIGCONT)


def on_disk(state):
    return b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())


def sealed(state, folder):
    """Pieces of every body and key that the spool holds, its log included."""
    copy = folder / f"copy-{time.monotonic_ns()}"
    copy.mkdir()
    (spool,) = state.glob("spool-*.db")
    for path in state.glob(f"{spool.name}*"):
        shutil.copy(path, copy / path.name)
    found = set()
    with closing(sqlite3.connect(copy / spool.name)) as db:
        for table, column in (("block", "body"), ("batch", "body"), ("aside", "body")):
            for (body,) in db.execute(f"SELECT {column} FROM {table}"):
                found |= chunks(body)
        found |= {key for (key,) in db.execute("SELECT key FROM owner")}
    shutil.rmtree(copy)
    return found


@pytest.mark.timeout(400)
def test_the_bytes_of_a_purged_dwelling_are_in_no_file_of_the_state_directory(tmp_path, building):
    async def scenario():
        async with broker() as at, Platform(at.port, tmp_path / "platform.db") as platform:
            await asyncio.to_thread(life, at.url, platform)

    def life(url, platform):
        house = House(tmp_path, building["port"])
        house.config.write_text(CONFIG.format(port=building["port"], state=house.state, url=url))
        house("key", "new")
        for n in (1, 2):
            house("place", "new", f"A-{n}", "--since", "2026-01-01")
            house("meter", "assign", f"m-{n}", f"A-{n}")
            house(
                "consent", "give", f"A-{n}", "--recipient", "centre.example", "--channel",
                "elec.imp", "--purpose", "advice", "--step", "1s",
            )  # fmt: skip
        daemon = house.up()
        try:
            wait_until(lambda: len({row.place for row in rows(platform.db)}) == 2, within=120)
            platform.freeze()
            time.sleep(4)  # some batches are kept, some have no receipt, some rows wait
            with standing_still(daemon):
                before, lay = sealed(house.state, tmp_path), on_disk(house.state)
            assert len(before) > 5
            assert all(piece in lay for piece in before)
            house("consent", "withdraw", "A-1")
            with standing_still(daemon):
                after, lies = sealed(house.state, tmp_path), on_disk(house.state)
            assert [piece for piece in before - after if piece in lies] == []
            assert before - after, "all that was sealed held something of both"
            platform.thaw()
            marks = {row.place: row.t for row in rows(platform.db)}
            wait_until(
                lambda: any(row.t > max(marks.values()) + 5 for row in rows(platform.db)), 120
            )
        finally:
            for one in house.daemons:
                one.kill()
                one.wait()

    asyncio.run(scenario())
