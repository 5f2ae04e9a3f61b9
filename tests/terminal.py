"""A program at a terminal of 80 columns, and the person who sits there."""

import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

PATIENCE = 60.0


class Terminal:
    """A program at a terminal of 80 columns, and a person who waits for its questions."""

    def __init__(self, *command, **environment):
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 80))
        # Ctrl-C interrupts it, also where the tests run in the background of a script
        command = ("env", "--default-signal=INT", *command)
        self.process = subprocess.Popen(
            [*map(str, command)], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, env=os.environ | {"GARDIEN_AS": "alice"} | environment,
        )  # fmt: skip
        os.close(slave)
        self.shown, self._read = "", 0

    def until(self, pattern, patience=PATIENCE):
        """Wait until the terminal shows it, after what was waited for before."""
        deadline = time.monotonic() + patience
        while not (match := re.compile(pattern).search(self.shown, self._read)):
            ready, _, _ = select.select(
                [self.master], [], [], max(0.0, deadline - time.monotonic())
            )
            assert ready, f"{pattern} was never shown:\n{self.shown[-3000:]}"
            assert self._more(), f"{pattern} was never shown:\n{self.shown[-3000:]}"
        self._read = match.end()
        return match

    def _more(self):
        """Read what is shown now; whether the program still runs."""
        try:
            shown = os.read(self.master, 65536).decode(errors="replace")
        except OSError:  # the program has ended
            return False
        self.shown += shown.replace("\r\n", "\n").replace("\r", "\n")
        return True

    def types(self, text=""):
        os.write(self.master, f"{text}\n".encode())

    def answers(self, question, text=""):
        self.until(question)
        self.types(text)

    def interrupt(self):
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self):
        """The exit status, once everything was shown."""
        while self._more():
            pass
        os.close(self.master)
        return self.process.wait(PATIENCE)
