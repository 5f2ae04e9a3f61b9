"""The section `controls:`: what may be commanded, how far, guarded by what, and how to stop it."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from agent.control import hours
from agent.i18n import _
from agent.settings import Duration, shown

HOUR, DAY = 3600.0, 86_400.0
SWITCHES = ("pause", "mode")
"""actions that turn something off: it must not be switched too often"""
SHORTEST = 300.0
"""seconds for which something that was switched stays so, if nobody says otherwise"""
Role = Literal[
    "grid_operator", "building_manager", "boiler_operator", "residents_council", "occupant"
]
NONE_ACCEPTED = "none-accepted"
OF_PROFILE = "profile"


def _reference(text: str) -> str:
    device, slash, point = text.partition("/")
    if not (device and slash and point) or "/" in point:
        raise ValueError(
            _("expected DEVICE/POINT such as boiler/offset, found {text}", text=shown(text))
        )
    return text


def _finite(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise ValueError(_("expected a number, found {value}", value=value))
    return value


def _window(text: str) -> str:
    hours.window(text)
    return text


def _season(text: str) -> str:
    hours.season(text)
    return text


def _watchdog(value: object) -> object:
    if value == NONE_ACCEPTED:
        return {"accepted": True}
    if value == OF_PROFILE:
        return {"of_profile": True}
    if isinstance(value, str):
        raise ValueError(  # noqa: TRY004 -- pydantic wants it
            _(
                'expected "{none_accepted}", "{of_profile}", or what gives back when this'
                " gateway is gone for good: {{point: DEVICE/POINT, timeout: 60s}} or {{logic:"
                " what the BMS does, heartbeat: …}}",
                none_accepted=NONE_ACCEPTED,
                of_profile=OF_PROFILE,
            )
        )
    return value


Reference = Annotated[str, AfterValidator(_reference)]
Number = Annotated[Decimal, AfterValidator(_finite)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class ControlSection(BaseModel):
    """One mapping of the file: frozen, and a word it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True
    )


class FailsafeOptions(ControlSection):
    """What a capacity limit falls back to while the centre is not heard."""

    value: Number = Field(examples=["6"])
    """the limit that applies while the centre is not heard, and from each start until it is"""
    min_duration: Annotated[Duration, Field(ge=2 * HOUR, le=DAY)] = Field(2 * HOUR, examples=["2h"])
    """for how long it applies at least, 2h to 24h (EEBUS LPC)"""
    heartbeat: Annotated[Duration, Field(ge=0, le=HOUR)] = Field(60.0, examples=["60s"])
    """how often the centre is heard of; lost after twice that; 0s: not used (files)"""


class ModalityOptions(ControlSection):
    """How far, how long and how often; a command or a grant can only be narrower."""

    action: Literal["offset", "setpoint", "pause", "mode", "limit"] = Field(examples=["offset"])
    """what is done: a `limit` falls back to its failsafe, all others are given back"""
    min: Number | None = Field(None, examples=["-2"])
    """the smallest value"""
    max: Number | None = Field(None, examples=["1"])
    """the largest value"""
    choices: tuple[Number, ...] = Field((), examples=[["0", "1"]])
    """the only values, where it is a switch or a mode"""
    step: Number | None = Field(None, examples=["0.5"])
    """values are whole multiples of this"""
    max_duration: Annotated[Duration, Field(gt=0, le=DAY)] = Field(examples=["2h"])
    """how long it may last"""
    min_notice: Annotated[Duration, Field(ge=0, le=DAY)] = Field(0.0, examples=["10min"])
    """how long before its begin it must be known"""
    min_gap: Annotated[Duration, Field(ge=0, le=7 * DAY)] = Field(0.0, examples=["2h"])
    """rest between the end of one event and the begin of the next"""
    min_on: Annotated[Duration, Field(ge=0, le=DAY)] | None = Field(None, examples=["10min"])
    """how long a hold lasts at least; 5min for switches and modes, if not said"""
    min_off: Annotated[Duration, Field(ge=0, le=DAY)] | None = Field(None, examples=["10min"])
    """rest after a give-back at least; 5min for switches and modes, if not said"""
    max_per_day: Annotated[int, Field(ge=1)] | None = Field(None, examples=[2])
    """how often a day"""
    max_time_per_day: Annotated[Duration, Field(gt=0, le=DAY)] | None = Field(None, examples=["4h"])
    """how long a day in all"""
    windows: tuple[Annotated[str, AfterValidator(_window)], ...] = Field(
        (), examples=[["Mon-Fri 06:00-22:00"]]
    )
    """the only hours, on the building's clock"""
    season: Annotated[str, AfterValidator(_season)] | None = Field(None, examples=["10-15..04-15"])
    """the only part of the year, month-day"""
    ramp_per_min: Annotated[Number, Field(gt=0)] | None = Field(None, examples=["0.5"])
    """the most by which the value changes in a minute"""
    restore_random: Annotated[Duration, Field(ge=0, le=900)] = Field(0.0, examples=["15min"])
    """over how long the planned give-back is spread by chance, before the end"""
    emergency: bool = Field(False, examples=[True])
    """whether emergency commands are taken, at the stronger priority"""
    failsafe: FailsafeOptions | None = Field(None, examples=[{"value": "6"}])
    """for a limit: what applies while the centre is not heard"""
    tolerance: Annotated[Number, Field(ge=0)] = Field(Decimal("0.01"), examples=["0.01"])
    """by how much a value that is read back may differ"""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.action == "limit" and self.failsafe is None:
            raise ValueError(_("a limit needs its `failsafe`, such as `failsafe: {value: 6}`"))
        if self.action != "limit" and self.failsafe is not None:
            raise ValueError(_("only a limit has a `failsafe`: all others are given back"))
        if not self.choices and (self.min is None or self.max is None):
            raise ValueError(_("say how far: `min` and `max`, or `choices`"))
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(_("`min` {min} is above `max` {max}", min=self.min, max=self.max))
        return self


class GuardOptions(ControlSection):
    """A point that must stay within bounds; if not, or if it cannot be read, all is given back."""

    point: Reference = Field(examples=["stairs/temp"])
    """what is watched, DEVICE/POINT"""
    name: Text | None = Field(None, examples=["stairwell"])
    """what people call it; as the point, if not said"""
    min: Number | None = Field(None, examples=["18.0"])
    """it must not be less"""
    max: Number | None = Field(None, examples=["1200"])
    """it must not be more"""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError(_("a guard needs a bound: `min`, `max` or both"))
        return self


class WatchdogSettings(ControlSection):
    """What gives the equipment back when this gateway is gone for good."""

    accepted: bool = Field(False, examples=[True])
    """nothing does, and the operator has accepted that in writing (written `none-accepted`)"""
    of_profile: bool = Field(False, examples=[True])
    """the watchdog that the device's profile names (written `profile`)"""
    point: Reference | None = Field(None, examples=["wallbox/watchdog"])
    """the device's own watchdog register, written again and again during a hold"""
    timeout: Annotated[Duration, Field(ge=1, le=DAY)] | None = Field(None, examples=["60s"])
    """after which the device falls back by itself"""
    fallback: Number | None = Field(None, examples=["6"])
    """the value to which it falls back"""
    logic: Text | None = Field(None, examples=["the BMS drops an offset 15 min old"])
    """what the controller's own logic does"""
    heartbeat: Reference | None = Field(None, examples=["boiler/dr-alive"])
    """a point that counts up during a hold, for that logic"""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not (self.accepted or self.of_profile or self.point or self.logic):
            raise ValueError(
                _('say what gives back: `point`, `logic`, or write "profile" or "none-accepted"')
            )
        if self.point and self.timeout is None:
            raise ValueError(_("`timeout` is missing: after how long the device falls back"))
        return self


class DisplayPoints(ControlSection):
    """Points in the BMS that tell its operator what we do."""

    active: Reference | None = Field(None, examples=["boiler/dr-active"])
    """1 during a hold, else 0"""
    value: Reference | None = Field(None, examples=["boiler/dr-value"])
    """the value that is held"""
    minutes: Reference | None = Field(None, examples=["boiler/dr-minutes"])
    """minutes left"""
    by: Reference | None = Field(None, examples=["boiler/dr-by"])
    """who asked: 1 grid operator, 2 building manager, 3 boiler operator, 4 residents, 5 occupant;
    0 for the failsafe"""


class Control(ControlSection):
    """One point that may be commanded."""

    point: Reference = Field(examples=["boiler/offset"])
    """what is commanded, DEVICE/POINT; the point says `writable: true`"""
    modality: ModalityOptions = Field(examples=[{"action": "offset", "min": -2, "max": 1}])
    """how far, how long, how often"""
    equipment: Text = Field("", examples=["heating"])
    """what it is, for grants that speak of a kind of equipment"""
    guards: tuple[GuardOptions, ...] = Field((), examples=[[{"point": "stairs/temp", "min": 18}]])
    """what must hold all the time; checked every 10 s"""
    require: Annotated[tuple[Role, ...], Field(min_length=1)] = Field(
        examples=[["building_manager", "boiler_operator", "residents_council"]]
    )
    """whose grants a command needs, all of them"""
    restore: Literal["relinquish", "preimage"] | Number = Field(examples=["relinquish"])
    """how it is given back: our priority emptied (BACnet), what stood there, or a value"""
    inhibit: Reference | None = Field(None, examples=["boiler/dr-inhibit"])
    """the operator's own off switch in the BMS, read every minute at least: anything but 0 stops
    and forbids all"""
    device_watchdog: Annotated[
        WatchdogSettings,
        BeforeValidator(
            _watchdog, json_schema_input_type=WatchdogSettings | Literal["none-accepted", "profile"]
        ),
    ] = Field(examples=["none-accepted"])
    """what gives back when this gateway is gone for good; or `profile`, or `none-accepted`"""
    measure: Reference | None = Field(None, examples=["boiler-room-meter/power"])
    """what it takes, reported before and after"""
    shown: DisplayPoints = Field(
        default_factory=DisplayPoints, examples=[{"active": "boiler/dr-active"}]
    )
    """points in the BMS that tell its operator what we do"""

    @property
    def version(self) -> str:
        """Another one whenever anything changes that people agreed to: what is signed bears it."""
        text = self.model_dump_json(exclude_defaults=True, exclude={"measure", "shown"})
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def split(reference: str) -> tuple[str, str]:
    """Device and point of DEVICE/POINT."""
    device, _, point = reference.partition("/")
    return device, point
