"""The sections of the configuration file: each option with its meaning, default and example.

A line names a driver and an uplink names a transport; their own models have the other options.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from agent.config.problem import did_you_mean, misspelt, or_list
from agent.control import schedule
from agent.core.errors import Refused
from agent.core.i18n import N_, Text, _, text_of
from agent.core.quantities import channels, units
from agent.core.settings import Bytes, Duration, FromTheRoot, Secret, shown, written
from agent.drivers import DRIVERS, driver
from agent.drivers.profile import Profile
from agent.registry import parsers
from agent.registry.aggregate import FEWEST, FLOOR, STEPS
from agent.registry.place import parse
from agent.uplink.budget import Allowance
from agent.uplink.files.settings import address, check_way

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = re.compile(r"[^\W_][\w-]{0,63}")
ILL_NAMED = N_("a name has letters, digits, - and _ only, at most 64 of them")
OTHER_SPELLINGS = {"°C": "Cel", "C": "Cel", "degC": "Cel", "m³": "m3", "L": "l", "°": "deg"}
TRANSPORTS = {
    "files": "agent.uplink.files.settings:Settings",
    "https": "agent.uplink.https.settings:Settings",
    "mqtt": "agent.uplink.mqtt.settings:Settings",
}
"""the name of a transport, and where its settings model is"""
FORMAT = 1
"""the present format number of the file; see `migrate`"""
DAY = 86_400
SHORTEST = 4
"""a city without its continent is corrected only if it has more letters: `CEST` is not `West`"""
SHORT = 11
"""most characters of a label such as A-3-12; a place id has more, even with a typing error"""
REACHABLE = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+|\+?[0-9][0-9 ().-]{5,}[0-9]", re.ASCII)
"""an e-mail address or a telephone number"""
ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


ShortText = Annotated[str, Field(min_length=1, max_length=200)]


def no_unit(unit: str) -> str:
    """The text for an unknown unit, with the one that may be meant."""
    other = OTHER_SPELLINGS.get(unit)
    near = _('; did you mean "{other}"?', other=other) if other else did_you_mean(unit, units())
    return _(
        "no unit {unit}{near}",
        unit=shown(unit),
        near=near or _(", known are such as kWh, W, m3, Cel, %RH"),
    )


def driver_word(name: str) -> str:
    """Return the name if it is a driver's. Raises ValueError with a similar name."""
    if name not in DRIVERS:
        raise ValueError(_unknown(N_("driver"), name, DRIVERS))
    return name


def transport_word(name: str) -> str:
    """Return the name if it is a transport's. Raises ValueError with a similar name."""
    if name not in TRANSPORTS:
        raise ValueError(_unknown(N_("transport"), name, TRANSPORTS))
    return name


def driver_settings(name: object) -> type[BaseModel] | None:
    """The settings model of a driver; None: there is no driver of this name."""
    if not isinstance(name, str) or name not in DRIVERS:
        return None
    return cast("type[BaseModel]", driver(name).Settings)


def transport_settings(name: object) -> type[BaseModel] | None:
    """The settings model of a transport; None: there is no transport of this name."""
    if not isinstance(name, str) or name not in TRANSPORTS:
        return None
    module, _, attribute = TRANSPORTS[name].partition(":")
    return cast("type[BaseModel]", getattr(import_module(module), attribute))


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = did_you_mean(name, names) or _("; there is {names}", names=or_list(names))
    return _("no {kind} {word}{near}", kind=_(kind), word=shown(name), near=near)


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
        raise ValueError(Text("{error}; {hint}", error=error, hint=hint)) from error


def _building(text: str) -> str:
    return _place_of(text, "B")


def _place_of(text: str, prefixes: str) -> str:
    try:
        return parse(text, prefixes)
    except Refused as error:
        raise ValueError(text_of(error)) from error


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = _zone_meant(name)
        raise ValueError(Text("no time zone {name}{near}", name=shown(name), near=near)) from None
    return name


def _zone_meant(name: str) -> str:
    """The zone whose name was misspelt, or else the command that lists all zones."""
    known = sorted(available_timezones())
    area, _slash, city = name.replace(" ", "_").lower().rpartition("/")
    guessed = bool(area) or (len(city) > SHORTEST and not any(map(str.isdigit, city)))
    near = []
    for zone in known:
        its_area, _slash, its_city = zone.lower().rpartition("/")
        # who writes GMT+1 means an hour ahead of UTC, and Etc/GMT+1 is an hour behind it
        if its_area == "etc":
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
    """The next steps below and above that divide a day, in whole hours or minutes if possible."""
    unit = next(unit for unit in (3600, 60, 1) if seconds >= unit)
    fits = [step for step in range(unit, DAY + 1, unit) if DAY % step == 0]
    return max(step for step in fits if step <= seconds), min(s for s in fits if s >= seconds)


def _every(seconds: float) -> int:
    """Check that a step divides a day, so that its slots have the same times each day."""
    if seconds < 1:
        raise ValueError(Text("must be at least 1s, the shortest step"))
    if seconds > DAY:
        raise ValueError(Text("must be at most 1d: a device is read at least once a day"))
    if seconds != int(seconds) or DAY % int(seconds):
        below, above = _fitting(seconds)
        raise ValueError(
            Text(
                "a day cannot be divided into equal steps of {seconds}: write {below} or {above}",
                seconds=written(seconds),
                below=written(below),
                above=written(above),
            )
        )
    return int(seconds)


def _address(value: object) -> object:
    # YAML reads the Modbus address 12 as a number; true and false are no addresses
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _date(value: object) -> dt.date:
    if not isinstance(value, str) or not ISO_DATE.fullmatch(value):
        raise ValueError(
            Text("expected a date such as 2026-07-12, found {value}", value=shown(value))
        )
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise ValueError(Text("no such day: {value}", value=shown(value))) from None


def _scale(value: Decimal) -> Decimal:
    if not value.is_finite() or value == 0:
        raise ValueError(Text("a scale is a number other than 0, found {value}", value=value))
    return value


def _positive(value: Decimal) -> Decimal:
    if not value.is_finite() or value <= 0:
        raise ValueError(Text("expected a number above 0, found {value}", value=value))
    return value


def _format(number: int) -> int:
    if number > FORMAT:
        raise ValueError(
            Text(
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
            Text(
                "expected an e-mail address or a telephone number, such as"
                ' "donnees@regie.example" or "+33 4 76 00 00 00"'
            )
        )
    return text


def _summed(channel: str) -> str:
    if channel not in STEPS:
        raise ValueError(
            Text("{channel} does not add up over dwellings; these do: {names}",
              channel=shown(channel), names=or_list(STEPS))
        )  # fmt: skip
    return channel


def _recipient(name: str) -> str:
    try:
        return parsers.recipient(name)
    except Refused as error:
        raise ValueError(text_of(error)) from error


def _personal(name: str) -> str:
    known = [one.name for one in channels().values() if one.en is not None]
    if name not in known:
        raise ValueError(
            Text("{channel} is no quantity for which people are asked{near}; these are: {names}",
              channel=shown(name), near=did_you_mean(name, known), names=", ".join(known))
        )  # fmt: skip
    return name


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _window(text: str) -> str:
    schedule.window(text)
    return text


Summed = Annotated[str, AfterValidator(_summed)]


Every = Annotated[Duration, AfterValidator(_every)]


class Section(BaseModel):
    """One mapping of the file. It cannot be changed; an unknown option is an error (rule U2)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True
    )


class Roles(Section):
    """Who has which role on the local socket, in addition to the members of the groups
    `gardien-ROLE`: accounts of this computer, and its groups with `%` before the name; see
    docs/install.md.
    """

    installer: tuple[ShortText, ...] = Field((), examples=[["marie"]])
    """may change lines, devices, meters, uplinks and keys; may not see consents"""
    manager: tuple[ShortText, ...] = Field((), examples=[["alice", "%syndic"]])
    """may change places, occupancies and consents; may not change keys"""
    operator: tuple[ShortText, ...] = Field((), examples=[["%chauffage"]])
    """may command and release equipment and opt it out; may not see consents"""
    dpo: tuple[ShortText, ...] = Field((), examples=[["dupont"]])
    """the data protection officer: may see and export data, withdraw consents; may not command"""
    reader: tuple[ShortText, ...] = Field((), examples=[["paul"]])
    """may see the status of the gateway, but no data of dwellings"""


class Building(Section):
    """The building in which this gateway is installed."""

    name: ShortText = Field(examples=["Résidence Les Alpins"])
    """what people call the building"""
    place: Annotated[str, AfterValidator(_building)] | None = Field(
        None, examples=["B6ASQ-Z1Y2K-SAA3Y"]
    )
    """the building's own place id, if it has one"""
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        "Europe/Paris", examples=["Europe/Paris"]
    )
    """the building's time zone; its days begin at midnight in this zone"""
    shared_accounts: tuple[ShortText, ...] = Field((), examples=[["installer"]])
    """accounts of this computer that several people use, in addition to root and gardien; whoever
    changes something from one of them, or views data of a dwelling, must give a name"""
    roles: Roles = Field(Roles(), examples=[{"manager": ["alice"]}])
    """who has which role on the local socket, in addition to root and the groups `gardien-ROLE`"""


class PointOptions(Section):
    """One value of a device. Options that the device's profile sets may be left out."""

    at: ShortText | None = Field(None, examples=["input/72/float32"])
    """the address of the value on the device, in the driver's notation"""
    channel: ShortText | None = Field(None, examples=["elec.imp"])
    """gardien's name of the quantity; a value without a channel is never sent"""
    unit: ShortText | None = Field(None, examples=["kWh"])
    """the unit of the raw value after multiplication by `scale`"""
    scale: Annotated[Decimal, AfterValidator(_scale)] | None = Field(None, examples=["0.001"])
    """the factor by which the raw value is multiplied"""
    every: Every | None = Field(None, examples=["15min"])
    """how often it is read; default: as often as the device"""
    rating: Annotated[Decimal, AfterValidator(_positive)] | None = Field(None, examples=["9"])
    """the largest possible increase in an hour, in the channel's unit (kWh in an hour = kW); an
    index that rises faster is marked as suspect"""
    rolls_at: Annotated[Decimal, AfterValidator(_positive)] | None = Field(
        None, examples=["100000"]
    )
    """the value at which the index starts again from 0, in the channel's unit; default: a power of
    ten"""
    writable: bool = Field(False, examples=[True])
    """whether the controls under `controls` may write it; nothing else ever writes"""
    intervals: bool = Field(False, examples=[True])
    """whether the consumption in each step is sent in addition to the index"""
    mean: Every | None = Field(None, examples=["1h"])
    """the step over which a mean is sent in addition to the momentary value, which is read more
    often"""


class DeviceOptions(Section):
    """A meter, sensor or controller on a line. The registry records which dwelling it measures."""

    link: ShortText = Field(examples=["plant"])
    """the name of its line under `links`"""
    address: Annotated[ShortText, BeforeValidator(_address, json_schema_input_type=str | int)] = (
        Field(examples=["12"])
    )
    """its address on the line"""
    profile: ShortText | None = Field(None, examples=["eastron-sdm120"])
    """the profile of its make, which says where its values are"""
    every: Every = Field(900, examples=["15min"])
    """how often it is read; the step must divide a day"""
    reads_a_day: Annotated[int, Field(ge=1)] | None = Field(None, examples=[24])
    """how many readings a day its battery allows; default: as in its profile"""
    place: Annotated[str, AfterValidator(_place)] | None = Field(
        None, examples=["CZS2Y-FSTBQ-Q5WDC"]
    )
    """the common area (`C…`) or building (`B…`) that it measures; never a dwelling"""
    points: dict[str, PointOptions] = Field({}, examples=[{"power": {"every": "1min"}}])
    """values by name: further ones of the profile, or others that give their `at`"""


class DeviceConfig(DeviceOptions):
    """A device together with its profile."""

    made: Profile | None = None
    """None: it names no profile, or one that is missing or invalid"""


class LinkOptions(Section):
    """A field bus or host connection; the options of its driver are in the same mapping."""

    driver: Annotated[str, AfterValidator(driver_word)] = Field(examples=["modbus-tcp"])
    """the driver of this line, which determines its protocol"""


class LinkConfig(LinkOptions):
    """A line together with the settings of its driver."""

    settings: Any
    """an instance of the driver's `Settings`"""


class UplinkOptions(Section):
    """One recipient of readings; the options of its transport are in the same mapping."""

    transport: Annotated[str, AfterValidator(transport_word)] = Field(examples=["mqtt"])
    """how batches are delivered"""
    data: Allowance | None = Field(None, examples=["50MB/month"])
    """the data budget of the line; batches are sent less often to stay within it"""
    withheld: bool = Field(False, examples=[True])
    """whether data of a dwelling that may not be sent are replaced by rows with the reason and
    without a value"""
    unproven: Literal["flag", "withhold"] = Field("flag", examples=["withhold"])
    """what is sent of energy or volume of a dwelling while the factor of its meter is not proven:
    the value with a flag, or the reason without a value; see docs/modbus.md"""
    sums: tuple[Summed, ...] = Field((), examples=[["elec.imp", "heat"]])
    """quantities that are sent as a sum over the dwellings that are not sent one by one; see
    docs/dwellings.md
    """
    carry_for: tuple[FromTheRoot, ...] = Field(
        (), max_length=10, examples=[["/etc/gardien/platform.crt"]]
    )
    """the certificates (PEM) of those who can open batches that a person carries on a stick; by
    default `encrypt_for`"""


class UplinkConfig(UplinkOptions):
    """One recipient together with the settings of its transport."""

    settings: Any
    """an instance of the transport's settings model, which has at least `recipient` and `seal`"""


class CommonPlant(Section):
    """The legal basis for sending readings of common plant."""

    basis: ShortText = Field(examples=["AG du 12 mai 2026, résolution 14"])
    """the vote or contract that permits it"""
    from_: Annotated[dt.date, BeforeValidator(_date)] = Field(alias="from", examples=["2026-07-12"])
    """the first day on which they may be sent"""


class Contact(Section):
    """The controller of the data, or the data protection officer."""

    name: ShortText = Field(examples=["Régie Dupont"])
    """a person, a company or an office"""
    address: ShortText | None = Field(None, examples=["12 rue des Lilas, 38000 Grenoble"])
    """the postal address"""
    contact: Annotated[ShortText, AfterValidator(_reachable)] = Field(
        examples=["donnees@regie.example"]
    )
    """an e-mail address or a telephone number"""


class Translations(Section):
    """One text in both languages."""

    fr: ShortText = Field(examples=["comparer deux hivers"])
    en: ShortText = Field(examples=["comparing two winters"])


class FormQuestion(Section):
    """One question on the consent forms: recipient, purpose, data and duration."""

    recipient: Annotated[str, AfterValidator(_recipient)] = Field(
        examples=["energie.metropole.example"]
    )
    """the DNS name of the recipient"""
    name: ShortText = Field(examples=["Métropole de Grenoble, service de l'énergie"])
    """what people call the recipient"""
    purpose: ShortText = Field(examples=["conseil"])
    """the purpose as it is recorded; exactly one"""
    words: Translations
    """a sentence that explains the purpose to the occupants"""
    channels: Annotated[
        tuple[Annotated[str, AfterValidator(_personal)], ...], AfterValidator(_each_once)
    ] = Field(min_length=1, examples=[["heat"]])
    """the quantities, by the names of channels for which people are asked"""
    scope: Literal["monthly", "daily", "loadcurve"] = Field("daily", examples=["daily"])
    """the step: an index each month, an index each day, or a value every half hour"""
    months: Annotated[int, Field(ge=1, le=36)] = Field(36, examples=[24])
    """how many months the consent lasts"""
    why: Translations
    """a sentence that explains the duration to the occupants"""


class Forms(Section):
    """The consent forms; see docs/forms.md."""

    asks: tuple[FormQuestion, ...] = Field(min_length=1, max_length=20)
    """the questions, in the order in which they are printed"""
    french: FromTheRoot | None = Field(None, examples=["/etc/gardien/formulaire.html"])
    """your own template for the French form"""
    english: FromTheRoot | None = Field(None, examples=["/etc/gardien/form.html"])
    """your own template for the English form"""


class Privacy(Section):
    """The limits of what may be sent at all."""

    policy: Literal["FR-1", "DEMO-1"] = Field("FR-1", examples=["FR-1"])
    """the set of limits that no consent can exceed; DEMO-1 is for demonstrations only"""
    common: CommonPlant | None = Field(
        None, examples=[{"basis": "AG du 12 mai", "from": "2026-07-12"}]
    )
    """the legal basis for sending readings of common plant; without it they are not sent"""
    fewest: Annotated[int, Field(ge=FLOOR)] = Field(FEWEST, examples=[15])
    """the least number of dwellings in a sum that may be sent"""
    controller: Contact | None = Field(
        None, examples=[{"name": "Régie Dupont", "contact": "donnees@regie.example"}]
    )
    """the controller of the data (GDPR, article 4), printed on forms, letters and registers"""
    dpo: Contact | None = Field(
        None, examples=[{"name": "Claire Martin", "contact": "dpo@regie.example"}]
    )
    """the data protection officer"""
    forms: Forms | None = None
    """the questions of the consent forms"""

    @property
    def names(self) -> dict[str, str]:
        """What people call the recipients, as far as the consent forms name them."""
        asks = self.forms.asks if self.forms else ()
        return {one.recipient: one.name for one in reversed(asks)}


class ClockSource(Section):
    """The source of the time."""

    source: Literal["ntp", "system"] = Field("ntp", examples=["ntp"])
    """`ntp`: the clock is trusted once a time service keeps it; `system`: the computer's clock is
    trusted as it is, for demonstrations only"""


class SpoolLimits(Section):
    """The stores in which readings wait for their recipients, one for each."""

    max: Annotated[Bytes, Field(ge=4_000_000)] = Field(200_000_000, examples=["200MB"])
    """the largest size of the file of one recipient"""
    reserve: Annotated[Bytes, Field(ge=0)] = Field(50_000_000, examples=["50MB"])
    """the space on the disk that readings leave free: for consents, orders, receipts, decisions"""
    flush: Annotated[Duration, Field(ge=0.1, le=60)] = Field(5.0, examples=["5s"])
    """how long a reading may wait in memory before it is written to the disk; at most the `seal` of
    each uplink
    """
    keep: Annotated[Duration, Field(ge=0)] = Field(14 * DAY, examples=["14d"])
    """how long a batch is kept after its receipt, so that it can be sent again"""


class Backup(Section):
    """The backup, which is written after each change that people record; see docs/replace.md."""

    to: FromTheRoot = Field(examples=["/etc/gardien/recovery.crt"])
    """the recovery certificate (PEM), whose key is kept in a safe"""
    folder: FromTheRoot | None = Field(None, examples=["/media/backup"])
    """the folder to which it is written: on a stick, or for another machine to fetch it from"""
    uplinks: tuple[str, ...] | None = Field(None, examples=[["metropole"]])
    """the uplinks whose platforms keep a copy; default: all; []: none"""


class Updates(Section):
    """Automatic upgrades of this gateway; without this section only people upgrade it."""

    ring: Annotated[int, Field(ge=0, le=3)] = Field(2, examples=[2])
    """how long after its publication a version is installed: 0 at once, 1 after a day, 2 after four
    days, 3 after two weeks
    """
    window: Annotated[str, AfterValidator(_window)] = Field(
        "01:00-05:00", examples=["Mon-Fri 01:00-05:00"]
    )
    """the hours in which it may be installed, in local time of the building"""


class Top(Section):
    """The options at the top of the file, outside the sections."""

    format: Annotated[int, Field(ge=0), AfterValidator(_format)] = Field(FORMAT, examples=[1])
    """the format number of this file; `gardien config migrate` upgrades an older file"""
    state: FromTheRoot = Field(Path("/var/lib/gardien"), examples=["/var/lib/gardien"])
    """the folder for everything that gardien stores: keys, registry, readings that wait"""


class SyndicColumns(Section):
    """The columns of the export: gardien's name on the left, the heading on the right.

    Columns that are not named here are not read.
    """

    dwelling: ShortText = Field(examples=["N° lot"])
    """the dwelling, by its label or an alias"""
    reference: ShortText | None = Field(None, examples=["N° bail"])
    """the number of the lease"""
    since: ShortText | None = Field(None, examples=["Date d'entrée"])
    """the first day of the lease"""
    until: ShortText | None = Field(None, examples=["Date de sortie"])
    """the end of the lease; an empty cell: no end"""
    move: ShortText | None = Field(None, examples=["Mouvement"])
    """in a list of moves: a move in or a move out"""
    date: ShortText | None = Field(None, examples=["Date du mouvement"])
    """in a list of moves: the date"""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        leases, moves = (self.reference, self.since, self.until), (self.move, self.date)
        if not all(leases) and not all(moves):
            raise ValueError(
                Text(
                    "a list of leases has `reference`, `since` and `until`, one of moves `move` and"
                    " `date`: write all of one of them"
                )
            )
        if (any((self.since, self.until)) and not all(leases)) or (any(moves) and not all(moves)):
            raise ValueError(
                Text("`reference`, `since` and `until` go together, and so do `move` and `date`")
            )
        written = [heading.casefold() for heading in self.headings.values()]
        if len(set(written)) < len(written):
            raise ValueError(Text("two columns have one heading"))
        return self

    @property
    def headings(self) -> dict[str, str]:
        """The configured headings, by gardien's name of the column."""
        headings = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: heading for name, heading in headings.items() if heading}


class Syndic(Section):
    """The building manager's software, which exports leases and moves as CSV files."""

    path: FromTheRoot | None = Field(None, examples=["/var/spool/syndic"])
    """the folder on this machine to which the software writes"""
    url: Annotated[str, AfterValidator(address)] | None = Field(
        None, examples=["sftp://gateway-7@sftp.syndic.example/exports"]
    )
    """instead of `path`: the SFTP server and folder from which the files are fetched"""
    host_key: str = Field(
        "",
        max_length=2_000,
        examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Wm5mEr0V9b2Xk8aQ2V7tZ4d1n6Yc3uHs5Lq8R"],
    )
    """the server's public key as `ssh-keyscan` shows it; compare it with its operator"""
    key: Secret | None = Field(None, examples=["credential:gardien_syndic-key"])
    """where our private key for the server is stored; it must have no passphrase"""
    timeout: Annotated[Duration, Field(ge=0.1, le=600)] = Field(30.0, examples=["30s"])
    """how long to wait for an answer of the server until the connection is lost"""
    files: ShortText = Field("*.csv", examples=["baux*.csv"])
    """the pattern of the names of files that are read"""
    every: Annotated[Duration, Field(ge=1, le=DAY)] = Field(3600.0, examples=["1h"])
    """how often gardien looks for a new export"""
    overdue: Annotated[Duration, Field(ge=3600)] = Field(3.0 * DAY, examples=["3d"])
    """the time without a new export after which `gardien status` has an alarm"""
    columns: SyndicColumns = Field(
        examples=[{"dwelling": "Lot", "reference": "Bail", "since": "Entrée", "until": "Sortie"}]
    )
    """the headings of the columns"""
    last_day: bool = Field(False, examples=[True])
    """whether `until` and the date of a move out give the last day of the occupancy; otherwise they
    give the day after it"""
    move_in: tuple[ShortText, ...] = Field(
        ("entrée", "emménagement", "move in", "in"), examples=[["E"]]
    )
    """values of the column `move` that mean a move in"""
    move_out: tuple[ShortText, ...] = Field(
        ("sortie", "déménagement", "move out", "out"), examples=[["S"]]
    )
    """values of the column `move` that mean a move out"""
    only: dict[ShortText, tuple[ShortText, ...]] = Field({}, examples=[{"Immeuble": ["0457"]}])
    """values by heading: only rows with one of them are read, such as those of this building; the
    others are only counted"""
    late: Annotated[Duration, Field(ge=0)] = Field(3.0 * DAY, examples=["3d"])
    """a change with an older date waits for a person's decision if readings that it concerns have
    been sent since that date"""

    @model_validator(mode="after")
    def _together(self) -> Self:
        check_way(self.url, self.path, self.host_key, self.key)
        read = {heading.casefold() for heading in self.columns.headings.values()}
        for heading in self.only:
            if heading.casefold() in read:
                raise ValueError(
                    Text(
                        "{heading} stands under `columns`, too: `only` is for other columns",
                        heading=shown(heading),
                    )
                )
        return self
