"""The package's own Python and libraries pass the unit and contract tests (`make torture`)."""

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.depth import LONG
from tests.system.packaging import machine
from tests.system.packaging.conftest import needed

MORE = (
    "python3-pytest", "python3-pytest-timeout", "python3-pytest-xdist", "python3-hypothesis",
    "python3-jsonschema", "python3-tomli", "openssh-server", "mosquitto-clients",
    "strace", "mbpoll", "procps",
)  # fmt: skip
ALL = "tests/unit tests/contract"
RUN = """
apt-get install -y -qq --no-install-recommends /opt/in/gardien.deb {more} >/opt/in/apt.log 2>&1
# the pretend controllers are devices: the parts that a client needs not lie beside those it has
cp -rn /opt/in/bacpypes3 /usr/share/gardien/vendor/
cp -r /opt/in/project /root/project && cd /root/project
export PYTHONPATH=/usr/share/gardien:/usr/share/gardien/vendor:/root/project HOME=/root
ip link set lo up 2>/dev/null || true
python3 -c 'import agent; assert agent.__file__.startswith("/usr/share/gardien/"), agent.__file__'
test() {{
    python3 -m pytest -p no:cacheprovider --basetemp=/var/tmp/pytest "$@" {tests} 2>&1 | tail -200
}}
test -n 4 --dist loadfile -m "not alone"
test -m alone
"""


@pytest.mark.skipif(not LONG, reason="make torture")
@pytest.mark.alone
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
            whole = Path(find_spec("bacpypes3").origin).parent
            shutil.copytree(whole, into / "bacpypes3", ignore=shutil.ignore_patterns("__pycache__"))
            tests = os.environ.get("GARDIEN_TESTS", ALL)
            said = machine.inside(here, RUN.format(more=" ".join(MORE), tests=tests))
    print(said)
    assert said.count(" passed") == 2 or tests != ALL
    assert "failed" not in said
    assert "error" not in said.lower()
