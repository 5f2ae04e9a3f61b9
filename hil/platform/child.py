"""The platform as a process beside a test or the demo, to be frozen, killed and asked."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from hil.platform.report import report
from hil.process import Child

if TYPE_CHECKING:
    from pathlib import Path

    from hil.platform.files import Reader


class Keeper(Child):
    """What keeps batches in a file, however it takes them; started once it is ready."""

    def __init__(self, db: Path, *run: str, sign: Path | None = None) -> None:
        options = ("--db", str(db), *(("--sign", str(sign)) if sign else ()))
        super().__init__((sys.executable, "-m", "hil.platform", *options, *run), "ready")
        self.db = db

    async def report(self) -> dict[str, Any]:
        """Count now; it may go on meanwhile, or be dead."""
        return await asyncio.to_thread(report, self.db)

    async def only_listen(self) -> None:
        """From now on keep what a broker brings, and answer nothing: another platform does."""
        await self.stop()
        self.command += ("--silent",)
        await self.start()

    async def holds(self, rows: int, within: float = 60.0) -> dict[str, Any]:
        """Wait until it holds so many rows; the report then. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while (counted := await self.report())["rows"] < rows:
                await asyncio.sleep(0.1)  # another process writes it
        return counted


class Platform(Keeper):
    """`async with Platform(broker.port, folder / "platform.db")`: takes them from a broker."""

    def __init__(self, port: int, db: Path, slow_down: int = 0, sign: Path | None = None) -> None:
        words = ("run", "--port", str(port), "--slow-down", str(slow_down))
        super().__init__(db, *words, sign=sign)


class Fetching(Keeper):
    """Takes them from a folder; opens what was closed for `reader`."""

    def __init__(
        self,
        root: Path,
        db: Path,
        reader: Reader | None,
        every: float = 0.1,
        sign: Path | None = None,
    ) -> None:
        words = ["files", "--root", str(root), "--every", str(every)]
        if reader:
            words += ["--key", str(reader.key), "--cert", str(reader.certificate)]
            words += ["--ca", str(reader.ca)]
        super().__init__(db, *words, sign=sign)


class Serving(Keeper):
    """Takes them over HTTPS, as `own` (key and certificate), from gateways that `ca` knows."""

    def __init__(
        self,
        port: int,
        db: Path,
        own: Path | None = None,
        ca: Path | None = None,
        sign: Path | None = None,
    ) -> None:
        words = ["https", "--port", str(port)]
        words += ["--own", str(own)] if own else []
        words += ["--ca", str(ca)] if ca else []
        super().__init__(db, *words, sign=sign)
        self.port = port
