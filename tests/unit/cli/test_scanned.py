"""What a search found is ready to paste, fits the terminal, and says each thing once."""

from __future__ import annotations

from agent.cli.scan import Ticker, warn, yaml_of
from agent.config import parse

LONG = "unit 6, Schneider Electric iEM3155, iEM3255, iEM3355, and so on for a long while yet"
LOOKS = "the profile is guessed from the values: compare it with the type plate"
HEAD = """\
building: {name: Les Alpins}
links:
  hall: {driver: modbus-tcp, host: 192.168.10.20}
"""


def device(name, about="unit 2", warnings=(), **entry):
    return {
        "name": name,
        "entry": {"link": "hall", **entry},
        "about": about,
        "warnings": list(warnings),
    }


FOUND = [
    device("iem-6", LONG, address=6, profile="schneider-iem3155"),
    device("modbus-4", "unit 4, several", address=4),
]
APART = device(
    "mbus-77000001-GDN-03-04",
    address="77000001-GDN-03-04+00000017",
    profile="schneider-iem3155",
    every="1h",
)


def test_what_is_printed_passes_the_check_when_it_is_pasted():
    config = parse(HEAD + yaml_of(FOUND), "config.yaml")
    assert list(config.devices) == ["iem-6"]


def test_it_fits_eighty_columns_and_what_cannot_be_read_yet_is_a_comment(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, yaml_of([*FOUND, APART]).splitlines())) <= 80
    lines = yaml_of(FOUND).splitlines()
    assert lines[1:3] == [f"  # {LONG[:74]}", f"  #   {LONG[75:]}"]
    assert lines[-2:] == ["  # unit 4, several", "  # modbus-4: {link: hall, address: 4}"]


def test_a_warning_of_many_devices_is_said_once(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    warn([device(f"sdm120-2463700{n}", warnings=[LOOKS]) for n in range(3)])
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "! sdm120-24637000, sdm120-24637001, sdm120-24637002: the profile is guessed from",
        "  the values: compare it with the type plate",
    ]


def test_without_a_terminal_progress_is_a_line_a_tenth(capsys):
    ticker = Ticker()
    for done in range(247):
        ticker({"done": done, "total": 247, "words": f"unit {done + 1}"})
    ticker({"text": "found unit 3"})
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 11
    assert said[:2] == ["0/247 unit 1", "25/247 unit 26"]
    assert said[-1] == "found unit 3"
