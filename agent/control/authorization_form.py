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


def sheet(building: str, options: Control, modality: Modality, *, array: bool) -> AuthorizationForm:
    """What is agreed for one control, what stops it, what each loss means, and what risk stays."""
    return AuthorizationForm(
        modality.name,
        _page(_french(building, options, modality, array=array)),
        _page(_english(building, options, modality, array=array)),
    )


def _page(sections: list[tuple[str, str]]) -> str:
    lines = []
    for title, text in sections:
        lines += [title] if title else []
        lines.append(fill(text, WIDTH, initial_indent="    ", subsequent_indent="      "))
    return "\n".join(lines)


def _french(
    building: str, options: Control, modality: Modality, *, array: bool
) -> list[tuple[str, str]]:
    return [
        ("Bâtiment et équipement", f"{building} — {modality.name} ({options.point})"),
        (
            "Ce qui peut être modifié",
            f"{ACTIONS_FR[modality.action]} : {_range(modality, fr=True)}",
        ),
        (
            "",
            (
                f"au plus {_duration(modality.limits.duration)} à la fois"
                f"{_frequency(modality, fr=True)}"
            ),
        ),
        *(("", line) for line in _conditions(options, modality, fr=True)),
        *_section("Garde-fous, vérifiés toutes les 10 s", _guards(modality, fr=True)),
        *_section(
            "Qui doit l'autoriser, tous ensemble", [ROLES_FR[one] for one in modality.require]
        ),
        ("", "chacun nomme dans son autorisation qui peut donner les ordres"),
        *_section(
            "Comment l'arrêter, tout de suite et sans clé", _stops(options, modality, fr=True)
        ),
        *_section("Ce qui arrive en cas de panne", _losses(modality, fr=True)),
        *_section("Risque qui demeure", _risk(options, modality, array=array, fr=True)),
        ("Version de cette page", f"{modality.version} (elle change avec tout ce qui est convenu)"),
        ("Signatures", "date, nom et qualité : ______________________________"),
    ]


def _english(
    building: str, options: Control, modality: Modality, *, array: bool
) -> list[tuple[str, str]]:
    return [
        ("Building and equipment", f"{building} — {modality.name} ({options.point})"),
        ("What may be adjusted", f"{modality.action}: {_range(modality, fr=False)}"),
        (
            "",
            (
                f"at most {_duration(modality.limits.duration)} at a time"
                f"{_frequency(modality, fr=False)}"
            ),
        ),
        *(("", line) for line in _conditions(options, modality, fr=False)),
        *_section("Guards, checked every 10 s", _guards(modality, fr=False)),
        *_section(
            "Who must allow it, all of them", [one.replace("_", " ") for one in modality.require]
        ),
        ("", "each names in the grant who may give the orders"),
        *_section(
            "How to stop it, at once and without any key", _stops(options, modality, fr=False)
        ),
        *_section("What each loss means", _losses(modality, fr=False)),
        *_section("Risk that stays", _risk(options, modality, array=array, fr=False)),
        (
            "Version of this page",
            f"{modality.version} (another one whenever anything agreed changes)",
        ),
        ("Signatures", "date, name and capacity: ______________________________"),
    ]


def _section(title: str, lines: list[str]) -> list[tuple[str, str]]:
    return [(title if n == 0 else "", line) for n, line in enumerate(lines)]


def _number(value: Decimal, *, fr: bool) -> str:
    text = plain(value).replace("-", "−")
    return text.replace(".", ",") if fr else text


def _measured(value: Decimal, unit: str, *, fr: bool) -> str:
    return f"{_number(value, fr=fr)} {spoken(unit)}".strip()


def _range(modality: Modality, *, fr: bool) -> str:
    if modality.choices:
        return ", ".join(_measured(one, modality.unit, fr=fr) for one in modality.choices)
    limits = modality.limits
    assert limits.least is not None
    assert limits.most is not None
    low, high = _number(limits.least, fr=fr), _measured(limits.most, modality.unit, fr=fr)
    text = f"{low} à {high}" if fr else f"{low} to {high}"
    if modality.step:
        step = _number(modality.step, fr=fr)
        text += f", par multiples de {step}" if fr else f", in multiples of {step}"
    return text


def _frequency(modality: Modality, *, fr: bool) -> str:
    limits, parts = modality.limits, []
    if limits.a_day is not None:
        parts.append(f"{limits.a_day} fois par jour" if fr else f"{limits.a_day} times a day")
    if limits.time_a_day is not None:
        total = _duration(limits.time_a_day)
        parts.append(f"{total} par jour en tout" if fr else f"{total} a day in all")
    if limits.gap:
        rest = _duration(limits.gap)
        parts.append(f"repos de {rest} entre deux" if fr else f"a rest of {rest} between two")
    if not parts:
        return ", sans limite de nombre" if fr else ", however often"
    return ", " + ", ".join(parts)


def _conditions(options: Control, modality: Modality, *, fr: bool) -> list[str]:
    """At which hours, with which notice, how gently; only what was agreed."""
    options_agreed, lines = options.modality, []
    if modality.on or modality.off:
        on, off = _duration(modality.on), _duration(modality.off)
        lines.append(
            f"au moins {on} à la fois, puis au moins {off} de repos"
            if fr
            else f"{on} at a time at least, and {off} of rest after it at least"
        )
    if options_agreed.windows:
        hours = ", ".join(_window(one) if fr else one for one in options_agreed.windows)
        lines.append(f"seulement aux heures : {hours}" if fr else f"only at these hours: {hours}")
    if options_agreed.season:
        first, last = options_agreed.season.split("..")
        lines.append(
            f"seulement du {first[3:]}/{first[:2]} au {last[3:]}/{last[:2]} (jour/mois)"
            if fr
            else f"only from {first} to {last} (month-day)"
        )
    if options_agreed.min_notice:
        notice = _duration(options_agreed.min_notice)
        lines.append(f"annoncé {notice} avant" if fr else f"known {notice} before")
    if options_agreed.ramp_per_min is not None:
        by = _measured(options_agreed.ramp_per_min, modality.unit, fr=fr)
        lines.append(f"par pas de {by} par minute" if fr else f"in steps of {by} a minute")
    if options_agreed.restore_random:
        spread = _duration(options_agreed.restore_random)
        lines.append(
            f"rendu à un moment tiré au sort dans les {spread} avant la fin"
            if fr
            else f"given back at a moment drawn from the last {spread}"
        )
    if options_agreed.emergency:
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


def _guards(modality: Modality, *, fr: bool) -> list[str]:
    lines = []
    for guard in modality.guards:
        if guard.least is not None:
            bound = _measured(guard.least, guard.unit, fr=fr)
            lines.append(
                f"{guard.name} : au moins {bound}" if fr else f"{guard.name}: {bound} at least"
            )
        if guard.most is not None:
            bound = _measured(guard.most, guard.unit, fr=fr)
            lines.append(
                f"{guard.name} : au plus {bound}" if fr else f"{guard.name}: {bound} at most"
            )
    if not lines:
        return ["aucun" if fr else "none"]
    rest = _duration(modality.limits.gap)
    if fr:
        lines.append(
            "franchi : tout est rendu" + (f", et repos de {rest}" * bool(modality.limits.gap))
        )
        lines.append("un capteur muet, trop ancien, bloqué ou invraisemblable : de même")
        return lines
    lines.append(
        "tripped: all is given back" + (f", and a rest of {rest}" * bool(modality.limits.gap))
    )
    lines.append("a sensor that is silent, too old, stuck, or cannot be right: the same")
    return lines


def _stops(options: Control, modality: Modality, *, fr: bool) -> list[str]:
    lines = []
    if options.inhibit:
        lines.append(
            f"le point {options.inhibit} dans la GTB : toute valeur autre que 0 arrête et interdit"
            if fr
            else f"the point {options.inhibit} in the BMS: anything but 0 stops and forbids"
        )
    out = f"gardien control opt-out {modality.name}"
    if fr:
        lines.append("agir sur l'équipement lui-même : la main d'une personne est respectée")
        lines.append(f"sur la passerelle : {out}")
        lines.append(
            "après ces deux gestes rien ne recommence avant la fin prévue de l'ordre (ou 24 h)"
        )
        return lines
    lines.append("act on the equipment itself: a person's hand is respected")
    lines.append(f"on the gateway: {out}")
    lines.append("after these two nothing begins again before the order would have ended (or 24 h)")
    return lines


def _losses(modality: Modality, *, fr: bool) -> list[str]:
    rule = modality.failsafe
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
        value, lasts = _measured(rule.value, modality.unit, fr=fr), _duration(rule.lasts)
        if rule.heartbeat:
            after = _duration(2 * rule.heartbeat)
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


def _risk(options: Control, modality: Modality, *, array: bool, fr: bool) -> list[str]:
    watchdog, lines = options.device_watchdog, []
    if watchdog.point or watchdog.of_profile:
        assert watchdog.timeout is not None
        within, to = _duration(watchdog.timeout), ""
        if watchdog.fallback is not None:
            to = f" ({_measured(watchdog.fallback, modality.unit, fr=fr)})"
        lines.append(
            f"passerelle hors service : l'équipement se reprend seul après {within}{to}"
            if fr
            else f"this gateway gone: the equipment falls back by itself after {within}{to}"
        )
    elif watchdog.logic:
        lines.append(watchdog.logic)
    else:
        lines.append(
            "passerelle définitivement hors service pendant un ordre : la valeur RESTE jusqu'à ce"
            " qu'une personne l'efface. Accepté par l'exploitant."
            if fr
            else "this gateway gone for good during an order: the value STAYS until a person clears"
            " it. Accepted by the operator."
        )
    if not array:
        lines.append(
            "une personne qui règle exactement notre valeur, ou dans l'instant même de l'écriture,"
            " n'est pas vue"
            if fr
            else "a person who sets exactly our value, or within the very moment of the write, is"
            " not seen"
        )
        lines.append(
            "un équipement qui redémarre à une valeur à lui est laissé à celle-ci"
            if fr
            else "equipment that restarts with a value of its own is left at that"
        )
    return lines


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "24 h"
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (left, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"
