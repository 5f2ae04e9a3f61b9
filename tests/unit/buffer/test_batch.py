import csv
import io
import json
import random
from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest
import zstandard
from hypothesis import given

from agent.buffer.batch import Stamp, pack, read, unpack, write, write_void
from agent.core.model import BatchId, Lane, Reading, Series, Void
from agent.registry.place import mint
from agent.uplink.files.container import table
from tests.unit.buffer.rows import NOON, exact, reading, series, some_rows

DOCS = Path(__file__).parents[3] / "docs"
ID = BatchId("G7Q2MXW4T", "energie.metropole.example", "5f1c09a3b7e2", 42)
LABEL = Stamp(ID, Lane.LIVE, NOON + 90.7, "trusted", "FR-1")


def opened(payload):
    return json.loads(zstandard.ZstdDecompressor().decompress(payload), parse_float=Decimal)


def published():
    schema = json.loads((DOCS / "batch.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def by_series(rows):
    groups = {}
    for row in rows:
        groups.setdefault((row.series, row.again), []).append(row)
    return {key: exact(of) for key, of in groups.items()}


@given(some_rows)
def test_a_batch_gives_back_the_rows_of_each_series_digit_for_digit_and_in_order(rows):
    assert by_series(read(write(LABEL, rows))) == by_series(rows)


@given(some_rows)
def test_every_batch_is_as_published(rows):
    """Rule R9."""
    text = zstandard.ZstdDecompressor().decompress(write(LABEL, rows))
    published().validate(json.loads(text))


def test_the_published_example_is_as_published_and_is_read():
    """Rule R9."""
    text = (DOCS / "batch.example.json").read_text()
    published().validate(json.loads(text))
    rows = read(zstandard.compress(text.encode()))
    assert [str(row.value) for row in rows[:4]] == ["19.5", "19.50", "19.6", "1234.567"]
    assert rows[4].span == 6
    assert rows[6].again


def test_the_published_directory_is_as_published_and_says_whose_the_published_rows_are():
    told = json.loads((DOCS / "directory.example.json").read_text())
    published().validate(told)
    rows = json.loads((DOCS / "batch.example.json").read_text())["series"]
    known = {name: {one.get("id") for one in items} for name, items in told["directory"].items()}
    for one in rows:
        assert one["place"] in known["places"]
        assert one["basis"] in known["bases"]
        assert one.get("occupancy", "H3K9Q0XJ5T7WZ2M") in known["occupancies"]


@pytest.mark.parametrize("member", ["epoch", "series", "clock"])
def test_the_published_schema_misses_a_member_that_is_not_there(member):
    example = json.loads((DOCS / "batch.example.json").read_text())
    del example[member]
    with pytest.raises(jsonschema.ValidationError):
        published().validate(example)


def test_a_batch_says_exactly_this():
    rows = [
        reading(0, 2, "1234.50", delay=43),
        reading(1, 0, None, why="silent", span=6),
        reading(0, 0, "1234.5"),
        reading(0, 1, "7", again=True, ver=NOON),
    ]
    document = opened(write(LABEL, rows))
    members = document.pop("series")
    assert document == {
        "schema": "gardien/batch/1",
        "gateway": "G7Q2MXW4T",
        "recipient": "energie.metropole.example",
        "epoch": "5f1c09a3b7e2",
        "seq": 42,
        "lane": "live",
        "created": "2023-11-14T22:01:30Z",
        "clock": "trusted",
        "policy": "MDP-1",
        "privacy": "FR-1",
    }
    first = series(0)._asdict() | {"t0": "2023-11-14T22:00:00Z", "t": [120, 0], "q": "VV"}
    assert members[0] == first | {"d": {"0": 43}, "v": [Decimal("1234.50"), Decimal("1234.5")]}
    assert members[1]["again"] is True
    assert members[1]["ver"] == {"0": NOON}
    assert members[2] == series(1)._asdict() | {
        "t0": "2023-11-14T22:00:00Z",
        "t": [0],
        "q": "M",
        "why": {"0": "silent"},
        "span": {"0": 6},
        "v": [None],
    }


def test_a_meter_that_is_not_there_is_no_member():
    row = reading()
    bare = row.series._replace(meter=None, occupancy=None, basis="common")
    members = opened(write(LABEL, [type(row)(bare, row.t, row.value, "V")]))["series"][0]
    assert "meter" not in members
    assert "occupancy" not in members


@pytest.mark.parametrize(
    "payload", [b"", b"{}", zstandard.compress(b"{}"), zstandard.compress(b"[")]
)
def test_what_is_no_batch_is_a_value_error(payload):
    with pytest.raises(ValueError):
        read(payload)


def test_a_sum_says_of_how_many_it_is_in_block_batch_and_table():
    rest = Series("B6ASQZ1Y2KSAA3Y", "elec.imp", "INT", "kWh", 1800, None, None, "rest")
    rows = [
        Reading(rest, NOON, Decimal("6.3125"), "K", n=27, method="SUM"),
        Reading(rest, NOON + 1800, None, "W", why="few"),
    ]
    assert unpack(pack(rows, {rest: 1}), {1: rest}) == rows
    payload = write(LABEL, rows)
    assert read(payload) == rows
    document = opened(payload)
    published().validate(json.loads(zstandard.ZstdDecompressor().decompress(payload)))
    lines = io.StringIO(table(document).decode())
    first, second = csv.DictReader(lines, delimiter=";")
    assert (first["n"], first["method"], first["value"]) == ("27", "SUM", "6.3125")
    assert (second["n"], second["method"], second["why"]) == ("", "", "few")


def test_a_minute_of_four_series_a_dwelling_takes_twenty_bytes_a_row():
    """With ids as random as real ones; what a line by the megabyte is paid for."""
    dice = random.Random(1)
    rows = [
        Reading(
            Series(home, channel, "REG", "kWh", 60, meter, people, basis),
            NOON,
            Decimal(dice.randrange(10**7)).scaleb(-3),
            "V",
            dice.choice((0, 0, 0, 1, 2)),
        )
        for home, meter, people, basis in (
            (mint("D"), f"EAS-{dice.randrange(10**8):08d}", mint("H"), dice.randbytes(8).hex())
            for _ in range(60)
        )
        for channel in ("elec.imp", "heat", "cw", "dhw")
    ]
    assert len(write(LABEL, rows)) < 20 * len(rows)


def test_a_void_made_again_after_an_update_has_the_hash_that_was_receipted():
    """Voids are made anew, for a resend or another transport: how batches are compressed may
    change, how they are not."""
    text = (
        '{"schema":"gardien/batch/1","gateway":"G7Q2MXW4T","recipient":"energie.metropole.example",'
        '"epoch":"5f1c09a3b7e2","seq":42,"void":"withdrawn"}'
    )
    assert write_void(ID, Void.WITHDRAWN) == zstandard.ZstdCompressor(level=9).compress(
        text.encode()
    )
