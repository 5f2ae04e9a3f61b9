"""`gardien control sheet`: what an assembly and an operator sign, in French and English. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from agent.control.guard import plain
from agent.units import spoken

if TYPE_CHECKING:
    from decimal import Decimal

    from agent.control.model import Modality
    from agent.control.settings import Control

ROLES_FR = {
    "grid_operator": "gestionnaire de réseau",
    "building_manager": "syndic ou bailleur",
    "boiler_operator": "exploitant de la chaufferie",
    "residents_council": "conseil syndical (vote de l'assemblée)",
    "occupant": "occupant du logement",
}
DAYS_FR = {
    "Mon": "lun.", "Tue": "mar.", "Wed": "mer.", "Thu": "jeu.", "Fri": "ven.", "Sat": "sam.",
    "Sun": "dim.",
}  # fmt: skip
ACTIONS_FR = {
    "offset": "décalage de consigne",
    "setpoint": "consigne",
    "pause": "mise en pause",
    "mode": "changement de mode",
    "limit": "limitation",
}


WIDTH = 80
"""columns; it is printed"""


@dataclass(frozen=True, slots=True)
class AuthorizationForm:
    """The same page twice."""

    name: str
    french: str
    english: str


def sheet(building: str, options: Control, agreed: Modality, *, array: bool) -> AuthorizationForm:
    """What is agreed for one control, what stops it, what each loss means, and what risk stays."""
    return AuthorizationForm(
        agreed.name,
        _page(_french(building, options, agreed, array=array)),
        _page(_english(building, options, agreed, array=array)),
    )


def _page(rows: list[tuple[str, str]]) -> str:
    lines = []
    for title, text in rows:
        lines += [title] if title else []
        lines.append(fill(text, WIDTH, initial_indent="    ", subsequent_indent="      "))
    return "\n".join(lines)


def _french(
    building: str, options: Control, agreed: Modality, *, array: bool
) -> list[tuple[str, str]]:
    return [
        ("Bâtiment et équipement", f"{building} — {agreed.name} ({options.point})"),
        ("Ce qui peut être modifié", f"{ACTIONS_FR[agreed.action]} : {_range(agreed, fr=True)}"),
        ("", f"au plus {_long(agreed.limits.duration)} à la fois{_often(agreed, fr=True)}"),
        *(("", line) for line in _how(options, agreed, fr=True)),
        *_rows("Garde-fous, vérifiés toutes les 10 s", _guards(agreed, fr=True)),
        *_rows("Qui doit l'autoriser, tous ensemble", [ROLES_FR[one] for one in agreed.require]),
        ("", "chacun nomme dans son autorisation qui peut donner les ordres"),
        *_rows("Comment l'arrêter, tout de suite et sans clé", _stops(options, agreed, fr=True)),
        *_rows("Ce qui arrive en cas de panne", _losses(agreed, fr=True)),
        *_rows("Risque qui demeure", _risk(options, agreed, array=array, fr=True)),
        ("Version de cette page", f"{agreed.version} (elle change avec tout ce qui est convenu)"),
        ("Signatures", "date, nom et qualité : ______________________________"),
    ]


def _english(
    building: str, options: Control, agreed: Modality, *, array: bool
) -> list[tuple[str, str]]:
    return [
        ("Building and equipment", f"{building} — {agreed.name} ({options.point})"),
        ("What may be adjusted", f"{agreed.action}: {_range(agreed, fr=False)}"),
        ("", f"{_long(agreed.limits.duration)} at a time at most{_often(agreed, fr=False)}"),
        *(("", line) for line in _how(options, agreed, fr=False)),
        *_rows("Guards, checked every 10 s", _guards(agreed, fr=False)),
        *_rows("Who must allow it, all of them", [one.replace("_", " ") for one in agreed.require]),
        ("", "each names in the grant who may give the orders"),
        *_rows("How to stop it, at once and without any key", _stops(options, agreed, fr=False)),
        *_rows("What each loss means", _losses(agreed, fr=False)),
        *_rows("Risk that stays", _risk(options, agreed, array=array, fr=False)),
        (
            "Version of this page",
            f"{agreed.version} (another one whenever anything agreed changes)",
        ),
        ("Signatures", "date, name and capacity: ______________________________"),
    ]


def _rows(title: str, lines: list[str]) -> list[tuple[str, str]]:
    return [(title if n == 0 else "", line) for n, line in enumerate(lines)]


def _number(value: Decimal, *, fr: bool) -> str:
    said = plain(value).replace("-", "−")
    return said.replace(".", ",") if fr else said


def _measured(value: Decimal, unit: str, *, fr: bool) -> str:
    return f"{_number(value, fr=fr)} {spoken(unit)}".strip()


def _range(agreed: Modality, *, fr: bool) -> str:
    if agreed.choices:
        return ", ".join(_measured(one, agreed.unit, fr=fr) for one in agreed.choices)
    limits = agreed.limits
    assert limits.least is not None
    assert limits.most is not None
    low, high = _number(limits.least, fr=fr), _measured(limits.most, agreed.unit, fr=fr)
    said = f"{low} à {high}" if fr else f"{low} to {high}"
    if agreed.step:
        step = _number(agreed.step, fr=fr)
        said += f", par multiples de {step}" if fr else f", in multiples of {step}"
    return said


def _often(agreed: Modality, *, fr: bool) -> str:
    limits, said = agreed.limits, []
    if limits.a_day is not None:
        said.append(f"{limits.a_day} fois par jour" if fr else f"{limits.a_day} times a day")
    if limits.time_a_day is not None:
        total = _long(limits.time_a_day)
        said.append(f"{total} par jour en tout" if fr else f"{total} a day in all")
    if limits.gap:
        rest = _long(limits.gap)
        said.append(f"repos de {rest} entre deux" if fr else f"a rest of {rest} between two")
    if not said:
        return ", sans limite de nombre" if fr else ", however often"
    return ", " + ", ".join(said)


def _how(options: Control, agreed: Modality, *, fr: bool) -> list[str]:
    """At which hours, with which notice, how gently; only what was agreed."""
    said, lines = options.modality, []
    if agreed.on or agreed.off:
        on, off = _long(agreed.on), _long(agreed.off)
        lines.append(
            f"au moins {on} à la fois, puis au moins {off} de repos"
            if fr
            else f"{on} at a time at least, and {off} of rest after it at least"
        )
    if said.windows:
        hours = ", ".join(_window(one) if fr else one for one in said.windows)
        lines.append(f"seulement aux heures : {hours}" if fr else f"only at these hours: {hours}")
    if said.season:
        first, last = said.season.split("..")
        lines.append(
            f"seulement du {first[3:]}/{first[:2]} au {last[3:]}/{last[:2]} (jour/mois)"
            if fr
            else f"only from {first} to {last} (month-day)"
        )
    if said.min_notice:
        notice = _long(said.min_notice)
        lines.append(f"annoncé {notice} avant" if fr else f"known {notice} before")
    if said.ramp_per_min is not None:
        by = _measured(said.ramp_per_min, agreed.unit, fr=fr)
        lines.append(f"par pas de {by} par minute" if fr else f"in steps of {by} a minute")
    if said.restore_random:
        spread = _long(said.restore_random)
        lines.append(
            f"rendu à un moment tiré au sort dans les {spread} avant la fin"
            if fr
            else f"given back at a moment drawn from the last {spread}"
        )
    if said.emergency:
        lines.append(
            "ordres d'urgence admis, plus forts que les autres, dans les mêmes limites"
            if fr
            else "emergency orders are taken, stronger than others, within the same limits"
        )
    return lines


def _window(text: str) -> str:
    for day, jour in DAYS_FR.items():
        text = text.replace(day, jour)
    return text


def _guards(agreed: Modality, *, fr: bool) -> list[str]:
    said = []
    for one in agreed.guards:
        if one.least is not None:
            bound = _measured(one.least, one.unit, fr=fr)
            said.append(f"{one.name} : au moins {bound}" if fr else f"{one.name}: {bound} at least")
        if one.most is not None:
            bound = _measured(one.most, one.unit, fr=fr)
            said.append(f"{one.name} : au plus {bound}" if fr else f"{one.name}: {bound} at most")
    if not said:
        return ["aucun" if fr else "none"]
    rest = _long(agreed.limits.gap)
    if fr:
        said.append(
            "franchi : tout est rendu" + (f", et repos de {rest}" * bool(agreed.limits.gap))
        )
        said.append("un capteur muet, trop ancien, bloqué ou invraisemblable : de même")
        return said
    said.append(
        "tripped: all is given back" + (f", and a rest of {rest}" * bool(agreed.limits.gap))
    )
    said.append("a sensor that is silent, too old, stuck, or cannot be right: the same")
    return said


def _stops(options: Control, agreed: Modality, *, fr: bool) -> list[str]:
    said = []
    if options.inhibit:
        said.append(
            f"le point {options.inhibit} dans la GTB : toute valeur autre que 0 arrête et interdit"
            if fr
            else f"the point {options.inhibit} in the BMS: anything but 0 stops and forbids"
        )
    out = f"gardien control opt-out {agreed.name}"
    if fr:
        said.append("agir sur l'équipement lui-même : la main d'une personne est respectée")
        said.append(f"sur la passerelle : {out}")
        said.append(
            "après ces deux gestes rien ne recommence avant la fin prévue de l'ordre (ou 24 h)"
        )
        return said
    said.append("act on the equipment itself: a person's hand is respected")
    said.append(f"on the gateway: {out}")
    said.append("after these two nothing begins again before the order would have ended (or 24 h)")
    return said


def _losses(agreed: Modality, *, fr: bool) -> list[str]:
    rule = agreed.failsafe
    silent, dead = (
        "centre muet : l'ordre en cours s'achève à l'heure dite, puis rien"
        if fr
        else "centre silent: the order in force ends when it was said to, then nothing",
        "agent tué, courant coupé, redémarrage : rendu au plus tard 2 min après le retour ;"
        " d'ici là la valeur peut rester"
        if fr
        else "agent killed, power cut, restart: given back within 2 min of the return; until then"
        " the value may stay",
    )
    if rule is not None:
        value, lasts = _measured(rule.value, agreed.unit, fr=fr), _long(rule.lasts)
        if rule.heartbeat:
            after = _long(2 * rule.heartbeat)
            silent = (
                f"centre muet pendant {after} : limite de repli {value}, au moins {lasts}"
                if fr
                else f"centre silent for {after}: failsafe limit {value}, {lasts} at least"
            )
        dead = (
            f"agent tué, courant coupé, redémarrage : limite de repli {value}"
            if fr
            else f"agent killed, power cut, restart: failsafe limit {value}"
        )
    away = (
        "équipement injoignable : rendu dès qu'il répond, sans limite de temps"
        if fr
        else "equipment out of reach: given back as soon as it answers, however long it takes"
    )
    return [silent, dead, away]


def _risk(options: Control, agreed: Modality, *, array: bool, fr: bool) -> list[str]:
    dog, said = options.device_watchdog, []
    if dog.point or dog.of_profile:
        assert dog.timeout is not None
        within, to = _long(dog.timeout), ""
        if dog.fallback is not None:
            to = f" ({_measured(dog.fallback, agreed.unit, fr=fr)})"
        said.append(
            f"passerelle hors service : l'équipement se reprend seul après {within}{to}"
            if fr
            else f"this gateway gone: the equipment falls back by itself after {within}{to}"
        )
    elif dog.logic:
        said.append(dog.logic)
    else:
        said.append(
            "passerelle définitivement hors service pendant un ordre : la valeur RESTE jusqu'à ce"
            " qu'une personne l'efface. Accepté par l'exploitant."
            if fr
            else "this gateway gone for good during an order: the value STAYS until a person clears"
            " it. Accepted by the operator."
        )
    if not array:
        said.append(
            "une personne qui règle exactement notre valeur, ou dans l'instant même de l'écriture,"
            " n'est pas vue"
            if fr
            else "a person who sets exactly our value, or within the very moment of the write, is"
            " not seen"
        )
        said.append(
            "un équipement qui redémarre à une valeur à lui est laissé à celle-ci"
            if fr
            else "equipment that restarts with a value of its own is left at that"
        )
    return said


def _long(seconds: float | None) -> str:
    if seconds is None:
        return "24 h"
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (left, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"
