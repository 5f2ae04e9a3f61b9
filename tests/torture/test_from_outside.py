"""The installed program, judged from outside: equipment is released and rows come exactly once,
whatever kills the program, the power or the disk. What is shown, and how: README.md.

Guards rules G1, G2, G5, G6. The short form is one kill and one power cut; the long form is
`make torture`.
"""

import random
import threading
import time
from pathlib import Path

import pytest

from tests.depth import LONG

from .gateway import GIVEN_BACK_WITHIN, UNWRITTEN, available, f2fs
from .site import site

PARTS, KILLS, CUTS = 4, 250, 25
"""each part has a building of its own"""
HOLDS_END_WITHIN = {"read_only": 60.0, "eio": 60.0, "freeze": 120.0}
"""seconds (docs/control.md, When the disk fails)"""
ANSWERS = 10.0
"""seconds that the devices may take to answer a give-back, on a busy machine"""
NOTICED = 12.0
"""seconds: a disk that stands still is known to fail after 10, and readings go elsewhere then"""
RECOVERS = 150.0
"""seconds: the disk is tried once a minute, and an order comes after that"""

pytestmark = pytest.mark.skipif(not available(), reason="needs root, mounts and loop devices")
long_form = pytest.mark.skipif(not LONG, reason="long: GARDIEN_TORTURE=1")


def finish(here, *more):
    last = here.caught_up()
    verdict = here.judge(last)
    print(*more, verdict, sep="\n")
    assert here.gardien.end() == 0
    assert not any(here.equipment.held.values()), here.equipment.held
    verdict.clean()
    return verdict


def shifted(dice, here):
    """Who is away from now on: nobody, everybody, or one."""
    here.away(dice.choice(((), (), here.platforms, here.platforms, (dice.choice(here.platforms),))))


def test_a_kill_and_a_power_cut_leave_no_equipment_held_and_no_row_lost_or_doubled(tmp_path):
    with site(tmp_path) as here:
        here.hold()
        died = here.gardien.kill()
        here.gardien.stopped_post()
        here.given_back(died, GIVEN_BACK_WITHIN)
        here.gardien.start()
        here.hold()
        here.away(here.platforms)
        here.gardien.power_goes()
        here.gardien.machine.boot()
        here.gardien.start()
        here.given_back(time.monotonic(), GIVEN_BACK_WITHIN)
        finish(here)


@long_form
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
def test_kills_at_random_moments(tmp_path, part):
    dice, took, held, twice = random.Random(part), [], 0, 0
    with site(tmp_path) as here:
        for kill in range(KILLS):
            if kill % 50 == 49:
                print(kill + 1, "kills", flush=True)
            if kill % 10 == 0:
                shifted(dice, here)
            if dice.random() < 0.85:
                here.hold()
                time.sleep(dice.random())  # the moment of a kill is what is drawn
            else:
                time.sleep(3 * dice.random())
            held += all(here.equipment.held.values())
            died = here.gardien.kill()
            if dice.random() < 0.05:  # who gives back is killed, too: the next start does it
                here.gardien.stopped_post(dice.random())
                here.gardien.start()
                died, twice = time.monotonic(), twice + 1
                took.append(here.given_back(died, GIVEN_BACK_WITHIN))
                continue
            here.gardien.stopped_post()
            took.append(here.given_back(died, GIVEN_BACK_WITHIN))
            here.gardien.start()
        finish(
            here, f"{KILLS} kills, {held} with both held, {twice} times the releaser too,"
            f" released after {max(took):.1f} s at most",
        )  # fmt: skip


@long_form
def test_a_write_that_a_busy_gateway_carries_out_after_the_death_is_given_back(tmp_path):
    with site(tmp_path) as here:
        arrived, carried_out, answer = threading.Event(), threading.Event(), here.equipment.modbus

        def late(unit, pdu):
            if pdu[0] != 3 and not arrived.is_set():
                arrived.set()
                carried_out.wait(30)
            return answer(unit, pdu)

        here.equipment.modbus = late
        here.platforms[0].order(here.people.order(here.audience, ("boiler",), 600))
        assert arrived.wait(30)
        died = here.gardien.kill()
        threading.Timer(2.0, carried_out.set).start()
        here.gardien.stopped_post()
        assert carried_out.is_set()
        here.given_back(died, GIVEN_BACK_WITHIN)
        assert here.equipment.writes[-1][1:] == ("modbus", False)
        here.gardien.start()
        finish(here)


@long_form
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("file_system", ["ext4", "f2fs"])
def test_power_cuts_at_random_moments(tmp_path, file_system, part):
    if file_system == "f2fs" and not f2fs():
        pytest.skip("untested: this kernel has no f2fs, or there is no mkfs.f2fs")
    dice, took, held = random.Random(part), [], 0
    with site(tmp_path, file_system=file_system) as here:
        for cut in range(CUTS):
            if cut % 5 == 0:
                shifted(dice, here)
            if dice.random() < 0.8:
                here.hold()
            time.sleep(2 * dice.random())
            held += all(here.equipment.held.values())
            here.gardien.power_goes()
            here.gardien.machine.boot()
            here.gardien.start()
            if cut == CUTS - 1 or dice.random() < 0.8:  # else the power goes again, at once
                took.append(here.given_back(time.monotonic(), GIVEN_BACK_WITHIN))
        finish(
            here, f"{CUTS} cuts of {file_system}, {held} with both held,"
            f" released {max(took):.1f} s after the next start at most",
        )  # fmt: skip


class Disk:
    """One way to fail, and to recover from it."""

    def __init__(self, here, way):
        self.here, self.way, self.machine = here, way, here.gardien.machine
        self.began = 0.0

    def fails(self):
        self.began = time.monotonic()
        if self.way == "eio":
            self.switch(1)
        else:
            getattr(self.machine, self.way)()

    def switch(self, state):
        with Path(self.here.gardien.environment["BROKEN"]).open("r+b") as file:
            file.write(bytes((state,)))

    def recovers(self):
        """It is well again, the program runs, and only a read-only one had to be ended for it."""
        if self.way == "fill":
            self.machine.empty()
        elif self.way == "eio":
            self.switch(0)
        elif self.way == "freeze":
            self.machine.thaw()
        else:
            if self.here.gardien.process.poll() is None:
                self.here.gardien.kill()
                self.here.gardien.stopped_post()
            self.machine.eject(repair=True)
            self.machine.insert()
            self.here.gardien.start()


@long_form
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("way", ["fill", "read_only", "eio", "freeze"])
def test_a_disk_that_fails_holds_no_equipment_and_loses_no_row(tmp_path, way):
    with site(tmp_path, eio=way == "eio") as here:
        disk, gardien, took = Disk(here, way), here.gardien, {}
        # it fails while all are connected
        here.hold(seconds=30 if way == "fill" else 600)
        disk.fails()
        within = HOLDS_END_WITHIN.get(way, 30.0) + ANSWERS
        took["while it fails"] = here.given_back(disk.began, within)
        if way == "fill":
            here.hold()  # others begin
        here.delivers()
        # and while all are away
        here.away(here.platforms)
        time.sleep(8)  # so many readings wait
        here.away(())
        here.delivers()
        if way != "freeze":  # there nothing that was killed can end
            died = gardien.kill()
            gardien.stopped_post()
            took["killed while it fails"] = here.given_back(died, GIVEN_BACK_WITHIN)
            gardien.start()
            here.delivers()
        disk.recovers()
        here.hold(within=RECOVERS)
        here.delivers()
        # killed as soon as it fails, with everybody away
        here.away(here.platforms)
        disk.fails()
        died = gardien.kill(memory=NOTICED if way == "freeze" else UNWRITTEN, patience=1.0)
        gardien.stopped_post()
        took["killed at once"] = here.given_back(died, GIVEN_BACK_WITHIN)
        disk.recovers()
        if way != "read_only":
            gardien.process.wait(20)
            gardien.start()
        verdict = finish(here, f"{way}: released after (s) {took}")
        assert bool(verdict.counts["in memory"]) == (way != "fill")


@long_form
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("way", ["read_only", "eio", "freeze"])
def test_power_that_goes_while_the_disk_fails_takes_only_what_was_read_since(tmp_path, way):
    with site(tmp_path, eio=way == "eio") as here:
        disk, gardien = Disk(here, way), here.gardien
        here.hold()
        disk.fails()
        here.delivers()
        here.away(here.platforms)
        time.sleep(15)  # so many readings are in memory alone
        gardien.power_goes(memory=time.monotonic() - disk.began + UNWRITTEN)
        if way == "eio":
            disk.switch(0)
        gardien.machine.boot()
        gardien.start()
        took = here.given_back(time.monotonic(), GIVEN_BACK_WITHIN)
        verdict = finish(here, f"{way} and a power cut: released after {took:.1f} s")
        assert verdict.counts["read, and gone with the memory"]
