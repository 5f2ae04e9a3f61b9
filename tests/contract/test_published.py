"""The catalogue, the register and the facts for an assessment: of the building as it is, in both
languages.
"""

import asyncio
import csv
import io
import json
from fnmatch import fnmatch
from functools import partial

import pytest

from agent.api.protection.published import HELD_BY
from agent.api.protection.stores import stores
from agent.buffer.disclosures import tokens_of
from agent.buffer.orphaned_spools import destroy
from agent.gateway.gateway import policy_of
from agent.gateway.plant_history import serve_history
from agent.registry.inputs import NewConsent, NewOccupancy
from tests.contract.gateway.running import at_work
from tests.contract.test_letter import DAY, MANAGER, US, Gateway, text_of

PRIVACY = (
    "privacy: {policy: FR-1, controller: {name: Régie Dupont, contact: donnees@regie.example},"
    " dpo: {name: Claire Martin, contact: +33 4 76 00 00 00}}"
)


@pytest.fixture
def gateway(tmp_path):
    return Gateway(tmp_path)


def changed(gateway, before, after):
    text = gateway.path.read_text()
    assert before in text
    gateway.path.write_text(text.replace(before, after))


def page(gateway, what, language):
    file = gateway.folder / f"{what}-{language}.html"
    said = gateway.command(what, "--language", language, "--to", file, language=language)
    assert said.exit_code == 0, said.output
    assert file.stat().st_mode & 0o777 == 0o600
    html = file.read_text()
    assert f'<html lang="{language}">' in html
    return text_of(html)


def test_the_catalogue_names_each_quantity_with_its_purposes_and_each_store(gateway):
    gateway.consent()
    gateway.duty()
    text = page(gateway, "catalogue", "fr")
    assert f"accord « advice » : {US}, un index par jour" in text
    assert f"obligation « décret 2020-886 » : {MANAGER}" in text
    for store in stores().values():
        assert store.descriptions["fr"]["name"] in text
    english = page(gateway, "catalogue", "en")
    assert f'consent "advice": {US}, one index a day' in english
    for store in stores().values():
        assert store.descriptions["en"]["name"] in english


FORMS = (
    "{policy: FR-1, controller: {name: Régie Dupont, contact: donnees@regie.example},"
    " dpo: {name: Claire Martin, contact: dpo@regie.example},"
    " forms: {asks: [{recipient: centre.example, name: Métropole, purpose: advice,"
    " channels: [elec.imp], words: {fr: conseiller, en: advising}, why: {fr: deux hivers,"
    " en: two winters}}]}}"
)


def test_a_recipient_is_called_as_the_forms_call_it(gateway):
    gateway.consent()
    gateway.duty()
    changed(gateway, "{policy: FR-1}", FORMS)
    text = page(gateway, "catalogue", "fr")
    assert f"accord « advice » : Métropole ({US}), un index par jour" in text
    assert (
        f"{MANAGER}, un index par mois et à chaque changement d'occupant, et aux jours de" in text
    )
    assert f"combien de temps il garde ce qu'il a reçu : Métropole ({US}), other.example" in text


def test_a_consent_that_ended_or_was_withdrawn_is_no_purpose_any_more(gateway):
    gateway.consent(until=gateway.now - DAY)
    assert "is sent to nobody" in page(gateway, "catalogue", "en")
    gateway.consent(since=gateway.now)
    assert f'consent "advice": {US}' in page(gateway, "catalogue", "en")
    said = gateway.command("person", "A-1", "--stop", "--as", "marie", "--to", gateway.folder)
    assert "consents withdrawn" in said.output
    assert "is sent to nobody" in page(gateway, "catalogue", "en")


def test_what_people_agreed_to_who_moved_out_is_no_purpose_any_more(gateway):
    gateway.consent()
    assert f'consent "advice": {US}' in page(gateway, "catalogue", "en")
    gateway.inside(partial(moved_out, gateway.now - DAY))
    assert "is sent to nobody" in page(gateway, "catalogue", "en")


async def moved_out(at, house):
    gone = NewOccupancy("move_out", "A-1", until=at)
    house.registry.occupy([gone], "marie", "a list", float(at))


def test_the_catalogue_says_the_periods_of_the_configuration_as_it_is(gateway):
    assert "une copie chiffrée de l'envoi est ensuite gardée 14 jours" in page(
        gateway, "catalogue", "fr"
    )
    changed(gateway, "clock:", "spool: {keep: 3d}\nclock:")
    assert "une copie chiffrée de l'envoi est ensuite gardée 3 jours" in page(
        gateway, "catalogue", "fr"
    )
    assert "3 jours après l'accusé de réception" in page(gateway, "catalogue", "fr")


def test_the_catalogue_names_who_is_responsible_or_says_that_it_must_be_written(gateway):
    text = page(gateway, "catalogue", "fr")
    assert "à compléter : le responsable du traitement (configuration, privacy.controller)" in text
    changed(gateway, "privacy: {policy: FR-1}", PRIVACY)
    text = page(gateway, "catalogue", "fr")
    assert "Responsable du traitement : Régie Dupont, donnees@regie.example" in text
    assert "Délégué à la protection des données : Claire Martin, +33 4 76 00 00 00" in text
    assert "à compléter" not in text


def test_the_catalogue_is_a_text_and_data_too(gateway):
    said = gateway.command("catalogue", "--language", "en")
    assert said.output.startswith("Catalogue of personal data\n====")
    assert all(len(line) <= 80 for line in said.output.splitlines())
    data = json.loads(gateway.command("catalogue", "--json").output)
    by_name = {one["channel"]: one for one in data["channels"]}
    assert (by_name["elec.imp"]["read_here"], by_name["heat"]["read_here"]) == (True, False)
    assert [one["store"] for one in data["stores"]] == list(stores())
    assert data["periods"]["registers"] == 62 * DAY
    assert "html" not in data


def rows(gateway, language="en"):
    file = gateway.folder / "register.csv"
    assert gateway.command("register", "--language", language, "--to", file).exit_code == 0
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")  # what Excel knows UTF-8 by
    return list(csv.DictReader(io.StringIO(file.read_text("utf-8-sig")), delimiter=";"))


def test_the_register_has_what_article_30_asks_for_of_each_activity(gateway):
    changed(gateway, "privacy: {policy: FR-1}", PRIVACY)
    gateway.consent()
    gateway.duty()
    found = rows(gateway)
    for row in found:
        assert all(row.values()), row
        assert row["controller"] == "Régie Dupont, donnees@regie.example"
    (sent,) = [row for row in found if row["recipients"] == US]
    assert sent["purpose"] == "advice"
    assert sent["categories of data"].startswith(
        "electricity taken from the grid, with the indexes of both meters at an exchange; one"
        " index a day;"
    )
    assert "dates of the occupancy" in sent["categories of data"]
    assert (
        "server 127.0.0.1: the gateway does not know its country"
        in sent["transfers outside the EU"]
    )
    (owed,) = [row for row in found if row["recipients"] == MANAGER]
    assert owed["transfers outside the EU"] == "no uplink is configured"
    assert "62 days" in owed["time limits for erasure"]
    assert "62 days" not in sent["time limits for erasure"]
    assert [row["activity"] for row in found][2:] == [
        "Registry of dwellings, meters and occupancies", "Evidence", "Operation and backup",
        "Breaches of personal data",
    ]  # fmt: skip
    assert (
        "at each change of occupant, and on the billing days (30 June)"
        in owed["categories of data"]
    )
    assert {row["building"] for row in found} == {"Les Alpins"}
    assert "on the same disk; centre to centre.example" in sent["security measures"]
    by_activity = {row["activity"]: row["recipients"] for row in found}
    for activity in ("Evidence", "Breaches of personal data"):
        for store in HELD_BY[{"Evidence": "evidence"}.get(activity, "breach")]:
            assert stores()[store].descriptions["en"]["whom"] in by_activity[activity]
    assert by_activity["Registry of dwellings, meters and occupancies"].startswith("the recipients")
    assert by_activity["Operation and backup"] == "none; the data stay in the gateway"
    assert "NOT ENCRYPTED" in sent["security measures"]
    french = rows(gateway, "fr")
    assert [len(row) for row in french] == [len(row) for row in found]
    assert french[0]["finalité"] == "advice"
    text = page(gateway, "register", "fr")
    assert "Transmission avec accord : advice" in text


def test_who_keeps_the_backup_receives_it_by_the_register(gateway):
    changed(gateway, "clock:", "backup: {to: /etc/gardien/r.crt, uplinks: [centre]}\nclock:")
    (backup,) = [row for row in rows(gateway) if row["activity"] == "Operation and backup"]
    assert backup["recipients"] == US
    assert backup["transfers outside the EU"] == "as for these recipients"


def test_a_purpose_that_a_spreadsheet_would_compute_is_made_harmless(gateway):
    gateway.inside(partial(consent_to, "=1+1", gateway.since))
    assert rows(gateway)[0]["purpose"] == "'=1+1"


async def consent_to(purpose, since, house):
    row = NewConsent("A-1", US, ("elec.imp",), DAY, purpose, since=since)
    house.registry.consent([row], "marie", "a list", float(since), policy_of(house.config))


def test_the_facts_for_an_assessment_are_of_the_building(gateway):
    gateway.consent()
    gateway.duty()
    facts = json.loads(gateway.command("assessment", "--language", "en", "--json").output)["facts"]
    assert (facts["dwellings"], facts["occupied"], facts["meters"]) == (1, 1, 1)
    assert facts["consents"] == {"monthly": 0, "daily": 1, "loadcurve": 0}
    assert facts["withdrawals"] == 0
    assert facts["finest"] == 900
    assert facts["duties"] == ["décret 2020-886"]
    (flow,) = [one for one in facts["flows"] if one["recipient"] == US]
    assert flow == {"recipient": US, "how": ["plain"], "what": ["by consent: advice"]}
    gateway.command("person", "A-1", "--stop", "--as", "marie", "--to", gateway.folder)
    after = json.loads(gateway.command("assessment", "--language", "en", "--json").output)["facts"]
    assert after["withdrawals"] == 1
    assert after["consents"]["daily"] == 0
    for language, words in (("fr", "AUCUNE SAUVEGARDE"), ("en", "NO BACKUP")):
        assert words in page(gateway, "assessment", language)


@pytest.mark.parametrize("what", ["catalogue", "register", "assessment"])
def test_bad_input_is_told(gateway, what, monkeypatch):
    said = gateway.command(what, "--language", "de")
    assert said.exit_code == 1
    assert 'language: "de" is not one of fr, en' in str(said.exception)
    said = gateway.command(what, "--to", gateway.folder / "page.pdf", language="fr")
    assert said.exit_code == 1
    monkeypatch.setenv("LANGUAGE", "fr")
    assert "page.pdf doit se terminer par l'un de .html" in said.exception.text.in_language()
    assert not (gateway.folder / "page.pdf").exists()


WITHOUT_PEOPLE = {
    *("clock-history.json", "clock.json", "data.json", "lock", "probe", "reserve", "visit.json"),
    *("flight.jsonl", "flight-older.jsonl"),
    *("keys/gateway.pem", "keys/identity.json", "keys/spool.key"),
}
"""files of the state directory with nothing about people: what the clock was, how much was sent,
room, keys, what happened to the agent
"""


def test_every_file_that_the_gateway_keeps_stands_in_the_catalogue(gateway):
    """A new one must be described, or be known to have nothing about people."""
    consent = gateway.consent()
    gateway.keep(gateway.row(consent.id))
    gateway.deliver()
    gateway.command("person", "A-1", "--to", gateway.folder)
    gateway.command("breach", "new", "Un vol.", "--as", "marie")

    async def works():
        async with at_work(gateway.path) as house:
            await house.disk.ask()
            await house.jobs.open("history", partial(serve_history, house, bool))
        destroy(gateway.state, US, gateway.now, tokens_of(house.identity, US))

    asyncio.run(works())
    patterns = [
        pattern + more
        for store in stores().values()
        for pattern in store.files.split(", ")
        for more in (("*",) if pattern.endswith("/") else ("", ".log", "-wal", "-shm"))
    ]
    found = {
        str(file.relative_to(gateway.state)) for file in gateway.state.rglob("*") if file.is_file()
    }
    assert {"looks.jsonl", "breaches.json", "registers.db", "spool-other.example.db"} <= found
    assert {f"disclosed-{US}.json", "history.db"} <= found
    strange = {
        name
        for name in found - WITHOUT_PEOPLE
        if not any(fnmatch(name, pattern) for pattern in patterns)
    }
    assert strange == set()
