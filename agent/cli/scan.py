"""`gardien scan` searches a line, `read` reads a device now, `ede` reads a list of objects."""

from __future__ import annotations

import os
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from shutil import get_terminal_size
from typing import IO, TYPE_CHECKING, Annotated, Any, Self

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    ask,
    ask_watching,
    show_progress,
    state_of,
    table,
    text_of,
    when,
)
from agent.core.errors import Refused
from agent.core.i18n import N_, _, in_language, n_

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ADVICE = {
    "noise": N_(
        "Noise and damaged answers: check that A and B are not swapped, the shield, and the"
        " terminating resistors at both ends. If one device is named, disconnect it and try again."
    ),
    "length": N_("Wrong length: the device does not keep to the standard, or is another one."),
    "late": N_("Late answers: a longer `timeout` (M-Bus: `latency`) of the line may help."),
    "twice": N_(
        "Several answers: two devices may have one address. Disconnect one of them, and read again."
    ),
    "unit": N_(
        "Answers of others: no value is taken from them. Set the device, or the gateway before it,"
        " to answer with the address that is asked."
    ),
    "number": N_(
        "A meter that sends another number or address than it answers to: compare its plate, and"
        " write what it sends as its `address`."
    ),
    "any": N_(
        "A meter that answers to any number or address hides the others: disconnect it, and scan"
        " again."
    ),
    "serial": N_("Another serial number: compare the plate before readings count for a dwelling."),
    "master": N_("Another master on the line: two masters disturb each other. Stop one of them."),
    "duplicate": N_("Two devices with one number: give one of them another."),
}
"""what to do, by the kind of what was odd"""
ALIKE = {"short": "noise", "checksum": "noise", "unreadable": "noise", "function": "length",
         "address": "number"}  # fmt: skip
"""kinds with the advice of another one"""
TENTHS = 10
"""how many lines of progress are printed without a terminal"""
FEW = 4
"""how many devices a warning names; the others are counted"""


# ids and commands stay in one piece, so that people can copy them
WHOLE: Any = {"break_long_words": False, "break_on_hyphens": False}
Wanted = Annotated[
    str,
    typer.Argument(
        metavar="DEVICE", help="A configured device, or one of its values: sdm-11/voltage."
    ),
]


Trace = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Record every byte that comes and goes, with its time, in this file. It contains"
        " readings. To explain it: gardien decode trace FILE.",
        show_default=False,
    ),
]
All = Annotated[
    bool,
    typer.Option("--all", help="Show all that was received, also what no channel fits."),
]
MOST_TRACED = 20_000_000
"""bytes of a trace"""


class TraceFile:
    """The file of `--trace`, which only its owner may read; none if no trace is wanted."""

    def __init__(self, path: Path | None, most: int = MOST_TRACED) -> None:
        self._path, self._left = path, most
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Create the file, so that a wrong path is reported before the work. Raises Refused."""
        if self._path is not None:
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.fchmod(descriptor, 0o600)  # of a file that existed before
            except OSError as error:
                raise Refused("{file}: {reason}", file=self._path, reason=error) from error
            self._file = os.fdopen(descriptor, "w", encoding="utf-8")
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file, and warn of what is in it."""
        del error
        if self._file is None or self._path is None:
            return
        written = self._file.tell()
        self._file.close()
        if not written:  # the line could not be opened, for example
            self._path.unlink(missing_ok=True)
            return
        full = _(" It is full, so the end is missing.") if self._left < 0 else ""
        line = _(
            "! {file} contains readings of this building: give it only to who may have them, and"
            " delete it after use.{full} To explain it: gardien decode trace {file}",
            file=self._path,
            full=full,
        )
        typer.echo(textwrap.fill(line, _width(), **WHOLE, subsequent_indent="  "), err=True)

    def takes(self, progress: dict[str, Any]) -> bool:
        """Write the lines in a message of a call. Returns whether it had any."""
        if "trace" not in progress or self._file is None:
            return "trace" in progress
        from agent.drivers.trace import FULL, NOTE

        for line in progress["trace"]:
            if self._left >= 0:
                self._left -= len(line) + 1
                # the line that does not fit says so
                text = line if self._left >= 0 else f"{line.split()[0]} {NOTE} {FULL}"
                self._file.write(text + "\n")
        return True

    def or_shown(self, progress: dict[str, Any]) -> None:
        """Write the lines in a message of a call, or show the message."""
        if not self.takes(progress):
            show_progress(progress)


class Ticker:
    """Progress of long work: one line that is overwritten on a terminal, else ten lines in all."""

    def __init__(self) -> None:
        self._shown = (0, -1)
        """the total, and the tenth of it, of the last line"""

    def __call__(self, progress: dict[str, Any]) -> None:
        """Show a message of a call: `text` stays, `done` is progress."""
        if "text" in progress:
            self.end()
            typer.echo(in_language(progress["text"]), err=True)
            return
        if "done" not in progress:  # what only some commands show
            return
        line = f"{progress['done']}/{progress['total']} {in_language(progress['words'])}"
        if sys.stderr.isatty():
            # a line that wraps cannot be overwritten
            typer.echo(f"\r{line[: _width() - 1]}\x1b[K", err=True, nl=False)
            return
        # a log must not get one line for each of thousands of addresses
        tenth = progress["total"], TENTHS * progress["done"] // max(1, progress["total"])
        if tenth != self._shown:
            typer.echo(line, err=True)
        self._shown = tenth

    def end(self) -> None:
        """Erase the line of progress."""
        if sys.stderr.isatty():
            typer.echo("\r\x1b[K", err=True, nl=False)


def warn(devices: Sequence[dict[str, Any]]) -> None:
    """Print each warning once, with all devices that it concerns."""
    devices_by_warning: dict[str, list[str]] = defaultdict(list)
    for device in devices:
        for warning in device["warnings"]:
            devices_by_warning[warning].append(device["name"])
    for warning, names in devices_by_warning.items():
        if (more := len(names) - FEW) > 1:  # the YAML below and --json name all
            names[FEW:] = [_("{number} more", number=more)]
        line = _("! {names}: {warning}", names=names, warning=warning)
        typer.echo(textwrap.fill(line, _width(), **WHOLE, subsequent_indent="  "), err=True)


def yaml_of(devices: Sequence[dict[str, Any]]) -> str:
    """Return the devices as YAML for the configuration, with a comment about each.

    A device without anything to read is commented out.
    """
    return "".join(f"{line}\n" for line in ("devices:", *_lines(devices)))


def yaml_of_lines(lines: Sequence[dict[str, Any]]) -> str:
    """Return found lines as YAML for the configuration, with a comment about each."""
    from agent.config.edit import written

    texts = ["links:\n"]
    for line in lines:
        about = f"  # {in_language(line['sentence'])}"
        texts += [f"{one}\n" for one in textwrap.wrap(about, _width(), **WHOLE,
                                                      subsequent_indent="  #   ")]  # fmt: skip
        texts.append(written(line["name"], _entry(line), "  "))
    return "".join(texts)


def _entry(line: dict[str, Any]) -> dict[str, Any]:
    """The entry of a found line in `links:`."""
    return {"driver": line["driver"], **line["settings"]}


def _lines(devices: Sequence[dict[str, Any]]) -> Iterator[str]:
    from agent.config.edit import written
    from agent.drivers.base import readable

    for device in devices:
        about = f"  # {in_language(device['about'])}"
        yield from textwrap.wrap(about, _width(), **WHOLE, subsequent_indent="  #   ")
        text = written(device["name"], device["entry"], "  ").splitlines()
        yield from text if readable(device["entry"]) else (f"  #{line[1:]}" for line in text)


def _width() -> int:
    return get_terminal_size((80, 24)).columns


def ede(
    file: Annotated[Path, typer.Argument(help="The EDE file (CSV) that lists the objects.")],
    link: Annotated[
        str, typer.Option(help="The name of the BACnet line in the configuration.")
    ] = "bms",
    everything: All = False,
    json: Json = False,
) -> None:
    """Turn an EDE file into devices and points, without contacting any device.

    Prints YAML to paste under `devices:`, with the channels that units and names suggest. Exit
    status 1 if the file lists no object.
    """
    from agent.core.errors import Refused
    from agent.drivers.bacnet.ede import read, text_of

    try:
        content = file.read_bytes()
    except OSError as error:
        raise Refused("{file}: {reason}", file=file, reason=error) from error
    devices = read(text_of(content), file.name)
    entries: list[dict[str, Any]] = [
        {"name": device.name, "entry": {"link": link, **device.entry}, "about": device.about,
         "warnings": list(device.warnings),
         "objects": list(device.objects) if everything or json else []}
        for device in devices
    ]  # fmt: skip
    if json:
        as_json({"devices": entries})
        return
    for entry in entries:
        show_objects(entry["name"], entry["objects"])
    warn(entries)
    typer.echo(
        _(
            "{devices} in {file}",
            devices=n_("{number} device", "{number} devices", len(devices)),
            file=file,
        ),
        err=True,
    )
    typer.echo(yaml_of(entries), nl=False)


def scan(
    link: Annotated[
        str,
        typer.Argument(
            metavar="[LINE|PORT]",
            help="The name of a line in the configuration, or a serial port. Without it, lines are"
            " searched on all serial ports.",
            show_default=False,
        ),
    ] = "",
    first: Annotated[
        str,
        typer.Option(
            help="The first address. On M-Bus also a pattern for serial numbers: 45FFFFFF searches"
            " those that begin with 45."
        ),
    ] = "",
    last: Annotated[str, typer.Option(help="The last address.")] = "",
    expect: Annotated[
        Path | None,
        typer.Option(help="CSV with a column serial; these meters are searched for first."),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="Search here for Modbus TCP and BACnet: a host, HOST:PORT, a network such as"
            " 192.168.1.0/24, or an interface such as eth0. May be given several times.",
        ),
    ] = None,
    listen: Annotated[
        bool,
        typer.Option(
            "--listen",
            help="Send nothing: identify a line on which another master is active.",
        ),
    ] = False,
    seconds: Annotated[
        float,
        typer.Option(
            help="How long to search or listen to a port at most. 0: 300 s, or 60 s of listening.",
        ),
    ] = 0.0,
    add: Annotated[
        bool,
        typer.Option("--add", help="Add the new lines or devices to the configuration."),
    ] = False,
    everything: All = False,
    trace: Trace = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Search a line for devices; without a line, search the serial ports for lines.

    Shows the devices, then the answers that are odd. Nothing is written to a device. Prints YAML to
    paste into the configuration. Exit status 1 if nothing was found.
    """
    if host or listen or link.startswith("/") or not link:
        if link and not link.startswith("/"):
            raise Refused(
                "{link} is not a serial port: --listen and --host need its path, such as"
                " /dev/ttyUSB0",
                link=link,
            )
        ports = [str(Path(link))] if link else []
        args = {"ports": ports, "hosts": host or [], "listen": listen, "seconds": seconds}
        _find(config, state_of(config, state), args, add=add, json=json)
        return
    wish: dict[str, Any] = {"link": link, "first": first, "last": last}
    wish |= {"expected": _serials(expect) if expect else [], "everything": everything or json}
    _scan_line(
        config, state_of(config, state), wish, trace, add=add, everything=everything, json=json
    )


def _find(config: Path, state: Path, args: dict[str, Any], *, add: bool, json: bool) -> None:
    """Find lines, show them, and add them to the configuration if that is wanted."""
    from agent.local import ask

    ticker = Ticker()
    so_far: dict[str, Any] = {"found": [], "silent": [], "busy": [], "adapters": {}}

    def on_progress(progress: dict[str, Any]) -> None:
        if "line" in progress:
            so_far["found"].append(progress["line"])
        elif "silent" in progress:
            so_far["silent"].append(progress["silent"])
        elif "text" not in progress:
            ticker(progress)

    try:
        answer = ask(config, state, "line.find", args, on_progress)
    except (KeyboardInterrupt, Refused):
        ticker.end()
        if so_far["found"] and not json:
            typer.echo(_("the search was interrupted; these lines were found so far"), err=True)
            _show_lines(so_far)
        raise
    ticker.end()
    if json:
        as_json(answer)
    else:
        _show_lines(answer)
    new = {one["name"]: _entry(one) for one in answer["found"] if not one["master"]}
    if add and new:
        from agent.config.edit import add_lines

        added, home = add_lines(config, new)
        typer.echo(
            _(
                "{lines} added to {home}; a copy of the file as it was is beside it",
                lines=n_("{number} line", "{number} lines", len(added)),
                home=home,
            ),
            err=True,
        )
        typer.echo(
            _(
                "To read the file again and search the line for devices: gardien reload; gardien"
                " scan {line} --add",
                line=added[0],
            ),
            err=True,
        )
    raise typer.Exit(0 if answer["found"] else 1)


def _show_lines(answer: dict[str, Any]) -> None:
    usable = [one for one in answer["found"] if not one["master"]]
    remarks = [(line["settings"]["port"], line) for line in answer["found"] if line["master"]]
    remarks += [(place["where"], place) for place in (*answer["silent"], *answer["busy"])]
    for where, remark in remarks:
        adapter = answer["adapters"].get(where)
        named = f"{where} ({adapter})" if adapter else where
        line = _("! {names}: {warning}", names=named, warning=in_language(remark["sentence"]))
        typer.echo(textwrap.fill(line, _width(), **WHOLE, subsequent_indent="  "), err=True)
    if not (answer["found"] or remarks):
        typer.echo(
            _(
                "this machine has no serial port. To search on the network:"
                " gardien scan --host HOST"
            ),
            err=True,
        )
    if len(usable) == len(answer["found"]):
        typer.echo(
            _("{lines} found", lines=n_("{number} line", "{number} lines", len(usable))), err=True
        )
    if remarks and not answer["found"]:
        line = _(
            "If the speed and parity of a line are known, it is added without a search: gardien"
            " commission lines"
        )
        typer.echo(textwrap.fill(line, _width(), **WHOLE), err=True)
    if usable:
        typer.echo(yaml_of_lines(usable), nl=False)


def _scan_line(
    config: Path,
    state: Path,
    wish: Mapping[str, Any],
    trace: Path | None,
    *,
    add: bool,
    everything: bool,
    json: bool,
) -> None:
    """Search a configured line for devices."""
    from agent.local import ask

    ticker, devices_so_far = Ticker(), []
    odd_so_far: list[dict[str, Any]] = []

    trace_file = TraceFile(trace)

    def on_progress(progress: dict[str, Any]) -> None:
        if trace_file.takes(progress):
            return
        odd_so_far[:] = progress.get("odd", odd_so_far)
        if "device" in progress:
            devices_so_far.append(progress["device"])
        ticker(progress)

    args = {**wish, "trace": trace is not None}
    try:
        with trace_file:
            answer = ask(config, state, "scan", args, on_progress)
    except (KeyboardInterrupt, Refused):  # a slow line takes hours: show what was found so far
        ticker.end()
        if not json:
            _show_so_far(devices_so_far, odd_so_far, everything=everything)
        raise
    finally:
        ticker.end()
    devices = answer["devices"]
    if json:
        as_json(answer)
    else:
        _show(devices, answer["remarks"], answer["odd"], everything=everything)
    if add:
        _add_devices(config, devices)
    raise typer.Exit(0 if devices else 1)


def _add_devices(config: Path, devices: Sequence[dict[str, Any]]) -> None:
    """Write the new devices into the configuration."""
    from agent.config.edit import add_devices

    entries = {one["name"]: one["entry"] for one in devices if not one["configured"]}
    added, home = add_devices(config, entries)
    typer.echo(
        _(
            "{devices} added to {home}",
            devices=n_("{number} device", "{number} devices", len(added)),
            home=home,
        ),
        err=True,
    )
    if left := len(entries) - len(added):
        typer.echo(
            _("{left} not added, since what to read there is not known", left=left), err=True
        )
    if added:
        typer.echo(_("If the agent runs, make it read them: gardien reload"), err=True)


def _show(
    devices: Sequence[dict[str, Any]],
    remarks: Sequence[str],
    odd: Sequence[dict[str, Any]] = (),
    *,
    everything: bool = False,
) -> None:
    if devices:
        rows = [
            (one["name"], str(one["entry"].get("address", "")), one["about"],
             _("yes") if one["configured"] else _("no"))
            for one in devices
        ]  # fmt: skip
        table((_("device"), _("address"), _("what it is"), _("configured")), rows, aside=True)
    for remark in remarks:
        typer.echo(f"! {in_language(remark)}", err=True)
    show_odd(odd, everything=everything)
    if everything:
        for device in devices:
            show_objects(device["name"], device["objects"])
    warn(devices)
    new = [one for one in devices if not one["configured"]]
    typer.echo(
        _(
            "{devices} found, {number} of them not configured yet",
            devices=n_("{number} device", "{number} devices", len(devices)),
            number=len(new),
        ),
        err=True,
    )
    if new:
        typer.echo(yaml_of(new), nl=False)


def _show_so_far(
    devices: Sequence[dict[str, Any]], odd: Sequence[dict[str, Any]], *, everything: bool
) -> None:
    if devices or odd:
        remark = _("the search was interrupted; these devices were found so far")
        _show(devices, [remark], odd, everything=everything)


def show_odd(odd: Sequence[dict[str, Any]], *, everything: bool) -> None:
    """Show what was odd, one line for each device and kind, on standard error."""
    shown = [one for one in odd if everything or not one["expected"]]
    if shown:
        typer.echo(_("What was odd:"), err=True)
    for answer in shown:
        often = "" if answer["times"] == 1 else _(" ({number} times)", number=answer["times"])
        name = f"{answer['name']}: " if answer.get("name") else ""
        line = f"- {name}{in_language(answer['sentence'])}{often}"
        typer.echo(textwrap.fill(line, _width(), **WHOLE, subsequent_indent="  "), err=True)
    kinds = dict.fromkeys(
        ALIKE.get(one["kind"], one["kind"]) for one in shown if not one["expected"]
    )
    for kind in kinds:
        if kind in ADVICE:
            line = textwrap.fill(_(ADVICE[kind]), _width(), **WHOLE)
            typer.echo(line, err=True)
    if usual := len(odd) - len(shown):
        text = n_(
            "{number} kind of answer is left out that is usual in a search: --all shows it",
            "{number} kinds of answers are left out that are usual in a search: --all shows them",
            usual,
        )
        typer.echo(textwrap.fill(text, _width(), **WHOLE), err=True)


def show_objects(name: str, objects: Sequence[dict[str, Any]]) -> None:
    """Show all that a device lists or sends, on standard error."""
    if not objects:
        return
    typer.echo(_("All that was received from {name}:", name=name), err=True)
    rows = [
        (one["at"], object_name(one), _object_value(one), one.get("unit", ""))
        for one in objects
    ]  # fmt: skip
    table((_("object"), _("name"), _("value"), _("unit")), rows, aside=True)


def object_name(thing: Mapping[str, Any]) -> str:
    """Return the name of what a device sends, with its place in the meter's memory."""
    places = [f"{name} {thing[name]}" for name in ("storage", "tariff", "subunit") if name in thing]
    return ", ".join((thing.get("name", ""), *places))


def _object_value(thing: dict[str, Any]) -> str:
    if thing.get("error"):
        return _("none: {error}", error=thing["error"])
    value = "–" if thing.get("value") is None else str(thing["value"])
    if "scale" in thing:
        return f"{value} × {thing['scale']}"
    if thing.get("understood") is False:
        return _("not understood: {bytes}", bytes=thing["hex"])
    return f"{value} ({thing['hex']})" if "hex" in thing and "name" not in thing else value


def _serials(path: Path) -> list[str]:
    from agent.registry.sheet import read

    lines = read(text_of(path), str(path), {"serial": "serial"}, ("serial",))
    return [line.cells["serial"] for line in lines if line.cells.get("serial")]


def read(
    what: Wanted = "",
    tried: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--try",
            metavar="LINK ADDRESS",
            help="Read a device that is not configured yet, with --profile.",
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="The profile of the device that is tried.", show_default=False)
    ] = "",
    named: As = None,
    everything: All = False,
    trace: Trace = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
    json: Json = False,
) -> None:
    """Read a device now. The agent's scheduled readings continue.

    Exit status 1 if a value is missing.
    """
    if (tried is None) == (not what) or (tried is not None) != bool(profile):
        raise typer.BadParameter(
            _("name a configured device, or try another one: --try LINK ADDRESS --profile PROFILE")
        )
    if tried is not None:
        answer = _try(tried, profile, named, config, state)
        if json:
            as_json(answer)
        else:
            _show_points(answer["points"])
            show_odd(answer["odd"], everything=True)
        raise typer.Exit(0 if answer["ok"] else 1)
    device, _slash, point = what.partition("/")
    args = {"device": device, "point": point, "everything": everything or json, "named": named}
    with TraceFile(trace) as file:
        answer = ask_watching(
            config, state, "read", args | {"trace": trace is not None}, file.or_shown
        )
    if json:
        as_json(answer)
    else:
        typer.echo(_("{device} on {link}", device=answer["device"], link=answer["link"]))
        _show_points(answer["points"])
        # a device with gaps between its registers refuses blocks of them, and gives all values
        gaps = answer["ok"] and not everything
        odd = [kind for kind in answer["odd"] if not (gaps and kind["expected"])]
        show_odd(odd, everything=True)
        if everything:
            show_objects(answer["device"], answer["objects"])
        if all(one["why"] == "silent" for one in answer["points"].values()):
            garbled = any(one["detail"] == "garbled answer" for one in answer["points"].values())
            typer.echo(
                _(
                    "{device} cannot be read: its answers are garbled. Two devices with the same"
                    " address answer at once, or speed or wiring is wrong.\nDisconnect one of the"
                    " two, give it another address, then search the line: gardien scan {link}",
                    device=answer["device"],
                    link=answer["link"],
                )
                if garbled
                else _(
                    "{device} does not answer, so it cannot be read. Check its power, address,"
                    " speed and wiring.\nSearch the line for devices: gardien scan {link}",
                    device=answer["device"],
                    link=answer["link"],
                )
            )
    raise typer.Exit(0 if answer["ok"] else 1)


def _try(
    tried: tuple[str, str], profile: str, named: str | None, config: Path, state: Path | None
) -> dict[str, Any]:
    """Read a device that is not configured; its serial number is the first of its points."""
    link, address = tried
    entry = {"link": link, "address": address, "profile": profile}
    answer = ask(config, state, "device.try", entry=entry, named=named)
    if not answer["ok"]:
        return answer
    typer.echo(
        _("{address} on {link}, serial number {serial}", address=address, link=link,
          serial=answer["serial"] or "–"), err=True,
    )  # fmt: skip
    return answer


def _show_points(points: Mapping[str, dict[str, Any]]) -> None:
    from agent.control.history import number
    from agent.core.quantities import spoken

    rows = [
        # a serial number is a name: its digits are not grouped
        (name, one["value"] if name == "serial" and one["value"]
         else in_language(number(one["value"] or "–")), spoken(one["unit"]),
         one["channel"] or "",
         _missing(one) if one["why"] else when(one["at"]) + _note(one))
        for name, one in points.items()
    ]  # fmt: skip
    table((_("point"), _("value"), _("unit"), _("channel"), _("read at")), rows)


def _note(value: dict[str, Any]) -> str:
    """Return a remark on a good value, or an empty text."""
    return _("; {note}", note=value["detail"]) if value["detail"] else ""


WHY = {
    "silent": N_("silent"),
    "link": N_("link"),
    "bad": N_("bad"),
    "busy": N_("busy"),
}
"""why a value is missing, as `read` shows it"""


def _missing(value: dict[str, Any]) -> str:
    """Return why there is no value."""
    why = value["why"]
    return _("{what}: {why}", what=_(WHY.get(why, why)), why=value["detail"])
