"""Calls that show and change the configuration (docs/decisions/056), and try a device before it is
saved.

A change is written, then used by a reload; if the reload is refused, the change is undone.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.api import privacy
from agent.api.listening import listening
from agent.api.registry import author
from agent.api.status import shown
from agent.config.edit import with_devices
from agent.config.files import Files
from agent.config.load import checked, examine
from agent.config.profiles import FOLDER, Profiles
from agent.core.errors import AgentError, LinkLost, Refused
from agent.core.i18n import N_, Text, from_wire
from agent.core.model import ValueKind
from agent.core.quantities import channels
from agent.core.state import PACKAGED
from agent.registry.records import covers, serial_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from agent.api.registry import Call, Caller
    from agent.config.edit_request import WrittenChange
    from agent.core.model import Point, Sample
    from agent.gateway.gateway import Gateway

DOOR = Path("/run/gardien-edit.sock")
"""systemd's socket; each connection starts `agent.config.edit_request` as root"""
LONGEST_ANSWER = 1_000_000
"""bytes"""
ANSWER_WITHIN = 60.0
"""seconds; a large file is checked twice"""
UNSAVED = "new-device"
"""name of a device that is tried"""


async def lines_add(
    gateway: Gateway, caller: Caller, *, lines: dict[str, Any], named: str | None = None
) -> dict[str, Any]:
    """Add lines to the configuration, and open them. `lines`: entries by name. Raises Refused."""
    return await _change(gateway, caller, named, "lines.add", {"lines": lines})


async def devices_add(
    gateway: Gateway, caller: Caller, *, devices: dict[str, Any], named: str | None = None
) -> dict[str, Any]:
    """Add devices as a scan lists them, and begin to read them. `devices`: entries by name. Those
    that are configured already are left out. Raises Refused.
    """
    return await _change(gateway, caller, named, "devices.add", {"devices": devices})


async def uplink_add(
    gateway: Gateway, caller: Caller, *, recipient: str, url: str, named: str | None = None
) -> dict[str, Any]:
    """Add an uplink to a recipient at an address, and open it. Raises Refused."""
    return await _change(gateway, caller, named, "uplink.add", {"recipient": recipient, "url": url})


async def recovery(
    gateway: Gateway, caller: Caller, *, certificate: str, named: str | None = None
) -> dict[str, Any]:
    """Name the first recovery certificate (PEM) of the building. Raises Refused."""
    return await _change(gateway, caller, named, "backup.to", {"certificate": certificate})


async def _change(
    gateway: Gateway, caller: Caller, named: str | None, edit: str, args: dict[str, Any]
) -> dict[str, Any]:
    """Make one edit, use it, and return `added`, `file`, `copy` and what the reload `changed`."""
    who = author(gateway, caller, named)
    if not gateway.daemon:
        raise Refused("gardien is not running, so nothing can be changed here: start it first")
    request = {"edit": edit, "args": args, "by": who}
    async with gateway.daemon.editing, _written(gateway, request) as (answer, undo):
        if not answer["added"]:
            return answer | {"changed": {}}
        try:
            reloaded = await gateway.daemon.reload()
        except Exception as error:
            try:
                await undo()
            except AgentError as failed:
                raise Refused(
                    "the file was changed, and the agent does not use it: {error}. It could not be"
                    " restored ({failed}): the file as it was is {copy}",
                    error=error,
                    failed=failed,
                    copy=answer["copy"],
                ) from error
            if isinstance(error, AgentError):
                raise Refused("nothing was changed: {error}", error=error) from error
            raise
    gateway.audit("configuration.changed", {"edit": edit, "n": len(answer["added"]), "by": who})
    return answer | reloaded


@asynccontextmanager
async def _written(
    gateway: Gateway, request: dict[str, Any]
) -> AsyncIterator[tuple[dict[str, Any], Callable[[], Awaitable[None]]]]:
    """Have an edit written by root's program, or by this process if its account may write.

    Raises Refused if neither is possible, or if the edit is refused.
    """
    folder = None
    try:
        if gateway.config.state == PACKAGED:
            path = str(DOOR)
        else:  # by a descriptor: a path to a socket must be short
            folder = os.open(gateway.config.state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"/proc/self/fd/{folder}/{DOOR.name}"
        reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_ANSWER)
    except OSError:
        made = await _by_ourselves(gateway.daemon.path, request)
        yield made.answer, partial(asyncio.to_thread, made.undo)
        return
    finally:
        if folder is not None:
            os.close(folder)
    try:
        ask = partial(_ask, reader, writer)
        answer = await ask(request)

        async def undo() -> None:
            await ask("undo")

        yield answer, undo
    finally:
        writer.close()  # without a second line the change is kept


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: Any
) -> dict[str, Any]:
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            writer.write(json.dumps(message).encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
    except (OSError, TimeoutError, ValueError) as error:
        raise Refused(NO_ANSWER, error=error) from error
    if not line:
        raise Refused(NO_ANSWER, error=Text("the connection has ended"))
    answer: dict[str, Any] = json.loads(line, object_hook=from_wire)
    if "result" not in answer:
        raise Refused(answer.get("text", answer.get("refused", "")))
    result: dict[str, Any] = answer["result"]
    return result


NO_ANSWER = N_(
    "the program that writes the configuration did not answer ({error}). Perhaps nothing was"
    " changed: to see it: gardien config diff. Its log: journalctl -u 'gardien-edit@*'"
)


async def _by_ourselves(path: Path, request: dict[str, Any]) -> WrittenChange:
    """Make an edit in this process. Raises Refused."""
    from agent.config import edit_request  # noqa: PLC0415 -- seldom

    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise Refused(
            "only root may write {path}, and the service that writes changes for the page does not"
            " run. Open the page, which starts it: sudo gardien web open. Or make the change at"
            " the command line: sudo gardien commission",
            path=path,
        )
    return await asyncio.to_thread(edit_request.write, path, request)


async def show(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Return the texts of the configuration without secrets, and its problems as `gardien check`
    words them. Raises Refused if it cannot be read.
    """
    del caller
    return await gateway.disk.read(_shown, gateway.daemon.path)


def _shown(path: Path) -> dict[str, Any]:
    from agent.api.redaction import redact, secrets  # noqa: PLC0415 -- only people ask for it

    files = Files(path)
    shelf = Profiles(path.parent / FOLDER)
    result = examine(files.text(), str(path), files.include, shelf, strict=True)
    problems = result if isinstance(result, tuple) else ()
    known = list(secrets(path))
    return {
        "files": [
            {"file": str(file), "text": redact(files.text(file), known)} for file in files.paths()
        ],
        "problems": [one._asdict() | {"text": one.text} for one in problems],
    }


# a device that is not saved yet


async def device_try(
    gateway: Gateway, caller: Caller, *, entry: dict[str, Any], named: str | None = None
) -> dict[str, Any]:
    """Read a device that is not configured, on an open line, between the agent's own requests.

    `entry`: as `devices.NAME` of the configuration. It is checked as if it were saved. Answers as
    `read`, with the `serial`. `withheld`: a value that this caller may not see. Raises Refused.
    """
    who = author(gateway, caller, named)
    points, serial_point = await gateway.disk.read(_points_of, gateway.daemon.path, entry)
    link = gateway.lines.get(str(entry["link"]))
    if link is None:
        raise Refused(
            "the line {link} is not in use yet: gardien reload", link=str(entry.get("link"))
        )
    await link.link.tried()
    asked = [serial_point] if serial_point else []
    address = points[0].address
    try:
        async with listening(gateway, caller, link.link.name, trace=False) as heard:
            samples = await link.link.read([*asked, *points])
    except LinkLost as error:
        raise Refused(
            "{error}. To check ports, hosts and rights: gardien doctor", error=error
        ) from error
    serial = next((str(one.value) for one in samples[: len(asked)] if one.value is not None), None)
    if any((caller.page or not one.place) and values_may_be_shown(caller, one) for one in points):
        place = _place_of(gateway, serial)
        privacy.note(gateway, who, "device.try", place, reason=caller.reason)
    whose = link.link.whose(address)
    odd = heard.odd({whose: UNSAVED})
    return {
        "link": link.link.name,
        "address": address,
        "serial": serial,
        "odd": [one for one in odd if one["device"] in {address, whose, ""}],
        "points": {one.point.name: _shown_to(caller, one) for one in samples[len(asked) :]},
        "ok": all(sample.why is None for sample in samples[len(asked) :]),
    }


def _points_of(path: Path, entry: dict[str, Any]) -> tuple[list[Point], Point | None]:
    """Return what would be read of a device if it were saved, and the point with its serial number.

    Raises Refused.
    """
    from agent.config.edit_request import device_entries  # noqa: PLC0415 -- seldom

    entries = device_entries({"devices": {UNSAVED: entry}})
    edited = with_devices(Files(path), entries)
    if not edited.added:
        raise Refused(
            "this device is configured already, or it has neither a profile nor points. To read a"
            " configured one: gardien read DEVICE"
        )
    config, (name,) = checked(edited.files), edited.added
    points = [point for point in config.points()[name] if not point.derived]
    if not points:
        raise Refused("the profile names no value that would be read: name `points`")
    return points, config.serial_point(name)


def _place_of(gateway: Gateway, serial: str | None) -> str:
    """Return the place for which a serial number is recorded; empty if there is none."""
    now = int(gateway.clock.now())
    return next(
        (
            one.place
            for one in gateway.registry.installations()
            if serial
            and one.serial
            and covers(one, now)
            and serial_key(one.serial) == serial_key(serial)
        ),
        "",
    )


def values_may_be_shown(caller: Caller, point: Point) -> bool:
    """Whether a caller may see a value of a device that may be in a dwelling.

    At the page only indexes, and only with a reason: no momentary value and no comfort sensor.
    """
    if not caller.page:
        return True
    # whatever place the entry claims: nobody has checked it
    index = point.channel is not None and channels()[point.channel].kind is ValueKind.REG
    return index and bool(caller.reason)


def _shown_to(caller: Caller, sample: Sample) -> dict[str, Any]:
    may = values_may_be_shown(caller, sample.point)
    answer = shown(sample)
    return answer if may else answer | {"value": None, "detail": "", "withheld": True}


CALLS: Mapping[str, Call] = {
    "config.show": show,
    "config.lines.add": lines_add,
    "config.devices.add": devices_add,
    "config.uplink.add": uplink_add,
    "config.backup.to": recovery,
    "device.try": device_try,
}
"""calls by name"""
