"""A client of the web page that behaves as a browser does, without scripts."""

import re
import ssl

import aiohttp

TOKEN = re.compile(r'name="token" value="([0-9a-f]*)"')


def trusting():
    """TLS that asks no questions: the tests know whom they talk to."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def browser(page, **headers):
    """A client that keeps cookies."""
    return aiohttp.ClientSession(
        page.url,
        connector=aiohttp.TCPConnector(ssl=trusting(), limit=8),
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        headers={"Accept-Language": "en", "Origin": page.url, **headers},
    )


async def submit(session, path, on="", **fields):
    """Send the form of a page (`on`) to a path; returns the status, path and text of the answer."""
    async with session.get(on or path) as shown:
        token = TOKEN.search(await shown.text())
    data = {"token": token[1] if token else "", **fields}
    async with session.post(path, data=data) as answer:
        return answer.status, answer.url.path, await answer.text()


async def enter(session, code, name="Marie Dupont"):
    """Log in with a code of `gardien web`."""
    status, path, text = await submit(session, "/login/code", "/login", code=code, name=name)
    assert (status, path) == (200, "/"), text
    return text
