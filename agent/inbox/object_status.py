"""What became of objects, for who sent them: accepted, waiting, or refused with a code.

Told to the uplink that brought an object, and of an accepted one also to the recipient in whose
name its key stands. Beside a code stands a sentence that names nothing the sender must not know
(`Forged.sentence`). Of a place map its sender learns what became of it: the lines that contradict,
or how places and meters now fit.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.clock import stamp
from agent.errors import NotRecorded
from agent.log_fields import LogEvent, fields
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
"""answers that are kept for recipients who have not heard them yet"""


@dataclass(frozen=True, slots=True)
class StatusEntry:
    """StatusEntry answer."""

    n: int
    at: int
    via: str
    owner: str
    """whose key signed it; empty where that is not sure"""
    typ: str
    jti: str
    sha256: str
    state: str
    code: str
    """of a refusal; behind a blank, of a place map the lines that contradict: `E_REGISTRY 3,17`;
    of a consent the marks that it does not know
    """
    words: str = ""
    """of a refusal: what is wrong and what to do"""

    def item(self, recipient: str, mark: Marked) -> dict[str, Any]:
        """As a recipient is told it: of marks those that count for it."""
        code, _, about = self.code.partition(" ")
        marks = about if code in {ObjectCode.AFTER, ObjectCode.REVOKED} else ""
        named = filter(None, map(mark, marks.split(",")))
        members = {
            "id": f"o{self.n}-{self.at}", "typ": self.typ, "jti": self.jti, "sha256": self.sha256,
            "state": self.state, "code": code, "words": self.words, "at": stamp(self.at),
            "conflicts": [] if marks else [int(line) for line in about.split(",") if line],
            "marks": [
                {"mark": one.id, "cause": one.cause, "at": stamp(one.word.when), "by": _by(one)}
                for one in named
                if one.recipient in (None, recipient)
            ],
        }  # fmt: skip
        return {name: value for name, value in members.items() if value}


def _by(mark: ConsentMark) -> str:
    """Who has said it: an issuer, or somebody in the building, whom nobody else needs to know."""
    return mark.word.who if mark.number else HERE


class ObjectStatus:
    """The latest answers, in the store. `mark`: gives one by its id."""

    def __init__(self, store: TrustStore, mark: Marked) -> None:
        self._store, self._mark = store, mark
        # in a table of their own: an earlier version reads every column of `told`
        rows = store.db.execute(
            "SELECT told.*, coalesce(words, '') FROM told LEFT JOIN told_words USING (n) ORDER BY n"
        )
        self._latest = deque((StatusEntry(*row) for row in rows), maxlen=LATEST)
        self._unkept = 0

    def add(
        self,
        at: float,
        came: tuple[str, str],
        what: tuple[str, str, str],
        how: str,
        words: str = "",
    ) -> None:
        """Keep one, unless it is what was last said of these bytes.

        `came`: by what way, signed by whom; `what`: typ, jti, sha256; `how`: a state, or
        `REJECTED` with its code behind a blank; `words`: the sentence beside the code.
        """
        state, _, code = how.partition(" ")
        earlier = (one for one in reversed(self._latest) if one.sha256 == what[2])
        if any((one.via, one.state, one.code) == (came[0], state, code) for one in earlier):
            return
        values = (int(at), *came, *what, state, code)
        try:
            n = self._keep(values, words)
        except NotRecorded as error:  # its sender is told all the same, until the next start
            log.warning(
                "what became of an object is in memory only: %s", error,
                extra=fields(LogEvent.RECORD_NOT_WRITTEN),
            )  # fmt: skip
            self._unkept -= 1
            n = self._unkept
        self._latest.append(StatusEntry(n, *values, words))

    def _keep(self, values: tuple[object, ...], words: str) -> int:
        with self._store.transaction() as db:
            n = db.execute(
                "INSERT INTO told (at, via, owner, typ, jti, sha256, state, code)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values,
            ).lastrowid  # fmt: skip
            if words:
                db.execute("INSERT OR REPLACE INTO told_words VALUES (?, ?)", (n, words))
            db.execute("DELETE FROM told WHERE n <= ?", ((n or 0) - LATEST,))
            db.execute("DELETE FROM told_words WHERE n <= ?", ((n or 0) - LATEST,))
        return n or 0

    def to(
        self, uplink: str, recipient: str, report: Callable[[], dict[str, Any]] = dict
    ) -> dict[str, dict[str, Any]]:
        """What one recipient is told, by the key of each item in its directory.

        `report`: how places and meters fit, as it stands; it is told with the latest place map that
        was taken, to who brought or signed it.
        """
        mine = [one for one in self._latest if one.via == uplink or one.owner == recipient]
        items = {f"outcomes/o{one.n}-{one.at}": one.item(recipient, self._mark) for one in mine}
        maps = [one for one in self._latest if (one.typ, one.state) == (MAP, "ACCEPTED")]
        if maps and maps[-1] in mine:
            items[f"outcomes/o{maps[-1].n}-{maps[-1].at}"] |= {"report": report()}
        return items
