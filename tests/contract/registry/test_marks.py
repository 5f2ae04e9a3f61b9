"""A withdrawal stands until someone knowingly consents again; the letters are those of the
counter-examples that each rule removes (docs/decisions/032).
"""

import json

import pytest

from agent.core.errors import NotYet, Refused
from agent.registry.consent_policy import policy
from agent.registry.index import Unknowing
from agent.registry.inputs import NewConsent, NewOccupancy, NewPlace, NewWithdrawal
from agent.registry.registry import Registry

NOW, DAY = 1_790_000_000, 86_400
FR = policy("FR-1")
TO, OTHER = "a.example", "b.example"
COLLECTOR, PEOPLE = "accueil", "alice"


class Building:
    """A registry; signed objects by a collector, commands by people, and lists."""

    def __init__(self, path):
        self.path = path
        self.registry = Registry.open(path)
        if not self.registry.places():
            self.registry.add_places([NewPlace("A", "dwelling")], PEOPLE, "a test", NOW - 9 * DAY)
        self.home = self.registry.occupancies()[0].id

    def signs(self, number, by=COLLECTOR, to=TO, at=NOW, signed=None, **more):
        row = NewConsent(
            "A", to, ("heat",), 1800, more.pop("purpose", "advice"), occupancy=self.home, id=number,
            since=at, given=at if signed is None else signed, **more,
        )  # fmt: skip
        return self.registry.consent([row], by, f"consent+jwt {number}", at, FR)

    def withdraws(self, number, of=None, by=COLLECTOR, to=TO, at=NOW, **more):
        row = NewWithdrawal(id=of, occupancy=self.home, recipient=to, number=number, **more)
        return self.registry.withdraw([row], by, f"consent+jwt {number}", at)

    def people_withdraw(self, to=TO, at=NOW, **more):
        return self.registry.withdraw(
            [NewWithdrawal(place="A", recipient=to, **more)], PEOPLE, "", at
        )

    def list_says(self, at=NOW, to=TO, **more):
        unknowing = []
        row = NewConsent("A", to, ("heat",), 1800, "advice", where="list.csv:2", **more)
        given = self.registry.consent([row], PEOPLE, "list.csv", at, FR, without_effect=unknowing)
        return given, unknowing

    def last_mark(self, to=TO):
        return self.registry.marks_of(self.home, to).drawn[-1].id

    def in_force(self, to=TO):
        return [one.id for one in self.registry.consents_of(self.home, to)]


@pytest.fixture
def there(tmp_path):
    return Building(tmp_path / "registry.json")


def test_D_a_no_clock_decides_which_came_first(there):  # noqa: N802
    """A collector whose clock is years behind gives again; one ahead of a withdrawal does not.
    Rules D3, D8.
    """
    there.signs("one")
    there.withdraws("gone", of="one", at=NOW + DAY)
    with pytest.raises(Unknowing) as found:
        there.signs("late", at=NOW + DAY, signed=NOW + DAY + 200)
    (mark,) = found.value.marks
    assert (mark.word.who, mark.word.when, mark.id) == (COLLECTOR, NOW + DAY, there.last_mark())
    behind = there.signs("again", at=NOW + 2 * DAY, signed=NOW - 700 * DAY, after=(mark.id,))
    assert there.in_force() == [behind[0].id]
    assert behind[0].since == NOW + 2 * DAY


def test_D_b_a_mark_cannot_be_guessed(there):  # noqa: N802
    """Rule D1."""
    there.people_withdraw()
    for guess in ("1", "mark", there.home, there.last_mark()[:-1]):
        with pytest.raises(Unknowing):
            there.signs("one", after=(guess,))
    assert there.in_force() == []


def test_D_c_a_withdrawal_ends_all_that_was_agreed_for_that_recipient(there):  # noqa: N802
    """Rule D1."""
    there.signs("one")
    there.signs("two", purpose="research")
    there.signs("other", to=OTHER)
    there.withdraws("gone", of="two")
    assert there.in_force() == []
    assert there.in_force(OTHER) == ["other"]
    with pytest.raises(Unknowing):
        there.signs("three", purpose="a third purpose", signed=NOW - DAY)


def test_D_d_a_withdrawal_that_arrives_last_covers_none_that_others_made_before(there):  # noqa: N802
    """Rule D2."""
    there.signs("one")
    mine = "gone"
    with pytest.raises(NotYet, match="gone"):
        there.signs("again", withdrawals=(mine,))
    there.people_withdraw()
    there.withdraws(mine, of="one")
    with pytest.raises(Unknowing) as found:
        there.signs("again", withdrawals=(mine,))
    assert [mark.word.who for mark in found.value.marks] == [PEOPLE]
    people = found.value.marks[0].id
    assert there.signs("again", withdrawals=(mine,), after=(people,))


def test_a_withdrawal_of_another_issuer_is_not_known_by_its_number(there):
    there.withdraws("gone", of="one", by="another")
    with pytest.raises(NotYet):
        there.signs("again", withdrawals=("gone",))


def test_D_e_a_withdrawal_counts_where_nothing_was_in_force_yet(there):  # noqa: N802
    """Rule D1."""
    there.people_withdraw()
    with pytest.raises(Unknowing):
        there.signs("older", signed=NOW - DAY)
    there.withdraws("gone", of="unheard", to=None)
    with pytest.raises(Refused):
        there.signs("unheard", to=OTHER)
    with pytest.raises(Unknowing):  # for whom that was, nobody knows
        there.signs("older", to=OTHER)


def test_a_refusal_ends_what_was_agreed_for_that_recipient(there):
    there.signs("one")
    there.withdraws("no", refused=True)
    assert there.in_force() == []
    with pytest.raises(Unknowing, match=r"refused to a\.example"):
        there.signs("older")


def test_D_f_a_restore_lets_nothing_count_that_is_still_on_its_way(there):  # noqa: N802
    """Rule D6."""
    there.signs("one")
    there.registry.draw_marks(NOW + DAY, restored=True)
    assert there.in_force() == ["one"]
    with pytest.raises(Unknowing, match="the gateway was restored"):
        there.signs("two", purpose="research")
    assert there.signs("two", purpose="research", after=(there.last_mark(),))


def test_D_g_a_row_without_a_lease_counts_for_the_only_occupancy_alone(there):  # noqa: N802
    """Rule D10."""
    given, unknowing = there.list_says()
    assert (len(given), unknowing) == (1, [])
    there.registry.occupy(
        [NewOccupancy("move_out", "A", until=NOW + DAY),
         NewOccupancy("move_in", "A", since=NOW + 2 * DAY, reference="B-7")],
        PEOPLE, "", NOW + 2 * DAY,
    )  # fmt: skip
    with pytest.raises(Refused, match="lease"):
        there.list_says(NOW + 3 * DAY)
    given, _ = there.list_says(NOW + 3 * DAY, lease="B-7")
    assert [one.occupancy for one in given] != [there.home]
    assert len(given) == 1


def test_a_list_that_is_brought_again_gives_nothing_again(there):
    """Rule D4."""
    there.list_says()
    there.people_withdraw()
    for more in ({}, {"given": NOW + DAY}, {"since": NOW + DAY}):
        given, (unknowing,) = there.list_says(NOW + 2 * DAY, **more)
        assert given == []
        assert unknowing.marks[0].word.who == PEOPLE
    given, unknowing = there.list_says(NOW + 2 * DAY, after=(there.last_mark(),))
    assert (len(given), unknowing) == (1, [])


def test_what_was_read_before_the_last_mark_is_not_covered(there):
    """Rule D8."""
    there.people_withdraw(at=NOW + DAY)
    again = NewConsent(
        "A", TO, ("heat",), 1800, "advice", occupancy=there.home, since=NOW, given=NOW,
        after=(there.last_mark(),),
    )  # fmt: skip
    (given,) = there.registry.consent([again], COLLECTOR, "", NOW + 2 * DAY, FR)
    assert given.since == NOW + DAY


def test_a_mark_of_a_clock_that_was_ahead_delays_no_consent(there):
    """Rule D8."""
    there.people_withdraw(at=NOW + 3650 * DAY)
    (given,) = there.signs("again", at=NOW, after=(there.last_mark(),))
    assert given.since == NOW


def test_one_channel_may_be_withdrawn_and_what_is_left_stands(there):
    """Rule D9."""
    row = NewConsent("A", TO, ("heat", "elec.imp"), 1800, "advice", occupancy=there.home)
    there.registry.consent([row], PEOPLE, "", NOW, FR)
    there.people_withdraw(channels=("heat",))
    (left,) = there.registry.consents_of(there.home, TO)
    assert left.channels == ("elec.imp",)
    with pytest.raises(Unknowing):
        there.signs("older", purpose="research")


def test_withdrawals_of_an_earlier_version_become_marks_and_grant_nothing_meanwhile(there):
    there.signs("one")
    there.registry.marked = False  # an upgrade is judged: the version before knows no marks
    there.people_withdraw()
    assert "mark" not in {row["kind"] for row in documents(there.path)}
    with pytest.raises(NotYet):
        there.signs("two")
    again = Building(there.path)
    with pytest.raises(NotYet):
        again.signs("two")
    again.registry.draw_marks(NOW + DAY)
    with pytest.raises(Unknowing):
        again.signs("two")
    assert again.signs("two", after=(again.last_mark(),))
    revision = again.registry.revision
    again.registry.draw_marks(NOW + DAY)
    assert again.registry.revision == revision


def documents(path):
    return json.loads(path.read_text())["documents"].values()
