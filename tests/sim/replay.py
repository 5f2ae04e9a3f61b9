"""A support bundle of a gateway in the field becomes a plan with synthetic values.

The flight recorder (rule U20) knows kinds, counts and times, so the plan has what happened to the
agent: its lives, lost lines and uplinks, silent devices, the clock, the disk. Of people it knows
calls by name: the nearest act of the simulated people stands for them. `Replay.table` tells what
became of each record. When an agent was killed is not recorded, only when it started again.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections import Counter

from agent.gateway.flight_recorder import CALLS, START, STOP
from tests.sim import plan, world
from tests.sim.bundle import FLIGHT, Unusable, configuration, contents, records_of, site_of
from tests.sim.chance import Stream

MOST = 12
"""most events that one record becomes"""
AGAIN, SOON = 120.0, 3600.0
"""seconds after a start within which what is lost again has been lost all the time; for the disk"""
BACK = world.RESTART
"""seconds until systemd starts an agent that has died"""
TRUSTED, SERVED = "trusted", world.SERVICE[1]
ROUND = 2.0
"""seconds of error of times that are recorded in whole seconds"""
FAR = 40.0 * plan.DAY
"""seconds by which a clock of a plan may be wrong"""
FIRST, BEGIN, LAST = 1_767_222_000, 1_798_758_000, 1_893_456_000
"""begins that a plan may have; BEGIN: of the plan, if the gateway's clock was never right"""
ERRNOS = {"EROFS": "readonly", "EIO": "eio", "silent": "stall", "ENOSPC": "full", "EDQUOT": "full"}
LOST = {"line-lost": "line", "uplink-lost": "uplink", "device-silent": "device"}
BACK_AGAIN = {"line-restored": "line", "uplink-restored": "uplink", "device-answers": "device"}
DISK = {"store-failed", "store-full", "record-not-written", "store-recovered"}
CLOCK = {"clock-stepped", "clock-trust-changed"}
ACTS = {
    "occupancy.move_in": "move", "occupancy.move_out": "move",
    "consent.give": "consent by command", "consent.answers": "consent by form",
    "consent.withdraw": "withdraw by command",
    "meter.exchange": "exchange", "meter.remove": "remove",
    "duty.add": "duty", "duty.end": "duty.end",
    "control.opt_out": "opt-out", "control.release": "release",
    "status": "look", "privacy.explain": "look", "privacy.person": "look",
    "privacy.disclosures": "look",
}  # fmt: skip
"""by name of a call: what the people of the simulation do; one act makes several of these calls"""
AT_ONCE = {
    "move": {"notice": 0.0}, "exchange": {"notice": 0.0}, "remove": {"notice": 0.0},
    "withdraw": {"aim": "any"},
}  # fmt: skip
"""with which the call of an act is made at the time of the act"""
FLAWS = {"E_SIG": "signature", "E_AUD": "audience", "E_EXPIRED": "expired", "E_REPLAY": "replay"}
SINGLE = {
    "control-accepted": ("order", {}), "control-cancelled": ("cancel", {}),
    "control-revoked": ("revoke", {}), "value-not-ours": ("priority", {}),
    "control-aborted": ("guard", {"for": 600.0}), "failsafe-changed": ("silence", {"for": 1800.0}),
    "batch-quarantined": ("uplink", {"how": "refuses", "for": 3600.0}),
    "batch-split": ("uplink", {"how": "too-large", "for": 3600.0}),
    "reloaded": ("reload", {"change": "period"}), "reload-refused": ("reload", {"change": "wrong"}),
}  # fmt: skip
"""by kind of a record: an event at its moment"""
FOLLOWS = {
    STOP, "delivery-delayed", "delivery-alarm", "epoch-begun", "clock-floor-lowered",
    "clock-corrected", "control-grant", "control-tested", "control-given_back", "control-scheduled",
    "control-started", "control-restoring", "control-completed", "control-received",
    "control-ended", "control-opted_out", "control-released", "trust-list-changed",
}  # fmt: skip
"""kinds that the simulated agent brings about by itself, or that other records already tell"""


def bounded(seconds):
    return max(-FAR, min(FAR, seconds))


def shown(text):
    """A text of a bundle for a terminal."""
    return ascii(text)[1:-1][:40]


class Replay:
    """Makes the plan. `table`: a Counter of (record, what it became); `notes`: lines of text."""

    def __init__(self, records, site, seed):
        self.records, self.site, self.building, self.seed = records, site, site.building, seed
        self.rng = random.Random(f"replay/{seed}")
        self.table, self.notes, self.acts = Counter(), list(site.notes), []
        self.open, self.cut, self.off, self.versions = {}, {}, {}, set()
        self._times()
        for n, record in enumerate(records):
            before = len(self.acts)
            became = self._carried_over(n, record)
            if became in plan.EVENTS and record.count > max(1, len(self.acts) - before):
                became += f", but {record.count} times"
            if became:
                self.table[shown(record.kind), became] += 1
        if len(self.versions) > 1:
            self.notes.append(f"{len(self.versions)} versions ran there; all lives have this one")
        for key in list(self.open):
            self._close(key, self.end)
        for key, times in self.cut.items():
            self._span(key, *times)
        self._clock()

    def _times(self):
        """When the records were really made: by uptime, and the clock while it was right."""
        boots, self.boot_of = [], []
        for before, record in zip([None, *self.records], self.records, strict=False):
            if before is None or booted(record) or record.up < before.up:
                boots.append([])
            boots[-1].append(record)
            self.boot_of.append(len(boots) - 1)
        self.offsets, self.end = [], -math.inf
        for boot in boots:
            right = [r for r in boot if (r.kind, r.detail) == ("clock-trust-changed", TRUSTED)]
            doubted = any(r.detail == "untrusted" for r in boot)
            base = right[-1] if right else boot[0] if doubted else boot[-1]
            offset = max(float(base.at - base.up), self.end + 1 - boot[0].up)
            self.offsets.append(offset)
            self.end = max(offset + record.up + record.lasted for record in boot)
        of = zip(self.boot_of, self.records, strict=True)
        self.true = [self.offsets[n] + record.up for n, record in of]
        self.first = math.floor(self.true[0])

    def _apart(self, n):
        """By how much the clock was wrong at a record."""
        record = self.records[n]
        apart = record.at - record.up - self.offsets[self.boot_of[n]]
        return apart if abs(apart) > ROUND else 0.0

    def add(self, at, do, until=None, **params):
        """An event; `until`: when it, or what it does, is over. False: it cannot happen here."""
        known = plan.EVENTS[do]
        if "control" in known and not self.building["controls"]:
            return False
        for name in known.keys() - params.keys() - {"for", "back"}:
            params[name] = None
        drawing = {"building": self.building, "days": 1}
        event = {"do": do} | {
            name: plan.DRAWS[do][name](self.rng, drawing) if params[name] is None else params[name]
            for name in sorted(params)
        }
        self.acts.append((at, until, {"seed": self.rng.getrandbits(32)} | event))
        return True

    def _spread(self, n, do, count, **params):
        """So many events, but at most MOST, over the time of a record."""
        record, number = self.records[n], min(count, MOST)
        lasts = params.pop("for", 6.0 * plan.HOUR if do == "opt-out" else None)
        for step in range(number):
            part = (step + self.rng.random()) / number if number > 1 else 0.0
            at = self.true[n] + record.lasted * part
            until = at + lasts if lasts else None
            if not self.add(at, do, until, **params):
                return "nothing: no control can be simulated"
        return do

    def _carried_over(self, n, record):
        """What becomes of a record, in the table's words."""
        kind, at = record.kind, self.true[n]
        if kind == START:
            return self._start(n, record)
        if kind == CALLS:
            return self._calls(n, record)
        if kind in LOST:
            return self._lost(LOST[kind], record, at)
        if kind in DISK:
            return self._disk(record, at)
        if kind in SINGLE or (kind == "object-refused" and record.detail in FLAWS):
            return self._single(n, record)
        for key in self._keys(BACK_AGAIN[kind], record) if kind in BACK_AGAIN else ():
            self._close(key, at + record.lasted)
        known = {**dict.fromkeys(FOLLOWS, "follows by itself"),
                 **dict.fromkeys(BACK_AGAIN, "the end of an event"),
                 **dict.fromkeys(CLOCK, "clock.step, clock.service")}  # fmt: skip
        return known.get(kind, "nothing")

    def _single(self, n, record):
        do, params = SINGLE.get(record.kind, ("order", {"flaw": FLAWS.get(record.detail)}))
        sides = {"control": self.site.controls, "recipient": self.site.recipients}
        for name, numbers in sides.items():
            if name in plan.EVENTS[do] and record.subject in numbers:
                most = max(1, self.building[f"{name}s"])
                params = params | {name: numbers[record.subject] % most}
        return self._spread(n, do, 1 if do == "reload" else record.count, **params)

    def _start(self, n, record):
        """The last life has ended; systemd or somebody starts the next one."""
        if record.facts.get("devices", self.site.hash) != self.site.hash:
            self.notes.append(f"life {record.life}: its devices are not those of the configuration,"
                              " so numbers of devices may mean others")  # fmt: skip
        self.versions.add(str(record.facts.get("version")))
        times = min(record.count, MOST)
        again = f", then {times - 1} kill{'s'[: times != 2]}" if times > 1 else ""
        again += f" for {record.count} starts" if record.count > MOST else ""
        for step in range(1, times):
            at = self.true[n] + record.lasted * step / times
            self.add(at - BACK, "kill", at, aim="any", nth=1)
        if n == 0:
            return f"the first life{again}"
        before, at = self.records[n - 1], self.true[n]
        for key in list(self.open):
            self.cut[key] = self.open.pop(key), at
        earlier = min(self.true[n - 1] + before.lasted, at - 1)
        if booted(record):
            off = min(max(earlier, at - record.up - 30), at - 1)
            self.off[n] = off, len(self.acts)
            self.add(off, "power", at, aim="any", nth=1, wall=bounded(self._apart(n)))
            return f"power before it{again}"
        if before.kind == STOP and not before.detail:
            self.add(earlier, "stop", at)
            return f"stop before it{again}"
        self.add(max(earlier, at - BACK), "kill", at, aim="any", nth=1)
        return f"kill before it{again}"

    def _keys(self, what, record):
        """What a record is about: ("line", 2), ("uplink", 0), ("device", 7)."""
        if what == "uplink":
            number = self.site.recipients.get(record.subject)
            return [] if number is None else [(what, number % self.building["recipients"])]
        line = self.site.lines.get(record.subject)
        if line is None or what == "line":
            return [] if line is None else [(what, line)]
        fitted = self.site.fitted.get(line, [])
        if any(last > len(fitted) for _, last in record.devices):
            self.notes.append(
                f"{shown(record.subject)} has fewer devices here: numbers begin again"
            )
        ranges = (range(first, min(last, first + len(fitted)) + 1)
                  for first, last in record.devices[: len(fitted)])  # fmt: skip
        numbers = itertools.chain.from_iterable(ranges)
        return list(dict.fromkeys((what, fitted[(n - 1) % len(fitted)]) for n in numbers))

    def _lost(self, what, record, at):
        """Something that is lost until it is back; what flaps is lost half of the time."""
        keys = self._keys(what, record)
        for key in keys:
            times = min(max(1, record.count // len(keys)), MOST)
            each = record.lasted / max(1, times - 1)
            for step in range(times - 1):
                self._lose(key, at + step * each)
                self._close(key, at + (step + 0.5) * each)
            self._lose(key, at + each * (times - 1))
        return what if keys else "nothing: not configured"

    def _lose(self, key, at):
        """If it was lost when the last life ended, it was so all the time."""
        begin, end = self.cut.pop(key, (at, at))
        if at - end > (SOON if key[0] == "disk" else AGAIN):
            self._span(key, begin, end)
            begin = at
        self.open.setdefault(key, begin)

    def _close(self, key, at):
        if at >= self.open.get(key, math.inf):
            self._span(key, self.open.pop(key), at)

    def _span(self, key, begin, end):
        what, which = key
        more = {"uplink": {"recipient": which, "how": "down"}, "line": {"line": which},
                "device": {"device": which, "how": "silent"}, "disk": {"how": which}}  # fmt: skip
        self.add(begin, what, max(end, begin + 1), **more[what])

    def _disk(self, record, at):
        """All stores have the same disk; of a full one only the failed writes are recorded."""
        if record.kind == "store-recovered":
            for how in dict.fromkeys(ERRNOS.values()):
                self._close(("disk", how), at + record.lasted)
            return "the end of an event"
        lately = [key for key, times in self.cut.items() if at <= times[1] + SOON]
        lately = [key for key in [*lately, *self.open] if key[0] == "disk"]
        how = "full" if record.kind == "store-full" else ERRNOS.get(record.detail)
        if how is None and record.kind == "store-failed":
            how = "eio"
        if how is None and not lately:
            return "nothing: it need not be the disk"
        key = ("disk", how) if how else lately[-1]
        lasts = key in self.open or record.kind == "store-failed"
        self._lose(key, at)
        if not lasts:
            self.cut[key] = self.open.pop(key), at + max(record.lasted, 600.0)
        return "disk"

    def _calls(self, n, record):
        """Acts of people. The calls of the set-up are made by the simulation, too."""
        counts = Counter()
        for name, count in record.facts.items():
            do = ACTS.get(name)
            if type(count) is not int or count < 1 or do is None:
                self.table[f"call {shown(name)}", "nothing"] += 1
            else:
                several = do in {"move", "look"}
                counts[do] = max(counts[do], count) if several else counts[do] + count
        for act, count in counts.items():
            do, _, by = act.partition(" by ")
            made = self._spread(n, do, count, **AT_ONCE.get(do, {}), **({"by": by} if by else {}))
            made += f", but {count} times" if count > MOST else ""
            self.table[f"calls for {do}", made] += 1

    def _clock(self):
        """Steps that make the clock wrong; a time service makes it right, at the same time."""
        wrong = None
        for n, record in enumerate(self.records):
            at, apart, step = self.true[n], self._apart(n), None
            changed = record.kind == "clock-trust-changed"
            # its trust may have changed in the hours that a kill loses
            right = not apart and (record.kind == "clock-stepped" or n in self.off)
            if right or (changed and record.detail == TRUSTED):
                if wrong is not None:
                    self._served(*wrong, at)
                wrong = None
                continue
            if record.kind == "clock-stepped":
                step = len(self.acts)
                self.add(at, "clock.step", by=bounded(stepped(record, apart)))
            if n in self.off or record.kind in CLOCK:
                wrong = wrong or self.off.get(n, (at, step))
        if wrong is not None:
            self._served(*wrong, None)

    def _served(self, begin, step, end):
        """The clock was not trusted from `begin` to `end`, since an event `step`."""
        if end is None or end - begin > SERVED:
            self.add(begin - ROUND, "clock.service", on=False)
            if end is not None:
                self.add(end - 10, "clock.service", on=True, seed=self._corrected_after(10))
        elif step is not None:
            event = self.acts[step][2]
            event["seed"] = self._corrected_after(end - begin, event["do"] == "power")

    def _corrected_after(self, wanted, power=False):
        """The seed of an event after which the time service needs about so many seconds."""

        def needed(seed):
            own = Stream(seed).getrandbits(64) + 1 if power else seed
            return Stream(own).uniform(*world.SERVICE)

        seeds = (self.rng.getrandbits(32) for _ in range(300))
        return min(seeds, key=lambda seed: abs(needed(seed) - wanted))

    def plan(self, squeeze=None):
        """`squeeze`: longer times in which nothing happens lose whole days, to about so many."""
        ends = (until for _, until, _ in self.acts if until is not None)
        marks = sorted({float(self.first), self.end, *(at for at, _, _ in self.acts), *ends})
        moved, less = {marks[0]: marks[0]}, 0.0
        for before, mark in itertools.pairwise(marks):
            if squeeze is not None and mark - before >= (squeeze + 1) * plan.DAY:
                less += ((mark - before) // plan.DAY - squeeze) * plan.DAY
            moved[mark] = mark - less
        if less:
            self.notes.append(f"{less / plan.DAY:.0f} days in which nothing happens are left out")
        events = []
        for at, until, event in sorted(self.acts, key=lambda act: act[0]):
            times = {"at": max(0.0, moved[at] - self.first)}
            if until is not None:
                name = "for" if "for" in plan.EVENTS[event["do"]] else "back"
                most = (60 if name == "for" else 10) * plan.DAY
                times[name] = min(moved[until] - moved[at], most)
            events.append(event | {name: round(value, 1) for name, value in times.items()})
        days = math.ceil((moved[marks[-1]] - self.first + plan.HOUR) / plan.DAY)
        if days > plan.LONGEST:
            raise Unusable(f"the records cover {days} days, and a plan has at most {plan.LONGEST}:"
                           " use --squeeze")  # fmt: skip
        if (lives := 1 + sum("back" in event for event in events)) > world.LIVES // 2:
            raise Unusable(f"the records have {lives} lives, too many for a run")
        right = self.first >= FIRST and marks[-1] < LAST
        if not right:
            self.notes.append("the clock was never right: the plan begins on a day of its own")
        made = {"schema": plan.SCHEMA, "seed": self.seed, "begin": self.first if right else BEGIN}
        made |= {"days": days, "kind": "replay", "building": self.building, "events": events}
        if wrong := plan.check(made):
            raise Unusable(f"no plan can be made of it: {wrong[0]}")
        return made


def booted(record):
    """Whether a record is the start of an agent on a machine that has just booted."""
    return record.kind == START and record.facts.get("new_boot") is not False


def stepped(record, otherwise):
    """Seconds of a step of the clock."""
    try:
        return float(int(record.detail))
    except (ValueError, OverflowError):
        return otherwise


def replay(bundle, seed=None, squeeze=None):
    """The plan of a bundle, and lines of text that say what became what. Raises Unusable."""
    parts = contents(bundle)
    records, unread = records_of(parts[FLIGHT])
    if seed is None:
        seed = int.from_bytes(hashlib.sha256(parts[FLIGHT].encode()).digest()[:4], "big")
    made = Replay(records, site_of(configuration(parts), seed), seed)
    result = made.plan(None if squeeze is None else max(0, squeeze))
    table = sorted(made.table.items())
    lines = [f"{'times':>6}  {'record, or call':32} event of the plan"]
    lines += [f"{count:6}  {what:32} {became}" for (what, became), count in table]
    if any(event["do"] in {"kill", "power"} for event in result["events"]):
        made.notes.append("each kill or power cut has lost up to an hour of records before it")
    if not any(event["do"] in {"consent", "duty"} for event in result["events"]):
        made.notes.append("nobody consents in this plan, so nothing of dwellings is sent: to change"
                          " that, add events `consent` to it")  # fmt: skip
    lines += [f"{unread} records cannot be read"] if unread else []
    return result, [*lines, *(f"note: {note}" for note in dict.fromkeys(made.notes))]
