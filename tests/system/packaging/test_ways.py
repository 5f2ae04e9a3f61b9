"""The ways on which the package reaches a gateway: one file without a network, a signed archive."""

import io
import os
import re
import shutil
import tarfile
import tempfile
import textwrap
from pathlib import Path

import pytest

from tests.system.packaging import machine
from tests.system.packaging.conftest import needed
from tests.system.packaging.variants import variant

pytestmark = [
    pytest.mark.timeout(900), pytest.mark.alone, pytest.mark.usefixtures("living"),
]  # fmt: skip


@pytest.fixture
def bare():
    """A Debian without a network, and with nothing that apt has fetched before."""
    with tempfile.TemporaryDirectory(prefix="gardien-machine-", dir="/var/tmp") as folder:
        base = machine.root(needed())
        with machine.layered(base, Path(folder)) as here:
            for kept in (here / "var/cache/apt/archives", here / "var/lib/apt/lists"):
                shutil.rmtree(kept)
                (kept / "partial").mkdir(parents=True)
            (here / "opt/in").mkdir()
            yield here


HERE = machine.run(("dpkg", "--print-architecture")).strip()
ARCHITECTURES = ("amd64", "arm64")


@pytest.fixture(scope="session")
def files(built, tmp_path_factory):
    """What `packaging/offline.sh` makes, by architecture."""
    folder = tmp_path_factory.mktemp("offline")
    machine.run((str(machine.TOP / "packaging/offline.sh"), str(built), str(folder)))
    return {arch: next(folder.glob(f"*_{arch}.sh")) for arch in ARCHITECTURES}


@pytest.fixture
def one_file(files):
    return files[HERE]


def test_the_file_of_each_architecture_has_the_same_packages_for_it(files, tmp_path):
    names = {}
    for arch, file in files.items():
        (tmp_path / arch).mkdir()
        _, _, content = file.read_bytes().partition(b"\nexit 0\n")
        with tarfile.open(fileobj=io.BytesIO(content)) as pool:
            pool.extractall(tmp_path / arch, filter="data")
        fields = (tmp_path / arch / "Packages").read_text().split("\n\n")
        pairs = [dict(re.findall(r"(?m)^(Package|Architecture): (.*)$", one)) for one in fields]
        pairs = [pair for pair in pairs if pair]
        assert {pair["Architecture"] for pair in pairs} == {"all", arch}
        names[arch] = {pair["Package"] for pair in pairs}
    assert {"gardien", "python3-paramiko", "python3-pydantic-core"} <= names["arm64"]
    assert "weasyprint" not in names["arm64"]
    # libraries of a processor differ: libatomic1 and the like
    assert len(names["amd64"] ^ names["arm64"]) <= 5


def test_the_file_of_another_architecture_says_so_and_installs_nothing(files, bare):
    other = next(arch for arch in ARCHITECTURES if arch != HERE)
    made = Path(shutil.copy(files[other], bare / "opt/in"))
    with pytest.raises(RuntimeError, match=f"this is for {other}; this machine is {HERE}"):
        machine.inside(bare, f"sh /opt/in/{made.name}")
    assert not (bare / "usr/share/gardien").exists()


def test_one_file_installs_it_without_a_network(one_file, bare):
    made = Path(shutil.copy(one_file, bare / "opt/in"))
    assert made.stat().st_size < 40_000_000
    said = machine.inside(
        bare,
        f"sh /opt/in/{made.name} python3-paramiko && gardien --version"
        " && gardien check 2>&1 || true",
    )
    assert (bare / "usr/lib/python3/dist-packages/paramiko").exists()
    assert not (bare / "usr/lib/python3/dist-packages/openpyxl").exists()
    assert "Three commands are left" in said
    assert "config.yaml:7:9: building.name: this is the sample's building" in said


def test_one_file_that_was_damaged_on_the_way_installs_nothing(one_file, bare):
    content = bytearray(one_file.read_bytes())
    content[len(content) // 2] ^= 1
    made = bare / "opt/in" / one_file.name
    made.write_bytes(content)
    with pytest.raises(RuntimeError, match="damaged"):
        machine.inside(bare, f"sh /opt/in/{made.name}")
    assert not (bare / "usr/share/gardien").exists()


def test_a_signed_archive_offers_every_version_and_one_signed_by_another_is_refused(
    built, bare, tmp_path, monkeypatch
):
    if not shutil.which("apt-ftparchive") or not shutil.which("gpg"):
        pytest.skip("missing: apt-get install apt-utils gpg")
    newer = variant(built, "0.1.1", tmp_path)
    # a socket of gpg's agent must have a short path
    with tempfile.TemporaryDirectory(prefix="gpg-") as keyring:
        monkeypatch.setenv("GNUPGHOME", keyring)
        for name in ("ours", "theirs"):
            machine.run(
                ("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key",
                 name, "ed25519", "sign", "never"),
            )  # fmt: skip
        shelf = bare / "opt/in/archive"
        repo = str(machine.TOP / "packaging/repo.sh")
        machine.run((repo, "ours", str(shelf), str(built)))
        machine.run((repo, "ours", str(shelf), str(newer)))
        shutil.copytree(bare / "opt/in/archive", bare / "opt/in/forged")
        machine.run((repo, "theirs", str(bare / "opt/in/forged"), str(built)))
        machine.run(("gpgconf", "--kill", "all"), env=os.environ | {"GNUPGHOME": keyring})
    manual = (machine.TOP / "docs/install.md").read_text()
    written = textwrap.dedent(re.search(r"(?m)(?:^    [A-Z][\w-]+: .+\n)+", manual)[0])
    for name in ("archive", "forged"):
        told = written.replace("https://packages.example/gardien", f"file:/opt/in/{name}")
        (bare / f"opt/in/{name}.sources").write_text(told)
    update = (
        "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*;"
        " cp /opt/in/{}.sources /etc/apt/sources.list.d/gardien.sources;"
        " mkdir -p /usr/share/keyrings; cp /opt/in/archive/gardien.gpg /usr/share/keyrings/;"
        " apt-get update && apt-cache policy gardien"
    )
    said = machine.inside(bare, update.format("archive"))
    assert "Candidate: 0.1.1" in said
    assert " 0.1.0 " in said
    with pytest.raises(RuntimeError, match=r"is not signed|NO_PUBKEY|verif"):
        machine.inside(bare, update.format("forged"))
