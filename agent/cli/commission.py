"""`gardien commission`: one guided visit, from an empty gateway to a verified building.

Each step is made of calls and changes that other commands make, too. What was done is kept after
each step, so the visit can be interrupted at any moment, and repeated.
"""

from __future__ import annotations

import os
import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.dialogue import WIDE, Dialogue
from agent.cli.scan import Ticker
from agent.cli.session import Session
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    DEFAULT_STATE,
    As,
    Config,
    Json,
    State,
    as_json,
    read_here,
    state_of,
    table,
    text_of,
    write_file,
)
from agent.core.errors import AgentError, Refused
from agent.core.i18n import N_, Text, _, in_language, n_

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

Answer = dict[str, Any]
FEW = 3
"""names, and rows of a list, that are shown"""
AHEAD = 2
"""dwellings whose meters are read while the person is in the one before"""
PULSES = {
    "cw": "mbus-pulse-cold-water",
    "dhw": "mbus-pulse-warm-water",
    "elec.imp": "mbus-pulse-electricity",
}
"""profiles of an input of a pulse collector, by channel"""
LINE = re.compile(
    r"(?P<driver>[\w-]+)\s+(?P<where>\S+)(\s+(?P<baudrate>\d+))?(\s+(?P<parity>\w+))?"
)


DAY = 86_400


class Stop(Exception):
    """The person wants to continue another time."""


def commission(
    step: Annotated[
        str | None,
        typer.Argument(
            help="Only this step: building, lines, scan, list, match, flats or delivery. Default:"
            " all that is not done yet.",
            show_default=False,
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="A file with the answers (JSON), for a visit without a person."),
    ] = None,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Set up and verify a building in one guided visit.

    The visit finds lines and meters, reads the syndic's list, and compares the meters of each flat
    with their displays. Interrupt it at any moment (Ctrl-C); the same command continues it.
    Exit status 1 if something is still open.
    """
    if step is not None and step not in STEPS:
        raise typer.BadParameter(
            _("there is no step {step}: {steps}", step=step, steps=", ".join(STEPS))
        )
    from agent.api.registry import SHARED
    from agent.local import account

    dialogue = Dialogue(answers)
    if not named and account(os.getuid()) in SHARED:  # else the first change is refused
        named = dialogue.ask("as", _("Your name? It is recorded with every change."))
    folder = state or (DEFAULT_STATE if config == DEFAULT_CONFIG else config.parent / "state")
    made = _building(dialogue, config, folder) if step in {None, "building"} else False
    folder = state_of(config, state)
    with Session(config, folder, "gardien commission", named) as session:
        visit = Visit(dialogue, session, config)
        if made:
            visit.kept["begun"] = time.time()
        visit.done("building")
        try:
            visit.run(step)
        except (Stop, typer.Abort, KeyboardInterrupt):
            visit.keep()
            dialogue.say("")
            dialogue.say(
                _(
                    "The visit is interrupted. Everything so far is kept. To continue: gardien"
                    " commission"
                )
            )
            raise typer.Exit(1) from None
        summary = visit.summary()
    if json:
        as_json(summary)
    else:
        _show_summary(dialogue, summary)
    raise typer.Exit(1 if summary["findings"] else 0)


class Visit:
    """One visit: what is done, and the steps."""

    def __init__(self, dialogue: Dialogue, session: Session, config: Path) -> None:
        self.dialogue, self.session, self.config = dialogue, session, config
        self.kept: Answer = session.ask("visit.show")["visit"]
        self._before = {name: self.kept.get(name, 0) for name in ("answers", "person", "machine")}
        self.kept.setdefault("steps", {})
        self.ticker = Ticker()

    def run(self, step: str | None) -> None:
        """Make one step, or all that are not done. Raises Stop."""
        ask = self.dialogue
        undone = [one for one in STEPS if one not in self.kept["steps"]]
        steps = undone if step is None else [step] if step != "building" else []
        if not steps and step is None:
            if not ask.agreed(
                "again", _("All steps of the visit are done. Repeat them?"), default=False
            ):
                return
            self.kept["steps"] = {"building": time.time()}
            steps = [one for one in STEPS if one != "building"]
        elif step is None and self.kept["steps"].keys() - {"building"}:
            done = ", ".join(_(STEPS[one][0]) for one in self.kept["steps"] if one in STEPS)
            ask.say(_("The visit continues. Done: {steps}", steps=done))
        for number, name in enumerate(steps, 1):
            title, make = STEPS[name]
            ask.say("")
            ask.say(f"── {_(title)} ({number}/{len(steps)})")
            try:
                make(self)
            except AgentError as error:
                ask.say(error.text.in_language())
                ask.say(
                    _("This step is not done. To repeat it: gardien commission {step}", step=name)
                )
                continue
            self.done(name)

    def done(self, step: str) -> None:
        """Record that a step is done."""
        self.kept["steps"][step] = time.time()
        self.keep()

    def keep(self) -> None:
        """Write how far the visit is."""
        now = {
            "answers": self.dialogue.answers,
            "person": self.dialogue.person,
            "machine": self.dialogue.machine,
        }
        self.kept |= {name: round(self._before[name] + value) for name, value in now.items()}
        self.session.ask("visit.keep", visit=self.kept)

    def change(self, edit: Callable[[], Any]) -> Any:
        """Change the configuration; the file before the visit is kept beside it. Raises Refused."""
        from agent.config.edit import keep_copy

        def edited() -> Any:
            day = f"bak-{time.strftime('%Y-%m-%d')}"
            # a file that this visit began has nothing to go back to
            new = time.time() - self.kept.get("begun", 0) < DAY
            return None if new else keep_copy(self.config, day), edit()

        copy, result = self.session.outside(edited, edits=True)
        if copy:
            self.dialogue.say(_("a copy of the configuration as it was: {copy}", copy=copy))
        return result

    def progress(self, message: Answer) -> None:
        """Show a sentence about progress in place of the last one; none without a terminal."""
        if "text" in message and sys.stderr.isatty():
            text = in_language(message["text"])[: WIDE - 1]
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()

    def summary(self) -> Answer:
        """Return what the visit has done, what it took, and what is still open."""
        self.dialogue.say("")
        self.dialogue.say(_("checking what is still open …"))
        still_open = self.session.ask("visit.open")
        findings, walk = still_open["findings"], still_open["meters"]
        self.keep()
        return {
            "steps": {name: name in self.kept["steps"] for name in STEPS},
            "meters": len(walk),
            "proven": sum(one["proof"] != "none" for one in walk),
            "answers": self.kept["answers"],
            "person_s": self.kept["person"],
            "machine_s": self.kept["machine"],
            "warnings": [
                one | {"text": Text.of(one["text"]).in_language()}
                for one in self.kept.get("warnings", ())
            ]
            + list(self._wrong_factors(walk)),
            "findings": findings,
        }

    def _wrong_factors(self, walk: Sequence[Answer]) -> Iterator[Answer]:
        """Yield the meters that read a multiple of their display."""
        for proof in self.session.ask("meter.proofs")["proofs"]:
            if proof["proof"] == "wrong":
                name = f"{proof['label']} {proof['device']}"
                yield {"text": in_language(proof["sentence"]), "devices": [name]}
        for meter in walk:
            factor = self.kept.get("factors", {}).get(meter["installation"])
            if factor and meter["proof"] == "none":
                text = _("it reads {factor} times what its display shows", factor=factor)
                yield {"text": text, "devices": [f"{meter['label']} {meter['device']}"]}


def _show_summary(dialogue: Dialogue, summary: Answer) -> None:
    from agent.core.finding import Finding, to_type

    say = dialogue.say
    say("")
    if summary["meters"]:
        say(
            _(
                "{proven} of {meters} meters were compared with their display",
                proven=summary["proven"],
                meters=summary["meters"],
            )
        )
    say(
        _(
            "{answers}; {person} min of the person, {machine} min of the machine",
            answers=n_("{number} answer", "{number} answers", summary["answers"]),
            person=_minutes(summary["person_s"]),
            machine=_minutes(summary["machine_s"]),
        )
    )
    for warning in summary["warnings"]:
        say(_("! {names}: {warning}", names=_few(warning["devices"]), warning=warning["text"]))
    for finding in map(Finding.of, summary["findings"]):
        say(f"! {finding.what.in_language()}")
        say(f"    > {to_type(finding.command).in_language()}")
    if not summary["findings"]:
        say(_("Nothing is open: the building is verified."))


def _few(names: Sequence[str]) -> str:
    """Return a few names in one line; the others are counted."""
    if len(names) <= FEW:
        return ", ".join(names)
    more = _("{number} more", number=len(names) - FEW)
    return ", ".join([*names[:FEW], more])


def _minutes(seconds: float) -> float:
    return round(seconds / 60, 1)


# the steps


def _building(ask: Dialogue, config: Path, state: Path) -> bool:
    """Write a configuration if there is none, or only the sample; whether one was written."""
    from agent.cli.building import SAMPLE
    from agent.config.edit import begin, keep_copy
    from agent.core.state import owned
    from agent.registry import identity

    sample = SAMPLE.exists() and config.exists() and config.read_bytes() == SAMPLE.read_bytes()
    if config.exists() and config.stat().st_size and not sample:
        return False
    ask.say(f"── {_(STEPS['building'][0])}")
    ask.say(_("A new configuration is written to {config}.", config=config))
    while not (name := ask.ask("building.name", _("Name of the building?"))):
        if not os.isatty(0):
            raise Refused("the name of the building is missing")
    while True:
        place = ask.ask(
            "building.place", _("Its place id (15 characters, B…), if it has one? Enter: none.")
        )
        zone = ask.ask("building.timezone", _("Time zone?"), _zone())
        try:
            if sample:
                keep_copy(config, "sample")
            begin(
                config,
                name=name,
                place=place,
                timezone=zone,
                state=state,
                clock="ntp" if config == DEFAULT_CONFIG else "system",
            )
        except AgentError as error:
            ask.say(error.text.in_language())
            if not os.isatty(0):
                raise
            continue
        break
    if not (state / identity.KEYS).exists():
        with owned(state, "gardien key new"):
            identity.mint(state)
    return True


def _zone() -> str:
    """The time zone of this machine, unless it is none of a building."""
    zone = os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    return zone if zone and "/" in zone and not zone.startswith("Etc/") else "Europe/Paris"


def _lines(visit: Visit) -> None:
    """Find lines, and add those that people name."""
    from agent.api.calls import CALLS
    from agent.config.edit import add_link
    from agent.config.load import load

    ask = visit.dialogue
    links = visit.session.outside(lambda: load(visit.config)).links
    for name, link in links.items():
        ask.say(f"  {name}: {link.driver}")
    if "line.find" in CALLS and ask.agreed("lines.find", _("Search for lines now?"), default=True):
        answer = visit.session.ask(
            "line.find", visit.progress, ports=None, hosts=None, listen=False, seconds=30.0
        )
        for found_line in answer["found"]:
            ask.say(f"  {in_language(found_line['sentence'])}")
            settings = {
                key: value
                for key, value in found_line.items()
                if key not in {"name", "devices", "sentence"}
            }
            add = partial(add_link, visit.config, found_line["name"], settings)
            if ask.agreed(f"lines.add.{found_line['name']}", _("Add this line?"), default=True):
                visit.change(add)
    hint = _(
        "Add a line, such as: modbus-tcp 192.168.10.20, modbus-rtu /dev/ttyUSB0 9600 or mbus"
        " /dev/ttyUSB1 2400. Enter: no more lines."
    )
    while typed := ask.ask("lines.line", hint):
        try:
            name, settings = _line_of(typed)
            name = visit.change(partial(add_link, visit.config, name, settings))
        except AgentError as error:
            ask.say(error.text.in_language())
        else:
            ask.say(f"  {name}: {typed}")
    if not visit.session.outside(lambda: load(visit.config)).links:
        raise Refused("no line was added")


def _line_of(typed: str) -> tuple[str, Answer]:
    """A name and the settings of a line that a person typed. Raises Refused."""
    match = LINE.fullmatch(typed.strip())
    if match is None:
        raise Refused("a line needs a driver and an address, such as modbus-tcp 192.168.10.20")
    driver, where = match["driver"], match["where"]
    if driver == "modbus":
        driver = "modbus-rtu" if where.startswith("/dev/") else "modbus-tcp"
    settings: Answer = {"driver": driver}
    if where.startswith("/dev/"):
        settings["port"] = where
        settings |= {"baudrate": int(match["baudrate"])} if match["baudrate"] else {}
        settings |= {"parity": match["parity"]} if match["parity"] else {}
    elif driver == "bacnet":
        settings["address"] = where
    else:
        host, _colon, port = where.partition(":")
        settings |= {"host": host} | ({"port": int(port)} if port.isdigit() else {})
    return driver.partition("-")[0], settings


def _scan(visit: Visit) -> None:
    """Search the lines for devices, and add them to the configuration."""
    from agent.config.edit import add_devices, readable
    from agent.config.load import load

    ask, session = visit.dialogue, visit.session
    links = list(session.outside(lambda: load(visit.config)).links)
    if not links:
        raise Refused("no line is configured, so none can be searched: gardien commission lines")
    searched = visit.kept.setdefault("scanned", {})
    chosen = [one for one in links if one not in searched] or links
    if not ask.agreed(
        "scan",
        _("Search these lines now: {lines}? On M-Bus this takes minutes.", lines=", ".join(chosen)),
        default=True,
    ):
        raise Refused("the lines were not searched")
    expected = [one["serial"] for one in session.ask("meter.list")["meters"] if one["serial"]]
    for link in chosen:
        ask.say(_("searching {link} …", link=link))
        devices: list[Answer] = []

        def show(message: Answer, devices: list[Answer] = devices) -> None:
            if "device" in message:
                devices.append(message["device"])
            visit.ticker(message)

        interrupted = True
        try:
            answer = session.ask("scan", show, link=link, expected=expected)
            devices, interrupted = answer["devices"], False
        except Refused as error:
            ask.say(error.text.in_language())
            continue
        finally:
            visit.ticker.end()
            # a slow line takes hours: what was found is kept
            new = {one["name"]: one["entry"] for one in devices if not one["configured"]}
            if new:
                added, home = visit.change(partial(add_devices, visit.config, new))
                ask.say(
                    _(
                        "{devices} added to {home}",
                        devices=n_("{number} device", "{number} devices", len(added)),
                        home=home,
                    )
                )
            _remember(visit, link, devices, [] if interrupted else answer.get("odd", []))
        many = n_("{number} device", "{number} devices", len(devices))
        ask.say(_("{link}: {devices} found", link=link, devices=many))
        for device in devices:
            if not readable(device["entry"]):
                ask.say(
                    _(
                        "  {about}: not added, its values are not known yet",
                        about=in_language(device["about"]),
                    )
                )
        searched[link] = time.time()
        visit.keep()


def _remember(visit: Visit, link: str, devices: Sequence[Answer], odd: Sequence[Answer]) -> None:
    """Keep what a later step needs of a search: warnings, and devices without known values."""
    from agent.config.edit import readable
    from agent.core.finding import as_text

    warnings = [(one["name"], warning) for one in devices for warning in one["warnings"]]
    warnings += [(one.get("device") or link, one["sentence"]) for one in odd]
    kept = visit.kept.setdefault("warnings", [])
    for name, warning in warnings:
        text = as_text(warning).wire()
        entry = next((one for one in kept if one["text"] == text), None)
        if entry is None:
            kept.append(entry := {"text": text, "devices": []})
        entry["devices"] += [name] * (name not in entry["devices"])
    collectors = visit.kept.setdefault("collectors", {})
    for device in devices:
        if not readable(device["entry"]):
            collectors[str(device["entry"]["address"])] = link


def _list(visit: Visit) -> None:
    """Import the syndic's own sheets of dwellings and meters."""
    ask = visit.dialogue
    question = _("The syndic's list of dwellings or meters (.xlsx or CSV)? Enter: no more lists.")
    while typed := ask.ask("list.file", question):
        path = Path(typed.strip("'\"")).expanduser()
        try:
            _import(visit, path)
        except AgentError as error:
            ask.say(error.text.in_language())
            ask.say(_("Correct the list, and name it again."))


def _import(visit: Visit, path: Path) -> None:
    from agent.registry.recognition import MEANINGS, known_headings, lists, recognised
    from agent.registry.sheet import plain

    ask, session = visit.dialogue, visit.session
    text = session.outside(lambda: text_of(path, tuple(known_headings())))
    columns = recognised(text, path.name, visit.kept.get("columns", {}))
    meanings = [column.meaning for column in columns]
    names = list(MEANINGS)
    while True:
        rows = [
            (
                str(number),
                column.heading,
                column.example,
                _(MEANINGS[meaning]) if meaning else _("not read"),
            )
            for number, (column, meaning) in enumerate(zip(columns, meanings, strict=True), 1)
            if column.heading
        ]
        _table((_("no."), _("column"), _("example"), _("is read as")), rows)
        typed = ask.ask("list.column", _("Is this right? Enter: yes. Else the number of a column."))
        if typed.casefold() in {"", "y", "yes", _("y"), _("yes")}:
            break
        if not typed.isdigit() or not 0 < int(typed) <= len(columns):
            continue
        for number, name in enumerate(names, 1):
            ask.say(f"  {number:>2} {_(MEANINGS[name])}")
        meant = ask.ask("list.meaning", _("What does the column contain? 0: it is not read."))
        if meant.isdigit() and int(meant) <= len(names):
            chosen = names[int(meant) - 1] if int(meant) else ""
            meanings = ["" if one == chosen else one for one in meanings]
            meanings[int(typed) - 1] = chosen
    made = lists(text, path.name, meanings)
    if made.places is None:
        raise Refused("{file}: no column says which dwelling a row is about", file=path)
    visit.kept.setdefault("columns", {}).update(
        {plain(column.heading): meaning for column, meaning in zip(columns, meanings, strict=True)}
    )
    _record_list(visit, "place.import", text=made.places, name=path.name)
    for meters in made.meters:
        _record_list(visit, "meter.import", text=meters, name=path.name, join_lines=False)
    visit.keep()


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from contextlib import redirect_stdout
    from sys import stderr

    # standard output is for the result
    with redirect_stdout(stderr):
        table(columns, rows)


def _record_list(visit: Visit, call: str, **args: Any) -> None:
    """Record a list, after the person has seen what gardien made of it. Raises Refused."""
    from contextlib import redirect_stdout
    from sys import stderr

    from agent.cli.meter import _show as show_meters
    from agent.cli.place import _show_list
    from agent.cli.terminal import RECORDED, show_left_out, unchanged

    ask, session = visit.dialogue, visit.session
    with redirect_stdout(stderr):
        if call == "place.import":
            answer = read_here(session.ask(call, **args, preview=True))
            if not answer["places"] and not answer["lots"]:
                return
            # its columns are ours, and the person has seen them already
            _show_list(answer | {"not_read": []}, preview=True, most=FEW)
            many = n_(
                "{number} dwelling or other place",
                "{number} dwellings and other places",
                len(answer["places"]),
            )
            if not ask.agreed("list.places", _("Record {places}?", places=many), default=True):
                raise Refused("nothing of this list was recorded")
            args["reviewed"] = True
        answer = read_here(session.record(call, **args))
        if call == "meter.import":
            many = n_("{number} meter", "{number} meters", len(answer["meters"]))
            typer.echo(_(RECORDED, many=many, unchanged=unchanged(answer)))
            if 0 < len(answer["meters"]) <= FEW:
                show_meters(answer)
            show_left_out(answer["left_out"])


def _match(visit: Visit) -> None:
    """Match the meters of the list with the devices on the lines."""
    from contextlib import redirect_stdout
    from sys import stderr

    from agent.cli.meter import _show_matching

    ask, session = visit.dialogue, visit.session
    ask.say(_("reading the serial numbers of the meters …"))
    answer = session.ask("meter.match", visit.progress)
    visit.ticker.end()
    if _add_inputs(visit, answer["silent"]):
        answer = session.ask("meter.match", visit.progress)
        visit.ticker.end()
    with redirect_stdout(stderr):
        _show_matching(answer)


def _add_inputs(visit: Visit, silent: Sequence[Answer]) -> bool:
    """Configure the inputs of pulse collectors that the list names; whether there were any."""
    from agent.config.edit import add_devices
    from agent.registry.records import serial_key

    collectors = {
        serial_key(one): (one, link) for one, link in visit.kept.get("collectors", {}).items()
    }
    channels = {
        one["serial"]: one["channel"]
        for one in visit.session.ask("meter.list")["meters"]
        if one["serial"]
    }
    inputs = [
        (
            *collectors[serial_key(number)],
            place_of_input,
            PULSES.get(channels.get(one["meter"], "")),
        )
        for one in silent
        for number, slash, place_of_input in (one["meter"].partition("/"),)
        if slash and serial_key(number) in collectors
    ]
    entries = {}
    for address, link, number, profile in inputs:
        name = f"mbus-{address.lower()}-{number}"
        if profile is None:
            visit.dialogue.say(
                _(
                    "{name}: the list does not say what this input counts (cold water,"
                    " hot water, electricity)",
                    name=name,
                )
            )
            continue
        together = sum(one[0] == address for one in inputs)
        # the battery of a collector bears 24 readings a day, of all its inputs together
        every = "1h" if together == 1 else "1d"
        entries[name] = {
            "link": link,
            "address": f"{address}/{number}",
            "profile": profile,
            "every": every,
        }
    if entries:
        added, _home = visit.change(partial(add_devices, visit.config, entries))
        visit.dialogue.say(
            n_(
                "{number} input of a pulse collector was added",
                "{number} inputs of pulse collectors were added",
                len(added),
            )
        )
    return bool(entries)


def _flats(visit: Visit) -> None:
    """Compare the meters of each flat with their displays."""
    session, ask = visit.session, visit.dialogue
    meters = session.ask("meter.walk", visit.progress)["meters"]
    visit.ticker.end()
    if not meters:
        raise Refused("no meter of a dwelling is recorded: gardien commission list")
    todo = [one for one in meters if one["proof"] == "none"]
    flats = list(dict.fromkeys(one["label"] for one in todo))
    ask.say(
        _(
            "{number} of {all} meters are still to be compared, in {flats}.",
            number=len(todo),
            all=len(meters),
            flats=n_("{number} flat", "{number} flats", len(flats)),
        )
    )
    for meter in [one for one in todo if one["channel"] is None or one["device"] is None]:
        ask.say(
            _(
                "! {label}: the meter {number} was not found on the lines, so it is left out",
                label=meter["label"],
                number=meter["serial"] or meter["device"],
            )
        )
    todo = [one for one in todo if one["channel"] and one["device"]]
    if not todo:
        return
    ask.say(_("Type the index on the display. Enter: skip, b: back, q: continue another time."))
    ahead, at, chosen = _Ahead(session, flats), 0, {_key(one) for one in todo}
    while at < len(todo):
        meter = todo[at]
        ahead.enter(meter["label"])
        typed = ask.ask(f"{meter['label']}/{meter['channel']}", _question(meter))
        if typed.casefold() in {"b", _("b")}:
            at = max(0, at - 1)
            continue
        if typed.casefold() in {"q", _("q")}:
            raise Stop
        if typed:
            try:
                if not _compared(visit, meter, typed):
                    continue
            except AgentError as error:
                ask.say(error.text.in_language())
                continue
            visit.keep()
            # a swap has changed which meter another flat has
            todo = [one for one in session.ask("meter.walk")["meters"] if _key(one) in chosen]
        at += 1


def _key(meter: Answer) -> tuple[str, str]:
    return meter["label"], meter["channel"]


def _question(meter: Answer) -> str:
    from agent.core.quantities import channels, spoken

    channel = channels()[meter["channel"]]
    name = _(CHANNELS.get(meter["channel"]) or meter["channel"])
    silent = _(" (it does not answer now)") if meter["silent"] else ""
    return _(
        "{label}: display of the {name} meter {number}{silent}, in {unit}?",
        label=meter["label"],
        name=name,
        number=meter["serial"] or meter["device"],
        silent=silent,
        unit=spoken(channel.unit),
    )


CHANNELS = {
    "heat": N_("heat"),
    "cool": N_("cooling"),
    "cw": N_("cold water"),
    "dhw": N_("hot water"),
    "elec.imp": N_("electricity"),
    "elec.exp": N_("electricity (fed in)"),
    "gas": N_("gas"),
    "hca": N_("heat cost allocator"),
}
"""what a meter measures, before the word meter"""


class _Ahead:
    """Reads the meters of the next flats while the person is in one."""

    def __init__(self, session: Session, flats: Sequence[str]) -> None:
        self._session, self._flats = session, list(flats)
        self._begun: dict[str, Future[Answer]] = {}

    def enter(self, flat: str) -> None:
        """Begin to read this flat and the next ones, unless that was done."""
        at = self._flats.index(flat)
        for label in self._flats[at : at + AHEAD + 1]:
            if label not in self._begun:
                self._begun[label] = self._session.begin("meter.walk", places=[label], ahead=True)


def _wrong_factor(result: Answer) -> str:
    """What a display has shown about the meter's factor; empty unless it is wrong."""
    if (result["factor"] or {}).get("proof") == "wrong":
        return in_language(result["factor"]["sentence"])
    if not result["times"]:
        return ""
    return _(
        "The meter reads {factor} times what the display shows: its unit or factor in the"
        " configuration is wrong. Not recorded as proven.",
        factor=result["times"],
    )


def _compared(visit: Visit, meter: Answer, typed: str) -> bool:
    """Compare a display with its meter; whether the walk goes on to the next meter."""
    from agent.cli.meter import _comparison

    ask, session = visit.dialogue, visit.session
    verify = partial(
        session.record, "meter.verify", place=meter["label"], shown={meter["channel"]: typed}
    )
    (result,) = verify()["results"]
    if result["agrees"]:
        ask.say(f"  {_('agrees')}")
        return True
    others = result["shown_by"]
    if wrong := _wrong_factor(result):
        ask.say(wrong)
        if result["times"]:
            visit.kept.setdefault("factors", {})[meter["installation"]] = result["times"]
        if len(others) != 1:  # several young meters show about the same by chance
            return True
    if not others:
        ask.say(
            _("The meter does not answer, and no other one shows this value.")
            if result["read"] is None
            else _comparison(result)
        )
        ask.say(_("Read the display again, and type its value; or press Enter to leave it open."))
        return False
    other = others[0] if len(others) == 1 else _on_the_plate(ask, meter, others)
    if other is None:
        return False
    number = other["serial"] or other["device"]
    if other["label"]:
        ask.say(
            _(
                "This is what {number} ({label}) shows: the two meters seem to be swapped.",
                number=number,
                label=other["label"],
            )
        )
        question = _(
            "Record that {number} measures {here}, and {mine} measures {there}?",
            number=number,
            here=meter["label"],
            mine=result["meter"],
            there=other["label"],
        )
    else:
        ask.say(_("This is what {number} shows, which is recorded for no dwelling.", number=number))
        question = _(
            "Record that {number} measures {here} instead of {mine}?",
            number=number,
            here=meter["label"],
            mine=result["meter"],
        )
    if not ask.agreed(f"swap/{meter['label']}", question, default=False):
        ask.say(_("Not recorded. Read the display again, or press Enter to leave it open."))
        return False
    swapped = session.record(
        "meter.swap", place=meter["label"], channel=meter["channel"], device=other["device"]
    )
    ask.say(_("recorded: {labels}", labels=", ".join(swapped["labels"])))
    (result,) = verify()["results"]
    ask.say(f"  {_('agrees')}" if result["agrees"] else _comparison(result))
    return True


def _on_the_plate(ask: Dialogue, meter: Answer, others: Sequence[Answer]) -> Answer | None:
    """Ask which of several meters with the value of the display the person stands at."""
    ask.say(
        _(
            "The recorded meter shows another value, but {number} others show it:",
            number=len(others),
        )
    )
    for number, other in enumerate(others, 1):
        name = f"{other['serial'] or other['device']} ({other['label'] or _('unassigned')})"
        ask.say(f"  {number} {name}")
    typed = ask.ask(
        f"plate/{meter['label']}",
        _("Which of these numbers is on the plate of the meter? Enter: none of them."),
    )
    return others[int(typed) - 1] if typed.isdigit() and 0 < int(typed) <= len(others) else None


def _delivery(visit: Visit) -> None:
    """Ask for the uplink, the certificate and the recovery certificate."""
    from agent.config.edit import put, shown_value
    from agent.config.files import Files
    from agent.config.load import checked, load

    ask, session = visit.dialogue, visit.session

    def put_checked(keys: tuple[str, ...], value: str) -> None:
        changed, home = put(Files(visit.config), keys, value)
        checked(changed)
        changed.write(home)

    options = session.outside(lambda: load(visit.config))
    for name, uplink in options.uplinks.items():
        ask.say(_("{name} delivers to {recipient}", name=name, recipient=uplink.settings.recipient))
    question = _(
        "Who receives readings (a DNS name, such as energie.metropole.example)? Enter: not yet."
    )
    while not options.uplinks and (recipient := ask.ask("uplink.recipient", question)):
        url = ask.ask("uplink.url", _("Its address (mqtts://…, https://…)?"))
        transport = "mqtt" if url.startswith("mqtt") else "https"
        value = shown_value({"recipient": recipient, "transport": transport, "url": url})
        try:
            visit.change(partial(put_checked, ("uplinks", recipient.partition(".")[0]), value))
        except AgentError as error:
            ask.say(error.text.in_language())
        else:
            break
    certificate = session.ask("key.show")["certificate"]
    if certificate:
        ask.say(_("certificate {validity}", validity=in_language(certificate["validity"])))
    else:
        _certificate(visit)
    if options.backup is None and (
        path := ask.ask(
            "recovery",
            _("The recovery certificate (recovery.crt; its key lies in a safe)? Enter: not yet."),
        )
    ):
        visit.change(partial(put_checked, ("backup", "to"), str(Path(path).resolve())))


def _certificate(visit: Visit) -> None:
    ask, session = visit.dialogue, visit.session
    out = ask.ask(
        "certificate.request",
        _(
            "The gateway has no certificate. Write a request for the CA"
            " to which file? Enter: not yet."
        ),
    )
    if out:
        text = session.record("key.csr")["csr"]
        session.outside(partial(write_file, Path(out).expanduser(), text.encode("ascii")))
        ask.say(
            _(
                "{out}: send it to the CA. Install its certificate: gardien key install FILE",
                out=out,
            )
        )
    issued = ask.ask("certificate.file", _("The certificate that the CA issued? Enter: not yet."))
    if issued:
        text = session.outside(lambda: Path(issued).expanduser().read_text("latin-1"))
        session.record("key.install", text=text)


STEPS: dict[str, tuple[str, Callable[[Visit], None]]] = {
    "building": (N_("The building"), lambda _: None),
    "lines": (N_("The lines"), _lines),
    "scan": (N_("The devices on the lines"), _scan),
    "list": (N_("The syndic's list"), _list),
    "match": (N_("List and devices compared"), _match),
    "flats": (N_("From flat to flat"), _flats),
    "delivery": (N_("Delivery, certificate, backup"), _delivery),
}
"""the steps of a visit in order, each with its title"""
