"""Batches that people carry on a stick while the network is away: every slot is stored once, though
sticks are lost, full, pulled out and read twice, and the network comes back meanwhile. Rule T39.
"""

import asyncio
import shutil
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from hil.ca import CA
from hil.process import Child, free_port
from hil.proof import prove
from hil.stage import RECIPIENT, stage
from tests import disks
from tests.depth import depth
from tests.system.test_receiver import Receiver, gateway_of

CERT = ("--cert", "{}/platform.pem", "--ca", "{}/fleet-ca.pem", "--workers", "1")
ENDINGS = {"https": ".json.zst.carried.p7m", "sftp": ".gz.p7m"}


class Platform:
    """`gardien-receiver` with a folder of its own, to which people copy what is on a stick."""

    def __init__(self, on):
        self.database, self.on = str(on.folder / "receiver.db"), on
        self.root = on.folder / "root"
        self.home = self.root / gateway_of(on)
        for folder in ("in", "out"):
            (self.home / folder).mkdir(parents=True)
        self.secure = [word.format(on.folder) for word in CERT]

    def running(self):
        """At work, on its folder."""
        run = (sys.executable, "-m", "receiver", "run", "--db", self.database)
        return Child((*run, "--files", str(self.root), "--every", "0.05", *self.secure), "ready")

    async def reads(self, stick):
        """Copy every whole file there, and what it answered to the stick."""
        self._copy(stick)
        async with asyncio.timeout(60):
            while whole(self.root):
                await asyncio.sleep(0.05)  # another process takes them
        (there,) = stick.glob("G*/out")
        shutil.copytree(self.home / "out", there, dirs_exist_ok=True)

    def _copy(self, stick):
        for path in whole(stick):
            part = Path(shutil.copy(path, self.home / "in" / f"{path.name}.part"))
            part.rename(part.with_suffix(""))

    def rows(self):
        return Receiver(self.database).rows()


def whole(stick):
    return [path for path in stick.glob("G*/in/*") if path.suffix != ".part"]


async def carry(on, stick):
    """What the command answers, or what it says if it fails."""
    try:
        return await on.command("uplink", "carry", "metropole", str(stick))
    except RuntimeError as error:
        return str(error)


async def more(on, values=4):
    """Wait until further readings wait."""
    before = await on.backlog()
    async with asyncio.timeout(60):
        while (await on.backlog() or 0) < (before or 0) + values:
            await asyncio.sleep(0.1)


def fitted(on, transport):
    """Who may open what is on a stick; the receiver's key."""
    text = on.config.read_text(encoding="utf-8")
    if transport == "https":
        own = CA("Readers").server(on.folder, uses=())
        shutil.copy(own, on.folder / "platform.pem")
        text = text.replace("seal: 1s}", f"seal: 1s, carry_for: [{on.folder}/platform.pem]}}")
    on.config.write_text(text, encoding="utf-8")


@pytest.mark.timeout(200)
@pytest.mark.skipif(not disks.available(), reason="it mounts a stick: run it as root")
@pytest.mark.parametrize("transport", ["https", *depth([], ["sftp"])])
def test_every_slot_is_stored_once_whatever_becomes_of_the_sticks(tmp_path, transport):  # noqa: PLR0915
    lost, good = tmp_path / "lost", tmp_path / "good"
    lost.mkdir()
    good.mkdir()

    async def scenario():
        size = {"lines": 1, "meters": 4, "without_consent": 1}
        async with stage(tmp_path, transport=transport, **size) as on, AsyncExitStack() as stack:
            fitted(on, transport)
            platform = Platform(on)
            await stack.enter_async_context(platform.running())
            await on.platform.stop()
            if transport == "sftp":
                await on.broker.stop()
            await on.start_agent()
            await more(on)
            await refuses_a_link(on, tmp_path / "linked")
            first = await carry(on, lost)
            assert first["rows"] >= 4
            assert all(path.name.endswith(ENDINGS[transport]) for path in whole(lost))
            assert RECIPIENT.encode() not in b"".join(path.read_bytes() for path in whole(lost))
            with disks.disk() as stick:
                await troubled(on, stick)
                await platform.reads(stick.folder)
                settled = await carry(on, stick.folder)
                assert settled["settled"] >= 2
            # a withdrawal, after its rows are on a stick that nobody has read
            await more(on)
            await carry(on, good)
            gone = next(one for one in on.dwellings if one.consents)
            shutil.copytree(good, tmp_path / "copy")
            await on.command("consent", "withdraw", gone.label, "--recipient", RECIPIENT)
            await platform.reads(tmp_path / "copy")
            held = [row for row in platform.rows() if row.place == gone.place]
            assert held
            (there,), (here,) = good.glob("G*/out"), (tmp_path / "copy").glob("G*/out")
            shutil.copytree(here, there, dirs_exist_ok=True)
            await carry(on, good)
            await platform.reads(good)
            assert [row for row in platform.rows() if row.place == gone.place] == []
            # the one that was lost is found, and read after all
            await platform.reads(lost)
            assert [row for row in platform.rows() if row.place == gone.place] == []
            # the network is back before the stick is
            await more(on)
            await carry(on, good)
            shutil.copytree(good, tmp_path / "late")
            port = await back(on, platform, transport)
            async with port:
                await emptied(on)
                last = int(time.time())
                await platform.reads(tmp_path / "late")
                answer = await carry(on, tmp_path / "late")
                assert answer["refused"] == []
                async with asyncio.timeout(100):
                    while (verdict := judged(on, platform, last, gone)).missing:
                        await asyncio.sleep(0.3)
                assert await on.stop_agent() == 0
            return verdict

    verdict = asyncio.run(scenario())
    print(verdict.line())
    assert verdict.proved, verdict.line() + "\n" + "\n".join(verdict.findings)


async def refuses_a_link(on, stick):
    """Root would follow it, off the stick."""
    stick.mkdir()
    (stick / gateway_of(on)).symlink_to(on.state)
    assert "is a link: remove it" in await carry(on, stick)
    assert not (on.state / "in").exists()


def judged(on, platform, last, gone):
    """Of all who consent still, up to a slot."""
    evidence = on.evidence(last)
    kept = {place: one for place, one in evidence.consented.items() if place != gone.place}
    return prove(replace(evidence, rows=platform.rows(), consented=kept))


async def troubled(on, stick):
    """A stick that is full, then one that is pulled out, then one that is well."""
    stick.fill()
    said = await carry(on, stick.folder)
    assert "has it room?" in said
    (stick.folder / "hog").unlink()
    await more(on)
    assert (await carry(on, stick.folder))["problem"] == ""
    stick.fill()
    await more(on)
    said = await carry(on, stick.folder)
    assert "batches are on the stick" in said
    assert "no space left" in said
    assert whole(stick.folder)
    (stick.folder / "hog").unlink()
    stick.fails()
    assert "mounted?" in await carry(on, stick.folder)
    stick.recover()
    assert (await carry(on, stick.folder))["problem"] == ""


async def back(on, platform, transport):
    """The network, and a receiver at its other end."""
    run = (sys.executable, "-m", "receiver", "run", "--db", platform.database)
    if transport == "sftp":
        await on.broker.start()
        root = ("--files", str(on.broker.root), "--every", "0.1")
        return Child((*run, *root, *platform.secure), "ready")
    readers = (on.folder / "platform.pem").read_bytes()
    (own,) = (path for path in on.folder.glob("server-*.pem") if path.read_bytes() != readers)
    port = free_port()
    on.cut.target = port
    secure = ("--cert", str(own), "--ca", f"{on.folder}/fleet-ca.pem")
    return Child((*run, "--https", f"127.0.0.1:{port}", *secure), "ready")


async def emptied(on):
    """Nothing is unreceipted but what has just been read."""
    async with asyncio.timeout(100):
        while (await on.backlog() or 99) > 12:
            await asyncio.sleep(0.2)
