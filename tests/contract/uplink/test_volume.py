"""What `check` says of the data volume of a metered line, beside what a real connection moves.
Rule U19.
"""

import asyncio

import pytest

from agent.uplink import budget
from bench.volume import TRANSPORT, Case, a_month, as_it_comes, single

MOST_BELOW, MOST_ABOVE = 0.90, 1.25
"""the error that the estimate states"""
GROUPED = Case(dwellings=60, meters=2, values=2, step=60, seal=60)
FEW = Case(dwellings=3, meters=1, values=1, step=3600, seal=60)


@pytest.mark.parametrize(
    ("far", "cases"), [("mqtts", (GROUPED, FEW)), ("https", (GROUPED,)), ("sftp", (GROUPED,))]
)
def test_the_estimate_of_a_month_is_near_what_a_real_connection_moves(
    far: str, cases: tuple[Case, ...]
):
    async def scenario() -> list[float]:
        transport, parts = TRANSPORT[far], await single(far)
        ratios = []
        for case in cases:
            wire, _payload = await as_it_comes(far, case, intervals=1)
            measured = a_month(transport, case, wire, parts)
            ratios.append(budget.a_month(case.load(transport)) / measured)
        return ratios

    for ratio in asyncio.run(scenario()):
        assert MOST_BELOW < ratio < MOST_ABOVE
