"""What docs/receiver.md prints works on both databases: statements, columns, commands."""

import re
import shlex
from pathlib import Path

import pytest

from receiver.run import command_line

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


def test_each_printed_command_is_understood(tmp_path, monkeypatch):
    printed = re.findall(
        r"^(?:    |sudo |/opt/receiver/bin/)?gardien-receiver (.*)",
        (PAGE + SCALE).replace("\\\n", " "), re.MULTILINE,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("gateways.txt").write_text("G1\nG2\n", encoding="utf-8")
    understood = set()
    for line in printed:
        words = shlex.split(re.split(r" [>|&]", line)[0], comments=True)
        understood.add(words[0])
        command_line().parse_args(words)  # else it ends here, and states why
    with pytest.raises(SystemExit):
        command_line().parse_args(["run", "--no-such-option"])
    assert understood == {"run", "status", "query", "conform", "nats-users", "init", "admit",
                          "export", "compact"}  # fmt: skip
