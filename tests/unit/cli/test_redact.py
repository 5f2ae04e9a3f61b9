import pytest

from agent.cli.bundle import GONE, redact

PLANTED = [
    "password: hunter2-and-more",
    'broker_password: "hunter2-and-more"',
    "url: mqtts://marie:hunter2-and-more@platform.example:8883",
    "token = hunter2-and-more",
    "{user: marie, psk: hunter2-and-more, port: 1}",
    "API-KEY: hunter2-and-more",
    "password: |\n  hunter2-and-more\n  and the rest of hunter2-and-more\nnext: 1",
    "-----BEGIN PRIVATE KEY-----\nhunter2-and-more\n-----END PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nhunter2-and-more",
    "# the password is hunter2",
    "# mot de passe : hunter2",
    "# le mot de passe est hunter2",
]


@pytest.mark.parametrize("text", PLANTED)
def test_what_stands_where_secrets_stand_is_taken_out(text):
    shown = redact(text)
    assert "hunter2" not in shown
    assert GONE in shown


def test_a_known_secret_is_taken_out_wherever_it_went():
    log = "uplink lost: the broker refused marie with hunter2-and-more (bad user)"
    assert "hunter2" not in redact(log, ["hunter2-and-more\n"])


def test_a_long_random_word_is_taken_out():
    key = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAA1"
    assert key not in redact(f"sent {key} to nobody")


def test_what_helps_stays():
    text = (
        "metropole: {recipient: energie.metropole.example, url: 'mqtts://platform.example:8883',"
        " password: credential:gardien_broker}\n"
        "place: B6ASQ-Z1Y2K-SAA3Y\n"
        "port: /dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0\n"
        "2026-11-24T10:15:00+0000 gw gardien[212]: riser-a lost, trying again: no answer"
    )
    assert redact(text) == text


def test_a_known_word_too_short_to_be_a_secret_takes_nothing_out():
    assert redact("baudrate: 9600, parity: even", ["9", "e"]) == "baudrate: 9600, parity: even"
