"""No file of the spool says in clear which dwellings there are, who lives there, or who agreed.
Rule P17.
"""

from dataclasses import replace

import pytest

from agent.buffer.spool import Spool
from agent.buffer.unassigned_store import UnassignedStore
from agent.core.model import SlotMark
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.far import receipt_for, seal
from tests.contract.buffer.test_unassigned_store import kept
from tests.contract.buffer.test_withdrawal import NOW, taken
from tests.unit.buffer.rows import poll, reading, series

WORDS = {
    word for n in range(12) for word in series(n) if isinstance(word, str) and word[0] in "DHK"
}
DAY = 86_400


def directory():
    people = {f"places/{series(n).place}": {"id": series(n).place} for n in range(12)}
    return people | {f"occupancies/{series(n).occupancy}": {"id": "x"} for n in range(12)}


def in_clear(folder):
    """The ids that are found in the bytes of all files."""
    bodies = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    return {
        (name, word) for name, body in bodies.items() for word in WORDS if word.encode() in body
    }


def life(spool):
    """All that a spool goes through; what it holds at each step."""
    assert spool.announce(directory(), NOW, "trusted")
    spool.append(poll(0), {("a", 60): SlotMark(0, heard=True, serial="45")})
    yield "waiting"
    spool.tend(NOW, 1e12)
    spool.tend(NOW, 1e12)
    yield "parted"
    first, second = seal(spool, most_rows=4), seal(spool, most_rows=4)
    yield "sealed"
    spool.settle(receipt_for(first), NOW)
    yield "received"
    spool.quarantine(second.id, "no", NOW)
    spool.apply(1, [taken(1)], NOW)
    yield "withdrawn, a void, rows aside, a retraction that waits"
    told = spool.retract(NOW, "trusted")
    spool.settle(receipt_for(*spool.unreceipted()), NOW)
    assert told
    wrong = receipt_for(first, stored=((first.id.seq, "f" * 64),))
    assert spool.settle(wrong, NOW + DAY).conflict
    yield "contradicted"
    spool.append([replace(row, ver=7) for row in poll(1)], {})
    spool.resend(first.id.epoch, 1, 3, NOW)
    spool.tend(NOW + 2 * DAY, DAY)
    yield "expired"


@pytest.mark.parametrize("before", [False, True], ids=["new", "of the version before"])
def test_no_file_of_a_spool_names_a_dwelling_or_people(tmp_path, before):
    assert len(WORDS) > 24
    with Spool.open(tmp_path / "spool.db", KEY, HEAD, 20_000_000, on_trial=before) as spool:
        steps = life(spool)
        if before:
            assert "received" in [next(steps) for _ in range(4)]
            steps.close()
            found = spool.disclosures(), spool.announced()
            spool._database.fold()
            assert in_clear(tmp_path)  # it wrote them, and does while an upgrade is judged
        else:
            for step in steps:
                assert in_clear(tmp_path) == set(), step
            found = spool.disclosures(), spool.announced()
    assert before or in_clear(tmp_path) == set()
    with Spool.open(tmp_path / "spool.db", KEY, HEAD, 20_000_000) as spool:
        assert in_clear(tmp_path) == set()
        assert (spool.disclosures(), spool.announced()) == found
        (mine,) = spool.disclosures(series(2).place)
        assert (mine.place, mine.occupancy) == (series(2).place, series(2).occupancy)
        assert spool.announce(directory(), NOW, "trusted") is None or not before
    assert in_clear(tmp_path) == set()


def test_no_shelf_names_a_dwelling(tmp_path):
    with UnassignedStore.open(tmp_path / "registers.db", KEY) as shelf:
        shelf.add_each({reading(n).series.place: [kept(n)] for n in range(12)})
        assert in_clear(tmp_path) == set()
        shelf.remove([no for no, _ in shelf.each()][:5])
        assert in_clear(tmp_path) == set()
    assert in_clear(tmp_path) == set()
