"""Guards rules G1, G2, G8: the configuration is taken anew without fear.

Only what changed is reopened, a wrong file changes nothing, and no slot is lost or doubled.
Rule U8.
"""

import asyncio
import signal
import time

import pytest

from hil.platform.plan import judge
from hil.stage import GARDIEN, stage
from tests.waiting import until

OTHER_WAY = (
    'transport: files, url: "sftp://g@127.0.0.1:9/", key: "file:/none", container: none,'
    ' host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Wm5mEr0V9b2Xk8aQ2V7tZ4d1n6Yc3uHs5Lq8R"'
)


async def opened(on):
    status = await on.status()
    return {name: (one["opened"], one["devices"]) for name, one in status["links"].items()}


async def reload(on):
    return await gardien(on, "reload")


async def gardien(on, *words):
    process = await asyncio.create_subprocess_exec(
        GARDIEN, *words, "--config", str(on.config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def a_morning_of_changes(folder):
    async with stage(folder, lines=2, meters=4, without_consent=1) as on:
        written = on.config.read_text()
        await on.start_agent()

        async def up():
            status = await on.status()
            return bool(status) and all(one["opened"] for one in status["links"].values())

        await until(up)
        await asyncio.sleep(3)
        seen = {"start": await opened(on)}

        on.config.write_text(written.replace("every: 1s", "evry: 1s", 1))
        seen["wrong"] = await reload(on)
        seen["after wrong"] = await opened(on)

        # a slower line timeout reopens that line; a meter taken out changes the other one
        lines = written.splitlines(keepends=True)
        fewer = "".join(line for line in lines if "meter-B-04" not in line)
        fewer = fewer.replace("timeout: 500ms", "timeout: 600ms", 1)
        on.config.write_text(fewer)
        seen["differs"] = await gardien(on, "config", "diff")
        seen["changed"] = await reload(on)
        seen["differs no more"] = await gardien(on, "config", "diff")
        seen["after changed"] = await opened(on)

        on.config.write_text(written)
        await on.cut.set("cut")
        on.agent.send_signal(signal.SIGHUP)  # during an outage of the platform

        async def back():
            return (await opened(on))["riser-1"][1] == 4

        await until(back)
        seen["nothing"] = await reload(on)
        await on.cut.set("pass")
        on.platform.freeze()
        await asyncio.sleep(4)  # batches are sealed, and wait for their receipts
        start, end = written.index("transport: mqtt"), written.index(", seal: 1s")
        on.config.write_text(written[:start] + OTHER_WAY + written[end:])
        seen["another way"] = await reload(on)
        on.config.write_text(written)
        seen["back"] = await reload(on)
        on.platform.thaw()
        seen["end"] = await opened(on)
        await asyncio.sleep(2)
        last_slot = int(time.time())
        await asyncio.sleep(1)
        await on.delivered(last_slot)
        verdict, plan = on.prove(last_slot), judge(folder / "platform.db")
        assert await on.stop_agent() == 0
        return on, seen, verdict, plan


@pytest.fixture(scope="module")
def morning(tmp_path_factory):
    return asyncio.run(a_morning_of_changes(tmp_path_factory.mktemp("reload")))


def test_a_wrong_file_is_refused_with_its_line_and_the_agent_goes_on(morning):
    _, seen, _, _ = morning
    status, out, err = seen["wrong"]
    assert (status, out) == (1, "")
    assert 'did you mean "every"?' in err
    assert "config.yaml:" in err
    assert seen["after wrong"] == seen["start"]


def test_only_the_line_that_changed_is_opened_anew(morning):
    _, seen, _, _ = morning
    assert seen["start"] == {"riser-0": (1, 4), "riser-1": (1, 4)}
    status, out, err = seen["changed"]
    assert status == 0, err
    assert "line opened riser-0" in out
    assert "devices of line riser-1" in out
    assert seen["after changed"]["riser-1"] == (1, 3)
    assert seen["end"]["riser-1"] == (1, 4)


def test_what_a_reload_would_change_is_told_before(morning):
    _, seen, _, _ = morning
    status, out, err = seen["differs"]
    assert (status, err) == (1, "")
    assert out.splitlines()[0] == "~ links.riser-0.timeout: 500ms → 600ms"
    assert out.splitlines()[1] == "- devices.meter-B-04"
    assert seen["differs no more"] == (0, "nothing differs\n", "")


def test_a_file_in_which_nothing_changed_changes_nothing(morning):
    _, seen, _, _ = morning
    assert seen["nothing"] == (0, "nothing has changed\n", "")


def test_no_slot_is_lost_or_doubled_by_it(morning):
    _, _, verdict, plan = morning
    away = {"agent", "busy"}
    assert verdict.slots > 7 * 8
    assert (verdict.duplicate, verdict.missing, verdict.without_basis) == (0, 0, 0)
    assert set(verdict.reasons) <= away | {"link"}
    assert (plan.unknown, plan.unstated, plan.unowed, plan.disorder) == ([], [], [], [])


def test_an_uplink_goes_by_another_transport_and_back_while_batches_wait(morning):
    for turn in ("another way", "back"):
        code, out, err = morning[1][turn]
        assert (code, err) == (0, "")
        assert "metropole" in out
