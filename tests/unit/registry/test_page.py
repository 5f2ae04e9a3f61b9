"""Pages for people."""

import re

from agent.registry.page import grid


def test_a_table_of_long_names_is_no_wider_than_the_page():
    name = "energie.metropole.grenobloise.example"
    html = grid([(name, "x" * 60, "1 September 2026", "a `b` & c")], "to whom|what|from|why")
    cells = re.findall("<td[^>]*>(.*?)</td>", html)
    assert [cell.replace("<wbr>", "") for cell in cells][:2] == [name, "x" * 60]
    pieces = [re.split("<wbr>|[ -]", cell) for cell in cells[:2]]
    assert max(len(piece) for cell in pieces for piece in cell) <= 15
    assert '<td><span class="day">1 September</span> 2026</td>' in html
    assert "<code>b</code> &amp; c" in html
