"""Minutes until a building has another gateway: `python -m bench.restore`.

200 dwellings and 2,000 documents. The bench runs the commands that a person types, on this machine,
from the backup to a daemon that answers. The person's own time between them is not measured.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agent.registry import identity
from bench.registry import filled

GARDIEN = Path(sys.executable).with_name("gardien")
CONFIG = "building: {{name: Les Alpins}}\nclock: {{source: system}}\nstate: {state}\n"
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def gardien(*arguments, config):
    """Run a command to its end; return the seconds it took."""
    # root is not a person: without a name, both commands are refused (rule U13)
    named = os.environ | {"GARDIEN_AS": "Claire Bench"}
    began = time.perf_counter()
    command = [GARDIEN, *arguments, "-c", config]
    subprocess.run(command, check=True, capture_output=True, env=named)
    return time.perf_counter() - began


def answers(config):
    """Seconds from the start of a daemon to its first answer, and the answer."""
    began = time.perf_counter()
    daemon = subprocess.Popen([GARDIEN, "run", "-c", config], stderr=subprocess.DEVNULL)
    try:
        while True:
            command = [GARDIEN, "status", "--json", "-c", config]
            output = subprocess.run(command, check=False, capture_output=True).stdout
            if output and json.loads(output)["started"]:
                return time.perf_counter() - began, json.loads(output)
            time.sleep(0.05)
    finally:
        daemon.terminate()
        daemon.wait()


def main():
    """Back up, restore and start, and print how long each took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        safe, key, file = folder / "safe.crt", folder / "safe.key", folder / "building"
        openssl = ["openssl", "req", "-x509", *NEW_KEY, "-keyout", key, "-out", safe]
        subprocess.run([*openssl, "-subj", "/CN=recovery"], check=True, capture_output=True)
        old, new = folder / "old.yaml", folder / "new.yaml"
        for config, state in ((old, folder / "old"), (new, folder / "new")):
            config.write_text(CONFIG.format(state=state))
        (folder / "old").mkdir()
        who = identity.mint(folder / "old")
        filled(folder / "old" / "registry.json")
        backup = gardien("backup", file, "--to", safe, config=old)
        restore = gardien("restore", file, "--key", key, "--yes", config=new)
        start, status = answers(new)
        assert status["gateway"] == who.gateway
        size = file.stat().st_size / 1000
        print(f"200 dwellings, 2,000 documents: a backup of {size:.0f} kB")
        print(f"backup {backup:.1f} s, restore {restore:.1f} s, first answer after {start:.1f} s")
        print(f"in all {(restore + start) / 60:.2f} minutes, without the time that a person needs")


if __name__ == "__main__":
    main()
