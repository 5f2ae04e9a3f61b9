"""What people are told about the data of their dwelling, in French and English."""

from __future__ import annotations

from agent.core.channels import channels
from agent.registry.dates import DAY

LANGUAGES = ("fr", "en")

SHOWS = {
    "elec": {
        "fr": "des relevés fréquents montrent l'heure du lever, des absences et du coucher",
        "en": "read often it shows when people get up, go out and go to bed",
    },
    "water": {
        "fr": "des relevés fréquents montrent la présence et les habitudes de toilette",
        "en": "read often it shows whether people are there, and when they wash",
    },
    "heat": {
        "fr": "des relevés fréquents montrent les absences et le confort choisi",
        "en": "read often it shows absences, and the comfort people choose",
    },
    "air": {
        "fr": "la présence, et le nombre de personnes",
        "en": "it shows whether people are there, and how many",
    },
}
"""what fine readings reveal, by what is measured"""
COARSE = {
    "fr": (
        "la consommation de chaque mois, et un mois d'absence",
        "la consommation de chaque jour, et les jours d'absence",
    ),
    "en": (
        "one index a month shows how much was used that month, and a month of absence",
        "one index a day shows how much was used each day, and days of absence",
    ),
}
"""what an index per month, and one per day, reveal"""
STEPS = {
    "fr": ("un index par mois", "un index par jour"),
    "en": ("one index a month", "one index a day"),
}
EVERY = {
    "fr": {
        "s": ("chaque seconde", "toutes les {} secondes"),
        "min": ("chaque minute", "toutes les {} minutes"),
    },
    "en": {"s": ("every second", "every {} seconds"), "min": ("every minute", "every {} minutes")},
}
"""steps shorter than a day: one of the unit, and several"""
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
    if seconds >= DAY:
        return STEPS[language][seconds == DAY]
    minutes, rest = divmod(seconds, 60)
    single, several = EVERY[language]["s" if rest else "min"]
    number = seconds if rest else minutes
    return single if number == 1 else several.format(number)
