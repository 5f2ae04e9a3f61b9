"""`gardien report`: the commissioning report, as pages and as a signed file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.terminal import (
    DEFAULT_CONFIG,
    As,
    Config,
    State,
    ask,
    suffix_of,
    wrapped,
    write_file,
    write_page,
)
from agent.core.errors import Refused
from agent.core.i18n import N_, _, n_
from agent.core.i18n import language as language_of_terminal

if TYPE_CHECKING:
    from agent.api.report.document import Report

app = typer.Typer(invoke_without_command=True)
Lang = Annotated[
    str,
    typer.Option(
        "--lang", "--language", help="Language: fr or en; default: of the terminal.",
        show_default=False,
    ),
]  # fmt: skip
FORMS = (".html", ".pdf", ".json")
PDF_WITHIN = 600
"""seconds; 40 flats take a few on a computer, and a minute on a small gateway"""
NO_PDF = N_(
    "a PDF needs the package weasyprint, which is not installed here. Open the .html in a browser"
    " and print it, or make the PDF on another computer from the .json: gardien report verify FILE"
    " --out REPORT.pdf. To install it here (about 240 MB): sudo apt install --no-install-recommends"
    " weasyprint"
)


@app.callback()
def report(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", help="A folder, or a file that ends in .html, .pdf or .json.")
    ] = Path(),
    lang: Lang = "",
    since: Annotated[
        Path | None,
        typer.Option(
            "--since",
            show_default=False,
            help="The .json of an earlier report to compare with; default: the last one of an"
            " earlier day.",
        ),
    ] = None,
    readings: Annotated[
        bool, typer.Option("--readings/--no-readings", help="With the index of each meter.")
    ] = True,
    as_: As = None,
    config: Config = DEFAULT_CONFIG,
    state: State = None,
) -> None:
    """Write the commissioning report: what is installed, proven and open, to hand over.

    Into a folder it writes a page to print (.html), the same as .pdf if weasyprint is installed,
    and the file that the gateway has signed (.json). It also states what has changed since the last
    visit. The indexes of dwellings are shown to installers only, and the access log notes it.
    """
    if context.invoked_subcommand is not None:
        return
    language = _language(lang)
    whole = out.is_dir() or not out.suffix
    if not whole:
        suffix_of(out, *FORMS, option="--out")
        if out.suffix.lower() == ".pdf":
            _needs_weasyprint()
    answer = ask(
        config, state, "report.commissioning", named=as_, readings=readings,
        since=_text(since) if since else "",
    )  # fmt: skip
    from agent.api.report.document import verified

    made, sha256 = verified(answer["file"], "report")
    _show(made)
    if not whole:
        _write(out, made, sha256, answer["file"], language)
        typer.echo(_("written: {file}", file=out))
        return
    for path in written(answer["file"], out, language):
        typer.echo(_("written: {file}", file=path))
    if not _weasyprint():
        typer.echo(wrapped(_(NO_PDF)))


def written(file: str, folder: Path, language: str = "") -> list[Path]:
    """Write a report into a folder as .html, .json and, if that is possible, .pdf."""
    from agent.api.report.document import verified

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise Refused("{path}: {reason}", path=folder, reason=error) from error
    made, sha256 = verified(file, "report")
    forms = [form for form in FORMS if form != ".pdf" or _weasyprint()]
    paths = [folder / f"gardien-report-{made.made[:10]}{form}" for form in forms]
    for path in paths:
        _write(path, made, sha256, file, language or _language(""))
    return paths


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The .json of a report.")],
    kid: Annotated[
        str,
        typer.Option(
            "--kid",
            metavar="FINGERPRINT",
            show_default=False,
            help="The fingerprint of the gateway's key, from a report on paper: it must be this"
            " one.",
        ),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", show_default=False, help="Write its page too: a file .html or .pdf."),
    ] = None,
    lang: Lang = "",
) -> None:
    """Check that a report is what the gateway signed. No gateway and no network are needed."""
    from agent.api.report.document import verified

    language, text = _language(lang), _text(file)
    if out is not None and suffix_of(out, ".html", ".pdf", option="--out") == ".pdf":
        _needs_weasyprint()
    made, sha256 = verified(text, str(file), kid)
    _show(made)
    typer.echo(wrapped(_("signed by the gateway {gateway}", gateway=made.gateway)))
    typer.echo(_("  fingerprint of its key: {kid}", kid=made.kid))
    typer.echo(_("  hash of the report:     {sha256}", sha256=sha256))
    if not kid:
        typer.echo(wrapped(_(
            "Anybody can sign with a key of their own: compare the fingerprint with a report on"
            " paper, or give it: --kid FINGERPRINT"
        )))  # fmt: skip
    if out is not None:
        _write(out, made, sha256, text, language)
        typer.echo(_("written: {file}", file=out))


def _show(made: Report) -> None:
    """Print what the report says in short."""
    from agent.api.report.report_page import ReportView

    view = ReportView(made, _language(""))
    author = view.say("made", time=view.time(made.made), who=made.by)
    typer.echo(wrapped(_("{name}: {text}", name=made.building, text=author)))
    for good, text in view.summary:
        typer.echo(wrapped(f"{'✓' if good else '✗'} {text}"))
    if made.since is not None:
        changes = n_("{number} change", "{number} changes", len(made.changes))
        day = view.day(made.since.made)
        typer.echo(wrapped(_("since the report of {day}: {changes}", day=day, changes=changes)))
        for change in made.changes:
            typer.echo(wrapped(f"  {view.sentence(change)}"))


def _write(path: Path, made: Report, sha256: str, file: str, language: str) -> None:
    from agent.api.report.report_page import page

    match path.suffix.lower():
        case ".json":
            write_page(path, file)
        case ".html":
            write_page(path, page(made, sha256, language))
        case _:
            write_file(path, _pdf(page(made, sha256, language)), 0o600)


def _weasyprint() -> str | None:
    from shutil import which

    return which("weasyprint")


def _needs_weasyprint() -> None:
    if not _weasyprint():
        raise Refused(NO_PDF)


def _pdf(html: str) -> bytes:
    """Make a tagged PDF of a page. A program of its own, so that nothing here depends on it."""
    import os
    import subprocess

    command = [_weasyprint() or "weasyprint", "--pdf-variant", "pdf/ua-1", "-e", "utf-8", "-", "-"]
    try:
        return subprocess.run(  # noqa: S603 -- no shell
            command,
            input=html.encode(),
            capture_output=True,
            check=True,
            timeout=PDF_WITHIN,
            env={**os.environ, "SOURCE_DATE_EPOCH": "0"},  # it would date the fonts: now
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        why = getattr(error, "stderr", None) or str(error).encode()
        lines = why.decode(errors="replace").strip().splitlines() or [""]
        raise Refused("no PDF was made, weasyprint failed: {why}", why=lines[-1]) from error


def _language(given: str) -> str:
    if given not in {"", "fr", "en"}:
        raise typer.BadParameter(_("fr or en"), param_hint="--lang")
    language = given or language_of_terminal()
    return language if language in {"fr", "en"} else "en"


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("{path}: cannot be read: {reason}", path=file, reason=error) from error
