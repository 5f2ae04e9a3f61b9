"""A page for people, as self-contained HTML or as text in 80 columns. Pure."""

from __future__ import annotations

import re
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

STYLE = (
    "body{font:11pt/1.4 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;width:100%;font-size:.84em}td,th{text-align:left;"
    "vertical-align:top;padding:.3em .35em;border-bottom:1px solid #ccc}"
    ".day{white-space:nowrap}h2{font-size:1.1em;margin-top:1.6em}"
)
SHEETS = (
    "h3{font-size:1em;margin:1.2em 0 .2em}tr{break-inside:avoid}h2,h3{break-after:avoid}"
    ".entry td:first-child{width:9.5em;color:#444}.dated td:first-child{white-space:nowrap}"
    "body>div+div{break-before:page}"
    "@page{size:A4;margin:15mm}@media print{body{font-size:10pt;margin:0;max-width:none}"
    "h1{font-size:1.5em;margin-top:0}p,ul{margin:.6em 0}}"
)
"""additional style for pages that are printed"""
WIDTH = 80


DAY = re.compile(r"([0-9]{1,2}(?:er)? \w+) ([0-9]{4})")
WHOLE = re.compile(r"\w\.(?=\w)|[^\s<>&;.-]{14}(?=[^\s<>&;.-])")
"""positions after which a cell may be broken; without them a table can be wider than the page"""
COMMAND = re.compile("`([^`]+)`")
"""something that people type, or read in a file"""


def marked(text: str) -> str:
    """A text as HTML; parts in `…` become code."""
    # escaped first: a label or a purpose may contain < and &
    return COMMAND.sub(r"<code>\1</code>", escape(text))


def heading(text: str) -> str:
    """A heading, as HTML."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph, as HTML."""
    return f"<p>{marked(text)}</p>"


def bullets(lines: Iterable[str]) -> str:
    """A bulleted list, as HTML."""
    return "<ul>" + "".join(f"<li>{marked(line)}</li>" for line in lines) + "</ul>"


def grid(rows: Iterable[Sequence[str]], columns: str) -> str:
    """A table, as HTML; `|` separates its columns."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns.split("|"))
    lines = ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows]
    return f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "</table>"


def _cell(text: str) -> str:
    """One cell: a date is broken only before its year, a long name anywhere."""
    if day := DAY.fullmatch(text):
        return f'<td><span class="day">{day[1]}</span> {day[2]}</td>'
    return "<td>" + WHOLE.sub(r"\g<0><wbr>", marked(text)) + "</td>"


def document(language: str, title: str, body: str, style: str = STYLE) -> str:
    """The HTML file around a page."""
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body>\n{body}\n"
        "</body></html>\n"
    )


def colon(language: str) -> str:
    """A colon with the spacing of the language."""
    return " :" if language == "fr" else ":"


def joined(parts: Iterable[str], language: str) -> str:
    """Several items in one cell; separated by semicolons, because items may contain commas."""
    return (" ; " if language == "fr" else "; ").join(parts)


class Page:
    """One page, written part by part."""

    def __init__(self, language: str, title: str) -> None:
        self._language, self.title = language, title
        self._colon = colon(language)
        self._html: list[str] = [f"<h1>{escape(title)}</h1>"]
        self._text: list[str] = [title, "=" * min(len(title), WIDTH)]

    def heading(self, text: str) -> None:
        """Begin a part."""
        self._html.append(heading(text))
        self._text += ["", text, "-" * min(len(text), WIDTH)]

    def paragraph(self, text: str) -> None:
        """Add a paragraph; line breaks are kept."""
        self._html.append("<p>" + marked(text).replace("\n", "<br>") + "</p>")
        self._text += [_filled(line) for line in text.splitlines()]

    def bullets(self, lines: Sequence[str]) -> None:
        """Add a bulleted list."""
        self._html.append(bullets(lines))
        self._text += [_filled(line, "- ") for line in lines]

    def grid(self, rows: Sequence[Sequence[str]], columns: str, *, dated: bool = False) -> None:
        """Add a table; in text an entry for each row. `dated`: each row begins with a date."""
        self._html.append(
            f'<div class="dated">{grid(rows, columns)}</div>' if dated else grid(rows, columns)
        )
        names = columns.split("|")
        if len(names) == 2:  # noqa: PLR2004 -- something, and what it is
            self._text += [_filled(f"{key}{self._colon} {value}", "- ") for key, value in rows]
            return
        for row in rows:
            self._text.append(_filled(row[0], "* "))
            cells = zip(names[1:], row[1:], strict=True)
            self._text += [
                _filled(f"{name}{self._colon} {cell}", "    ") for name, cell in cells if cell
            ]

    def entry(self, name: str, rows: Sequence[tuple[str, str]]) -> None:
        """Add an item with its properties, one per line."""
        lines = "".join(f"<tr><td>{escape(k)}</td><td>{marked(v)}</td></tr>" for k, v in rows)
        self._html.append(f'<h3>{escape(name)}</h3><table class="entry">{lines}</table>')
        self._text.append(_filled(name, "* "))
        self._text += [_filled(f"{key}{self._colon} {value}", "    ") for key, value in rows]

    @property
    def text(self) -> str:
        """The page as text."""
        return "\n".join(self._text) + "\n"

    @property
    def body(self) -> str:
        """The page's HTML without the file around it."""
        return "\n".join(self._html)


def printed(*pages: Page) -> str:
    """One HTML file; each page begins a new sheet."""
    first = pages[0]
    body = "\n".join(f'<div lang="{page._language}">{page.body}</div>' for page in pages)  # noqa: SLF001 -- its own
    return document(first._language, first.title, body, STYLE + SHEETS)  # noqa: SLF001


def _filled(text: str, sign: str = "") -> str:
    hanging = " " * (len(sign) + (2 if sign.strip() == "" and sign else 0))
    return fill(text, WIDTH, initial_indent=sign, subsequent_indent=hanging)
