"""Bytes that would fill the memory of the page if it kept them: it holds 96 MB at most.

No daemon runs here: whoever sends these has no login.
"""

import asyncio
import contextlib
import socket
import ssl
import time
import zlib

import pytest
from aiohttp import web

from agent.web import serve
from agent.web.form_fields import LARGEST, LARGEST_OF_STRANGERS
from hil.page_server import page_of
from tests.page import TOKEN, browser, trusting
from tests.waiting import until

GROWN = 8_000_000
"""bytes that the page may have grown after an attack; without limits each takes 60 MB and more"""
BOMB = zlib.compress(b"\0" * 200_000_000, 9)
URLENCODED = b"application/x-www-form-urlencoded"
ATTACKS = {
    "headers without end": b"GET /login HTTP/1.1\r\nHost: x\r\n"
    + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(60_000)),
    "requests without end": b"GET /login HTTP/1.1\r\nHost: x\r\n\r\n" * 600_000,
}


def head(size, kind=URLENCODED, more=b""):
    return (
        b"POST /login HTTP/1.1\r\nHost: x\r\nOrigin: https://x\r\nConnection: close\r\n"
        b"Content-Length: %d\r\nContent-Type: %s\r\n%s\r\n" % (size, kind, more)
    )


FORMS = {
    "packed": (BOMB, URLENCODED, b"Content-Encoding: deflate\r\n"),
    "many fields": (b"a&" * (LARGEST // 2), URLENCODED, b""),
    "many fields of a stranger": (b"a&" * (LARGEST_OF_STRANGERS // 2), URLENCODED, b""),
    "an odd alphabet": (b"name=x", URLENCODED + b"; charset=unicode_escape", b""),
    "bytes that are no text": (b"name=\xff\xfe", URLENCODED, b""),
    "no boundary": (b"name=x", b"multipart/form-data", b""),
    "no part": (b"--B--\r\n", b"multipart/form-data; boundary=B", b""),
    "a part in parts": (
        b"--B\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n--C--\r\n--B--\r\n",
        b"multipart/form-data; boundary=B",
        b"",
    ),
    "a packed part": (
        b'--B\r\nContent-Disposition: form-data; name="x"\r\nContent-Encoding: deflate\r\n\r\n'
        + zlib.compress(b"\0" * 10_000_000)
        + b"\r\n--B--\r\n",
        b"multipart/form-data; boundary=B",
        b"",
    ),
}


@pytest.fixture(scope="module")
def loop():
    """One loop for the file: the page is started once."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def page(loop, tmp_path_factory):
    """A page without a daemon, which has been used."""
    folder = tmp_path_factory.mktemp("page")
    stack = contextlib.AsyncExitStack()
    page = loop.run(stack.enter_async_context(page_of(folder, folder / "state")))
    loop.run(_answers(page))
    page.log = folder / "page.log"
    yield page
    loop.run(stack.aclose())
    log = page.log.read_text("utf-8")
    assert "Traceback" not in log, log


async def _answers(page):
    """Whether somebody else gets an answer now."""
    async with browser(page) as session, session.get("/login") as answer:
        return bool(TOKEN.search(await answer.text())) or answer.status == 503


async def sent(page, *pieces):
    """Send bytes as far as they are taken; the beginning of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", page.port, ssl=trusting())
    answer = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        async with asyncio.timeout(20):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        async with asyncio.timeout(20):
            answer = await reader.read(300)
    writer.transport.abort()
    return answer


@pytest.mark.parametrize("name", ATTACKS)
def test_what_has_no_end_is_cut_off(loop, page, name):
    before, begun = page.memory, time.monotonic()
    loop.run(sent(page, ATTACKS[name]))
    assert page.memory - before < GROWN
    assert time.monotonic() - begun < serve.REQUEST_WITHIN, "it was the size, not the time"
    assert loop.run(_answers(page))


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_no_browser_sends_is_refused_and_not_kept(loop, page, name):
    body, kind, more = FORMS[name]
    before = page.memory
    answer = loop.run(sent(page, head(len(body), kind, more), body))
    assert page.memory - before < GROWN
    assert answer.split(b" ", 2)[1][:1] == b"4", answer
    assert loop.run(_answers(page))


def test_a_form_without_a_length_is_refused(loop, page):
    chunked = (
        b"POST /login HTTP/1.1\r\nHost: x\r\nOrigin: https://x\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    answer = loop.run(sent(page, chunked, b"6\r\nname=x\r\n0\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 400")


def test_forms_of_many_addresses_that_do_not_end_are_not_kept(loop, page):
    async def hold():
        writers = []
        for number in range(40):
            _reader, writer = await asyncio.open_connection(
                "127.0.0.1", page.port, ssl=trusting(), local_addr=(f"127.0.1.{number // 20}", 0)
            )
            with contextlib.suppress(ConnectionError):
                writer.write(head(LARGEST))
                writer.write(b"x" * (LARGEST - 10))
                async with asyncio.timeout(0.2):
                    await writer.drain()
            writers.append(writer)
        grown = page.memory
        for writer in writers:
            writer.transport.abort()
        return grown

    async def drained():
        before = page.memory
        with contextlib.suppress(TimeoutError):
            return await hold() - before
        return page.memory - before

    assert loop.run(drained()) < 2 * GROWN, "each connection has some 300 kB of TLS"


def test_who_does_not_read_loses_the_connection(loop, page):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        page.log.parent / "tls/certificate.pem", page.log.parent / "tls/key.pem"
    )

    asked = []

    async def large(request):
        asked.append(request.transport)
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(200):
            await answer.write(b"x" * 100_000)
        return answer

    async def stall():
        app = web.Application()
        app.router.add_get("/", large)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        house = asyncio.create_task(
            serve.House(runner, context, taken_within=0.3).serve([listener])
        )
        reader, writer = await asyncio.open_connection(
            *listener.getsockname(), ssl=trusting(), limit=1000
        )
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: asked and asked[0].is_closing(), within=10)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(20_000_000)
        writer.transport.abort()
        house.cancel()
        await asyncio.gather(house, return_exceptions=True)
        await runner.cleanup()
        listener.close()

    loop.run(stall())
