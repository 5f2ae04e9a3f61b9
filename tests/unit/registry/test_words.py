"""The words, numbers, units and dates that people write, in French and in English alike."""

from decimal import Decimal

import pytest

from agent.api import facts
from agent.core.errors import Refused
from agent.core.quantities import channels
from agent.registry import parsers, words
from agent.registry.dates import moment
from agent.registry.facts.declaration import number
from agent.registry.registry import Registry
from agent.registry.words import LotKind, kind_of

BY = {"who": "marie", "now": 1_795_000_000.0, "zone": "Europe/Paris"}


@pytest.mark.parametrize("table", [words.SCOPES, words.CHANNELS, words.PLACES, words.ANSWERS])
def test_a_word_has_one_meaning(table):
    for value, several in table.terms.items():
        assert {table.find(word) for word in (value, *several)} == {value}


def test_every_word_for_a_channel_is_of_a_channel():
    assert {parsers.channel(word) for word in words.CHANNELS.all()} <= set(channels())


@pytest.mark.parametrize(
    ("cell", "means"),
    [
        ("électricité, eau froide", ("elec.imp", "cw")),
        ("Chauffage et Eau chaude", ("heat", "dhw")),
        ("ECS+EFS", ("dhw", "cw")),
        ("electricity; cold water", ("elec.imp", "cw")),
        ("eau chaude sanitaire/gaz", ("dhw", "gas")),
        ("heat cw", ("heat", "cw")),
        ("electricité prelevée sur le reseau", ("elec.imp",)),
        ("HEAT", ("heat",)),
    ],
)
def test_channels_are_listed_by_their_names_or_by_words(cell, means):
    assert parsers.listed(cell) == means


@pytest.mark.parametrize(
    ("scope", "step", "seconds"),
    [
        ("quotidienne", None, 86_400),
        ("Mensuelle", None, 2_592_000),
        ("courbe de charge", "10 minutes", 600),
        ("Daily", "jour", 86_400),
        (None, "mois", 2_592_000),
        ("load curve", "30 mn", 1800),
    ],
)
def test_a_scope_and_a_step_have_french_and_english_words(scope, step, seconds):
    assert parsers.step(scope, step) == seconds


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("T2", "dwelling"), ("F3", "dwelling"), ("T1 bis", "dwelling"), ("T3/4", "dwelling"),
        ("Type 3", "dwelling"), ("Appartement T2", "dwelling"), ("Appt 3 pièces", "dwelling"),
        ("Studio meublé", "dwelling"), ("2 pièces", "dwelling"), ("4P", "dwelling"),
        ("Duplex T5", "dwelling"), ("logement", "dwelling"), ("Flat", "dwelling"),
        ("Cave n° 12", "part"), ("Place de parking", "part"), ("BOX fermé", "part"),
        ("Local commercial", "other"), ("Bureaux", "other"), ("Loge gardien", "other"),
        ("Parties communes", "common"), ("Immeuble", "building"),
        ("Appartement / bureau", None), ("Tribune", None), ("", None),
    ],
)  # fmt: skip
def test_a_type_of_lot_says_whether_it_is_a_dwelling(written, kind):
    assert kind_of(written) == (LotKind(kind) if kind else None)


@pytest.mark.parametrize(
    "date",
    ["12/05/2026", "12.05.2026", "12-05-2026", "2026-05-12", "12 mai 2026", "12 May 2026",
     "12-mai-2026", " 12\u00a0MAI  2026"],
)  # fmt: skip
def test_a_date_is_written_in_several_ways(date):
    assert moment(date, "Europe/Paris") == 1_778_536_800


@pytest.mark.parametrize(
    ("date", "same"),
    [("1er mars 2026", "01/03/2026"), ("3 févr. 2026", "03/02/2026"),
     ("1st March 2026", "01/03/2026"),
     ("15 août 2026", "15/08/2026"), ("15-sept.-2026", "15/09/2026")],
)  # fmt: skip
def test_a_month_is_known_by_its_name_or_by_how_that_begins(date, same):
    assert moment(date, "Europe/Paris") == moment(same, "Europe/Paris")


@pytest.mark.parametrize("date", ["12 jui 2026", "31 juin 2026", "12 brumaire 2026"])
def test_a_month_that_may_be_two_or_a_day_that_is_none_is_refused(date):
    with pytest.raises(ValueError, match=r"date|has 30 days"):
        moment(date, "Europe/Paris")


@pytest.mark.parametrize(
    ("text", "value"),
    [("8 412,5", "8412.5"), ("8\u202f412,5", "8412.5"), ("8\u00a0412.5", "8412.5"),
     ("8.412,5", "8412.5"), ("8,412.5", "8412.5"), ("8,412", "8.412"), ("1.234.567,8", "1234567.8"),
     ("1e9", None), ("8,41,5", None), ("8.41,5", None)],
)  # fmt: skip
def test_a_number_has_a_decimal_comma_or_point_and_separated_thousands(text, value):
    assert number(text) == (value and Decimal(value))


@pytest.mark.parametrize(
    ("written", "channel", "value"),
    [
        (["chauffage=8 412,5"], "heat", "8412.5"),
        (["8 412,5 kWh"], "heat", "8412.5"),
        (["8,4125 MWh"], "heat", "8412.5"),
        (["5 000 000 mWh"], "heat", "5"),
        (["eau froide=12,345 m³"], "cw", "12.345"),
        (["12345 litres"], "cw", "12.345"),
    ],
)
def test_an_index_may_have_its_unit(written, channel, value):
    assert parsers.indexes(written, [channel], "index") == {channel: Decimal(value)}


@pytest.mark.parametrize(
    ("written", "why"),
    [("12 kWh", "not a unit of this quantity: write the value in m³"), ("8412 kgs", "not what a m"),
     ("841O", "letter O where a zero")],
)  # fmt: skip
def test_an_index_in_the_unit_of_something_else_is_refused(written, why):
    with pytest.raises(Refused, match=why):
        parsers.indexes([written], ["cw"], "index")


@pytest.mark.parametrize(
    ("call", "word", "french"),
    [
        (parsers.prefix, "apartement", 'connu ; vouliez-vous dire "appartement"'),
        (words.SCOPES.read, "quotidiene", '"quotidienne"'),
        (parsers.checked_channel, "chaufage", '"chauffage"'),
        (lambda cell: parsers.personal(parsers.listed(cell)), "gaz, eau froid", '"eau froide"'),
        (lambda cell: parsers.personal(parsers.listed(cell)), "eau", "possibles : électricité"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_refused_in_the_readers_language_with_the_one_that_was_meant(
    call, word, french, monkeypatch
):
    monkeypatch.setenv("LANGUAGE", "fr")
    with pytest.raises(Refused, match="is not known") as refused:
        call(word)
    assert french in refused.value.text.in_language()


def test_each_wrong_row_of_a_list_is_told_in_the_readers_language(tmp_path, monkeypatch):
    registry = Registry.open(tmp_path / "registry.json")
    table = "label;type\nA-1;apartement\nA-2;tribune\n"
    with pytest.raises(Refused) as refused:
        facts.place_import(registry, **BY, text=table, name="l.csv")
    monkeypatch.setenv("LANGUAGE", "fr")
    first, second = refused.value.text.in_language().splitlines()
    assert first == (
        'l.csv:2 : type : « apartement » n\'est pas un mot connu ; vouliez-vous dire "appartement",'
        ' "apartment", "appart" ?'
    )
    assert second.startswith("l.csv:3 : type : « tribune » n'est pas un mot connu ; sont possibles")


def test_a_consent_in_french_words_is_recorded_as_in_english(tmp_path):
    registry = Registry.open(tmp_path / "registry.json")
    facts.place_new(registry, **BY, label="A-1", type="logement", since="1er mars 2026")
    given = facts.consent_give(
        registry, **BY, places=["A-1"], recipient="energie.example", purpose="conseil",
        channels=["chauffage", "eau froide"], scope="quotidienne", given="12 mai 2026",
    )  # fmt: skip
    (consent,) = given["consents"]
    assert (consent["channels"], consent["step"]) == (["cw", "heat"], 86_400)
    list_ = (
        "Logement;Destinataire;Grandeurs;Portée;Finalité;Signé le\n"
        "A-1;energie.example;gaz, eau chaude;mensuelle;facture;12 juin 2026\n"
    )
    given = facts.consent_give(registry, **BY, text=list_, name="a.csv")
    assert given["consents"][-1]["channels"] == ["dhw", "gas"]
    gone = facts.consent_withdraw(registry, **BY, place="A-1", channels=["eau froide"])
    assert gone["consents"]


@pytest.mark.parametrize(
    ("scheme", "value", "name"),
    [("N° de lot", "34", "fr.lot"), ("PDL", "19123456789012", "fr.prm"),
     ("Point de livraison", "19123456789012", "fr.prm"), ("numero fiscal", "381850123456",
     "fr.invariant")],
)  # fmt: skip
def test_an_alias_has_its_scheme_in_french(tmp_path, scheme, value, name):
    registry = Registry.open(tmp_path / "registry.json")
    facts.place_new(registry, **BY, label="A-1", type="logement")
    added = facts.alias_add(registry, **BY, place="A-1", scheme=scheme, value=value)
    assert added["aliases"][0]["scheme"] == name


def test_a_meter_and_a_duty_take_french_words(tmp_path):
    registry = Registry.open(tmp_path / "registry.json")
    facts.place_new(registry, **BY, label="A-1", type="appartement T2")
    table = "Matricule;Logement;Grandeur;Index de pose\n45123456;A-1;Eau froide;12,5 m3\n"
    (meter,) = facts.meter_import(registry, **BY, text=table, name="m.csv")["meters"]
    assert (meter["channel"], meter["label"]) == ("cw", "A-1")
    duty = facts.duty_add(
        registry, **BY, reference="décret 2020-886", recipient="syndic.example",
        channels=["chauffage"], billing=["30/06"],
    )  # fmt: skip
    assert duty["duties"][0]["channels"] == ["heat"]
