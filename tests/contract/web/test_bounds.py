"""What strangers may do to the page: nothing of it harms it, and none of it reaches the daemon.

No daemon runs here: the page must answer all the same, and say so.
"""

import asyncio
import contextlib
import html
import socket
import ssl
import time

import pytest

from agent.web import serve
from agent.web.site import Visitor
from hil.page_server import page_of
from tests.page import browser, trusting

QUICK = 0.6
"""seconds for an answer that nothing holds up, with other tests beside it"""


@pytest.fixture(scope="module")
def loop():
    """One loop for the file: the page is started once."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def page(loop, tmp_path_factory):
    """A page without a daemon."""
    folder = tmp_path_factory.mktemp("page")
    stack = contextlib.AsyncExitStack()
    yield loop.run(stack.enter_async_context(page_of(folder, folder / "state")))
    loop.run(stack.aclose())


async def _raw(page):
    return await asyncio.open_connection("127.0.0.1", page.port, ssl=trusting())


async def _answers(page):
    """Whether somebody else gets an answer now."""
    async with browser(page) as session, session.get("/static/gardien.css") as answer:
        return answer.status == 200


def test_without_a_daemon_the_page_says_so(loop, page):
    async def ask():
        async with browser(page) as session, session.get("/login") as answer:
            return answer.status, await answer.text(), dict(answer.headers)

    status, text, headers = loop.run(ask())
    assert status == 503
    assert "gardien is not running" in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "Strict-Transport-Security" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../run.py",
        "/static/%2e%2e/run.py",
        "/static/..%2frun.py",
        "/static/%252e%252e/run.py",
        "/static//etc/passwd",
        "/static/....//run.py",
        "/static/\\..\\run.py",
        "/static/gardien.css%00.png",
        "/static/",
        "//evil.example/%2e%2e",
    ],
)
def test_no_path_leads_out_of_the_static_files(loop, page, path):
    async def ask():
        reader, writer = await _raw(page)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read(4000)
        writer.close()
        return answer

    answer = loop.run(ask())
    assert answer.split(b" ", 2)[1] in {b"303", b"400", b"403", b"404", b"503"}, answer
    assert b"asyncio" not in answer
    assert b"root:" not in answer


def test_a_head_that_does_not_come_ends_the_connection(loop, page):
    async def drip():
        reader, writer = await _raw(page)
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 1000:
                writer.write(bytes([byte]))
                await writer.drain()
                if reader.at_eof():
                    break
                await asyncio.sleep(0.05)
            await reader.read()
        writer.close()
        return time.monotonic() - begun

    async def together():
        async with asyncio.timeout(serve.REQUEST_WITHIN * 3):
            return await asyncio.gather(
                *(drip() for _ in range(serve.MOST_EACH - 2)), _answers(page)
            )

    *took, others = loop.run(together())
    assert others, "somebody else was answered meanwhile"
    assert max(took) < serve.REQUEST_WITHIN * 2


def test_one_address_has_a_few_connections_and_others_are_still_served(loop, page):
    async def crowd():
        holders = []
        refused = 0
        for _ in range(serve.MOST_EACH + 40):
            door = socket.create_connection(("127.0.0.1", page.port))
            door.setblocking(False)
            holders.append(door)
        await asyncio.sleep(QUICK)
        for door in holders:
            with contextlib.suppress(BlockingIOError):
                try:
                    refused += door.recv(1) == b""
                except ConnectionError:
                    refused += 1
        # from another address of this machine
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", page.port, ssl=trusting(), local_addr=("127.0.0.2", 0)
        )
        writer.write(b"GET /static/live.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        for door in holders:
            door.close()
        return refused, answer

    refused, answer = loop.run(crowd())
    assert refused >= 40
    assert answer.startswith(b"HTTP/1.1 200")


def test_ten_thousand_connections_cost_nothing_that_lasts(loop, page):
    async def flood():
        before = page.memory
        for _ in range(100):
            doors = []
            for _each in range(100):
                door = socket.socket()
                door.setblocking(False)
                door.connect_ex(("127.0.0.1", page.port))
                doors.append(door)
            await asyncio.sleep(0)
            for door in doors:
                door.close()
        async with asyncio.timeout(60):
            while not await _still(page):
                await asyncio.sleep(0.1)
        return before, page.memory

    async def _still(page):
        try:
            return await _answers(page)
        except OSError:
            return False

    before, after = loop.run(flood())
    assert after - before < 4_000_000
    assert page.process.returncode is None


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01 not HTTP at all\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        (
            b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        b"DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
)
def test_odd_requests_are_refused(loop, page, head):
    async def ask():
        reader, writer = await _raw(page)
        answer = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.write(head)
            async with asyncio.timeout(serve.REQUEST_WITHIN * 2):
                answer = await reader.read(300)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        return answer

    answer = loop.run(ask())
    assert not answer or answer.split(b" ", 2)[1][:1] in {b"4", b"5"}, answer
    assert loop.run(_answers(page))


def test_a_huge_form_is_refused_and_not_kept(loop, page):
    async def send():
        before = page.memory
        reader, writer = await _raw(page)
        body = b"x" * 65_536
        head = (
            b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 500000000\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\nname="
        )
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.write(head)
            for _ in range(400):  # 26 MB of the 500 that are promised
                writer.write(body)
                await writer.drain()
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(20):
                await reader.read(300)
        writer.close()
        return page.memory - before

    assert loop.run(send()) < 12_000_000
    assert loop.run(_answers(page))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused_before_the_daemon_hears_of_it(loop, page, headers):
    async def send():
        async with (
            browser(page) as session,
            # everybody knows the token of nobody: only the headers tell
            session.post("/login", data={"token": Visitor("en").token}, headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    status, text = loop.run(send())
    assert status == 403
    assert "not sent by a page of your login" in text


MULTIPART = "multipart/form-data"
UNKNOWN_ENCODING = (
    b'--x\r\nContent-Disposition: form-data; name="token"\r\n'
    b"Content-Transfer-Encoding: x-none\r\n\r\na\r\n--x--\r\n"
)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("gzip", b"token=a"),
        (MULTIPART, b"--x\r\n"),
        (f"{MULTIPART}; boundary=x", b"no part at all"),
        (f"{MULTIPART}; boundary=x", b"--x\r\n\r\nwithout a name\r\n--x--\r\n"),
        (
            f"{MULTIPART}; boundary=x",
            UNKNOWN_ENCODING,
        ),
        ("application/x-www-form-urlencoded; charset=none-such", b"token=a"),
        ("application/x-www-form-urlencoded; charset=utf-8", b"token=\xff\xfe"),
        ("application/x-www-form-urlencoded", "token=é".encode()),
        ("application/x-www-form-urlencoded", b"token=%ED%A0%80"),
        ("text/plain", b"token=a"),
    ],
)
def test_a_form_that_is_none_is_refused_without_an_error_in_gardien(loop, page, kind, body):
    headers = {"Content-Type": kind} if "/" in kind else FORM | {"Content-Encoding": kind}

    async def send():
        async with (
            browser(page) as session,
            session.post("/login", data=body, headers=headers) as answer,
        ):
            return answer.status, await answer.text(), answer.headers

    status, text, headers = loop.run(send())
    assert status in {400, 403}
    assert "Nothing was done" in text
    assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        ("GET /login/none-such", 404, "L'adresse est peut-être mal saisie"),
        ("PUT /login", 405, "gardien ne sait pas lire ce qui a été envoyé"),
        ("POST /login", 403, "n'a pas été envoyé par une page de votre connexion"),
    ],
)
def test_a_stranger_gets_a_page_with_a_way_back_in_his_language(
    loop, page, asked, status, sentence
):
    method, path = asked.split()

    async def send():
        async with (
            browser(page, **{"Accept-Language": "fr"}) as session,
            session.request(
                method, path, data=b"" if method == "POST" else None, headers=FORM
            ) as answer,
        ):
            return answer.status, await answer.text(), answer.headers

    got, text, headers = loop.run(send())
    assert got == status, text
    assert sentence in html.unescape(text).replace("\N{NO-BREAK SPACE}", " ")
    assert '<html lang="fr">' in text
    assert '<a class="button" href="/">' in text
    assert "<nav" not in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert ("Allow" in headers) == (status == 405)


def test_no_redirect_leads_to_another_site(loop, page):
    async def follow(back):
        async with (
            browser(page) as session,
            session.get("/language/fr", params={"back": back}, allow_redirects=False) as answer,
        ):
            return answer.headers["Location"]

    for back in (
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/a\r\nX: y",
    ):
        assert loop.run(follow(back)) == "/", back
    assert loop.run(follow("/lines/hall-b")) == "/lines/hall-b"


def test_only_modern_tls_is_spoken(page):
    context = trusting()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", page.port)) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain)
