"""`python -m tests.mistakes [--lang fr] [--to FOLDER] [ID…]`: make the mistakes, show the messages.

Nothing is written into the repository. Needs root, mosquitto, openssl and ext4 for some recipes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from textwrap import fill

from agent.core.i18n import lend_to_gettext
from tests.mistakes import Mistake, mistakes
from tests.mistakes.provoke import provoked
from tests.mistakes.shared import Shared
from tests.mistakes.terminal import COLUMNS, Seen
from tests.mistakes.world import Worlds

NEEDED = (
    "agent.cli", "agent.daemon", "agent.config.check", "agent.api.calls", "agent.app",
    "agent.registry.workbook", "agent.registry.letter", "cryptography.x509",
    "agent.drivers.modbus.bus", "agent.uplink.mqtt.transport", "rich.console", "rich.table",
    "agent.gateway.backup", "agent.trust.sign", "typer.rich_utils",
)  # fmt: skip
"""imported before the first command is forked"""
RULE = "=" * COLUMNS


def main() -> int:
    """Exit status 1 if a recipe could not be carried out."""
    parser = argparse.ArgumentParser(prog="python -m tests.mistakes", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help="only these; default: all")
    parser.add_argument("--lang", action="append", choices=("en", "fr"), help="default: both")
    parser.add_argument("--to", type=Path, help="write one file for each language to this folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    known = {one.id: one for one in mistakes()}
    if unknown := set(chosen.ids) - known.keys():
        parser.error(f"no mistake is called {', '.join(sorted(unknown))}")
    wanted = [known[name] for name in chosen.ids] or list(known.values())
    # what an environment of a test or a person has set must not change what is shown
    os.environ.pop("GARDIEN_CONFIG", None)
    lend_to_gettext()  # before click is imported, as the program does
    for name in NEEDED:
        import_module(name)
    gc.freeze()  # what was imported is then shared by all commands
    seen, failed = make(wanted, chosen.lang or ["en", "fr"])
    if chosen.json:
        print(json.dumps({name: {c: s.text for c, s in of.items()} for name, of in seen.items()}))
    else:
        show(wanted, seen, chosen.lang or ["en", "fr"], chosen.to)
    for name, why in failed.items():
        print(f"{name}: {why}", file=sys.stderr)
    return 1 if failed else 0


def make(
    wanted: list[Mistake], codes: list[str]
) -> tuple[dict[str, dict[str, Seen]], dict[str, str]]:
    """Make the mistakes; returns what was seen, and the recipes that failed, with the reason."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is ended
    seen: dict[str, dict[str, Seen]] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="mistakes-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        worlds = Worlds(Path(folder), lambda: Shared.start(Path(folder) / "shared"))
        try:
            for one in wanted:
                began = time.monotonic()
                try:
                    seen[one.id] = provoked(worlds, one, codes)
                except Exception as error:  # noqa: BLE001 -- the others are made all the same
                    failed[one.id] = f"{type(error).__name__}: {error}"
                if sys.stderr.isatty() or os.environ.get("MISTAKES_TIMES"):
                    print(f"{time.monotonic() - began:6.1f} s {one.id}", file=sys.stderr)
        finally:
            worlds.close()
    return seen, failed


def show(
    wanted: list[Mistake], seen: dict[str, dict[str, Seen]], codes: list[str], to: Path | None
) -> None:
    """Print what was seen, or write it to files."""
    for code in codes:
        parts = [page(one, seen[one.id][code]) for one in wanted if code in seen.get(one.id, {})]
        text = "\n".join(parts)
        if to is None:
            print(text)
        else:
            to.mkdir(parents=True, exist_ok=True)
            (to / f"seen-{code}.txt").write_text(text, encoding="utf-8")


def page(mistake: Mistake, seen: Seen) -> str:
    """Return one message with the mistake that led to it."""
    about = fill(f"{mistake.id} ({mistake.who}, {mistake.kind}): {mistake.does}", COLUMNS)
    typed = f"$ {mistake.types}\n{seen.text}"
    lines = [
        line[at : at + COLUMNS]
        for line in typed.splitlines()
        for at in range(0, max(1, len(line)), COLUMNS)
    ]
    return "\n".join([RULE, about, "", *lines, f"[exit status {seen.status}]", ""])


if __name__ == "__main__":
    sys.exit(main())
