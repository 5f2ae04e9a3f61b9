"""The road of docs/receiver.md, walked literally on two machines, and a life of gardien-receiver.

Both machines share a network that has loopback only. What people carry between them on a stick is
copied from outside.
"""

import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.system.packaging import machine
from tests.system.packaging.conftest import needed
from tests.system.packaging.variants import variant

PAGE = machine.TOP / "docs/receiver.md"
STEPS = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
SERVER, GATEWAY = "server", "gateway"
WHO = (SERVER, SERVER, GATEWAY, SERVER, GATEWAY, GATEWAY, GATEWAY, GATEWAY, SERVER)
"""where each block of the chapter is typed"""
# `sudo` of a machine that has none: we are root, and alice has typed it
SUDO = (
    'sudo() { if [ "$1" = -u ]; then u=$2; shift 2; runuser -u "$u" -- "$@"; else "$@"; fi; }\n'
    "export SUDO_USER=alice DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8 COLUMNS=80; cd /root\n"
)
# a meter of the building would be on another machine, and read every ten minutes (rule P2)
ELSEWHERE = (
    ("host: 192.168.10.20", "host: 127.0.0.1, port: 15020"),
    ("every: 10min", "every: 1s"),
    ("https://receiver.you.example:", "https://127.0.0.1:"),
)
APT = " apt-get install -yq --no-install-recommends"
"""what a package recommends is not in the root"""
LAB = "    seal: 1s\nspool: {flush: 1s}\nprivacy: {policy: DEMO-1}\nclock: {source: system}\n"


def walk(built):
    """What each step printed, by its number, and what came of it."""
    steps, began = {}, time.monotonic()
    with pair(built) as type_in:
        scripts = list(chapter())
        # two people, one at each machine; when its turn comes, apt has nothing left to do
        with ThreadPoolExecutor(2) as people:
            first = [script.partition("\n")[0] for _, script in scripts if APT in script]
            list(people.map(type_in, (SERVER, GATEWAY), first))
        for number, (who, script) in enumerate(scripts):
            if "gardien-receiver query" in script:
                _readings_arrive(type_in)
            steps[number] = type_in(who, script)
            print(number, round(time.monotonic() - began, 1))
            _carried(type_in)
        steps["minutes"] = (time.monotonic() - began) / 60
        for name in ("export --out feed-1.csv", "openssl req"):
            steps[name] = type_in(SERVER, f"exec 2>&1\n{block(name)}")
        steps["daily"] = type_in(SERVER, 'sudo gardien-receiver query "SELECT label FROM daily"')
        steps |= life(type_in)
    return steps


def chapter():
    """Who types which script: the blocks of the first chapter, up to its result."""
    text = PAGE.read_text("utf-8")
    text = text[text.index("**1. On the server**") : text.index("`complete` becomes true")]
    blocks = [block for block in STEPS.findall(text) if block[0]]
    assert len(blocks) == len(WHO), blocks
    for who, (kind, block) in zip(WHO, blocks, strict=True):
        script = block.replace("./gardien", "/opt/in/gardien").replace(" apt install", APT)
        script = script.replace(
            "key show", "key show || true"
        )  # without a certificate its status is 1
        script = re.sub(r"\bG…(\.pem)?", lambda m: "G*.pem" if m[1] else "$(cat /root/id)", script)
        script = script.replace("--step 10min", "--step 1s")
        script = script.replace("--host receiver.you.example", "--host 127.0.0.1")
        if kind == "yaml":
            for written, here in ELSEWHERE:
                assert written in script
                script = script.replace(written, here)
            script = f"cat >/etc/gardien/config.yaml <<'END'\n{script}{LAB}END\n"
        yield who, script


def block(words):
    """What is to be typed of a later chapter."""
    (script,) = (text for text in SHELL.findall(PAGE.read_text("utf-8")) if words in text)
    return script.replace("receiver.you.example", "127.0.0.1")


def _readings_arrive(type_in):
    """A person would look later."""
    ask = 'sudo gardien-receiver query "SELECT count(*) FROM readings WHERE value IS NOT NULL"'
    _until(lambda: int(type_in(SERVER, ask).split()[-1]) >= 2)


def _carried(type_in):
    """What the page says to bring from one machine to the other."""
    type_in.bring(GATEWAY, "root/gateway.csr", SERVER, "root")
    type_in.bring(SERVER, "etc/gardien-receiver/ca.pem", GATEWAY, "root")
    for path in type_in.root(SERVER).glob("root/G*.pem"):
        type_in.bring(SERVER, f"root/{path.name}", GATEWAY, "root")
    names = type_in.root(GATEWAY) / "var/lib/gardien/keys/identity.json"
    if names.exists():
        shown = type_in(GATEWAY, "gardien key show | sed -n 's/^gateway *//p' || true")
        (type_in.root(SERVER) / "root/id").write_text(shown)


def life(type_in):
    """What happens to a service of its own: failures, mistakes, an upgrade, the end."""
    unit = "gardien-receiver.service"
    count = 'gardien-receiver query "SELECT count(*) FROM batch" | tail -1'

    def show(name):
        return type_in(SERVER, f"systemctl show {unit} -p {name} --value").strip()

    def ready():
        _until(lambda: show("StatusText") == "ready")

    seen = {
        "user": type_in(SERVER, f"ps -o user:20= -p {show('MainPID')}").strip(),
        "score": type_in(SERVER, f"systemd-analyze security {unit} | tail -1"),
        "verify": type_in(SERVER, f"systemd-analyze verify --man=no {unit} 2>&1 || true"),
        "modes": type_in(SERVER, "stat -c '%a %U:%G %n' /etc/gardien-receiver/*"),
    }
    type_in(SERVER, f"kill -9 {show('MainPID')}")
    _until(lambda: show("NRestarts") == "1")
    ready()
    conf = type_in.root(SERVER) / "etc/gardien-receiver/receiver.conf"
    good = conf.read_text()
    conf.write_text(good.replace("recipient =", "recipent ="))
    type_in(SERVER, f"systemctl restart {unit} 2>&1 || true")
    seen["mistake"] = type_in(SERVER, f"journalctl -u {unit} -o cat -n 15")
    conf.write_text(good)
    type_in(SERVER, f"systemctl stop {unit}; systemctl start {unit}")
    ready()
    stored = int(type_in(SERVER, count))
    before = show("MainPID")
    type_in(SERVER, "apt-get install -yq --no-install-recommends /opt/in/newer.deb")
    ready()
    seen["upgraded"] = {
        "version": type_in(SERVER, "gardien-receiver --version"),
        "restarted": show("MainPID") != before,
        "conf_kept": conf.read_text() == good,
    }
    _until(lambda: int(type_in(SERVER, count)) > stored)
    type_in(SERVER, "apt-get remove -yq gardien-receiver")
    seen["removed"] = {
        "conf": conf.exists(),
        "code": (type_in.root(SERVER) / "usr/share/gardien-receiver").exists(),
        "units": type_in(SERVER, f"systemctl is-active {unit} || true").strip(),
    }
    type_in(SERVER, "apt-get purge -yq gardien-receiver")
    seen["left"] = type_in(
        SERVER,
        "find /etc /var/lib /usr /run -xdev -name '*gardien*' -not -path '/var/lib/systemd/*'",
    )
    return seen


def _until(fits, seconds=120):
    end = time.monotonic() + seconds
    while not fits():
        assert time.monotonic() < end
        time.sleep(0.3)  # another machine


@contextmanager
def pair(built):
    """Two machines that run; what is called types a script into one of them."""
    with tempfile.TemporaryDirectory(prefix="gardien-machine-", dir="/var/tmp") as folder:
        homes = {name: Path(folder, name) for name in (SERVER, GATEWAY)}
        for home in homes.values():
            home.mkdir()
        base = machine.root(needed())
        with (
            machine.layered(base, homes[SERVER]) as server,
            machine.layered(base, homes[GATEWAY]) as gateway,
        ):
            for root in (server, gateway):
                shutil.copytree(built.parent, root / "opt/in")
            receiver = next((server / "opt/in").glob("gardien-receiver_*.deb"))
            newer = variant(receiver, "0.1.1", server / "opt")
            newer.rename(server / "opt/in/newer.deb")
            shutil.copytree(machine.TOP / "hil", gateway / "opt/hil/hil")
            with booted({SERVER: server, GATEWAY: gateway}) as machines:
                serve_meters(machines, 1)
                yield machines


def serve_meters(machines, meters):
    """Let the meters of a line answer in the gateway's network, at port 15020."""
    unit = "systemd-run --quiet --unit=building --setenv=PYTHONPATH=/opt/hil python3 -m"
    words = f"hil.building --lines 1 --meters {meters} --ports 15020 --log /opt/answers.jsonl"
    machines(GATEWAY, f"{unit} {words}")


@contextmanager
def booted(roots):
    """Boot machines in a network of their own; `typing` needs nothing in them but a shell."""
    start = "ip link set lo up; mkdir -p /run/systemd; mount -t tmpfs tmpfs /run/systemd\n"
    for name, root in roots.items():
        start += (
            "systemd-nspawn --quiet --register=no --keep-unit --resolv-conf=off --timezone=off"
            f" --machine={name} -D {root} -b </dev/null >{root.parent}/console 2>&1 &\n"
        )
    running = subprocess.Popen(
        ("unshare", "--net", "--mount", "--propagation=private", "sh", "-c", f"{start}wait"),
    )
    try:
        machines = Machines(roots, running.pid)
        for name in roots:
            machines(name, "systemctl is-system-running --wait || true")
        yield machines
        for name in roots:
            machines(name, "systemctl poweroff --no-block")
        running.wait(60)
    finally:
        for leader in children(running.pid):
            subprocess.run(("kill", "-9", str(leader)), check=False)
        running.kill()
        running.wait()


class Machines:
    """`machines("server", "uptime")`: what a script printed in one of them."""

    def __init__(self, roots, above):
        self._roots, self._above = roots, above
        self._leaders = {}

    def root(self, name):
        """Its file system, from outside."""
        return self._roots[name]

    def bring(self, name, path, other, folder):
        """Copy a file from one machine to the other, if it is there."""
        if (self._roots[name] / path).exists():
            shutil.copy(self._roots[name] / path, self._roots[other] / folder)

    def __call__(self, name, script):
        """Raises RuntimeError, with what it printed, if it fails."""
        if name not in self._leaders:
            _until(lambda: self._find(name))
        enter = ("nsenter", "-t", str(self._leaders[name]), "-m", "-u", "-i", "-p", "-n", "-C")
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        env = ("env", "-i", "HOME=/root", path, "TERM=dumb", "sh", "-ec", SUDO + script)
        return machine.run((*enter, *env), stdin=subprocess.DEVNULL)

    def _find(self, name):
        """The first process in it; False while there is none, or no system bus."""
        for pid in children(self._above):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            inside = children(pid)
            bus = self._roots[name] / "usr/bin/systemctl"
            if f"--machine={name}".encode() in words and inside and bus.exists():
                self._leaders[name] = inside[0]
                up = (
                    "nsenter",
                    "-t",
                    str(inside[0]),
                    "-a",
                    "test",
                    "-S",
                    "/run/dbus/system_bus_socket",
                )
                return subprocess.run(up, check=False, capture_output=True).returncode == 0
        return False


def children(pid):
    """Direct children of a process; none if it has ended."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
