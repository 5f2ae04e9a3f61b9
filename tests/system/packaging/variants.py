"""Other versions of the package that was built: an older one, and one that does not come up."""

import re
import shutil

from tests.system.packaging.machine import run
from tests.unit.packaging.next_version import next_format


def variant(  # noqa: PLR0913 -- ways to be another
    deb, version, folder, *, broken=False, format_more=False, lives=None
):
    """The same package with another version.

    `broken`: its daemon ends before it is ready; `lives`: it ends after so many seconds, each time;
    `format_more`: its spool has a format that today's does not know.
    """
    tree = folder / f"tree-{version}"
    run(("dpkg-deb", "-R", str(deb), str(tree)))
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {version}", control.read_text()))
    info = next((tree / "usr/share").glob("gardien*/gardien-*.dist-info"))
    info = info.rename(info.with_name(f"gardien-{version}.dist-info"))
    told = info / "METADATA"
    told.write_text(re.sub(r"(?m)^Version: .*", f"Version: {version}", told.read_text()))
    if format_more:
        schema = tree / "usr/share/gardien/agent/buffer/schema.py"
        schema.write_text(next_format(schema.read_text()))
    if lives:
        house = tree / "usr/share/gardien/agent/daemon.py"
        planted = f"import os, threading; threading.Timer({lives}, os._exit, (3,)).start()"
        text = house.read_text().replace("    asyncio.run(", f"    {planted}\n    asyncio.run(")
        assert planted in text
        house.write_text(text)
    if broken:
        house = tree / "usr/share/gardien/agent/daemon.py"
        house.write_text(
            house.read_text().replace(
                "    asyncio.run(", '    raise SystemExit("planted")\n    asyncio.run('
            )
        )
    md5sums = tree / "DEBIAN/md5sums"
    md5sums.unlink()  # of no use to what is tested, and wrong now
    made = folder / f"{deb.name.partition('_')[0]}_{version}_all.deb"
    run(("dpkg-deb", "--root-owner-group", "-Zgzip", "-b", str(tree), str(made)))
    shutil.rmtree(tree)
    return made
