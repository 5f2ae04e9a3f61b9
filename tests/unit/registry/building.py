"""A building for the registry's tests: builds objects, states nothing."""

from agent.core.quantities import channels
from agent.registry.consent_policy import CommonBasis, policy
from agent.registry.index import RegistryIndex
from agent.registry.records import Consent, Installation, Occupancy, Place, Provenance

NOW = 1_790_000_000
HOME, NEIGHBOUR = "D84G7ZWYRD6Z1GQ", "DRDV1EWZEPEEXY9"
PLANT, WHOLE = "CZS2YFSTBQQ5WDC", "B6ASQZ1Y2KSAA3Y"
PEOPLE, LATER_PEOPLE = "H1", "H2"
US = "energie.metropole.example"
HEAT = channels()["heat"]
FR = policy("FR-1", CommonBasis("AG du 12 mai 2026, résolution 14", NOW))
WORD = Provenance("alice", NOW, "a test", 1)


def lived(place=HOME, since=NOW, until=None, id_=PEOPLE):
    return Occupancy(id_, place, since, until, WORD)


def agreed(  # noqa: PLR0913
    *, recipient=US, channels=("heat",), step=1800, since=NOW, until=NOW + 9000, of=PEOPLE, id_="c1"
):
    return Consent(id_, of, HOME, recipient, channels, step, "advice", since, until, WORD)


def installed(  # noqa: PLR0913
    place=HOME,
    *,
    device=None,
    serial=None,
    channel=None,
    since=NOW,
    until=None,
    pinned=False,
    id_="i1",
):
    return Installation(id_, place, device, serial, pinned, channel, since, until, WORD)


def called(place=HOME, label="A-3-12"):
    return Place(place, label, WORD)


def facts(*documents):
    return RegistryIndex(documents)
