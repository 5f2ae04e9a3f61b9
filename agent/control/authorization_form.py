"""`gardien control sheet`: the page that an assembly and an operator sign, in French and English.

It states what was agreed for one control. Pure (rules H31, H33).
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from agent.control.guard import plain
from agent.core.units import spoken
from agent.registry.dates import day_written_out

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
"""columns of the printed page"""


@dataclass(frozen=True, slots=True)
class AuthorizationForm:
    """The page of one control in both languages."""

    name: str
    french: str
    english: str


def sheet(building: str, options: Control, modality: Modality, *, array: bool) -> AuthorizationForm:
    """Write the page: what was agreed, what stops it, what each loss means, and which risk remains.

    `array`: the device has a priority array (BACnet), so our value has a slot of its own.
    """
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
        ("Immeuble et équipement", f"{building} — {modality.name} ({options.point})"),
        (
            "Ce qui peut être réglé",
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
            "Qui doit l'autoriser : chacun des suivants",
            [ROLES_FR[one] for one in modality.require],
        ),
        ("", "chacun désigne dans son autorisation qui peut donner des ordres"),
        *_section(
            "Comment arrêter immédiatement la commande, sans clé de signature",
            _stops(options, modality, fr=True),
        ),
        *_section("Ce qui arrive en cas de panne", _losses(modality, fr=True)),
        *_section("Risque qui subsiste", _risk(options, modality, array=array, fr=True)),
        (
            "Version de cette page",
            f"{modality.version} (elle change dès qu'un des points convenus change)",
        ),
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
            "Who must authorize it: each of these",
            [one.replace("_", " ") for one in modality.require],
        ),
        ("", "each states in its grant who may give orders"),
        *_section(
            "How to stop the control at once, without a signing key",
            _stops(options, modality, fr=False),
        ),
        *_section("What each loss means", _losses(modality, fr=False)),
        *_section("Remaining risk", _risk(options, modality, array=array, fr=False)),
        (
            "Version of this page",
            f"{modality.version} (it changes with everything that is agreed)",
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
        parts.append(
            f"pause de {rest} entre deux ordres" if fr else f"a pause of {rest} between two orders"
        )
    if not parts:
        return ", sans limite de nombre" if fr else ", however often"
    return ", " + ", ".join(parts)


def _conditions(options: Control, modality: Modality, *, fr: bool) -> list[str]:
    """Timers, hours, season, notice, ramp, spread and emergency orders, where they were agreed."""
    options_agreed, lines = options.modality, []
    if modality.on or modality.off:
        on, off = _duration(modality.on), _duration(modality.off)
        lines.append(
            f"au moins {on} à la fois, puis au moins {off} sans ordre"
            if fr
            else f"at least {on} at a time, then at least {off} without an order"
        )
    if options_agreed.windows:
        hours = ", ".join(_window(one) if fr else one for one in options_agreed.windows)
        lines.append(f"seulement aux heures : {hours}" if fr else f"only at these hours: {hours}")
    if options_agreed.season:
        first, last = options_agreed.season.split("..")
        lines.append(
            f"seulement du {day_written_out(first, 'fr')} au {day_written_out(last, 'fr')}"
            if fr
            else f"only from {day_written_out(first, 'en')} to {day_written_out(last, 'en')}"
        )
    if options_agreed.min_notice:
        notice = _duration(options_agreed.min_notice)
        lines.append(
            f"annoncé au moins {notice} à l'avance" if fr else f"announced at least {notice} ahead"
        )
    if options_agreed.ramp_per_min is not None:
        by = _measured(options_agreed.ramp_per_min, modality.unit, fr=fr)
        lines.append(
            f"variation de {by} par minute au plus" if fr else f"change of {by} a minute at most"
        )
    if options_agreed.restore_random:
        spread = _duration(options_agreed.restore_random)
        lines.append(
            f"libéré à un moment tiré au sort, dans les {spread} qui précèdent la fin"
            if fr
            else f"released at a moment drawn at random from the last {spread}"
        )
    if options_agreed.emergency:
        lines.append(
            "ordres d'urgence admis : prioritaires sur les autres, dans les mêmes limites"
            if fr
            else "emergency orders are taken: they outrank others, within the same limits"
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
            "si un garde-fou est franchi : l'équipement est libéré (il reprend son propre réglage)"
            + (f", puis pause de {rest}" * bool(modality.limits.gap))
        )
        lines.append(
            "de même si un capteur ne répond pas, reste bloqué, ou donne une valeur invraisemblable"
            " ou trop ancienne"
        )
        return lines
    lines.append(
        "if a guard trips: the equipment is released (it returns to its own setting)"
        + (f", then a pause of {rest}" * bool(modality.limits.gap))
    )
    lines.append("the same if a sensor is silent, stuck or not plausible, or its value is too old")
    return lines


def _stops(options: Control, modality: Modality, *, fr: bool) -> list[str]:
    lines = []
    if options.inhibit:
        lines.append(
            f"le point {options.inhibit} de la GTB : toute valeur autre que 0 arrête tout, et"
            " interdit tout nouvel ordre"
            if fr
            else f"the point {options.inhibit} in the BMS: any value but 0 stops everything and"
            " forbids new orders"
        )
    out = f"gardien control opt-out {modality.name}"
    if fr:
        lines.append(
            "régler directement l'équipement : la passerelle n'y touche plus, et laisse la valeur"
            " choisie par une personne"
        )
        lines.append(f"sur la passerelle : {out}")
        lines.append(
            "après l'un ou l'autre, rien ne recommence avant la fin prévue de l'ordre (ou 24 h)"
        )
        return lines
    lines.append("set the equipment directly: the gateway leaves the value that a person has set")
    lines.append(f"on the gateway: {out}")
    lines.append("after either, nothing begins again before the planned end of the order (or 24 h)")
    return lines


def _losses(modality: Modality, *, fr: bool) -> list[str]:
    rule = modality.failsafe
    # the guards explain what released means; without them the first line that has the word does
    own = " (il reprend son propre réglage)" if fr else " (it returns to its own setting)"
    own = "" if modality.guards else own
    silent, dead = (
        "aucun message de l'émetteur des ordres : l'ordre en cours se termine à l'heure prévue,"
        " puis aucun ordre ne commence"
        if fr
        else "no message from the sender of orders: the order in force ends as planned, then no"
        " order begins",
        "arrêt brutal du logiciel, coupure de courant ou redémarrage : l'équipement est libéré"
        f"{own} au plus tard 2 min après la remise en marche ; d'ici là, la valeur peut rester"
        if fr
        else f"software stopped abruptly, power cut or restart: the equipment is released{own} at"
        " most 2 min after the restart; until then the value may stay",
    )
    if rule is not None:
        value, lasts = _measured(rule.value, modality.unit, fr=fr), _duration(rule.lasts)
        if rule.heartbeat:
            after = _duration(2 * rule.heartbeat)
            silent = (
                f"aucun message de l'émetteur des ordres pendant {after} : limite de repli {value},"
                f" pendant au moins {lasts}"
                if fr
                else f"no message from the sender of orders for {after}: failsafe limit {value},"
                f" for at least {lasts}"
            )
        dead = (
            f"arrêt brutal du logiciel, coupure de courant ou redémarrage : limite de repli {value}"
            if fr
            else f"software stopped abruptly, power cut or restart: failsafe limit {value}"
        )
    else:
        own = ""
    away = (
        f"équipement injoignable : libéré{own} dès qu'il répond, sans limite de temps"
        if fr
        else f"equipment out of reach: released{own} as soon as it answers, without a time limit"
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
            "passerelle hors service : l'équipement revient de lui-même à son réglage de repli"
            f"{to} après {within}"
            if fr
            else f"if this gateway fails: the equipment falls back by itself after {within}{to}"
        )
    elif watchdog.logic:
        lines.append(watchdog.logic)
    else:
        lines.append(
            "si la passerelle tombe définitivement en panne pendant un ordre : la valeur RESTE"
            " jusqu'à ce qu'une personne l'efface. L'exploitant l'a accepté."
            if fr
            else "if this gateway fails for good during an order: the value STAYS until a person"
            " clears it. The operator has accepted this."
        )
    if not array:
        lines.append(
            "la passerelle ne peut pas remarquer qu'une personne règle l'équipement exactement sur"
            " la valeur qu'elle y a mise elle-même, ni qu'une personne agit à l'instant où elle"
            " l'écrit"
            if fr
            else "the gateway cannot notice a person who sets exactly the value that the gateway"
            " has set, or who acts at the moment at which the gateway writes it"
        )
        lines.append(
            "un équipement qui redémarre sur sa propre valeur conserve cette valeur"
            if fr
            else "equipment that restarts with its own value keeps that value"
        )
    return lines


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "24 h"
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (left, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"
