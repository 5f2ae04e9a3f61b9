"""`gardien commission`: one guided visit, from an empty gateway to a verified building.

Each step is made of calls and changes that other commands make, too. What was done is kept after
each step, so the visit can be interrupted at any moment, and repeated.
"""

from __future__ import annotations

import os
import re
import sys
import time
from copy import deepcopy
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.dialogue import WIDE, Dialogue
from agent.cli.scan import Ticker, Trace, TraceFile
from agent.cli.session import Session
from agent.cli.terminal import (
    DEFAULT_CONFIG,
    DEFAULT_STATE,
    As,
    Config,
    Json,
    State,
    as_json,
    measured,
    moment,
    read_here,
    state_of,
    table,
    text_of,
    write_file,
)
from agent.core.errors import AgentError, Refused
from agent.core.i18n import _, in_language, n_

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

Answer = dict[str, Any]
FEW = 3
"""names, and rows of a list, that are shown"""
AHEAD = 2
"""dwellings whose meters are read while the person is in the one before"""
LINE = re.compile(
    r"(?P<driver>[\w-]+)\s+(?P<where>\S+)(\s+(?P<baudrate>\d+))?(\s+(?P<parity>\w+))?"
)


DAY = 86_400


class Stop(Exception):
    """The person wants to continue another time."""


def commission(
    context: typer.Context,
    step: Annotated[
        str | None,
        typer.Argument(
            help="Only this step: building, list, lines, scan, match, flats, delivery or report."
            " Default: all that is not done yet.",
            show_default=False,
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="A file with the answers (JSON), for a visit without a person."),
    ] = None,
    trace: Trace = None,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Set up and verify a building in one guided visit.

    The visit reads the syndic's list, finds lines and meters, compares the meters of each flat with
    their displays, and writes the report. Interrupt it at any moment (Ctrl-C); the same command
    continues it. Exit status 1 if something is still open.
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
    made = begin_building(dialogue, config, folder) if step in {None, "building"} else False
    folder = state_of(config, state)
    with (
        TraceFile(trace) as traced,
        Session(config, folder, "gardien commission", named) as session,
    ):
        visit = Visit(dialogue, session, config, traced if trace else None, _given(context))
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
                    "The visit is interrupted. Everything so far is kept. To continue:\n"
                    "    > {command}",
                    command=f"gardien commission{visit.given}",
                )
            )
            raise typer.Exit(1) from None
        summary = visit.summary()
    if json:
        as_json(summary)
    else:
        _show_summary(dialogue, summary, visit.given)
    raise typer.Exit(1 if summary["findings"] else 0)


def _given(context: typer.Context) -> str:
    """The options that say which gateway and who, as they were typed; not those of variables."""
    values = {"--as": "named", "--config": "config", "--state": "state"}
    return "".join(
        f" {option} {quote(str(context.params[name]))}"
        for option, name in values.items()
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    )


class Visit:
    """One visit: what is done, and the steps."""

    def __init__(
        self,
        dialogue: Dialogue,
        session: Session,
        config: Path,
        trace: TraceFile | None,
        given: str,
    ) -> None:
        """`given`: options of commands that continue it."""
        self.dialogue, self.session, self.config, self.given = dialogue, session, config, given
        self.trace = trace
        self.kept: Answer = session.ask("visit.show")["visit"]
        self._base = deepcopy(self.kept)
        self._before = {name: self.kept.get(name, 0) for name in ("answers", "person", "machine")}
        self.kept.setdefault("steps", {})
        self.ticker = Ticker()

    def run(self, step: str | None) -> None:
        """Make one step, or all that are not done. Raises Stop."""
        from agent.api.visit_steps import TITLES

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
            done = ", ".join(_(TITLES[one]) for one in self.kept["steps"] if one in STEPS)
            ask.say(_("The visit continues. Done: {steps}", steps=done))
        for number, name in enumerate(steps, 1):
            ask.say("")
            ask.say(f"── {_(TITLES[name])} ({number}/{len(steps)})")
            try:
                STEPS[name](self)
            except AgentError as error:
                ask.say(error.text.in_language())
                ask.say(
                    _(
                        "This step is not done. To repeat it:\n    > {command}",
                        command=f"gardien commission {name}{self.given}",
                    )
                )
                continue
            self.done(name)

    def done(self, step: str) -> None:
        """Record that a step is done."""
        self.kept["steps"][step] = time.time()
        self.keep()

    def keep(self) -> None:
        """Write how far the visit is, with what the page has recorded meanwhile."""
        from agent.api.visit_steps import merged

        now = {
            "answers": self.dialogue.answers,
            "person": self.dialogue.person,
            "machine": self.dialogue.machine,
        }
        self.kept |= {name: round(self._before[name] + value) for name, value in now.items()}
        stored = self.session.ask("visit.show")["visit"]
        self.kept = merged(self._base, self.kept, stored)
        self.session.ask("visit.keep", visit=self.kept)
        self._base = deepcopy(self.kept)

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
            "findings": findings,
        }


def _show_summary(dialogue: Dialogue, summary: Answer, given: str) -> None:
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
    for finding in map(Finding.of, summary["findings"]):
        say(f"! {finding.what.in_language()}")
        own = finding.command.startswith("gardien commission")
        say(f"    > {to_type(finding.command).in_language()}{given if own else ''}")
    if not summary["findings"]:
        say(_("Nothing is open: the building is verified."))


def _minutes(seconds: float) -> float:
    return round(seconds / 60, 1)


# the steps


def begin_building(ask: Dialogue, config: Path, state: Path) -> bool:
    """Write a configuration if there is none, or only the sample; whether one was written."""
    from agent.api.visit_steps import TITLES
    from agent.cli.building import SAMPLE
    from agent.config.edit import begin, keep_copy
    from agent.core.state import owned
    from agent.registry import identity

    sample = SAMPLE.exists() and config.exists() and config.read_bytes() == SAMPLE.read_bytes()
    if config.exists() and config.stat().st_size and not sample:
        return False
    ask.say(f"── {_(TITLES['building'])}")
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
                state=state.absolute(),
                clock="ntp",
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
    from agent.config.edit import add_link
    from agent.config.load import load

    ask = visit.dialogue
    links = visit.session.outside(lambda: load(visit.config)).links
    for name, link in links.items():
        ask.say(f"  {name}: {link.driver}")
    question = _(
        "Search for lines now? A serial port takes up to 5 minutes; nothing is written to a device."
        " Enter: all serial ports. Or name ports, hosts and networks (/dev/ttyUSB0 192.168.1.0/24)."
        " n: none."
    )
    typed = ask.ask("lines.find", question)
    if typed.casefold() not in {"n", "no", _("no")}:
        try:
            _find(visit, typed.replace(",", " ").split())
        except AgentError as error:
            ask.say(error.text.in_language())
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


def _find(visit: Visit, wanted: Sequence[str]) -> None:
    """Search serial ports and hosts for lines, and add those that the person agrees to."""
    from agent.api.visit_steps import remember_last
    from agent.config.edit import add_lines

    ask = visit.dialogue

    def show(message: Answer) -> None:
        if "text" not in message:
            visit.ticker(message)

    ports = [one for one in wanted if one.startswith("/")]
    hosts = [one for one in wanted if not one.startswith("/")]
    try:
        answer = visit.session.ask("line.find", show, ports=ports, hosts=hosts)
    finally:
        visit.ticker.end()
    for place in (*answer["silent"], *answer["busy"]):
        ask.say(_("! {names}: {warning}", names=place["where"],
                  warning=in_language(place["sentence"])))  # fmt: skip
    for line in answer["found"]:
        name = line["name"]
        ask.say(f"{name}: {in_language(line['sentence'])}")
        entry = {"driver": line["driver"], **line["settings"]}
        # a second master would disturb the first
        if not line["master"] and ask.agreed(
            f"lines.add.{name}", _("Add this line?"), default=True
        ):
            visit.change(partial(add_lines, visit.config, {name: entry}))
            remember_last(visit.kept, name, line)
    if not (answer["found"] or answer["silent"] or answer["busy"]):
        ask.say(_("this machine has no serial port"))


def _line_of(typed: str) -> tuple[str, Answer]:
    """A name and the entry of a line that a person typed. Raises Refused."""
    from agent.api.visit_steps import line_entry

    match = LINE.fullmatch(typed.strip())
    parts = match.groupdict(default="") if match else {"driver": "", "where": ""}
    entry = line_entry(**parts)
    return entry["driver"].partition("-")[0], entry


def _scan(visit: Visit) -> None:
    """Search the lines for devices, and add them to the configuration."""
    from agent.config.load import load
    from agent.registry.records import serial_key

    ask, session = visit.dialogue, visit.session
    configured = session.outside(lambda: load(visit.config)).links
    # M-Bus last: it is asked for the listed meters that no other line has
    links = sorted(configured, key=lambda name: configured[name].driver.startswith("mbus"))
    if not links:
        raise Refused("no line is configured, so none can be searched: gardien commission lines")
    searched = visit.kept.setdefault("scanned", {})
    chosen = [one for one in links if one not in searched] or links
    if not ask.agreed(
        "scan",
        _(
            "Search these lines now: {lines}? A Modbus line takes up to 8 minutes; on M-Bus the"
            " meters of the list are asked first, 1 second each.",
            lines=", ".join(chosen),
        ),
        default=True,
    ):
        raise Refused("the lines were not searched")
    numbers = {
        serial_key(one["serial"]): one["serial"]
        for one in session.ask("meter.list")["meters"]
        if one["serial"]
    }
    for link in chosen:
        slow = configured[link].driver.startswith("mbus") and numbers
        ask.say(_("searching {link} …", link=link))
        listed = False
        try:
            listed = bool(slow and _searched(visit, link, numbers, expected_only=True))
            question = _("{missing} Search for meters that are on no list, too"
                         " (Ctrl-C stops it)?",
                         missing=_missing(list(numbers.values())))  # fmt: skip
            if not listed or ask.agreed(f"scan.others/{link}", question, default=bool(numbers)):
                _searched(visit, link, {} if slow else numbers,
                          expected_only=False, listen=not slow)  # fmt: skip
        except Refused as error:
            ask.say(error.text.in_language())
            continue
        except KeyboardInterrupt:
            if not listed:
                raise
            ask.say(_("The search for others was stopped. The visit goes on."))
        searched[link] = time.time()
        visit.keep()


def _missing(numbers: Sequence[str]) -> str:
    """A sentence about the meters of the list that no line has so far."""
    if not numbers:
        return _("All meters of the list were found.")
    names = ", ".join([*numbers[:FEW], *["…"][: len(numbers) > FEW]])
    return n_("{number} meter of the list was not found yet ({names}).",
              "{number} meters of the list were not found yet ({names}).",
              len(numbers), names=names)  # fmt: skip


def _searched(
    visit: Visit, link: str, numbers: dict[str, str], *, expected_only: bool, listen: bool = True
) -> Sequence[Answer]:
    """Search one line, add what it has, and remove from `numbers` those that were found.

    Returns the devices. Raises Refused.
    """
    from agent.api.visit_steps import remember_search
    from agent.config.edit import add_devices
    from agent.drivers.base import readable
    from agent.registry.records import serial_key

    ask, last = visit.dialogue, visit.kept.get("last", {}).get(link)
    if last:
        ask.say(
            _(
                "  addresses 1 to {last}, because none above answered. To search all: gardien scan"
                " {link} --add",
                last=last,
                link=link,
            )
        )
    devices: list[Answer] = []
    odd: list[Answer] = []

    def show(message: Answer) -> None:
        odd[:] = message.get("odd", odd)
        if "device" in message:
            devices.append(message["device"])
        if visit.trace is None or not visit.trace.takes(message):
            visit.ticker(message)

    try:
        answer = visit.session.ask(
            "scan", show, link=link, expected=list(numbers.values()), expected_only=expected_only,
            listen=listen, last=str(last or ""), trace=visit.trace is not None,
        )  # fmt: skip
        devices, odd = answer["devices"], answer["odd"]
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
        remember_search(visit.kept, link, devices, odd)
    for device in devices:
        numbers.pop(serial_key(device["number"] or ""), None)
        if not readable(device["entry"]):
            ask.say(
                _(
                    "  {about}: not added, its values are not known yet",
                    about=in_language(device["about"]),
                )
            )
    many = n_("{number} device", "{number} devices", len(devices))
    ask.say(_("{link}: {devices} found", link=link, devices=many))
    return devices


def _list(visit: Visit) -> None:
    """Import the syndic's own sheets of dwellings and meters."""
    ask = visit.dialogue
    question = _("The syndic's list of dwellings or meters (.xlsx or CSV)? Enter: no more lists.")
    while typed := ask.ask("list.file", question):
        path = Path(typed.strip("'\"")).expanduser()
        sheets = [""]
        while sheets:
            try:
                sheets += _import(visit, path, sheets.pop(0))
            except AgentError as error:
                ask.say(error.text.in_language())
                ask.say(_("Correct the list, and name it again."))


def _import(visit: Visit, path: Path, sheet: str) -> Sequence[str]:
    """Import one sheet; empty: the one that fits best. Returns the others then."""
    from agent.api.visit_steps import remember_columns
    from agent.registry.recognition import MEANINGS, known_headings, lists, recognised

    ask, session = visit.dialogue, visit.session
    others: list[str] = []

    def tell(chosen: str, rest: Sequence[str]) -> None:
        ask.say(_("sheet {name}:", name=chosen))
        others.extend(() if sheet else rest)

    if sheet and not ask.agreed(
        "list.sheet", _("Read the sheet {name} too?", name=sheet), default=True
    ):
        return []
    text = session.outside(lambda: text_of(path, tuple(known_headings()), sheet, tell))
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
    remember_columns(visit.kept, columns, meanings)
    _record_list(visit, "place.import", text=made.places, name=path.name)
    for meters in made.meters:
        _record_list(visit, "meter.import", text=meters, name=path.name, join_lines=False)
    visit.keep()
    return others


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
            answer = _meant(visit, args, lambda: session.ask(call, **args, preview=True))
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
        answer = _meant(visit, args, lambda: session.record(call, **args))
        if call == "meter.import":
            many = n_("{number} meter", "{number} meters", len(answer["meters"]))
            typer.echo(_(RECORDED, many=many, unchanged=unchanged(answer)))
            if 0 < len(answer["meters"]) <= FEW:
                show_meters(answer)
            show_left_out(answer["left_out"])


def _meant(visit: Visit, args: Answer, made: Callable[[], Answer]) -> Answer:
    """Make a call; have the person type each doubtful value again, and confirm it in `args`.

    Raises Refused if something else is typed.
    """
    from agent.registry.doubts import NeedsConfirmation

    while True:
        try:
            return read_here(made())
        except NeedsConfirmation as doubtful:
            # a value that is in several rows is asked for once
            meant = {doubt.value: doubt for doubt in reversed(doubtful.doubts)}
            if meant.keys() <= set(args.get("confirm", ())):
                raise
            for value, doubt in reversed(meant.items()):
                question = f"{doubt.sentence().in_language()} {_('Type the value that is meant:')}"
                if not doubt.is_meant(visit.dialogue.ask(f"list.doubt/{value}", question)):
                    raise Refused("nothing of this list was recorded") from None
            args["confirm"] = [*args.get("confirm", ()), *meant]


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
    from agent.api.visit_steps import UNCLEAR_INPUT, inputs_of_collectors
    from agent.config.edit import add_devices

    meters = visit.session.ask("meter.list")["meters"]
    entries, unclear = inputs_of_collectors(visit.kept, meters, silent)
    for name in unclear:
        visit.dialogue.say(_(UNCLEAR_INPUT, name=name))
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
    for meter in [one for one in todo if one["device"] is None or one["channel"] is None]:
        ask.say(
            _(
                "! {label}: the meter {number} was not found on the lines, so it is left out",
                label=meter["label"],
                number=meter["serial"] or meter["device"],
            )
        )
    todo = [one for one in todo if one["device"] and one["channel"]]
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
    name = measured(meter["channel"])
    silent = _(" (it does not answer now)") if meter["silent"] else ""
    return _(
        "{label}: display of the {name} meter {number}{silent}, in {unit}?",
        label=meter["label"],
        name=name,
        number=meter["serial"] or meter["device"],
        silent=silent,
        unit=spoken(channel.unit),
    )


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


def _has_wrong_factor(visit: Visit, meter: Answer, result: Answer) -> bool:
    """Whether the display shows that the meter's own factor is wrong; says and keeps it."""
    from agent.api.visit_steps import remember_factor, wrong_factor

    if (wrong := wrong_factor(result)) is None:
        return False
    visit.dialogue.say(wrong.in_language())
    remember_factor(visit.kept, meter["installation"], result)
    return True


def _compared(visit: Visit, meter: Answer, typed: str) -> bool:
    """Compare a display with its meter; whether the walk goes on to the next meter."""
    from agent.api.visit_steps import comparison, swap_question

    ask, session = visit.dialogue, visit.session
    verify = partial(
        session.record, "meter.verify", place=meter["label"], shown={meter["channel"]: typed}
    )
    (result,) = verify()["results"]
    if result["agrees"]:
        factor = result["factor"]
        proof = f"; {in_language(factor['sentence'])}" if factor else ""
        ask.say(f"  {_('agrees')}{proof}")
        return True
    others = result["shown_by"]
    if not others and _has_wrong_factor(visit, meter, result):
        return True
    if not others:
        ask.say(
            _("The meter does not answer, and no other one shows this value.")
            if result["read"] is None
            else comparison(result).in_language()
        )
        ask.say(_("Read the display again, and type its value; or press Enter to leave it open."))
        return False
    other = others[0] if len(others) == 1 else _on_the_plate(ask, meter, others)
    if other is None:
        # others show this value by chance, as new meters do
        return _has_wrong_factor(visit, meter, result)
    shows, question = swap_question(meter["label"], result["meter"], other)
    ask.say(shows.in_language())
    ask.say(_("Compare the number on the plate of the meter."))
    if not ask.agreed(f"swap/{meter['label']}", question.in_language(), default=False):
        wrong = _has_wrong_factor(visit, meter, result)
        if not wrong:
            ask.say(_("Not recorded. Read the display again, or press Enter to leave it open."))
        return wrong
    swapped = session.record(
        "meter.swap", place=meter["label"], channel=meter["channel"], device=other["device"]
    )
    ask.say(_("recorded: {labels}", labels=", ".join(swapped["labels"])))
    (result,) = verify()["results"]
    ask.say(f"  {_('agrees')}" if result["agrees"] else comparison(result).in_language())
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
    # a person at the meter may also type the number itself
    chosen = (one for n, one in enumerate(others, 1) if typed in {str(n), one["serial"]})
    return next(chosen, None)


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


def _clock(visit: Visit) -> None:
    """Ask for the time if no time service confirms it. Raises Refused."""
    ask = visit.dialogue
    clock = visit.session.ask("clock.show")
    if clock["trust"] == "trusted" or clock["person"]:
        return
    question = _(
        "The clock shows {now}, and no time service confirms it, so readings get no date. What time"
        " is it on your telephone (2026-07-12T09:30)? Enter: later.",
        now=moment(clock["now"]),
    )
    while typed := ask.ask("clock", question):
        try:
            taken = visit.session.record("clock.set", at=typed)
        except Refused as error:
            ask.say(error.text.in_language())
            continue
        if taken["taken"]:
            ask.say(_("recorded: a person states that it is {now}", now=moment(taken["now"])))
        else:
            ask.say(
                _(
                    "the clock is off by {off:+,d} s, and must be set: sudo gardien clock set"
                    " {time}",
                    off=taken["off"],
                    time=typed,
                )
            )
        return


def _report(visit: Visit) -> None:
    """Write the commissioning report. Raises Refused if the agent does not run."""
    from agent.cli.report import written

    ask = visit.dialogue
    if not visit.session.daemon:
        raise Refused(
            "the report states what the running agent reads, and it does not run yet. Start it:"
            " sudo systemctl enable --now gardien"
        )
    _clock(visit)
    question = _("Write the commissioning report into which folder? It contains indexes.")
    folder = Path(ask.ask("report.folder", question, ".")).expanduser()
    ask.say(_("reading all meters …"))
    answer = visit.session.record("report.commissioning", since="", readings=True)
    for path in written(answer["file"], folder):
        ask.say(_("written: {file}", file=path))


STEPS: dict[str, Callable[[Visit], None]] = {
    "building": lambda _: None,
    # before the search, which asks the listed meters first
    "list": _list,
    "lines": _lines,
    "scan": _scan,
    "match": _match,
    "flats": _flats,
    "delivery": _delivery,
    "report": _report,
}
"""the steps of a visit in order; their titles: agent/api/visit_steps.py"""
