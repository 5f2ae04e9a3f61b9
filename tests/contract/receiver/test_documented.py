"""What docs/receiver.md prints works on both databases: statements, columns, commands."""

import re
from pathlib import Path

import pytest

from receiver.run import main

PAGE = Path("docs/receiver.md").read_text(encoding="utf-8")
SCALE = Path("docs/receiver-scale.md").read_text(encoding="utf-8")
STATEMENTS = [
    statement.strip()
    for block in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    for statement in block.split(";")
    if "SELECT" in statement
]
VIEWS = {
    name: re.findall(r"`(\w+)`", cells[-1].partition("(empty")[0])
    for names, *cells in re.findall(
        r"^\| (`\w+`(?:, `\w+`)?) \| ([^|]*) \| ([^|]*) \|$", PAGE, re.MULTILINE
    )
    for name in re.findall(r"`(\w+)`", names)
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_printed_statement_runs(store, statement):
    store.select(statement).fetchall()


def test_a_statement_of_people_reads_and_does_not_write(store):
    assert store.select("SELECT '?', 'NOW'").fetchall() == [("?", "NOW")]
    with pytest.raises(Exception, match=r"read-only|readonly"):
        store.select("DELETE FROM batch")


def test_each_view_that_is_listed_has_the_columns_that_are_listed(store):
    assert len(VIEWS) == 9
    for name, columns in VIEWS.items():
        store.execute(f"SELECT {', '.join(columns)} FROM {name}").fetchall()


def test_each_printed_command_is_understood(capsys):
    commands = re.findall(
        r"^(?:    |sudo |/opt/receiver/bin/)?gardien-receiver ([\w-]+)", PAGE + SCALE, re.MULTILINE
    )
    assert {"run", "status", "query", "conform", "nats-users", "init", "admit"} <= set(commands)
    for command in set(commands):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
    capsys.readouterr()
