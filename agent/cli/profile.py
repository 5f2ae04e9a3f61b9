"""`gardien profile`: the device profiles, gardien's and the manager's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.terminal import DEFAULT_CONFIG, Config, Json, as_json, table
from agent.core.errors import ConfigError, Refused
from agent.core.i18n import N_, _, n_

if TYPE_CHECKING:
    from agent.config.profiles import Profiles
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
    """List all profiles, with their device, driver and number of values."""
    from agent.drivers.profile import Profile

    profiles, rows = _profiles(config), []
    for name in profiles.names():
        # a profile with mistakes is listed, too: else it would seem to be in another folder
        profile, owner = profiles.take(name), _("yours") if name in profiles.own else ""
        if isinstance(profile, Profile):
            about = _of(profile)
            rows.append((name, about, profile.driver, str(len(profile.points)), owner))
        else:
            rows.append((name, _("has mistakes: gardien profile check"), "", "", owner))
    if json:
        as_json(
            [
                dict(zip(("name", "about", "driver", "values", "whose"), r, strict=True))
                for r in rows
            ]
        )
    else:
        table((_("profile"), _("for"), _("driver"), _("values"), ""), rows)


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
    from agent.drivers.profile import ALL

    typer.echo(f"{_of(profile)}, {profile.driver}")
    serial = [("serial", profile.serial)] if profile.serial else []
    rows = [
        (
            name,
            _("read") if name in profile.defaults else "",
            point.at.split()[0],
            point.unit if point.scale == 1 else f"{point.unit} × {point.scale}",
            channel_of_quantity().get(name, ""),
        )
        for name, point in [*serial, *profile.points.items()]
    ]
    table((_("point"), "", _("at"), _("unit"), _("channel")), rows)
    for source in profile.sources:
        what = _("all") if source.confirms == ALL else ", ".join(source.confirms)
        typer.echo(_("source: {source} ({what})", source=source.where, what=what))
    if profile.source:
        typer.echo(_("source: {source} ({what})", source=profile.source, what=_("all")))
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
    from agent.config.profiles import whole

    try:
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
