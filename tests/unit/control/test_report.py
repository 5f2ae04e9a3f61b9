"""The monthly report for the operator, and the notice for the stairwells. Rule H38."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from agent.control.history import order_reports
from agent.control.model import FAILSAFE, OrderCode, OrderState
from agent.control.records import Outcome
from agent.control.report import TEXTS, monthly, stairwell
from agent.registry.page import WIDTH, printed, texts
from agent.trust.error_codes import ObjectCode

PARIS = ZoneInfo("Europe/Paris")
RECEIVED, ACCEPTED, SCHEDULED, STARTED, COMPLETED, ABORTED, REJECTED = (
    OrderState[name]
    for name in ("RECEIVED", "ACCEPTED", "SCHEDULED", "STARTED", "COMPLETED", "ABORTED", "REJECTED")
)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS).timestamp()


def outcome(jti: str, state: OrderState, when: str, words: str = "", **more) -> Outcome:
    value = more.pop("value", "-1.5")
    by = more.pop("by", "metropole")
    return Outcome(jti, "boiler", state, at(when), words=words, value=value, by=by, **more)


DONE = [
    outcome("one", RECEIVED, "2026-10-30T12:00", "la pointe\nde 18 h."),
    outcome("one", ACCEPTED, "2026-10-30T12:00", evidence="vote AG, résolution 14 of 2026-05-12"),
    outcome("one", SCHEDULED, "2026-10-30T12:00", "2026-11-02T17:00:00Z"),
    outcome("one", STARTED, "2026-11-02T18:00"),
    outcome("one", COMPLETED, "2026-11-02T19:30", "released, confirmed", closed=True,
            seen="lowest cage 18.4 °C, lowest supply 46.5 °C"),
]  # fmt: skip
GUARDED = [
    outcome("two", RECEIVED, "2026-11-03T12:00"),
    outcome("two", STARTED, "2026-11-03T18:00"),
    outcome("two", ABORTED, "2026-11-03T18:20", "guard:supply: supply is 44 °C, below 45"),
    outcome("two", ABORTED, "2026-11-03T18:21", "guard:supply: supply is 44 °C, below 45",
            closed=True),
]  # fmt: skip
REFUSED = [
    outcome("three", RECEIVED, "2026-11-04T12:00", "la pointe"),
    outcome("three", REJECTED, "2026-11-04T12:00", "boiler needs 30min of notice", code="E_NOTICE"),
]
WAITS = [
    outcome("four", RECEIVED, "2026-11-28T12:00", "grand froid"),
    outcome("four", SCHEDULED, "2026-11-28T12:00", "2026-11-29T17:00:00Z"),
]
SAFE = [outcome(FAILSAFE, STARTED, "2026-11-05T12:00", "the centre is not heard", value="6", by="")]


def document(*outcomes: Outcome, **more) -> dict:
    control = {
        "unit": "K", "operator": "Chaleur & Fils", "object": "chaudière n° 1",
        "phones": ["Astreinte +33 4 76 00 00 00"],
        "opted_out_until": None, "sheet": None,
        "orders": [one.document() for one in order_reports(outcomes)],
    } | more  # fmt: skip
    return {
        "month": "2026-11", "building": "Les Alpins", "timezone": "Europe/Paris",
        "until": "2026-11-28T18:00:00Z", "ended": True, "complete": True,
        "controls": {"boiler": control},
    }  # fmt: skip


def read(page) -> str:
    assert max(map(len, page.text.splitlines())) <= WIDTH
    return " ".join(page.text.split())


def test_the_operator_reads_who_wanted_what_why_and_how_cold_it_became():
    french = read(monthly(document(*DONE, *GUARDED, *REFUSED), "fr"))
    for words in (
        "Rapport mensuel des ordres : novembre 2026",
        "ordres exécutés : 2 (1 h 51 min au total) ; refusés : 1",
        "* 2 novembre 2026 à 18:00 : −1,5 K demandé par : metropole",
        "autorisation : vote AG, résolution 14 du 12 mai 2026",
        "motif : la pointe de 18 h.",
        "libération : 2 novembre 2026 à 19:30",
        "valeurs extrêmes : cage 18,4 °C au plus bas, température de départ 46,5 °C au plus bas",
        "résultat : libéré comme prévu",
        "motif : aucun n'a été donné",
        "résultat : interrompu : garde-fou « température de départ »",
        "résultat : refusé : préavis trop court (E_NOTICE)",
    ):
        assert words in french
    english = read(monthly(document(*GUARDED), "en"))
    assert "result: broken off: supply is 44 °C, below 45" in english
    assert "extreme values: not known" in english


def test_the_hours_count_an_order_in_force_until_the_report():
    begun = outcome("five", STARTED, "2026-11-28T18:00")
    french = read(monthly(document(*DONE, begun), "fr"))
    assert "ordres exécutés : 2 (2 h 30 min au total)" in french
    assert "en cours au moment de ce rapport, comptés jusque-là : 1" in french
    assert "comptés jusque-là" not in read(monthly(document(*DONE), "fr"))


def test_a_report_without_controls_says_so():
    nothing = document() | {"controls": {}}
    assert "Aucune commande n'est configurée" in read(monthly(nothing, "fr"))
    assert "No control is configured" in read(stairwell(nothing, "en"))


def test_an_order_that_was_accepted_in_another_month_keeps_its_reason():
    (report,) = order_reports(DONE)
    assert (report.at, report.why) == (at("2026-11-02T18:00"), "la pointe de 18 h.")
    assert report.held_s == 5400


def test_the_stairwell_reads_what_was_done_and_why_and_nothing_of_what_was_refused():
    french = read(stairwell(document(*DONE, *GUARDED, *REFUSED, *WAITS, *SAFE), "fr"))
    for words in (
        "le 2 novembre 2026 de 18:00 à 19:30 : −1,5 K. Demandé par metropole",
        "Demandé par metropole. Motif : la pointe de 18 h. Cage 18,4 °C au plus bas",
        "Motif : aucun n'a été donné. Interrompu : garde-fou « température de départ ».",
        "prévu à partir du 29 novembre 2026 à 18:00 : −1,5 K. Demandé par metropole. Motif : grand",
        "depuis le 5 novembre 2026 à 12:00 : limite de repli 6 K. L'émetteur des ordres ne",
        "Questions : Astreinte +33 4 76 00 00 00",
    ):
        assert words in french
    assert "E_NOTICE" not in french
    assert "chaudière n° 1 ---" in french
    assert "4 novembre" not in french
    assert "nothing was changed" in read(stairwell(document(*REFUSED), "en"))


def test_the_stairwell_reads_no_name_of_a_person():
    words = "anne has paused it until 2027-04-30; released, confirmed"
    ended = [
        *GUARDED[:2],
        outcome("two", OrderState.OPTED_OUT, "2026-11-03T18:20", words, closed=True),
    ]
    assert "anne has paused it" in read(monthly(document(*ended), "en"))
    notice = read(stairwell(document(*ended), "en"))
    assert "Ended by somebody in the building" in notice
    assert "anne" not in notice


def test_a_report_says_what_is_missing_and_what_stands_now():
    unsigned = {"accepted": False, "version": "0123456789"}
    made = document(*REFUSED, opted_out_until="2027-04-30T22:00:00Z", sheet=unsigned)
    made |= {"complete": False, "ended": False}
    english = read(monthly(made, "en"))
    assert "NOT COMPLETE" in english
    assert "what is known until 28 November 2026 at 19:00" in english
    assert "paused now: no order before 1 May 2027 at 00:00" in english
    assert "has not accepted the sheet in force (version 0123456789)" in english
    assert "No order is carried out before 1 May 2027" in read(stairwell(made, "en"))


def test_what_a_sender_writes_is_no_html():
    page = monthly(document(outcome("x", RECEIVED, "2026-11-03T12:00", "<script>a</script>")), "fr")
    assert "<script>" not in printed(page)
    assert "&lt;script&gt;" in printed(page)


@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_state_and_every_refusal_has_a_text(language):
    known = texts(TEXTS, language)
    assert set(known["states"]) == set(OrderState)
    at_the_object = {str(code) for code in ObjectCode} | {"E_ASSET"}
    assert {str(code) for code in OrderCode} - at_the_object <= set(known["codes"])
