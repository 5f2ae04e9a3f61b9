"""What docs/platform.md prints for a team that has never heard of us does what it says."""

import asyncio
import hashlib
import re
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import zstandard

from agent.buffer.spool import Spool
from agent.model import Retraction
from agent.uplink.base import Station
from hil.broker import broker
from hil.ca import CA
from hil.platform.ledger import opened as ledger_at
from hil.platform.unpack import unpack
from tests.contract.buffer.conftest import HEAD, KEY
from tests.contract.buffer.far import receipt_for, seal_all
from tests.contract.uplink.house import GATEWAY, RECIPIENT, delivering, house
from tests.contract.uplink.test_tls import secured
from tests.unit.buffer.rows import poll, reading, series

PAGE = (Path(__file__).parents[3] / "docs/platform.md").read_text(encoding="utf-8")
NOW = 1_800_000_000.0


def printed(language: str, about: str) -> str:
    """The block of code in which these words stand."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (found,) = (text for text in blocks if about in text)
    return found


class Platform:
    """Somebody who has typed in the SQL as it is printed."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        code = printed("sql", "CREATE TABLE batch").split(";")
        *tables, begin, self._batch, self._row, self._retraction, self._erase, end, self._held = (
            one.strip() for one in code if one.strip()
        )
        assert (begin, end) == ("BEGIN", "COMMIT")
        db.executescript(";".join(tables))

    def take(self, payload: bytes) -> str:
        """Store a batch as it is told there; what the receipt names."""
        parcel = unpack(payload)
        words = parcel.id._asdict() | {"sha256": hashlib.sha256(payload).hexdigest()}
        with self._db:
            if self._db.execute(self._batch, words).rowcount:
                for row in parcel.rows:
                    self._keep(row._asdict() | words)
                for one in parcel.retract:
                    told = one._asdict() | words
                    self._db.execute(
                        self._retraction,
                        told | {"since": _at(one.since), "until": one.until and _at(one.until)},
                    )
                self._db.execute(self._erase)
        (held,) = self._db.execute(self._held, words).fetchone()
        return str(held)

    def _keep(self, row: dict) -> None:
        for n in range(row["span"]):
            t = _at(row["t"] + n * row["step"])
            told = row | {"t": t, "ver": row["ver"] or 0, "value": row["v"]}
            self._db.execute(self._row, told)

    def rows(self) -> set:
        found = self._db.execute("SELECT place, t, ver, value, basis FROM reading")
        return {(*one[:3], _digits(one[3]), one[4]) for one in found}


def _at(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _digits(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def taken(number: int, **other: object) -> Retraction:
    """Everything of one dwelling's people."""
    one = series(number)
    words = {"id": f"R{number}", "recipient": HEAD.recipient, "place": one.place, "channel": None,
             "occupancy": one.occupancy, "basis": one.basis, "meter": None, "since": 0,
             "until": None, "ver": int(NOW), "reason": "withdrawn"}  # fmt: skip
    return Retraction(**words | other)  # type: ignore[arg-type]


def test_the_printed_sql_holds_each_row_once_and_nothing_that_was_taken_back(tmp_path: Path):
    """Batches, other bytes under an id and the rows sealed anew for it, voids, retractions; then a
    copy of each, the last one first. The pretend platform must hold the same."""
    sent: list[bytes] = []
    with (
        Spool.open(tmp_path / "spool.db", KEY, HEAD, 50_000_000) as spool,
        closing(sqlite3.connect(":memory:")) as db,
        ledger_at(tmp_path / "ledger.db") as ledger,
    ):
        platform = Platform(db)

        def deliver(payload: bytes) -> str:
            sent.append(payload)
            held = platform.take(payload)
            assert held == ledger.store(unpack(payload), len(payload))
            return held

        gap = replace(reading(3, 5, None, span=4), why="silent")
        spool.append([*poll(0), *poll(1), gap], {})
        first, second, *others = seal_all(spool, most_rows=6)
        text = zstandard.decompress(second.payload).replace(b'"trusted"', b'"holdover"')
        held = deliver(zstandard.compress(text))
        assert deliver(second.payload) == held
        assert spool.settle(receipt_for(second, stored=((second.id.seq, held),)), NOW).new_epoch
        for one in (*seal_all(spool), first, *others):
            deliver(one.payload)
        assert len(platform.rows()) == 24
        spool.apply(1, [taken(0), taken(3, since=gap.t + 60, basis=None)], NOW)
        assert any(one.void for one in spool.unreceipted())
        for one in (*spool.unreceipted(), spool.retract(NOW, "trusted")):
            assert one is not None
            deliver(one.payload)
        for payload in reversed(sent.copy()):
            deliver(payload)
        found = platform.rows()
        assert len(found) == 19
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        kept = db.execute("SELECT place, t, max(ver, 0), v, basis, span, step FROM row").fetchall()
    assert found == {
        (place, _at(t + n * step), ver, _digits(v), basis)
        for place, t, ver, v, basis, span, step in kept
        for n in range(span)
    }


def typed(commands: str, folder: Path) -> str:
    """What somebody sees who types that in; AssertionError where a command fails."""
    done = subprocess.run(
        ("bash", "-euo", "pipefail", "-c", commands),
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def rights(recipient: str) -> str:
    """The broker's list of rights as it is printed."""
    found = re.findall(r"^    ((?:user|topic|pattern) .*)$", PAGE, re.MULTILINE)
    return "\n".join(found).replace("you.example", recipient) + "\n"


def test_a_batch_is_taken_and_receipted_by_hand_under_the_printed_rights(tmp_path: Path):
    """mosquitto's commands, zstd and sha256sum alone; the printed rights let the two meet."""
    ca, at_broker, ours = CA(), tmp_path / "far", tmp_path / "ours"
    pem = ca.gateway(GATEWAY, tmp_path / "state")
    own = ca.gateway(RECIPIENT, ours)
    lines = secured(at_broker, ca, None, f"acl_file {at_broker / 'rights'}")
    (at_broker / "rights").write_text(rights(RECIPIENT), encoding="utf-8")
    (at_broker / "rights").chmod(0o600)
    take, look, answer = re.split(r"\n(?=zstd|mosquitto_pub)", printed("sh", "-N -C 1"))

    async def scenario() -> None:
        async with broker(more=lines) as far, house(tmp_path) as at:
            tls = f"-h localhost -p {far.port} --cafile {ca.file(ours)} --cert {own} --key {own}"

            def by_hand(command: str, *found: str) -> str:
                command = command.replace("you.example", RECIPIENT).replace("G…", GATEWAY)
                command = command.replace("-h broker", tls).replace("up/live", "up/+")
                blanks = ("<from F>", "<seq from F>", "<sha256>")
                for blank, word in zip(blanks, found, strict=False):
                    assert blank in command
                    command = command.replace(blank, word)
                return typed(command, ours)

            kept = take.replace("-h broker", "-h broker -V 5 -c -x 600 -i ours")
            by_hand(kept.replace("-C 1 > F.zst", "-E"))  # from now on the broker keeps what comes
            more = {"url": f"mqtts://localhost:{far.port}", "ca": ca.file(ours)}
            async with delivering(at, far.port, station=Station(GATEWAY, pem), **more):
                await at.read()
                await asyncio.to_thread(by_hand, kept)
                batch, _, sha256 = by_hand(look).rpartition("}")
                ((epoch, seq),) = re.findall(r'"epoch":"(\w+)","seq":(\d+)', batch)
                by_hand(answer, epoch, seq, sha256.split()[0])
                await at.settled()

    asyncio.run(scenario())
