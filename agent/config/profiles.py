"""Device profiles: gardien's own, and those of the manager beside the configuration.

The manager's are files in the folder `profiles/`. They have the same form and the same checks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent.config.files import Enough, ProblemReport, Tree, YamlUnreadable, read, read_text
from agent.config.models import ILL_NAMED, NAME, no_unit
from agent.config.problem import at, did_you_mean, or_list, refusal
from agent.core.i18n import N_, _, in_language
from agent.core.model import Point
from agent.core.quantities import channel_of_quantity, channels, factor, units
from agent.core.settings import harmless, shown
from agent.drivers import DRIVERS, driver, family
from agent.drivers.base import Rehearses
from agent.drivers.profile import ALL, RECORDED, SUFFIX, Profile, profile, profiles, with_manners
from agent.drivers.profile import FOLDER as PACKAGED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from agent.config.problem import Problem
    from agent.config.recording import Recording
    from agent.core.model import Sample
    from agent.drivers.base import Reads
    from agent.drivers.profile import Offer

ADDRESS = "1"
"""any address, since notation is checked without a device"""
ANY = "any"
"""model of a profile for all meters of a kind; each meter states its own values"""
UNTESTED = N_(
    "`test` is missing, or its `reads`: registers of a device and the values that"
    " must be read from them; without it the profile is unproved"
)
FOLDER = "profiles"
MOST = 1000
"""files of the folder that are used"""


def profilecheck(report: ProblemReport, made: Profile) -> None:
    """Report mistakes in a profile whose form is valid."""
    speakers = [driver(name) for name in DRIVERS if family(name) == family(made.driver)]
    if not speakers:
        known = sorted({family(name) for name in DRIVERS})
        near = did_you_mean(made.driver, known) or _("; there is {names}", names=or_list(known))
        report.value(
            ("driver",), _("no driver {driver}{near}", driver=shown(made.driver), near=near)
        )
        return
    _Check(report, made, speakers[0]).run()


@dataclass(frozen=True, slots=True)
class _Check:
    report: ProblemReport
    made: Profile
    speaks: type[Reads]

    def run(self) -> None:
        serial = {"serial": self.made.serial} if self.made.serial else {}
        offers = {**self.made.points, **serial}
        sound = {name: self._offer(name, offer) for name, offer in offers.items()}
        self._sources(offers)
        for quantity in self.made.defaults:
            if quantity not in self.made.points:
                self.report.value(("defaults",), _no_point(quantity, self.made.points))
        if not self.made.defaults and self.made.model != ANY:
            what = _("no point is read by default: name at least one")
            self.report.value(("defaults",), what)
        # the test of a point that cannot be read would report the same mistake again
        if all(sound.values()):
            self.rehearse(offers)

    def _offer(self, name: str, offer: Offer) -> bool:
        """Check a point. Returns whether the driver can read it."""
        path = ("serial",) if offer is self.made.serial else ("points", name)
        if not NAME.fullmatch(name):
            self.report.key(path, _(ILL_NAMED))
        channel = channel_of_quantity().get(name)
        if offer.unit not in units():
            self.report.value((*path, "unit"), no_unit(offer.unit))
        elif channel and factor(offer.unit, unit := channels()[channel].unit) is None:
            what = _(
                "{unit} cannot be converted to {other}, the unit of {name}",
                unit=offer.unit,
                other=unit,
                name=channel,
            )
            self.report.value((*path, "unit"), what)
        try:
            self.speaks.check(self._point(name, offer))
        except ValueError as error:
            self.report.value((*path, "at"), in_language(error))
            return False
        return True

    def _sources(self, offers: Mapping[str, Offer]) -> None:
        """Check that the profile has a source, and that it names points that exist."""
        if not self.made.sources and not self.made.source:
            self.report.key((), _("`sources` is missing: name what its figures are from"))
        for number, source in enumerate(self.made.sources):
            for name in source.confirms:
                if name not in offers and name != ALL:
                    path = ("sources", str(number), "confirms")
                    self.report.value(path, _no_point(name, offers))
        if self.made.identity and (self.made.identity == "number") != bool(self.made.serial):
            what = _("`number` needs `serial`, the point of the serial number; `plate` has none")
            self.report.value(("identity",), what)

    def _point(self, name: str, offer: Offer) -> Point:
        manners = f" {self.made.manners}" if self.made.manners else ""
        return Point("profile", name, ADDRESS, f"{offer.at}{manners}", 60, unit=offer.unit)

    def rehearse(self, offers: Mapping[str, Offer]) -> None:
        """Run the profile's test: read its cells, and compare the values."""
        reads = self.made.test.get("reads")
        if not isinstance(reads, dict) or not reads:
            self.report.key(("test",), _(UNTESTED))
            return
        if not issubclass(self.speaks, Rehearses):
            what = _(
                "{driver} cannot be tested without a device: delete the test",
                driver=self.made.driver,
            )
            self.report.value(("test",), what)
            return
        for name in reads.keys() - offers.keys():
            self.report.key(("test", "reads", name), _no_point(name, offers))
        points = [self._point(name, offers[name]) for name in reads if name in offers]
        try:
            samples = self.speaks.rehearse(self.made.test, points) if points else []
        except ValueError as error:
            self.report.value(("test",), in_language(error))
            return
        for sample in samples:
            self._hold_against(sample, offers[sample.point.name], reads[sample.point.name])

    def _hold_against(self, sample: Sample, offer: Offer, expected: object) -> None:
        path, value = ("test", "reads", sample.point.name), sample.value
        if isinstance(value, Decimal):
            value *= offer.scale
        if sample.why:
            self.report.value(path, _("these cells are not read: {detail}", detail=sample.detail))
        elif value != _exact(expected):
            shown_value = format(value, "f") if isinstance(value, Decimal) else shown(value)
            self.report.value(
                path,
                _(
                    "these cells are read as {said}, not as {expected}",
                    said=shown_value,
                    expected=shown(expected),
                ),
            )


def _no_point(name: str, known: Iterable[str]) -> str:
    near = did_you_mean(name, known) or _("; there is {names}", names=or_list(known))
    return _("no point {name}{near}", name=shown(name), near=near)


def _exact(expected: object) -> object:
    # for Python True is the number 1, but a state is no number
    whole = isinstance(expected, int) and not isinstance(expected, bool)
    return Decimal(str(expected)) if whole or isinstance(expected, float) else expected


class Profiles:
    """All profiles, by name. The manager's are read when a device names them."""

    def __init__(self, folder: Path | None = None) -> None:
        self._own: dict[str, Path] = {}
        self._made: dict[str, Profile | tuple[Problem, ...]] = {}
        if folder is not None and folder.is_dir():
            files = sorted(folder.glob(f"*{SUFFIX}"))[:MOST]
            made = (path for path in files if not path.name.endswith(RECORDED))
            self._own = {path.name.removesuffix(SUFFIX): path for path in made}
        self._folders = [one for one in (folder, PACKAGED) if one is not None]

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the manager's profiles."""
        return tuple(self._own)

    def names(self) -> tuple[str, ...]:
        """All names, those of the manager first."""
        return (*self._own, *(name for name in profiles() if name not in self._own))

    def take(self, name: str) -> Profile | tuple[Problem, ...]:
        """The profile of a name, or its problems. Raises KeyError if there is none."""
        # a thousand devices of one make read its file once
        if name not in self._made:
            own = self._own.get(name)
            made = examined(own) if own else profile(name)
            if isinstance(made, Profile) and (compared := tuple(self._compared(name, made))):
                made = replace(made, compared=compared)
            self._made[name] = made
        return self._made[name]

    def _compared(self, name: str, made: Profile) -> Iterator[str]:
        """Who compared a device of this profile with its display, and when."""
        for path in (path for one in self._folders for path in one.glob(f"{name}-*")):
            if path.name.endswith(RECORDED):
                from agent.config.recording import sentence  # noqa: PLC0415 -- see examined_recording

                result = examined_recording(path, made)
                # one with mistakes must not stop a gateway: `gardien profile check` names them
                if (
                    not isinstance(result, tuple)
                    and result.profile == name
                    and result.confirms(made)
                ):
                    yield sentence(result)

    def path(self, name: str) -> Path | None:
        """The file of the manager's profile of a name; None: the manager has none of this name."""
        return self._own.get(name)


def examined(path: Path) -> Profile | tuple[Problem, ...]:
    """The profile in a file, or all its problems. Raises ConfigError if it cannot be read."""
    text, name = read_text(path), str(path)
    try:
        tree = read(text)
    except YamlUnreadable as error:
        return (at(error.place, name, "", harmless(error.what)),)
    report = ProblemReport(name, tree)
    try:
        made = _made(report, tree, path)
    except Enough:
        return report.problems()
    return report.problems() or with_manners(made)


def _made(report: ProblemReport, tree: Tree, path: Path) -> Profile:
    report.tree()
    made = report.build(Profile, tree.data, ())
    if made is None:
        raise Enough
    if path.name.removesuffix(SUFFIX) in profiles():
        report.value((), _("gardien has a profile with this name: rename the file"))
    profilecheck(report, made)
    return made


def examined_recording(path: Path, made: Profile | None = None) -> Recording | tuple[Problem, ...]:
    """The recording in a file, tested with its profile, or all its problems.

    `made`: its profile; None: the one that it names. Raises ConfigError if it cannot be read.
    """
    # a daemon has a recording rarely, and the model takes memory
    from agent.config.recording import Recording  # noqa: PLC0415

    name = str(path)
    try:
        tree = read(read_text(path))
    except YamlUnreadable as error:
        return (at(error.place, name, "", harmless(error.what)),)
    report = ProblemReport(name, tree)
    try:
        report.tree()
        result = report.build(Recording, tree.data, ())
        if result is not None:
            _rehearse_recording(report, result, made or _profile_of(report, path, result))
    except Enough:
        result = None
    return report.problems() or (result if result is not None else ())


def _profile_of(report: ProblemReport, path: Path, result: Recording) -> Profile | None:
    shelf = Profiles(path.parent)
    if result.profile not in shelf.names():
        report.value(("profile",), _("no profile {profile}", profile=shown(result.profile)))
        return None
    made = shelf.take(result.profile)
    if not isinstance(made, Profile):
        report.value(("profile",), _("has mistakes: gardien profile check"))
        return None
    return made


def _rehearse_recording(report: ProblemReport, result: Recording, made: Profile | None) -> None:
    """Read the recorded cells with a profile, and compare them with the display."""
    from agent.config.recording import agrees, differs  # noqa: PLC0415 -- see examined_recording

    if made is None:
        return
    (speaks, *_others) = [driver(name) for name in DRIVERS if family(name) == family(made.driver)]
    offers = {**made.points, **({"serial": made.serial} if made.serial else {})}
    # `at` has the manners of the profile already
    _Check(report, replace(made, manners="", test=result.test), speaks).rehearse(offers)
    reads = result.test.get("reads", {})
    for name, display in result.display.items():
        offer, value = made.points.get(name), _exact(reads.get(name))
        if offer is None:
            report.key(("display", name), _no_point(name, made.points))
        elif not isinstance(value, Decimal):
            report.key(("display", name), _("the recording has no value of {name}", name=name))
        elif not agrees(name, offer, value, display):
            why = differs(reads[name], display, offer.unit)
            report.value(("display", name), in_language(why))


def rehearsed(made: Profile, test: Mapping[str, Any]) -> list[Sample]:
    """What the points of a profile, and its serial number, are read as from the cells of a test."""
    speaks = next(driver(name) for name in DRIVERS if family(name) == family(made.driver))
    if not issubclass(speaks, Rehearses):
        return []
    offers = {**made.points, **({"serial": made.serial} if made.serial else {})}
    points = [
        Point("profile", name, ADDRESS, offer.at, 60, unit=offer.unit)
        for name, offer in offers.items()
    ]
    return speaks.rehearse(test, points)


def whole_recording(path: Path) -> Recording:
    """The recording in a file. Raises ConfigError with all its problems."""
    result = examined_recording(path)
    if isinstance(result, tuple):
        raise refusal(result)
    return result


def whole(path: Path) -> Profile:
    """The profile in a file. Raises ConfigError with all its problems."""
    result = examined(path)
    if isinstance(result, Profile):
        return result
    raise refusal(result)
