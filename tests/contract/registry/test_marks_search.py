"""A search for a way in which something is in force that was given without knowing of a withdrawal:
collectors, lists, people, moves, restores and upgrades, in any order, by clocks that say anything.

What each consent knows is reckoned beside the registry, from who has heard what. Collectors are
honest; what they sign comes late, twice, in any order, or not at all. Rule D2.
"""

import json
import random
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.core.errors import Refused
from agent.registry.consent_policy import policy
from agent.registry.index import Unknowing
from agent.registry.inputs import NewConsent, NewOccupancy, NewPlace, NewWithdrawal
from agent.registry.registry import Registry
from tests.depth import depth

NOW, DAY = 1_790_000_000, 86_400
FR = policy("FR-1")
TO = ("a.example", "b.example", "c.example")
MOSTLY = st.sampled_from("aaaabc").map(lambda name: f"{name}.example")
CLOCKS = st.sampled_from([0, 0, 0, 0, 1, 30 * DAY, -30 * DAY, 400 * DAY])
"""by how much a clock is wrong"""
SELDOM = st.sampled_from([True, False, False, False])
"""what ends consents ends them all: most of the search is about what comes between"""


@dataclass
class Said:
    """What a collector has signed: a consent, or that people withdrew or refused."""

    number: str
    by: str
    home: str
    to: str
    row: NewConsent | NewWithdrawal
    knew: frozenset[str] = frozenset()


@dataclass
class Collector:
    """Signs what people tell it, and hears what becomes of that."""

    name: str
    heard: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """of these people and this recipient: the withdrawals that it knows of"""
    mark: dict[tuple[str, str], str] = field(default_factory=dict)
    own: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    """numbers of its own since that mark"""


class Life(RuleBasedStateMachine):
    """One dwelling; who lives there changes."""

    def __init__(self):
        super().__init__()
        self.numbers, self.dice = count(1), random.Random(7)
        self.folder = Path(tempfile.mkdtemp(prefix="marks"))
        self.patched = mock.patch("secrets.token_hex", lambda n: self.dice.randbytes(n).hex())
        self.patched.start()
        self.path = self.folder / "registry.json"
        self.registry = Registry(self.path, lambda _: None)
        self.registry.add_places([NewPlace("A", "dwelling")], "alice", "", NOW - 900 * DAY)
        self.collectors = [Collector("accueil"), Collector("régie")]
        self.sent: list[Said] = []
        self.came: set[str] = set()
        self.backup, self.lost_from = None, 0
        self.withdrawals: list[tuple[str, str, str | None]] = []
        """each that the gateway has recorded: its name, whose, and for which recipient"""
        self.knew: dict[str, frozenset[str]] = {}
        """by consent: the withdrawals that were known when it was given"""

    def teardown(self):
        self.patched.stop()
        shutil.rmtree(self.folder)

    @property
    def home(self):
        return self.registry.occupancies_of(self.registry.places()[0].id)[-1].id

    def of(self, home, to):
        """The withdrawals recorded for these people and this recipient, in order."""
        return [
            name for name, whose, whom in self.withdrawals if whose == home and whom in {None, to}
        ]

    def at(self, off):
        return float(NOW + next(self.numbers) + off)

    # what collectors sign

    @rule(
        who=st.integers(0, 1), to=MOSTLY, off=CLOCKS, purpose=st.sampled_from("xy"),
        at_once=st.sampled_from([True, True, False]),
    )  # fmt: skip
    def a_collector_is_told_yes(self, who, to, off, purpose, at_once):
        by, home, number = self.collectors[who], self.home, f"c{next(self.numbers)}"
        key = home, to
        row = NewConsent(
            "A", to, ("cw", "heat"), 1800, purpose, occupancy=home, id=number,
            given=int(self.at(off)), after=(by.mark[key],) if key in by.mark else (),
            withdrawals=tuple(by.own[key]),
        )  # fmt: skip
        self.sent.append(Said(number, by.name, home, to, row, frozenset(by.heard[key])))
        if at_once:
            self.comes(self.sent[-1], 0)

    @rule(
        who=st.integers(0, 1), to=MOSTLY, refused=SELDOM, which=st.integers(0),
        at_once=st.sampled_from([True, True, False]),
    )  # fmt: skip
    def a_collector_is_told_no(self, who, to, refused, which, at_once):
        by, home, number = self.collectors[who], self.home, f"w{next(self.numbers)}"
        theirs = [one for one in self.sent if (one.by, one.home, one.to) == (by.name, home, to)]
        meant = [one for one in theirs if isinstance(one.row, NewConsent)]
        prev = meant[which % len(meant)].number if meant and not refused else None
        if prev is None:
            refused = True
        row = NewWithdrawal(prev, occupancy=home, recipient=to, number=number, refused=refused)
        self.sent.append(Said(number, by.name, home, to, row))
        by.own[home, to].append(number)
        by.heard[home, to].add(number)
        if at_once:
            self.comes(self.sent[-1], 0)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0), again=st.sampled_from([False, False, False, True]), off=CLOCKS)
    def an_object_comes(self, which, again, off):
        on_the_way = [one for one in self.sent if one.number not in self.came]
        among = self.sent if again or not on_the_way else on_the_way
        self.comes(among[which % len(among)], off)

    def comes(self, said, off):
        self.came.add(said.number)
        by = next(one for one in self.collectors if one.name == said.by)
        try:
            if isinstance(said.row, NewConsent):
                known = {one.id for one in self.registry.consents()}
                for one in self.registry.consent(
                    [said.row], by.name, said.number, self.at(off), FR
                ):
                    self.knew[one.id] = said.knew
                assert said.number not in known
            else:
                self.registry.withdraw([said.row], by.name, said.number, self.at(off))
                self.withdrawals.append((said.number, said.home, said.to))
        except Unknowing as error:
            self.hears(by, said.home, said.to, error.marks[-1].id)
        except Refused:
            pass

    def hears(self, by, home, to, mark):
        """It learns a mark: of all that was recorded for these people up to there."""
        drawn = [one.id for one in self.registry.marks(home, to)]
        by.mark[home, to] = mark
        by.heard[home, to] |= set(self.of(home, to)[: drawn.index(mark) + 1])
        known = set(self.of(home, to))
        by.own[home, to] = [number for number in by.own[home, to] if number not in known]

    # what is done at the building

    @rule(to=st.sampled_from([*TO, None]), off=CLOCKS, happens=SELDOM)
    def people_withdraw(self, to, off, happens):
        if not happens:
            return
        self.registry.withdraw(
            [NewWithdrawal(occupancy=self.home, recipient=to)], "alice", "", self.at(off)
        )
        self.withdrawals.append((f"p{next(self.numbers)}", self.home, to))

    @rule(to=st.sampled_from([*TO, None]), off=CLOCKS, part=st.sampled_from(["purpose", "channel"]))
    def people_withdraw_a_part(self, to, off, part):
        """What they leave in force stays; what comes later must know of it (D_e)."""
        of = {"purpose": "x"} if part == "purpose" else {"channels": ("heat",)}
        row = NewWithdrawal(occupancy=self.home, recipient=to, **of)
        try:
            self.registry.withdraw([row], "alice", "", self.at(off))
        except Refused:
            return  # there is no such part
        name = f"q{next(self.numbers)}"
        self.withdrawals.append((name, self.home, to))
        for one in self.registry.consents():
            if one.withdrawn is None and one.occupancy == self.home:
                self.knew[one.id] = self.knew.get(one.id, frozenset()) | {name}

    @rule(
        to=MOSTLY, off=CLOCKS, asked=st.booleans(), listed=st.booleans(),
        lease=st.booleans(), purpose=st.sampled_from("xy"),
    )  # fmt: skip
    def a_person_records_a_paper(self, to, off, asked, listed, lease, purpose):  # noqa: PLR0913, PLR0917
        home, marks = self.home, self.registry.marks(self.home, to)
        row = NewConsent(
            "A", to, ("cw", "heat"), 1800, purpose, occupancy=None, lease=home if lease else None,
            after=(marks[-1].id,) if asked and marks else (), where="list:2" if listed else "",
        )  # fmt: skip
        knew = frozenset(self.of(home, to)) if asked else frozenset()
        try:
            given = self.registry.consent([row], "alice", "", self.at(off), FR)
        except Refused:
            return
        self.knew |= {one.id: knew for one in given}
        assert not given or not listed or lease or self.lived == 1, (
            "whose is a row without a lease?"
        )

    @property
    def lived(self):
        return len(self.registry.occupancies_of(self.registry.places()[0].id))

    @rule(happens=SELDOM)
    def people_move(self, happens):
        if not happens:
            return
        place, now = self.registry.places()[0], self.registry.occupancies()[-1]
        when = int(self.at(0))
        try:
            self.registry.occupy(
                [NewOccupancy("move_out", place.id, until=when),
                 NewOccupancy("move_in", place.id, since=when)],
                "alice", "", float(when),
            )  # fmt: skip
        except Refused:
            assert now.since >= when

    @rule()
    def a_backup_is_made(self):
        if self.registry.marked:
            self.backup, self.lost_from = (
                json.dumps(self.registry.stored()).encode(),
                len(self.withdrawals),
            )

    @precondition(lambda self: self.backup is not None)
    @rule(off=CLOCKS, happens=SELDOM)
    def the_gateway_is_lost_and_restored(self, off, happens):
        if not happens:
            return
        self.path.write_bytes(self.backup)
        self.registry = Registry(self.path, lambda _: None)
        homes = [one.id for one in self.registry.occupancies()]
        lost = self.withdrawals[self.lost_from :]
        del self.withdrawals[self.lost_from :]
        self.registry.draw_marks(self.at(off), restored=True)
        self.withdrawals += [(f"r{next(self.numbers)}", home, None) for home in homes]
        # of what the backup allows, the platforms say what was withdrawn meanwhile
        for _, home, to in lost:
            stand = [one for one in self.registry.consents() if not one.withdrawn]
            for whom in sorted({one.recipient for one in stand if one.occupancy == home}):
                if to in {None, whom}:
                    row = NewWithdrawal(occupancy=home, recipient=whom)
                    self.registry.withdraw([row], whom, "receipt", self.at(off))
                    self.withdrawals.append((f"t{next(self.numbers)}", home, whom))
        # the backup's own consents stand: they know of no restore, and need not
        restored = {name for name, _, _ in self.withdrawals if name.startswith("r")}
        for one in self.registry.consents():
            self.knew[one.id] = self.knew.get(one.id, frozenset()) | restored
        for by in self.collectors:
            by.mark.clear()
        self.lost_from, self.backup = (
            len(self.withdrawals),
            json.dumps(self.registry.stored()).encode(),
        )

    @rule()
    def it_is_started_again(self):
        judged = not self.registry.marked
        self.registry = Registry(self.path, lambda _: None)
        self.registry.marked = not judged
        if not judged:
            self.registry.draw_marks(self.at(0))

    @invariant()
    def whoever_gave_what_is_in_force_knew_of_every_withdrawal(self):
        for home in self.registry.occupancies():
            for to in TO:
                for one in self.registry.consents_of(home.id, to):
                    assert set(self.of(home.id, to)) <= self.knew[one.id], one

    @invariant()
    def there_is_a_mark_for_each_withdrawal(self):
        for home in self.registry.occupancies():
            for to in TO:
                assert len(self.registry.marks(home.id, to)) == len(self.of(home.id, to))


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=depth(300, 20_000),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
