"""A Debian 13 that boots: a minimal root, made once and kept, with a thin layer on it for each run.

systemd-nspawn with a network of its own: loopback only. What apt needs is in the root already.
"""

import hashlib
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("GARDIEN_ROOT_CACHE", "/var/cache/gardien-package-test"))
MAKING = threading.Lock()
MIRROR = "http://deb.debian.org/debian"
INCLUDE = ("systemd", "systemd-sysv", "dbus", "mosquitto", "python3", "bash-completion", "iproute2")
"""mosquitto, Python and ss are for what happens inside; gardien's own are not among them"""
UNSAFE = "force-unsafe-io"
"""what dpkg does in there need not survive a power cut"""
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "dpkg-buildpackage": "dpkg-dev",
    "dh": "debhelper",
}
UNIT = """\
[Unit]
After=multi-user.target dbus.service
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /opt/test/inside.py {life}
StandardOutput=append:/opt/test/log
StandardError=append:/opt/test/log
ExecStopPost=/usr/bin/systemctl poweroff --no-block
TimeoutStartSec=700
[Install]
WantedBy=multi-user.target
"""


def impossible():
    """Why a machine cannot be booted here; empty if it can."""
    if os.geteuid():
        return "it boots a Debian of its own: run it as root"
    if missing := sorted({pkg for tool, pkg in TOOLS.items() if not shutil.which(tool)}):
        return "missing: apt-get install " + " ".join(missing)
    if not Path("/usr/lib/python3/dist-packages/typer").exists():
        return "missing: apt-get install python3-typer"
    if subprocess.run(("unshare", "-mpin", "true"), check=False, capture_output=True).returncode:
        return "no namespaces here"
    return ""


def root(depends, name="root"):
    """The folder of the minimal root, with the packages `depends` downloaded, not installed."""
    key = hashlib.sha256(repr((INCLUDE, UNSAFE, sorted(depends))).encode()).hexdigest()[:12]
    kept = CACHE / f"{name}-{key}"
    with MAKING:
        if not kept.exists():
            # another checkout may be using the one that was made last
            by_age = sorted(CACHE.glob(f"{name}-*"), key=lambda one: one.stat().st_mtime)
            for old in by_age[:-1]:
                shutil.rmtree(old)
            CACHE.mkdir(parents=True, exist_ok=True)
            _make(kept.with_suffix(".new"), depends)
            kept.with_suffix(".new").rename(kept)
    return kept


def _make(new, depends):
    shutil.rmtree(new, ignore_errors=True)
    get = "apt-get -y -q --no-install-recommends -o APT::Keep-Downloaded-Packages=true"
    wanted = " ".join(depends)
    run(
        ("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(INCLUDE)}",
         f"--dpkgopt={UNSAFE}", "--skip=cleanup/apt", "--skip=download/empty", "--format=directory",
         f'--customize-hook=chroot "$1" {get} --download-only install {wanted}',
         '--customize-hook=rm -rf "$1/usr/share/man/man1" "$1"/usr/share/doc/*/changelog*',
         "trixie", str(new), MIRROR),
    )  # fmt: skip


@contextmanager
def layered(base, work):
    """The root with a thin layer, writable; the base stays as it is."""
    for name in ("upper", "work", "machine"):
        (work / name).mkdir()
    options = f"lowerdir={base},upperdir={work / 'upper'},workdir={work / 'work'}"
    run(("mount", "-t", "overlay", "overlay", "-o", options, str(work / "machine")))
    try:
        yield work / "machine"
    finally:
        run(("umount", str(work / "machine")))


def boot(machine, within):
    """Boot it; returns when it has powered itself off. Raises TimeoutExpired.

    Its console is kept beside it, as `console`.
    """
    with (machine.parent / "console").open("wb") as log:
        _boot(machine, within, log)


def _boot(machine, within, log):
    subprocess.run(
        # where /run is on a disk, nspawn refuses to tidy up in it
        ("unshare", "--mount", "--propagation=private", "sh", "-c",
         'mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && exec "$@"', "sh",
         "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network",
         "--resolv-conf=off", "--timezone=off", "-D", str(machine), "-b"),
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        timeout=within, check=False,
    )  # fmt: skip


def inside(machine, script):
    """Run a script of the shell in it, not booted, without a network; what it said."""
    return run(
        ("unshare", "--mount", "--propagation=private", "sh", "-c",
         'mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && exec "$@"', "sh",
         "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network",
         "--resolv-conf=off", "--timezone=off", "--console=pipe", "-D", str(machine),
         "sh", "-ec", script),
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def run(command, **more):
    """Run a command; what it said is in the exception if it fails."""
    done = subprocess.run(command, check=False, text=True, capture_output=True, **more)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
