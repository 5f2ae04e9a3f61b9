"""The world of one run: its time, the wall clock of its machine, the agent's lives, the journal.

A `World` is plain data that can be pickled, except for what belongs to the life that runs now. It
does what the plan says at the time that the plan says, while a life runs and between lives. `lives`
runs it to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import importlib
import logging
import os
import pickle
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.sim.chance import Chance, Stream, seeded
from tests.sim.loop import Deadlock, SimLoop, Spins

BEFORE = 3600.0
"""seconds before the plan begins in which the first life is set up, without faults"""
QUIET = 2 * 86_400.0
"""seconds after the last event, in which all is well, before the run is judged"""
RESTART, RESTARTS, LONGEST = 5.0, 8, 300.0
"""RestartSec, RestartSteps and RestartMaxDelaySec of the unit"""
STOPS_WITHIN, READY_WITHIN, WATCHED = 30.0, 90.0, 30.0
"""TimeoutStopSec, TimeoutStartSec and WatchdogSec of the unit"""
AIMED = 3600.0
"""seconds for which a kill waits for the moment that it is aimed at"""
SERVICE = (5.0, 900.0)
"""seconds after which a time service has found out that the clock is wrong, and has set it"""
ENDED = ("kill", "power", "stop", "refused", "error", "spun")
LIVES = 400
"""most lives of a run"""
PARTS, FIRST = ("building", "platform", "people"), ("first",)
"""modules that know what else there is in the world"""
UNKEPT = 32_000.0
"""seconds until the kernel counts a clock as not kept that no service keeps (500 ppm, 16 s)"""
BROKEN = 70
"""status of a process whose simulation itself has failed"""

real_time, real_cpu = time.monotonic, time.process_time


class Record(NamedTuple):
    """Something that happened, as the world saw it."""

    at: float
    kind: str
    what: dict


class Broken(Exception):
    """The simulation itself has failed: the run says nothing about the agent."""


class World:
    """See the module. `folder`: of the run, empty."""

    def __init__(self, plan, folder, disk=None):
        self.plan, self.folder = plan, Path(folder)
        self.seed = plan["seed"]
        self.chance = Chance(self.seed)
        draw = self.chance.of("machine")
        self.machine = f"{draw.getrandbits(128):032x}"
        self.has_rtc = draw.random() < 0.5
        self.announces = draw.random() < 0.8
        """whether the kernel tells when the clock is set"""
        self.begin = float(plan["begin"])
        last = max((event["at"] + event.get("for", 0) * 0 for event in plan["events"]), default=0.0)
        self.quiet_at = self.begin + max(float(last), plan["days"] * 86_400.0)
        self.finish_at = self.quiet_at + plan.get("quiet", QUIET)
        self.journal: list[Record] = []
        self.kept = 0
        """records that the process between lives has already"""
        self.life, self.restarts, self.over = 0, 0, False
        self.is_quiet = False
        self.boot, self.booted = "", 0.0
        self.apart, self.rtc_apart = 0.0, 0.0
        self.service, self.synchronised = True, True
        self.service_apart, self.unserved = 0.0, 0.0
        """`service_apart`: how wrong the service itself is; `unserved`: since when there is none"""
        self.synchronised_at = 0.0
        self.touched_before = None
        self.correction = 0
        self.queue, self._number = [], 0
        self.aims: list[dict] = []
        self.disk = disk
        self.parts = FIRST if plan.get("kind") == "first" else PARTS
        self.at = self.begin - BEFORE
        self.trace, self.mistakes = b"", []
        self.counts: Counter[str] = Counter()
        self.cpu = 0.0
        self.wakes: list[dict] = []
        self.ending = None
        """(how, text, back) of the life that ends in an orderly way"""
        self.lived = 0.0
        self._live = None
        for index, event in enumerate(plan["events"]):
            self._put(self.begin + event["at"], "event", index)
        self._put(self.quiet_at, "quiet")
        self._put(self.finish_at, "finish")

    # What belongs to a process is no part of the world

    def __getstate__(self):
        state = dict(vars(self))
        state["_live"] = None
        state["journal"] = self.journal[self.kept :]
        return state

    @property
    def loop(self):
        """The loop of the life that runs; None between lives."""
        return self._live.loop if self._live else None

    @property
    def runs(self):
        """Whether the agent runs; what is run after its end is not the agent."""
        return self._live is not None and not self._live.releases

    @property
    def pid(self):
        return 1200 + 7 * self.life

    # Time

    def now(self):
        """True Unix time."""
        return self.booted + self._live.loop._now if self._live else self.at

    def wall(self):
        """What the machine's clock shows."""
        return self.now() + self.apart

    def rtc(self):
        """What the battery-backed clock shows; None: the machine has none."""
        return float(int(self.now() + self.rtc_apart)) if self.has_rtc else None

    def keeps(self):
        """Whether the kernel says that a service keeps the clock."""
        served = self.service or self.now() - self.unserved < UNKEPT
        return self.synchronised and served

    def touched(self):
        """When timesyncd touched its file last, in nanoseconds; None: never in this boot."""
        if self.touched_before and not self.synchronised:  # a step does not change the file
            return self.touched_before
        if not self.synchronised_at:
            return None
        now = self.now() if self.service else min(self.now(), self.unserved)
        turns = max(0.0, now - self.synchronised_at) // 1024 if self.synchronised else 0
        return int((self.synchronised_at + turns * 1024 + self.apart) * 1e9)

    def heard_by(self, tell):
        """Call `tell` whenever the clock is set, as long as this life lasts."""
        self._live.listeners.append(tell)

    def notified(self, _state):
        """What the agent tells systemd."""
        if self._live:
            self._live.petted = self.now()

    # The journal

    def note(self, kind, /, **what):
        """Record what happened now."""
        self.journal.append(Record(self.now(), kind, what))
        if self._live:
            self._live.feed(kind, what)

    def moment(self, kind):
        """Something happened at which a kill may be aimed: send or answer. May end the process."""
        if self.aims:
            self._aimed(kind)

    def _aimed(self, kind, _path=""):
        for aim in list(self.aims):
            if aim["aim"] in (kind, "any") and self._live:
                aim["left"] -= 1
                if aim["left"] <= 0:
                    self.aims.remove(aim)
                    self._cut(aim)

    # What is due

    def _put(self, at, what, *more):
        self._number += 1
        heapq.heappush(self.queue, (at, self._number, what, more))
        if self._live:
            self._live.wake()

    def then(self, at, do, **params):
        """Do something at a true time; it is no event of the plan of its own."""
        self._put(at, "then", {"do": do, **params})

    def due(self):
        """Do all that is due now."""
        while self.queue and self.queue[0][0] <= self.now() and not self.over:
            _, _, what, more = heapq.heappop(self.queue)
            getattr(self, f"_do_{what}")(*more)

    def _parts(self):
        return parts_of(self.parts)

    def _do_event(self, index):
        event = self.plan["events"][index]
        self.counts[event["do"]] += 1
        self.note("event", index=index, **event)
        self._apply(event, index)
        if event.get("for"):
            self._put(self.now() + event["for"], "ended", index)

    def _do_then(self, event):
        self._apply(event, None)

    def _do_ended(self, index):
        event = self.plan["events"][index]
        if self.is_quiet:
            return
        self._end(event)
        self.note("event", index=index, ended=True, **event)

    def _apply(self, event, index):
        name = "_event_" + event["do"].replace(".", "_")
        rng = Stream(event.get("seed", index or 0))
        if hasattr(self, name):
            getattr(self, name)(event, rng)
            return
        for part in self._parts():
            if event["do"] in part.DO:
                part.DO[event["do"]](self, event, rng)
                return
        raise Broken(f"nobody does {event['do']}")

    def _end(self, event):
        if event["do"] == "disk":
            self._note_spools(event)
            self.disk.end(event)
            if self._live:
                self._live.loop.answer()
            return
        for part in self._parts():
            if event["do"] in getattr(part, "END", {}):
                part.END[event["do"]](self, event)

    def _do_quiet(self):
        """End all faults: from here on everything must come right by itself."""
        self.is_quiet = True
        self.aims.clear()
        for event in self.plan["events"]:
            if event["do"] == "disk" and self.disk:
                with contextlib.suppress(ValueError, KeyError):
                    self.disk.end(event)
        if self._live:
            self._live.loop.answer()
        for part in self._parts():
            part.heal(self)
        served, self.service, self.service_apart = self.service, True, 0.0
        if not self.synchronised or self.apart or not served:
            self._corrected()
        if not self.runs:
            self.queue = [item for item in self.queue if item[2] != "start"]
            heapq.heapify(self.queue)
            self._put(self.now(), "start")

    def _do_finish(self):
        self.over = True
        if self._live:
            self._stop("end", 0.0)

    def _do_start(self):
        """Somebody, or systemd, starts the agent (see `lives`), once ExecStopPost has ended."""
        if self.runs:
            raise Broken("two lives at once")
        self._put(self.now() + 0.1, "start")

    # Events of the world itself

    def _event_kill(self, event, rng):
        self._aim(event, rng)

    _event_power = _event_kill

    def _aim(self, event, rng):
        aim = dict(event, left=event.get("nth", 1), seed=rng.getrandbits(64))
        aim.setdefault("aim", "any")
        self._number += 1
        aim["number"] = self._number
        if not self.runs:
            if event["do"] == "power" and self._live:
                self._live.leave("power", "", aim)
            elif event["do"] == "power":
                self._power(aim)
            return
        if aim["aim"] == "any" and aim["left"] <= 1:
            self._cut(aim)
        self.aims.append(aim)
        self._put(self.now() + AIMED, "aimed", aim["number"])
        self._live.arm()

    def _do_aimed(self, number):
        """What a kill was aimed at did not come: it comes now."""
        for aim in list(self.aims):
            if aim["number"] == number:
                self.aims.remove(aim)
                self._cut(aim)

    def _cut(self, aim):
        """Kill the agent here and now. Returns only if none runs."""
        if not self._live:
            return
        if aim["do"] == "power":
            self._live.leave("power", "", aim)
        self._live.leave("kill", "", aim)

    def _event_stop(self, event, _rng):
        if self.runs:
            self._stop("stop", event.get("back", 5.0))

    def _stop(self, how, back):
        if not self.runs:
            self._live.leave(how, "", {})
        if self.ending is not None:
            if how == "end":
                self.ending = (how, "", back)
            return
        self.ending = (how, "", back)
        if not self._live.loop.signal(signal.SIGTERM):
            self._live.leave(how, "nobody listened to SIGTERM", {"back": back})
        self._put(self.now() + STOPS_WITHIN, "stop_kill", self.life)

    def _do_stop_kill(self, life):
        if self._live and self.life == life:
            how, _, back = self.ending
            self.note("late", what="stop", seconds=STOPS_WITHIN)
            self._live.leave(
                "kill" if how == "stop" else how, "it did not stop in time", {"back": back}
            )

    def _configure(self, event, rng):
        return houses().configure(self, event.get("change", "none"), rng)

    def _event_reload(self, event, rng):
        self._configure(event, rng)
        if self.runs:
            self._live.loop.signal(signal.SIGHUP)

    def _event_upgrade(self, event, rng):
        self._configure(event, rng)
        if self.runs:
            self._stop("stop", event.get("back", 20.0))

    def _event_disk(self, event, _rng):
        self.disk.begin(event, self.now())
        self._note_spools(event)

    def _note_spools(self, event):
        """How large the spools are while the disk is full (rule B10)."""
        if event["how"] == "full":
            self.note("spools", bytes=self.disk.sizes("spool"))

    def _event_clock_step(self, event, rng):
        self.touched_before = self.touched()
        self.apart += event["by"]
        self.synchronised = False  # so does settimeofday
        self._clock()
        self._notice(rng)

    def _event_clock_service(self, event, rng):
        if self.service and not event["on"]:
            self.unserved = self.now()
        self.service, self.service_apart = event["on"], float(event.get("wrong", 0.0))
        self._clock()
        if self.service:
            self._notice(rng)
        else:
            self.correction += 1

    def _notice(self, rng):
        if self.service:
            self.correction += 1
            self._put(self.now() + rng.uniform(*SERVICE), "corrected", self.correction)

    def _do_corrected(self, number=None):
        if number == self.correction and self.service:
            self._corrected()

    def _corrected(self):
        self.apart = self.rtc_apart = self.service_apart
        self.synchronised, self.synchronised_at = True, self.now()
        self._clock()

    def _clock(self):
        self.note("clock", apart=self.apart, service=self.service,
                  kept=self.service and self.synchronised,
                  rtc=self.rtc_apart if self.has_rtc else None)  # fmt: skip
        if self._live:
            for tell in self._live.listeners:
                self._live.loop.call_soon(tell)

    # Boots and ends of lives, seen from outside

    def started(self):
        """The machine boots if it is off; the next life begins."""
        if not self.boot:
            self.boot = f"{self.chance.of('boot').getrandbits(128):032x}"
            self.booted = self.at - self.chance.of("boot").uniform(15.0, 60.0)
        self.life += 1

    def _power(self, aim):
        """The power is gone, and comes back."""
        if self.disk:
            self.disk.power_cut(Stream(aim["seed"]))
        shutil.rmtree(self.folder / "shm", ignore_errors=True)
        self.touched_before = None
        self.boot = ""
        self.apart = self.rtc_apart = float(aim.get("wall", 0.0))
        self.synchronised, self.synchronised_at = False, 0.0
        self._clock()
        self._notice(Stream(aim["seed"] + 1))

    def ended(self, how, text, aim):
        """A life has ended: what that does to the disk, and when the next one begins."""
        self.aims.clear()
        self.queue = [item for item in self.queue if item[2] not in ("aimed", "stop_kill", "watch")]
        heapq.heapify(self.queue)
        self.ending = None
        self.note("life.ended", life=self.life, how=how, text=text)
        if self.disk:
            self.disk.killed()
            if self.disk.mistakes:
                raise Broken(self.disk.mistakes[0])
        if how == "power":
            self._power(aim)
        if how == "spun":
            self.over = True
        if self.over:
            return
        if self.lived > WATCHED * 20:
            self.restarts = 0
        if how in ("kill", "power", "stop"):
            back = float(aim.get("back", RESTART))
        else:
            step = min(self.restarts, RESTARTS) / RESTARTS
            back = RESTART * (LONGEST / RESTART) ** step
            self.restarts += 1
        if self.is_quiet:
            back = min(back, 60.0)
        self._put(self.now() + back, "start")

    @property
    def releases(self):
        """Whether there is anything that could be held after an end of the agent."""
        return self.parts != FIRST and bool(self.plan["building"].get("controls"))

    def after(self, how, aim):
        """ExecStopPost has ended, or the power has, in its midst."""
        if self.disk:
            self.disk.killed()
        if how == "power":
            self._power(aim)

    def pass_time(self):
        """Let the time pass without the agent, until somebody starts it. False: the run is over."""
        while self.queue and not self.over:
            self.at = max(self.at, self.queue[0][0])
            if self.queue[0][2] == "start":
                heapq.heappop(self.queue)
                return True
            at, _, what, more = heapq.heappop(self.queue)
            del at
            getattr(self, f"_do_{what}")(*more)
        return False


class Life:
    """What of a world exists only while a life runs, in the process of that life."""

    releases = False
    """whether it is no life of the agent, but what systemd runs after it"""

    def __init__(self, world, out, trace=None):
        self.world, self.out = world, out
        self.hash, self.file = hashlib.sha256(), trace
        self.began, self.cpu = world.at, real_cpu()
        rng = seeded(f"{world.seed}/{'release' if self.releases else 'loop'}/{world.life}")
        self.loop = SimLoop(rng, world.at - world.booted, self.stalled)
        self.petted = world.at
        self.ready = False
        self._timer = self.profile = None
        self.listeners = []

    def stalled(self):
        """Until when the disk does not answer, in time of the loop; None: it does."""
        disk = self.world.disk
        return disk.stalled_until(self.loop.time()) if disk and disk.faults else None

    def feed(self, *what):
        """Make something part of the trace."""
        line = f"{self.loop._now:.6f} {self.loop.rounds} {what!r}\n".replace(
            str(self.world.folder), "RUN"
        )
        self.hash.update(line.encode())
        if self.file is not None:
            self.file.write(line)

    # The world's events

    def wake(self):
        """Come back when the next thing is due. Nothing is due any more once the run is over: what
        is left would wake the loop again and again while the agent stops.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self.world.queue and not self.world.over:
            when = self.world.queue[0][0] - self.world.booted
            self._timer = self.loop.call_at(when, self._due)

    def _due(self):
        self._timer = None
        self.guarded(self.world.due)
        self.wake()

    def guarded(self, call, *args):
        """Call a part of the world: an error there is one of the simulation."""
        try:
            return call(*args)
        except Exception:  # noqa: BLE001 -- of whatever kind
            self.broken(traceback.format_exc())

    def arm(self):
        """Count the moments at which a kill is aimed."""
        if self.world.disk and self.world.aims:
            self.world.disk.hook = self.world._aimed
        if any(aim["aim"] == "any" for aim in self.world.aims):
            self.loop.each = self._each

    def _each(self):
        self.world._aimed("callback")

    # Ends

    def leave(self, how, text, aim):
        """End the process as kill -9 does, with what the world knows written out."""
        world, loop = self.world, self.loop
        now = world.now()
        if self.profile is not None:
            self.profile.disable()
            self.profile.dump_stats(f"{PROFILE}.{world.life}")
        cpu = real_cpu() - self.cpu
        self.feed("end", how, loop.callbacks, loop.wakes)
        if not self.releases:
            counted = {
                "life": world.life,
                "rounds": loop.rounds,
                "wakes": loop.wakes,
                "callbacks": loop.callbacks,
                "seconds": now - self.began,
            }
            world.wakes.append(counted | {"cpu": cpu})
            world.note("wakes", **counted)
            world.lived = now - self.began
        world.cpu += cpu
        world.trace = hashlib.sha256(world.trace + self.hash.digest()).digest()
        world.at, world._live = now, None
        if world.disk:
            world.disk.hook = None
            world.disk.uninstall()
        if self.file is not None:
            self.file.flush()
        body = pickle.dumps((how, text, aim, world), pickle.HIGHEST_PROTOCOL)
        with open(self.out, "wb", buffering=0) as out:  # noqa: PTH123 -- a number
            view = memoryview(body)
            while view:
                view = view[out.write(view) :]
        sys.stderr.flush()
        os._exit(0)

    def broken(self, text):
        """End the process: the simulation itself has failed."""
        if self.world.disk:
            with contextlib.suppress(Exception):
                self.world.disk.uninstall()
        with open(self.out, "wb", buffering=0) as out:  # noqa: PTH123 -- a number
            out.write(pickle.dumps(("broken", text, {}, None)))
        os._exit(BROKEN)

    # The life itself

    def enter(self):
        """Make this process one of the world."""
        world, loop = self.world, self.loop
        world._live = self
        try:
            from tests.sim import seams

            seams.install(world, loop)
            logging.root.handlers[:] = [Log(self)]
            logging.root.setLevel(logging.INFO)
            if world.disk:
                world.disk.install(clock=world.now, wall=world.wall, blocked=self._blocked)
            for part in world._parts():
                if hasattr(part, "install"):
                    part.install(world)
            if not self.releases:
                world.note("life.begun", life=world.life, boot=world.boot, apart=world.apart)
            asyncio.set_event_loop(loop)
            self.wake()
        except Exception:  # noqa: BLE001 -- of whatever kind
            self.broken(traceback.format_exc())

    def live(self):
        """Run the agent. Never returns."""
        world, loop = self.world, self.loop
        self.enter()
        how, text = "error", ""
        loop.watchdog, loop.bitten = self._alive_until, self._bitten
        loop.call_later(READY_WITHIN, self._watch)
        if PROFILE:
            import cProfile

            self.profile = cProfile.Profile(real_cpu)
            self.profile.enable()
        try:
            loop.run_until_complete(self._run())
            how = "stop" if world.ending else "error"
            text = "" if world.ending else "it ended by itself"
        except Spins as error:
            how, text = "spun", str(error)
        except Deadlock:
            self.broken("nothing is ready, and no timer is set")
        except Exception as error:  # noqa: BLE001 -- of whatever kind
            from agent.core.errors import Refused

            how = "refused" if isinstance(error, Refused) else "error"
            text = str(error) if how == "refused" else traceback.format_exc()
        if world.ending and how in ("stop", "error") and not text:
            how = world.ending[0]
        self.leave(how, text, {"back": world.ending[2]} if world.ending else {})

    def _blocked(self, seconds):
        self.loop.jump(self.loop.time() + seconds)

    def _alive_until(self):
        """When systemd ends the agent, in time of the loop, unless it hears from it before."""
        patience = WATCHED if self.ready else READY_WITHIN
        return self.petted + patience - self.world.booted

    def _bitten(self):
        self.leave("error", "watchdog" if self.ready else "it did not become ready", {})

    def _watch(self):
        """Systemd's watchdog."""
        left = self._alive_until() - self.loop.time()
        if left <= 0:
            self._bitten()
        self.loop.call_later(max(1.0, left), self._watch)

    async def _run(self):
        from agent import app

        await app.run(self.world.folder / "config.yaml", self._door)

    async def _door(self, gateway, state):
        if not self.ready:
            self.ready, self.petted = True, self.world.now()
            self.world.note("life.ready", life=self.world.life)
        await self.world._parts()[-1].serve(self.world, gateway, state)


class Release(Life):
    """ExecStopPost of the unit, in a process of its own: `gardien control release --all`."""

    releases = True

    def live(self):
        """Run it. Never returns."""
        world, loop = self.world, self.loop
        self.enter()
        from agent.cli.control import given_back
        from agent.core.errors import Refused

        asyncio.run = loop.run_until_complete
        done, error = {}, ""
        try:
            done = {
                one.control: one.done for one in given_back(world.folder / "state", limits=False)
            }
        except Refused as refused:
            error = str(refused)
        except Deadlock:
            self.broken("nothing is ready, and no timer is set")
        except Exception:  # noqa: BLE001 -- of whatever kind
            error = traceback.format_exc()
        if done or error:
            world.note("released", life=world.life, done=done, error=error)
        self.leave("stop", "", {})


class Log(logging.Handler):
    """The agent's log is a part of the trace."""

    def __init__(self, life):
        super().__init__()
        self.life = life

    def emit(self, record):
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info))
        self.life.feed("log", record.levelname, record.name, text)
        if SHOWN:
            world = self.life.world
            at = time.strftime("%m-%d %H:%M:%S", time.gmtime(world.now()))
            sys.stderr.write(f"{at} life {world.life} {record.levelname} {text}\n")


SHOWN = False
"""whether the agent's log goes to stderr as well"""
PROFILE = None
"""beginning of the names of files that get a profile of each life"""


@cache
def parts_of(names):
    """The modules of that name."""
    return [importlib.import_module(f"tests.sim.{name}") for name in names]


def houses():
    """The module that writes configurations."""
    return importlib.import_module("tests.sim.houses")


def lives(world, trace=None, most=LIVES, until=None):
    """Run a world to its end, and return it. Raises Broken.

    `trace`: an open file that gets each line of the trace. `until`: real monotonic time after which
    the run is given up.
    """
    journal = world.journal
    world._put(world.at, "start")
    while world.pass_time():
        if world.life >= most:
            raise Broken(f"more than {most} lives")
        if until is not None and real_time() > until:
            raise Broken("it took too long")
        world.started()
        if world.life > 1 and world.parts != FIRST:
            houses().mend(world)
        world.kept = len(journal)
        how, text, aim, world = _one(world, trace)
        if SHOWN:
            sys.stderr.write(f"life {world.life}: {how} {text}\n")
        journal += world.journal
        world.journal = journal
        world.ended(how, text, aim)
        world.kept = len(journal)
        if how != "power" and not world.over and world.releases:
            how, _, aim, world = _one(world, trace, Release)
            journal += world.journal
            world.journal = journal
            world.kept = len(journal)
            world.after(how, aim)
    world.note("end")
    return world


def _one(world, trace, kind=Life):
    """Fork one life, and take the world from it."""
    sys.stdout.flush()
    sys.stderr.flush()
    if trace is not None:
        trace.flush()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        try:
            kind(world, write, trace).live()
        finally:
            os._exit(BROKEN)
    os.close(write)
    with open(read, "rb") as answer:  # noqa: PTH123 -- a number
        body = answer.read()
    _, status = os.waitpid(pid, 0)
    if not body:
        code = os.waitstatus_to_exitcode(status)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        raise Broken(f"the process of a life ended with {code} (at most {used.ru_maxrss} KiB)")
    how, text, aim, after = pickle.loads(body)
    if how == "broken":
        raise Broken(text)
    return how, text, aim, after
