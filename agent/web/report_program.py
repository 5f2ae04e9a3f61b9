"""The program that makes the page of a report: `python -m agent.web.report_program LANGUAGE`.

It reads the signed file from standard input and writes HTML. What it needs would stay in the memory
of the page's process for as long as that runs.
"""

from __future__ import annotations

import sys

from agent.api.report.document import verified
from agent.api.report.report_page import page


def main(language: str) -> None:
    """Write the page. Exit status 1 if the file is not what a gateway has signed."""
    report, digest = verified(sys.stdin.buffer.read().decode(), "report")
    sys.stdout.buffer.write(page(report, digest, language).encode())


if __name__ == "__main__":
    main(sys.argv[1])
