import pytest

from agent.registry.matching import Listed, OnTheLine, join

HEAT = frozenset({"heat"})


def listed(label, serial=None, device=None):
    return Listed(label, serial, device)


def device(name, serial=None, why="", channels=HEAT):
    return OnTheLine(name, serial, channels, why)


def test_a_meter_matches_the_device_that_says_its_number_as_people_write_it():
    joined = join([listed("A-1", "0045 1")], [device("m", "451")])
    assert [(meter.label, one.device) for meter, one in joined.matched] == [("A-1", "m")]
    assert (joined.silent, joined.unlisted, joined.doubled) == ([], [], [])


def test_a_device_that_says_no_number_matches_by_its_name():
    assert join([listed("A-1", "45", "m")], [device("m")]).matched
    assert join([listed("A-1", None, "m")], [device("m", "9")]).matched


@pytest.mark.parametrize(
    ("meter", "found", "why"),
    [
        (listed("A-1", "45"), [], "no device reports this number"),
        (listed("A-1", "45", "m"), [device("m", "46")], "m reports 46"),
        (
            listed("A-1", "45", "m"),
            [device("n", "45"), device("m")],
            "n reports this number, not m",
        ),
        (listed("A-1", "45", "m"), [device("m", why="silent")], "m does not answer: silent"),
        (listed("A-1", None, "x"), [device("m", "45")], "no device x is configured"),
    ],
)
def test_a_meter_on_the_list_that_nothing_answers_for_is_told_with_what_is_known(meter, found, why):
    joined = join([meter], found)
    assert joined.matched == []
    assert [said for _, said in joined.silent] == [why]


def test_a_device_that_is_not_on_the_list_is_told():
    joined = join([listed("A-1", "45")], [device("m", "45"), device("n", "46")])
    assert [one.device for one in joined.unlisted] == ["n"]


def test_two_for_one_are_told():
    found = [device("m", "45"), device("n", "46"), device("o", "46"), device("w", "47", "", {"cw"})]
    joined = join([listed("A-1", "45"), listed("A-1", "46"), listed("A-1", "47")], found)
    assert joined.doubled == ["n and o both report 46", "A-1: 45 and 46 both measure heat"]
