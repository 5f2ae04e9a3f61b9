"""Guards rule G5: whatever the centre signs rightly is done within bounds or refused, and
nothing of it ends the agent. The long form (GARDIEN_TORTURE=1) goes on for minutes.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.control import schedule
from agent.control.model import OrderState
from agent.trust.error_codes import Forged
from tests.contract.control.test_orders import Bench
from tests.depth import depth

MANY = depth(120, 20_000)
numbers = st.one_of(
    st.integers(-3, 3), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.1, -1.5, 1e300, -1e-300, 10**40, -(10**200)]),
)  # fmt: skip
durations = st.sampled_from(["PT0S", "PT1S", "P9999D", "PT99999H", "PT24H", "PT10M", "PT1M0.001S"])
moments = st.sampled_from(
    ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2027-01-15T08:00:30Z", "2027-01-15T10:00:00Z"]
)
anything = st.one_of(numbers, st.text(max_size=12), st.none(), st.lists(st.text(), max_size=3))
acts = st.sampled_from(["offset", "limit", "pause", "release", "cancel", "test"])
targets = st.lists(st.sampled_from(["boiler-offset", "lift"]), min_size=1, max_size=3)
right = {
    "val": numbers, "dur": durations, "rand": durations, "start": moments, "act": acts,
    "tgt": targets, "unit": st.sampled_from(["K", "Cel", "A"]), "resume": st.booleans(),
}  # fmt: skip
around = {"prio": st.integers(0, 100), "seq": st.integers(), "emerg": st.booleans()}


@st.composite
def orders(draw):
    """What differs from a right order: a value or two of their kind; seldom something of any."""
    cmd = {"val": draw(numbers)} if draw(st.booleans()) else {}
    for name in draw(st.lists(st.sampled_from(sorted(right)), max_size=2)):
        cmd[name] = draw(right[name])
    more = {name: draw(around[name]) for name in around if not draw(st.integers(0, 3))}
    if not draw(st.integers(0, 7)):
        draw(st.sampled_from([cmd, more]))[draw(st.sampled_from([*right, *around]))] = draw(
            anything
        )
    return cmd, more


@pytest.fixture(scope="module")
def bench():
    made = Bench(step=Decimal("0.5"), ramp=Decimal("0.5"), spread=60.0, on=60.0, off=60.0)
    made.granted()
    ((name, fit),) = made.site.controller.controls.items()
    always = replace(fit.modality.limits, windows=(schedule.window("00:00-24:00"),))
    modality = replace(fit.modality, limits=always)
    made.site.controller.controls = {name: replace(fit, modality=modality)}
    yield made
    made.site.close()


@settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
@given(orders())
def test_whatever_is_signed_is_refused_or_done_within_bounds(bench, order):
    cmd, more = order
    try:
        raw = bench.order(cmd=cmd, **more)
    except (TypeError, ValueError):
        return  # no JSON
    device = bench.site.device
    try:
        answer = bench.take(raw)
    except Forged:
        return
    bench.tend()
    standing = device.slots.get(13)
    assert standing is None or -2 <= standing <= 1
    for name, one in answer["targets"].items():
        assert one["state"] in {OrderState.SCHEDULED, OrderState.REJECTED, OrderState.CANCELLED}, (
            name
        )
    bench.site.truth.at += 7200.0
    bench.tend()
    assert not [
        one for one in bench.site.journal.of(bench.site.fit.key) if one.state is OrderState.STARTED
    ]
