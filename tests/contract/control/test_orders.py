"""Guards rule G5: signed objects become what is done, once, and only as far as allowed."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import pytest

from agent.api import control as control_api
from agent.control.model import ConfiguredControl, Limits, OrderState
from agent.control.orders import Orders
from agent.core.errors import NotRecorded, Refused, SpoolFull, StorageFailed
from agent.gateway.signed_objects import SignedObjects
from agent.trust.error_codes import Forged
from agent.trust.sign import Signer
from agent.trust.verify import Member, verify
from tests.contract.control.pretend import BEGIN, PLACE, Site, agreed
from tests.unit.inbox.desk import Here
from tests.unit.trust.objects import MEMBERS, NAMES, RIGHT, claims, known, scoped, signed
from tests.unit.trust.objects import SIGNERS as KEYS

NOW = int(BEGIN)
ROLES = ("building_manager", "residents_council")


class Bench:
    """A gateway with a desk, and the building's people with their keys."""

    def __init__(self, **over) -> None:
        limits = Limits(least=Decimal(-2), most=Decimal(1), duration=7200.0, a_day=5)
        modality = agreed(name="boiler-offset", limits=limits, require=ROLES, version="v7", **over)
        self.site = Site(modality)
        self.site.start()
        fit = replace(self.site.fit, modality=modality)
        self.site.controller.controls = {"boiler-offset": fit}
        self.orders = Orders(self.site.controller)

    def close(self) -> None:
        self.site.close()

    def restart(self) -> None:
        """The agent is killed, and comes back with what is on the disk."""
        fits = self.site.controller.controls
        self.site.die()
        self.site.start()
        self.site.controller.controls = fits
        self.orders = Orders(self.site.controller)

    def another(self, name: str, **over) -> ConfiguredControl:
        """One more control, of a point of its own."""
        modality = replace(self.site.modality, name=name, **over)
        return replace(self.site.fit, modality=modality, place=replace(PLACE, point=name))

    def verified(self, raw: bytes):
        return verify(raw, known(now=self.site.truth.moment().wall))

    def take(self, raw: bytes):
        return asyncio.run(self.orders.take(self.verified(raw)))

    def tend(self) -> None:
        asyncio.run(self.site.controller.tend("boiler-offset"))

    def granted(self, *roles: str, **lim) -> list[str]:
        return [self.grant(role, **lim)["grant"] for role in roles or ROLES]

    def grant(self, role: str, occ: str | None = None, **lim):
        said = {"iss": NAMES[role], "iat": NOW, "nbf": NOW - 60, "exp": NOW + 90 * 86_400}
        said |= {"role": role, "lim": {"min": -2, "max": 1, "unit": "K"} | lim}
        said |= {"occ": occ} if occ else {}
        return self.take(signed("dr-grant+jwt", role, **said))

    def order(self, by: str = "grid_operator", **over) -> bytes:
        cmd = dict(RIGHT["dr-command+jwt"][1]["cmd"]) | {"start": ..., "dur": "PT10M"}
        cmd |= over.pop("cmd", {})
        cmd = {name: value for name, value in cmd.items() if value is not ...}
        at = int(self.site.truth.moment().wall)
        said = {"iss": NAMES[by], "iat": at, "exp": at + 600, "seq": 1, "cmd": cmd} | over
        return signed("dr-command+jwt", by, **said)

    @property
    def states(self) -> list[str]:
        return [one.state for one in self.site.journal.history(0, 1e12)]


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.site.close()


def test_what_everybody_granted_is_done_and_given_back_at_its_end(bench):
    grants = bench.granted()
    answer = bench.take(bench.order())
    assert answer["targets"]["boiler-offset"]["state"] == "SCHEDULED"
    assert answer["targets"]["boiler-offset"]["grants"] == grants
    bench.tend()
    assert bench.site.device.slots[13] == Decimal("-1.5")
    assert [row.agreed for row in bench.site.journal.records.values()] == ["v7"]
    bench.site.truth.at = 600.0
    bench.tend()
    assert bench.site.device.slots[13] is None
    assert bench.states == [
        OrderState.RECEIVED,
        OrderState.ACCEPTED,
        OrderState.SCHEDULED,
        OrderState.STARTED,
        OrderState.RESTORING,
        OrderState.COMPLETED,
    ]
    ground = [one.evidence for one in bench.site.journal.history(0, 1e12) if one.evidence]
    assert "AG, résolution 14 of 2026-05-12" in ground[0]


def test_an_order_for_many_controls_that_is_refused_is_one_entry_of_the_audit(bench):
    noted = []
    bench.site.controller.dependencies.audit = lambda kind, body: noted.append((kind, dict(body)))
    names = [f"no-such-{n}" for n in range(100)]
    answer = bench.take(bench.order(jti="0192-for-a-hundred", cmd={"tgt": names}))
    assert len(answer["targets"]) == 100
    ((kind, body),) = noted
    assert (kind, body["code"], body["count"]) == ("control.refused", "E_ASSET", 100)
    assert body["controls"] == names[:20]


def test_every_decision_stands_in_the_audit_by_ids_alone(bench):
    """Rule O26."""
    noted = []
    bench.site.controller.dependencies.audit = lambda kind, body: noted.append((kind, dict(body)))
    grants = bench.granted()
    bench.take(bench.order(jti="0192-the-one-order"))
    bench.tend()
    bench.site.truth.guard = Decimal(17)
    bench.site.truth.at = 20.0
    bench.tend()
    bench.take(bench.order(jti="0192-and-one-more"))
    kinds = [kind for kind, _ in noted]
    assert kinds == [
        "control.grant", "control.grant", "control.accepted", "control.started",
        "control.given_back", "control.refused",
    ]  # fmt: skip
    assert noted[2][1] == {
        "jti": "0192-the-one-order",
        "control": "boiler-offset",
        "grants": grants,
        "agreed": "v7",
    }
    assert noted[4][1]["state"] == "ABORTED"
    assert noted[5][1]["code"] == "E_GUARD(stairs)"


def test_the_same_bytes_again_get_the_first_answer_and_are_not_done_again(bench):
    """Rule O8."""
    bench.granted()
    raw = bench.order()
    first = bench.take(raw)
    bench.tend()
    bench.site.truth.at = 590.0
    again = bench.take(raw)
    assert again == first | {"again": True}
    bench.site.truth.at = 660.0
    bench.tend()
    bench.take(raw)
    bench.tend()
    assert [value for _, value in bench.site.device.log] == [Decimal("-1.5"), None]


def test_a_copy_of_an_order_gets_its_answer_also_after_its_time(bench, tmp_path):
    """Rules O8, O6: it was E_EXPIRED, of an order that was carried out. What expired unread has no
    effect.
    """
    here = Here(tmp_path).believed()
    heard: list[float] = []
    centre = SimpleNamespace(heard=lambda: heard.append(here.wall))
    steering: list[SimpleNamespace | None] = [
        SimpleNamespace(orders=bench.orders, controller=centre)
    ]
    objects = SignedObjects(here.registry, here.notes, _at_once, dict, lambda: steering[-1])
    objects.open(lambda: nullcontext(here.inbox))

    def accept(raw: bytes):
        here.wall = bench.site.truth.moment().wall
        return asyncio.run(objects.accept(raw, "metropole"))

    bench.granted()
    grant = {"iat": NOW, "nbf": NOW - 60, "exp": NOW + 900, "aud": here.inbox.audience.exact}
    grant = signed("dr-grant+jwt", **grant, jti="0192-for-a-quarter")
    order, unread = (bench.order(aud=here.inbox.audience.exact) for _ in range(2))
    first, granted = accept(order), accept(grant)
    bench.tend()
    bench.site.truth.at = 601.0
    bench.tend()
    bench.site.truth.at = 3600.0
    assert len(heard) == 2
    assert accept(order) == first | {"again": True}
    assert accept(grant) == granted | {"again": True}
    assert len(heard) == 2, "no sign of life (rule H12)"
    with pytest.raises(Forged, match="E_EXPIRED"):
        accept(unread)
    bench.tend()
    assert [value for _, value in bench.site.device.log] == [Decimal("-1.5"), None]
    controller = bench.site.controller
    writer = SimpleNamespace(call=controller.dependencies.call)
    desk = SimpleNamespace(writer=writer, controller=controller, orders=bench.orders)
    house = SimpleNamespace(steering=desk, objects=objects)
    tried = asyncio.run(control_api.dry_run(house, None, text=order.decode()))
    assert tried["targets"]["boiler-offset"]["code"] == "E_REPLAY"
    with pytest.raises(Refused, match="E_EXPIRED"):
        asyncio.run(control_api.dry_run(house, None, text=unread.decode()))
    accept(signed("dr-revoke+jwt", iat=NOW, ver=1, rev=[{"jti": "0192-for-a-quarter"}]))
    with pytest.raises(Forged, match="E_REVOKED"):
        accept(grant)
    objects.without_controls()
    steering.append(None)
    with pytest.raises(NotRecorded):
        accept(order)
    here.close()


async def _at_once() -> None:
    """The disk answers."""


def test_the_same_number_on_other_bytes_is_a_replay_also_after_a_restart(bench):
    bench.granted()
    raw = bench.order(jti="0192-one-and-the-same")
    bench.take(raw)
    bench.site.die()
    bench.site.start()
    bench.orders = Orders(bench.site.controller)
    other = bench.order(jti="0192-one-and-the-same", cmd={"val": -1})
    with pytest.raises(Forged, match="E_REPLAY"):
        bench.take(other)
    assert bench.take(raw)["again"]


def test_a_role_that_has_not_granted_is_named(bench):
    bench.granted("building_manager")
    found = bench.take(bench.order())["targets"]["boiler-offset"]
    assert found["code"] == "E_GRANT_MISSING(residents_council)"
    assert "residents council" in found["words"]
    bench.tend()
    assert not bench.site.device.log


def test_the_manager_cannot_grant_in_the_residents_name(bench):
    with pytest.raises(Forged, match="cannot grant as residents_council"):
        bench.take(
            KEYS["building_manager"].sign(
                "dr-grant+jwt",
                claims("dr-grant+jwt", iss=NAMES["building_manager"], iat=NOW, nbf=NOW,
                       exp=NOW + 86_400, role="residents_council"),
            )
        )  # fmt: skip


def test_limits_that_an_order_widens_are_named(bench):
    """Rule O17."""
    bench.granted("building_manager")
    bench.granted("residents_council", min=-1)
    found = bench.take(bench.order())["targets"]["boiler-offset"]
    assert found["code"] == "E_GRANT_LIMIT(residents_council,min)"
    assert "-1.5 was asked" in found["words"]


def test_a_revoked_grant_ends_what_is_held_by_it(bench):
    """Rule H27."""
    grants = bench.granted()
    bench.take(bench.order())
    bench.tend()
    assert bench.site.device.slots[13] == Decimal("-1.5")
    said = {"iat": NOW, "ver": 1, "rev": [{"jti": grants[1]}]}
    bench.take(signed("dr-revoke+jwt", **said))
    bench.tend()
    assert bench.site.device.slots[13] is None
    assert OrderState.ABORTED in bench.states
    found = bench.take(bench.order())["targets"]["boiler-offset"]
    assert found["code"] == "E_REVOKED(residents_council)"


def test_a_key_that_is_revoked_ends_what_it_has_ordered(bench):
    """Rule H27."""
    bench.granted()
    bench.take(bench.order())
    bench.tend()
    assert bench.site.device.slots[13] == Decimal("-1.5")
    kid = KEYS["grid_operator"].kid
    said = {"iss": NAMES["root"], "iat": NOW, "ver": 1, "rev": [{"kid": kid}]}
    bench.take(signed("dr-revoke+jwt", "root", **said))
    bench.tend()
    assert bench.site.device.slots[13] is None
    assert "the key that ordered it was revoked" in bench.site.journal.history(0, 1e12)[-1].words


def test_a_grant_that_comes_again_after_its_revocation_is_answered_revoked(bench):
    about = {"iat": NOW, "nbf": NOW - 60, "exp": NOW + 86_400, "jti": "0192-given-and-taken"}
    raw = signed("dr-grant+jwt", **about)
    assert not bench.take(raw)["revoked"]
    assert bench.take(raw)["again"]
    bench.take(signed("dr-revoke+jwt", iat=NOW, ver=1, rev=[{"jti": "0192-given-and-taken"}]))
    for _ in range(2):
        with pytest.raises(Forged, match="0192-given-and-taken was revoked on") as refusal:
            bench.take(raw)
        assert refusal.value.code == "E_REVOKED"


def test_two_issuers_use_one_number_for_a_grant_and_each_counts_for_itself(bench):
    about = {"iat": NOW, "nbf": NOW - 60, "exp": NOW + 90 * 86_400, "jti": "0192-the-same-one"}
    for role in ROLES:
        said = about | {"iss": NAMES[role], "role": role, "lim": {"min": -2, "max": 1, "unit": "K"}}
        assert bench.take(signed("dr-grant+jwt", role, **said))["grant"] == "0192-the-same-one"
    order = bench.order(auth=["0192-the-same-one"])
    assert bench.take(order)["targets"]["boiler-offset"]["state"] == "SCHEDULED"
    said = {"iss": NAMES[ROLES[0]], "iat": NOW, "ver": 1, "rev": [{"jti": "0192-the-same-one"}]}
    bench.take(signed("dr-revoke+jwt", ROLES[0], **said))
    found = bench.take(bench.order())["targets"]["boiler-offset"]
    assert found["code"] == f"E_REVOKED({ROLES[0]})"


def test_a_revocation_stands_for_ever_also_for_a_grant_that_comes_after_it(bench):
    """Rule O15."""
    bench.granted("building_manager")
    number = "0192-revoked-before-it-came"
    bench.take(signed("dr-revoke+jwt", iat=NOW, ver=7, rev=[{"jti": number}]))
    late = {"iat": NOW, "nbf": NOW - 60, "exp": NOW + 86_400, "jti": number}
    assert bench.take(signed("dr-grant+jwt", **late))["revoked"]
    found = bench.take(bench.order())["targets"]["boiler-offset"]
    assert found["code"] == "E_REVOKED(residents_council)"
    with pytest.raises(Forged, match="E_VERSION"):
        bench.take(signed("dr-revoke+jwt", iat=NOW, ver=6, rev=[{"jti": "0192-another"}]))


def test_nobody_takes_back_what_another_role_said(bench):
    grants = bench.granted()
    said = {"iss": NAMES["building_manager"], "iat": NOW, "ver": 1, "rev": [{"jti": grants[1]}]}
    with pytest.raises(Forged, match="cannot revoke a grant of"):
        bench.take(signed("dr-revoke+jwt", "building_manager", **said))


def test_an_occupant_takes_back_nothing_of_a_neighbour(bench):
    grant = bench.grant("occupant", occ="H84G7ZWYRD6Z1GQ")["grant"]
    neighbour = Signer.new("A-3-13")
    members = MEMBERS | {neighbour.kid: Member(neighbour.key, neighbour.name, "occupant")}
    said = {"iss": neighbour.name, "iat": NOW, "ver": 1, "rev": [{"jti": grant}]}
    raw = neighbour.sign("dr-revoke+jwt", claims("dr-revoke+jwt", **said))
    with pytest.raises(Forged, match="cannot revoke a grant of"):
        asyncio.run(bench.orders.take(verify(raw, known(now=NOW, members=members))))


def test_an_order_takes_the_place_of_one_that_has_not_begun(bench):
    bench.granted(max_day=1)
    bench.take(bench.order(jti="0192-the-first", cmd={"start": "2027-01-15T10:00:00Z"}))
    again = {"start": "2027-01-15T12:00:00Z", "ref": "0192-the-first"}
    assert bench.take(bench.order(cmd=again))["targets"]["boiler-offset"]["state"] == "SCHEDULED"
    first = bench.site.journal.events["0192-the-first", "boiler-offset"]
    assert first.state is OrderState.CANCELLED
    assert "replaced by" in bench.site.journal.history(0, 1e12)[-1].words


def test_an_order_that_has_begun_stands_beside_whatever_names_it(bench):
    bench.granted(max_day=1)
    bench.take(bench.order(jti="0192-the-first"))
    bench.tend()
    found = bench.take(bench.order(cmd={"ref": "0192-the-first"}))["targets"]["boiler-offset"]
    assert found["code"] == "E_GRANT_LIMIT(building_manager,max_day)"
    assert bench.site.device.slots[13] == Decimal("-1.5")


@pytest.mark.parametrize("by", ["residents_council", "grid_operator"])
def test_whoever_could_have_authorized_may_end_it_whatever_the_clock(bench, by):
    """Rule H9."""
    bench.granted()
    bench.take(bench.order())
    bench.tend()
    bench.site.truth.trusted = False
    bench.take(bench.order(by, cmd={"act": "release", "val": ..., "unit": ..., "dur": ...}))
    assert bench.site.device.slots[13] is None
    assert OrderState.CANCELLED in bench.states


def test_who_could_not_have_authorized_may_not_end_it(bench):
    bench.granted()
    bench.take(bench.order())
    bench.tend()
    stop = {"act": "release", "val": ..., "unit": ..., "dur": ...}
    stop["tgt"] = ["boiler-offset", "lift"]
    answer = bench.take(bench.order("boiler_operator", cmd=stop))
    assert answer["targets"]["boiler-offset"]["code"] == "E_KID"
    told = [one for one in bench.site.journal.recent if one.state is OrderState.REJECTED]
    assert [(one.control, one.code) for one in told] == [
        ("boiler-offset", "E_KID"), ("lift", "E_ASSET"),
    ]  # fmt: skip
    assert all(one.words for one in told)
    assert bench.site.device.slots[13] == Decimal("-1.5")


def test_a_cancellation_that_comes_before_its_order_refuses_it(bench):
    """Rule H9."""
    bench.granted()
    stop = {"act": "cancel", "val": ..., "unit": ..., "dur": ..., "ref": "0192-not-yet-here"}
    bench.take(bench.order(cmd=stop))
    found = bench.take(bench.order(jti="0192-not-yet-here"))["targets"]["boiler-offset"]
    assert found["code"] == "E_REVOKED"


def test_an_unknown_target_does_not_stop_the_others(bench):
    """Rule H29."""
    bench.granted()
    answer = bench.take(bench.order(cmd={"tgt": ["boiler-offset", "lift"]}))["targets"]
    assert answer["lift"]["code"] == "E_ASSET"
    assert answer["boiler-offset"]["state"] == "SCHEDULED"


def test_a_draw_is_kept_for_ever(bench):
    """Rule H6."""
    bench.granted()
    bench.take(bench.order(jti="0192-with-a-draw", cmd={"rand": "PT10M"}))
    event = bench.site.journal.events["0192-with-a-draw", "boiler-offset"]
    bench.site.die()
    bench.site.start()
    assert bench.site.journal.events["0192-with-a-draw", "boiler-offset"] == event
    assert NOW <= event.begin <= NOW + 600


def test_an_order_for_later_survives_a_restart_and_begins_on_time(bench):
    bench.granted()
    bench.take(bench.order(cmd={"start": "2027-01-15T08:10:00Z"}))
    bench.site.die()
    bench.site.truth.at = 300.0
    bench.site.start()
    bench.site.controller.controls = {
        "boiler-offset": replace(bench.site.fit, modality=bench.site.modality)
    }
    asyncio.run(bench.site.controller.recover())
    bench.tend()
    assert not bench.site.device.log
    bench.site.truth.at = 601.0
    bench.tend()
    assert bench.site.device.log == [(601.0, Decimal("-1.5"))]


def test_a_hold_ends_with_the_occupancy_on_whose_word_it_stands(bench):
    """Rules O18, H27."""
    occupancy, homes = "HTH9ZB1J27K4M40", {}
    homes[occupancy] = BEGIN - 86_400, BEGIN + 86_400
    bench.site.controller.dependencies.home = lambda occupancy, _device: homes.get(occupancy)
    modality = replace(bench.site.modality, require=("occupant",))
    bench.site.controller.controls = {"boiler-offset": replace(bench.site.fit, modality=modality)}
    with pytest.raises(Forged, match="must name its occupancy"):
        bench.grant("occupant")
    bench.grant("occupant", occ=occupancy)
    taken = bench.take(bench.order())["targets"]["boiler-offset"]
    assert taken["state"] == "SCHEDULED"
    bench.tend()
    assert bench.site.device.slots[13] == Decimal("-1.5")
    bench.site.truth.at = 60.0
    homes[occupancy] = BEGIN - 86_400, BEGIN + 50  # they have moved out
    bench.tend()
    assert bench.site.device.slots[13] is None
    told = bench.site.journal.history(0, 1e12)[-1]
    assert told.state is OrderState.ABORTED
    assert "the occupancy of the occupant has ended" in told.words
    refused = bench.take(bench.order())["targets"]["boiler-offset"]
    assert refused["code"] == "E_GRANT_MISSING(occupant)"


def test_a_key_that_is_for_other_equipment_neither_orders_nor_ends(bench):
    bench.granted()
    raw = bench.order()
    bench.take(raw)
    bench.tend()
    elsewhere = scoped("grid_operator", assets=frozenset({"kind:dhw"}))

    def said(raw):
        now = bench.site.truth.moment().wall
        verified = verify(raw, known(now=now, members=elsewhere))
        return asyncio.run(bench.orders.take(verified))["targets"]["boiler-offset"]

    assert said(bench.order())["code"] == "E_KID"
    stop = {"act": "release", "val": ..., "unit": ..., "dur": ...}
    assert said(bench.order(cmd=stop))["code"] == "E_KID"
    assert bench.site.device.slots[13] == Decimal("-1.5")


def test_a_key_that_is_for_other_equipment_grants_nothing_here(bench):
    said = {"iat": NOW, "nbf": NOW - 60, "exp": NOW + 86_400}
    elsewhere = scoped("residents_council", assets=frozenset({"kind:dhw"}))
    verified = verify(signed("dr-grant+jwt", **said), known(now=NOW, members=elsewhere))
    with pytest.raises(Forged, match=r"E_KID: the key of .* is not for kind:heating"):
        asyncio.run(bench.orders.take(verified))


@pytest.mark.parametrize("word", ["release", "revoke"])
def test_what_ends_is_done_at_once_though_it_cannot_be_kept(bench, word):
    grants = bench.granted()
    bench.take(bench.order())
    bench.tend()

    def no_room(_):
        raise SpoolFull("no room")

    async def full(call, *args):
        return call(*args) if call == bench.site.journal.first else call(*args[:-1], no_room)

    bench.site.controller.dependencies.call, bench.site.truth.full = full, True
    raw = bench.order(cmd={"act": "release", "val": ..., "unit": ..., "dur": ...})
    if word == "revoke":
        raw = signed("dr-revoke+jwt", iat=NOW, ver=1, rev=[{"jti": grants[1]}])
    with pytest.raises(SpoolFull):
        bench.take(raw)
    bench.tend()
    assert bench.site.device.slots[13] is None
    bench.site.controller.dependencies.call, bench.site.truth.full = bench.site.read, False
    assert "again" not in bench.take(raw)  # it came again, and is kept


def failing(bench, *, wholly=True):
    """The disk under the journal takes no commit more; `wholly`: and is not read."""

    async def no_disk(*_):
        raise StorageFailed("the disk is read-only")

    first = bench.site.journal.first

    async def read(call, *args):
        return first(*args) if call == first else await no_disk()

    bench.site.controller.dependencies.call = no_disk if wholly else read
    bench.site.controller.dependencies.save = no_disk
    bench.site.controller.dependencies.failing = lambda: "the disk is read-only"
    forgotten = []
    bench.orders.refuse = forgotten.append
    return forgotten


@pytest.mark.parametrize("wholly", [False, True])
@pytest.mark.parametrize("typ", ["order", "grant"])
def test_what_orders_or_grants_is_refused_with_a_code_while_the_disk_fails(bench, typ, wholly):
    """Rule A10."""
    bench.granted()
    forgotten = failing(bench, wholly=wholly)
    take = (lambda: bench.take(bench.order())) if typ == "order" else bench.granted
    with pytest.raises(Forged, match="E_STORAGE: the disk is read-only") as refused:
        take()
    assert refused.value.sentence.endswith("Send the same object again later.")
    # a commit that failed may have taken effect; of a copy that comes now, nothing is forgotten
    assert len(forgotten) == (0 if wholly else 1)
    bench.tend()
    assert bench.site.device.slots.get(13) is None


@pytest.mark.parametrize("typ", ["order", "grant"])
def test_a_copy_of_what_was_accepted_is_not_refused_while_the_journal_cannot_be_read(bench, typ):
    """Rules O8, A10: it counts, so its sender must not be told otherwise."""
    raw = grant = signed(
        "dr-grant+jwt", ROLES[0], iss=NAMES[ROLES[0]], iat=NOW, nbf=NOW - 60,
        exp=NOW + 90 * 86_400, role=ROLES[0], lim={"min": -2, "max": 1, "unit": "K"},
    )  # fmt: skip
    bench.take(grant)
    bench.grant(ROLES[1])
    if typ == "order":
        bench.take(raw := bench.order())
    failing(bench)
    with pytest.raises(NotRecorded, match="accepted before"):
        bench.take(raw)
    with pytest.raises(Forged, match="E_STORAGE"):
        bench.take(bench.order())


@pytest.mark.parametrize("word", ["release", "cancel", "revoke"])
def test_what_ends_counts_at_once_and_must_come_again_while_the_disk_fails(bench, word):
    grants = bench.granted()
    taken = bench.take(bench.order())
    bench.tend()
    assert bench.site.device.slots[13] is not None
    failing(bench)
    bench.site.controller.dependencies.failing = lambda: ""  # what ends must not hang on that
    cmd = {"act": word, "val": ..., "unit": ..., "dur": ...}
    if word == "cancel":
        cmd |= {"ref": taken["jti"]}
    if word == "revoke":
        raw = signed("dr-revoke+jwt", iat=NOW, ver=1, rev=[{"jti": grants[1]}])
    else:
        raw = bench.order(cmd=cmd)
    with pytest.raises(NotRecorded, match="in force, and not recorded yet"):
        bench.take(raw)
    bench.tend()
    assert bench.site.device.slots[13] is None


def test_what_ends_does_not_wait_for_a_disk_that_does_not_answer(bench):
    bench.granted()
    bench.take(bench.order())
    bench.tend()
    failing(bench)

    async def silent(*_):
        await asyncio.Event().wait()

    bench.orders.patience = 0.01
    bench.site.controller.dependencies.call = silent
    cmd = {"act": "release", "val": ..., "unit": ..., "dur": ...}
    with pytest.raises(NotRecorded):
        bench.take(bench.order(cmd=cmd))
    assert bench.site.device.slots[13] is None
