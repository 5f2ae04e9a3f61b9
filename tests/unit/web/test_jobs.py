"""Long calls in the background of the page's process."""

import asyncio
from functools import wraps

import pytest

from agent.core.errors import Refused
from agent.web import jobs as module
from agent.web.jobs import Jobs
from tests.waiting import until


def in_a_loop(test):
    @wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


async def messages(*all_of_them, closed):
    try:
        for message in all_of_them:
            yield message
        await asyncio.Event().wait()
    finally:
        closed.set()


async def forever(_job):
    await asyncio.Event().wait()


async def at_once(_job):
    return {"lines": 2}


def following(*all_of_them, closed=None):
    closed = closed or asyncio.Event()
    return lambda job: job.take(messages(*all_of_them, closed=closed))


@in_a_loop
async def test_the_result_of_a_job_is_kept_for_its_login_alone():
    jobs = Jobs()
    job = jobs.begin("marie", "find", at_once, hosts=["a"])
    await job.task
    assert jobs.of("marie", "find").result == {"lines": 2}
    assert jobs.of("marie", "find").about == {"hosts": ["a"]}
    assert jobs.of("paul", "find") is None


@in_a_loop
async def test_progress_and_partial_results_are_seen_while_it_runs():
    jobs = Jobs()
    job = jobs.begin("marie", "scan", following(
        {"progress": {"done": 3, "total": 9, "words": "asking", "stays": False}},
        {"progress": {"text": "found a meter", "device": {"name": "sdm-1"}}},
    ))  # fmt: skip
    await until(lambda: job.items)
    assert (job.done, job.total, job.text, job.running) == (3, 9, "found a meter", True)
    assert [one["device"]["name"] for one in job.items] == ["sdm-1"]
    await jobs.stop("marie", "scan")


@in_a_loop
async def test_stopping_ends_the_call_and_keeps_what_came_so_far():
    jobs, closed = Jobs(), asyncio.Event()
    device = {"progress": {"device": {"name": "sdm-1"}}}
    job = jobs.begin("marie", "scan", following(device, closed=closed))
    await until(lambda: job.items)
    before = job.state
    await jobs.stop("marie", "scan")
    assert closed.is_set()
    assert job.stopped
    assert not job.running
    assert job.state != before
    assert jobs.of("marie", "scan").items


@in_a_loop
async def test_the_answer_of_a_call_is_the_result():
    jobs, closed = Jobs(), asyncio.Event()
    job = jobs.begin("m", "scan", following({"result": {"devices": []}}, closed=closed))
    await job.task
    assert job.result == {"devices": []}
    assert closed.is_set()


@in_a_loop
async def test_a_refusal_is_kept_for_its_reader():
    async def refused(_job):
        raise Refused("no line {link}", link="x")

    jobs = Jobs()
    job = jobs.begin("marie", "scan", refused)
    await job.task
    assert job.refused == "no line x"
    assert job.refused.in_language("fr")


@in_a_loop
async def test_an_error_of_our_own_ends_only_the_job(caplog):
    async def broken(_job):
        raise RuntimeError("a bug")

    jobs = Jobs()
    job = jobs.begin("marie", "scan", broken)
    await job.task
    assert job.refused == module.FAILED
    assert "a bug" in caplog.text


@in_a_loop
async def test_nobody_can_run_more_than_a_few_and_a_job_runs_once():
    jobs = Jobs()
    jobs.begin("marie", "find", forever)
    with pytest.raises(Refused, match="runs already"):
        jobs.begin("marie", "find", forever)
    jobs.begin("marie", "scan", forever)
    with pytest.raises(Refused, match="too much"):
        jobs.begin("marie", "match", forever)
    jobs.begin("paul", "find", forever)
    jobs.begin("paul", "scan", forever)
    with pytest.raises(Refused, match="too much"):
        jobs.begin("anne", "find", forever)
    for login in ("marie", "paul"):
        jobs.forget(login)


@in_a_loop
async def test_what_is_kept_is_bounded_and_a_running_job_is_never_forgotten():
    jobs = Jobs()
    running = jobs.begin("marie", "find", forever)
    for number in range(3 * module.MOST_EACH):
        jobs.keep("marie", f"upload-{number}", number)
    kept = jobs.of_login("marie")
    assert len(kept) == module.MOST_EACH
    assert running in kept
    assert jobs.of("marie", f"upload-{3 * module.MOST_EACH - 1}") is not None
    for number in range(3 * module.MOST):
        jobs.keep(f"login-{number}", "upload", number)
    assert sum(len(jobs.of_login(f"login-{n}")) for n in range(3 * module.MOST)) < module.MOST
    assert jobs.of("marie", "find") is running
    jobs.forget("marie")


@in_a_loop
async def test_a_result_that_nobody_looks_at_is_forgotten_after_half_an_hour():
    jobs = Jobs()
    jobs.keep("marie", "list", "text")
    running = jobs.begin("marie", "find", forever)
    assert jobs.held
    for job in jobs.of_login("marie"):
        job.used -= module.KEPT + 1
    assert jobs.of("marie", "list") is None
    assert jobs.of("marie", "find") is running
    jobs.forget("marie")
    assert not jobs.held
    jobs.keep("marie", "notice", "done").holds = False
    assert not jobs.held


@in_a_loop
async def test_forgetting_a_login_ends_its_jobs():
    jobs, closed = Jobs(), asyncio.Event()
    job = jobs.begin("marie", "scan", following({"progress": {"text": "x"}}, closed=closed))
    await until(lambda: job.text)
    jobs.forget("marie")
    await asyncio.wait_for(closed.wait(), 5)
    assert jobs.of_login("marie") == []
