"""`python -m hil.platform run|files|https|report|rows`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hil import platform
from hil.platform.files import Pickup, Reader, watch
from hil.platform.https import Host
from hil.platform.ledger import opened
from hil.platform.listen import Desk, listen
from hil.platform.report import report, rows


def main() -> None:
    """Run the platform, or print what it holds."""
    chosen = _parser().parse_args()
    if chosen.do == "run":
        with opened(chosen.db) as ledger:
            desk = Desk(ledger, chosen.slow_down, chosen.db.parent)
            listen(chosen.port, desk, chosen.sign, chosen.silent)
    elif chosen.do == "files":
        reader = Reader(chosen.key, chosen.cert, chosen.ca) if chosen.key else None
        with opened(chosen.db) as ledger:
            watch(Pickup(chosen.root, ledger, reader, chosen.sign), chosen.every)
    elif chosen.do == "https":
        Host(chosen.port, chosen.db, chosen.own, chosen.ca, chosen.sign).serve()
    elif chosen.do == "report":
        print(json.dumps(report(chosen.db), indent=2))
    else:
        for row in rows(chosen.db):
            print(json.dumps(row._asdict()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hil.platform", description=platform.__doc__)
    parser.add_argument("--db", type=Path, required=True, help="the SQLite file it keeps")
    parser.add_argument("--sign", type=Path, help="private JWK that signs receipts; none: unsigned")
    do = parser.add_subparsers(dest="do", required=True)
    run = do.add_parser("run", help="take batches from the broker until killed")
    run.add_argument("--port", type=int, required=True, help="of the broker on 127.0.0.1")
    run.add_argument("--slow-down", type=int, default=0, help="seconds to ask for in each receipt")
    run.add_argument("--silent", action="store_true", help="answer nothing: somebody else does")
    files = do.add_parser("files", help="take batches from a folder until killed")
    files.add_argument("--root", type=Path, required=True, help="the folder with in/ and out/")
    files.add_argument("--every", type=float, default=1.0, help="seconds between two looks")
    files.add_argument("--key", type=Path, help="private key to open them; none: they are open")
    files.add_argument("--cert", type=Path, help="the certificate of that key")
    files.add_argument("--ca", type=Path, help="the CA of the fleet's gateways")
    https = do.add_parser("https", help="take batches over HTTPS until killed")
    https.add_argument("--port", type=int, required=True, help="on 127.0.0.1")
    https.add_argument("--own", type=Path, help="key and certificate in one file; none: http")
    https.add_argument("--ca", type=Path, help="the CA of the fleet's gateways; none: anybody")
    do.add_parser("report", help="counts, as JSON")
    do.add_parser("rows", help="every row, one JSON object a line")
    return parser


if __name__ == "__main__":
    main()
