"""The worlds of the recipes, and the steps of their set-up.

A step is a line of `setup` that begins with `@`. Its words are split as by a shell, after `$NAME` was
replaced. Lines that begin with `gardien` are run like what people type, and must succeed; all other
lines are run by bash.

    @replace OLD NEW          replace text in the configuration, where it must occur exactly once
    @sample                   the configuration is the package's sample
    @without-meters           the registry has places and no meters
    @around                   start the devices, the broker and the platform
    @start, @stop             start the agent, with all these if they do not run; stop the agent
    @until WORD…              wait until the agent's status contains the words
    @until-waiting            wait until readings wait for a recipient
    @until-read DEVICE        wait until the agent has read a device
    @until-down LINE          wait until a line has failed
    @until-connected, @until-cut    wait until all uplinks are connected, or one is not
    @exchanged LINE UNIT      another meter is at this address from now on
    @line-gone LINE           nothing answers at the port of this line any more
    @serial-line TROUBLE      a serial line with a meter; two, deaf, busy: see devices.py; or unplugged
    @broker GUARD             the platform's broker wants a `password`, or `tls`
    @platform-changes         its password or CA is another from now on; without @broker it is stopped
    @occupancy NAME LABEL     set $NAME to the id of the occupancy of a dwelling
    @belongs-to ACCOUNT       the state directory and the configuration belong to an account
    @door                     every account may reach the agent, as with the package's socket
    @nameless                 nobody says who types
    @small-disk, @fill-disk, @read-only-disk    a disk for the state directory, and its trouble
    @recovery NAME            make the key and the certificate of a safe, NAME.key and NAME.crt
    @empty-state              the state directory is that of a new machine
    @certificate FILE         a certificate for another gateway
    @boiler-off               a control whose boiler does not answer
    @tell WORD…               an order to the simulated building (hil/orders.py)
    @order FILE CONTROL VALUE DURATION [BY]     a signed order; BY: stranger, revoked, other-audience
    @expired-grant FILE, @old-trust-list FILE, @signing-key NAME    what the platform brings
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import string
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.core.errors import AgentError
from agent.local import ask_daemon
from hil.broker import MOSQUITTO, PLAIN
from hil.ca import CA
from hil.meter import serial_of
from hil.platform.ledger import opened
from hil.platform.listen import Desk, listen
from hil.process import free_port
from tests.disks import disk
from tests.mistakes import HERE, Mistake, devices
from tests.mistakes.terminal import Seen, ended, forked, gardien, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.mistakes.shared import Shared

TOP = HERE.parents[1]
RECIPIENT = "energie.metropole.example"
LABELS = tuple(f"{'AB'[line]}-{unit:02d}" for line in range(2) for unit in range(1, 7))
WITHOUT_CONSENT = "B-06"
ALIKE = ("status", "doctor", "check", "read")
"""commands that change nothing: what they show in each language follows from one set-up"""
PATIENCE = 60.0
CONFIG = """\
building: {{name: Résidence Les Alpins, timezone: Europe/Paris}}
links:
{links}
devices:
{devices}
uplinks:
  metropole:
    {{recipient: {recipient}, transport: mqtt, url: "mqtt://127.0.0.1:{broker}", receipt: platform,
     seal: 1s}}
privacy: {{policy: DEMO-1}}
clock: {{source: system}}
state: {state}
spool: {{max: 50MB, flush: 1s}}
"""
SERIAL = """\
  riser-s: {{driver: modbus-rtu, port: {port}, baudrate: 9600, timeout: 300ms}}
devices:
  meter-S-01: {{link: riser-s, address: 1, profile: eastron-sdm120, every: 1s}}
"""
BOILER = """\
  boiler-room: {{driver: bacnet, address: 127.0.0.1/8, port: {port}, timeout: 500ms}}
devices:
  boiler:
    link: boiler-room
    address: "1201"
    place: {place}
    every: 5s
    points:
      offset: {{at: "analog-value,7", channel: state.offset, unit: K, writable: true}}
      stairwell: {{at: "analog-input,4", unit: Cel}}
"""
CONTROL = """\
controls:
  boiler-offset:
    point: boiler/offset
    equipment: heating
    modality: {action: offset, min: -10, max: 1, max_duration: 2h}
    guards: [{name: stairwell, point: boiler/stairwell, min: 18.0}]
    require: [building_manager]
    restore: relinquish
    device_watchdog: none-accepted
privacy: {policy: DEMO-1, common: {basis: AG du 12 mai, from: 2026-01-01}}
"""
GONE_ADAPTER = "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0"


class RecipeError(Exception):
    """A recipe that cannot be carried out."""


def language(code: str) -> dict[str, str]:
    """Return the environment of a terminal in a language, without what depends on this machine."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    named = {"en": "en_GB.UTF-8", "fr": "fr_FR.UTF-8"}[code]
    return {**kept, "LANG": named, "TERM": "xterm", "NO_COLOR": "1"}


def days() -> dict[str, str]:
    """Return the days that recipes name, relative to today."""
    today = dt.datetime.now(dt.UTC).date()
    away = {"TODAY": 0, "TOMORROW": 1, "NEXT_MONTH": 31, "YESTERDAY": -1, "LAST_MONTH": -31}
    return {name: (today + dt.timedelta(days=number)).isoformat() for name, number in away.items()}


@dataclass
class World:
    """Where a recipe happens: a folder, a configuration, and the processes of this recipe."""

    folder: Path
    config: Path
    state: Path
    env: dict[str, str]
    shared: Shared | None = None
    ports: list[int] = field(default_factory=list)
    """of the two lines and the broker"""
    inside: int = field(default_factory=free_port)
    """the broker's port for the platform itself"""
    serials: dict[tuple[int, int], int] = field(default_factory=dict)
    """meters that are not those of the list, by line and unit"""
    gone: set[int] = field(default_factory=set)
    """lines that do not answer"""
    broker: tuple[str, ...] = ("allow_anonymous true",)
    """who may connect to the platform's broker, as its configuration says it"""
    changed: tuple[str, ...] | None = None
    """the same after the platform has changed it; None: the broker is stopped"""
    agent: int = 0
    running: dict[str, int] = field(default_factory=dict)
    """the simulated processes beside the agent, by name"""
    open_now: ExitStack = field(default_factory=ExitStack)
    disk: Any = None

    def run(self, line: str, code: str = "en") -> None:
        """Carry out one line of a set-up. Raises RecipeError."""
        if line.startswith("@"):
            words = shlex.split(self.filled(line))
            STEPS[words[0]](self, *words[1:])
        elif line.startswith("gardien "):
            seen = self.types(line, code)
            if seen.status:
                raise RecipeError(f"{line}: {seen.text}")
        else:
            done = subprocess.run(
                ["bash", "-e", "-c", line], cwd=self.folder, env=self.environment(code),
                capture_output=True, text=True,
            )  # fmt: skip
            if done.returncode:
                raise RecipeError(f"{line}: {done.stderr}")

    def types(self, line: str, code: str, answers: Sequence[str] = (), account: str = "") -> Seen:
        """Run a command that a person types in the folder of the recipe."""
        words = shlex.split(self.filled(line))
        seen = typed(words[1:], self.folder, self.environment(code), answers, account)
        return Seen(self._installed(seen.text), seen.status)

    def _installed(self, text: str) -> str:
        """Name files as on an installed gateway, so that what is shown does not depend on us."""
        places = {self.config: "/etc/gardien/config.yaml", self.state: "/var/lib/gardien"}
        for path, shown in (*places.items(), (self.folder, "/home/marie")):
            text = text.replace(str(path), shown)
        return re.sub(rf"{self.folder.parent}/\w+", "/home/marie", text)

    def environment(self, code: str) -> dict[str, str]:
        """Return the environment of a command."""
        return {**language(code), **self.env}

    def filled(self, line: str) -> str:
        """Replace `$NAME`. Raises KeyError."""
        return string.Template(line).substitute(self.env)

    def status(self) -> dict[str, Any] | None:
        """Return the agent's status; None while it does not answer."""
        try:
            return ask_daemon(self.state, "status", {}, lambda _: None)
        except (OSError, ValueError, AgentError):
            return None

    def until(self, holds: Callable[[dict[str, Any]], Any], what: str) -> None:
        """Wait until something holds of the agent's status. Raises RecipeError."""
        deadline = time.monotonic() + PATIENCE
        while True:
            status = self.status()
            if status is not None and holds(status):
                return
            if time.monotonic() > deadline:
                log = (self.folder / "agent.log").read_text(errors="replace")[-2000:]
                said = json.dumps(status, indent=1)
                raise RecipeError(f"no {what} within {PATIENCE:.0f} s: {said}\n{log}")
            if self.agent and os.waitpid(self.agent, os.WNOHANG)[0]:
                self.agent = 0
                log = (self.folder / "agent.log").read_text(errors="replace")[-2000:]
                raise RecipeError(f"the agent has ended: {log}")
            time.sleep(0.05)

    def fork(self, action: Callable[[], None], name: str) -> None:
        """Run an action in a process that ends with the recipe."""
        self.running[name] = forked(action, self.folder / f"{name}.log")

    def end(self, name: str) -> None:
        """End such a process."""
        ended(self.running.pop(name), signal.SIGKILL)

    def close(self) -> None:
        """End everything that the recipe has started."""
        if self.agent:
            stop(self)
        for name in list(self.running):
            self.end(name)
        self.open_now.close()


def accepts(port: int, within: float = PATIENCE) -> None:
    """Return once something accepts connections on the loopback port."""
    deadline = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


# ------------------------------------------------------------------------------------- the worlds


class Worlds:
    """Makes the world of each recipe. What is costly to set up is made once, and copied."""

    def __init__(self, folder: Path, start: Callable[[], Shared]) -> None:
        self.folder = folder
        self._start = start
        self._shared: Shared | None = None
        self._prepared: dict[str, Path] = {}
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """End the shared gateway."""
        if self._shared:
            self._shared.close()

    @contextmanager
    def of(self, mistake: Mistake) -> Iterator[World]:
        """Open the world of a recipe; at the end, everything in it is ended."""
        folder = self.folder / f"m{next(self._numbers)}"
        folder.mkdir()
        make = {"bare": self._bare, "own": self._own, "shared": self._in_shared}[mistake.world]
        world = make(folder, "@without-meters" in mistake.setup)
        try:
            yield world
        finally:
            world.close()

    def _bare(self, folder: Path, _without: bool) -> World:
        config, state = folder / "config.yaml", folder / "state"
        text = (HERE / "site.yaml").read_text(encoding="utf-8").replace("STATE", str(state))
        config.write_text(text, encoding="utf-8")
        shutil.copytree(self._keys(), state, symlinks=True)
        return _world(folder, config, state)

    def _in_shared(self, folder: Path, _without: bool) -> World:
        shared = self._shared = self._shared or self._start()
        return _world(folder, shared.config, shared.state, shared=shared)

    def _own(self, folder: Path, without_meters: bool) -> World:
        config, state = folder / "config.yaml", folder / "state"
        shutil.copytree(
            self._registered("places" if without_meters else "meters"), state, symlinks=True
        )
        ports = [free_port() for _ in range(3)]
        config.write_text(own_config(ports, state), encoding="utf-8")
        return _world(folder, config, state, ports=ports)

    def _keys(self) -> Path:
        if "keys" not in self._prepared:
            world = self._new("keys")
            world.run("gardien key new")
            self._prepared["keys"] = world.state
        return self._prepared["keys"]

    def _registered(self, what: str) -> Path:
        """Return a state directory with places, or also with meters and consents."""
        if what not in self._prepared:
            world = self._new(what)
            if what == "meters":
                shutil.copytree(self._registered("places"), world.state, symlinks=True)
            else:
                world.run("gardien key new")
            for line in {"places": PLACES, "meters": METERS}[what](world):
                world.run(line)
            self._prepared[what] = world.state
        return self._prepared[what]

    def _new(self, name: str) -> World:
        folder = self.folder / name
        folder.mkdir()
        config, state = folder / "config.yaml", folder / "state"
        config.write_text(own_config([free_port() for _ in range(3)], state), encoding="utf-8")
        return _world(folder, config, state)


def _world(folder: Path, config: Path, state: Path, **more: Any) -> World:
    env = {"GARDIEN_CONFIG": str(config), "GARDIEN_AS": "marie", "STATE": str(state), **days()}
    return World(folder, config, state, env, **more)


def own_config(ports: Sequence[int], state: Path) -> str:
    """Return the configuration of an installed gateway with two lines of six meters."""
    at = [(line, unit) for line in range(2) for unit in range(1, 7)]
    return CONFIG.format(
        links="\n".join(
            f"  riser-{line}: {{driver: modbus-tcp, host: 127.0.0.1, port: {ports[line]}, "
            "timeout: 500ms}"
            for line in range(2)
        ),
        devices="\n".join(
            f"  meter-{label}: {{link: riser-{line}, address: {unit}, profile: eastron-sdm120, "
            "every: 1s}"
            for label, (line, unit) in zip(LABELS, at, strict=True)
        ),
        recipient=RECIPIENT,
        broker=ports[2],
        state=state,
    )


def _sheet(world: World, name: str, header: str, rows: Sequence[str]) -> str:
    path = world.folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def PLACES(world: World) -> list[str]:
    """Dwellings whose occupants moved in on 1 January 2020."""
    rows = [f"{label};dwelling;2020-01-01" for label in LABELS]
    return [f"gardien place import {_sheet(world, 'places.csv', 'label;type;since', rows)}"]


def METERS(world: World) -> list[str]:
    """Meters of all dwellings, and consents of all except one."""
    serials = [serial_of(1, line, unit) for line in range(2) for unit in range(1, 7)]
    rows = [f"{serial};{label}" for serial, label in zip(serials, LABELS, strict=True)]
    meters = _sheet(world, "meters.csv", "serial;dwelling", rows)
    agreed = [label for label in LABELS if label != WITHOUT_CONSENT]
    consents = _sheet(world, "consents.csv", "place", agreed)
    return [
        f"gardien meter import {meters} --offline",
        f"gardien consent give --file {consents} --recipient {RECIPIENT} --channel elec.imp"
        " --step 1s --purpose advice",
    ]


# -------------------------------------------------------------------------------------- the steps


def replace(world: World, old: str, new: str) -> None:
    text = world.config.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise RecipeError(f"{text.count(old)} times in the configuration: {old}")
    world.config.write_text(text.replace(old, new), encoding="utf-8")


def sample(world: World) -> None:
    shutil.copy(TOP / "config.example.yaml", world.config)


def without_meters(world: World) -> None:
    """Is done before: see Worlds."""


def start(world: World) -> None:
    if "devices" not in world.running:
        around(world)
    environment = world.environment("en")

    def act() -> None:
        os.chdir("/")
        os.environ.clear()
        os.environ.update(environment)
        gardien(["run", "--config", str(world.config)])

    world.agent = forked(act, world.folder / "agent.log")
    world.until(lambda status: True, "agent")


def around(world: World) -> None:
    if not world.ports:
        raise RecipeError("only an own world can be started")
    _start_devices(world)
    _start_broker(world, world.broker)
    inside = world.inside

    def platform() -> None:
        with opened(world.folder / "platform.db") as ledger:
            listen(inside, Desk(ledger, 0, world.folder))

    world.fork(platform, "platform")


def _start_devices(world: World) -> None:
    ports = [0 if line in world.gone else port for line, port in enumerate(world.ports[:2])]
    world.fork(lambda: asyncio.run(devices.lines(ports, world.serials)), "devices")
    for port in filter(None, ports):
        accepts(port)


def _start_broker(world: World, outside: Sequence[str]) -> None:
    port, config = world.ports[2], world.folder / "mosquitto.conf"
    lines = [
        "per_listener_settings true", "user root",
        *(line for line in PLAIN if "anonymous" not in line),
        f"listener {world.inside} 127.0.0.1", "allow_anonymous true",
        f"listener {port} 127.0.0.1", *outside,
    ]  # fmt: skip
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    world.fork(lambda: os.execv(MOSQUITTO, [MOSQUITTO, "-c", str(config)]), "broker")
    accepts(port)
    accepts(world.inside)


def stop(world: World) -> None:
    pid, world.agent = world.agent, 0
    ended(pid)


def until(world: World, *words: str) -> None:
    world.until(lambda status: all(word in json.dumps(status) for word in words), " ".join(words))


def until_waiting(world: World) -> None:
    def waits(status: dict[str, Any]) -> bool:
        return any(one["backlog"]["slots"] > 20 for one in status["uplinks"].values())

    world.until(waits, "waiting readings")


def until_read(world: World, device: str) -> None:
    world.until(lambda status: status["devices"][device]["answered"], f"answer of {device}")


def until_down(world: World, line: str) -> None:
    world.until(lambda status: status["links"][line]["error"], f"failure of {line}")


def _connected(status: dict[str, Any]) -> bool:
    return all(one["delivery"]["connected_since"] for one in status["uplinks"].values())


def until_connected(world: World) -> None:
    world.until(_connected, "connection")


def until_cut(world: World) -> None:
    world.until(lambda status: not _connected(status), "loss of the connection")


def exchanged(world: World, line: str, unit: str) -> None:
    world.serials[int(line), int(unit)] = 24_999_901
    world.end("devices")
    _start_devices(world)


def line_gone(world: World, line: str) -> None:
    world.gone.add(int(line))
    world.end("devices")
    _start_devices(world)


def serial_line(world: World, trouble: str) -> None:
    port = world.folder / "ttyUSB0"
    shown = GONE_ADAPTER if trouble == "unplugged" else str(port)
    text = world.config.read_text(encoding="utf-8")
    text = text.replace("devices:\n", SERIAL.format(port=shown))
    # a real port is possible there, so that what is for demonstrations is refused
    text = text.replace("DEMO-1", "FR-1").replace("source: system", "source: ntp")
    world.config.write_text(text, encoding="utf-8")
    if trouble != "unplugged":
        world.fork(lambda: asyncio.run(devices.serial_line(port, trouble)), "serial")
        _until_there(port)


def _until_there(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.is_symlink() and not path.exists():
        if time.monotonic() > deadline:
            raise RecipeError(f"{path} was not made")
        time.sleep(0.02)


def broker(world: World, guard: str) -> None:
    port, url = world.ports[2], f'"mqtt://127.0.0.1:{world.ports[2]}"'
    if guard == "password":
        world.broker, world.changed = (
            ("allow_anonymous false", f"password_file {_passwords(world, word)}")
            for word in ("first", "second")
        )
        word = world.folder / "password"
        word.write_text("first\n")
        word.chmod(0o600)
        replace(world, url, f'{url}, user: gw-17, password: "file:{word}"')
    else:
        former, present = CA("Former platform CA"), CA("Platform CA")
        own, new = former.server(world.folder), present.server(world.folder)
        world.broker, world.changed = (
            (f"certfile {file}", f"keyfile {file}", "allow_anonymous true") for file in (own, new)
        )
        CA("Fleet CA").gateway(_gateway(world), world.state)
        replace(world, url, f'"mqtts://127.0.0.1:{port}", ca: {former.file(world.folder)}')


def platform_changes(world: World) -> None:
    world.end("broker")
    if world.changed is not None:
        _start_broker(world, world.changed)


def _passwords(world: World, word: str) -> Path:
    file = world.folder / f"passwords-{word}"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(file), "gw-17", word], check=True, capture_output=True
    )
    return file


def _gateway(world: World) -> str:
    return str(json.loads((world.state / "keys/identity.json").read_text())["gateway"])


def occupancy(world: World, name: str, label: str) -> None:
    seen = world.types("gardien occupancy list --json", "en")
    listed = json.loads(seen.text)["occupancies"]
    world.env[name] = next(one["id"] for one in listed if label in one.values())


def belongs_to(world: World, account: str) -> None:
    person = pwd.getpwnam(account)
    for path in (world.folder, world.config, world.state, *world.state.rglob("*")):
        os.lchown(path, person.pw_uid, person.pw_gid)


def door(world: World) -> None:
    world.state.chmod(0o711)
    (world.state / "gardien.sock").chmod(0o666)


def nameless(world: World) -> None:
    del world.env["GARDIEN_AS"]


def small_disk(world: World) -> None:
    world.disk = world.open_now.enter_context(disk())
    state = world.disk.folder / "state"
    shutil.copytree(world.state, state, symlinks=True)
    replace(world, "max: 50MB", "max: 5MB, reserve: 2MB")
    replace(world, f"state: {world.state}", f"state: {state}")
    world.state, world.env["STATE"] = state, str(state)


def fill_disk(world: World) -> None:
    world.disk.fill()


def read_only_disk(world: World) -> None:
    world.disk.read_only()


def recovery(world: World, name: str) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "7300", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
         "-out", f"{name}.crt"],
        cwd=world.folder, check=True, capture_output=True,
    )  # fmt: skip


def empty_state(world: World) -> None:
    shutil.rmtree(world.state)


def certificate(world: World, file: str) -> None:
    CA("Fleet CA").gateway("GYWVF-FPVZ6-YMHZ1", world.folder / "other")
    whole = (world.folder / "other/identity.pem").read_text()
    begin = whole.index("-----BEGIN CERTIFICATE")
    (world.folder / file).write_text(whole[begin:])


def boiler_off(world: World) -> None:
    seen = world.types("gardien place new Chaufferie --type common --json", "en")
    place = json.loads(seen.text)["places"][0]["id"]
    text = world.config.read_text(encoding="utf-8")
    text = text.replace("devices:\n", BOILER.format(port=free_port(), place=place))
    text = text.replace("privacy: {policy: DEMO-1}\n", CONTROL)
    world.config.write_text(text, encoding="utf-8")


def _shared(world: World) -> Shared:
    if world.shared is None:
        raise RecipeError("this step needs the shared gateway")
    return world.shared


def tell(world: World, *words: str) -> None:
    _shared(world).tell(" ".join(words))


def order(world: World, file: str, control: str, value: str, lasts: str, by: str = "") -> None:
    raw = _shared(world).order(control, value, lasts, by)
    (world.folder / file).write_bytes(raw)


def expired_grant(world: World, file: str) -> None:
    (world.folder / file).write_bytes(_shared(world).expired_grant())


def old_trust_list(world: World, file: str) -> None:
    (world.folder / file).write_bytes(_shared(world).old_trust_list())


def signing_key(world: World, name: str) -> None:
    world.run(f"gardien sign key {name}")


STEPS: Mapping[str, Callable[..., None]] = {
    f"@{step.__name__.replace('_', '-')}": step
    for step in (
        replace, sample, without_meters, around, start, stop, until, until_waiting, until_read,
        until_down, until_connected, until_cut, exchanged, line_gone, serial_line, broker,
        platform_changes, occupancy, belongs_to, door, nameless, small_disk,
        fill_disk, read_only_disk, recovery, empty_state, certificate, boiler_off, tell, order,
        expired_grant, old_trust_list, signing_key,
    )
}  # fmt: skip


def provoked(worlds: Worlds, mistake: Mistake, codes: Sequence[str]) -> dict[str, Seen]:
    """Make one mistake, and return what the person sees, for each language."""
    seen: dict[str, Seen] = {}
    once = mistake.types.split()[1] in ALIKE
    for group in [codes] if once else [[code] for code in codes]:
        with worlds.of(mistake) as world:
            for line in mistake.setup.splitlines():
                world.run(line)
            for code in group:
                seen[code] = world.types(mistake.types, code, mistake.answers, mistake.account)
            for line in mistake.after.splitlines():
                world.run(line)
    return seen
