"""`gardien control sheet`: the page that an assembly and an operator sign, in French and English.

It states what was agreed for one control, and who has accepted it. Pure (rules H31, H33, H35).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.control.guard import plain
from agent.core.quantities import spoken
from agent.registry.dates import day_written_out
from agent.registry.page import Page, colon, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from agent.control.model import ConfiguredControl, Modality
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
EXCLUDED = {
    "hot-water": ("production of domestic hot water", "production d'eau chaude sanitaire"),
    "legionella": ("treatment against legionella", "traitement contre les légionelles"),
    "frost-protection": ("protection against frost", "protection contre le gel"),
}
"""what an operator may exclude, in English and French"""


@dataclass(frozen=True, slots=True)
class AuthorizationForm:
    """The page of one control in both languages."""

    french: Page
    english: Page


def sheet(
    building: str,
    options: Control,
    control: ConfiguredControl,
    signed: Mapping[str, Any] | None = None,
) -> AuthorizationForm:
    """Write the page: what was agreed, what stops it, what each loss means, which risk remains, and
    who has accepted it.

    `signed`: the member `sheet` of the control in the answer to `control.list`; None: not known.
    """
    french, english = (
        _page(building, options, control, signed, french=french) for french in (True, False)
    )
    return AuthorizationForm(french, english)


def _page(
    building: str,
    options: Control,
    control: ConfiguredControl,
    signed: Mapping[str, Any] | None,
    *,
    french: bool,
) -> Page:
    modality = control.modality

    def t(english: str, text: str, **values: Any) -> str:
        return (text if french else english).format(**values)

    language = "fr" if french else "en"
    agreed, has_bound = options.modality, lambda guard: (guard.least, guard.most) != (None, None)
    dog = control.watchdog
    beside = [
        place.name for place in (dog.place if dog else None, *control.shown.values()) if place
    ]
    rendered = render(
        "control/authorization_form.txt", building=" ".join(building.splitlines()), options=options,
        modality=modality, agreed=agreed, limits=modality.limits, signed=signed, beside=beside,
        array=control.slots[0] is not None, slots=control.slots, place=control.place,
        guarded=any(map(has_bound, modality.guards)), hours=_hours(agreed.windows, fr=french),
        t=t, colon=colon(language), ACTIONS_FR=ACTIONS_FR, ROLES_FR=ROLES_FR, EXCLUDED=EXCLUDED,
        duration=_duration,
        day=lambda date: day_written_out(date, language),
        measured=lambda value, unit: _measured(value, unit, fr=french),
        range=lambda: _range(modality, fr=french),
    )  # fmt: skip
    return _parts(
        Page(language, t("Control sheet: {it}", "Fiche de commande : {it}", it=modality.name)),
        rendered,
    )


def _parts(page: Page, rendered: str) -> Page:
    """Add titles, and the items below each, to a page."""
    items: list[str] = []
    for line in (*rendered.splitlines(), "end"):
        if line.startswith(" ") and line.strip():
            items.append(line.strip())
        elif line.strip():
            if items:
                page.bullets(items)
            items = []
            if line != "end":
                page.heading(line)
    return page


def _hours(windows: Iterable[str], *, fr: bool) -> str:
    text = ", ".join(windows)
    for day, jour in DAYS_FR.items() if fr else ():
        text = text.replace(day, jour)
    return text


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


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "24 h"
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (left, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"
