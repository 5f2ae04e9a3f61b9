"""A month that was written anew takes retractions and late versions as before. Guards rule T19."""

import random
import time

import psycopg
import pytest

from hil.platform.ledger import opened as ledger_at
from hil.platform.unpack import unpack
from receiver.databases import is_postgres, open_store
from receiver.intake import answer
from receiver.run import main
from tests.contract.receiver.batches import RECIPIENT, batch, packed, series
from tests.contract.receiver.conftest import anew
from tests.contract.receiver.test_store import (
    START,
    random_documents,
    slots_of,
    slots_of_ledger,
)

NOW = int(time.time()) + 100 * 365 * 86_400


def test_in_months_that_were_compacted_the_store_equals_the_independent_platform(store, tmp_path):
    rng = random.Random(7)
    documents = list(random_documents(rng, 60))
    rng.shuffle(documents)
    with ledger_at(tmp_path / "ledger.db") as ledger:
        for n, of in enumerate(documents):
            if n in {20, 40}:
                anew(store)
                assert list(store.compact(NOW, None))
            assert answer(store, packed(of), (of["gateway"], RECIPIENT))
            ledger.store(unpack(packed(of)), 1)
        assert slots_of(store) == slots_of_ledger(ledger)
        assert slots_of(store)


def test_a_month_is_written_once_and_only_when_it_is_over(database):
    store = open_store(database)
    if not is_postgres(database):
        with pytest.raises(ValueError, match="no tablespaces"):
            list(store.compact(NOW, "cold"))
        store.close()
        return
    anew(store)
    for seq in range(1, 200):  # series by series, as they come
        store.take(batch(seq, series=[series(f"D{seq % 40}", [START + seq * 900], [seq])]))
    assert not [one for one in store.compact(START, None) if "2026" in one]
    assert [one for one in store.compact(NOW, None) if one.startswith("reading_2026_02: ")]
    assert not list(store.compact(NOW, None))
    assert len(slots_of(store)) == 199
    store.close()


def test_a_month_in_use_is_left_for_the_next_time_and_may_move(database, capsys):
    if not is_postgres(database):
        return
    store = open_store(database)
    store.lock_seconds = 0.05
    store.take(batch(1, series=[series("D1", [START], [1])]))
    anew(store)
    with psycopg.connect(database) as other:
        other.execute("SELECT count(*) FROM reading_2026_01")
        busy = [one for one in store.compact(NOW, None) if "in use" in one]
    assert busy == ["reading_2026_01 is in use: left for the next time"]
    assert [one for one in store.compact(NOW, None) if one.startswith("reading_2026_01: ")]
    anew(store)
    store.close()
    with pytest.raises(SystemExit) as ended:
        main(["compact", "--db", database, "--days", "0"])
    assert ended.value.code == 0
    assert "reading_2026_01: " in capsys.readouterr().out
    with pytest.raises(SystemExit, match="cold"):
        main(["compact", "--db", database, "--days", "0", "--tablespace", "cold"])
