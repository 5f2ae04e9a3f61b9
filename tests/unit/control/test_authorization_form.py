"""What an assembly and an operator sign, and what is read out to them afterwards."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from agent.control.authorization_form import sheet
from agent.control.history import sentences
from agent.control.model import ConfiguredControl, OrderState, WriteTarget
from agent.control.records import Outcome
from agent.control.settings import Control, modality
from agent.registry.page import WIDTH

AGREED = {
    "action": "offset", "min": "-2", "max": "1", "max_duration": "2h", "min_gap": "2h",
    "max_per_day": 2, "windows": ["Mon-Fri 06:00-22:00"], "season": "10-15..04-15",
    "ramp_per_min": "0.5", "restore_random": "15min", "min_notice": "10min", "emergency": True,
}  # fmt: skip
PARIS = ZoneInfo("Europe/Paris")
SIX = 1_795_453_320.0
"""18:02 in Paris on 2026-11-23"""


OBJECT = WriteTarget("bms", "bacnet", "{}", "boiler", "offset", "1201", "analog-value,7", "K")
REGISTER = replace(OBJECT, link="cars", driver="modbus-tcp", address="255", at="holding/7/int16")


def printed(signed=None, **over) -> tuple[str, str]:
    said = {
        "point": "boiler/offset", "modality": AGREED, "equipment": "heating",
        "guards": [{"name": "stairwell", "point": "stairs/temp", "min": "18.0"}],
        "require": ["building_manager", "residents_council"], "restore": "relinquish",
        "inhibit": "boiler/dr-inhibit", "device_watchdog": "none-accepted",
    }  # fmt: skip
    options = Control.model_validate(said | over)
    every = {"stairs/temp": (60, "Cel"), "boiler/supply": (60, "Cel")}
    agreed = modality("boiler-offset", options, "K", every, options.sha256())
    array = options.restore == "relinquish"
    place, slots = (OBJECT, (13, 10)) if array else (REGISTER, (None, None))
    control = ConfiguredControl(agreed, place, slots, None, "v1", to_sign=options.sha256())
    made = sheet("Résidence Les Alpins", options, control, signed)
    for line in (*made.french.text.splitlines(), *made.english.text.splitlines()):
        assert len(line) <= WIDTH, line
    french, english = made.french.text, made.english.text
    return " ".join(french.split()), " ".join(english.split())


def test_it_says_how_far_how_often_when_and_how_gently_in_both_languages():
    french, english = printed()
    for words in (
        "Résidence Les Alpins — boiler-offset (boiler/offset)",
        "décalage de consigne : −2 à 1 K",
        "au plus 2 h à la fois, 2 fois par jour, pause de 2 h entre deux ordres",
        "seulement aux heures : lun.-ven. 06:00-22:00",
        "seulement du 15 octobre au 15 avril",
        "annoncé au moins 10 min à l'avance",
        "variation de 0,5 K par minute au plus",
        "libéré à un moment tiré au sort, dans les 15 min qui précèdent la fin",
        "ordres d'urgence admis",
        "stairwell : au moins 18 °C",
        "si un garde-fou est franchi : l'équipement est libéré (il reprend son propre réglage)",
        "réglage), puis pause de 2 h",
        "de même si un capteur ne répond pas, reste bloqué, ou donne une valeur invraisemblable",
        "valeur invraisemblable ou trop ancienne",
        "syndic ou bailleur - conseil syndical (vote de l'assemblée)",
    ):
        assert words in french
    for words in (
        "offset: −2 to 1 K",
        "at most 2 h at a time, 2 times a day, a pause of 2 h between two orders",
        "only at these hours: Mon-Fri 06:00-22:00",
        "only from 15 October to 15 April",
        "announced at least 10 min ahead",
        "change of 0.5 K a minute at most",
        "released at a moment drawn at random from the last 15 min",
        "emergency orders are taken",
        "stairwell: 18 °C at least",
        "if a guard trips: the equipment is released (it returns to its own setting)",
        "own setting), then a pause of 2 h",
        "building manager - residents council",
    ):
        assert words in english


def test_it_says_how_to_stop_it_what_each_loss_means_and_what_risk_stays():
    french, english = printed()
    assert "le point boiler/dr-inhibit de la GTB" in french
    assert "gardien control opt-out boiler-offset" in french
    assert "la valeur RESTE" in french
    assert "the value STAYS until a person clears it" in english
    assert "released at most 2 min after the restart" in english


SHEET = {
    "operator": "Chaleur & Fils",
    "object": "chaudière n° 1",
    "phones": [{"name": "Astreinte", "number": "+33 4 76 00 00 00"}],
    "excluded": ["hot-water", "legionella"],
    "also_excluded": ["pompe du 2e circuit"],
    "lowest_supply": {"point": "boiler/supply", "min": "45.5"},
}
LATEST = {
    "version": "0123456789", "by": "Marc Durand", "on": "2026-10-01", "recorded_by": "anne",
    "recorded_on": "2026-10-02", "scan": "",
}  # fmt: skip


def test_the_operator_reads_what_is_written_where_what_is_excluded_and_whom_to_call():
    french, english = printed(sheet=SHEET)
    for words in (
        "chaudière n° 1 - exploité par Chaleur & Fils",
        "objet analog-value,7 de l'automate 1201, sur le bus bms",
        "priorité BACnet 13 ; pour les ordres d'urgence 10",
        "production d'eau chaude sanitaire - traitement contre les légionelles - pompe du 2e",
        "45,5 °C, mesurée au point boiler/supply",
        "annoncé au moins 10 min à l'avance ; un ordre annoncé plus tard est refusé",
        "`gardien control opt-out boiler-offset --until JOUR`",
        "Astreinte : +33 4 76 00 00 00",
        "ni la température de départ minimale",
    ):
        assert words in french
    for words in (
        "object analog-value,7 of the controller 1201, on the line bms",
        "production of domestic hot water - treatment against legionella - pompe du 2e circuit",
        "45.5 °C, measured at boiler/supply",
        "`gardien control report --month YEAR-MONTH boiler-offset`",
    ):
        assert words in english
    assert (
        "registre holding/7/int16 de l'appareil d'adresse 255, sur le bus cars ; un registre"
        in (printed(sheet=SHEET, restore="preimage")[0])
    )


def test_a_sheet_hides_nothing_that_is_missing():
    bare = {name: SHEET[name] for name in ("operator", "phones")}
    no_notice = {name: value for name, value in AGREED.items() if name != "min_notice"}
    french, english = printed(sheet=bare, modality=no_notice)
    assert "nothing was named" in english
    assert "none was agreed" in english
    assert "aucun : un ordre peut commencer dès son arrivée" in french


@pytest.mark.parametrize(
    ("signed", "words"),
    [
        (None, "printed - date, name and signature for Chaleur & Fils: ___"),
        (
            {"accepted": False, "latest": None},
            "`gardien control accept boiler-offset` - date, name",
        ),
        (
            {"accepted": False, "latest": LATEST},
            "NOT ACCEPTED ANY MORE: Marc Durand accepted version",
        ),
    ],
    ids=["not known", "never", "another version"],
)
def test_it_says_accepted_by_only_if_this_version_was_signed(signed, words):
    """Rule H35."""
    french, english = printed(signed, sheet=SHEET)
    assert words in english
    assert "accepted by" not in english
    assert "acceptée par" not in french
    assert "has accepted" not in english


def test_it_names_who_signed_when_and_who_recorded_it():
    french, english = printed({"accepted": True, "latest": LATEST}, sheet=SHEET)
    assert (
        "accepted by Marc Durand for Chaleur & Fils on 1 October 2026; recorded by anne on"
        " 2 October 2026" in english
    )
    assert "acceptée par Marc Durand pour Chaleur & Fils le 1er octobre 2026" in french
    assert "aucun ordre n'est exécuté avant" not in french


def test_of_a_register_it_says_whose_hand_cannot_be_seen():
    """Rule H33."""
    french, english = printed(restore="preimage")
    assert "exactement sur la valeur qu'elle y a mise elle-même" in french
    assert "a person who sets exactly the value that the gateway has set, or who acts" in english
    assert "sets exactly the value" not in printed()[1]
    replaced = "the equipment then also replaces what a person has set since"
    assert replaced not in english
    dog = {"point": "car/dog", "timeout": "60s"}
    assert replaced in printed(restore="preimage", guards=[], device_watchdog=dog)[1]
    assert replaced not in printed(guards=[], device_watchdog=dog)[1]


@pytest.mark.parametrize(
    ("dog", "words"),
    [
        ({"point": "car/dog", "timeout": "60s"}, "falls back by itself after 1 min"),
        ({"logic": "the BMS drops a value 15 min old"}, "the BMS drops a value 15 min old"),
    ],
    ids=["watchdog", "logic"],
)
def test_a_limit_says_its_failsafe_and_what_gives_back_when_the_gateway_is_gone(dog, words):
    limit = {
        "action": "limit",
        "min": "6",
        "max": "32",
        "max_duration": "4h",
        "failsafe": {"value": "10"},
    }
    french, english = printed(modality=limit, restore="preimage", guards=[], device_watchdog=dog)
    assert (
        "aucun message de l'émetteur des ordres pendant 2 min : limite de repli 10 K,"
        " pendant au moins 2 h" in french
    )
    assert (
        "no message from the sender of orders for 2 min: failsafe limit 10 K, for at least 2 h"
        in english
    )
    assert "capteur" not in french  # nothing guards it
    assert words in english
    # a register has no priorities: the one thing that cannot be seen there is said
    assert "sets exactly the value" in english


def test_what_is_switched_says_its_rests_and_a_limit_without_a_heartbeat_falls_back_to_nothing():
    pause = {"action": "pause", "choices": ["0", "1"], "max_duration": "2h"}
    french, english = printed(modality=pause)
    assert "au moins 5 min à la fois, puis au moins 5 min sans ordre" in french
    assert "at least 5 min at a time, then at least 5 min without an order" in english
    files = {"value": "10", "heartbeat": "0s"}
    limit = {"action": "limit", "min": "6", "max": "32", "max_duration": "4h", "failsafe": files}
    _, english = printed(modality=limit)
    assert "no message from the sender of orders: the order in force ends as planned" in english


def test_the_page_bears_a_version_that_changes_with_what_is_agreed_and_with_nothing_else():
    """Rule H31."""

    def version(**over) -> str:
        return printed(**over)[1].partition("Version of this page -------------------- - ")[2][:10]

    same = version()
    assert version(measure="meter/power", shown={"active": "boiler/dr-active"}) == same
    assert version(modality=AGREED | {"max_per_day": 3}) != same
    assert version(guards=[{"point": "stairs/temp", "min": "17.5"}]) != same
    assert version(require=["building_manager"]) != same


def told(state: OrderState, at: float, **over) -> Outcome:
    return Outcome("one", "boiler-offset", state, SIX + at, value="-1.5", by="Métropole", **over)


def test_a_sentence_says_when_how_far_who_asked_on_what_ground_and_that_it_was_given_back():
    ended = {"seen": "lowest stairwell 18.4 °C", "words": "released, confirmed"}
    said = sentences(
        [
            told(OrderState.RECEIVED, -60),
            told(OrderState.ACCEPTED, -60, evidence="vote AG of 2026-05-12"),
            told(OrderState.STARTED, 0, before="400 W"),
            told(OrderState.RESTORING, 5340),
            told(OrderState.COMPLETED, 5340, before="400 W", after="150 W", **ended),
        ],
        PARIS,
        {"boiler-offset": "K"},
    )  # fmt: skip
    assert said == [
        (
            "2026-11-23 18:02–19:31 boiler-offset: −1.5 K, asked by Métropole, on the vote AG of"
            " 2026-05-12, lowest stairwell 18.4 °C, 400 W before and 150 W after, "
            "released, confirmed"
        )
    ]


@pytest.mark.parametrize("end", [OrderState.STARTED, OrderState.REJECTED])
def test_the_reason_of_an_order_is_told_whatever_became_of_it(end):
    """Rule H38."""
    group = [told(OrderState.RECEIVED, 0, words="la pointe\nde 18 h"), told(end, 0, words="no")]
    (said,) = sentences(group, PARIS, {"boiler-offset": "K"})
    assert ", asked by Métropole (reason: la pointe de 18 h)" in said


def test_a_refusal_a_wait_and_a_hold_are_told_apart_and_a_test_is_no_order():
    units = {"boiler-offset": "K"}
    refused = told(OrderState.REJECTED, 0, code="E_GUARD(stairwell)", words="stairwell is 17 °C")
    assert sentences([refused], PARIS, units)[0].endswith(
        "refused: stairwell is 17 °C (E_GUARD(stairwell))"
    )
    assert sentences([told(OrderState.SCHEDULED, 0)], PARIS, units)[0].endswith("not begun yet")
    assert sentences([told(OrderState.STARTED, 0)], PARIS, units)[0].endswith("in force")
    tried = Outcome("test", "boiler-offset", OrderState.COMPLETED, SIX, value=str(Decimal("0.3")))
    assert not sentences([tried], PARIS, units)
