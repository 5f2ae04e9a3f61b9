"""What happens inside a machine, step by step; each writes what it saw to /opt/test/seen.json."""

import contextlib
import hashlib
import json
import os
import pty
import pwd
import re
import resource
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import textwrap
import time
import traceback
import zipfile
from pathlib import Path

import boiler
import page_life

TEST = Path("/opt/test")
CONFIG = Path("/etc/gardien/config.yaml")
BROKER, LINE, PLANT, ARCHIVE = 21883, 20502, 20503, 20580
PAGE = "127.0.0.1:8443"
REGISTER = TEST / "register.jsonl"
POST = Path("/run/post")  # how the commands of ExecStopPost have ended
METERS = 4
NAMED = "Résidence Les Alpins"
SEEN = {}
WRITTEN = f"""\
building: {{name: {NAMED}, timezone: Europe/Paris}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {LINE}, timeout: 500ms}}
{boiler.LINK.format(port=PLANT)}\
devices:
{boiler.DEVICE}\
DEVICES
uplinks:
  metropole:
    {{recipient: energie.metropole.example, transport: mqtt, url: "mqtt://127.0.0.1:{BROKER}",
      receipt: platform, seal: 1s}}
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
state: /var/lib/gardien
spool: {{max: 50MB, flush: 1s}}
{boiler.CONTROLS}"""
os.environ["GARDIEN_AS"] = "installer"  # root is an account that several people use


def sh(*command, check=True, **more):
    done = subprocess.run(command, check=False, text=True, capture_output=True, **more)
    said = ("$", *command, "->", done.returncode, done.stdout[-1500:], done.stderr[-1500:])
    print(*said, flush=True)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done


def show(name):
    return sh("systemctl", "show", "gardien.service", "-p", name, "--value").stdout.strip()


def until(true, within=60.0, every=0.2):
    end = time.monotonic() + within
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(every)
    raise TimeoutError(true)


def status():
    done = sh("gardien", "status", "--json", check=False)
    return json.loads(done.stdout) if done.stdout.startswith("{") else None


def rows():
    db = sqlite3.connect(f"file:{TEST}/platform.db?mode=ro", uri=True)
    found = db.execute("SELECT place, t, v, why, span FROM row ORDER BY place, t, ver").fetchall()
    db.close()
    return found


def python(*words, unit):
    """Start a program as a unit, also one that was stopped just now.

    systemd forgets a unit that was stopped when it comes round to it, in this machine sometimes not
    for minutes: until then it is started as it was.
    """
    command = (
        "systemd-run",
        "--quiet",
        "--collect",
        f"--unit={unit}",
        "--setenv=PYTHONPATH=/opt/test",
        "python3",
        "-m",
        *words,
    )
    again = ("systemctl", "start", unit)
    try:
        until(lambda: any(not sh(*each, check=False).returncode for each in (command, again)))
    except TimeoutError:
        state = sh("systemctl", "status", unit, check=False).stdout
        raise RuntimeError(f"{sh(*command, check=False).stderr}{state}") from None


def as_user(name, *command):
    return sh(
        "setpriv", f"--reuid={name}", "--init-groups", "--regid=nogroup", *command, check=False
    )


def apt_install(version):
    quietly = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    deb = f"/opt/test/{version}.deb"
    return sh("apt-get", "install", "-y", "--no-install-recommends", deb, env=quietly)


def install_new():
    before = listens()
    apt_install("new")
    said = apt_install("web").stdout[-900:]
    done = sh("gardien", "web", "status", check=False)
    after = listens()
    begun = sh("gardien", "web", "open", "--no-setup", "--listen", PAGE, "--json",
               input="Les Alpins\n\n\n")  # fmt: skip
    found = {
        "said": said,
        "before": before,
        "after": after,
        "closed": done.returncode,
        "begun": [json.loads(begun.stdout)["addresses"], begun.stderr],
        "browsed": browse(PAGE)[0],
        "building": status()["building"],
        "config": CONFIG.read_text(),
        "enabled": sh("systemctl", "is-enabled", "gardien").stdout.strip(),
        "templates": templates(),
    }
    web("close")
    sh("systemctl", "disable", "--now", "gardien")
    return found


def templates():
    """How many templates the page has, and how many of them were compiled with the package."""
    folder = Path("/usr/share/gardien")
    with zipfile.ZipFile(folder / "compiled.zip") as packed:
        compiled = [name for name in packed.namelist() if "/templates/" in name]
    return len(list(folder.glob("agent/web/templates/*.html"))), len(compiled)


def listens():
    """What listens on this machine, by another program's word."""
    return sorted(line.split()[4] for line in sh("ss", "-Hltun").stdout.splitlines())


def browse(address):
    """What a browser gets: the status line, and the SHA-256 of the certificate."""
    host, _, port = address.rpartition(":")
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, int(port)), timeout=30) as plain,
        tls.wrap_socket(plain) as secure,
    ):
        secure.sendall(b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
        certificate = secure.getpeercert(binary_form=True)
        return secure.recv(99).split(b"\r\n")[0].decode(), hashlib.sha256(certificate).hexdigest()


def web(*command, check=True):
    return sh("gardien", "web", *command, check=check)


def page():
    """Opened, used, killed, opened elsewhere, with a certificate of a CA, and closed again."""
    unit, before, began = "gardien-web.service", listens(), time.time()
    opened = json.loads(web("open", "--listen", PAGE, "--json").stdout)
    only = sorted(set(listens()) - set(before))
    idle = sh("systemctl", "is-active", unit, check=False).stdout.strip()
    seen = browse(PAGE)
    pid = int(sh("systemctl", "show", unit, "-p", "MainPID", "--value").stdout)
    owner = pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name
    hidden = [
        sh("nsenter", "-t", str(pid), "-m", *command, check=False).returncode
        for command in (("cat", str(CONFIG)), ("ls", "/var/lib/gardien/keys"))
    ]
    where = "/ ( -path /proc -o -path /sys -o -path /dev ) -prune -o -type d -writable -print"
    writable = sh(
        "nsenter", "-t", str(pid), "-m", "setpriv", f"--reuid={owner}", f"--regid={owner}",
        "--clear-groups", "find", *where.split(), check=False,
    ).stdout.split()  # fmt: skip
    told = status()["web"]
    os.kill(pid, signal.SIGKILL)
    again = until(lambda: quiet(browse, PAGE))
    folder = Path("/var/lib/gardien-web")
    modes = {p.name: f"{p.stat().st_mode & 0o777:o} {p.owner()}" for p in folder.iterdir()}
    taken = web("open", "--no-setup", "--listen", f"127.0.0.1:{BROKER}", check=False)
    stays = sorted(set(listens()) - set(before))
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=page"
    sh("openssl", *words.split(), "-keyout", "/opt/test/ca.key", "-out", "/opt/test/ca.crt")
    issued = json.loads(
        web("open", "--no-setup", "--certificate", "/opt/test/ca.crt", "--key", "/opt/test/ca.key",
            "--json").stdout
    )  # fmt: skip
    found = {
        "opened": opened,
        "only": only,
        "idle": idle,
        "browsed": seen,
        "owner": owner,
        "hidden": hidden,
        "writable": writable,
        "status": told,
        "again": again,
        "modes": modes,
        "taken": [taken.returncode, taken.stderr],
        "stays": stays,
        "issued": [issued["certificate"]["fingerprint"], browse(PAGE)[1]],
        "shown": web("status").stdout,
        "verify": sh(
            "systemd-analyze", "verify", "--man=no", "gardien-web.socket", unit, check=False
        ).stderr,
        "score": sh("systemd-analyze", "security", unit).stdout.splitlines()[-1],
        "limits": sh(
            "systemctl", "show", unit, "-p", "MemoryMax", "-p", "MemorySwapMax", "--value"
        ).stdout.split(),
        "config": CONFIG.read_text(),
    }
    invited = web("person", "add", "Claire", "--role", "manager", "--role", "dpo").stdout
    people = web("person", "list").stdout
    web("close")
    web("close")  # it is closed already
    closed = listens() == before
    window = json.loads(web("person", "list", "--json").stdout)["setup_until"]
    note = [one for one in status()["events"] if one["code"] == "page"]
    return found | {
        "closed": closed,
        "people": [invited, people],
        "window": window,
        "enabled": sh("systemctl", "is-enabled", "gardien-web.socket", check=False).stdout.strip(),
        "drop_in": Path("/etc/systemd/system/gardien-web.socket.d").exists(),
        "note": note,
        "began": began,
    }


def quiet(call, *args):
    with contextlib.suppress(OSError):
        return call(*args)


def page_used():
    """People use the page; see page_life.py."""
    return page_life.used(sys.modules[__name__])


def page_gone():
    """Opened once more, and then the package is purged."""
    web("open", "--no-setup")
    open_ = PAGE in listens()
    sh("apt-get", "purge", "-y", "gardien-web")
    left = sh(
        "find", "/etc", "/var/lib/gardien-web", "/usr", "/run", "-xdev", "-name", "*gardien-web*",
        "-not", "-path", "/usr/share/gardien/*", check=False,
    ).stdout.split()  # fmt: skip
    return {"open": open_, "listens": PAGE in listens(), "left": left}


def install():
    began = time.monotonic()
    done = apt_install("old")
    keys = Path("/var/lib/gardien/keys")
    return {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_s": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, 1),
        "said": done.stdout[-900:],
        "keys_owner": keys.owner() if keys.exists() else None,
        "keys_mode": oct(keys.stat().st_mode & 0o777) if keys.exists() else None,
        "config_mode": oct(CONFIG.stat().st_mode & 0o777) + " " + CONFIG.group(),
        "sample": CONFIG.read_bytes()
        == Path("/usr/share/gardien/config.example.yaml").read_bytes(),
        "enabled": sh("systemctl", "is-enabled", "gardien", check=False).stdout.strip(),
        "active": sh("systemctl", "is-active", "gardien", check=False).stdout.strip(),
        "check": sh("gardien", "check", check=False).returncode,
        "man": Path("/usr/share/man/man1/gardien.1.gz").exists(),
        "version": sh("gardien", "--version").stdout.strip(),
        "score": sh("systemd-analyze", "security", "gardien.service").stdout.splitlines()[-1],
        "upgrade_score": sh(
            "systemd-analyze", "security", "gardien-upgrade.service"
        ).stdout.splitlines()[-1],
        "verify": sh(
            "systemd-analyze",
            "verify",
            "--man=no",
            "gardien.service",
            "gardien.socket",
            "gardien-upgrade.service",
            check=False,
        ).stderr,
        "package_kB": int(sh("dpkg-query", "-W", "-f", "${Installed-Size}", "gardien").stdout),
        "memory": [show("MemoryMax"), show("MemorySwapMax")],
    } | brought()


def brought():
    """What the package has put on the disk, with what was compiled of it: kB said, and kB taken."""
    files = {Path(line) for line in sh("dpkg", "-L", "gardien").stdout.splitlines()}
    files |= set(Path("/usr/share/gardien").rglob("*"))
    stats = [path.stat() for path in files if path.is_file()]
    return {
        "installed_kB": sum(stat.st_size for stat in stats) // 1000,
        "on_disk_kB": sum(stat.st_blocks for stat in stats) * 512 // 1000,
        "strewn": [str(path) for path in files if path.name == "__pycache__"],
    }


def sample_again():
    """Removed and installed again, installed over itself, configured anew: still the sample."""
    sh("apt-get", "remove", "-y", "gardien")
    again = ("apt-get", "install", "-y", "--no-install-recommends", "/opt/test/old.deb")
    said = sh(*again).stdout[-900:]
    sh(*again, "--reinstall")
    sh("dpkg-reconfigure", "gardien")
    found = {
        "said": said,
        "enabled": sh("systemctl", "is-enabled", "gardien", check=False).stdout.strip(),
        "active": sh("systemctl", "is-active", "gardien", check=False).stdout.strip(),
    }
    sh("systemctl", "start", "gardien", check=False)
    log = sh("journalctl", "-u", "gardien", "-n", "20", "-o", "cat").stdout
    sh("systemctl", "stop", "gardien")
    sh("systemctl", "reset-failed", "gardien", check=False)
    return found | {"log": log}


def surroundings():
    (TEST / "mosquitto.conf").write_text(f"listener {BROKER} 127.0.0.1\nallow_anonymous true\n")
    start_broker()
    python(
        "hil.building",
        "--lines",
        "1",
        "--meters",
        str(METERS + 1),
        "--ports",
        str(LINE),
        "--log",
        "/opt/test/answers.jsonl",
        unit="building",
    )
    python("boiler", str(PLANT), str(REGISTER), unit="boiler")
    time.sleep(1)
    start_platform()


def start_broker(unit="broker"):
    named = ("--quiet", f"--unit={unit}")
    sh("systemd-run", *named, "mosquitto", "-c", "/opt/test/mosquitto.conf")


def start_platform():
    python(
        "hil.platform",
        "--db",
        "/opt/test/platform.db",
        "run",
        "--port",
        str(BROKER),
        unit="platform",
    )


def commissioning():
    devices = "".join(
        f"  m{n}: {{link: riser, address: {n}, profile: eastron-sdm120, every: 1s}}\n"
        for n in range(1, METERS + 1)
    )
    CONFIG.write_text(WRITTEN.replace("DEVICES\n", devices))
    labels = [f"A-{n}" for n in range(1, METERS + 1)]
    (TEST / "places.csv").write_text(
        "label;type;since\n" + "".join(f"{x};dwelling;2026-01-01\n" for x in labels)
    )
    sh("gardien", "check")
    sh("gardien", "place", "import", "/opt/test/places.csv")
    serials = {n: sh("gardien", "read", f"m{n}", "--json").stdout for n in range(1, METERS + 1)}
    for n, label in enumerate(labels, 1):
        said = json.loads(serials[n])["points"]
        serial = next(v["value"] for name, v in said.items() if "serial" in name)
        sh("gardien", "meter", "assign", f"m{n}", label, "--serial", str(serial))
    sh(
        "gardien",
        "consent",
        "give",
        *labels,
        "--recipient",
        "energie.metropole.example",
        "--channel",
        "elec.imp",
        "--step",
        "1s",
        "--purpose",
        "advice",
    )
    owners = {pwd.getpwuid(p.stat().st_uid).pw_name for p in Path("/var/lib/gardien").rglob("*")}
    return {"owners": sorted(owners)}


def start():
    began = time.monotonic()
    sh("systemctl", "enable", "--now", "gardien")
    ready = time.monotonic() - began
    pid = show("MainPID")
    spent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    until(lambda: len(rows()) >= METERS * 5)
    told = Path(f"/proc/{pid}/status").read_text()
    facts = dict(line.split(":", 1) for line in told.splitlines())
    return {
        "ready_s": round(ready, 2),
        "ready_cpu_s": sum(map(int, spent)) / os.sysconf("SC_CLK_TCK"),
        "rss_MB": round(int(facts["VmRSS"].split()[0]) / 1024, 1),
        "peak_MB": round(int(facts["VmHWM"].split()[0]) / 1024, 1),
        "cgroup_MB": show("MemoryCurrent"),
        "caps": facts["CapEff"].strip(),
        "seccomp": facts["Seccomp"].strip(),
        "no_new_privs": facts["NoNewPrivs"].strip(),
        "user": pwd.getpwuid(int(facts["Uid"].split()[0])).pw_name,
        "rows": len(rows()),
        "listens": listening(pid),
    }


def listening(pid):
    """The TCP and UDP ports on which a process listens."""
    mine = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    found = []
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            words = line.split()
            if f"socket:[{words[9]}]" in mine and (kind.startswith("udp") or words[3] == "0A"):
                found.append(f"{kind}:{int(words[1].split(':')[1], 16)}")
    return found


def door():
    sh("useradd", "--no-create-home", "--groups", "gardien-manager", "marie")
    sh("useradd", "--no-create-home", "jean")
    marie, jean = (as_user(n, "gardien", "status", "--json") for n in ("marie", "jean"))
    rotated = as_user("marie", "gardien", "key", "rotate")
    # as an upgrade finds it
    sh("groupadd", "gardien-admin")
    sh("usermod", "--append", "--groups", "gardien-admin", "jean")
    old = as_user("jean", "gardien", "key", "show")
    warned = sh("gardien", "doctor", check=False).stdout
    sh("groupdel", "gardien-admin")
    return {
        "root": status()["building"],
        "gateway": status()["gateway"],
        "member": json.loads(marie.stdout)["building"],
        "stranger": [jean.returncode, jean.stderr],
        "not_hers": [rotated.returncode, rotated.stderr],
        "old_group": [old.stdout + old.stderr, warned],
    }


def doctor():
    done = sh("gardien", "doctor", check=False)
    return {"status": done.returncode, "said": done.stdout + done.stderr}


def bundle():
    secret = Path("/etc/gardien/credentials/broker-password")
    secret.write_text("planted-secret-93\n")
    secret.chmod(0o600)
    other = Path("/etc/gardien/devices.yaml")
    other.write_text(
        "# the old broker was mqtts://marie:planted-in-url@10.0.0.1\n"
        "password: planted-in-yaml\nnote: planted-secret-93 stands here too\n"
    )
    planted = other.read_text() + secret.read_text()
    done = sh("gardien", "support-bundle", "--out", "/opt/test/bundle.tar.gz", check=False)
    secret.unlink()
    other.unlink()
    return {"status": done.returncode, "said": done.stdout + done.stderr, "planted": planted}


def commanded():
    """An order in force: nothing is upgraded meanwhile."""
    sys.dont_write_bytecode = True
    sys.path[1:1] = ["/usr/share/gardien", "/usr/share/gardien/vendor"]
    global CENTRE  # noqa: PLW0603 -- who orders, in the steps that follow
    CENTRE = boiler.Centre(TEST)
    CENTRE.trusted()
    sh("gardien", "control", "test", boiler.NAME)
    in_force()
    done = sh("gardien-upgrade", "/opt/test/new.deb", check=False)
    return {"status": done.returncode, "said": done.stderr, "register": register()}


def register():
    return boiler.standing(REGISTER)["value"]


def in_force():
    def known():
        control = CENTRE.control()
        return control and "unknown" not in control["guards"].values()

    if register() != boiler.ORDERED:
        until(known)
        CENTRE.orders()
        until(lambda: register() == boiler.ORDERED, every=0.05)


def quickly():
    """A unit that notices sooner, is started anew sooner, and has every drop-in of the manual."""
    folder = Path("/run/systemd/system/gardien.service.d")
    folder.mkdir(parents=True, exist_ok=True)
    # the last command notes how those before it have ended: systemd forgets it at the next start
    noted = f"ExecStopPost=+/bin/sh -c 'systemctl show gardien.service -p ExecStopPost >{POST}'"
    (folder / "soon.conf").write_text(f"[Service]\nWatchdogSec=3s\nRestartSec=2s\n{noted}\n")
    manual = Path("/usr/share/doc/gardien/install.md").read_text()
    blocks = re.findall(r"(?m)^    \[Service\]\n(?:    .+\n)+", manual)
    for number, block in enumerate(blocks):
        (folder / f"manual-{number}.conf").write_text(textwrap.dedent(block))
    for path in ("/mnt/data/gardien", "/mnt/exchange"):
        Path(path).mkdir(parents=True)
    sh("systemctl", "daemon-reload")
    sh("systemctl", "restart", "gardien")
    in_force()
    verified = sh("systemd-analyze", "verify", "--man=no", "gardien.service", check=False).stderr
    return {"drop_ins": blocks, "verified": verified, "sees": show("ReadWritePaths")}


def slowly():
    shutil.rmtree("/run/systemd/system/gardien.service.d")
    shutil.rmtree("/mnt/data")
    sh("systemctl", "daemon-reload")


def dies_of(number):
    """End the daemon by a signal while it holds; what the unit did, and when."""
    POST.unlink(missing_ok=True)
    before, pid, began = int(show("NRestarts")), int(show("MainPID")), time.time()
    os.kill(pid, number)
    until(lambda: register() == boiler.BEFORE, every=0.05)
    given_back = boiler.standing(REGISTER)["at"]
    post = until(lambda: POST.exists() and POST.read_text()).partition("}")[0]
    until(lambda: int(show("NRestarts")) > before and show("ActiveState") == "active", 90)
    log = sh("journalctl", "-u", "gardien", "-n", "40", "-o", "cat").stdout
    return {
        "post": post,
        "given_back_s": round(given_back - began, 1),
        "alone": show("MainPID") == "0" or given_back < started(),
        "back_s": round(time.time() - began, 1),
        "waits": status() is not None,
        "log": log,
    }


def started():
    """When the daemon that runs was started, as a time."""
    said = sh("systemctl", "show", "gardien", "-p", "ExecMainStartTimestampMonotonic", "--value")
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + int(said.stdout) / 1e6


def watchdog():
    return quickly() | dies_of(signal.SIGSTOP)


def killed():
    try:
        in_force()
        try:
            return dies_of(signal.SIGKILL)
        except TimeoutError:
            if not group_gone(sh("journalctl", "-u", "gardien").stdout):
                raise
            # the equipment is released all the same; the unit is asked once more
            in_force()
            return dies_of(signal.SIGKILL)
    finally:
        slowly()


def group_gone(log):
    """In this machine systemd sometimes finds the unit's control group gone, and starts no
    ExecStopPost, or not the next one. A unit that is stopped then ends as `failed`.
    """
    return "Failed to spawn 'stop-post'" in log or "spawn next control task" in log


def upgrade():
    """With a backlog: the broker is down meanwhile. The daemon's account has planted a link."""
    sh("systemctl", "stop", "broker")
    planted = plant("upgrade")
    time.sleep(4)
    config = CONFIG.read_bytes()
    backlog = status()["uplinks"]["metropole"]["backlog"]["slots"]
    done = sh("gardien-upgrade", "/opt/test/new.deb", check=False, env=quick())
    return {
        "backlog": backlog,
        "status": done.returncode,
        "said": done.stdout[-400:],
        "version": status()["version"],
        "config_kept": CONFIG.read_bytes() == config,
        "backlog_after": status()["uplinks"]["metropole"]["backlog"]["slots"],
        "planted": planted.exists(),
    }


def plant(name):
    """What root would write through a link in the state directory, which its account may make."""
    target = Path(f"/etc/planted-{name}")
    as_gardien("ln", "-s", str(target), f"/var/lib/gardien/{name}")
    return target


def as_gardien(*command):
    return sh("setpriv", "--reuid=gardien", "--regid=gardien", "--clear-groups", *command)


def quick(steady=2, within=12):
    told = {"GARDIEN_UPGRADE_STEADY": str(steady), "GARDIEN_UPGRADE_WITHIN": str(within)}
    return os.environ | told


def failed_upgrade():
    done = sh("gardien-upgrade", "/opt/test/broken.deb", check=False, env=quick(within=5))
    return {
        "status": done.returncode,
        "said": done.stdout[-2000:],
        "version": status()["version"],
        "installed": sh("dpkg-query", "-W", "-f", "${Version} ${Status}", "gardien").stdout,
    }


def nothing_lost():
    start_broker("broker-again")  # systemd may still know a unit that was stopped
    last = int(time.time())
    until(lambda: min(newest().values()) >= last and not gaps(last), 60)
    report = sh(
        "python3", "-m", "hil.platform", "--db", "/opt/test/platform.db", "report", cwd="/opt/test"
    ).stdout
    return {"gaps": gaps(last), "report": json.loads(report), "why": whys(), "rows": len(rows())}


def newest():
    found = {}
    for place, t, _, _, span in rows():
        found[place] = max(found.get(place, 0), t + span - 1)
    return found if len(found) == METERS else {"": 0}


def gaps(last):
    """Slots of a second that no row accounts for."""
    held = {}
    for place, t, _, _, span in rows():
        held.setdefault(place, set()).update(range(t, t + span))
    return [(p, s) for p, slots in held.items() for s in range(min(slots), last) if s not in slots]


def whys():
    found = {}
    for _, _, value, why, span in rows():
        key = why if value is None else "value"
        found[key] = found.get(key, 0) + span
    return found


def log_search():
    """What the journal has of an uplink whose broker was down."""
    search = ("journalctl", "-u", "gardien", "UPLINK=metropole")
    entries = [json.loads(line) for line in sh(*search, "-o", "json").stdout.splitlines()]
    maps = Path(f"/proc/{show('MainPID')}/maps").read_text()
    return {
        "entries": entries,
        "explained": sh(*search, "-x", "-n", "1", "-o", "short").stdout,
        "loaded": [name for name in ("_journal", "_daemon") if f"/systemd/{name}." in maps],
    }


def library_update():
    """As an update of Debian would: the package is unpacked anew."""
    pid = show("MainPID")
    (deb,) = Path("/var/cache/apt/archives").glob("python3-tinydb_*.deb")
    sh("dpkg", "-i", str(deb))
    until(lambda: show("MainPID") not in (pid, "0") and show("ActiveState") == "active")
    return {"restarted": True}


def judged():
    """A version whose spool has a format more runs for a while, and does not stand."""
    marker, seen = Path("/var/lib/gardien-upgrade/upgrade"), set()
    upgrading = subprocess.Popen(
        ("gardien-upgrade", "/opt/test/other-format.deb"),
        env=quick(steady=6, within=7), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while upgrading.poll() is None:
        if marker.exists():
            seen.add((status() or {}).get("version"))
        time.sleep(0.5)
    said = upgrading.stdout.read()
    print(said, flush=True)
    last = int(time.time())
    until(lambda: min(newest().values()) >= last and not gaps(last), 60)
    return {
        "status": upgrading.returncode,
        "said": said,  # all of it: how much the services log meanwhile depends on the machine
        "ran_judged": "0.2.0" in seen,
        "marker": marker.exists(),
        "version": status()["version"],
        "gaps": gaps(last),
        "why": whys(),
    }


def archive(published, version="newer"):
    """A place from which apt takes a version over HTTP, published on that day."""
    folder = Path("/opt/test/archive")
    if not folder.exists():
        folder.mkdir()
        words = ("http.server", f"{ARCHIVE}", "--bind", "127.0.0.1", "--directory", f"{folder}")
        python(*words, unit="archive")
    deb = folder / f"{version}.deb"
    shutil.copy(f"/opt/test/{version}.deb", deb)
    control = sh("dpkg-deb", "-f", str(deb)).stdout.rstrip()
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    (folder / "Packages").write_text(
        f"{control}\nFilename: ./{version}.deb\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"
        f"Gardien-Published: {published}\n"
    )
    for source in (
        *Path("/etc/apt").glob("sources.list"),
        *Path("/etc/apt/sources.list.d").iterdir(),
    ):
        source.unlink()
    listed = Path("/etc/apt/sources.list.d/test.list")
    listed.write_text(f"deb [trusted=yes] http://127.0.0.1:{ARCHIVE} ./\n")


def timely():
    """The timer's program: before its ring, outside of its window, and when it may."""
    today, config = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), CONFIG.read_text()
    hour = int(sh("date", "+%H", env=os.environ | {"TZ": "Europe/Paris"}).stdout)
    closed = f"{(hour + 2) % 24:02}:00-{(hour + 3) % 24:02}:30"
    found = {"timer": sh("systemctl", "is-active", "gardien-upgrade.timer", check=False).stdout}

    def run(words, published, version="newer", within=20):
        archive(published, version)
        CONFIG.write_text(config + words)
        (folder / "quick.conf").write_text(
            f"[Service]\nEnvironment=GARDIEN_UPGRADE_STEADY=3 GARDIEN_UPGRADE_WITHIN={within}\n"
        )
        sh("systemctl", "daemon-reload")
        sh("systemctl", "start", "gardien-upgrade.service", check=False)
        log = sh("journalctl", "-u", "gardien-upgrade", "-n", "20", "-o", "cat").stdout
        return status()["version"], log

    folder = Path("/run/systemd/system/gardien-upgrade.service.d")
    folder.mkdir(parents=True)
    found["without a word"] = run("", "2020-01-01")
    found["early"] = run('updates: {ring: 1, window: "00:00-24:00"}\n', today)
    found["closed"] = run(f'updates: {{ring: 1, window: "{closed}"}}\n', "2020-01-01")
    always = 'updates: {ring: 1, window: "00:00-24:00"}\n'
    found["broken"] = run(always, "2020-01-01", "broken", within=6)
    found["installed"] = sh("dpkg-query", "-W", "gardien").stdout.split()[1]
    found["taken"] = run('updates: {ring: 1, window: "00:00-24:00"}\n', "2020-01-01")
    CONFIG.write_text(config)
    shutil.rmtree(folder)
    sh("systemctl", "daemon-reload")
    return found


def back():
    """From the newer version that the timer took, to the one before."""
    version = status()["version"]
    back = ("gardien-upgrade", "--below-floor", "--back")
    refused = [
        sh("gardien-upgrade", "--back", check=False, env=quick()),
        sh(*back, check=False, env=quick(), stdin=subprocess.DEVNULL),
        at_terminal("yes", *back),
    ]
    stayed = (status()["version"], Path("/var/lib/gardien-upgrade/floor").read_text().strip())
    went = at_terminal("0.1.0", *back)
    last = int(time.time())
    until(lambda: min(newest().values()) >= last and not gaps(last), 60)
    return {
        "status": went.returncode,
        "said": went.stdout[-900:],
        "version": version,
        "refused": [(one.returncode, one.stdout + one.stderr) for one in refused],
        "stayed": stayed,
        "floor": Path("/var/lib/gardien-upgrade/floor").read_text().strip(),
        "back_to": status()["version"],
        "gaps": gaps(last),
    }


def at_terminal(typed, *command):
    """Run a command as a person would, who types that."""
    main, other = pty.openpty()
    try:
        os.write(main, typed.encode() + b"\n")
        return sh(*command, check=False, env=quick(), stdin=other)
    finally:
        os.close(main)
        os.close(other)


def no_downgrade():
    """The daemon's account plants the mark of an upgrade, and its daemon answers nobody."""
    mark, version = Path("/var/lib/gardien/upgrade"), sh("gardien", "--version").stdout
    sh("rm", "-f", str(mark))
    as_gardien("touch", str(mark))
    sh("systemctl", "stop", "gardien")
    went = sh("gardien-upgrade", "--timely", check=False, env=quick(steady=1, within=3))
    found = {"said": went.stdout, "same": sh("gardien", "--version").stdout == version}
    sh("systemctl", "start", "gardien")
    sh("gardien-upgrade", "--timely", env=quick(steady=1))
    return found | {"mark": mark.exists()}


def memory():
    """Idle with a line of every driver and one uplink."""
    config = CONFIG.read_text()
    for name, link in {
        "heat": "{driver: mbus-tcp, host: 127.0.0.1, port: 20999}",
        "bms": "{driver: bacnet, address: 127.0.0.1/8, port: 47999}",
    }.items():
        sh("gardien", "config", "set", f"links.{name}", link)
    sh("systemctl", "restart", "gardien")
    time.sleep(6)
    lines = status()["links"]
    facts = Path(f"/proc/{show('MainPID')}/status").read_text()
    found = dict(line.split(":", 1) for line in facts.splitlines())
    CONFIG.write_text(config)
    sh("systemctl", "restart", "gardien")
    return {
        "lines": lines,
        "rss_MB": round(int(found["VmRSS"].split()[0]) / 1024, 1),
        "anon_MB": round(int(found["RssAnon"].split()[0]) / 1024, 1),
    }


def remove():
    in_force()
    planted = plant("removed")
    sh("apt-get", "remove", "-y", "gardien")
    facts = sh("systemctl", "show", "gardien", "-p", "Result,ExecMainCode,ExecMainStatus").stdout
    log = sh("journalctl", "-u", "gardien", "-n", "12", "-o", "short-precise", check=False).stdout
    return {
        "ended": f"{facts}{log}",
        "group_gone": group_gone(log),
        "planted": planted.exists(),
        "register": register(),
        "config": CONFIG.exists(),
        "keys": Path("/var/lib/gardien/keys").exists(),
        "active": sh("systemctl", "is-active", "gardien", check=False).stdout.strip(),
        "socket": Path("/run/gardien.sock").exists(),
        "code": Path("/usr/share/gardien").exists(),
    }


def reinstalled():
    """Over what a removal has left: it starts by itself, with the same identity."""
    sh("apt-get", "install", "-y", "--no-install-recommends", "/opt/test/new.deb")
    until(lambda: show("ActiveState") == "active")
    return {
        "gateway": until(status)["gateway"],
        "enabled": sh("systemctl", "is-enabled", "gardien").stdout,
    }


def backed_up():
    """The backup, as docs/replace.md makes it, for what comes after the reset."""
    key, certificate = TEST / "recovery.key", TEST / "recovery.crt"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7300"
    sh("openssl", *words.split(), "-subj", "/CN=recovery", "-keyout", str(key), "-out",
       str(certificate))  # fmt: skip
    sh("gardien", "backup", str(TEST / "building"), "--to", str(certificate))
    return {"told": told_of(), "config": CONFIG.read_text()}


def told_of():
    """What people have told this gateway; a restore is a change of its registry (032)."""
    places = json.loads(sh("gardien", "place", "list", "--json").stdout)
    del places["revision"]
    return {"gateway": status()["gateway"], "places": places}


def reset():
    """While the equipment does not answer nothing is destroyed: who knows what stood there?"""
    in_force()
    Path("/etc/gardien/sftp.key").write_text("of this building")
    sh("systemctl", "stop", "boiler")
    refused = sh("gardien", "factory-reset", "--yes", check=False)
    kept = Path("/var/lib/gardien/registry.json").exists()
    python("boiler", str(PLANT), str(REGISTER), unit="boiler")
    time.sleep(0.5)
    held, done = register(), sh("gardien", "factory-reset", "--yes", check=False)
    return {
        "refused": [refused.returncode, refused.stderr, kept, held],
        "register": register(),
        "status": done.returncode,
        "said": done.stdout + done.stderr,
        "active": sh("systemctl", "is-active", "gardien", check=False).stdout.strip(),
        "left": sorted(str(p) for p in Path("/var/lib/gardien").rglob("*")),
        "gateway": json.loads(Path("/var/lib/gardien/keys/identity.json").read_text())["gateway"],
        "sample": CONFIG.read_bytes()
        == Path("/usr/share/gardien/config.example.yaml").read_bytes(),
        "beside": sorted(path.name for path in CONFIG.parent.iterdir()),
    }


def replaced():
    """docs/replace.md, word by word, on what a new machine has: the package and its sample."""
    sh("systemctl", "stop", "gardien")
    backup = ("restore", str(TEST / "building"), "--key", str(TEST / "recovery.key"), "--yes")
    unnamed = sh("gardien", *backup, check=False)
    assert unnamed.returncode == 1, "--yes does not say which gateway is meant"
    sh("gardien", *backup, *unnamed.stderr.split()[-2:])
    sh("gardien", "check")
    sh("systemctl", "enable", "--now", "gardien")
    until(status)
    return told_anew() | {
        "doctor": sh("gardien", "doctor", check=False).stdout,
    }


def told_anew():
    uid = pwd.getpwnam("gardien").pw_uid
    return {
        "told": told_of(),
        "config": CONFIG.read_text(),
        "roots": [str(p) for p in Path("/var/lib/gardien").rglob("*") if p.lstat().st_uid != uid],
    }


def dead():
    """What was on a disk, put into a machine with the sample, by the commands of the manual."""
    old = Path("/media/old")
    old.mkdir(parents=True)
    sh("systemctl", "disable", "--now", "gardien")
    sh("cp", "-a", "--parents", "/var/lib/gardien", "/etc/gardien", str(old))
    sh("gardien", "factory-reset", "--yes")
    manual = Path("/usr/share/doc/gardien/replace.md").read_text()
    blocks = re.findall(r"(?m)(?:^    .+\n)+", manual)
    (block,) = [block for block in blocks if str(old) in block]
    sh("sh", "-c", 'sudo() { "$@"; }\n' + textwrap.dedent(block))
    shutil.rmtree(old)
    until(status)
    return told_anew() | {"enabled": sh("systemctl", "is-enabled", "gardien", check=False).stdout}


def purge():
    sh("apt-get", "purge", "-y", "gardien")
    uid = pwd.getpwnam("gardien").pw_uid
    elsewhere = ("/opt/test/*", "/proc/*", "/run/user/*", "/var/log/*", "/sys/*")
    ours = ("(", "-iname", "*gardien*", "-o", "-uid", str(uid), ")")
    besides = [word for path in elsewhere for word in ("-not", "-path", path)]
    left = sh("find", "/", "-xdev", *ours, *besides).stdout.split()
    listed = ("systemctl", "list-units", "--all", "gardien*", "--plain", "--no-legend")
    # systemd forgets a name when it comes round to it
    with contextlib.suppress(TimeoutError):
        until(lambda: not sh(*listed).stdout.strip(), 20, every=1)
    return {"left": left, "units": sh(*listed).stdout.strip()}


LIVES = {
    "operation": (
        install, sample_again, surroundings, commissioning, start, door, doctor, bundle, commanded,
        watchdog, killed, upgrade, failed_upgrade, nothing_lost, log_search, library_update, remove,
        reinstalled, backed_up, reset, replaced, dead, purge,
    ),
    "versions": (
        install_new, surroundings, commissioning, start, page, page_used, judged, timely, back,
        no_downgrade, memory, page_gone,
    ),
}  # fmt: skip


def failure(error, began):
    """What failed, where, and the journal of the unit since the step began; the end of each."""
    where = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    since = f"-{time.monotonic() - began:.0f}s"
    journal = sh(
        "journalctl", "-u", "gardien", "--since", since, "-o", "short-precise", check=False
    )
    return f"{type(error).__name__}: {error}"[-3000:] + f"\n{where}\n{journal.stdout[-6000:]}"


def main():
    for call in LIVES[sys.argv[1]]:
        began = time.monotonic()
        try:
            SEEN[call.__name__] = call() or {}
        except Exception as error:  # noqa: BLE001 -- what it was is for the tests to say
            SEEN[call.__name__] = {"failed": failure(error, began)}
        SEEN[call.__name__]["took_s"] = round(time.monotonic() - began, 1)
        (TEST / "seen.json").write_text(json.dumps(SEEN, indent=1))


main()
