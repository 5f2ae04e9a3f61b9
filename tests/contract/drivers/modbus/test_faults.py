"""Whatever a peer sends, a value is the answer to our question or there is none. Rule F1."""

from __future__ import annotations

import asyncio
import gc
import logging
import struct
import time
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from agent.core.errors import LinkLost, WriteRefused
from agent.core.model import Sample, Why
from agent.drivers.modbus.bus import ModbusTcp
from tests.contract.drivers.modbus.peer import Behaviour, Request, faulty, peer, point, settings

if TYPE_CHECKING:
    from collections.abc import Callable

VALUE = point("input/0/uint16")
WIDE = point("input/0/uint32")


def read(behaviour: Behaviour, *ats: str, timeout: float = 0.2) -> list[Sample]:
    async def once() -> list[Sample]:
        async with faulty(behaviour, timeout) as driver:
            return await driver.read([point(at) for at in ats])

    return asyncio.run(once())


def test_a_late_answer_is_never_taken_for_the_next_request() -> None:
    """The next request waits while the late answer comes, of the same shape; then its own comes."""
    late: list[bytes] = []

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        if not late:
            late.append(request.frame(111))
            return
        writer.write(late[0])
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(request.frame(222))

    async def attack() -> tuple[list[Sample], list[Sample]]:
        async with faulty(behave) as driver:
            return await driver.read([VALUE]), await driver.read([point("input/9/uint16")])

    first, second = asyncio.run(attack())
    assert first[0].why is Why.SILENT
    assert second[0].value == Decimal(222)


def test_a_late_answer_glued_to_ours_costs_us_nothing() -> None:
    """Two longest answers in one segment."""
    late: list[bytes] = []

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        if not late:
            late.append(request.frame(*[1] * 125))
            return
        writer.write(late[0] + request.frame(*[2] * 125))

    async def attack() -> Sample:
        ats = [f"input/{n}/uint64" for n in range(0, 122, 4)] + ["input/124/uint16"]
        async with faulty(behave) as driver:
            await driver.read([point(at) for at in ats])
            return (await driver.read([point(at) for at in ats]))[-1]

    assert asyncio.run(attack()).value == Decimal(2)


def test_an_answer_sent_twice_does_not_lose_the_line() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.frame(request.address) * 2)

    async def attack() -> list[Sample]:
        async with faulty(behave) as driver:
            return [(await driver.read([point(f"input/{n}/uint16")]))[0] for n in range(20)]

    assert [sample.value for sample in asyncio.run(attack())] == list(range(20))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda request: request.frame(7, transaction=request.transaction + 1), Why.SILENT),
        (lambda request: request.frame(7, transaction=0), Why.SILENT),
        (lambda request: request.frame(7, unit=2), Why.BAD),
        (lambda request: request.frame(7, function=3), Why.BAD),
        (lambda request: request.frame(7, 7), Why.BAD),
        (lambda request: request.frame(), Why.BAD),
        (lambda request: request.raw(b"\4\2\7"), Why.BAD),
        (lambda request: request.raw(b"\4\3\0\7\0"), Why.BAD),
        (lambda request: request.raw(b"\4\2\0\7\0\0"), Why.BAD),
        (lambda request: request.raw(b"\4"), Why.BAD),
        (lambda request: request.raw(b"\x84"), Why.BAD),
        (lambda request: request.raw(b"\x2b\x0e\1"), Why.BAD),
        (lambda request: request.raw(b"\x83\2"), Why.BAD),
    ],
    ids=[
        "other transaction",
        "transaction 0",
        "other unit",
        "other function",
        "too many",
        "none",
        "cut inside its length",
        "odd count of bytes",
        "more than its count",
        "function only",
        "exception without code",
        "a function nobody asked for",
        "exception of another function",
    ],
)
def test_an_answer_that_does_not_fit_the_question_gives_no_value(
    wrong: Callable[[Request], bytes], why: Why
) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(wrong(request))

    (sample,) = read(behave, VALUE.at)
    assert (sample.value, sample.why) == (None, why)
    assert sample.detail


@pytest.mark.parametrize("other", [0, 2, 255])
def test_an_answer_of_another_unit_is_reported_as_such_and_is_never_a_value(other: int) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.frame(*[7] * request.count, unit=other))

    (sample,) = read(behave, VALUE.at)
    assert (sample.value, sample.why) == (None, Why.BAD)
    assert sample.detail.startswith(f"another unit answered: {other}. ")
    assert f"write address: {other}" in sample.detail


@pytest.mark.parametrize(("code", "why"), [(11, Why.SILENT), (10, Why.BAD)])
def test_a_gateway_that_did_not_reach_the_device_is_believed_whatever_unit_it_says(
    code: int, why: Why
) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.raw(bytes([request.function | 0x80, code]), unit=255))

    (sample,) = read(behave, VALUE.at)
    assert (sample.value, sample.why) == (None, why)
    assert sample.detail.startswith("gateway ")


def test_a_write_that_another_unit_confirms_is_not_done() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        cells = struct.pack(">HH", request.address, request.count)
        writer.write(request.raw(bytes([request.function]) + cells, unit=255))

    async def attack() -> None:
        async with faulty(behave) as driver:
            await driver.write(point("holding/0/uint16"), Decimal(7), None)

    with pytest.raises(WriteRefused, match="did not confirm the write: another unit answered: 255"):
        asyncio.run(attack())


def test_after_an_answer_that_does_not_fit_the_line_goes_on() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.raw(b"\4\x09") if request.address == 0 else request.frame(5))

    async def attack() -> Sample:
        async with faulty(behave) as driver:
            await driver.read([VALUE])
            return (await driver.read([point("input/1/uint16")]))[0]

    assert asyncio.run(attack()).value == Decimal(5)


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 8])
def test_an_answer_in_pieces_is_one_answer(pieces: int) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        frame = request.frame(0x449A, 0x5225)
        for at in range(0, len(frame), pieces):
            writer.write(frame[at : at + pieces])
            await writer.drain()
            await asyncio.sleep(0.002)

    (sample,) = read(behave, "input/0/float32", timeout=1)
    assert sample.value == Decimal("1234.567")


def test_an_answer_cut_short_and_never_ended_loses_the_line_at_the_next_request() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.frame(1, 2)[:-1])

    async def attack() -> Sample:
        async with faulty(behave) as driver:
            (sample,) = await driver.read([WIDE])
            with pytest.raises(LinkLost, match="broken frame"):
                await driver.read([WIDE])
            return sample

    assert asyncio.run(attack()).why is Why.SILENT


def test_another_protocol_loses_the_line() -> None:
    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def attack() -> None:
        async with faulty(behave) as driver:
            await driver.read([VALUE])
            with pytest.raises(LinkLost):
                await driver.read([VALUE])

    asyncio.run(attack())


def test_a_connection_dropped_in_mid_answer_is_noticed_at_once() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.frame(1, 2)[:9])
        await writer.drain()
        writer.close()

    began = time.monotonic()
    with pytest.raises(LinkLost, match="closed the connection"):
        read(behave, WIDE.at, timeout=30)
    assert time.monotonic() - began < 20


def test_a_connection_reset_loses_the_line_and_says_nothing_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    with caplog.at_level(logging.DEBUG), pytest.raises(LinkLost):
        read(behave, VALUE.at, timeout=10)
    assert [r for r in caplog.records if r.levelno > logging.DEBUG] == []


def test_a_connection_closed_while_idle_loses_the_line_and_leaves_no_complaint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.frame(1))
        await writer.drain()
        writer.close()

    async def attack() -> None:
        async with faulty(behave) as driver:
            assert (await driver.read([VALUE]))[0].value == Decimal(1)
            await asyncio.sleep(0.05)
            with pytest.raises(LinkLost):
                await driver.read([VALUE])

    asyncio.run(attack())
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.DEBUG] == []


def test_a_connection_closed_before_the_first_request_leaves_no_complaint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def attack() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server, ModbusTcp.open(settings(server.sockets[0].getsockname()[1])) as driver:
            await asyncio.sleep(0.05)
            with pytest.raises(LinkLost):
                await driver.read([VALUE])
        del driver
        gc.collect()

    asyncio.run(attack())
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.DEBUG] == []


def test_a_device_that_answers_late_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.frame(1, transaction=request.transaction + 7) + request.frame(2))

    assert read(behave, VALUE.at)[0].value == Decimal(2)
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.DEBUG] == []


def test_nobody_listening_is_a_lost_link_that_says_why() -> None:
    async def attack() -> None:
        async with peer(_hang) as port:
            pass
        async with ModbusTcp.open(settings(port)):
            pytest.fail("opened a closed port")

    with pytest.raises(LinkLost, match=r"127\.0\.0\.1:\d+ cannot be reached: Connection refused"):
        asyncio.run(attack())


def test_a_name_that_is_nobodys_is_a_lost_link() -> None:
    async def attack() -> None:
        async with ModbusTcp.open(settings(1).model_copy(update={"host": "no..such..host"})):
            pytest.fail("opened nothing")

    with pytest.raises(LinkLost, match="cannot be reached"):
        asyncio.run(attack())


async def _hang(_: Request, __: asyncio.StreamWriter) -> None:
    """Take the request, and say nothing."""


def test_a_hanging_device_is_silent_on_all_points_after_one_timeout() -> None:
    """Rule F2."""
    asked: list[Request] = []

    async def behave(request: Request, _: asyncio.StreamWriter) -> None:
        asked.append(request)

    began = time.monotonic()
    samples = read(behave, "input/0/uint16", "input/500/uint16", "holding/0/uint16", timeout=0.3)
    assert time.monotonic() - began >= 0.3
    assert len(asked) == 1, "the others are not waited for as well"
    assert [s.why for s in samples] == [Why.SILENT] * 3


def test_what_a_device_said_before_it_fell_silent_is_kept() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.address == 0:
            writer.write(request.frame(9))

    samples = read(behave, "input/500/uint16", "input/0/uint16", "input/900/uint16")
    assert [s.value for s in samples] == [None, Decimal(9), None]
    assert [s.why for s in samples] == [Why.SILENT, None, Why.SILENT]


def test_forty_silences_in_a_row_do_not_cost_the_others_the_connection() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.unit == 2:
            writer.write(request.frame(4))

    async def attack() -> Sample:
        async with faulty(behave, within=10) as driver:  # the connection has its own time
            driver.wire.timeout = 0.01
            for _ in range(40):
                await driver.read([VALUE])
            driver.wire.timeout = 10.0
            return (await driver.read([point("input/0/uint16", unit=2)]))[0]

    assert asyncio.run(attack()).value == Decimal(4)


def test_a_gateway_that_hears_nobody_means_a_silent_device() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.refusal(11))

    samples = read(behave, "input/0/uint16", "input/500/uint16")
    assert [s.why for s in samples] == [Why.SILENT] * 2
    assert samples[0].detail == "gateway target device failed to respond"


@pytest.mark.parametrize(
    ("code", "words"), [(1, "illegal function"), (4, "device failure"), (6, "device busy")]
)
def test_other_exceptions_mark_their_block_alone(code: int, words: str) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.refusal(code) if request.address == 0 else request.frame(3))

    samples = read(behave, "input/0/uint16", "input/1/uint16", "input/500/uint16")
    assert samples[0].why is None or samples[0].detail == words
    assert [s.why for s in samples] == [Why.BAD, Why.BAD, None]


def test_not_a_number_is_bad_and_its_neighbour_is_not() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.frame(0x7FC0, 0, 0x449A, 0x5225))

    samples = read(behave, "input/0/float32", "input/2/float32")
    assert (samples[0].why, samples[1].value) == (Why.BAD, Decimal("1234.567"))


def test_each_sample_carries_the_time_of_its_own_answer() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(request.frame(1))

    before = time.time()
    first, second = read(behave, "input/0/uint16", "input/500/uint16", timeout=1)
    assert before + 0.1 <= first.at <= second.at - 0.1
    assert second.at <= time.time()


def test_a_cancelled_read_ends_at_once_and_leaves_the_line_usable() -> None:
    held: list[bytes] = []

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        if not held:
            held.append(request.frame(1))
            return
        writer.write(held[0] + request.frame(2))

    async def attack() -> Sample:
        async with faulty(behave, within=5) as driver:
            reading = asyncio.create_task(driver.read([VALUE]))
            await asyncio.sleep(0.05)
            reading.cancel()
            done, _ = await asyncio.wait([reading], timeout=4)
            assert reading in done
            assert reading.cancelled()
            return (await driver.read([VALUE]))[0]

    assert asyncio.run(attack()).value == Decimal(2)


def test_no_cancellation_that_meets_an_answer_is_swallowed() -> None:
    """Before Python 3.12 `asyncio.wait_for` loses some of these; ours must lose none."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(request.frame(1))

    async def read_for_ever(driver: ModbusTcp) -> None:
        while True:
            await driver.read([VALUE])

    async def attack() -> int:
        swallowed = 0
        async with faulty(behave, within=1) as driver:
            for n in range(300):
                reading = asyncio.create_task(read_for_ever(driver))
                for _ in range(n % 12):
                    await asyncio.sleep(0)
                await asyncio.sleep(n % 7 * 0.0001)
                reading.cancel()
                await asyncio.wait([reading], timeout=2)
                if not reading.done():
                    swallowed += 1
                    reading.cancel()
                    await asyncio.wait([reading], timeout=1)
        return swallowed

    assert asyncio.run(attack()) == 0
