import json
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
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


def pytest_collection_modifyitems(items):
    """What is seen in the machine is told last: it lives while the other tests here run."""
    places = [place for place, item in enumerate(items) if HERE in item.path.parents]
    ours = sorted((items[place] for place in places), key=lambda item: "seen" in item.fixturenames)
    for place, item in zip(places, ours, strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The package as `packaging/build-deb.sh` makes it."""
    if reason := machine.impossible():
        pytest.skip(reason)
    out = tmp_path_factory.mktemp("dist")
    machine.run((str(machine.TOP / "packaging/build-deb.sh"), str(out)))
    return next(out.glob("*.deb"))


@pytest.fixture(scope="session")
def living(built, request):
    """The machine, on its way through the life of the package; nothing if nobody will look."""
    if not any("seen" in item.fixturenames for item in request.session.items):
        yield None
        return
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(life, built)


@pytest.fixture(scope="session")
def seen(living):
    """What was seen inside a machine that went through the life of the package."""
    return living.result()


def life(built):
    """Boot a machine, and give what `inside.py` saw in it."""
    # overlayfs on overlayfs does not work, and /tmp may be one
    with tempfile.TemporaryDirectory(prefix="gardien-machine-", dir="/var/tmp") as folder:
        work = Path(folder)
        with machine.layered(machine.root(needed()), work) as here:
            test = here / "opt/test"
            test.mkdir(parents=True)
            equip(test, built, work)
            (here / "etc/systemd/system/test.service").write_text(machine.UNIT)
            wants = here / "etc/systemd/system/multi-user.target.wants"
            wants.mkdir(parents=True, exist_ok=True)
            (wants / "test.service").symlink_to("../test.service")
            machine.boot(here, within=760)
            told = (test / "seen.json").read_text()
            (machine.TOP / "build").mkdir(exist_ok=True)
            (machine.TOP / "build/package-test.json").write_text(told)  # figures, for people
            found = json.loads(told)
            found["log"] = (test / "log").read_text()
            if (test / "bundle.tar.gz").exists():
                found["bundle_bytes"] = (test / "bundle.tar.gz").read_bytes()
            return found


def equip(test, built, work):
    """Put what happens inside, and the versions of the package, into the machine."""
    for name in ("inside.py", "boiler.py"):
        shutil.copy(HERE / name, test)
    shutil.copytree(machine.TOP / "hil", test / "hil")
    shutil.copy(built, test / "new.deb")
    shutil.copy(variant(built, "0.0.9", work), test / "old.deb")
    shutil.copy(variant(built, "0.1.1", work), test / "newer.deb")
    shutil.copy(variant(built, "9.9.9", work, broken=True), test / "broken.deb")
    other = variant(built, "0.2.0", work, format_more=True, lives=4)
    shutil.copy(other, test / "other-format.deb")
