"""Whether the factors of the meters of dwellings are proven, how, and what to do next."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from shlex import quote
from typing import TYPE_CHECKING, Any

from agent.acquisition.factors import must_be_proven
from agent.api.registry import device_of
from agent.core.clock import stamp
from agent.core.i18n import N_, Text
from agent.core.model import ValueKind
from agent.core.quantities import channels
from agent.drivers import family
from agent.registry.records import EXACT, Installation, covers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.api.registry import Caller
    from agent.core.model import Point
    from agent.gateway.gateway import Gateway
    from agent.registry.inputs import FactorResult
    from agent.registry.records import FactorProof

NONE, WRONG = "none", "wrong"
UNNEEDED = {
    "mbus": N_("not needed: the meter states its unit"),
    "bacnet": N_("not needed: the device states its unit, which is compared"),
    "modbus": N_("not needed: two independent sources confirm the profile"),
}
"""why a factor needs no proof, by the family of the driver"""
HOW = {
    "display": N_("proven: the display agrees; an error of {excludes} or more is excluded"),
    "load": N_("proven: a load of known power; an error of {excludes} or more is excluded"),
    "power": N_(
        "proven as far as the power of the same meter is right: a day of it agrees; an error of"
        " {excludes} or more between the two is excluded"
    ),
    "sum": N_(
        "proven as far as the building's meter is right: the dwellings' meters add up to it; an"
        " error of {excludes} or more of this meter alone is excluded"
    ),
}


async def meter_proofs(
    gateway: Gateway, caller: Caller, *, place: str = "", device: str = ""
) -> dict[str, Any]:
    """Return the proofs of all factors, those that are wrong or missing first; only those of a
    place (by id) or of a device, if it is named. `unread`: how many meters of dwellings are left
    out, because no device has told their serial number yet.
    """
    del caller
    # without a device a meter has no index to prove; this asks every meter for its device
    unread = 0 if place or device else _unread(gateway)
    return {"proofs": proofs(gateway, place, device), "unread": unread}


def _unread(gateway: Gateway) -> int:
    now = int(gateway.clock.now())
    return sum(
        one.place[0] == "D" and covers(one, now) and device_of(gateway, one) is None
        for one in gateway.registry.installations()
    )


def proofs(gateway: Gateway, place: str = "", device: str = "") -> list[dict[str, Any]]:
    """Return each index of energy or volume of a dwelling, with the proof of its factor.

    `proof`: `display`, `load`, `power` or `sum`; `wrong` (then `factor`: how many times too high);
    `none`. `needed`: whether it must be proven, as it also must once a comparison contradicted it.
    `sentence`: this for people, with the next step.
    """
    made = [
        _answer(gateway, point, meter)
        for point, meter in _indexes(gateway)
        if place in {"", meter.place} and device in {"", point.device}
    ]
    rank = {WRONG: 0, NONE: 1}
    return sorted(
        made, key=lambda one: (rank.get(one["proof"], 2) if one["needed"] else 3, one["label"])
    )


def _indexes(gateway: Gateway) -> Iterator[tuple[Point, Installation]]:
    now = int(gateway.clock.now())
    for device in gateway.lines.devices():
        for point in device.points:
            if point.derived or point.place or point.channel is None:
                continue
            meter = gateway.registry.whose(device.name, device.serial, point.channel, now)
            index = channels()[point.channel].kind is ValueKind.REG
            if index and isinstance(meter, Installation) and meter.place[0] == "D":
                yield point, meter


def _answer(gateway: Gateway, point: Point, meter: Installation) -> dict[str, Any]:
    channel, label = str(point.channel), gateway.registry.label(meter.place) or meter.place
    proof, named = None, NONE
    if needed := must_be_proven(gateway.registry, meter, point):
        proof = gateway.registry.factor_proof(meter, channel, point.to_prove)
    if proof is not None:
        named = proof.method if proof.factor == 1 else WRONG
    return {
        "place": meter.place,
        "label": label,
        "device": point.device,
        "serial": meter.serial,
        "channel": channel,
        "proof": named,
        "factor": format(proof.factor, "f") if proof is not None and named == WRONG else None,
        "at": stamp(proof.word.when) if proof else None,
        "who": proof.word.who if proof else None,
        "excludes": format(proof.excludes, "f") if proof else None,
        "evidence": proof.evidence if proof else "",
        "needed": needed,
        "sentence": _sentence(gateway, point, meter, proof, needed=needed),
    }


def _sentence(
    gateway: Gateway,
    point: Point,
    meter: Installation,
    proof: FactorProof | None,
    *,
    needed: bool,
) -> Text:
    if not needed:
        link = gateway.config.devices[point.device].link
        return Text(UNNEEDED[family(gateway.config.links[link].driver)])
    step = verify_command(gateway.registry.label(meter.place) or meter.place, point, meter)
    if proof is None:
        return Text("not proven. Read the display and type: {command}", command=step)
    if proof.factor != 1:
        return Text(
            "{error} by {method}. {remedy} Then: {command}",
            error=too_much(proof.factor),
            method=proof.method,
            remedy=remedy(gateway, point, meter, proof.factor),
            command=step,
        )
    return Text(HOW[proof.method], excludes=rounded(proof.excludes))


def verify_command(label: str, point: Point, meter: Installation) -> str:
    """Return the command that compares a meter with its display."""
    ratio = "" if meter.multiplier == 1 else " --multiplier 200/5"
    return f"gardien meter verify {quote(label)} --{point.channel} 1234.5{ratio}"


def remedy(gateway: Gateway, point: Point, meter: Installation, factor: Decimal) -> Text:
    """Return both ways to correct a factor: in the file, or the multiplier of the meter."""
    label = quote(gateway.registry.label(meter.place) or meter.place)
    right = _plain(Decimal(f"{EXACT.divide(meter.multiplier, factor):.6g}"))
    command = f"gardien meter correct {label} --old {quote(meter.serial or point.device)}"
    command += f" --channel {point.channel} --multiplier {right}"
    return Text(
        "If the file states the device's unit wrongly, correct `scale` or `unit` of the point"
        " {point} of {device} there. Otherwise correct the multiplier of the meter: {command}"
        " (--always also has the wrong readings until now erased).",
        point=point.name,
        device=quote(point.device),
        command=command,
    )


def too_much(factor: Decimal) -> Text:
    """Return a wrong factor in words."""
    if factor > 1:
        return Text("the values are {times} times too high", times=_plain(factor))
    times = _plain(Decimal(f"{1 / factor:.3g}"))
    return Text("the values are {times} times too low", times=times)


def _plain(number: Decimal) -> Decimal:
    """Return a number without zeros at its end, and without an exponent."""
    return Decimal(format(number.normalize(), "f"))


def factor_answer(
    gateway: Gateway,
    meter: Installation,
    device: str,
    channel: str,
    result: FactorResult | None,
) -> dict[str, Any] | None:
    """Return what a comparison has shown about a factor; None: it needs no proof."""
    _, target = gateway.lines.find(device)
    point = next(p for p in target.points if p.channel == channel and not p.derived)
    if result is None and not must_be_proven(gateway.registry, meter, point):
        return None
    if result is None or not gateway.registry.marked:
        why = Text("the index is too small, or does not fit")
        if result is not None:
            why = Text("an upgrade is on trial; verify again once it is confirmed")
        elif meter.multiplier != 1:
            why = Text(
                "the meter has the multiplier {multiplier}: give the ratio on the plates of the"
                " current transformers with --multiplier",
                multiplier=format(meter.multiplier.normalize(), "f"),
            )
        return {"proof": NONE, "sentence": Text("the factor is not proven: {why}", why=why)}
    if result.factor != 1:
        return {
            "proof": WRONG,
            "factor": str(result.factor),
            "sentence": too_much(result.factor),
            "remedy": remedy(gateway, point, meter, result.factor),
        }
    sentence = Text(HOW[result.method], excludes=rounded(result.excludes))
    return {"proof": result.method, "sentence": sentence}


def rounded(excludes: Decimal) -> Decimal:
    """Return the error that a proof excludes, as people read it."""
    return _plain(excludes.quantize(Decimal("0.01"), ROUND_CEILING))
