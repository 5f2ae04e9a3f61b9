"""Pages for people."""

import re
from html import unescape
from string import Formatter

import pytest

from agent.registry.page import TEXTS, UNBROKEN, Page, part, printed, texts


def test_a_table_of_long_names_is_no_wider_than_the_page():
    name = "energie.metropole.grenobloise.example"
    rows = [(name, "x" * 60, "1 September 2026", "a `b` & c")]
    html = part("grid", rows, "to whom|what|from|why", False)
    cells = re.findall("<td[^>]*>(.*?)</td>", html)
    assert [cell.replace("<wbr>", "") for cell in cells][:2] == [name, "x" * 60]
    pieces = [re.split("<wbr>|[ -]", cell) for cell in cells[:2]]
    assert max(len(piece) for cell in pieces for piece in cell) <= 15
    assert '<td><span class="day">1 September</span> 2026</td>' in html
    assert "<code>b</code> &amp; c" in html


@pytest.mark.parametrize("name", ["heading", "paragraph", "bullets", "grid", "entry"])
def test_no_part_of_a_page_takes_a_text_for_html(name: str):
    page, text = Page("fr", "<title>"), '<script>"&'
    arguments = {
        "bullets": ([text],), "grid": ([(text, text, text)], f"{text}|b|c"),
        "entry": (text, [(text, text)]),
    }  # fmt: skip
    getattr(page, name)(*arguments.get(name, (text,)))
    html = printed(page)
    assert "<script>" not in html
    assert text in unescape(html.replace("<wbr>", ""))
    assert html.startswith('<!doctype html>\n<html lang="fr">')


def test_the_letter_and_the_forms_have_the_same_texts_in_both_languages():
    french, english = texts(TEXTS, "fr"), texts(TEXTS, "en")
    for section in ("letter", "form"):
        assert french[section].keys() == english[section].keys()
        for name, text in french[section].items():
            both = [
                {field for _, field, _, _ in Formatter().parse(one) if field}
                for one in (text, english[section][name])
            ]
            assert both[0] == both[1], name
            assert text.count("|") == english[section][name].count("|"), name


def test_a_line_does_not_end_inside_an_amount_a_date_or_before_punctuation():
    text = "Le 1er mai 2026 à 08:00 : « 19,9 °C » ; +33 4 76"
    kept = UNBROKEN.sub("_", text)
    assert kept == "Le 1er_mai 2026 à_08:00_: «_19,9_°C_»_; +33 4_76"
    assert UNBROKEN.sub("_", "Resolution 14 of 12 May 2026") == "Resolution 14 of 12_May 2026"
