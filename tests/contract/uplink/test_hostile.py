"""A far side that never comes to an end, or answers in a way of its own: it is given up in time,
costs no memory, and what was taken back meanwhile is not sent any more. Guards rules G3, T30.
"""

import asyncio
import gzip
import json
import os
import resource
import time
import zlib
from contextlib import aclosing, asynccontextmanager, suppress

import pytest

from agent.core.errors import CertificateRefused, UplinkLost
from agent.uplink.base import Cursors, GatewayFacts, NotNow
from agent.uplink.https.transport import HttpsUplink
from tests.contract.uplink.house import GATEWAY, RECIPIENT
from tests.contract.uplink.sides import side
from tests.contract.uplink.test_https import batch, lost, ok, scripted, settings
from tests.memory import forget, peak

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TICK = 0.02


@asynccontextmanager
async def listening(say):
    """A server that answers each question by `say(writer)`; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await say(writer)
                await writer.drain()
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden"])
def test_a_platform_that_does_not_let_us_in_may_have_refused_our_certificate(status):
    """By this class, and by no text, a new certificate is given up for the one before it."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    async def scenario() -> None:
        async with listening(say) as port:
            with pytest.raises(CertificateRefused, match="does not let this gateway in"):
                async with HttpsUplink.open(settings(port), GatewayFacts(GATEWAY)):
                    pass

    asyncio.run(scenario())


async def for_ever(writer: asyncio.StreamWriter, head: bytes, drop: bytes) -> None:
    writer.write(head)
    while not writer.is_closing():
        writer.write(drop)
        await writer.drain()
        await asyncio.sleep(TICK)


ENDLESS = [
    (OK, b"x", "no answer"),
    (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "no answer"),
    (OK + b"Content-Length: 100000\r\n\r\n", b" ", "incomplete after 0.5 s"),
    (CHUNKED, b"1\r\n \r\n", "incomplete after 0.5 s"),
]


@pytest.mark.parametrize(("head", "drop", "words"), ENDLESS)
def test_an_answer_without_end_is_given_up_at_the_timeout_however_lively_it_is(head, drop, words):
    """In total, not for a single read: it took twenty times as long."""

    async def scenario() -> None:
        async with listening(lambda writer: for_ever(writer, head, drop)) as port:
            begun = time.monotonic()
            assert words in await lost(settings(port, timeout=0.5), GatewayFacts(GATEWAY))
            assert 0.4 < time.monotonic() - begun < 8

    asyncio.run(scenario())


def test_a_large_answer_on_a_slow_line_may_take_longer_than_the_timeout():
    """It comes with 25 kB a second; a place map has a megabyte."""
    many = [{"cursor": f"{n}", "object": "a" * 500} for n in range(45)]
    body = json.dumps({"objects": many}).encode()

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 500):
            writer.write(body[start : start + 500])
            await writer.drain()
            await asyncio.sleep(TICK)

    async def scenario() -> None:
        got: list[bytes] = []

        async def take(raw: bytes) -> None:
            got.append(raw)

        async with listening(say) as port:
            begun = time.monotonic()
            async with HttpsUplink.open(
                settings(port, timeout=0.3), GatewayFacts(GATEWAY, None, take)
            ):
                assert len(got) >= 45
                assert time.monotonic() - begun > 0.3

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "head",
    [OK + b"A: ", b"", CHUNKED + b"1;", CHUNKED + b"0\r\n", OK + b"A: b\r\n" * 200_000],
    ids=["header", "status", "chunk", "trailer", "headers"],
)
def test_a_line_without_end_costs_the_connection_and_no_memory(head):
    """The one that begins a chunk took 7 GB within half a minute, one behind the last 13 GB."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(b"x" * 65_536)
            await writer.drain()

    async def scenario() -> None:
        async with listening(say) as port:
            before = forget()
            words = await lost(settings(port, timeout=20.0), GatewayFacts(GATEWAY))
            assert "too long" in words or "connection was lost" in words
            assert peak() - before < 60

    asyncio.run(scenario())


def test_an_answer_in_many_chunks_is_read_to_its_end():
    """Servers chunk as they please; cut after the first one, no receipt would ever count."""
    got: list[bytes] = []

    async def take(raw: bytes) -> None:
        got.append(raw)

    listed = json.dumps({"objects": [{"cursor": "1", "object": "a.b.c"}]}).encode()
    answers = [listed, b'{"objects": []}', ok()[2]]

    async def say(writer: asyncio.StreamWriter) -> None:
        body = answers.pop(0)
        writer.write(CHUNKED)
        for n in range(0, len(body), 7):
            writer.write(b"%x\r\n%b\r\n" % (len(body[n : n + 7]), body[n : n + 7]))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    async def scenario() -> None:
        told = settings(0)
        async with listening(say) as port:
            told = told.model_copy(update={"url": f"http://127.0.0.1:{port}", "poll": 60.0})
            async with HttpsUplink.open(told, GatewayFacts(GATEWAY, None, take)) as uplink:
                await uplink.send(batch())
                async with asyncio.timeout(5), aclosing(uplink.receipts()) as receipts:
                    assert (await anext(receipts)).stored == ((1, batch().sha256),)
        assert got == [b"a.b.c"]

    asyncio.run(scenario())


def test_a_compressed_answer_that_nobody_asked_for_is_not_opened():
    """A megabyte of it would open to a thousand."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()

    async def scenario(script) -> None:
        async with HttpsUplink.open(settings(script.port), GatewayFacts(GATEWAY)) as uplink:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for body in (gzip.compress(ok()[2]), bomb):
                script.answers = [(200, {"Content-Encoding": "gzip"}, body)]
                with pytest.raises(UplinkLost, match="'gzip', which was not requested"):
                    await uplink.send(batch())
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kB"

    with scripted() as script:
        asyncio.run(scenario(script))


def test_what_is_taken_back_before_its_turn_is_never_sent_and_what_is_under_way_is_cut():
    """Rule T2. Questions go one after the other: the second one waits for a slow answer."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                seen.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0])
                if seen[-1] == b"GET":
                    writer.write(OK + b"Content-Length: 14\r\n\r\n" + b'{"objects":[]}')
        writer.transport.abort()

    async def scenario() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            told = settings(server.sockets[0].getsockname()[1], timeout=100.0)
            async with asyncio.timeout(20), HttpsUplink.open(told, GatewayFacts(GATEWAY)) as uplink:
                sends = [asyncio.ensure_future(uplink.send(batch(seq))) for seq in (1, 2)]
                while seen[-1] != b"POST":
                    await asyncio.sleep(TICK)
                for one in reversed(sends):
                    one.cancel()
                    await asyncio.wait([one])
                    assert one.cancelled()
        assert seen.count(b"POST") == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "where", [b"http://[x", b"\xff\xfe", b"//:@:@", b"http://h:99999999/"], ids=repr
)
def test_a_redirection_is_neither_followed_nor_taken_apart_nor_read(where: bytes):
    """requests would do the last two of one that is not followed, too. Rule T23."""
    sent = 0

    async def say(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        head = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 100000000\r\n\r\n"
        writer.write(head % where)
        for _ in range(100):
            writer.write(bytes(1_000_000))
            await writer.drain()
            sent += 1

    async def scenario() -> None:
        async with (
            listening(say) as port,
            HttpsUplink.open(settings(port), GatewayFacts(GATEWAY)) as uplink,
        ):
            with pytest.raises(NotNow, match="redirects to"):
                await uplink.send(batch())
        assert sent < 50, "MB"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"objects": [{"cursor": "\\ud800", "object": "a.b.c"}]}',
        b'{"objects": [{"cursor": "%b", "object": "a.b.c"}]}' % (b"x" * 1_001),
        b"<html>",
    ],
    ids=["without end", "half a character", "too long", "no JSON"],
)
def test_a_list_of_objects_that_is_none_is_told(body: bytes):
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def scenario() -> None:
        async with listening(say) as port:
            assert "not a list" in await lost(settings(port), GatewayFacts(GATEWAY))

    asyncio.run(scenario())


def test_a_platform_that_heeds_no_cursor_is_not_asked_for_ever():
    got: list[bytes] = []

    async def take(raw: bytes) -> None:
        got.append(raw)

    listed = [{"cursor": str(n), "object": f"a.b.{n}"} for n in range(3)]
    body = json.dumps({"objects": listed}).encode()

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def scenario() -> None:
        told: list[str] = []
        async with listening(say) as port:
            station = GatewayFacts(GATEWAY, None, take, complete=lambda: told.append("all"))
            async with asyncio.timeout(20), HttpsUplink.open(settings(port), station):
                assert got == [b"a.b.0", b"a.b.1", b"a.b.2"] * 2
                assert told == ["all"]

    asyncio.run(scenario())


def test_a_list_of_objects_without_end_is_gone_on_with_at_the_next_opening():
    """Each page is quick and has something new."""
    kept, asked = Cursors(), 0

    async def say(writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        body = json.dumps({"objects": [{"cursor": f"{asked}", "object": "a.b.c"}]}).encode()
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def take(_raw: bytes) -> None:
        await asyncio.sleep(TICK)

    async def scenario() -> None:
        async with listening(say) as port:
            told = settings(port, timeout=0.25)
            said = await lost(told, GatewayFacts(GATEWAY, None, take, kept))
            assert "took too long" in said
            assert int(kept.of(RECIPIENT, told.url)) >= asked - 1 > 1

    asyncio.run(scenario())


@pytest.mark.parametrize("word", ["folder", "sftp"])
def test_what_lies_among_the_objects_and_is_none_keeps_no_other_one_back(tmp_path, word: str):
    """A folder, a pipe that would be waited on for ever, a link to nothing, one that may not be
    read: a withdrawal may lie behind them."""

    async def scenario() -> None:
        async with side(word, tmp_path) as far:
            assert far.root is not None
            objects = far.root / "out/objects"
            (objects / "0").mkdir()
            os.mkfifo(objects / "1")
            (objects / "2").symlink_to(tmp_path / "nothing")
            if word == "sftp":  # there we are another user than the test
                (objects / "3").touch(0)
            (objects / "4").write_bytes(b"a.b.c")
            os.mkfifo(far.root / "out" / f"{GATEWAY}_{RECIPIENT}.building.receipt.json")
            async with far.kind.open(far.settings, far.station) as uplink:
                await heard(uplink, lambda: far.objects)
                assert far.objects == [b"a.b.c"]

    asyncio.run(scenario())


def test_a_name_that_is_no_text_ends_nothing(tmp_path):
    async def scenario() -> None:
        async with side("sftp", tmp_path) as far:
            strange = far.root / "out/objects" / os.fsdecode(b"\xff\xfe")
            strange.write_bytes(b"x")
            async with far.kind.open(far.settings, far.station) as uplink:
                listening = asyncio.ensure_future(heard(uplink, lambda: far.objects))
                await asyncio.sleep(0.5)
                assert not listening.done()
                strange.rename(strange.with_name("1"))
                await listening
                assert far.objects == [b"x"]

    asyncio.run(scenario())


async def heard(uplink, fact) -> None:
    """Listen until something is so."""
    job = asyncio.ensure_future(drained(uplink))
    async with asyncio.timeout(20):
        while not fact() and not job.done():
            await asyncio.sleep(TICK)
    job.cancel()
    await asyncio.wait([job])
    assert job.cancelled(), job.exception()


async def drained(uplink) -> None:
    async with aclosing(uplink.receipts()) as receipts:
        async for _ in receipts:
            pass


def test_a_chunk_of_a_negative_size_ends_the_connection_in_words():
    """urllib3 lets Python's own OverflowError out."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"-9223372036854775809\r\nx\r\n0\r\n\r\n")

    async def scenario() -> None:
        async with listening(say) as port:
            assert "was lost" in await lost(settings(port), GatewayFacts(GATEWAY))

    asyncio.run(scenario())
