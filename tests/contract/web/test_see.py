"""What the pages show of lines, recipients and dwellings, and to whom: a gateway that reads real
meters, its door, and the page as a process.
"""

import asyncio
import contextlib
import re
from functools import partial

import pytest

from agent.api.calls import CALLS
from agent.api.privacy import is_common
from agent.api.registry import Caller
from agent.buffer.history_store import SeriesName, SlotValue
from agent.core.errors import Refused
from agent.gateway.plant_history import serve_history
from agent.local import open_door
from agent.registry import identity
from hil.building import Building
from hil.page_server import page_of
from tests.contract.gateway.running import at_work
from tests.page import browser, submit
from tests.waiting import until

CONFIG = """\
building: {{name: Les Alpins, timezone: Europe/Paris}}
links:
  hall: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}}}
  cave: {{driver: modbus-tcp, host: 127.0.0.1, port: 9}}
devices:
  chaufferie:
    link: hall
    address: 1
    profile: eastron-sdm120
    place: CZS2Y-FSTBQ-Q5WDC
    every: 1s
    points: {{voltage: {{every: 1s}}}}
  m-2: {{link: hall, address: 2, profile: eastron-sdm120, every: 1min}}
  m-3: {{link: hall, address: 3, profile: eastron-sdm120, every: 1min}}
  m-cave: {{link: cave, address: 1, profile: eastron-sdm120, every: 1h}}
uplinks:
  centre: {{recipient: r.example, transport: mqtt, url: "mqtt://127.0.0.1:9", seal: 1h}}
privacy: {{policy: DEMO-1, common: {{basis: AG du 12 mai, from: 2020-01-01}}}}
clock: {{source: system}}
state: {state}
spool: {{max: 50MB, flush: 200ms}}
web: {{listen: ["127.0.0.1:8443"]}}
"""
HOSTILE = "<script>alert(1)</script>' & שלום"
LABELS = [HOSTILE, "A-2", "A-10", "Étage 1", *(f"B-{n}" for n in range(60))]
ROLES = ("installer", "manager", "operator", "dpo", "reader")
PASSWORD = "une phrase longue"


@pytest.fixture(scope="module")
def loop():
    """One loop for the file: the building is started once."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def world(loop, tmp_path_short):
    stack = contextlib.AsyncExitStack()
    yield loop.run(stack.enter_async_context(_world(tmp_path_short)))
    loop.run(stack.aclose())


@pytest.fixture(scope="module")
def tmp_path_short(tmp_path_factory):
    """A folder whose path leaves room for the name of a socket."""
    return tmp_path_factory.mktemp("w")


class World:
    def __init__(self, house, page, meters):
        self.house, self.page, self.meters = house, page, meters
        self.people = {}

    async def ask(self, call, **args):
        return await CALLS[call](self.house, Caller("root", None), named="Eva", **args)

    async def list(self, call, **args):
        return await CALLS[call](self.house, Caller("root", None), **args)


@contextlib.asynccontextmanager
async def _world(folder):
    async with Building.open(lines=1, meters=3) as meters:
        config, state = folder / "config.yaml", folder / "state"
        state.mkdir(mode=0o700)
        identity.mint(state)
        config.write_text(CONFIG.format(port=meters.ports[0], state=state), encoding="utf-8")
        async with at_work(config) as house:
            house.jobs.start("local socket", lambda: open_door(house, state))
            opening = partial(serve_history, house, partial(is_common, house))
            await house.jobs.open("history", opening)
            await until((state / "gardien.sock").exists)
            async with page_of(folder, state) as page:
                world = World(house, page, meters)
                await _filled(world)
                for role in ROLES:
                    world.people[role] = await _invited(world, role)
                yield world
                for session in world.people.values():
                    await session.close()


async def _filled(world):
    rows = [f"{label};dwelling;{'' if label == 'A-10' else '2024-03-01'}" for label in LABELS]
    text = "\n".join(["label;type;since", *rows])
    await world.ask("place.import", text=text, name="places.csv", reviewed=True)
    await until(lambda: world.house.lines.serial("m-2") and world.house.lines.serial("m-3"))
    await world.ask("meter.assign", dwelling="A-2", device="m-2")
    await world.ask("meter.assign", dwelling=HOSTILE, device="m-3")
    await world.ask("consent.give", places=["A-2", "B-7", "B-8", "B-9"], recipient="r.example",
                    channels=["elec.imp"], purpose="conseil <b>", scope="daily")  # fmt: skip
    await world.ask("consent.withdraw", place="B-8")
    await world.ask("occupancy.move_out", place="B-9")
    await until(lambda: world.house.lines.latest("chaufferie", "voltage"))


async def _invited(world, role):
    """A browser that is logged in as a person with one role."""
    invited = await world.ask("web.person.add", name=role.title(), roles=[role])
    session = browser(world.page)
    await submit(session, "/login/code", "/login", code=invited["code"], name="")
    status, path, text = await submit(
        session, "/login/choose", "/login", code=invited["code"], password=PASSWORD, again=PASSWORD
    )
    assert (status, path) == (200, "/"), text
    return session


@pytest.fixture
def shown(loop, world):
    """What a path shows to a role: status and text."""

    def ask(role, path, language="en"):
        async def get():
            headers = {"Accept-Language": language}
            async with world.people[role].get(path, headers=headers) as answer:
                return answer.status, await answer.text()

        return loop.run(get())

    return ask


def posted(loop, world, role, path, **fields):
    return loop.run(submit(world.people[role], path, **fields))


def words(text):
    """The text of a page without marks."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def test_lines_show_common_plant_live_and_no_value_of_a_dwelling(shown):
    status, text = shown("installer", "/lines")
    assert status == 200
    assert re.search(r'data-value="value/chaufferie/voltage">2[0-9]{2}\.?[0-9]* V<', text)
    assert "line not open" in text
    assert "2 devices of dwellings" in text or "1 device of dwellings" in text
    assert "kWh" not in words(text).partition("m-2")[2]


def test_what_is_not_there_is_said_with_the_building_only_to_who_is_logged_in(loop, world, shown):
    status, text = shown("reader", "/none-such")
    assert status == 404
    assert "what this page showed may be gone" in text
    assert "Les Alpins" in text
    assert '<a href="/recipients">' in text

    async def stranger():
        async with (
            browser(world.page) as session,
            session.get("/") as first,  # the page knows the building's name now
            session.get("/login/none-such") as answer,
        ):
            return await first.text(), answer.status, await answer.text()

    first, status, text = loop.run(stranger())
    assert "Les Alpins" in first
    assert status == 404
    assert "Les Alpins" not in text
    assert "Europe/Paris" not in text


@pytest.mark.parametrize("role", ["operator", "reader"])
def test_who_may_not_see_places_sees_no_device_of_a_dwelling(shown, role):
    _status, text = shown(role, "/lines")
    assert "chaufferie" in text
    assert "m-2" not in text
    assert "A-2" not in text
    assert "your role does not see which" in text
    status, text = shown(role, "/lines/hall/m-2")
    assert status == 409
    assert "your role does not see it" in text


def test_a_device_of_common_plant_shows_quality_and_is_read_at_once(loop, world, shown):
    _status, text = shown("operator", "/lines/hall/chaufferie")
    assert "voltage" in text
    assert "measured" in text
    status, _path, text = posted(loop, world, "operator", "/lines/hall/chaufferie")
    assert status == 200
    assert "All points have answered" in text
    assert f"<span>{world.meters.serial(0, 1)}</span>" in text


def test_a_dwellings_meter_is_read_for_a_reason_that_residents_can_see(loop, world, shown):
    _status, text = shown("installer", "/lines/hall/m-2")
    assert "Values of dwellings are not shown here" in text
    assert not re.search(r"[0-9] kWh", words(text))
    status, _path, text = posted(loop, world, "installer", "/lines/hall/m-2")
    assert status == 409
    assert "Why do you need this?" in text
    assert not re.search(r"[0-9] kWh", words(text))
    status, _path, text = posted(
        loop, world, "installer", "/lines/hall/m-2", reason="the display is broken"
    )
    assert status == 200
    assert re.search(r"[0-9] kWh", words(text))
    looks = loop.run(world.list("privacy.access", place="A-2"))["looks"]
    assert [look for look in looks if look["reason"] == "the display is broken"]


def test_nobody_else_reads_a_meter(loop, world):
    for role in ("manager", "dpo", "reader"):
        status, _path, text = posted(loop, world, role, "/lines/hall/m-2", reason="just curious")
        assert status == 409
        assert not re.search(r"[0-9] kWh", words(text)), role


def test_a_recipient_shows_what_waits_and_for_how_long_it_can(shown):
    _status, text = shown("reader", "/recipients")
    plain = words(text)
    assert "not connected now" in plain
    assert re.search(r"Can wait for (more than a year|about [0-9]+ days)", plain)
    assert re.search(r"[0-9]+ values? waits?", plain)
    assert "The manager and the data protection officer see the bases" in plain
    assert "conseil" not in plain


def test_bases_are_counted_for_those_who_may_see_people(shown):
    _status, text = shown("dpo", "/recipients")
    assert "conseil &lt;b&gt;" in text
    assert "2 consents" in text
    assert "A-2" not in text


def test_the_counted_consents_are_those_in_force(loop, world):
    listed = loop.run(world.list("consent.list"))["consents"]
    in_force = [one for one in listed if one["in_force"]]
    assert (len(listed), len(in_force)) == (4, 2)
    places = [one["place"] for one in listed]
    counted = loop.run(world.list("consent.count", places=places))
    assert [row["number"] for row in counted["consents"]] == [2]
    assert {row["place"] for row in counted["places"]} == {one["place"] for one in in_force}


def test_a_list_of_dwellings_has_no_index(loop, world):
    (meter,) = loop.run(world.list("dwelling.list", search="A-2"))["meters"]
    assert meter["serial"] == world.meters.serial(0, 2)
    assert not {"opened", "closed", "offset"} & meter.keys()
    with pytest.raises(Refused, match="vacant"):
        loop.run(world.list("dwelling.list", only="nix"))


def test_only_installers_may_send_refused_batches_again(loop, world):
    status, _path, text = posted(
        loop, world, "reader", "/recipients/centre/retry", on="/recipients"
    )
    assert status == 409
    assert "gardien-installer" in text or "installer" in text
    status, path, _text = posted(
        loop, world, "installer", "/recipients/centre/retry", on="/recipients"
    )
    assert (status, path) == (200, "/recipients")


def test_dwellings_are_sorted_as_people_sort_and_come_fifty_at_a_time(shown):
    _status, text = shown("manager", "/dwellings")
    assert "64 dwellings, shown: 1 to 50" in words(text)
    assert words(text).index("A-2 ") < words(text).index("A-10 ") < words(text).index("B-0 ")
    assert text.count("<tr>") == 51
    _status, last = shown("manager", "/dwellings?page=2")
    assert "shown: 51 to 64" in words(last)
    for odd in ("99999999999", "0", "-1", "x", "٣"):
        status, text = shown("manager", f"/dwellings?page={odd}")
        assert status == 200


def test_the_search_finds_labels_without_accents_ids_and_serial_numbers(world, shown):
    serial = world.meters.serial(0, 2)
    for search, label in (("etage", "Étage 1"), (serial, "A-2"), ("a-10", "A-10")):
        _status, text = shown("installer", f"/dwellings?q={search}")
        assert "1 dwelling" in words(text)
        assert label in text
    _status, text = shown("installer", "/dwellings?only=unknown")
    assert "1 dwelling" in words(text)
    _status, text = shown("installer", "/dwellings?q=nowhere")
    assert "No dwelling fits this search" in text


def test_who_may_not_see_people_sees_no_consent_of_a_dwelling(shown):
    _status, text = shown("installer", "/dwellings?q=A-2")
    assert "r.example" not in text
    _status, text = shown("manager", "/dwellings?q=A-2")
    assert "r.example" in text
    for role in ("operator", "reader"):
        status, text = shown(role, "/dwellings")
        assert status == 409
        assert "A-2" not in text


def test_a_dwelling_shows_meter_lease_and_bases_without_values(loop, world, shown):
    place = loop.run(world.list("place.check", text="A-2"))["id"]
    _status, text = shown("dpo", f"/dwellings/{place}")
    plain = words(text)
    assert world.meters.serial(0, 2) in plain
    assert "conseil &lt;b&gt;" in text
    assert "Occupied since" in plain
    assert "kWh" not in plain
    _status, text = shown("installer", f"/dwellings/{place}")
    assert world.meters.serial(0, 2) in words(text)
    assert "conseil" not in text
    assert "Occupied since" not in words(text)
    status, text = shown("reader", f"/dwellings/{place}")
    assert status == 409
    assert world.meters.serial(0, 2) not in text


def test_a_form_names_the_dwelling_by_its_label_and_another_language_shows_the_same_page(
    loop, world, shown
):
    place = loop.run(world.list("place.check", text="A-2"))["id"]
    _status, text = shown("manager", f"/people/move-out?place={place}")
    assert 'name="place" value="A-2"' in text
    assert f"back=/people/move-out%3Fplace%3D{place}" in text


def test_a_form_of_an_ended_session_says_that_it_was_not_recorded(loop, world):
    async def send():
        session = browser(world.page)
        try:
            return await submit(session, "/people/move-in", "/login", place="A-2")
        finally:
            await session.close()

    _status, path, text = loop.run(send())
    assert path.startswith("/login")
    assert "what you just sent was not recorded" in words(text)


def test_a_hostile_label_stays_text(loop, world, shown):
    place = loop.run(world.list("place.check", text=HOSTILE))["id"]
    for role, path in (
        ("installer", "/lines"), ("installer", "/lines/hall/m-3"), ("manager", "/dwellings"),
        ("manager", f"/dwellings/{place}"), ("manager", "/dwellings?q=<script>alert(1)</script>"),
    ):  # fmt: skip
        status, text = shown(role, path)
        assert status == 200
        assert "<script>alert" not in text
        assert "&lt;script&gt;" in text, path
    for path in ("/lines/hall/<script>", "/lines/hall/..%2f..", "/dwellings/<script>"):
        status, text = shown("installer", path)
        assert status in {404, 409}
        assert "<script>" not in text


def test_french_pages_have_no_english(shown):
    for role, path in (("installer", "/lines"), ("dpo", "/recipients"), ("manager", "/dwellings")):
        _status, text = shown(role, path, language="fr")
        assert '<html lang="fr">' in text
        plain = words(text)
        for english in ("waiting", "consent ", "dwelling", "Devices", "answer", "since"):
            assert english not in plain, (path, english)


def test_live_values_arrive_for_common_plant_only(loop, world):
    async def first_values(role, query):
        async with world.people[role].get(f"/live?{query}") as answer:
            assert answer.content_type == "text/event-stream"
            async with asyncio.timeout(10):
                while b"values" not in await answer.content.readline():
                    pass
                return (await answer.content.readline()).decode()

    for query in ("page=lines", "page=lines&device=m-2"):
        values = loop.run(first_values("installer", query))
        assert "value/m-2" not in values
        assert "state/m-2" in values
    assert "value/chaufferie/voltage" in loop.run(first_values("reader", "page=lines"))
    assert "waiting/centre" in loop.run(first_values("reader", "page=recipients"))


def test_the_history_of_plant_and_gateway_is_drawn_and_given_as_csv(loop, world, shown):
    voltage = SeriesName(
        "chaufferie", "voltage", "elec.voltage", "V", "gauge", world.meters.serial(0, 1)
    )
    waiting = SeriesName("@gateway", "waiting/centre", None, "1", "gauge")
    sent = SeriesName("@gateway", "sent/centre", None, "B", "amount")
    now = int(world.house.clock.now()) // 900 * 900
    slots = [
        SlotValue(name, t, values)
        for t in range(now - 7200, now - 900, 900)
        for name, values in ((voltage, (229.0, 231.5, 234.0)), (waiting, (7.0, 7.0, 7.0)),
                             (sent, (1500.0,)))
    ]  # fmt: skip

    async def filled():
        opened = world.house.history.opened
        await opened.thread.run(opened.store.append, slots)

    loop.run(filled())
    _status, text = shown("operator", "/lines/hall/chaufferie")
    assert "highest 234 V" in text
    assert text.count('role="img"') == 2
    link = re.search(r'href="([^"]*history\.csv[^"]*)"', text)[1].replace("&amp;", "&")
    _status, table = shown("operator", link, "fr")
    assert ";231,5;229;234" in table
    status, text = shown("installer", "/lines/hall/m-2/history.csv?points=energy_import")
    assert status == 409
    assert "keeps no history of dwellings" in text
    _status, text = shown("reader", "/recipients")
    assert "Values waiting for centre" in text
    assert "highest 1.5 kB" in text
    _status, table = shown("reader", "/recipients/history.csv?point=waiting/centre")
    assert table.splitlines()[1].endswith(";7")
    _status, text = shown("reader", "/lines/hall/chaufferie")
    assert 'role="img"' not in text


def test_without_a_login_nothing_of_it_is_shown(loop, world):
    async def strange(path):
        async with browser(world.page) as session, session.get(path) as answer:
            return answer.url.path

    for path in ("/lines", "/lines/hall/chaufferie", "/recipients", "/dwellings",
                 "/lines/hall/chaufferie/history.csv"):  # fmt: skip
        assert loop.run(strange(path)) == "/login"
