"""A copy that applies the exported feed has the rows of the receiver, after withdrawals too.
Guards rule T19.
"""

import csv
import random
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from receiver.databases import open_store
from receiver.export import COLUMNS, export, writing
from receiver.intake import answer
from receiver.run import main
from tests.contract.receiver.batches import RECIPIENT, batch, packed, retraction, series
from tests.contract.receiver.test_store import START, random_documents

PAGE = Path(__file__).parents[3] / "docs/receiver.md"
APPLY = re.search(r"```sql lake\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1]
KEY = "gateway, place, channel, kind, step, t, last, ver, value, q, why, basis, meter, again"


class Lake:
    """A data lake, by the printed statements."""

    def __init__(self, folder, form):
        self._folder, self._form, self._since, self.files = folder, form, 0, 0
        self._db = duckdb.connect()

    def follow(self, store):
        self.files += 1
        file = self._folder / f"feed-{self.files}.{self._form}"
        with writing(self._form, file) as write:
            *counts, last = export(store, self._since, write)
        assert last > self._since
        self._since = last
        self.apply(file)
        return counts

    def apply(self, file):
        types = {name: TYPES[typ] for name, typ in COLUMNS.items()}
        source = (
            f"read_csv('{file}', columns={types}, header=true, auto_detect=false)"
            if self._form == "csv"
            else f"'{file}'"
        )
        self._db.execute(f"CREATE OR REPLACE TABLE feed AS FROM {source}")
        self._db.execute("CREATE TABLE IF NOT EXISTS lake AS FROM feed LIMIT 0")
        if self._form == "csv":  # which does not tell an empty text from none
            self._db.execute("UPDATE feed SET meter = coalesce(meter, '') WHERE what = 'row'")
        self._db.execute(APPLY)

    def rows(self):
        found = self._db.execute(f"SELECT {KEY} FROM lake").fetchall()
        return sorted(map(tuple, found), key=repr)


TYPES = {"string": "VARCHAR", "int32": "INTEGER", "int64": "BIGINT", "float64": "DOUBLE",
         "bool_": "BOOLEAN"}  # fmt: skip


def rows(store):
    found = store.execute(
        "SELECT g.gateway, s.place, s.channel, s.kind, s.step, SEC(r.t), r.last, r.ver, r.value,"
        " r.q, r.why, o.basis, o.meter, r.again FROM reading r JOIN series s ON s.id = r.series"
        " JOIN source o ON o.id = r.source JOIN sender g ON g.id = s.sender"
    )
    return sorted(
        (
            (*key, None if value is None else float(value), *rest, bool(again))
            for (*key, value), rest, again in ((row[:9], row[9:13], row[13]) for row in found)
        ),
        key=repr,
    )


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_copy_has_the_rows_of_the_receiver_whatever_was_retracted(store, tmp_path, form):
    """Random histories, with exports at random moments."""
    rng = random.Random(form)
    lake = Lake(tmp_path, form)
    for round_ in range(3):
        gateway = f"G{round_}"
        documents = [of | {"gateway": gateway} for of in random_documents(rng, 40)]
        rng.shuffle(documents)
        for of in documents:
            assert answer(store, packed(of), (gateway, RECIPIENT))
            if rng.random() < 0.1:
                lake.follow(store)
                assert lake.rows() == rows(store)
    lake.follow(store)
    assert lake.rows() == rows(store)
    assert lake.rows()
    assert lake.follow(store) == [0, 0]
    for n in range(lake.files // 2, lake.files + 1):
        lake.apply(tmp_path / f"feed-{n}.{form}")  # again, from there on
    assert lake.rows() == rows(store)


def test_nothing_is_left_out_while_others_write(database, tmp_path):
    def write(n):
        own = open_store(database)
        for seq in range(1, 41):
            own.take(batch(seq, gateway=f"G{n}", series=[series("D1", [START + seq * 900], [seq])]))
            if seq % 7 == 0:
                only = {"from": "1970-01-01T00:00:00Z", "ver": 0, "basis": "K2"}
                own.take(batch(100 + seq, gateway=f"G{n}", retract=[
                    retraction(f"R{seq}", "D1", **only)]))  # fmt: skip
        own.close()

    store, lake = open_store(database), Lake(tmp_path, "parquet")
    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, n) for n in range(4)]
        while not all(one.done() for one in writers):
            lake.follow(store)
        for one in writers:
            one.result()
    lake.follow(store)
    assert lake.rows() == rows(store)
    assert len(lake.rows()) == 160
    store.close()


def test_the_command_states_the_next_change_and_leaves_no_half_file(database, tmp_path, capsys):
    store = open_store(database)
    store.take(batch(1, series=[series("D1", [START], [1.5])]))
    (present,) = store.execute("SELECT change FROM feed").fetchone()
    store.close()

    def run(*options):
        with pytest.raises(SystemExit) as ended:
            main(["export", "--db", database, *options])
        return ended.value.code, capsys.readouterr()

    status, said = run()
    assert status == 0
    assert f"0 retractions and 1 rows up to change {present}. Next: --since {present}" in said.err
    (row,) = csv.DictReader(said.out.splitlines())
    assert (row["what"], row["value"], row["t"]) == ("row", "1.5", str(START))
    status, said = run("--since", str(present), "--out", str(tmp_path / "feed.csv"))
    assert "0 retractions and 0 rows" in said.err
    assert (tmp_path / "feed.csv").read_text().splitlines() == [",".join(COLUMNS)]
    assert run("--format", "parquet")[0] == "Not exported: Parquet needs --out FILE"
    assert run("--out", "/nowhere/feed.csv")[0].startswith("Not exported: /nowhere/feed.csv")
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".part"] == []
