"""The status of signed objects for their senders: accepted, waiting, or refused with a code.

It goes to the uplink that brought the object; of an accepted object also to the recipient that owns
the key. With a code goes a sentence that reveals nothing the sender must not know
(`Forged.sentence`). The status of a place map has the lines that contradict, or a report on how
places and meters now match.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.core.clock import stamp
from agent.core.errors import NotRecorded
from agent.core.log_fields import LogEvent, fields
from agent.trust.error_codes import ObjectCode
from agent.trust.jws import MAP

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.registry.records import ConsentMark
    from agent.trust.store import TrustStore

    Marked = Callable[[str], ConsentMark | None]

HERE = "the building"
log = logging.getLogger(__name__)
LATEST = 500
"""entries that are kept for recipients who have not received them yet"""


@dataclass(frozen=True, slots=True)
class StatusEntry:
    """The status of one object."""

    n: int
    at: int
    via: str
    owner: str
    """owner of the key that signed it; empty: not verified"""
    typ: str
    jti: str
    sha256: str
    state: str
    code: str
    """of a refusal; after a space, the contradicting lines of a place map (`E_REGISTRY 3,17`) or
    the marks that a consent does not take into account
    """
    sentence: str = ""
    """of a refusal: the reason and what to do"""

    def item(self, recipient: str, mark: Marked) -> dict[str, Any]:
        """The entry for a recipient, with only those marks that concern it."""
        code, _, about = self.code.partition(" ")
        marks = about if code in {ObjectCode.AFTER, ObjectCode.REVOKED} else ""
        named = filter(None, map(mark, marks.split(",")))
        members = {
            "id": f"o{self.n}-{self.at}", "typ": self.typ, "jti": self.jti, "sha256": self.sha256,
            "state": self.state, "code": code, "words": self.sentence, "at": stamp(self.at),
            "conflicts": [] if marks else [int(line) for line in about.split(",") if line],
            "marks": [
                {"mark": one.id, "cause": one.cause, "at": stamp(one.word.when), "by": _by(one)}
                for one in named
                if one.recipient in (None, recipient)
            ],
        }  # fmt: skip
        return {name: value for name, value in members.items() if value}


def _by(mark: ConsentMark) -> str:
    """The author of a withdrawal: an issuer, or HERE for people in the building."""
    return mark.word.who if mark.number else HERE


class ObjectStatus:
    """The latest entries, in the trust store. `mark` returns a consent mark by its id."""

    def __init__(self, store: TrustStore, mark: Marked) -> None:
        self._store, self._mark = store, mark
        # sentences have their own table, because an earlier version reads every column of `told`
        rows = store.db.execute(
            "SELECT told.*, coalesce(words, '') FROM told LEFT JOIN told_words USING (n) ORDER BY n"
        )
        self._latest = deque((StatusEntry(*row) for row in rows), maxlen=LATEST)
        self._unstored = 0

    def add(
        self,
        at: float,
        came: tuple[str, str],
        what: tuple[str, str, str],
        how: str,
        sentence: str = "",
    ) -> None:
        """Store an entry, unless these bytes have the same status already.

        `came`: way and signer; `what`: typ, jti, sha256; `how`: a state, or `REJECTED`, a space
        and the code; `sentence`: the sentence for the code.
        """
        state, _, code = how.partition(" ")
        earlier = (one for one in reversed(self._latest) if one.sha256 == what[2])
        if any((one.via, one.state, one.code) == (came[0], state, code) for one in earlier):
            return
        values = (int(at), *came, *what, state, code)
        try:
            n = self._insert(values, sentence)
        except NotRecorded as error:  # the sender still gets it, until the next start
            log.warning(
                "the status of an object is in memory only: %s", error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN),
            )  # fmt: skip
            # numbers on the disk are positive: two entries must not have one key in the directory
            self._unstored -= 1
            n = self._unstored
        self._latest.append(StatusEntry(n, *values, sentence))

    def _insert(self, values: tuple[object, ...], sentence: str) -> int:
        with self._store.transaction() as db:
            n = db.execute(
                "INSERT INTO told (at, via, owner, typ, jti, sha256, state, code)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values,
            ).lastrowid  # fmt: skip
            if sentence:
                db.execute("INSERT OR REPLACE INTO told_words VALUES (?, ?)", (n, sentence))
            db.execute("DELETE FROM told WHERE n <= ?", ((n or 0) - LATEST,))
            db.execute("DELETE FROM told_words WHERE n <= ?", ((n or 0) - LATEST,))
        return n or 0

    def to(
        self, uplink: str, recipient: str, report: Callable[[], dict[str, Any]] = dict
    ) -> dict[str, dict[str, Any]]:
        """Entries for one recipient, by their keys in its directory.

        `report` returns how places and meters match now. It is added to the latest accepted place
        map, for its sender or signer.
        """
        mine = [one for one in self._latest if one.via == uplink or one.owner == recipient]
        items = {f"outcomes/o{one.n}-{one.at}": one.item(recipient, self._mark) for one in mine}
        maps = [one for one in self._latest if (one.typ, one.state) == (MAP, "ACCEPTED")]
        if maps and maps[-1] in mine:
            items[f"outcomes/o{maps[-1].n}-{maps[-1].at}"] |= {"report": report()}
        return items
