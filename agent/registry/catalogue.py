"""What people are told about the data of their dwelling, in French and English."""

from __future__ import annotations

from agent.channels import channels
from agent.registry.dates import DAY

LANGUAGES = ("fr", "en")

SHOWS = {
    "elec": {
        "fr": "relevé souvent, il montre quand on se lève, s'absente et se couche",
        "en": "read often it shows when people get up, go out and go to bed",
    },
    "water": {
        "fr": "relevé souvent, il montre la présence et les habitudes de toilette",
        "en": "read often it shows whether people are there, and when they wash",
    },
    "heat": {
        "fr": "relevé souvent, il montre les absences et le confort choisi",
        "en": "read often it shows absences, and the comfort people choose",
    },
    "air": {
        "fr": "il montre la présence, et le nombre de personnes",
        "en": "it shows whether people are there, and how many",
    },
}
"""what fine readings reveal, by what is measured"""
COARSE = {
    "fr": (
        "un index par mois montre la consommation du mois, et un mois d'absence",
        "un index par jour montre la consommation de chaque jour, et les jours d'absence",
    ),
    "en": (
        "one index a month shows how much was used that month, and a month of absence",
        "one index a day shows how much was used each day, and days of absence",
    ),
}
"""what an index per month, and one per day, reveal"""
OF = {
    "cw": "water", "dhw": "water", "gas": "heat", "heat": "heat", "cool": "heat", "hca": "heat",
    "temp": "heat", "rh": "air", "co2": "air",
}  # fmt: skip


def label(channel: str, language: str) -> str:
    """The name of a channel in this language; the channel's id if the catalogue lacks it."""
    known = channels()[channel]
    return (known.fr if language == "fr" else known.en) or channel


def shows(channel: str, language: str, step: int = 0) -> str:
    """What readings of a channel reveal about the occupants; `step` in seconds."""
    if step >= DAY:
        return COARSE[language][step == DAY]
    return SHOWS[OF.get(channel, "elec")][language]


def step(seconds: int, language: str) -> str:
    """The granularity of data at a step in seconds, as text."""
    texts = {
        "fr": ("un index par mois", "un index par jour", "toutes les {} minutes", "chaque seconde"),
        "en": ("one index a month", "one index a day", "every {} minutes", "every second"),
    }[language]
    if seconds > DAY:
        return texts[0]
    if seconds == DAY:
        return texts[1]
    return texts[2].format(round(seconds / 60)) if seconds >= 60 else texts[3]  # noqa: PLR2004
