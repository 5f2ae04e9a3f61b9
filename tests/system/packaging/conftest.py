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
    """The Debian packages that ours stand on, and what the receiver's manual adds to them."""
    from depends import debian

    receiver = ("tzdata", "postgresql-17")
    ours = sorted({*debian(), *debian("web"), *debian("receiver")})
    return [*ours, *receiver, "openssl", "python3"]


def pytest_collection_modifyitems(items):
    """What is seen in the machine is told last: it lives while the other tests here run."""
    places = [place for place, item in enumerate(items) if HERE in item.path.parents]
    ours = sorted((items[place] for place in places), key=lambda item: bool(looks(item)))
    for place, item in zip(places, ours, strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The package as `packaging/build-deb.sh` makes it."""
    if reason := machine.impossible():
        pytest.skip(reason)
    out = tmp_path_factory.mktemp("dist")
    machine.run((str(machine.TOP / "packaging/build-deb.sh"), str(out)))
    return next(out.glob("gardien_*.deb"))


LIVES = ("operation", "versions")


def looks(item):
    """Which of the machines a test looks into."""
    return {"seen", "walked"} & set(item.fixturenames)


@pytest.fixture(scope="session")
def living(built, request, tmp_path_factory):
    """The machines, each on its way through a life of a package; none if nobody will look."""
    from tests.system.packaging import road

    looked = set().union(*map(looks, request.session.items))
    if not looked:
        yield [], None
        return
    equip(built, folder := tmp_path_factory.mktemp("test"))
    # the road begins where the shorter life has ended: three at a time would be late for its clocks
    with ThreadPoolExecutor(len(LIVES)) as pool:
        lives = [pool.submit(life, name, folder) for name in LIVES if "seen" in looked]
        yield lives, pool.submit(road.walk, built) if "walked" in looked else None


@pytest.fixture(scope="session")
def walked(living):
    """What the road of docs/receiver.md printed, and what became of gardien-receiver."""
    return living[1].result()


@pytest.fixture(scope="session")
def seen(living):
    """What each step saw inside the machines; of a step of both lives, what `operation` saw."""
    steps = {}
    for machine_life in reversed(living[0]):
        steps |= machine_life.result()
    (machine.TOP / "build").mkdir(exist_ok=True)
    figures = json.dumps(steps, indent=1, default=len)
    (machine.TOP / "build/package-test.json").write_text(figures)  # for people
    return steps


def life(name, test):
    """Boot a machine with the folder `test` in it, and give what each step saw, and its log."""
    with (
        # overlayfs on overlayfs does not work, and /tmp may be one
        tempfile.TemporaryDirectory(prefix="gardien-machine-", dir="/var/tmp") as folder,
        machine.layered(machine.root(needed()), Path(folder)) as here,
    ):
        inside = shutil.copytree(test, here / "opt/test")
        (here / "etc/systemd/system/test.service").write_text(machine.UNIT.format(life=name))
        wants = here / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / "test.service").symlink_to("../test.service")
        machine.boot(here, within=760)
        steps = json.loads((inside / "seen.json").read_text())
        log = (inside / "log").read_text()
        if (inside / "bundle.tar.gz").exists():
            steps["bundle"]["file"] = (inside / "bundle.tar.gz").read_bytes()
        for step in steps.values():
            if "failed" in step:
                step["failed"] += f"\n{log[-3000:]}"
        return steps


def equip(built, test):
    """Collect what happens inside, and the versions of the package."""
    for name in ("inside.py", "boiler.py", "page_life.py"):
        shutil.copy(HERE / name, test)
    shutil.copytree(machine.TOP / "hil", test / "hil")
    shutil.copy(built, test / "new.deb")
    shutil.copy(built.with_name(built.name.replace("gardien_", "gardien-web_")), test / "web.deb")
    for name, version, others in (
        ("old", "0.0.9", {}),
        ("newer", "0.1.1", {}),
        ("broken", "9.9.9", {"broken": True}),
        ("other-format", "0.2.0", {"format_more": True, "lives": 4}),
    ):
        variant(built, version, test, **others).rename(test / f"{name}.deb")
