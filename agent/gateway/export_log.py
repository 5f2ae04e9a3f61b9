"""The log of exports of the manager's software: files read, rows that wait, rows dismissed.

It is one small file in the state directory and decides nothing about readings. If it is lost, a new
one is started, and the next export is compared again.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.core.atomic_write import StateFile
from agent.core.errors import Refused
from agent.core.log_fields import LogEvent, fields
from agent.registry.syndic_export import ExportRow, Lease

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from agent.registry.syndic_export import Doubtful
    from agent.uplink.files.folder import RemoteFile

log = logging.getLogger(__name__)
FILE = "syndic.json"
MOST_REPORTS = 30
MOST_DISMISSED = 5_000


@dataclass(frozen=True, slots=True)
class Proposal:
    """A row that waits for a person."""

    row: ExportRow
    why: str
    """a `Doubt`"""
    label: str
    other: str
    homes: list[dict[str, Any]]
    """the occupancies recorded there that the row concerns"""
    first: int
    """when the row was first proposed, Unix seconds"""


@dataclass(slots=True)
class ExportReport:
    """The result of one export."""

    file: str
    at: int
    recorded: int = 0
    """changes of the registry"""
    proposed: int = 0
    """new rows that wait for a person"""
    same: int = 0
    """rows that agree with the registry"""
    left: int = 0
    """rows of other buildings or types"""
    refused: str = ""
    """why the whole export was refused"""


@dataclass(slots=True)
class _Kept:
    """The content of the file."""

    mapping: str = ""
    """hash of the configuration with which the files were read"""
    taken: dict[str, list[Any]] = field(default_factory=dict)
    """by file name: size, time of change and sha256 of what was read"""
    proposals: list[Proposal] = field(default_factory=list)
    dismissed: dict[str, list[Any]] = field(default_factory=dict)
    """by key of a row: who dismissed it, and when"""
    reports: list[ExportReport] = field(default_factory=list)
    seen: int = 0
    """when the last new export arrived, or when the first search for one was made"""
    revision: int = 0
    """the change of the registry with which the waiting rows were last compared"""


class Exports:
    """The exports read so far, the rows that wait, and the rows that were dismissed."""

    def __init__(self, folder: Path) -> None:
        file = folder / FILE
        damaged = partial(_damaged, file)
        self._file = StateFile(file, _parsed, _Kept, damaged, ensure_ascii=False)
        self.unreachable = ""
        """why files cannot be fetched now; empty if they can"""
        self._kept = self._file.load(partial(setattr, self, "_kept"))

    def begin(self, mapping: str, now: float) -> None:
        """Start a round. If the columns or other options changed, all files are read again."""
        if self._kept.mapping != mapping:
            self._kept.mapping, self._kept.taken = mapping, {}
            self._kept.seen = self._kept.seen or int(now)
            self._keep()

    def knows(self, entry: RemoteFile) -> bool:
        """Whether this version of a file was read already, by its size and time of change."""
        return self._kept.taken.get(entry.name, [])[:2] == [entry.size, entry.changed]

    def again(self, entry: RemoteFile, sha256: str, now: float) -> bool:
        """Whether a rewritten file has the same content as before. If so, note its new time."""
        if self._kept.taken.get(entry.name, [])[2:] != [sha256]:
            return False
        self._kept.taken[entry.name] = [entry.size, entry.changed, sha256]
        self._kept.seen = int(now)
        self._keep()
        return True

    def took(
        self, entry: RemoteFile, sha256: str, report: ExportReport, there: Iterable[str]
    ) -> None:
        """Note the result of a file. `there`: the names of all files in the folder now."""
        names = {*there, entry.name}
        # Forget files that are gone, or the list would grow with each new file name for ever.
        taken = {name: one for name, one in self._kept.taken.items() if name in names}
        self._kept.taken = taken | {entry.name: [entry.size, entry.changed, sha256]}
        self._kept.reports = [*self._kept.reports, report][-MOST_REPORTS:]
        self._kept.seen = report.at
        self._keep()

    def propose(self, doubts: Iterable[Doubtful], revision: int, now: float) -> int:
        """Replace the rows that wait for a person. Return how many of them are new."""
        before = {one.row.key: one for one in self._kept.proposals}
        proposals = []
        for doubt in doubts:
            homes = [
                {
                    "id": home.id,
                    "reference": home.reference,
                    "since": home.since,
                    "until": home.until,
                }
                for home in doubt.homes
            ]
            label = doubt.place.label if doubt.place else doubt.row.dwelling
            first = before[doubt.row.key].first if doubt.row.key in before else int(now)
            proposals.append(Proposal(doubt.row, str(doubt.why), label, doubt.other, homes, first))
        self._kept.proposals, self._kept.revision = proposals, revision
        self._keep()
        return sum(one.row.key not in before for one in proposals)

    def find(self, key: str) -> Proposal:
        """Return the one proposal whose key begins with `key`. Raises Refused."""
        matches = [one for one in self._kept.proposals if key and one.row.key.startswith(key)]
        if len(matches) != 1:
            raise Refused('no row "{row}" waits. Rows: gardien occupancy proposed', row=key[:20])
        return matches[0]

    def settled(self, proposal: Proposal) -> None:
        """Remove a proposal that a person has accepted."""
        self._kept.proposals = [one for one in self._kept.proposals if one is not proposal]
        self._keep()

    def dismiss(self, proposal: Proposal, who: str, now: float) -> None:
        """Remove a proposal that a person has dismissed. The same row is ignored from now on."""
        dismissed = {**self._kept.dismissed, proposal.row.key: [who, int(now)]}
        # Dicts keep their order, so the oldest dismissals are dropped first.
        self._kept.dismissed = dict([*dismissed.items()][-MOST_DISMISSED:])
        self.settled(proposal)

    @property
    def proposals(self) -> list[Proposal]:
        """The rows that wait for a person."""
        return list(self._kept.proposals)

    @property
    def dismissed(self) -> Mapping[str, list[Any]]:
        """Who dismissed a row, and when, by its key."""
        return self._kept.dismissed

    @property
    def reports(self) -> list[ExportReport]:
        """The results of the last exports, the latest last."""
        return list(self._kept.reports)

    @property
    def seen(self) -> int:
        """When the last new export arrived, or the first search was made; 0: never."""
        return self._kept.seen

    @property
    def revision(self) -> int:
        """The change of the registry with which the waiting rows were last compared."""
        return self._kept.revision

    def _keep(self) -> None:
        """Raises NotRecorded."""
        self._file.save(asdict(self._kept))


def _parsed(stored: Any) -> _Kept:
    for proposal in stored["proposals"]:
        row = proposal["row"]
        proposal["row"] = ExportRow(**row | {"states": Lease(row["states"])})
    stored["proposals"] = [Proposal(**proposal) for proposal in stored["proposals"]]
    stored["reports"] = [ExportReport(**report) for report in stored["reports"]]
    return _Kept(**stored)


def _damaged(file: Path, error: Exception) -> _Kept:
    if not isinstance(error, OSError):
        log.warning(
            "%s cannot be read and is started again: %s", file, error,
            extra=fields(LogEvent.STORE_DAMAGED, store=file.name),
        )  # fmt: skip
    return _Kept()
