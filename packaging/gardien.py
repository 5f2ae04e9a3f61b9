#!/usr/bin/python3 -I
"""The command: the code lies in a folder that only it looks into."""

import sys

sys.path[0:0] = ["/usr/share/gardien", "/usr/share/gardien/vendor"]

from agent.cli import main  # noqa: E402 -- the path first

sys.exit(main())
