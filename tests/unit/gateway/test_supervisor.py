"""One component fails alone: parked, tried again with back-off, told, and over. Rule G11."""

import asyncio
import itertools
import logging

import pytest

from agent.core.errors import Refused, UplinkLost
from agent.core.log_fields import FIELDS, LogEvent
from agent.core.tasks import CLOSED_WITHIN, LONGEST_WAIT, Backoff, Faults, Supervisor
from tests.virtual_time import run

LONGEST = 8.0
WELL = 60.0


class Part:
    """A component that fails as often as it is told to."""

    def __init__(self, fails=0, stands=0.0, error=None):
        self.fails, self.stands, self.error = fails, stands, error or ValueError("odd")
        self.begins = []
        self.ended = False

    async def run(self):
        self.begins.append(asyncio.get_running_loop().time())
        try:
            if self.fails:
                self.fails -= 1
                await asyncio.sleep(self.stands)
                raise self.error
            await asyncio.Event().wait()
        finally:
            self.ended = True


def supervisor():
    return Supervisor(longest=LONGEST, well=WELL)


def test_a_component_that_fails_is_parked_and_the_others_go_on():
    async def scenario():
        jobs, bad, good = supervisor(), Part(fails=1), Part()
        jobs.start("bad", bad.run)
        jobs.start("good", good.run)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert jobs.parked("bad")
        assert not jobs.parked("good")
        (fault,) = jobs.faults.all()
        assert (fault.component, fault.error, fault.text) == (
            "bad",
            "ValueError",
            "ValueError: odd",
        )
        assert 0 <= fault.next_try - fault.since <= 1
        await asyncio.sleep(1.1)
        assert len(bad.begins) == 2
        assert len(good.begins) == 1
        assert jobs.faults.all(), "it has to stand first"
        await asyncio.sleep(WELL)
        assert not jobs.faults.all()
        assert jobs.failures == {"bad": 1}, "it is counted also after it is over"
        await jobs.end()

    run(scenario())


def test_attempts_come_ever_more_rarely_and_never_more_so_than_stated():
    async def scenario():
        jobs, bad = supervisor(), Part(fails=200)
        jobs.start("bad", bad.run)
        await asyncio.sleep(400)
        await jobs.end()
        return bad.begins

    begins = run(scenario())
    waits = [b - a for a, b in itertools.pairwise(begins)]
    assert all(wait <= bound for wait, bound in zip(waits, (1, 2, 4), strict=False))
    assert max(waits) <= LONGEST + 0.01
    assert 3.0 < sum(waits[5:]) / len(waits[5:]) < 5.0, "full jitter: half of the bound"


def test_the_back_off_starts_over_after_it_stood_well():
    async def scenario():
        jobs, bad = supervisor(), Part(fails=6)
        jobs.start("bad", bad.run)
        await asyncio.sleep(60 + WELL)
        assert not jobs.faults.all()
        assert jobs._components["bad"].backoff._most == 1.0
        await jobs.end()

    run(scenario())


def test_a_back_off_is_bounded_and_begins_with_a_second():
    backoff = Backoff()
    assert all(backoff.next() <= bound for bound in (1, 2, 4, 8, 16, 32, 60, 60, 60))
    assert max(backoff.next() for _ in range(200)) > LONGEST_WAIT / 2
    backoff.start_over()
    assert backoff.next() <= 1


def test_a_traceback_is_logged_once_for_each_distinct_error(caplog):
    async def scenario():
        jobs, bad = supervisor(), Part(fails=5)
        jobs.start("bad", bad.run)
        await asyncio.sleep(30 + WELL)
        bad.error = KeyError("another")
        await jobs.stop("bad")
        jobs.start("bad", Part(fails=2, error=KeyError("another")).run)
        await asyncio.sleep(30)
        await jobs.end()

    with caplog.at_level(logging.WARNING, "agent.core.tasks"):
        run(scenario())
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [bool(record.exc_info) for record in errors] == [True, True]
    assert {record.COMPONENT for record in errors} == {"bad"}
    assert "ValueError: odd" in errors[0].message
    assert "KeyError: 'another'" in errors[1].message
    assert sum("works again" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("component", "part", "uplink", "names"),
    [
        ("line riser", "", None, {"LINE": "riser"}),
        ("poll riser", "sdm-11", None, {"LINE": "riser", "DEVICE": "sdm-11"}),
        ("control boiler", "", None, {"CONTROL": "boiler"}),
        ("spool centre", "", None, {"UPLINK": "centre"}),
        ("rows centre", "D4", "centre", {"UPLINK": "centre"}),
        ("clock", "", None, {}),
    ],
)
def test_a_fault_is_found_in_the_log_by_what_it_belongs_to(caplog, component, part, uplink, names):
    async def scenario():
        faults = Faults()
        faults.note(component, ValueError("odd"), part, uplink=uplink)
        faults.over(component, part)

    asyncio.run(scenario())
    expected = {"COMPONENT": component, **names}
    events = (LogEvent.COMPONENT_FAILED, LogEvent.COMPONENT_RECOVERED)
    assert [
        {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        for record in caplog.records
    ] == [{"MESSAGE_ID": event, **expected} for event in events]


def test_a_refusal_is_no_bug_and_has_no_traceback(caplog):
    async def scenario():
        jobs = supervisor()
        jobs.start("spool", Part(fails=1, error=Refused("another's key")).run)
        await asyncio.sleep(0.01)
        assert [fault.text for fault in jobs.faults.all()] == ["another's key"]
        await jobs.end()

    run(scenario())
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "another's key" in record.message
    assert not record.exc_info


def test_a_component_that_ends_by_itself_is_tried_again_too():
    async def scenario():
        begins = []

        async def gone():
            begins.append(1)

        jobs = supervisor()
        jobs.start("gone", gone)
        await asyncio.sleep(20)
        assert len(begins) > 3
        assert "ended by itself" in jobs.faults.all()[0].text
        await jobs.end()

    run(scenario())


def test_a_cancellation_that_nobody_asked_for_parks_as_an_error_does():
    async def scenario():
        waited = asyncio.get_running_loop().create_future()
        begins = []

        async def waits():
            begins.append(1)
            await (waited if len(begins) == 1 else asyncio.Event().wait())

        jobs = supervisor()
        jobs.start("waits", waits)
        await asyncio.sleep(0.01)
        waited.cancel()
        await asyncio.sleep(2)
        assert len(begins) == 2
        assert jobs.faults.all()[0].error == "CancelledError"
        await jobs.end()

    run(scenario())


def test_what_is_parked_is_ended_at_once_and_tried_again_at_once_when_asked():
    async def scenario():
        jobs, bad, loop = supervisor(), Part(fails=1000), asyncio.get_running_loop()
        jobs.start("bad", bad.run)
        await asyncio.sleep(100)
        before = len(bad.begins)
        assert jobs.parked("bad")
        bad.fails = 0
        jobs.retry("bad")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(bad.begins) == before + 1
        assert not jobs.parked("bad")
        bad.fails = 1
        await jobs.stop("bad", patience=0.5)
        jobs.start("bad", Part(fails=1).run)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert jobs.parked("bad")
        began = loop.time()
        await jobs.stop("bad", patience=60)
        assert loop.time() - began < 0.01, "a parked one needs no patience"
        assert not jobs.faults.all(), "what is there no more has no fault"

    run(scenario())


def test_one_that_fails_while_it_is_closed_prevents_no_other_from_closing(caplog):
    async def scenario():
        closed = []

        def resource(name, error=None):
            class Made:
                async def __aenter__(self):
                    return asyncio.Event().wait()

                async def __aexit__(self, *_):
                    await asyncio.sleep(0.1)
                    closed.append(name)
                    if error:
                        raise error

            return Made

        jobs, user = supervisor(), Part()
        await jobs.open("bad", resource("bad", OSError("no disk")))
        await jobs.open("good", resource("good"))
        jobs.start("user", user.run)
        await asyncio.sleep(0.01)
        await jobs.end()
        assert sorted(closed) == ["bad", "good"]
        assert user.ended

    run(scenario())
    assert any("bad failed while it ended: OSError" in one.message for one in caplog.records)


@pytest.mark.parametrize("error", [OSError("no disk"), None])
def test_what_is_being_closed_by_its_own_error_is_not_left_half_closed(error):
    """Rule G11."""

    async def scenario():
        closed, broken = [], asyncio.get_running_loop().create_future()

        class Made:
            async def __aenter__(self):
                return broken

            async def __aexit__(self, *_):
                for part in range(3):
                    await asyncio.sleep(1)
                    closed.append(part)

        jobs = supervisor()
        await jobs.open("spool", Made)
        if error:
            broken.set_exception(error)
        else:
            broken.set_result(None)
        await asyncio.sleep(1.5)
        await jobs.stop("spool")
        assert closed == [0, 1, 2]

    run(scenario())


def test_what_never_ends_closing_is_cancelled():
    async def scenario():
        broken = asyncio.get_running_loop().create_future()

        class Made:
            async def __aenter__(self):
                return broken

            async def __aexit__(self, *_):
                await asyncio.Event().wait()

        jobs, loop = supervisor(), asyncio.get_running_loop()
        await jobs.open("spool", Made)
        broken.set_exception(OSError("no disk"))
        await asyncio.sleep(0.01)
        began = loop.time()
        await jobs.stop("spool")
        assert loop.time() - began == pytest.approx(CLOSED_WITHIN, abs=1)

    run(scenario())


def test_what_cannot_be_opened_is_parked_and_the_start_goes_on():
    async def scenario():
        tries = []

        class Made:
            async def __aenter__(self):
                tries.append(1)
                if len(tries) < 3:
                    raise TypeError("odd")
                return asyncio.Event().wait()

            async def __aexit__(self, *_):
                pass

        jobs = supervisor()
        async with asyncio.timeout(0.5):
            await jobs.open("spool", Made)
        assert jobs.parked("spool")
        assert not jobs.opening()
        await asyncio.sleep(10)
        assert len(tries) == 3
        assert not jobs.parked("spool")
        await jobs.end()

    run(scenario())


def test_what_takes_long_to_open_or_to_close_is_known():
    async def scenario():
        free, closed = asyncio.Event(), asyncio.Event()
        broken = asyncio.get_running_loop().create_future()

        class Made:
            async def __aenter__(self):
                await free.wait()
                return broken

            async def __aexit__(self, *_):
                await closed.wait()

        jobs = supervisor()
        opening = asyncio.ensure_future(jobs.open("spool", Made))
        await asyncio.sleep(30)
        (since,) = jobs.opening().values()
        assert asyncio.get_running_loop().time() - since == pytest.approx(30, abs=1)
        free.set()
        await opening
        assert not jobs.opening()
        broken.set_exception(TypeError("odd"))
        await asyncio.sleep(30)
        assert asyncio.get_running_loop().time() - jobs.opening()["spool"] == pytest.approx(
            30, abs=1
        )
        closed.set()
        await asyncio.sleep(0.01)
        assert jobs.parked("spool")
        assert not jobs.opening()
        await jobs.end()

    run(scenario())


def test_alone_passes_what_is_raised_on_purpose_and_parks_the_rest():
    async def scenario():
        begins = []

        async def status():
            begins.append(1)
            raise (TypeError("odd") if len(begins) < 3 else UplinkLost("it is gone"))

        jobs = supervisor()
        with pytest.raises(UplinkLost):
            await jobs.alone("status", status, UplinkLost)
        assert len(begins) == 3
        assert not jobs.runs("status")
        assert not jobs.faults.all()

    run(scenario())
