"""A total of the building, less what is sent one by one, never tells of few, nor afterwards."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.acquisition.row_assignment import RowAssignment, Withholding
from agent.acquisition.sums import Totals
from agent.core.atomic_write import StateFile
from agent.core.model import Point
from agent.registry.consent_policy import CommonBasis, policy
from tests.depth import examples
from tests.unit.acquisition.attack import Reckoner
from tests.unit.acquisition.test_sums import HALF, MONTH, US, WHOLE, ZONE, Building, reckoned, slots

WHO = 6
RULES = policy("FR-1", CommonBasis("AG du 12 mai", 0), ZONE, 3)
OWN = Point("whole", "energy", "1", "x", HALF, "elec.imp", "kWh", place=WHOLE)
FLOW = replace(OWN, name="energy-interval", derived=True)


class Metered(Building):
    """Six dwellings and a meter of the building's own; a restart takes its memory along."""

    def wake(self, folder):
        self.totals = Totals(folder / "totals.json")
        self.gate = RowAssignment(self.registry, RULES, US, held=self.totals.held)

    def look(self, now):
        self.totals.look(self.gate, [OWN], now)

    def leaves(self, t, point=OWN):
        return not isinstance(self.gate.at(point, None, t).series, Withholding)


def metered(folder):
    house = Metered(folder, WHO, 3)
    house.wake(folder)
    return house


def test_an_index_that_was_held_once_stays_here_and_what_flows_leaves_again(tmp_path):
    """Rule S10."""
    house = metered(tmp_path)
    house.look(MONTH)
    assert house.leaves(MONTH)
    given = [house.consent(n, MONTH + 60) for n in range(4)]
    assert not house.leaves(MONTH + 61)
    house.look(MONTH + 62)
    for one in given:
        house.withdraw(one, MONTH + HALF)
    house.wake(tmp_path)  # a restart
    assert not house.leaves(MONTH + 2 * HALF)
    assert house.leaves(MONTH + 3 * HALF, FLOW)


def test_an_index_leaves_once_it_is_read_that_it_is_not_held(tmp_path):
    """Rules A18, S10."""
    house = metered(tmp_path)
    house.look(MONTH)
    file, aside = tmp_path / "totals.json", tmp_path / "aside"
    file.rename(aside)
    file.symlink_to("/proc/self/mem")  # EIO
    house.wake(tmp_path)
    house.look(MONTH + 60)
    assert not house.leaves(MONTH + 60)
    aside.replace(file)
    for unread in StateFile.unread.copy():
        unread.read_again()()
    assert house.leaves(MONTH + 61)


def test_an_index_that_was_never_sent_may_leave_once_it_tells_of_enough(tmp_path):
    house = metered(tmp_path)
    given = [house.consent(n, MONTH + 60) for n in range(4)]
    house.look(MONTH + 61)
    house.withdraw(given[0], MONTH + 120)
    house.look(MONTH + 121)
    assert house.leaves(MONTH + 121)


def test_a_damaged_file_is_an_empty_one(tmp_path):
    (tmp_path / "totals.json").write_text("[1, 2")
    assert not Totals(tmp_path / "totals.json").held(WHOLE, "elec.imp")


events = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["consent", "withdraw"]), st.integers(0, 5)),
    max_size=16,
)


def lived_through(folder, happened, *, careful, guesses=0):
    """What follows from the total's indexes and all that is sent one by one; whoever guesses adds
    what he thinks was used in the slots beside those he was sent.
    """
    house, given, agreed = metered(folder), {}, set()
    known, whole = {place: [] for place in house.places}, []
    for k, t in enumerate(slots(7)):
        for row in house.read(t):
            if row.value is not None and row.series.basis != "rest":
                known[row.series.place].append(k)
        whole += [k] if house.leaves(t) else []
        for now, (at, what, n) in enumerate([(k, "", 0), *happened], t + 1):
            if at == k:
                _tell(house, what, n, now, given)
                agreed |= given.keys()
            if careful:
                house.look(now)
    return reckoned(_knows(house, whole, known, guesses), set(range(WHO)) - agreed)


def _knows(house, whole, known, guesses):
    reckoner = Reckoner()
    for before, after in pairwise(whole):
        reckoner.learn((n, k) for n in range(WHO) for k in range(before + 1, after + 1))
    for n, sent in enumerate(known[place] for place in house.places):
        more = [sent[0] - guesses, *sent, sent[-1] + guesses] if sent else []
        for before, after in pairwise(more):
            reckoner.learn((n, k) for k in range(before + 1, after + 1))
    return reckoner


def _tell(house, what, n, now, given):
    if what == "consent" and n not in given:
        given[n] = house.consent(n, now)
    elif what == "withdraw" and n in given:
        house.withdraw(given.pop(n), now)


@examples(15, 300)
@given(events)
def test_nothing_of_one_dwelling_that_never_agreed_follows_from_a_total(tmp_path_factory, happened):
    """Rule S14."""
    assert lived_through(tmp_path_factory.mktemp("t"), happened, careful=True) == []


def test_without_a_memory_of_it_the_index_after_a_pause_gives_somebody_away(tmp_path):
    happened = [(1, "consent", n) for n in range(5)] + [(4, "withdraw", n) for n in range(5)]
    for careful, found in ((True, False), (False, True)):
        (tmp_path / str(careful)).mkdir()
        said = lived_through(tmp_path / str(careful), happened, careful=careful, guesses=1)
        assert bool(said) == found
