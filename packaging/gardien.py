#!/usr/bin/python3 -I
"""The command, and by its other name the web page. The code lies in a folder that only it looks
into, what was compiled in one file.

Compiled files beside the sources would take more room than all the rest. Where the packed one is
not there, is damaged, or was made of other sources or for another Python, the source is taken.
"""

import contextlib
import sys
import zlib
from importlib.machinery import FileFinder, SourceFileLoader
from zipfile import BadZipFile, ZipFile

FOLDER = "/usr/share/gardien"
sys.path[0:0] = [FOLDER, f"{FOLDER}/vendor"]
sys.dont_write_bytecode = True  # what root runs leaves nothing beside the sources


class Packed(SourceFileLoader):
    """Finds in the packed file what Python looks for in __pycache__; judged as ever."""

    def get_data(self, path: str) -> bytes:
        """Give what is at a path. Raises OSError."""
        if not path.endswith(".pyc"):
            return super().get_data(path)
        try:
            return compiled.read(path.removeprefix(f"{FOLDER}/"))
        except (KeyError, BadZipFile, zlib.error) as error:
            raise FileNotFoundError(path) from error


def ours(folder: str) -> FileFinder:
    """Give what finds modules in our folders. Raises ImportError for others' folders."""
    if not f"{folder}/".startswith(f"{FOLDER}/"):
        raise ImportError(folder)
    return FileFinder(folder, (Packed, [".py"]))


with contextlib.suppress(OSError, BadZipFile):
    compiled = ZipFile(f"{FOLDER}/compiled.zip")
    sys.path_hooks.insert(0, ours)

if sys.argv[0].endswith("/gardien-web"):
    from agent.web.run import main
else:
    from agent.entry import main

sys.exit(main())
