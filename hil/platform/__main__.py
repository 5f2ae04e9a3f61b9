"""`python -m hil.platform run|report|rows`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hil import platform
from hil.platform.ledger import opened
from hil.platform.listen import Desk, listen
from hil.platform.report import report, rows


def main() -> None:
    """Run the platform, or print what it holds."""
    chosen = _parser().parse_args()
    if chosen.do == "run":
        with opened(chosen.db) as ledger:
            listen(chosen.port, Desk(ledger, chosen.slow_down))
    elif chosen.do == "report":
        print(json.dumps(report(chosen.db), indent=2))
    else:
        for row in rows(chosen.db):
            print(json.dumps(row._asdict()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hil.platform", description=platform.__doc__)
    parser.add_argument("--db", type=Path, required=True, help="the SQLite file it keeps")
    do = parser.add_subparsers(dest="do", required=True)
    run = do.add_parser("run", help="take batches from the broker until killed")
    run.add_argument("--port", type=int, required=True, help="of the broker on 127.0.0.1")
    run.add_argument("--slow-down", type=int, default=0, help="seconds to ask for in each receipt")
    do.add_parser("report", help="counts, as JSON")
    do.add_parser("rows", help="every row, one JSON object a line")
    return parser


if __name__ == "__main__":
    main()
