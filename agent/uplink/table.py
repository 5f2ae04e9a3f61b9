"""A batch as CSV, for spreadsheets and simple information systems. Pure.

UTF-8, `;`, one header row, LF; sorted by place, channel and slot; numbers with the meter's own
digits. A cell that a spreadsheet would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agent.core.channels import channels
from agent.trust.strict import LARGEST_EXPONENT

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = (
    "batch", "row", "place", "channel", "obis", "kind", "t_start", "t_end", "value", "unit", "q",
    "flags", "method", "ver", "why", "meter", "n", "basis", "occupancy", "read_at",
    "policy", "privacy", "clock", "audit",
    "step", "span", "again", "lane", "created",
)  # fmt: skip
"""the columns of every file, in order; those after `audit` serve the unique key and spans"""
SPARSE = ("flags", "method", "ver", "why", "n", "span")
"""columns that a series states sparsely, by row index"""
OVER = {"INT", "AVG"}
"""kinds whose value is for the interval (t − step, t]"""
FORMULA = "=+-@\t\r'"
"""a text that begins with one of these gets an apostrophe"""


def table(document: dict[str, Any]) -> bytes:
    """The rows of a batch as CSV; numbers in `document` are strings or Decimals, never floats."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\n")
    writer.writerow(COLUMNS)
    head = _head(document)
    rows = [row for series in document["series"] for row in _rows(series)]
    rows.sort(key=lambda row: (row["place"], row["channel"], row["t_end"]))
    for number, row in enumerate(rows, 1):
        cells = head | row | {"row": str(number)}
        writer.writerow([cells.get(column, "") for column in COLUMNS])
    return out.getvalue().encode()


def _head(document: dict[str, Any]) -> dict[str, str]:
    ids = ("gateway", "recipient", "epoch", "seq")
    names = ("policy", "privacy", "clock", "audit", "lane", "created")
    batch = "/".join(str(document[name]) for name in ids)
    return {"batch": batch} | {name: _text(document.get(name)) for name in names}


def _rows(series: dict[str, Any]) -> Iterator[dict[str, str]]:
    names = ("place", "channel", "kind", "unit", "meter", "occupancy", "basis")
    shared = {name: _text(series.get(name)) for name in names}
    # `gardien batch open` may show a batch of another version, with channels that this one does not
    # know
    known = channels().get(series["channel"])
    step = int(series["step"])
    start = int(dt.datetime.fromisoformat(series["t0"]).timestamp())
    shared |= {
        "obis": (known.obis or "") if known else "",
        "step": str(step),
        "again": "1" if series.get("again") else "",
    }
    sparse = {name: series[name] for name in SPARSE if name in series}
    delays, over = series.get("d", {}), shared["kind"] in OVER
    columns = zip(series["t"], series["v"], series["q"], strict=True)
    for index, (t, value, quality) in enumerate(columns):
        end, at = start + int(t), str(index)
        row = shared | {"t_end": _stamp(end), "q": quality}
        if over:
            row["t_start"] = _stamp(end - step)
        if value is not None:
            row["value"] = plain(value)
            row["read_at"] = _stamp(end + int(delays.get(at, 0)))
        for name, by_index in sparse.items():
            row[name] = _text(by_index.get(at))
        yield row


def plain(value: Decimal | str) -> str:
    """A number without exponent, with all digits. Raises ValueError if it has too many."""
    text = str(value)
    if "E" not in text.upper():
        return text
    number = Decimal(text)
    # 1E999999999 would become a gigabyte of zeros
    if abs(number.adjusted()) > LARGEST_EXPONENT:
        raise ValueError(f"the exponent of {text[:40]} is larger than {LARGEST_EXPONENT}")
    return format(number, "f")


def _text(name: object) -> str:
    """A cell that spreadsheets do not take for a formula."""
    text = "" if name is None else str(name)
    return f"'{text}" if text.startswith(tuple(FORMULA)) else text


@lru_cache(maxsize=10_000)
def _stamp(second: int) -> str:
    return f"{dt.datetime.fromtimestamp(second, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
