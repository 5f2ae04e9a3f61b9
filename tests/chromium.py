"""A real browser: Debian's Chromium, driven by playwright, and the rules of WCAG by axe-core."""

from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Error, async_playwright

OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PHONE, DESK = {"width": 360, "height": 780}, {"width": 1280, "height": 900}
AXE = Path(__file__).parents[1] / ".venv/npm/node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
ASKED = """
async (rules) => (await axe.run(document, {runOnly: rules})).violations.map(
  (one) => one.id + ": " + one.help + " " + one.nodes.map((node) => node.target).join(" | "))
"""


@asynccontextmanager
async def chromium():
    """The browser, for contexts of several people."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=OPTIONS
        )
        yield browser
        await browser.close()


async def person(browser, *, language="fr", viewport=PHONE, scripts=True, dark=False):
    """A person with a browser of their own: a page without cookies."""
    context = await browser.new_context(
        ignore_https_errors=True,
        locale={"fr": "fr-FR", "en": "en-GB"}[language],
        viewport=viewport,
        java_script_enabled=scripts,
        color_scheme="dark" if dark else "light",
    )
    context.set_default_timeout(60_000)
    return await context.new_page()


LOADED_AGAIN = ("because of a navigation", "axe is not defined")
"""what Chromium says where a page loaded itself again while it was looked at"""


async def violations(page):
    """What of the page breaks a rule of WCAG 2.2 AA, and whether it is wider than the screen.

    A page on which something ends loads itself again; then the new one is looked at.
    """
    for _ in range(3):
        try:
            return await _violations(page)
        except Error as error:
            if not any(text in str(error) for text in LOADED_AGAIN):
                raise
            await page.wait_for_load_state()
    return await _violations(page)


async def _violations(page):
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    broken = await page.evaluate(ASKED, RULES)
    wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return broken + ([f"wider than the screen by {wide} px"] if wide > 0 else [])
