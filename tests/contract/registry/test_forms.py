"""Consent forms: printed for each dwelling, brought back as a list; none beats a withdrawal."""

import csv
import io
import re
from zoneinfo import ZoneInfo

import pytest

from agent.api import forms as form_calls
from agent.core.errors import Refused
from agent.registry.consent_policy import policy
from agent.registry.forms import Box, FormLayout, Question, is_answer_list, template
from agent.registry.inputs import NewConsent, NewOccupancy, NewPlace, NewWithdrawal
from agent.registry.place import squeeze
from agent.registry.registry import Registry

NOW, DAY = 1_790_000_000, 86_400
A, B = "a.example", "b.example"
BOXES = [
    Box(A, "advice", ("heat",), DAY, 24),
    Box(A, "research", ("elec.imp",), 1800, 12),
    Box(B, "shifting", ("heat",), DAY, 12),
]
ZONE = ZoneInfo("Europe/Paris")


def look(language, **templates):
    asks = [
        Question(
            box, f"The {box.recipient} & Sons",
            {"fr": f"Pour {box.purpose}", "en": f"For {box.purpose}"},
            {"fr": "deux hivers", "en": "two winters"},
        )
        for box in BOXES
    ]  # fmt: skip
    texts = {language: template(None, language)} | templates
    return FormLayout("Les Lilas", ZONE, "Régie Dupont", "donnees@regie.example", "", asks, texts)


@pytest.fixture
def registry(tmp_path):
    found = Registry(tmp_path / "registry.json", lambda _: None)
    rows = [
        NewPlace(f"A-{n}", "dwelling", since=NOW - 300 * DAY, occupied=n < 4) for n in (1, 2, 3, 4)
    ]
    found.add_places(rows, "alice", "", NOW - 300 * DAY)
    return found


def forms(registry, now=NOW, language="fr", boxes=BOXES, **more):
    said = {"places": (), "again": False, "due": 0} | more
    return form_calls.forms(
        registry, who="alice", now=now, boxes=boxes, look=look(language), language=language, **said
    )


def back(registry, answers, now=NOW + DAY, signed="2026-09-22", **more):
    """Bring the list that was printed, with these answers by dwelling."""
    printed = more.pop("printed", None) or forms(registry, again=True)
    rows = list(csv.DictReader(io.StringIO(printed["list"].removeprefix("\ufeff")), delimiter=";"))
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), delimiter=";")
    writer.writeheader()
    for row in rows:
        if row["logement"] in answers:
            ticks = dict(zip("123", answers[row["logement"]], strict=True))
            writer.writerow(row | ticks | {"signé le": signed})
    return form_calls.back(
        registry,
        who="alice",
        now=now,
        text=text.getvalue(),
        name="r.csv",
        zone="Europe/Paris",
        **more,
    )


def in_force(registry, label="A-1"):
    (home, *_) = registry.occupancies_of(registry.place(label).id)[::-1]
    return sorted(
        (one.recipient, one.purpose) for to in (A, B) for one in registry.consents_of(home.id, to)
    )


@pytest.mark.parametrize("language", ["fr", "en"])
def test_a_page_says_all_that_people_must_know(registry, language):
    answer = forms(registry, language=language)
    assert [one["label"] for one in answer["forms"]] == ["A-1", "A-2", "A-3"]
    assert answer["nobody_known"] == ["A-4"]
    for one in answer["forms"]:
        assert one["form"] in answer["html"]
        assert one["form"] in answer["list"]
    assert answer["html"].count("break-after:page") == 2
    for said in (
        "Les Lilas", "Régie Dupont", "The a.example &amp; Sons (a.example)", "24", "12",
        "donnees@regie.example",
        *(("Pour research", "deux hivers", "toutes les 30 minutes", "à demander au gestionnaire")
          if language == "fr" else ("For research", "two winters", "every 30 minutes")),
    ):  # fmt: skip
        assert said in answer["html"]
    assert len(re.findall(r"<td class=tick>", answer["html"])) == 9
    assert "$" not in answer["html"]


@pytest.mark.parametrize(
    ("language", "daily", "fine"),
    [
        ("fr", "révèle : la consommation de chaque jour", "des relevés fréquents montrent"),
        ("en", "gives away: one index a day", "read often it shows"),
    ],
)
def test_a_box_says_what_its_own_step_gives_away(registry, language, daily, fine):
    page = forms(registry, language=language, places=["A-1"])["html"].replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert (page.count(daily), page.count(fine)) == (2, 1)
    exchanged = "si un compteur est remplacé" if language == "fr" else "if a meter is exchanged"
    assert page.count(exchanged) == 3


def test_a_lease_is_no_formula_in_the_list_of_answers(registry):
    registry.occupy(
        [NewOccupancy("move_in", "A-4", since=NOW - DAY, reference="=1+1")], "alice", "", NOW
    )
    answer = forms(registry, places=["A-4"])
    assert ";'=1+1;" in answer["list"]


def test_yes_is_a_consent_with_its_proof_and_no_ends_what_was_agreed(registry):
    forms(registry)
    scans = {squeeze(form_calls.due(registry, who="", now=NOW)["forms"][0]["form"]): "ab" * 32}
    answer = back(
        registry,
        {"A-1": ("oui", "non", ""), "A-2": ("non", "", "x"), "A-3": ("oui", "oui", "oui")},
        scans=scans, kept="folder 3",
    )  # fmt: skip
    assert in_force(registry) == [(A, "advice")]
    assert in_force(registry, "A-2") == [(B, "shifting")]
    assert in_force(registry, "A-3") == [(A, "advice"), (A, "research"), (B, "shifting")]
    consents = registry.consents()
    assert {one.method for one in consents} == {"paper"}
    assert {one.proof for one in consents} == {"folder 3", f"sha256:{'ab' * 32} folder 3"}
    assert len(answer["without_scan"]) == 2
    (advice,) = [one for one in consents if one.place == registry.place("A-1").id]
    assert 729 * DAY < advice.until - advice.given < 732 * DAY
    assert not form_calls.due(registry, who="", now=NOW + 2 * DAY)["forms"]


def test_a_list_that_is_brought_again_changes_nothing(registry):
    printed = forms(registry)
    back(registry, {"A-1": ("oui", "non", "")}, printed=printed)
    before = registry.revision
    answer = back(registry, {"A-1": ("oui", "non", "")}, printed=printed)
    assert (answer["consents"], registry.revision) == ([], before)
    with pytest.raises(Refused, match=r"r\.csv:2: form F.* has another answer already"):
        back(registry, {"A-1": ("oui", "oui", "")}, printed=printed)
    assert registry.revision == before


def test_a_form_that_knows_not_of_a_withdrawal_gives_nothing_and_refuses_all_the_same(registry):
    printed = forms(registry)
    registry.withdraw([NewWithdrawal(place="A-1", recipient=A)], "alice", "", NOW + 10)
    answer = back(registry, {"A-1": ("oui", "oui", "non")}, printed=printed)
    assert in_force(registry) == []
    assert "after it was printed: withdrawn from a.example" in answer["without_effect"][0]
    home = registry.occupancies_of(registry.place("A-1").id)[0]
    assert registry.marks(home.id, B)[-1].cause == "refused"
    # a new page tells them, and counts
    again = forms(registry, now=NOW + 2 * DAY, places=["A-1"])
    assert "vous avez retiré votre accord pour The a.example &amp; Sons" in again["html"]
    back(registry, {"A-1": ("oui", "", "")}, NOW + 3 * DAY, "2026-09-24", printed=again)
    assert in_force(registry) == [(A, "advice")]


def test_a_page_that_knows_not_of_a_withdrawal_is_printed_anew(registry):
    before = {one["label"]: one["form"] for one in forms(registry)["forms"]}
    registry.withdraw([NewWithdrawal(place="A-1", recipient=A)], "alice", "", NOW + 10)
    again = {one["label"]: one["form"] for one in forms(registry, NOW + DAY, again=True)["forms"]}
    assert {label for label in again if again[label] != before[label]} == {"A-1"}
    back(registry, {"A-1": ("oui", "", "")}, NOW + 2 * DAY, "2026-09-23")
    assert in_force(registry) == [(A, "advice")]


@pytest.mark.parametrize(
    ("heading", "is_one"),
    [
        ("formulaire;logement;bail;1;2;signé le", True),
        ('"form","dwelling","1","signed"', True),
        ("Numéro;logement;destinataire;grandeurs", False),
        ("formulaire;logement;destinataire;grandeurs", False),
        ("F2S55-6QE3S-H3ZXC;A-1;oui", True),
    ],
)
def test_an_ordinary_list_is_taken_for_no_list_of_answers(heading, is_one):
    assert is_answer_list(f"Les Lilas\n{heading}\n1;A-1;x;heat\n") is is_one


@pytest.mark.parametrize("first", ["yes", "no"])
def test_a_form_has_one_answer_in_a_list_and_of_two_forms_a_no_counts(registry, first):
    printed = forms(registry, places=["A-1"])
    (first,) = list(
        csv.DictReader(io.StringIO(printed["list"].removeprefix("\ufeff")), delimiter=";")
    )
    head, number = printed["list"].removeprefix("\ufeff").splitlines()[0], first["formulaire"]
    row = "{number};A-1;;{ticks};2026-09-22;;"

    def brought(*rows):
        return form_calls.back(
            registry, who="alice", now=NOW + DAY, text="\n".join((head, *rows)), zone="Europe/Paris"
        )

    yes = row.format(number=number, ticks="oui;oui;oui")
    with pytest.raises(Refused, match="has another answer already"):
        brought(yes, row.format(number=number, ticks="non;non;non"))
    (again,) = forms(registry, places=["A-1"], now=NOW + 1)["forms"]
    no = row.format(number=again["form"], ticks="non;non;non")
    answer = brought(*((yes, yes, no) if first == "yes" else (no, yes, yes)))
    assert in_force(registry) == []
    assert (answer["ended"], len(answer["without_effect"])) == (
        (3, 0) if first == "yes" else (0, 2)
    )


def test_a_row_that_names_another_dwelling_than_its_form_is_refused(registry):
    printed = forms(registry)
    shifted = printed | {"list": printed["list"].replace(";A-1;", ";A-3;")}
    with pytest.raises(Refused, match="belongs to A-1, but the row says A-3"):
        back(registry, {"A-3": ("oui", "", "")}, printed=shifted)


def test_a_scan_that_comes_later_is_added_to_its_consents(registry):
    printed = forms(registry)
    back(registry, {"A-1": ("oui", "non", "")}, printed=printed)
    scans = {squeeze(printed["forms"][0]["form"]): "ab" * 32}
    for added in (1, 0):
        answer = back(registry, {"A-1": ("oui", "non", "")}, printed=printed, scans=scans)
        assert (answer["given"], answer["ended"], answer["proved"]) == (0, 0, added)
    assert [one.proof for one in registry.consents()] == [f"sha256:{'ab' * 32}"]


def test_an_answer_without_effect_is_asked_for_again(registry):
    printed = forms(registry, places=["A-1"])
    registry.withdraw([NewWithdrawal(place="A-1", recipient=A)], "alice", "", NOW + DAY // 2)
    back(registry, {"A-1": ("oui", "", "")}, printed=printed)
    (waits,) = form_calls.due(registry, who="", now=NOW + 2 * DAY)["forms"]
    assert (waits["label"], waits["without_effect"]) == ("A-1", True)
    (new,) = forms(registry, again=True, now=NOW + 2 * DAY)["forms"]
    assert new["form"] != waits["form"]
    printed = forms(registry, again=True, now=NOW + 2 * DAY)
    back(
        registry,
        {"A-1": ("oui", "non", "")},
        printed=printed,
        now=NOW + 3 * DAY,
        signed="2026-09-24",
    )
    assert not form_calls.due(registry, who="", now=NOW + 4 * DAY)["forms"]


def test_a_form_without_effect_is_not_named_once_they_agreed_by_another_way(registry):
    printed = forms(registry, places=["A-1"])
    registry.withdraw([NewWithdrawal(place="A-1", recipient=A)], "alice", "", NOW + DAY // 2)
    back(registry, {"A-1": ("oui", "", "")}, printed=printed)
    (waits,) = form_calls.due(registry, who="", now=NOW + 2 * DAY)["forms"]
    (home,) = [one for one in registry.occupancies() if one.id == waits["occupancy"]]
    (mark,) = registry.marks(home.id)
    box = Box.of(registry.forms()[-1].asked[0])
    row = NewConsent(
        "A-1", A, box.channels, box.step, box.purpose, since=int(NOW + 2 * DAY), after=(mark.id,)
    )
    registry.consent([row], "alice", "", NOW + 2 * DAY, policy("FR-1"))
    assert not form_calls.due(registry, who="", now=NOW + 2 * DAY)["forms"]


def test_a_late_page_of_those_who_moved_out_gives_nothing(registry):
    printed = forms(registry)
    rows = [
        NewOccupancy("move_out", "A-1", until=NOW + DAY),
        NewOccupancy("move_in", "A-1", since=NOW + DAY),
    ]
    registry.occupy(rows, "alice", "", NOW + DAY)
    answer = back(registry, {"A-1": ("oui", "", "")}, NOW + 2 * DAY, printed=printed)
    assert "signed it have moved out" in answer["without_effect"][0]
    assert in_force(registry) == []
    # nobody is reminded of their page, and those who came are asked
    assert "A-1" not in [one["label"] for one in forms(registry, again=True)["forms"]]
    assert [one["label"] for one in forms(registry, now=NOW + 2 * DAY)["forms"]] == ["A-1"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"oui": "peut-être"}, "neither yes nor no"),
        ({"2026-09-22": ""}, "date of the signature is missing"),
        ({"2026-09-22": "2026-09-01"}, "before it was printed"),
        ({"oui;": ";"}, "no box is answered"),
        ({";A-1": "X;A-1"}, "is not an id"),
    ],
)
def test_a_wrong_line_is_told_and_nothing_is_recorded(registry, change, why):
    printed = forms(registry)
    lines = printed["list"].splitlines()
    text = "\n".join([lines[0], lines[1].replace("A-1;;;;;;;", "A-1;;oui;;;2026-09-22;;")])
    for old, new in change.items():
        text = text.replace(old, new)
    before = registry.revision
    with pytest.raises(Refused, match=rf"r\.csv:2: .*{why}"):
        form_calls.back(
            registry, who="a", now=NOW + DAY, text=text, name="r.csv", zone="Europe/Paris"
        )
    assert registry.revision == before


def test_what_ends_soon_is_told_and_asked_again(registry):
    back(registry, {"A-1": ("oui", "", ""), "A-2": ("", "", "oui"), "A-3": ("non", "", "")},
         printed=forms(registry))  # fmt: skip
    later = NOW + 340 * DAY
    (soon,) = form_calls.due(registry, who="", now=later)["consents"]
    assert (soon["label"], soon["purpose"]) == ("A-2", "shifting")
    assert [one["label"] for one in forms(registry, now=later, due=60)["forms"]] == ["A-2"]
    assert forms(registry, now=later)["forms"] == []
    back(registry, {"A-2": ("", "", "oui")}, later + DAY, "2027-08-28")
    assert form_calls.due(registry, who="", now=later + DAY)["consents"] == []
    assert set(in_force(registry, "A-2")) == {(B, "shifting")}
    assert max(one.until for one in registry.consents()) > later + 360 * DAY


def test_a_template_of_ones_own_is_taken_if_nothing_is_missing(registry, tmp_path):
    own = tmp_path / "own.html"
    own.write_text(
        "<body>Ville de X: $number $dwelling $boxes $controller $dpo $withdraw, 5 $$</body>",
        "utf-8",
    )
    answer = form_calls.forms(
        registry, who="a", now=NOW, places=["A-1"], again=False, due=0, boxes=BOXES,
        look=look("fr", fr=template(own, "fr")), language="fr",
    )  # fmt: skip
    assert "Ville de X: F" in answer["html"]
    assert ", 5 $" in answer["html"]
    own.write_text("$number $person", "utf-8")
    with pytest.raises(Refused, match=r"lacks \$dwelling .* unknown names: \$person"):
        template(own, "fr")
    own.write_text("5 $", "utf-8")
    with pytest.raises(Refused, match=r"write \$\$"):
        template(own, "fr")


def test_while_an_upgrade_is_judged_no_form_is_printed(registry):
    registry.marked = False
    with pytest.raises(Refused, match="once it is confirmed"):
        forms(registry)
