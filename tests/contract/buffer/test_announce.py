"""Guards rule G2: the platform is told what it is owed, once, and all anew in an epoch.
Rule T21.
"""

import json
from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest
import zstandard

from agent.buffer.batch import BatchHead
from agent.buffer.spool import Spool
from agent.core.errors import SpoolFull
from agent.core.model import Lane, Reading, Receipt, Series
from hil.platform.unpack import unpack

HEAD = BatchHead("GTEST", "r.example", "FR-1")
NOW = 1_795_500_000.0
SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "batch.schema.json").read_text())


def opened(folder, most=50_000_000):
    return Spool.open(folder / "spool.db", bytes(32), HEAD, most)


def items(count, label="A"):
    return {
        f"places/D{n:014}": {"id": f"D{n:014}", "type": "dwelling", "label": f"{label}-{n}"}
        for n in range(count)
    }


def told(spool, directory):
    """Everything that is told of a directory, batch by batch."""
    found = []
    while batch := spool.announce(directory, NOW, "trusted"):
        document = json.loads(zstandard.ZstdDecompressor().decompress(batch.payload))
        jsonschema.validate(document, SCHEMA)
        assert len(batch.payload) < 60_000
        found.append(unpack(batch.payload).directory)
    return found


def test_only_what_changed_is_told(tmp_path):
    with opened(tmp_path) as spool:
        (first,) = told(spool, items(3))
        assert [place["label"] for place in first["places"]] == ["A-0", "A-1", "A-2"]
        assert told(spool, items(3)) == []
        changed = items(3)
        changed["places/D00000000000001"] = {
            "id": "D00000000000001",
            "type": "dwelling",
            "label": "new",
        }
        (second,) = told(spool, changed)
        assert [place["label"] for place in second["places"]] == ["new"]


def test_a_restart_remembers_what_was_told(tmp_path):
    with opened(tmp_path) as spool:
        told(spool, items(3))
    with opened(tmp_path) as spool:
        assert spool.announced() == items(3)
        assert told(spool, items(3)) == []
        assert len(told(spool, items(4))) == 1


SERIES = Series("CZS2YFSTBQQ5WDC", "heat", "REG", "kWh", 3600, "m1", None, "common")
KEY = "series/CZS2YFSTBQQ5WDC/heat/REG/3600"


def row(t, series=SERIES):
    return Reading(series, t, Decimal(1), "V")


def owed(since):
    of = {"place": SERIES.place, "channel": "heat", "kind": "REG", "unit": "kWh", "step": 3600}
    return {KEY: of | {"since": since}}


def sealed(spool):
    return spool.seal(Lane.BACKFILL, NOW, "trusted", int(NOW))


def test_a_series_is_known_after_a_kill_from_its_first_stored_row_on(tmp_path):
    """Rule T21: no row leaves before its series is told, with its first slot."""
    first = owed("2026-11-24T00:00:00Z")
    with opened(tmp_path) as spool:
        spool.append([row(1_795_478_400)], {}, NOW, first)
        spool.append([row(1_795_482_000)], {}, NOW, owed("2026-11-24T01:00:00Z"))
    with opened(tmp_path) as spool:
        assert spool.announced() == first
        assert sealed(spool) is None
        assert told(spool, spool.announced()) == [{"series": [first[KEY]]}]
        assert sealed(spool).rows == 2


def test_a_row_that_could_not_be_stored_makes_no_series_owed(tmp_path, monkeypatch):
    with opened(tmp_path) as spool:

        def full(*_):
            raise SpoolFull("no room")

        monkeypatch.setattr(spool._pending, "add", full)
        with pytest.raises(SpoolFull):
            spool.append([row(1_795_478_400)], {}, NOW, owed("2026-11-24T00:00:00Z"))
        assert spool.announced() == {}
    with opened(tmp_path) as spool:
        assert spool.announced() == {}


def test_no_row_of_a_new_epoch_is_sealed_before_its_series_is_told_anew(tmp_path):
    """Rule T21. What is withheld has no series, and does not wait for one."""
    first = owed("2026-11-24T00:00:00Z")
    with opened(tmp_path) as spool:
        spool.append([row(1_795_478_400)], {}, NOW, first)
        told(spool, first)
        spool.settle(Receipt("GTEST", "r.example", spool.epoch, ((7, "0" * 64),)), NOW)
        assert sealed(spool) is None
        told(spool, first)
        assert sealed(spool).rows == 1
        spool.tell_again()
        withheld = Reading(SERIES._replace(basis=""), 1_795_482_000, None, "W", why="consent")
        spool.append([withheld], {}, NOW)
        assert sealed(spool).rows == 1


def test_a_large_building_is_told_in_several_batches_and_none_twice(tmp_path):
    with opened(tmp_path) as spool:
        batches = told(spool, items(5_000))
        assert len(batches) > 3
        ids = [place["id"] for batch in batches for place in batch["places"]]
        assert len(ids) == len(set(ids)) == 5_000
        seqs = [batch.id.seq for batch in spool.unreceipted()]
        assert seqs == list(range(1, len(batches) + 1))


def test_a_new_epoch_is_told_all_anew_and_names_the_one_before(tmp_path):
    with opened(tmp_path) as spool:
        told(spool, items(3))
        old = spool.epoch
        spool.settle(Receipt("GTEST", "r.example", old, ((7, "0" * 64),)), NOW)
        assert spool.epoch != old
        (again,) = told(spool, items(3))
        assert again.pop("before") == [old, 1]
        assert len(again["places"]) == 3


def test_the_end_of_an_item_is_told_once_and_only_to_those_who_have_the_item(tmp_path):
    """Rule T34."""
    basis = {"id": "K1", "place": "D1", "since": "2026-01-01T00:00:00Z"}
    ended = {"ends/bases/K1": {"until": "2026-02-01T00:00:00Z"}}
    with opened(tmp_path) as spool:
        assert told(spool, ended) == []
        told(spool, {"bases/K1": basis})
        assert told(spool, ended) == [{"bases": [basis | ended["ends/bases/K1"]]}]
        assert told(spool, ended) == []
    with opened(tmp_path) as spool:
        assert told(spool, ended) == []
        spool.tell_again()
        assert told(spool, ended) == []  # who has it knows its end
        (again,) = told(spool, {"bases/K1": basis})  # they consented again
        assert again["bases"] == [basis]


@pytest.mark.parametrize("restart", [False, True])
def test_the_end_of_an_item_that_was_in_a_refused_batch_is_told_again(tmp_path, restart):
    """Rule T34. After a day the batch becomes a void (rule T17)."""
    basis = {"id": "K1", "place": "D1", "since": "2026-01-01T00:00:00Z"}
    end = {"until": "2026-02-01T00:00:00Z", "withdrawn": "2026-02-01T00:00:00Z"}
    with opened(tmp_path) as spool:
        told(spool, {"bases/K1": basis})
        refused = spool.announce({"ends/bases/K1": end}, NOW, "trusted")
        spool.refuse(refused.id, "HTTP 400", NOW)
        spool.tell_again()
        assert spool.tend(NOW + 90_000, 90 * 86_400) == (refused.id,)
        again = [] if restart else told(spool, {"ends/bases/K1": end})
    with opened(tmp_path) as spool:
        again += told(spool, {"ends/bases/K1": end})
    assert again == [{"bases": [basis | end]}]


def test_what_could_not_be_written_is_told_later(tmp_path, monkeypatch):
    with opened(tmp_path) as spool:

        def full(*_):
            raise SpoolFull("no room")

        monkeypatch.setattr(spool._outbox, "add", full)
        with pytest.raises(SpoolFull):
            spool.announce(items(3), NOW, "trusted")
        monkeypatch.undo()
        assert spool.announced() == {}
        assert len(told(spool, items(3))) == 1


def test_nothing_of_it_can_be_read_on_the_disk(tmp_path):
    with opened(tmp_path) as spool:
        told(spool, items(1, label="Escalier"))
    assert all(b"Escalier" not in path.read_bytes() for path in tmp_path.iterdir())
