"""The local door within bounds: what is wrong is refused in words, and costs neither memory nor
the daemon. Guards rules G8, G9, U11."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest

from agent import local
from agent.api.registry import Caller
from agent.app import visited
from agent.core.errors import Refused
from agent.core.tasks import Supervisor
from agent.gateway.flight_recorder import FlightRecorder
from tests.memory import forget, peak

CONFIG = "building: {{name: Test}}\nclock: {{source: system}}\nstate: {state}\n"


@asynccontextmanager
async def door(folder, **bounds):
    """The daemon's door on a real house without lines; its state."""
    state = folder / "state"
    state.mkdir(exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(state=state))
    async with visited(config) as house:
        serving = asyncio.create_task(local.open_door(house, state, **bounds))
        while not (state / "gardien.sock").exists():
            await asyncio.sleep(0.01)
        try:
            yield state
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving


async def said(state, raw: bytes, more=()) -> dict:
    """What is answered to these bytes, behind the greeting."""
    reader, writer = await asyncio.open_unix_connection(str(state / "gardien.sock"))
    try:
        assert "here" in json.loads(await reader.readline())
        for piece in (raw, *more):
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(60):
            return json.loads(await reader.readline())
    finally:
        writer.close()


def call(which, /, **args) -> bytes:
    return json.dumps({"call": which, "args": args}).encode() + b"\n"


WRONG = [
    (call("status", nix=1), "status: it has no argument `nix`. Arguments: named"),
    (call("place.new", named="Eva"), "place.new: its argument `label` is missing"),
    (call("place.new", label={"a": 1}), "place.new: its argument `label` must be a text"),
    (call("place.new", label="A", house=1), "place.new: it has no argument `house`"),
    (call("place.new", label="A", who="root"), "place.new: it has no argument `who`"),
    (call("place.import", text="a", name="b", preview="yes"), "`preview` must be true or false"),
    (call("scan", link="hall", expected="all"), "`expected` must be a list of texts"),
    (call("meter.load", place="A", channel="c", seconds=True), "`seconds` must be a number"),
    (call("meter.load", place="A", channel="c", seconds=float("nan")), "must be a number"),
    (call("nix"), 'this version has no call "nix"'),
    (b'{"call":["status"]}\n', "this version has no call"),
    (b'{"call":"status","args":[1]}\n', "the request and its arguments must be objects"),
    (b'["status"]\n', "must be objects"),
    (b"\n", "not a call"),
    (b"\xff\n", "not a call"),
    (b'{"call":' + b"[" * 900_000 + b"\n", "nested deeper"),
    (b'{"call":' + b"9" * 900_000 + b"}\n", "a number has 900000 characters"),
    (b'{"call":"status","files":{"text":-1}}\n', "`files` must name each file with its length"),
    (b'{"call":"status","files":[]', "not a call"),
    (b'{"call":"trust.look","files":{"text":99000000}}\n', "the limit is 12000000: divide"),
    (b'{"call":"trust.look","files":{"nix":2}}\n""', "trust.look: it has no argument `nix`"),
]


def test_what_is_wrong_is_refused_in_words_and_without_a_traceback(tmp_path, caplog):
    async def scenario() -> None:
        async with door(tmp_path) as state:
            for raw, words in WRONG:
                reader, writer = await asyncio.open_unix_connection(str(state / "gardien.sock"))
                await reader.readline()
                writer.write(raw)
                writer.write_eof()
                async with asyncio.timeout(60):
                    answered = json.loads(await reader.readline())
                writer.close()
                assert words in answered.get("refused", ""), (raw[:90], answered)
            assert "result" in await said(state, call("status"))
            assert "result" in await said(state, b'{"call":"status","args":null}\n')

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert not caplog.records


def test_a_fault_of_our_own_is_refused_too_and_its_traceback_is_logged(caplog):
    house = SimpleNamespace(
        registry=SimpleNamespace(revision=0), jobs=Supervisor(), flight=FlightRecorder()
    )
    answered = asyncio.run(local.answer(house, {"call": "status"}, Caller("root", None)))
    assert answered["refused"].startswith("an error in gardien itself (AttributeError)")
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_a_call_that_is_too_long_is_heard_to_its_end_and_costs_no_memory(tmp_path):
    """Its sender may be the command of an older version, which sends files in the line."""
    pieces = [b"x" * 1_000_000] * 40

    async def scenario() -> None:
        async with door(tmp_path) as state:
            before = forget()
            answered = await said(state, b'{"call":"place.import","args":{"text":"', pieces)
            assert "more than 1000000 bytes" in answered["refused"]
            assert peak() - before < 25, "MB"

    asyncio.run(scenario())


def test_a_file_is_taken_behind_the_line_and_a_larger_one_refused(tmp_path):
    text = "label;type" + "".join(f"\nA-{n}-{'x' * 50};dwelling" for n in range(1_600))

    def ask(state, text):
        words = {"text": text, "name": "places.csv", "named": "Eva", "preview": True}
        return local.ask_daemon(state, "place.import", words, lambda _: None)

    async def scenario() -> None:
        async with door(tmp_path) as state:
            assert len(json.dumps(text)) > local.FILE
            answer = await asyncio.to_thread(ask, state, text)
            assert len(answer["places"]) == 1_600
            with pytest.raises(Refused, match="the limit is 12000000: divide"):
                await asyncio.to_thread(ask, state, "x" * 13_000_000)

    asyncio.run(scenario())


def test_who_does_not_ask_is_turned_away_and_others_are_answered_meanwhile(tmp_path):
    async def scenario() -> None:
        async with door(tmp_path, line_within=0.5) as state:
            slow = asyncio.create_task(said(state, b'{"call":'))
            assert "result" in await said(state, call("status"))
            assert "not complete within" in (await slow)["refused"]

    asyncio.run(scenario())


def test_no_more_are_answered_at_once_than_the_door_takes(tmp_path):
    async def scenario() -> None:
        async with door(tmp_path, most_visitors=3) as state:
            path = str(state / "gardien.sock")
            waiting = [await asyncio.open_unix_connection(path) for _ in range(3)]
            for reader, _ in waiting:
                await reader.readline()
            refused = (await said(state, call("status")))["refused"]
            assert "3 other calls are being answered" in refused
            for _, writer in waiting:
                writer.close()
            async with asyncio.timeout(60):
                while "result" not in await said(state, call("status")):
                    await asyncio.sleep(0.02)

    asyncio.run(scenario())


def test_every_argument_of_every_call_has_a_type_that_is_checked():
    from agent.api.calls import CALLS
    from agent.api.registry import TYPES, fit

    for name, one in CALLS.items():
        with pytest.raises(Refused, match="has no argument `nobody`"):
            fit(one, {"nobody": 1})
        for argument in local_arguments(one):
            assert argument.annotation in TYPES, (name, argument)


def local_arguments(one):
    from inspect import signature

    found = signature(one).parameters.values()
    return [argument for argument in found if argument.kind is argument.KEYWORD_ONLY]
