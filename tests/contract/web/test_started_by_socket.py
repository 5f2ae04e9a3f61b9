"""The page as systemd starts it: with a listening socket, when somebody connects."""

import asyncio
import signal
import socket

import pytest

from agent.local import open_door
from agent.web.run import tls_of
from hil.ca import CA
from hil.page_server import activated, certified
from tests.contract.gateway.running import at_work, configured
from tests.contract.web.test_attacks import World
from tests.page import browser, enter
from tests.waiting import until

SHORT = 0.6
"""seconds without use until the page exits"""


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def url_of(listener):
    return f"https://127.0.0.1:{listener.getsockname()[1]}"


async def status_of(listener, path="/login", **headers):
    class Page:
        url = url_of(listener)

    async with browser(Page, **headers) as session, session.get(path) as answer:
        return answer.status


def test_who_connects_before_it_runs_is_answered_and_it_exits_when_unused(listener, tmp_path):
    certified(tmp_path)

    async def run():
        answers = []
        for _ in range(2):  # the socket stays, and starts it again
            first = asyncio.create_task(status_of(listener))
            page = await activated(listener, tmp_path, tmp_path / "s", "--unused", str(SHORT))
            answers.append(await first)
            async with asyncio.timeout(30):
                answers.append(await page.wait())
        return answers

    assert asyncio.run(run()) == [503, 0, 503, 0]


def test_without_use_by_a_person_a_scraper_does_not_keep_it(listener, tmp_path):
    certified(tmp_path)

    async def run():
        page = await activated(listener, tmp_path, tmp_path / "s", "--unused", str(SHORT))
        fetched = 0
        async with asyncio.timeout(30):
            while page.returncode is None:
                fetch = asyncio.create_task(
                    status_of(listener, "/metrics", Authorization="Bearer x")
                )
                await asyncio.wait({fetch, ended := asyncio.create_task(page.wait())},
                                   return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
                fetched += fetch.done()
                if page.returncode is not None:
                    await asyncio.gather(fetch, return_exceptions=True) if fetch.done() else None
                    fetch.cancel()
                ended.cancel()
                await asyncio.sleep(0.02)
        return page.returncode, fetched

    status, fetched = asyncio.run(run())
    assert status == 0
    assert fetched > 2


def test_who_watches_keeps_it_and_it_ends_soon_when_asked_to(listener, tmp_path):
    certified(tmp_path)

    async def run():
        config = configured(tmp_path, "mqtt://127.0.0.1:9")
        text = config.read_text("utf-8") + 'web: {listen: ["127.0.0.1:8443"]}\n'
        config.write_text(text, encoding="utf-8")
        state = tmp_path / "state"
        async with at_work(config) as house:
            house.jobs.start("local socket", lambda: open_door(house, state))
            await until((state / "gardien.sock").exists)
            page = await activated(listener, tmp_path, state, "--unused", str(SHORT))
            world = World(house, page, None, None)
            code = (await world.ask("web.open", minutes=15))["code"]

            class Page:
                url = url_of(listener)

            async with browser(Page) as session:
                await enter(session, code)
                async with session.get("/live", params={"page": "now"}) as stream:
                    begins = await stream.content.readuntil(b"\n\n")
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(SHORT * 3):
                            await page.wait()
                    page.send_signal(signal.SIGTERM)
                    async with asyncio.timeout(8):  # systemd waits for 10 s
                        return begins, await page.wait()

    begins, status = asyncio.run(run())
    assert begins.startswith(b"event: values")
    assert status == 0


def broken_certificate(tls, how):
    certificate, key = tls / "certificate.pem", tls / "key.pem"
    if how == "missing":
        certificate.unlink()
    elif how == "no certificate":
        certificate.write_text("hello\n", encoding="utf-8")
    elif how == "of another key":
        (tls / "other").mkdir()
        key.write_bytes(CA("Other").server(tls / "other").read_bytes())
    elif how == "empty key":
        key.write_bytes(b"")


@pytest.mark.parametrize("how", ["missing", "no certificate", "of another key", "empty key"])
def test_a_certificate_that_cannot_be_used_is_named_with_what_to_do(tmp_path, how):
    tls = certified(tmp_path)
    assert tls_of(tls)
    broken_certificate(tls, how)
    with pytest.raises(SystemExit) as ended:
        tls_of(tls)
    assert str(tls / "certificate.pem") in str(ended.value)
    assert "sudo gardien web open --new-certificate" in str(ended.value)


def test_without_a_certificate_it_ends_with_a_sentence(listener, tmp_path):
    broken_certificate(certified(tmp_path), "missing")

    async def run():
        page = await activated(listener, tmp_path, tmp_path / "s")
        async with asyncio.timeout(30):
            return await page.wait()

    assert asyncio.run(run()) == 1
    log = (tmp_path / "page.log").read_text("utf-8")
    assert log.startswith("gardien-web: the page cannot be shown")
    assert "Traceback" not in log
