"""What comparisons say about the factor of a meter. Guards rules F15 to F18."""

from decimal import Decimal
from types import SimpleNamespace

import pytest

from agent.acquisition.factors import (
    FactorDays,
    FactorToProve,
    excludes,
    judged,
    likely_error,
    needed,
    power_of,
)
from agent.core.model import Sample
from agent.registry.dates import DAY
from agent.registry.inputs import FactorResult, NewExchange, NewInstallation
from agent.registry.registry import Registry
from tests.unit.acquisition.house import NOW, Town, point

MINUTE = 60
START = NOW // DAY * DAY
INDEX = point(every=900, to_prove="f1")
POWER = point(name="power", every=MINUTE, channel="elec.power", unit="W")
POINTS = (INDEX, POWER)


class Days:
    """A meter whose power and index are noted as the poller does."""

    def __init__(self, town, index=INDEX, power=POWER):
        self.town, self.index, self.power = town, index, power
        self.days, self.t, self.energy = FactorDays(), START, Decimal(100)

    def run(self, hours, watts=lambda _t: 500, factor=1, but=lambda _t: False):
        """Let time pass; `factor`: how many times too high the index counts."""
        for _ in range(int(hours * 60)):
            power = watts(self.t)
            if not but(self.t):
                read = Sample(self.power, float(self.t), Decimal(power))
                self.days.note((self.index, self.power), self.t, [read], None)
            if self.t % 900 == 0:
                shown = (self.energy * factor).quantize(Decimal("0.001"))
                read = Sample(self.index, float(self.t), shown)
                self.days.note((self.index, self.power), self.t, [read], None)
            self.energy += Decimal(power) / 60_000
            self.t += MINUTE

    def results(self):
        town, points = self.town, {"m1": (self.index, self.power)}
        of = needed(points, lambda _: "1001", town.registry, self.t)
        return self.days.results(of, points, lambda _: "1001", town.registry, None)

    def errors(self):
        return [(one.method, one.factor) for one in self.results()]


@pytest.fixture
def days(town):
    return Days(town)


def household(t):
    """A fridge, and a kettle for five minutes in every hour."""
    return 60 + (2000 if t % 3600 < 300 else 0)


def test_a_day_of_power_proves_the_index(days):
    """Rule F17."""
    days.run(24.5, household)
    (result,) = days.results()
    assert (result.method, result.factor, result.point) == ("power", 1, "f1")
    assert result.excludes < Decimal("1.4")
    assert days.results() == []  # once for each day


@pytest.mark.parametrize(
    ("factor", "error"),
    [(10, "10"), (1000, "1000"), ("0.1", "0.1"), ("0.001", "0.001"), ("3.6", "3.6"), (2, "2.0"),
     ("1.5", "1.5")],
)  # fmt: skip
def test_a_wrong_factor_is_named(days, factor, error):
    days.run(24.5, lambda _t: 5000, Decimal(factor))
    assert days.errors() == [("power", Decimal(error))]


def test_an_error_that_its_spread_could_explain_is_not_claimed(days):
    days.run(24.5, lambda _t: 500, Decimal("1.2"))
    assert days.errors() == []


def test_too_little_power_proves_nothing(days):
    days.run(24.5, lambda _t: 19)
    assert days.errors() == []


def test_power_that_changes_between_reads_as_much_as_it_is_proves_nothing(days):
    days.run(24.5, lambda t: 4000 if t // MINUTE % 2 else 0)
    assert days.errors() == []


def test_a_gap_begins_the_day_again(days):
    days.run(12)
    days.run(0.5, but=lambda _t: True)
    days.run(12.5)
    assert days.errors() == []
    days.run(12.5)
    assert days.errors() == [("power", 1)]


def test_short_gaps_are_borne_up_to_an_hour(days):
    days.run(24.5, but=lambda t: t % 14400 < 720)  # five of 13 min
    assert days.errors() == []
    days.run(24.5, but=lambda t: t % 43200 < 600)
    assert days.errors() == [("power", 1)]


def test_a_restart_in_the_day_proves_nothing_before_a_whole_day_has_passed(days):
    days.run(20)
    days.days = FactorDays()
    days.run(23.5)
    assert days.errors() == []
    days.run(1)
    assert days.errors() == [("power", 1)]


def test_a_day_of_two_meters_accuses_none(days):
    days.run(12)
    days.energy += 1000
    days.days.forget("m1")
    days.run(24.5)
    assert days.errors() == [("power", 1)]
    # without a serial number only the record says that it is another one
    days.run(12)
    days.energy += 1000
    at = NewExchange("D1", old="1001", at=START + 45 * 3600, device="m1")
    days.town.registry.exchange([at], "a", "t", START + 50 * 3600)
    days.run(12.5)
    assert [one.factor for one in days.results()] == []


def test_an_index_that_falls_begins_the_day_again(days):
    days.run(20)
    days.energy = Decimal(1)
    days.run(20)
    assert days.errors() == []


def test_power_that_flows_back_is_not_in_the_index_of_what_is_taken(town):
    days = Days(town)
    days.run(24.5)
    assert days.errors() == [("power", 1)]
    # half a day of sun: the integral of both would be nothing
    sunny = Days(town)
    for _ in range(49):
        sunny.run(0.25, lambda _t: 500)
        before = sunny.energy
        sunny.run(0.25, lambda _t: -500)
        sunny.energy = before
    assert sunny.errors() == [("power", 1)]


def test_power_does_not_show_the_multiplier(town):
    """Rule F19: both registers are before it."""
    install(town, "40")
    days = Days(town)
    days.run(24.5)
    assert days.errors() == []
    days = Days(town)
    days.run(24.5, factor=10)
    assert days.errors() == [("power", 10)]


def install(town, multiplier):
    """The meter of D1, with current transformers."""
    town.registry.exchange(
        [NewExchange("D1", old="1001", never=True, followed=False)], "a", "t", NOW
    )
    new = NewInstallation(
        "D1", serial="1001", channel="elec.imp", multiplier=Decimal(multiplier), since=START
    )
    town.registry.install([new], "a", "t", NOW)


@pytest.mark.parametrize(
    ("more", "chosen"),
    [
        ([POWER], "power"),
        ([point(name="p", every=60, channel=None, unit="kW")], "p"),
        ([point(name="p", every=60, channel=None, unit="kW"), POWER], "power"),
        ([point(name=name, every=60, channel=None, unit="W") for name in "ab"], None),
        ([point(name="p", every=900, channel="elec.power", unit="W")], None),
        ([point(name="f", every=60, channel=None, unit="m3/h")], None),
    ],
)
def test_only_a_power_that_is_read_often_and_is_the_only_one_counts(more, chosen):
    power = power_of(INDEX, [INDEX, *more])
    assert (power.name if power else None) == chosen


def test_a_flow_proves_a_volume(town):
    water = point(name="v", every=900, channel="cw", unit="m3", to_prove="w")
    flow = point(name="f", every=60, channel=None, unit="l/h")
    days = Days(town, water, flow)
    # 600 l/h: `run` counts a thousandth of it, as of W and kWh
    days.run(24.5, lambda _t: 600)
    assert days.errors() == [("power", 1)]


def test_how_many_digits_exclude_which_error():
    """Rule F16: within two units of the last digit."""

    def of(units):
        return excludes(Decimal(units), Decimal(units - 2), Decimal(units + 2))

    assert of(2) is None
    assert of(3) < 10
    assert of(5) > Decimal("1.5") >= of(6)
    assert of(6) > Decimal("1.4") >= of(7)


def test_an_error_is_likely_only_if_it_is_the_only_one():
    assert likely_error(Decimal(8412), Decimal("841.0"), Decimal("841.4")) == 10
    assert likely_error(Decimal(8412), Decimal(8), Decimal(900)) is None
    assert likely_error(Decimal(8412), Decimal(700), Decimal(710)) is None
    assert likely_error(Decimal(8000), Decimal(199), Decimal(201), Decimal(40)) == 40
    assert likely_error(Decimal(200), Decimal(7999), Decimal(8001), Decimal(40)) == Decimal("0.025")


def meters(**used):
    """FactorToProve proofs of these devices, with what they have counted."""
    of = [FactorToProve(point(device=name, to_prove="f"), SimpleNamespace()) for name in used]
    return {name: Decimal(value) for name, value in used.items()}, of


def verdicts(whole, **used):
    return [
        (one.point.device, factor, excluded)
        for one, factor, excluded in judged(Decimal(whole), *meters(**used))
    ]


def test_a_sum_proves_only_meters_whose_error_would_show():
    """Rule F18."""
    assert verdicts(100, a=50, b=40, c=9) == [("a", 1, Decimal("1.5")), ("b", 1, Decimal("1.5"))]
    assert verdicts(100, a=12, b=88)[0] == ("a", 1, Decimal(10))


def test_many_equal_meters_are_consistent_and_none_is_proven():
    assert verdicts(80, **{f"m{n}": 2 for n in range(40)}) == []


def test_a_sum_accuses_the_only_meter_that_explains_it():
    assert verdicts(100, a=500, b=50) == [("a", 10, Decimal("1.4"))]
    assert verdicts(100, a=5, b=50) == [("a", Decimal("0.1"), Decimal("1.4"))]


def test_a_sum_that_two_meters_could_explain_accuses_none():
    assert verdicts(100, a=500, b=500) == []
    assert verdicts(105, a=50, b=50, c=50) == []


def test_a_building_that_uses_nothing_says_nothing():
    assert verdicts(0, a=0, b=0) == []


def test_dwellings_and_building_are_compared_from_midnight_to_midnight(tmp_path):
    town = Town(tmp_path)
    whole = point(device="b", every=900, place="B0000000000000")
    mine = {name: point(device=name, every=900, to_prove=name) for name in ("m1", "m2")}
    points = {"b": (whole,), **{name: (one,) for name, one in mine.items()}}
    serials = {"m1": "1001", "m2": "1002"}
    days = FactorDays()
    days.whole = {"elec.imp": "b"}

    def note(t, **values):
        for name, value in values.items():
            (one,) = points[name]
            days.note((one,), t, [Sample(one, float(t), Decimal(value))], None)

    def results():
        of = needed(points, serials.get, town.registry, NOW)
        return days.results(of, points, serials.get, town.registry, None)

    note(START, b=100, m1=10, m2=20)
    note(START + 900, b=150, m1=11, m2=70)
    assert results() == []
    note(START + DAY, b=120, m1=19, m2=30)
    found = {one.meter.serial: (one.method, one.factor) for one in results()}
    assert found == {"1001": ("sum", 1), "1002": ("sum", 1)}
    assert results() == []
    note(START + 2 * DAY, b=140, m1=28)  # m2 was silent
    assert results() == []


def proven(town, factor=1, method="display", point="f1"):
    (meter,) = [one for one in town.registry.installations() if one.serial == "1001"]
    result = FactorResult(
        meter, "elec.imp", method, Decimal(factor), Decimal("1.01"), point, "ratio=1"
    )
    town.registry.prove_factors([result], "alice", "gardien meter verify", NOW)
    return meter


def test_a_proof_is_kept_and_ends_with_the_register_the_multiplier_and_the_meter(town, tmp_path):
    """Rule F19."""
    meter = proven(town)
    again = Registry.open(tmp_path / "registry.json")
    for registry in (town.registry, again):
        proof = registry.factor_proof(meter, "elec.imp", "f1")
        assert (proof.word.who, proof.word.when, proof.method) == ("alice", NOW, "display")
        assert registry.factor_proven(meter, "elec.imp", "f1")
        assert not registry.factor_proven(meter, "elec.imp", "other register")
        assert not registry.factor_proven(meter, "elec.exp", "f1")
        assert registry.factor_proven(meter, "elec.imp", "")  # it needs none
    install(town, "40")
    (now,) = [one for one in town.registry.meters_of(town.place("D1")) if one.since != one.until]
    assert not town.registry.factor_proven(now, "elec.imp", "f1")


def test_the_stronger_method_counts_and_a_later_result_of_a_method_replaces_it(town):
    meter = proven(town, 10, "power")
    assert not town.registry.factor_proven(meter, "elec.imp", "f1")
    proven(town, 1, "display")
    assert town.registry.factor_proven(meter, "elec.imp", "f1")
    proven(town, 1000, "sum")
    assert town.registry.factor_proven(meter, "elec.imp", "f1")
    proven(town, 10, "display")
    assert town.registry.factor_proof(meter, "elec.imp", "f1").factor == 10


def test_what_is_known_is_not_recorded_again(town):
    proven(town)
    revision = town.registry.revision
    proven(town)
    assert town.registry.revision == revision


def test_nothing_is_recorded_that_the_version_before_could_not_read(town):
    town.registry.marked = False
    meter = proven(town)
    assert town.registry.factor_proof(meter, "elec.imp", "f1") is None
