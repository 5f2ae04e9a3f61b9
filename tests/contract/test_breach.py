"""`privacy breach` from the first minute to the closing: each step is kept with who did it, and the
pages say what is so.
"""

import asyncio
import json
import shutil
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from agent.api.calls import CALLS
from agent.api.diagnosis import machine
from agent.api.protection.breach import Breaches
from agent.api.protection.stores import stores
from agent.api.registry import Caller
from agent.core.clock import stamp
from agent.registry.dates import time_written_out, written_out
from agent.registry.inputs import NewOccupancy
from agent.registry.place import shown
from agent.trust import audit
from tests.contract.test_letter import DAY, US, Gateway, text_of

HOUR = 3600
PRIVACY = (
    "privacy: {policy: FR-1, controller: {name: Régie Dupont, contact: donnees@regie.example},"
    " dpo: {name: Claire Martin, contact: dpo@regie.example}}"
)


class Office(Gateway):
    """A gateway in whose building a breach is handled by marie."""

    def __init__(self, folder):
        super().__init__(folder)
        self.now -= self.now % 60
        self.path.write_text(self.path.read_text().replace("privacy: {policy: FR-1}", PRIVACY))

    def breach(self, *words, language="en", who="marie"):
        named = [] if words[0] in {"list", "show"} else ["--as", who]
        return self.command("breach", *words, *named, language=language)

    def done(self, *words, **how):
        said = self.breach(*words, **how)
        assert said.exit_code == 0, said.output + str(said.exception)
        return said.output

    def refused(self, *words, language="en"):
        said = self.breach(*words, language=language)
        assert said.exit_code == 1, said.output
        with pytest.MonkeyPatch.context() as terminal:
            terminal.setenv("LANGUAGE", language)
            return said.exception.text.in_language()

    def shown(self, id_="2026-1"):
        return json.loads(self.done("show", id_, "--json"))

    def moved(self):
        """Who lived there moves out; others move in."""

        async def told(house):
            by, at = ("marie", "a list"), self.now - 10 * DAY
            house.registry.occupy([NewOccupancy("move_out", "A-1", until=at)], *by, self.now)
            new = NewOccupancy("move_in", "A-1", since=at, reference="B-2026-9")
            house.registry.occupy([new], *by, self.now)

        self.inside(told)

    def number(self):
        (found,) = Breaches(self.state).all()
        return found.id


@pytest.fixture
def office(tmp_path):
    return Office(tmp_path)


def at(moment):
    return stamp(moment)


def begin(office, *more):
    noticed = at(office.now - HOUR)
    office.done("new", "La passerelle a été volée.", "--noticed", noticed, *more)
    return office.number()


def test_a_breach_from_its_first_minute_to_its_closing(office):
    """Rule P25."""
    office.consent()
    id_ = begin(office, "--key", "spool", "--kind", "confidentiality")
    found = office.shown(id_)
    assert found["deadline"] == at(office.now - HOUR + 72 * HOUR)
    assert found["missing"] == [
        "consequences", "measures", "began", "risk", "notified",
    ]  # fmt: skip
    assert [one["label"] for one in found["concerned"]] == ["A-1"]
    assert office.breach("list").exit_code == 1
    for language in ("fr", "en"):
        words = ("--consequences", f"suite {language}", "--measures", f"mesure {language}")
        office.done("add", id_, "--language", language, *words)
    office.done("add", id_, "--language", "en", "--what", "The gateway was stolen.")
    office.done("add", id_, "--began", at(office.now - DAY), "--risk", "high")
    assert office.shown(id_)["missing"] == ["notified", "told"]
    office.done("add", id_, "--notified", at(office.now - 60))
    assert "il manque" in office.refused("close", id_, language="fr")
    office.done("add", id_, "--reference", "CNIL-77", "--told", at(office.now - 60))
    assert office.shown(id_)["missing"] == []
    assert office.breach("list").exit_code == 0
    office.done("close", id_)
    assert "is closed" in office.refused("add", id_, "--risk", "none")
    steps = [(one["what"], one["who"].split(" ")[0]) for one in office.shown(id_)["steps"]]
    assert steps == [("new", "marie"), *[("add", "marie")] * 6, ("close", "marie")]


def test_each_step_stands_in_the_audit_chain_with_the_hash_of_the_record(office):
    id_ = begin(office)
    office.done("add", id_, "--risk", "none")
    verdict = audit.verify(office.state / "audit")
    lines = [
        json.loads(line)
        for file in audit.segments(office.state / "audit")
        for line in file.read_text().splitlines()
    ]
    found = [line["body"] for line in lines if line["type"] == "breach"]
    assert verdict.last == len(lines)
    assert [one["step"] for one in found] == ["new", "add"]
    assert found[-1]["sha256"] == Breaches(office.state).get(id_).hash
    assert "volée" not in json.dumps(found, ensure_ascii=False)


def test_what_was_said_before_stays_and_a_deadline_that_was_moved_shows(office):
    id_ = begin(office, "--measures", "La serrure est changée.")
    first, later = office.now - HOUR, office.now - 60
    office.done("add", id_, "--noticed", at(later), "--measures", "Rien.", "--dwelling", "A-1")
    found = office.shown()
    assert found["noticed_before"] == [at(first)]
    assert found["steps"][-1]["changes"] == {
        "noticed": [first, later],
        "measures:fr": ["La serrure est changée.", "Rien."],
        "places": [[], [office.place]],
    }
    said = office.done("show", id_, language="fr")
    assert f"{clock(later)} au lieu de {clock(first)}" in said
    assert "au lieu de « La serrure est changée. »" in said
    assert "les logements concernés : A-1" in said
    assert "! l'échéance a changé" in said
    office.done("notification", id_, "--to", office.folder / "n.html", "--language", "en")
    text = text_of((office.folder / "n.html").read_text())
    assert (
        f"recorded before: {written(first)}; the deadline was then: {written(first + 72 * HOUR)}"
        in text
    )


def written(moment):
    """As an English page has it."""
    return time_written_out(moment, ZoneInfo("Europe/Paris"), "en")


def clock(moment):
    return time_written_out(moment, ZoneInfo("Europe/Paris"), "fr")


def damage(file, how, before):
    if how == "changed":
        file.write_text(file.read_text().replace('"risk": "high"', '"risk": "none"'))
    elif how == "older":
        file.write_text(before)
    else:
        file.unlink()


@pytest.mark.parametrize("how", ["changed", "older", "gone"])
def test_a_record_that_is_not_the_one_that_was_written_is_told(office, how):
    id_ = begin(office)
    file = office.state / "breaches.json"
    before = file.read_text()
    office.done("add", id_, "--risk", "high")
    assert office.shown()["record"] == "same"
    assert not list(machine.breaches(office.state))
    damage(file, how, before)
    listed = office.breach("list")
    assert (listed.exit_code, f"breach {id_}: this record differs" in listed.output) == (1, True)
    (finding,) = machine.breaches(office.state)
    assert (finding.fine, id_ in finding.text) == (False, True)
    if how == "gone":
        office.done("new", "Un autre vol.")
        assert office.number() == f"{id_[:-1]}2"
        return
    to = ("--to", office.folder / "n.html")
    for words in (("show", id_), ("notification", id_, *to)):
        said = office.breach(*words)
        assert "this record differs from what was written" in said.output
        assert said.exit_code == 1
    # the next step's hash confirms the record as it is: that it was another stays in it
    assert [one.what for one in Breaches(office.state).get(id_).steps][-2:] == [
        "unlike", "notification",
    ]  # fmt: skip
    assert "differed from what had been written" in office.done("show", id_)


def test_a_record_of_another_gateway_cannot_be_compared_and_says_so(office):
    id_ = begin(office, "--risk", "none")
    shutil.rmtree(office.state / "audit")
    said = office.breach("show", id_)
    assert "it is unknown whether this record was altered" in said.output
    assert said.exit_code == 0
    assert office.breach("list").exit_code == 0
    assert not list(machine.breaches(office.state))


def test_closing_without_the_notification_takes_a_word_of_its_own(office):
    id_ = begin(office, "--risk", "high")
    assert "--without-notification" in office.refused("close", id_, "--reason", "plus tard")
    said = office.done("close", id_, "--reason", "plus tard", "--without-notification")
    assert "! the notification to the supervisory authority" in said
    assert "NOT NOTIFIED" in office.done("list")
    assert "without notifying the authority: plus tard" in office.done("show", id_)


def test_what_was_recorded_by_mistake_is_closed_as_such(office):
    id_ = begin(office, "--risk", "high")
    assert "explain the mistake" in office.refused("close", id_, "--mistake")
    office.done("close", id_, "--mistake", "--reason", "un exercice")
    assert "mistake" in office.done("list")
    assert "notified" not in office.shown()["missing"]


def test_a_notification_is_a_page(office):
    id_ = begin(office)
    to = office.folder / "n.pdf"
    assert "must end in one of .html" in office.refused("notification", id_, "--to", to)
    assert len(office.shown()["steps"]) == 1


def test_a_letter_goes_to_each_household_that_lived_there_then(office):
    office.consent()
    office.moved()
    id_ = begin(office, "--store", "spool", "--store", "registry", "--began", at(office.now - DAY))
    said = office.done("letters", id_, "--to", office.folder, "--language", "fr,en")
    assert "2 letters written" in said
    first, second = office.inside(homes)
    former = text_of((office.folder / f"{id_}_A-1_{first.id}.html").read_text())
    assert (
        f"Aux personnes qui ont occupé le logement A-1 du {written_day(first.since, 'fr')}"
        in former
    )
    assert f"To those who lived in the dwelling A-1 from {written_day(first.since, 'en')}" in former
    assert shown(first.id) in former
    assert "électricité prélevée sur le réseau" in former
    now = (office.folder / f"{id_}_A-1.html").read_text()
    present = text_of(now)
    assert f"Aux occupants du logement A-1 (occupation {shown(second.id)}, B-2026-9)" in present
    assert "valeurs mesurées" not in present
    assert "Délégué à la protection des données : Claire Martin, dpo@regie.example" in present
    assert now.count("<h1>") == 2
    only = office.done("letters", id_, "--to", office.folder)
    assert "2 letters written" in only
    assert (office.folder / f"{id_}_A-1.html").read_text().count("<h1>") == 1


async def homes(house):
    return house.registry.occupancies_of(house.registry.place("A-1").id)


def written_day(moment, language):
    """As a page has it."""
    return written_out(moment, ZoneInfo("Europe/Paris"), language)


def day(moment):
    """As the building has it."""
    return datetime.fromtimestamp(moment, ZoneInfo("Europe/Paris")).strftime("%Y-%m-%d")


def test_the_notification_says_what_is_known_and_counts_what_was_received(office):
    consent = office.consent()
    office.keep(office.row(consent.id))
    office.deliver()
    id_ = begin(office, "--recipient", US, "--began", at(office.now - DAY))
    file = office.folder / "cnil.html"
    for language, words in (
        (
            "fr",
            (
                "cette période : 1.",
                "Logements : 1 ; occupations (foyers) : 1.",
                "À compléter avant l'envoi",
            ),
        ),
        (
            "en",
            (
                "this time: 1.",
                "Dwellings: 1; occupancies (households): 1.",
                "To be completed before sending",
            ),
        ),
    ):
        office.done("notification", id_, "--to", file, "--language", language)
        text = text_of(file.read_text())
        for one in words:
            assert one in text
        assert "La passerelle a été volée." in text
    assert "Data at centre.example" in text
    assert "measured values (electricity taken from the grid), received: 1" in text
    assert "what happened (in English)" in text
    assert "in French" not in text


def test_a_late_notification_asks_for_its_reason(office):
    noticed = at(office.now - 80 * HOUR)
    office.done("new", "Une lettre perdue.", "--noticed", noticed, "--dwelling", "A-1")
    id_ = office.number()
    assert "OVERDUE" in office.done("show", id_)
    assert "HORS DÉLAI" in office.done("show", id_, language="fr")
    office.done("add", id_, "--notified", at(office.now - HOUR))
    assert "delay" in office.shown(id_)["missing"]
    office.done("add", id_, "--delay", "Le gestionnaire était absent.")
    office.done("notification", id_, "--to", office.folder / "cnil.html")
    assert "hors délai ; motif : Le gestionnaire était absent." in text_of(
        (office.folder / "cnil.html").read_text()
    )


def test_the_letter_about_a_recipient_lists_what_it_knows_and_reassures_of_no_other_system(office):
    consent = office.consent()
    office.keep(office.row(consent.id))
    office.deliver()
    id_ = begin(office, "--recipient", US)
    office.done("letters", id_, "--to", office.folder, "--language", "en")
    text = text_of((office.folder / f"{id_}_A-1.html").read_text())
    assert "sent to centre.example; receipts confirmed: 1" in text
    assert "what centre.example knows besides values: the dwelling's id and label" in text
    assert "knows no name" not in text
    assert "Time: since [to be completed]." in text


def test_a_date_alone_means_that_day(office):
    today = day(office.now - HOUR)
    id_ = begin(office, "--store", "log", "--began", today, "--ended", today)
    office.done("add", id_, "--notified", today, "--told", today)
    office.done("letters", id_, "--to", office.folder)
    french, english = (written_day(office.now - HOUR, language) for language in ("fr", "en"))
    assert f"Période : le {french}." in text_of((office.folder / f"{id_}_A-1.html").read_text())
    office.done("notification", id_, "--to", office.folder / "n.html", "--language", "en")
    text = text_of((office.folder / "n.html").read_text())
    assert f"Informed on {english}." in text
    assert f"notified on {english}, reference" in text


def test_the_last_second_of_a_minute_is_no_whole_day(office):
    id_ = begin(office, "--began", at(office.now - DAY - 1))
    assert office.shown(id_)["began"] == at(office.now - DAY - 2)


def test_a_date_alone_does_not_say_whether_the_deadline_of_that_day_was_kept(office):
    noticed = office.now - 72 * HOUR
    office.done("new", "Un vol.", "--noticed", at(noticed))
    said = office.refused("add", office.number(), "--notified", day(office.now))
    assert "give the time as well" in said


def test_a_theft_concerns_all_that_lies_on_the_gateway_and_who_acts_there(office):
    consent = office.consent()
    office.keep(office.row(consent.id))
    id_ = begin(
        office, "--store", "all", "--key", "all", "--kind", "confidentialité", "--risk", "Élevé"
    )
    found = office.shown(id_)
    assert (found["kinds"], found["risk"]) == (["confidentiality"], "high")
    assert found["stores"] == list(stores())
    assert found["keys"] == ["spool", "signing", "certificate", "credentials"]
    assert (found["waiting"], found["staff"]) == (1, 1)
    office.done("notification", id_, "--to", office.folder / "n.html", "--language", "en")
    text = text_of((office.folder / "n.html").read_text())
    assert "Values that wait in the gateway today, of all dwellings: 1." in text
    assert "Number of records not known: Readings of meters that are not assigned yet" in text
    assert "(account or name) are concerned, too: 1 at least" in text


def test_why_the_count_is_a_minimum_is_said(office):
    async def restored(house):
        house.audit("restored", {"made": at(house.clock.now())})

    office.inside(restored)
    id_ = begin(office, "--store", "spool")
    assert "restaurée d'une sauvegarde du" in office.done("show", id_, language="fr")
    office.done("notification", id_, "--to", office.folder / "n.html", "--language", "en")
    text = text_of((office.folder / "n.html").read_text())
    assert "this gateway was restored from a backup of" in text
    assert "How many values waited in the gateway is not known." in text


def test_people_are_named_by_their_occupancy(office):
    office.moved()
    first, _second = office.inside(homes)
    id_ = begin(office, "--dwelling", shown(first.id))
    assert [one["occupancy"] for one in office.shown(id_)["concerned"]] == [shown(first.id)]


def test_what_a_person_types_is_text_on_the_pages_and_never_html(office):
    office.done("new", "<script>x</script> & co", "--store", "log")
    id_ = office.number()
    office.done("letters", id_, "--to", office.folder)
    office.done("notification", id_, "--to", office.folder / "n.html")
    for file in (f"{id_}_A-1.html", "n.html"):
        html = (office.folder / file).read_text()
        assert "<script>" not in html
        assert "&lt;script&gt;x&lt;/script&gt; &amp; co" in html


def test_a_record_that_names_no_data_has_no_letters(office):
    id_ = begin(office)
    assert "the data concerned are not recorded yet" in office.refused(
        "letters", id_, "--to", office.folder
    )
    assert office.shown(id_)["concerned"] == []


@pytest.mark.parametrize(
    ("words", "english", "french"),
    [
        (["--store", "spol"], '"spol" is unknown; did you mean "spool"', "est inconnu"),
        (["--key", "house"], '"house" is unknown; known values: spool', "est inconnu"),
        (["--kind", "theft"], "known values: confidentiality", "valeurs connues : confidentiality"),
        (["--noticed", "2099-01-01"], "2099-01-01 is in the future", "est dans le futur"),
        (["--noticed", "yesterday"], '"yesterday" is no date', ""),
        (
            ["--noticed", "2026-01-05", "--began", "2026-01-06"],
            "--noticed 2026-01-05 is earlier than --began 2026-01-06",
            "est avant",
        ),
        (
            ["--recipient", "nobody.example"],
            "is not and was not a recipient",
            "n'est pas et n'a pas été",
        ),
        (["--dwelling", "Z-9"], "Z-9", ""),
        (["--risk", "some"], "is not one of none, risk, high", "n'est pas parmi"),
        (["--measures", "x" * 4001], "at most 4000 characters", "4000 caractères"),
        (["--measures", "a\x1b[1m"], "cannot be printed", "non imprimable"),
        (["--language", "de"], "is not one of fr, en", "n'est pas parmi fr, en"),
    ],
)
def test_bad_input_is_told_and_records_nothing(office, words, english, french):
    for language, expected in (("en", english), ("fr", french)):
        assert expected in office.refused("new", "Un vol.", *words, language=language)
    assert Breaches(office.state).all() == []


def test_whoever_acts_says_who_they_are(office, monkeypatch):
    monkeypatch.delenv("GARDIEN_AS")
    monkeypatch.delenv("SUDO_USER", raising=False)
    said = office.command("breach", "new", "Un vol.")
    assert "give your name with --as NAME" in str(said.exception)
    assert Breaches(office.state).all() == []


def test_two_people_who_act_at_once_lose_no_step(office):
    id_ = begin(office, "--store", "log")

    async def both(house):
        add = partial(CALLS["privacy.breach.add"], house, id=id_)
        await asyncio.gather(
            add(Caller("marie", None), facts={"risk": "risk"}),
            add(Caller("paul", None), facts={"measures": "La serrure est changée."}),
            CALLS["privacy.breach.letters"](house, Caller("anne", None), id=id_),
            *(
                CALLS["privacy.breach.new"](house, Caller(name, None), facts={"what": "Un vol."})
                for name in ("marie", "paul")
            ),
        )

    office.inside(both)
    found, *others = Breaches(office.state).all()
    assert [one.id for one in others] == [f"{id_[:4]}-2", f"{id_[:4]}-3"]
    assert {one.who for one in found.steps[1:]} == {"marie", "paul", "anne"}
    assert (found.risk, found.measures) == ("risk", {"fr": "La serrure est changée."})


def test_nothing_new_is_no_step(office):
    id_ = begin(office, "--risk", "risk")
    assert "all of this is recorded already" in office.refused("add", id_, "--risk", "risk")
    assert len(office.shown(id_)["steps"]) == 1


def test_what_the_disk_does_not_take_is_not_said_to_be_recorded(office):
    id_ = begin(office)
    (office.state / "breaches.new").mkdir()
    assert "breaches.json cannot be written" in office.refused("add", id_, "--risk", "none")
    (office.state / "breaches.new").rmdir()
    assert office.shown(id_)["risk"] is None
