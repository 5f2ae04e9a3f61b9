"""The clock of a gateway in its first minutes, after a boot, and when somebody moves it."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.clock import (
    BUILT,
    DAY,
    SLACK,
    Clock,
    ClockEvidence,
    ClockTrust,
    Memory,
    boot_id,
    evidence,
    judge,
    look,
    rtc,
    stamp,
)
from agent.core.errors import Refused
from tests.waiting import until

NOW = 1_795_500_000.0


class Machine:
    """A wall clock, a monotonic one and a time service, all in the test's hands."""

    def __init__(self, wall=NOW, up=100.0):
        self.wall, self.up = wall, up
        self.kernel, self.touched, self.rtc = False, None, None

    def clock(self, file=None, source="ntp", boot="boot", notes=None):
        return Clock(
            source,
            file,
            lambda: self.wall,
            lambda: self.up,
            lambda: ClockEvidence(self.kernel, self.touched),
            lambda: self.rtc,
            lambda: boot,
            notes=notes,
        )

    def passes(self, seconds):
        self.wall += seconds
        self.up += seconds

    def synchronizes(self, wall):
        self.wall = wall
        self.touched = int(wall * 1e9)


def test_nothing_is_dated_before_a_time_service_keeps_the_clock():
    machine = Machine(wall=3600.0)
    clock = machine.clock()
    assert clock.trust is ClockTrust.UNTRUSTED
    assert not clock.dates
    machine.kernel = True
    machine.wall = NOW
    assert clock.trust is ClockTrust.TRUSTED
    assert clock.dates
    assert clock.distrust_reason == ""


def test_timesyncds_file_alone_is_enough_where_the_kernel_cannot_be_asked():
    machine = Machine()
    clock = machine.clock()
    assert clock.trust is ClockTrust.UNTRUSTED
    machine.synchronizes(NOW)
    assert clock.trust is ClockTrust.TRUSTED


@pytest.mark.parametrize("by", [14, -14, 7 * DAY])
def test_a_file_that_was_touched_shortly_before_a_step_says_nothing_of_the_clock(tmp_path, by):
    """Rule C8: nobody has looked between the two."""
    machine, file = Machine(up=5000.0), tmp_path / "clock.json"
    clock = machine.clock(file)
    machine.synchronizes(NOW)
    assert clock.dates
    machine.passes(40)
    assert clock.dates
    machine.passes(2)
    machine.synchronizes(machine.wall)
    machine.passes(5)
    machine.wall += by
    assert not clock.dates
    machine.passes(60)
    assert not clock.dates
    clock.remember()
    assert not machine.clock(file).dates
    clock.take_signed_time(machine.wall)
    assert not clock.agreed  # no time service keeps it
    machine.synchronizes(NOW + 107)
    assert clock.dates


def test_a_synchronization_of_this_boot_before_our_start_counts():
    machine = Machine(up=5000.0)
    machine.touched = int((NOW - 4000) * 1e9)
    assert machine.clock().trust is ClockTrust.TRUSTED


@pytest.mark.parametrize("seen_by_an_earlier_process", [False, True])
def test_a_synchronization_before_a_step_does_not_count_after_a_restart(
    tmp_path, seen_by_an_earlier_process
):
    """Rule C8: the kernel forgets that the clock is kept, timesyncd's file stays as it was."""
    machine, file = Machine(up=5000.0), tmp_path / "clock.json"
    machine.synchronizes(NOW)
    clock = machine.clock(file)
    assert clock.dates
    clock.remember()
    machine.passes(60)
    machine.wall -= 14
    if seen_by_an_earlier_process:
        clock = machine.clock(file)
        assert not clock.dates
        clock.remember()
    clock = machine.clock(file)
    assert not clock.dates
    # nor does it agree with signed time, which may differ by 120 s (rule C4)
    assert clock.take_signed_time(machine.wall + 14) == "the clock agrees"
    assert clock.dates
    assert not clock.agreed


def test_a_step_between_two_processes_counts_also_if_the_disk_records_nothing(tmp_path):
    """Rule C8. Notes that are not on the disk are of their boot only."""
    machine, file = Machine(up=5000.0), tmp_path / "no folder" / "clock.json"
    notes = tmp_path / "notes.json"
    machine.synchronizes(NOW)
    clock = machine.clock(file, notes=notes)
    assert clock.dates
    clock.remember()
    machine.passes(60)
    assert machine.clock(file, notes=notes).dates
    machine.wall -= 127
    clock = machine.clock(file, notes=notes)
    assert not clock.dates
    assert [round(moved) for moved in clock.steps] == [-127]
    machine.passes(60)
    machine.synchronizes(machine.wall + 127)
    assert clock.dates
    assert not machine.clock(file, boot="next", notes=notes).steps


def test_notes_of_the_clock_go_once_the_disk_records_again(tmp_path):
    machine, file = Machine(up=5000.0), tmp_path / "no folder" / "clock.json"
    notes = tmp_path / "notes.json"
    machine.synchronizes(NOW)
    clock = machine.clock(file, notes=notes)
    assert clock.dates
    clock.remember()
    assert notes.exists()
    file.parent.mkdir()
    clock.remember()
    assert not notes.exists()
    assert machine.clock(file, notes=notes).dates


def test_a_synchronization_at_an_unknown_side_of_a_step_does_not_count_after_a_restart(tmp_path):
    """Rule C8: a time service set the clock while no process looked, and it stepped again."""
    machine, file = Machine(up=5000.0), tmp_path / "clock.json"
    machine.synchronizes(NOW)
    clock = machine.clock(file)
    assert clock.dates
    machine.passes(60)
    machine.wall += 142
    assert not clock.dates
    clock.remember()
    machine.passes(60)
    machine.synchronizes(machine.wall - 142)
    machine.passes(60)
    machine.wall -= 14
    clock = machine.clock(file)
    assert not clock.dates
    machine.passes(60)
    machine.synchronizes(machine.wall + 14)
    assert clock.dates


def test_a_file_older_than_this_boot_counts_for_nothing():
    machine = Machine(up=50.0)
    machine.touched = int((NOW - 4000) * 1e9)
    assert machine.clock().trust is ClockTrust.UNTRUSTED


def test_without_the_time_service_it_is_trusted_a_day_and_held_over_a_week():
    """Rule C7."""
    machine = Machine()
    machine.kernel = True
    clock = machine.clock()
    assert clock.trust is ClockTrust.TRUSTED
    machine.kernel = False
    for seconds, trust in ((DAY - 1, "trusted"), (2, "holdover"), (6 * DAY, "untrusted")):
        machine.passes(seconds)
        assert clock.trust == trust
        assert clock.dates is (trust != "untrusted")


def test_a_step_that_nobody_vouches_for_takes_the_trust_away():
    """Rule C8."""
    for hours in (2, -2, 24 * 3650):
        machine = Machine()
        machine.kernel = True
        clock = machine.clock()
        assert clock.dates
        machine.kernel = False  # the kernel forgets when somebody sets the clock
        machine.wall += hours * 3600
        assert not clock.dates
        machine.passes(3600)
        assert not clock.dates
        machine.synchronizes(NOW + 3600)
        assert clock.dates
        assert [round(step) for step in clock.steps] == [hours * 3600, -hours * 3600]


def test_after_a_step_that_only_an_rtc_confirms_the_clock_is_held_over_and_dates_nothing():
    """Rules C7, C8, C10."""
    machine = Machine()
    machine.kernel = True
    clock = machine.clock()
    assert clock.dates
    machine.kernel = False
    machine.wall += 3600
    machine.rtc = machine.wall
    assert clock.trust is ClockTrust.HOLDOVER
    assert not clock.dates
    machine.rtc = None
    assert clock.trust is ClockTrust.UNTRUSTED


def test_a_step_of_the_time_service_itself_is_believed():
    """Rule C8."""
    machine = Machine()
    machine.kernel = True
    clock = machine.clock()
    assert clock.dates
    machine.wall += 3600
    assert clock.dates
    assert len(clock.steps) == 1


def test_no_time_before_the_last_proved_one_is_believed_whoever_says_so(tmp_path):
    """Rule C9."""
    machine = Machine()
    machine.kernel = True
    clock = machine.clock(tmp_path / "clock.json")
    assert clock.dates
    clock.remember()
    later = Machine(wall=NOW - 3600)
    later.kernel = True
    again = later.clock(tmp_path / "clock.json")
    assert again.trust is ClockTrust.UNTRUSTED
    assert stamp(NOW) in again.distrust_reason


def test_a_version_does_not_believe_a_time_before_it_was_made():
    """Rule C9."""
    machine = Machine(wall=BUILT - 2 * SLACK)
    machine.kernel = True
    assert machine.clock().trust is ClockTrust.UNTRUSTED


def test_a_restart_in_the_same_boot_goes_on_with_what_was_proved(tmp_path):
    machine = Machine()
    machine.kernel = True
    clock = machine.clock(tmp_path / "clock.json")
    assert clock.dates
    clock.remember()
    machine.kernel = False
    machine.passes(600)
    assert machine.clock(tmp_path / "clock.json").dates
    machine.wall += 7200  # moved while the agent was down
    assert not machine.clock(tmp_path / "clock.json").dates


def test_after_a_boot_an_rtc_is_held_over_but_dates_no_reading(tmp_path):
    """Rules C7, C10."""
    machine = Machine()
    machine.kernel = True
    clock = machine.clock(tmp_path / "clock.json")
    assert clock.dates
    clock.remember()
    known = json.loads((tmp_path / "clock.json").read_text())
    (tmp_path / "clock.json").write_text(json.dumps(known | {"boot": "another"}))
    booted = Machine(wall=NOW + 3600, up=20.0)
    for says, trust in ((NOW + 3601, "holdover"), (NOW - 3600, "untrusted"), (None, "untrusted")):
        booted.rtc = says
        again = booted.clock(tmp_path / "clock.json")
        assert again.trust == trust
        assert not again.dates


def test_a_memory_that_is_damaged_is_no_memory(tmp_path):
    for text in ("", "{}", '{"boot": 1}', "[1, 2", '{"boot":"x","proved":1,"apart":2,"floor":"x"}'):
        (tmp_path / "clock.json").write_text(text)
        assert Machine().clock(tmp_path / "clock.json").trust is ClockTrust.UNTRUSTED


def test_the_clock_of_a_demonstration_is_believed_as_it_is():
    machine = Machine(wall=5.0)
    clock = machine.clock(source="system")
    assert clock.dates
    machine.wall += 100
    assert clock.dates
    clock.look()
    assert [round(step) for step in clock.steps] == [100]


def test_what_is_remembered_is_written_while_it_serves(tmp_path):
    machine = Machine()
    machine.kernel = True
    clock = machine.clock(tmp_path / "clock.json")

    async def a_moment():
        serving = asyncio.ensure_future(clock.serve())
        await until((tmp_path / "clock.json").exists)
        serving.cancel()

    asyncio.run(a_moment())
    assert json.loads((tmp_path / "clock.json").read_text())["floor"] == NOW


def test_this_machine_can_be_asked():
    found = evidence()
    assert isinstance(found.kernel, bool)
    assert boot_id()


def test_in_the_sandbox_the_unit_states_the_boot(tmp_path, monkeypatch):
    stated = boot_id()
    monkeypatch.setenv("GARDIEN_BOOT", stated)
    assert boot_id(tmp_path / "hidden") == stated
    monkeypatch.setenv("GARDIEN_BOOT", "another")
    assert boot_id() == stated
    assert rtc() is None or rtc() > 0


moments = st.floats(0, 4e9, allow_nan=False)


@given(moments, moments, st.none() | moments, st.none() | moments, st.none() | moments)
def test_no_clock_before_its_floor_is_trusted(wall, steady, proved, before, rtc_says):
    now = look(Memory("b", before, wall - steady, NOW), wall, steady, proved)
    assert now.floor >= NOW
    if wall < NOW - SLACK:
        assert judge(now, wall, steady, rtc_says) is ClockTrust.UNTRUSTED


def test_a_step_and_its_reversal_set_the_floor_back_also_after_a_restart_in_the_same_boot(tmp_path):
    machine, file = Machine(), tmp_path / "clock.json"
    machine.kernel = True
    clock = machine.clock(file)
    assert clock.dates
    machine.wall += DAY
    assert clock.dates
    clock.remember()
    machine.passes(600)
    machine.wall -= DAY
    clock = machine.clock(file)
    assert clock.trust is ClockTrust.TRUSTED
    assert clock.floor == machine.wall
    assert [round(by) for _, by in clock.history.steps] == [DAY, -DAY]


def test_after_a_boot_the_floor_falls_only_where_two_agree(tmp_path):
    """Rule C9."""
    machine, file = Machine(), tmp_path / "clock.json"
    machine.synchronizes(NOW + DAY)
    clock = machine.clock(file, boot="first")
    machine.passes(1)
    machine.synchronizes(machine.wall)
    assert clock.dates
    clock.remember()
    machine.up = 50.0
    machine.synchronizes(NOW)
    clock = machine.clock(file, boot="second")
    assert clock.trust is ClockTrust.UNTRUSTED
    assert not clock.agreed
    # timesyncd's file is all that the package's sandbox shows
    assert clock.take_signed_time(NOW) == "the clock agrees"
    assert clock.agreed
    assert clock.trust is ClockTrust.TRUSTED
    assert clock.floor == NOW
    machine.passes(1)
    machine.wall += 3600
    assert clock.trust is ClockTrust.UNTRUSTED
    assert not clock.agreed


@pytest.mark.parametrize("restarts", ["never", "after the step", "after signed time"])
def test_what_a_time_service_has_set_before_a_step_agrees_with_nothing_after_it(tmp_path, restarts):
    """Rule C4: signed time may differ by 120 s, so alone it proves no earlier period wrong."""
    machine, file = Machine(), tmp_path / "clock.json"
    clock = machine.clock(file)
    clock.look()
    machine.passes(1)
    machine.synchronizes(machine.wall)
    assert clock.dates
    clock.remember()
    machine.passes(60)
    machine.wall += 14
    if restarts == "after the step":
        clock = machine.clock(file)
    assert clock.take_signed_time(machine.wall - 14) == "the clock agrees"
    assert clock.dates
    assert not clock.agreed
    machine.passes(60)
    if restarts == "after signed time":
        clock = machine.clock(file)
        assert clock.dates
        assert clock.take_signed_time(machine.wall - 14) == "the clock agrees"
        assert not clock.agreed
    machine.synchronizes(machine.wall)
    clock.take_signed_time(machine.wall)
    assert clock.agreed


def test_a_signed_time_is_of_when_it_arrived(tmp_path):
    """Rule C13: a clock that is behind does not come to agree with one that waits."""
    machine = Machine()
    clock = machine.clock(tmp_path / "clock.json")
    clock.look()
    arrived = machine.wall + 200
    assert "200 s off" in clock.take_signed_time(arrived)
    machine.passes(120)
    assert "200 s off" in clock.take_signed_time(arrived, waited=120.0)
    assert not clock.dates
    assert clock.take_signed_time(machine.wall - 300, waited=300.0) == "the clock agrees"
    assert clock.dates


def test_nothing_is_destroyed_for_its_age_for_a_day_after_a_vouched_clock_was_set_years_ahead():
    """Rule C14."""
    machine = Machine(wall=3600.0)
    clock = machine.clock()
    machine.kernel = True
    machine.wall = NOW
    assert clock.trust is ClockTrust.TRUSTED
    assert clock.ages  # it woke up in 1970, and nobody had vouched for that
    machine.wall += 3653 * DAY
    clock.look()
    assert not clock.ages
    machine.passes(DAY + 1)
    assert clock.ages


def test_a_period_that_is_not_let_in_dates_nothing_and_marks_ahead_are_said():
    """Rule C2."""
    machine = Machine()
    machine.kernel = True
    clock = machine.clock()
    assert clock.dates
    clock.await_entry()
    assert not clock.dates
    clock.let_in(0, NOW - 60)
    assert clock.dates
    machine.wall -= 100  # within what the floor bears
    assert not clock.dates
    clock.let_in(1, NOW)
    assert clock.distrust_reason.startswith("marks lie 0:02 h ahead of the clock")
    assert clock.trust is ClockTrust.TRUSTED
    machine.passes(100)
    assert clock.dates
    clock.let_in(1, NOW + 7 * DAY)
    assert clock.trust is ClockTrust.UNTRUSTED
    assert clock.distrust_reason.startswith("marks lie 7 days ahead of the clock")


def test_a_history_of_another_shape_is_no_history(tmp_path):
    for text in ("[]", "{}", '{"boot": 1, "kept": 2}', "no json", '{"vouched": [1], "boot": ""}'):
        (tmp_path / "clock-history.json").write_text(text)
        assert Machine().clock(tmp_path / "clock.json").history.steps == []


def stated(machine, clock, wall=None):
    """A person sets the clock and states that it is right."""
    machine.wall = machine.wall if wall is None else wall
    assert clock.off_by(machine.wall) == 0
    clock.take_person_time()
    return clock


def test_by_a_persons_word_readings_are_dated_for_a_week_and_nothing_else_begins(tmp_path):
    """Rule C17."""
    machine = Machine(wall=3600.0)
    clock = machine.clock(tmp_path / "clock.json")
    assert not clock.dates
    stated(machine, clock, NOW)
    assert clock.dates
    assert clock.trust is ClockTrust.UNTRUSTED
    assert clock.person_until == NOW + 7 * DAY
    again = machine.clock(tmp_path / "clock.json")  # the agent is restarted
    assert (again.dates, again.trust) == (True, "untrusted")
    machine.passes(7 * DAY - 1)
    assert clock.dates
    machine.passes(2)
    assert not clock.dates
    booted = machine.clock(tmp_path / "clock.json", boot="another")
    assert not booted.by_person
    assert not booted.dates


def test_a_persons_word_decides_what_may_be_sent_for_a_week_after_the_last_proved_time():
    """Rule C17: else a clock that was set back would prolong a consent that has ended."""
    machine = Machine()
    clock = stated(machine, machine.clock())
    assert clock.sealing_trust is ClockTrust.UNTRUSTED  # proved is only the year of this version
    clock.take_signed_time(NOW - 6 * DAY)  # it came on a stick
    assert clock.floor == NOW - 6 * DAY
    assert clock.sealing_trust is ClockTrust.HOLDOVER
    assert clock.trust is ClockTrust.UNTRUSTED
    machine.passes(DAY + 1)
    assert clock.sealing_trust is ClockTrust.UNTRUSTED
    assert clock.dates


def test_a_person_cannot_state_what_was_disproved_nor_correct_a_time_service():
    """Rule C17."""
    machine = Machine()
    machine.kernel = True
    clock = machine.clock()
    assert clock.trust is ClockTrust.TRUSTED
    with pytest.raises(Refused, match="a time service keeps the clock"):
        clock.off_by(NOW)
    machine.kernel = False
    machine.passes(DAY)
    with pytest.raises(Refused, match=r"cannot be right.*was proved already"):
        clock.off_by(NOW - SLACK - 1)
    assert clock.off_by(NOW) == DAY
    with pytest.raises(Refused, match="trusts this computer's clock"):
        Machine().clock(source="system").off_by(NOW)


@pytest.mark.parametrize("error", [-3 * DAY, -SLACK - 1, -20, 20, SLACK + 1, 300 * DAY])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_time_service_wins_over_a_person_and_proves_them_wrong(tmp_path, error, restarts):
    """Rule C17."""
    machine, file = Machine(wall=3600.0), tmp_path / "clock.json"
    clock = stated(machine, machine.clock(file), NOW + error)
    machine.passes(3600)
    clock = machine.clock(file) if restarts else clock
    assert clock.dates
    machine.wall, machine.kernel = NOW + 3600, True
    assert clock.trust is ClockTrust.TRUSTED
    assert clock.dates
    assert not clock.by_person
    assert clock.agreed is (abs(error) > SLACK)
    assert clock.floor == NOW + 3600
