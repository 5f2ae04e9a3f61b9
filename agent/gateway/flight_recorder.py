"""The flight recorder: what the agent remembers of its own running, about 1 kB a day.

It listens to the events of the log (agent/core/log_fields.py) and counts calls and orders. It
records kinds, counts, times and names of lines, uplinks, controls and stores; never a value, a
dwelling, a person, an argument of a call or the name of a device (rule U20). It is for remote
support: `gardien support-bundle` contains it, and a simulation can repeat it.

Two files in the state directory are a ring of at most 400 kB. Each begins with HEADER; each further
line is one record as a JSON array, `FlightRecord` without the members at its end that have their
default. A line of another form is skipped.

What happens again is counted. Counts are written once an hour; of what was written within the last
four hours, once in four hours. So a kill -9 or a power cut loses at most the last hour, and the
counts of the last four hours of what goes on happening. Losing the disk loses what no longer fits
into memory, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.atomic_write import DiskWriter, NoFile, sync_folder
from agent.core.atomic_write import read as read_file
from agent.core.clock import boot_id, monotonic, seconds
from agent.core.log_fields import LogEvent
from agent.core.log_fields import fields as log_fields
from agent.core.version import version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from agent.config import Config

log = logging.getLogger(__name__)

COMPONENT = "flight recorder"
FILE, OLDER = "flight.jsonl", "flight-older.jsonl"
HEADER = '["gardien flight recorder",1]\n'
"""the first line of each file, with the number of the format"""
SIZE = 200_000
"""bytes of one file"""
WRITE_EVERY = 3_600.0
"""seconds between two writes"""
REPEATS_EVERY = 4 * 3_600
"""seconds between two records of what goes on happening"""
EARLY = 900
"""seconds between two writes that an urgent event causes; lives that end earlier, with nothing to
record, are counted in one record"""
MOST, MOST_LINES = 150, 500
"""most different events that wait, and most records that wait for the disk"""
SINGLE = 4
"""most devices of one line that have an event of one kind and still a record each"""
LONGEST_NAME = 100
"""most characters of a name"""
WRITTEN_WITHIN = 5.0
"""seconds that the end of the agent waits for the disk"""

START, STOP, CALLS, REFUSED = "start", "stop", "calls", "calls-refused"
MORE = "more"
"""kind of the record that counts what had no room"""
RECORDED = (
    LogEvent.RELOADED, LogEvent.RELOAD_REFUSED,
    LogEvent.COMPONENT_FAILED, LogEvent.COMPONENT_RECOVERED, LogEvent.COMPONENT_HANGS,
    LogEvent.LINE_LOST, LogEvent.LINE_RESTORED,
    LogEvent.DEVICE_SILENT, LogEvent.DEVICE_ANSWERS,
    LogEvent.UPLINK_LOST, LogEvent.UPLINK_RESTORED,
    LogEvent.UPLINK_MOVED, LogEvent.UPLINK_NOT_MOVED,
    LogEvent.DELIVERY_DELAYED, LogEvent.DELIVERY_ALARM, LogEvent.BATCH_QUARANTINED,
    LogEvent.BATCH_SPLIT, LogEvent.EPOCH_BEGUN, LogEvent.INPUT_UNUSABLE,
    LogEvent.STORE_FAILED, LogEvent.STORE_RECOVERED, LogEvent.STORE_DAMAGED, LogEvent.STORE_FULL,
    LogEvent.RECORD_NOT_WRITTEN, LogEvent.BACKUP_OUTDATED, LogEvent.BACKUP_NOT_TAKEN,
    LogEvent.RELEASE_PENDING, LogEvent.ORDER_FAILED, LogEvent.VALUE_NOT_OURS,
    LogEvent.FAILSAFE_CHANGED, LogEvent.DISPLAY_FAILED,
    LogEvent.CLOCK_STEPPED, LogEvent.CLOCK_TRUST_CHANGED, LogEvent.CLOCK_FLOOR_LOWERED,
    LogEvent.CLOCK_CORRECTED,
    LogEvent.TRUST_LIST_CHANGED, LogEvent.OBJECT_REFUSED, LogEvent.OBJECT_FAILED,
    LogEvent.OBJECT_DELAYED, LogEvent.OBJECT_EXPIRED, LogEvent.AUDIT_CHAIN_FULL,
    LogEvent.RESTORE_CHECKED,
    LogEvent.CERTIFICATE_RENEWED, LogEvent.CERTIFICATE_PENDING, LogEvent.CERTIFICATE_PROBLEM,
    LogEvent.KEY_ROTATION, LogEvent.KEY_ROTATION_WAITS,
)  # fmt: skip
"""the events of the log that are recorded; those about meters and people are not"""
KINDS = {event.value: event.name.lower().replace("_", "-") for event in RECORDED}
"""kinds of records by the `MESSAGE_ID` of their event"""
URGENT = {
    KINDS[event]
    for event in (
        LogEvent.STORE_FAILED,
        LogEvent.STORE_FULL,
        LogEvent.CLOCK_STEPPED,
        LogEvent.CLOCK_TRUST_CHANGED,
        LogEvent.COMPONENT_HANGS,
    )
}
"""kinds that are written at once, if nothing was written within EARLY seconds"""
SUBJECTS = ("STORE", "COMPONENT", "CONTROL", "LINE", "UPLINK", "RECIPIENT")
"""fields of an event that name its subject, the first that it has"""


@dataclass(frozen=True, slots=True)
class FlightRecord:
    """Something that happened, once or several times. Order records by `life`, then by `up`."""

    life: int
    """number of the start of the agent, from 1"""
    up: int
    """monotonic seconds at the first time; they compare within one boot of the machine"""
    at: int
    """Unix seconds at the first time, by the clock as it was then"""
    kind: str
    """START, STOP, CALLS, REFUSED, MORE, `control-STATE`, or one of KINDS"""
    subject: str = ""
    """name of the line, uplink, control, store, component or recipient"""
    detail: str = ""
    """a number or a word of gardien's own: the seconds of a step, an errno, a code"""
    count: int = 1
    """how often; several starts: lives that ended within EARLY seconds with nothing to record"""
    lasted: int = 0
    """seconds from the first to the last time"""
    devices: tuple[tuple[int, int], ...] = ()
    """devices of the line `subject`, as ranges of numbers: 1 is the line's first device in the
    order of the configuration"""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """CALLS, REFUSED: how often by name of the call. START: `version`; `boot`, a hash; `new_boot`;
    `after`: STOP if the last life ended orderly, "end" if not, "" if it is not known; `devices`, a
    hash of line and profile of each device (see `devices_hash`). A reload has that hash, too"""

    def line(self) -> str:
        """The record as a line of the ring."""
        members = [getattr(self, name) for name in MEMBERS]
        while members[-1] == DEFAULTS.get(MEMBERS[len(members) - 1]):
            members.pop()
        return json.dumps(members, separators=(",", ":")) + "\n"

    def document(self) -> dict[str, Any]:
        """The record as JSON: members without their defaults. `of` reads it."""
        return {name: value for name, value in asdict(self).items() if value != DEFAULTS.get(name)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> FlightRecord:
        """Return the record of a document. Raises ValueError if it is none."""
        members = [document.get(name, DEFAULTS.get(name)) for name in MEMBERS]
        if (record := _record(members)) is None:
            raise ValueError("not a record of the flight recorder")
        return record


MEMBERS = [member.name for member in fields(FlightRecord)]
DEFAULTS: dict[str, Any] = {
    "subject": "", "detail": "", "count": 1, "lasted": 0, "devices": (), "facts": {},
}  # fmt: skip
TYPES = (int, int, int, str, str, str, int, int, list | tuple, dict)


def _record(members: list[Any]) -> FlightRecord | None:
    right = len(MEMBERS) - len(DEFAULTS) <= len(members) <= len(MEMBERS)
    if not right or not all(map(isinstance, members, TYPES)):
        return None
    named = dict(zip(MEMBERS, members, strict=False))
    with suppress(TypeError, ValueError, OverflowError):
        ranges = [(int(first), int(last)) for first, last in named.get("devices", ())]
        return FlightRecord(**named | {"devices": tuple(ranges)})
    return None


def _parsed(line: bytes) -> FlightRecord | None:
    with suppress(ValueError, RecursionError):
        members = json.loads(line)
        return _record(members) if isinstance(members, list) else None
    return None


def read(folder: Path) -> list[FlightRecord]:
    """Return all records of a state directory, in the order in which they happened.

    What cannot be read is left out, and never an error.
    """
    records: dict[str, FlightRecord] = {}
    for name in (OLDER, FILE):
        with suppress(OSError):
            content, _ = read_file(folder / name, 2 * SIZE)
            # a write that reported an error, and had taken effect, is there twice
            records |= {r.line(): r for line in content.splitlines() if (r := _parsed(line))}
    return ordered(records.values())


def ordered(records: Iterable[FlightRecord]) -> list[FlightRecord]:
    """Sort records by the order in which they happened."""
    return sorted(records, key=lambda record: (record.life, record.up))


def devices_hash(devices: Iterable[tuple[str, str]]) -> str:
    """Return a hash of line and profile of each device, in the order of the configuration.

    A redacted configuration gives the same hash: then its devices have the same numbers.
    """
    text = "".join(f"{link} {profile}\n" for link, profile in devices)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class _Key(NamedTuple):
    kind: str
    subject: str
    detail: str
    device: int = 0
    """0: none, or several"""


@dataclass(slots=True)
class _Count:
    """What happened since the last record of its key."""

    up: int
    at: int
    last: int
    count: int = 0
    devices: set[int] = field(default_factory=set)
    parts: Counter[str] = field(default_factory=Counter)


class _Before(NamedTuple):
    """What the ring knows of the life before this one."""

    start: FlightRecord | None
    after: str
    keep: int
    """bytes of the file to keep: without a torn line; 0: begin a new file"""
    begins: int | None
    """where its start begins, if it ended within EARLY seconds with nothing to record"""


class _Listener(logging.Handler):
    def __init__(self, hear: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._hear(record.__dict__)
        except Exception:  # noqa: BLE001 -- a log call must not fail because somebody listens
            self.handleError(record)


class FlightRecorder:
    """Counts what happens while it is `recording`. Any thread may call it; nothing ever blocks."""

    def __init__(
        self,
        folder: Path | None = None,
        now: Callable[[], float] = seconds,
        steady: Callable[[], float] = monotonic,
    ) -> None:
        """`folder`: the state directory; None: nothing is recorded."""
        self._folder, self._now, self._steady = folder, now, steady
        self._lock = threading.Lock()
        self._records = False
        self._life = 0
        self._waiting: dict[_Key, _Count] = {}
        self._recorded: dict[_Key, int] = {}
        """when each key was last made a record, within REPEATS_EVERY"""
        self._lines: list[str] = []
        """records that wait for the disk"""
        self._writing: list[str] = []
        """records that the disk's thread is writing"""
        self._keep: int | None = None
        self._busy = False
        """the disk's thread has been asked to write"""
        self._wrote = 0.0
        self._devices: dict[str, tuple[str, int]] = {}
        self._hash = ""

    @contextmanager
    def recording(self, config: Config) -> Iterator[FlightRecorder]:
        """Record inside the block: its begin, its end, and what happens between.

        The state directory must be locked. At the end the disk is waited for, for a short time.
        """
        if self._folder is None:
            yield self
            return
        _guarded(self._begin, config)
        listener, logger = _Listener(self._hear), logging.getLogger("agent")
        logger.addHandler(listener)
        reason = ""
        try:
            yield self
        except BaseException as error:
            reason = type(error).__name__
            raise
        finally:
            logger.removeHandler(listener)
            _guarded(self._end, reason)

    def know(self, config: Config) -> None:
        """Learn the numbers of the devices: names of devices are not recorded."""
        numbers: Counter[str] = Counter()
        devices = {}
        for name, device in config.devices.items():
            numbers[device.link] += 1
            devices[name] = device.link, numbers[device.link]
        self._devices = devices
        self._hash = devices_hash((one.link, one.profile or "") for one in config.devices.values())

    async def serve(self) -> None:
        """Write once an hour. Never returns."""
        while True:
            await asyncio.sleep(WRITE_EVERY)
            with self._lock:
                self._write_soon(self._up())

    def note(self, kind: str, subject: str = "", detail: str = "", device: int = 0) -> None:
        """Count an event."""
        self._count(_Key(kind, subject[:LONGEST_NAME], detail[:LONGEST_NAME], device))

    def called(self, name: str, *, refused: bool) -> None:
        """Count a call by its name."""
        self._count(_Key(CALLS, "", ""), name)
        if refused:
            self._count(_Key(REFUSED, "", ""), name)

    def unwritten(self) -> list[FlightRecord]:
        """Return the records that are not on the disk yet, with the counts of this moment."""
        with self._lock:
            waiting = [self._made(key, count) for key, count in self._waiting.items()]
            lines = [*self._writing, *self._lines]
        return ordered([r for line in lines if (r := _parsed(line.encode()))] + waiting)

    def _hear(self, event: Mapping[str, Any]) -> None:
        """Count an event of the log, by its fields."""
        kind = KINDS.get(event.get("MESSAGE_ID", ""))
        if event.get("MESSAGE_ID") == LogEvent.LOCK_LOST:
            self._records = False  # the state may have another owner
        if kind is None:
            return
        line, number = self._devices.get(event.get("DEVICE", ""), ("", 0))
        subject = next((event[name] for name in SUBJECTS if event.get(name)), line)
        detail = event.get("DETAIL") or event.get("CODE") or ""
        if event["MESSAGE_ID"] == LogEvent.RELOADED:
            detail = self._hash
        self.note(kind, subject, detail, number if subject == line else 0)

    def _up(self) -> int:
        return int(self._steady())

    def _count(self, key: _Key, part: str = "") -> None:
        if not self._records:
            return
        with self._lock:
            up, device = self._up(), key.device
            if key not in self._waiting:
                key = self._with_room(key)
            if (count := self._waiting.get(key)) is None:
                count = self._waiting[key] = _Count(up, int(self._now()), up)
            count.count, count.last = count.count + 1, up
            if device and key.kind != MORE:
                count.devices.add(device)
            if part:
                count.parts[part] += 1
            if key.kind in URGENT and up - self._wrote >= EARLY:
                self._write_soon(up)

    def _with_room(self, key: _Key) -> _Key:
        """Return the key under which something new is counted."""
        shared = key._replace(device=0)
        if shared in self._waiting:
            return shared
        if len(self._waiting) >= MOST:
            return _Key(MORE, "", "")
        alike = sum(bool(one.device) and one[:2] == key[:2] for one in self._waiting)
        return shared if key.device and alike >= SINGLE else key

    def _made(self, key: _Key, count: _Count) -> FlightRecord:
        return FlightRecord(
            self._life, count.up, count.at, key.kind, key.subject, key.detail, count.count,
            count.last - count.up, tuple(_ranges(count.devices)), dict(sorted(count.parts.items())),
        )  # fmt: skip

    def _write_soon(self, up: int, *, all_: bool = False) -> None:
        """Make records of what is due, and have them written. The lock is held."""
        due = [
            key
            for key in self._waiting
            if all_ or up - self._recorded.get(key, -REPEATS_EVERY) >= REPEATS_EVERY
        ]
        self._lines += [self._made(key, self._waiting.pop(key)).line() for key in due]
        del self._lines[:-MOST_LINES]
        self._recorded |= dict.fromkeys(due, up)
        fresh = [pair for pair in self._recorded.items() if up - pair[1] < REPEATS_EVERY]
        self._recorded = dict(fresh[-MOST:])
        self._wrote = up
        if self._lines and not self._busy:
            self._busy = True
            DiskWriter.begin(self._write)

    def _write(self) -> None:
        """Append the records to the ring, in the disk's thread. If that fails, they wait."""
        with self._lock:
            self._writing, self._lines = self._lines, []
            keep, self._keep = self._keep, None
        written = False
        try:
            if self._records and self._folder and self._writing:
                _append(self._folder / FILE, "".join(self._writing).encode(), keep)
            written = True
        except OSError:
            pass  # nothing is logged: the stores whose data count report the same disk
        finally:
            with self._lock:
                if not written:
                    self._lines, self._keep = [*self._writing, *self._lines], keep
                self._writing = []
                self._busy = written and bool(self._lines)
                if self._busy:
                    DiskWriter.begin(self._write)

    def _begin(self, config: Config) -> None:
        assert self._folder is not None
        self.know(config)
        before, boot = _before(self._folder), hashlib.sha256(boot_id().encode()).hexdigest()[:8]
        up, at, start = self._up(), int(self._now()), before.start
        known = start.facts if start else {}
        facts = {
            "version": version(), "boot": boot, "new_boot": boot != known.get("boot"),
            "after": before.after, "devices": self._hash,
        }  # fmt: skip
        self._life, self._keep = start.life + 1 if start else 1, before.keep
        first, times = up, 1
        same = all(facts[name] == known.get(name) for name in ("version", "boot", "devices"))
        # an agent that cannot start is started again for days: one record counts its starts
        if start and same and before.begins and 0 <= up - start.up - start.lasted < EARLY:
            first, at, times = start.up, start.at, start.count + 1
            self._keep, facts["new_boot"] = before.begins, known.get("new_boot")
        record = FlightRecord(
            self._life, first, at, START, count=times, lasted=up - first, facts=facts
        )
        with self._lock:
            self._records = True
            self._lines.append(record.line())
            self._write_soon(up)

    def _end(self, reason: str) -> None:
        """Record the end, and wait for the disk unless it is known to hang."""
        if not self._records:
            return
        self.note(STOP, detail=reason)
        with self._lock:
            self._write_soon(self._up(), all_=True)
        with suppress(OSError, TimeoutError):
            DiskWriter.must_answer()
            DiskWriter.begin(self._write).result(WRITTEN_WITHIN)
        self._records = False


def _guarded(call: Callable[[Any], None], argument: object) -> None:
    """Make a call. An error in it is logged, and the agent runs without flight recorder."""
    try:
        call(argument)
    except Exception:
        extra = log_fields(LogEvent.COMPONENT_FAILED, component=COMPONENT)
        log.exception("what happens to the agent is not recorded", extra=extra)


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    begun = before = 0
    for number in sorted(numbers):
        if number != before + 1 or not begun:
            if begun:
                yield begun, before
            begun = number
        before = number
    if begun:
        yield begun, before


def _before(folder: Path) -> _Before:
    """Return what the ring knows of the last life. Of a large file only a few lines are parsed."""
    content = _content(folder / FILE)
    keep = content.rfind(b"\n") + 1
    at = content.rfind(b',"start"')
    begins = content.rfind(b"\n", 0, max(at, 0)) + 1
    lines = content[begins:keep].splitlines(keepends=True)[:3] if at >= 0 else []
    start = _parsed(lines[0]) if lines else None
    if start is None:
        older = _content(folder / OLDER)
        at = older.rfind(b',"start"')
        start = _parsed(older[older.rfind(b"\n", 0, max(at, 0)) + 1 :].partition(b"\n")[0])
    last = _parsed(content[content.rfind(b"\n", 0, max(keep - 1, 0)) + 1 : keep])
    after = "" if last is None else STOP if last.kind == STOP else "end"
    # only a start, or a start and its stop
    kinds = [record.kind for line in lines if (record := _parsed(line))]
    short = kinds in ([START], [START, STOP])
    return _Before(start, after, keep, begins if short else None)


def _content(file: Path) -> bytes:
    """Return the content of a file of the ring; empty if it is none."""
    with suppress(OSError, NoFile):
        content, _ = read_file(file, 2 * SIZE)
        if content.startswith(HEADER.encode()):
            return content
    return b""


def _append(file: Path, lines: bytes, keep: int | None) -> None:
    """Append to the ring, durably. Raises OSError; then the file is as before, or ends torn.

    `keep`: bytes at the beginning to keep; None: all; 0: none, the file is made anew.
    """
    if keep == 0:
        file.unlink(missing_ok=True)
    handle = _opened(file)
    try:
        size = os.fstat(handle).st_size if keep is None else keep
        if size + len(lines) > SIZE:
            os.ftruncate(handle, size)
            file.replace(file.with_name(OLDER))
            os.close(handle)
            handle, size = _opened(file), 0
        content = lines if size else HEADER.encode() + lines
        try:
            os.ftruncate(handle, size)
            if os.pwrite(handle, content, size) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        except OSError:
            with suppress(OSError):
                os.ftruncate(handle, size)
            raise
        if not size:
            sync_folder(file.parent)
    finally:
        os.close(handle)


def _opened(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
