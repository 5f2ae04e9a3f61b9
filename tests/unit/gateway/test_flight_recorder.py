"""The flight recorder: what it counts, how little it writes, and what no disk can do to it."""

import json
import logging
import os
import random
import threading
from collections import Counter
from types import SimpleNamespace

import pytest

from agent.core import atomic_write
from agent.core.atomic_write import DiskWriter
from agent.core.i18n import Text
from agent.core.log_fields import LogEvent, fields
from agent.core.storage import READ_ONLY, Storage
from agent.gateway import flight_recorder
from agent.gateway.flight_recorder import (
    CALLS,
    EARLY,
    FILE,
    HEADER,
    KINDS,
    LONGEST_NAME,
    MORE,
    MOST,
    MOST_LINES,
    OLDER,
    RECORDED,
    REFUSED,
    SIZE,
    START,
    STOP,
    FlightRecord,
    FlightRecorder,
    devices_hash,
    read,
)
from tests import disks
from tests.depth import LONG

log = logging.getLogger("agent.tests")
HOUR = 3_600
NOW = 1_795_000_000
DEVICES = {
    f"A-{n}-heat": SimpleNamespace(link="riser", profile="eastron-sdm120") for n in range(1, 301)
} | {"boiler": SimpleNamespace(link="plant", profile=None)}
OF_PEOPLE = ("METER_", "REPLACEMENT_", "EXPORT_", "WITHDRAWAL_", "LOOK_", "PAGE_", "INDEX_")
CONFIG = SimpleNamespace(devices=DEVICES)


class Bench:
    """A recorder on a clock of its own."""

    def __init__(self, folder):
        self.folder, self.up, self.wall = folder, 1_000.0, float(NOW)
        self.recorder = self.anew()

    def anew(self):
        self.recorder = FlightRecorder(self.folder, lambda: self.wall, lambda: self.up)
        return self.recorder

    def pass_(self, seconds):
        """Time passes; each hour the recorder is asked to write, as `serve` does."""
        while seconds > 0:
            step = min(seconds, HOUR - self.up % HOUR)
            self.up, self.wall, seconds = self.up + step, self.wall + step, seconds - step
            if not self.up % HOUR:
                self.write()

    def write(self):
        with self.recorder._lock:
            self.recorder._write_soon(self.recorder._up())
        settled()

    def killed(self):
        """The process is gone: whatever it does at its end is not done."""
        settled()
        self.recorder._records = False


def settled():
    DiskWriter.begin(lambda: None).result(60)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture(autouse=True)
def every_level():
    """As the daemon's log has them."""
    logger = logging.getLogger("agent")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(before)


def kinds(folder):
    return [record.kind for record in read(folder)]


def lose(line="riser"):
    log.warning("line lost", extra=fields(LogEvent.LINE_LOST, line=line))


def restore(line="riser"):
    log.warning("line open", extra=fields(LogEvent.LINE_RESTORED, line=line))


def silent(device, event=LogEvent.DEVICE_SILENT):
    line = DEVICES[device].link
    log.warning("%s is silent", device, extra=fields(event, device=device, line=line))


def test_a_life_has_a_start_what_happened_and_an_end(bench):
    with bench.recorder.recording(CONFIG):
        bench.pass_(60)
        lose()
        bench.pass_(5)
        restore()
        log.error("stepped", extra=fields(LogEvent.CLOCK_STEPPED, detail="-3600"))
        Storage(lambda: bench.wall).failed("registry", READ_ONLY)
        bench.recorder.called("status", refused=False)
        bench.recorder.called("place.new", refused=True)
        bench.recorder.note("control-started", "boiler")
    settled()
    start, *others, stop = read(bench.folder)
    assert (start.kind, start.life, start.at, start.up) == (START, 1, NOW, 1_000)
    assert (start.facts["after"], start.facts["new_boot"]) == ("", True)
    assert start.facts["devices"] == devices_hash(
        (d.link, d.profile or "") for d in DEVICES.values()
    )
    assert (stop.kind, stop.detail, stop.up) == (STOP, "", 1_065)
    assert {(r.kind, r.subject, r.detail) for r in others} == {
        ("line-lost", "riser", ""), ("line-restored", "riser", ""),
        ("clock-stepped", "", "-3600"), ("store-failed", "registry", "EROFS"),
        (CALLS, "", ""), (REFUSED, "", ""), ("control-started", "boiler", ""),
    }  # fmt: skip
    (calls,) = [r for r in others if r.kind == CALLS]
    assert calls.facts == {"status": 1, "place.new": 1}
    assert [r.up for r in others] == sorted(r.up for r in others)


def test_outside_its_block_and_without_a_folder_nothing_is_recorded(bench, tmp_path):
    lose()
    bench.recorder.called("status", refused=False)
    assert bench.recorder.unwritten() == []
    with FlightRecorder().recording(CONFIG) as nothing:
        nothing.called("status", refused=False)
        assert nothing.unwritten() == []
    assert not list(tmp_path.iterdir())


def test_events_about_meters_and_people_are_not_recorded(bench):
    """Rule U20."""
    assert not {event for event in RECORDED if event.name.startswith(OF_PEOPLE)}
    with bench.recorder.recording(CONFIG):
        for event in set(LogEvent) - set(RECORDED):
            if event != LogEvent.LOCK_LOST:
                log.warning("Mme Planteau", extra=fields(event, device="A-1-heat", line="riser"))
        log.warning("no event", extra=fields(line="riser"))
    assert kinds(bench.folder) == [START, STOP]


def test_neither_texts_nor_names_of_devices_are_on_the_disk(bench):
    """Rule U20."""
    draw = random.Random(7)
    with bench.recorder.recording(CONFIG):
        for event in RECORDED * 20:
            device = draw.choice(sorted(DEVICES))
            log.error(
                "%s of Mme Planteau shows %s", device, 4711.25,
                extra=fields(event, device=device, line=draw.choice(("", DEVICES[device].link))),
            )  # fmt: skip
        log.error("unknown", extra=fields(LogEvent.DEVICE_SILENT, device="A-9999", line="riser"))
        bench.recorder.note("control-aborted", "boiler")
        bench.pass_(HOUR)
        waiting = repr(bench.recorder.unwritten())
    settled()
    texts = (bench.folder / FILE).read_text() + waiting
    assert "device-silent" in texts
    for gone in ("A-", "heat", "boiler,", "Planteau", "4711"):
        assert gone not in texts


def test_devices_have_numbers_on_their_line_and_many_share_a_record(bench):
    with bench.recorder.recording(CONFIG):
        silent("A-7-heat")
        silent("boiler")
        bench.pass_(HOUR)
        for n in range(1, 251):
            silent(f"A-{n}-heat")
    settled()
    records = [r for r in read(bench.folder) if r.kind == "device-silent"]
    assert [(r.subject, r.devices) for r in records[:2]] == [
        ("riser", ((7, 7),)), ("plant", ((1, 1),))
    ]  # fmt: skip
    assert [r.devices for r in records[2:]] == [
        ((1, 1),), ((2, 2),), ((3, 3),), ((4, 4),), ((5, 250),)
    ]  # fmt: skip
    assert sum(r.count for r in records) == 252


def test_a_reload_renumbers_the_devices(bench):
    new = SimpleNamespace(devices={"B-1": SimpleNamespace(link="riser", profile=None)} | DEVICES)
    with bench.recorder.recording(CONFIG):
        bench.recorder.know(new)
        log.warning("reloaded", extra=fields(LogEvent.RELOADED))
        silent("A-1-heat")
    by_kind = {r.kind: r for r in read(bench.folder)}
    assert by_kind["device-silent"].devices == ((2, 2),)
    assert by_kind["reloaded"].detail != by_kind[START].facts["devices"]


def bytes_of(bench):
    return sum(file.stat().st_size for file in bench.folder.glob("flight*"))


def test_a_line_that_flaps_all_day_costs_about_a_kilobyte(bench):
    """Rule U20. Measured: 0.7 kB."""
    with bench.recorder.recording(CONFIG):
        bench.pass_(HOUR)
        before = bytes_of(bench)
        for _ in range(10_000):
            lose()
            restore()
            bench.pass_(8.64)
        day = bytes_of(bench) - before
    assert day < 1_200
    settled()
    records = read(bench.folder)
    assert sum(r.count for r in records if r.kind == "line-lost") == 10_000
    assert max(r.lasted for r in records) < 4 * HOUR + 1


def test_an_ordinary_day_costs_less_than_a_kilobyte(bench):
    """Measured: 0.6 kB: a scrape each 15 s, two calls of a person, a lost uplink, two devices."""
    with bench.recorder.recording(CONFIG):
        bench.pass_(HOUR)
        before = bytes_of(bench)
        for minute in range(24 * 60):
            for _ in range(4):
                bench.recorder.called("metrics", refused=False)
            if minute == 500:
                bench.recorder.called("status", refused=False)
                bench.recorder.called("place.list", refused=False)
                log.warning("lost", extra=fields(LogEvent.UPLINK_LOST, uplink="c", recipient="r"))
                silent("A-3-heat")
            if minute == 512:
                log.warning("op", extra=fields(LogEvent.UPLINK_RESTORED, uplink="c", recipient="r"))
                silent("A-3-heat", LogEvent.DEVICE_ANSWERS)
            bench.pass_(60)
        day = bytes_of(bench) - before
    assert day < 1_000


def test_a_million_events_take_bounded_memory_and_a_bounded_ring(bench):
    """Rule U20. A million of them with `make torture`."""
    draw, longest, kinds_ = random.Random(3), 0, [*KINDS.values()]
    with bench.recorder.recording(CONFIG):
        for n in range(1_000_000 if LONG else 200_000):
            kind = draw.choice(kinds_)
            bench.recorder.note(kind, f"{n % 5_000}" * 40, str(n % 7), n % 300)
            if not n % 500:
                bench.pass_(HOUR)
                longest = max(longest, len(bench.recorder._lines))
        assert len(bench.recorder._waiting) <= MOST + 1
        assert len(bench.recorder._recorded) <= MOST
    settled()
    assert longest <= MOST_LINES
    assert bytes_of(bench) <= 2 * SIZE
    records = read(bench.folder)
    assert MORE in {r.kind for r in records}
    assert max(len(r.subject) for r in records) == LONGEST_NAME


def test_the_ring_goes_on_in_a_second_file_and_numbers_of_lives_too(bench):
    for life in range(1, 40):
        with bench.anew().recording(CONFIG):
            for n in range(120):
                lose(f"line {n} {'x' * 60}")
            bench.pass_(HOUR)
        assert read(bench.folder)[-1].life == life
    settled()
    assert (bench.folder / OLDER).stat().st_size <= SIZE
    for name in (FILE, OLDER):
        assert (bench.folder / name).read_text().startswith(HEADER)
        assert (bench.folder / name).stat().st_mode & 0o777 == 0o600
    records = read(bench.folder)
    assert [(r.life, r.up) for r in records] == sorted((r.life, r.up) for r in records)


def test_how_the_last_life_ended_is_known_at_the_next_start(bench):
    with bench.recorder.recording(CONFIG):
        bench.pass_(2 * HOUR)
        lose()
    with bench.anew().recording(CONFIG):
        lose()
        bench.pass_(HOUR)
        bench.killed()
    bench.up = 5.0  # the machine was switched off and on
    with pytest.raises(ZeroDivisionError), bench.anew().recording(CONFIG):
        1 / 0  # noqa: B018
    starts = [r for r in read(bench.folder) if r.kind == START]
    assert [s.facts["after"] for s in starts] == ["", STOP, "end"]
    assert [s.life for s in starts] == [1, 2, 3]
    assert read(bench.folder)[-1].detail == "ZeroDivisionError"


def test_what_is_killed_loses_the_last_hour_and_no_more(bench):
    """Rule U20."""
    with bench.recorder.recording(CONFIG):
        lose("one")
        bench.pass_(HOUR)
        lose("two")
        bench.killed()
    settled()
    assert {r.subject for r in read(bench.folder)} == {"", "one"}


def test_an_agent_that_cannot_start_fills_no_ring(bench):
    for attempt in range(500):
        with bench.anew().recording(CONFIG):
            if attempt % 3:
                bench.killed()
        settled()
        bench.pass_(300)
    bench.pass_(2 * EARLY)
    with bench.anew().recording(CONFIG):
        lose()
    settled()
    assert bytes_of(bench) < 800
    loop, *_, last, _, _ = read(bench.folder)
    assert (loop.count, loop.lasted) == (500, 499 * 300)
    assert last.life == 501


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 5_000, b"something else\n", b"{}", HEADER.encode()[:-4], b"[1,2]\n" * 9_000,
        HEADER.replace("1]", "2]").encode() + b'[1,2,3,"start"]\n', os.urandom(300_000),
    ],
)  # fmt: skip
def test_a_foreign_file_is_no_error_and_is_replaced(bench, content):
    (bench.folder / FILE).write_bytes(content)
    with bench.recorder.recording(CONFIG):
        lose()
    assert kinds(bench.folder) == [START, "line-lost", STOP]


def test_devices_that_are_no_numbers_are_left_out(bench):
    line = '[1,2,3,"device-silent","heat","",1,0,[[Infinity,1]]]'
    (bench.folder / FILE).write_text(f"{HEADER}\n{line}\n", "ascii")
    assert not read(bench.folder)


@pytest.mark.parametrize("tear", range(1, 60, 3))
def test_a_torn_line_is_left_out_and_what_follows_is_whole(bench, tear):
    with bench.recorder.recording(CONFIG):
        lose()
    content = (bench.folder / FILE).read_bytes()
    for rest in (content[:-tear], content[:-tear] + bytes(tear)):
        (bench.folder / FILE).write_bytes(rest)
        with bench.anew().recording(CONFIG):
            restore()
        assert {START, "line-restored", STOP} <= set(kinds(bench.folder))
        assert read(bench.folder)[-1].life in (1, 2)


def test_a_long_torn_line_hides_nothing_that_is_written_later(bench):
    with bench.recorder.recording(CONFIG):
        lose()
    with (bench.folder / FILE).open("ab") as file:
        file.write(b"x" * 5_000)
    with bench.anew().recording(CONFIG):
        restore()
        bench.pass_(HOUR)
    assert kinds(bench.folder) == [START, "line-lost", STOP, START, "line-restored", STOP]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/full")])
def test_what_is_no_file_stops_nothing(bench, make):
    make(bench.folder / FILE)
    with bench.recorder.recording(CONFIG):
        lose()
        bench.pass_(2 * HOUR)
    assert read(bench.folder) == [] or kinds(bench.folder)[0] == START


def test_a_full_disk_loses_nothing_that_fits_into_memory(bench, monkeypatch):
    full = True

    def pwrite(handle, content, at, real=os.pwrite):
        return real(handle, content[: len(content) // 2] if full else content, at)

    with bench.recorder.recording(CONFIG):
        settled()
        monkeypatch.setattr(flight_recorder.os, "pwrite", pwrite)
        for hour in range(2_000):
            lose(str(hour))
            bench.pass_(HOUR)
        assert kinds(bench.folder) == [START]
        full = False
        bench.pass_(HOUR)
        records = read(bench.folder)
        assert len(records) == MOST_LINES + 1
        assert records[-1].subject == "1999"


def test_an_error_at_the_disk_does_not_cause_a_second_one(bench, caplog, monkeypatch):
    def refuses(*_):
        raise OSError(5, "no")

    with bench.recorder.recording(CONFIG):
        settled()
        monkeypatch.setattr(flight_recorder.os, "fsync", refuses)
        caplog.clear()
        for _ in range(50):
            lose()
            bench.pass_(HOUR)
    assert [r.levelname for r in caplog.records] == ["WARNING"] * 50


def test_an_urgent_event_is_written_early_but_not_again_and_again(bench):
    storage, sizes = Storage(lambda: bench.wall), set()
    with bench.recorder.recording(CONFIG):
        bench.pass_(EARLY)
        storage.failed("registry", READ_ONLY)
        settled()
        assert "store-failed" in kinds(bench.folder)
        for n in range(500):
            storage.failed("registry", Text("{n}", n=n))
            settled()
            sizes.add(bytes_of(bench))
        assert len(sizes) == 1


def test_a_state_that_was_lost_to_another_owner_is_not_written_to(bench):
    with bench.recorder.recording(CONFIG):
        settled()
        lose()
        log.error("lost", extra=fields(LogEvent.LOCK_LOST))
        (bench.folder / FILE).unlink()
    settled()
    assert not (bench.folder / FILE).exists()


def test_steps_of_the_wall_clock_change_no_order(bench):
    with bench.recorder.recording(CONFIG):
        for n, moved in enumerate((-86_400, 500_000, -1_000_000, 0)):
            bench.pass_(100)
            bench.wall += moved
            lose(str(n))
            bench.pass_(HOUR)
    records = [r for r in read(bench.folder) if r.kind == "line-lost"]
    assert [r.subject for r in records] == ["0", "1", "2", "3"]
    assert [r.at for r in records] != sorted(r.at for r in records)


def test_a_bug_in_the_recorder_stops_no_agent(bench, caplog):
    with bench.recorder.recording(SimpleNamespace()) as recorder:
        recorder.called("status", refused=False)
        lose()
    assert "not recorded" in caplog.text
    assert not list(bench.folder.iterdir())


def test_records_are_read_from_json_as_from_the_ring(bench):
    with bench.recorder.recording(CONFIG):
        settled()
        for n in range(1, 30, 2):
            silent(f"A-{n}-heat")
        bench.recorder.called("status", refused=True)
        assert len(bench.recorder.unwritten()) == 7
    for record in read(bench.folder):
        document = json.loads(json.dumps({"time": "x"} | record.document()))
        assert FlightRecord.of(document) == record
    with pytest.raises(ValueError, match="not a record"):
        FlightRecord.of({"life": "1"})


def test_threads_count_together(bench):
    def work():
        for _ in range(2_000):
            lose()
            bench.recorder.called("status", refused=False)

    with bench.recorder.recording(CONFIG):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    counts = Counter()
    for record in read(bench.folder):
        counts[record.kind] += record.count
    assert (counts["line-lost"], counts[CALLS]) == (8_000, 8_000)


@pytest.mark.skipif(not disks.available(), reason="mounting is for root")
def test_a_frozen_disk_blocks_nobody_and_its_records_come_later(monkeypatch):
    """Rule U20."""
    monkeypatch.setattr(atomic_write.DiskWriter, "patience", 0.3)
    with disks.disk() as disk:
        bench = Bench(disk.folder)
        with bench.recorder.recording(CONFIG):
            settled()
            disk.freeze()
            timer = threading.Timer(20, disk.thaw)
            timer.start()
            for hour in range(48):
                lose(str(hour))
                with bench.recorder._lock:
                    bench.recorder._write_soon(bench.recorder._up())
                bench.up += HOUR
            queued = DiskWriter._calls.qsize()
            assert disk.frozen
            timer.cancel()
            disk.thaw()
            settled()
            bench.pass_(2 * HOUR)
            assert queued <= 1
            assert {str(hour) for hour in range(48)} <= {r.subject for r in read(disk.folder)}


@pytest.mark.skipif(not disks.available(), reason="mounting is for root")
def test_a_disk_that_is_really_full_gets_its_records_once_there_is_room():
    with disks.disk() as disk:
        bench = Bench(disk.folder)
        with bench.recorder.recording(CONFIG):
            settled()
            disk.fill()
            for hour in range(200):
                lose(str(hour) + "x" * 90)
                bench.pass_(HOUR)
            (disk.folder / "hog").unlink()
            bench.pass_(HOUR)
        settled()
        assert len([r for r in read(disk.folder) if r.kind == "line-lost"]) == 200
