"""The section `controls:` of the configuration: what may be commanded, how far, and what guards it.

The version of the control sheet is a hash of these fields: to rename one, or to change a default,
is to change what was signed.
"""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from agent.control import schedule
from agent.control.model import SUPPLY, Failsafe, Guard, Limits, LossRule, Modality, split
from agent.core.i18n import Text, _
from agent.core.settings import Duration, shown

HOUR, DAY = 3600.0, 86_400.0
SWITCHES = ("pause", "mode")
"""actions that turn equipment off, which must not be switched too often"""
SHORTEST = 300.0
"""seconds between two switchings, if the configuration states no others"""
Role = Literal[
    "grid_operator", "building_manager", "boiler_operator", "residents_council", "occupant"
]
PHONE = re.compile(r"\+?[0-9][0-9 ./()-]{4,24}", re.ASCII)
NONE_ACCEPTED = "none-accepted"
OF_PROFILE = "profile"


def _reference(text: str) -> str:
    device, slash, point = text.partition("/")
    if not (device and slash and point) or "/" in point:
        raise ValueError(
            Text("expected DEVICE/POINT such as boiler/offset, found {text}", text=shown(text))
        )
    return text


def _finite(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise ValueError(Text("expected a number, found {value}", value=value))
    return value


def _window(text: str) -> str:
    schedule.window(text)
    return text


def _season(text: str) -> str:
    schedule.season(text)
    return text


def _phone(text: str) -> str:
    if not PHONE.fullmatch(text):
        raise ValueError(
            _(
                "expected a telephone number such as +33 4 76 00 00 00, found {text}",
                text=shown(text),
            )
        )
    return text


def _watchdog(value: object) -> object:
    if value == NONE_ACCEPTED:
        return {"accepted": True}
    if value == OF_PROFILE:
        return {"of_profile": True}
    if isinstance(value, str):
        raise ValueError(  # noqa: TRY004 -- pydantic wants it
            Text(
                'expected "{none_accepted}", "{of_profile}", or what releases the equipment if this'
                " gateway fails for good: {{point: DEVICE/POINT, timeout: 60s}} or {{logic:"
                " what the BMS does, heartbeat: …}}",
                none_accepted=NONE_ACCEPTED,
                of_profile=OF_PROFILE,
            )
        )
    return value


Reference = Annotated[str, AfterValidator(_reference)]
Number = Annotated[Decimal, AfterValidator(_finite)]
ShortText = Annotated[str, Field(min_length=1, max_length=200)]


class ControlSection(BaseModel):
    """One mapping of the file. It is frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True
    )


class FailsafeOptions(ControlSection):
    """The limit that applies while the platform is not heard."""

    value: Number = Field(examples=["6"])
    """the limit while the platform is not heard, and after each start until it is heard"""
    min_duration: Annotated[Duration, Field(ge=2 * HOUR, le=DAY)] = Field(2 * HOUR, examples=["2h"])
    """the shortest time for which it applies, 2h to 24h (EEBUS LPC)"""
    heartbeat: Annotated[Duration, Field(ge=0, le=HOUR)] = Field(60.0, examples=["60s"])
    """the longest time between two messages of the platform; it is lost after twice as long; 0s:
    not used (files)"""


class ModalityOptions(ControlSection):
    """How far, how long and how often; orders and grants can only be narrower."""

    action: Literal["offset", "setpoint", "pause", "mode", "limit"] = Field(examples=["offset"])
    """the kind of command: a `limit` falls back to its failsafe, all others are released"""
    min: Number | None = Field(None, examples=["-2"])
    """the smallest value"""
    max: Number | None = Field(None, examples=["1"])
    """the largest value"""
    choices: tuple[Number, ...] = Field((), examples=[["0", "1"]])
    """the only values, for a switch or a mode"""
    step: Number | None = Field(None, examples=["0.5"])
    """values are whole multiples of this"""
    max_duration: Annotated[Duration, Field(gt=0, le=DAY)] = Field(examples=["2h"])
    """the longest time for which an order may last"""
    min_notice: Annotated[Duration, Field(ge=0, le=DAY)] = Field(0.0, examples=["10min"])
    """the shortest time between the arrival of an order and its begin"""
    min_gap: Annotated[Duration, Field(ge=0, le=7 * DAY)] = Field(0.0, examples=["2h"])
    """the shortest rest between the end of one event and the begin of the next"""
    min_on: Annotated[Duration, Field(ge=0, le=DAY)] | None = Field(None, examples=["10min"])
    """the shortest hold; by default 5min for switches and modes"""
    min_off: Annotated[Duration, Field(ge=0, le=DAY)] | None = Field(None, examples=["10min"])
    """the shortest rest after a release; by default 5min for switches and modes"""
    max_per_day: Annotated[int, Field(ge=1)] | None = Field(None, examples=[2])
    """the most orders in a day"""
    max_time_per_day: Annotated[Duration, Field(gt=0, le=DAY)] | None = Field(None, examples=["4h"])
    """the longest total time in a day"""
    windows: tuple[Annotated[str, AfterValidator(_window)], ...] = Field(
        (), examples=[["Mon-Fri 06:00-22:00"]]
    )
    """the only hours, in local time of the building"""
    season: Annotated[str, AfterValidator(_season)] | None = Field(None, examples=["10-15..04-15"])
    """the only part of the year, month-day"""
    ramp_per_min: Annotated[Number, Field(gt=0)] | None = Field(None, examples=["0.5"])
    """the largest change of the value in a minute"""
    restore_random: Annotated[Duration, Field(ge=0, le=900)] = Field(0.0, examples=["15min"])
    """the time before the end from which the moment of the planned release is drawn at random"""
    emergency: bool = Field(False, examples=[True])
    """whether emergency orders are taken, at the stronger priority"""
    failsafe: FailsafeOptions | None = Field(None, examples=[{"value": "6"}])
    """for a limit: the value that applies while the platform is not heard"""
    tolerance: Annotated[Number, Field(ge=0)] = Field(Decimal("0.01"), examples=["0.01"])
    """the largest difference between a value that is written and the value that is read back"""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.action == "limit" and self.failsafe is None:
            raise ValueError(Text("a limit needs its `failsafe`, such as `failsafe: {value: 6}`"))
        if self.action != "limit" and self.failsafe is not None:
            raise ValueError(Text("only a limit has a `failsafe`: all others are released"))
        if not self.choices and (self.min is None or self.max is None):
            raise ValueError(Text("the bounds are missing: write `min` and `max`, or `choices`"))
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(
                Text(
                    "`min` {min} is above `max` {max}: swap the two values",
                    min=self.min,
                    max=self.max,
                )
            )
        return self


class GuardOptions(ControlSection):
    """A point that must stay within bounds. If it does not, or cannot be read, all is released."""

    point: Reference = Field(examples=["stairs/temp"])
    """the point that is watched, DEVICE/POINT"""
    name: ShortText | None = Field(None, examples=["stairwell"])
    """what people call it; by default the name of the point"""
    min: Number | None = Field(None, examples=["18.0"])
    """the smallest value that is allowed"""
    max: Number | None = Field(None, examples=["1200"])
    """the largest value that is allowed"""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError(Text("a guard needs a bound: write `min`, `max` or both"))
        return self


class WatchdogSettings(ControlSection):
    """What releases the equipment if this gateway fails for good."""

    accepted: bool = Field(False, examples=[True])
    """nothing does, and the operator has accepted this in writing (written `none-accepted`)"""
    of_profile: bool = Field(False, examples=[True])
    """the watchdog that the device's profile names (written `profile`)"""
    point: Reference | None = Field(None, examples=["wallbox/watchdog"])
    """the register of the device's own watchdog, which is refreshed during a hold"""
    timeout: Annotated[Duration, Field(ge=1, le=DAY)] | None = Field(None, examples=["60s"])
    """the time after which the device falls back by itself"""
    fallback: Number | None = Field(None, examples=["6"])
    """the value to which it falls back"""
    logic: ShortText | None = Field(None, examples=["the BMS drops an offset 15 min old"])
    """what the logic of the BMS does"""
    heartbeat: Reference | None = Field(None, examples=["boiler/dr-alive"])
    """a point that counts up during a hold, for that logic"""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not (self.accepted or self.of_profile or self.point or self.logic):
            raise ValueError(
                Text(
                    "it is not stated what releases the equipment: write `point`, `logic`,"
                    ' "profile" or "none-accepted"'
                )
            )
        if self.point and self.timeout is None:
            raise ValueError(
                Text("`timeout` is missing: write the time after which the device falls back")
            )
        return self


class DisplayPoints(ControlSection):
    """Points in the BMS that show its operator what is held."""

    active: Reference | None = Field(None, examples=["boiler/dr-active"])
    """1 during a hold, otherwise 0"""
    value: Reference | None = Field(None, examples=["boiler/dr-value"])
    """the held value"""
    minutes: Reference | None = Field(None, examples=["boiler/dr-minutes"])
    """minutes until the end"""
    by: Reference | None = Field(None, examples=["boiler/dr-by"])
    """who asked: 1 grid operator, 2 building manager, 3 boiler operator, 4 residents, 5 occupant;
    0 for the failsafe"""


class PhoneOptions(ControlSection):
    """A telephone number on the sheet."""

    name: ShortText = Field(examples=["Astreinte chaufferie"])
    """who answers"""
    number: Annotated[str, AfterValidator(_phone)] = Field(examples=["+33 4 76 00 00 00"])
    """the telephone number"""


class LowestSupplyOptions(ControlSection):
    """The lowest supply temperature. Below it no order begins, and each order is ended."""

    point: Reference = Field(examples=["boiler/supply"])
    """the point that measures the supply temperature, DEVICE/POINT"""
    min: Number = Field(examples=["45"])
    """the lowest supply temperature, in the unit of that point"""
    commanded: bool | None = Field(None, examples=[True])
    """whether the control's own value is the supply temperature: then no lower value may be
    configured. It must be stated for a `setpoint` that is a temperature"""


class SheetOptions(ControlSection):
    """What the operator signs, beside the limits of the control."""

    operator: ShortText = Field(examples=["Chauffage Dupont SA"])
    """who operates the equipment, and signs the sheet"""
    phones: Annotated[tuple[PhoneOptions, ...], Field(min_length=1)] = Field(
        examples=[[{"name": "Astreinte chaufferie", "number": "+33 4 76 00 00 00"}]]
    )
    """whom to call; at least one number"""
    object: ShortText | None = Field(None, examples=["chaudière gaz n° 1, circuit de chauffage"])
    """the equipment in words; by default the name of the point"""
    excluded: tuple[Literal["hot-water", "legionella", "frost-protection"], ...] = Field(
        (), examples=[["hot-water", "legionella"]]
    )
    """what no order may change: production of hot water, treatment against legionella, protection
    against frost"""
    also_excluded: tuple[ShortText, ...] = Field((), examples=[["pompes de circulation"]])
    """other things that no order may change, in words"""
    lowest_supply: LowestSupplyOptions | None = Field(
        None, examples=[{"point": "boiler/supply", "min": 45}]
    )
    """the lowest supply temperature; by default none"""


class Control(ControlSection):
    """One point that may be commanded."""

    point: Reference = Field(examples=["boiler/offset"])
    """the point that is commanded, DEVICE/POINT; it has `writable: true`"""
    modality: ModalityOptions = Field(examples=[{"action": "offset", "min": -2, "max": 1}])
    """how far, how long and how often it may be commanded"""
    equipment: ShortText = Field("", examples=["heating"])
    """the kind of equipment, for grants that name one"""
    guards: tuple[GuardOptions, ...] = Field((), examples=[[{"point": "stairs/temp", "min": 18}]])
    """points that must stay within bounds; they are checked every 10 s"""
    require: Annotated[tuple[Role, ...], Field(min_length=1)] = Field(
        examples=[["building_manager", "boiler_operator", "residents_council"]]
    )
    """the roles whose grants an order needs, all of them"""
    restore: Literal["relinquish", "preimage"] | Number = Field(examples=["relinquish"])
    """how it is released: empty our priority (BACnet), write the value from before or this one"""
    inhibit: Reference | None = Field(None, examples=["boiler/dr-inhibit"])
    """the operator's own off switch in the BMS, read at least every minute: any value but 0 stops
    all holds and forbids all orders"""
    device_watchdog: Annotated[
        WatchdogSettings,
        BeforeValidator(
            _watchdog, json_schema_input_type=WatchdogSettings | Literal["none-accepted", "profile"]
        ),
    ] = Field(examples=["none-accepted"])
    """what releases the equipment if this gateway fails: settings, `profile` or `none-accepted`"""
    measure: Reference | None = Field(None, examples=["boiler-room-meter/power"])
    """the power of the equipment, reported before and after"""
    shown: DisplayPoints = Field(
        default_factory=DisplayPoints, examples=[{"active": "boiler/dr-active"}]
    )
    """points in the BMS that show its operator what is held"""
    sheet: SheetOptions | None = Field(
        None,
        examples=[
            {
                "operator": "Chauffage Dupont SA",
                "phones": [{"name": "Astreinte", "number": "+33 4 76 00 00 00"}],
            }
        ],
    )
    """what the operator of the equipment signs; no order is accepted before. Without it nobody has
    to sign here"""

    @property
    def watched(self) -> tuple[GuardOptions, ...]:
        """The guards, with the lowest supply temperature of the sheet as the last one."""
        lowest = self.sheet.lowest_supply if self.sheet else None
        if lowest is None:
            return self.guards
        return *self.guards, GuardOptions(name=SUPPLY, point=lowest.point, min=lowest.min)

    def sha256(self, *more: str) -> str:
        """The hash of what people agreed to. `more`: what the sheet states beside these options."""
        text = self.model_dump_json(exclude_defaults=True, exclude={"measure", "shown"})
        return hashlib.sha256("\n".join((text, *more)).encode()).hexdigest()


def modality(
    name: str, options: Control, unit: str, every: dict[str, tuple[int, str]], sha256: str
) -> Modality:
    """The modality that the configuration states.

    `unit`: of the control's point; `every`: period and unit of each point, by DEVICE/POINT;
    `sha256`: of what was agreed.
    """
    agreed = options.modality
    switching = SHORTEST if agreed.action in SWITCHES else 0.0
    return Modality(
        name=name,
        action=agreed.action,
        kind=LossRule.LIMIT if agreed.action == "limit" else LossRule.SHIFT,
        unit=unit,
        limits=Limits(
            least=agreed.min,
            most=agreed.max,
            duration=agreed.max_duration,
            gap=agreed.min_gap,
            a_day=agreed.max_per_day,
            time_a_day=agreed.max_time_per_day,
            notice=agreed.min_notice,
            windows=tuple(schedule.window(one) for one in agreed.windows),
            season=schedule.season(agreed.season) if agreed.season else None,
            emergency=agreed.emergency,
        ),
        equipment=options.equipment,
        choices=agreed.choices,
        step=agreed.step,
        on=switching if agreed.min_on is None else agreed.min_on,
        off=switching if agreed.min_off is None else agreed.min_off,
        ramp=agreed.ramp_per_min,
        spread=agreed.restore_random,
        guards=tuple(_guard(one, every) for one in options.watched),
        inhibit=split(options.inhibit) if options.inhibit else None,
        require=options.require,
        failsafe=_failsafe(agreed.failsafe),
        tolerance=agreed.tolerance,
        version=sha256[:10],
    )


def _guard(options: GuardOptions, every: dict[str, tuple[int, str]]) -> Guard:
    period, unit = every[options.point]
    return Guard(
        options.name or options.point, *split(options.point), period, options.min, options.max, unit
    )


def _failsafe(options: FailsafeOptions | None) -> Failsafe | None:
    return Failsafe(options.value, options.min_duration, options.heartbeat) if options else None
