"""The periods that people are told are those that the code keeps to, and stand nowhere else.
Rule P26.
"""

import re
import string

import pytest

from agent.api.protection.stores import (
    LANGUAGES,
    facts,
    opened_by,
    page_texts,
    period_text,
    periods,
    stores,
)
from agent.buffer import disclosures, history_store, spool, upkeep
from agent.config import parse
from agent.control import journal
from agent.registry import access_log
from agent.registry.consent_policy import LONGEST_KEPT, LONGEST_UNSENT
from agent.trust import audit, store, verify
from tests.unit.config.samples import SMALL

DAY = 86_400
TYPED = re.compile(
    r"\d+ ?(jours?|heures?|ans?|mois|days?|hours?|years?|months?|MB|Mo)\b", re.IGNORECASE
)


def configured(more=""):
    return parse(SMALL + more, "config.yaml")


def names(text):
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("store", stores())
def test_no_period_is_typed_into_the_texts(store, language):
    """The one number of days that stands there is what the CNIL advises for logs."""
    said = dict(stores()[store].descriptions[language])
    assert not TYPED.search(said.pop("long"))
    if store != "log":
        assert not TYPED.search(" ".join(said.values()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_period_is_typed_into_the_pages(language):
    typed = [text for text in page_texts(language).values() if TYPED.search(str(text))]
    assert typed == []


@pytest.mark.parametrize("store", stores())
def test_both_languages_say_the_same_of_a_store_and_name_the_same_periods(store):
    """Rule U18."""
    french, english = (stores()[store].descriptions[language] for language in LANGUAGES)
    assert french.keys() == english.keys() == {"name", "what", "why", "whom", "long", "reason"}
    assert {part: names(text) for part, text in french.items()} == {
        part: names(text) for part, text in english.items()
    }


def test_both_languages_have_the_same_words_with_the_same_values():
    french, english = (page_texts(language) for language in LANGUAGES)
    assert french.keys() == english.keys()
    for name, text in french.items():
        if isinstance(text, str):
            assert names(text) == names(english[name]), name
            assert text.count("|") == english[name].count("|"), name
        else:
            assert text.keys() == english[name].keys()


def test_the_catalogue_says_the_periods_that_the_code_keeps_to():
    config = configured("spool: {keep: 36h}\n")
    told = {
        "spool": LONGEST_UNSENT,
        "kept": 36 * 3600,
        "quarantine": upkeep.TRIED_ANEW,
        "disclosed": disclosures.YEARS,
        "unclaimed": LONGEST_UNSENT,
        "registers": LONGEST_KEPT,
        "history": history_store.KEPT,
        "objects": store.WAITS_FOR,
        "orders": journal.REMEMBERED,
        "audit": audit.KEPT_FOR,
        "looks": access_log.YEARS,
    }
    for name, seconds in told.items():
        for language in LANGUAGES:
            long = stores()[name].texts(config, language)["long"]
            assert period_text(seconds, language) in long, name
    assert period_text(verify.KEPT_AFTER, "en") in stores()["objects"].texts(config, "en")["long"]
    assert f"{spool.CAP // 2**20} Mo" in stores()["memory"].texts(config, "fr")["what"]
    assert "64 MB" in stores()["audit"].texts(config, "en")["long"]


def test_how_long_a_delivered_batch_is_kept_is_as_configured():
    default, short = configured(), configured("spool: {keep: 0s}\n")
    assert "14 days" in stores()["kept"].texts(default, "en")["long"]
    assert "0 days" in stores()["kept"].texts(short, "en")["long"]
    assert periods(default)["kept_of_old"] == LONGEST_UNSENT + 14 * DAY


@pytest.mark.parametrize(
    ("seconds", "french", "english"),
    [
        (60 * DAY, "60 jours", "60 days"),
        (DAY, "1 jour", "1 day"),
        (5 * 366 * DAY, "5 ans", "5 years"),
        (366 * DAY, "1 an", "1 year"),
        (36 * 3600, "36 heures", "36 hours"),
        (600, "10 minutes", "10 minutes"),
        (90, "90 secondes", "90 seconds"),
        (0, "0 jour", "0 days"),
    ],
)
def test_a_period_is_spoken_in_the_largest_unit_without_a_fraction(seconds, french, english):
    assert (period_text(seconds, "fr"), period_text(seconds, "en")) == (french, english)


def test_who_keeps_the_backup_is_as_configured():
    none = configured()
    assert "no backup" in facts(none, "en")["keepers"]
    one = configured("backup: {to: /etc/gardien/recovery.crt, folder: /media/backup}\n")
    assert facts(one, "en")["keepers"] == "energie.metropole.example, /media/backup"
    only = configured("backup: {to: /r.crt, folder: /media/backup, uplinks: []}\n")
    assert facts(only, "en")["keepers"] == "/media/backup"


def test_each_store_reaches_back_as_far_as_a_period_that_there_is():
    known = periods(configured())
    for kept in stores().values():
        assert kept.reach is None or kept.reach in known, kept.id
        assert kept.concerns in {"right", "duty", "all", "nobody"}, kept.id
        assert f"letter_{kept.data}" in page_texts("fr"), kept.id


def test_a_key_concerns_what_it_opens():
    assert opened_by("spool") == (
        "spool", "quarantine", "kept", "disclosed", "unclaimed", "registers", "history",
    )  # fmt: skip
    assert opened_by("recovery") == ("building",)
    assert opened_by("signing") == ()
