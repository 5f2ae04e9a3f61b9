"""The first visit to a building of 40 flats with five faults, typed by a person at a terminal."""

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import gardien
from tests.terminal import Terminal

GARDIEN = Path(sys.executable).with_name("gardien")
DISPLAY = re.compile(r"(?P<label>[AB]-\d-\d): display of the (?P<what>heat|electricity) meter")


class Installer:
    """Answers the questions of a visit; the displays as they are in the flats."""

    def __init__(self, terminal, building):
        self.terminal, self.building = terminal, building
        self.typed = []
        """the questions, each with its answer"""

    def does(self, answers, until, patience=60.0):
        """Answer all questions until one that is not in `answers`, or a text that ends them."""
        patterns = "|".join([DISPLAY.pattern, *answers, until])
        while True:
            found = self.terminal.until(f"(?:{patterns})", patience)
            if re.fullmatch(until, found[0]):
                return
            if label := found["label"]:
                channel = {"heat": "heat", "electricity": "elec.imp"}[found["what"]]
                shows = self.building.asked(f"display {label} {channel}")["shows"]
                answer = f"{shows:.3f}" if channel == "heat" else f"{shows:.1f}"
            else:
                answer = next(a for q, a in answers.items() if re.fullmatch(q, found[0]))
                answer = answer(found) if callable(answer) else answer
            self.typed.append((found[0], answer))
            self.terminal.types(answer)


class Building:
    """The pretend building, in a process of its own."""

    def __init__(self, folder, *options):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hil.first_visit", folder, *options],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        about = json.loads(self.process.stdout.readline())
        self.ports, self.workbook = about["ports"], about["workbook"]
        self._control = socket.create_connection(("127.0.0.1", about["control"])).makefile("rw")

    def asked(self, question):
        self._control.write(f"{question}\n")
        self._control.flush()
        return json.loads(self._control.readline())

    def close(self):
        self._control.close()
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
