"""What somebody with a browser may try against the page: nothing of it reaches more than it may.

A gateway that reads real meters, its door, the page as a process, and between both a relay that
notes each call. The tables are made of the page's own routes, so a new page is attacked too.
"""

import asyncio
import contextlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.api.calls import CALLS
from agent.api.registry import Caller
from agent.local import open_door
from agent.registry import identity
from agent.web.run import application
from hil.building import Building
from hil.page_server import page_of
from tests.contract.gateway.running import at_work
from tests.page import TOKEN, browser, submit
from tests.waiting import until

HOSTILE = "<script>alert(1)</script>' \" {{7*7}} \u05e9\u05dc\u05d5\u05dd"
CONFIG = """\
building: {{name: "Les <i>Alpins</i> {{{{7*7}}}}", timezone: Europe/Paris}}
links:
  hall: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}}}
devices:
  chaufferie:
    link: hall
    address: 1
    profile: eastron-sdm120
    place: CZS2Y-FSTBQ-Q5WDC
    every: 1s
  m-2: {{link: hall, address: 2, profile: eastron-sdm120, every: 1min}}
uplinks:
  centre: {{recipient: r.example, transport: mqtt, url: "mqtt://127.0.0.1:9", seal: 1h}}
privacy: {{policy: DEMO-1, common: {{basis: AG du 12 mai, from: 2020-01-01}}}}
clock: {{source: system}}
state: {state}
spool: {{max: 50MB, flush: 200ms}}
web: {{listen: ["127.0.0.1:8443"]}}
"""
ROLES = ("installer", "manager", "operator", "dpo", "reader")
SEE_PLACES = ("installer", "manager", "dpo")
PASSWORD = "une phrase longue"
SECRETS = ("A-2", "alert(1)", "BAIL-17", "m-2", "chaufferie", "r.example")
"""what a stranger must not see"""
ROUTES = sorted(
    {(route.method, route.resource.canonical) for route in application(Path("x")).router.routes()}
    - {("GET", "/static"), ("HEAD", "/static")}
)
GETS = [path for method, path in ROUTES if method == "GET"]
POSTS = [path for method, path in ROUTES if method == "POST"]
KNOWN = {"line": "hall", "device": "m-2", "name": "centre", "kind": "leases", "move": "move-in",
         "language": "fr", "place": "A-2", "id": "A-2"}  # fmt: skip
EVIL = (
    "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e", "%00", "x%0d%0aX-Evil:%201", "%f0%9f%94%a5",
    "%3Cscript%3Ealert(1)%3C%2Fscript%3E", "%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E",
    "%7B%7B7*7%7D%7D", "a" * 7_000, "%ff%fe", "-1", "999999999999999999999999", "%E2%80%AE",
)  # fmt: skip
PARAMETERS = re.compile(r"\{(\w+)\}")
NEVER_LOGGED_IN = {"web.greet", "web.me"}


def filled(path, **values):
    """A route's path with values for its parameters."""
    return PARAMETERS.sub(lambda name: values.get(name[1]) or KNOWN.get(name[1], "x"), path)


class Relay:
    """Hands calls of the page to the daemon, and notes their names."""

    def __init__(self, daemon):
        self.daemon, self.calls = daemon, []

    async def serve(self, reader, writer):
        line = await reader.readline()
        if not line:
            writer.close()
            return
        self.calls.append(json.loads(line)["call"])
        there, to_daemon = await asyncio.open_unix_connection(str(self.daemon))
        to_daemon.write(line)

        async def copy(source, target):
            with contextlib.suppress(ConnectionError):
                while piece := await source.read(65_536):
                    target.write(piece)
                    await target.drain()
            target.close()

        await asyncio.gather(copy(reader, to_daemon), copy(there, writer))


class World:
    def __init__(self, house, page, relay, log):
        self.house, self.page, self.relay, self.log = house, page, relay, log
        self.people = {}

    def open_files(self):
        return len(list(Path(f"/proc/{self.page.process.pid}/fd").iterdir()))

    async def ask(self, call, **args):
        return await CALLS[call](self.house, Caller("root", None), named="Eva", **args)

    async def get(self, session, path, **more):
        """Status, text and headers of an answer; redirects are not followed."""
        async with session.get(encoded(path), allow_redirects=False, **more) as answer:
            return SimpleNamespace(
                status=answer.status,
                text=await answer.text(errors="replace"),
                headers=answer.headers,
            )

    async def send(self, session, path, fields, **headers):
        """Send a form; the status, and the calls that it made."""
        before = len(self.relay.calls)
        async with session.post(
            encoded(path), data=fields, headers=headers, allow_redirects=False
        ) as answer:
            text = await answer.text()
            return SimpleNamespace(
                status=answer.status,
                text=text,
                headers=answer.headers,
                calls=set(self.relay.calls[before:]),
            )

    async def invited(self, role, name=""):
        """A browser in which a person with one role has logged in with a new password."""
        code = (await self.ask("web.person.add", name=name or role.title(), roles=[role]))["code"]
        session = browser(self.page)
        await submit(session, "/login/code", "/login", code=code, name="")
        status, path, text = await submit(
            session, "/login/choose", "/login", code=code, password=PASSWORD, again=PASSWORD
        )
        assert (status, path) == (200, "/"), text
        return session


def encoded(path):
    from yarl import URL

    return URL(path, encoded=True)


async def token_of(session, path="/"):
    async with session.get(path) as shown:
        return TOKEN.search(await shown.text())[1]


@pytest.fixture(scope="module")
def loop():
    """One loop for the file: the building is started once."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def world(loop, tmp_path_factory):
    stack = contextlib.AsyncExitStack()
    world = loop.run(stack.enter_async_context(_world(tmp_path_factory.mktemp("w"))))
    yield world
    loop.run(stack.aclose())


@contextlib.asynccontextmanager
async def _world(folder):
    config, state, seen = folder / "config.yaml", folder / "state", folder / "seen"
    state.mkdir(mode=0o700)
    seen.mkdir(mode=0o700)
    identity.mint(state)
    async with Building.open(lines=1, meters=2) as meters:
        config.write_text(CONFIG.format(port=meters.ports[0], state=state), encoding="utf-8")
        async with at_work(config) as house:
            house.jobs.start("local socket", lambda: open_door(house, state))
            await until((state / "gardien.sock").exists)
            relay = Relay(state / "gardien.sock")
            server = await asyncio.start_unix_server(relay.serve, seen / "gardien.sock")
            async with page_of(folder, seen) as page:
                world = World(house, page, relay, folder / "page.log")
                files = world.open_files()
                await _lived_in(world)
                for role in ROLES:
                    world.people[role] = await world.invited(role)
                yield world
                for session in world.people.values():
                    await session.close()
                # nothing of all this was an error, or is left behind
                await until(lambda: world.open_files() <= files, within=20)
                log = world.log.read_text("utf-8")
                assert "Traceback" not in log, log
            server.close()


async def _lived_in(world):
    """A building whose people chose hostile names."""
    quoted = HOSTILE.replace('"', '""')
    text = f'label;type;since\nA-2;dwelling;2024-03-01\n"{quoted}";dwelling;2024-03-01'
    await world.ask("place.import", text=text, name="places.csv", reviewed=True)
    await until(lambda: world.house.lines.serial("m-2"))
    await world.ask("meter.assign", dwelling=HOSTILE, device="m-2")
    for place in (HOSTILE, "A-2"):
        await world.ask("consent.give", places=[place], recipient="r.example",
                        channels=["elec.imp"], purpose=HOSTILE, scope="daily")  # fmt: skip
    await world.ask("occupancy.correct", place="A-2", reference=f"BAIL-17 {HOSTILE}")


# -- forms of other sites


@pytest.mark.parametrize("path", POSTS)
def test_no_form_is_taken_that_the_pages_of_this_login_did_not_send(loop, world, path):
    async def attack():
        manager, other = world.people["installer"], await token_of(world.people["reader"])
        own = await token_of(manager)
        at = filled(path)
        return {
            "no token": await world.send(manager, at, {"x": "y"}),
            "of another login": await world.send(manager, at, {"token": other}),
            "of a stranger": await world.send(manager, at, {"token": "0" * 32}),
            "from elsewhere": await world.send(
                manager, at, {"token": own}, Origin="https://evil.example"
            ),
            "from nowhere": await world.send(manager, at, {"token": own}, Origin="null"),
            "cross-site": await world.send(
                manager, at, {"token": own}, **{"Sec-Fetch-Site": "cross-site"}
            ),
            "another port": await world.send(
                manager, at, {"token": own}, Origin=f"https://127.0.0.1:{world.page.port - 1}"
            ),
        }

    for how, answer in loop.run(attack()).items():
        assert answer.status == 403, (how, answer.text)
        assert answer.calls <= NEVER_LOGGED_IN, how


@pytest.mark.parametrize("path", POSTS)
def test_a_form_that_says_of_no_page_that_it_sent_it_is_refused(loop, world, path):
    async def attack():
        session = world.people["installer"]
        token = await token_of(session)
        before = len(world.relay.calls)
        session.headers.pop("Origin")
        try:
            answer = await world.send(session, filled(path), {"token": token})
        finally:
            session.headers["Origin"] = world.page.url
        return answer.status, set(world.relay.calls[before:])

    status, calls = loop.run(attack())
    assert status == 403
    assert calls <= NEVER_LOGGED_IN


@pytest.mark.parametrize("path", [path for path in POSTS if not path.startswith("/login")])
def test_no_form_is_taken_without_a_login(loop, world, path):
    async def attack():
        async with browser(world.page) as stranger:
            return await world.send(
                stranger, filled(path), {"token": await token_of(stranger, "/login")}
            )

    answer = loop.run(attack())
    assert answer.status == 303
    assert answer.headers["Location"].startswith("/login")
    assert answer.calls <= NEVER_LOGGED_IN


# -- pages


@pytest.mark.parametrize("path", GETS)
def test_no_page_shows_the_building_without_a_login(loop, world, path):
    async def attack():
        async with browser(world.page) as stranger:
            plain = await world.get(stranger, filled(path))
            stranger.cookie_jar.update_cookies({"__Host-gardien": "x" * 43})
            return plain, await world.get(stranger, filled(path))

    for answer in loop.run(attack()):
        assert not [secret for secret in SECRETS if secret in answer.text]
        if path == "/metrics":
            assert answer.status == 401
        elif path not in {"/login", "/language/{language}"}:
            assert (answer.status, answer.headers["Location"][:6]) == (303, "/login")


@pytest.mark.parametrize("role", ROLES)
def test_each_page_shows_each_role_what_it_may_see_or_says_why_not(loop, world, role):
    async def visit():
        session = world.people[role]
        home = await world.get(session, "/")
        menu = set(re.findall(r'<a href="(/[a-z]*)"', home.text.partition("<nav")[2]))
        return menu, {
            path: await world.get(session, filled(path))
            for path in GETS
            if path not in {"/live", "/login", "/metrics", "/language/{language}"}
        }

    menu, shown = loop.run(visit())
    assert {"/", "/lines"} <= menu
    for path, answer in shown.items():
        assert answer.status in {200, 303, 404, 409}, (path, answer.text)
        assert "<script>alert" not in answer.text, path
        if path in menu:
            assert answer.status == 200, path
        if role not in SEE_PLACES:
            assert "A-2" not in answer.text.replace(filled(path), ""), path
            assert "BAIL-17" not in answer.text, path
        if answer.status == 409:
            assert "<h1" in answer.text, path


@pytest.mark.parametrize("path", [path for path in GETS if "{" in path])
def test_no_part_of_a_path_leads_elsewhere(loop, world, path):
    async def attack():
        session = world.people["installer"]
        return [
            await world.get(session, filled(path, **{name: evil}))
            for name in PARAMETERS.findall(path)
            for evil in EVIL
        ]

    for answer in loop.run(attack()):
        _harmless(answer)


NAMES = ("back", "device", "done", "first", "only", "page", "place", "point", "points", "q",
         "retried", "search", "span", "old")  # fmt: skip


@pytest.mark.parametrize("path", GETS)
def test_no_part_of_a_query_leads_elsewhere(loop, world, path):
    async def attack():
        session = world.people["manager" if path.startswith("/people") else "installer"]
        return [
            await world.get(
                session, f"{filled(path)}?{'&'.join(f'{name}={evil}' for name in NAMES)}"
            )
            for evil in (evil[:400] for evil in EVIL)
            if path != "/live"
        ]

    for answer in loop.run(attack()):
        _harmless(answer)


def _harmless(answer):
    assert answer.status in {200, 303, 400, 404, 409, 401}, (answer.status, answer.text[:300])
    assert "root:x:" not in answer.text
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert "X-Evil" not in answer.headers
    location = answer.headers.get("Location", "/")
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


def test_every_answer_forbids_code_of_others(loop, world):
    async def visit():
        return [
            await world.get(world.people["installer"], at)
            for at in ("/", "/nothing", "/static/gardien.css", "/lines/x/y", "/people/list/x")
        ]

    for answer in loop.run(visit()):
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_page_that_is_not_there_is_named_in_the_language_of_who_asks(loop, world):
    async def visit():
        session = world.people["reader"]
        french = {"Accept-Language": "fr"}
        return [
            await world.get(session, "/nothing", headers=french),
            await world.get(session, "/people/nothing"),
            await world.send(session, "/leave", {"token": "x"}),
        ]

    french, english, foreign = loop.run(visit())
    assert (french.status, english.status, foreign.status) == (404, 404, 403)
    assert "Cette page n&#39;existe pas" in french.text
    assert "There is no such page" in english.text
    assert "not sent by a page of your login" in foreign.text


# -- logins


def test_a_login_is_new_each_time_and_ends_at_the_daemon(loop, world):
    async def visit():
        fixed = "f" * 43
        await world.ask("web.person.add", name="Zoé", roles=["reader"])
        session = await world.invited("reader", "Zoé")
        own = session.cookie_jar.filter_cookies(session._base_url)["__Host-gardien"].value
        await submit(session, "/leave", "/")
        thief = browser(world.page)
        thief.cookie_jar.update_cookies({"__Host-gardien": own})
        after = await world.get(thief, "/")
        thief.cookie_jar.update_cookies({"__Host-gardien": fixed})
        token = await token_of(thief, "/login")
        entered = await world.send(
            thief, "/login", {"token": token, "name": "Zoé", "password": PASSWORD}
        )
        await session.close()
        await thief.close()
        return own, fixed, after, entered

    own, fixed, after, entered = loop.run(visit())
    assert (after.status, after.headers["Location"]) == (303, "/login")
    assert entered.status == 303
    cookie = entered.headers["Set-Cookie"]
    assert cookie.startswith("__Host-gardien=")
    assert own not in cookie
    assert fixed not in cookie
    for flag in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"):
        assert flag in cookie
    assert "Domain" not in cookie
    assert "Expires" not in cookie


def test_guessing_locks_the_name_and_nobody_else(loop, world):
    async def guess():
        last = ""
        async with browser(world.page) as thief:
            for number in range(6):
                _status, _path, last = await submit(
                    thief, "/login", name="Manager", password=f"Password {number}"
                )
        async with browser(world.page) as other:
            _status, path, _text = await submit(other, "/login", name="Dpo", password=PASSWORD)
        still = await world.get(world.people["manager"], "/people")
        return last, path, still.status

    last, path, still = loop.run(guess())
    assert "too many wrong passwords for this name" in last
    assert path == "/"
    assert still == 200, "who has logged in before goes on"
