"""What the file may say, section by section: each option with its meaning, default and example.

Links and uplinks name a driver or transport, whose own settings model has the rest of the options.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal  # noqa: TC003 -- pydantic reads it
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from agent.channels import channels
from agent.config.known import driver_word, transport_word
from agent.config.problem import did_you_mean, misspelt, or_list
from agent.control import hours
from agent.drivers.profile import Profile  # noqa: TC001 -- pydantic reads it
from agent.errors import Refused
from agent.i18n import _
from agent.registry import fields
from agent.registry.aggregate import FEWEST, FLOOR, STEPS
from agent.registry.place import parse
from agent.settings import Bytes, Duration, FromTheRoot, shown, written
from agent.uplink.budget import Allowance  # noqa: TC001 -- pydantic reads it

FORMAT = 1
"""of the file, by its number; see `migrate`"""
DAY = 86_400
SHORTEST = 4
"""letters of a city without its continent that may be misspelt: `CEST` is not `West`"""
SHORT = 11
"""characters that a label may have, and an id with a typing error has not"""
REACHABLE = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+|\+?[0-9][0-9 ().-]{5,}[0-9]", re.ASCII)
"""an e-mail address or a telephone number"""
ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _place(text: str) -> str:
    try:
        return _place_of(text, "DCB")
    except ValueError as error:
        if len(text) > SHORT:
            raise
        hint = _(
            "meters of dwellings are assigned in the registry, not here: gardien meter"
            " import, or gardien meter assign"
        )
        raise ValueError(f"{error}; {hint}") from error


def _building(text: str) -> str:
    return _place_of(text, "B")


def _place_of(text: str, prefixes: str) -> str:
    try:
        return parse(text, prefixes)
    except Refused as error:
        raise ValueError(str(error)) from error


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = _zone_meant(name)
        raise ValueError(_("no time zone {name}{near}", name=shown(name), near=near)) from None
    return name


def _zone_meant(name: str) -> str:
    """What to write instead: the zone whose name was misspelt, else where they are listed."""
    known = sorted(available_timezones())
    area, _slash, city = name.replace(" ", "_").lower().rpartition("/")
    guessed = bool(area) or (len(city) > SHORTEST and not any(map(str.isdigit, city)))
    near = []
    for zone in known:
        its_area, _slash, its_city = zone.lower().rpartition("/")
        if its_area == "etc":  # Etc/GMT+1 is an hour behind, not ahead
            continue
        alike = misspelt(city, its_city) if guessed else city == its_city
        if alike and (not area or misspelt(area, its_area)):
            near.append((its_city != city, zone))
    if near:
        return _('; did you mean "{other}"?', other=min(near)[1])
    return _(
        '; not every city has one. For France write "Europe/Paris"; for a list:'
        " timedatectl list-timezones"
    )


def _fitting(seconds: float) -> tuple[int, int]:
    """Find the steps below and above that do cut a day, in whole hours or minutes where it can."""
    unit = next(unit for unit in (3600, 60, 1) if seconds >= unit)
    fits = [step for step in range(unit, DAY + 1, unit) if DAY % step == 0]
    return max(step for step in fits if step <= seconds), min(s for s in fits if s >= seconds)


def _every(seconds: float) -> int:
    """Cut a day into equal slots, so that every slot has the same time each day."""
    if seconds < 1:
        raise ValueError(_("must be at least 1s, the shortest step"))
    if seconds > DAY:
        raise ValueError(_("must be at most 1d: a device is read at least once a day"))
    if seconds != int(seconds) or DAY % int(seconds):
        below, above = _fitting(seconds)
        raise ValueError(
            _(
                "a day cannot be divided into equal steps of {seconds}: write {below} or {above}",
                seconds=written(seconds),
                below=written(below),
                above=written(above),
            )
        )
    return int(seconds)


def _address(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _date(value: object) -> dt.date:
    if not isinstance(value, str) or not ISO_DATE.fullmatch(value):
        raise ValueError(_("expected a date such as 2026-07-12, found {value}", value=shown(value)))
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise ValueError(_("no such day: {value}", value=shown(value))) from None


def _scale(value: Decimal) -> Decimal:
    if not value.is_finite() or value == 0:
        raise ValueError(_("a scale is a number other than 0, found {value}", value=value))
    return value


def _positive(value: Decimal) -> Decimal:
    if not value.is_finite() or value <= 0:
        raise ValueError(_("expected a number above 0, found {value}", value=value))
    return value


def _format(number: int) -> int:
    if number > FORMAT:
        raise ValueError(
            _(
                "this file is for a newer gardien (format {number}; this one reads {format}):"
                " upgrade gardien, or restore the file that it kept",
                number=number,
                format=FORMAT,
            )
        )
    return number


def _reachable(text: str) -> str:
    if not REACHABLE.fullmatch(text):
        raise ValueError(
            _(
                "expected an e-mail address or a telephone number, such as"
                ' "donnees@regie.example" or "+33 4 76 00 00 00"'
            )
        )
    return text


def _summed(channel: str) -> str:
    if channel not in STEPS:
        raise ValueError(
            _("{channel} does not add up over dwellings; these do: {names}",
              channel=shown(channel), names=or_list(STEPS))
        )  # fmt: skip
    return channel


def _recipient(name: str) -> str:
    try:
        return fields.recipient(name)
    except Refused as error:
        raise ValueError(str(error)) from error


def _personal(name: str) -> str:
    known = [one.name for one in channels().values() if one.en is not None]
    if name not in known:
        raise ValueError(
            _("{channel} is no quantity for which people are asked{near}; these are: {names}",
              channel=shown(name), near=did_you_mean(name, known), names=", ".join(known))
        )  # fmt: skip
    return name


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _window(text: str) -> str:
    hours.window(text)
    return text


Summed = Annotated[str, AfterValidator(_summed)]
Every = Annotated[Duration, AfterValidator(_every)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class Section(BaseModel):
    """One mapping of the file: frozen, and a word it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True
    )


class Roles(Section):
    """Who has which role at the local door, beside the members of the groups `gardien-ROLE`:
    accounts of this computer by name, and groups of it with a `%` before: docs/install.md.
    """

    installer: tuple[Text, ...] = Field((), examples=[["marie"]])
    """lines, devices, meters, uplinks, keys; no consents"""
    manager: tuple[Text, ...] = Field((), examples=[["alice", "%syndic"]])
    """places, people, consents; no keys"""
    operator: tuple[Text, ...] = Field((), examples=[["%chauffage"]])
    """commands, releases and opts out plant; sees no consents"""
    dpo: tuple[Text, ...] = Field((), examples=[["dupont"]])
    """the data protection officer: sees, exports, withdraws; commands nothing"""
    reader: tuple[Text, ...] = Field((), examples=[["paul"]])
    """sees how the gateway is, and nothing of dwellings"""


class Building(Section):
    """The building this gateway stands in."""

    name: Text = Field(examples=["Résidence Les Alpins"])
    """what people call the building"""
    place: Annotated[str, AfterValidator(_building)] | None = Field(
        None, examples=["B6ASQ-Z1Y2K-SAA3Y"]
    )
    """the building's own place id, where it has one"""
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        "Europe/Paris", examples=["Europe/Paris"]
    )
    """the building's time zone: its days begin at midnight there"""
    shared_accounts: tuple[Text, ...] = Field((), examples=[["installer"]])
    """accounts of this computer that several people use, beside root and gardien: whoever changes
    anything from one of them, or sees what is of a dwelling, gives a name"""
    roles: Roles = Field(Roles(), examples=[{"manager": ["alice"]}])
    """who may ask what at the local door, beside root and the groups `gardien-ROLE`"""


class PointOptions(Section):
    """One value on a device. What the device's profile says need not be said again."""

    at: Text | None = Field(None, examples=["input/72/float32"])
    """where the value is on the device, in the driver's notation"""
    channel: Text | None = Field(None, examples=["elec.imp"])
    """the quantity, in gardien's name for it; without one the value is never sent to anybody"""
    unit: Text | None = Field(None, examples=["kWh"])
    """of the raw value times `scale`"""
    scale: Annotated[Decimal, AfterValidator(_scale)] | None = Field(None, examples=["0.001"])
    """what the raw value is multiplied by"""
    every: Every | None = Field(None, examples=["15min"])
    """how often it is read; as the device, if not said"""
    rating: Annotated[Decimal, AfterValidator(_positive)] | None = Field(None, examples=["9"])
    """the most that can flow in an hour, in the channel's unit (kWh in an hour = kW): an index that
    rises faster is marked suspect"""
    rolls_at: Annotated[Decimal, AfterValidator(_positive)] | None = Field(
        None, examples=["100000"]
    )
    """where the index begins again at 0, in the channel's unit; a power of ten, if not said"""
    writable: bool = Field(False, examples=[True])
    """whether it may be commanded, by what stands under `controls` alone"""
    intervals: bool = Field(False, examples=[True])
    """whether the consumption of each step is sent beside the index"""
    mean: Every | None = Field(None, examples=["1h"])
    """over how long a mean is sent beside a momentary value that is read more often"""


class DeviceOptions(Section):
    """A meter, sensor or controller on a line. Whose it is stands in the registry, not here."""

    link: Text = Field(examples=["plant"])
    """the line it is on, by its name under `links`"""
    address: Annotated[Text, BeforeValidator(_address, json_schema_input_type=str | int)] = Field(
        examples=["12"]
    )
    """its address on that line"""
    profile: Text | None = Field(None, examples=["eastron-sdm120"])
    """what kind of device it is: tells where its values are"""
    every: Every = Field(900, examples=["15min"])
    """how often it is read; a day must be a whole number of such steps"""
    reads_a_day: Annotated[int, Field(ge=1)] | None = Field(None, examples=[24])
    """how often a day its battery lets it be read; as its profile, if not said"""
    place: Annotated[str, AfterValidator(_place)] | None = Field(
        None, examples=["CZS2Y-FSTBQ-Q5WDC"]
    )
    """the common plant (`C…`) or building (`B…`) that it measures, never a dwelling"""
    points: dict[str, PointOptions] = Field({}, examples=[{"power": {"every": "1min"}}])
    """its values, by name: further ones of the profile, or any others by their `at`"""


class DeviceConfig(DeviceOptions):
    """A device, with the profile that it names."""

    made: Profile | None = None
    """None: it names none, or one that is not there or not right"""


class LinkOptions(Section):
    """A field bus or host connection; beside these stand the driver's own options."""

    driver: Annotated[str, AfterValidator(driver_word)] = Field(examples=["modbus-tcp"])
    """what is spoken on this line"""


class LinkConfig(LinkOptions):
    """A line, with its driver's own settings."""

    settings: Any
    """an instance of the driver's `Settings`"""


class UplinkOptions(Section):
    """One recipient of readings; beside this stand the transport's own options."""

    transport: Annotated[str, AfterValidator(transport_word)] = Field(examples=["mqtt"])
    """how batches travel"""
    data: Allowance | None = Field(None, examples=["50MB/month"])
    """what the line may move; what is sent goes more slowly to keep within it"""
    withheld: bool = Field(False, examples=[True])
    """whether a row without value says where something of a dwelling is held back, and why"""
    sums: tuple[Summed, ...] = Field((), examples=[["elec.imp", "heat"]])
    """quantities of which the sum over all dwellings that are not sent one by one is sent:
    docs/dwellings.md
    """


class UplinkConfig(UplinkOptions):
    """One recipient, with its transport's own settings."""

    settings: Any
    """an instance of the transport's settings model: recipient, receipt and seal in any case"""


class CommonPlant(Section):
    """By what right readings of common plant leave the building."""

    basis: Text = Field(examples=["AG du 12 mai 2026, résolution 14"])
    """the vote or contract that says so"""
    from_: Annotated[dt.date, BeforeValidator(_date)] = Field(alias="from", examples=["2026-07-12"])
    """the first day on which they may leave"""


class Contact(Section):
    """Who is responsible for the data, or looks after their protection."""

    name: Text = Field(examples=["Régie Dupont"])
    """a person, a company or an office"""
    address: Text | None = Field(None, examples=["12 rue des Lilas, 38000 Grenoble"])
    """the postal address"""
    contact: Annotated[Text, AfterValidator(_reachable)] = Field(examples=["donnees@regie.example"])
    """an e-mail address or a telephone number"""


class Translations(Section):
    """The same in both languages."""

    fr: Text = Field(examples=["comparer deux hivers"])
    en: Text = Field(examples=["comparing two winters"])


class FormQuestion(Section):
    """One box of the consent forms: who wants what, what for, and for how long."""

    recipient: Annotated[str, AfterValidator(_recipient)] = Field(
        examples=["energie.metropole.example"]
    )
    """its DNS name"""
    name: Text = Field(examples=["Métropole de Grenoble, service de l'énergie"])
    """what people call the recipient"""
    purpose: Text = Field(examples=["conseil"])
    """as it is recorded: one purpose"""
    words: Translations
    """the purpose, in a sentence that people understand"""
    channels: Annotated[
        tuple[Annotated[str, AfterValidator(_personal)], ...], AfterValidator(_each_once)
    ] = Field(min_length=1, examples=[["heat"]])
    """quantities that the catalogue explains"""
    scope: Literal["monthly", "daily", "loadcurve"] = Field("daily", examples=["daily"])
    """how fine: one index a month, one a day, or every half hour"""
    months: Annotated[int, Field(ge=1, le=36)] = Field(36, examples=[24])
    """how long the consent lasts"""
    why: Translations
    """why that long"""


class Forms(Section):
    """Consent forms: docs/forms.md."""

    asks: tuple[FormQuestion, ...] = Field(min_length=1, max_length=20)
    """the boxes, in their order"""
    french: FromTheRoot | None = Field(None, examples=["/etc/gardien/formulaire.html"])
    """a template of your own for the page in French"""
    english: FromTheRoot | None = Field(None, examples=["/etc/gardien/form.html"])
    """and for the one in English"""


class Privacy(Section):
    """What may leave the building at all."""

    policy: Literal["FR-1", "DEMO-1"] = Field("FR-1", examples=["FR-1"])
    """the set of limits that no consent can go beyond; DEMO-1 is for a demonstration only"""
    common: CommonPlant | None = Field(
        None, examples=[{"basis": "AG du 12 mai", "from": "2026-07-12"}]
    )
    """by what right readings of common plant leave; without it they stay"""
    fewest: Annotated[int, Field(ge=FLOOR)] = Field(FEWEST, examples=[15])
    """how many dwellings a sum has at least that may leave"""
    controller: Contact | None = Field(
        None, examples=[{"name": "Régie Dupont", "contact": "donnees@regie.example"}]
    )
    """who is responsible for the data (GDPR, article 4): printed on forms, letters and registers"""
    dpo: Contact | None = Field(
        None, examples=[{"name": "Claire Martin", "contact": "dpo@regie.example"}]
    )
    """the data protection officer"""
    forms: Forms | None = None
    """what the consent forms ask for"""


class ClockSource(Section):
    """Whom to believe about the time."""

    source: Literal["ntp", "system"] = Field("ntp", examples=["ntp"])
    """`system` believes the computer's clock, for a demonstration on one machine only"""


class SpoolLimits(Section):
    """What is kept for each recipient until it has been received."""

    max: Annotated[Bytes, Field(ge=4_000_000)] = Field(200_000_000, examples=["200MB"])
    """the most that the file of one recipient may take"""
    reserve: Annotated[Bytes, Field(ge=0)] = Field(50_000_000, examples=["50MB"])
    """what readings leave free of the disk: for consents, orders, receipts and what is decided"""
    flush: Annotated[Duration, Field(ge=0.1, le=60)] = Field(5.0, examples=["5s"])
    """how long a reading may wait in memory before it is on disk; no longer than the `seal` of any
    uplink
    """
    keep: Annotated[Duration, Field(ge=0)] = Field(14 * DAY, examples=["14d"])
    """how long a batch is kept after its receipt"""


class Backup(Section):
    """The backup, written again after each change of what people recorded: docs/replace.md."""

    to: FromTheRoot = Field(examples=["/etc/gardien/recovery.crt"])
    """the recovery certificate (PEM); its key lies in a safe"""
    folder: FromTheRoot | None = Field(None, examples=["/media/backup"])
    """where it is written: a stick, or a folder that another machine fetches it from"""
    uplinks: tuple[str, ...] | None = Field(None, examples=[["metropole"]])
    """whose platforms keep it, too: all of them, if not said; none with []"""


class Updates(Section):
    """Whether and when the gateway brings itself up to date; without it, only people do."""

    ring: Annotated[int, Field(ge=0, le=3)] = Field(2, examples=[2])
    """how long after its publication a version is taken: 0 at once, 1 a day, 2 four days, 3 two
    weeks later
    """
    window: Annotated[str, AfterValidator(_window)] = Field(
        "01:00-05:00", examples=["Mon-Fri 01:00-05:00"]
    )
    """the hours in which it may, on the building's clock"""


class Top(Section):
    """What stands at the top of the file beside the sections."""

    format: Annotated[int, Field(ge=0), AfterValidator(_format)] = Field(FORMAT, examples=[1])
    """the form of this file; `gardien config migrate` brings an older one up to date"""
    state: FromTheRoot = Field(Path("/var/lib/gardien"), examples=["/var/lib/gardien"])
    """the folder for everything that is kept: keys, registry, readings on their way"""
