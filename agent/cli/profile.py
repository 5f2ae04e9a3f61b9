"""`gardien profile`: the device profiles, gardien's and the manager's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    Json,
    State,
    as_json,
    ask,
    table,
    wrapped,
    write_file,
)
from agent.core.errors import ConfigError, Refused
from agent.core.i18n import N_, _, n_

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.config.profiles import Profiles
    from agent.config.recording import Recording
    from agent.drivers.profile import Profile

app = typer.Typer(
    no_args_is_help=True,
    help="Show and check device profiles: gardien's, and your own in `profiles/` beside the "
    "configuration.",
)


def _profiles(config: Path) -> Profiles:
    from agent.config.profiles import FOLDER, Profiles

    return Profiles(config.parent / FOLDER)


@app.command("list")
def list_(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """List all profiles, with their device, driver, number of values, and whether two independent
    sources or a display confirm what is read by default.
    """
    from agent.drivers.profile import Profile

    profiles, rows = _profiles(config), []
    for name in profiles.names():
        # a profile with mistakes is listed, too: else it would seem to be in another folder
        profile, owner = profiles.take(name), _("yours") if name in profiles.own else ""
        if isinstance(profile, Profile):
            about = _of(profile)
            state = _("confirmed") if profile.confirmed else _("unconfirmed")
            rows.append((name, about, profile.driver, str(len(profile.points)), state, owner))
        else:
            rows.append((name, _("has mistakes: gardien profile check"), "", "", "", owner))
    if json:
        as_json(
            [
                dict(
                    zip(("name", "about", "driver", "values", "certainty", "whose"), r, strict=True)
                )
                for r in rows
            ]
        )
    else:
        table((_("profile"), _("for"), _("driver"), _("values"), _("certainty"), ""), rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A profile's name.")],
    yaml: Annotated[
        bool, typer.Option("--yaml", help="Print its file, as a start for your own.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Show what a profile reads, the source of its addresses, and what is not verified yet."""
    from agent.config.profiles import whole
    from agent.drivers.profile import text_of

    profiles = _profiles(config)
    if name not in profiles.names():
        from agent.config.problem import did_you_mean

        near = did_you_mean(name, profiles.names()) or _("; list them: gardien profile list")
        raise Refused('no profile "{name}"{near}', name=name, near=near)
    path = profiles.path(name)
    if yaml:
        typer.echo(path.read_text(encoding="utf-8") if path else text_of(name), nl=False)
        return
    # the person's own file is examined, so that all its mistakes are shown
    profile: Any = whole(path) if path else profiles.take(name)
    if json:
        as_json(_plain(profile))
    else:
        _show(profile)


ANY = (
    N_("any cold water meter"), N_("any cooling meter"), N_("any electricity meter"),
    N_("any gas meter"), N_("any heat cost allocator"), N_("any heat and cooling meter"),
    N_("any heat meter"), N_("any pulse collector, cold water"),
    N_("any pulse collector, electricity"), N_("any pulse collector, warm water"),
    N_("any warm water meter"), N_("any any"),
)  # fmt: skip
"""the profiles that are of no make"""


def _of(profile: Profile) -> str:
    """For which make and model a profile is."""
    name = f"{profile.manufacturer} {profile.model}"
    return _(name)


IDENTITY = {
    "number": N_("identity: it reports its serial number, which is compared with the registry"),
    "plate": N_(
        "identity: it reports no serial number. Its address is set on the device, and a person"
        " reads the number on it"
    ),
}
"""how it is proven which device it is (rule I18)"""


def certainty(profile: Profile) -> str:
    """How certain the points are that the profile reads by default."""
    if profile.compared:
        return _("confirmed: compared with a display ({when})", when="; ".join(profile.compared))
    if missing := profile.unconfirmed(profile.defaults):
        return _(
            "unconfirmed: fewer than two independent sources for {names}; compare them with the"
            " display, then: gardien profile record DEVICE",
            names=", ".join(missing),
        )
    if any(source.standard for source in profile.sources):
        return _("confirmed by the standard; each make decides what of it a device has")
    return _("confirmed by two independent sources; not compared with a display yet")


def _plain(profile: Profile) -> Any:
    from pydantic import TypeAdapter

    from agent.drivers.profile import Profile

    return TypeAdapter(Profile).dump_python(profile, mode="json", exclude={"test"})


def _show(profile: Profile) -> None:
    from agent.core.quantities import channel_of_quantity

    typer.echo(f"{_of(profile)}, {profile.driver}")
    serial = [("serial", profile.serial)] if profile.serial else []
    rows = [
        (
            name,
            _("read") if name in profile.defaults else "",
            point.at.split()[0],
            point.unit if point.scale == 1 else f"{point.unit} × {point.scale}",
            channel_of_quantity().get(name, ""),
            " ".join(
                str(number) for number, one in enumerate(profile.sources, 1) if one.states(name)
            ),
        )
        for name, point in [*serial, *profile.points.items()]
    ]
    table((_("point"), "", _("at"), _("unit"), _("channel"), _("sources")), rows)
    for number, source in enumerate(profile.sources, 1):
        typer.echo(_("source {number}: {source}", number=number, source=source.where))
    if profile.source:
        typer.echo(_("source {number}: {source}", number=1, source=profile.source))
    typer.echo(certainty(profile))
    typer.echo(_(IDENTITY[profile.identity or ("number" if profile.serial else "plate")]))
    points = dict([*serial, *profile.points.items()])
    unverified = {"": profile.verify, **{name: point.verify for name, point in points.items()}}
    for name, note in unverified.items():
        if note:
            typer.echo(
                _("not verified: {name}: {note}", name=name, note=_(note))
                if name
                else _("not verified: {note}", note=_(note))
            )


@app.command()
def check(
    file: Annotated[
        Path, typer.Argument(help="The profile's file, such as profiles/my-meter.yaml.")
    ],
) -> None:
    """Check a profile by the rules for the profiles that come with gardien, and test it.

    It is tested with its own test values. Each mistake is shown with its line. Exit status 1 if
    there is one.
    """
    from agent.config.profiles import whole, whole_recording
    from agent.config.recording import sentence
    from agent.drivers.profile import RECORDED

    try:
        if file.name.endswith(RECORDED):
            recording = whole_recording(file)
            typer.echo(
                _(
                    "{file} is fine: {values} of {profile}, compared with a display: {names}"
                    " ({when})",
                    file=file,
                    values=n_("{number} value", "{number} values", len(recording.test["reads"])),
                    profile=recording.profile,
                    names=", ".join(recording.display) or _("none"),
                    when=sentence(recording),
                )
            )
            return
        profile = whole(file)
    except ConfigError as error:
        typer.echo(
            f"{error}\n{n_('{number} problem', '{number} problems', len(str(error).splitlines()))}",
            err=True,
        )
        raise typer.Exit(1) from error
    known = profile.points.keys() | ({"serial"} if profile.serial else set())
    tested = len(profile.test["reads"])
    passed = _("all of them") if tested == len(known) else str(tested)
    typer.echo(
        _(
            "{file} is fine: {values}, {passed} tested",
            file=file,
            values=n_("{number} value", "{number} values", len(known)),
            passed=passed,
        )
    )
    if untested := sorted(known - profile.test["reads"].keys()):
        typer.echo(_("without a test: {names}", names=", ".join(untested)))


@app.command()
def record(
    device: Annotated[str, typer.Argument(help="A device of the configuration.")],
    display: Annotated[
        list[str] | None,
        typer.Option(
            "--display",
            metavar="POINT=VALUE",
            help="What its display shows, such as energy_import=1234.5. May be repeated. Without"
            " it you are asked.",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="The file to write; otherwise one in `profiles/`."),
    ] = None,
    named: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Record a device as a test of its profile, and compare it with its display.

    The file has what the device answered, without its serial number and without times, and what
    its display showed. If the display agrees, the profile counts as confirmed on this gateway. Exit
    status 1 if it does not agree.
    """
    from agent.config.profiles import whole_recording
    from agent.config.recording import text_of_recording

    answer = ask(config, state, "profile.record", device=device, named=named)
    profile, text = _recordable(config, answer["profile"])
    shown = _displayed(profile, answer, display)
    agrees = _number_agrees(answer["serial"]) if display is None else None
    recording = _recording(profile, text, answer, shown, agrees)
    to = to or _free(config.parent, f"{recording.profile}-{recording.recorded}")
    write_file(to, text_of_recording(recording, answer["serial"]).encode(), 0o644)
    typer.echo(_("written to {file}, without the serial number", file=to))
    if agrees is False:
        typer.echo(
            wrapped(
                _(
                    "The number on the device is another one than it reports: another device may"
                    " have been read, or the profile reads the number wrongly."
                )
            ),
            err=True,
        )
    try:
        checked = whole_recording(to)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if checked.confirms(profile):
        typer.echo(_("The display agrees: the profile is confirmed on this gateway."))
    else:
        left = ", ".join(name for name in profile.defaults if name not in shown)
        if left:  # else the serial number is the reason, and was told
            typer.echo(
                _(
                    "The profile is not confirmed: the display was not compared for {names}.",
                    names=left,
                )
            )
    raise typer.Exit(1 if agrees is False else 0)


def _recordable(config: Path, name: str) -> tuple[Profile, str]:
    """The profile with which a device was read, and the text of its file."""
    from agent.drivers.profile import text_of

    shelf = _profiles(config)
    own, profile = shelf.path(name), shelf.take(name)
    if isinstance(profile, tuple):
        raise Refused("the profile {name} has mistakes: gardien profile check", name=name)
    return profile, own.read_text(encoding="utf-8") if own else text_of(name)


def _displayed(
    profile: Profile, answer: dict[str, Any], given: list[str] | None
) -> dict[str, Decimal]:
    """What the display shows, by point: from the options, or asked for."""
    from decimal import Decimal, InvalidOperation

    def number(name: str, text: str) -> Decimal:
        if name not in profile.points:
            raise Refused("the profile has no point {name}", name=name)
        try:
            return Decimal(text.strip().replace(",", ".").replace(" ", ""))
        except InvalidOperation:
            raise Refused('"{text}" is not a number, such as 1234.5', text=text) from None

    if given is not None:
        pairs = (one.partition("=") for one in given)
        return {name: number(name, text) for name, _mark, text in pairs}
    shown = {}
    for name in profile.defaults:
        if answer["points"][name]["why"]:
            typer.echo(_("{name}: the device gives no value", name=name), err=True)
            continue
        question = _(
            "What does the display show for {name}, in {unit}? (Enter: it does not show it)",
            name=name,
            unit=profile.points[name].unit,
        )
        text: str = typer.prompt(
            wrapped(question), default="", show_default=False, prompt_suffix=" "
        )
        if text.strip():
            shown[name] = number(name, text)
    return shown


def _number_agrees(serial: str | None) -> bool | None:
    if serial is None:
        return None
    question = _(
        "The device reports the number {serial}. Is this the number on it? (Enter: not compared)",
        serial=serial,
    )
    while True:
        typed: str = typer.prompt(
            wrapped(f"{question} {_('[y/n]')}"), default="", show_default=False, prompt_suffix=" "
        )
        answer = typed.strip().casefold()
        if not answer:
            return None
        if answer in {"n", "no", _("no"), "y", "yes", _("y"), _("yes")}:
            return answer in {"y", "yes", _("y"), _("yes")}


def _recording(
    profile: Profile,
    text: str,
    answer: dict[str, Any],
    shown: dict[str, Decimal],
    agrees: bool | None,
) -> Recording:
    """The recording, with the values that its cells are read as. Raises Refused."""
    import datetime as dt
    from decimal import Decimal

    from agent.config.profiles import rehearsed
    from agent.config.recording import Recording, version_of

    reads = {}
    for sample in rehearsed(profile, answer["test"]):
        offer = profile.serial if sample.point.name == "serial" else None
        value = sample.value
        if offer is None:
            offer, read = profile.points[sample.point.name], answer["points"][sample.point.name]
            if read["why"]:
                continue  # the device does not have it, so the recording says nothing of it
        if sample.why is None:
            reads[sample.point.name] = value * offer.scale if isinstance(value, Decimal) else value
    if not reads:
        raise Refused("the device gave no value, so there is nothing to record")
    return Recording(
        profile=answer["profile"],
        version=version_of(text),
        recorded=dt.datetime.now(dt.UTC).date(),
        by=answer["by"],
        number_agrees=agrees,
        display=shown,
        test={**answer["test"], "reads": reads},
    )


def _free(folder: Path, name: str) -> Path:
    """A file in the folder of the profiles that does not exist yet."""
    from agent.cli.terminal import make_folder
    from agent.config.profiles import FOLDER
    from agent.drivers.profile import RECORDED

    make_folder(folder / FOLDER)
    names = (f"{name}{'' if n == 1 else f'-{n}'}{RECORDED}" for n in range(1, 1000))
    return next(path for path in (folder / FOLDER / one for one in names) if not path.exists())
