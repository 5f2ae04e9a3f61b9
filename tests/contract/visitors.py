r"""A door that real accounts knock at; run as root: CONFIG GROUPS, the file that is mounted over
the machine's own groups, with a JSON list of steps on standard input.

Steps: `{"as": "marie", "call": …, "args": {…}}`, answered on standard output in their order;
`{"groups": "gardien-manager:x:3001:alice\n…"}`: the machine's groups from then on;
`$2.code` in a step stands for the member `code` of the third answer's result.
`{"as": "jean", "waits": 40}`: so many visitors who ask nothing, and stay;
`{"as": "dupont", "run": ["audit", "verify"]}`: a command, answered with its `code`, `out`, `err`.
"""

import asyncio
import json
import os
import pwd
import socket
import sys
from contextlib import suppress
from pathlib import Path

from agent import local
from agent.app import visited
from agent.core.state import acting_as
from tests.contract.visiting import filled


async def answers(config: Path, groups: Path, steps: list) -> list:
    state = config.with_name("state")
    async with visited(config) as house:
        serving = asyncio.create_task(local.open_door(house, state))
        while not (state / "gardien.sock").exists():
            await asyncio.sleep(0.01)
        (state / "gardien.sock").chmod(0o666)  # as systemd's is
        state.chmod(0o755)
        found, staying = [], []
        try:
            for written in steps:
                step = filled(written, found)
                if "groups" in step:
                    await asyncio.to_thread(groups.write_text, step["groups"])
                elif "waits" in step:
                    staying += [await visitor(state, step["as"]) for _ in range(step["waits"])]
                elif "run" in step:
                    found.append(await ran(config, step))
                else:
                    found.append(await answered(state, step))
            return found
        finally:
            for _, writer in staying:
                writer.close()
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving


async def visitor(state: Path, account: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of an account, behind the greeting."""
    door = socket.socket(socket.AF_UNIX)
    with acting_as(pwd.getpwnam(account)):
        door.connect(str(state / "gardien.sock"))
    reader, writer = await asyncio.open_unix_connection(sock=door)
    await reader.readline()
    return reader, writer


async def ran(config: Path, step: dict) -> dict:
    who = pwd.getpwnam(step["as"])
    done = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("gardien"), *step["run"],
        env=os.environ | {"GARDIEN_CONFIG": str(config)},
        user=who.pw_uid, group=who.pw_gid, extra_groups=os.getgrouplist(who.pw_name, who.pw_gid),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await done.communicate()
    return {"code": done.returncode, "out": out.decode(), "err": err.decode()}


async def answered(state: Path, step: dict) -> dict:
    reader, writer = await visitor(state, step["as"])
    try:
        request = {"call": step["call"], "args": step.get("args", {})}
        request |= {
            name: step[name] for name in ("login", "reason", "live", "files") if name in step
        }
        with suppress(ConnectionError):
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
        async with asyncio.timeout(60):
            return json.loads(await reader.readline())
    finally:
        writer.close()


config, groups = map(Path, sys.argv[1:])
print(json.dumps(asyncio.run(answers(config, groups, json.load(sys.stdin)))))
