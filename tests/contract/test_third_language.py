"""A further language is one file: with a catalogue that only puts ⟦ ⟧ around every message,
commands print no sentence outside the brackets. Rule U18.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "packaging"))

import catalogue  # noqa: E402

CONFIG = """
building: {{name: Les Alpins, timezone: Europe/Paris}}
links: {{riser: {{driver: modbus-tcp, host: 127.0.0.1, port: 1, timeout: 500ms}}}}
devices: {{sdm-1: {{link: riser, address: 1, profile: eastron-sdm120, every: 1h}}}}
uplinks: {{centre: {{recipient: energie.metropole.example, transport: mqtt, url: "mqtt://127.0.0.1:1"}}}}
privacy: {{policy: FR-1}}
state: {state}
"""
PLACES = "label;type;since\nA-1;dwelling;2024-09-01\nA-2;dwelling;\n"
COMMANDS = """
key new
key show
place import places.csv
place import wrong.csv
place list
meter assign sdm-1 A-1 --serial 4711
occupancy move-in A-2 --since 2026-01-05
occupancy move-out A-2 --at 2020-01-05
consent give A-1 --recipient energie.metropole.example --channel elec.imp --purpose advice
consent give A-1 --recipient Métropole --channel elec.imp --purpose advice
consent list
duty add loi --recipient regie.example --channel heat
trust show
audit verify
decode mbus zz
config set devices.sdm-1.every 1x
sign key alice
support-bundle --out places.csv
place new
place list --config
--help
"""
ASKING = """
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout
from agent import entry

shown = []
for line in open("commands", encoding="utf-8"):
    sys.argv = ["gardien", *line.split()]
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        try:
            entry.main()
        except SystemExit:
            pass
    shown.append([line.strip(), out.getvalue()])
print(json.dumps(shown))
"""
BRACKETS = re.compile("⟦[^⟦⟧]*⟧")
SENTENCE = re.compile(r"[^\W\d_]{2,}[,;:]? [^\W\d_]{2,}")
NO_SENTENCES = re.compile(
    r"gardien( [a-z-]+)+|kid \S+|\[OPTIONS\]|COMMAND|\[?ARGS\]?\.*|[A-Z_]+=?|[│╭╮╰╯─*]+"
)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What each command prints with the pseudo-locale."""
    folder = tmp_path_factory.mktemp("third")
    entries = (
        f"msgid {json.dumps(message)}\nmsgstr {json.dumps(f'⟦{message}⟧')}\n"
        for message in catalogue.messages()
    )
    (folder / "qp.po").write_text("\n".join(entries), encoding="utf-8")
    (folder / "config.yaml").write_text(CONFIG.format(state=folder / "state"), encoding="utf-8")
    (folder / "places.csv").write_text(PLACES, encoding="utf-8")
    (folder / "wrong.csv").write_text("label;tpye\nA-1;flat\n", encoding="utf-8")
    (folder / "commands").write_text(COMMANDS.strip(), encoding="utf-8")
    env = os.environ | {
        "GARDIEN_CONFIG": str(folder / "config.yaml"),
        "GARDIEN_LOCALES": str(folder),
        "LANGUAGE": "qp",
        "COLUMNS": "1000",
    }
    done = subprocess.run(
        [sys.executable, "-c", ASKING], cwd=folder, env=env, capture_output=True, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def left(text):
    """What stands outside of all brackets."""
    while (less := BRACKETS.sub(" ", text)) != text:
        text = less
    # the help of a group shows the first paragraph of each command
    return re.sub("⟦.*", "", text)


@pytest.mark.parametrize("command", COMMANDS.strip().splitlines())
def test_a_command_prints_no_sentence_outside_the_catalogue(printed, command):
    outside = NO_SENTENCES.sub(" ", left(printed[command]))
    assert "Traceback" not in printed[command]
    assert SENTENCE.findall(outside) == [], printed[command]
