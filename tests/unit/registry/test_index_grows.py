"""An index that grows change by change answers as one that is built of all documents at once."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.registry.index import RegistryIndex
from agent.registry.labels import FEW
from agent.registry.records import (
    Alias,
    Consent,
    ConsentMark,
    Duty,
    Form,
    Installation,
    Occupancy,
    Place,
    Provenance,
    Withdrawal,
)
from tests.unit.registry.building import called, installed, lived

WHEN = st.integers(0, 6)
UNTIL = st.none() | WHEN
PLACES = st.sampled_from(["D1", "D2", "D3", "C1"])
PEOPLE = st.sampled_from(["H1", "H2"])
RECIPIENTS = st.sampled_from(["a.example", "b.example"])
CHANNELS = st.lists(st.sampled_from(["heat", "cw", "dhw"]), unique=True).map(tuple)
WORDS = st.builds(Provenance, st.just("alice"), WHEN, st.just(""), st.integers(0, 3))


def ids(letter):
    return st.sampled_from([f"{letter}{n}" for n in range(3)])


DOCUMENTS = st.one_of(
    st.builds(Place, PLACES, st.sampled_from(["A-1", "A 1", "a-1", "B", "C"]), WORDS),
    st.builds(
        Alias, ids("a"), PLACES, st.sampled_from(["fr.lot", "bis:x", "fr.rnb"]),
        st.sampled_from(["1", "A1", "2"]), WHEN, UNTIL, WORDS,
    ),
    st.builds(Occupancy, PEOPLE, PLACES, WHEN, UNTIL, WORDS),
    st.builds(
        Installation, ids("i"), PLACES, st.none() | ids("d"),
        st.sampled_from([None, "1", "01", "2"]), st.booleans(),
        st.sampled_from([None, "heat", "cw"]), WHEN, UNTIL, WORDS,
    ),
    st.builds(
        Consent, ids("c"), PEOPLE, PLACES, RECIPIENTS, CHANNELS, st.sampled_from([900, 1800]),
        st.just("advice"), WHEN, st.sampled_from([5, 9, 10**9]), WORDS,
        given=st.none() | WHEN, withdrawn=UNTIL,
    ),
    st.builds(Withdrawal, ids("c"), WORDS),
    st.builds(
        ConsentMark, ids("m"), PEOPLE, st.none() | RECIPIENTS, st.just("withdrawn"), WORDS
    ),
    st.builds(
        Form, ids("f"), PEOPLE, PLACES, st.just(()), st.just(()), WHEN, WORDS
    ),
    st.builds(Duty, ids("u"), RECIPIENTS, st.just("contract"), CHANNELS, WHEN, UNTIL, WORDS),
)  # fmt: skip
HISTORIES = st.lists(st.lists(DOCUMENTS, max_size=6), max_size=10)


def everything(index):
    """All that an index can answer from, in comparable form."""
    state = dict(vars(index))
    labels = dict(vars(state.pop("labels")))
    del labels["_hints_left"], state["_unlabelled"]
    # several versions of one consent have no order among themselves
    state["_ended"] = {pair: sorted(map(repr, ended)) for pair, ended in index._ended.items()}
    return state, labels, list(index.places), list(index.forms)


def grown(history):
    index = RegistryIndex()
    for documents in history:
        before = everything(index)
        after = index.and_with(documents)
        assert everything(index) == before, "an index never changes"
        index = after
    return index


@settings(max_examples=400, deadline=None)
@given(HISTORIES)
@example(
    [[lived("D1", id_="H1")], [called("D1", "Z")], [called("D2", "A")], [lived("D2", id_="H2")]]
)
@example([[called("D1", "A")], [installed("D1", id_="i1")], [called("D1", "Z")]])
def test_an_index_that_grew_is_the_one_that_is_built_at_once(history):
    built = RegistryIndex(document for documents in history for document in documents)
    assert everything(grown(history)) == everything(built)


def test_a_long_change_is_sorted_and_a_short_one_is_put_in_its_place():
    homes = [lived(f"D{n % 7}", id_=f"H{n}", since=n * 37 % 11) for n in range(3 * FEW)]
    history = [homes[: FEW + 50], homes[FEW + 50 : FEW + 60], homes[FEW + 60 :], homes[:5]]
    assert everything(grown(history)) == everything(
        RegistryIndex(home for some in history for home in some)
    )
