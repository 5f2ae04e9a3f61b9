"""Durations, sizes and secrets as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from agent.core.errors import Refused
from agent.core.settings import (
    FROM_A_FILE,
    Bytes,
    Duration,
    Secret,
    duration,
    harmless,
    shown,
    size,
    took,
    written,
    written_size,
)


class Options(BaseModel):
    wait: Duration = 1.0
    room: Bytes = 1
    password: Secret | None = None


def from_a_file(**said):
    return Options.model_validate(said, context=FROM_A_FILE)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("15min", 900),
        ("1h", 3600),
        ("14d", 14 * 86400),
        ("1.5h", 5400),
        (" 10 s ", 10),
    ],
)
def test_a_duration_is_its_number_of_seconds(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["15", "15 m", "min", "-1s", "1h30min", "1e3s", "", "١٠s", "1S"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="expected a duration such as 15min"):
        duration(text)


@given(st.integers(0, 10**9))
def test_a_written_duration_reads_as_the_same_seconds(seconds):
    assert duration(written(seconds)) == seconds


@given(st.integers(0, 10**11))
def test_a_written_size_reads_as_the_same_bytes(number):
    assert size(written_size(number)) == number


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.127, "0.127 s"), (90, "90 s"), (494, "8.2 min"), (1320, "22 min"), (9000, "2.5 h")],
)
def test_a_time_is_told_as_people_say_it(seconds, said):
    assert took(seconds) == said


def test_decimal_and_binary_megabytes_are_told_apart():
    assert (size("200MB"), size("200MiB")) == (200_000_000, 209_715_200)


def test_a_number_without_unit_is_refused_in_a_file_and_welcome_in_code():
    with pytest.raises(ValidationError, match='found 60; write "60s" if that is what you mean'):
        from_a_file(wait=60)
    with pytest.raises(ValidationError, match='found 5; write "5MB"'):
        from_a_file(room=5)
    assert Options(wait=0.3, room=5) == Options(wait="300ms", room="5B")


def test_truth_is_no_duration_not_even_in_code():
    with pytest.raises(ValidationError, match="found true"):
        Options(wait=True)


@pytest.mark.parametrize("clear", ["hunter2", "file:", "pass:hunter2", "FILE:/hunter2", 4711, None])
def test_a_secret_in_clear_is_refused_without_a_word_of_it(clear):
    """Rule U3."""
    with pytest.raises(ValueError, match="write file:/path/to/it") as refused:
        Secret.parse(clear)
    assert "hunter2" not in str(refused.value)
    assert "4711" not in str(refused.value)


def test_a_secrets_file_is_named_from_the_root():
    with pytest.raises(ValueError, match="must be absolute"):
        Secret.parse("file:secret.txt")


def test_a_secret_never_shows_in_the_settings_that_name_it(tmp_path):
    """Rule G10."""
    (tmp_path / "word").write_text("hunter2\n")
    options = from_a_file(password=f"file:{tmp_path}/word")
    assert options.password.reveal() == "hunter2"
    assert "hunter2" not in repr(options) + options.model_dump_json()


def test_a_secret_comes_from_the_environment_or_from_systemd(tmp_path, monkeypatch):
    (tmp_path / "mqtt").write_text("from systemd")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("MQTT_WORD", "from env")
    found = [Secret.parse(word).reveal() for word in ("credential:mqtt", "env:MQTT_WORD")]
    assert found == ["from systemd", "from env"]


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("file:/nowhere/word", "No such file or directory$"),
        ("env:NOT_SET", "this variable is not set where gardien runs"),
        ("credential:gardien_mqtt", "credential:gardien_NAME is /etc/gardien/credentials/NAME"),
    ],
)
@pytest.mark.parametrize("service", [False, True])
def test_a_secret_that_cannot_be_read_is_refused_by_its_reference(
    reference, why, service, monkeypatch, tmp_path
):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    if service:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(Refused, match=rf"the secret {reference} cannot be read: .*{why}"):
        Secret.parse(reference).reveal()


@given(st.text(st.characters(exclude_categories=[])))
def test_a_quoted_value_is_harmless_to_terminal_and_log(text):
    quoted = shown(text)
    assert quoted.isprintable()
    assert quoted.encode()
    assert harmless(text).isprintable()
