"""`gardien decode`: frames from meters, as a table, as JSON, or byte by byte; and traces."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from agent.cli.scan import object_name, show_odd
from agent.cli.terminal import Json
from agent.cli.terminal import as_json as print_json
from agent.core.i18n import Text, _
from agent.drivers.mbus.decode import MbusError, MeterValue, Telegram, decode
from agent.drivers.mbus.explain import dumps, explained, refusal
from agent.drivers.mbus.telegram import medium, status
from agent.drivers.trace import NOTE, SENT, Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

app = typer.Typer(no_args_is_help=True, help="Decode a frame from a meter, or a trace of a line.")
WIDTH = 80
MARGIN = 15
"""columns before the sentence of a frame of a trace"""
INNER = 75
"""columns of an indented value: a multiple of three, since each byte takes three"""
WHAT, VALUE = 26, 22
"""columns of a record's quantity and of its value; storage, tariff and subunit follow"""


@app.command()
def mbus(
    frames: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FRAME]...",
            help="Frames in hex, or the bytes of one frame: 68 … 16. Default: one frame per line"
            " from standard input.",
        ),
    ] = None,
    json: Json = False,
    explain: Annotated[bool, typer.Option("--explain", help="Explain each byte.")] = False,
) -> None:
    """Decode frames of wired meters (M-Bus).

    Exit status 1 if a frame cannot be decoded, 2 if there is none.
    """
    if frames and all(len(word) == len("16") for word in frames):
        frames = ["".join(frames)]  # the bytes of one frame, as a log shows them
    raise typer.Exit(run(frames or sys.stdin, json, explain, sys.stdout))


@app.command()
def trace(
    file: Annotated[
        Path, typer.Argument(help="A trace, which --trace of scan or read has recorded.")
    ],
    odd: Annotated[bool, typer.Option("--odd", help="Show only what is odd.")] = False,
    profile: Annotated[
        str,
        typer.Option(
            help="Also read the Modbus registers of each device by this profile, such as"
            " eastron-sdm120."
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Explain a trace of a line, frame by frame: who was asked, who answered, what is odd.

    Exit status 1 if something in it is odd.
    """
    from agent.core.errors import Refused
    from agent.drivers.analysis import Observations, analyser
    from agent.drivers.trace import parsed

    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            recorded = parsed(lines, str(file))
    except OSError as error:
        raise Refused("{file}: {reason}", file=file, reason=error) from error
    explaining, heard = analyser(recorded.driver, recorded.facts), Observations()
    frames: list[Frame] = []
    for event in recorded.events:
        frames += explaining.feed(event)
        if event.note:
            note = Text("note: {note}", note=Text(event.note))
            frames.append(Frame(event.at, event.direction, "", b"", note))
    frames += explaining.end()
    heard.take(frames)
    odd_ones = list(heard.odd_by_device())
    if profile and not recorded.driver.startswith("modbus"):
        raise Refused("--profile is for Modbus: other devices name the values that they send")
    by_profile = _by_profile(profile, heard.values) if profile else {}
    shown = [frame for frame in frames if not odd or (frame.odd and not frame.expected)]
    if json:
        print_json(
            {
                **recorded.facts,
                "frames": [
                    {"at": round(one.at, 6), "direction": one.direction, "device": one.device,
                     "bytes": one.data.hex(" "), "sentence": one.sentence, "odd": one.odd or None,
                     "values": list(one.values)}
                    for one in shown
                ],
                "odd": odd_ones,
                "quantities": by_profile,
            }
        )  # fmt: skip
    else:
        sys.stdout.writelines(f"{_clean(line)}\n" for line in _all_explained(frames, shown))
        for device, quantities in by_profile.items():
            typer.echo(
                _("unit {unit}, read by the profile {profile}:", unit=device, profile=profile)
            )
            for name, value in quantities.items():
                typer.echo(f"  {name}: {value}")
        sys.stdout.flush()  # what was odd comes last, also where both go into one file
        show_odd([kind for kind in odd_ones if not kind["expected"]], everything=True)
    raise typer.Exit(1 if any(not one["expected"] for one in odd_ones) else 0)


def _by_profile(
    name: str, values: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, dict[str, str]]:
    """Return what the registers of each device mean by a profile: quantity and value with unit."""
    from agent.core.errors import Refused
    from agent.core.model import Point
    from agent.drivers.modbus.master import rehearse
    from agent.drivers.profile import profile as load

    try:
        offers = load(name).points
    except KeyError:
        raise Refused(
            "there is no profile {name}. To list them: gardien profile list", name=name
        ) from None
    points = [
        Point("", quantity, "1", offer.at, 60, unit=offer.unit, scale=offer.scale)
        for quantity, offer in offers.items()
    ]
    results: dict[str, dict[str, str]] = {}
    for device, places in values.items():
        cells: dict[str, dict[int, list[int]]] = {}
        for value in places.values():
            table, _slash, address = value["at"].partition("/")
            cells.setdefault(table, {})[int(address)] = [int(value["value"])]
        # what was not heard would be read as 0
        whole = [point for point in points if _heard(point.at, cells)]
        results[device] = {
            sample.point.name: f"{(sample.value * sample.point.scale).normalize():f}"
            f" {sample.point.unit}".removesuffix(" 1")
            for sample in (rehearse(cells, whole) if whole else ())
            if isinstance(sample.value, Decimal)
        }
    return results


def _heard(at: str, cells: Mapping[str, Mapping[int, object]]) -> bool:
    """Whether all registers of an address were heard."""
    from agent.drivers.modbus.codec import place

    return all(
        set(range(spot.start, spot.end)) <= cells.get(spot.table, {}).keys()
        for spot in place(at).spots
    )


def _all_explained(frames: Sequence[Frame], shown: Sequence[Frame]) -> Iterator[str]:
    """Yield the lines of those frames that are shown."""
    asked, left = "", list(reversed(shown))
    for frame in frames:
        asked = frame.device if frame.direction == SENT else asked
        if left and frame is left[-1]:
            yield from _explained(left.pop(), asked if frame.odd == "noise" else "")


def _explained(frame: Frame, noise_after: str) -> Iterator[str]:
    """Yield a frame of a trace in lines of at most 80 columns: the sentence, then the values.

    `noise_after`: the address that was asked before noise; empty: none, or the frame is none.
    """
    mark = "!" if frame.odd and not frame.expected else " "
    direction = " " if frame.direction == NOTE else frame.direction
    head = f"{frame.at:10.3f} {direction} {mark} "
    after = _(" (asked last: {device})", device=noise_after) if noise_after else ""
    yield from _indented(f"{frame.sentence.in_language()}{after}", head)
    values: dict[str, list[str]] = {}
    for entry in frame.values:
        if "hex" in entry and "name" not in entry:  # the registers of one answer are in a row
            values.setdefault(f"{frame.values[0]['at']}: ", []).append(entry["hex"])
            continue
        missing = _("none: {error}", error=entry.get("error") or entry.get("hex", ""))
        value = missing if entry["value"] is None else f"{entry['value']} {entry.get('unit', '')}"
        # BACnet: all properties of an object follow its name
        place, _blank, name = entry["at"].partition(" ")
        if "name" in entry:
            place, name = "", f"{object_name(entry)}:"
        values.setdefault(f"{place} " if place else "", []).append(f"{name} {value.strip()};")
    for place, texts in values.items():
        yield from _indented((place + " ".join(texts)).removesuffix(";"), " " * MARGIN)


def _indented(text: str, head: str) -> list[str]:
    return wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * MARGIN,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def run(frames: Iterable[str], as_json: bool, explain: bool, out: TextIO) -> int:
    """Decode each frame, given in hex with or without blanks, and write the result to `out`.

    With `as_json` one JSON line for each frame, with `explain` the bytes with their meaning, else a
    table of 80 columns. Empty lines are skipped. Returns the exit status: 0 if all frames were
    decoded, 1 if one was refused, 2 if there was none.
    """
    answers = [_answer(text, as_json, explain, out) for text in frames if text.strip()]
    if not answers:
        return 2
    return 0 if all(answers) else 1


def _answer(text: str, as_json: bool, explain: bool, out: TextIO) -> bool:
    try:
        data = _bytes(text)
        # before decoding: the bytes show why a frame cannot be decoded
        if explain and not as_json:
            out.writelines(f"{_clean(line)}\n" for line in explained(data))
        telegram = decode(data)
    except MbusError as error:
        out.write(
            refusal(str(error)) + "\n" if as_json else _("not decoded: {error}\n", error=error)
        )
        return False
    if as_json:
        out.write(dumps(telegram) + "\n")
    elif not explain:
        out.writelines(f"{_clean(line).rstrip()}\n" for line in table(telegram))
    return True


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex("".join(text.replace(":", " ").split()))
    except ValueError:
        raise MbusError(Text("not hexadecimal")) from None


def table(telegram: Telegram) -> Iterator[str]:
    """Yield the telegram in lines of at most 80 columns."""
    name = " ".join(text for text in (telegram.manufacturer, telegram.id) if text)
    version = "" if telegram.version is None else _(", version {version}", version=telegram.version)
    yield _(
        "{value}: {medium}{version}, address {address}",
        value=name or _("meter"),
        medium=medium(telegram.medium),
        version=version,
        address=telegram.address,
    )
    yield _("status: {status}", status=status(telegram.status))
    if telegram.encrypted:
        yield _("encrypted ({encrypted}): no key, not decoded", encrypted=telegram.encrypted)
    yield ""
    for record in telegram.records:
        yield from _rows(record)
    if telegram.more:
        yield _("more records follow in the next telegram")
    yield ""


def _rows(record: MeterValue) -> Iterator[str]:
    what, value, where = _what(record), _value(record), _where(record)
    # a record that does not fit the columns is printed over several lines, never cut
    line = f"{what:{WHAT}}  {value:>{VALUE}}  {where}"
    if len(line) <= WIDTH and len(what) <= WHAT and len(value) <= VALUE:
        yield line
        return
    yield what[:WIDTH]
    for at in range(0, len(value), INNER):
        yield f"    {value[at : at + INNER]}"
    if where:
        yield f"    {where}"


def _what(record: MeterValue) -> str:
    return ", ".join((record.quantity, *record.modifiers))


def _value(record: MeterValue) -> str:
    if record.value is None:
        return _("none: {error}", error=record.error)
    plain = format(record.value, "f") if isinstance(record.value, Decimal) else record.value
    return plain if record.unit in ("", "1") else f"{plain} {record.unit}"


def _where(record: MeterValue) -> str:
    parts = [] if record.function == "instantaneous" else [str(record.function)]
    numbers = (("storage", record.storage), ("tariff", record.tariff), ("subunit", record.subunit))
    return " ".join(parts + [f"{name} {number}" for name, number in numbers if number])


def _clean(line: str) -> str:
    """Replace characters that are not printable: a text from the bus could control the terminal."""
    return "".join(letter if letter.isprintable() else "·" for letter in line)
