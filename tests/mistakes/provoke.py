"""The steps by which the set-up of a recipe is carried out.

A step is a line of `setup` that begins with `@`. Its words are split as by a shell, after `$NAME`
was replaced. Lines that begin with `gardien` are run like what people type, and must succeed; all
other lines are run by bash.

    @replace OLD NEW          replace text in the configuration, where it must occur exactly once
    @sample                   the configuration is the package's sample
    @without-meters           the registry has places and no meters
    @around                   start the devices, the broker and the platform
    @start, @stop             start the agent, with all these if they do not run; stop the agent
    @until WORD…              wait until the agent's status contains the words
    @until-waiting            wait until readings wait for a recipient
    @until-read DEVICE        wait until the agent has read a device
    @until-down LINE          wait until a line has failed
    @until-disk-full          wait until the agent has noticed that the disk is full
    @until-disk-fails         wait until the agent works without the disk
    @until-connected, @until-cut    wait until all uplinks are connected, or one is not
    @exchanged LINE UNIT      another meter is at this address from now on
    @line-gone LINE           nothing answers at the port of this line any more
    @serial-line TROUBLE      a serial line with a meter: `unplugged`, or as in devices.py
    @broker GUARD             the platform's broker wants a `password`, or `tls`
    @platform-changes         it has another password or CA from now on; without @broker it stops
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
    @order FILE CONTROL VALUE [BY]    a signed order; BY: stranger, revoked, other-audience
    @expired-grant FILE, @old-trust-list FILE, @signing-key NAME    what the platform brings
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.broker import MOSQUITTO, PLAIN
from hil.ca import CA
from hil.platform.ledger import opened
from hil.platform.listen import Desk, listen
from hil.process import free_port
from tests.disks import disk
from tests.mistakes import HERE, Mistake, devices
from tests.mistakes.terminal import Seen, forked, gardien

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.mistakes.shared import Shared

from tests.mistakes.world import PATIENCE, RecipeError, World, Worlds

TOP = HERE.parents[1]
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
SHOWING = ("status", "doctor", "check", "read")
"""commands that change nothing"""


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
    if "platform" not in world.running:
        around(world)
    environment = world.environment("en")

    def act() -> None:
        os.chdir("/")
        os.environ.clear()
        os.environ.update(environment)
        gardien(["run", "--config", str(world.config)])

    world.agent = forked(act, world.folder / "agent.log")
    world.until(lambda _: True, "agent")


def around(world: World) -> None:
    if not world.ports:
        raise RecipeError("only an own world can be started")
    for line in range(2):
        _start_line(world, line)
    _start_broker(world, world.broker)
    inside = world.inside

    def platform() -> None:
        with opened(world.folder / "platform.db") as ledger:
            listen(inside, Desk(ledger, 0, world.folder))

    world.fork(platform, "platform")


def _start_line(world: World, line: int) -> None:
    """Each line in a process of its own, so that one can be changed without the other."""
    ports = [port if number == line else 0 for number, port in enumerate(world.ports[:2])]
    world.fork(lambda: asyncio.run(devices.lines(ports, world.serials)), f"line-{line}")
    accepts(world.ports[line])


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
    world.stop()


def until(world: World, *words: str) -> None:
    world.until(lambda status: all(word in json.dumps(status) for word in words), " ".join(words))


def until_waiting(world: World) -> None:
    def waits(status: dict[str, Any]) -> bool:
        return any(one["backlog"]["slots"] > 20 for one in status["uplinks"].values())

    world.until(waits, "waiting readings")


def until_read(world: World, device: str) -> None:
    world.until(lambda status: status["devices"][device]["answered"], f"answer of {device}")


def until_down(world: World, line: str) -> None:
    world.until(lambda status: not status["links"][line]["open"], f"failure of {line}")


def _connected(status: dict[str, Any]) -> bool:
    return all(one["delivery"]["connected_since"] for one in status["uplinks"].values())


def until_disk_fails(world: World) -> None:
    def settled(status: dict[str, Any]) -> bool:
        return bool(status["storage"]["faults"]) and bool(status["uplinks"]) and _connected(status)

    world.until(settled, "fault of the disk")


def until_disk_full(world: World) -> None:
    world.until(lambda status: status.get("disk_full"), "full disk")


def until_connected(world: World) -> None:
    world.until(_connected, "connection")


def until_cut(world: World) -> None:
    world.until(lambda status: not _connected(status), "loss of the connection")


def exchanged(world: World, line: str, unit: str) -> None:
    world.serials[int(line), int(unit)] = 24_999_901
    world.end(f"line-{line}")
    _start_line(world, int(line))


def line_gone(world: World, line: str) -> None:
    world.end(f"line-{line}")


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


def order(world: World, file: str, control: str, value: str, by: str = "") -> None:
    raw = _shared(world).order(control, value, by)
    (world.folder / file).write_bytes(raw)


def expired_grant(world: World, file: str) -> None:
    (world.folder / file).write_bytes(_shared(world).expired_grant())


def old_trust_list(world: World, file: str) -> None:
    (world.folder / file).write_bytes(_shared(world).old_trust_list())


def signing_key(world: World, name: str) -> None:
    world.must(f"gardien sign key {name}")


STEPS: Mapping[str, Callable[..., None]] = {
    f"@{step.__name__.replace('_', '-')}": step
    for step in (
        replace, sample, without_meters, around, start, stop, until, until_waiting, until_read,
        until_down, until_disk_full, until_disk_fails, until_connected, until_cut, exchanged,
        line_gone, serial_line, broker, platform_changes, occupancy, belongs_to, door, nameless,
        small_disk, fill_disk, read_only_disk, recovery, empty_state, certificate, boiler_off,
        tell, order, expired_grant, old_trust_list, signing_key,
    )
}  # fmt: skip


def carry_out(world: World, line: str) -> None:
    """Carry out one line of a set-up. Raises RecipeError."""
    if line.startswith("@"):
        words = shlex.split(world.filled(line))
        STEPS[words[0]](world, *words[1:])
    elif line.startswith("gardien "):
        world.must(line)
    else:
        done = subprocess.run(
            ["bash", "-e", "-c", line], cwd=world.folder, env=world.environment("en"),
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RecipeError(f"{line}: {done.stderr}")


def provoked(worlds: Worlds, mistake: Mistake, codes: Sequence[str]) -> dict[str, Seen]:
    """Make one mistake, and return what the person sees, for each language.

    What shows only, and what was refused, has changed nothing: it is typed again in the same world.
    """
    seen: dict[str, Seen] = {}
    left = list(codes)
    while left:
        with worlds.of(mistake) as world:
            for line in mistake.setup.splitlines():
                carry_out(world, line)
            while left:
                code = left.pop(0)
                seen[code] = world.types(mistake.types, code, mistake.answers, mistake.account)
                if seen[code].status == 0 and mistake.types.split()[1] not in SHOWING:
                    break
            for line in mistake.after.splitlines():
                carry_out(world, line)
    return seen
