"""Traces: the bytes of a line with their times, as a text file that can be explained and replayed.

The streams of all drivers pass every byte through `Recorded`; nobody listens unless a trace or an
analysis is wanted. The format is described in docs/trace.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.core.clock import monotonic
from agent.core.errors import Refused
from agent.core.i18n import N_

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.core.i18n import Text

SENT, CAME, NOTE = ">", "<", "!"
"""from the gateway; to the gateway; a note on the line, such as that it was opened again"""
OPENED, MISSING = N_("the line was opened again"), N_("bytes are missing here")
FULL = N_("the trace is full: the rest is missing")
TITLE = "# gardien trace 1"
SETTINGS = ("baudrate", "parity", "stopbits", "timeout", "latency")
"""settings of a line that a trace names: those that times and checksums depend on, no addresses"""
MOST_WAITING = 20_000
"""events kept until they are taken"""

Record = Callable[[str, bytes, str], None]
"""takes the direction, the bytes, and on a network the other address"""


class Recorded:
    """A stream whose bytes can be recorded. While nobody records, this costs one comparison."""

    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Bytes that went in one direction at once."""

    at: float
    """seconds since the beginning of the trace"""
    direction: str
    data: bytes
    peer: str = ""
    """the other address on a network (BACnet); empty on a line"""
    note: str = ""

    def line(self) -> str:
        """The event as a line of a trace."""
        peer = f"@{self.peer} " if self.peer else ""
        return f"{self.at:.6f} {self.direction} {peer}{self.note or self.data.hex(' ')}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, or other bytes, explained."""

    at: float
    """seconds since the beginning of the trace"""
    direction: str
    device: str
    """address of the device that was asked or that answered; empty: not known"""
    data: bytes
    sentence: Text
    values: tuple[Mapping[str, Any], ...] = ()
    """what the frame says: `at` and `value`, with `unit` and more where the protocol gives them"""
    asked: str = ""
    """the device that was asked, if this frame is odd because another one answered"""
    odd: str = ""
    """the kind of oddness; empty: as it should be"""
    code: int = 0
    """of an exception or error: its code"""
    expected: bool = False
    """odd, but usual while a line is searched"""


class Recorder:
    """Collects the events of a line until they are taken."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._events: list[Event] = []
        self._dropped = False

    def __call__(self, direction: str, data: bytes, peer: str) -> None:
        """Take bytes of a stream, as `Record` has them; of a note, its text."""
        at = monotonic() - self._began
        if len(self._events) >= MOST_WAITING:
            self._dropped = True
        elif direction == NOTE:
            self._events.append(Event(at, direction, b"", note=data.decode()))
        else:
            self._events.append(Event(at, direction, bytes(data), peer))

    def take(self) -> list[Event]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        if self._dropped:
            events.append(Event(monotonic() - self._began, NOTE, b"", note=MISSING))
            self._dropped = False
        return events


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace that was read from a file."""

    driver: str
    facts: Mapping[str, str]
    """what its heading says, by name: line, driver, began, and the settings of the line"""
    events: list[Event] = field(default_factory=list)


def heading(line: str, driver: str, began: str, settings: object) -> list[str]:
    """The first lines of a trace; `settings`: of the line, as its driver has them."""
    facts = {"line": line, "driver": driver, "began": began}
    facts |= {name: getattr(settings, name) for name in SETTINGS if hasattr(settings, name)}
    return [
        TITLE,
        "# It contains readings of a building. Keep it as carefully, and delete it after use.",
        *(f"# {name}: {value}" for name, value in facts.items()),
    ]


def parsed(lines: Iterable[str], name: str) -> Trace:
    """Read a trace. Raises Refused, naming the line, if it is not one."""
    numbered = iter(enumerate(lines, 1))
    if next(numbered, (0, ""))[1].strip() != TITLE:
        raise Refused(
            '{name} is not a trace of gardien: its first line must be "{title}"',
            name=name,
            title=TITLE,
        )
    facts: dict[str, str] = {}
    events = list(_events(numbered, facts, name))
    return Trace(facts.get("driver", ""), facts, events)


def _events(
    numbered: Iterator[tuple[int, str]], facts: dict[str, str], name: str
) -> Iterator[Event]:
    for number, text in numbered:
        line = text.strip()
        if line.startswith("#"):
            fact, colon, value = line[1:].partition(":")
            if colon:
                facts[fact.strip()] = value.strip()
        elif line:
            try:
                yield _event(line)
            except (ValueError, IndexError):
                raise Refused(
                    "{name}:{number}: not a line of a trace, which has seconds, > or <, and bytes"
                    " in hex",
                    name=name,
                    number=str(number),
                ) from None


def _event(line: str) -> Event:
    at, direction, rest = line.split(" ", 2)
    if direction == NOTE:
        return Event(float(at), direction, b"", note=rest)
    if direction not in {SENT, CAME}:
        raise ValueError(direction)
    peer = ""
    if rest.startswith("@"):
        peer, _, rest = rest[1:].partition(" ")
    return Event(float(at), direction, bytes.fromhex(rest), peer)
