"""The HTTPS transport against a platform in its worst hours: what counts as a delivery, and what
is told in words. Guards rules G1, G2: nothing but a receipt lets a batch go."""

import asyncio
import hashlib
import json
import socket
import threading
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.buffer.batch import Stamp, write
from agent.core.atomic_write import later
from agent.core.errors import BatchRejected, NotRecorded, NotStored, TooLarge, UplinkLost
from agent.core.model import BatchId, Lane, SealedBatch
from agent.uplink.base import Cursors, GatewayFacts, NotNow, judge_response, retry_after
from agent.uplink.https.transport import HttpsUplink
from hil.ca import CA, DAY
from hil.platform.child import Serving
from hil.process import free_port
from tests.contract.uplink.house import GATEWAY, RECIPIENT, house
from tests.contract.uplink.sides import listening, settings_of, side, so
from tests.contract.uplink.test_transports import once, sealed


def batch(seq: int = 1, payload: bytes = b"x") -> SealedBatch:
    digest = hashlib.sha256(payload).hexdigest()
    return SealedBatch(BatchId(GATEWAY, RECIPIENT, "e", seq), Lane.LIVE, payload, digest, 1)


def receipt(seq: int = 1) -> dict[str, object]:
    return {"schema": "gardien/receipt/1", "gateway": GATEWAY, "recipient": RECIPIENT,
            "epoch": "e", "stored": [[seq, batch(seq).sha256]]}  # fmt: skip


ODD_WAITS = (
    "", "soon", "-3", "²", "Mon, 99 Jan 99999999999999999999 00:00:00 GMT",
    "Mon, 01 Jan 2020 00:00:00 +99999999999999999999",
)  # fmt: skip


class Script:
    """What the platform is to answer to POSTs, and what it saw."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.objects: list[dict[str, str]] = []
        self.lost = ""
        """a cursor that it does not know any more"""
        self.no_place = 0
        """what it answers to a PUT; 0: nothing, the connection is cut"""
        self.port = 0


@contextmanager
def scripted():
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            script.seen.append((self.path, dict(self.headers), body))
            self._say(*(script.answers.pop(0) if script.answers else ok()))

        def do_GET(self):
            script.seen.append((self.path, dict(self.headers), b""))
            after = self.path.partition("after=")[2]
            if script.lost and script.lost == after:
                self._say(410, {}, b"")
                return
            found = [one for one in script.objects if one["cursor"] > after]
            self._say(200, {}, json.dumps({"objects": found}).encode())

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            script.seen.append((self.path, dict(self.headers), b""))
            if script.no_place:
                self._say(script.no_place, {}, b"")
            else:
                self.connection.shutdown(socket.SHUT_RDWR)

        def _say(self, status, headers, body):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ok(seq: int = 1, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {}, json.dumps(receipt(seq)).encode()


def settings(port: int, **more: object):
    return settings_of("https", url=f"http://127.0.0.1:{port}/g/", poll=0.2, **more)


def test_a_batch_is_posted_with_its_key_and_only_a_receipt_is_a_delivery():
    """Rules T1, T23."""

    async def scenario(script: Script) -> None:
        async with HttpsUplink.open(settings(script.port), GatewayFacts(GATEWAY)) as uplink:
            for answer in (
                (200, {}, b""), (200, {}, b"ok"), (200, {}, b"{}"), (204, {}, b""),
                (202, {}, json.dumps(receipt()).encode()), (200, {}, b"[" * 5_000),
                (200, {}, b"x" * 1_500_000),
            ):  # fmt: skip
                script.answers = [answer]
                with pytest.raises(NotStored):
                    await uplink.send(batch())
            for status in (200, 201):
                script.answers = [ok(1, status)]
                await uplink.send(batch())
                async with asyncio.timeout(5), aclosing(uplink.receipts()) as receipts:
                    assert (await anext(receipts)).stored == ((1, batch().sha256),)
        path, headers, body = script.seen[-1]
        assert (path, body) == ("/g/batches", b"x")
        assert headers["Idempotency-Key"] == f"{GATEWAY}:{RECIPIENT}:e:1"
        assert headers["Content-Type"] == "application/zstd"

    with scripted() as script:
        asyncio.run(scenario(script))


def test_what_is_about_the_bytes_puts_a_batch_aside_after_three_tries_and_nothing_else_does():
    """Rule T17."""

    async def scenario(script: Script) -> None:
        async with HttpsUplink.open(settings(script.port), GatewayFacts(GATEWAY)) as uplink:
            for status in (400, 413, 415, 422):
                script.answers = [(status, {}, b"")] * 3
                for _ in range(2):
                    with pytest.raises(NotStored):
                        await uplink.send(batch(status))
                with pytest.raises(BatchRejected, match=str(status)):
                    await uplink.send(batch(status))
            for status in (301, 307, 401, 403, 404, 408, 425, 429, 500, 503):
                script.answers = [(status, {"Location": "http://127.0.0.1:9/"}, b"")] * 5
                for _ in range(5):
                    with pytest.raises(NotStored):
                        await uplink.send(batch(status))
            script.answers = [(507, {}, b"")]
            with pytest.raises(NotStored, match="disk is full"):
                await uplink.send(batch(507))
            assert not any(path == "/" for path, _, _ in script.seen), "no redirection is followed"

    with scripted() as script:
        asyncio.run(scenario(script))


def test_retry_after_is_kept_in_seconds_or_as_a_date_an_hour_at_most():
    """Rule T23."""
    assert retry_after({"retry-after": "120"}, 0.0) == 120
    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 60.0) == 60
    assert retry_after({"retry-after": "999999999"}, 0.0) == 3600
    assert [retry_after({"retry-after": odd}, 0.0) for odd in ODD_WAITS] == [0] * 6
    with pytest.raises(NotNow) as error:
        judge_response(429, {"retry-after": "7"}, 0.0)
    assert error.value.seconds == 7


def test_objects_are_fetched_by_cursor_each_once():
    got: list[bytes] = []

    async def take(raw: bytes) -> None:
        got.append(raw)

    async def scenario(script: Script) -> None:
        script.objects = [{"cursor": "1", "object": "a.b.c"}, {"cursor": "2", "object": "d.e.f"}]
        station = GatewayFacts(GATEWAY, None, take)
        async with HttpsUplink.open(settings(script.port), station) as uplink:
            script.objects.append({"cursor": "3", "object": "g.h.i"})
            async with listening(uplink):
                await so(lambda: len(got) >= 3)
                await asyncio.sleep(0.3)
        assert got == [b"a.b.c", b"d.e.f", b"g.h.i"]

    with scripted() as script:
        asyncio.run(scenario(script))


def test_an_answer_that_says_what_objects_there_are_saves_a_question_or_hastens_it():
    got: list[bytes] = []

    async def take(raw: bytes) -> None:
        got.append(raw)

    def asked(script: Script) -> int:
        return sum("/objects" in path for path, _, _ in script.seen)

    async def scenario(script: Script) -> None:
        told = settings(script.port).model_copy(update={"poll": 3.0})
        async with (
            HttpsUplink.open(told, GatewayFacts(GATEWAY, None, take)) as uplink,
            listening(uplink),
        ):
            await so(lambda: asked(script))
            for _ in range(8):  # longer than from one question to the next
                script.answers = [(200, {"Gardien-Objects": ""}, ok()[2])]
                await uplink.send(batch())
                await asyncio.sleep(0.5)
            assert asked(script) == 1, "at the opening"
        script.seen.clear()
        slow = told.model_copy(update={"poll": 60.0})
        async with (
            HttpsUplink.open(slow, GatewayFacts(GATEWAY, None, take)) as uplink,
            listening(uplink),
        ):
            await so(lambda: asked(script))
            script.objects.append({"cursor": "1", "object": "a.b.c"})
            script.answers = [(200, {"gardien-objects": "1"}, ok()[2])]
            await uplink.send(batch())
            await so(lambda: got)
            assert got == [b"a.b.c"]

    with scripted() as script:
        asyncio.run(scenario(script))


@pytest.mark.parametrize("no_place", [404, 0])
def test_a_platform_that_does_not_hear_how_we_are_gets_its_batches_all_the_same(no_place: int):
    """0: something in between cuts what it does not know."""

    async def scenario(script: Script) -> None:
        script.no_place = no_place
        async with HttpsUplink.open(settings(script.port), GatewayFacts(GATEWAY)) as uplink:
            for _ in range(2):
                await uplink.tell({"version": "1"})
                await uplink.send(batch())
        told = [path for path, _, _ in script.seen if "/status/" in path]
        assert told == [f"/g/status/{GATEWAY}"], "once, and again after an hour"

    with scripted() as script:
        asyncio.run(scenario(script))


def test_no_cookie_is_kept_and_no_header_says_nothing():
    async def scenario(script: Script) -> None:
        async with HttpsUplink.open(settings(script.port), GatewayFacts(GATEWAY)) as uplink:
            for _ in range(2):
                script.answers = [(200, {"Set-Cookie": "route=7; Path=/"}, ok()[2])]
                await uplink.send(batch())
        told = script.seen[-1][1]
        assert set(told) == {
            "Host", "User-Agent", "Content-Type", "Idempotency-Key", "Content-Length"
        }  # fmt: skip

    with scripted() as script:
        asyncio.run(scenario(script))


def test_a_cursor_outlives_the_connection_and_counts_for_one_address_and_one_trust_list(
    tmp_path: Path,
):
    got: list[bytes] = []
    trust = ["first"]

    async def take(raw: bytes) -> None:
        got.append(raw)

    async def opened(port: int) -> list[bytes]:
        """What a gateway fetches that has just been started."""
        got.clear()
        kept = Cursors(tmp_path / "cursors.json", lambda: trust[0])
        async with HttpsUplink.open(settings(port), GatewayFacts(GATEWAY, None, take, kept)):
            assert await asyncio.to_thread(later.settle, 60)
            return list(got)

    async def scenario(script: Script, other: Script) -> None:
        both = [{"cursor": "1", "object": "a.b.c"}, {"cursor": "2", "object": "d.e.f"}]
        script.objects, other.objects = list(both), list(both)
        assert len(await opened(script.port)) == 2
        assert await opened(script.port) == []
        script.objects.append({"cursor": "3", "object": "g.h.i"})
        assert await opened(script.port) == [b"g.h.i"]
        trust[0] = "second"
        assert len(await opened(script.port)) == 3, "what was refused may count now"
        assert await opened(script.port) == []
        script.lost = "3"
        assert await opened(script.port) == []
        assert len(await opened(script.port)) == 3, "it was set up anew, and knows no such cursor"
        assert len(await opened(other.port)) == 2
        (tmp_path / "cursors.json").write_text("[]")
        assert len(await opened(other.port)) == 2, "damaged: all of them again"

    with scripted() as script, scripted() as other:
        asyncio.run(scenario(script, other))


def test_the_end_of_the_list_is_a_proof_and_an_answer_without_one_is_not(tmp_path: Path):
    """Guards rule T9: what a list before made us refuse is judged by the new one first."""
    told: list[str] = []
    trust = ["first"]

    async def take(raw: bytes) -> None:
        told.append(raw.decode())
        if raw == b"new.trust.list":
            trust[0] = "second"

    async def scenario(script: Script) -> None:
        told_to, kept = settings(script.port), Cursors(tmp_path / "c.json", lambda: trust[0])
        script.objects = [{"cursor": n, "object": o} for n, o in (("1", "a.b.c"), ("2", "d.e.f"))]
        script.objects[1]["object"] = "new.trust.list"
        station = GatewayFacts(
            GATEWAY, None, take, kept, complete=lambda: told.append("that was all")
        )  # fmt: skip
        async with HttpsUplink.open(told_to, station):
            pass
        both = ["a.b.c", "new.trust.list"]
        assert told == [*both, *both, "that was all"]
        told.clear()
        script.lost = "2"
        async with HttpsUplink.open(told_to, station):
            assert told == []

    with scripted() as script:
        asyncio.run(scenario(script))


def test_an_object_that_the_disk_did_not_take_comes_again_at_the_next_poll_and_all_else_goes_on():
    """Rule A7: what comes after it may be a withdrawal."""
    got: list[bytes] = []
    complete: list[int] = []

    async def take(raw: bytes) -> None:
        got.append(raw)
        if got.count(b"d.e.f") == 1 and raw == b"d.e.f":
            raise NotRecorded("the disk is full")

    async def scenario(script: Script) -> None:
        cells = (("1", "a.b.c"), ("2", "d.e.f"), ("3", "g.h.i"))
        script.objects = [{"cursor": n, "object": o} for n, o in cells]
        script.answers = [ok()]
        station = GatewayFacts(GATEWAY, None, take, complete=lambda: complete.append(len(got)))
        async with HttpsUplink.open(settings(script.port), station) as uplink:
            assert got == [b"a.b.c", b"d.e.f", b"g.h.i"]
            assert not complete
            async with listening(uplink) as receipts:
                await uplink.send(batch())
                await so(lambda: receipts and complete)
        assert got == [b"a.b.c", b"d.e.f", b"g.h.i", b"d.e.f", b"g.h.i"]
        assert complete[0] == len(got)

    with scripted() as script:
        asyncio.run(scenario(script))


def test_half_a_character_in_one_object_keeps_no_other_one_back():
    got: list[bytes] = []

    async def take(raw: bytes) -> None:
        got.append(raw)

    async def scenario(script: Script) -> None:
        script.objects = [{"cursor": "1", "object": "\ud800"}, {"cursor": "2", "object": "d.e.f"}]
        async with HttpsUplink.open(settings(script.port), GatewayFacts(GATEWAY, None, take)):
            assert got == [b"\xed\xa0\x80", b"d.e.f"]

    with scripted() as script:
        asyncio.run(scenario(script))


def test_an_object_that_was_not_dealt_with_comes_again(tmp_path: Path):
    """Rule T26."""
    got: list[bytes] = []

    async def take(raw: bytes) -> None:
        if raw == b"d.e.f" and len(got) < 2:
            got.append(b"died")
            raise UplinkLost("killed")
        got.append(raw)

    async def scenario(script: Script) -> None:
        script.objects = [{"cursor": n, "object": o} for n, o in (("1", "a.b.c"), ("2", "d.e.f"))]
        told, file = settings(script.port), tmp_path / "cursors.json"
        assert "killed" in await lost(told, GatewayFacts(GATEWAY, None, take, Cursors(file)))
        async with HttpsUplink.open(told, GatewayFacts(GATEWAY, None, take, Cursors(file))):
            assert got[-1] == b"d.e.f"

    with scripted() as script:
        asyncio.run(scenario(script))


def test_the_environment_names_no_proxy_and_the_configured_one_is_used(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def scenario(script: Script) -> None:
        async with HttpsUplink.open(settings(script.port), GatewayFacts(GATEWAY)):
            assert script.seen[-1][0] == "/g/objects"
        proxy = f"http://127.0.0.1:{script.port}"
        told = settings_of("https", url="http://127.0.0.1:1/g", proxy=proxy)
        async with HttpsUplink.open(told, GatewayFacts(GATEWAY)):
            assert script.seen[-1][0] == "http://127.0.0.1:1/g/objects"
        dead = settings_of("https", url="http://127.0.0.1:1/", proxy="http://127.0.0.1:9")
        assert "proxy" in await lost(dead, GatewayFacts(GATEWAY))

    with scripted() as script:
        asyncio.run(scenario(script))


@asynccontextmanager
async def tunnel(asked: list[str]):
    """A proxy that leads where CONNECT says (RFC 9110, 9.3.6); its port."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0]
        asked.append(line)
        host, _, port = line.split(" ")[1].rpartition(":")
        there, out = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, out), pump(there, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def test_a_proxy_leads_to_a_platform_that_still_sees_our_certificate(tmp_path: Path):
    asked: list[str] = []

    async def scenario() -> None:
        async with side("https", tmp_path) as far, house(tmp_path) as at, tunnel(asked) as port:
            through = {"proxy": f"http://127.0.0.1:{port}"}
            far.settings = far.settings.model_copy(update=through)
            await at.read()
            await sealed(at)
            await once(at, far)
            assert (await far.platform.report())["rows"] == 10
            (line,) = asked
            assert line.startswith("CONNECT 127.0.0.1:")

    asyncio.run(scenario())


async def lost(told, station: GatewayFacts) -> str:
    with pytest.raises(UplinkLost) as error:
        async with HttpsUplink.open(told, station):
            pass
    return str(error.value)


def test_certificates_that_do_not_fit_are_told_in_words(tmp_path: Path):
    async def scenario() -> None:
        async with side("https", tmp_path) as far:
            other = CA("Other CA")
            wrong = other.file(tmp_path)
            assert "an unknown CA" in await lost(
                far.settings.model_copy(update={"ca": wrong}), far.station
            )
            assert "gardien key enroll" in await lost(far.settings, GatewayFacts(GATEWAY))
            foreign = other.gateway(GATEWAY, tmp_path / "foreign")
            said = await lost(far.settings, GatewayFacts(GATEWAY, foreign))
            assert "our certificate" in said
            assert "this gateway is" in await lost(far.settings, GatewayFacts("GOTHER", foreign))
            old = other.gateway(GATEWAY, tmp_path / "old", begins=-9 * DAY, lasts=DAY)
            assert "the certificate expired" in await lost(far.settings, GatewayFacts(GATEWAY, old))

    asyncio.run(scenario())


def test_a_server_for_another_name_and_one_that_is_not_there_are_told(tmp_path: Path):
    async def scenario() -> None:
        ours, port = CA("Platform CA"), free_port()
        own = ours.server(tmp_path, hosts=("elsewhere.example",))
        told = settings_of("https", url=f"https://127.0.0.1:{port}", ca=ours.file(tmp_path))
        assert "refused" in (await lost(told, GatewayFacts(GATEWAY))).lower()
        async with Serving(port, tmp_path / "platform.db", own):
            assert "another name" in await lost(told, GatewayFacts(GATEWAY))

    asyncio.run(scenario())


def test_a_batch_in_anothers_name_is_rejected_by_the_platform(tmp_path: Path):
    """The pretend platform holds the client's certificate against the id inside."""

    async def scenario() -> None:
        async with side("https", tmp_path) as far:
            id_ = BatchId("GOTHER", RECIPIENT, "0123456789ab", 1)
            payload = write(Stamp(id_, Lane.LIVE, 1.8e9, "trusted", "FR-1"), [])
            sealed = SealedBatch(id_, Lane.LIVE, payload, hashlib.sha256(payload).hexdigest(), 0)
            async with far.kind.open(far.settings, far.station) as uplink:
                await uplink.send(sealed)
                async with asyncio.timeout(5), aclosing(uplink.receipts()) as receipts:
                    assert "the client is GTEST" in (await anext(receipts)).rejected[0][2]

    asyncio.run(scenario())


def test_once_a_size_is_known_to_be_refused_as_large_ones_are_not_tried_three_times():
    async def scenario(script: Script) -> None:
        async with HttpsUplink.open(settings(script.port), GatewayFacts(GATEWAY)) as uplink:
            script.answers = [(413, {}, b"")] * 3
            for _ in range(2):
                with pytest.raises(NotStored):
                    await uplink.send(batch(1, bytes(5_000)))
            with pytest.raises(TooLarge):
                await uplink.send(batch(1, bytes(5_000)))
            script.answers = [(413, {}, b"")] * 2
            with pytest.raises(TooLarge):
                await uplink.send(batch(2, bytes(5_001)))
            with pytest.raises(NotStored, match="too large"):
                await uplink.send(batch(3, bytes(4_999)))

    with scripted() as script:
        asyncio.run(scenario(script))
