"""Parts that a gateway does not have are false, and refuse with a reason when they are used."""

import asyncio

import pytest

from agent.core.errors import Refused
from agent.gateway.controls import NoControls
from agent.gateway.gateway import Daemon
from agent.gateway.signed_objects import NoInbox
from agent.registry.identity import LostIdentity, NoIdentity

NO_IDENTITY = "this gateway has no identity yet. Create it: gardien key new"
NO_INBOX = "this gateway has no identity. What to do: sudo gardien doctor"


@pytest.mark.parametrize(
    ("part", "use", "sentence"),
    [
        (NoIdentity(), lambda part: part.spool_key, NO_IDENTITY),
        (NoIdentity(), lambda part: part.signing_key, NO_IDENTITY),
        (LostIdentity(), lambda part: part.spool_key, "the keys of this gateway are gone"),
        (NoInbox(), lambda part: part.known(), NO_INBOX),
        (NoInbox(), lambda part: part.trust_store, NO_INBOX),
        (NoControls(), lambda part: part.controller, "no control is configured: see `controls`"),
    ],
)
def test_a_missing_part_is_false_and_refuses_with_its_reason(part, use, sentence):
    assert not part
    with pytest.raises(Refused, match=sentence):
        use(part)


def test_without_an_identity_there_are_no_ids_and_no_rotation():
    for nobody in (NoIdentity(), LostIdentity()):
        assert (nobody.gateway, nobody.state) == ("", "")
        assert nobody.spool_key_before is nobody.rotating_since is None


def test_without_controls_there_is_nothing_to_report():
    assert (NoControls().outcomes("r.example"), NoControls().holds()) == ({}, [])


def test_without_a_daemon_requests_say_what_to_do_instead():
    nobody = Daemon()
    assert not nobody
    with pytest.raises(Refused, match="it reads the configuration at its next start"):
        asyncio.run(nobody.reload())
    with pytest.raises(Refused, match="only a running gateway delivers: start it and try again"):
        asyncio.run(nobody.close("centre", drop=True))
    assert asyncio.run(nobody.describe()) == {}
    asyncio.run(nobody.reopen())
