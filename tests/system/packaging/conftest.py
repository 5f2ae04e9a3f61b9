import json
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.system.packaging import machine
from tests.system.packaging.variants import variant

sys.path.insert(0, str(machine.TOP / "packaging"))

HERE = Path(__file__).parent


def needed():
    """The Debian packages that ours stands on."""
    from depends import debian

    return [*debian(), "openssl", "python3"]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The package as `packaging/build-deb.sh` makes it: {deb, folder}."""
    if reason := machine.impossible():
        pytest.skip(reason)
    out = tmp_path_factory.mktemp("dist")
    machine.run((str(machine.TOP / "packaging/build-deb.sh"), str(out)))
    return next(out.glob("*.deb"))


@pytest.fixture(scope="session")
def seen(built):
    """What was seen inside a machine that went through the life of the package."""
    # overlayfs on overlayfs does not work, and /tmp may be one
    with tempfile.TemporaryDirectory(prefix="gardien-machine-", dir="/var/tmp") as folder:
        work = Path(folder)
        base = machine.root(needed())
        with machine.layered(base, work) as here:
            test = here / "opt/test"
            test.mkdir(parents=True)
            shutil.copy(HERE / "inside.py", test)
            shutil.copytree(machine.TOP / "hil", test / "hil")
            shutil.copy(built, test / "new.deb")
            shutil.copy(variant(built, "0.0.9", work), test / "old.deb")
            shutil.copy(variant(built, "0.1.1", work), test / "newer.deb")
            shutil.copy(variant(built, "9.9.9", work, broken=True), test / "broken.deb")
            (here / "etc/systemd/system/test.service").write_text(machine.UNIT)
            wants = here / "etc/systemd/system/multi-user.target.wants"
            wants.mkdir(parents=True, exist_ok=True)
            (wants / "test.service").symlink_to("../test.service")
            machine.boot(here, within=240)
            found = json.loads((test / "seen.json").read_text())
            found["journal"] = (test / "journal").read_text() if (test / "journal").exists() else ""
            found["log"] = (test / "log").read_text()
            if (test / "bundle.tar.gz").exists():
                found["bundle_bytes"] = (test / "bundle.tar.gz").read_bytes()
            yield found
