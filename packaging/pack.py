"""Compile what lies in a folder, modules and the web page's templates, into its `compiled.zip`;
packaging/gardien.py reads it.

    python3 -I -X no_debug_ranges pack.py /usr/share/gardien

Without the columns that tracebacks underline: lines are enough, memory and card are small.
"""

import contextlib
import py_compile
import sys
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo


def templates(folder: Path) -> list[tuple[Path, bytes]]:
    """Compile the templates. What cannot be compiled here, the page compiles when it needs it."""
    if not (folder / "agent/web/words.py").exists():
        return []
    sys.path[0:0] = [str(folder), str(folder / "vendor")]
    sys.dont_write_bytecode = True
    with contextlib.suppress(ImportError):  # such as of jinja2
        from agent.web.words import compiled_templates  # noqa: PLC0415 -- it is in the folder

        return list(compiled_templates())
    return []


def pack(folder: Path) -> None:
    """Write it anew; what reads the one before goes on with that."""
    made = folder / "compiled.zip"
    new = made.with_suffix(".new")
    with (
        TemporaryDirectory() as work,
        # a gateway without a clock may believe that it is 1970
        ZipFile(new, "w", ZIP_DEFLATED, strict_timestamps=False) as packed,
    ):
        compiled = Path(work, "compiled")
        for source in sorted(folder.rglob("*.py")):
            py_compile.compile(str(source), str(compiled), doraise=True)
            packed.write(compiled, cache_from_source(str(source.relative_to(folder))))
        for template, code in templates(folder):
            name = cache_from_source(str(template.relative_to(folder)))
            packed.writestr(ZipInfo(name), code, ZIP_DEFLATED)  # without the time, as above
    new.replace(made)


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
