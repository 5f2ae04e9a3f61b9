"""The platform as a process beside a test or the demo, to be frozen, killed and asked."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from hil.platform.report import report
from hil.process import Child

if TYPE_CHECKING:
    from pathlib import Path


class Platform(Child):
    """`async with Platform(broker.port, folder / "platform.db")`; started once it is subscribed."""

    def __init__(self, port: int, db: Path, slow_down: int = 0) -> None:
        run = ("run", "--port", str(port), "--slow-down", str(slow_down))
        super().__init__((sys.executable, "-m", "hil.platform", "--db", str(db), *run), "ready")
        self.db = db

    async def report(self) -> dict[str, Any]:
        """Count now; it may go on meanwhile, or be dead."""
        return await asyncio.to_thread(report, self.db)

    async def holds(self, rows: int, within: float = 30.0) -> dict[str, Any]:
        """Wait until it holds so many rows; the report then. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while (counted := await self.report())["rows"] < rows:
                await asyncio.sleep(0.1)  # another process writes it
        return counted
