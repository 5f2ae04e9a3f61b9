"""The package's own Python and libraries pass the unit and contract tests (`make torture`)."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.system.packaging import machine
from tests.system.packaging.conftest import needed

MORE = (
    "python3-pytest", "python3-pytest-timeout", "python3-hypothesis", "python3-jsonschema",
    "python3-tomli", "mosquitto-clients", "strace", "mbpoll", "procps",
)  # fmt: skip
RUN = """
apt-get install -y -qq --no-install-recommends /opt/in/gardien.deb {more} >/opt/in/apt.log 2>&1
cp -r /opt/in/project /root/project && cd /root/project
export PYTHONPATH=/usr/share/gardien:/usr/share/gardien/vendor:/root/project HOME=/root
ip link set lo up 2>/dev/null || true
python3 -c 'import agent; assert agent.__file__.startswith("/usr/share/gardien/"), agent.__file__'
python3 -m pytest -p no:cacheprovider {tests} 2>&1 | tail -40
"""


@pytest.mark.skipif(not os.environ.get("GARDIEN_TORTURE"), reason="make torture")
@pytest.mark.timeout(2400)
def test_unit_and_contract_tests_pass_on_what_debian_ships(built):
    with tempfile.TemporaryDirectory(prefix="gardien-machine-", dir="/var/tmp") as folder:
        base = machine.root([*needed(), *MORE], "tests")
        with machine.layered(base, Path(folder)) as here:
            into = here / "opt/in"
            (into / "project").mkdir(parents=True)
            shutil.copy(built, into / "gardien.deb")
            # what was built is what is committed; ours must not be found instead of the package's
            archive = machine.run(
                ("git", "-C", str(machine.TOP), "archive", "HEAD", "-o", str(into / "p.tar"))
            )
            assert archive == ""
            machine.run(("tar", "-x", "-C", str(into / "project"), "-f", str(into / "p.tar")))
            shutil.rmtree(into / "project/agent")
            tests = os.environ.get("GARDIEN_TESTS", "tests/unit tests/contract")
            said = machine.inside(here, RUN.format(more=" ".join(MORE), tests=tests))
    print(said)
    assert " passed" in said
    assert "failed" not in said
    assert "error" not in said.lower()
