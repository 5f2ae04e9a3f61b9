"""Rows as a building makes them, and rows as only a generator would."""

from decimal import Decimal

from hypothesis import strategies as st

from agent.core.model import Reading, Series

NOON = 1_700_000_000 // 3600 * 3600


def series(number=0, step=60, **other):
    words = {
        "place": f"D84G7ZWYRD{number:05}",
        "channel": "heat",
        "kind": "REG",
        "unit": "kWh",
        "step": step,
        "meter": f"KAM-{number:08}",
        "occupancy": f"H{number:014}",
        "basis": "K20260712A",
    }
    return Series(**words | other)


def reading(number=0, slot=0, value="1234.567", step=60, **other):
    quality = "M" if value is None else "V"
    words = {"quality": quality} | other
    digits = None if value is None else Decimal(value)
    return Reading(series(number, step), NOON + slot * step, digits, **words)


def poll(slot, meters=10, first=0):
    """One slot of so many meters, each value its own."""
    return [reading(n, slot, f"{n}.{slot:03}") for n in range(first, first + meters)]


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
any_series = st.builds(
    Series,
    place=words,
    channel=words,
    kind=st.sampled_from(["REG", "INT", "AVG", "INS", "EVT"]),
    unit=words,
    step=st.integers(1, 86_400),
    meter=st.none() | words,
    occupancy=st.none() | words,
    basis=words,
)
extreme = st.sampled_from(
    ["0", "-0", "0E-10", "1E+999999", "-1E-999999", "0.1", "100", "1E+2", "9" * 60, "-0.000"]
).map(Decimal)
values = extreme | st.decimals(allow_nan=False, allow_infinity=False, places=None).filter(
    lambda value: len(str(value)) <= 64
)


@st.composite
def any_reading(draw, of=any_series):
    value = draw(st.none() | values)
    return Reading(
        series=draw(of),
        t=draw(st.integers(0, 4_000_000_000)),
        value=value,
        quality=draw(st.sampled_from("VRSECK" if value is not None else "MW")),
        delay=draw(st.integers(-5, 100_000)),
        why=None if value is not None else draw(st.none() | st.sampled_from(["silent", "agent"])),
        span=1 if value is not None else draw(st.integers(1, 50_000)),
        ver=draw(st.none() | st.integers(0, 4_000_000_000)),
        again=draw(st.booleans()),
        flags=draw(st.sampled_from(["", "CLK", "ROLL+PART"])) if value is not None else "",
    )


some_rows = st.lists(any_series, min_size=1, max_size=4).flatmap(
    lambda of: st.lists(any_reading(st.sampled_from(of)), min_size=1, max_size=30)
)


def exact(rows):
    """Rows so that 1.50 is not 1.5 and -0 is not 0."""
    return [(row, str(row.value)) for row in rows]
