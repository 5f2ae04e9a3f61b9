"""A line is searched: everybody on it is found, and nobody who is not."""

from __future__ import annotations

import asyncio

import pytest

from agent.drivers.base import Found, Progress, Wish
from agent.drivers.mbus.scan import scan
from agent.errors import Refused
from hil.mbus.line import Bus
from tests.contract.drivers.mbus.setting import bare_line, heat, on_tcp, water


def search(slaves, wish=None, listen=0.0, **bus):
    """Who was found, and what was said meanwhile. Without a wish: by their numbers only."""

    async def go():
        async with bare_line(Bus(slaves, 38_400, **bus)) as line:
            said = scan(line, wish or Wish(first="FFFFFFFF"), listen)
            return [one async for one in said]

    said = asyncio.run(go())
    found = [one for one in said if isinstance(one, Found)]
    addresses = [one.entry["address"] for one in found]
    assert len(addresses) == len(set(addresses))
    return found, [one for one in said if isinstance(one, Progress)]


def numbers(found):
    return {one.entry["address"] for one in found}


def test_sixty_numbers_that_differ_in_every_position_are_all_found():
    ids = {f"{12_345_678 * n % 99_999_989:08d}" for n in range(1, 61)}
    slaves = [heat(one, base=1_000_000 + int(one) % 800_000) for one in sorted(ids)]
    found, progress = search(slaves)
    assert numbers(found) == ids
    assert "60 found" in progress[-1].words


@pytest.mark.parametrize("base", [0, 7_351_000])
def test_twenty_new_meters_of_one_batch_are_all_found_and_no_phantom(base):
    """New ones show 0: the wired AND of two of them is easily taken for one of the two."""
    ids = {f"1100000{digit}" for digit in "0123456789ABCDE"} | {f"1100001{n}" for n in range(5)}
    found, _ = search([heat(one, base=base) for one in sorted(ids)])
    assert numbers(found) == ids


def test_the_phantom_of_two_numbers_is_not_found():
    found, _ = search([heat("11000001", base=0), heat("11000002", base=0)])
    assert numbers(found) == {"11000001", "11000002"}


def test_a_meter_hidden_below_another_one_is_found():
    found, _ = search([heat("11000001", base=0), heat("11000003", base=0)])
    assert numbers(found) == {"11000001", "11000003"}


def test_two_meters_of_one_number_are_both_found_and_a_person_is_told():
    both = [heat("45120042", version=3), water("45120042"), heat("45120043")]
    found, _ = search(both)
    assert numbers(found) == {"45120042-GDN-03-04", "45120042-GDN-01-07", "45120043"}
    assert sum("same number" in "".join(one.warnings) for one in found) == 2


def test_two_meters_that_nothing_tells_apart_are_said_to_be_there():
    found, _ = search([heat("45120042"), heat("45120042", base=5)])
    assert numbers(found) == {"45120042"}
    assert "cannot be read" in found[0].warnings[0]


def test_found_meters_are_ready_to_paste_with_their_index_and_medium():
    found, _ = search([water("45120042")])
    assert found[0].name == "mbus-45120042"
    assert dict(found[0].entry) == {
        "address": "45120042", "profile": "mbus-cold-water", "every": "1h",
    }  # fmt: skip
    assert found[0].about.startswith("GDN 45120042, water, 7351.0")


def test_expected_meters_are_asked_for_first_and_the_missing_named():
    meters = [heat("45120042"), heat("10000000")]
    found, progress = search(meters, Wish(first="", expected=("45120042", "45120099", "x")))
    assert [one.entry["address"] for one in found] == ["45120042", "10000000"]
    words = [one.words for one in progress]
    assert "45120099 is expected, and does not answer" in words
    assert any('"x" is not the number' in one for one in words)


def test_a_beginning_of_the_number_limits_the_search():
    found, _ = search([heat("45120042"), heat("46000000")], Wish(first="45FFFFFF"))
    assert numbers(found) == {"45120042"}


def test_primary_addresses_are_searched_and_who_shares_one_is_told():
    meters = [heat("45120042", 7), heat("45120043", 9), water("45120044", 9, base=3)]
    found, progress = search(meters, Wish(first="1", last="20"))
    assert numbers(found) == {"7", "9"}
    assert "cannot be read" in found[1].warnings[0]
    assert progress[-1].total == 20


@pytest.mark.parametrize("wish", [Wish("9", "7"), Wish("1", "251"), Wish("x"), Wish("4512")])
def test_what_cannot_be_searched_is_refused(wish):
    with pytest.raises(Refused, match="--first"):
        search([], wish)


def test_another_master_on_the_line_stops_the_search():
    class Chatty(Bus):
        """Somebody else's talk comes on its own."""

    async def go():
        bus = Chatty([heat("45120042")], 38_400)
        async with on_tcp(bus) as driver:
            driver.listen = 0.2
            driver.line.wire.received.clear()
            asyncio.get_running_loop().call_later(
                0.05, driver.line.wire.feed, bus.slaves[0]._frame(b"")
            )
            async for _ in driver.discover(Wish()):
                pass

    with pytest.raises(Refused, match="another master"):
        asyncio.run(go())


def test_noise_alone_is_no_master():
    async def go():
        async with on_tcp(Bus([], 38_400)) as driver:
            driver.listen = 0.1
            asyncio.get_running_loop().call_later(0.05, driver.line.wire.feed, b"\x00\x68\xff\x10")
            return [one async for one in driver.discover(Wish("1", "1"))]

    assert asyncio.run(go())
