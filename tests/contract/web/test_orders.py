"""Orders, audit, configuration, support and findings at the page: a real agent with a charger that
is commanded, its real page, and people with their roles.
"""

import asyncio
import contextlib
import itertools
import json
import re
import time
from html import unescape

import pytest

from agent.config import Config
from agent.trust.sign import new_jti
from hil.charger import Charger
from hil.page_server import page_of
from hil.signers import CENTRE
from tests.page import browser, enter, submit
from tests.system.test_charger import NAME, Wallbox, charging
from tests.waiting import until

CONFIG = """\
building: {{name: Les Alpins, timezone: Europe/Paris}}
links:
  cars: {{driver: modbus-tcp, host: 127.0.0.1, port: {port}}}
  cellar: {{driver: modbus-tcp, host: 127.0.0.1, port: 1}}
devices:
  lift:
    {{link: cellar, address: 1, points: {{hours: {{at: "holding/1/uint16", unit: h}}}}}}
  wallbox:
    link: cars
    address: 255
    place: CZS2Y-FSTBQ-Q5WDC
    points:
      limit: {{at: "holding/1100/uint32 write@5004/uint16 alone", unit: A, scale: 0.001,
        every: 1s, writable: true}}
      current: {{at: "holding/1012/uint32", unit: A, scale: 0.001, every: 1s}}
controls:
  wallbox-limit:
    point: wallbox/limit
    equipment: cars
    modality: {{action: setpoint, min: 6, max: 30, max_duration: 4h}}
    guards: [{{name: cable, point: wallbox/current, max: 60}}]
    require: [building_manager]
    restore: preimage
    device_watchdog: none-accepted
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
trust: {{threshold: 1}}
state: {state}
"""
OPENED = CONFIG + ('web: {{listen: ["127.0.0.1:8443"]}}\n' if "web" in Config.model_fields else "")
HOSTILE = '<script>alert("x")</script> la pointe'
PASSWORD = "un mot de passe assez long"
WAY_BACK = 32_000
"""mA: what the charger had before any order"""


class House(Wallbox):
    """The agent with one charger, and its page."""

    sequence = itertools.count(1)

    def guard_known(self):
        return self.asked("control.list")["controls"][NAME]["guards"]["cable"] != "unknown"

    def trusted(self):
        raw = self.people.trust().decode()
        sha256 = self.asked("trust.look", text=raw)["sha256"]
        self.asked("trust.accept", text=raw, sha256=sha256, named="a test")
        self.audience = self.asked("trust.show")["audience"]
        gateway = self.audience.partition(".")[0]
        grant = self.people.grant("building_manager", gateway, ("cars", "setpoint"), unit="A")
        self.asked("object.accept", text=grant.decode(), named="a test")

    def order(self, amperes, seconds=600):
        """Order a value with a hostile reason; its state."""
        now = int(time.time())
        cmd = {
            "act": "setpoint",
            "tgt": [NAME],
            "val": amperes,
            "unit": "A",
            "dur": f"PT{seconds}S",
        }
        claims = {"iss": CENTRE, "jti": new_jti(now), "iat": now, "exp": now + 600,
                  "aud": self.audience, "seq": next(self.sequence), "cmd": cmd,
                  "why": HOSTILE}  # fmt: skip
        raw = self.people.centre.sign("dr-command+jwt", claims)
        return self.asked("object.accept", text=raw.decode(), named="a test")["targets"][NAME]

    async def ordered(self, amperes):
        """Order a value, and wait until the charger has it."""
        assert self.order(amperes)["state"] == "SCHEDULED"
        await until(lambda: self.charger.limit == amperes * 1000)


@pytest.fixture(scope="module")
def loop():
    """One loop for the file: agent and page are started once."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def house(loop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("o")
    charger = Charger(wanted=WAY_BACK)
    stack = contextlib.AsyncExitStack()

    async def begin(port):
        made = House(folder, None)
        made.charger = charger
        made.config.write_text(OPENED.format(port=port, state=made.state))
        await made.gardien("key", "new")
        stack.push_async_callback(made.end)
        await made.start()
        made.trusted()
        made.page = await stack.enter_async_context(page_of(folder, made.state))
        made.codes = {
            role: made.asked("web.person.add", name=role, roles=[role], named="Paul")["code"]
            for role in ("manager", "operator", "dpo", "reader")
        }
        return made

    with charging(charger) as port:
        try:
            yield loop.run(begin(port))
        finally:
            loop.run(stack.aclose())


@pytest.fixture(scope="module")
def people(loop, house):
    """A browser for each role, logged in."""

    async def log_in():
        sessions = {}
        for role, code in house.codes.items():
            sessions[role] = browser(house.page)
            # the first answer asks for a password
            await submit(sessions[role], "/login/code", "/login", code=code, name=role)
            status, path, text = await submit(
                sessions[role], "/login/choose", "/login", code=code, password=PASSWORD,
                again=PASSWORD,
            )  # fmt: skip
            assert (status, path) == (200, "/"), text
        code = house.asked("web.open", minutes=30, named="Paul")["code"]
        sessions["installer"] = browser(house.page)
        await enter(sessions["installer"], code, "Ines")
        return sessions

    sessions = loop.run(log_in())
    yield sessions
    for session in sessions.values():
        loop.run(session.close())


@pytest.fixture(scope="module")
def tested(loop, house, people):
    """The control has passed its test, which the operator has made at the page."""

    async def test():
        operator = people["operator"]
        assert house.order(16)["code"] == "E_UNTESTED"
        text = await shown(operator, "/orders")
        assert "has not been tested" in text
        await submit(operator, "/orders/test", f"/orders/test?control={NAME}", control=NAME)
        async with asyncio.timeout(20):
            while "The test is passed" not in (
                text := await shown(operator, f"/orders/test?control={NAME}")
            ):
                assert 'http-equiv="refresh"' in text, "a page without JavaScript refreshes itself"
                await asyncio.sleep(0.1)
        return text

    text = loop.run(test())
    assert "is in force now" in text  # each step is shown
    assert 'http-equiv="refresh"' not in text
    return house


async def shown(session, path, status=200):
    async with session.get(path) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return text


def plain(text):
    """What a reader sees of a page, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_an_order_is_shown_with_who_asked_why_and_what_the_device_has(loop, tested, people):
    async def look():
        await tested.ordered(16)

        async def read_back():  # the charger has the value before the agent knows it
            page = await shown(people["operator"], "/orders")
            return page if "The device has" in page else ""

        english = await until(read_back)
        async with people["operator"].get("/orders", headers={"Accept-Language": "fr"}) as answer:
            return english, await answer.text()

    english, french = loop.run(look())
    seen = plain(english)
    assert "1 control is held" in seen
    # a machine under load may show it minutes later
    assert re.search(r"16 A until \d\d:\d\d ([2-9]|10) minutes left", seen)
    assert f"Requested by {CENTRE}" in seen
    assert "vote AG, résolution 14" in seen
    assert re.search(r"The device has (16|32) A \(\d\d:\d\d\)", seen)
    # the reason is text, whatever it says
    assert "<script>alert" not in english
    assert "&lt;script&gt;alert" in english
    assert "1 commande sous ordre" in plain(french)
    assert re.search(r"encore ([2-9]|10) minutes", plain(french))


def test_an_order_has_a_page_with_its_course(loop, tested, people):
    async def look():
        await tested.ordered(17)
        text = await shown(people["manager"], "/orders")
        link = unescape(re.search(r'href="(/orders/order\?[^"]*)"', text)[1])
        text = await shown(people["manager"], link)
        csv = unescape(re.search(r'href="(/orders/course\.csv\?[^"]*)"', text)[1])
        async with people["manager"].get(csv) as answer:
            return text, answer.status, answer.headers["Content-Disposition"], await answer.text()

    text, status, kept, csv = loop.run(look())
    assert "Result: in force" in plain(text)
    assert "<svg" in text
    assert status == 200
    assert re.fullmatch(r'attachment; filename="wallbox-limit-[\d-]+-0\.csv"', kept)
    head, *rows = csv.lstrip("\ufeff").splitlines()
    assert "requested (A)" in head
    assert any(row.split(";")[2] == "17" for row in rows)


def test_stopping_takes_a_reason_and_gives_the_device_its_value_back(loop, tested, people):
    async def stop():
        operator = people["operator"]
        await tested.ordered(18)
        question = await shown(operator, f"/orders/stop?control={NAME}")
        refused = await submit(
            operator, "/orders/stop", f"/orders/stop?control={NAME}", control=NAME
        )
        assert tested.charger.limit == 18_000  # no reason, so nothing was done
        done = await submit(
            operator, "/orders/stop", f"/orders/stop?control={NAME}", control=NAME,
            reason="Visite des pompiers",
        )  # fmt: skip
        return question, refused, done

    question, refused, done = loop.run(stop())
    assert "Now in force: 18 A" in plain(question)
    assert "The device gets its own value back at once" in plain(question)
    assert refused[0] == 409
    assert "state the reason in at least 5 characters" in plain(refused[2])
    assert (done[0], done[1]) == (200, "/orders")
    assert "wallbox-limit is released" in plain(done[2])
    assert "released by operator (web): Visite des pompiers" in plain(done[2])
    assert "No order is in force" in plain(done[2])
    assert tested.charger.limit == WAY_BACK


@pytest.mark.parametrize("role", ["installer", "manager", "dpo", "reader"])
def test_nobody_stops_an_order_without_the_right(loop, tested, people, role):
    async def attack():
        await tested.ordered(20)
        page = await people[role].get("/orders")
        text = await page.text()
        made = [
            await submit(people[role], path, "/me", control=NAME, reason="parce que", lasts="")
            for path in ("/orders/stop", "/orders/pause", "/orders/resume")
        ]
        return text, made

    text, made = loop.run(attack())
    assert "/orders/stop" not in text
    assert {status for status, _, _ in made} == {409}
    assert all("may not" in plain(answer) for _, _, answer in made)
    assert tested.charger.limit == 20_000


def test_an_opt_out_lasts_as_long_as_was_said(loop, tested, people):
    async def opt_out():
        operator, on = people["operator"], f"/orders/pause?control={NAME}"
        fields = {"control": NAME, "reason": "Visite de la chaufferie", "lasts": "hours"}
        wrong = await submit(operator, "/orders/pause", on, hours="two", **fields)
        # filled in, but not chosen: the first choice would end it much earlier
        fields["lasts"] = ""
        twice = await submit(operator, "/orders/pause", on, hours="2", until="2030-01-01", **fields)
        right = await submit(operator, "/orders/pause", on, hours="2,5", **fields)
        until_then = tested.asked("control.list")["controls"][NAME]["opted_out_until"]
        refused = tested.order(12)
        back = await submit(operator, "/orders/resume", "/orders", control=NAME)
        return wrong, twice, right, until_then, refused, back

    began = time.time()
    wrong, twice, right, until_then, refused, back = loop.run(opt_out())
    assert wrong[0] == twice[0] == 409
    assert "unclear until when" in plain(twice[2])
    assert '"two" is no number of hours' in plain(wrong[2])
    assert "takes no orders for now" in plain(right[2])
    assert "operator (web) has opted out: Visite de la chaufferie" in plain(right[2])
    then = time.mktime(time.strptime(until_then, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert 8_990 < then - began < 9_010 + 30
    assert refused["state"] in {"REJECTED", "SCHEDULED"}
    assert "takes orders again" in plain(back[2])
    assert tested.asked("control.list")["controls"][NAME]["opted_out"] == ""


def test_the_history_and_the_authorizations_are_sentences(loop, tested, people):
    async def look():
        manager = people["manager"]
        await tested.ordered(14)
        report = await manager.get("/orders/report")
        return (
            await shown(manager, "/orders/history"),
            await shown(manager, "/orders/history?month=2026-13&control=none"),
            await shown(manager, "/orders/grants"),
            report.headers["Content-Disposition"],
            await report.text(),
        )

    history, wrong, grants, kept, report = loop.run(look())
    assert f"14 A, asked by {CENTRE}" in plain(history)
    assert "No order was carried out or refused in this month" in plain(wrong)
    assert "Syndic Dupont" in plain(grants)
    assert "valid" in plain(grants)
    assert kept.startswith("attachment")
    assert "<script>alert" not in report + history


@pytest.mark.parametrize(
    "path",
    [
        "/orders/order",
        "/orders/order?id=x&day=2026-11-28&control=wallbox-limit",
        "/orders/order?id=x&day=yesterday",
        "/orders/course.csv?id=x&day=2026-11-28&plot=0",
        "/orders/stop?control=%3Cscript%3E",
        "/orders/test?control=none",
    ],
)
@pytest.mark.usefixtures("tested")
def test_what_does_not_exist_is_not_found(loop, people, path):
    assert "<script>" not in loop.run(shown(people["operator"], path, 404))


CHANGES = ("/orders/stop", "/orders/pause", "/orders/resume", "/orders/test",
           "/findings/acknowledge", "/support/bundle")  # fmt: skip


@pytest.mark.parametrize("path", CHANGES)
def test_no_other_site_and_no_link_changes_anything(loop, people, path):
    async def attack():
        session = people["operator"]
        async with session.post(path, data={"control": NAME, "reason": "forged"}) as bare:
            pass
        async with session.get(path, allow_redirects=False) as link:
            pass
        async with session.post(
            path, data={"control": NAME}, headers={"Origin": "https://evil.example"}
        ) as foreign:
            pass
        return bare.status, link.status, foreign.status

    bare, link, foreign = loop.run(attack())
    assert (bare, foreign) == (403, 403)
    assert link != 303


# --- the audit chain ---


def test_the_audit_chain_is_shown_in_sentences_and_found_broken(loop, tested, people):
    async def look():
        manager = people["manager"]
        intact = await shown(manager, "/audit")
        orders = await shown(manager, "/audit?kind=control")
        of_the_page = await shown(manager, "/audit?kind=page")
        older = await shown(manager, "/audit?page=1")
        never = await shown(manager, "/audit?day=2020-01-01")
        reader = await people["reader"].get("/audit")
        (file,) = (tested.state / "audit").glob("*.jsonl")
        before = file.read_bytes()
        file.write_bytes(before.replace(b'"control.tested"', b'"control.failed"', 1))
        try:
            broken = await shown(manager, "/audit", 409)
        finally:
            file.write_bytes(before)
        return intact, of_the_page, older, orders, never, reader.status, broken

    intact, of_the_page, older, orders, never, reader, broken = loop.run(look())
    assert "The audit chain is intact" in plain(intact)
    assert "wallbox-limit was tested (by operator (web))" in plain(orders)
    assert "trust list" not in plain(orders).partition("Decisions")[2].partition("Show")[2]
    assert "There is no such record" in plain(never)
    assert 'href="/audit?page=1"' in intact
    assert "Record 1 " in plain(older)
    assert "manager was invited to the web page (by Paul (root))" in plain(of_the_page)
    sentences = re.findall(r"<li><p>.*?</p>", intact + of_the_page + older)
    assert len(sentences) > 60
    # each kind of record has its sentence
    assert not [one for one in sentences if re.search(r"\b[a-z]+\.[a-z_]+\b", plain(one))]
    assert reader == 409
    assert "does not follow from" in plain(broken)


def test_who_has_seen_data_of_dwellings_is_listed(loop, people):
    async def look():
        await shown(people["dpo"], "/audit")
        return await shown(people["dpo"], "/audit/access")

    text = plain(loop.run(look()))
    assert "dpo (web)" in text
    assert "records of the audit chain" in text


# --- the configuration ---


def test_the_configuration_is_shown_without_secrets_and_with_its_mistakes(loop, house, people):
    async def look():
        before = house.config.read_text()
        house.config.write_text(
            before.replace("clock: {source", "clok: {source") + "# password: hunter2-hunter2\n"
        )
        try:
            wrong = await shown(people["installer"], "/configuration")
        finally:
            house.config.write_text(before)
        return (
            wrong,
            await shown(people["manager"], "/configuration"),
            await people["reader"].get("/configuration"),
        )

    wrong, right, reader = loop.run(look())
    line = 1 + CONFIG.splitlines().index("clock: {{source: system}}")
    assert "The configuration has no mistake" in plain(right)
    assert "configuration has 1 mistake" in plain(wrong)
    assert re.search(rf'<li id="l-1-{line}" class="wrong"><code>clok:', wrong)
    assert "hunter2" not in wrong
    assert reader.status == 409


# --- support ---


def test_the_support_bundle_is_made_and_fetched(loop, people):
    async def make():
        manager = people["manager"]
        await submit(manager, "/support/bundle", "/support")
        async with asyncio.timeout(60):
            while 'href="/support/bundle"' not in (text := await shown(manager, "/support")):
                assert "being made" in text, plain(text)
                await asyncio.sleep(0.2)
        async with manager.get("/support/bundle") as answer:
            content = await answer.read()
        nobody = await people["installer"].get("/support/bundle")
        operator = await shown(people["operator"], "/support")
        return text, answer, content, nobody.status, operator

    text, answer, content, nobody, operator = loop.run(make())
    assert content[:2] == b"\x1f\x8b"
    assert re.search(
        r'filename="gardien-support-[\d-]+\.tar\.gz"', answer.headers["Content-Disposition"]
    )
    assert "without readings" in plain(text) or "contains no readings" in plain(text)
    assert nobody == 409  # that of another person
    assert "/support/bundle" not in operator


# --- findings and the first page ---


def test_the_first_page_says_one_state_and_who_takes_care(loop, people):
    async def take():
        manager = people["manager"]
        before = await shown(manager, "/")
        finding = re.search(r'name="finding" value="([^"]+)"', before)[1]
        wrong = await submit(
            manager, "/findings/acknowledge", "/", finding=finding, note="x", days="many"
        )
        note = f"{HOSTILE} jeudi"
        done = await submit(
            manager, "/findings/acknowledge", "/", finding=finding, note=note, days="3"
        )
        return before, wrong, done, await shown(people["reader"], "/")

    before, wrong, done, reader = loop.run(take())
    assert re.search(r'<h1 class="state bad">Readings are being lost</h1>', before)
    for question in ("Data lost now?", "Data waiting?", "Equipment held?", "Who must act?"):
        assert question in plain(before)
    assert "cars 1 of 1 devices answer" in plain(before)
    assert wrong[0] == 409
    assert "manager (web) takes care of this" in plain(done[2])
    assert "<script>alert" not in done[2]
    assert 'action="/findings/acknowledge"' not in reader
    assert "jeudi" not in reader  # notes may name people


def test_live_values_are_sent_as_they_change(loop, tested, people):
    async def listen():
        await tested.ordered(15)
        async with people["operator"].get("/live?page=orders") as answer:
            async for line in answer.content:
                if line.startswith(b"data: "):
                    break
            return json.loads(line[6:])

    values = loop.run(listen())
    assert re.fullmatch(r"(9|10) minutes left", values[f"left {NAME}"])
    assert re.match(r"(15|14|20|32) A", values[f"device {NAME}"])


def test_a_test_that_ended_before_its_page_listens_has_changed_it(loop, people):
    async def first_event(state):
        path = f"/live?page=control-test{state}"
        async with people["operator"].get(path) as answer, asyncio.timeout(10):
            return (await answer.content.readline()).decode().strip()

    assert loop.run(first_event("&state=running%200")) == "event: changed"
    assert loop.run(first_event("")) == "event: values"


def test_a_person_sees_what_they_may_do(loop, people):
    async def look():
        return {role: plain(await shown(session, "/me")) for role, session in people.items()}

    pages = loop.run(look())
    assert "stop orders and opt out" in pages["operator"]
    assert "stop orders" not in pages["manager"]
    assert "data protection officer" in pages["dpo"]
    assert "set-up window" in pages["installer"]
    assert "Another password" in pages["reader"]
