"""A building of a plan: what is in it, who is there, whose keys count, and its configuration file.

Everything is drawn from the plan's seed and is plain data, except the keys, which are derived from
their names whenever they are used. What the agent must be told once is told by `settle`, through
the same calls that people make.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.sim.world import World

ZONE = "Europe/Paris"
SINCE = "2024-01-01"
"""when all meters were fitted and the first occupants moved in"""
MINUTE, HOUR, DAY = 60, 3600, 86_400
YEAR = 365 * DAY
RECIPIENTS = ("energie.metropole.example", "flex.example", "syndic.example", "conseil.example")
LIST_ISSUER, ROOT, MANAGER, REGISTRY = "Métropole", "Racine", "Régie Dupont", "Registre"
STRANGER = "Inconnu"
DRIVERS = {"modbus": "modbus-tcp", "mbus": "mbus", "bacnet": "bacnet"}
# Ids and keys


def id_of(letter: str, rng: random.Random) -> str:
    """A new id of that kind (docs/authority.md)."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    while True:
        body = letter + "".join(rng.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for _ in range(12))
        high, low = divmod((1 - int(body, 36) * 36 * 36) % 1271, 36)
        if not set("ILOU") & set(made := body + digits[high] + digits[low]):
            return made


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def private(seed: int, name: str) -> Ed25519PrivateKey:
    """The key of that name in that building, the same each time."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest())


@dataclass(frozen=True)
class Holder:
    """Somebody with a key."""

    seed: int
    name: str

    @property
    def jwk(self) -> dict[str, str]:
        raw = private(self.seed, self.name).public_key().public_bytes_raw()
        return {"crv": "Ed25519", "kty": "OKP", "x": encoded(raw)}

    @property
    def kid(self) -> str:
        """The thumbprint of RFC 7638."""
        return encoded(hashlib.sha256(text(self.jwk)).digest())

    def signature(self, typ: str, payload: str) -> tuple[str, str]:
        head = encoded(text({"alg": "EdDSA", "kid": self.kid, "typ": typ}))
        signed = private(self.seed, self.name).sign(f"{head}.{payload}".encode())
        return head, encoded(signed)

    def sign(self, typ: str, claims: Mapping[str, Any]) -> bytes:
        payload = encoded(text(claims))
        head, signature = self.signature(typ, payload)
        return f"{head}.{payload}.{signature}".encode()


# What is in a building


@dataclass
class Home:
    """A dwelling; `occupancy` is what the agent answered last, empty while nobody lives there."""

    label: str
    place: str
    occupancy: str = ""
    leaves: float | None = None
    """when they move out, if that is recorded"""


@dataclass
class Fitting:
    """A configured device that measures one quantity."""

    name: str
    line: int
    address: str
    kind: str
    """of the bus: modbus, mbus, bacnet"""
    at: str
    serial_at: str
    channel: str
    unit: str
    every: int
    home: int | None
    """of a dwelling; None: common plant"""
    place: str
    profile: str
    rate: float
    """what it counts in an hour"""
    serial: str
    """of the meter that is there now"""
    intervals: bool = False
    """what is counted in each step is sent as well"""
    multiplier: str = "1"
    offset: str = "0"
    """what makes the index of the place out of that of the first meter"""


@dataclass
class Lever:
    """A control, and the equipment behind it."""

    name: str
    device: str
    line: int
    kind: str
    address: str
    action: str
    """offset or limit"""
    unit: str
    least: float
    most: float
    longest: int
    random: int
    gap: int
    a_day: int
    original: str
    """what the equipment does when nobody commands it, in `unit`"""
    watchdog: int
    """seconds; 0: the device has none"""
    heartbeat: int
    """of a limit: seconds; 0: another action"""
    failsafe: str = ""
    ramp: str = ""
    """largest change in a minute; empty: at once"""
    rest: int = 0
    """seconds of rest after a release, at least"""
    grants: dict[str, str] = field(default_factory=dict)
    """numbers of the manager's grants, by recipient"""

    @property
    def fallback(self) -> str:
        """What the equipment returns to once its watchdog has run out."""
        return self.failsafe or self.original


@dataclass
class House:
    seed: int
    begin: int
    gateway: str
    place: str
    common: str
    """of common plant; empty: it has no basis"""
    recipients: list[str]
    homes: list[Home]
    lines: list[str]
    fittings: list[Fitting]
    levers: list[Lever]
    sums: bool
    withheld: bool
    signed: bool
    flush: int
    seal: int
    audience: str = ""
    settled: bool = False
    without: list[int] = field(default_factory=list)
    """recipients whose uplink is not in the file now"""
    slower: list[str] = field(default_factory=list)
    """devices that are read half as often since a change of the file"""
    patience: int = 1
    """timeout of the lines: a change of it opens them again"""
    wrong: bool = False
    """the file cannot be read now"""

    def holder(self, name: str) -> Holder:
        return Holder(self.seed, name)

    def every(self, fitting: Fitting) -> int:
        """Seconds between two slots, as configured now."""
        return fitting.every * (2 if fitting.name in self.slower else 1)


def house(plan: Mapping[str, Any]) -> House:
    """The building of a plan."""
    asked, seed = plan["building"], plan["seed"]
    rng = random.Random(f"house/{seed}")
    lines = list(asked["lines"])
    homes = [Home(f"A-{n + 1:02d}", id_of("D", rng)) for n in range(asked["dwellings"])]
    common = id_of("C", rng)
    fittings = _fittings(homes, lines, common, rng, year=plan["days"] > 60)
    _make_special(fittings, rng)
    return House(
        seed=seed,
        begin=plan["begin"],
        gateway=id_of("G", rng),
        place=id_of("B", rng),
        common=common if asked.get("common") else "",
        recipients=list(RECIPIENTS[: asked["recipients"]]),
        homes=homes,
        lines=lines,
        fittings=fittings,
        levers=_levers(asked["controls"], lines, rng),
        sums=asked["sums"],
        withheld=asked.get("withheld", False),
        signed=asked.get("signed", False),
        flush=rng.choice((1, 5, 5, 30)),
        seal=rng.choice((60, 300, 300, 900)),
    )  # fmt: skip


def _fittings(
    homes: list[Home], lines: list[str], common: str, rng: random.Random, *, year: bool
) -> list[Fitting]:
    """Two for each dwelling and one for the common plant, spread over the lines."""
    made = []
    for n in range(2 * len(homes) + 1):
        home = n // 2 if n < 2 * len(homes) else None
        line = (n // 2 + n % 2) % len(lines)
        heat = n // 2 % 2 == 0
        channel = "elec.imp" if n % 2 == 0 or home is None else "heat" if heat else "cw"
        every = {"elec.imp": rng.choice((10 * MINUTE, 30 * MINUTE)), "heat": HOUR, "cw": DAY}
        if year:
            every |= {"elec.imp": HOUR, "heat": DAY}
        rate = {"elec.imp": 0.4, "heat": 1.5, "cw": 0.02}[channel] * (1 + 0.37 * n)
        made.append(_fitting(n, lines[line], line, channel, every[channel], home,
                             homes[home].place if home is not None else common,
                             min(rate, 6.0 + n / 100)))  # fmt: skip
    return made


def _make_special(fittings: list[Fitting], rng: random.Random) -> None:
    """Some buildings have a meter behind transformers, and one of which steps are sent as well."""
    by, step = rng.random() < 0.25, rng.random() < 0.3
    metered = [one for one in fittings if one.home is not None and one.channel == "elec.imp"]
    if by:
        one = rng.choice(metered)
        one.multiplier, one.offset = "40", "1250.5"
    stepped = [one for one in metered if one.kind == "modbus"]
    if step and stepped:
        rng.choice(stepped).intervals = True


def serial_of(kind: str, number: int, generation: int = 0) -> str:
    """The number on a meter; no two are the same."""
    return str(10_000_000 + 1_000_000 * ("modbus", "mbus", "bacnet").index(kind)
               + 1000 * generation + number)  # fmt: skip


PROFILES = {
    ("modbus", "elec.imp"): ("eastron-sdm120", "input/72/float32", "holding/64512/uint32"),
    ("modbus", "heat"): ("sim-heat", "holding/10/uint32", "holding/0/uint32"),
    ("modbus", "cw"): ("sim-water", "holding/10/uint32", "holding/0/uint32"),
    ("mbus", "elec.imp"): ("mbus-electricity", "electricity:energy", "id"),
    ("mbus", "heat"): ("mbus-heat", "heat:energy", "id"),
    ("mbus", "cw"): ("mbus-cold-water", "cold-water:volume", "id"),
    ("bacnet", "elec.imp"): ("", "analog-input,1", ""),
    ("bacnet", "heat"): ("", "analog-input,1", ""),
    ("bacnet", "cw"): ("", "analog-input,1", ""),
}
"""by bus and channel: the profile, where the index is, and where the serial number is; without the
latter, the device does not report who it is
"""
UNITS = {"elec.imp": "kWh", "heat": "kWh", "cw": "m3"}
NAMES = {"elec.imp": "energy_import", "heat": "heat_energy", "cw": "cold_water_volume"}


def _fitting(  # noqa: PLR0913, PLR0917 -- each is another
    n: int, kind: str, line: int, channel: str, every: int, home: int | None, place: str,
    rate: float,
) -> Fitting:  # fmt: skip
    profile, at, serial_at = PROFILES[kind, channel]
    return Fitting(
        name=f"{channel.partition('.')[0]}-{n}", line=line, kind=kind, at=at, serial_at=serial_at,
        address=str(1200 + n if kind == "bacnet" else 1 + n), channel=channel,
        unit=UNITS[channel], every=every, home=home, place=place, profile=profile,
        rate=round(rate, 4), serial=serial_of(kind, n),
    )  # fmt: skip


def _levers(number: int, lines: list[str], rng: random.Random) -> list[Lever]:
    first = rng.randrange(2)
    made = []
    for n in range(number):
        action = ("offset", "limit")[(first + n) % 2]
        liked = ("bacnet", "modbus") if action == "offset" else ("modbus", "bacnet")
        kind = next(kind for kind in liked if kind in lines)
        limit = action == "limit"
        made.append(Lever(
            name=f"control-{n}", device=f"plant-{n}", line=lines.index(kind), kind=kind,
            address=str(2200 + n if kind == "bacnet" else 200 + n), action=action,
            unit="kW" if limit else "K", least=0.0 if limit else -3.0, most=10.0 if limit else 2.0,
            longest=3 * HOUR, random=0 if limit else rng.choice((0, 300)),
            gap=0 if limit else rng.choice((0, 600)), a_day=rng.choice((4, 8)),
            original="11" if limit else "0", watchdog=60 if kind == "modbus" else 0,
            heartbeat=300 if limit else 0, failsafe="6" if limit else "",
            ramp="0.5" if not limit and rng.random() < 0.25 else "",
            rest=rng.choice((0, 0, 600)) if not limit else 0,
        ))  # fmt: skip
    return made


# The configuration file

OWN_PROFILES = {"sim-heat": "heat", "sim-water": "cw"}


def _profile(name: str) -> str:
    channel = OWN_PROFILES[name]
    _, at, serial = PROFILES["modbus", channel]
    return (
        f"manufacturer: Simulated\nmodel: {name}\ndriver: modbus\n"
        'sources: [{where: "the simulation", confirms: [all, serial]}]\n'
        f"identity: number\ndefaults: [{NAMES[channel]}]\nserial: {{at: {serial}}}\n"
        f"points:\n  {NAMES[channel]}: {{at: {at}, unit: {UNITS[channel]}, scale: 0.001}}\n"
        "test:\n  holding: {0: [1, 2], 10: [0, 1230]}\n"
        f"  reads: {{{NAMES[channel]}: 1.230, serial: 65538}}\n"
    )


def configuration(of: House, state: Path) -> str:
    """The file as it is now."""
    if of.wrong:
        return "building: {name: [\n"
    parts = [
        f"building: {{name: Simulation, place: {of.place}, timezone: {ZONE}}}",
        "links:", *(_line(of, n) for n in range(len(of.lines))),
        "devices:", *(_device(of, one) for one in of.fittings),
        *(_plant(of, one) for one in of.levers),
        "uplinks:", *(_uplink(of, n) for n in range(len(of.recipients)) if n not in of.without),
        *_privacy(of),
    ]  # fmt: skip
    if of.levers:
        parts += ["controls:", *map(_control, of.levers)]
    parts += [
        "trust: {threshold: 1}", "clock: {source: ntp}", f"state: {state}",
        f"spool: {{max: 40MB, reserve: 1MB, flush: {of.flush}s}}",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def line_name(n: int) -> str:
    return f"line-{n}"


def _line(of: House, n: int) -> str:
    kind = of.lines[n]
    where = {
        "modbus": f"host: 192.0.2.{n + 1}, timeout: {of.patience}s",
        "mbus": f"port: /dev/simulated-{n}, latency: {of.patience * 50}ms",
        "bacnet": f"address: 192.0.2.{n + 1}/24, timeout: {2 * of.patience}s, cov: 0s",
    }[kind]
    return f"  {line_name(n)}: {{driver: {DRIVERS[kind]}, {where}}}"


def _device(of: House, one: Fitting) -> str:
    every = f"every: {of.every(one)}s"
    place = f", place: {one.place}" if one.home is None else ""
    steps = f", points: {{{NAMES[one.channel]}: {{intervals: true}}}}" if one.intervals else ""
    what = (
        f"profile: {one.profile}, {every}{steps}"
        if one.profile
        else f'points: {{index: {{at: "{one.at}", channel: {one.channel}, unit: {one.unit},'
        f" {every}}}}}"
    )
    return f'  {one.name}: {{link: {line_name(one.line)}, address: "{one.address}", {what}{place}}}'


REGISTERS = {
    "modbus": {"set": "holding/10/int16", "room": "holding/20/int16", "dog": "holding/30/uint16",
               "off": "holding/40/uint16"},
    "bacnet": {"set": "analog-value,7", "room": "analog-input,4", "dog": "analog-value,8",
               "off": "binary-value,3"},
}  # fmt: skip
"""of a controlled device: the commanded value, its guard, its watchdog, the operator's switch"""


def _plant(of: House, one: Lever) -> str:
    """It is common plant, so recipients are told what becomes of orders (rule H11)."""
    at = REGISTERS[one.kind]
    common = next(fitting.place for fitting in of.fittings if fitting.home is None)
    scale = ", scale: 0.1" if one.kind == "modbus" else ""
    points = [
        f'set: {{at: "{at["set"]}", unit: {one.unit}{scale}, every: 1h, writable: true}}',
        f'room: {{at: "{at["room"]}", unit: Cel{scale}, every: 1min}}',
        f'off: {{at: "{at["off"]}", unit: "1", every: 1min}}',
    ]
    if one.watchdog:
        points.append(f'dog: {{at: "{at["dog"]}", unit: s, every: 1d, writable: true}}')
    return (
        f'  {one.device}:\n    link: {line_name(one.line)}\n    address: "{one.address}"\n'
        f"    place: {common}\n"
        "    points:\n" + "\n".join(f"      {point}" for point in points)
    )


def _uplink(of: House, n: int) -> str:
    name = of.recipients[n]
    more = ", receipt: signed" if of.signed and n == 0 else ""
    more += ", withheld: true" if of.withheld else ""
    more += f", sums: [{', '.join(summed(of, n))}]" if summed(of, n) else ""
    return (
        f"  uplink-{n}: {{recipient: {name}, transport: https, url: https://{name}/gardien,"
        f" seal: {of.seal}s{more}}}"
    )


def summed(of: House, n: int) -> list[str]:
    """The channels of which a recipient gets the sum over the dwellings."""
    return ["elec.imp"] if of.sums and n == 0 else []


def _privacy(of: House) -> list[str]:
    both = "{fr: des conseils, en: advice}"
    asks = "\n".join(
        f"      - {{recipient: {name}, name: Recipient {n}, purpose: {purpose(n)}, words: {both},"
        f" channels: [elec.imp, heat, cw], scope: loadcurve, months: 24, why: {both}}}"
        for n, name in enumerate(of.recipients)
    )
    common = "  common: {basis: AG du 12 mai, from: 2024-01-01}"
    return [
        "privacy:", "  policy: FR-1", *([common] if of.common else []),
        '  controller: {name: Régie Dupont, address: "12 rue des Lilas", contact: dpo@regie.fr}',
        "  forms:", "    asks:", asks,
    ]  # fmt: skip


def purpose(n: int) -> str:
    return f"advice {n}"


def _control(one: Lever) -> str:
    ramp = f", ramp_per_min: {one.ramp}" if one.ramp else ""
    ramp += f", min_off: {one.rest}s" if one.rest else ""
    failsafe = (
        f", failsafe: {{value: {one.failsafe}, min_duration: 2h, heartbeat: {one.heartbeat}s}}"
        if one.failsafe
        else f", min_gap: {one.gap}s, max_per_day: {one.a_day}, restore_random: {one.random}s"
    )
    dog = (
        f"{{point: {one.device}/dog, timeout: {one.watchdog}s, fallback: {one.fallback}}}"
        if one.watchdog
        else "none-accepted"
    )
    return (
        f"  {one.name}:\n    point: {one.device}/set\n    equipment: heating\n"
        f"    modality: {{action: {one.action}, min: {one.least:g}, max: {one.most:g},"
        f" max_duration: {one.longest}s{failsafe}{ramp}}}\n"
        f"    guards: [{{name: room, point: {one.device}/room, min: 15, max: 28}}]\n"
        "    require: [building_manager]\n"
        f"    restore: {'relinquish' if one.kind == 'bacnet' else 'preimage'}\n"
        f"    inhibit: {one.device}/off\n"
        f"    device_watchdog: {dog}"
    )


def write(of: House, folder: Path, wall: float) -> None:
    """The configuration file and its profiles, as they are now; written at that time, which a
    status tells.
    """
    (folder / "profiles").mkdir(exist_ok=True)
    files = {f"profiles/{name}.yaml": _profile(name) for name in OWN_PROFILES}
    files["config.yaml"] = configuration(of, folder / "state")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        os.utime(folder / name, (wall, wall))


def lay_out(of: House, folder: Path, wall: float = 0.0) -> None:
    """What the installer leaves behind: the file, and a state folder with the gateway's keys."""
    write(of, folder, wall)
    keys = folder / "state" / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    (folder / "state").chmod(0o700)
    keys.chmod(0o700)
    signing = private(of.seed, "gateway").private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    state = hashlib.sha256(f"{of.seed}/state".encode()).hexdigest()[:32]
    contents = {
        "identity.json": json.dumps({"gateway": of.gateway, "state": state}).encode(),
        "spool.key": hashlib.sha256(f"{of.seed}/spool".encode()).digest(),
        "gateway.pem": signing,
    }
    for name, content in contents.items():
        (keys / name).write_bytes(content)
        (keys / name).chmod(0o600)


def begin(world: World) -> None:
    """What is there before the first life."""
    from tests.sim import building, people, platform

    world.house = house(world.plan)
    world.building = building.building(world.house, float(world.plan["begin"]))
    world.platform = platform.platform(world.house)
    world.people = people.People()
    lay_out(world.house, world.folder, world.wall())


def configure(world: World, what: str, rng: random.Random) -> str:
    """Change the file; what was really done, as a plan says it."""
    of, done = world.house, change(world.house, what, rng)
    write(of, world.folder, world.wall())
    _note_configured(world, done)
    return done


def _note_configured(world: World, what: str) -> None:
    """What the file says now, as far as it can change."""
    of = world.house
    world.note(
        "configured", change=what, readable=not of.wrong, flush=of.flush,
        every={one.name: of.every(one) for one in of.fittings},
        recipients=[name for n, name in enumerate(of.recipients) if n not in of.without],
    )  # fmt: skip


def mend(world: World) -> bool:
    """Make a file that cannot be read right again; whether it was wrong."""
    was, world.house.wrong = world.house.wrong, False
    if was:
        write(world.house, world.folder, world.wall())
        _note_configured(world, "mended")
    return was


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def change(of: House, what: str, rng: random.Random) -> str:
    """Change the configuration, not yet the file; what was done, as a plan says it."""
    of.wrong = False
    if what == "recipient" and len(of.recipients) > 1:
        last = len(of.recipients) - 1
        of.without = [] if of.without else [last]
    elif what == "line":
        of.patience = 3 - of.patience
    elif what == "flush":
        of.flush = rng.choice([flush for flush in (1, 5, 15, 30) if flush != of.flush])
    elif what == "wrong":
        of.wrong = True
    elif what in {"period", "recipient"}:
        # of two hours, some days would have no slot at midnight
        often = [one.name for one in of.fittings if one.every < HOUR]
        if not often:
            return change(of, "flush", rng)
        of.slower = sorted({*of.slower} ^ {rng.choice(often)})
        return "period"
    return what


# What is signed


def trust_list(of: House, now: int) -> bytes:
    """Who counts: the manager, the registry, and each recipient for orders and receipts."""
    members = [(MANAGER, "building_manager"), (REGISTRY, "registry")]
    members += [(name, "grid_operator") for name in of.recipients]
    keys = [_member(of, name, role, now) for name, role in members]
    if of.signed:
        keys.append(_member(of, of.recipients[0], "recipient", now, key=receipts_by(of, 0)))
    claims = {
        "ver": 1, "iss": LIST_ISSUER, "iat": now - 60, "exp": now + 3 * YEAR, "threshold": 1,
        "roots": [of.holder(ROOT).jwk], "keys": keys,
    }  # fmt: skip
    payload = encoded(text(claims))
    head, signature = of.holder(ROOT).signature("trust-list+jws", payload)
    return text({"payload": payload, "signatures": [{"protected": head, "signature": signature}]})


def receipts_by(of: House, recipient: int) -> Holder:
    """Who signs the receipts of a recipient."""
    return of.holder(f"receipts of {of.recipients[recipient]}")


def _member(of: House, name: str, role: str, now: int, key: Holder | None = None) -> dict[str, Any]:
    key = key or of.holder(name)
    return {"kid": key.kid, "jwk": key.jwk, "role": role, "name": name, "scope": {},
            "nbf": now - DAY, "exp": now + 3 * YEAR}  # fmt: skip


def grant(of: House, lever: Lever, recipient: str, now: int, jti: str) -> bytes:
    """What the manager permits a recipient at a control."""
    return of.holder(MANAGER).sign("dr-grant+jwt", {
        "iss": MANAGER, "jti": jti, "iat": now, "nbf": now - 60, "exp": now + YEAR,
        "aud": of.gateway, "sub": recipient, "role": "building_manager",
        "scope": {"assets": [lever.name], "acts": [lever.action]}, "lim": {},
        "evid": {"kind": "contract", "ref": "C-7", "date": "2026-05-12", "sha256": "0" * 64},
    })  # fmt: skip
