"""What a call hears on a line while it searches or reads it: odd answers, all values, a trace."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agent.core.clock import stamp
from agent.core.errors import AgentError
from agent.core.i18n import Text
from agent.drivers.trace import Recorder, heading
from agent.registry.records import covers, serial_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from agent.api.registry import Caller
    from agent.drivers.analysis import Analyser, Observations
    from agent.drivers.trace import Event, Frame
    from agent.gateway.gateway import Gateway


class Listening:
    """Collects what is heard on one line. With a trace, its lines are sent as progress."""

    def __init__(
        self, analyser: Analyser, heard: Observations, caller: Caller, head: list[str] | None
    ) -> None:
        self.recorder = Recorder()
        self._analyser, self._heard, self._caller = analyser, heard, caller
        self._head = head
        """what is sent before the first bytes; None: no trace is wanted"""
        self._serials: list[dict[str, Any]] = []
        self._reported = (0, 0)

    async def take(self) -> None:
        """Explain what came since the last call, and send it if a trace is wanted."""
        events = self.recorder.take()
        self._heard.take(self._frames(events))
        if self._head is not None and events:
            lines = [*self._head, *(event.line() for event in events)]
            self._head = []
            await self._caller.progress({"trace": lines})

    def _frames(self, events: Iterable[Event]) -> Iterable[Frame]:
        for event in events:
            yield from self._analyser.feed(event)

    async def end(self) -> None:
        """Explain the rest."""
        await self.take()
        self._heard.take(self._analyser.end())

    def serial(self, gateway: Gateway, device: str, address: str, number: str | None) -> None:
        """Note the serial number that a configured device reports, if another one is recorded."""
        now = int(gateway.clock.now())
        recorded = {
            one.serial
            for one in gateway.registry.installations()
            if one.device == device and one.serial and covers(one, now)
        }
        if not number or not recorded or serial_key(number) in map(serial_key, recorded):
            return
        sentence = Text(
            "{device} reports the serial number {number}, and {recorded} is recorded: is it another"
            " meter? To see its places: gardien meter list",
            device=device, number=number, recorded=", ".join(sorted(recorded)),
        )  # fmt: skip
        self._serials.append(
            {"device": address, "kind": "serial", "code": None, "sentence": sentence, "times": 1,
             "expected": False}
        )  # fmt: skip

    def odd(self, names: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the odd answers by device; `names`: of configured devices, by address."""
        return [
            one | {"name": names.get(one["device"], "")}
            for one in (*self._serials, *self._heard.odd_by_device())
        ]

    async def report(self, names: Mapping[str, str]) -> None:
        """Send the odd answers as progress if there are more of them, or of devices."""
        odd = self.odd(names)
        if (state := (len(odd), len(names))) != self._reported and odd:
            self._reported = state
            await self._caller.progress({"odd": odd})

    def values(self, *devices: str | None) -> list[Mapping[str, Any]]:
        """Return all values that were heard from a device, by the first of its names that fits."""
        return next(
            (list(self._heard.values[one].values()) for one in devices
             if one in self._heard.values), [],
        )  # fmt: skip


@asynccontextmanager
async def listening(
    gateway: Gateway, caller: Caller, link: str, *, trace: bool
) -> AsyncIterator[Listening]:
    """Listen to a line during a block; call `end` at its end."""
    # only such calls need it, and the daemon's memory is bounded
    from agent.drivers.analysis import Observations, analyser  # noqa: PLC0415

    settings = gateway.config.links[link]
    known = settings.settings.model_dump()
    head = heading(link, settings.driver, stamp(gateway.clock.now()), settings.settings)
    heard = Listening(
        analyser(settings.driver, known), Observations(), caller, head if trace else None
    )
    with gateway.lines[link].link.recorded(heard.recorder):
        # If the caller is gone, nothing can be sent any more: then only the block ends.
        try:
            yield heard
        except AgentError:
            await heard.end()
            raise
        await heard.end()
