"""In how many minutes a building has another gateway: `python -m bench.restore`.

200 dwellings and 2,000 documents. By the commands that a person types, on this machine: from the
building file to a daemon that answers. What a person does between them is not measured.
"""

import json
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


def gardien(*words, config):
    """Run a command to its end; its answer, and the seconds it took."""
    began = time.perf_counter()
    done = subprocess.run([GARDIEN, *words, "-c", config], check=True, capture_output=True)
    return done.stdout, time.perf_counter() - began


def answers(config):
    """Seconds from the start of a daemon to its first answer, and what that is."""
    began = time.perf_counter()
    daemon = subprocess.Popen([GARDIEN, "run", "-c", config], stderr=subprocess.DEVNULL)
    try:
        while True:
            asked = [GARDIEN, "status", "--json", "-c", config]
            said = subprocess.run(asked, check=False, capture_output=True).stdout
            if said and json.loads(said)["started"]:
                return time.perf_counter() - began, json.loads(said)
            time.sleep(0.05)
    finally:
        daemon.terminate()
        daemon.wait()


def main():
    """Back up, restore, start; say how long each took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        safe, key, file = folder / "safe.crt", folder / "safe.key", folder / "building"
        words = ("-keyout", key, "-out", safe, "-subj", "/CN=recovery")
        subprocess.run(
            ["openssl", "req", "-x509", *NEW_KEY, *words], check=True, capture_output=True
        )
        old, new = folder / "old.yaml", folder / "new.yaml"
        for config, state in ((old, folder / "old"), (new, folder / "new")):
            config.write_text(CONFIG.format(state=state))
        (folder / "old").mkdir()
        who = identity.mint(folder / "old")
        filled(folder / "old" / "registry.json")
        _, backup = gardien("backup", file, "--to", safe, config=old)
        _, restore = gardien("restore", file, "--key", key, "--yes", config=new)
        start, said = answers(new)
        assert said["gateway"] == who.gateway
        size = file.stat().st_size / 1000
        print(f"200 dwellings, 2,000 documents: a building file of {size:.0f} kB")
        print(f"backup {backup:.1f} s, restore {restore:.1f} s, first answer after {start:.1f} s")
        print(f"in all {(restore + start) / 60:.2f} minutes, beside what a person does")


if __name__ == "__main__":
    main()
