"""What has become of the exports of the syndic's software: which were taken, what of them waits for
a person, what a person has dismissed.

One small file in the state. It decides nothing about readings: lost, it is begun anew, and the next
export is compared once more.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from agent.atomic_write import write
from agent.errors import Refused
from agent.i18n import _
from agent.log_fields import LogEvent, fields
from agent.registry.syndic_export import ExportRow, Lease

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from agent.registry.syndic_export import Doubtful
    from agent.uplink.file_transfer import RemoteFile

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
    """who is recorded there and concerned"""
    first: int
    """when it was first told"""


@dataclass(slots=True)
class ExportReport:
    """What became of one export."""

    file: str
    at: int
    recorded: int = 0
    """changes"""
    proposed: int = 0
    """rows that wait for a person, and were not told before"""
    same: int = 0
    """rows that say what is recorded"""
    left: int = 0
    """rows of other buildings or types"""
    refused: str = ""
    """why nothing of it was taken"""


@dataclass(slots=True)
class _Kept:
    """What is in the file."""

    mapping: str = ""
    """stands for the configuration by which files were read"""
    taken: dict[str, list[Any]] = field(default_factory=dict)
    """by the name of a file: size, time and sha256 of what was taken of it"""
    proposals: list[Proposal] = field(default_factory=list)
    dismissed: dict[str, list[Any]] = field(default_factory=dict)
    """by key of a row: who, and when"""
    reports: list[ExportReport] = field(default_factory=list)
    seen: int = 0
    """when there was a new export last, or it was first looked for one"""
    revision: int = 0
    """of the registry, with which what waits was compared last"""


class Exports:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self.unreachable = ""
        """why files cannot be fetched now; empty: they can"""
        self._kept = self._read()

    def begin(self, mapping: str, now: float) -> None:
        """See whether files are read as before: what was taken otherwise is read again."""
        if self._kept.mapping != mapping:
            self._kept.mapping, self._kept.taken = mapping, {}
            self._kept.seen = self._kept.seen or int(now)
            self._keep()

    def knows(self, entry: RemoteFile) -> bool:
        """Whether a file was taken as it lies there."""
        return self._kept.taken.get(entry.name, [])[:2] == [entry.size, entry.changed]

    def again(self, entry: RemoteFile, sha256: str, now: float) -> bool:
        """Whether a file that was written anew says what it said; it is known then."""
        if self._kept.taken.get(entry.name, [])[2:] != [sha256]:
            return False
        self._kept.taken[entry.name] = [entry.size, entry.changed, sha256]
        self._kept.seen = int(now)
        self._keep()
        return True

    def took(
        self, entry: RemoteFile, sha256: str, report: ExportReport, there: Iterable[str]
    ) -> None:
        """Note what became of a file; `there`: the names of all that lie there now."""
        names = {*there, entry.name}
        taken = {name: one for name, one in self._kept.taken.items() if name in names}
        self._kept.taken = taken | {entry.name: [entry.size, entry.changed, sha256]}
        self._kept.reports = [*self._kept.reports, report][-MOST_REPORTS:]
        self._kept.seen = report.at
        self._keep()

    def propose(self, doubts: Iterable[Doubtful], revision: int, now: float) -> int:
        """Let just these wait for a person; how many were not told before."""
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
        """A proposal by the beginning of its key. Raises Refused."""
        matches = [one for one in self._kept.proposals if key and one.row.key.startswith(key)]
        if len(matches) != 1:
            raise Refused(_('no row "{row}" waits: gardien occupancy proposed', row=key[:20]))
        return matches[0]

    def settled(self, proposal: Proposal) -> None:
        """A person has accepted it."""
        self._kept.proposals = [one for one in self._kept.proposals if one is not proposal]
        self._keep()

    def dismiss(self, proposal: Proposal, who: str, now: float) -> None:
        """A person has dismissed it: the same row is passed over from now on."""
        dismissed = {**self._kept.dismissed, proposal.row.key: [who, int(now)]}
        self._kept.dismissed = dict([*dismissed.items()][-MOST_DISMISSED:])
        self.settled(proposal)

    @property
    def proposals(self) -> list[Proposal]:
        """What waits for a person."""
        return list(self._kept.proposals)

    @property
    def dismissed(self) -> Mapping[str, list[Any]]:
        """By key of a row: who dismissed it, and when."""
        return self._kept.dismissed

    @property
    def reports(self) -> list[ExportReport]:
        """What became of the last exports, the latest last."""
        return list(self._kept.reports)

    @property
    def seen(self) -> int:
        """When there was a new export last, or it was first looked for one; 0: never."""
        return self._kept.seen

    @property
    def revision(self) -> int:
        """Of the registry, with which what waits was compared last."""
        return self._kept.revision

    def _keep(self) -> None:
        """Raises NotRecorded."""
        write(self._file, json.dumps(asdict(self._kept), ensure_ascii=False).encode())

    def _read(self) -> _Kept:
        try:
            plain = json.loads(self._file.read_bytes())
            for proposal in plain["proposals"]:
                row = proposal["row"]
                proposal["row"] = ExportRow(**row | {"states": Lease(row["states"])})
            plain["proposals"] = [Proposal(**one) for one in plain["proposals"]]
            plain["reports"] = [ExportReport(**one) for one in plain["reports"]]
            return _Kept(**plain)
        except FileNotFoundError:
            return _Kept()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            log.warning(
                "%s is begun anew, for it cannot be read: %s", self._file, error,
                extra=fields(LogEvent.STORE_DAMAGED, store=self._file.name),
            )  # fmt: skip
            return _Kept()
