"""The support bundle for people at the web page: made by `gardien support-bundle` as a process of
its own, kept in memory (tmpfs) for a while, and fetched in pieces.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import secrets
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.core.clock import stamp
from agent.core.errors import Refused
from agent.core.i18n import Text
from agent.core.storage import made, volatile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.api.registry import Call, Caller
    from agent.gateway.gateway import Gateway

KEPT = 900.0
"""seconds for which a bundle can be fetched"""
WITHIN = 240.0
"""seconds; the doctor's checks wait for lines and platforms"""
LARGEST = 8_000_000
"""bytes"""
MEMORY = 110_000_000
"""bytes of data that the process may have: it shares the memory limit of the agent's service"""
PIECE = 384_000
"""bytes, before base64"""
NAME = re.compile(r"[0-9a-f]{16}", re.ASCII)
COMMAND = (sys.executable, "-m", "agent.entry", "support-bundle")


async def bundle(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Make a support bundle, as `gardien support-bundle` does with the agent's rights.

    Returns its id for `bundle.read`, a `name` for the file, `size` in bytes, `sha256`, `until` when
    it can be fetched, and what is `missing` in it. An earlier bundle is removed. Raises Refused.
    """
    del caller
    if not gateway.daemon:
        raise Refused("gardien is not running. Make it at the command line: sudo gardien"
                      " support-bundle --out FILE")  # fmt: skip
    if gateway.daemon.bundling.locked():
        raise Refused("a support bundle is being made: try again in a minute")
    async with gateway.daemon.bundling:
        folder = await asyncio.to_thread(made, volatile(gateway.config.state))
        for earlier in folder.glob("bundle-*"):
            earlier.unlink(missing_ok=True)
        name = secrets.token_hex(8)
        file = _file(gateway, name)
        await _made(gateway, file)
    size, digest = await asyncio.to_thread(_facts, file)
    asyncio.get_running_loop().call_later(KEPT, partial(file.unlink, missing_ok=True))
    now = gateway.clock.now()
    return {
        "bundle": name,
        "name": f"gardien-support-{stamp(now)[:10]}.tar.gz",
        "size": size,
        "sha256": digest,
        "until": stamp(now + KEPT),
        "missing": [
            Text("the log, which this account may not read. With it: sudo gardien support-bundle"
                 " --out FILE")
        ] if os.geteuid() else [],
    }  # fmt: skip


async def flight(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Return the records of the flight recorder that are not on the disk yet."""
    del caller
    return {"records": [record.document() for record in gateway.flight.unwritten()]}


async def _made(gateway: Gateway, file: Path) -> None:
    """Run the command. Raises Refused with what it says."""
    import resource  # noqa: PLC0415 -- seldom

    where = ("--config", str(gateway.daemon.path), "--state", str(gateway.config.state))
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--out", str(file), *where,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        for limit, most in ((resource.RLIMIT_FSIZE, LARGEST), (resource.RLIMIT_DATA, MEMORY)):
            with suppress(ProcessLookupError):
                resource.prlimit(process.pid, limit, (most, most))
        assert process.stderr is not None
        async with asyncio.timeout(WITHIN):
            reason = b""
            while piece := await process.stderr.read(4_096):
                reason = (reason + piece)[-1_000:]
            status = await process.wait()
    except TimeoutError:
        raise Refused(
            "the support bundle was not made within {seconds:.0f} s. Make it at the command line:"
            " sudo gardien support-bundle --out FILE",
            seconds=WITHIN,
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status:
        await asyncio.to_thread(file.unlink, missing_ok=True)
        last = reason.decode(errors="replace").strip().splitlines()[-1:]
        raise Refused("no support bundle was made: {reason}", reason=", ".join(last))


def _file(gateway: Gateway, name: str) -> Path:
    return volatile(gateway.config.state) / f"bundle-{name}.tar.gz"


def _facts(file: Path) -> tuple[int, str]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        return content.tell(), digest


async def read(gateway: Gateway, caller: Caller, *, bundle: str, at: float = 0) -> dict[str, Any]:
    """Return a piece of a bundle from byte `at` on, in base64, and where the `next` one begins;
    null: this was the last. Raises Refused if it is not there any more.
    """
    del caller
    if not NAME.fullmatch(bundle) or not 0 <= at <= LARGEST:
        raise Refused("there is no such bundle")
    try:
        content, size = await asyncio.to_thread(_piece, _file(gateway, bundle), int(at))
    except FileNotFoundError:
        raise Refused("this bundle is not there any more: make it again") from None
    following = int(at) + len(content)
    return {
        "data": base64.b64encode(content).decode(),
        "next": following if following < size else None,
    }


def _piece(file: Path, at: int) -> tuple[bytes, int]:
    with file.open("rb") as content:
        content.seek(at)
        return content.read(PIECE), os.fstat(content.fileno()).st_size


CALLS: Mapping[str, Call] = {"bundle.flight": flight, "bundle.read": read}
"""calls by name, without the one that needs a person"""
