"""The worlds in which mistakes happen: a configuration, an installed gateway, a running one."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import string
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.core.errors import AgentError
from agent.local import ask_daemon
from hil.meter import serial_of
from hil.process import free_port
from tests.mistakes import HERE, Mistake
from tests.mistakes.terminal import Seen, ended, forked, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.mistakes.shared import Shared

RECIPIENT = "energie.metropole.example"
LABELS = tuple(f"{'AB'[line]}-{unit:02d}" for line in range(2) for unit in range(1, 7))
WITHOUT_CONSENT = "B-06"
AGREED = f"--recipient {RECIPIENT} --channel elec.imp --step 1s --purpose advice"
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
    broker: tuple[str, ...] = ("allow_anonymous true",)
    """who may connect to the platform's broker, as its configuration says it"""
    changed: tuple[str, ...] | None = None
    """the same after the platform has changed it; None: the broker is stopped"""
    agent: int = 0
    running: dict[str, int] = field(default_factory=dict)
    """the simulated processes beside the agent, by name"""
    open_now: ExitStack = field(default_factory=ExitStack)
    disk: Any = None

    def must(self, line: str) -> None:
        """Run a command that succeeds. Raises RecipeError."""
        seen = self.types(line, "en")
        if seen.status:
            raise RecipeError(f"{line}: {seen.text}")

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

    def stop(self) -> None:
        """Stop the agent as the system does."""
        pid, self.agent = self.agent, 0
        ended(pid)

    def close(self) -> None:
        """End everything that the recipe has started."""
        if self.agent:
            self.stop()
        for name in list(self.running):
            self.end(name)
        self.open_now.close()


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
            world.must("gardien key new")
            self._prepared["keys"] = world.state
        return self._prepared["keys"]

    def _registered(self, what: str) -> Path:
        """Return a state directory with places, or also with meters and consents."""
        if what not in self._prepared:
            world = self._new(what)
            if what == "meters":
                shutil.copytree(self._registered("places"), world.state, symlinks=True)
            else:
                world.must("gardien key new")
            for line in {"places": _places, "meters": _meters}[what](world):
                world.must(line)
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


def _places(world: World) -> list[str]:
    """Dwellings whose occupants moved in on 1 January 2020."""
    rows = [f"{label};dwelling;2020-01-01" for label in LABELS]
    return [f"gardien place import {_sheet(world, 'places.csv', 'label;type;since', rows)}"]


def _meters(world: World) -> list[str]:
    """Meters of all dwellings, and consents of all except one."""
    serials = [serial_of(1, line, unit) for line in range(2) for unit in range(1, 7)]
    rows = [f"{serial};{label}" for serial, label in zip(serials, LABELS, strict=True)]
    meters = _sheet(world, "meters.csv", "serial;dwelling", rows)
    agreed = [label for label in LABELS if label != WITHOUT_CONSENT]
    consents = _sheet(world, "consents.csv", "place", agreed)
    return [
        f"gardien meter import {meters} --offline",
        f"gardien consent give --file {consents} {AGREED}",
    ]
