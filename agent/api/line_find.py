"""The call that finds lines: on serial ports, and on hosts that a person names."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.config.edit import unlike
from agent.core.errors import LinkLost, Refused
from agent.core.i18n import EMPTY, Text
from agent.drivers.base import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from agent.api.registry import Caller
    from agent.config import Config
    from agent.drivers.line_search import Step
    from agent.drivers.serial_ports import SerialPort
    from agent.gateway.gateway import Gateway

LONGEST = 86_400.0


async def find(  # noqa: PLR0913 -- as many wishes
    gateway: Gateway,
    caller: Caller,
    *,
    ports: Sequence[str] = (),
    hosts: Sequence[str] = (),
    listen: bool = False,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """Find lines and report progress. Nothing is written to a device. Raises Refused.

    `ports`: serial ports; empty: all of them, or none if `hosts` are named. `hosts`: names,
    addresses, HOST:PORT, networks and interfaces. `listen`: nothing is sent. `seconds`: for each
    port at most; 0: the usual time. The answer has `found` (lines as in `links:`; `master`: another
    master uses it), `silent` and `busy` (`where` and `sentence`).
    """
    # imported here: a daemon that never searches saves their memory
    from agent.drivers import line_search  # noqa: PLC0415
    from agent.drivers.serial_ports import serial_ports  # noqa: PLC0415

    if not 0 <= seconds <= LONGEST:
        raise Refused("{seconds} is not a number of seconds, 1 to 86400", seconds=seconds)
    if listen and hosts:
        raise Refused("only a serial port can be listened to: leave the hosts out")
    known = serial_ports()
    wanted = list(ports) or ([] if hosts else [one.path for one in known])
    lines = _lines_of(gateway.config)
    busy: list[dict[str, Any]] = []
    searches: dict[str, AsyncIterator[Step]] = {}
    for path in dict.fromkeys(wanted):
        if taken := _taken(path, known, lines):
            busy.append({"where": path, "sentence": taken})
        elif listen:
            searches[path] = line_search.listen_to_port(path, seconds or line_search.LISTENED)
        else:
            searches[path] = line_search.search_port(path, seconds or line_search.SEARCHED)
    if hosts:
        from agent.drivers.host_search import places, search_hosts  # noqa: PLC0415

        places(hosts)  # refuses a misspelt host before a port is searched for minutes
        searches[", ".join(hosts)] = search_hosts(hosts)
    collected = _Collected(caller, {*gateway.config.links}, busy)
    await collected.run(searches)
    adapters = {one.path: one.adapter for one in known if one.adapter}
    return {
        "found": collected.lines,
        "silent": collected.silent,
        "busy": busy,
        "adapters": {path: adapters[path] for path in wanted if path in adapters},
    }


def _taken(path: str, known: Sequence[SerialPort], lines: Mapping[str, str]) -> Text:
    """Why a port must not be touched; empty: it may."""
    from agent.drivers.serial_ports import program_with  # noqa: PLC0415 -- see `find`

    real = os.path.realpath(path)
    if line := lines.get(real):
        return Text("it is the line {line} of the configuration", line=line)
    reasons = [one.taken for one in known if os.path.realpath(one.device) == real]
    return next(filter(None, reasons), None) or _used(program_with(path))


def _used(program: str) -> Text:
    return Text("the program {program} uses it", program=program) if program else EMPTY


def _lines_of(config: Config) -> dict[str, str]:
    """The configured lines by the serial port that they use."""
    ports = {name: getattr(link.settings, "port", None) for name, link in config.links.items()}
    return {os.path.realpath(port): name for name, port in ports.items() if isinstance(port, str)}


class _Collected:
    """What all searches have found so far. They run at the same time, one for each port."""

    def __init__(self, caller: Caller, names: set[str], busy: list[dict[str, Any]]) -> None:
        self.lines: list[dict[str, Any]] = []
        self.silent: list[dict[str, Any]] = []
        from agent.drivers.line_search import FoundLine  # noqa: PLC0415 -- see `find`

        self._line = FoundLine
        self._caller, self._names, self._busy = caller, names, busy
        self._progress: dict[str, Progress] = {}

    async def run(self, searches: Mapping[str, AsyncIterator[Step]]) -> None:
        """Run the searches to their ends. If one fails or the caller leaves, all are ended."""
        running = [
            asyncio.ensure_future(self._follow(where, search)) for where, search in searches.items()
        ]
        try:
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _follow(self, where: str, search: Any) -> None:
        try:
            async with aclosing(search):
                async for step in search:
                    await self._step(where, step)
        except LinkLost as error:
            self._busy.append({"where": where, "sentence": error.text})
        self._progress.pop(where, None)

    async def _step(self, where: str, step: Step) -> None:
        if isinstance(step, Progress):
            self._progress[where] = step
            # the search that ends last tells how long all take
            last = max(self._progress.values(), key=lambda one: one.total - one.done)
            await self._caller.progress(asdict(last))
        elif isinstance(step, self._line):
            line = asdict(step)
            line["name"] = unlike(step.name, self._names)
            self._names.add(line["name"])
            self.lines.append(line)
            await self._caller.progress({"text": step.sentence, "line": line})
        else:
            result = asdict(step)
            self.silent.append(result)
            text = Text("{where}: {sentence}", where=step.where, sentence=step.sentence)
            await self._caller.progress({"text": text, "silent": result})
