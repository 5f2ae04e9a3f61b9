"""The words that people write in options and in the cells of lists, in French and in English.

One table for each kind of value. Case, accents, punctuation and hyphens do not matter.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from agent.core.errors import Refused
from agent.core.i18n import N_
from agent.registry.sheet import MOST_HINTS, nearest, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Words:
    """The values of one list, each with the words that people write for it."""

    def __init__(self, field: str, terms: Mapping[str, Sequence[str]]) -> None:
        self.field, self.terms = field, terms

    @cached_property
    def _values(self) -> dict[str, str]:
        pairs = {plain(word): value for value, terms in self.terms.items() for word in terms}
        return pairs | {plain(value): value for value in self.terms}

    def __contains__(self, written: str) -> bool:
        return plain(written) in self._values

    def find(self, written: str) -> str | None:
        """The value of a word; None: it is not known."""
        return self._values.get(plain(written))

    def read(self, written: str) -> str:
        """The value of a word. Raises Refused with the words that are similar."""
        value = self.find(written)
        if value is None:
            raise unknown(self.field, written, self.all())
        return value

    def all(self) -> list[str]:
        """All words, the values themselves first."""
        return list(
            dict.fromkeys([*self.terms, *(w for terms in self.terms.values() for w in terms)])
        )


def unknown(field: str, written: str, known: Iterable[str]) -> Refused:
    """The refusal of a word that is not known, with similar ones, or else with all."""
    names = list(known)
    if near := nearest(written, names):
        return Refused(
            N_('{field}: "{word}" is not known; did you mean {near}?'),
            field=field, word=written, near=quoted(near),
        )  # fmt: skip
    return Refused(
        N_('{field}: "{word}" is not known; possible are {known}'),
        field=field, word=written, known=", ".join(names[:MOST_HINTS]),
    )  # fmt: skip


def quoted(names: Iterable[str]) -> str:
    """Names for a message: `"heat", "cw"`."""
    return ", ".join(f'"{name}"' for name in names)


SCOPES = Words("scope", {
    "monthly": ("mensuel", "mensuelle", "par mois", "mois", "month"),
    "daily": ("quotidien", "quotidienne", "journalier", "journalière", "par jour", "jour", "day"),
    "loadcurve": ("courbe de charge", "cdc", "load curve", "courbe"),
})  # fmt: skip
CHANNELS = Words("channel", {
    "elec.imp": ("électricité", "électrique", "élec", "electricity", "soutirage"),
    "elec.exp": ("injection", "électricité injectée", "electricity exported"),
    "heat": ("chauffage", "chaleur", "heating", "énergie thermique"),
    "cool": ("froid", "climatisation", "rafraîchissement", "cooling"),
    "gas": ("gaz", "gaz naturel", "natural gas"),
    "cw": ("eau froide", "ef", "efs", "cold water"),
    "dhw": ("eau chaude", "ec", "ecs", "eau chaude sanitaire", "hot water"),
    "hca": ("répartiteur", "répartiteurs", "heat cost allocator"),
    "temp": ("température", "température ambiante", "temperature", "room temperature"),
    "rh": ("humidité", "hygrométrie", "humidity"),
    "co2": ("gaz carbonique", "dioxyde de carbone", "carbon dioxide"),
})  # fmt: skip
"""other words for channels; the names themselves are in agent/core/channels.toml. Water without
"hot" or "cold" is not here, because it may be either
"""
SCHEMES = Words("scheme", {
    "fr.lot": ("lot", "n° de lot", "n° lot", "numéro de lot", "lot de copropriété"),
    "fr.prm": ("PRM", "PDL", "point de livraison", "point de référence et de mesure"),
    "fr.pce": ("PCE", "point de comptage", "point de comptage et d'estimation"),
    "fr.invariant": ("numéro fiscal", "invariant", "invariant fiscal", "tax number"),
    "fr.rnb": ("RNB", "référentiel national des bâtiments"),
    "fr.ban": ("BAN", "base adresse nationale", "clé d'interopérabilité"),
    "fr.rnic": ("RNIC", "immatriculation", "numéro d'immatriculation"),
})  # fmt: skip
"""of aliases in France; the titles of all others are in agent/registry/labels.py"""
PLACES = Words("type", {
    "dwelling": (
        "logement", "appartement", "flat", "apartment", "appart", "appt", "apt", "studio",
        "studette", "duplex", "triplex", "souplex", "loft", "maison", "house", "pavillon", "villa",
        "d",
    ),
    "common": ("commun", "partie commune", "parties communes", "common area", "c"),
    "building": ("bâtiment", "immeuble", "b"),
})  # fmt: skip
ANSWERS = Words("answer", {
    "yes": ("oui", "o", "y", "x", "d'accord", "accepte", "agreed"),
    "no": ("non", "n", "refus", "refuse", "refused"),
})  # fmt: skip
"""to the questions of a form"""
VACANT = Words("occupant", {
    "vacant": (
        "vacante", "logement vacant", "appartement vacant", "lot vacant", "libre", "vide",
        "inoccupé", "inoccupée", "non occupé", "non loué", "empty", "unoccupied",
    ),
})  # fmt: skip


GROUND = frozenset(("rdc", "rez de chaussee", "r d c", "rc", "ground floor"))
"""words for the ground floor, as `plain` makes them"""


class LotKind(StrEnum):
    """What a lot of the co-ownership is."""

    DWELLING = "dwelling"
    COMMON = "common"
    BUILDING = "building"
    PART = "part"
    """a cellar, a parking space: belongs to a dwelling, and nobody lives there"""
    OTHER = "other"
    """a shop, an office, a technical room: no dwelling, or it is not known whether anybody lives
    there
    """


PARTS = frozenset((
    "cave", "caves", "cellier", "cellar", "storage", "parking", "pkg", "pk", "stationnement",
    "garage", "box", "emplacement", "place", "jardin", "garden", "grenier", "attic", "combles",
    "terrasse", "remise", "debarras", "balcon",
))  # fmt: skip
OTHERS = frozenset((
    "local", "locaux", "commerce", "commercial", "boutique", "magasin", "shop", "bureau", "bureaux",
    "office", "cabinet", "entrepot", "atelier", "restaurant", "loge", "chambre", "chaufferie",
    "sous", "transformateur", "antenne", "panneau",
))  # fmt: skip
"""first words of other lots. People decide whether somebody lives in a lodge or a maid's room"""
FLATS = frozenset(("appartement", "appart", "appt", "apt", "logement", "studio", "duplex"))
"""words after which a type may say more: `Appartement traversant`"""
SIZE = re.compile(r"[tf] ?[1-9]( ?bis)?( ?[1-9])?|type ?[tf]?[1-9]|[1-9] ?(p|pieces?|rooms?)( .*)?")
"""T2, F3, T1 bis, T3/4, type 3, 3 pièces"""


@lru_cache(maxsize=1000)
def kind_of(written: str) -> LotKind | None:
    """What a type of lot is, such as `Appartement T2`, `Cave n° 12`, `Local commercial`; None: the
    word is not known.
    """
    text = plain(written)
    if place := PLACES.find(text):
        return LotKind(place)
    first, _, rest = text.partition(" ")
    if first in PARTS:
        return LotKind.PART
    if first in OTHERS:
        return LotKind.OTHER
    if OTHERS & set(rest.split()):  # `Logement de fonction, bureau`: people decide
        return None
    flat = first in FLATS or SIZE.fullmatch(text) or SIZE.fullmatch(first)
    return LotKind.DWELLING if flat else None
