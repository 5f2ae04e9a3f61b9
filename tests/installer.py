"""The installer at a terminal, who answers what the guided visit of `hil.first_visit` asks.

A clean machine has only Python: nothing but its standard library is needed here.
"""

import json
import re
import socket
import sys
import time
from pathlib import Path

from tests.terminal import Terminal

DISPLAY = re.compile(r"(?P<label>[AB]-\d-\d): display of the (?P<what>heat|electricity) meter")
CHANNELS = {"heat": ("heat", 3), "electricity": ("elec.imp", 1)}
"""what a display shows, and its digits behind the point"""


class Control:
    """Questions to the pretend building, such as what a display shows now."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._control = self._socket.makefile("rw")

    def asked(self, question):
        self._control.write(f"{question}\n")
        self._control.flush()
        return json.loads(self._control.readline())

    def close(self):
        self._control.close()
        self._socket.close()


class Installer:
    """Walks through the building, and answers what a visit asks."""

    def __init__(self, terminal, building, patience=120.0):
        self.terminal, self.building, self.patience = terminal, building, patience
        self.typed = []
        """each question with its answer, and the seconds until it was asked"""
        self.plate = ""
        """the number of the meter before which the person stands"""

    def answers(self, answers, until):
        """Answer each question until a text is shown. A display is read in its flat."""
        # a question may be broken into lines
        answers = {question.replace(" ", r"\s+"): answer for question, answer in answers.items()}
        until = until.replace(" ", r"\s+")
        patterns = "|".join([DISPLAY.pattern, *answers, until])
        begins, answered = 0, time.monotonic()
        while True:
            asked = self.terminal.until(f"(?:{patterns})", self.patience)
            if re.fullmatch(until, asked[0]):
                return
            if asked["label"]:
                channel, digits = CHANNELS[asked["what"]]
                shows = self.building.asked(f"display {asked['label']} {channel}")["shows"]
                again = bool(self.typed) and self.typed[-1][0] == asked[0]
                # read twice already: leave it open
                answer = "" if again else f"{shows:.{digits}f}"
                self.plate = self.building.asked(f"plate {asked['label']} {channel}")["number"]
                begins = len(self.terminal.shown)
            elif "Record that" in " ".join(asked[0].split()):
                answer = "y" if self.plate in asked[0] else "n"
            elif "on the plate" in " ".join(asked[0].split()):
                choice = re.search(rf"\n +(\d+) {self.plate} \(", self.terminal.shown[begins:])
                answer = choice[1] if choice else ""
            else:
                answer = next(
                    a for question, a in answers.items() if re.fullmatch(question, asked[0])
                )
                answer = answer() if callable(answer) else answer
            self.typed.append((asked[0], answer, round(time.monotonic() - answered, 1)))
            self.terminal.types(answer)
            answered = time.monotonic()


def first_visit(workbook, ports, config, *, quick):
    """What an installer answers on the first visit. `quick`: nobody else is on the M-Bus line."""
    lists = [workbook, ""]

    def no_more_lines():
        if quick:
            text = config.read_text()
            assert "baudrate: 2400}" in text
            config.write_text(text.replace("baudrate: 2400}", "baudrate: 2400, listen: 0s}"))
        return ""

    return {
        r"Name of the building\?": "Les Alpins",
        r"Its place id": "",
        r"Time zone\?": "",
        r"list of dwellings or meters": lambda: str(lists.pop(0)),
        r"Is this right\?": "",
        r"Record \d+ \w+": "",
        r"Read the sheet": "",
        r"Search for lines now\?": " ".join(ports),
        r"Add this line\?": "",
        r"Add a line": no_more_lines,
        r"Search these lines now": "",
        r"Search for meters that": "n",
        r"Record that \d+ measures": "",
        r"Which of these numbers is on the plate": "",
        r"Who receives": "",
        r"Write a request for the CA": "",
        r"certificate that the CA issued": "",
        r"The recovery certificate": "",
    }


def main():
    """Type one command at a terminal, and print what was seen.

    A file in JSON is named: `command`, and `visit` if the command is one that asks: `control`,
    `workbook`, `ports`, `config`, and `answers`, more of them.
    """
    job = json.loads(Path(sys.argv[1]).read_text())
    terminal, typed = Terminal("sh", "-c", job["command"]), []
    if visit := job["visit"]:
        person = Installer(terminal, Control(visit["control"]))
        answers = first_visit(visit["workbook"], visit["ports"], Path(visit["config"]), quick=True)
        person.answers(answers | visit["answers"], r"what is still open")
        typed = person.typed
    status = terminal.ended()
    print(json.dumps({"shown": terminal.shown, "status": status, "typed": typed}))


if __name__ == "__main__":
    main()
