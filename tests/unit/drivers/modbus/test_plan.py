"""Blocks cover all points exactly, keep every limit, and no plan of fewer blocks exists.
Rule F3.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Point
from agent.drivers.modbus.bus import RtuSettings, tariff
from agent.drivers.modbus.codec import (
    LONGEST,
    NETWORK,
    Cut,
    ReadBlock,
    RegisterRange,
    Tariff,
    cut,
    parse,
    place,
    plan,
)
from agent.drivers.modbus.master import manners_of
from agent.drivers.modbus.rtu import Speed
from agent.drivers.profile import profile, profiles
from tests.depth import examples

if TYPE_CHECKING:
    from collections.abc import Sequence


@st.composite
def spots(draw: st.DrawFn, most: int = 30, last: int = 600) -> tuple[RegisterRange, ...]:
    one = st.builds(
        RegisterRange,
        st.sampled_from(["holding", "input"]),
        st.integers(0, last),
        st.sampled_from([1, 2, 4, 30, 125]),
        st.just("uint16"),
    )
    return tuple(draw(st.lists(one, max_size=most)))


CUTS = st.frozensets(
    st.tuples(st.sampled_from(["holding", "input"]), st.integers(0, 600)), max_size=4
)


@given(spots(), CUTS)
def test_every_point_is_whole_in_exactly_one_block(
    wanted: tuple[RegisterRange, ...], cuts: frozenset[Cut]
) -> None:
    blocks = plan(wanted, cuts)
    assert sorted(i for block in blocks for i in block.points) == list(range(len(wanted)))
    for block in blocks:
        for spot in (wanted[i] for i in block.points):
            assert spot.table == block.table
            assert block.start <= spot.start
            assert spot.end <= block.start + block.count


@given(spots(), CUTS)
def test_no_block_is_too_long_or_crosses_a_cut(
    wanted: tuple[RegisterRange, ...], cuts: frozenset[Cut]
) -> None:
    assert all(legal(wanted, list(block.points), cuts) for block in plan(wanted, cuts))


TARIFFS = st.builds(Tariff, st.integers(0, 60).map(float), st.integers(1, 3).map(float))


@examples(40, 2_000)
@given(spots(most=6, last=160), CUTS, TARIFFS)
def test_no_other_grouping_costs_less(
    wanted: tuple[RegisterRange, ...], cuts: frozenset[Cut], tariff: Tariff
) -> None:
    blocks = plan(wanted, cuts, tariff)
    costs = sum(tariff.cost(block.table, block.count) for block in blocks)
    assert costs == pytest.approx(least(wanted, cuts, tariff))


def legal(wanted: tuple[RegisterRange, ...], group: list[int], cuts: frozenset[Cut]) -> bool:
    """Whether one request may read this group: written anew, from the rules."""
    these = [wanted[i] for i in group]
    starts, ends = [spot.start for spot in these], [spot.end for spot in these]
    return (
        len({spot.table for spot in these}) == 1
        and max(ends) - min(starts) <= 125
        and not any(
            table == these[0].table and min(starts) < at <= max(starts) for table, at in cuts
        )
    )


def least(wanted: tuple[RegisterRange, ...], cuts: frozenset[Cut], tariff: Tariff) -> float:
    """Try every grouping there is."""
    best = float("inf") if wanted else 0.0

    def place(index: int, groups: list[list[int]]) -> None:
        nonlocal best
        if index == len(wanted):
            if all(legal(wanted, group, cuts) for group in groups):
                best = min(best, sum(price(wanted, group, tariff) for group in groups))
            return
        for group in groups:
            group.append(index)
            place(index + 1, groups)
            group.pop()
        place(index + 1, [*groups, [index]])

    place(0, [])
    return best


def price(wanted: tuple[RegisterRange, ...], group: list[int], tariff: Tariff) -> float:
    these = [wanted[i] for i in group]
    count = max(spot.end for spot in these) - min(spot.start for spot in these)
    return tariff.request + tariff.register * count


def fewest(spots: Sequence[RegisterRange], most: int, never: frozenset[Cut]) -> int:
    """The fewest blocks that hold all spots, written anew: each takes all that it can reach."""
    number = 0
    for table in {spot.table for spot in spots}:
        left = sorted((spot for spot in spots if spot.table == table), key=lambda s: s.start)
        while left:
            first, number = left[0].start, number + 1
            wall = min((at for t, at in never if t == table and at > first), default=1 << 16)
            left = [s for s in left if s.end > first + most or s.start >= wall]
    return number


MODBUS = [name for name in profiles() if profile(name).driver == "modbus"]


@pytest.mark.parametrize("name", MODBUS)
def test_every_profile_is_read_in_the_fewest_requests_over_a_network(name: str) -> None:
    places = [place(offer.at) for offer in profile(name).points.values()]
    spots = tuple(dict.fromkeys(spot for one in places for spot in one.spots))
    manners = manners_of(places)
    if not manners.alone:
        blocks = plan(spots, manners.never, Tariff(most=manners.most))
        assert len(blocks) == fewest(spots, manners.most, manners.never)


@pytest.mark.parametrize("name", MODBUS)
@pytest.mark.parametrize("baudrate", [9600, 19200, 115200])
def test_every_profile_is_read_in_the_least_time_on_a_serial_line(name: str, baudrate: int) -> None:
    places = [place(offer.at) for offer in profile(name).points.values()]
    spots = tuple(dict.fromkeys(spot for one in places for spot in one.spots))
    manners, costs = manners_of(places), tariff(Speed(baudrate))
    if not manners.alone:
        blocks = plan(spots, manners.never, replace(costs, most=manners.most))
        taken = sum(costs.cost(block.table, block.count) for block in blocks)
        for other in (NETWORK, Tariff(request=0.5), costs, Tariff(request=8), Tariff(request=32)):
            others = plan(spots, manners.never, replace(other, most=manners.most))
            assert taken <= sum(costs.cost(b.table, b.count) for b in others) + 1e-6


def test_all_of_them_together_are_a_fraction_of_one_request_a_value() -> None:
    meters = [profile(name).points.values() for name in MODBUS if not profile(name).watchdog]
    asked = sum(len(plan(tuple(place(o.at).spot for o in offers))) for offers in meters)
    assert 5 * asked < sum(map(len, meters))


def test_the_sdm120_is_read_in_three_requests() -> None:
    sdm120 = profile("eastron-sdm120")
    assert sdm120.serial
    ats = [offer.at for offer in (*sdm120.points.values(), sdm120.serial)]
    blocks = plan(tuple(parse(at) for at in ats))
    assert [(b.table, b.start, b.count) for b in blocks] == [
        ("holding", 64512, 2),
        ("input", 0, 80),
        ("input", 342, 4),
    ]


def test_a_block_of_bits_may_be_longer() -> None:
    bits = tuple(RegisterRange("coil", n, 1, "bit") for n in range(0, LONGEST["coil"], 20))
    assert len(plan(bits)) == 1


def test_a_refused_block_is_cut_at_its_widest_hole() -> None:
    wanted = tuple(parse(f"input/{at}/uint16") for at in (0, 1, 2, 12, 13, 15))
    (block,) = plan(wanted)
    assert cut(wanted, block) == ("input", 12)


def test_a_refused_block_without_holes_is_cut_in_the_middle() -> None:
    wanted = tuple(parse(f"input/{at}/uint16") for at in range(8))
    (block,) = plan(wanted)
    assert cut(wanted, block) == ("input", 4)


@given(spots())
def test_a_cut_leaves_points_on_both_sides(wanted: tuple[RegisterRange, ...]) -> None:
    for block in plan(wanted):
        starts = {wanted[i].start for i in block.points}
        if len(starts) > 1:
            _, at = cut(wanted, block)
            assert min(starts) < at <= max(starts)


def test_nothing_is_asked_for_no_points() -> None:
    assert plan(()) == ()


@pytest.mark.parametrize("hole", [0, 5, 10])
def test_a_hole_is_read_along_while_that_is_no_dearer_than_a_request(hole: int) -> None:
    wanted = (RegisterRange("input", 0, 2, "uint32"), RegisterRange("input", 2 + hole, 2, "uint32"))
    assert plan(wanted, tariff=Tariff(hole, 1)) == (ReadBlock("input", 0, 4 + hole, (0, 1)),)
    if hole:
        assert len(plan(wanted, tariff=Tariff(hole - 1, 1))) == 2


def test_a_device_that_answers_less_at_once_is_asked_for_less() -> None:
    wanted = tuple(RegisterRange("input", n, 1, "uint16") for n in range(100))
    assert sorted(b.count for b in plan(wanted, tariff=Tariff(most=60))) == [40, 60]


def test_on_a_serial_line_holes_are_dear_and_slow_lines_dearer() -> None:
    sdm120 = tuple(parse(offer.at) for offer in profile("eastron-sdm120").points.values())
    assert len(plan(sdm120, tariff=tariff(Speed(9600)))) == 3
    assert len(plan(sdm120, tariff=tariff(Speed(115200)))) == 2


def test_what_a_device_costs_a_line_is_told_before_it_is_opened() -> None:
    points = [Point("m", "p", "1", f"input/{n}/uint16", 60) for n in range(0, 20, 2)]
    settings = RtuSettings(port="/dev/none", baudrate=9600)
    sunspec = [Point("m", n, "1", o.at, 60) for n, o in profile("sunspec-203").points.items()]
    assert 0.1 < settings.seconds(sunspec) < 0.2
    # 13 characters and 19 registers of 1.04 ms, twice 3.5 characters, and the turnaround
    assert settings.seconds(points) == pytest.approx(0.0135 + 0.0396 + 0.0073 + 0.016, abs=0.001)
