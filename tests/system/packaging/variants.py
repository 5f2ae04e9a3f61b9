"""Other versions of the package that was built: an older one, and one that does not come up."""

import re
import shutil

from tests.system.packaging.machine import run


def variant(deb, version, folder, *, broken=False):
    """The same package with another version; `broken`: its daemon ends before it is ready."""
    tree = folder / f"tree-{version}"
    run(("dpkg-deb", "-R", str(deb), str(tree)))
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {version}", control.read_text()))
    info = next((tree / "usr/share/gardien").glob("gardien-*.dist-info"))
    told = info / "METADATA"
    told.write_text(re.sub(r"(?m)^Version: .*", f"Version: {version}", told.read_text()))
    if broken:
        house = tree / "usr/share/gardien/agent/cli/run.py"
        house.write_text(
            house.read_text().replace(
                "    asyncio.run(", '    raise SystemExit("planted")\n    asyncio.run('
            )
        )
    md5sums = tree / "DEBIAN/md5sums"
    md5sums.unlink()  # of no use to what is tested, and wrong now
    made = folder / f"gardien_{version}_all.deb"
    run(("dpkg-deb", "--root-owner-group", "-Zgzip", "-b", str(tree), str(made)))
    shutil.rmtree(tree)
    return made
