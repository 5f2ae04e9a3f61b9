"""Questions of a guided command: asked at the terminal or answered from a file, and counted."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import typer

from agent.cli.terminal import broken
from agent.core.errors import Refused
from agent.core.i18n import _

WIDE = 80


class Dialogue:
    """Asks questions. Each has a key, by which a file can answer it.

    Counts the answers, the seconds in which a person thought, and those of the machine.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Raises Refused if the file of answers cannot be read."""
        self.answers, self.person = 0, 0.0
        self._began = time.monotonic()
        self._scripted = None if file is None else _answers(file)

    @property
    def machine(self) -> float:
        """Seconds in which the person waited for the machine."""
        return time.monotonic() - self._began - self.person

    def say(self, text: str) -> None:
        """Show a sentence. Standard output is for the result."""
        for line in text.splitlines() or [""]:
            # a command is copied as a whole
            whole = len(line) <= WIDE or line.lstrip().startswith("> ")
            typer.echo(line if whole else broken(line, WIDE), err=True)

    def ask(self, key: str, question: str, default: str = "") -> str:
        """Return the answer; the default for an empty one. Raises typer.Abort at the end of input.

        A file answers with its next value for the key, and with the default if it has none.
        """
        if self._scripted is not None:
            left = self._scripted.get(key, [])
            answer = str(left.pop(0)) if left else default
            self.answers += 1
            self.say(f"{question} {answer}")
            return answer
        shown = f" [{default}]" if default else ""
        began = time.monotonic()
        try:
            # the answer is typed behind the question
            sys.stderr.write(f"{broken(f'{question}{shown}', WIDE - 1)} ")
            sys.stderr.flush()
            answer = sys.stdin.readline()
        finally:
            self.person += time.monotonic() - began
        if not answer:
            raise typer.Abort
        self.answers += 1
        return answer.strip() or default

    def agreed(self, key: str, question: str, *, default: bool) -> bool:
        """Ask a question that is answered with yes or no."""
        choices = _("[Y/n]") if default else _("[y/N]")
        answer = self.ask(key, f"{question} {choices}").casefold()
        return answer in {"y", "yes", _("y"), _("yes")} if answer else default


def _answers(file: Path) -> dict[str, list[Any]]:
    """Return the answers in a file: JSON, each key with one value or a list of them."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            key: list(value) if isinstance(value, list) else [value]
            for key, value in content.items()
        }
    except (OSError, ValueError, AttributeError) as error:
        raise Refused("{file}: {reason}", file=file, reason=error) from error
