"""The web page of a building with 100 meters: memory of the daemon and of the page, and how soon a
page begins to arrive.

`python -m bench.page [FOLDER]` starts a pretend building, pins the daemon and the page to one core
and asks from another. It prints tables, and ends with status 1 if a limit is broken.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp

from hil.page import House
from hil.page_server import activated, certified

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES, ROUNDS, COLD = 100, 5, 5
ROLES = ("installer", "manager", "operator", "dpo", "reader")
PASSWORD = "une phrase assez longue"
MOST_OF_ONE_ROUTE = 3
"""pages of one kind, such as those of devices, that are opened"""
MOST_PAGES, MOST_PARTS = 80, 2
DAEMON_GROWS, PAGE_PEAK, WARM, COLD_START = 1.0, 60.0, 0.2, 2.0
"""MB, MB, seconds, seconds"""
LINK = re.compile(r'href="(/[^"#]*)"')
TOKEN = re.compile(r'name="token" value="([0-9a-f]*)"')
SERVED, ASKING = 0, 1
"""cores"""
MALLOC = ("MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=131072")
"""as in packaging/debian/gardien-web.service"""
COMPILED = """
import agent.daemon, agent.web.run
from agent.web.words import compiled_templates
list(compiled_templates())
"""


def memory(pid: int, name: str) -> float:
    """MB of a process: Rss, Pss of smaps_rollup, or VmHWM of status."""
    file = "status" if name == "VmHWM" else "smaps_rollup"
    text = Path(f"/proc/{pid}/{file}").read_text("ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def trusting() -> ssl.SSLContext:
    """TLS that asks no questions."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def browser(url: str) -> aiohttp.ClientSession:
    """A client that keeps cookies."""
    return aiohttp.ClientSession(
        url, connector=aiohttp.TCPConnector(ssl=trusting()),
        cookie_jar=aiohttp.CookieJar(unsafe=True), headers={"Origin": url},
    )  # fmt: skip


async def submit(session: aiohttp.ClientSession, path: str, **fields: str) -> str:
    """Send a form of the login page; the text of what follows."""
    async with session.get("/login") as shown:
        token = TOKEN.search(await shown.text())
    assert token
    async with session.post(path, data={"token": token[1], **fields}) as answer:
        assert answer.url.path in {"/", path}, await answer.text()
        return await answer.text()


async def logged_in(house: House, url: str, role: str) -> aiohttp.ClientSession:
    """A browser of a person with a role."""
    args = {"name": role.title(), "roles": [role], "named": "Root"}
    code = (await asyncio.to_thread(house.ask, "web.person.add", **args))["code"]
    session = browser(url)
    await submit(session, "/login/code", code=code, name="")
    await submit(session, "/login/choose", code=code, password=PASSWORD, again=PASSWORD)
    return session


def kind(path: str) -> str:
    """The pages that are alike: the first two parts of a path, without ids."""
    parts = urlsplit(path).path.split("/")
    return "/".join(parts[:3] if len(parts) > 2 else parts) + ("/…" if len(parts) > 3 else "")


async def opened(session: aiohttp.ClientSession) -> dict[str, str]:
    """All pages that a person reaches by links, each with its status; of those alike only some."""
    shown: dict[str, str] = {}
    waiting, alike = ["/"], dict[str, int]()
    while waiting and len(shown) < MOST_PAGES:
        path = waiting.pop(0)
        of = "/".join(urlsplit(path).path.split("/")[:2])
        if path in shown or alike.get(of, 0) >= MOST_OF_ONE_ROUTE * 4:
            continue
        alike[of] = alike.get(of, 0) + 1
        async with session.get(path, allow_redirects=False) as answer:
            text = await answer.text(errors="replace")
            shown[path] = str(answer.status)
        waiting += _links(text)
    return shown


def _links(text: str) -> Iterator[str]:
    seen: dict[str, int] = {}
    for link in LINK.findall(text):
        path = link.replace("&amp;", "&")
        of = kind(path)
        seen[of] = seen.get(of, 0) + 1
        if not path.startswith(("/static", "/language", "/visit/report/pdf")) and (
            seen[of] <= MOST_OF_ONE_ROUTE
        ):
            yield path


async def first_byte(session: aiohttp.ClientSession, path: str) -> float:
    """Seconds from the request to the head of the answer."""
    begun = time.perf_counter()
    async with session.get(path, allow_redirects=False) as answer:
        took = time.perf_counter() - begun
        await answer.read()
    return took


async def cold(folder: Path, state: Path) -> float:
    """Seconds from the start of the process to the first byte of /login."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begun = time.perf_counter()
        process = await activated(listener, folder, state, before=["taskset", "-c", str(SERVED)])
        try:
            async with browser(f"https://127.0.0.1:{listener.getsockname()[1]}") as session:
                await first_byte(session, "/login")
                return time.perf_counter() - begun
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def measured(house: House, folder: Path) -> list[str]:
    """Print the tables; return the limits that are broken."""
    assert house.agent
    daemon = house.agent.pid
    os.sched_setaffinity(daemon, {SERVED})
    os.sched_setaffinity(0, {ASKING})
    certified(folder)
    await asyncio.sleep(20)  # until the daemon has read all meters, and holds what it always does
    before = {name: memory(daemon, name) for name in ("Rss", "Pss")}
    starts = sorted([await cold(folder, house.state) for _ in range(COLD)])
    print(f"cold start: median {statistics.median(starts):.2f} s, worst {starts[-1]:.2f} s")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        page = await activated(
            listener, folder, house.state, "--unused", "3600",
            before=["env", *MALLOC, "taskset", "-c", str(SERVED)],
        )  # fmt: skip
        try:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            times = await _rounds(house, url, page.pid)
        finally:
            page_peak, page_rss = memory(page.pid, "VmHWM"), memory(page.pid, "Rss")
            page_pss = memory(page.pid, "Pss")
            page.send_signal(signal.SIGTERM)
            await page.wait()
    after = {name: memory(daemon, name) for name in ("Rss", "Pss")}
    grown = {name: after[name] - before[name] for name in before}
    print(f"daemon: {before} MB, after all pages +{grown}")
    print(f"page: RSS {page_rss:.1f} MB, at its peak {page_peak:.1f}; PSS {page_pss:.1f}")
    worst = max(statistics.median(of) for of in times.values())
    return [
        text
        for text, value, limit in (
            # RSS: which other processes share its pages changes meanwhile
            ("the daemon grows", grown["Rss"], DAEMON_GROWS),
            ("the page takes", page_peak, PAGE_PEAK),
            ("the slowest page", worst, WARM),
            ("cold start", starts[len(starts) // 2], COLD_START),
        )
        if value >= limit
    ]


async def _rounds(house: House, url: str, pid: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    for role in ROLES:
        async with await logged_in(house, url, role) as session:
            shown = await opened(session)
            odd = {path: code for path, code in shown.items() if code != "200"}
            print(f"{role}: {len(shown)} pages; {odd or 'all 200'}", flush=True)
            for _ in range(ROUNDS):
                for path, code in shown.items():
                    if code == "200":
                        times.setdefault(kind(path), []).append(await first_byte(session, path))
        print(f"  page {memory(pid, 'Rss'):.1f} MB, daemon {_daemon(house):.2f} MB", flush=True)
    print("| page | median ms | worst ms |\n|---|---|---|")
    for path, took in sorted(times.items()):
        print(f"| {path} | {statistics.median(took) * 1000:.0f} | {max(took) * 1000:.0f} |")
    return times


def _daemon(house: House) -> float:
    assert house.agent
    return memory(house.agent.pid, "Pss")


async def as_packaged(folder: Path) -> None:
    """Run from now on what the package runs: code that is compiled, and one heap for all threads
    (packaging/pack.py, packaging/debian/gardien.service).
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ |= {"PYTHONPYCACHEPREFIX": str(folder / "compiled"), "MALLOC_ARENA_MAX": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "no_debug_ranges", "-c", COMPILED
    )
    assert await process.wait() == 0


async def run(folder: Path) -> list[str]:
    """Start the building and measure."""
    await as_packaged(folder)
    async with House.open(folder, dwellings=DEVICES, ready=True) as house:
        return await measured(house, folder)


def main() -> Any:
    """Print the tables."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        broken = asyncio.run(run(folder))
    finally:
        if len(sys.argv) == 1:
            shutil.rmtree(folder)
    print("broken: " + "; ".join(broken) if broken else "all limits are kept")
    return sys.exit(bool(broken))


if __name__ == "__main__":
    main()
