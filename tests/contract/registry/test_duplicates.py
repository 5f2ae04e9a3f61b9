"""Lists brought a second time: what stands is no error, what is over does not begin anew.
Rule I13.
"""

from decimal import Decimal

import pytest

from agent.api import facts
from agent.core.errors import Refused
from agent.registry.registry import Registry

NOW = 1_790_000_000.0
DAY = 86400
PLACES = "label;type;since\nA-1;dwelling;2025-01-01\nA-2;D;\nHall;C;\n"
METERS = "serial;dwelling;channel\n045;A-1;heat\n46;A-2;\n"
CONSENTS = "place;recipient;channels;purpose;scope\nA-1;centre.example;heat;advice;daily\n"
NAMES = "place;scheme;value\nA-1;PRM;19123456789012\n"


def at(now=NOW):
    return {"who": "alice", "now": now, "zone": "Europe/Paris"}


def places(registry, text=PLACES, **more):
    return facts.place_import(registry, **at(), text=text, name="p.csv", **more)


def meters(registry, text=METERS, now=NOW + DAY, **more):
    return facts.meter_import(registry, **at(now), text=text, name="m.csv", **more)


def consents(registry, text=CONSENTS, now=NOW + DAY):
    return facts.consent_give(registry, **at(now), text=text, name="c.csv")


@pytest.fixture
def registry(tmp_path):
    registry = Registry.open(tmp_path / "registry.json")
    places(registry)
    meters(registry, now=NOW)
    facts.consent_give(registry, **at(), text=CONSENTS, name="c.csv")
    facts.alias_import(registry, **at(), text=NAMES, name="n.csv")
    return registry


@pytest.mark.parametrize("preview", [False, True])
def test_a_list_that_is_brought_again_changes_nothing_and_is_no_error(registry, preview):
    before = registry.revision
    for made, what, many in (
        (places(registry, preview=preview), "places", 3),
        (meters(registry, preview=preview), "meters", 2),
        (consents(registry), "consents", 1),
        (facts.alias_import(registry, **at(), text=NAMES, name="n.csv"), "aliases", 1),
    ):
        assert (made[what], made["unchanged"]) == ([], many), what
    assert registry.revision == before


def test_only_what_is_new_in_it_is_recorded(registry):
    added = places(registry, PLACES + "A-3;logement;2025-01-01\n")
    assert ([one["label"] for one in added["places"]], added["unchanged"]) == (["A-3"], 3)
    added = meters(registry, METERS + "47;A-3;\n")
    assert ([one["serial"] for one in added["meters"]], added["unchanged"]) == (["47"], 2)
    added = consents(registry, CONSENTS + "A-3;centre.example;heat;advice;daily\n")
    assert ([one["label"] for one in added["consents"]], added["unchanged"]) == (["A-3"], 1)


def test_lots_that_are_known_are_not_counted_as_new(registry):
    text = "lot;label;type\n12;A-1;appartement\n112;A-1;cave\n"
    added = places(registry, text)
    assert (added["lots"], added["unchanged"]) == (2, 1)
    added = places(registry, text + "13;A-2;cave\n", preview=True)
    assert (added["lots"], added["unchanged"]) == (1, 3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("label;type\nA-1;common\n", "already: A-1"),
        ("label;type;id\nA-1;D;DRDV1-EWZEP-EEXY9\n", "already: A-1"),
        ("label;type;since\nA-1;D;2025-02-01\n", "already: A-1"),
        ("label;type;since\nA-2;D;2025-02-01\n", "to record its occupants"),
    ],
)
def test_a_place_that_the_list_has_otherwise_is_refused(registry, text, why):
    with pytest.raises(Refused, match=rf"p\.csv:2: .*{why}"):
        places(registry, text)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("45;A-2;heat;;", r"but meter 045 measures heat A-1 .* remove A-1 --old 045 \(--never"),
        ("45;A-1;heat;2026-01-01;", "but meter 045 measures heat A-1"),
        ("45;A-1;heat;;10", "but meter 045 measures heat A-1"),
        ("46;A-2;heat;;", "but meter 46 measures A-2"),
    ],
)
def test_a_meter_that_the_list_has_otherwise_is_refused_with_what_to_do(registry, row, why):
    with pytest.raises(Refused, match=rf"m\.csv:2: .*{why}"):
        meters(registry, f"serial;dwelling;channel;since;multiplier\n{row}\n")


def test_a_device_needs_no_name_where_its_number_is_known(registry):
    with pytest.raises(Refused, match="leave out the name of the device"):
        meters(registry, "serial;dwelling;device\n46;A-2;sdm-1\n")
    again = {**at(NOW + DAY), "device": "sdm-9", "dwelling": "A-2"}
    facts.meter_assign(registry, **again)
    with pytest.raises(Refused, match="recorded already"):
        facts.meter_assign(registry, **again)


def test_an_old_list_does_not_bring_back_a_meter_that_was_exchanged(registry):
    words = {"place": "A-2", "old": "46", "serial": "48", "at": "2026-09-22"}
    facts.meter_exchange(registry, **at(NOW + DAY), **words)
    with pytest.raises(Refused, match=r"m\.csv:3: meter 46 measures A-2 no more since .*`since`"):
        meters(registry, now=NOW + 2 * DAY)
    back = "serial;dwelling;since\n46;A-2;2026-10-01\n"
    (meter,) = meters(registry, back, now=NOW + 20 * DAY)["meters"]
    assert meter["serial"] == "46"


def test_a_meter_that_never_was_there_may_be_said_to_be_there_now(registry):
    facts.meter_remove(registry, **at(NOW + DAY), place="A-2", never=True)
    assert [one["serial"] for one in meters(registry)["meters"]] == ["46"]


def with_column(heading, cell):
    return CONSENTS.replace("scope\n", f"scope;{heading}\n").replace("daily\n", f"daily;{cell}\n")


def dated(heading):
    return with_column(heading, "2026-09-25") if heading else CONSENTS


def mark(registry):
    return registry.marks(registry.occupancies_of(registry.place("A-1").id)[0].id)[-1].id


def test_a_list_without_dates_gives_nothing_again_that_was_withdrawn(registry):
    facts.consent_withdraw(registry, who="alice", now=NOW + DAY, place="A-1")
    for heading in ("", "since", "given"):
        (no_effect,) = consents(registry, dated(heading), now=NOW + 9 * DAY)["without_effect"]
        assert (
            f"withdrawn from all recipients on 2026-09-22T14:13:20Z by alice: mark {mark(registry)}"
            in no_effect
        )
    agreed = with_column("after", mark(registry))
    assert consents(registry, agreed, now=NOW + 9 * DAY)["consents"]


@pytest.mark.parametrize("later", ["nothing", "withdrawn", "moved out"])
def test_a_list_gives_no_channel_again_that_was_withdrawn_by_itself(registry, later):
    both = CONSENTS.replace("heat", '"heat,cw"')
    facts.consent_give(registry, **at(NOW), text=both, name="c.csv", replace=True)
    facts.consent_withdraw(registry, who="alice", now=NOW + DAY, place="A-1", channels=["cw"])
    if later == "withdrawn":
        facts.consent_withdraw(registry, who="alice", now=NOW + DAY + 9, place="A-1")
    only = CONSENTS.replace("heat", "cw")
    if later == "moved out":
        facts.occupancy_move_out(registry, **at(NOW + DAY), place="A-1", at="2026-11-22")
    for text in (both, only):
        brought = {"text": text, "name": "c.csv", "replace": True}
        answer = facts.consent_give(registry, **at(NOW + 2 * DAY), **brought)
        assert (answer["consents"], len(answer["without_effect"])) == ([], 1)
    agreed = with_column("after", mark(registry)).replace("heat", "cw")
    assert facts.consent_give(registry, **at(NOW + 9 * DAY), text=agreed, name="c.csv")["consents"]


def test_a_list_without_dates_gives_nothing_for_who_moved_in_since(registry):
    facts.occupancy_move_out(registry, **at(NOW + DAY), place="A-1", at="2026-09-22")
    facts.occupancy_move_in(registry, **at(NOW + DAY), place="A-1", since="2026-09-22")
    given = CONSENTS.replace("scope\n", "scope;given\n").replace("daily\n", "daily;2026-09-20\n")
    with pytest.raises(Refused, match=r"c\.csv:2: lease: A-1 .* 2 occupancies, .* column `lease`"):
        consents(registry, now=NOW + 3 * DAY)
    with pytest.raises(Refused, match=r"c\.csv:2: .* before this occupancy began"):
        consents(registry, given, now=NOW + 3 * DAY)
    (_, home) = registry.occupancies_of(registry.place("A-1").id)
    assert consents(registry, with_column("lease", home.id), now=NOW + 4 * DAY)["consents"]


def test_a_newer_paper_is_not_taken_for_the_old_one(registry):
    newer = CONSENTS.replace("scope\n", "scope;given\n").replace("daily\n", "daily;2026-09-22\n")
    with pytest.raises(
        Refused, match=r"but A-1 .*; to end that one where this one begins: --replace"
    ):
        consents(registry, newer, now=NOW + 2 * DAY)


def test_a_duty_that_is_added_again_is_said_to_stand(registry):
    words = {"reference": "contract 7", "recipient": "syndic.example", "channels": ["heat"]}
    facts.duty_add(registry, **at(), **words)
    with pytest.raises(Refused, match=r"contract 7 .*recorded already"):
        facts.duty_add(registry, **at(NOW + DAY), **words)


CORRECT = {"place": "A-1", "channel": "heat", "multiplier": "10"}


def rows_of(registry, place="A-1"):
    return [
        (one.channel, one.multiplier, one.since, one.until)
        for one in registry.meters_of(registry.place(place).id)
    ]


def test_a_multiplier_is_corrected_at_one_instant_and_the_index_is_sent_with_both(registry):
    then, before = int(NOW + DAY), registry.revision
    made = facts.meter_correct(registry, **at(then), **CORRECT, closing=["8412,5"])
    assert [(one["serial"], one["multiplier"]) for one in made["meters"]] == [
        ("045", "1"), ("045", "10"),
    ]  # fmt: skip
    assert rows_of(registry) == [("heat", 1, NOW, then), ("heat", 10, then, None)]
    assert [(one.t, one.value) for one in registry.exchange_indexes(before)] == [
        (then - 1, Decimal("8412.5")), (then, Decimal(84125)),
    ]  # fmt: skip
    with pytest.raises(Refused, match="has the multiplier 10 already"):
        facts.meter_correct(registry, **at(then + 9), **CORRECT)


def test_a_multiplier_that_was_never_right_leaves_an_empty_interval(registry):
    (old,) = registry.meters_of(registry.place("A-1").id)
    facts.meter_correct(registry, **at(NOW + DAY), **CORRECT)
    facts.meter_correct(
        registry, **at(NOW + 2 * DAY), **CORRECT | {"multiplier": "20"}, always=True
    )
    (_, first), (_, empty), (_, last) = [(one.id, one) for one in registry.meters_of(old.place)]
    assert (first.since, first.until, first.multiplier) == (NOW, NOW + DAY, 1)
    assert sorted((one.until == one.since, one.multiplier) for one in (empty, last)) == [
        (False, 20), (True, 10),
    ]  # fmt: skip


def test_of_a_meter_for_all_channels_the_others_go_on(registry):
    words = {"place": "A-2", "channel": "heat", "multiplier": "0.1"}
    with pytest.raises(Refused, match="recorded for all its channels"):
        facts.meter_correct(registry, **at(NOW + DAY), **words)
    facts.meter_correct(
        registry, **at(NOW + DAY), **words, all_channels=["cw", "heat"], since="2026-09-22T00:00Z"
    )
    since = 1_790_035_200
    assert rows_of(registry, "A-2") == [
        (None, 1, NOW, since), ("cw", 1, since, None), ("heat", Decimal("0.1"), since, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"multiplier": "0"}, "is not a number such as"),
        ({"channel": "cw"}, "none of them is cw"),
        ({"old": "46"}, "none of them is 46"),
        ({"since": "2026-09-20"}, "no meter is recorded there"),
    ],
)
def test_what_is_no_correction_is_refused_and_changes_nothing(registry, words, why):
    before = registry.revision
    with pytest.raises(Refused, match=why):
        facts.meter_correct(registry, **at(NOW + DAY), **CORRECT | words)
    assert registry.revision == before
