"""What stands behind a network connection is learnt from how long its answers take."""

from __future__ import annotations

import pytest

from agent.core.model import Why
from agent.drivers.modbus.answer import Latency, RequestResult
from agent.drivers.modbus.codec import NETWORK, parse, plan
from agent.drivers.profile import profile


def seen(request: float, register: float, *counts: int) -> Latency:
    pace = Latency()
    for count in counts:
        pdu = b"\4\0\0" + count.to_bytes(2, "big")
        pace.note(1, pdu, RequestResult(0.0, b"\4"), request + register * count)
    return pace


@pytest.mark.parametrize(
    ("request_ms", "register_ms", "cheap"),
    [(2, 0.001, NETWORK.request), (37, 2.08, 16), (25, 1.04, 32), (17, 0.17, 128), (1, 2.08, 4)],
)
def test_a_serial_line_behind_a_gateway_is_known_by_its_registers(
    request_ms: float, register_ms: float, cheap: float
) -> None:
    assert seen(request_ms / 1e3, register_ms / 1e3, 2, 80).tariff(1).request == cheap


def test_before_two_sizes_were_seen_it_is_taken_for_a_network() -> None:
    assert seen(0.04, 0.002, 20, 25).tariff(1) == NETWORK
    assert seen(0.04, 0.002, 2, 80).tariff(2) == NETWORK


def test_what_was_refused_or_not_answered_tells_nothing() -> None:
    pace = seen(0.04, 0.002, 2)
    pace.note(1, b"\4\0\0\0\x50", RequestResult(0.0, why=Why.BAD), 0.001)
    pace.note(1, b"\x2b\x0e\1\0\0", RequestResult(0.0, b"\x2b"), 0.2)
    assert pace.tariff(1) == NETWORK


def test_the_sdm120_is_asked_otherwise_behind_a_slow_line() -> None:
    spots = tuple(parse(offer.at) for offer in profile("eastron-sdm120").points.values())
    assert len(plan(spots, tariff=seen(0.002, 0.0, 2, 80).tariff(1))) == 2
    assert len(plan(spots, tariff=seen(0.037, 0.00208, 2, 80).tariff(1))) == 3
