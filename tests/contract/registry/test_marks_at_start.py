"""A withdrawal that an earlier version recorded has its mark once the upgrade stands."""

from agent.app import _draw_marks
from agent.core.state import JUDGED
from agent.registry.inputs import NewWithdrawal
from agent.registry.registry import Registry
from tests.contract.registry.test_marks import DAY, NOW, PEOPLE, Building


def test_marks_are_drawn_once_the_upgrade_stands(tmp_path):
    there = Building(tmp_path / "registry.json")
    there.signs("one")
    there.registry.marked = False  # as the version before
    there.registry.withdraw([NewWithdrawal(id="one")], PEOPLE, "", NOW)
    (tmp_path / JUDGED).write_text("")
    again = Registry.open(there.path)
    before = there.path.read_bytes()
    _draw_marks(again, tmp_path, NOW + DAY)
    assert (again.marked, there.path.read_bytes()) == (False, before)
    assert again.marks_of(there.home, "a.example").pending
    (tmp_path / JUDGED).unlink()
    _draw_marks(again, tmp_path, NOW + DAY)
    (mark,) = again.marks(there.home)
    assert (again.marked, mark.cause, mark.recipient) == (True, "withdrawn", "a.example")
    _draw_marks(Registry.open(there.path), tmp_path, NOW + 2 * DAY)
    assert list(Registry.open(there.path).marks(there.home)) == [mark]
