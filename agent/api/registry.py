"""Calls about the registry, with the author of each change, in the building's time zone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

from agent.acquisition.slots import multiplier
from agent.api import facts, forms
from agent.api.disclosures import last_indexes
from agent.api.roles import EVERY_ROLE, HELD
from agent.core.clock import stamp
from agent.core.errors import NotRecorded, Refused
from agent.core.i18n import N_, Text
from agent.core.model import ValueKind
from agent.core.quantities import channels
from agent.gateway.lines import record_serials
from agent.registry import page, parsers
from agent.registry.background_change import change_in_background
from agent.registry.dates import typed
from agent.registry.doubts import DoubtfulValue, DoubtKind, LastReading, NeedsConfirmation
from agent.registry.forms import Box, FormLayout, Question, template
from agent.registry.parsers import LONGEST_LABEL, text
from agent.registry.records import EXACT, covers, serial_key
from agent.registry.sheet import unrecorded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from agent.api.roles import Right, Role
    from agent.gateway.gateway import Gateway
    from agent.registry.records import Installation

    Call = Callable[..., Awaitable[dict[str, Any]]]

C = TypeVar("C", bound="Callable[..., Any]")
SHARED = ("root", "gardien")
"""accounts that several people use on any machine"""
NOW = "now"
"""confirms that an exchange is recorded for now"""
WHO_ARE_YOU = N_(
    'nothing was done: several people use the account "{account}": give your name with --as NAME'
)


@dataclass(frozen=True)
class Caller:
    """Who makes a call, and how to report progress to them."""

    who: str
    progress: Callable[[dict[str, Any]], Awaitable[None]]
    roles: frozenset[Role] = EVERY_ROLE
    """their roles; all of them if the owner of the state makes the call in this process"""
    page: bool = False
    """whether the call comes from the web page, for a person who is logged in there"""
    reason: str = ""
    """why the person of the page wants to see values of a dwelling"""
    login: str = ""
    """the key of their login at the page"""

    def may(self, right: Right) -> bool:
        """Whether one of their roles has this right."""
        return bool(self.roles & HELD[right])


def shared(gateway: Gateway) -> frozenset[str]:
    """Return the accounts that several people use."""
    return frozenset({*SHARED, *gateway.config.building.shared_accounts})


def author(gateway: Gateway, caller: Caller, named: str | None) -> str:
    """Return who acts: the caller's account, with the name given by --as.

    A person of the web page is who has logged in, whatever name is given (rule W6). Raises Refused
    if several people use the account and no name is given.
    """
    if caller.page:
        return caller.who
    return person(caller.who, named, shared(gateway))


def person(account: str, named: str | None, several: Collection[str] = SHARED) -> str:
    """As `author`, for any account. `several`: the accounts of several people. Raises Refused."""
    name = text(named, "--as", LONGEST_LABEL) if named else ""
    if name and name not in several:
        return f"{name} ({account})"
    if account in several:
        raise Refused(WHO_ARE_YOU, account=name or account)
    return account


def in_person(
    call: Callable[..., Awaitable[dict[str, Any]]], record: str = "", *recorded: str
) -> Call:
    """Wrap a call so that a person must make it: a shared account must give a name.

    `record`: the kind of its record in the audit chain. `recorded`: the arguments in that record.
    Without `record` the call itself records who made it.
    """

    @passing(call)
    async def wrapper(
        gateway: Gateway, caller: Caller, *, named: str | None = None, **args: Any
    ) -> dict[str, Any]:
        who = author(gateway, caller, named)
        answer = await call(gateway, replace(caller, who=who), **args)
        if record and "wait" not in answer:  # an unfinished call is repeated, and then recorded
            gateway.audit(
                record, {name: args[name] for name in recorded if name in args} | {"by": who}
            )
        return answer

    return wrapper


def passing(inner: Callable[..., Any], *without: str) -> Callable[[C], C]:
    """Give a wrapper the signature of its call: its own arguments, and those of `inner` except
    `without`. `fit` checks requests against it.
    """

    def mark(wrapper: C) -> C:
        own = _keyword_parameters(wrapper)
        rest = {
            name: one
            for name, one in _keyword_parameters(inner).items()
            if name not in {*own, *without}
        }
        wrapper.__signature__ = Signature([*own.values(), *rest.values()])  # type: ignore[attr-defined]
        return wrapper

    return mark


def _keyword_parameters(call: Callable[..., Any]) -> dict[str, Parameter]:
    parameters = signature(call).parameters.values()
    return {one.name: one for one in parameters if one.kind is Parameter.KEYWORD_ONLY}


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _texts_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


TYPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "str": (Text("a text"), lambda value: isinstance(value, str)),
    "str | None": (Text("a text"), lambda value: value is None or isinstance(value, str)),
    "bool": (Text("true or false"), lambda value: isinstance(value, bool)),
    # `type` and not isinstance: in Python a bool is an int. JSON here also allows NaN.
    "float": (Text("a number"), lambda value: type(value) in {int, float} and isfinite(value)),
    "Sequence[str]": (Text("a list of texts"), _texts),
    "dict[str, str]": (Text("texts by name"), _texts_by_name),
    "Mapping[str, str]": (Text("texts by name"), _texts_by_name),
    "dict[str, Any]": (Text("an object"), lambda value: isinstance(value, dict)),
}
"""types of arguments by annotation: their name for people, and the test of a JSON value"""


def fit(call: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Check that a call takes these arguments. Raises Refused."""
    takes = _keyword_parameters(call)
    if unknown := sorted(arguments.keys() - takes.keys()):
        known = ", ".join(sorted(takes)) or Text("none")
        raise Refused(
            "it has no argument `{unknown}`. Arguments: {known}",
            unknown=unknown[0][:LONGEST_LABEL],
            known=known,
        )
    for name, parameter in takes.items():
        if name not in arguments:
            if parameter.default is Parameter.empty:
                raise Refused("its argument `{name}` is missing", name=name)
            continue
        expected, right = TYPES[parameter.annotation]
        if not right(arguments[name]):
            raise Refused("its argument `{name}` must be {expected}", name=name, expected=expected)


def question(call: Callable[..., dict[str, Any]]) -> Call:
    """Wrap a function of the registry that changes nothing as a call."""

    @passing(call, "who", "now")
    async def wrapper(gateway: Gateway, caller: Caller, **args: Any) -> dict[str, Any]:
        return call(gateway.registry, who=caller.who, now=gateway.clock.now(), **args)

    return wrapper


def change(call: Callable[..., dict[str, Any]]) -> Call:
    """Wrap a function that changes the registry as a call. Dates are in the building's time zone.

    With `preview` nothing is changed, and no author is needed.
    """

    @passing(call, "who", "now", "zone")
    async def wrapper(
        gateway: Gateway, caller: Caller, *, named: str | None = None, **args: Any
    ) -> dict[str, Any]:
        zone = gateway.config.building.timezone
        try:
            who = caller.who if args.get("preview") else author(gateway, caller, named)
            if not args.get("preview"):
                await gateway.disk.ask()
            # after the wait: a slot that closes before the change is recorded is retracted with it
            now = gateway.clock.now()
            asked = partial(call, who=who, now=now, zone=zone, **args)
            # A list may have 50,000 lines: it is recorded in a thread, while readings go on.
            listed = bool(args.get("text"))
            answer = (
                await change_in_background(gateway.registry, asked)
                if listed
                else asked(gateway.registry)
            )
        except NeedsConfirmation as error:
            raise error.in_zone(zone) from error
        except NotRecorded:  # it says what is in force nevertheless (rule A10)
            raise
        except Refused as error:
            raise Refused(unrecorded(error.text)) from error
        # Bind serial numbers first: the audit chain then gets both changes.
        record_serials(gateway.lines, gateway.registry, gateway.clock.now())
        await gateway.objects.registry_changed()
        return answer

    return wrapper


def or_nothing(call: Call) -> Call:
    """Wrap a call so that its refusals say that nothing was recorded."""

    @wraps(call)
    async def wrapper(gateway: Gateway, caller: Caller, **args: Any) -> dict[str, Any]:
        try:
            return await call(gateway, caller, **args)
        except (NeedsConfirmation, NotRecorded):
            raise
        except Refused as error:
            raise Refused(unrecorded(error.text)) from error

    return wrapper


def with_recipients(call: Callable[..., dict[str, Any]]) -> Call:
    """As `change`, for a function that takes a recipient: it gets those of the configuration."""

    @passing(change(call), "recipients")
    async def wrapper(gateway: Gateway, caller: Caller, **args: Any) -> dict[str, Any]:
        privacy = gateway.config.privacy
        asked = {question.recipient for question in privacy.forms.asks} if privacy.forms else set()
        configured = sorted(_recipients(gateway) | asked)
        return await change(call)(gateway, caller, recipients=configured, **args)

    return wrapper


def _recipients(gateway: Gateway) -> set[str]:
    return {uplink.settings.recipient for uplink in gateway.config.uplinks.values()}


@passing(with_recipients(facts.consent_give), "policy")
async def consent_give(gateway: Gateway, caller: Caller, **args: Any) -> dict[str, Any]:
    """Record consents within the building's privacy policy. Raises Refused."""
    policy = gateway.config.privacy.policy
    answer = await with_recipients(facts.consent_give)(gateway, caller, policy=policy, **args)
    known = _recipients(gateway)
    named = {one["recipient"] for one in answer["consents"]}
    return answer | {"without_uplink": sorted(named - known)}


@passing(with_recipients(facts.duty_add))
async def duty_add(gateway: Gateway, caller: Caller, **args: Any) -> dict[str, Any]:
    """Record a duty; the answer says whether its recipient has no uplink. Raises Refused."""
    answer = await with_recipients(facts.duty_add)(gateway, caller, **args)
    named = {one["recipient"] for one in answer["duties"]}
    return answer | {"without_uplink": sorted(named - _recipients(gateway))}


async def consent_forms(  # noqa: PLR0913 -- as many options
    gateway: Gateway,
    caller: Caller,
    *,
    places: Sequence[str] = (),
    language: str = "fr",
    again: bool = False,
    due: float = 0,
    named: str | None = None,
) -> dict[str, Any]:
    """Make consent forms; the answer has the page to print and the list for the answers.

    `again`: also for occupancies that have a form already. `due`: days. Raises Refused.
    """
    privacy, who = gateway.config.privacy, author(gateway, caller, named)
    if privacy.forms is None or privacy.controller is None:
        raise Refused(
            "consent forms are not configured: add `privacy.forms` and `privacy.controller` to"
            " the configuration (docs/forms.md)"
        )
    if language not in page.LANGUAGES:
        languages = ", ".join(page.LANGUAGES)
        raise Refused(
            'there are no forms in the language "{language}". Languages: {languages}',
            language=language,
            languages=languages,
        )
    settings = privacy.forms
    own = {"fr": settings.french, "en": settings.english}[language]
    asks = [
        Question(
            Box(
                one.recipient, one.purpose, one.channels, parsers.step(one.scope, None), one.months
            ),
            one.name,
            one.words.model_dump(),
            one.why.model_dump(),
        )
        for one in settings.asks
    ]
    dpo = privacy.dpo
    look = FormLayout(
        gateway.config.building.name,
        gateway.config.zone,
        ", ".join(filter(None, (privacy.controller.name, privacy.controller.address,
                                privacy.controller.contact))),
        privacy.controller.contact,
        f"{dpo.name}, {dpo.contact}" if dpo else "",
        asks,
        {language: await gateway.disk.read(template, own, language)},
    )  # fmt: skip
    boxes = [one.box for one in asks]
    await gateway.disk.ask()
    answer = forms.forms(
        gateway.registry,
        who=who,
        now=gateway.clock.now(),
        places=places,
        again=again,
        due=int(due),
        boxes=boxes,
        look=look,
        language=language,
    )
    await gateway.objects.registry_changed()
    return answer


@passing(change(forms.back), "policy")
async def consent_answers(gateway: Gateway, caller: Caller, **args: Any) -> dict[str, Any]:
    """Record the answers that people ticked on their forms. Raises Refused."""
    policy = gateway.config.privacy.policy
    return await change(forms.back)(gateway, caller, policy=policy, **args)


async def meter_list(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """List all installations, with how each is proven."""
    serials = [one.serial for line in gateway.lines.values() for one in line.devices.values()]
    listed = question(facts.meter_list)
    return await listed(gateway, caller, serials=[one for one in serials if one])


def with_indexes(call: Callable[..., dict[str, Any]]) -> Call:
    """As `change`, for a function that takes indexes: it gets the channels that the device has."""

    @passing(change(call), "known", "last")
    async def wrapper(gateway: Gateway, caller: Caller, **args: Any) -> dict[str, Any]:
        place, old = args.get("place"), args.get("old")
        device = args.get("device") or _device_at(gateway, place, old)
        last: dict[str, LastReading] = {}
        if args.get("closing"):
            meter = _meter_named(gateway, place, old)
            last = await last_indexes(gateway, meter) if meter else {}
            last |= last_readings(gateway, meter)
        more = {"last": last} if last else {}
        return await change(call)(gateway, caller, known=registers(gateway, device), **more, **args)

    return wrapper


def last_readings(gateway: Gateway, meter: Installation | None) -> dict[str, LastReading]:
    """Return the last good index of a meter by channel, as far as this process has read it.

    Readings of another meter that answers by the same device name do not count.
    """
    readings: dict[str, LastReading] = {}
    serial = serial_key(meter.serial) if meter and meter.serial else None
    for device in gateway.lines.devices():
        for (number, _name), sample in device.good.items():
            same = serial_key(number) == serial if number and serial else False
            if not same and (number is not None or meter is None or meter.device != device.name):
                continue
            point = sample.point
            if point.channel and not point.derived and isinstance(sample.value, Decimal):
                value = EXACT.multiply(sample.value, multiplier(point))
                readings[point.channel] = LastReading(
                    value, sample.at, point.rating, point.rolls_at
                )
    return readings


@passing(with_indexes(facts.meter_assign))
async def meter_assign(
    gateway: Gateway, caller: Caller, *, device: str, serial: str | None = None, **args: Any
) -> dict[str, Any]:
    """Record the installation of a configured device.

    If the device has given its serial number already, the call is refused at once if that meter is
    recorded elsewhere. Raises Refused.
    """
    _, configured = gateway.lines.find(device)
    assign = with_indexes(facts.meter_assign)
    if serial is None and configured.serial is not None:
        tried = {"serial": configured.serial, "preview": True}
        await assign(gateway, caller, device=device, **tried, **args)
    return await assign(gateway, caller, device=device, serial=serial, **args)


@passing(with_indexes(facts.meter_exchange))
async def meter_exchange(
    gateway: Gateway, caller: Caller, *, serial: str | None = None, at: str | None = None,
    confirm: Sequence[str] = (), **args: Any,
) -> dict[str, Any]:  # fmt: skip
    """Record an exchange of meters. Without its time, ask for it if the new meter was read before:
    those readings would be nobody's.
    """
    shelf = gateway.unsent.get("shelf")
    seen = shelf.seen.get(serial_key(serial)) if shelf and serial else None
    if seen is not None and at is None and NOW not in confirm:
        asked = Text(
            "meter {serial} was read at {at} already. Recorded for now, what it counted until now"
            " would be nobody's. If that is right, write: now. If it was exchanged then: --at"
            " {time}",
            serial=serial, at=stamp(seen), time=typed(seen, gateway.config.building.timezone),
        )  # fmt: skip
        doubts = NeedsConfirmation([DoubtfulValue(DoubtKind.DATE, NOW, stamp(seen), asked)])
        raise doubts.in_zone(gateway.config.building.timezone)
    record = with_indexes(facts.meter_exchange)
    return await record(gateway, caller, serial=serial, at=at, confirm=confirm, **args)


@passing(change(facts.meter_correct), "all_channels", "last")
async def meter_correct(
    gateway: Gateway, caller: Caller, *, place: str, old: str | None = None, **args: Any
) -> dict[str, Any]:
    """Record the right multiplier of a meter; its other channels go on. Raises Refused."""
    author(gateway, caller, args.get("named"))  # before anything is told of the meter
    channel = parsers.checked_channel(parsers.channel(args["channel"]))
    meter = _meter_named(gateway, place, old, channel)
    last: dict[str, LastReading] = {}
    if args.get("closing"):
        last = await last_indexes(gateway, meter) if meter else {}
        last |= last_readings(gateway, meter)
    points = gateway.config.points().get((meter and device_of(gateway, meter)) or "", ())
    channels_ = sorted({point.channel for point in points if point.channel})
    return await change(facts.meter_correct)(
        gateway, caller, place=place, old=old, all_channels=channels_, last=last or None, **args
    )


def registers(gateway: Gateway, device: str | None) -> list[str]:
    """Return the channels of a device that are cumulative indexes."""
    points = gateway.config.points().get(device or "", ())
    names = {point.channel for point in points if point.channel and not point.derived}
    return sorted(name for name in names if channels()[name].kind is ValueKind.REG)


def _device_at(gateway: Gateway, place: str | None, old: str | None) -> str | None:
    """Return the device of the only meter that matches; None if none or several match."""
    meter = _meter_named(gateway, place, old)
    return device_of(gateway, meter) if meter else None


def _meter_named(
    gateway: Gateway, place: str | None, old: str | None, channel: str | None = None
) -> Installation | None:
    """Return the only meter that matches; None if none or several match."""
    if not place:
        return None
    now, id_ = int(gateway.clock.now()), gateway.registry.place(place).id
    meters = [one for one in gateway.registry.meters_of(id_) if covers(one, now)]
    if channel:
        meters = [one for one in meters if one.channel in {None, channel}]
    matches = [one for one in meters if old in (None, one.serial, one.device)]
    return matches[0] if len(matches) == 1 else None


def device_of(gateway: Gateway, meter: Installation) -> str | None:
    """Return the device of a meter, as it was assigned or by its serial number; None if unknown."""
    if meter.device is not None or meter.serial is None:
        return meter.device if meter.device in gateway.config.devices else None
    key = serial_key(meter.serial)
    devices = [one for line in gateway.lines.values() for one in line.devices.values()]
    matches = (one.name for one in devices if one.serial and serial_key(one.serial) == key)
    return next(matches, None)


CALLS: Mapping[str, Call] = {
    name: change(call) if command.changes else question(call)
    for name, (command, call) in facts.CALLS.items()
} | {
    "place.check": question(facts.place_check),
    "meter.assign": meter_assign,
    "meter.exchange": meter_exchange,
    "meter.remove": with_indexes(facts.meter_remove),
    "meter.correct": meter_correct,
    "meter.list": meter_list,
    "consent.give": consent_give,
    "consent.withdraw": with_recipients(facts.consent_withdraw),
    "duty.add": duty_add,
    "consent.forms": or_nothing(consent_forms),
    "consent.answers": consent_answers,
    "consent.due": question(forms.due),
}
"""calls by name: those that follow from the facts, and those that need more than the registry"""
