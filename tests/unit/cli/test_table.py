"""Tables for people: whatever the terminal's width, nothing of a cell is lost."""

from agent.cli.terminal import table


def test_an_id_is_folded_where_there_is_no_room_for_it_and_never_cut_off(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    row = ("A-3-12", "B-2026-12", "HV45Q-F4N2K-4JNVH", "2026-11-25 00:02", "2026-11-25 10:00")
    table(("dwelling", "your reference", "occupancy", "since", "until"), [row])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed
    start = next(line.index("occupancy") for line in printed.splitlines() if "occupancy" in line)
    cells = [
        line[start : start + 17].split("  ", maxsplit=1)[0].strip()
        for line in printed.splitlines()[2:]
    ]
    assert "HV45Q-F4N2K-4JNVH" in "".join(cells)
