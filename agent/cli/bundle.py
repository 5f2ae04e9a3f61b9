"""`gardien support-bundle`: one file for remote support, without readings and secrets.

Names of dwellings are replaced by pseudonyms.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import time
import unicodedata
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from agent.api.redaction import GONE, redact, secrets, take_out, text_or_reason
from agent.cli.terminal import DEFAULT_CONFIG, Config, State, ask, state_of
from agent.core.i18n import _
from agent.registry.place import LENGTH, agrees, looks_like_id, squeeze

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COMMANDS = {
    "log.txt": ("journalctl", "-u", "gardien", "-n", "20000", "-o", "short-iso", "--no-pager"),
    "unit.txt": ("systemctl", "cat", "--no-pager", "gardien.service", "gardien.socket"),
    "unit-state.txt": ("systemctl", "show", "--no-pager", "gardien.service"),
    "time.txt": ("timedatectl", "show", "--all"),
    "disks.txt": ("df", "-h"),
    "addresses.txt": ("ip", "-brief", "address"),
    "package.txt": ("dpkg-query", "-s", "gardien"),
}
COMMAND_TIMEOUT = 30.0
"""seconds for one of `COMMANDS`"""
NAMING_CALLS = ("place.list", "alias.list", "occupancy.list", "meter.list", "consent.list")
"""calls that return the names of dwellings, if the registry's own file is not readable"""
PHRASE = "with dwellings"
"""what a person types to confirm that the names stay"""
ID = re.compile(rf"(?<![^\W_])[DH](?:[-_. ]?[0-9A-Z]){{{LENGTH - 1}}}(?![^\W_])", re.IGNORECASE)
"""an id of a dwelling or an occupancy, as people write it"""
NUMBER = re.compile(r"(?<![\w.,+-])\d{8,20}(?![\w.,])")
"""a number that may be a meter's serial number"""
ANYWHERE = 6
"""characters; a name of this length or more is also replaced inside longer words"""
SHORTEST_NAME = 2
COMMON = ("B", "C")
"""first letters of the ids of places where nobody lives"""


def support_bundle(
    out: Annotated[Path, typer.Option("--out", help="The file to write; it must not exist.")],
    with_dwellings: Annotated[
        bool,
        typer.Option("--with-dwellings", help="Keep the names of dwellings, meters and devices."),
    ] = False,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Write one file with log, status, findings and redacted configuration.

    It contains no readings, keys, passwords or comments. Dwellings, occupancies, meters and devices
    are called dwelling-1, occupancy-1, meter-1, device-1 throughout. With --with-dwellings they
    keep their names, after confirmation.
    """
    from agent.core.errors import Refused

    if with_dwellings:
        _confirm()
    folder = state_of(config, state)
    known = list(secrets(config))
    names_of = None if with_dwellings else _pseudonyms(Pseudonyms(), config, folder)
    try:
        # new and unreadable for others from the start: names may be in it
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Refused("{out}: {reason}", out=out, reason=error) from error
    names = []
    try:
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
            for name, whole in _parts(config, folder):
                # secrets first: a replaced name inside a secret would hide it from the search
                shown, text = name, take_out(whole, known)
                if names_of is not None:
                    shown, text = _without_names(name, text, names_of)
                _add(tar, shown, redact(text))
                names.append(shown)
    except OSError as error:
        out.unlink(missing_ok=True)
        raise Refused("{out}: {reason}", out=out, reason=error) from error
    typer.echo(_("{file}: {reason}", file=out, reason=", ".join(names)))
    dwellings = _("It names dwellings") if with_dwellings else _("It does not name dwellings")
    typer.echo(_("{dwellings}, and has no readings and no secrets.", dwellings=dwellings), nl=False)
    typer.echo(_(" Read it before you send it: tar xzOf {out}", out=out))


def _confirm() -> None:
    """Ask for confirmation. Raises Abort if the person does not confirm."""
    typer.echo(
        _(
            "The file will name dwellings, meters and devices, so it can be linked to people."
            " Send it only to those who may know them."
        )
    )
    if typer.prompt(f'Type "{PHRASE}" to confirm').strip() != PHRASE:
        typer.echo(_("nothing was written"))
        raise typer.Abort


def _pseudonyms(names_of: Pseudonyms, config: Path, state: Path) -> Pseudonyms:
    """Learn every name of a dwelling, meter or device in the registry and the configuration.

    Raises Refused if the registry cannot be read: a name that is not known would stay in the texts.
    """
    import re

    from agent.core.errors import AgentError, NotRecorded, Refused
    from agent.registry.storage import RegistryStorage

    try:
        names_of.learn(RegistryStorage(state / "registry.json").read() or {})
    except NotRecorded as error:
        try:
            for call in NAMING_CALLS:
                names_of.learn(ask(config, state, call))
        except AgentError:
            raise Refused(
                "the names of dwellings cannot be read ({error}), so they cannot be removed. Run"
                " the command with sudo, or with --with-dwellings",
                error=error,
            ) from error
    status = (_status(state) or {}).get("devices") or {}
    written, plant = _devices(config)
    # common plant keeps its names: without them nobody could help with controls
    for device in {*written, *status} - plant:
        names_of.of("device", device)
    for device in status.values():
        names_of.learn({"serial": device.get("serial")})
    # serial numbers that are configured, but not in the registry yet
    for path in config.parent.glob("*.yaml"):
        for serial in re.findall(r"\bserial[\"']?:\s*[\"']?([^\s\"',}#]+)", text_or_reason(path)):
            names_of.learn({"serial": serial})
    return names_of


def _devices(config: Path) -> tuple[set[str], set[str]]:
    """Return the names of the configured devices, and of those that are common plant: devices that
    controls command, and devices that measure only common areas.

    If the file does not load, no device counts as common plant.
    """
    from agent.config import load
    from agent.core.errors import AgentError

    try:
        loaded = load(config)
    except AgentError:
        return set(_written_devices(config)), set()
    plant = {control.point.partition("/")[0] for control in loaded.controls.values()}
    for name, points in loaded.points().items():
        if points and all(point.place and is_common(point.place) for point in points):
            plant.add(name)
    return set(loaded.devices), plant


def _written_devices(config: Path) -> Iterator[str]:
    """Yield the keys below `devices:`, and the top keys of included files, from the plain text."""
    import re

    for path in (config, *config.parent.glob("*.yaml")):
        text = text_or_reason(path)
        block = re.search(r"(?m)^devices:[^\n]*\n((?:[ \t]+[^\n]*\n?|[ \t]*\n)*)", text)
        lines = (block[1] if block else "" if path == config else text).splitlines()
        depth = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        for line in lines:
            if key := re.match(rf"[ \t]{{{depth}}}[\"']?([^\s\"':#{{}}]+)[\"']?\s*:", line):
                yield key[1]


def _without_names(name: str, text: str, names_of: Pseudonyms) -> tuple[str, str]:
    """Return a part's name and text without any name of a dwelling."""
    import json

    if name.endswith(".json"):
        document = names_of.in_place(json.loads(text))
        return name, json.dumps(document, indent=1, ensure_ascii=False)
    if is_config := name.startswith("config/"):
        text = without_comments(text)
    return names_of.replace(name), names_of.replace(text, numbers=is_config or name == "log.txt")


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    entry = tarfile.TarInfo(f"gardien-support/{name}")
    entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
    tar.addfile(entry, io.BytesIO(data))


def _parts(config: Path, state: Path) -> Iterator[tuple[str, str]]:
    import json

    folder = config.parent
    for path in sorted({config, *folder.glob("*.yaml"), *folder.glob("profiles/*.yaml")}):
        yield f"config/{path.relative_to(folder)}", text_or_reason(path)
    yield "status.json", json.dumps(_status(state), indent=1, ensure_ascii=False)
    yield "doctor.json", _doctor(config, state)
    yield "flight.json", json.dumps(_flight(state), indent=1, ensure_ascii=False)
    yield "state.txt", _listing(state)
    for name, command in COMMANDS.items():
        text = _output_of(command)
        if name == "log.txt" and os.geteuid():
            text += _(
                "This account may not read the whole log. With it: sudo gardien support-bundle"
            )
        yield name, text


def _status(state: Path) -> Any:
    """Return the daemon's status without readings."""
    from agent.core.errors import AgentError
    from agent.local import ask_daemon

    try:
        status = ask_daemon(state, "status", {}, lambda _: None)
    except AgentError as error:
        return {"refused": str(error)}
    # the names of the values stay: they show which points are read
    for device in (status or {}).get("devices", {}).values():
        device["latest"] = sorted(device.get("latest") or ())
    for control in (status or {}).get("controls", {}).values():
        guards = control["guards"].items()
        control["guards"] = {
            name: _("unknown") if value == "unknown" else _("known") for name, value in guards
        }
        # its text may contain a guard's reading
        control["forbidden"] = bool(control["forbidden"])
    return status


def _flight(state: Path) -> list[dict[str, Any]]:
    """Return what the agent remembers of its own running, also what is not on the disk yet."""
    from agent.core.clock import stamp
    from agent.core.errors import AgentError
    from agent.gateway.flight_recorder import FlightRecord, ordered, read
    from agent.local import ask_daemon

    waiting: list[dict[str, Any]] = []
    # ask first: what is written between the two is in both, and nothing is missing
    with suppress(AgentError):
        waiting = (ask_daemon(state, "bundle.flight", {}, lambda _: None) or {"records": []})[
            "records"
        ]
    records = {
        (record.life, record.up, record.kind, record.subject, record.detail, record.devices): record
        for record in [*map(FlightRecord.of, waiting), *read(state)]
    }
    return [{"time": stamp(record.at)} | record.document() for record in ordered(records.values())]


def _doctor(config: Path, state: Path) -> str:
    import json

    from agent.cli.doctor import findings, members

    return json.dumps([members(finding) for finding in findings(config, state)], indent=1)


def _listing(state: Path) -> str:
    """Return names, sizes, owners and modes of the state's files, without contents."""
    return _output_of(("ls", "-lanR", str(state)))


def _output_of(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 -- fixed words, no shell
            command, check=False, capture_output=True, timeout=COMMAND_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}\n"
    return (done.stdout + done.stderr).decode(errors="replace")


class Pseudonyms:
    """The pseudonyms of one bundle: each name has the same pseudonym everywhere."""

    def __init__(self) -> None:
        self._pseudonyms: dict[str, str] = {}
        """by `_folded` name"""
        self._spellings: dict[str, str] = {}
        """pseudonyms by name, in the original spelling"""
        self._counts: Counter[str] = Counter()
        self._common: set[str] = set()
        """labels of common areas, which are not replaced"""
        self._forms: dict[str, str] | None = None
        """pseudonyms by each form that a name may have in a text; None: to be rebuilt"""
        self._pattern: re.Pattern[str] | None = None

    def of(self, kind: str, *names: object) -> str:
        """Return the pseudonym of the thing that has these names; a new one if none is known."""
        given = [name.strip() for name in names if isinstance(name, str) and name.strip()]
        folded = [_folded(name) for name in given]
        # label, id and alias of a dwelling come in different rows: one known name is enough
        known = (self._pseudonyms[name] for name in folded if name in self._pseudonyms)
        pseudonym = next(known, None)
        if pseudonym is None:
            self._counts[kind] += 1
            pseudonym = f"{kind}-{self._counts[kind]}"
        for name, spelled in zip(folded, given, strict=True):
            self._pseudonyms.setdefault(name, pseudonym)
            self._spellings[spelled] = self._pseudonyms[name]
        self._forms = None
        return pseudonym

    def learn(self, document: Any) -> None:
        """Learn the names in a document of the registry: rows at any depth."""
        for row in _rows(document):
            self._learn(row)

    def _learn(self, row: dict[str, Any]) -> None:
        id_ = str(row.get("id") or "")
        place = str(row.get("place") or (id_ if "label" in row else ""))
        if is_common(place):
            self._common.add(_folded(str(row.get("label"))))
        elif place:
            self.of("dwelling", place, *(row.get(name) for name in ("label", "value", "note")))
        if not is_common(place) and row.get("device"):
            self.of("device", row["device"])
        if row.get("serial"):
            serial = str(row["serial"])
            # some devices send their number without leading zeros
            self.of("meter", serial, serial.lstrip("0") if len(serial) > ANYWHERE else None)
        for name in ("occupancy", "lease"):
            self.of_given("occupancy", row.get(name))
        self.of_given("occupancy" if id_.startswith("H") else "basis", row.get("reference"), id_)
        # a consent; in the row of a meter, `proof` is one of gardien's own words
        if row.get("recipient"):
            self.of_given("paper", row.get("proof"))

    def of_given(self, kind: str, *names: object) -> None:
        """Like `of`, but without ids of places; nothing if no name is left."""
        if given := [name for name in names if name and not looks_like_id(str(name))]:
            self.of(kind, *given)

    def replace(self, text: str, *, numbers: bool = False) -> str:
        """Return the text with every name replaced, in each encoding that it may have.

        `numbers`: also replace every number that may be the serial number of an unrecorded meter.
        """
        # ids first, in any spelling: a name inside an id would hide it
        text = ID.sub(self._id, text)
        if self._forms is None:
            self._forms = {
                form: pseudonym
                for name, pseudonym in self._spellings.items()
                for form in _forms(name)
            }
            self._pattern = _matching(self._forms)
        if self._pattern is not None:
            forms = self._forms
            text = self._pattern.sub(
                lambda match: forms.get(match[0]) or forms.get(match[0].lower(), GONE), text
            )
        if numbers:
            text = NUMBER.sub(lambda match: self.of("meter", match[0]), text)
        return text

    def in_place(self, document: Any) -> Any:
        """Return a document with the names in its texts replaced; names of places of any length.

        Numbers are kept: they are counts and sizes.
        """
        if isinstance(document, dict):
            return {
                self.replace(name, numbers=True): self.of("dwelling", value)
                if name == "place" and isinstance(value, str) and not self._is_shown(value)
                else self.in_place(value)
                for name, value in document.items()
            }
        if isinstance(document, list):
            return [self.in_place(value) for value in document]
        return self.replace(document, numbers=True) if isinstance(document, str) else document

    def _is_shown(self, place: str) -> bool:
        return is_common(place) or _folded(place) in self._common

    def _id(self, match: re.Match[str]) -> str:
        # other words have the form of an id, too; only ids have the check characters
        squeezed = squeeze(match[0])
        if not agrees(squeezed):
            return match[0]
        return self.of("dwelling" if squeezed[0] == "D" else "occupancy", squeezed)


def without_comments(text: str) -> str:
    """Return a YAML file with its comments removed: people write names into them."""
    # a # without a blank before it is part of a value, such as of a URL
    return re.sub(r"(?m)(^|[ \t])#.*$", rf"\1# {GONE}", text)


def _rows(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
        for value in document.values():
            yield from _rows(value)
    elif isinstance(document, list):
        for value in document:
            yield from _rows(value)


def is_common(place: str) -> bool:
    """Whether this is the id of a place without occupants."""
    return looks_like_id(place) and place.startswith(COMMON)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()


def _forms(name: str) -> set[str]:
    """Return a name as texts may have it: in JSON, YAML, Python or URLs, NFC or NFD, any case."""
    cases = {name, name.lower(), name.upper()}
    written = {unicodedata.normalize(form, case) for case in cases for form in ("NFC", "NFD")}
    written |= cases
    for spelling in tuple(written):
        written |= {json.dumps(spelling)[1:-1], json.dumps(spelling, ensure_ascii=False)[1:-1]}
        written |= {repr(spelling)[1:-1], repr(spelling.encode())[2:-1]}
        written |= {quote(spelling), quote(spelling, safe="")}
    return written | {spelling.lower() for spelling in written}


def _matching(forms: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern that finds the names; None if there is none.

    Short names match only as whole words, else they would be replaced inside other words.
    """
    long = [form for form in forms if len(form) >= ANYWHERE]
    short = [
        form
        for form in forms
        if SHORTEST_NAME <= len(form) < ANYWHERE
        and not (len(form) == SHORTEST_NAME and form.isdigit())
    ]
    parts = [_alternation(long)] if long else []
    parts += [rf"(?<![^\W_]){_alternation(short)}(?![^\W_])"] if short else []
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None


def _alternation(names: Iterable[str]) -> str:
    """Return one expression for many names, the longest first, that reads each character once."""
    sorted_names = sorted(set(names))
    pairs = zip(sorted_names[0], sorted_names[-1], strict=False)
    alike = next((n for n, (a, b) in enumerate(pairs) if a != b), len(sorted_names[0]))
    prefix = sorted_names[0][:alike]
    tails: dict[str, list[str]] = {}
    for name in sorted_names:
        tails.setdefault(name[len(prefix) : len(prefix) + 1], []).append(name[len(prefix) :])
    ends = tails.pop("", None)
    if not tails:
        return re.escape(prefix)
    rest = "|".join(_alternation(tail) for tail in tails.values())
    return f"{re.escape(prefix)}(?:{rest}){'?' if ends else ''}"
