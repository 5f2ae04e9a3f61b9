"""Guards rule M3: a series ends once no configured point makes it any more, and not before."""

from functools import partial

import pytest

from agent.acquisition.directory import end_series, series_items
from agent.acquisition.ended_series import Configured, ended
from agent.acquisition.row_assignment import ExpectedSeries
from agent.acquisition.slots import SlotLedger
from agent.buffer.schema import Wrong
from agent.core.clock import stamp
from agent.core.model import SlotMark, Why
from agent.registry.inputs import NewConsent, NewExchange, NewInstallation
from tests.unit.acquisition.house import LONG_AGO, NOW, RECIPIENT, point, sample

DAY, MIDNIGHT = 86_400, NOW // 86_400 * 86_400
CELLAR = "CZS2YFSTBQQ5WDC"


def of(place, step, channel="elec.imp", kind="REG"):
    return ExpectedSeries(place, channel, kind, "kWh", step)


def mark(slot, serial="1001"):
    return SlotMark(slot, heard=True, serial=serial)


def agreed(town, step):
    """One more consent of the same people."""
    new = NewConsent("D1", RECIPIENT, ("elec.imp",), step, str(step), since=LONG_AGO)
    town.registry.consent([new], "test", "test", NOW, town.policy)


def ends(town, series, points, left, marks=None):
    """`points` and `left`: by device and period."""
    by_key = {}
    for one in points:
        by_key.setdefault((one.device, one.every), []).append(one)
    now = Configured(by_key, marks or {}, left, town.gate(), None)
    return ended(series, now)


def test_of_a_device_that_is_read_at_another_period_the_series_of_the_one_before_ends(town):
    home = town.place("D1")
    for step in (3600, DAY):
        agreed(town, step)
    series = [of(home, 600), of(home, 1200), of(home, 3600), of(home, DAY), of(home, 600, "heat")]
    left = {("m1", 600): mark(MIDNIGHT + 600)}
    halved = [point("m1", every=1200)]
    slot = MIDNIGHT + 1200
    assert ends(town, series, halved, left) == {series[0]: slot, series[4]: slot}
    # hourly rows cannot be made of readings of 45 minutes: the first open slot is the next hour
    slow = [point("m1", every=2700)]
    of_hours = {series[1]: slot, series[2]: MIDNIGHT + 3600}
    assert ends(town, series[:4], slow, left) == {series[0]: slot} | of_hours
    assert ends(town, series[:4], [point("m1", every=600)], {}) == {}


def test_a_coarser_series_of_the_period_before_ends_as_well_if_no_consent_needs_it(town):
    """The consent is finer than what was read."""
    home, left = town.place("D1"), {("m1", 1200): mark(MIDNIGHT)}
    series, faster = [of(home, 600), of(home, 1200)], [point("m1", every=600)]
    assert ends(town, series, faster, left) == {series[1]: MIDNIGHT + 1200}
    agreed(town, 1200)
    assert ends(town, series, faster, left) == {}


def test_a_series_of_days_ends_at_the_midnight_after_the_last_slot_that_was_closed(town):
    series = of(town.place("D1"), DAY)
    for closed, until in ((MIDNIGHT + 600, MIDNIGHT + DAY), (MIDNIGHT - 600, MIDNIGHT)):
        assert ends(town, [series], [], {("m1", 600): mark(closed)}) == {series: until}


def test_the_last_of_several_devices_that_measured_it_says_when_a_series_ended(town):
    series = of(town.place("D1"), 600)
    left = {("old", 600): mark(NOW - 6000), ("m1", 600): mark(NOW), ("m2", 600): mark(NOW, "1002")}
    assert ends(town, [series], [], left) == {series: NOW + 600}
    # not that of a coarser period
    left[("m1", 3600)] = mark(NOW + 3600)
    assert ends(town, [series], [], left) == {series: NOW + 600}


def test_a_series_that_another_device_makes_has_not_ended(town):
    series, left = of(town.place("D1"), 600), {("m1", 600): mark(NOW)}
    renamed = [point("m9", every=600)]
    for serial, over in (("1001", False), ("1002", True), (None, False)):
        marks = {("m9", 600): mark(NOW, serial)}
        assert (series in ends(town, [series], renamed, left, marks)) == over
    # nobody knows yet which meter a new device is
    assert ends(town, [series], renamed, left) == {}
    # but the meter before is still read, at another period
    both = [*renamed, point("m1", every=1200)]
    assert ends(town, [series], both, left) == {series: NOW + 600}


def test_a_meter_that_was_taken_out_of_a_dwelling_makes_its_series_no_longer(town):
    series, left = of(town.place("D1"), 600), {("m1", 600): mark(NOW)}
    elsewhere = [point("m9", every=600)]
    town.registry.exchange([NewExchange("D1", "1001", at=NOW - 3600, serial="1009")], "t", "t", NOW)
    marks = {("m9", 600): mark(NOW, "1001")}
    assert ends(town, [series], elsewhere, left, marks) == {series: NOW + 600}


@pytest.mark.parametrize(("now", "over"), [("1001", False), ("1009", False), ("1002", True)])
def test_a_series_goes_on_while_nobody_has_recorded_the_number_of_its_device(town, now, over):
    """Rules M24, T34: an exchange is recorded, and the device reports neither number."""
    agreed(town, 3600)
    hourly, left = of(town.place("D1"), 3600), {("m1", 600): mark(MIDNIGHT)}
    exchange = NewExchange("D1", "1001", at=MIDNIGHT - 60, serial="1009")
    town.registry.exchange([exchange], "t", "t", NOW)
    points, marks = [point("m1", every=1200)], {("m1", 1200): mark(MIDNIGHT, now)}
    assert (hourly in ends(town, [hourly], points, left, marks)) == over


def test_of_a_meter_that_was_removed_each_series_ends_at_the_removal(town):
    """Rule T34: a quantity of the step before the removal is the meter's (rule I10)."""
    home = town.place("D1")
    series = [of(home, 600), of(home, DAY), of(home, 600, "heat"), of(home, 600, kind="INT")]
    ledger = SlotLedger(town.gate(), {("m1", 600): [point("m1", every=600)]}, {})
    removal = NewExchange("D1", "1001", at=NOW, followed=False)
    town.registry.exchange([removal], "t", "t", NOW)
    assert ledger.end(series, NOW - 1) == {}, "it is not removed yet"
    slots = [NOW, MIDNIGHT + DAY, NOW, NOW + 600]
    assert ledger.end(series, NOW) == dict(zip(series, slots, strict=True))
    town.registry.install([NewInstallation("D1", serial="1005", since=NOW + 900)], "t", "t", NOW)
    assert ledger.end(series, NOW + 900) == {}, "there is another one"


def test_other_points_of_the_device_do_not_make_it(town):
    series, left = of(town.place("D1"), 600), {("m1", 600): mark(NOW)}
    flows = point("m1", "flow", every=600, derived=True)
    heat = point("m1", "heat", every=600, channel="heat")
    kept = {("m1", 600): mark(NOW)}
    for points, over in (([flows], True), ([heat], True), ([flows, point("m1", every=600)], False)):
        assert (series in ends(town, [series], points, left, kept)) == over
    intervals = of(town.place("D1"), 600, kind="INT")
    assert ends(town, [intervals], [flows], left, kept) == {}
    agreed(town, 3600)
    hourly, left = of(town.place("D1"), 3600, kind="INT"), {("m1", 3600): mark(NOW)}
    assert ends(town, [hourly], [flows], left, kept) == {hourly: NOW + 3600}


def test_two_meters_of_one_dwelling_are_not_each_other(town):
    meter = NewInstallation("D1", serial="1003", channel="heat", since=LONG_AGO)
    town.registry.install([meter], "t", "t", NOW)
    series = [of(town.place("D1"), 600), of(town.place("D1"), 600, "heat")]
    assert ends(town, series, [], {("m3", 600): mark(NOW, "1003")}) == {series[1]: NOW + 600}


def test_without_a_mark_of_its_meter_a_series_does_not_end(town):
    assert ends(town, [of(town.place("D1"), 600)], [], {("m2", 600): mark(NOW, "1002")}) == {}


def test_common_plant_has_the_place_that_the_configuration_names(town):
    series, left = of(CELLAR, 600), {("pump", 600): mark(NOW, None)}
    here = {"place": CELLAR}
    assert ends(town, [series], [point("pump", every=1200, **here)], left) == {series: NOW + 600}
    assert ends(town, [series], [point("pump2", every=600, **here)], left) == {}
    assert ends(town, [of(CELLAR, 3600)], [point("pump", every=1200, **here)], left) == {}
    # the configuration no longer says where the device was: all that ended then is of its period
    assert ends(town, [series, of(CELLAR, 3600)], [], left) == {series: NOW + 600}


def test_sums_over_dwellings_do_not_end(town):
    flows = of("B6ASQZ1Y2KSAA3Y", 600, kind="INT")
    rest = {"bases/rest": {"place": flows.place, "channels": ["elec.imp"]}}
    ledger = SlotLedger(town.gate(), {}, {("pump", 600): mark(NOW, None)})
    assert end_series(rest, {flows: NOW}, partial(ledger.end, now=NOW)) == ({}, [])
    items, gone = end_series({}, {flows: NOW}, partial(ledger.end, now=NOW))
    ((_, item),) = items.items()
    assert (item["since"], item["until"], gone) == (stamp(NOW), stamp(NOW + 600), [flows])
    # once stated, an end stays as it is
    assert end_series(items, {}, partial(ledger.end, now=NOW)) == ({}, [])


@pytest.mark.parametrize(("stated", "now"), [(NOW + 7800, NOW + 600), (NOW + 1200, NOW + 7200)])
def test_an_end_that_a_wrong_clock_stated_is_stated_anew_after_a_restart(town, stated, now):
    """Rules C5, R16: the marks were set back before the restart. Any other end stays."""
    series = of(town.place("D1"), 600)
    ledger = SlotLedger(
        town.gate(), {("m1", 1200): [point("m1", every=1200)]}, {("m1", 600): mark(NOW)}
    )
    ((key, item),) = series_items({series: NOW - 6000}).items()
    known = {key: item | {"until": stamp(stated)}}
    items, _ = end_series(known, {}, partial(ledger.end, now=now), now=now)
    wrong = stated > now + 600
    assert items == ({key: item | {"until": stamp(NOW + 600)}} if wrong else {})


@pytest.mark.parametrize("reloaded", [False, True])
def test_a_ledger_knows_the_series_of_the_configuration_before(town, reloaded):
    """After a reload as after a start; a series of which a slot is closed since then goes on."""
    before, now = point("m1", every=600), point("m1", every=1200)
    marks, zone = {("m1", 600): mark(NOW)}, None
    series = of(town.place("D1"), 600)
    if reloaded:
        ledger = SlotLedger(town.gate(), {("m1", 600): [before]}, {})
        ledger.close(("m1", 600), NOW, [sample(before)], "1001", Why.BUSY)
        assert ledger.end([series], NOW) == {}
        for _ in range(2):  # while its spool cannot be opened, these marks are all that is known
            ledger.renew({("m1", 1200): [now]}, dict(ledger.marks), town.policy, zone)
        assert ledger.owed == {series: NOW}
    else:
        ledger = SlotLedger(town.gate(), {("m1", 1200): [now]}, marks)
    assert ledger.end([series], NOW) == {series: NOW + 600}
    assert ledger.owed == {}
    ledger.renew({("m1", 600): [before]}, dict(ledger.marks), town.policy, zone)
    ledger.close(("m1", 600), NOW + 6000, [sample(before)], "1001", Why.BUSY)
    ledger.renew({}, dict(ledger.marks), town.policy, zone)
    assert ledger.end([series], NOW) == {series: NOW + 6600}


@pytest.mark.parametrize("reloaded", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_what_memory_has_closed_of_the_period_before_is_the_series(town, reloaded, again):
    """While the disk failed, its last rows went out from memory; if slots between the disk's and
    those were left out, it has begun again with them. Rules M3, A4, T34.
    """
    series = of(town.place("D1"), 600)
    before, now = point("m1", every=600), point("m1", every=1200)
    on_disk, left = {("m1", 600): mark(NOW - 1800)}, {("m1", 1200): [now]}
    ledger = SlotLedger(town.gate(), {("m1", 600): [before]} if reloaded else left, on_disk)
    begun = NOW - 600 if again else NOW - 1200
    ledger.closed_in_memory({("m1", 600): mark(NOW)}, {series: begun})
    if reloaded:
        ledger.renew(left, on_disk, town.policy, None)
    known = series_items({series: NOW - 6000})
    items, _ = end_series(known, {}, partial(ledger.end, now=NOW), ledger.begun_again)
    ((_, item),) = items.items()
    assert item["until"] == stamp(NOW + 600)
    assert item["since"] == stamp(begun if again else NOW - 6000)


@pytest.mark.parametrize("reloaded", [False, True])
@pytest.mark.parametrize("mute", [False, True])
def test_slots_of_which_memory_has_no_row_are_none_of_the_period_before(town, reloaded, mute):
    """The first one is left to the disk, and of others nothing is kept without notes. Nobody has a
    row of them, if the disk has not. Rules A8, A17, A4, T34.
    """
    series = of(town.place("D1"), 600)
    before, now = point("m1", every=600), point("m1", every=1200)
    in_memory = SlotLedger(town.gate(), {("m1", 600): [before]}, {})
    in_memory.marks_unknown = True
    for slot in (NOW - 600, NOW) if mute else (NOW,):
        serial = "nobody's" if mute else "1001"
        assert in_memory.close(("m1", 600), slot, [sample(before)], serial, Why.BUSY) == []
    on_disk, left = {("m1", 600): mark(NOW - 1200)}, {("m1", 1200): [now]}
    ledger = SlotLedger(town.gate(), {("m1", 600): [before]} if reloaded else left, on_disk)
    ledger.closed_in_memory(in_memory.marks, {})
    if reloaded:
        ledger.renew(left, on_disk, town.policy, None)
    assert ledger.end([series], NOW) == {series: NOW - 600}


WRONG = NOW + 7200
"""what a clock two hours ahead shows at NOW"""
LATER = {("m1", 1200): [point("m1", every=1200)]}


def taken_back(town, now, marks, since, until):
    """What a wrong clock closed, of a ledger whose device was read every 600 s before."""
    home = town.place("D1")
    series = [of(home, 600), of(home, 1200)]
    ledger = SlotLedger(town.gate(), now, marks)
    ranges, rows, back = ledger.taken_back(
        Wrong(since, until, began=NOW + 1300), NOW + 3000, series
    )
    assert ledger.owed.get(series[1]) in {None, NOW + 1200}, (
        "what the wrong clock began is not owed"
    )
    assert ledger.left[("m1", 600)].slot == WRONG, "nothing moves before it is on the disk"
    ledger.set_back(back)
    assert ledger.end(series[:1], NOW) == {series[0]: NOW + 600}
    return [(one.channel, one.since, one.until) for one in ranges], rows, back


@pytest.mark.parametrize("long_ago", [False, True])
def test_what_a_wrong_clock_closed_at_the_period_before_is_taken_back(town, long_ago):
    """Rule C5. Also if the device was read at the present period once, long ago."""
    marks = {("m1", 600): mark(WRONG), ("m1", 1200): mark(WRONG + 1200)}
    until = {key: each.slot for key, each in marks.items()}
    since = {("m1", 600): NOW} | ({("m1", 1200): NOW - DAY} if long_ago else {})
    ranges, rows, back = taken_back(town, LATER, marks, since, until)
    assert ranges == [("elec.imp", NOW + 1, WRONG + 1201)]
    assert [(row.t, row.series.step, row.why) for row in rows] == [(NOW + 1200, 1200, Why.CLOCK)]
    assert {key: each.slot for key, each in back.items()} == {
        ("m1", 600): NOW, ("m1", 1200): NOW + 1200
    }  # fmt: skip


def test_what_a_wrong_clock_closed_of_a_device_that_was_removed_is_taken_back(town):
    """Rule C5."""
    key = ("m1", 600)
    ranges, rows, _ = taken_back(town, {}, {key: mark(WRONG)}, {key: NOW}, {key: WRONG})
    assert (ranges, rows) == ([("elec.imp", NOW + 1, WRONG + 1)], [])


@pytest.mark.parametrize("present", [LATER, {}], ids=["another period", "removed"])
def test_a_series_that_a_wrong_clock_began_has_no_slot_once_it_is_taken_back(town, present):
    """Rule C5: what is no longer configured is not closed again, and owes nothing of that time."""
    home, key = town.place("D1"), ("m1", 600)
    series = [of(home, 600)]
    ledger = SlotLedger(town.gate(), present, {key: mark(WRONG)})
    ranges, rows, back = ledger.taken_back(
        Wrong({}, {key: WRONG}, began=NOW + 1300), NOW + 3000, series
    )
    assert [(one.since, one.until) for one in ranges] == [(NOW + 1200, WRONG + 1)]
    assert rows == []
    ledger.set_back(back)
    assert ledger.end(series, NOW) == {series[0]: NOW + 1200}
