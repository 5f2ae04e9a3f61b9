"""The section `syndic`: what the documentation shows is right, and mistakes are told in place."""

import re
from pathlib import Path

import pytest

from agent.config import parse
from agent.config.check import summary
from agent.core.errors import ConfigError

BUILDING = "building: {name: Les Alpins}\n"
COLUMNS = "columns: {dwelling: Lot, reference: Bail, since: Entrée, until: Sortie}"
KEYS = "host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Wm5mEr0V9b2Xk8aQ2V7tZ4d1n6Yc3uHs5Lq8R"


def wrong(section):
    with pytest.raises(ConfigError) as found:
        parse(f"{BUILDING}syndic:\n  {section}\n", "c.yaml")
    return str(found.value)


def test_the_examples_of_the_documentation_are_right():
    page = Path("docs/configuration.md").read_text(encoding="utf-8")
    part = page[page.index("## The syndic's nightly export") :]
    leases, moves = re.findall(r"```yaml\n(.*?)```", part, re.DOTALL)[:2]
    found = parse(BUILDING + leases, "c.yaml").syndic
    assert found.columns.headings["until"] == "Date de sortie"
    assert (found.last_day, found.only["Immeuble"], found.late) == (True, ("0457",), 3 * 86_400)
    found = parse(f"{BUILDING}syndic:\n  path: /srv\n{moves}", "c.yaml").syndic
    assert (found.columns.move, found.move_out) == ("Mouvement", ("S",))


def test_check_says_where_exports_come_from():
    config = parse(f"{BUILDING}syndic:\n  path: /srv/baux\n  {COLUMNS}\n", "c.yaml")
    assert "*.csv in /srv/baux, looked for every 1 h" in summary(config)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (f"{COLUMNS}", "write either `url` (an SFTP server) or `path` (a folder)"),
        (f"path: /srv\n  {KEYS}\n  {COLUMNS}", "a folder has no `host_key`"),
        (f'url: "sftp://u@h/x"\n  {COLUMNS}', "an SFTP server needs `host_key` and `key`"),
        ("path: /srv\n  columns: {dwelling: Lot}", "a list of leases has `reference`"),
        ("path: /srv\n  columns: {dwelling: Lot, reference: B, since: E}", "a list of leases has"),
        (
            "path: /srv\n  columns: {dwelling: Lot, move: M, date: D, since: E}",
            "`reference`, `since` and `until` go together",
        ),
        (
            "path: /srv\n  columns: {dwelling: Lot, move: M, date: m}",
            "two columns have one heading",
        ),
        (f"path: /srv\n  {COLUMNS}\n  only: {{lot: [a]}}", "stands under `columns`, too"),
        (f"path: /srv\n  {COLUMNS}\n  evry: 1h", "evry"),
        ("path: /srv", "columns"),
    ],
)
def test_mistakes_are_told_with_their_line(section, said):
    found = wrong(section)
    assert said in found
    assert found.startswith("c.yaml:")


def test_a_demonstration_fetches_no_real_leases():
    section = f'syndic:\n  url: "sftp://u@sftp.example/x"\n  key: env:K\n  {KEYS}\n  {COLUMNS}\n'
    with pytest.raises(ConfigError, match="syndic is not on loopback"):
        parse(f"{BUILDING}privacy: {{policy: DEMO-1}}\n{section}", "c.yaml")
