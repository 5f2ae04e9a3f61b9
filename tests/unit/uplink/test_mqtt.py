import pytest
from pydantic import ValidationError

from agent.model import Lane
from agent.settings import FROM_A_FILE
from agent.uplink.mqtt import Settings, address
from agent.uplink.topics import Topics


def test_topics_are_those_of_the_contract():
    topics = Topics("G1", "energie.metropole.example")
    assert topics.up(Lane.LIVE) == "gardien/G1/energie.metropole.example/up/live"
    assert topics.up(Lane.BACKFILL) == "gardien/G1/energie.metropole.example/up/backfill"
    assert topics.receipts == "gardien/G1/energie.metropole.example/down/receipts"
    assert topics.status == "gardien/G1/energie.metropole.example/status"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("mqtt://127.0.0.1:1884", ("127.0.0.1", 1884)),
        ("mqtt://localhost", ("localhost", 1883)),
        ("mqtt://[::1]:99/", ("::1", 99)),
    ],
)
def test_a_broker_is_found_by_its_url(url, found):
    assert address(url) == found


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mqtts://127.0.0.1", "not built yet"),
        ("http://127.0.0.1", "mqtt://127.0.0.1:1883"),
        ("127.0.0.1:1883", "mqtt://127.0.0.1:1883"),
        ("mqtt://:1883", "mqtt://127.0.0.1:1883"),
        ("mqtt://me:secret@127.0.0.1", "no user or password"),
        ("mqtt://127.0.0.1/topic", "nothing may follow"),
        ("mqtt://127.0.0.1:70000", "range"),
    ],
)
def test_a_wrong_url_is_refused_in_words(url, words):
    with pytest.raises(ValueError, match=words) as refusal:
        address(url)
    assert "secret" not in str(refusal.value)


def test_settings_are_written_as_people_write_them():
    written = {"recipient": "r.example", "url": "mqtt://127.0.0.1", "seal": "5s"}
    settings = Settings.model_validate(written, context=FROM_A_FILE)
    assert (settings.seal, settings.window, settings.keepalive) == (5.0, 8, 30.0)


@pytest.mark.parametrize("recipient", ["R.example", "a b", "a/b", "+", "#", "", "x" * 254, "-a"])
def test_a_recipient_that_is_no_dns_name_is_refused(recipient):
    with pytest.raises(ValidationError):
        Settings(recipient=recipient, url="mqtt://127.0.0.1")


def test_an_unknown_option_is_refused():
    with pytest.raises(ValidationError):
        Settings.model_validate({"recipient": "r", "url": "mqtt://127.0.0.1", "windw": 3})
