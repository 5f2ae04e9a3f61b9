"""A line is searched: everybody on it is found, and nobody who is not."""

from __future__ import annotations

import asyncio

import pytest

from agent.api.calls import CALLS
from agent.app import opened
from agent.config.load import load
from agent.core.errors import Refused
from agent.drivers.base import Found, Progress, Wish
from agent.drivers.link import Link
from agent.drivers.mbus.bus import MbusTcp
from agent.drivers.mbus.scan import scan
from agent.drivers.mbus.settings import MbusTcpSettings
from hil.mbus.encode import Plate
from hil.mbus.line import Bus
from hil.mbus.serve import tcp
from tests.contract.drivers.mbus.setting import (
    bare_line,
    heat,
    on_tcp,
    points,
    timed_line,
    water,
)


def search(slaves, wish=None, listen=0.0, **bus):
    """Who was found, and what was said meanwhile. Without a wish: by their numbers only."""

    async def go():
        async with bare_line(Bus(slaves, 38_400, **bus)) as line:
            said = scan(line, wish or Wish(first="FFFFFFFF"), listen)
            return [one async for one in said]

    said = asyncio.run(go())
    assert max((sent(slave) for slave in slaves), default=0) <= 5  # of one battery, in one scan
    found = [one for one in said if isinstance(one, Found)]
    addresses = [one.entry["address"] for one in found]
    assert len(addresses) == len(set(addresses))
    return found, [one for one in said if isinstance(one, Progress)]


def sent(slave):
    """Telegrams that cost its battery something."""
    return slave.answers + slave.repetitions


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


def test_two_meters_that_only_their_makers_tell_apart_are_both_found():
    both = [heat("45120042", manufacturer="KAM"), heat("45120042", manufacturer="ITR", base=77)]
    found, _ = search(both, Wish(first="4512004F"))
    assert numbers(found) == {"45120042-KAM-01-04", "45120042-ITR-01-04"}
    assert all("same number" in one.warnings[-1] for one in found)


def test_two_meters_that_only_their_fabrication_numbers_tell_apart_are_both_found():
    both = [heat("45120042"), heat("45120042", base=77)]
    both[0].fabrication, both[1].fabrication = "00000017", "00000023"
    found, _ = search(both, Wish(first="4512004F"))
    assert numbers(found) == {"45120042-GDN-01-04+00000017", "45120042-GDN-01-04+00000023"}


@pytest.mark.parametrize("ignores", ["", "fabrication"])
def test_two_meters_that_nothing_tells_apart_are_said_to_be_there(ignores):
    found, _ = search([careless(heat("45120042", base=base), ignores) for base in (5, 7_351_000)])
    assert numbers(found) == {"45120042"}
    assert "cannot be read" in found[0].warnings[0]


EVERYTHING = Wish()
BY_NUMBER = Wish(first="FFFFFFFF")


def careless(slave, ignores):
    """A meter that does not compare all of a selection."""
    slave.ignores = ignores
    return slave


@pytest.mark.parametrize("ignores", ["wildcards", "numbers"])
@pytest.mark.parametrize("base", [0, 7_351_000])
@pytest.mark.parametrize("wish", [BY_NUMBER, EVERYTHING])
def test_a_meter_that_answers_any_wildcard_is_found_and_read_a_few_times_only(ignores, base, wish):
    """It acknowledges every branch of the tree of numbers, and nobody is below any of them."""
    meters = [careless(heat("45120042", 3, base=base), ignores), heat("12345678", base=base)]
    found, _ = search(meters, wish)
    assert "45120042" in numbers(found)
    assert "answers whatever number is asked for" in found[0].warnings[-1]
    assert sent(meters[0]) <= 2


def test_numbers_expected_are_not_asked_for_beside_a_meter_that_answers_for_any_number():
    meters = [careless(heat("45120042"), "numbers")]
    expected = tuple(f"1000000{digit}" for digit in range(9))
    found, _ = search(meters, Wish(first="FFFFFFFF", expected=expected))
    assert numbers(found) == {"45120042"}
    assert sent(meters[0]) == 1


@pytest.mark.parametrize("base", [0, 7_351_000])
@pytest.mark.parametrize("expected", [(), tuple(f"1000{digit}042" for digit in range(9))])
def test_the_search_by_number_ends_when_one_meter_answers_for_two_others(base, expected):
    meters = [careless(heat("45120042", base=base), "beginning")]
    _, progress = search(meters, Wish(first="FFFFFFFF", expected=expected))
    assert [one for one in progress if one.stays or "answers whatever" in one.words]


def test_a_meter_that_answers_any_version_and_medium_is_told_from_another_of_its_number():
    meters = [careless(heat("45120042", base=0), "kind"), water("45120042", base=0)]
    found, _ = search(meters, EVERYTHING)
    assert numbers(found) == {"45120042-GDN-01-04"}
    assert "answers whatever version and medium is asked for" in found[0].warnings[-1]


@pytest.mark.parametrize("ignores", ["", "kind"])
def test_an_answer_from_another_number_than_the_one_asked_for_is_listed_as_such(ignores):
    meter = careless(heat("45120042"), ignores)
    meter.header = Plate("99887766")
    found, _ = search([meter, heat("45120043")])
    assert numbers(found) == {"45120042", "45120043"}
    assert found[0].about == "GDN 99887766, heat, 7351001 kWh, answered for 45120042"
    assert "99887766 answered when 45120042 was asked for" in found[0].warnings[0]


def test_an_expected_number_for_which_another_one_answers_is_listed_as_such():
    meter = heat("45120042")
    meter.header = Plate("99887766")
    found, progress = search([meter], Wish(first="FFFFFFFF", expected=("45120042",)))
    assert numbers(found) == {"45120042"}
    assert "99887766 answered when 45120042 was asked for" in found[0].warnings[0]
    assert not [one.words for one in progress if "does not answer" in one.words]


def test_a_meter_that_answers_at_every_primary_address_is_read_once():
    meters = [careless(heat("45120042", 7), "address")]
    found, _ = search(meters, Wish("1", "250"))
    assert numbers(found) == {"7"}
    assert "answers at every primary address" in found[0].warnings[-1]
    assert sent(meters[0]) == 1


def test_meters_that_share_number_and_primary_address_are_read_five_times_at_most():
    meters = [heat("45120042", 9, base=0), heat("45120042", 9, base=0), heat("45120042", 9)]
    meters[2].fabrication = "00000023"
    found, _ = search(meters, EVERYTHING)
    assert numbers(found)


SIXTY = [f"{45_120_100 + number:08d}" for number in range(60)]
SCATTERED = [f"{12_345_678 * number % 99_999_989:08d}" for number in range(1, 61)]


@pytest.mark.parametrize(
    ("ids", "wish", "before"),
    [
        ([], EVERYTHING, 0.9),
        (SIXTY, EVERYTHING, 0.5),
        (SCATTERED, EVERYTHING, 0.5),
        (SIXTY, Wish(expected=tuple(SIXTY)), 0.8),
        (SCATTERED, Wish(expected=tuple(SCATTERED)), 0.8),
    ],
)
def test_the_time_that_a_search_says_it_takes_is_near_what_it_takes(ids, wish, before):
    """Before it begins, `before` of it at least; from the middle on, within a fifth."""

    async def go():
        bus = Bus([heat(one, number + 1) for number, one in enumerate(ids)], 2400)
        async with timed_line(bus, 2400, latency=0.05) as line:
            found = [(line.busy, one) async for one in scan(line, wish, 0.0)]
        told = [(at, one.words) for at, one in found if isinstance(one, Progress)]
        return line.busy, [(at, seconds(words)) for at, words in told if "about" in words]

    whole, told = asyncio.run(go())
    assert before * whole < told[0][1] < 1.5 * whole
    for at, left in told:
        if at > whole / 2:
            assert abs(left - (whole - at)) < 0.2 * whole


def seconds(words):
    number, unit = words.rpartition("about ")[2].split()[:2]
    return float(number) * {"s": 1, "min": 60}[unit]


def test_before_it_listens_a_search_says_how_long_it_will_take():
    _, progress = search([], EVERYTHING, listen=0.01)
    assert progress[0].words.startswith("listening for another master; the search then takes")


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
    stays = [one.words for one in progress if one.stays]
    assert stays[0] == "meter 45120099 is expected, but does not answer"
    assert stays[1].startswith('"x" is not the number')
    assert progress[0].total == 265  # what is to come is known from the beginning


def test_a_beginning_of_the_number_limits_the_search():
    found, _ = search([heat("45120042"), heat("46000000")], Wish(first="45FFFFFF"))
    assert numbers(found) == {"45120042"}


def test_primary_addresses_are_searched_and_who_shares_one_is_told():
    meters = [heat("45120042", 7), heat("45120043", 9), water("45120044", 9, base=3)]
    found, progress = search(meters, Wish(first="1", last="20"))
    assert numbers(found) == {"7", "9"}
    assert "cannot be read" in found[1].warnings[0]
    assert progress[-1].total == 20


def test_a_search_of_addresses_leaves_no_old_answer_behind():
    """It sets frame count bits back: asked with the old one, a meter would repeat itself."""
    meters = [heat("45120042", 1), heat("45120043", 2)]

    async def go():
        async with on_tcp(Bus(meters, 38_400)) as driver:
            said = []
            for _ in range(3):
                said += [(await driver.read(points(one)))[0].value for one in "12"]
                async for _one in driver.discover(Wish("1", "1")):
                    pass
            return said

    said = asyncio.run(go())
    assert sum(meter.repetitions for meter in meters) == 0
    assert len({*said[::2]}) == len({*said[1::2]}) == 3


def test_readings_go_between_the_steps_of_a_search():
    """Rule F7."""

    async def go():
        async with tcp(Bus([heat("45120042", 1)], 38_400)) as port:
            settings = MbusTcpSettings(
                host="127.0.0.1", port=port, baudrate=38_400, latency=0.01, listen=0
            )
            link = Link("heat", lambda: MbusTcp.open(settings))
            serving = asyncio.ensure_future(link.serve())
            await link.tried()
            steps = reads = 0
            async for _ in link.discover(Wish("1", "12")):
                steps += 1
                with pytest.raises(Refused, match="being searched already"):
                    await anext(link.discover(Wish()))
                reads += (await link.read(points("45120042")))[0].value is not None
            assert isinstance(await anext(link.discover(Wish("2", "2"))), Progress)
            serving.cancel()
            await asyncio.wait([serving])
            return steps, reads

    assert asyncio.run(go()) == (13, 13)


CONFIG = """
building: {{name: Les Alpins}}
links:
  heat:
    {{driver: mbus-tcp, host: 127.0.0.1, port: {port}, baudrate: 38400, latency: 10ms, listen: 0s}}
devices:
  upstairs: {{link: heat, address: "45120042-GDN-01-04", every: 1h}}
  mbus-45120043: {{link: heat, address: "7", every: 1h}}
clock: {{source: system}}
state: {state}
"""


class Asker:
    """Somebody who is told how far it is."""

    page = False

    async def progress(self, words):
        assert words


def test_what_is_configured_has_its_own_name_and_what_is_new_a_free_one(tmp_path):
    async def go():
        async with tcp(Bus([heat("45120042"), heat("45120043")], 38_400)) as port:
            path = tmp_path / "config.yaml"
            path.write_text(CONFIG.format(port=port, state=tmp_path))
            with opened(load(path)) as house:
                serving = asyncio.ensure_future(house.lines["heat"].link.serve())
                wish = {"link": "heat", "first": "4512004F", "expected": ["45120099"]}
                answer = await CALLS["scan"](house, Asker(), **wish)
                serving.cancel()
                await asyncio.wait([serving])
                return answer

    answer = asyncio.run(go())
    assert [(one["name"], one["configured"]) for one in answer["devices"]] == [
        ("upstairs", True),
        ("mbus-45120043-2", False),
    ]
    assert answer["remarks"] == ["meter 45120099 is expected, but does not answer"]


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
