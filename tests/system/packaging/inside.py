"""What happens inside the machine, step by step; each writes what it saw to /opt/test/seen.json."""

import json
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

TEST = Path("/opt/test")
CONFIG = Path("/etc/gardien/config.yaml")
BROKER, LINE = 21883, 20502
METERS = 4
SEEN = {}
WRITTEN = f"""\
building: {{name: Résidence Les Alpins, timezone: Europe/Paris}}
links:
  riser: {{driver: modbus-tcp, host: 127.0.0.1, port: {LINE}, timeout: 500ms}}
devices:
DEVICES
uplinks:
  metropole:
    {{recipient: energie.metropole.example, transport: mqtt, url: "mqtt://127.0.0.1:{BROKER}",
      receipt: platform, seal: 1s}}
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
state: /var/lib/gardien
spool: {{max: 50MB, flush: 1s}}
"""
STEPS = []


def step(call):
    STEPS.append(call)
    return call


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
    sh(
        "systemd-run",
        "--quiet",
        f"--unit={unit}",
        "--setenv=PYTHONPATH=/opt/test",
        "python3",
        "-m",
        *words,
    )


def as_user(name, *command):
    return sh(
        "setpriv", f"--reuid={name}", "--init-groups", "--regid=nogroup", *command, check=False
    )


@step
def install():
    began = time.monotonic()
    done = sh(
        "apt-get",
        "install",
        "-y",
        "--no-install-recommends",
        "/opt/test/old.deb",
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    )
    keys = Path("/var/lib/gardien/keys")
    return {
        "seconds": round(time.monotonic() - began, 1),
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
        "verify": sh(
            "systemd-analyze",
            "verify",
            "--man=no",
            "gardien.service",
            "gardien.socket",
            check=False,
        ).stderr,
        "gardien_kB": int(
            sh("du", "-sk", "--apparent-size", "/usr/share/gardien").stdout.split()[0]
        ),
    }


@step
def surroundings():
    (TEST / "mosquitto.conf").write_text(f"listener {BROKER} 127.0.0.1\nallow_anonymous true\n")
    sh("systemd-run", "--quiet", "--unit=broker", "mosquitto", "-c", "/opt/test/mosquitto.conf")
    python(
        "hil.building",
        "--lines",
        "1",
        "--meters",
        str(METERS),
        "--ports",
        str(LINE),
        "--log",
        "/opt/test/answers.jsonl",
        unit="building",
    )
    time.sleep(1)
    start_platform()


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


@step
def commissioning():
    devices = "".join(
        f"  m{n}: {{link: riser, address: {n}, profile: eastron-sdm120, every: 1s}}\n"
        for n in range(1, METERS + 1)
    )
    CONFIG.write_text(WRITTEN.replace("DEVICES\n", devices))
    labels = [f"A-{n}" for n in range(1, METERS + 1)]
    (TEST / "places.csv").write_text("label;type\n" + "".join(f"{x};dwelling\n" for x in labels))
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


@step
def start():
    began = time.monotonic()
    sh("systemctl", "enable", "--now", "gardien")
    ready = time.monotonic() - began
    until(lambda: len(rows()) >= METERS * 5)
    pid = show("MainPID")
    told = Path(f"/proc/{pid}/status").read_text()
    facts = dict(line.split(":", 1) for line in told.splitlines())
    return {
        "ready_s": round(ready, 2),
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


@step
def door():
    sh("useradd", "--no-create-home", "--groups", "gardien-admin", "marie")
    sh("useradd", "--no-create-home", "jean")
    marie, jean = (as_user(n, "gardien", "status", "--json") for n in ("marie", "jean"))
    return {
        "root": status()["building"],
        "gateway": status()["gateway"],
        "member": json.loads(marie.stdout)["building"],
        "stranger": [jean.returncode, jean.stderr],
    }


@step
def doctor():
    done = sh("gardien", "doctor", check=False)
    return {"status": done.returncode, "said": done.stdout + done.stderr}


@step
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


@step
def watchdog():
    folder = Path("/run/systemd/system/gardien.service.d")
    folder.mkdir(parents=True)
    (folder / "soon.conf").write_text("[Service]\nWatchdogSec=3s\nRestartSec=1s\n")
    sh("systemctl", "daemon-reload")
    sh("systemctl", "restart", "gardien")
    before = int(show("NRestarts"))
    os.kill(int(show("MainPID")), signal.SIGSTOP)
    began = time.monotonic()
    until(lambda: int(show("NRestarts")) > before and show("ActiveState") == "active", 90)
    back = round(time.monotonic() - began, 1)
    log = sh("journalctl", "-u", "gardien", "-n", "30", "-o", "cat").stdout
    shutil.rmtree(folder)
    sh("systemctl", "daemon-reload")
    return {"back_s": back, "watchdog": "atchdog timeout" in log}


@step
def killed():
    before, pid = int(show("NRestarts")), show("MainPID")
    os.kill(int(pid), signal.SIGKILL)
    began = time.monotonic()
    until(lambda: int(show("NRestarts")) > before and show("ActiveState") == "active")
    return {"back_s": round(time.monotonic() - began, 1), "waits": status() is not None}


@step
def upgrade():
    """With a backlog: the broker is down meanwhile."""
    sh("systemctl", "stop", "broker")
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
    }


def quick():
    return os.environ | {"GARDIEN_UPGRADE_STEADY": "3", "GARDIEN_UPGRADE_WITHIN": "12"}


@step
def failed_upgrade():
    done = sh("gardien-upgrade", "/opt/test/broken.deb", check=False, env=quick())
    return {
        "status": done.returncode,
        "said": done.stdout[-900:],
        "version": status()["version"],
        "installed": sh("dpkg-query", "-W", "-f", "${Version} ${Status}", "gardien").stdout,
    }


@step
def nothing_lost():
    sh("systemctl", "reset-failed", "broker", check=False)
    sh("systemd-run", "--quiet", "--unit=broker", "mosquitto", "-c", "/opt/test/mosquitto.conf")
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


@step
def library_update():
    pid = show("MainPID")
    sh(
        "dpkg-trigger",
        "--by-package=python3-cryptography",
        "/usr/lib/python3/dist-packages/cryptography",
    )
    sh("dpkg", "--configure", "--pending")
    until(lambda: show("MainPID") not in (pid, "0") and show("ActiveState") == "active")
    return {"restarted": True}


@step
def back():
    """To a newer version that runs for a while, and back to the one before."""
    done = sh("gardien-upgrade", "/opt/test/newer.deb", check=False, env=quick())
    version = status()["version"] if status() else None
    time.sleep(4)
    went = sh("gardien-upgrade", "--back", check=False, env=quick())
    last = int(time.time())
    until(lambda: min(newest().values()) >= last and not gaps(last), 60)
    return {
        "status": done.returncode or went.returncode,
        "said": done.stdout[-500:] + went.stdout[-500:],
        "version": version,
        "back_to": status()["version"],
        "gaps": gaps(last),
    }


@step
def remove():
    sh("apt-get", "remove", "-y", "gardien")
    return {
        "config": CONFIG.exists(),
        "keys": Path("/var/lib/gardien/keys").exists(),
        "active": sh("systemctl", "is-active", "gardien", check=False).stdout.strip(),
        "socket": Path("/run/gardien.sock").exists(),
        "code": Path("/usr/share/gardien").exists(),
    }


@step
def reinstalled():
    """Over what a removal has left: it starts by itself, with the same identity."""
    sh("apt-get", "install", "-y", "--no-install-recommends", "/opt/test/new.deb")
    until(lambda: show("ActiveState") == "active")
    return {
        "gateway": until(status)["gateway"],
        "enabled": sh("systemctl", "is-enabled", "gardien").stdout,
    }


@step
def reset():
    done = sh("gardien", "factory-reset", "--yes", check=False)
    return {
        "status": done.returncode,
        "said": done.stdout + done.stderr,
        "active": sh("systemctl", "is-active", "gardien", check=False).stdout.strip(),
        "left": sorted(str(p) for p in Path("/var/lib/gardien").rglob("*")),
        "gateway": json.loads(Path("/var/lib/gardien/keys/identity.json").read_text())["gateway"],
        "sample": CONFIG.read_bytes()
        == Path("/usr/share/gardien/config.example.yaml").read_bytes(),
    }


@step
def purge():
    sh("apt-get", "purge", "-y", "gardien")
    uid = pwd.getpwnam("gardien").pw_uid
    left = sh(
        "find",
        "/",
        "-xdev",
        "(",
        "-iname",
        "*gardien*",
        "-o",
        "-uid",
        str(uid),
        ")",
        "-not",
        "-path",
        "/opt/test/*",
        "-not",
        "-path",
        "/proc/*",
        "-not",
        "-path",
        "/run/user/*",
        "-not",
        "-path",
        "/var/log/*",
        "-not",
        "-path",
        "/sys/*",
    ).stdout.split()
    return {
        "left": left,
        "units": sh(
            "systemctl", "list-units", "--all", "gardien*", "--plain", "--no-legend"
        ).stdout.strip(),
    }


def main():
    only = os.environ.get("ONLY", "").split()
    for call in STEPS:
        if only and call.__name__ not in only:
            continue
        began = time.monotonic()
        try:
            SEEN[call.__name__] = call() or {}
        except Exception as error:  # noqa: BLE001 -- what it was is for the tests to say
            SEEN[call.__name__] = {"failed": f"{type(error).__name__}: {error}"[-3000:]}
        SEEN[call.__name__]["took_s"] = round(time.monotonic() - began, 1)
        (TEST / "seen.json").write_text(json.dumps(SEEN, indent=1))
    log = sh("journalctl", "-u", "gardien", "-o", "cat", "--no-pager").stdout
    (TEST / "journal").write_text(log)


main()
