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


def test_long_values_are_broken_before_a_heading(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    heads = ("logement", "destinataire", "pour", "grandeurs", "jusqu'au", "id")
    row = (
        *("A-3-12", "metropole.example.org", "suivi-de-consommation", "elec.imp,heat,cw,hw"),
        *("01/01/2027", "CV45Q-F4N2K-4JNVH"),
    )
    table(heads, [row], whole="id")
    assert set(heads) <= set(capsys.readouterr().out.split())


def test_no_word_of_a_heading_is_broken_and_the_id_to_copy_stays_whole(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    heads = ("logement", "destinataire", "grandeurs", "", "id")
    row = ("A-1", "energie.metropole.example", "elec.imp, 10 s", "annoncé par l'appareil", "4158e0")
    table(heads, [row], whole="id")
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert set(heads) - {""} <= set(printed.split())
    assert row[-1] in printed
    assert len("".join(row).replace(" ", "")) == len(
        "".join(printed.splitlines()[3:]).replace(" ", "")
    )
