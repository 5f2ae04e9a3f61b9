"""The cost of the receiver: rows a CPU second into SQLite and PostgreSQL, bytes a row, and a batch
after withdrawals.

`python -m bench.receiver` prints one table; `--history ROWS` states how many rows are there before
the withdrawals (20 million take some minutes). The same run also writes the same rows without a
receiver: executemany into the table for SQLite, COPY into a table of the same form for PostgreSQL.
CPU seconds are those of this process and of all processes of PostgreSQL.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import time
from pathlib import Path
from statistics import median

import psycopg
import zstandard

from hil.postgres import ACCOUNT, postgres
from receiver.batch import opened, written
from receiver.databases import open_store, prepare
from receiver.sqlite import INSERT

START = 1_790_812_800
SERIES, TICK = 500, os.sysconf("SC_CLK_TCK")
WITHDRAWALS = 200


def payloads(rows: int, batches: int, step: int = 60, first: int = START) -> list[bytes]:
    """Batches of one gateway: 500 series of 60 dwellings, a slot of each a minute."""
    rng, made = random.Random(1), []
    each = rows // SERIES
    values = [rng.randrange(10**7) for _ in range(SERIES)]
    for seq in range(1, batches + 1):
        series = []
        for n in range(SERIES):
            v = []
            for _ in range(each):
                values[n] += rng.randrange(40)
                v.append(values[n] / 1000)
            t0 = first + (seq - 1) * each * step
            place = f"D{n // 9:014d}"
            series.append({
                "place": place, "channel": f"channel.{n % 9}", "kind": "REG", "unit": "kWh",
                "step": step,
                "meter": f"KAM-{n:08}", "occupancy": f"H{n // 9:014d}", "basis": f"K{n // 9}",
                "t0": written(t0), "t": [k * step for k in range(each)], "v": v, "q": "V" * each,
                "d": {str(k): rng.randrange(30) for k in range(each)},
            })  # fmt: skip
        document = {"schema": "gardien/batch/1", "gateway": "GBENCH", "recipient": "r.example",
                    "epoch": "0123456789ab", "seq": seq, "lane": "live", "created": written(START),
                    "clock": "trusted", "privacy": "FR-1", "series": series}  # fmt: skip
        made.append(zstandard.compress(json.dumps(document).encode()))
    return made


def cpu(host: str | None) -> float:
    """CPU seconds of this process, and of a PostgreSQL with its connections."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = usage.ru_utime + usage.ru_stime
    if host is None:
        return seconds
    leader = int((Path(host) / "data/postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
    for pid in (leader, *map(int, children)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds += sum(map(int, fields[11:15])) / TICK
    return seconds


def received(address: str, host: str | None, rows: int, batches: int) -> tuple[float, float]:
    """Rows a CPU second, and median milliseconds of a batch."""
    store = open_store(address)
    made = payloads(rows, batches)
    store.take(opened(made[0]))  # the series are known from then on
    began, times = cpu(host), []
    for payload in made[1:]:
        start = time.perf_counter()
        store.take(opened(payload))
        times.append((time.perf_counter() - start) * 1000)
    rate = rows * (batches - 1) / (cpu(host) - began)
    store.close()
    return rate, median(times)


def limit_sqlite(folder: Path, rows: int, batches: int) -> float:
    """Rows a CPU second of an executemany of ready tuples into the same table."""
    address = str(folder / f"limit-{rows}.db")
    prepare(address)
    store, made = open_store(address), [ready(rows, n) for n in range(batches)]
    began = cpu(None)
    for tuples in made:
        with store.transaction():
            store.many(INSERT, tuples)
    rate = rows * batches / (cpu(None) - began)
    store.close()
    return rate


def limit_postgres(host: str, address: str, rows: int, batches: int) -> float:
    """Rows a CPU second of a COPY of ready lines into a table of the same form."""
    made = []
    for n in range(batches):
        lines = [
            "\t".join(map(str, (series, source, written(t), ver, value, q, delay, "f")))
            for series, source, t, ver, value, q, delay, *_ in ready(rows, n)
        ]
        made.append("\n".join(lines).encode())
    with psycopg.connect(address, autocommit=True, options="-c jit=off") as db:
        db.execute("CREATE TABLE raw (LIKE reading INCLUDING ALL)")
        began = cpu(host)
        for lines in made:
            with db.cursor().copy(
                "COPY raw (series, source, t, ver, value, q, delay, again) FROM STDIN"
            ) as copy:
                copy.write(lines)
        rate = rows * batches / (cpu(host) - began)
        db.execute("DROP TABLE raw")
    return rate


REST = (None, None, None, None, False)


def ready(rows: int, n: int) -> list[tuple]:
    each = rows // SERIES
    return [
        (s + 1, s + 1, START + (n * each + k) * 60, 0, f"{s * 1000 + k}.{k:03}", "V", 12, *REST)
        for s in range(SERIES)
        for k in range(each)
    ]


def bytes_a_row(address: str) -> float:
    store = open_store(address)
    rows = store.execute("SELECT count(*) FROM reading").fetchone()[0]
    if store.folder == "sqlite":
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = Path(address).stat().st_size
    else:
        size = store.execute(
            "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c"
            " JOIN pg_inherits i ON i.inhrelid = c.oid WHERE i.inhparent = 'reading'::regclass"
        ).fetchone()[0]
    store.close()
    return float(size) / rows


HISTORY = {
    "postgresql": """INSERT INTO reading (series, source, t, ver, value, q, delay, again)
        SELECT o.series, o.id, to_timestamp(? + n * 60), 0, n, 'V', 12, false
        FROM generate_series(1, ?) n, source o ON CONFLICT DO NOTHING""",
    "sqlite": """INSERT INTO reading (series, source, t, ver, value, q, delay, again)
        WITH RECURSIVE b (t0, most) AS (SELECT ?, ?),
        c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c, b WHERE n < most)
        SELECT o.series, o.id, t0 + c.n * 60, 0, c.n, 'V', 12, 0 FROM source o, b, c
        WHERE true ON CONFLICT DO NOTHING""",
}  # fmt: skip


def after_withdrawals(address: str, history: int) -> tuple[int, float, float, float]:
    """Rows there; milliseconds of a withdrawal that removes nothing, of one that removes all of a
    dwelling, and of a batch of 500 rows afterwards."""
    store = open_store(address)
    slots = history // SERIES
    first = START - slots * 60
    if store.folder == "postgresql":
        for t in range(first, START, 20 * 86_400):
            store.partition(t)
    with store.transaction():
        store.execute(HISTORY[store.folder], (first, slots))
    store.execute("ANALYZE")
    rows = store.execute("SELECT count(*) FROM reading").fetchone()[0]

    def took(seq: int, **members: object) -> float:
        document = {"schema": "gardien/batch/1", "gateway": "GBENCH", "recipient": "r.example",
                    "epoch": "withdrawals", "seq": seq, "lane": "live", "created": written(START),
                    "clock": "trusted", "privacy": "FR-1", "series": []} | members  # fmt: skip
        batch = opened(zstandard.compress(json.dumps(document).encode()))
        start = time.perf_counter()
        store.take(batch)
        return (time.perf_counter() - start) * 1000

    def retract(n: int, place: int, basis: str) -> dict:
        return {"id": f"R{n}", "place": f"D{place:014d}", "basis": basis, "from": written(0),
                "ver": 9007199254740991, "reason": "withdrawn"}  # fmt: skip

    nothing = median(took(n, retract=[retract(n, n % 55, "gone")]) for n in range(1, WITHDRAWALS))
    dwelling = took(WITHDRAWALS, retract=[retract(WITHDRAWALS, 1, "K1")])
    live = []
    for payload in payloads(500, 20, first=START + 40 * 86_400):
        batch = opened(payload)
        start = time.perf_counter()
        store.take(batch.__class__(**vars(batch) | {"id": batch.id._replace(epoch="later")}))
        live.append((time.perf_counter() - start) * 1000)
    store.close()
    return rows, nothing, dwelling, median(live[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--history", type=int, default=1_000_000, help="rows before the withdrawals"
    )
    history = parser.parse_args().history
    with tempfile.TemporaryDirectory() as name, postgres() as host:
        folder = Path(name)
        server = f"postgresql://{ACCOUNT}@/{ACCOUNT}?host={host}"
        addresses = {"SQLite": (str(folder / "receiver.db"), None), "PostgreSQL": (server, host)}
        heads = ("rows/CPU s", "the limit", "ratio", "ms/batch", "B/row")
        print(f"{'':<12}{'rows':>6}" + "".join(f"{head:>12}" for head in heads))
        for database, (address, at) in addresses.items():
            for rows, batches in ((500, 80), (7_500, 8)):
                emptied(address)
                rate, ms = received(address, at, rows, batches)
                if at:
                    limit = limit_postgres(host, address, rows, batches)
                else:
                    limit = limit_sqlite(folder, rows, batches)
                print(f"{database:<12}{rows:>6}{rate:>12,.0f}{limit:>12,.0f}{rate / limit:>12.2f}"
                      f"{ms:>12.1f}{bytes_a_row(address):>12.0f}")  # fmt: skip
        for database, (address, _) in addresses.items():
            rows, nothing, dwelling, live = after_withdrawals(address, history)
            print(
                f"{database}, {rows:,} rows, {WITHDRAWALS} withdrawals: {nothing:.1f} ms for one"
                f" that removes nothing, {dwelling:.0f} ms for all of a dwelling, {live:.1f} ms"
                " for a batch of 500 rows afterwards"
            )


def emptied(address: str) -> None:
    prepare(address)
    store = open_store(address)
    for table in ("reading", "batch"):
        store.execute(f"DELETE FROM {table}")
    store.execute("VACUUM" if store.folder == "sqlite" else "VACUUM FULL reading")
    store.close()


if __name__ == "__main__":
    main()
