"""The cost of the receiver: rows a CPU second into SQLite and PostgreSQL, bytes a row, and a batch
after withdrawals.

`python -m bench.receiver` measures everything; `--only PART` one part of it:
  speed        rows a CPU second, bytes a row
  gateways     from publish to receipt, with 200 gateways for `--minutes`
  brokers      a burst over mosquitto, one and three nats-servers
  withdrawals  a batch before and after 200 withdrawals, with `--history` rows in PostgreSQL (20
               million take a few minutes) and, without `--only`, in SQLite
The first part also writes the same rows without a receiver: executemany into the table for SQLite,
COPY into a table of the same form for PostgreSQL. A burst over mosquitto and nats-servers shows
what the brokers cost.
CPU seconds are those of this process and of all processes of PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psycopg
import zstandard
from paho.mqtt.client import Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from hil.broker import broker
from hil.nats import nats_servers
from hil.postgres import ACCOUNT, postgres
from hil.process import Child
from receiver.batch import Batch, opened, written
from receiver.databases import open_store, prepare
from receiver.sqlite import INSERT
from receiver.store import Store, month_after, month_of

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
    return seconds + cpu_below(postmaster(host))


def postmaster(host: str) -> int:
    """The process of a PostgreSQL."""
    return int((Path(host) / "data/postmaster.pid").read_text().split()[0])


def cpu_below(leader: int) -> float:
    """CPU seconds of a process and its children."""
    seconds = 0.0
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
            "\t".join(map(str, (series, source, written(t), ver, value, q, delay, "f", 1)))
            for series, source, t, ver, value, q, delay, *_ in ready(rows, n)
        ]
        made.append("\n".join(lines).encode())
    with psycopg.connect(address, autocommit=True, options="-c jit=off") as db:
        db.execute("CREATE TABLE raw (LIKE reading INCLUDING ALL)")
        began = cpu(host)
        for lines in made:
            with db.cursor().copy(
                "COPY raw (series, source, t, ver, value, q, delay, again, change) FROM STDIN"
            ) as copy:
                copy.write(lines)
        rate = rows * batches / (cpu(host) - began)
        db.execute("DROP TABLE raw")
    return rate


REST = (None, None, None, None, False, 1)


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


HISTORY = """INSERT INTO reading (series, source, t, ver, value, q, delay, again, change)
    WITH RECURSIVE b (t0, most) AS (SELECT ?, ?),
    c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c, b WHERE n < most)
    SELECT o.series, o.id, t0 + c.n * 60, 0, c.n, 'V', 12, 0, 1 FROM source o, b, c
    WHERE true ON CONFLICT DO NOTHING"""


def months_of_history(store: Store, first: int, slots: int) -> None:
    """Rows first and their indexes afterwards, which takes a fraction of the time. The indexes are
    denser than those that grow with the rows; batches are stored in another month.
    """
    t, end = first, first + (slots - 1) * 60
    while t <= end:
        until = min(month_after(t), end + 60)
        bounds = [datetime.fromtimestamp(at, UTC) for at in (month_of(t), month_after(t))]
        name = f"reading_{bounds[0]:%Y_%m}"
        store.execute(f"CREATE TABLE {name} (LIKE reading INCLUDING DEFAULTS)")
        store.execute(
            f"INSERT INTO {name} (series, source, t, ver, value, q, delay, again, change)"
            " SELECT o.series, o.id, to_timestamp(n), 0, n, 'V', 12, false, 1"
            " FROM generate_series(?::bigint, ?, 60) n, source o", (t, until - 1))  # fmt: skip
        store.execute(f"ALTER TABLE reading ATTACH PARTITION {name}"
                      f" FOR VALUES FROM ('{bounds[0]}') TO ('{bounds[1]}')")  # fmt: skip
        t = until + (t - until) % 60


Took = tuple[float, float]
"""median milliseconds, and mean milliseconds of CPU: of PostgreSQL it is counted in ticks"""


def around_withdrawals(
    address: str, host: str | None, history: int
) -> tuple[int, Took, Took, Took, Took]:
    """Rows there; what a batch of 500 rows takes before withdrawals, a withdrawal that removes
    nothing, one that removes all of a dwelling, and a batch of 500 rows afterwards."""
    store = open_store(address)
    store.take(opened(payloads(500, 1)[0]))  # the series are known from then on
    slots = history // SERIES
    first = START - slots * 60
    if store.folder == "postgresql":
        months_of_history(store, first, slots)
    else:
        store.execute(HISTORY, (first, slots))
    store.execute("ANALYZE")
    rows = store.execute("SELECT count(*) FROM reading").fetchone()[0]

    def took(batches: list[Batch]) -> Took:
        began, times = cpu(host), []
        for batch in batches:
            start = time.perf_counter()
            store.take(batch)
            times.append((time.perf_counter() - start) * 1000)
        return median(times), (cpu(host) - began) * 1000 / len(times)

    def live(epoch: str, days: int) -> Took:
        made = map(opened, payloads(500, 51, first=START + days * 86_400))
        all_ = [replace(batch, id=batch.id._replace(epoch=epoch)) for batch in made]
        store.take(all_[0])  # makes the month
        return took(all_[1:])

    def retract(n: int, place: int, basis: str) -> Batch:
        word = {"id": f"R{n}", "place": f"D{place:014d}", "basis": basis, "from": written(0),
                "ver": 9007199254740991, "reason": "withdrawn"}  # fmt: skip
        document = {"schema": "gardien/batch/1", "gateway": "GBENCH", "recipient": "r.example",
                    "epoch": "withdrawals", "seq": n, "lane": "live", "created": written(START),
                    "clock": "trusted", "privacy": "FR-1", "retract": [word]}  # fmt: skip
        return opened(zstandard.compress(json.dumps(document).encode()))

    before = live("before", 40)
    nothing = took([retract(n, n % 55, "gone") for n in range(1, WITHDRAWALS)])
    dwelling = took([retract(WITHDRAWALS, 1, "K1")])
    after = live("after", 41)
    store.close()
    return rows, before, nothing, dwelling, after


def document(n: int, seq: int, rows: int = 60) -> dict:
    """A batch of one of many gateways: a slot of 60 series."""
    t = START + seq * 60
    series = [
        {"place": f"D{n:04d}{k // 8:03d}", "channel": f"channel.{k % 8}", "kind": "REG",
         "unit": "kWh", "step": 60, "meter": f"M{k}", "occupancy": f"H{k // 8}",
         "basis": f"K{k // 8}", "t0": written(t), "t": [0], "v": [k + seq / 8], "q": "V"}
        for k in range(rows)
    ]  # fmt: skip
    return {"schema": "gardien/batch/1", "gateway": f"G{n:014d}", "recipient": "r.example",
            "epoch": "0123456789ab", "seq": seq, "lane": "live", "created": written(t),
            "clock": "trusted", "privacy": "FR-1", "series": series}  # fmt: skip


async def herd(address: str, host: str, gateways: int, minutes: int) -> tuple[list[float], float]:
    """Milliseconds from publish to receipt of each batch, in order, and milliseconds of CPU for a
    batch, of receiver, PostgreSQL and broker: gateways that send one a minute each, at a time of
    their own, to two workers over MQTT."""
    run = (sys.executable, "-m", "receiver", "run", "--db", address, "--workers", "2", "--mqtt")
    async with broker() as server, Child((*run, server.url), "ready") as receiver:
        leaders = (postmaster(host), server.pid, receiver.pid)
        sent: dict[tuple[str, int], float] = {}
        times: list[float] = []

        def receipted(_client: Client, _userdata: object, message: MQTTMessage) -> None:
            receipt = json.loads(message.payload)
            key = (receipt["gateway"], receipt["stored"][0][0])
            times.append((time.perf_counter() - sent[key]) * 1000)

        client = Client(CallbackAPIVersion.VERSION2, "herd", protocol=MQTTv5)
        client.on_message = receipted
        client.connect("127.0.0.1", server.port)
        client.loop_start()
        client.subscribe("gardien/+/+/down/receipts", 1)
        plan = sorted(
            (60 * (minute + random.random()), n, minute + 1)
            for n in range(gateways)
            for minute in range(minutes)
        )
        used = sum(map(cpu_below, leaders))
        began = time.monotonic()
        for at, n, seq in plan:
            of = document(n, seq)
            payload = zstandard.compress(json.dumps(of).encode())
            await asyncio.sleep(began + at - time.monotonic())
            sent[of["gateway"], seq] = time.perf_counter()
            client.publish(f"gardien/{of['gateway']}/r.example/up/live", payload, 1)
        async with asyncio.timeout(60):
            while len(times) < len(plan):
                await asyncio.sleep(0.1)
        used = sum(map(cpu_below, leaders)) - used
        client.disconnect()
        client.loop_stop()
    return sorted(times), used * 1000 / len(plan)


async def burst(address: str, options: tuple[str, ...], port: int, first: int) -> tuple:
    """Batches a second from the first publish to the last PUBACK, and to the last receipt: 50
    gateways on one connection that send 20 each as fast as the broker and two workers take them."""
    run = (sys.executable, "-m", "receiver", "run", "--db", address, "--workers", "2", *options)
    made = [document(n, first + seq) for seq in range(20) for n in range(50)]
    payloads = [zstandard.compress(json.dumps(of).encode()) for of in made]
    async with Child(run, "ready"):
        taken: list[int] = []
        receipts: set[tuple[str, int]] = set()

        def receipted(_client: Client, _userdata: object, message: MQTTMessage) -> None:
            receipt = json.loads(message.payload)
            receipts.update((receipt["gateway"], seq) for seq, _ in receipt["stored"])

        client = Client(CallbackAPIVersion.VERSION2, "burst", protocol=MQTTv311)
        client.max_inflight_messages_set(100)
        client.on_message = receipted
        client.on_publish = lambda _c, _u, mid, _r, _p: taken.append(mid)
        client.connect("127.0.0.1", port)
        client.loop_start()
        client.subscribe("gardien/+/+/down/receipts", 1)
        await asyncio.sleep(1)
        began, rates = time.perf_counter(), []
        for of, payload in zip(made, payloads, strict=True):
            client.publish(f"gardien/{of['gateway']}/r.example/up/live", payload, 1)
        for seen in (taken, receipts):
            while len(seen) < len(made):
                await asyncio.sleep(0.005)
            rates.append(len(made) / (time.perf_counter() - began))
        client.disconnect()
        client.loop_stop()
    return tuple(rates)


async def brokers(address: str) -> None:
    """The same burst over mosquitto, one nats-server, and a cluster of three."""
    async with broker() as server:
        rates = {"mosquitto": await burst(address, ("--mqtt", server.url), server.port, 10_000)}
    for servers in (1, 3):
        async with nats_servers(servers) as cluster:
            options = ("--nats", cluster.nats_urls, "--mqtt", cluster.urls)
            rates[f"{servers} nats"] = await burst(
                address, options, cluster[0].port, 20_000 * servers
            )
    for name, (taken, stored) in rates.items():
        print(f"PostgreSQL, {name:<10}{taken:>8,.0f} PUBACK/s {taken / rates['mosquitto'][0]:5.2f}"
              f"{stored:>8,.0f} receipts/s {stored / rates['mosquitto'][1]:5.2f}")  # fmt: skip


PARTS = ("speed", "gateways", "brokers", "withdrawals")
FLEET = 2_314
"""gateways of the metropolis: 231,377 dwellings, a hundred in each building"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, help="measure this alone")
    parser.add_argument(
        "--history", type=int, default=1_000_000, help="rows before the withdrawals"
    )
    parser.add_argument("--minutes", type=int, default=1, help="of 200 gateways over MQTT")
    chosen = parser.parse_args()
    parts = {chosen.only} if chosen.only else set(PARTS)
    with tempfile.TemporaryDirectory() as name, postgres() as host:
        folder = Path(name)
        server = f"postgresql://{ACCOUNT}@/{ACCOUNT}?host={host}"
        addresses = {"SQLite": (str(folder / "receiver.db"), None), "PostgreSQL": (server, host)}
        for address, _ in addresses.values():
            prepare(address)
        if "speed" in parts:
            speed(folder, addresses)
        if "gateways" in parts:
            times, used = asyncio.run(herd(server, host, 200, chosen.minutes))
            print(f"PostgreSQL, 200 gateways, {len(times)} batches of 60 rows: from publish to"
                  f" receipt {median(times):.0f} ms, p99 {times[int(len(times) * 0.99)]:.0f} ms;"
                  f" {used:.1f} ms of CPU a batch, so {FLEET:,} gateways need"
                  f" {used * FLEET / 60 / 1000:.2f} of a core")  # fmt: skip
        if "brokers" in parts:
            asyncio.run(brokers(server))
        if "withdrawals" in parts:
            for database in addresses if chosen.only is None else ("PostgreSQL",):
                withdrawals(database, *addresses[database], chosen.history)


def speed(folder: Path, addresses: dict[str, tuple[str, str | None]]) -> None:
    """Print rows a CPU second beside the limit, and bytes a row."""
    heads = ("rows/CPU s", "the limit", "ratio", "ms/batch", "B/row")
    print(f"{'':<12}{'rows':>6}" + "".join(f"{head:>12}" for head in heads))
    for database, (address, at) in addresses.items():
        for rows, batches in ((500, 80), (7_500, 8)):
            emptied(address)
            rate, ms = received(address, at, rows, batches)
            if at:
                limit = limit_postgres(at, address, rows, batches)
            else:
                limit = limit_sqlite(folder, rows, batches)
            print(f"{database:<12}{rows:>6}{rate:>12,.0f}{limit:>12,.0f}{rate / limit:>12.2f}"
                  f"{ms:>12.1f}{bytes_a_row(address):>12.0f}")  # fmt: skip


def withdrawals(database: str, address: str, host: str | None, history: int) -> None:
    """Print what withdrawals cost, and batches around them."""
    rows, *of = around_withdrawals(address, host, history)
    print(f"{database}, {rows:,} rows, {WITHDRAWALS} withdrawals; median ms, and ms of CPU:")
    names = ("a batch of 500 rows before", "a withdrawal that removes nothing",
             "one that removes all of a dwelling", "a batch of 500 rows afterwards")  # fmt: skip
    for name, (wall, used) in zip(names, of, strict=True):
        print(f"  {name:<36}{wall:>8.1f}{used:>8.1f}")


def emptied(address: str) -> None:
    store = open_store(address)
    for table in ("reading", "batch"):
        store.execute(f"DELETE FROM {table}")
    store.execute("VACUUM" if store.folder == "sqlite" else "VACUUM FULL reading")
    store.close()


if __name__ == "__main__":
    main()
