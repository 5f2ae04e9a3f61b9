import pytest
from pydantic import ValidationError

from agent.core.model import Lane
from agent.core.settings import FROM_A_FILE
from agent.uplink.mqtt.settings import PRESETS, Settings, Topics, address


def test_topics_are_those_of_the_contract():
    """Rule T1."""
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
        ("mqtts://platform.example", ("platform.example", 8883)),
        ("mqtts://192.168.10.5:1884", ("192.168.10.5", 1884)),
    ],
)
def test_a_broker_is_found_by_its_url(url, found):
    assert address(url) == found


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "mqtt://192.168.10.5",
            "allowed only on this machine. Write mqtts://192.168.10.5:8883",
        ),
        ("mqtt://platform.example", "not encrypted"),
        ("http://127.0.0.1", "mqtts://platform.example:8883"),
        ("127.0.0.1:1883", "mqtts://platform.example:8883"),
        ("mqtt://:1883", "mqtts://platform.example:8883"),
        ("mqtt://me:secret@127.0.0.1", "must not contain a user or a password"),
        ("mqtt://127.0.0.1/topic", "must end with the port"),
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


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"preset": "aws", "keepalive": "10s"}, "aws requires a `keepalive` from 30s to 1200s"),
        (
            {
                "preset": "aws",
                "recipient": "a" * 60 + "." + "b" * 60 + "." + "c" * 60 + "." + "d" * 60,
            },
            "too long",
        ),
        ({"preset": "azure"}, "azure-event-grid"),
        ({"receipt": "none"}, "broker"),
        ({"ca": "ca.pem"}, "an absolute path"),
        ({"password": "hunter2"}, "a secret must not be in the configuration"),
    ],
)
def test_what_a_broker_does_not_allow_is_told_before_anything_is_sent(written, words):
    whole = {"recipient": "r.example", "url": "mqtts://broker.example"} | written
    with pytest.raises(ValidationError, match=words) as refusal:
        Settings.model_validate(whole, context=FROM_A_FILE)
    assert "hunter2" not in str(refusal.value.errors(include_input=False))


def test_presets_keep_the_limits_of_their_brokers():
    def of(preset):
        return Settings(recipient="r.example", url="mqtts://b.example", preset=preset).limits

    assert of("azure-event-grid").window == 1, "64 kB under way at most"
    assert not of("azure-event-grid").retain
    assert of("hivemq").window == 10
    assert of("aws").topic == 256
    assert all(of(name).payload <= 60_000 for name in PRESETS)


def test_no_topic_is_deeper_than_six_levels():
    topics = Topics("G1", "energie.metropole.example")
    every = [topics.up(lane) for lane in Lane] + [topics.receipts, topics.objects, topics.status]
    assert max(topic.count("/") for topic in every) <= 5
