"""One suite for both databases: a batch is stored once, what was retracted is gone for ever, and
the receipt states it. Guards rules T3, T5, T6, T19, T20, T21.
"""

import random
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest

from hil.platform.ledger import opened as ledger_at
from hil.platform.unpack import unpack
from receiver.batch import Rejected, opened
from receiver.databases import is_postgres, open_store, prepare
from receiver.intake import answer, attempted
from tests.contract.receiver.batches import (
    GATEWAY,
    RECIPIENT,
    batch,
    document,
    moment,
    packed,
    retraction,
    series,
    sha256,
)

START = 1_767_225_600 + 31 * 86_400 - 20 * 900
"""so that slots are before and after the beginning of a month"""
PLACES = ("D1", "D2", "D3")
LEAST = (GATEWAY, RECIPIENT)


def slots_of(store):
    """Each slot as (place, channel, kind, t, ver): value and quality."""
    rows = store.execute(
        "SELECT s.place, s.channel, s.kind, SEC(r.t), r.ver, r.last, s.step, r.value, r.q"
        " FROM reading r JOIN series s ON s.id = r.series"
    ).fetchall()
    held = {}
    for *key, t, ver, last, step, value, q in rows:
        for slot in range(t, (last or t) + 1, step):
            at = (*key, slot, ver)
            assert at not in held
            held[at] = (None if value is None else Decimal(value), q)
    return held


def slots_of_ledger(ledger):
    rows = ledger._db.execute(
        "SELECT place, channel, kind, t, ver, span, step, v, q FROM row"
    ).fetchall()
    return {
        (*key, slot, max(ver, 0)): (None if v is None else Decimal(v), q)
        for *key, t, ver, span, step, v, q in rows
        for slot in range(t, t + span * step, step)
    }


def count(store, what):
    rows = store.execute("SELECT n FROM tally WHERE what = ?", (what,)).fetchall()
    return sum(n for (n,) in rows)


def random_series(rng):
    place, n = rng.choice(PLACES), rng.randint(1, 8)
    first = rng.randrange(40)
    if rng.random() < 0.3:
        of = series(place, [START + first * 900], [None])
        of |= {"why": {"0": "silent"}, "span": {"0": rng.randint(2, 30)}}
    else:
        values = [None if rng.random() < 0.2 else rng.randrange(10**6) / 1000 for _ in range(n)]
        of = series(place, [START + (first + k) * 900 for k in range(n)], values)
    of |= {"kind": rng.choice(("REG", "INT")), "basis": rng.choice(("K1", "K2"))}
    of |= {"again": True} if rng.random() < 0.5 else {}
    return of | ({"ver": {"0": rng.choice((1000, 2000))}} if rng.random() < 0.3 else {})


def random_retraction(rng, seq):
    first = rng.randrange(60)
    more = {
        "from": moment(START + first * 900),
        "ver": rng.choice((0, 1000, 1500, 9007199254740991)),
    }
    more |= {"to": moment(START + (first + rng.randint(1, 30)) * 900)} if rng.random() < 0.7 else {}
    more |= {"basis": "K1"} if rng.random() < 0.4 else {}
    return retraction(f"R{seq}", rng.choice(PLACES), **more)


def random_documents(rng, batches):
    for seq in range(1, batches + 1):
        if rng.random() < 0.25:
            yield document(seq, retract=[random_retraction(rng, seq)])
        else:
            yield document(seq, series=[random_series(rng) for _ in range(rng.randint(1, 3))])


def test_what_is_stored_is_what_an_independent_platform_stores(store, tmp_path):
    for seed in range(4):
        rng = random.Random(seed)
        epoch = f"{seed:012x}"
        documents = [
            of | {"epoch": epoch, "gateway": f"G{seed}"} for of in random_documents(rng, 40)
        ]
        arrivals = documents + rng.choices(documents, k=10)
        rng.shuffle(arrivals)
        with ledger_at(tmp_path / f"{seed}.db") as ledger:
            for of in arrivals:
                receipt = answer(store, packed(of), (f"G{seed}", RECIPIENT))
                parcel = unpack(packed(of))
                held = ledger.store(parcel, 1)
                assert receipt["stored"] == ledger.word(parcel.id, held)["stored"]
                theirs = dict(map(tuple, ledger.word(parcel.id, held).get("retracted", [])))
                assert dict(map(tuple, receipt.get("retracted", []))).keys() == theirs.keys()
            assert slots_of(store) == slots_of_ledger(ledger)
        assert slots_of(store)
        store.execute("DELETE FROM reading")


def test_a_copy_and_other_bytes_are_answered_with_what_is_stored(store):
    first = document(1, series=[series("D1", [START], [1.5])])
    other = document(1, series=[series("D1", [START], [2.5])])
    receipts = [answer(store, packed(of), LEAST) for of in (first, first, other)]
    assert receipts[0] == receipts[1] == receipts[2]
    assert receipts[0]["stored"] == [[1, sha256(first)]]
    assert [value for value, _ in slots_of(store).values()] == [Decimal("1.5")]
    assert (count(store, "copies"), count(store, "other-bytes")) == (1, 1)


def test_a_number_keeps_its_digits(store):
    text = packed(document(1, series=[series("D1", [START, START + 900], [1.5, 7])]))
    raw = opened(text)
    assert [row.value for rows in raw.rows.values() for row in rows] == ["1.5", "7"]
    long = document(2, series=[series("D1", [START + 1800], [0])])
    import json

    import zstandard

    body = json.dumps(long).replace('"v": [0]', '"v": [123456789012.12345678901234567890]')
    assert answer(store, zstandard.compress(body.encode()), LEAST)["stored"]
    value = store.execute("SELECT value FROM reading WHERE t = AT(?)", (START + 1800,)).fetchone()[
        0
    ]
    assert str(value) == "123456789012.12345678901234567890"


def test_a_retraction_counts_each_slot_and_is_named_by_receipts_of_what_it_refuses(store):
    store.take(
        batch(1, series=[series("D1", [START, START + 900], [1, 2]), series("D2", [START], [3])])
    )
    receipt = store.take(batch(2, retract=[retraction("R1", "D1")]))
    assert receipt["retracted"] == [["R1", 2]]
    late = batch(3, series=[series("D1", [START + 1800], [4]), series("D2", [START + 900], [5])])
    assert store.take(late)["retracted"] == store.take(late)["retracted"] == [["R1", 2]]
    assert "retracted" not in store.take(batch(4, series=[series("D2", [START + 1800], [6])]))
    assert {place for place, *_ in slots_of(store)} == {"D2"}


def test_a_span_over_a_month_loses_only_what_is_retracted(store):
    missing = {"why": {"0": "agent"}, "span": {"0": 40}}
    store.take(batch(1, series=[series("D1", [START], [None], **missing)]))
    part = {"from": moment(START + 5 * 900), "to": moment(START + 30 * 900)}
    receipt = store.take(batch(2, retract=[retraction("R1", "D1", **part)]))
    assert receipt["retracted"] == [["R1", 25]]
    assert sorted(t for _, _, _, t, _ in slots_of(store)) == [
        START + n * 900 for n in (*range(5), *range(30, 40))
    ]


def test_of_two_spans_the_slot_that_both_state_is_stored_once_on_either_side_of_a_month(store):
    missing = {"why": {"0": "agent"}, "span": {"0": 5}}
    for seq, first in ((1, 15), (2, 19), (3, 20)):  # the month begins at slot 20
        of = series("D1", [START + first * 900], [None], **missing)
        store.take(batch(seq, series=[of]))
    assert sorted(t for _, _, _, t, _ in slots_of(store)) == [
        START + n * 900 for n in range(15, 25)
    ]
    assert count(store, "rows-twice") == 1 + 4


def test_rows_that_are_there_cost_a_batch_nothing(database):
    """Neither its rows nor its spans nor a retraction of others read the month that they are in,
    of which the database knows nothing yet.
    """
    month, places = START + 400 * 86_400, [f"D{n}" for n in range(20)]

    def work(seq):
        slots = [month + 900 * (1_000 + seq)]
        missing = {"why": {"0": "agent"}, "span": {"0": 3}, "channel": "heat"}
        ours = [series(place, slots, [1]) for place in places]
        spans = [series(place, [slots[0] + 9_000 * seq], [None], **missing) for place in places]
        other = retraction(f"R{seq}", "D1", basis="another")
        return lambda: store.take(batch(seq, series=ours + spans, retract=[other]))

    fill = batch(1, series=[
        series(place, [month + 900 * n for n in range(200)], [1] * 200, channel=channel)
        for place in places for channel in ("elec.imp", "heat")])  # fmt: skip
    store = open_store(database)
    work(2)()
    before = [reads(store, work(seq)) for seq in (3, 4)]
    store.take(fill)
    after = [reads(store, work(seq)) for seq in (5, 6)]
    store.close()
    assert min(after) < 1.5 * max(before), (before, after)


def reads(store, work):
    """What a database does for it: rows of the key and of tables that it looks at, or steps."""
    steps = []
    if store.folder == "sqlite":
        store._db.set_progress_handler(lambda: steps.append(1), 10)
        work()
        store._db.set_progress_handler(None, 10)
        return len(steps)
    store._db.execute("LOAD 'auto_explain'")
    for option in ("log_min_duration = 0", "log_analyze = on", "log_timing = off"):
        store._db.execute(f"SET auto_explain.{option}")
    store._db.execute("SET client_min_messages = log")

    def handler(told):
        looked = re.findall(r"(?:actual rows=|Filter: )(\d+)", told.message_primary)
        steps.extend(map(int, looked))

    store._db.add_notice_handler(handler)
    work()
    store._db.remove_notice_handler(handler)
    return sum(steps)


def test_one_gateway_neither_retracts_nor_fills_what_is_of_another(store):
    store.take(batch(1, series=[series("D1", [START], [1])]))
    store.take(batch(1, gateway="GOTHER", retract=[retraction("R1", "D1")]))
    store.take(batch(2, gateway="GOTHER", series=[series("D1", [START], [9])]))
    rows = store.execute("SELECT gateway, value FROM readings").fetchall()
    assert [(gateway, float(value)) for gateway, value in rows] == [(GATEWAY, 1.0)]


def test_two_rows_for_one_slot_neither_marked_again_are_counted(store):
    store.take(batch(1, series=[series("D1", [START, START + 900], [1, 2])]))
    store.take(batch(2, series=[series("D1", [START], [3], again=True)]))
    assert count(store, "rows-twice") == 0
    store.take(batch(3, series=[series("D1", [START, START + 1800], [4, 5])]))
    assert count(store, "rows-twice") == 1
    assert sorted(value for value, _ in slots_of(store).values()) == [1, 2, 5]


def test_of_two_statements_on_one_item_that_of_the_later_batch_stays(store):
    def place(seq, label, epoch=None, **more):
        item = {"id": "D1", "type": "dwelling", "label": label}
        members = {"directory": {"places": [item], **more}}
        store.take(batch(seq, **({"epoch": epoch} if epoch else {}), **members))
        return store.execute("SELECT label FROM place").fetchone()[0]

    assert place(2, "second") == "second"
    assert place(1, "first") == "second"
    assert place(1, "later", "bbbbbbbbbbbb", before=["0123456789ab", 9]) == "later"
    assert place(9, "late of the old epoch") == "later"
    assert place(1, "oldest", "aaaaaaaaaaaa") == "oldest"  # of nothing is known that it is older


def test_a_failed_batch_leaves_nothing_and_the_store_goes_on(store):
    good = batch(1, series=[series("D1", [START], [1])])
    with pytest.raises(AttributeError):  # after its rows
        store.take(replace(good, directory={"places": [None]}))
    assert store.take(batch(1, series=[series("D2", [START], [2])]))["stored"]
    assert store.take(batch(2, series=[series("D1", [START], [1])]))["stored"]
    assert sorted(place for place, *_ in slots_of(store)) == ["D1", "D2"]


@pytest.mark.parametrize(
    "spoiled",
    [
        {"place": "D\0"},
        {"kind": "SUM"},
        {"q": "X"},
        {"v": ["1"]},
        {"v": [True]},
        {"t": [0, 0]},
        {"t0": "2099-01-01T00:00:00Z"},
        {"t0": "1999-01-01T00:00:00Z"},
        {"step": 2**40},
        {"d": {"0": 2**40}},
        {"ver": {"7": 1}},
        {"span": {"0": 3}},
        {"unit": "\ud800"},
    ],
)
def test_what_the_database_could_not_store_is_rejected_and_harms_nothing(store, spoiled):
    of = document(1, series=[series("D1", [START], [1]) | spoiled])
    receipt = answer(store, packed(of), LEAST)
    assert receipt["rejected"][0][:2] == [1, sha256(of)]
    assert store.take(batch(1, series=[series("D1", [START], [1])]))["stored"]


@pytest.mark.parametrize(
    "payload", [b"", b"no zstd", packed([]), packed({"schema": 1}), packed({})]
)
def test_bytes_without_id_are_counted_and_not_answered(store, payload):
    assert answer(store, payload, LEAST) is None
    assert count(store, "unreadable") == 1


def test_a_frame_that_opens_to_a_terabyte_is_refused_by_its_head():
    frame = bytearray(packed(document(1)))
    bomb = frame[:4] + bytes([0b11100000]) + (1 << 40).to_bytes(8, "little") + frame[6:]
    with pytest.raises(Rejected, match=r"too large|not zstd"):
        opened(bytes(bomb))


def test_many_connections_store_each_batch_once(database):
    batches = [
        batch(seq, series=[series("D1", [START + seq * 900], [seq])]) for seq in range(1, 21)
    ]

    def worker(n):
        mine = batches * 2
        random.Random(n).shuffle(mine)
        own = open_store(database)
        for one in mine:
            assert own.take(one)["stored"] == [[one.id.seq, one.sha256]]
        own.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(worker, range(4)))
    store = open_store(database)
    assert len(slots_of(store)) == 20
    assert count(store, "copies") == 4 * 40 - 20
    store.close()


def test_a_backup_made_later_replaces_another_unless_its_revision_is_lower(store):
    keep = store.keep_building
    for made, revision, content in (
        ("2026-01-02", 5, b"b"),
        ("2026-01-01", 4, b"a"),
        ("2026-01-03", 6, b"c"),
    ):
        assert keep("G1", "r", made, revision, content)["gateway"] == "G1"
    assert [bytes(row[0]) for row in store.execute("SELECT content FROM building")] == [b"c"]
    keep("G1", "r", "2026-01-04", 3, b"restored")
    assert len(store.execute("SELECT 1 FROM building").fetchall()) == 2


def test_an_object_waits_until_its_outcome_or_its_end(store):
    import base64
    import json

    def part(of):
        return base64.urlsafe_b64encode(json.dumps(of).encode()).decode().rstrip("=")

    order = f"{part({'typ': 'order+jwt'})}.{part({'jti': 'j1', 'exp': 2_000})}.x"
    asked = f"{part({'typ': 'request+jwt'})}.{part({'jti': 'j2', 'exp': 9_000})}.x\n"
    first, second = (
        store.add_object("G1", RECIPIENT, order),
        store.add_object("G1", RECIPIENT, asked),
    )
    assert [(one.n, one.typ) for one in store.unsent(1_000)] == [
        (first, "order+jwt"),
        (second, "request+jwt"),
    ]
    store.sent(first, 1_000)
    store.sent(second, 1_000)
    assert store.unsent(1_300) == []
    assert [one.n for one in store.unsent(1_900)] == [first, second]
    assert [one.n for one in store.unsent(2_100)] == [second]
    assert [one.body for one in store.objects("G1", first, 1_000)] == [asked.strip()]
    outcome = {"id": "o1", "state": "ACCEPTED", "at": "2026-01-01T00:00:00Z", "jti": "j2"}
    store.take(batch(1, gateway="G1", directory={"outcomes": [outcome]}))
    assert store.unsent(2_100) == []


def test_an_unexpected_error_is_counted_and_holds_up_nobody(store, capsys):
    class Fails(Exception):
        pass

    def fails(_payload):
        raise Fails("once")

    assert attempted(store, packed(document(1)), LEAST, fails) is None
    assert "Fails: once" in capsys.readouterr().err
    assert count(store, "failed") == 1
    assert attempted(store, packed(document(1)), LEAST)["stored"]


def test_after_a_wrong_clock_the_newest_slot_is_that_of_what_is_left(store):
    future = START + 10 * 365 * 86_400
    store.take(batch(1, series=[series("D1", [START], [1]), series("D2", [future], [2])]))
    assert store.execute("SELECT last_slot FROM sender").fetchone()[0] == future
    later = {"from": moment(START + 900), "reason": "clock"}
    store.take(batch(2, retract=[retraction("R1", "D2", **later)]))
    assert store.execute("SELECT last_slot FROM sender").fetchone()[0] == START


def test_tables_and_views_are_made_once_by_however_many_start(database):
    at_once = 3 if is_postgres(database) else 1  # of SQLite the receivers are on one machine
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda _: prepare(database), range(3)))
    opened_store = open_store(database)
    assert opened_store.execute("SELECT * FROM daily").fetchall() == []
    opened_store.close()
