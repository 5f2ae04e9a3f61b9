"""What the package needs, told by pyproject.toml, so that no list of it is kept twice.

    python3 packaging/depends.py debian            what stands in Depends
    python3 packaging/depends.py debian receiver   the same of gardien-receiver, an extra
    python3 packaging/depends.py debian web        the same of gardien-web, an extra
    python3 packaging/depends.py debian sftp       what gardien suggests, an extra
    python3 packaging/depends.py metadata FOLDER   write the distribution's metadata there

Runs on Debian's Python with nothing else installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
RENAMED = {
    "argon2-cffi": "python3-argon2",
    "pyserial": "python3-serial",
    "systemd-python": "python3-systemd",
    "yoyo-migrations": "python3-yoyo",
}
"""where Debian's name is not python3-NAME"""
QUICKER = {"psycopg": "python3-psycopg-c"}
"""what Debian has beside it: in C, half of the time of a batch"""
ABSENT = frozenset({"nats-py"})
"""what Debian lacks; what needs it names it"""
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:[>=]=([0-9.]+))?(?:,<[0-9.]+)?")


def project() -> dict[str, Any]:
    """The [project] table."""
    found: dict[str, Any] = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    return found


def vendored() -> dict[str, tuple[str, str]]:
    """Version and sha256 of what travels in the package, by name."""
    text = (TOP / "packaging/vendor/requirements.txt").read_text()
    found = re.findall(r"^([\w.-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$", text, re.MULTILINE)
    return {name: (version, sha256) for name, version, sha256 in found}


def required(extra: str = "") -> dict[str, str]:
    """Lower bound ("" for none) of each distribution that the package stands on: what
    pyproject.toml names, and the extra `systemd`, which pip builds only beside libsystemd-dev;
    or what an extra names that is a package of its own.
    """
    found, named = {}, project()
    extras = named["optional-dependencies"]
    for written in extras[extra] if extra else named["dependencies"] + extras["systemd"]:
        match = REQUIREMENT.fullmatch(written)
        if not match:
            raise SystemExit(f"pyproject.toml: {written}: write NAME>=VERSION")
        found[match[1]] = match[2] or ""
    return found


def debian(extra: str = "") -> dict[str, str]:
    """Lower bound of each Debian package that the rest comes from."""
    inside = ABSENT.union(vendored())
    found = required(extra)
    return {
        RENAMED.get(name, f"python3-{name.lower()}"): bound
        for name, bound in sorted(found.items())
        if name not in inside
    } | {QUICKER[name]: "" for name in found if name in QUICKER}


def metadata(folder: Path) -> None:
    """Let importlib.metadata know the version where no pip has been."""
    told = project()
    info = folder / f"gardien-{told['version']}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: gardien\nVersion: {told['version']}\n"
    )


def main() -> None:
    """Do what the command line says."""
    if sys.argv[1:2] == ["debian"] and len(sys.argv) < 4:
        named = debian(*sys.argv[2:]).items()
        print(", ".join(f"{name} (>= {v})" if v else name for name, v in named))
    elif sys.argv[1:2] == ["metadata"] and len(sys.argv) == 3:
        metadata(Path(sys.argv[2]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
