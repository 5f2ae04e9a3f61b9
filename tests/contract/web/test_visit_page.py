"""The guided visit on the page: a real agent, meters on a socket, and a browser without scripts."""

import asyncio
import html
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import zipfile
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from agent.local import ask_daemon
from agent.registry import identity
from hil.page_server import page_of
from tests.page import TOKEN, browser, enter
from tests.waiting import until, wait_until

GARDIEN = Path(sys.executable).with_name("gardien")
CONFIG = """\
building: {{name: Les Alpins, timezone: Europe/Paris}}
clock: {{source: system}}
web: {{listen: ["127.0.0.1:8443"]}}
privacy: {{policy: FR-1}}
uplinks: {{}}
links:
devices:
state: {state}
"""
REASON = "first visit"
HOSTILE = "<script>alert(1)</script>"


class World:
    """A building of three meters, its agent and its page."""

    def __init__(self, folder, about, agent, page, runner):
        self.state, self.agent, self.page, self.run = folder / "state", agent, page, runner.run
        self.config, self.port = folder / "config.yaml", about["port"]
        self.serials = [meter["serial"] for meter in about["meters"]]
        self.code = self.ask("web.open", minutes=120, named="Root")["code"]

    def ask(self, call, **args):
        return ask_daemon(self.state, call, args, lambda _: None)

    def display(self, unit):
        """What the display of a meter shows: kWh with one decimal."""
        with socket.create_connection(("127.0.0.1", self.port)) as line:
            line.sendall(struct.pack(">HHHBBHH", 1, 0, 6, unit, 4, 72, 2))
            return f"{struct.unpack('>f', line.recv(260)[9:13])[0]:.1f}"

    def login_of(self, role):
        """A login of a person with this role alone."""
        code = self.ask("web.person.add", name=role, roles=[role], named="Root")["code"]
        entered = self.ask("web.choose", code=code, key="00" * 32, address="127.0.0.1")
        return entered["login"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v")
    (folder / "state").mkdir()
    (folder / "config.yaml").write_text(CONFIG.format(state=folder / "state"))
    identity.mint(folder / "state")
    meters = subprocess.Popen(
        [sys.executable, "-m", "hil.building", "--lines", "1", "--meters", "3"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    agent = subprocess.Popen([GARDIEN, "run", "-c", folder / "config.yaml"],
                             stderr=subprocess.DEVNULL)  # fmt: skip
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            about = json.loads(meters.stdout.readline())["lines"][0]
            wait_until((folder / "state" / "gardien.sock").exists)
            page = runner.run(
                stack.enter_async_context(page_of(folder, folder / "state", "--unused", "600"))
            )
            yield World(folder, about, agent, page, runner)
        finally:
            runner.run(stack.aclose())
            for process in (agent, meters):
                process.terminate()
                process.wait()
            meters.stdout.close()


async def post(session, path, on, *pairs, **fields):
    """Send a form; returns the path and the text of the page that follows, and its status."""
    async with session.get(on) as shown:
        token = TOKEN.search(await shown.text())[1]
    data = aiohttp.FormData(quote_fields=False)
    for name, value in [("token", token), *pairs, *fields.items()]:
        if isinstance(value, tuple):
            data.add_field(name, io.BytesIO(value[1]), filename=value[0])
        else:
            data.add_field(name, value)
    async with session.post(path, data=data) as answer:
        return answer.url.path, await answer.text(), answer.status


async def get(session, path):
    async with session.get(path) as answer:
        return await answer.text()


async def ended(session, path):
    """The page of a job when it has ended; without scripts the page loads itself again."""

    async def over():
        text = await get(session, path)
        if 'http-equiv="refresh"' in text:
            return ""
        return text

    return await until(over)


def of_form(text, name):
    """The values of the fields of this name."""
    return [html.unescape(one) for one in re.findall(rf'name="{name}" value="([^"]*)"', text)]


def text_of(page):
    """What a person sees of a page, and what its fields contain."""
    values = " ".join(re.findall(r'<input (?!type="hidden")[^>]*value="([^"]*)"', page))
    return re.sub(r"<[^>]*>", " ", page.partition("<main")[2]) + values


def syndic_list(serials):
    rows = [f"A-{number};{serial};{HOSTILE}" for number, serial in enumerate(serials, 1)]
    return "\n".join(["N° appartement;Cpt élec.;Nom du locataire", *rows]).encode()


async def record_list(world, session):
    """Record the syndic's list, in which two meters are swapped."""
    one, two, three = world.serials
    file = ("compteurs.csv", syndic_list([two, one, three]))
    path, text, _ = await post(session, "/visit/list", "/visit/list", file=file)
    assert path == "/visit/list/check"
    assert HOSTILE not in text
    assert html.escape(HOSTILE) in text
    assert '<option value="serial of elec.imp" selected>' in text
    assert world.ask("place.list")["places"] == []
    _, text, _ = await post(session, "/visit/list/record", path)
    assert "3 dwellings and other places, 3 meters" in text


async def add_line_and_devices(world, session):
    """Find the line, search it, try one device, and add all, one under another name."""
    one = world.serials[0]
    where = f"127.0.0.1:{world.port}"
    await post(session, "/visit/lines/find", "/visit/lines", where=where)
    text = await ended(session, "/visit/lines")
    (name,) = of_form(text, "add")
    _, text, _ = await post(session, "/visit/lines/add", "/visit/lines", add=name)
    assert "1 line was added" in text
    assert f">{where}<" in text

    # the devices: one is tried, then all are added, one under another name
    await post(session, "/visit/search", "/visit/search", link=name)
    text = await ended(session, "/visit/search")
    names = of_form(text, "add")
    assert len(names) == 3
    assert "All meters of the list were found." in text
    _, text, _ = await post(session, "/visit/search/try", "/visit/search", **{"try": names[0]})
    assert "each of its values was read" in text
    assert one in text
    assert world.ask("configuration")["written"]["devices"] is None
    chosen = [("add", each) for each in names]
    chosen.append((f"name-{names[0]}", "kitchen"))
    _, text, _ = await post(session, "/visit/search/add", "/visit/search", *chosen)
    assert "3 devices were added" in text
    assert {"kitchen", *names[1:]} == set(world.ask("configuration")["written"]["devices"])

    await post(session, "/visit/match", "/visit/match")
    assert "3 meters of the list answer on a line" in await ended(session, "/visit/match")


async def walk(world, session):
    """Go from flat to flat: no value is shown before the display is typed."""
    one = world.serials[0]
    text = await get(session, "/visit/flats")
    first = re.search(r'class="button" href="(/visit/flats/\w+)"', text)[1]
    text = await get(session, first)
    shown = world.display(1)
    assert not re.search(rf"\b{shown.partition('.')[0]}\b", text_of(text))
    (field,) = re.findall(r'name="(shown-[^"]+)"', text)
    path, text, _ = await post(session, first, first, **{field: shown})
    assert path == first
    assert f"This is what {one} (A-2) shows" in html.unescape(text)
    swap = {key: of_form(text, key)[0] for key in ("key", "typed", "device")}
    path, text, _ = await post(session, f"{first}/swap", first, **swap)
    assert "A-1: the displays agree with the meters" in text
    (field,) = re.findall(r'name="(shown-[^"]+)"', text)
    path, text, _ = await post(session, path, path, **{field: world.display(2)})
    assert "A-2: the displays agree with the meters" in text
    (field,) = re.findall(r'name="(shown-[^"]+)"', text)
    tenth = f"{float(world.display(3)) / 10:.2f}"
    _, text, _ = await post(session, path, path, **{field: tenth})
    assert "the values are 10 times too high" in text


async def hand_over(world, session):
    """Make the report, and see what is open."""
    one, _two, three = world.serials
    await post(session, "/visit/report", "/visit/report", readings="on")
    assert "The report is made" in await ended(session, "/visit/report")
    async with session.get("/visit/report/page") as answer:
        assert "sha256-" in answer.headers["Content-Security-Policy"]
        assert one in await answer.text()
    async with session.get("/visit/report/file") as answer:
        assert json.loads(await answer.text())
    await post(session, "/visit/check", "/visit")
    text = await ended(session, "/visit")
    assert "Meters compared with their display: 2 of 3" in text
    assert f"A-3 {three}: the values are 10 times too high" in text
    steps = world.ask("visit.show")["visit"]["steps"]
    assert {"list", "lines", "scan", "match", "report"} <= steps.keys()
    assert "flats" not in steps
    looks = world.ask("privacy.access")
    assert REASON in json.dumps(looks)


def test_an_installer_commissions_a_building_on_the_page(world):
    async def visit():
        async with browser(world.page) as session:
            await enter(session, world.code)
            await post(session, "/visit/begin", "/visit", reason=REASON)
            await record_list(world, session)
            await add_line_and_devices(world, session)
            await walk(world, session)
            await hand_over(world, session)

    world.run(visit())


def test_a_step_done_at_the_terminal_is_done_on_the_page(world):
    async def look():
        async with browser(world.page, **{"Accept-Language": "fr"}) as session:
            await enter(session, world.code)
            kept = world.ask("visit.show")["visit"]
            steps = kept.get("steps", {}) | {"delivery": 1.0}
            world.ask("visit.keep", visit=kept | {"steps": steps})
            text = await get(session, "/visit/delivery")
            assert '<html lang="fr">' in text
            assert "fait" in text
            assert "Demande à l&#39;autorité de certification" in text

    world.run(look())


def test_values_of_dwellings_are_compared_only_with_a_reason(world):
    async def compare():
        async with browser(world.page) as session:
            await enter(session, world.code)
            # nothing of the visit is known to this browser
            _, text, status = await post(
                session, "/visit/search/try", "/visit/search", link="x", address="1"
            )
            assert status == 409
            assert "Why do you need this?" in text
            # the form that asks carries what was typed
            assert of_form(text, "address") == ["1"]

    world.run(compare())


def test_the_reason_of_a_visit_is_not_that_of_the_next_person(world):
    async def look():
        async with browser(world.page) as session:
            await enter(session, world.code)
            await post(session, "/visit/begin", "/visit", reason="of Marie alone")
            assert "of Marie alone" in await get(session, "/visit")
            async with session.get("/visit") as shown:
                token = TOKEN.search(await shown.text())[1]
            async with session.post("/leave", data={"token": token}):
                pass
            await enter(session, world.code, "Paul")
            text = await get(session, "/visit")
            assert "of Marie alone" not in text
            assert "Why are you here?" in text

    world.run(look())


def test_what_somebody_searches_is_shown_to_no_other_login(world):
    async def look():
        async with browser(world.page) as marie, browser(world.page) as paul:
            await enter(marie, world.code)
            await enter(paul, world.code, "Paul")
            await post(marie, "/visit/lines/find", "/visit/lines", where="127.0.0.2")
            assert "aria-live" not in await get(paul, "/visit/lines")
            await post(paul, "/visit/stop", "/visit/lines", job="find")
            # stopping ends the call, and the person sees it
            _, text, _ = await post(marie, "/visit/stop", "/visit/lines", job="find")
            assert "aria-live" not in text

    world.run(look())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"x" * 2_000_001, "larger than"),
        (b"\0\1\2" * 100, "not a table"),
        (b"PK\x03\x04 broken", "cannot be read"),
        (b"a;b\n1;2\n", "no column says which dwelling"),
    ],
)
def test_a_file_that_is_no_list_is_refused_with_the_reason(world, content, why):
    async def upload():
        async with browser(world.page) as session:
            await enter(session, world.code)
            _, text, _ = await post(session, "/visit/list", "/visit/list",
                                    file=(f"{HOSTILE}.csv", content))  # fmt: skip
            assert why in text
            assert HOSTILE not in text

    world.run(upload())


def test_a_workbook_that_would_fill_the_memory_is_refused(world):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/workbook.xml", b"<workbook><sheets>" + b" " * 60_000_000)

    async def upload():
        async with browser(world.page) as session:
            await enter(session, world.code)
            before = world.page.memory
            _, text, status = await post(session, "/visit/list", "/visit/list",
                                         file=("bomb.xlsx", made.getvalue()))  # fmt: skip
            assert status == 409
            assert "bomb.xlsx" in text
            assert world.page.memory - before < 30_000_000

    world.run(upload())


@pytest.mark.parametrize("role", ["manager", "operator", "dpo", "reader"])
def test_only_installers_make_the_visit(world, role):
    async def look():
        login = world.login_of(role)
        cookies = {"Cookie": f"__Host-gardien={login}"}
        async with browser(world.page, **cookies) as session:
            for path in ("/visit", "/visit/lines", "/visit/flats", "/visit/report"):
                async with session.get(path) as answer:
                    text = await answer.text()
                    assert answer.status in {200, 409}, path
                    assert answer.status == 409 or path == "/visit/report", path
                    assert "installer" in text
            assert 'href="/visit"' not in await get(session, "/")

    world.run(look())


def test_a_call_that_searches_several_ports_mixes_no_messages(world):
    class Enough(Exception):
        pass

    def take(message):
        seen.append(message)
        if len(seen) == 3:
            raise Enough

    seen, ports = [], [os.openpty() for _ in range(3)]
    try:
        names = [os.ttyname(near) for _far, near in ports]
        with pytest.raises(Enough):
            ask_daemon(world.state, "line.find", {"ports": names}, take)
    finally:
        for both in ports:
            for one in both:
                os.close(one)
