"""The support bundle of a building that runs: nobody can tell from it whose dwelling is which."""

import io
import json
import os
import random
import tarfile
from pathlib import Path

import pytest

from agent.registry import identity
from agent.registry.storage import RegistryStorage
from tests.command import gardien
from tests.depth import LONG

SEEDS = range(30) if LONG else (1,)
LETTERS = "ABCDEFGHJKLMNPRSTVWXYZ"
JOURNAL = """#!/bin/sh
cat "{log}"
"""


def spelled(draw: random.Random) -> str:
    """A name of a flat as managers write them."""
    kind = draw.randrange(4)
    number = f"{draw.choice(LETTERS)}-{draw.randrange(1, 9)}-{draw.randrange(10, 99)}"
    return (number, f"Étage {number}", f"apt {number} «gauche»", f"lot\\{number}")[kind]


class Building:
    """A state folder with people, and every name that must stay there."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.folder, self.names = folder, []
        self.config = folder / "config.yaml"
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        identity.mint(self.state)

    def write(self) -> None:
        devices, places, meters = [], ["label;type;id;since"], ["serial;dwelling;device"]
        for n in range(4):
            label, device = f"{spelled(self.draw)}.{n}", f"m-{self.draw.choice(LETTERS)}-3-1{n}"
            serial = f"{self.draw.randrange(10**7, 10**8)}"
            devices.append(
                f"  {device}: {{link: riser, profile: eastron-sdm630, address: {n + 1}}}"
                f" # {label}, Mme Planteau-{n}\n"
            )
            places.append(f"{label};dwelling;;2026-01-01")
            meters.append(f"{serial};{label};{device}")
            self.names += [label, device, serial]
        self.config.write_text(
            "# Résidence: Mme Planteau au 3e\n"
            "building: {name: Les Alpins}\n"
            "links: {riser: {driver: modbus-tcp, host: 127.0.0.1, port: 1}}\n"
            f"devices:\n{''.join(devices)}"
            "privacy: {policy: DEMO-1}\nclock: {source: system}\n"
            f"state: {self.state}\n",
            encoding="utf-8",
        )
        (self.folder / "places.csv").write_text("\n".join(places) + "\n", encoding="utf-8")
        (self.folder / "meters.csv").write_text("\n".join(meters) + "\n", encoding="utf-8")
        for table in ("place", "meter"):
            self.run(table, "import", str(self.folder / f"{table}s.csv"))
        rows = RegistryStorage(self.state / "registry.json").read()
        found = (row.get("id") for table in rows.values() for row in table.values())
        ids = [one for one in found if str(one).startswith(("D", "H"))]
        assert len(ids) >= 8
        self.names += ids

    def run(self, *words: str, put: str = "") -> str:
        done = gardien(*words, "--config", str(self.config), typed=put)
        assert done.exit_code == 0, (words, done.output, done.exception)
        return done.output

    def journal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The daemon's log has named them all, in whatever form."""
        lines = [
            form
            for name in self.names
            for form in (name, name.lower(), repr(name), json.dumps(name), repr(name.encode()))
        ]
        self.draw.shuffle(lines)
        log, tools = self.folder / "log", self.folder / "bin"
        log.write_text("\n".join(f"riser: {one} is silent" for one in lines), encoding="utf-8")
        tools.mkdir()
        (tools / "journalctl").write_text(JOURNAL.format(log=log), encoding="utf-8")
        (tools / "journalctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")

    def bundle(self, *words: str, put: str = "") -> dict[str, str]:
        out = self.folder / f"bundle-{len(words)}.tar.gz"
        self.run("support-bundle", "--out", str(out), *words, put=put)
        with tarfile.open(fileobj=io.BytesIO(out.read_bytes())) as tar:
            return {one.name: tar.extractfile(one).read().decode() for one in tar}


@pytest.mark.parametrize("seed", SEEDS)
def test_no_file_of_the_bundle_names_a_dwelling(tmp_path: Path, monkeypatch, seed: int):
    """Rule P24."""
    here = Building(tmp_path, seed)
    here.write()
    here.journal(monkeypatch)
    files = here.bundle()
    assert {"gardien-support/log.txt", "gardien-support/config/config.yaml"} <= set(files)
    for name in here.names:
        for form in (name, json.dumps(name)[1:-1], repr(name.encode())[2:-1]):
            for file, text in files.items():
                assert form.lower() not in f"{file}\n{text}".lower(), (form, file)
    for file in ("status", "doctor"):
        json.loads(files[f"gardien-support/{file}.json"])
    config = files["gardien-support/config/config.yaml"]
    assert "Planteau" not in config, "what people wrote beside it"
    assert "Les Alpins" in config
    assert "profile: eastron-sdm630, address: 2" in config
    assert "device-" in config
    assert "meter-1" in files["gardien-support/log.txt"], "one can be followed all the same"


def test_with_dwellings_they_are_named_after_a_person_has_said_so(tmp_path: Path, monkeypatch):
    here = Building(tmp_path, 1)
    here.write()
    here.journal(monkeypatch)
    out = tmp_path / "no.tar.gz"
    words = ["support-bundle", "--with-dwellings", "--out", str(out), "-c", str(here.config)]
    told = gardien(*words, typed="yes\n")
    assert told.exit_code == 1
    assert "so it can be linked to people" in told.output
    assert not out.exists()
    files = here.bundle("--with-dwellings", put="with dwellings\n")
    assert all(name in files["gardien-support/log.txt"] for name in here.names)


def test_where_the_names_cannot_be_had_no_bundle_is_made(tmp_path: Path):
    here = Building(tmp_path, 1)
    here.write()
    (here.state / "registry.json").write_text("{", encoding="utf-8")
    out = tmp_path / "no.tar.gz"
    told = gardien("support-bundle", "--out", str(out), "-c", str(here.config))
    assert told.exit_code == 1
    assert "--with-dwellings" in str(told.exception)
    assert not out.exists()


def test_of_a_configuration_that_does_not_load_no_device_is_named(tmp_path: Path, monkeypatch):
    here = Building(tmp_path, 2)
    here.write()
    here.journal(monkeypatch)
    text = here.config.read_text(encoding="utf-8")
    here.config.write_text(text.replace("links: {", "links: {{").replace(
        "devices:\n", "devices:\n  new-A-9-99: {link: riser}\n"), encoding="utf-8")  # fmt: skip
    secret = f"{here.names[0]}hunter2"
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/broker").write_text(secret, encoding="utf-8")
    with (tmp_path / "log").open("a", encoding="utf-8") as log:
        log.write(f"\nrefused with {secret}\n")
    files = here.bundle("--state", str(here.state))
    config = files["gardien-support/config/config.yaml"]
    assert "<taken out>" in files["gardien-support/log.txt"], "a secret that has a name in it"
    assert "hunter2" not in files["gardien-support/log.txt"]
    assert "A-9-99" not in config
    assert not [name for name in here.names if name in "".join(files.values())]
