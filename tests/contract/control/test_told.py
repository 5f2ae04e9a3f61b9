"""What recipients hear of the controls in force: which, and until when; nothing of dwellings."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest

from agent.api import control
from agent.control.model import LossRule, OrderState
from agent.control.orders import Orders
from agent.control.records import CLOSED, Copied, Outcome, Phase, Transaction
from agent.core.clock import stamp
from agent.core.errors import WriteRefused
from agent.gateway.controls import Steering
from agent.trust.claims import Command
from agent.trust.verify import EVERYTHING, Verified
from tests.contract.control.pretend import Hand, Site, agreed, event, order

SCHEMA = Path(__file__).parents[3] / "docs" / "batch.schema.json"


def steering(site: Site, place: str | None) -> Steering:
    devices = {"boiler": SimpleNamespace(place=place)}
    config = SimpleNamespace(
        controls={"it": SimpleNamespace(point="boiler/offset")}, devices=devices
    )
    return Steering(config, site.controller, Orders(site.controller), None)


def holding(kind: LossRule = LossRule.SHIFT, lasts: float = 600.0) -> Site:
    site = Site(agreed(kind))
    site.start()
    site.journal.save(Transaction(events=[event(order(start=0.0, lasts=lasts, value="-1.5"))]))
    asyncio.run(site.controller.tend("it"))
    assert site.device.slots[13] is not None
    return site


async def unheard(_: str) -> None:
    """Nobody listens to how far a test is."""


def test_a_hold_is_told_with_the_time_it_has_left_until_it_is_given_back():
    site = holding()
    (told,) = steering(site, "B1").holds()
    assert told == {"control": "it", "until": "2027-01-15T08:10:00Z", "left": 600}
    site.truth.at = 240.0
    assert steering(site, "B1").holds()[0]["left"] == 360
    site.truth.at = 600.0
    asyncio.run(site.controller.tend("it"))
    assert steering(site, "B1").holds() == []
    site.close()


def test_a_wall_clock_that_steps_back_makes_no_hold_longer_than_it_is():
    site = holding()
    site.truth.at, site.truth.wrong = 240.0, -3600.0
    assert steering(site, "B1").holds()[0]["left"] == 360
    site.close()


def test_what_is_held_in_a_dwelling_is_told_to_nobody():
    """Rule H30."""
    site = holding()
    assert steering(site, None).holds() == []
    site.close()


def test_a_failsafe_that_ends_with_the_centres_next_word_has_no_end():
    site = Site(agreed(LossRule.LIMIT))
    site.start()
    site.controller.heard()
    for at in (0.0, 60.0, 121.0, 200.0):
        site.truth.at = at
        asyncio.run(site.controller.tend("it"))
    assert [(one["until"], one["left"]) for one in steering(site, "B1").holds()] == [(None, None)]
    site.close()


def test_what_is_not_given_back_of_a_control_that_is_gone_is_listed_all_the_same():
    site = holding()
    site.truth.reachable = False
    site.controller.controls = {}
    asyncio.run(site.controller.release_unconfigured())
    found = control.held(steering(site, "B1"))["it"]
    assert (found["state"], found["value"]) == ("being given back", "-1.5")
    assert found["alarm"] == "not released yet: silent"
    site.truth.reachable, site.truth.at = True, 60.0
    asyncio.run(site.controller.release_unconfigured())
    assert not control.held(steering(site, "B1"))
    site.close()


def guarded(site: Site) -> None:
    site.truth.guard = Decimal(17)


def revoked(site: Site) -> None:
    (held,) = site.journal.of(site.fit.key)
    site.journal.save(Transaction(events=[replace(held, grants=("that is gone",))]))


WAYS = {
    "cancelled": (lambda site: site.controller.cancel("it", "by somebody"), OrderState.CANCELLED),
    "opted out": (
        lambda site: site.controller.opt_out(site.controller.controls["it"], 60.0, "too cold"),
        OrderState.OPTED_OUT,
    ),
    "reloaded": (
        lambda site: site.controller.release_controls("changed", ["it"]), OrderState.ABORTED
    ),
    "broken": (
        lambda site: site.controller.release_after_error("it", "a bug"), OrderState.ABORTED
    ),
    "abandoned": (lambda site: site.controller.abandon("it", "scrapped"), OrderState.CANCELLED),
    "guard": (guarded, OrderState.ABORTED),
    "revoked": (revoked, OrderState.ABORTED),
    "over": (lambda site: setattr(site.truth, "at", 600.0), OrderState.COMPLETED),
}  # fmt: skip


@pytest.mark.parametrize("reachable", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_an_order_is_told_once_and_after_a_pending_release(way, reachable):
    """Rule H11: it was told when the order was cancelled, and again when it was released."""
    act, state = WAYS[way]
    site = holding()
    site.truth.reachable = reachable
    ending = act(site)
    if ending is not None:
        asyncio.run(ending)
    for at in (0.0, 0.0, 60.0):
        site.truth.at += at
        site.truth.reachable = site.truth.reachable or bool(at)
        asyncio.run(site.controller.tend("it"))
    if way == "abandoned" and not reachable:
        state = OrderState.FAILED
    else:
        assert site.device.slots[13] is None
    told = [one["state"] for one in steering(site, "B1").outcomes().values()]
    told = [one for one in told if one != OrderState.RESTORING]
    pending = [] if reachable else [OrderState.RELEASE_PENDING]
    assert told == [OrderState.STARTED, *pending, state]
    (order_,) = site.journal.of(site.fit.key)
    assert order_.state is state
    site.close()


def states(site: Site, *left_out: OrderState) -> list[tuple[str, str]]:
    told = steering(site, "B1").outcomes().values()
    return [(one["jti"], one["state"]) for one in told if one["state"] not in left_out]


@pytest.mark.parametrize("reachable", [True, False])
def test_an_error_in_a_release_is_told_as_pending_and_the_end_once_it_is_over(reachable):
    """Rules H11, H18, H29: ABORTED was told at once, and again after a pending release."""
    site = holding()

    def broken(_place, _slot):
        raise RuntimeError("a bug")

    access, site.controller.dependencies.access = site.controller.dependencies.access, broken
    for _ in range(2):
        with pytest.raises(RuntimeError):
            asyncio.run(site.controller.release_after_error("it", "a bug"))
    pending = [("one", OrderState.STARTED), ("one", OrderState.RELEASE_PENDING)]
    assert states(site) == pending
    site.controller.dependencies.access = access
    for site.truth.reachable in (reachable, True):
        site.truth.at += 60
        asyncio.run(site.controller.release_after_error("it", "a bug"))
    assert states(site) == [*pending, ("one", OrderState.ABORTED)]
    assert site.device.slots[13] is None
    site.close()


def refused_by(site: Site, slot: int) -> None:
    """The device takes no value in this slot."""

    class Refuses(Hand):
        async def write(self, value: Decimal | None) -> None:
            raise WriteRefused(f"{value} is refused")

    def access(_place, at):
        return (Refuses if at == slot else Hand)(site.device, at, site.steps, site.on_write)

    site.controller.dependencies.access = access


@pytest.mark.parametrize("abandons", [False, True])
def test_an_order_that_gives_way_ends_once_also_if_its_own_slot_is_released_later(abandons):
    """Rule H11: it was told as superseded, then as pending, then as superseded again."""
    site = holding()
    limits = replace(site.modality.limits, emergency=True)
    site.controller.controls["it"] = replace(site.fit, modality=agreed(limits=limits))
    refused_by(site, 13)
    stronger = order("two", "-2", start=10.0, lasts=100.0, emergency=True)
    site.journal.save(Transaction(events=[event(stronger)]))
    for at in (10.0, 20.0):
        site.truth.at = at
        asyncio.run(site.controller.tend("it"))
    assert (site.device.slots[10], site.device.slots[13]) == (Decimal(-2), Decimal("-1.5"))
    assert any(one.state is OrderState.RELEASE_PENDING for one in site.journal.recent)
    if abandons:
        asyncio.run(site.controller.abandon("it", "scrapped"))
    site.controller.dependencies.access = site.hand
    for at in (80.0, 110.0):
        site.truth.at = at
        asyncio.run(site.controller.tend("it"))
    assert states(site, OrderState.RESTORING) == [
        ("one", OrderState.STARTED), ("one", OrderState.SUPERSEDED), ("two", OrderState.STARTED),
        ("two", OrderState.CANCELLED if abandons else OrderState.COMPLETED),
    ]  # fmt: skip
    assert not site.journal.records
    site.close()


def test_an_order_does_not_begin_at_a_device_that_holds_the_value_of_the_one_before():
    """Rules H11, H16: a stronger order at a silent device was told as begun, and never ended."""
    site = holding()
    site.truth.reachable = False
    site.journal.save(
        Transaction(events=[event(order("two", "-2", start=10.0, lasts=100.0, prio=-1))])
    )
    for at in (10.0, 20.0, 110.0, 120.0):
        site.truth.at = at
        asyncio.run(site.controller.tend("it"))
    site.truth.reachable, site.truth.at = True, 180.0
    asyncio.run(site.controller.tend("it"))
    assert states(site) == [
        ("one", OrderState.STARTED), ("one", OrderState.SUPERSEDED), ("two", OrderState.EXPIRED)
    ]  # fmt: skip
    assert site.device.slots[13] is None
    site.close()


def test_the_end_is_told_of_an_order_whose_hold_goes_on_with_the_one_that_it_interrupted():
    """Rules H8, H11."""
    site = Site()
    site.start()
    weaker = event(order(start=0.0, lasts=300.0, resume=True))
    stronger = event(order("two", "-2", start=10.0, lasts=100.0, prio=-1))
    site.journal.save(Transaction(events=[weaker, stronger]))
    for at in (0.0, 10.0, 110.0, 300.0):
        site.truth.at = at
        asyncio.run(site.controller.tend("it"))
    assert states(site, OrderState.RESTORING) == [
        ("one", OrderState.STARTED), ("one", OrderState.SUPERSEDED), ("two", OrderState.STARTED),
        ("two", OrderState.COMPLETED), ("one", OrderState.STARTED), ("one", OrderState.COMPLETED),
    ]  # fmt: skip
    site.close()


def test_the_end_is_told_of_an_order_that_failed_until_its_time_was_over():
    """Rule H11: it expired while it was to be released, and its failure was told to nobody."""
    site = Site()
    site.start()
    site.journal.save(Transaction(events=[event(order(start=0.0))]))
    refused_by(site, 13)
    asyncio.run(site.controller.tend("it"))
    assert [record.outcome for record in site.journal.records.values()] == [OrderState.FAILED]
    site.truth.at = 180.0
    asyncio.run(site.controller.tend("it"))
    assert states(site) == [("one", OrderState.FAILED)]
    site.close()


def test_what_was_released_without_the_agent_is_told_once_after_the_start():
    """Rules H11, H20: the start reported ABORTED(restart), too."""
    site = holding()
    (record,) = site.journal.records.values()
    closed = replace(record.releasing(OrderState.ABORTED, "it does not run"), phase=Phase.CLOSED)
    copied = Copied(site.journal.id, closed, CLOSED, "released")
    site.device.slots[13] = None
    site.die()
    site.start()
    site.journal.merge([copied], site.truth.moment())
    asyncio.run(site.controller.recover())
    told = list(steering(site, "B1").outcomes().values())
    assert [(one["state"], one.get("words")) for one in told[1:]] == [("ABORTED", "released")]
    (over,) = site.journal.of(site.fit.key)
    assert (over.state, over.over) == (OrderState.ABORTED, site.truth.moment())
    site.close()


@pytest.mark.parametrize("place", ["B1", None], ids=["common", "dwelling"])
def test_what_becomes_of_an_order_is_told_also_where_its_control_is_gone(place):
    """Rule H11."""
    site = Site()
    site.start()
    site.journal.save(Transaction(events=[event(order(start=0.0))]))
    here = steering(site, place)
    site.controller.controls, here.config.controls = {}, {}
    site.journal.key_of = lambda _: None
    asyncio.run(site.controller.release_unconfigured())
    assert [one["code"] for one in here.outcomes().values()] == (["E_ASSET"] if place else [])
    site.close()


def test_who_ordered_hears_that_there_is_no_control_of_that_name_and_nobody_else():
    site = Site()
    site.start()
    site.journal.key_of = lambda name: site.fit.key if name == "it" else None
    no = Outcome(
        "j", "boiller", OrderState.REJECTED, 0.0, "E_ASSET", "nothing is called so", by="r.ex"
    )
    site.journal.save(Transaction(outcomes=[no, replace(no, control="it")]))
    here = steering(site, None)  # `it` is in a dwelling
    (one,) = here.outcomes("r.ex").values()
    assert (one["control"], one["code"]) == ("boiller", "E_ASSET")
    assert one["words"] == "nothing is called so"
    assert not here.outcomes("other.ex")
    assert not here.outcomes()
    assert not here.outcomes("other.ex", "other")
    site.close()


def test_whoever_brought_an_order_for_equipment_that_is_not_here_hears_of_it():
    """Also if its key has a name that no recipient has: an order for now, for later, a release."""
    site = Site()
    site.start()
    site.journal.key_of = lambda _: None
    here = steering(site, None)
    for n, (act, start) in enumerate((("offset", 0), ("offset", 3600), ("release", 0))):
        cmd = {"act": act, "tgt": ["lift"], "val": 1, "dur": "PT1H"}
        cmd["start"] = stamp(site.truth.moment().wall + start)
        said = {"iss": "x", "jti": f"0192-order-{n}", "iat": 1, "aud": "G", "exp": 2, "seq": n}
        model = Command.model_validate(said | {"cmd": cmd})
        by = Verified(
            "dr-command+jwt", "k", "grid_operator", "EnerCentre", EVERYTHING, said, model,
            model.jti, 1, 2, f"{n}" * 64, b"", "centre",
        )  # fmt: skip
        asyncio.run(here.orders.take(by))
        told = list(here.outcomes("r.ex", "centre").values())
        assert [(one["jti"], one["state"], one["code"]) for one in told] == [
            (f"0192-order-{m}", "REJECTED", "E_ASSET") for m in range(n + 1)
        ]
        assert told[-1]["words"] == "there is no control lift here"
    assert not here.outcomes("r.ex", "other")
    items = json.loads(SCHEMA.read_text())["properties"]["directory"]["properties"]["outcomes"]
    jsonschema.validate(told, items)
    site.close()


@pytest.mark.parametrize("place", ["B1", None], ids=["common", "dwelling"])
@pytest.mark.parametrize("what", ["failsafe", "test", ""])
def test_what_becomes_of_no_order_is_told_also_where_its_control_is_gone(what, place):
    site = Site(agreed(LossRule.LIMIT if what == "failsafe" else LossRule.SHIFT))
    site.start()
    if what == "test":
        asyncio.run(site.controller.test("it", unheard))
    else:
        site.device.slots[13] = None if what else Decimal(-2)
        asyncio.run(site.controller.recover())
        asyncio.run(site.controller.tend("it"))
    here = steering(site, place)
    before = list(here.outcomes().values())
    site.controller.controls, here.config.controls = {}, {}
    site.journal.key_of = lambda _: None
    asyncio.run(site.controller.release_unconfigured())
    site.die()
    here.controller = site.start()
    told = list(here.outcomes().values())
    assert {one["jti"] for one in told} == ({what} if place else set())
    assert told[: len(before)] == before
    assert len(told) == len(site.journal.recent) or not place
    site.close()


def test_what_was_done_in_a_dwelling_is_told_to_nobody_when_its_control_moves_to_common_plant():
    """Rule H30."""
    site = holding()
    here = steering(site, None)
    here.config.controls["it"].point = "pump/offset"
    here.config.devices["pump"] = SimpleNamespace(place="B1")
    assert not here.outcomes()
    assert not here.holds()
    here.config.devices["boiler"].place = "B1"
    assert here.outcomes()
    site.close()


def test_what_was_found_without_an_order_is_told_as_the_schema_has_it():
    site = Site()
    site.start()
    site.device.slots[13] = Decimal(-2)
    asyncio.run(site.controller.tend("it"))
    (told,) = steering(site, "B1").outcomes().values()
    assert (told["jti"], told["state"]) == ("", "ABORTED")
    schema = json.loads(SCHEMA.read_text())["properties"]["directory"]["properties"]["outcomes"]
    jsonschema.validate([told], schema)
    site.close()


@pytest.mark.parametrize(("array", "pre"), [(False, "32"), (True, None)], ids=["register", "slot"])
def test_a_begin_tells_what_stood_in_a_register_before_for_whoever_replaces_the_gateway(array, pre):
    """Rule A15."""
    site = Site(array=array)
    site.start()
    site.journal.save(Transaction(events=[event(order(start=0.0))]))
    asyncio.run(site.controller.tend("it"))
    told = {one["state"]: one for one in steering(site, "B1").outcomes().values()}
    assert told["STARTED"].get("pre") == pre
    site.close()
