"""Compile what lies in a folder, modules and the web page's templates, into its `compiled.zip`;
packaging/gardien.py reads it.

    python3 -I -X no_debug_ranges pack.py /usr/share/gardien

Without the columns that tracebacks underline, and without the docstrings of modules and functions,
which are for readers of the source: lines are enough, memory and card are small.
"""

import ast
import contextlib
import marshal
import sys
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef)
"""not classes: of one without a docstring, dataclasses would make one at each start"""
SHOWN = Path("agent/cli")
"""the help of its commands is their docstrings"""


def module(source: Path, *, shown: bool) -> bytes:
    """Compile a module as Python does (PEP 552), with docstrings only if they are shown."""
    stat, text = source.stat(), source.read_bytes()
    tree = ast.parse(text, str(source))
    for node in () if shown else ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body.pop(0)
            node.body = node.body or [ast.copy_location(ast.Pass(), docstring)]
    code = compile(tree, str(source), "exec", dont_inherit=True)
    judged = (0, int(stat.st_mtime), stat.st_size)
    header = b"".join((part & 0xFFFFFFFF).to_bytes(4, "little") for part in judged)
    return MAGIC_NUMBER + header + marshal.dumps(code)


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
    with ZipFile(new, "w") as packed:

        def add(source: Path, code: bytes) -> None:
            # without the time: a gateway without a clock may believe that it is 1970
            name = ZipInfo(cache_from_source(str(source)))
            packed.writestr(name, code, ZIP_DEFLATED, compresslevel=9)

        for source in sorted(folder.rglob("*.py")):
            place = source.relative_to(folder)
            add(place, module(source, shown=place.is_relative_to(SHOWN)))
        for template, code in templates(folder):
            add(template.relative_to(folder), code)
    new.replace(made)


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
