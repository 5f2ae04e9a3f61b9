"""From the set-up window to a stopped order, in a real browser.

An installer searches a line, assigns and verifies meters; the manager records a move and a consent;
the operator tests a control, sees an order in force, and stops it. Once in French on a phone
without scripts, once in English on a desk with them; the long form has all eight. With scripts each
page is checked by axe-core for WCAG 2.2 AA, in light and dark.
"""

import asyncio
import os
import re
from pathlib import Path

import pytest

from hil.page import RECIPIENT, House
from hil.page_server import page_of
from tests.chromium import DESK, PHONE, chromium, person, violations
from tests.depth import depth
from tests.waiting import until

INSTALLER_SEES = (
    "/", "/lines", "/lines/bms/stairs", "/recipients", "/dwellings", "/visit", "/support", "/me",
    "/configuration",
)  # fmt: skip
FLATS = ("A-1-1", "A-1-2")
PASSWORD = "une phrase que personne ne devine"
SHOTS = os.environ.get("GARDIEN_SHOTS")
"""a folder for a picture of each page, to look at"""


class Walk:
    """One person after another at the page."""

    def __init__(self, house, page, browser, **look):
        self.house, self.url, self.browser, self.look = house, page.url, browser, look
        self.scripts, self.language = look["scripts"], look["language"]
        self.tab, self.who, self.seen, self.broken, self.errors = None, "", 0, [], []

    async def comes(self, who, code):
        """A person opens the page, and uses their code."""
        self.who = who
        self.tab = await person(self.browser, **self.look)
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("console", self._said)
        await self.tab.goto(self.url)
        await self.tab.fill("#c-code", code)
        await self.tab.fill("#c-name", who)
        await self.press("form[action='/login/code'] button")
        if await self.tab.locator("[name=again]").count():
            await self.checked()
            await self.tab.fill("[name=password]", PASSWORD)
            await self.tab.fill("[name=again]", PASSWORD)
            await self.press("main form button")
        assert self.path == "/"
        await self.checked()

    def _said(self, message):
        # the answers 409 and 503 of refusals are also told on the console
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    @property
    def path(self):
        return self.tab.url.removeprefix(self.url)

    async def goes(self, path):
        """Open a page; it must be there."""
        answer = await self.tab.goto(self.url + path)
        assert answer.status == 200, (path, await self.tab.inner_text("body"))
        await self.checked()

    async def press(self, selector):
        """Press a button or a link, and wait for the page after it."""
        async with self.tab.expect_navigation():
            await self.tab.locator(selector).first.click()

    async def text(self):
        return await self.tab.inner_text("main")

    async def checked(self):
        """Look at the page: a picture where one is wanted, and the rules where scripts run."""
        self.seen += 1
        if SHOTS:
            name = re.sub(r"[^a-z0-9-]+", "_", f"{self.seen:02}-{self.who}{self.path}".lower())
            folder = (
                Path(SHOTS) / f"{self.language}-{self.look['viewport']['width']}-{self.scripts}"
            )
            await self.tab.screenshot(path=folder / f"{name}.png", full_page=True)
        if self.scripts:
            for scheme in ("light", "dark"):
                await self.tab.emulate_media(color_scheme=scheme)
                self.broken += [f"{self.path} ({scheme}): {o}" for o in await violations(self.tab)]

    async def awaits(self, selector, within=60):
        """Wait until something is on the page. Without scripts it refreshes itself."""
        await self.tab.wait_for_selector(selector, timeout=within * 1000)
        await self.checked()


async def sets_up(walk, folder):
    """The installer: from the code to verified meters."""
    house = walk.house
    await walk.goes("/visit")
    await walk.tab.fill("[name=reason]", "mise en service")
    await walk.press("form[action='/visit/begin'] button")
    await walk.goes("/visit/list")
    listed = folder / "lots.csv"
    lines = [f"{label};appartement;{house.serial(label)}" for label in FLATS]
    listed.write_text("logement;type;n° compteur\n" + "\n".join(lines) + "\n", encoding="utf-8")
    await walk.tab.set_input_files("[name=file]", listed)
    await walk.press("form[action='/visit/list'] button")
    await walk.checked()
    await walk.press("form[action='/visit/list/record'] button")
    await walk.goes("/visit/search")
    await walk.tab.uncheck("[name=link][value=bms]")
    await walk.press("form[action='/visit/search'] button")
    await walk.awaits("form[action='/visit/search/add']")
    assert await walk.tab.locator("[name=add]").count() == len(house.labels)
    await walk.press("form[action='/visit/search/add'] button:not([name])")
    await walk.goes("/visit/match")
    await walk.press("form[action='/visit/match'] button")
    await walk.checked()
    await walk.goes("/visit/flats")
    for label in FLATS:
        await walk.press(f"table a:has-text('{label}')")
        await walk.tab.fill("main input[inputmode=decimal]", house.display(label))
        await walk.press("form:has(input[inputmode=decimal]) button")
        assert not await walk.tab.locator(".tag.bad").count(), await walk.text()
        await walk.checked()
        await walk.goes("/visit/flats")
    meters = [one for one in house.ask("meter.list")["meters"] if one["in_force"]]
    assert [(one["label"], one["proof"]) for one in meters] == [(o, "display") for o in FLATS]
    for path in (
        "/",
        "/lines",
        "/lines/bms/stairs",
        "/recipients",
        "/dwellings",
        "/visit",
        "/support",
    ):
        await walk.goes(path)


async def consents(walk):
    """The manager records what the occupants of one flat agree to; the other one moves out."""
    await walk.goes("/people")
    await walk.goes(f"/people/move-in?place={FLATS[0]}")
    await walk.tab.fill("[name=since]", "2020-01-01")
    await walk.press("main form.card button")
    await walk.goes(f"/people/consent?place={FLATS[0]}")
    await walk.tab.fill("[name=purpose]", "conseil en énergie")
    await walk.tab.check("[name=channels][value='elec.imp']")
    await walk.tab.select_option("[name=scope]", "loadcurve")
    await walk.press("main form.card button")
    assert walk.path == f"/people?done=consent&place={FLATS[0]}", await walk.text()
    for path in ("/people/consents", "/dwellings", "/audit", "/people/duties"):
        await walk.goes(path)


async def stops(walk):
    """The operator sees what the centre has ordered, and stops it."""
    await walk.goes("/orders")
    await walk.press("a[href^='/orders/test']")
    await walk.checked()
    await walk.press("main form button")
    await walk.awaits(".notice.fine")
    walk.house.order()
    # it may begin some seconds after it was accepted
    await until(lambda: walk.house.ask("status")["holds"])
    await walk.goes("/orders")
    assert re.search(r"-?1[.,]5", await walk.text()), await walk.text()
    await walk.press("a[href^='/orders/stop']")
    await walk.checked()
    if await walk.tab.locator("[name=reason]").count():
        await walk.tab.fill("[name=reason]", "trop froid dans l'escalier")
    await walk.press("main form button")
    await walk.checked()
    await until(lambda: not walk.house.ask("status")["holds"])
    for path in ("/orders", "/orders/history", "/"):
        await walk.goes(path)


SHORT = [("fr", PHONE, False), ("en", DESK, True)]
EVERY = [
    (language, viewport, scripts)
    for language in ("fr", "en")
    for viewport in (PHONE, DESK)
    for scripts in (False, True)
]


def _named(look):
    language, viewport, scripts = look
    size = "phone" if viewport is PHONE else "desk"
    return f"{language}-{size}-{'with' if scripts else 'without'}-scripts"


@pytest.mark.parametrize(
    ("language", "viewport", "scripts"),
    looks := depth(SHORT, EVERY),
    ids=[_named(look) for look in looks],
)
def test_from_the_set_up_window_to_a_stopped_order(tmp_path, language, viewport, scripts):
    async def walked():
        async with (
            House.open(tmp_path, dwellings=4) as house,
            page_of(tmp_path, house.state) as page,
            chromium() as browser,
        ):
            walk = Walk(house, page, browser, language=language, viewport=viewport, scripts=scripts)
            await walk.comes("Paul Martin", house.ask("web.open", minutes=30, named="Root")["code"])
            await sets_up(walk, tmp_path)
            for who, role, does in (
                ("Marie Dupont", "manager", consents), ("Luc Petit", "operator", stops),
            ):  # fmt: skip
                invited = house.ask("web.person.add", name=who, roles=[role], named="Root")
                await walk.comes(who, invited["code"])
                await does(walk)
            recorded = house.ask("consent.list")["consents"]
            return walk, [
                (one["recipient"], one["recorded"]["who"]) for one in recorded if one["in_force"]
            ]

    walk, recorded = asyncio.run(walked())
    assert recorded == [(RECIPIENT, "Marie Dupont (web)")]
    assert walk.errors == []
    assert walk.broken == []
