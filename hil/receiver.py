"""`gardien-receiver` as a process beside the demo, asked by its own command, as its users do."""

from __future__ import annotations

import asyncio
import csv
import io
import sys
from decimal import Decimal
from pathlib import Path

from hil.process import Child
from hil.proof import Row

RECEIVER = str(Path(sys.executable).with_name("gardien-receiver"))
CONSUMED = """SELECT place, label, sum(amount) AS kwh FROM daily WHERE channel = 'elec.imp'
GROUP BY place, label ORDER BY label"""
READINGS = """SELECT place, step, t, last, value, q, why, delay, basis FROM readings
WHERE channel = 'elec.imp'"""


class ReceiverChild(Child):
    """`async with ReceiverChild(folder / "receiver.db", "--mqtt", url)`."""

    def __init__(self, db: Path, *options: str) -> None:
        super().__init__((RECEIVER, "run", "--db", str(db), *options), "ready")
        self.db = db

    async def query(self, sql: str) -> list[dict[str, str]]:
        """What a statement selects. Raises RuntimeError."""
        process = await asyncio.create_subprocess_exec(
            RECEIVER, "query", "--db", str(self.db), sql,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"gardien-receiver query: {err.decode()}")
        return list(csv.DictReader(io.StringIO(out.decode())))

    async def holds(self, batches: int, within: float = 60.0) -> None:
        """Wait until it holds so many batches. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while int((await self.query("SELECT count(*) AS n FROM batch"))[0]["n"]) < batches:
                await asyncio.sleep(0.2)  # another process writes it

    async def rows(self) -> list[Row]:
        """Electricity, as the proof reads it."""
        return [
            Row(
                row["place"], int(row["t"]), row["value"] or None, row["q"], row["why"] or None,
                int(row["delay"] or 0),
                (int(row["last"] or row["t"]) - int(row["t"])) // int(row["step"]) + 1,
                row["basis"],
            )
            for row in await self.query(READINGS)
        ]  # fmt: skip

    async def consumed(self) -> dict[str, tuple[str, Decimal]]:
        """Label and kWh by place."""
        return {
            row["place"]: (row["label"], Decimal(row["kwh"])) for row in await self.query(CONSUMED)
        }
