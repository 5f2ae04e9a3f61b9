"""The stores of personal data on the gateway, and how long each keeps them. The texts are in
`stores.yaml`; the periods come from the code that enforces them and from the configuration. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from agent.buffer import disclosures, history_store, spool, upkeep
from agent.control import journal
from agent.core.errors import Refused
from agent.registry import access_log
from agent.registry.consent_policy import FLOORS, LONGEST_KEPT, LONGEST_UNSENT
from agent.registry.dates import DAY
from agent.registry.page import LANGUAGES, texts
from agent.registry.parsers import LONGEST_CONSENT
from agent.trust import audit, store, verify

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from agent.config import Config

YEAR = 366 * DAY
"""seconds; the code counts a year of retention as 366 days"""
UNITS = {
    "fr": ((YEAR, "an", "ans"), (DAY, "jour", "jours"), (3600, "heure", "heures"),
           (60, "minute", "minutes"), (1, "seconde", "secondes")),
    "en": ((YEAR, "year", "years"), (DAY, "day", "days"), (3600, "hour", "hours"),
           (60, "minute", "minutes"), (1, "second", "seconds")),
}  # fmt: skip
KEYS = ("spool", "signing", "certificate", "recovery", "credentials")
"""keys and passwords that can be stolen"""


def page_texts(language: str) -> Mapping[str, Any]:
    """The texts of the pages in one language, by name (words.yaml)."""
    return texts(Path(__file__).with_name("words.yaml"), language)


def field_label(name: str, language: str) -> str:
    """What a member of a breach's record is called; `what:fr` is a text in one language."""
    part, _, text = name.partition(":")
    says = page_texts(language)
    return str(says["fields"][part]) + (str(says[f"in_{text}"]) if text else "")


def check_language(language: str) -> None:
    """Check that there are pages in a language. Raises Refused."""
    if language not in LANGUAGES:
        names = ", ".join(LANGUAGES)
        raise Refused(
            'language: "{given}" is not one of {names}, so nothing was written',
            given=language,
            names=names,
        )


def periods(config: Config) -> Mapping[str, int]:
    """Retention periods in seconds, by name."""
    kept = round(config.spool.keep)
    return {
        "unsent": LONGEST_UNSENT,
        "kept": kept,
        # a batch may have waited that long before it was received and kept
        "kept_of_old": LONGEST_UNSENT + kept,
        "quarantine": round(upkeep.TRIED_ANEW),
        "disclosed": disclosures.YEARS,
        "registers": LONGEST_KEPT,
        "sums": DAY,
        "history": history_store.KEPT,
        "history_quarters": history_store.FINE_KEPT - DAY,
        "waits": store.WAITS_FOR,
        "numbers": verify.KEPT_AFTER,
        "orders": round(journal.REMEMBERED),
        "audit": audit.KEPT_FOR,
        "looks": access_log.YEARS,
        "floor": FLOORS[config.privacy.policy],
    }


def period_text(seconds: float, language: str) -> str:
    """A period as people say it, in the largest unit that divides it: `60 jours`."""
    for unit, singular, plural in UNITS[language]:
        # 0 is divisible by every unit: say "0 days"
        if seconds % unit == 0 and (seconds or unit == DAY):
            number = int(seconds // unit)
            alone = number == 1 or (number == 0 and language == "fr")
            return f"{number} {singular if alone else plural}"
    return f"{seconds:g} s"


def facts(config: Config, language: str) -> Mapping[str, str]:
    """Values for the placeholders `{…}` in the texts: periods, sizes, holders of the backup."""
    says = page_texts(language)
    texts = {name: period_text(period, language) for name, period in periods(config).items()}
    mega = "Mo" if language == "fr" else "MB"
    return texts | {
        "audit_size": f"{audit.MOST_SEGMENTS * audit.SEGMENT // 2**20} {mega}",
        "memory": f"{spool.CAP // 2**20} {mega}",
        "outcomes": f"{journal.KEPT:,}".replace(",", "\u202f" if language == "fr" else ","),
        "consent": str(LONGEST_CONSENT),
        "fewest": str(config.privacy.fewest),
        "keepers": ", ".join(backup_holders(config)) or says["keepers_none"],
        "copies": says["copies" if backup_holders(config) else "copies_none"],
    }


def backup_holders(config: Config) -> list[str]:
    """Who keeps the backup: recipients and a folder."""
    if config.backup is None:
        return []
    named = config.uplinks if config.backup.uplinks is None else config.backup.uplinks
    holders = [str(config.uplinks[name].settings.recipient) for name in named]
    return [*holders, *([str(config.backup.folder)] if config.backup.folder else [])]


@dataclass(frozen=True, slots=True)
class Store:
    """One place on the gateway where personal data are kept."""

    id: str
    files: str
    data: str
    """kind of data; a letter describes it with the text `letter_…`"""
    keys: tuple[str, ...]
    """keys that open the store; empty: it is not encrypted"""
    reach: str | None
    """how far back its data reach, as a name in `periods`; None: without limit"""
    concerns: str
    """whose data it holds: of dwellings with a `right` or a `duty`, of `all`, or of `nobody`"""
    staff: bool
    """whether it holds names of people who act on the gateway"""
    descriptions: Mapping[str, Mapping[str, str]]
    """texts by language: name, what, why, whom, long, reason"""

    def texts(self, config: Config, language: str) -> Mapping[str, str]:
        """Its texts in one language, with the periods filled in."""
        known = facts(config, language)
        return {part: text.format(**known) for part, text in self.descriptions[language].items()}

    def place(self, language: str) -> str:
        """Where it is and whether it is encrypted."""
        return f"{self.files} ({self.protection(language)})"

    def protection(self, language: str, taken: Collection[str] = ()) -> str:
        """Whether it is encrypted; `taken` are keys that somebody else has."""
        how = "sealed" if self.keys else "open"
        # encryption does not protect from somebody who also has the key
        how = "unsealed" if set(self.keys) & set(taken) else how
        text: str = page_texts(language)[how]
        return text


@cache
def stores() -> Mapping[str, Store]:
    """All stores, by id."""
    listed = YAML(typ="safe", pure=True).load(Path(__file__).with_name("stores.yaml"))
    return {
        id_: Store(
            id_, one["files"], one["data"], tuple(one["keys"]), one["reach"], one["concerns"],
            one.get("staff", False),
            {language: one[language] for language in LANGUAGES},
        )
        for id_, one in listed.items()
    }  # fmt: skip


def opened_by(key: str) -> tuple[str, ...]:
    """Ids of the stores that a key opens, without `set_aside`, which is empty on most gateways."""
    return tuple(one.id for one in stores().values() if key in one.keys and one.id != "set_aside")
