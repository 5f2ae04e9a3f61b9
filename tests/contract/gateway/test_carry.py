"""What `gardien uplink carry` is given by a gateway, and when it is given nothing. Rule T39."""

import asyncio
import base64

import pytest

from agent.api import carry
from agent.api.roles import Role, see_that_it_may
from agent.core.clock import DAY, Clock, ClockEvidence, seconds
from agent.core.errors import Refused
from agent.registry import identity
from agent.uplink.files import container
from hil.ca import CA
from tests.contract.gateway.running import at_work, configured, put
from tests.contract.gateway.test_clock_calls import ASKER

NOWHERE = "mqtt://127.0.0.1:9"


def building(folder, *, certificate=True, readers=True):
    """The configuration; beside it the platform's key, as `platform.pem`."""
    own = CA("Platform CA").server(folder, uses=())
    own.rename(folder / "platform.pem")
    more = f"carry_for: [{folder}/platform.pem]" if readers else ""
    config = configured(folder, NOWHERE, more, seal="1h")
    if certificate:
        fleet = CA("Fleet CA")
        fleet.gateway(identity.load(folder / "state").gateway, folder / "state")
        fleet.file(folder)
    return config


def told(config, clock=None, before=None):
    """What the call answers while 30 readings wait."""

    async def scenario():
        async with at_work(config, clock) as house:
            await put(house, 30)
            if before:
                before(house)
            answer = await carry.carry(house, ASKER, uplink="centre", seal=True)
            files = [one["file"] for one in answer["files"]]
            given = [await carry.content(house, ASKER, uplink="centre", file=f) for f in files]
            return answer, [base64.b64decode(one["content"]) for one in given], house

    return asyncio.run(scenario())


def test_it_is_signed_by_the_gateway_and_only_the_recipient_opens_it(tmp_path):
    answer, files, house = told(building(tmp_path))
    assert answer["rows"] == 30
    assert answer["left"] == 0
    for content in files:
        inner = container.decrypt(content, tmp_path / "platform.pem")
        text, signer = container.verify(inner, "-CAfile", str(tmp_path / "fleet-ca.pem"))
        assert text.startswith(container.ZSTD)
        assert house.identity.gateway in signer.subject.rfc4514_string()
    record = house.audit.chain.latest("uplink.carried")
    assert (record["by"], record["rows"]) == ("anne", 30)


@pytest.mark.parametrize(
    ("lacks", "says"),
    [("readers", r"uplinks\.centre\.carry_for"), ("certificate", "has no certificate")],
)
def test_nothing_leaves_unencrypted_or_unsigned(tmp_path, lacks, says):
    with pytest.raises(Refused, match=says):
        told(building(tmp_path, **{lacks: False}))


def test_the_time_of_a_person_decides_what_may_be_carried_for_a_week_only(tmp_path):
    """Rule C17."""
    config = building(tmp_path)
    clock = Clock(
        "ntp", tmp_path / "clock.json",
        evidence=lambda: ClockEvidence(False, None), rtc=lambda: None,
    )  # fmt: skip

    def stated(house):
        house.clock.take_person_time()
        house.clock.let_in(len(house.clock.steps), 0)

    answer, files, _ = told(config, clock, stated)
    assert (answer["left"], answer["clock"], files) == (30, False, [])

    def proved(house):
        house.clock.take_signed_time(seconds() - 2 * DAY)  # it came on the stick
        stated(house)

    answer, files, _ = told(config, clock, proved)
    assert answer["clock"]
    assert files
    assert answer["left"] == 0


def test_who_may_not_change_an_uplink_carries_nothing():
    for call in ("uplink.carry", "uplink.file"):
        see_that_it_may("jean", frozenset({Role.INSTALLER}), call)
        with pytest.raises(Refused, match="uplink carry"):
            see_that_it_may("jean", frozenset({Role.READER, Role.MANAGER}), call)
