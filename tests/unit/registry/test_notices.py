"""Whatever people say in whatever order: nobody lives in one dwelling with others, no name means
two places, and what was known at each time stays known.
"""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import Refused
from agent.registry.admission import Author
from agent.registry.admit_people import admit_occupancies
from agent.registry.admit_places import admit_aliases
from agent.registry.index import RegistryIndex
from agent.registry.inputs import NewAlias, NewOccupancy
from agent.registry.records import covers
from agent.registry.retractions import effects
from agent.registry.storage import from_row, to_row
from tests.depth import examples
from tests.unit.registry.building import HOME, NEIGHBOUR, NOW, called

PLACES = [called(), called(NEIGHBOUR, "A-3-13")]
days = st.integers(0, 12).map(lambda day: NOW - 86_400 * day)
maybe = st.none() | days
dwellings = st.sampled_from(["A-3-12", "A-3-13"])
references = st.sampled_from(["B-1", "B-2", "B-3"])
notices = st.builds(
    NewOccupancy,
    st.sampled_from(["move_in", "move_out", "correct", "lease"]),
    dwellings,
    st.none(),
    maybe,
    maybe,
    references,
)


def told(documents, calls, admit):
    """Record calls as the registry does; the states it went through."""
    states = [list(documents)]
    for number, rows in enumerate(calls, 1):
        author = Author("alice", "a test", NOW, number)
        try:
            new = admit(RegistryIndex(states[-1]), rows, author)
        except Refused as error:
            assert str(error)  # noqa: PT017 -- something is said
            new = []
        states.append([*states[-1], *new])
    return states


def overlaps(documents):
    return [
        (one, other)
        for one, other in itertools.combinations(documents, 2)
        if max(one.since, other.since) < min(one.until or 2**62, other.until or 2**62)
    ]


@examples(30, 1_500)
@given(st.lists(st.lists(notices, min_size=1, max_size=3), max_size=6))
def test_nobody_lives_with_others_and_what_was_known_stays_known(calls):
    """Rule I14."""
    states = told(PLACES, calls, admit_occupancies)
    answers = []
    for documents in states:
        index = RegistryIndex(documents)
        for place in (HOME, NEIGHBOUR):
            assert overlaps(index.occupancies_of(place)) == []
        answers.append([index.occupancy_at(HOME, t) for t in range(NOW - 13 * 86_400, NOW, 43_200)])
    last = [from_row(to_row(document)) for document in states[-1]]
    assert last == states[-1]
    for number, known in enumerate(answers):
        then = RegistryIndex(
            document for document in last if document.word.revision <= max(number, 1)
        )
        if number:
            at = range(NOW - 13 * 86_400, NOW, 43_200)
            assert [then.occupancy_at(HOME, t) for t in at] == known


@examples(30, 1_500)
@given(st.lists(st.lists(notices, min_size=1, max_size=3), max_size=6))
def test_what_is_taken_back_is_exactly_who_lived_there_by_an_earlier_word_and_not_by_the_last(
    calls,
):
    """Second door to the effects: not document by document, but answer by answer."""
    documents = told(PLACES, calls, admit_occupancies)[-1]
    taken = [one for _, found in effects(documents, 0) for one in found]
    last = {(one.id): one for one in RegistryIndex(documents).occupancies}
    for t in range(NOW - 13 * 86_400, NOW, 43_200):
        said = {
            (one.id, one.place) for one in documents if one.kind == "occupancy" and covers(one, t)
        }
        wrong = {(id_, place) for id_, place in said if not covers(last[id_], t)}
        ranges = {
            (one.occupancy, one.place)
            for one in taken
            if one.since <= t and (one.until is None or t < one.until)
        }
        assert wrong <= ranges
        assert ranges <= said


names = st.builds(
    NewAlias,
    dwellings,
    st.sampled_from(["PRM", "lot", "RNB"]),
    st.sampled_from(["19123456789012", "12345678901234", "34", "D8T7TQQ4JHMY"]),
    maybe,
    maybe,
    ends=st.booleans(),
)


@examples(30, 1_500)
@given(st.lists(st.lists(names, min_size=1, max_size=3), max_size=6))
def test_a_name_means_one_place_at_any_instant(calls):
    for documents in told(PLACES, calls, admit_aliases):
        aliases = RegistryIndex(documents).aliases
        meanings = [one for one in aliases if one.scheme != "fr.rnb"]
        for one, other in overlaps(meanings):
            assert (one.scheme, one.value) != (other.scheme, other.value)
            assert "fr.lot" in {one.scheme, other.scheme} or one.place != other.place
