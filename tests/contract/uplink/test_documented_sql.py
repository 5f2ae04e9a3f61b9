"""The SQL that docs/platform.md prints, on SQLite and on PostgreSQL: it holds each row once and
nothing that was retracted (rules G2, G3), and a retraction costs what its dwelling costs.
Rules T19, T20.
"""

import csv
import hashlib
import re
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
import zstandard

from agent.buffer.spool import Spool
from agent.core.model import Retraction
from agent.uplink.files.container import COLUMNS
from agent.uplink.files.container import table as table_of
from hil.platform.ledger import Ledger
from hil.platform.ledger import opened as ledger_at
from hil.platform.unpack import Id, Parcel, Retract, Row, unpack
from hil.postgres import ACCOUNT, postgres
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.far import receipt_for, seal_all
from tests.contract.uplink.test_documented import PAGE, printed
from tests.unit.buffer.rows import poll, reading, series

NOW = 1_800_000_000.0
PSYCOPG = r"%(\1)s"
"""how psycopg writes a parameter"""
START = 1_767_225_600
RETRACTIONS = 100
DWELLINGS, HOURS, CHANNELS = 500, 2_000, ("elec.imp", "heat")
LOAD = f"""
INSERT INTO reading SELECT 'G1', '{HEAD.recipient}', 'D' || d, c, 'REG', 3600, to_timestamp({START} + n * 3600), 0,
    n, 'kWh', 'V', null, 'M' || d, 'H' || d, 'B' || d, false
    FROM generate_series(1, {DWELLINGS}) d, unnest(ARRAY{list(CHANNELS)}) c, generate_series(1, {HOURS}) n;
INSERT INTO retraction SELECT 'G1', '{HEAD.recipient}', 'R' || n, 'D' || n, null, null, 'B' || n, null,
    to_timestamp(0), null, {START}, 'e1', 1, 0 FROM generate_series(1, {RETRACTIONS}) n;
ANALYZE
"""  # noqa: E501 -- constants of this file


class Platform:
    """Somebody who has typed in the SQL as it is printed, on one connection."""

    def __init__(self, db, named="\\g<0>") -> None:
        """`named`: how the driver writes a parameter that the page writes `:name`."""
        self.db = db
        code = re.sub(r"(?m)--.*$", "", printed("sql", "CREATE TABLE batch"))
        texts = [re.sub(r":([a-z_0-9]+)", named, text).strip() for text in code.split(";")]
        begin, commit = texts.index("BEGIN"), texts.index("COMMIT")
        self.tables = texts[:begin]
        self._one_at_a_time, self._batch, *others = texts[begin + 1 : commit]
        self._retraction, self.erase, self._add, self._refused, self.row = others
        self._held, self._retracted, _ = texts[commit + 1 :]

    def create(self) -> None:
        for table in self.tables:
            self.db.execute(table)

    def take(self, parcel: Parcel) -> tuple[str, list]:
        """Store a batch as the page says; what the receipt states: hash and retractions."""
        with self.transaction():
            self.store(parcel)
        words = parcel.id._asdict()
        (held,) = self.db.execute(self._held, words).fetchone()
        return held, self.db.execute(self._retracted, words).fetchall()

    def store(self, parcel: Parcel) -> None:
        words = parcel.id._asdict() | {"sha256": parcel.sha256}
        self.db.execute(self._one_at_a_time, words)
        if not self.db.execute(self._batch, words).rowcount:
            return
        for retraction in parcel.retract:
            values = words | facts_of(retraction)
            self.db.execute(self._retraction, values)
            deleted = self.db.execute(self.erase, values).rowcount
            self.db.execute(self._add, values | {"deleted": deleted})
        for row in parcel.rows:
            for n in range(row.span):
                self.db.execute(self._refused, words | slot_of(row, n))
                self.db.execute(self.row, words | slot_of(row, n))

    def transaction(self):
        """The driver's own BEGIN and COMMIT; sqlite3 begins by itself."""
        return self.db if isinstance(self.db, sqlite3.Connection) else self.db.transaction()

    def rows(self) -> set:
        found = self.db.execute("SELECT place, t, ver, value, basis FROM reading").fetchall()
        return {(place, moment(t), ver, digits(v), basis) for place, t, ver, v, basis in found}


def facts_of(retraction: Retract) -> dict:
    facts = retraction._asdict()
    until = retraction.until
    return facts | {"since": at(retraction.since), "until": None if until is None else at(until)}


def slot_of(row, n: int) -> dict:
    t = at(row.t + n * row.step)
    return row._asdict() | {"t": t, "ver": row.ver or 0, "value": row.v}


def at(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"


def moment(t: str | datetime) -> str:
    return t if isinstance(t, str) else at(int(t.timestamp()))


def digits(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def retraction(number: int, **other: object) -> Retraction:
    """Everything of one dwelling's people."""
    of = series(number)
    facts = {"id": f"R{number}", "recipient": HEAD.recipient, "place": of.place, "channel": None,
             "occupancy": of.occupancy, "basis": of.basis, "meter": None, "since": 0,
             "until": None, "ver": int(NOW), "reason": "withdrawn"}  # fmt: skip
    return Retraction(**facts | other)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server():
    with postgres() as host:
        yield host


def connect(host: str, database: str = ACCOUNT) -> psycopg.Connection:
    return psycopg.connect(host=host, user=ACCOUNT, dbname=database, autocommit=True)


@contextmanager
def on_postgres(host: str, database: str):
    """A platform with tables of its own."""
    with connect(host) as db:
        db.execute(f"CREATE DATABASE {database}")
    with connect(host, database) as db:
        platform = Platform(db, PSYCOPG)
        platform.create()
        yield platform


@contextmanager
def on_sqlite():
    with closing(sqlite3.connect(":memory:")) as db:
        platform = Platform(db)
        platform.create()
        yield platform


def test_the_printed_sql_holds_each_row_once_and_nothing_that_was_retracted(tmp_path: Path, server):
    """Batches, other bytes under an id and the rows sealed anew for it, voids, retractions, then a
    copy of each, the last one first. The simulated platform must hold and answer the same, also
    one that hears everything in the opposite order: retractions before the rows they cover."""
    sent: list[bytes] = []
    with ExitStack() as stack:
        spool = stack.enter_context(Spool.open(tmp_path / "spool.db", KEY, HEAD, 50_000_000))
        sides = stack.enter_context(three_sides(server, "forward", tmp_path / "ledger.db"))

        def deliver(payload: bytes) -> str:
            sent.append(payload)
            return sides.take(payload)

        gap = replace(reading(3, 5, None, span=4), why="silent")
        spool.append([*poll(0), *poll(1), gap], {})
        first, second, *others = seal_all(spool, most_rows=6)
        text = zstandard.decompress(second.payload).replace(b'"trusted"', b'"holdover"')
        held = deliver(zstandard.compress(text))
        assert deliver(second.payload) == held
        assert spool.settle(receipt_for(second, stored=((second.id.seq, held),)), NOW).new_epoch
        for batch in (*seal_all(spool), first, *others):
            deliver(batch.payload)
        assert len(sides.rows()) == 24
        spool.apply(1, [retraction(0), retraction(3, since=gap.t + 60, basis=None)], NOW)
        assert any(batch.void for batch in spool.unreceipted())
        for batch in (*spool.unreceipted(), spool.retract(NOW, "trusted")):
            assert batch is not None
            deliver(batch.payload)
        for payload in reversed(sent):
            sides.take(payload)
        assert len(sides.rows()) == 19
    with three_sides(server, "backward", tmp_path / "backward.db") as backward:
        for payload in reversed(sent):
            backward.take(payload)
        assert 0 < len(backward.rows()) <= 19


class ThreeSides:
    """The printed SQL in two databases, and the simulated platform: all three must agree."""

    def __init__(self, lite: Platform, pg: Platform, ledger: Ledger, path: Path) -> None:
        self._lite, self._pg, self._ledger, self._path = lite, pg, ledger, path

    def take(self, payload: bytes) -> str:
        """Deliver one batch to each; the sha256 that all three hold."""
        parcel = unpack(payload)
        held, retracted = self._lite.take(parcel)
        assert self._pg.take(parcel) == (held, retracted)
        assert held == self._ledger.store(parcel, len(payload))
        answer = self._ledger.word(parcel.id, held)  # it counts a run of missing slots as one row
        assert {id_ for id_, _ in retracted} == {id_ for id_, _ in answer.get("retracted", [])}
        return held

    def rows(self) -> set:
        """What all three hold, slot by slot."""
        rows = self._lite.rows()
        assert self._pg.rows() == rows
        with closing(sqlite3.connect(self._path)) as db:
            kept = db.execute("SELECT place, t, max(ver, 0), v, basis, span, step FROM row")
            assert rows == {
                (place, at(t + n * step), ver, digits(v), basis)
                for place, t, ver, v, basis, span, step in kept
                for n in range(span)
            }
        return rows


@contextmanager
def three_sides(server: str, database: str, path: Path):
    with on_sqlite() as lite, on_postgres(server, database) as pg, ledger_at(path) as ledger:
        yield ThreeSides(lite, pg, ledger, path)


def test_no_gateway_fills_or_retracts_the_rows_of_another(server):
    """Two gateways state the same place, slot and version: each has its own row."""
    with on_postgres(server, "two_gateways") as pg, on_sqlite() as lite:
        for platform in (pg, lite):
            row, erase = row_of(1), withdrawn(1)
            platform.take(parcel(1, row))
            theirs = Id("G2", HEAD.recipient, "e9", 1)
            _, retracted = platform.take(parcel(2, retract=(erase,))._replace(id=theirs))
            assert retracted == [(erase.id, 0)]
            platform.take(parcel(3, other_value(row))._replace(id=theirs._replace(seq=2)))
            kept = platform.db.execute("SELECT gateway, value FROM reading ORDER BY gateway")
            assert [(gateway, digits(v)) for gateway, v in kept.fetchall()] == [
                ("G1", Decimal("1.5")), ("G2", Decimal(99)),
            ]  # fmt: skip
            assert platform.take(parcel(4, row_of(1)._replace(t=START + 3600)))[1] == []


def other_value(row: Row) -> Row:
    """The same slot with another value, on another basis, which no retraction covers."""
    return row._replace(v="99", basis="B9")


def parcel(seq: int, *rows: Row, retract: tuple[Retract, ...] = ()) -> Parcel:
    """One batch, as if it had been sent."""
    sha256 = hashlib.sha256(str(seq).encode()).hexdigest()
    return Parcel(Id("G1", HEAD.recipient, "e2", seq), sha256, "live", "", list(rows), {}, retract)


def row_of(number: int) -> Row:
    """A row of one of the `full` table's dwellings, at a slot that the table does not hold."""
    return Row(
        place=f"D{number}", channel="heat", kind="REG", unit="kWh", step=3600, meter=f"M{number}",
        occupancy=f"H{number}", basis=f"B{number}", t=START, v="1.5", q="V", d=0, why=None, span=1,
        ver=None, again=False,
    )  # fmt: skip


def withdrawn(number: int) -> Retract:
    """The consent of one of the `full` table's dwellings is withdrawn."""
    return Retract(
        id=f"R{number}", place=f"D{number}", channel=None, occupancy=None, basis=f"B{number}",
        meter=None, since=0, until=None, ver=int(NOW), reason="withdrawn",
    )  # fmt: skip


def test_a_retraction_in_one_transaction_meets_a_row_in_another(server):
    """Two connections take two batches of one gateway, and neither sees what the other has not
    committed. The second waits for the first, so a retracted row is kept by neither."""
    with ExitStack() as stack:
        first = stack.enter_context(on_postgres(server, "race"))
        second = Platform(stack.enter_context(connect(server, "race")), PSYCOPG)
        pool = stack.enter_context(ThreadPoolExecutor())
        rows, erase = parcel(1, row_of(1)), parcel(2, retract=(withdrawn(1),))
        for earlier, later in ((erase, rows), (rows, erase)):
            with first.transaction():
                first.store(earlier)
                answer = pool.submit(second.take, later)
                while not waiting(server) and not answer.done():
                    pass
            answer.result()
            assert not first.rows()
            first.db.execute("TRUNCATE batch, retraction")


def test_postgresql_reads_the_table_of_a_file_with_the_printed_line(tmp_path: Path, server):
    """An independent reader of CSV gets each text and each digit, whatever a meter is called."""
    texts = ["a;b", 'a"b', '"', "a\nb", "a\r\nb", "a\rb", '=1;"x"', "-1", "'q",
             "\tt", "é ", "\\."]  # fmt: skip
    value = "123456789012345678901.2300"
    rows = [{"place": "D1", "channel": "heat", "kind": "REG", "unit": "kWh", "step": "900",
             "meter": text, "basis": "K1", "t0": "2026-11-01T00:00:00Z", "t": [str(n * 900)],
             "v": [value], "q": "V"} for n, text in enumerate(texts)]  # fmt: skip
    whole = {"gateway": "G1", "recipient": "r.ex", "epoch": "e", "seq": "1", "series": rows}
    file = tmp_path / "F.csv"
    file.write_bytes(table_of(whole))
    (line,) = re.findall(r"`COPY t FROM '/…/F.csv' \((.*?)\)`", PAGE)
    with connect(server) as db:
        columns = ", ".join(
            f"{name} {'numeric' if name == 'value' else 'text'}" for name in COLUMNS
        )
        db.execute(f"CREATE TABLE t ({columns})")
        with db.cursor().copy(f"COPY t FROM STDIN ({line})") as copy:
            copy.write(file.read_bytes())
        found = db.execute("SELECT meter, value, flags FROM t ORDER BY t_end").fetchall()
    assert [meter.removeprefix("'") for meter, _, _ in found] == texts
    assert {(str(value), flags) for _, value, flags in found} == {(value, None)}
    with file.open(encoding="utf-8", newline="") as lines:
        again = [row["meter"] for row in csv.DictReader(lines, delimiter=";")]
    assert again == [meter for meter, _, _ in found]
    assert file.read_bytes().endswith(b"\n")
    assert not file.read_bytes().startswith(b"\xef\xbb\xbf")


def waiting(host: str) -> bool:
    """Whether one connection waits for another."""
    with connect(host) as db:
        found = db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return found != (0,)


@pytest.fixture(scope="module")
def full(server):
    """Two million rows, and 100 retractions that have been carried out or are about to be."""
    with on_postgres(server, "two_million") as platform:
        platform.db.execute("ALTER TABLE reading SET UNLOGGED")
        for statement in LOAD.split(";"):
            platform.db.execute(statement)
        yield platform


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
def test_with_two_million_rows_a_batch_reads_the_rows_of_its_own_dwellings(full, plans):
    """EXPLAIN counts what is read of the table, whether or not the planner knows the parameters."""
    retraction, row = withdrawn(7), row_of(8)
    words = parcel(1).id._asdict()
    with full.transaction():
        full.db.execute(f"SET LOCAL plan_cache_mode = {plans}")
        erased = read_by(full.db, full.erase, words | facts_of(retraction))
        assert erased["reading"] == HOURS * len(CHANNELS)
        added = read_by(full.db, full.row, words | slot_of(row, 0))
        assert added["reading"] == 0
        assert added["retraction"] <= RETRACTIONS  # so few that an index gains nothing
        raise psycopg.Rollback


def read_by(db: psycopg.Connection, text: str, words: dict) -> Counter[str]:
    """How many rows of each table the statement read, kept or not, as EXPLAIN counts them."""
    found = db.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", words).fetchone()
    assert found is not None
    rows: Counter[str] = Counter()
    for node in nodes_of(found[0][0]["Plan"]):
        if "Scan" in node["Node Type"] and "Relation Name" in node:
            read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            rows[node["Relation Name"]] += int(read * node["Actual Loops"])
    return rows


def nodes_of(plan: dict) -> list[dict]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes_of(child))]
